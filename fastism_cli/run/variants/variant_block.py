"""A block of records of a VCF: the windows that their alleles need, and how each allele is scored.

A single base that replaces another is scored by the engine. Any other allele becomes an alternate sequence of the same
length. Some alleles cannot be scored; their status says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism_cli.genome.alphabet import Alphabet, Codes
from fastism_cli.genome.fasta import Genome
from fastism_cli.genome.placement import window_offset
from fastism_cli.genome.vcf_files import Variant, VariantSource
from fastism_cli.options.run_options import Scale
from fastism_cli.results.layout import HeadLayout
from fastism_cli.run.inputs_and_targets import OtherInputs
from fastism_cli.run.variants.ref_check import mismatch_text, ref_matches

if TYPE_CHECKING:
    from fastism_cli.engine.fastism import FastISM

MAX_RECORDS = 512  # of a block
BLOCK_BYTES = 32e6  # of deltas of a block


class AlleleStatus(StrEnum):
    """Whether an allele was scored, or why not."""

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
        Variants in the same stretch of so many bases share one window, centred on the stretch and predicted once; 1
        centres a window on every variant. Stretches begin at multiples of ``share``, so that no score depends on
        which other variants there are.
    before, after : int
        How many bases around the input are read, which moved inputs show.
    """

    length: int
    share: int = 1
    before: int = 0
    after: int = 0

    def start(self, position: int) -> int:
        """First base of the input of a variant; negative if it begins before the contig.

        If every variant has its own window, the variant's base is at column ``length // 2``, like the base of a BED
        record of one base.
        """
        return position // self.share * self.share - window_offset(self.length, self.share)

    @property
    def columns(self) -> range:
        """Where in its input a variant can be."""
        first = window_offset(self.length, self.share)
        return range(first, first + self.share)

    def read(self, start: int) -> range:
        """The bases that are read for the input that begins at ``start``."""
        return range(start - self.before, start + self.length + self.after)

    def of_input(self, codes: Codes) -> Codes:
        """The letters of the input itself, (..., L), of those that were read."""
        return codes[..., self.before : self.before + self.length]


@dataclass(frozen=True)
class Asked:
    """What is written of an allele beside its delta.

    Attributes
    ----------
    scales : mapping of head name to Scale
        Of ``--scale``; None is all other heads.
    fold_change : bool
        Whether log2 of the prediction on ALT over that on REF.
    around : int
        The largest |delta| of the substitutions of so many bases around it, in either sequence; 0: not.
    """

    scales: Mapping[str | None, Scale] = field(default_factory=dict)
    fold_change: bool = False
    around: int = 0


@dataclass(frozen=True)
class VariantJob:
    """A run over a VCF that is ready: open inputs, engine, other inputs and windows.

    ``contigs`` has the name in the FASTA of each contig of the VCF.
    """

    source: VariantSource
    genome: Genome
    contigs: Mapping[str, str]
    scorer: FastISM
    outputs: tuple[HeadLayout, ...]
    others: OtherInputs
    windows: VariantWindows
    asked: Asked = field(default_factory=Asked)

    @property
    def alphabet(self) -> Alphabet:
        return self.scorer.alphabet

    @property
    def labels(self) -> list[str]:
        return [track.label for output in self.outputs for track in output.tracks]

    @property
    def scales(self) -> list[str]:
        """For each label what its scores are differences of, such as ``logit``; empty for the prediction itself."""
        asked, found = self.asked.scales, list[str]()
        for head, output in zip(self.scorer.heads, self.outputs, strict=True):
            scale = asked.get(head.source_name, asked.get(None))
            found += [scale.text if scale else ""] * len(output.tracks)
        return found

    @property
    def mean(self) -> str:
        """What every score is the mean of, in words; empty if it is no mean."""
        averaged = self.scorer.averaged
        return self.scorer.averages.text(len(averaged.members)) if averaged else ""

    @property
    def around(self) -> range:
        """Where in its window a base can be whose substitutions are scored too; empty if none are."""
        if not self.asked.around:
            return range(0)
        before, columns = self.asked.around // 2, self.windows.columns
        last = columns.stop - 1 - before + self.asked.around
        return range(max(columns.start - before, 0), min(last, self.windows.length))

    def around_column(self, column: int) -> range:
        """The bases around one column, as far as the window reaches."""
        first = column - self.asked.around // 2
        return range(max(first, 0), min(first + self.asked.around, self.windows.length))


@dataclass(frozen=True)
class Allele:
    """An allele to score.

    Attributes
    ----------
    record, number : int
        Which record of the block, and which of its alternate alleles.
    window : int
        Which window of the block.
    column, letter : int
        Of a single base: where in the input it is, and the letter that replaces it.
    codes : uint8 (before + L + after,)
        Of any other allele: the alternate sequence.
    """

    record: int
    number: int
    window: int
    column: int = -1
    letter: int = -1
    codes: Codes = field(default_factory=lambda: np.empty(0, np.uint8))


