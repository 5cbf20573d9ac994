"""Keep truth values and whole numbers inside a model as floating-point numbers, so that they have deltas as others do.

``x > 0`` makes a tensor of truth values, ``argmax`` one of whole numbers. Windows are stored as differences; those of
zeros and ones, and of places along an axis, are exact in floating point. What makes such a tensor is followed by a
conversion, and what reads it is preceded by one back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from fastism_cli.model.graph import LayerGraph, Node

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
