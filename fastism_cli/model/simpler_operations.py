"""Operations that are others in disguise, written as those: pieces of a tensor as slices of it, a stack as tensors
with one more axis side by side, pooling by a function as the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import keras

from fastism_cli.model.graph import Arguments, Input, LayerGraph, Node, Tensor
from fastism_cli.model.keras_graph import operation_class

POOLINGS = {"averagepool": "AveragePooling", "maxpool": "MaxPooling"}
SLICES = ("split", "arraysplit")
# All that is replaced.
SIMPLER = (*POOLINGS, *SLICES, "unstack", "stack")


def with_simpler_operations(graph: LayerGraph) -> LayerGraph:
    """The graph with these operations replaced."""
    nodes: list[Node] = []
    tensors: list[Tensor] = []
    for node in graph.nodes:
        nodes += _written_as(node, graph, tensors) or [node]
    return graph.extended(nodes, tensors, graph.outputs)


def _written_as(node: Node, graph: LayerGraph, tensors: list[Tensor]) -> list[Node] | None:
    """The nodes that stand for this one, if there are any; tensors between them are added to ``tensors``."""
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
    """The layer says what is computed; the operation does it, in whatever type it is given."""
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
