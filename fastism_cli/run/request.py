"""One run as one value: its models, files and options; its checks before Keras is loaded; what a result says of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from fastism_cli.engine.block_contents import content_of, width_for
from fastism_cli.errors import ModelError, Problems, UsageError, log_of
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.genome.bed import BedSource, BedSummary
from fastism_cli.genome.fasta import Genome, RecordSource, check_contigs, matched_contigs, open_fasta, renaming_line
from fastism_cli.genome.input_files import STDIN, FileState, as_utf8, content_sha256, file_sha256, state_of
from fastism_cli.model.loading.load import ModelSource
from fastism_cli.options.averages import Averages
from fastism_cli.options.choices import Kind, Shard, Units, names_file, parse_shard, split_named
from fastism_cli.options.run_options import (
    RunOptions,
    default_output,
    parse_codes,
    parse_reduce,
    parse_scale,
    parse_tie,
    parse_window,
)
from fastism_cli.results.layout import MeanOf, ModelFile
from fastism_cli.results.outputs import check_new_file, check_stream, unfinished_names
from fastism_cli.results.schema import FORMAT_VERSION, WIDER_VERSION
from fastism_cli.results.staging import is_stream
from fastism_cli.run.inputs_and_targets import CONSTANTS, FileArray, parse_targets, read_inputs, read_target_names
from fastism_cli.run.region_reader import check_records
from fastism_cli.run.summary import is_summary_of
from fastism_cli.version import __version__


@dataclass(frozen=True)
class RunRequest:
    """One run.

    Attributes
    ----------
    models : tuple of ModelSource
        One, or several whose mean is scored.
    bed : str or None
        A path, or "-" for stdin; None scores every record of the FASTA.
    fasta, output : str
    options : RunOptions
    command : str
        The command line, which the result file keeps.
    device_rows : Shard
        If the run is one of several on as many devices: its share of the rows of the shard.
    """

    models: tuple[ModelSource, ...]
    bed: str | None
    fasta: str
    output: str
    options: RunOptions
    command: str = ""
    device_rows: Shard = Shard()  # noqa: RUF009  (a frozen value)

    @classmethod
    def of(
        cls,
        model: Any,
        bed: str | None,
        fasta: str,
        output: str | None,
        options: RunOptions | None = None,
        *,
        command: str = "",
        device_rows: Shard = Shard(),  # noqa: B008  (a frozen value)
    ) -> RunRequest:
        """Make a request from a path or a model, or a list of them; ``output`` None is the default name."""
        options = options or RunOptions()
        if output is None:
            kind = "ism" if options.within is None else "pairs"
            output = default_output(bed, fasta, parse_shard(options.shard), kind)
        return cls(sources_of(model, options), bed, fasta, os.fspath(output), options, command, device_rows)

    @property
    def averages(self) -> Averages | None:
        """What every score is the mean of; None if it is no mean."""
        averages = self.options.averages
        return None if len(self.models) == 1 and averages.is_plain else averages


def sources_of(model: Any, options: RunOptions) -> tuple[ModelSource, ...]:
    """The models of a path or a model, or of a list of them."""
    given = model if isinstance(model, (list, tuple)) else [model]
    return tuple(ModelSource.of(one, options) for one in given)


def check_together(models: Sequence[ModelSource], options: RunOptions) -> None:
    """Refuse models that cannot be scored together, by what is known before they are loaded.

    Raises
    ------
    UsageError
    """
    names = [model.path for model in models if model.path is not None]
    files = [os.path.realpath(name) for name in names]  # a link, or another way to write a name, is no other model
    again = [name for i, name in enumerate(names) if files[i] in files[:i]]
    if not models:
        raise UsageError("There is no model: give one, or several.")
    if again:
        raise UsageError(f"--model {again[0]} is given twice. Give each model of a mean once.")
    if options.spread and len(models) < 2:
        raise UsageError("--spread is the deviation over several models: give --model more than once.")
    if options.weights is not None and len(models) > 1:
        raise UsageError("--weights is of one model. Save each of several with its weights, as .keras or .h5.")


# --- how a result was made -------------------------------------------------------------------------------------------


def sha256_of(files: list[Path]) -> str:
    """Of one file as ``sha256sum`` prints it; of several, of their digests in order; ``""`` of none.

    Raises
    ------
    UsageError
        If one cannot be read.
    """
    digests = []
    for file in files:
        try:
            digests.append(file_sha256(file))
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error
    if len(digests) < 2:
        return "".join(digests)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def other_files(options: RunOptions) -> list[Path]:
    """Files besides model, BED and FASTA that decide numbers or names in the result."""
    named = [value for _, value in split_named(options.inputs) if value not in CONSTANTS]
    named += [value for _, value in split_named(options.target_names)]
    named += [options.replace_with] if options.replace_with and names_file(options.replace_with) else []
    # os.path: Path.is_file raises an error for a name that is too long, or in a folder that cannot be entered
    return [Path(path) for path in [*named, *options.custom_objects, *options.rules] if os.path.isfile(path)]


def run_attributes(request: RunRequest, *, bed: str, bed_sha256: str) -> dict[str, Any]:
    """Attributes that do not depend on the loaded model: options and input files."""
    options, fasta = request.options, request.fasta
    model_sha256 = sha256_of([file for model in request.models for file in model.files])
    fasta_sha256, files_sha256 = content_sha256(fasta), sha256_of(other_files(options))
    config, shard = options.config(), parse_shard(options.shard)
    asked = "\n".join([config, model_sha256, bed_sha256, fasta_sha256, files_sha256])
    attributes = {
        "fastism_version": __version__,
        "fasta_path": fasta,
        "fasta_sha256": fasta_sha256,
        "files_sha256": files_sha256,
        "bed_path": bed,
        "folder": os.getcwd(),
        "shard_index": shard.index,
        "num_shards": shard.count,
        "command": request.command,
        "config": config,
        "config_sha256": hashlib.sha256(asked.encode()).hexdigest(),
        "model_path": request.models[0].path or "",
        "model_sha256": model_sha256,
        "bed_sha256": bed_sha256,
        "format_version": _format_version(request),
        "stranded": options.stranded,
        "precision": options.precision,
        "tensorflow_version": installed("tensorflow"),
        "keras_version": installed("keras"),
    }
    if options.scale:
        attributes["scale"] = ", ".join(options.scale)
    if request.averages is not None:
        attributes["averaged"] = _averaged(request)
    return {name: storable(value) for name, value in attributes.items()}


def _averaged(request: RunRequest) -> str:
    """What every score is the mean of, as JSON: the models, and the options."""
    models = tuple(ModelFile(as_utf8(model.path or ""), sha256_of(model.files)) for model in request.models)
    averages, pairs = request.options.averages, tuple(map(as_utf8, request.options.rc_pairs))
    return MeanOf(models, averages.rc, pairs, averages.shifts, averages.average, averages.spread).to_json()


def _format_version(request: RunRequest) -> float:
    """The first version of the format whose readers know what is asked for."""
    options, window = request.options, parse_window(request.options.window)
    is_wider = (window is not None and window.first is not None) or options.scale or options.within
    is_wider = is_wider or options.replace_with is not None
    return WIDER_VERSION if is_wider or request.averages is not None else FORMAT_VERSION


def storable(value: Any) -> Any:
    """An attribute as HDF5 holds it."""
    return as_utf8(value) if isinstance(value, str) else value


def installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


class Watch:
    """Files that must not change from now on, with their facts.

    Parameters
    ----------
    cure : str
        What a message says after the name of the file that has changed.
    """

    def __init__(
        self,
        paths: Iterable[str],
        cure: str = "Put it back and continue with --resume, or start anew with --overwrite.",
    ) -> None:
        self._before = {path: _state(path) for path in paths}
        self._cure = cure

    def check(self) -> None:
        """Compare all files with their state at the beginning.

        Raises
        ------
        UsageError
            Names the first that has changed.
        """
        for path, before in self._before.items():
            if _state(path) != before:
                raise UsageError(f"{path} has changed since this run began. {self._cure}")


def _state(path: str) -> FileState | None:
    try:
        return state_of(path)
    except OSError:
        return None


# --- the checks of the inputs ----------------------------------------------------------------------------------------

# A job that waited in a queue for a day must not fail after ten minutes because of the name of a contig.

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
