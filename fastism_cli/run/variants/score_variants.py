"""Score the variants of a VCF: single bases by the engine, insertions and deletions by forward passes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism_cli.errors import RegionError, UsageError
from fastism_cli.genome import vcf_files
from fastism_cli.genome.fasta import Genome, matched_contigs, open_fasta, renaming_line
from fastism_cli.genome.vcf_files import VariantSource
from fastism_cli.model.loading.source import ModelSource
from fastism_cli.optional import require
from fastism_cli.options.problems import Listing, Problems
from fastism_cli.options.run_options import VCF_ENDINGS, RunOptions, stem_of
from fastism_cli.results.outputs import check_new_file, staged
from fastism_cli.run.checks import ModelChoices, check_choices
from fastism_cli.run.inputs_and_targets import fit_inputs, stored_heads
from fastism_cli.run.inspect_and_verify import check_engine
from fastism_cli.run.job import load_scorer
from fastism_cli.run.variants.variant_block import AlleleStatus, VariantBlock, VariantJob, VariantWindows, blocks_of
from fastism_cli.run.variants.variant_files import ScoredTable, ScoredVcf

if TYPE_CHECKING:
    from fastism_cli.engine.fastism import FastISM

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VariantReport:
    """What was scored.

    Attributes
    ----------
    files : tuple of str
        The files that were written.
    records : int
        Records of the VCF.
    alleles : dict of AlleleStatus to int
        How many alternate alleles have each status.
    mismatch : str
        The first record whose REF differs from the FASTA; "" if there is none.
    windows : int
        Reference sequences that were predicted.
    """

    files: tuple[str, ...]
    records: int
    alleles: Mapping[AlleleStatus, int]
    mismatch: str
    windows: int

    @property
    def fault(self) -> str:
        """Why the command ends with an error after all; "" if it does not."""
        if n := self.alleles.get(AlleleStatus.FAILED, 0):
            return f"the model gave NaN or infinity for {n:,} alleles"
        if self.mismatch and not self.alleles.get(AlleleStatus.OK, 0):
            return f"no allele has its REF in the FASTA, as in a VCF of another genome. The first: {self.mismatch}"
        return ""

    @property
    def lines(self) -> list[str]:
        """The lines of the log: what was scored, what was not, and why."""
        words = {
            AlleleStatus.SYMBOLIC: "symbolic",
            AlleleStatus.NOT_BASES: "with letters that are not bases",
            AlleleStatus.MISSING_CONTIG: "on contigs that the FASTA lacks",
            AlleleStatus.FAILED: "for which the model gave NaN or infinity",
        }
        scored = self.alleles.get(AlleleStatus.OK, 0)
        files = ", ".join(self.files)
        lines = [f"{self.records:,} records, {scored:,} alleles scored in {self.windows:,} windows -> {files}"]
        if n := self.alleles.get(AlleleStatus.REF_MISMATCH, 0):
            lines.append(f"not scored: {n:,} alleles whose REF is not in the FASTA, first {self.mismatch}")
        rest = [f"{self.alleles[status]:,} {word}" for status, word in words.items() if self.alleles.get(status)]
        return lines + ([f"not scored: {', '.join(rest)}"] if rest else [])


def score_variants(
    model: Any,
    vcf_path: str,
    fasta: str,
    output: str | None = None,
    options: RunOptions | None = None,
    *,
    share: int = 1,
) -> VariantReport:
    """Score the variants of a VCF; write a VCF with the scores in INFO, and a table of them.

    Parameters
    ----------
    model : path or keras.Model
    vcf_path : str
        Plain, bgzipped or BCF; "-" is stdin.
    fasta : str
        The genome, plain or compressed by bgzip.
    output : str, optional
        ``.vcf.gz`` or ``.vcf``; the table has the same name with ``.tsv``. Default: ``<stem>.ism.vcf.gz`` in the
        current folder.
    share : int
        Variants in the same stretch of so many bases share a window: see
        :class:`fastism_cli.run.variants.variant_block.VariantWindows`.
    options : RunOptions, optional
        The options of ``fastism variants``; others have no effect. ``missing_contig`` "skip" keeps records on contigs
        that the FASTA lacks.

    Raises
    ------
    UsageError
        Lists what is wrong with the inputs, before anything is written.
    VerifyError
        If the engine disagrees with plain Keras on the first window.
    """
    pysam = require("pysam", wanted_by="fastism variants", extra="export")
    chosen = options or RunOptions()
    source_model = ModelSource.of(model, chosen)
    output = default_output(vcf_path) if output is None else output
    table = output_table(output)
    with ExitStack() as stack:
        problems = Problems()
        choices = check_choices(problems, source_model, chosen)
        source = problems.check(stack.enter_context, VariantSource(pysam, vcf_path))
        genome = problems.check(lambda: stack.enter_context(open_fasta(fasta)))
        contigs = problems.check(_contigs, source, genome, chosen) if source and genome else None
        for name in (output, table):
            problems.check(check_new_file, name, [source_model.path, vcf_path, fasta], overwrite=chosen.overwrite)
        problems.raise_if_any()
        assert contigs is not None  # or its problem was raised
        job = _job(source, genome, contigs, choices, load_scorer(source_model, choices, chosen), share)
        if chosen.check:
            _check_first_window(job)
        return _write(pysam, job, output, table)


def default_output(vcf_path: str) -> str:
    """``folder/calls.vcf.gz -> calls.ism.vcf.gz``, in the current folder."""
    return f"{stem_of(vcf_path, VCF_ENDINGS)}.ism.vcf.gz"


def output_table(output: str) -> str:
    """``calls.ism.vcf.gz -> calls.ism.tsv``"""
    if not output.endswith((".vcf", ".vcf.gz", ".vcf.bgz")):
        raise UsageError(f"--output must end in .vcf.gz or .vcf. Received: {output}")
    return output[: output.rindex(".vcf")] + ".tsv"


def _contigs(source: VariantSource, genome: Genome, options: RunOptions) -> dict[str, str]:
    """The name in the FASTA of each contig of the VCF."""
    found = source.summary.contigs
    matched = matched_contigs(genome, found)
    if line := renaming_line(genome, matched, source.name):
        logger.info(line)
    missing = {name: number + 1 for name, number in found.items() if name not in matched}
    if missing and options.missing_contig == "error":
        problems = Listing(f"record {number:,}: contig {name!r}" for name, number in missing.items())
        hint = "Use --missing-contig skip."
        if problems.count == 1:
            raise RegionError(f"{source.name} {problems.first} is not in {genome.path}. {hint}")
        raise RegionError(problems.under(f"{problems.count} contigs of {source.name} are not in {genome.path}. {hint}"))
    return matched


def _job(
    source: VariantSource, genome: Genome, contigs: dict[str, str], choices: ModelChoices, scorer: FastISM, share: int
) -> VariantJob:
    from fastism_cli.run.variants.allele_scores import max_sequences

    if share > scorer.input_length:
        raise UsageError(f"--share must be at most the length of the model's input, {scorer.input_length}.")
    windows = VariantWindows(scorer.input_length, share)
    if scorer.batching.batch_size == "auto":
        most = max_sequences(scorer.input_length) * share * (scorer.alphabet.size - 1)
        scorer.batching.batch_size = min(scorer.batching.substitutions, most)
    others = fit_inputs(choices.inputs, scorer.other_shapes, source.summary.count)
    outputs = stored_heads(scorer.heads, choices.target_names)
    return VariantJob(source, genome, contigs, scorer, outputs, others, windows)


def _check_first_window(job: VariantJob) -> None:
    """Compare the engine with plain Keras on the window of the first single base that is substituted."""
    made = (VariantBlock(job, variants) for variants in blocks_of(job))
    block = next((block for block in made if block.substituted), None)
    if block is None:
        return
    window = block.substituted[0].window
    codes, others = np.stack([block.sequences[window]]), job.others.rows([block.records[window]])
    check_engine(job.scorer, codes, others, job.windows.columns)


def _write(pysam: Any, job: VariantJob, output: str, table: str) -> VariantReport:
    counts: Counter[AlleleStatus] = Counter()
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
            for variants in blocks_of(job):
                block = VariantBlock(job, variants)
                _score_block(job, block, writers, counts)
                mismatch, windows = mismatch or block.mismatch, windows + len(block.sequences)
        if not is_plain and job.source.summary.is_sorted:
            vcf_files.index(pysam, path, sizes)
        elif not is_plain:
            logger.info(f"{job.source.name} is not sorted, so {output} has no index")
        return VariantReport(tuple(staging.move()), job.source.summary.count, counts, mismatch, windows)


def _score_block(
    job: VariantJob, block: VariantBlock, writers: tuple[ScoredVcf, ScoredTable], counts: Counter[AlleleStatus]
) -> None:
    from fastism_cli.run.variants.allele_scores import scored

    reference, deltas = scored(job, block)
    nothing = np.full(len(job.labels), np.nan, np.float32)
    for record, variant in enumerate(block.variants):
        statuses, delta = block.statuses[record], deltas[record]
        for number, status in enumerate(statuses):
            if status == AlleleStatus.OK and not np.isfinite(delta[number]).all():
                statuses[number], delta[number] = AlleleStatus.FAILED, np.nan
        counts.update(statuses)
        window = block.window_of[record]
        for writer in writers:
            writer.add(variant, nothing if window < 0 else reference[window], delta, statuses)
