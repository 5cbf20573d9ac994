"""Rewrite a graph for the engine: fewer kinds of nodes, activations as nodes of their own, heads reduced, sums first.

Some operations are others in disguise and are replaced: pieces of a tensor by slices of it, a stack by tensors with one
more axis side by side, pooling by a function by the pooling layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import keras

from fastism_cli.model.graph import REFERENCE, Arguments, Input, LayerGraph, Node, Port, ReferenceTensor, Shape, Tensor
from fastism_cli.model.heads import Head
from fastism_cli.model.keras_graph import operation_class
from fastism_cli.model.reductions import Mean, Select, Sum
from fastism_cli.rules.pool import as_pooling
from fastism_cli.rules.summed_conv import SummedConvolution, can_be_summed
from fastism_cli.rules.table import rule_of


def rewritten(graph: LayerGraph, heads: Sequence[Head]) -> LayerGraph:
    """The graph with all of the rewriting, and these heads as its outputs."""
    return with_sums_first(with_heads(with_activations_apart(with_simpler_operations(graph)), heads))


# --- operations and layers as simpler ones ----------------------------------------------------------------------------

# Layers that do nothing at inference but call the layer inside.
OPENED = frozenset({keras.layers.SpectralNormalization})


def opened(node: Node) -> Node:
    """The node as one of the layer inside, if the layer only calls it."""
    if type(node.layer) not in OPENED:
        return node
    inner = node.layer.layer
    return replace(node, layer=inner, call=lambda arrays: [inner(arrays[0])])


POOLINGS = {"averagepool": "AveragePooling", "maxpool": "MaxPooling"}
SLICES = ("split", "arraysplit")
# All operations that are replaced.
SIMPLER = (*POOLINGS, *SLICES, "unstack", "stack")


def with_simpler_operations(graph: LayerGraph) -> LayerGraph:
    """The graph with these operations replaced."""
    nodes: list[Node] = []
    tensors: list[Tensor] = []
    for node in graph.nodes:
        nodes += _written_as(node, graph, tensors) or [node]
    return graph.extended(nodes, tensors, graph.outputs)


def _written_as(node: Node, graph: LayerGraph, tensors: list[Tensor]) -> list[Node] | None:
    """The nodes that replace this one, if any; tensors between them are added to ``tensors``."""
    layer: Any = node.layer
    cls: Any = type(layer)
    name = cls.__name__.lower()
    if name not in SIMPLER or cls is not operation_class(name):
        return None
    rank = len(graph.tensors[node.inputs[0]].shape) + 1
    if name in POOLINGS:
        return [_as_layer(node, f"{POOLINGS[name]}{rank - 2}D")]
    axis = layer.axis % (rank + 1 if name == "stack" else rank)
    if axis == 0:
        return None
    if name == "stack":
        return _side_by_side(node, axis, graph, tensors)
    if name == "unstack":
        return [_item(node, axis, i, output) for i, output in enumerate(node.outputs)]
    return _slices(node, axis, [graph.tensors[t].shape[axis - 1] for t in node.outputs])


def _as_layer(node: Node, name: str) -> Node:
    """The node with the layer, whose rule it gets; the operation still computes it, in the type of its input."""
    operation: Any = node.layer
    layer = getattr(keras.layers, name)(
        operation.pool_size, operation.strides, operation.padding, operation.data_format, name=node.name
    )
    return replace(node, layer=layer)


def _slices(node: Node, axis: int, lengths: Sequence[int]) -> list[Node]:
    stops = list(accumulate(lengths))
    keys = [slice(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]
    return [_item(node, axis, key, output) for key, output in zip(keys, node.outputs, strict=True)]


def _item(node: Node, axis: int, key: int | slice, output: int) -> Node:
    """``x[..., key]``, at ``axis``."""
    keys = (*(slice(None) for _ in range(axis)), key)
    return _operation(node, "getitem", node.inputs, output, given=(keys,))


def _side_by_side(node: Node, axis: int, graph: LayerGraph, tensors: list[Tensor]) -> list[Node]:
    (output,) = node.outputs
    shape = graph.tensors[output].shape
    one = Tensor((*shape[: axis - 1], 1, *shape[axis:]), graph.tensors[output].dtype)
    first = len(graph.tensors) + len(tensors)
    between = tuple(range(first, first + len(node.inputs)))
    tensors += [one] * len(between)
    widened = [_operation(node, "expanddims", (t,), x, axis=axis) for t, x in zip(node.inputs, between, strict=True)]
    return [*widened, _operation(node, "concatenate", between, output, axis=axis)]


def _operation(
    node: Node, name: str, inputs: tuple[int, ...], output: int, *, given: tuple[Any, ...] = (), **options: Any
) -> Node:
    """An operation of Keras on these tensors; ``given`` are further arguments of its call."""
    cls: Any = operation_class(name)
    operation = cls(**options)
    takes_list = name == "concatenate"
    places = tuple(Input(i) for i in range(len(inputs)))

    def call(arrays: Sequence[Any]) -> list[Any]:
        return [operation.call(list(arrays)) if takes_list else operation.call(arrays[0], *given)]

    arguments: Arguments = ((list(places),) if takes_list else (*places, *given), {})
    return Node(0, node.name, operation, inputs, (output,), call, node.role, arguments)


# --- activations, heads, sums -----------------------------------------------------------------------------------------


def with_activations_apart(graph: LayerGraph) -> LayerGraph:
    """The graph with two nodes for a layer that has a built-in activation: the layer without it, and the activation."""
    nodes: list[Node] = []
    tensors: list[Tensor] = []
    for given in graph.nodes:
        node = as_pooling(opened(given), graph.tensors[given.inputs[0]].shape)
        rule = rule_of(node)
        linear = rule.split(node) if rule is not None else None
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

    outputs = []
    for head in heads:
        port = graph.outputs[head.source]
        tensor, shape = port.tensor, head.full_shape
        if head.units is not None and not head.is_reduced_flat:
            shape = (*shape[:-1], len(head.units))
            key: tuple[Any, ...] = (head.source, head.units)
            tensor = add(key, f"{port.name}:targets", Select(head.units), (tensor,), shape, "layer")
        reduction = head.reduction
        if reduction is not None:
            inputs: tuple[int, ...] = (tensor,)
            if reduction.compares:
                key = (head.source, head.units, "reference")
                inputs += (add(key, f"{port.name}:reference", ReferenceTensor(), (tensor,), shape, REFERENCE),)
            key = (head.source, head.units, head.reduce)
            tensor = add(key, f"{port.name}:{head.reduce}", reduction, inputs, head.shape, "layer")
        outputs.append(Port(head.name, tensor))
    return _pruned(graph.extended(nodes, tensors, outputs))


def _applied(layer: Any) -> Any:
    return lambda arrays, operation=layer: [operation(*arrays)]


def _pruned(graph: LayerGraph) -> LayerGraph:
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
    readers = graph.consumers()
    nodes, gone = list(graph.nodes), set()
    for node in graph.nodes:
        if not isinstance(node.layer, (Sum, Mean)):
            continue
        maker = makers.get(node.inputs[0])
        if maker is None or len(readers[node.inputs[0]]) > 1 or not _is_linear_convolution(maker):
            continue
        n_in = graph.tensors[maker.inputs[0]].shape[0]
        if not can_be_summed(maker.layer, n_in):
            continue
        layer = SummedConvolution(maker.layer, node.layer, maker.call, n_in)
        nodes[node.index] = replace(node, layer=layer, inputs=maker.inputs, call=_unary(layer))
        gone.add(maker.index)
    return graph.extended([node for node in nodes if node.index not in gone], (), graph.outputs)


def _is_linear_convolution(node: Node) -> bool:
    if type(node.layer) is not keras.layers.Conv1D or node.role == "activation" or rule_of(node) is None:
        return False
    return node.role == "linear" or node.layer.activation in (None, keras.activations.linear)
