"""Move the rows of a window into another frame: the cheapest way depends on the offsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from fastism_cli.model import backend
from fastism_cli.rules.frames import equal_stretches

# More stretches of positions than this make a stage slower to compile than they save.
MAX_STRETCHES = 16
MAX_SELECTS = 8


def shift(x: Any, by: int, width: int, axis: int) -> Any:
    """Rows of ``x`` from ``by`` on in a frame of ``width`` rows, zeros elsewhere; what does not fit is cut off."""
    low, high = max(-by, 0), min(x.shape[axis], width - by)
    if high <= low:
        shape = list(x.shape)
        shape[axis] = width
        return ops.zeros(shape, dtype=x.dtype)
    if (low, high) != (0, x.shape[axis]):
        x = x[(slice(None),) * axis + (slice(low, high),)]
    before = max(by, 0)
    after = width - before - (high - low)
    if not before and not after:
        return x
    return ops.pad(x, [(before, after) if i == axis else (0, 0) for i in range(len(x.shape))])


def by_offset(x: Any, offsets: Sequence[int], move: Callable[[Any, int], Any]) -> Any:
    """``move(x, offset)`` with an offset for each position (axis 1 of ``x``).

    Positions are sorted by alignment, so that equal offsets mostly lie together: then each stretch of positions is
    moved by itself. Where they do not, every distinct offset is applied to all and each position selects its own.
    """
    stretches = equal_stretches(offsets)
    distinct = sorted(set(offsets))
    if len(stretches) <= MAX_STRETCHES or len(stretches) <= len(distinct):
        results = [move(x[:, a:b] if len(stretches) > 1 else x, offset) for a, b, offset in stretches]
        return ops.concatenate(results, axis=1) if len(results) > 1 else results[0]
    result = move(x, distinct[0])
    which = np.asarray(offsets)
    for offset in distinct[1:]:
        here = (which == offset).reshape(1, -1, *(1,) * (len(result.shape) - 2))
        result = ops.where(here, move(x, offset), result)
    return result


def place(x: Any, offsets: Sequence[int], width: int) -> Any:
    """Put windows into frames of ``width`` rows: that of position ``j`` of ``x`` (S, P, A, w, ...) at ``offsets[j]``.

    Returns
    -------
    array, shape (S, P, A, width, ...)
    """
    if len(equal_stretches(offsets)) > MAX_STRETCHES and len(set(offsets)) > MAX_SELECTS:
        return place_by_rows(x, ops.convert_to_tensor(np.asarray(offsets, "int32")), width)
    return by_offset(x, offsets, lambda x, offset: shift(x, offset, width, axis=3))


def place_by_rows(x: Any, offsets: Any, width: int) -> Any:
    """:func:`place` for offsets that are data, an int array (P,): rows are gathered one by one."""
    return rows_at(x, ops.arange(width, dtype="int32")[None, :] - offsets[:, None])


def rows_at(x: Any, at: Any) -> Any:
    """Rows of windows by number: ``at`` is an int array (P, n); numbers outside of the window give zeros.

    Parameters
    ----------
    x : array (S, P, A, rows, ...)

    Returns
    -------
    array (S, P, A, n, ...)
    """
    sequences, positions, alternates, rows = x.shape[:4]
    count = at.shape[1]
    inside = ops.logical_and(at >= 0, at < rows)
    batch = np.arange(sequences * positions * alternates, dtype="int32").reshape(sequences, positions, alternates, 1)
    index = ops.reshape(ops.clip(at, 0, rows - 1), (1, positions, 1, count)) + batch * rows
    found = backend.take(ops.reshape(x, (-1, *x.shape[4:])), index, axis=0)
    mask = ops.reshape(inside, (1, positions, 1, count, *(1,) * (len(x.shape) - 4)))
    return ops.where(mask, found, ops.zeros((), x.dtype))
