"""Where replaced blocks lie, and what their scores say of each base."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastism_cli.scores.tracks import Array

MAX_SUMS = 1 << 20  # bases at a time, whose sums are kept in float64


@dataclass(frozen=True)
class BlockPlaces:
    """Blocks ``[starts[i], starts[i] + widths[i])`` of a sequence; they may overlap, and pass its ends.

    Attributes
    ----------
    starts, widths : int64 (P,)
    """

    starts: Array
    widths: Array

    @property
    def stops(self) -> Array:
        return self.starts + self.widths

    def moved(self, by: int) -> BlockPlaces:
        """The same blocks in a sequence that begins so much earlier."""
        return BlockPlaces(self.starts + by, self.widths)

    def reversed(self, length: int) -> BlockPlaces:
        """The same blocks in the reverse complement of a sequence of this length, the last one first."""
        return BlockPlaces((length - self.stops)[::-1], self.widths[::-1])

    def taken(self, which: Array) -> BlockPlaces:
        """Some of them: by number, or bool (P,)."""
        return BlockPlaces(self.starts[which], self.widths[which])


def scored(delta: Array, places: BlockPlaces) -> tuple[Array, BlockPlaces]:
    """The deltas and places of the blocks of which every content has a score, from those of all, float32 (P, A)."""
    known = np.asarray(np.isfinite(delta).all(-1))
    return delta[known], places.taken(known)


def base_importance(delta: Array, places: BlockPlaces, length: int) -> Array:
    """The importance of each base: minus the mean of the deltas of all blocks that hold it, and of their contents.

    Parameters
    ----------
    delta : float32 (n, K, P, A)
    length : int
        L, of the sequence.

    Returns
    -------
    float32 (n, K, L)
        Positive where replacing lowers the prediction; NaN where no block with a score lies.
    """
    of_blocks = delta.mean(-1, dtype=np.float64).reshape(-1, delta.shape[2])
    found = np.empty((len(of_blocks), length), np.float32)
    step = max(MAX_SUMS // max(length, 1), 1)
    for first in range(0, len(found), step):
        found[first : first + step] = _minus_means(of_blocks[first : first + step], places, length)
    return found.reshape(*delta.shape[:2], length)


def _minus_means(of_blocks: Array, places: BlockPlaces, length: int) -> Array:
    """Minus the mean of the blocks that hold each base, float64 (m, L), from values of blocks, float64 (m, P)."""
    known = np.isfinite(of_blocks).T
    values = np.where(known, -of_blocks.T, 0.0)
    total, count = np.zeros((2, length, len(of_blocks)))
    is_few = len(places.starts) < places.widths.max(initial=0)
    for at, blocks in _by_block(places, length) if is_few else _by_offset(places, length):
        _add(total, at, values[blocks])
        _add(count, at, known[blocks])
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0).T


def _by_block(places: BlockPlaces, length: int) -> Iterator[tuple[slice, slice]]:
    """The bases of each block, and which it is."""
    for i, ends in enumerate(zip(places.starts.tolist(), places.stops.tolist(), strict=True)):
        yield slice(*(min(max(end, 0), length) for end in ends)), slice(i, i + 1)


def _by_offset(places: BlockPlaces, length: int) -> Iterator[tuple[Array, Array]]:
    """The first bases of all blocks, their second bases and so on, and which blocks these are."""
    for offset in range(int(places.widths.max(initial=0))):
        at = places.starts + offset
        inside = np.flatnonzero((offset < places.widths) & (at >= 0) & (at < length))
        yield at[inside], inside


def _add(total: Array, at: Array | slice, values: Array) -> None:
    """Add to rows of an array; a row may come several times, which takes much longer."""
    if isinstance(at, slice) or len(np.unique(at)) == len(at):
        total[at] += values
    else:
        np.add.at(total, at, values)
