"""Score the variants of a VCF, and write the VCF with added INFO fields, and a table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastism_cli.errors import Problems, UsageError, cell, counted, log_of
from fastism_cli.genome import vcf_files
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.genome.fasta import Genome, open_fasta
from fastism_cli.genome.vcf_files import ERRORS, INFO_COLUMN, Variant, VariantSource, header_field
from fastism_cli.optional import require
from fastism_cli.options.run_options import VCF_ENDINGS, RunOptions, parse_scale, stem_of
from fastism_cli.results.outputs import check_new_file
from fastism_cli.results.staging import staged
from fastism_cli.run.inputs_and_targets import fit_inputs, stored_heads
from fastism_cli.run.inspect_and_verify import check_engine
from fastism_cli.run.job import load_scorer
from fastism_cli.run.request import ModelChoices, Watch, check_models, model_files, other_files, sources_of
from fastism_cli.run.variants.variant_block import (
    AlleleStatus,
    Asked,
    VariantBlock,
    VariantJob,
    VariantWindows,
    blocks_of,
    check_genome,
    contigs_in_fasta,
)

if TYPE_CHECKING:
    from fastism_cli.engine.fastism import FastISM

logger = log_of(__name__)

REF_MISMATCH = ("error", "skip")


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
    missing : str
        Contigs that the FASTA lacks and those that it has, for a message; "" if it has all.
    windows : int
        Reference sequences that were predicted.
    """

    files: tuple[str, ...]
    records: int
    alleles: Mapping[AlleleStatus, int]
    mismatch: str
    windows: int
    missing: str = ""

    @property
    def fault(self) -> str:
        """Why the command ends with an error after all; "" if it does not."""
        if n := self.alleles.get(AlleleStatus.FAILED, 0):
            return f"the model gave NaN or infinity for {counted(n, 'allele')}"
        if self.records and not self.alleles.get(AlleleStatus.OK, 0):
            return f"no allele was scored: {self._why_nothing()}"
        return ""

    def _why_nothing(self) -> str:
        """The mistake that it looks like."""
        if not self.alleles:
            return "ALT is . in all of them"
        most = max(self.alleles, key=lambda status: self.alleles[status])
        other = "as in a VCF of another genome"
        return {
            AlleleStatus.REF_MISMATCH: f"REF is not in the FASTA, {other}. The first: {self.mismatch}",
            AlleleStatus.MISSING_CONTIG: f"the FASTA lacks their contigs, {other}: {self.missing}",
            AlleleStatus.SYMBOLIC: "their alleles are symbolic, without a sequence",
            AlleleStatus.NOT_BASES: "their alleles have letters that are not bases",
        }[most]

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
        scored_text = f"{counted(scored, 'allele')} scored in {counted(self.windows, 'window')}"
        lines = [f"{counted(self.records, 'record')}, {scored_text} -> {files}"]
        if n := self.alleles.get(AlleleStatus.REF_MISMATCH, 0):
            lines.append(f"not scored: {counted(n, 'allele')} whose REF is not in the FASTA, first {self.mismatch}")
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
    ref_mismatch: str = "error",
    fold_change: bool = False,
    around: int = 0,
) -> VariantReport:
    """Score the variants of a VCF; write a VCF with the scores in INFO, and a table of them.

    Parameters
    ----------
    model : path or keras.Model, or a list of them
        Of several with the same inputs and heads, the mean is scored.
    vcf_path : str
        Plain, compressed by gzip or bgzip, or BCF; "-" is stdin. Every column is written as its text was.
    fasta : str
        The genome, plain or compressed by bgzip.
    output : str, optional
        ``.vcf.gz`` or ``.vcf``; the table has the same name with ``.tsv``. Default: ``<stem>.ism.vcf.gz`` in the
        current folder.
    share : int
        Variants in the same stretch of so many bases share a window: see
        :class:`fastism_cli.run.variants.variant_block.VariantWindows`.
    ref_mismatch : "error" or "skip"
        If far more REF are not in the FASTA than errors of a genome explain: refused, or a warning.
    fold_change : bool
        Also write log2 of the prediction on ALT over that on REF, where both are above 0.
    around : int
        Also write the largest |delta| of the substitutions of so many bases around each allele, in the sequence of REF
        and in that of ALT.
    options : RunOptions, optional
        The options of ``fastism variants``; others have no effect. ``missing_contig`` "skip" keeps records on contigs
        that the FASTA lacks.

    Raises
    ------
    UsageError
        Lists what is wrong with the inputs, before anything is written.
    GenomeError
        If the VCF is one of another genome, before anything is written.
    VerifyError
        If the engine disagrees with plain Keras on the first window.
    """
    if ref_mismatch not in REF_MISMATCH:
        raise UsageError(f"--ref-mismatch must be one of {', '.join(REF_MISMATCH)}. Received: {ref_mismatch!r}")
    chosen = options or RunOptions()
    if fold_change and chosen.scale:
        raise UsageError("--fold-change is of predictions; with --scale log2 the delta is one. Give one of the two.")
    pysam = require("pysam", wanted_by="fastism variants", extra="export")
    output = default_output(vcf_path) if output is None else output
    table = output_table(output)
    with ExitStack() as stack:
        problems = Problems()
        models = sources_of(model, chosen)
        inputs = [*(file for one in models for file in model_files(one)), vcf_path, fasta, *other_files(chosen)]
        watch = Watch(
            (str(file) for file in inputs if file and os.path.isfile(file)), "Nothing was written. Run again."
        )
        choices = check_models(problems, models, chosen)
        source = problems.check(stack.enter_context, VariantSource(pysam, vcf_path))
        genome = problems.check(lambda: stack.enter_context(open_fasta(fasta)))
        alphabet = problems.check(Alphabet, chosen.alphabet)
        contigs = None
        if source and genome and alphabet:
            contigs = problems.check(_contigs, source, genome, alphabet, chosen.missing_contig, ref_mismatch)
        for name in (output, table, *vcf_files.index_names(output)):
            problems.check(check_new_file, name, inputs, overwrite=chosen.overwrite)
        problems.raise_if_any()
        assert contigs is not None  # or its problem was raised
        asked = Asked(parse_scale(chosen.scale), fold_change, around)
        scorer = load_scorer(models[0], choices, chosen, others=models[1:])
        job = _job(source, genome, contigs, choices, scorer, share, asked)
        if job.mean:
            logger.info(f"scores are the mean of {job.mean}")
        if chosen.check:
            _check_first_window(job)
        return _write(pysam, job, output, table, watch, overwrite=chosen.overwrite)


