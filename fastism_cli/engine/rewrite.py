"""Rewrite a graph for the engine: fewer kinds of nodes, activations as nodes of their own, heads reduced, sums first.

Operations that are others in disguise are replaced by those (see :mod:`fastism_cli.engine.simpler_operations`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from math import prod
from typing import Any

import keras

from fastism_cli.engine.planner import Propagation
from fastism_cli.engine.simpler_operations import with_simpler_operations
from fastism_cli.model.adapt import with_inner
from fastism_cli.model.graph import OPAQUE, REFERENCE, Input, LayerGraph, Node, Port, ReferenceTensor, Shape, Tensor
from fastism_cli.model.heads import Head
from fastism_cli.model.keras_graph import all_layers, has_own_call, quantisation
from fastism_cli.model.reductions import Mean, Select, Sum
from fastism_cli.options.choices import Units
from fastism_cli.rules.around_window import OverPositions, PooledBySoftmaxRule
from fastism_cli.rules.base import Form, Unchanged
from fastism_cli.rules.global_pool import Maximum, SummedConvolution, can_be_summed
from fastism_cli.rules.layer_calls import is_infinite_somewhere
from fastism_cli.rules.opaque import AttentionOfProjections
from fastism_cli.rules.pool import as_pooling
from fastism_cli.rules.table import rule_of

# --- attention as its projections ------------------------------------------------------------------------------------

ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
# The attribute of each layer inside, and the argument of the call that it projects.
PROJECTIONS = {"_query_dense": "query", "_key_dense": "key", "_value_dense": "value", "_gate_dense": "query"}


def with_projections_apart(graph: LayerGraph) -> LayerGraph:
    """The graph with a node for each projection of an attention layer, and one for what it does with them."""
    nodes: list[Node] = []
    tensors: list[Tensor] = []
    for node in graph.nodes:
        nodes += _written(node, graph, tensors) or [node]
    return graph.extended(nodes, tensors, graph.outputs)


def _written(node: Node, graph: LayerGraph, tensors: list[Tensor]) -> list[Node] | None:
    """The nodes of an attention layer. Adds new tensors to ``tensors``. None for any other node."""
    layer: Any = node.layer
    if type(layer) not in ATTENTION or node.role != "layer" or rule_of(node) is not None:
        return None
    if any(map(has_own_call, all_layers(layer))) or quantisation(layer):
        return None
    given = _arguments(node)
    if not all(isinstance(given.get(name), Input) for name in PROJECTIONS.values()):
        return None
    nodes, made = [], dict[str, int]()
    for attribute, argument in PROJECTIONS.items():
        inner = getattr(layer, attribute, None)
        if inner is not None:
            source = node.inputs[given[argument].number]
            made[attribute] = len(graph.tensors) + len(tensors)
            tensors.append(_projected(inner, graph.tensors[source]))
            nodes.append(_projection(f"{node.name}:{inner.name}", inner, source, made[attribute]))
    return [*nodes, _mixing(node, given, made, {t: tensors[t - len(graph.tensors)] for t in made.values()})]


def _arguments(node: Node) -> dict[str, Any]:
    """What the call gives each parameter of the layer's ``call``; keys are the values if nothing else is said."""
    args, kwargs = node.arguments
    given = dict(inspect.signature(node.layer.call).bind(*args, **kwargs).arguments)
    if given.get("key") is None:
        given["key"] = given.get("value")
    return given


def _projected(layer: Any, given: Tensor) -> Tensor:
    output = layer.compute_output_spec(keras.KerasTensor((None, *given.shape), given.dtype))
    shape = tuple(output.shape[1:])
    return Tensor((*given.shape[:-1], *shape[len(given.shape) - 1 :]), str(output.dtype))


def _projection(name: str, layer: Any, source: int, output: int) -> Node:
    def call(arrays: Sequence[Any], called: Any = layer) -> list[Any]:
        return [called(arrays[0])]

    return Node(0, name, layer, (source,), (output,), call, arguments=((Input(0),), {}))


