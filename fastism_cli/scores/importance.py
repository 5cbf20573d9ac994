"""What deltas say: importance of bases, also from blocks, lists of substitutions, interactions of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastism_cli.scores.tracks import Array


def hypothetical(seq: Array, delta: Array, *, unknown: float = np.nan) -> Array:
    """Hypothetical importance of each base, as if it were there: delta minus its mean over the letters.

    Parameters
    ----------
    seq : uint8 (n, L)
    delta : float32 (n, K, L, 4)
    unknown : float
        The value where delta was not computed, and at an N.

    Returns
    -------
    float32 (n, K, L, 4)
    """
    mean = _mean(delta)
    centred = delta - mean[..., None]
    missing = ~np.isfinite(mean) | (seq >= delta.shape[-1])[:, None]
    if missing.any():
        centred[missing] = unknown
    return centred


def importance(seq: Array, delta: Array) -> Array:
    """The hypothetical importance of the base that is there, float32 (n, K, L).

    The delta of that base is 0, so it is minus the mean: positive where substitutions lower the prediction. NaN where
    delta was not computed, and at an N, which is no base.
    """
    values = -_mean(delta)
    values[np.broadcast_to((seq >= delta.shape[-1])[:, None], values.shape)] = np.nan
    return values


def _mean(delta: Array) -> Array:
    """Over the last axis; several times faster than numpy's for an axis of four."""
    total = delta[..., 0] + delta[..., 1]
    for letter in range(2, delta.shape[-1]):
        total += delta[..., letter]
    total /= delta.shape[-1]
    return np.asarray(total)


# --- substitutions as a list -----------------------------------------------------------------------------------------


class Substituted(NamedTuple):
    """Substitutions with a score: int64 (m,) indices into the arrays that they were found in, and their deltas.

    Attributes
    ----------
    row, track, column, alt : int64 (m,)
    delta : float32 (m,)
    """

    row: Array
    track: Array
    column: Array
    alt: Array
    delta: Array


def substituted(seq: Array, delta: Array, wanted: Array | None = None) -> Substituted:
    """List the substitutions that have a score, by row, track, column and letter.

    Parameters
    ----------
    seq : uint8 (n, W)
    delta : float32 (n, K, W, letters)
        NaN where not computed. The letter that is there is no substitution.
    wanted : bool (n, W), optional
        The columns to list. Default: all.
    """
    is_other = np.arange(delta.shape[-1]) != seq[..., None]
    if wanted is not None:
        is_other &= wanted[..., None]
    found = np.isfinite(delta) & is_other[:, None]
    row, track, column, alt = np.nonzero(found)
    return Substituted(row, track, column, alt, delta[found])


def replaced(delta: Array, wanted: Array | None = None) -> Substituted:
    """List the contents of blocks that have a score: ``column`` is the number of a block, ``alt`` that of a content.

    Parameters
    ----------
    delta : float32 (n, K, P, A)
        NaN where not computed.
    wanted : bool (n, P), optional
        The blocks to list. Default: all.
    """
    found = np.isfinite(delta)
    if wanted is not None:
        found &= wanted[:, None, :, None]
    row, track, column, alt = np.nonzero(found)
    return Substituted(row, track, column, alt, delta[found])


# --- where replaced blocks lie, and what their scores say of each base -----------------------------------------------

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


# --- interactions of pairs of letters --------------------------------------------------------------------------------


class PairMap(NamedTuple):
    """A number for each of some pairs of positions, to be drawn below a logo.

    Attributes
    ----------
    ends : int64 (m, 2)
        Both positions of each pair, counted from 0 as those of the picture.
    values : float (m,)
        NaN where it was not computed.
    furthest : int
        The largest distance.
    largest : float
        The largest magnitude of all that are drawn in one picture.
    """

    ends: Array
    values: Array
    furthest: int
    largest: float

    @property
    def label(self) -> str:
        """What stands beside it: the interaction of the darkest colours."""
        return f"pairs \u00b1{self.largest:.2g}"

    def within(self, chrom: str, start: int, end: int) -> PairMap:
        """The pairs whose positions both lie in ``[start, end)``."""
        inside = ((self.ends >= start) & (self.ends < end)).all(1)
        return self._replace(ends=self.ends[inside], values=self.values[inside])


def strongest_of(interaction: Array) -> Array:
    """The interaction of the largest magnitude over the letters of both positions, with its sign.

    Parameters
    ----------
    interaction : float (..., letters, letters)
        NaN where not computed.

    Returns
    -------
    float (...)
        NaN where there is none.
    """
    flat = interaction.reshape(*interaction.shape[:-2], -1)
    sizes = np.where(np.isfinite(flat), np.abs(flat), -1)
    at = sizes.argmax(-1)[..., None]
    found: Array = np.take_along_axis(flat, at, -1)[..., 0]
    return np.where(np.take_along_axis(sizes, at, -1)[..., 0] < 0, np.nan, found)


def pair_map(interaction: Array, positions: Array) -> PairMap:
    """The strongest interaction of each two positions, of one sequence and target.

    Parameters
    ----------
    interaction : float (P, D, letters, letters)
        As ``/pairs`` of a result file holds them.
    positions : int64 (P,)
        The place of each position in the picture.
    """
    count, within = interaction.shape[:2]
    first, which = np.nonzero(np.arange(count)[:, None] + np.arange(1, within + 1) < count)
    ends = np.stack([positions[first], positions[first + which + 1]], axis=1)
    values = strongest_of(interaction)[first, which]
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0)) or 1.0
    return PairMap(ends, values, within, largest)
