"""Rewrite a graph for the engine: fewer kinds of nodes, activations as nodes of their own, heads reduced, sums first.

Operations that are others in disguise are replaced by those (see :mod:`fastism_cli.engine.simpler_operations`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import keras

from fastism_cli.engine.planner import Propagation
from fastism_cli.engine.projections import with_projections_apart
from fastism_cli.engine.simpler_operations import with_simpler_operations
from fastism_cli.engine.whole_numbers import with_whole_numbers_as_floats
from fastism_cli.model.graph import OPAQUE, REFERENCE, LayerGraph, Node, Port, ReferenceTensor, Shape, Tensor
from fastism_cli.model.heads import Head
from fastism_cli.model.reductions import Mean, Select, Sum
from fastism_cli.options.per_head import Units
from fastism_cli.rules.around_window import OverPositions, PooledBySoftmaxRule
from fastism_cli.rules.base import Form, Unchanged
from fastism_cli.rules.global_pool import Maximum
from fastism_cli.rules.layer_settings import is_infinite_somewhere
from fastism_cli.rules.pool import as_pooling
from fastism_cli.rules.summed_conv import SummedConvolution, can_be_summed
from fastism_cli.rules.table import rule_of

INFINITE = "puts infinite numbers into a tensor, whose changes are no numbers: write -1e9 in place of -inf"


def rewritten(graph: LayerGraph, heads: Sequence[Head]) -> LayerGraph:
    """The graph with all of the rewriting, and these heads as its outputs."""
    simpler = with_projections_apart(with_simpler_operations(graph))
    floats = next(tensor.dtype for tensor in graph.tensors if "float" in tensor.dtype)
    return with_sums_first(with_heads(with_activations_apart(with_whole_numbers_as_floats(simpler, floats)), heads))


# --- layers as simpler ones -------------------------------------------------------------------------------------------

# Layers that do nothing at inference but call the layer inside.
OPENED = frozenset({keras.layers.SpectralNormalization})


def opened(node: Node) -> Node:
    """The node as one of the layer inside, if the layer only calls it."""
    if type(node.layer) not in OPENED:
        return node
    inner = node.layer.layer
    return replace(node, layer=inner, call=lambda arrays: [inner(arrays[0])])


# --- activations, heads, sums -----------------------------------------------------------------------------------------


def with_activations_apart(graph: LayerGraph) -> LayerGraph:
    """The graph with two nodes for a layer that has a built-in activation: the layer without it, and the activation."""
    nodes: list[Node] = []
    tensors: list[Tensor] = []
    for given in graph.nodes:
        node = as_pooling(opened(given), graph.tensors[given.inputs[0]].shape)
        rule = rule_of(node)
        linear = rule.split(node) if rule is not None and node.role == "layer" else None
        if linear is None:
            nodes.append(node)
            continue
        (output,) = node.outputs
        between = len(graph.tensors) + len(tensors)
        tensors.append(graph.tensors[output])
        activation = node.layer.activation
        nodes.append(replace(node, outputs=(between,), call=_unary(linear), role="linear"))
        nodes.append(replace(node, inputs=(between,), call=_unary(activation), role="activation"))
    return graph.extended(nodes, tensors, graph.outputs)


def with_heads(graph: LayerGraph, heads: Sequence[Head]) -> LayerGraph:
    """The graph with these heads as its outputs: nodes that choose targets and reduce positions are added."""
    nodes, tensors, made = list(graph.nodes), list[Tensor](), dict[tuple[Any, ...], int]()

    def add(key: tuple[Any, ...], name: str, layer: Any, inputs: tuple[int, ...], shape: Shape, role: str) -> int:
        if key not in made:
            made[key] = len(graph.tensors) + len(tensors)
            tensors.append(Tensor(shape, graph.tensors[graph.outputs[key[0]].tensor].dtype))
            nodes.append(Node(len(nodes), name, layer, inputs, (made[key],), _applied(layer), role))
        return made[key]

    def chosen(head: Head, units: Units | None, name: str, tensor: int, shape: Shape) -> tuple[int, Shape]:
        """Some targets of a tensor; those that a function gives are told from those of the head by its kind."""
        if units is None:
            return tensor, shape
        shape = (*shape[:-1], len(units))
        key = (head.source, units, head.own and head.reduce)
        return add(key, f"{name}:targets", Select(units), (tensor,), shape, "layer"), shape

    outputs = []
    for head in heads:
        port = graph.outputs[head.source]
        tensor, shape = chosen(head, head.chosen_first, port.name, port.tensor, head.full_shape)
        reduction = head.reduction
        if head.own is not None:
            port = next(port for port in graph.outputs if port.name == head.port)
            tensor, shape = chosen(head, head.units, port.name, port.tensor, (head.own.n_targets,))
        elif reduction is not None:
            inputs: tuple[int, ...] = (tensor,)
            if reduction.compares:
                key: tuple[Any, ...] = (head.source, head.units, "reference")
                inputs += (add(key, f"{port.name}:reference", ReferenceTensor(), (tensor,), shape, REFERENCE),)
            key = (head.source, head.units, head.reduce)
            tensor = add(key, f"{port.name}:{head.reduce}", reduction, inputs, head.shape, "layer")
        if head.scale is not None:
            key = (head.source, head.units, head.reduce, "log2")
            tensor = add(key, f"{port.name}:log2", head.scale, (tensor,), head.shape, "layer")
        outputs.append(Port(head.name, tensor))
    return pruned(graph.extended(nodes, tensors, outputs))


def _applied(layer: Any) -> Any:
    return lambda arrays, operation=layer: [operation(*arrays)]


def pruned(graph: LayerGraph) -> LayerGraph:
    """The graph without nodes that no output needs."""
    needed = {port.tensor for port in graph.outputs}
    kept = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return graph.extended(kept[::-1], (), graph.outputs)


def _unary(function: Any) -> Any:
    return lambda arrays: [function(arrays[0])]


def with_sums_first(graph: LayerGraph) -> LayerGraph:
    """The graph with one node for a linear convolution and the sum over its positions that alone reads it."""
    makers = {t: node for node in graph.nodes for t in node.outputs}
    readers, heads = graph.consumers(), {port.tensor for port in graph.outputs}
    nodes, gone = list(graph.nodes), set()
    for node in graph.nodes:
        if not isinstance(node.layer, (Sum, Mean)):
            continue
        maker = makers.get(node.inputs[0])
        is_shared = len(readers[node.inputs[0]]) > 1 or node.inputs[0] in heads
        if maker is None or is_shared or not _is_linear_convolution(maker):
            continue
        n_in = graph.tensors[maker.inputs[0]].shape[0]
        if not can_be_summed(maker.layer, n_in):
            continue
        layer = SummedConvolution(maker.layer, node.layer, maker.call, n_in)
        nodes[node.index] = replace(node, layer=layer, inputs=maker.inputs, call=_unary(layer))
        gone.add(maker.index)
    return graph.extended([node for node in nodes if node.index not in gone], (), graph.outputs)


def with_infinities_apart(graph: LayerGraph, input_tensor: int) -> LayerGraph:
    """The graph in which Keras runs what puts infinite numbers into a tensor that leaves a stage.

    What leaves it is a delta, and no delta leads from an infinite number to a finite one. A maximum or a mean weighted
    by a softmax takes the values themselves, inside of the stage.
    """
    if not any(map(is_infinite_somewhere, graph.nodes)):
        return graph
    found, readers = Propagation(graph, input_tensor, [0], Fraction(1)), graph.consumers()
    infinite, heads = set[int](), {port.tensor for port in graph.outputs}
    nodes = list(graph.nodes)
    for node in graph.nodes:
        if not infinite.intersection(node.inputs) and not is_infinite_somewhere(node):
            continue
        rule = found.rules.get(node.index)
        if all(isinstance(found.changed[t], Unchanged) for t in node.outputs):
            infinite.update(node.outputs)
        elif rule is not None and rule.form is Form.VALUE:
            reading = [found.rules.get(index) for t in node.outputs for index in readers[t]]
            if (
                not reading
                or heads.intersection(node.outputs)
                or not all(isinstance(r, (Maximum, OverPositions, PooledBySoftmaxRule)) for r in reading)
            ):
                nodes[node.index] = replace(node, role=OPAQUE, reason=INFINITE)
    return graph.extended(nodes, (), graph.outputs)


def _is_linear_convolution(node: Node) -> bool:
    if type(node.layer) is not keras.layers.Conv1D or node.role == "activation" or rule_of(node) is None:
        return False
    return node.role == "linear" or node.layer.activation in (None, keras.activations.linear)
