"""A block of records of a VCF: whether it belongs to the FASTA, the windows of its alleles, how each is scored.

A single base that replaces another is scored by the engine. Any other allele becomes an alternate sequence of the same
length. Some alleles cannot be scored; their status says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism_cli.errors import GenomeError, Listing, RegionError, SequenceError, log_of
from fastism_cli.genome.alphabet import Alphabet, Codes
from fastism_cli.genome.fasta import Genome, matched_contigs, renaming_line, why_no_match
from fastism_cli.genome.placement import window_offset
from fastism_cli.genome.vcf_files import Variant, VariantSource
from fastism_cli.options.run_options import Scale
from fastism_cli.results.layout import HeadLayout
from fastism_cli.run.inputs_and_targets import OtherInputs

if TYPE_CHECKING:
    from fastism_cli.engine.fastism import FastISM

# --- whether a VCF belongs to the FASTA ------------------------------------------------------------------------------

# A quarter of all single bases fits any genome. So the records are counted before anything is scored.

logger = log_of(__name__)

# A genome's own errors are far rarer than this share of its records.
MAX_SHARE, FEW = 0.05, 3
# One contig of another sequence among many, such as chrM of hg19. Small contigs are uneven, so it takes more.
MAX_SHARE_OF_CONTIG, FEW_OF_CONTIG = 0.2, 5
EXPLAINED = 0.8  # of the records that disagree: then the mistake is named

# What each kind of disagreement looks like.
MISTAKES = {
    "outside": "positions beyond the ends of contigs, as of another genome or build",
    "from 0": "POS seems to count from 0, as in a BED: REF fits one base further on",
    "one more": "POS seems to be one too large: REF fits one base before",
    "swapped": "REF and ALT seem to be swapped, as PLINK writes them: ALT is in the FASTA",
    "strand": "REF seems to be on the - strand: its complement is in the FASTA",
}


# --- contigs ---------------------------------------------------------------------------------------------------------


def contigs_in_fasta(source: VariantSource, genome: Genome, missing_contig: str) -> dict[str, str]:
    """The name in the FASTA of each contig of the VCF.

    A contig is known by its name, or by its name with or without ``chr`` if its length, where ``##contig`` gives it,
    is that of the FASTA: MT of 16,569 bases is not chrM of 16,571.

    Raises
    ------
    RegionError
        If ``missing_contig`` is "error": lists the contigs that the FASTA lacks.
    """
    found = source.summary.contigs
    by_name = matched_contigs(genome, found, source.contig_lengths)
    others = {name: _other_length(source, genome, name, own) for name, own in by_name.items() if name != own}
    others |= {name: why_no_match(genome, name) for name in found if name not in by_name}
    matched = {name: own for name, own in by_name.items() if not others.get(name)}
    if line := renaming_line(genome, matched, source.name):
        logger.info(line)
    missing = {name: number + 1 for name, number in found.items() if name not in matched}
    if missing and missing_contig == "error":
        problems = Listing(
            f"record {number:,}: contig {name!r}{others.get(name, '')}" for name, number in missing.items()
        )
        hint = "Use --missing-contig skip."
        if problems.count == 1:
            raise RegionError(f"{source.name} {problems.first} is not in {genome.path}. {hint}")
        raise RegionError(problems.under(f"{problems.count} contigs of {source.name} are not in {genome.path}. {hint}"))
    for name, why in others.items():
        if why:
            logger.warning(f"{source.name}: contig {name!r} is kept unscored{why}")
    return matched


def _other_length(source: VariantSource, genome: Genome, name: str, own: str) -> str:
    """Why a contig is not the one of the FASTA with a similar name; "" if it is."""
    length, size = source.contig_lengths.get(name), genome.sizes[own]
    if length in (None, size):
        return ""
    return f" ({length:,} bases in its ##contig line, so it is not {own} of {size:,} bases)"


def length_differences(source: VariantSource, genome: Genome) -> str:
    """``##contig`` lines that give another length than the FASTA has; "" if there are none."""
    different = [
        f"{name} has {length:,} bases in ##contig and {genome.sizes[name]:,} in {genome.path}"
        for name, length in source.contig_lengths.items()
        if length != genome.sizes.get(name, length)
    ]
    more = f", and {len(different) - 1:,} contigs more differ" if len(different) > 1 else ""
    return f"{different[0]}{more}" if different else ""


# --- REF -------------------------------------------------------------------------------------------------------------