def default_output(vcf_path: str) -> str:
    """``folder/calls.vcf.gz -> calls.ism.vcf.gz``, in the current folder."""
    return f"{stem_of(vcf_path, VCF_ENDINGS)}.ism.vcf.gz"


def output_table(output: str) -> str:
    """``calls.ism.vcf.gz -> calls.ism.tsv``"""
    if not output.endswith((".vcf", ".vcf.gz", ".vcf.bgz")):
        raise UsageError(f"--output must end in .vcf.gz or .vcf. Received: {output}")
    return output[: output.rindex(".vcf")] + ".tsv"


def _contigs(
    source: VariantSource, genome: Genome, alphabet: Alphabet, missing_contig: str, ref_mismatch: str
) -> dict[str, str]:
    """The name in the FASTA of each contig of the VCF, which is one of this genome."""
    if not source.summary.count:
        logger.warning(f"{source.name} has no records: the files that are written have none either")
    contigs = contigs_in_fasta(source, genome, missing_contig)
    check_genome(source, genome, contigs, alphabet, ref_mismatch)
    return contigs


def _job(
    source: VariantSource,
    genome: Genome,
    contigs: dict[str, str],
    choices: ModelChoices,
    scorer: FastISM,
    share: int,
    asked: Asked,
) -> VariantJob:
    from fastism_cli.run.variants.allele_scores import max_sequences

    if share > scorer.input_length:
        raise UsageError(f"--share must be at most the length of the model's input, {scorer.input_length}.")
    if asked.around > scorer.input_length:
        raise UsageError(f"--around must be at most the length of the model's input, {scorer.input_length}.")
    windows = VariantWindows(scorer.input_length, share, *scorer.context)
    most = max_sequences(scorer.input_length) * max(share, asked.around) * (scorer.alphabet.size - 1)
    for one in scorer.each_model():
        if one.batching.batch_size == "auto":
            one.batching.batch_size = min(one.batching.substitutions, most)
    others = fit_inputs(choices.inputs, scorer.other_inputs, source.summary.count, sequence=scorer.sequence_text)
    outputs = stored_heads(scorer.heads, choices.target_names)
    return VariantJob(source, genome, contigs, scorer, outputs, others, windows, asked)


def _check_first_window(job: VariantJob) -> None:
    """Compare the engine with plain Keras on the window of the first single base that is substituted."""
    made = (VariantBlock(job, variants) for variants in blocks_of(job))
    block = next((block for block in made if block.substituted), None)
    if block is None:
        return
    window = block.substituted[0].window
    codes = job.windows.of_input(np.stack([block.sequences[window]]))
    others = job.others.rows([block.records[window]])
    check_engine(job.scorer, codes, others, job.windows.columns)


