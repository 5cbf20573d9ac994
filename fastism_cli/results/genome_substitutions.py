"""Substitutions on the genome: the lines of tables. Letters are those of the + strand."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from fastism_cli.results.score_blocks import GenomeBlock
from fastism_cli.scores.substitutions import substituted
from fastism_cli.scores.tracks import Array

LETTERS = ("A", "C", "G", "T", "N")


@dataclass(frozen=True)
class GenomeSubstitutions:
    """Columns of equal length.

    Attributes
    ----------
    chrom : int64 (m,)
        Number of the contig, in the order of the FASTA.
    pos : int64 (m,)
        From 1, as in VCF.
    ref, alt : (m,)
        Codes of :data:`LETTERS`.
    target : int64 (m,)
        Number of the track.
    delta, reference : float32 (m,)
        Prediction with the substitution minus prediction without it, and the latter.
    row : int64 (m,)
        Row of the file.
    """

    chrom: Array
    pos: Array
    ref: Array
    alt: Array
    target: Array
    delta: Array
    reference: Array
    row: Array

    def __len__(self) -> int:
        return len(self.pos)

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
    """The substitutions of a block that have a score: by row, track, base and letter.

    Parameters
    ----------
    chrom : int64 (n,)
        Number of the contig of each row.
    sizes : int64 (contigs,)
        What lies outside of its contig is left out.
    reference : float32 (n, K)
    """
    places = block.start[:, None] + np.arange(block.seq.shape[1])
    found = substituted(block.seq, block.delta, (places >= 0) & (places < sizes[chrom][:, None]))
    return GenomeSubstitutions(
        chrom=chrom[found.row],
        pos=places[found.row, found.column] + 1,
        ref=block.seq[found.row, found.column],
        alt=found.alt,
        target=found.track,
        delta=found.delta,
        reference=reference[found.row, found.track],
        row=block.rows[found.row],
    )