def _mixing(node: Node, given: Mapping[str, Any], made: Mapping[str, int], tensors: Mapping[int, Tensor]) -> Node:
    """The node of what follows the projections: its inputs are these, and other tensors of the call, such as masks."""
    others = {name: x for name, x in given.items() if name not in PROJECTIONS.values()}
    numbers = [x.number for x in keras.tree.flatten(others) if isinstance(x, Input)]
    attend = partial(_attended, node.layer, tuple(made), numbers, others)
    query, key, value = (tensors[made[name]].shape for name in ("_query_dense", "_key_dense", "_value_dense"))
    pairs = query[-2] * prod(query[:-2]) * prod(key[:-2])
    output = prod(query[:-2]) * prod(node.layer._output_dense.kernel.shape)
    work = pairs * (key[-1] + value[-1]) + output
    layer = AttentionOfProjections(node.name, node.class_name, attend, pairs, work)
    inputs = (*made.values(), *(node.inputs[number] for number in numbers))
    return replace(node, layer=layer, inputs=inputs, call=layer, arguments=((), {}))


def _attended(
    layer: Any, projections: Sequence[str], numbers: Sequence[int], others: Mapping[str, Any], arrays: Sequence[Any]
) -> list[Any]:
    """What the layer makes of projected queries, keys and values: its own call, with projections that are there."""
    count = len(projections)
    inner = {name: partial(_handed_on, x) for name, x in zip(projections, arrays, strict=False)}
    further = dict(zip(numbers, arrays[count:], strict=True))
    named = keras.tree.map_structure(lambda x: further[x.number] if isinstance(x, Input) else x, dict(others))
    query, key, value = arrays[:3]
    called = with_inner(layer, inner)
    return list(keras.tree.flatten(called(query, value, key=key, **{**named, "training": False})))


def _handed_on(x: Any, _: Any) -> Any:
    return x


# --- truth values and whole numbers ----------------------------------------------------------------------------------

# ``x > 0`` makes a tensor of truth values, ``argmax`` one of whole numbers. Windows are stored as differences; those of
# zeros and ones, and of places along an axis, are exact in floating point. What makes such a tensor is followed by a
# conversion, and what reads it is preceded by one back.

PRECISE = ("float32", "float64")


def with_whole_numbers_as_floats(graph: LayerGraph, floats: str) -> LayerGraph:
    """The graph in which no operation makes whole numbers or truth values, but for the outputs of the model.

    ``floats`` is the type in which the model is computed. In one of fewer bits than float32, only truth values are
    exact, and the others stay what they are.
    """
    heads = {port.tensor for port in graph.outputs}
    made = {t for node in graph.nodes if not isinstance(node.layer, keras.Layer) for t in node.outputs} - heads
    found = {t: graph.tensors[t].dtype for t in made if _is_converted(graph.tensors[t].dtype, floats)}
    if not found:
        return graph
    tensors = tuple(replace(x, dtype=floats) if t in found else x for t, x in enumerate(graph.tensors))
    return replace(graph, tensors=tensors, nodes=tuple(_converting(node, found, floats) for node in graph.nodes))


def _is_converted(dtype: str, floats: str) -> bool:
    return dtype == "bool" or ("int" in dtype and floats in PRECISE)


def _converting(node: Node, found: dict[int, str], floats: str) -> Node:
    """The node with conversions around its call."""
    if not any(t in found for t in (*node.inputs, *node.outputs)):
        return node

    def call(arrays: Sequence[Any], *layer: Any) -> list[Any]:
        given = [keras.ops.cast(x, found[t]) if t in found else x for t, x in zip(node.inputs, arrays, strict=True)]
        made = node.call(given, *layer)
        return [keras.ops.cast(y, floats) if t in found else y for t, y in zip(node.outputs, made, strict=True)]

    return replace(node, call=call)


# --- the rewriting ---------------------------------------------------------------------------------------------------

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
