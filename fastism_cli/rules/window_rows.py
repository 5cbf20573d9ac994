"""Rows of a window: moved into another frame, or cut into pieces, each computed by itself."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
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


# --- windows cut along their rows ------------------------------------------------------------------------------------

# The sum over a kernel's taps has different terms in almost every row. Written as one padded sum, XLA decides for every
# element which terms it has, and decides again for every reader. Cut where the terms change, each piece is a sum of
# plain slices, and activation and pooling work on the pieces as they are: the stage becomes one loop that reads every
# product once (measured on two cores: 0.4 to 1.0 of the time of separate stages of padded sums).


def rows(x: Any, first: int, stop: int, stride: int = 1) -> Any:
    """Rows ``first``, ``first + stride``, ... before ``stop`` of an array (S, P, A, rows, ...)."""
    if (first, stop, stride) == (0, x.shape[3], 1):
        return x
    return x[:, :, :, first:stop] if stride == 1 else x[:, :, :, first:stop:stride]


# Rows are added up this many at a time, elementwise, before what is left is reduced: XLA's own reductions on a CPU
# take half as long again.
ROWS_TOGETHER = 64


def sum_rows(x: Any, keepdims: bool = False) -> Any:
    """The sum over the rows of an array (S, P, A, rows, ...)."""
    full = x.shape[3] // ROWS_TOGETHER
    if full < 2:
        return ops.sum(x, axis=3, keepdims=keepdims)
    rest = x.shape[3] % ROWS_TOGETHER
    parts = backend.cut(x, [ROWS_TOGETHER] * full + [rest] * (rest > 0), axis=3)
    total = ops.sum(reduce(ops.add, parts[:full]), axis=3, keepdims=keepdims)
    return total + ops.sum(parts[full], axis=3, keepdims=keepdims) if rest else total


def max_rows(x: Any) -> Any:
    """The largest row of an array (S, P, A, rows, ...), of which one is left: elementwise, as sums of rows."""
    n = x.shape[3]
    step = -(-n // ROWS_TOGETHER)
    parts = [rows(x, i, min(i + step, n)) for i in range(0, n, step)]
    return reduce(ops.maximum, parts if step == 1 else [ops.max(part, axis=3, keepdims=True) for part in parts])


@dataclass(frozen=True)
class Piece:
    """Rows ``[first, stop)`` of a strip; ``array`` (S, p, A, rows, ...), or None where nothing changes."""

    first: int
    stop: int
    array: Any

    def cut(self, first: int, stop: int) -> Piece:
        array = None if self.array is None else rows(self.array, first - self.first, stop - self.first)
        return Piece(first, stop, array)

    def apart(self, edges: Sequence[int]) -> list[Piece]:
        """Cut at ``edges``, from its own first to its own last row."""
        cuts = list(pairwise(edges))
        if len(cuts) < 2:
            return [self]
        if self.array is None:
            return [Piece(first, stop, None) for first, stop in cuts]
        parts = backend.cut(self.array, [stop - first for first, stop in cuts], axis=3)
        return [Piece(first, stop, x) for (first, stop), x in zip(cuts, parts, strict=True)]


@dataclass(frozen=True)
class Strip:
    """A window as pieces that lie side by side from row 0 to ``width``."""

    pieces: tuple[Piece, ...]

    @classmethod
    def of(cls, array: Any) -> Strip:
        """An array (S, p, A, rows, ...) in one piece."""
        return cls((Piece(0, array.shape[3], array),))

    @property
    def width(self) -> int:
        return self.pieces[-1].stop

    @property
    def breaks(self) -> set[int]:
        """Rows at which a piece begins or ends."""
        return {0, *(piece.stop for piece in self.pieces)}

    def at(self, breaks: Iterable[int]) -> Strip:
        """The same rows, cut at ``breaks`` too."""
        edges = sorted({*breaks} | self.breaks)
        cut = (p.apart([e for e in edges if p.first <= e <= p.stop]) for p in self.pieces)
        return Strip(tuple(piece for pieces in cut for piece in pieces))

    def moved(self, by: int, width: int) -> Strip:
        """The strip in a frame of ``width`` rows, ``by`` rows further on; what does not fit is cut off."""
        moved = [Piece(p.first + by, p.stop + by, p.array) for p in self.pieces]
        inside = [p.cut(max(p.first, 0), min(p.stop, width)) for p in moved if p.first < width and p.stop > 0]
        if not inside:
            return Strip((Piece(0, width, None),))
        before = [Piece(0, inside[0].first, None)] if inside[0].first > 0 else []
        after = [Piece(inside[-1].stop, width, None)] if inside[-1].stop < width else []
        return Strip((*before, *inside, *after))

    def map(self, function: Callable[[Any, int, int], Any]) -> Strip:
        """The strip with ``function(array, first, stop)`` of every piece that changes."""
        return Strip(
            tuple(
                p if p.array is None else Piece(p.first, p.stop, function(p.array, p.first, p.stop))
                for p in self.pieces
            )
        )

    def total(self, function: Callable[[Any], Any], combine: Callable[[Any, Any], Any]) -> Any:
        """``function`` of every piece that changes, combined."""
        results = [function(p.array) for p in self.pieces if p.array is not None]
        total = results[0]
        for result in results[1:]:
            total = combine(total, result)
        return total

    def as_array(self, like: tuple[int, ...], dtype: Any) -> Any:
        """One array; pieces in which nothing changes are zeros of (..., rows, ``*like[4:]``)."""
        known = self.any_array
        lead = like[:3] if known is None else known.shape[:3]
        arrays = [
            ops.zeros((*lead, p.stop - p.first, *like[4:]), dtype) if p.array is None else p.array for p in self.pieces
        ]
        return ops.concatenate(arrays, axis=3) if len(arrays) > 1 else arrays[0]

    @property
    def any_array(self) -> Any | None:
        """The array of any piece that changes: its shape and type are those of all."""
        return next((p.array for p in self.pieces if p.array is not None), None)


def overlapped(added: Iterable[Piece], subtracted: Iterable[Piece] = ()) -> Strip:
    """The sum of pieces that lie over each other, from row 0 on; where something is subtracted, something is added."""
    signed = [*((piece, ops.add) for piece in added), *((piece, ops.subtract) for piece in subtracted)]
    edges = sorted({edge for piece, _ in signed for edge in (piece.first, piece.stop)})
    sums: dict[int, Any] = {}
    for piece, combine in signed:
        for part in piece.apart([edge for edge in edges if piece.first <= edge <= piece.stop]):
            sums[part.first] = part.array if part.first not in sums else combine(sums[part.first], part.array)
    return Strip(tuple(Piece(first, stop, sums.get(first)) for first, stop in pairwise(edges)))


def count_slices(spans: Sequence[tuple[int, int]]) -> int:
    """How many slices pieces of rows ``[first, stop)`` that lie over each other are cut into."""
    edges = sorted({edge for span in spans for edge in span})
    return sum(bisect_left(edges, stop) - bisect_left(edges, first) for first, stop in spans)


def common_breaks(strips: Sequence[Strip | None]) -> set[int]:
    """Rows at which any of the strips is cut."""
    return {row for strip in strips if strip is not None for row in strip.breaks}


def by_pieces(function: Callable[..., Any], strips: Sequence[Strip | None]) -> Strip:
    """Apply a function that treats each row by itself; where no input changes, neither does the output."""
    breaks = common_breaks(strips)
    cut = [strip.at(breaks).pieces if strip is not None else None for strip in strips]
    edges = sorted(breaks)
    pieces = []
    for i, (first, stop) in enumerate(pairwise(edges)):
        arrays = [None if piece is None else piece[i].array for piece in cut]
        changes = any(array is not None for array in arrays)
        pieces.append(Piece(first, stop, function(*arrays) if changes else None))
    return Strip(tuple(pieces))
