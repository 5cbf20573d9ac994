"""Scores along the genome, for regions in any order: written once to a temporary file, then read base by base."""

from __future__ import annotations

import os
import tempfile
from bisect import insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import IO, NamedTuple

import numpy as np

from fastism_cli.errors import ResourceError
from fastism_cli.export.exported_regions import ExportedRegions
from fastism_cli.results.score_blocks import GenomeBlock
from fastism_cli.scores.tracks import Array, Track

MAX_VALUES = 1 << 18  # of all regions in a stretch: where thousands overlap, stretches are shorter


class Segment(NamedTuple):
    """Bases ``[start, stop)`` of a contig and the regions that cover all of them, ascending."""

    chrom: str
    start: int
    stop: int
    covering: tuple[int, ...]


class Stretch(NamedTuple):
    """A segment with the values of its regions, (regions, K, bases, ...)."""

    segment: Segment
    values: Array


def along_genome(
    regions: ExportedRegions,
    tracks: tuple[Track, ...],
    values_of: Callable[[GenomeBlock], Array],
    folder: str | None,
    *,
    by_name: bool = False,
) -> Iterator[Stretch]:
    """Values of all regions from the first contig to the last, in memory that does not grow with their number.

    Parameters
    ----------
    values_of : callable
        From a block to its values, float32 (n, K, W, ...).
    folder : str or None
        Where a nameless temporary file may be made, of the size of all values; None is the usual place.
    by_name : bool
        Contigs in the order of the bytes of their names, as ``LC_ALL=C sort`` has them, in place of the FASTA's.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        inner: tuple[int, ...] = ()
        for block in regions.blocks(tracks):
            values = np.ascontiguousarray(values_of(block), np.float32)
            _write(file, values, folder)
            inner = values.shape[1:]
        yield from _stretches(regions, _Reader(file.fileno(), inner), by_name)


def delta_and_letters(block: GenomeBlock) -> Array:
    """Values for :func:`along_genome`, (n, K + 1, W, 4): deltas, and last the code of the reference letter."""
    codes = np.broadcast_to(block.seq[:, None, :, None], (len(block.seq), 1, block.seq.shape[1], 4))
    return np.concatenate([block.delta, codes.astype(np.float32)], axis=1)


def _write(file: IO[bytes], values: Array, folder: str | None) -> None:
    try:
        file.write(values.data.cast("B"))
        file.flush()
    except OSError as error:
        with suppress(OSError):
            file.close()  # it tries to write once more
        place = folder or tempfile.gettempdir()
        raise ResourceError(
            f"a temporary file in {place} cannot be written: {error.strerror or error}. Free space there."
        ) from error


def _stretches(regions: ExportedRegions, reader: _Reader, by_name: bool) -> Iterator[Stretch]:
    places, contigs = regions.whole(), regions.scores.file.genome_sizes
    if by_name:
        contigs = dict(sorted(contigs.items(), key=lambda item: item[0].encode()))
    starts = places.start
    for segment in segments(places.chrom, starts, starts + regions.window, contigs):
        reader.keep(segment.covering)
        pieces = [reader.row(i)[:, segment.start - starts[i] : segment.stop - starts[i]] for i in segment.covering]
        yield Stretch(segment, np.stack(pieces))


class _Reader:
    """Rows of the temporary file; those of the current stretch stay in memory."""

    def __init__(self, descriptor: int, inner: tuple[int, ...]) -> None:
        self._descriptor, self._inner = descriptor, inner
        self._size = 4 * int(np.prod(inner, dtype=np.int64))
        self._rows: dict[int, Array] = {}

    def keep(self, rows: tuple[int, ...]) -> None:
        """Forget all others."""
        for row in self._rows.keys() - set(rows):
            del self._rows[row]

    def row(self, i: int) -> Array:
        if i not in self._rows:
            raw = os.pread(self._descriptor, self._size, i * self._size)
            self._rows[i] = np.frombuffer(raw, np.float32).reshape(self._inner)
        return self._rows[i]


# --- which regions cover a base --------------------------------------------------------------------------------------


def segments(chrom: Array, starts: Array, stops: Array, contigs: Mapping[str, int]) -> Iterator[Segment]:
    """Stretches that a region covers, contigs in the order of ``contigs``, ascending.

    Positions count from 0, ends are excluded::

        region 0     . . a a a a . .
        region 1     . . . . b b b .      ->  [2, 4) (0,)   [4, 6) (0, 1)   [6, 7) (1,)

    Parameters
    ----------
    chrom, starts, stops : (n,)
        Regions in any order; they may overlap, be equal, or pass the ends of their contig, which are cut off.
    """
    for name, size in contigs.items():
        here = np.flatnonzero(chrom == name)
        if len(here):
            first, last = np.clip(starts[here], 0, size), np.clip(stops[here], 0, size)
            yield from _of_contig(name, here, first, last)


def _of_contig(name: str, regions: Array, starts: Array, stops: Array) -> Iterator[Segment]:
    by_start, by_stop = np.argsort(starts, kind="stable"), np.argsort(stops, kind="stable")
    begun = ended = 0
    covering: list[int] = []
    for start, stop in pairwise(np.unique(np.concatenate([starts, stops])).tolist()):
        while begun < len(by_start) and starts[by_start[begun]] <= start:
            insort(covering, int(regions[by_start[begun]]))
            begun += 1
        while ended < len(by_stop) and stops[by_stop[ended]] <= start:
            covering.remove(int(regions[by_stop[ended]]))
            ended += 1
        if covering:
            yield from _cut(name, start, stop, covering)


def _cut(name: str, start: int, stop: int, covering: Sequence[int]) -> Iterator[Segment]:
    step = max(MAX_VALUES // len(covering), 1)
    for first in range(start, stop, step):
        yield Segment(name, first, min(first + step, stop), tuple(covering))
