"""Costs of a layer, in multiply-adds of a large matrix product. Measured on two cores."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

# To write an element and read it again costs about as much as this many multiply-adds: more in a forward pass, in which
# each layer goes through memory, than in a compiled stage.
STAGE_ELEMENT, LAYER_ELEMENT = 30, 45
# A multiply-add of a recurrence takes this many times as long: its steps are small, and wait for each other.
RECURRENCE = 5
# A layer goes through its intermediate results, gates or the weights of attention, this many times.
PASSES_INSIDE = 4


def weighted_multiply_adds(layer: Any, shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
    """Multiply-adds of one call of a layer: each weight matrix once per position; for attention, also its pairs.

    Parameters
    ----------
    shapes, shape : tuples of int
        Shapes of its inputs and of its output, without the batch.
    """
    if not _matrices(layer) or type(layer).__name__ == "Embedding":
        return 0
    positions = prod(shape[:-1]) if len(shape) > 1 else prod(shapes[0][:-1])
    of_pairs = sum(_number(layer, name) for name in ("key_dim", "value_dim")) or 2 * _number(layer, "head_dim")
    weights: int = sum(prod(w.shape) for w in _matrices(layer))
    return positions * weights + _pairs(layer, shapes) * of_pairs


def work_inside(layer: Any, shapes: Sequence[tuple[int, ...]], multiply_adds: int) -> int:
    """Cost of a layer besides its ``multiply_adds`` and its output: recurrence and attention are slow."""
    positions = prod(shapes[0][:-1])
    if hasattr(getattr(layer, "forward_layer", layer), "cell"):  # forward_layer: of Bidirectional
        gates: int = sum(w.shape[-1] for w in _matrices(layer))
        return (RECURRENCE - 1) * multiply_adds + PASSES_INSIDE * LAYER_ELEMENT * positions * gates
    pairs = _pairs(layer, shapes)
    if not pairs:
        return 0
    projected: int = positions * sum(prod(w.shape[1:]) for w in _matrices(layer))
    return LAYER_ELEMENT * (PASSES_INSIDE * pairs + projected)


def _pairs(layer: Any, shapes: Sequence[tuple[int, ...]]) -> int:
    """Pairs of positions in all heads of MultiHeadAttention or GroupQueryAttention; each pair gets a weight."""
    heads = _number(layer, "num_heads") or _number(layer, "num_query_heads")
    return heads * prod(shapes[0][:-1]) * prod(shapes[-1][:-1])


def _matrices(layer: Any) -> list[Any]:
    return [w for w in getattr(layer, "weights", []) if len(w.shape) > 1]


def _number(layer: Any, name: str) -> int:
    """An attribute if it is a number, else 0: in a custom layer these names can mean anything."""
    value = getattr(layer, name, 0)
    return value if isinstance(value, int) else 0
