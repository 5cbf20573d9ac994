"""Score the variants of a VCF: single bases by the engine, insertions and deletions by forward passes."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism_cli.alleles import Outcome, Windows, alternate_codes, is_symbolic, ref_matches
from fastism_cli.alphabet import Alphabet, Codes
from fastism_cli.checks import ModelChoices, check_choices
from fastism_cli.errors import RegionError, UsageError
from fastism_cli.export.optional import require
from fastism_cli.export.staging import staged
from fastism_cli.inputs import OtherInputs, fit_inputs
from fastism_cli.io import vcf
from fastism_cli.io.fasta import Genome, open_fasta
from fastism_cli.io.hdf5 import HeadLayout
from fastism_cli.io.tracks import head_tracks
from fastism_cli.io.variants import Variant, VariantSource, matched_contigs
from fastism_cli.job import load_scorer
from fastism_cli.outputs import check_new_file
from fastism_cli.problems import Problems
from fastism_cli.run_options import RunOptions
from fastism_cli.targets import layouts
from fastism_cli.variant_files import ScoredTable, ScoredVcf

if TYPE_CHECKING:
    from fastism_cli.ism import FastISM

logger = logging.getLogger(__name__)

MOST_RECORDS = 512  # of a block
BLOCK_BYTES = 32e6  # of deltas of a block
# Input bases of one call: its reference pass keeps the activations of all of them.
CALL_BASES = {"cpu": 64_000, "gpu": 2_000_000}


@dataclass(frozen=True)
class VariantReport:
    """What was done.

    Attributes
    ----------
    alleles : dict of Outcome to int
        Alternate alleles by what became of them.
    mismatch : str
        The first record whose REF is not what the FASTA holds; "" if there is none.
    windows : int
        Reference sequences that were predicted.
    """

    files: tuple[str, ...]
    records: int
    alleles: Mapping[Outcome, int]
    mismatch: str
    windows: int

    @property
    def lines(self) -> list[str]:
        """For the log: what was scored, what was not, and why."""
        words = {
            Outcome.SYMBOLIC: "symbolic",
            Outcome.NOT_BASES: "with letters that are no bases",
            Outcome.MISSING_CONTIG: "on contigs that the FASTA lacks",
            Outcome.FAILED: "for which the model gave NaN or infinity",
        }
        scored = self.alleles.get(Outcome.OK, 0)
        files = ", ".join(self.files)
        lines = [f"{self.records:,} records, {scored:,} alleles scored in {self.windows:,} windows -> {files}"]
        if n := self.alleles.get(Outcome.REF_MISMATCH, 0):
            lines.append(f"not scored: {n:,} alleles whose REF is not in the FASTA, first {self.mismatch}")
        rest = [f"{self.alleles[outcome]:,} {word}" for outcome, word in words.items() if self.alleles.get(outcome)]
        return lines + ([f"not scored: {', '.join(rest)}"] if rest else [])


@dataclass(frozen=True)
class _Job:
    source: VariantSource
    genome: Genome
    contigs: Mapping[str, str]
    scorer: FastISM
    outputs: tuple[HeadLayout, ...]
    others: OtherInputs
    windows: Windows

    @property
    def letters(self) -> Alphabet:
        return self.scorer.alphabet

    @property
    def labels(self) -> list[str]:
        return [track.label for output in self.outputs for track in head_tracks(output)]


def score_variants(
    model: Any,
    vcf_path: str,
    fasta: str,
    output: str | None = None,
    *,
    share: int = 1,
    **options: Any,
) -> VariantReport:
    """Write a VCF with the model's scores in INFO, and a table of them.

    Parameters
    ----------
    model : path or keras.Model
    vcf_path : str
        Plain, bgzipped or BCF; "-" is stdin.
    output : str, optional
        ``.vcf.gz`` or ``.vcf``; the table has the same name with ``.tsv``. Default: ``<stem>.ism.vcf.gz`` in the
        current folder.
    share : int
        See :class:`fastism_cli.alleles.Windows`.
    options
        Fields of :class:`RunOptions`; ``missing_contig`` "skip" keeps records on contigs that the FASTA lacks.

    Raises
    ------
    UsageError
        Whatever is wrong with the inputs, before anything is written.
    VerifyError
        If the engine disagrees with plain Keras on the first window.
    """
    pysam = require("pysam", wanted_by="fastism variants", extra="export")
    chosen = RunOptions(**options)
    output = output or default_output(vcf_path)
    table = output_table(output)
    with ExitStack() as stack:
        problems = Problems()
        choices = check_choices(problems, model, chosen)
        source = problems.check(stack.enter_context, VariantSource(pysam, vcf_path))
        genome = problems.check(lambda: stack.enter_context(open_fasta(fasta)))
        contigs = problems.check(_contigs, source, genome, chosen) if source and genome else None
        for name in (output, table):
            problems.check(check_new_file, name, [model, vcf_path, fasta], overwrite=chosen.overwrite)
        problems.raise_if_any()
        assert contigs is not None  # or its problem was raised
        job = _job(source, genome, contigs, choices, load_scorer(model, choices, chosen), share)
        if chosen.check:
            _check_engine(job)
        return _write(pysam, job, output, table)


def default_output(vcf_path: str) -> str:
    """``folder/calls.vcf.gz -> calls.ism.vcf.gz``, in the current folder."""
    name = "stdin" if vcf_path == "-" else os.path.basename(vcf_path)
    for ending in (".gz", ".bgz", ".vcf", ".bcf"):
        name = name.removesuffix(ending)
    return f"{name}.ism.vcf.gz"


def output_table(output: str) -> str:
    """``calls.ism.vcf.gz -> calls.ism.tsv``"""
    if not output.endswith((".vcf", ".vcf.gz", ".vcf.bgz")):
        raise UsageError(f"--output must end in .vcf.gz or .vcf. Received: {output}")
    return output[: output.rindex(".vcf")] + ".tsv"


def _contigs(source: VariantSource, genome: Genome, options: RunOptions) -> dict[str, str]:
    """The FASTA's names of the VCF's contigs."""
    found = source.summary.contigs
    matched = matched_contigs(list(found), genome.sizes)
    renamed = [name for name, other in matched.items() if name != other]
    if renamed:
        logger.info(f"{source.name} names contigs otherwise than {genome.path}: {renamed[0]} is {matched[renamed[0]]}")
    missing = {name: number + 1 for name, number in found.items() if name not in matched}
    if missing and options.missing_contig == "error":
        listed = ", ".join(f"{name!r} (record {number:,})" for name, number in list(missing.items())[:20])
        raise RegionError(
            f"{len(missing)} contigs of {source.name} are not in {genome.path}: {listed}. Use --missing-contig skip."
        )
    return matched


def _job(
    source: VariantSource, genome: Genome, contigs: dict[str, str], choices: ModelChoices, scorer: FastISM, share: int
) -> _Job:
    from fastism_cli import backend
    from fastism_cli.batches import other_shapes

    if share > scorer.input_length:
        raise UsageError(f"--share must be at most the length of the model's input, {scorer.input_length}.")
    windows = Windows(scorer.input_length, share)
    if scorer.batch_size == "auto":
        most = max(CALL_BASES[backend.device_kind()] // scorer.input_length, 1) * share * (scorer.alphabet.size - 1)
        scorer.batch_size = min(scorer._batch(), most)
    others = fit_inputs(choices.inputs, other_shapes(scorer), source.summary.count)
    outputs = layouts(scorer.heads, choices.target_names)
    for head in scorer.heads:
        if head.reduction is not None and head.reduction.compares:
            raise UsageError(f"--reduce {head.reduce} compares with a reference at equal positions. Choose another.")
    return _Job(source, genome, contigs, scorer, outputs, others, windows)


def _check_engine(job: _Job) -> None:
    """Compare the engine with plain Keras on the window of the first single base that is substituted."""
    from fastism_cli.verify import verify

    made = (_Block(job, variants) for variants in _blocks(job))
    block = next((block for block in made if block.substituted), None)
    if block is None:
        return
    window = block.substituted[0].window
    report = verify(
        job.scorer,
        job.letters.one_hot(np.stack([block.sequences[window]])),
        job.others.rows([block.records[window]]),
        columns=job.windows.columns,
    )
    report.require()
    logger.info(report.line)


# --- one block --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Allele:
    """An allele to score: ``record`` and ``number`` place it in the block; ``codes`` if it is no single base."""

    record: int
    number: int
    window: int
    column: int = -1
    letter: int = -1
    codes: Codes = field(default_factory=lambda: np.empty(0, np.uint8))


class _Block:
    """Some records, the windows that they need, and what is asked of each."""

    def __init__(self, job: _Job, variants: Sequence[Variant]) -> None:
        self.variants = variants
        self.sequences: list[Codes] = []
        self.records: list[int] = []  # a record of each window, whose other inputs it gets
        self.substituted: list[_Allele] = []
        self.rewritten: list[_Allele] = []
        self.outcomes = [[Outcome.OK] * len(variant.alts) for variant in variants]
        self.window_of = [-1] * len(variants)
        self.mismatch = ""
        self._known: dict[tuple[Any, ...], int] = {}
        for record, variant in enumerate(variants):
            self._add(job, record, variant)

    def _add(self, job: _Job, record: int, variant: Variant) -> None:
        chrom = job.contigs.get(variant.chrom)
        if chrom is None:
            self.outcomes[record] = [Outcome.MISSING_CONTIG] * len(variant.alts)
            return
        for number, alt in enumerate(variant.alts):
            self.outcomes[record][number] = _outcome(job, chrom, variant, alt)
            if self.outcomes[record][number] == Outcome.OK:
                self._ask(job, chrom, record, number)
        if Outcome.REF_MISMATCH in self.outcomes[record] and not self.mismatch:
            stop = variant.position + min(len(variant.ref), 20)
            there = job.letters.decode(job.genome.codes(chrom, variant.position, stop, job.letters))
            self.mismatch = f"{variant.place}: REF {variant.ref[:20]}, FASTA {there}"

    def _ask(self, job: _Job, chrom: str, record: int, number: int) -> None:
        variant, letters = self.variants[record], job.letters
        start = job.windows.start(variant.position)
        window = self._window(job, chrom, start, variant)
        self.window_of[record] = window
        alt, column = letters.encode(variant.alts[number]), variant.position - start
        is_known = self.sequences[window][column] != letters.unknown
        if len(variant.ref) == len(alt) == 1 and is_known:
            self.substituted.append(_Allele(record, number, window, column, int(alt[0])))
        else:
            places = range(start, start + job.windows.length)
            codes = alternate_codes(job.genome, chrom, places, variant, alt, letters)
            self.rewritten.append(_Allele(record, number, window, codes=codes))

    def _window(self, job: _Job, chrom: str, start: int, variant: Variant) -> int:
        """Its number; a record of its own where other inputs differ by record."""
        key = (chrom, start, variant.number if job.others.by_row else None)
        if key not in self._known:
            self._known[key] = len(self.sequences)
            self.sequences.append(job.genome.codes(chrom, start, start + job.windows.length, job.letters))
            self.records.append(variant.number)
        return self._known[key]


def _outcome(job: _Job, chrom: str, variant: Variant, alt: str) -> Outcome:
    """Whether an allele can be scored."""
    if is_symbolic(alt):
        return Outcome.SYMBOLIC
    if (job.letters.encode(alt) == job.letters.unknown).any():
        return Outcome.NOT_BASES
    return Outcome.OK if ref_matches(job.genome, chrom, variant, job.letters) else Outcome.REF_MISMATCH


def _blocks(job: _Job) -> Iterator[tuple[Variant, ...]]:
    values = len(job.labels) * job.windows.share * job.letters.size
    size = int(max(min(MOST_RECORDS, BLOCK_BYTES // (4 * values)), 1))
    variants = job.source.variants()
    while block := tuple(islice(variants, size)):
        yield block


# --- scoring ----------------------------------------------------------------------------------------------------------


def _scored(job: _Job, block: _Block) -> tuple[np.ndarray, list[np.ndarray]]:
    """References (windows, K), and deltas (alleles, K) of each record, NaN where there is no score."""
    n_tracks = len(job.labels)
    reference = np.full((len(block.sequences), n_tracks), np.nan, np.float32)
    deltas = [np.full((len(variant.alts), n_tracks), np.nan, np.float32) for variant in block.variants]
    by_engine = sorted({allele.window for allele in block.substituted})
    if by_engine:
        reference[by_engine], scores = _by_engine(job, block, by_engine)
        at = {window: i for i, window in enumerate(by_engine)}
        for a in block.substituted:
            column = a.column - job.windows.columns.start
            deltas[a.record][a.number] = scores[at[a.window], :, column, a.letter]
    rest = sorted({allele.window for allele in block.rewritten} - set(by_engine))
    if rest:
        reference[rest] = _predicted(job, [block.sequences[i] for i in rest], [block.records[i] for i in rest])
    if block.rewritten:
        records = [block.records[a.window] for a in block.rewritten]
        values = _predicted(job, [a.codes for a in block.rewritten], records)
        for a, value in zip(block.rewritten, values, strict=True):
            deltas[a.record][a.number] = value - reference[a.window]
    return reference, deltas


def _inputs(job: _Job, sequences: Sequence[Codes], records: Sequence[int]) -> dict[str, np.ndarray]:
    one_hot = job.letters.one_hot(np.stack(sequences))
    return {**job.others.rows(records), job.scorer.input_names[job.scorer.sequence_index]: one_hot}


def _by_engine(job: _Job, block: _Block, windows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """References (n, K) and deltas (n, K, columns, letters) of the columns where a variant can be."""
    from fastism_cli.batches import fill_up, sequences_per_call

    n, columns = len(windows), job.windows.columns
    inputs = _inputs(job, [block.sequences[i] for i in windows], [block.records[i] for i in windows])
    result = job.scorer(fill_up(inputs, sequences_per_call(job.scorer, columns)), positions=columns)
    deltas = [result.delta[o.name][:n] for o in job.outputs]
    flat = [delta.reshape(n, -1, *delta.shape[-2:]) for delta in deltas]
    return _joined(job, result.reference, n), np.concatenate(flat, axis=1)


def _predicted(job: _Job, sequences: Sequence[Codes], records: Sequence[int]) -> np.ndarray:
    """Forward passes: predictions (n, K)."""
    from fastism_cli import backend

    step = max(CALL_BASES[backend.device_kind()] // job.windows.length, 1)
    parts = []
    for first in range(0, len(sequences), step):
        some = slice(first, first + step)
        result = job.scorer(_inputs(job, sequences[some], records[some]), positions=())
        parts.append(_joined(job, result.reference, len(sequences[some])))
    return np.concatenate(parts)


def _joined(job: _Job, values: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """The chosen targets of all heads, (n, K)."""
    return np.concatenate([values[o.name][:n].reshape(n, -1) for o in job.outputs], axis=1)


# --- writing ----------------------------------------------------------------------------------------------------------


def _write(pysam: Any, job: _Job, output: str, table: str) -> VariantReport:
    counts: Counter[Outcome] = Counter()
    mismatch, windows = "", 0
    with staged(output) as staging:
        path = staging.path(output)
        sizes = {name: job.genome.sizes[other] for name, other in job.contigs.items()}
        is_plain = output.endswith(".vcf")
        with (
            open(path, "wb") if is_plain else pysam.BGZFile(path, "wb") as file,
            open(staging.path(table), "w", encoding="utf-8") as lines,
        ):
            writers = (ScoredVcf(file, job.source.header, sizes, job.labels), ScoredTable(lines, job.labels))
            for variants in _blocks(job):
                block = _Block(job, variants)
                _score_block(job, block, writers, counts)
                mismatch, windows = mismatch or block.mismatch, windows + len(block.sequences)
        if not is_plain and job.source.summary.is_sorted:
            vcf.index(pysam, path, sizes)
        elif not is_plain:
            logger.info(f"{job.source.name} is not sorted, so {output} has no index")
        return VariantReport(tuple(staging.move()), job.source.summary.count, counts, mismatch, windows)


def _score_block(job: _Job, block: _Block, writers: tuple[ScoredVcf, ScoredTable], counts: Counter[Outcome]) -> None:
    reference, deltas = _scored(job, block)
    nothing = np.full(len(job.labels), np.nan, np.float32)
    for record, variant in enumerate(block.variants):
        outcomes, delta = block.outcomes[record], deltas[record]
        for number, outcome in enumerate(outcomes):
            if outcome == Outcome.OK and not np.isfinite(delta[number]).all():
                outcomes[number], delta[number] = Outcome.FAILED, np.nan
        counts.update(outcomes)
        window = block.window_of[record]
        for writer in writers:
            writer.add(variant, nothing if window < 0 else reference[window], delta, outcomes)
