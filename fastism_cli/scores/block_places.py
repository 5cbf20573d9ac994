"""Where replaced blocks lie, and what their scores say of each base."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastism_cli.scores.tracks import Array


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
    values = -np.moveaxis(delta.mean(-1, dtype=np.float64), -1, 0)  # (P, n, K)
    known = np.isfinite(values)
    values = np.where(known, values, 0.0)
    total, count = np.zeros((2, length, *values.shape[1:]))
    for offset in range(int(places.widths.max(initial=0))):
        at = places.starts + offset
        inside = np.flatnonzero((offset < places.widths) & (at >= 0) & (at < length))
        _add(total, at[inside], values[inside])
        _add(count, at[inside], known[inside])
    means = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return np.moveaxis(means, 0, -1).astype(np.float32)


def _add(total: Array, at: Array, values: Array) -> None:
    """Add to rows of an array; a row may come several times, which takes much longer."""
    if len(np.unique(at)) == len(at):
        total[at] += values
    else:
        np.add.at(total, at, values)
