"""Make a run ready: load the model, choose the rows, and check that everything fits together."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from fastism_cli.errors import UsageError, counted, log_of, size_text
from fastism_cli.genome.fasta import RecordSource
from fastism_cli.genome.placement import Geometry
from fastism_cli.model.loading.load import ModelSource
from fastism_cli.options.choices import parse_shard
from fastism_cli.options.run_options import RunOptions, substituted_window
from fastism_cli.results.layout import HeadLayout, Layout, PairsLayout, ReplacedBlocks
from fastism_cli.results.schema import Status
from fastism_cli.results.staging import check_space, unfinished_bytes
from fastism_cli.run.inputs_and_targets import OtherInputs, fit_inputs, stored_heads
from fastism_cli.run.region_reader import Reader, RecordCounts
from fastism_cli.run.request import ModelChoices, RegionInputs, RunInputs, RunRequest
from fastism_cli.run.start_backend import import_backend, require_device
from fastism_cli.scores.labelled import FEWER, check_memory, memory_of_machine

if TYPE_CHECKING:
    from fastism_cli.engine.fastism import FastISM

logger = log_of(__name__)

BLOCK_SUBSTITUTIONS = 30_000  # about a second of work: progress is shown, and blocks are handed on, this often
BLOCK_BYTES = 16e6  # of the deltas and letters of a block
BLOCKS_AT_A_TIME = 5  # in memory, about
FEWER_PAIRS = "Choose a smaller --within or --window, or fewer --targets."


@dataclass(frozen=True)
class DryRun:
    """What a run would do, for ``--dry-run`` and for the first lines of the log.

    Attributes
    ----------
    model : str
        The path of the model, or its name; of several, joined by commas.
    input_name, input_length : str, int
        The input that is substituted in, and how many bases it holds.
    window : int
        Bases in the middle of the input that are substituted.
    heads : tuple of HeadLayout
        What is stored.
    engine, reason : str
        "fast" or "naive", and why.
    batch : int
        Substitutions in one call of the engine.
    regions : int
        Rows of the result.
    output_bytes : int
        Upper estimate of the size of ``output``.
    warnings : tuple of str
        What a user may not expect.
    statuses : mapping of Status to int
        How many rows will have each status, PENDING those that will be scored; empty if they were not counted.
    replaced : str
        The blocks or pairs that are replaced, in words; empty if single letters are.
    averaged : str
        What every score is the mean of; empty if it is no mean.
    what : str
        What is scored, in the log: substitutions, or blocks.
    """

    model: str
    input_name: str
    input_length: int
    window: int
    heads: tuple[HeadLayout, ...]
    engine: str
    reason: str
    batch: int
    regions: int
    output: str
    output_bytes: int
    warnings: tuple[str, ...]
    statuses: Mapping[Status, int] = field(default_factory=dict)
    replaced: str = ""
    averaged: str = ""
    what: str = "substitutions"

    @property
    def unscored(self) -> str:
        """``3 on a missing contig, 1 with too many N``: rows that will have no scores."""
        found = sorted((status, n) for status, n in self.statuses.items() if status != Status.PENDING)
        return ", ".join(f"{n:,} {status.phrase}" for status, n in found)

    def lines(self) -> list[str]:
        """The lines of the log: model and heads; what the mean is of; engine, why, and batch; regions and size."""
        heads = ", ".join(f"{head.name} {_shape_text(head)}" for head in self.heads)
        replaced = self.replaced or f"{self.window:,} bases of each substituted"
        return [
            f"model {self.model}: input {self.input_name!r} of {self.input_length:,} bases, heads: {heads}",
            *([f"scores are the mean of {self.averaged}"] if self.averaged else []),
            f"engine {self.engine}: {self.reason}; {self.batch:,} {self.what} a call",
            f"{counted(self.regions, 'region')}, {replaced} -> {self.output} (up to {size_text(self.output_bytes)})",
        ]


class EngineUsed(NamedTuple):
    """Which engine computes most of the scores, why, and how many changes one call of it holds."""

    engine: str
    engine_reason: str
    substitutions: int


@dataclass(frozen=True)
class Job:
    """A run that is ready: its options, open inputs, engine and reader.

    Attributes
    ----------
    others : OtherInputs
        The inputs that are not the sequence.
    outputs : tuple of HeadLayout
        What is stored.
    attributes : mapping
        Of the result file.
    sequences : int
        How many sequences one call of the engine holds.
    counts : RecordCounts
        Of all records of the run, also of other shards.
    """

    request: RunRequest
    inputs: RunInputs
    scorer: FastISM
    reader: Reader
    others: OtherInputs
    outputs: tuple[HeadLayout, ...]
    attributes: Mapping[str, Any]
    sequences: int
    counts: RecordCounts

    @property
    def geometry(self) -> Geometry:
        return self.reader.geometry

    @property
    def n_longer(self) -> int:
        """Records that are longer than the input: of intervals, only the middle is scored."""
        return 0 if self.geometry.tile else self.counts.longer

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each thing that the run does and its user may not expect."""
        return tuple(filter(None, [self._strand_line(), self._longer_line()]))

    def _strand_line(self) -> str:
        n = self.counts.minus
        if not n or self.geometry.stranded or not self.reader.alphabet.has_complement:
            return ""
        return (
            f"{n:,} of {self.counts.records:,} records {'is' if n == 1 else 'are'} on the - strand; the model sees +; "
            f"--stranded shows it {'its' if n == 1 else 'their'} reverse complement"
        )

    def _longer_line(self) -> str:
        if not self.n_longer:
            return ""
        if self.geometry.from_start:
            return (
                f"{self.n_longer:,} of {self.counts.records:,} records of {self.inputs.bed.name} are longer than the "
                f"model's input of {self.geometry.length:,} bases and are not scored. Name regions of them with --bed."
            )
        return (
            f"{self.n_longer:,} of {self.counts.records:,} intervals of {self.inputs.bed.name} are longer "
            f"than the model's input of {self.geometry.length:,} bases: only their middle is scored. "
            "Use --tile to cover all of them."
        )

    @property
    def n_rows(self) -> int:
        """Rows of the file."""
        return self.reader.stop - self.reader.first

    @property
    def layout(self) -> Layout:
        letters, o = self.reader.alphabet.letters, self.request.options
        kinds = (o.dtype, o.compression, self.blocks, o.spread, self.pairs)
        return Layout(self.n_rows, self.geometry.length, self.outputs, letters, *kinds)

    @cached_property
    def blocks(self) -> ReplacedBlocks | None:
        """The blocks that are replaced; None: single letters are substituted."""
        scorer, replace_with = self.scorer, self.request.options.replace_with
        if replace_with is None or scorer.step is None:
            return None
        starts, changes = scorer.starts_in(self.geometry.all_columns), scorer.changes
        return ReplacedBlocks(int(starts[0]), scorer.step, changes.width, len(starts), changes.columns, replace_with)

    @property
    def pairs(self) -> PairsLayout | None:
        """The pairs of which there are interactions; None: single letters alone are scored."""
        columns, within = self.geometry.all_columns, self.request.options.within
        return None if within is None else PairsLayout(columns.start, len(columns), within)

    @property
    def output_bytes(self) -> int:
        """Upper estimate of the file's size: deltas that are not computed compress to nothing."""
        layout = self.layout
        refs = sum(4 * prod(layout.ref_shape(head)) for head in layout.heads)
        is_whole = layout.compression == "none" or self.blocks is not None
        window = 1.0 if is_whole else self.geometry.window / self.geometry.length
        return int(layout.delta_bytes * window) + layout.pairs_bytes + prod(layout.seq_shape) + refs

    @property
    def row_bytes(self) -> int:
        """Bytes of the deltas and letters of one region in memory."""
        heads, averaged = sum(prod(head.shape) for head in self.scorer.heads), self.scorer.averaged
        scores = self.geometry.length * self.reader.alphabet.size
        if self.blocks is not None:
            scores = self.blocks.count * self.blocks.contents
        added_up = averaged.row_bytes(scores) if averaged else 0
        pairs = self.scorer.pair_bytes(self.pairs.within, self.pairs.count) if self.pairs else 0
        deltas = 4 * heads * scores * (2 if self.request.options.spread else 1)
        return deltas + self.geometry.length + added_up + pairs

    @property
    def changes(self) -> int:
        """How many changes of one region are scored."""
        count = self.blocks.count if self.blocks else self.geometry.window
        single = count * self.scorer.changes.alternates * self.scorer.times
        return single + (self.pairs.number * (self.reader.alphabet.size - 1) ** 2 if self.pairs else 0)

    @property
    def block_rows(self) -> int:
        """Rows to score at a time: whole calls of the engine, in bounded memory."""
        by_bytes = BLOCK_BYTES // self.row_bytes
        by_work = BLOCK_SUBSTITUTIONS // self.changes
        rows = int(max(min(by_bytes, by_work), 1))
        return -(-rows // self.sequences) * self.sequences

    @property
    def used(self) -> EngineUsed:
        """The engine of the pairs, if there are any; else that of the substitutions or blocks."""
        if self.pairs is None:
            scorer = self.scorer
            return EngineUsed(scorer.engine, scorer.engine_reason, scorer.batching.substitutions)
        pairs = self.scorer.pair_scorer(self.pairs.within)
        return EngineUsed(pairs.engine, pairs.engine_reason, pairs.groups[0].batching.substitutions)

    def dry_run(self) -> DryRun:
        """Say what the run will do."""
        scorer, used, averages = self.scorer, self.used, self.request.averages
        return DryRun(
            ", ".join(model.name for model in self.request.models),
            scorer.input_names[scorer.sequence_index],
            self.geometry.length,
            self.geometry.window,
            self.outputs,
            used.engine,
            used.engine_reason,
            used.substitutions,
            self.n_rows,
            self.inputs.output,
            self.output_bytes,
            self.warnings,
            replaced=self.blocks.text if self.blocks else self.pairs.text if self.pairs else "",
            averaged=averages.text(len(self.request.models)) if averages else "",
            what=self.request.options.what_is_scored,
        )


def _shape_text(head: HeadLayout) -> str:
    kept = f"({', '.join(map(str, head.shape))})"
    return kept if head.reduce == "none" else f"{kept} by {head.reduce}"


def load_job(request: RunRequest, inputs: RunInputs) -> Job:
    """Load the model and check what depends on it.

    Raises
    ------
    ModelError
        If the model cannot be loaded, or none of its inputs can hold a sequence.
    UsageError
        If an option does not fit the model, or an input file has changed.
    RegionError, SequenceError
        If ``--edge error`` or ``--n-policy error`` refuse a record.
    ResourceError
        If memory or disk are too small.
    """
    scorer = load_scorer(request.models[0], inputs.choices, request.options, inputs.regions, request.models[1:])
    inputs.model_watch.check()
    job = _job(request, inputs, scorer)
    job.reader.check()
    check_memory(BLOCKS_AT_A_TIME * job.row_bytes, memory_of_machine(), hint=FEWER_PAIRS if job.pairs else FEWER)
    check_space(inputs.output, job.output_bytes - unfinished_bytes(inputs.output))
    return job


def _sequences_per_call(scorer: FastISM, columns: range, within: int | None) -> int:
    if within is None:
        return scorer.sequences_per_call(columns)
    if within >= len(columns):
        raise UsageError(
            f"--within {within}: {len(columns)} bases are substituted, of which none lie so far apart. The most is "
            f"{len(columns) - 1}."
        )
    wanted = BLOCKS_AT_A_TIME * scorer.pair_bytes(within, len(columns))
    check_memory(wanted, memory_of_machine(), hint=FEWER_PAIRS)
    return scorer.pair_scorer(within).sequences_per_call(columns)


def check_batch(scorer: FastISM, batch_size: str | int, available: int | None) -> None:
    """Refuse a ``--batch-size`` whose tensors do not fit into memory.

    Raises
    ------
    UsageError
        Says both numbers.
    """
    if not isinstance(batch_size, int) or available is None:
        return
    wanted = 4 * scorer.prepared.plan.working_set * batch_size
    if wanted > available:
        raise UsageError(
            f"--batch-size {batch_size}: a call of so many substitutions takes about {size_text(int(wanted))}; this "
            f"machine has {size_text(available)}. Give a smaller one, or leave it out."
        )


def load_scorer(
    source: ModelSource,
    choices: ModelChoices,
    options: RunOptions,
    regions: RegionInputs | None = None,
    others: Sequence[ModelSource] = (),
) -> FastISM:
    """Load a model, and others whose mean with it is scored, and make the engine. The first step that loads Keras.

    If the model's input has a variable length and no option gives one, the length is that of the ``regions``.
    """
    import_backend(verbose=logger.isEnabledFor(logging.DEBUG))
    from fastism_cli.engine.fastism import FastISM
    from fastism_cli.model import backend
    from fastism_cli.model.keras_graph import has_variable_length
    from fastism_cli.model.loading.config_entries import load_rules

    require_device(backend.device_kind())
    model = source.load()
    load_rules(options.rules)
    chosen = options.scorer_options()
    if regions is not None and options.length is None and has_variable_length(model):
        chosen["length"] = common_length(regions, options.limit)
    scorer = FastISM([model, *others], reduce=choices.reduce or None, targets=choices.targets, **chosen)
    check_batch(scorer, options.batch_size, memory_of_machine())
    return scorer


def common_length(regions: RegionInputs, limit: int | None) -> int | None:
    """The length that all records have, in bases; None if there are no records.

    Raises
    ------
    UsageError
        If the lengths differ.
    """
    lengths = {region.end - region.start for region in islice(regions.bed.regions(), limit)}
    if len(lengths) > 1:
        raise UsageError(
            f"The model's input has a variable length, and the records of {regions.bed.name} are from "
            f"{min(lengths)} to {max(lengths)} long. Give the length with --length."
        )
    return next(iter(lengths), None)


def _job(request: RunRequest, inputs: RunInputs, scorer: FastISM) -> Job:
    options, choices, regions = request.options, inputs.choices, inputs.regions
    geometry = _geometry(scorer.input_length, options, regions)
    policies = {name: getattr(options, name) for name in ("limit", "edge", "n_policy", "max_n")}
    if not scorer.prepared.views.knows_unknown:
        logger.info("the model has no integer for N: regions that hold an N are not scored")
        policies["max_n"] = 0.0
    reader = Reader(inputs.bed, inputs.genome, geometry, choices.alphabet, **policies)
    n_records = regions.n_regions if options.limit is None else min(regions.n_regions, options.limit)
    n_total = reader.n_rows() if options.tile else n_records
    shard = parse_shard(options.shard).rows(n_total)
    own = request.device_rows.rows(len(shard))
    rows = shard[own.start : own.stop]
    return Job(
        request,
        inputs,
        scorer,
        replace(reader, first=rows.start, stop=rows.stop),
        fit_inputs(choices.inputs, scorer.other_inputs, regions.n_regions, sequence=scorer.sequence_text),
        stored_heads(scorer.heads, choices.target_names),
        _attributes(inputs, scorer, rows, n_total),
        _sequences_per_call(scorer, geometry.all_columns, options.within),
        reader.count_records(),
    )


def _geometry(length: int, options: RunOptions, regions: RegionInputs) -> Geometry:
    """Where the model is put."""
    is_records = isinstance(regions.bed, RecordSource)
    if is_records and options.offset:
        raise UsageError(
            "--offset moves the middle of records of a BED. Without --bed there is none: give one of both."
        )
    width, first = substituted_window(options.window, length, tile=options.tile)
    has_minus = first is None or any(r.strand == "-" for r in islice(regions.bed.regions(), options.limit))
    return Geometry(
        length,
        width,
        options.center,
        options.stranded,
        from_start=is_records,
        tile=options.tile,
        first=first,
        offset=options.offset,
        has_minus=has_minus,
        shifts=options.averages.shifts,
    )


def _attributes(inputs: RunInputs, scorer: FastISM, rows: range, n_total: int) -> dict[str, Any]:
    from fastism_cli.model import backend

    return {
        **inputs.attributes,
        "backend": backend.BACKEND,
        "backend_version": backend.version(),
        "device": backend.device_kind(),
        "n_total": n_total,
        "row_start": rows.start,
        "row_stop": rows.stop,
        "input_length": scorer.input_length,
        "engine": scorer.engine,
        "run_at_inference": ",".join(scorer.prepared.in_training),
    }
