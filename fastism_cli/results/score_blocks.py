"""Scores of some regions in memory: as the model saw them, on the genome, as importance, as lines of tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fastism_cli.errors import UsageError
from fastism_cli.genome.alphabet import DNA
from fastism_cli.results.schema import MODEL_STRAND, STRAND
from fastism_cli.scores.importance import (
    BlockPlaces,
    base_importance,
    hypothetical,
    importance,
    replaced,
    scored,
    substituted,
)
from fastism_cli.scores.region import RegionBlocks, RegionScores
from fastism_cli.scores.tracks import Array


@dataclass(frozen=True)
class GenomeBlock:
    """Some regions on the + strand: column ``j`` of row ``i`` is base ``start[i] + j`` of its contig.

    Attributes
    ----------
    rows : int64 (n,)
        Rows of the file.
    reverse : bool (n,)
        Which of them the model saw as their reverse complement.
    start : int64 (n,)
        First base of the window; negative where it begins before the contig.
    seq : uint8 (n, W)
        0 to 3 = ACGT, 4 = N or outside of the contig.
    delta : float32 (n, K, W, 4)
        In ACGT order; NaN where not computed.
    """

    rows: Array
    reverse: Array
    start: Array
    seq: Array
    delta: Array

    def hypothetical(self) -> Array:
        """Delta minus its mean over the four bases, float32 (n, K, W, 4): see :func:`hypothetical`."""
        return hypothetical(self.seq, self.delta)

    def importance(self) -> Array:
        """Hypothetical importance of the base that is there, float32 (n, K, W): see :func:`importance`."""
        return importance(self.seq, self.delta)

    def region(self, i: int, k: int, columns: Mapping[str, Any], letters: str, prediction: float) -> RegionScores:
        """Row ``i`` for track ``k``, as far as it is on its contig.

        Parameters
        ----------
        columns : mapping of str to value
            The row's ``/regions``.
        """
        on_contig = self._on_contig(i, columns)
        delta = self.delta[i, k, on_contig]
        return RegionScores(*_place(columns), letters, self.seq[i, on_contig], delta, float(prediction))

    def _on_contig(self, i: int, columns: Mapping[str, Any]) -> slice:
        """The columns of row ``i`` that are on its contig."""
        first = int(columns["start"] - self.start[i])
        return slice(first, first + int(columns["end"] - columns["start"]))


def _place(columns: Mapping[str, Any]) -> tuple[str, int, str, str, str]:
    return columns["chrom"], int(columns["start"]), columns["name"], columns[STRAND], columns[MODEL_STRAND]


@dataclass(frozen=True)
class ReplacedGenomeBlock(GenomeBlock):
    """The same of a result of blocks, whose ``delta`` is float32 (n, K, P, A): along the + strand in every row.

    Attributes
    ----------
    block_starts : int64 (n, P)
        First base of each block on its contig; NaN in ``delta`` where it is not in the window as a whole.
    widths : int64 (P,)
    source : ScoreBlock
        The same as the model saw it.
    """

    block_starts: Array
    widths: Array
    source: ScoreBlock

    def hypothetical(self) -> Array:
        """Refused: a block has no letters.

        Raises
        ------
        UsageError
        """
        raise UsageError("hypothetical: these are scores of blocks, not of letters. Use importance.")

    def importance(self) -> Array:
        """Minus the mean of the deltas of all blocks that hold a base, float32 (n, K, W)."""
        return self.source.importance_on_genome()

    def region(self, i: int, k: int, columns: Mapping[str, Any], letters: str, prediction: float) -> RegionBlocks:
        delta, places = scored(self.delta[i, k], BlockPlaces(self.block_starts[i], self.widths))
        seq = self.seq[i, self._on_contig(i, columns)]
        places = places.moved(-int(columns["start"]))
        return RegionBlocks(*_place(columns), letters, seq, delta, float(prediction), places=places)


@dataclass(frozen=True)
class ScoreBlock:
    """Some regions as the model saw them.

    Attributes
    ----------
    rows : int64 (n,)
        Rows of the file, ascending.
    reverse : bool (n,)
        Which of them the model saw as their reverse complement.
    input_start : int64 (n,)
        First base of the input on the + strand.
    first : int (n,)
        First substituted base, counted from ``input_start``.
    window : int
        How many bases were substituted.
    seq : uint8 (n, L)
        0 to 3 = ACGT, 4 = N or outside of the contig.
    delta : float32 (n, K, L, 4)
        In ACGT order, for the K tracks that were asked for; NaN where not computed. Of blocks (n, K, P, A).
    places : BlockPlaces, optional
        Where blocks lie in the input as the model saw it; None for single letters.
    """

    rows: Array
    reverse: Array
    input_start: Array
    first: Array
    window: int
    seq: Array
    delta: Array
    places: BlockPlaces | None = None

    def on_genome(self) -> GenomeBlock:
        """The substituted window alone, on the + strand."""
        if self.places is not None:
            return self._blocks_on_genome(self.places)
        seq, delta = self._seq_on_plus(), self.delta
        if self.reverse.any():
            delta = delta.copy()
            flat = delta.reshape(*delta.shape[:2], -1)
            flat[self.reverse] = flat[self.reverse, :, ::-1]  # T G C A read backwards is A C G T
        return GenomeBlock(self.rows, self.reverse, self._start, self._in_window(seq), self._in_window(delta, axis=2))

    def _blocks_on_genome(self, places: BlockPlaces) -> ReplacedGenomeBlock:
        length = self.seq.shape[1]
        turned, flip = places.reversed(length), self.reverse[:, None]
        starts = self.input_start[:, None] + np.where(flip, turned.starts, places.starts)
        delta = np.where(self.reverse[:, None, None, None], self.delta[:, :, ::-1], self.delta)
        known = (self.rows, self.reverse, self._start, self._in_window(self._seq_on_plus()), delta)
        return ReplacedGenomeBlock(*known, block_starts=starts, widths=places.widths, source=self)

    def importance_on_genome(self) -> Array:
        """Of blocks: the importance of each base of the window on the + strand, float32 (n, K, W)."""
        assert self.places is not None
        bases = base_importance(self.delta, self.places, self.seq.shape[1])
        return self._in_window(np.where(self.reverse[:, None, None], bases[..., ::-1], bases), axis=2)

    @property
    def _start(self) -> Array:
        """First base of each window on its contig."""
        return np.asarray(self.input_start + self.first)

    def _seq_on_plus(self) -> Array:
        if not self.reverse.any():
            return self.seq
        seq = self.seq.copy()
        seq[self.reverse] = DNA.reverse_complement(seq[self.reverse])  # RNA has the same codes
        return seq

    def _in_window(self, values: Array, axis: int = 1) -> Array:
        """The columns of each row's window, of an array whose columns are an axis of it."""
        if len(np.unique(self.first)) < 2:
            columns = slice(int(self.first[0]), int(self.first[0]) + self.window) if len(self.first) else slice(0)
            return values[(slice(None),) * axis + (columns,)]
        at = self.first[:, None] + np.arange(self.window)
        row = np.arange(len(at))[:, None]
        return values[row, at] if axis == 1 else np.moveaxis(values[row, :, at], 2, 1)


