"""The regions that an export writes: which they are, where on the genome, and the narrowPeak beside every export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fastism_cli.errors import cell
from fastism_cli.results.schema import STRAND, Status
from fastism_cli.results.score_blocks import GenomeBlock
from fastism_cli.results.scores import Scores
from fastism_cli.scores.tracks import Array, Track


@dataclass(frozen=True)
class Places:
    """Some rows of a file, and where their windows are on the genome.

    Attributes
    ----------
    scores : Scores
    rows : int64 (n,)
        Ascending.
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

    def on_contig(self, width: int) -> Array:
        """Which first ``width`` bases of the windows lie on their contig as a whole, bool (n,)."""
        return np.asarray((self.start >= 0) & (self.start + width <= self.contig_size))

    def column(self, name: str) -> Array:
        """A column of the file's regions for these rows, (n,); unlike those above it is not kept."""
        return self.scores.regions.at(name, self.rows)


@dataclass(frozen=True)
class ExportedRegions:
    """The regions that an export holds: those with scores, in the order of the file.

    Their columns are read on demand, some rows at a time: a file may have very many.

    Attributes
    ----------
    scores : Scores
    only_on_contig : bool
        Whether those are left out whose even window passes an end of its contig: no array and no tool that cuts around
        a summit can hold them.
    rows : int64 (n,), optional
        Ascending rows with scores to which these are limited.
    """

    scores: Scores
    only_on_contig: bool = False
    rows: Array | None = None

    @property
    def window(self) -> int:
        """Bases of each window."""
        return self.scores.window

    @property
    def even_window(self) -> int:
        """The window, or all but its last base: consumers cut around a middle that only an even width has."""
        return self.window // 2 * 2

    @property
    def peak_width(self) -> int:
        """Bases of each line of a narrowPeak: the even window, or the only base of a window."""
        return self.even_window or self.window

    @cached_property
    def n_rows(self) -> int:
        """Number of these regions."""
        return sum(len(rows) for rows in self._rows())

    @property
    def n_left_out(self) -> int:
        """Number of other regions with scores."""
        return sum(len(rows) for rows in self.scores.pieces_with(Status.OK)) - self.n_rows

    def pieces(self) -> Iterator[Places]:
        """All of them, some at a time; columns that were read are freed with their piece."""
        return (Places(self.scores, rows) for rows in self._rows())

    def whole(self) -> Places:
        """All of them at once, for formats that sort them."""
        return Places(self.scores, np.concatenate([np.empty(0, np.int64), *self._rows()]))

    def blocks(self, tracks: Sequence[Track]) -> Iterator[GenomeBlock]:
        """Scores on the + strand, a few chunks at a time, whole windows."""
        return (block.on_genome() for block in self.scores.blocks(self._rows(), tracks))

    def even_blocks(self, tracks: Sequence[Track]) -> Iterator[GenomeBlock]:
        """Scores on the + strand in windows of even width."""
        width = self.even_window
        for block in self.blocks(tracks):
            yield replace(block, seq=block.seq[:, :width], delta=block.delta[:, :, :width])

    def _rows(self) -> Iterator[Array]:
        for rows in self.scores.pieces_with(Status.OK) if self.rows is None else [self.rows]:
            yield rows[Places(self.scores, rows).on_contig(self.peak_width)] if self.only_on_contig else rows


@dataclass(frozen=True)
class Choice:
    """Which substitutions a table has.

    Attributes
    ----------
    n : int or None
        How many lines of each target, the strongest first; None for all, along the genome.
    min_delta : float
        The least magnitude of a delta.
    by : "substitution", "base" or "site"
        A line for each substitution, for the strongest of each base, or for the strongest of all that are nearer to it
        than 11 bases, about a motif. Of blocks: for each block, or for the strongest of all that overlap it.
    overlap : "mean", "max" or "first"
        The delta where regions overlap: their mean, that of the largest magnitude, or that of the first region with
        one. The line names the first region, for ``max`` the one whose delta it is. Blocks have a line for each region.
    """

    n: int | None = None
    min_delta: float = 0.0
    by: str = "substitution"
    overlap: str = "mean"


@dataclass(frozen=True)
class ExportJob:
    """One export.

    Attributes
    ----------
    regions : ExportedRegions
        Regions, in the order of the file.
    tracks : tuple of Track
    paths : sequence of tuple of str
        One set of files for each track if the format holds one target, else a single set.
    overlap : "mean", "max" or "first"
        What a base that several regions cover gets, in the formats that hold one value for each base.
    compression : "none" or "gzip"
        Of arrays.
    region_columns : bool
        Whether tables say which row each line is of.
    choice : Choice, optional
        Which lines tables have. Default: all of every region.
    """

    regions: ExportedRegions
    tracks: tuple[Track, ...]
    paths: Sequence[tuple[str, ...]]
    overlap: str = "mean"
    compression: str = "none"
    region_columns: bool = False
    choice: Choice | None = None


def one_hot(seq: Array) -> Array:
    """Codes (n, W) as int8 (n, W, 4); an N is four zeros."""
    rows: Array = np.eye(5, 4, dtype=np.int8)
    return rows.take(seq, axis=0)


# --- the narrowPeak beside every export ------------------------------------------------------------------------------

NO_VALUE = -1  # of p and q: ENCODE's value for unknown


def write_peaks(path: str, regions: ExportedRegions) -> None:
    """One line a row, in their order: the window of even width, its summit in the middle.

    All rows lie on their contig: the regions are limited to those.

    The strand is that of the record, whatever the model saw. Tabs and line ends in names are written as blanks.
    """
    with open(path, "w", encoding="utf-8") as file:
        for piece in regions.pieces():
            file.write(_lines(piece, regions.peak_width))


def _lines(places: Places, width: int) -> str:
    names, strands = places.column("name"), places.column(STRAND)
    columns = (places.chrom, places.start.tolist(), names, strands)
    return "".join(
        f"{chrom}\t{start}\t{start + width}\t{cell(name) or '.'}\t0\t{sign}\t0\t{NO_VALUE}\t{NO_VALUE}\t{width // 2}\n"
        for chrom, start, name, sign in zip(*columns, strict=True)
    )
