"""The scores of one region for one target, on either strand, and the part of them that a picture shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.genome.placement import span_text
from fastism_cli.scores.importance import BlockPlaces, base_importance, importance
from fastism_cli.scores.tracks import Array

SITE = 11  # bases, about a motif: with one base, noise would rank above a motif of moderately important bases


class Interval(NamedTuple):
    """Bases ``[start, end)`` of a contig, counted from 0; as a text, from 1 with the last base."""

    chrom: str
    start: int
    end: int

    def __str__(self) -> str:
        return span_text(*self)


def strongest_sites(importance: Array) -> tuple[Array, Array]:
    """The largest sum of importance, positive or negative, over ``SITE`` bases in a row.

    Parameters
    ----------
    importance : float32 (..., W)
        NaN, where there is none, counts as 0. Where W is less than ``SITE``, the site is the whole window.

    Returns
    -------
    float32 (...)
        The sum, with its sign; 0 of an empty window.
    int64 (...)
        The column in the middle of the site.
    """
    width = min(SITE, importance.shape[-1])
    if width == 0:
        nothing = np.zeros(importance.shape[:-1])
        return nothing.astype(np.float32), nothing.astype(np.int64)
    sums = _running_sums(np.nan_to_num(importance.astype(np.float64)), width)
    first = np.abs(sums).argmax(-1)
    best = np.take_along_axis(sums, first[..., None], -1)[..., 0]
    return best.astype(np.float32), first + width // 2


def _running_sums(values: Array, width: int) -> Array:
    """Sum of ``width`` columns from each on, (..., W - width + 1)."""
    ends = np.cumsum(values, axis=-1)
    starts = np.concatenate([np.zeros_like(ends[..., :1]), ends[..., :-width]], axis=-1)
    return ends[..., width - 1 :] - starts


def ranked(sites: Array) -> Array:
    """Rows from the strongest site to the weakest, int64; rows without scores (NaN) are left out.

    Parameters
    ----------
    sites : float32 (N,)
    """
    known = np.flatnonzero(np.isfinite(sites))
    return known[np.argsort(-np.abs(sites[known]), kind="stable")]


@dataclass(frozen=True)
class RegionScores:
    """Column ``j`` is base ``start + j`` of the + strand, or, if ``reverse``, the complement of base ``end - 1 - j``.

    Attributes
    ----------
    chrom, start, name : str, int, str
    strand, model_strand : str
        Of the record, and the one that the model saw, whichever is drawn.
    letters : str
        In the order of the last axis of ``delta``.
    seq : uint8 (W,)
        Codes of ``letters``; the number of letters is an N.
    delta : float32 (W, 4)
        NaN where not computed.
    prediction : float
        On the reference.
    reverse : bool
    """

    chrom: str
    start: int
    name: str
    strand: str
    model_strand: str
    letters: str
    seq: Array
    delta: Array
    prediction: float
    reverse: bool = False

    @property
    def end(self) -> int:
        return self.start + len(self.seq)

    @property
    def interval(self) -> Interval:
        return Interval(self.chrom, self.start, self.end)

    @cached_property
    def importance(self) -> Array:
        """Hypothetical importance of the base that is there, float32 (W,); NaN at an N."""
        return importance(self.seq[None], self.delta[None, None])[0, 0]

    @property
    def outline(self) -> Array:
        """What an overview of the region draws, float32 (W,)."""
        return self.importance

    @property
    def positions(self) -> Array:
        """Base of the contig of each column, int64 (W,)."""
        positions = np.arange(self.start, self.end)
        return positions[::-1] if self.reverse else positions

    @property
    def site(self) -> int:
        """Base in the middle of the strongest site."""
        return int(self.positions[strongest_sites(self.importance)[1]])

    def reversed(self) -> RegionScores:
        """The same bases, read from the other strand."""
        alphabet = Alphabet(self.letters)
        partner = alphabet.reverse_complement(np.arange(alphabet.size))[::-1]
        seq, delta = alphabet.reverse_complement(self.seq), self.delta[::-1, partner]
        return replace(self, seq=seq, delta=delta, reverse=not self.reverse)

    def between(self, start: int, end: int) -> RegionScores:
        """The part in ``[start, end)``; empty at the nearer end if there is none."""
        start, columns = self._columns(start, end)
        return replace(self, start=start, seq=self.seq[columns], delta=self.delta[columns])

    def _columns(self, start: int, end: int) -> tuple[int, slice]:
        """The first base of the part in ``[start, end)``, and its columns."""
        start, end = (min(max(position, self.start), self.end) for position in (start, end))
        first, stop = (self.end - end, self.end - start) if self.reverse else (start - self.start, end - self.start)
        return start, slice(first, stop)

    def around_site(self, bases: int | None) -> Interval:
        """``bases`` bases around the strongest site, moved inside of the region; all of it for None."""
        wide = len(self.seq) if bases is None else min(bases, len(self.seq))
        start = min(max(self.site - wide // 2, self.start), self.end - wide)
        return Interval(self.chrom, start, start + wide)


@dataclass(frozen=True)
class RegionBlocks(RegionScores):
    """The same of a result of blocks: ``delta`` is float32 (P, A), and ``places`` has the columns of each block.

    A block can begin before the first column, and end behind the last.
    """

    places: BlockPlaces = field(default_factory=lambda: BlockPlaces(*np.empty((2, 0), np.int64)))

    @cached_property
    def importance(self) -> Array:
        """Minus the mean of the deltas of all blocks that hold a base, float32 (W,); NaN where there is none."""
        return base_importance(self.delta[None, None], self.places, len(self.seq))[0, 0]

    @property
    def outline(self) -> Array:
        """The mean delta of the blocks that hold each base: as the bars, down where replacing lowers the prediction."""
        return -self.importance

    @property
    def middles(self) -> Array:
        """Where on the contig the middle of each block is, float64 (P,): 0.5 is that of the first base."""
        columns = self.places.starts + self.places.widths / 2
        return self.end - columns if self.reverse else self.start + columns

    def reversed(self) -> RegionBlocks:
        seq = Alphabet(self.letters).reverse_complement(self.seq)
        places = self.places.reversed(len(self.seq))
        return replace(self, seq=seq, delta=self.delta[::-1], places=places, reverse=not self.reverse)

    def between(self, start: int, end: int) -> RegionBlocks:
        start, columns = self._columns(start, end)
        shown = (self.places.stops > columns.start) & (self.places.starts < columns.stop)
        places = self.places.taken(shown).moved(-columns.start)
        return replace(self, start=start, seq=self.seq[columns], delta=self.delta[shown], places=places)


def stitched(parts: Sequence[RegionScores]) -> RegionScores:
    """Regions of one contig on the + strand, such as tiles, as one.

    Bases between them are N without scores. Of a base that several have, the last one counts; blocks are those of all.
    The prediction is that of the first, as each has its own.
    """
    if len(parts) == 1:
        return parts[0]
    first = min(parts, key=lambda part: part.start)
    start, end = first.start, max(part.end for part in parts)
    letters = len(first.letters)
    seq = np.full(end - start, letters, np.uint8)
    for part in parts:
        seq[part.start - start : part.end - start] = part.seq
    if isinstance(first, RegionBlocks):
        return replace(first, seq=seq, **_blocks_of(parts, start))
    delta = np.full((end - start, letters), np.nan, np.float32)
    for part in parts:
        delta[part.start - start : part.end - start] = part.delta
    return replace(first, seq=seq, delta=delta)


def _blocks_of(parts: Sequence[RegionScores], start: int) -> dict[str, Any]:
    """Deltas and places of the blocks of all parts, in a region that begins at ``start``."""
    places = [part.places.moved(part.start - start) for part in parts if isinstance(part, RegionBlocks)]
    joined = BlockPlaces(np.concatenate([x.starts for x in places]), np.concatenate([x.widths for x in places]))
    return {"delta": np.concatenate([part.delta for part in parts]), "places": joined}