# --- substitutions on the genome: the lines of tables ----------------------------------------------------------------

LETTERS = ("A", "C", "G", "T", "N")


@dataclass(frozen=True)
class GenomeSubstitutions:
    """Columns of equal length.

    Attributes
    ----------
    chrom : int64 (m,)
        Number of the contig, in the order of the FASTA.
    pos, end : int64 (m,)
        The first base that is changed, counted from 1, as in VCF, and the last one: of a substitution the same.
    ref, alt : (m,)
        Codes of :data:`LETTERS`. Of a block, ``ref`` is its first base, and ``alt`` the number of its content.
    target : int64 (m,)
        Number of the track.
    delta, reference : float32 (m,)
        Prediction with the change minus prediction without it, and the latter.
    row : int64 (m,)
        Row of the file.
    """

    chrom: Array
    pos: Array
    end: Array
    ref: Array
    alt: Array
    target: Array
    delta: Array
    reference: Array
    row: Array

    def __len__(self) -> int:
        return len(self.pos)

    @property
    def start(self) -> Array:
        """The first base that is changed, counted from 0, as in BED."""
        return np.asarray(self.pos - 1)

    @property
    def content(self) -> Array:
        """The number of what is put into a block."""
        return self.alt

    def taken(self, which: Array) -> GenomeSubstitutions:
        """Some of them: by number, or bool (m,)."""
        return GenomeSubstitutions(*(getattr(self, field.name)[which] for field in fields(self)))

    @staticmethod
    def nothing() -> GenomeSubstitutions:
        """None of them."""
        return GenomeSubstitutions(*(np.empty(0, np.int64) for _ in fields(GenomeSubstitutions)))

    @staticmethod
    def joined(pieces: list[GenomeSubstitutions]) -> GenomeSubstitutions:
        """All of one or more pieces."""
        columns = (field.name for field in fields(GenomeSubstitutions))
        return GenomeSubstitutions(*(np.concatenate([getattr(x, name) for x in pieces]) for name in columns))


def genome_substitutions(block: GenomeBlock, chrom: Array, sizes: Array, reference: Array) -> GenomeSubstitutions:
    """The changes of a block of rows that have a score: by row, track, base and letter, or content of a block.

    Parameters
    ----------
    chrom : int64 (n,)
        Number of the contig of each row.
    sizes : int64 (contigs,)
        What does not lie on its contig as a whole is left out.
    reference : float32 (n, K)
    """
    if isinstance(block, ReplacedGenomeBlock):
        return _replacements(block, chrom, sizes, reference)
    places = block.start[:, None] + np.arange(block.seq.shape[1])
    found = substituted(block.seq, block.delta, (places >= 0) & (places < sizes[chrom][:, None]))
    return GenomeSubstitutions(
        chrom=chrom[found.row],
        pos=places[found.row, found.column] + 1,
        end=places[found.row, found.column] + 1,
        ref=block.seq[found.row, found.column],
        alt=found.alt,
        target=found.track,
        delta=found.delta,
        reference=reference[found.row, found.track],
        row=block.rows[found.row],
    )


def _replacements(block: ReplacedGenomeBlock, chrom: Array, sizes: Array, reference: Array) -> GenomeSubstitutions:
    starts, ends = block.block_starts, block.block_starts + block.widths
    wanted = (starts >= 0) & (ends <= sizes[chrom][:, None])
    found = replaced(block.delta, wanted)
    first = starts[found.row, found.column]
    return GenomeSubstitutions(
        chrom=chrom[found.row],
        pos=first + 1,
        end=ends[found.row, found.column],
        ref=block.seq[found.row, first - block.start[found.row]],
        alt=found.alt,
        target=found.track,
        delta=found.delta,
        reference=reference[found.row, found.track],
        row=block.rows[found.row],
    )
