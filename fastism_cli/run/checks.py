"""Check the inputs of a run before Keras is loaded, and report all problems together.

A job that waited in a queue for a day must not fail after ten minutes because of the name of a contig.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastism_cli.engine.block_contents import content_of, width_for
from fastism_cli.errors import ModelError, log_of
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.genome.bed import BedSource, BedSummary
from fastism_cli.genome.fasta import Genome, RecordSource, check_contigs, matched_contigs, open_fasta, renaming_line
from fastism_cli.genome.input_files import STDIN
from fastism_cli.model.loading.source import ModelSource
from fastism_cli.options.choices import Kind
from fastism_cli.options.per_head import Units
from fastism_cli.options.problems import Problems
from fastism_cli.options.run_options import RunOptions, parse_codes, parse_reduce, parse_scale, parse_tie
from fastism_cli.results.outputs import check_new_file, check_stream, unfinished_names
from fastism_cli.results.staging import is_stream
from fastism_cli.run.inputs_and_targets import FileArray, parse_targets, read_inputs, read_target_names
from fastism_cli.run.provenance import Watch, other_files, run_attributes
from fastism_cli.run.region_reader import check_records
from fastism_cli.run.request import RunRequest, check_together
from fastism_cli.run.summary import is_summary_of

logger = log_of(__name__)


@dataclass(frozen=True)
class ModelChoices:
    """Options about the model, parsed; the model is not loaded yet.

    Attributes
    ----------
    inputs : mapping of input name to array or float
        As :func:`read_inputs` gives them.
    targets : mapping of head name to tuple of int
        The targets to score; None are all. The name None means the only head, here and below.
    target_names : mapping of head name to names
    reduce : mapping of head name to kinds of reduction
    """

    alphabet: Alphabet
    inputs: Mapping[str, FileArray | float]
    targets: Mapping[str | None, Units | None]
    target_names: Mapping[str | None, Sequence[str]]
    reduce: Mapping[str | None, Sequence[Kind]]


@dataclass(frozen=True)
class RegionInputs:
    """An open BED, or the records of a FASTA, and the genome; ``n_regions`` counts all records."""

    bed: BedSource | RecordSource
    genome: Genome
    n_regions: int


@dataclass(frozen=True)
class RunInputs:
    """Open and checked inputs of a run."""

    regions: RegionInputs
    choices: ModelChoices
    output: str
    attributes: Mapping[str, Any]  # of the result, as far as they are known without the model
    watch: Watch
    model_watch: Watch

    @property
    def bed(self) -> BedSource | RecordSource:
        return self.regions.bed

    @property
    def genome(self) -> Genome:
        return self.regions.genome


def check_run(stack: ExitStack, request: RunRequest) -> RunInputs:
    """Open and check all inputs; ``stack`` closes them.

    Raises
    ------
    FastISMError
        The problem, if there is one; a :class:`UsageError` that lists all, if there are more.
    """
    problems, options, fasta = Problems(), request.options, request.fasta
    # the files are read from here on: a change between now and the end of the run is noticed
    watch = Watch([fasta, *_own_file(request.bed), *map(str, other_files(options))])
    choices = check_models(problems, request.models, options)
    regions = open_regions(problems, stack, request.bed, fasta, options)
    problems.check(check_outputs, request)
    problems.raise_if_any()
    assert regions is not None  # or its problem was raised
    source = regions.bed
    model_watch = Watch(str(file) for model in request.models for file in model.files)
    name = source.name if source.path else ""
    attributes = run_attributes(request, bed=name, bed_sha256=source.sha256)
    return RunInputs(regions, choices, request.output, attributes, watch, model_watch)


def _own_file(bed: str | None) -> list[str]:
    """A BED that is read where it lies: no stream, of which a copy is read."""
    return [bed] if bed is not None and bed != STDIN and os.path.isfile(bed) else []


def check_outputs(request: RunRequest) -> None:
    """Check that the result and the summary of a run can be written, over nothing that must stay.

    A summary that exists is replaced by ``overwrite``, and by ``resume`` if it is one of this output: a job that is
    started again by the same command writes it again.

    Raises
    ------
    OutputError
    """
    options, summary = request.options, request.options.summary
    inputs = input_files(request)
    check_new_file(request.output, inputs, overwrite=options.overwrite, resume=options.resume, is_result=True)
    if summary is None:
        return
    if is_stream(summary):
        check_stream(summary, [*inputs, request.output], option="--summary")
        return
    others = (request.output, *unfinished_names(request.output))
    check_new_file(summary, inputs, overwrite=may_replace(summary, request), option="--summary", others=others)


def may_replace(summary: str, request: RunRequest) -> bool:
    """Whether a summary that exists may be replaced."""
    options = request.options
    return options.overwrite or (options.resume and is_summary_of(summary, request.output))


def input_files(request: RunRequest) -> list[Any]:
    """Every file that a run reads."""
    models = [file for model in request.models for file in model_files(model)]
    return [*models, request.bed, request.fasta, *other_files(request.options)]


def model_files(model: ModelSource) -> list[Any]:
    """The files of a model; none of a folder that holds no model, which may be the root of all files."""
    try:
        model.check()
    except ModelError:
        return []
    return [*model.files, model.path]


def open_regions(
    problems: Problems, stack: ExitStack, bed: str | None, fasta: str, options: RunOptions
) -> RegionInputs | None:
    """Open a FASTA and a BED (None takes the records of the FASTA), and check that they fit together.

    Problems are added to ``problems``; the result is None if a file cannot be read.
    """
    source: BedSource | RecordSource | None = None
    if bed is not None:
        source = problems.check(stack.enter_context, BedSource(bed))
    genome: Genome | None = problems.check(lambda: stack.enter_context(open_fasta(fasta)))
    if bed is None and genome:
        source = RecordSource(genome)
    summary: BedSummary | None = problems.check(lambda: source.summary) if source else None
    if not (source and summary and genome):
        return None
    if options.missing_contig == "error":
        problems.check(check_contigs, genome, summary.contigs, source.name)
    if isinstance(source, BedSource):
        _match_contigs(source, genome)
        _tell_summits(source, options)
    chosen = {"limit": options.limit, "edge": options.edge, "center": options.center}
    problems.check(check_records, source, genome, **chosen)
    return RegionInputs(source, genome, summary.count)


def _match_contigs(bed: BedSource, genome: Genome) -> None:
    """Give the regions of a BED the FASTA's names of their contigs, and say so if they differ.

    The result then has one name for a contig, that of ``/genome/chrom_names``, and so have its exports.
    """
    matched = matched_contigs(genome, bed.summary.contigs)
    if line := renaming_line(genome, matched, bed.name):
        logger.info(line)
        bed.rename_contigs(matched)


def _tell_summits(bed: BedSource, options: RunOptions) -> None:
    """Say so if column 10 decides what is scored: counts of another program can stand there."""
    summary = bed.summary
    if summary.summits and options.center == "auto" and not options.tile:
        logger.info(
            f"{bed.name}: inputs are centred on the summits of column 10 ({summary.summits:,} of {summary.count:,} "
            "records); --center midpoint ignores them"
        )


def check_models(problems: Problems, models: Sequence[ModelSource], options: RunOptions) -> ModelChoices:
    """Check that the files of all models are there, and parse the options about them."""
    problems.check(check_together, models, options)
    if not models:
        problems.raise_if_any()
    choices = check_choices(problems, models[0], options)
    for model in models[1:]:
        problems.check(check_model_file, model, options)
    return choices


def check_choices(problems: Problems, model: ModelSource, options: RunOptions) -> ModelChoices:
    """Parse the options about the model, and check that its files are there."""
    problems.check(check_model_file, model, options)
    alphabet = problems.check(Alphabet, options.alphabet)
    tied = problems.check(parse_tie, options.tie)
    problems.check(parse_codes, options.codes)
    problems.check(parse_scale, options.scale)
    if alphabet and (options.stranded or options.rc or any(tie.reverse for tie in tied or ())):
        problems.check(alphabet.reverse_complement, np.empty(0, np.uint8))
    if alphabet and options.replace_with is not None:
        problems.check(check_content, options, alphabet)
    return ModelChoices(
        alphabet,
        problems.check(read_inputs, options.inputs),
        problems.check(parse_targets, options.targets),
        problems.check(read_target_names, options.target_names),
        problems.check(parse_reduce, options.reduce),
    )


def check_content(options: RunOptions, alphabet: Alphabet) -> None:
    """Check that --replace-with can be put into blocks, and read its file if it names one.

    Raises
    ------
    UsageError
    """
    width = width_for(options.replace_with, alphabet, options.width)
    content_of(options.replace_with, alphabet, width, samples=options.samples, seed=options.seed)


def check_model_file(model: ModelSource, options: RunOptions) -> None:
    """Check that the files of a model are there and look like what they should be. A loaded model passes.

    Raises
    ------
    ModelError
        Names the file.
    """
    model.check()
    for spec in options.custom_objects:
        if spec.endswith(".py") and not os.path.isfile(spec):
            raise ModelError(f"--custom-objects {spec}: no such file")
    for spec in options.rules:
        if not os.path.isfile(spec):
            raise ModelError(f"--rules {spec}: no such file")
