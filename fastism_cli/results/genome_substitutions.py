"""Substitutions on the genome, or blocks: the lines of tables. Letters are those of the + strand."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from fastism_cli.results.score_blocks import GenomeBlock, ReplacedGenomeBlock
from fastism_cli.scores.substitutions import replaced, substituted
from fastism_cli.scores.tracks import Array

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
