"""Write attention as its projections, which work position by position, and what mixes the positions after them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import keras

from fastism_cli.model.graph import Input, LayerGraph, Node, Tensor
from fastism_cli.model.keras_class import with_inner
from fastism_cli.model.keras_graph import all_layers, has_own_call, quantisation
from fastism_cli.rules.attention import AttentionOfProjections
from fastism_cli.rules.table import rule_of

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
