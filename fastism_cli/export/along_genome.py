"""Scores along the genome, for regions in any order: written once in the order of the file, then read base by base."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastism_cli.export.exported_regions import Frame
from fastism_cli.export.segments import Segment, segments
from fastism_cli.results.layout import Track
from fastism_cli.results.score_blocks import GenomeBlock

Array = npt.NDArray[Any]


class Stretch(NamedTuple):
    """A segment with the values of its regions, (regions, K, bases, ...)."""

    segment: Segment
    values: Array


def along_genome(
    frame: Frame, tracks: tuple[Track, ...], values_of: Callable[[GenomeBlock], Array], folder: str
) -> Iterator[Stretch]:
    """Values of all regions from the first contig to the last, in memory that does not grow with their number.

    Parameters
    ----------
    values_of : callable
        From a block to its values, float32 (n, K, W, ...).
    folder : str
        Where a nameless temporary file may be made, of the size of all values.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        inner: tuple[int, ...] = ()
        for block in frame.blocks(tracks):
            values = np.ascontiguousarray(values_of(block), np.float32)
            file.write(values.data.cast("B"))
            inner = values.shape[1:]
        file.flush()
        yield from _stretches(frame, _Reader(file.fileno(), inner))


def _stretches(frame: Frame, reader: _Reader) -> Iterator[Stretch]:
    places, contigs = frame.whole(), frame.scores.file.genome_sizes
    starts = places.start
    for segment in segments(places.chrom, starts, starts + frame.window, contigs):
        reader.keep(segment.covering)
        pieces = [reader.row(i)[:, segment.start - starts[i] : segment.stop - starts[i]] for i in segment.covering]
        yield Stretch(segment, np.stack(pieces))


class _Reader:
    """Rows of the temporary file; those of the stretch at hand stay in memory."""

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
