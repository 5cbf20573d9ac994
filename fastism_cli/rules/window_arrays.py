"""Arrays of a window, (S, P, A, width, *channels): which of their axes is which, and how a Keras layer takes them.

S are sequences, P substituted positions, A alternates; ``width`` are the positions of the frame. The axis of positions
leads the channels, wherever it is in the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from fastism_cli.rules.base import Window


def to_keras(x: Any, axis: int = 0) -> Any:
    """(S, P, A, width, *channels) -> (S * P * A, ...) with the positions at ``axis``, as a Keras layer expects them."""
    return ops.moveaxis(merge_batch(x), 1, 1 + axis) if axis else merge_batch(x)


def from_keras(x: Any, like: Any, axis: int = 0) -> Any:
    """The reverse of :func:`to_keras`, with the first axes of ``like``."""
    return split_batch(ops.moveaxis(x, 1 + axis, 1) if axis else x, like)


def merge_batch(x: Any) -> Any:
    """(S, P, A, ...) -> (S * P * A, ...), the batch that a Keras layer expects."""
    return ops.reshape(x, (-1, *x.shape[3:]))


def split_batch(x: Any, like: Any) -> Any:
    """(S * P * A, ...) -> (S, P, A, ...) with the first axes of ``like``."""
    return ops.reshape(x, (*like.shape[:3], *x.shape[1:]))


def per_position(mask: Any, rank: int) -> Any:
    """A (P, width) array shaped to broadcast over (S, P, A, width, *channels) of this rank."""
    return ops.reshape(mask, (1, mask.shape[0], 1, mask.shape[1], *(1,) * (rank - 4)))


def along_positions(weight: Any, window: Window) -> Any:
    """An array (*shape of the tensor, ...), cut out where it was flattened, as (length, *channels, ...)."""
    if window.flat is not None:
        rows = weight[window.flat.before : window.flat.before + window.elements]
        weight = ops.reshape(rows, (*window.shape, *rows.shape[1:]))
    return ops.moveaxis(weight, window.axis, 0)


def without(shape: Sequence[Any], axis: int) -> tuple[Any, ...]:
    """A shape, or anything by axis, without one of its axes."""
    return (*shape[:axis], *shape[axis + 1 :])


def window_axes(axes: tuple[int, ...], positions: int) -> tuple[int, ...]:
    """The axes of a window that are these of the tensor (batch not counted), whose positions lie at ``positions``."""
    return tuple(3 if a == positions else 4 + a - (a > positions) for a in axes)


def lowest(dtype: str) -> Any:
    """The most negative finite number: what a maximum over nothing counts as."""
    return ops.cast(-3e38 if "64" not in str(dtype) else -1.7e308, dtype)