def _write(pysam: Any, job: VariantJob, output: str, table: str, watch: Watch, *, overwrite: bool) -> VariantReport:
    counts: Counter[AlleleStatus] = Counter()
    mismatch, windows = "", 0
    with staged(output, overwrite=overwrite) as staging:
        path = staging.path(output)
        sizes = {name: job.genome.sizes[other] for name, other in job.contigs.items()}
        is_plain = output.endswith(".vcf")
        with (
            open(path, "wb") if is_plain else pysam.BGZFile(path, "wb") as file,
            open(staging.path(table), "w", encoding="utf-8", errors=ERRORS, newline="") as lines,
        ):
            writers = (ScoredVcf(file, sizes, job), ScoredTable(lines, job))
            for variants in blocks_of(job):
                block = VariantBlock(job, variants)
                _score_block(job, block, writers, counts)
                mismatch, windows = mismatch or block.mismatch, windows + len(block.sequences)
        if writers[0].replaced:
            logger.info(f"{job.source.name} had {', '.join(sorted(writers[0].replaced))} in INFO: replaced")
        if not is_plain:
            _index(pysam, job.source, path, output, sizes)
        missing = _missing(job)
        watch.check()
        files = tuple(staging.move(without=vcf_files.index_names(output)))
        return VariantReport(files, job.source.summary.count, counts, mismatch, windows, missing)


def _index(pysam: Any, source: VariantSource, path: str, output: str, sizes: Mapping[str, int]) -> None:
    """Index a VCF if it can be."""
    if not source.summary.is_sorted:
        logger.info(f"{source.name} is not sorted, so {output} has no index")
        return
    try:
        vcf_files.index(pysam, path, sizes, source.summary.largest)
    except OSError as error:
        if error.errno:
            raise
        logger.warning(f"{output} has no index: a POS of {source.summary.largest:,} does not fit into one")


def _missing(job: VariantJob) -> str:
    missing = [name for name in job.source.summary.contigs if name not in job.contigs]
    if not missing:
        return ""
    return f"the VCF has {_some(missing)}, the FASTA {_some(list(job.genome.sizes))}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _score_block(
    job: VariantJob, block: VariantBlock, writers: tuple[ScoredVcf, ScoredTable], counts: Counter[AlleleStatus]
) -> None:
    from fastism_cli.run.variants.allele_scores import fold_changes, largest_around, scored

    reference, deltas = scored(job, block)
    around = largest_around(job, block) if job.asked.around else []
    nothing = np.full(len(job.labels), np.nan, np.float32)
    for record, variant in enumerate(block.variants):
        statuses, delta = block.statuses[record], deltas[record]
        window = block.window_of[record]
        before = nothing if window < 0 else reference[window]
        for number, status in enumerate(statuses):
            if status == AlleleStatus.OK and not np.isfinite([before, delta[number]]).all():
                statuses[number], delta[number] = AlleleStatus.FAILED, np.nan
        counts.update(statuses)
        more = [fold_changes(before, delta)] if job.asked.fold_change else []
        more += [*np.moveaxis(around[record], 2, 0)] if around else []
        scores = AlleleScores(before, delta, more, statuses)
        for writer in writers:
            writer.add(variant, scores)


# --- the files -------------------------------------------------------------------------------------------------------

FLOAT = "%.9g"
COLUMNS = ("chrom", "pos", "id", "ref", "alt", "target", "reference", "delta")
STATUS = "ISM_STATUS"


class More(NamedTuple):
    """A number of each allele and target that is written beside its delta if it is asked for."""

    key: str
    column: str
    description: str


FOLD_CHANGE = More("ISM_LFC", "log2_fold_change", "log2 of the prediction on ALT over that on REF, if both are above 0")
AROUND_KEYS = ("ISM_AROUND_REF", "ISM_AROUND_ALT")
AROUND = "Largest |delta| of the substitutions of {} bases around it, in the sequence of {}"


def more_of(job: VariantJob) -> list[More]:
    """What is written beside delta and reference."""
    found = [FOLD_CHANGE] if job.asked.fold_change else []
    if job.asked.around:
        ends = zip(AROUND_KEYS, ("around_ref", "around_alt"), ("REF", "ALT"), strict=True)
        found += [More(key, column, AROUND.format(job.asked.around, end)) for key, column, end in ends]
    return found


class AlleleScores(NamedTuple):
    """The scores of one record.

    Attributes
    ----------
    reference : float32 (K,)
    delta : float32 (alleles, K)
        NaN where there is no score.
    more : list of float32 (alleles, K)
        For each of :func:`more_of`.
    statuses : list of AlleleStatus
        Of every allele.
    """

    reference: np.ndarray
    delta: np.ndarray
    more: list[np.ndarray]
    statuses: Sequence[AlleleStatus]