@dataclass
class RefCounts:
    """How many records have their REF in the FASTA.

    Attributes
    ----------
    checked, wrong : Counter of str
        For each contig of the VCF, the records that can be checked, and those of them that disagree.
    explained : Counter of str
        How many records that disagree look like each of :data:`MISTAKES`.
    first : str
        The first record that disagrees, for a message.
    """

    checked: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    explained: Counter[str] = field(default_factory=Counter)
    first: str = ""

    def add(self, genome: Genome, chrom: str, variant: Variant, alphabet: Alphabet) -> None:
        """Count a record on the contig ``chrom`` of the FASTA, unless it holds an N there or in REF."""
        ref = alphabet.encode(variant.ref)
        there = genome.codes(chrom, variant.position, variant.position + len(ref), alphabet)
        is_inside = 0 <= variant.position <= genome.sizes[chrom] - len(ref)
        if (ref == alphabet.unknown).any() or (is_inside and (there == alphabet.unknown).any()):
            return
        self.checked[variant.chrom] += 1
        if not is_inside or (ref != there).any():
            self.wrong[variant.chrom] += 1
            self.first = self.first or mismatch_text(genome, chrom, variant, alphabet)
            self.explained.update(_looks_like(genome, chrom, variant, alphabet))

    def worst(self, *, is_other_length: bool) -> str:
        """Which records disagree far more often than a genome's own errors would; "" if none do."""
        checked, wrong = self.checked.total(), self.wrong.total()
        few = 1 if is_other_length else FEW
        if wrong and (wrong == checked or (wrong >= few and wrong > MAX_SHARE * checked)):
            return _share(wrong, checked, "records")
        for name, n in self.wrong.items():
            if n >= FEW_OF_CONTIG and n > MAX_SHARE_OF_CONTIG * self.checked[name]:
                return _share(n, self.checked[name], f"records on {name}")
        return ""

    def mistake(self) -> str:
        """What it looks like."""
        name, n = next(iter(self.explained.most_common(1)), ("", 0))
        if n >= max(FEW, EXPLAINED * self.wrong.total()):
            return MISTAKES[name]
        return "it looks like another genome or build, of which about a quarter of the single bases fits by chance"


def check_genome(
    source: VariantSource, genome: Genome, contigs: Mapping[str, str], alphabet: Alphabet, ref_mismatch: str
) -> None:
    """Compare the lengths of contigs and all REF with the FASTA.

    Parameters
    ----------
    contigs : mapping of str to str
        The name in the FASTA of each contig of the VCF.
    ref_mismatch : "error" or "skip"
        What a VCF of another genome is: refused, or a warning.

    Raises
    ------
    GenomeError
        If far more records disagree than a genome's own errors would explain.
    """
    lengths = length_differences(source, genome)
    counts = RefCounts()
    for variant in source.variants():
        if variant.chrom in contigs:
            counts.add(genome, contigs[variant.chrom], variant, alphabet)
    worst = counts.worst(is_other_length=bool(lengths))
    if not worst:
        if lengths:
            logger.warning(f"{source.name} may be of another genome or build: {lengths}")
        return
    told = "; ".join(filter(None, [counts.mistake(), lengths]))
    message = f"{source.name}: REF of {worst} is not in {genome.path}: {told}. The first: {counts.first}."
    if ref_mismatch == "error":
        raise GenomeError(
            f"{message} Give the FASTA on which the variants were called, or go on with --ref-mismatch skip."
        )
    logger.warning(message)


def _share(wrong: int, checked: int, what: str) -> str:
    return f"{wrong:,} of {checked:,} {what} ({100 * wrong / checked:.0f} %)"


def _looks_like(genome: Genome, chrom: str, variant: Variant, alphabet: Alphabet) -> Iterator[str]:
    """Mistakes that would explain why REF is not in the FASTA."""
    start, ref = variant.position, alphabet.encode(variant.ref)
    stop = start + len(ref)
    if start < 0 or stop > genome.sizes[chrom]:
        yield "outside"
    for mistake, shift in (("from 0", 1), ("one more", -1)):
        if (genome.codes(chrom, start + shift, stop + shift, alphabet) == ref).all():
            yield mistake
    for alt in map(alphabet.encode, variant.alts):
        if (genome.codes(chrom, start, start + len(alt), alphabet) == alt).all():
            yield "swapped"
            break
    try:
        other = alphabet.reverse_complement(ref)
    except SequenceError:  # an alphabet without complements
        return
    if (genome.codes(chrom, start, stop, alphabet) == other).all():
        yield "strand"


def ref_matches(genome: Genome, chrom: str, variant: Variant, alphabet: Alphabet) -> bool:
    """Whether the FASTA has REF at its place. Case does not matter; letters that are not bases match an N."""
    stop = variant.position + len(variant.ref)
    if variant.position < 0 or stop > genome.sizes[chrom]:
        return False
    return bool((genome.codes(chrom, variant.position, stop, alphabet) == alphabet.encode(variant.ref)).all())


def mismatch_text(genome: Genome, chrom: str, variant: Variant, alphabet: Alphabet) -> str:
    """The message about a REF that differs from the FASTA."""
    if not 0 <= variant.position <= genome.sizes[chrom] - len(variant.ref):
        return f"{variant.place}: {chrom} has {genome.sizes[chrom]:,} bases"
    stop = variant.position + min(len(variant.ref), 20)
    there = alphabet.decode(genome.codes(chrom, variant.position, stop, alphabet))
    return f"{variant.place}: REF {variant.ref[:20]}, FASTA {there}"


# --- blocks of records -----------------------------------------------------------------------------------------------

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
