"""Which regions an export holds, and their windows on the genome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fastism_cli.io.results import Scores
from fastism_cli.io.schema import Status
from fastism_cli.io.score_blocks import GenomeBlock
from fastism_cli.io.tracks import Track

Array = npt.NDArray[Any]

ROWS_AT_ONCE = 1 << 10  # of a piece


@dataclass(frozen=True)
class Frame:
    """Regions with scores and their windows.

    Attributes
    ----------
    scores : Scores
    rows : int64 (n,)
        Rows of the file with the status OK, ascending.
    """

    scores: Scores
    rows: Array

    @cached_property
    def chrom(self) -> Array:
        """Contig of each row, str (n,)."""
        return self.column("chrom")

    @cached_property
    def start(self) -> Array:
        """First base of each window on the + strand, int64 (n,); not clipped to the contig."""
        return self.scores.window_start(self.rows)

    @cached_property
    def contig_size(self) -> Array:
        """Length of each row's contig, int64 (n,)."""
        sizes = self.scores.file.genome_sizes
        return np.array([sizes[chrom] for chrom in self.chrom], np.int64)

    @property
    def window(self) -> int:
        """Bases of each window."""
        return self.scores.window

    @property
    def even_window(self) -> int:
        """The window, or all but its last base: consumers cut around a middle that only an even width has."""
        return self.window // 2 * 2

    @property
    def on_contig(self) -> Array:
        """Which even windows lie on their contig as a whole, bool (n,): no BED can hold the others."""
        return np.asarray((self.start >= 0) & (self.start + self.even_window <= self.contig_size))

    def column(self, name: str) -> Array:
        """A column of the file's regions for these rows, (n,); unlike those above it is not kept."""
        return self.scores.regions.at(name, self.rows)

    def where(self, keep: Array) -> Frame:
        """Some of the rows."""
        return replace(self, rows=self.rows[keep])

    def pieces(self) -> Iterator[Frame]:
        """The same rows, some at a time: what is read of a piece goes with it."""
        cuts = range(ROWS_AT_ONCE, len(self.rows), ROWS_AT_ONCE)
        return (replace(self, rows=rows) for rows in np.split(self.rows, cuts))

    def blocks(self, tracks: Sequence[Track]) -> Iterator[GenomeBlock]:
        """Scores on the + strand, a few chunks at a time, whole windows."""
        return (block.on_genome() for block in self.scores.blocks(self.rows, tracks))

    def even_blocks(self, tracks: Sequence[Track]) -> Iterator[GenomeBlock]:
        """Scores on the + strand in windows of even width."""
        width = self.even_window
        for block in self.blocks(tracks):
            yield replace(block, seq=block.seq[:, :width], delta=block.delta[:, :, :width])


def scored_frame(scores: Scores) -> Frame:
    """All regions with scores."""
    return Frame(scores, scores.rows_with(Status.OK))


def one_hot(seq: Array) -> Array:
    """Codes (n, W) as int8 (n, W, 4); an N is four zeros."""
    rows: Array = np.eye(5, 4, dtype=np.int8)
    return rows.take(seq, axis=0)