class ScoredVcf:
    """Write the VCF with ``ISM_DELTA`` for each allele, ``ISM_REF``, and ``ISM_STATUS`` if an allele has no score.

    All else stays as its text was.

    Attributes
    ----------
    replaced : set of str
        Fields of ours that the VCF had already.
    """

    def __init__(self, file: Any, contigs: Mapping[str, int], job: VariantJob) -> None:
        self._file, labels = file, job.labels
        self._delta = vcf_files.info_keys("ISM_DELTA", labels)
        self._reference = vcf_files.info_keys("ISM_REF", labels)
        self._more = [vcf_files.info_keys(more.key, labels) for more in more_of(job)]
        every = [key for more in (FOLD_CHANGE.key, *AROUND_KEYS) for key in vcf_files.info_keys(more, labels)]
        self._own = {*self._delta, *self._reference, *every, STATUS}
        self.replaced: set[str] = set()
        self._write_header(contigs, job)

    def add(self, variant: Variant, scores: AlleleScores) -> None:
        """Write one record."""
        fields = self._kept(variant.columns[INFO_COLUMN])
        if variant.alts:
            fields += _by_allele(self._delta, scores.delta)
            pairs = zip(self._reference, scores.reference, strict=True)
            fields += [f"{key}={number(x)}" for key, x in pairs if np.isfinite(x)]
            for keys, values in zip(self._more, scores.more, strict=True):
                fields += _by_allele(keys, values)
        if any(status != AlleleStatus.OK for status in scores.statuses):
            fields.append(f"{STATUS}={','.join(scores.statuses)}")
        columns = [*variant.columns[:INFO_COLUMN], ";".join(fields) or ".", *variant.columns[INFO_COLUMN + 1 :]]
        self._write("\t".join(columns))

    def _kept(self, info: str) -> list[str]:
        """INFO as its text was, but for fields of ours from an earlier run."""
        if info == ".":
            return []
        fields = info.split(";")
        ours = self._own.intersection(field.partition("=")[0] for field in fields)
        if not ours:
            return [info]
        self.replaced |= ours
        rest = [field for field in fields if field.partition("=")[0] not in ours]
        return [";".join(rest)] if rest else []

    def _write(self, line: str) -> None:
        self._file.write(f"{line}\n".encode("utf-8", ERRORS))

    def _write_header(self, contigs: Mapping[str, int], job: VariantJob) -> None:
        header, mean = job.source.header, job.mean and f" (mean of {job.mean})"
        lines = [line for line in header[:-1] if not self._is_ours(line)]
        known = {header_field(line, "ID") for line in lines if line.startswith("##contig=<")}
        lines += [f"##contig=<ID={name},length={size}>" for name, size in contigs.items() if name not in known]
        written = [
            (self._delta, "A", "Prediction on ALT minus prediction on REF"),
            (self._reference, "1", "Prediction on REF"),
        ]
        written += [(keys, "A", more.description) for keys, more in zip(self._more, more_of(job), strict=True)]
        for keys, size, what in written:
            lines += [
                vcf_files.info_line(key, size, "Float", f"{what}{scale and f' (as {scale})'}{mean}: {label}")
                for key, label, scale in zip(keys, job.labels, job.scales, strict=True)
            ]
        lines.append(vcf_files.info_line(STATUS, "A", "String", "Why an allele has no score; ok if it has"))
        for line in [*lines, header[-1]]:
            self._write(line)

    def _is_ours(self, line: str) -> bool:
        key = header_field(line, "ID") if line.startswith("##INFO=<") else ""
        self.replaced |= self._own & {key}
        return key in self._own


class ScoredTable:
    """Write a line for each allele and target; ``pos`` counts from 1; cells without a score are empty."""

    def __init__(self, file: IO[str], job: VariantJob) -> None:
        self._file, self._labels = file, [*map(cell, job.labels)]
        file.write("\t".join([*COLUMNS, *(more.column for more in more_of(job)), "status"]) + "\n")

    def add(self, variant: Variant, scores: AlleleScores) -> None:
        """Write the lines of one record."""
        place = (variant.chrom, str(variant.position + 1), variant.name, variant.ref)
        for i, (alt, status) in enumerate(zip(variant.alts, scores.statuses, strict=True)):
            for k, label in enumerate(self._labels):
                values = [scores.reference[k], scores.delta[i, k], *(more[i, k] for more in scores.more)]
                cells = (*place, alt, label, *(number(value, "") for value in values), str(status))
                self._file.write("\t".join(cells) + "\n")


def _by_allele(keys: Sequence[str], values: np.ndarray) -> list[str]:
    """INFO fields of a number for each allele, from (alleles, K)."""
    return [f"{key}={','.join(map(number, x))}" for key, x in zip(keys, values.T, strict=True)]


def number(value: float, missing: str = ".") -> str:
    """A float32 as text, with enough digits to read the same float32 back; ``missing`` if it is not finite."""
    return FLOAT % value if np.isfinite(value) else missing