class VariantBlock:
    """Some records, the windows that they need, and the alleles to score.

    Attributes
    ----------
    sequences : list of uint8 (before + L + after,)
        The windows, with the bases around them that moved inputs show.
    records : list of int
        For each window, a record whose other inputs it gets, counted in the VCF.
    substituted, rewritten : list of Allele
        Alleles that the engine scores, and those that forward passes score.
    statuses : list of list of AlleleStatus
        For each record, that of every alternate allele.
    window_of : list of int
        The window of each record; -1 if none of its alleles is scored.
    mismatch : str
        The first record whose REF differs from the FASTA, for a message; "" if there is none.
    """

    def __init__(self, job: VariantJob, variants: Sequence[Variant]) -> None:
        self.variants = variants
        self.sequences: list[Codes] = []
        self.records: list[int] = []
        self.substituted: list[Allele] = []
        self.rewritten: list[Allele] = []
        self.statuses = [[AlleleStatus.OK] * len(variant.alts) for variant in variants]
        self.window_of = [-1] * len(variants)
        self.mismatch = ""
        self._known: dict[tuple[Any, ...], int] = {}
        for record, variant in enumerate(variants):
            self._add(job, record, variant)

    def _add(self, job: VariantJob, record: int, variant: Variant) -> None:
        chrom = job.contigs.get(variant.chrom)
        if chrom is None:
            self.statuses[record] = [AlleleStatus.MISSING_CONTIG] * len(variant.alts)
            return
        for number, alt in enumerate(variant.alts):
            self.statuses[record][number] = _status(job, chrom, variant, alt)
            if self.statuses[record][number] == AlleleStatus.OK:
                self._ask(job, chrom, record, number)
        if AlleleStatus.REF_MISMATCH in self.statuses[record] and not self.mismatch:
            self.mismatch = mismatch_text(job.genome, chrom, variant, job.alphabet)

    def _ask(self, job: VariantJob, chrom: str, record: int, number: int) -> None:
        variant, alphabet = self.variants[record], job.alphabet
        start = job.windows.start(variant.position)
        window = self._window(job, chrom, start, variant)
        self.window_of[record] = window
        alt, column = alphabet.encode(variant.alts[number]), variant.position - start
        is_known = job.windows.of_input(self.sequences[window])[column] != alphabet.unknown
        if len(variant.ref) == len(alt) == 1 and is_known:
            self.substituted.append(Allele(record, number, window, column, int(alt[0])))
        else:
            codes = alternate_codes(job.genome, chrom, job.windows.read(start), variant, alt, alphabet)
            self.rewritten.append(Allele(record, number, window, codes=codes))

    def _window(self, job: VariantJob, chrom: str, start: int, variant: Variant) -> int:
        """The number of the window. Where other inputs differ by record, every record has a window of its own."""
        key = (chrom, start, variant.number if job.others.by_row else None)
        if key not in self._known:
            self._known[key] = len(self.sequences)
            read = job.windows.read(start)
            self.sequences.append(job.genome.codes(chrom, read.start, read.stop, job.alphabet))
            self.records.append(variant.number)
        return self._known[key]


def alternate_codes(
    genome: Genome, chrom: str, window: range, variant: Variant, alt: Codes, alphabet: Alphabet
) -> Codes:
    """The window with ``ref`` replaced by ``alt``, uint8 of its length.

    The bases before the variant stay where they are. Those after it move, so that the window keeps its length::

        reference    A C [G T] A C G T        ref GT, alt G: the rest moves up, and one more base of the genome comes in
        alternate    A C [G] A C G T +

        reference    A C [G] T A C G T        ref G, alt GAA: the last bases leave
        alternate    A C [G A A] T A C
    """
    before = genome.codes(chrom, window.start, variant.position, alphabet)
    rest = max(len(window) - len(before) - len(alt), 0)
    after = variant.position + len(variant.ref)
    return np.concatenate([before, alt, genome.codes(chrom, after, after + rest, alphabet)])[: len(window)]


def is_symbolic(alt: str) -> bool:
    """Whether ALT is no sequence: ``<DEL>``, ``*``, ``.``, or a breakend such as ``N[chr2:1[``."""
    return not alt.isalpha()


def _status(job: VariantJob, chrom: str, variant: Variant, alt: str) -> AlleleStatus:
    """OK if an allele can be scored, else why not."""
    if is_symbolic(alt):
        return AlleleStatus.SYMBOLIC
    if (job.alphabet.encode(alt) == job.alphabet.unknown).any():
        return AlleleStatus.NOT_BASES
    return AlleleStatus.OK if ref_matches(job.genome, chrom, variant, job.alphabet) else AlleleStatus.REF_MISMATCH


def blocks_of(job: VariantJob) -> Iterator[tuple[Variant, ...]]:
    """Cut the records into blocks of bounded memory."""
    values = len(job.labels) * job.windows.share * job.alphabet.size
    size = int(max(min(MAX_RECORDS, BLOCK_BYTES // (4 * values)), 1))
    variants = job.source.variants()
    while block := tuple(islice(variants, size)):
        yield block
