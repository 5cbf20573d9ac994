"""What an allele of a VCF asks of a model: a substitution, another sequence of the same length, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from fastism_cli.genome.alphabet import Alphabet, Codes
from fastism_cli.genome.fasta import Genome
from fastism_cli.genome.placement import window_offset
from fastism_cli.genome.vcf_reader import Variant


class AlleleStatus(StrEnum):
    """What became of an allele."""

    OK = "ok"
    REF_MISMATCH = "ref_mismatch"
    SYMBOLIC = "symbolic"
    NOT_BASES = "not_bases"
    MISSING_CONTIG = "missing_contig"
    FAILED = "failed"


@dataclass(frozen=True)
class VariantWindows:
    """Which bases the model sees for a variant.

    Attributes
    ----------
    length : int
        Of the model's input.
    share : int
        Variants in the same stretch of so many bases see the same window, centred on the stretch, so that it is
        predicted once; 1 centres every variant. Stretches begin at multiples of ``share``: no score depends on which
        other variants there are.
    """

    length: int
    share: int = 1

    def start(self, position: int) -> int:
        """First base of the window of a variant; negative if it begins before the contig.

        The variant's base is at column ``length // 2`` if every variant has its own window, as the base of a BED
        record of one base is.
        """
        return position // self.share * self.share - window_offset(self.length, self.share)

    @property
    def columns(self) -> range:
        """Where in its window a variant can be."""
        first = window_offset(self.length, self.share)
        return range(first, first + self.share)


def alternate_codes(
    genome: Genome, chrom: str, window: range, variant: Variant, alt: Codes, alphabet: Alphabet
) -> Codes:
    """The window with ``ref`` replaced by ``alt``, uint8 (L,): what is before the variant stays where it is.

    The bases after it move, so that the window keeps its length::

        reference    A C [G T] A C G T        ref GT, alt G: what follows moves up, and a base of the genome comes in
        alternate    A C [G] A C G T +

        reference    A C [G] T A C G T        ref G, alt GAA: the last bases leave
        alternate    A C [G A A] T A C
    """
    before = genome.codes(chrom, window.start, variant.position, alphabet)
    rest = max(len(window) - len(before) - len(alt), 0)
    after = variant.position + len(variant.ref)
    return np.concatenate([before, alt, genome.codes(chrom, after, after + rest, alphabet)])[: len(window)]


def is_symbolic(alt: str) -> bool:
    """``<DEL>``, ``*``, ``.``, and breakends such as ``N[chr2:1[``."""
    return not alt.isalpha()


def ref_matches(genome: Genome, chrom: str, variant: Variant, alphabet: Alphabet) -> bool:
    """Whether the FASTA holds REF there, letter case aside; letters that are no bases match an N."""
    stop = variant.position + len(variant.ref)
    if variant.position < 0 or stop > genome.sizes[chrom]:
        return False
    return bool((genome.codes(chrom, variant.position, stop, alphabet) == alphabet.encode(variant.ref)).all())
