"""A run from end to end: check, load, verify, then read, compute and write at the same time."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastism_cli.checks import ModelChoices, RunInputs, check_run, check_space, size_text
from fastism_cli.inputs import OtherInputs, fit_inputs
from fastism_cli.io.hdf5 import Layout, ResultWriter
from fastism_cli.io.schema import Status
from fastism_cli.overlap import read_ahead, write_behind
from fastism_cli.provenance import run_attributes
from fastism_cli.quiet import import_backend
from fastism_cli.reader import Block, Reader
from fastism_cli.regions import Geometry
from fastism_cli.run_options import RunOptions, default_output
from fastism_cli.targets import Output, choose_outputs

if TYPE_CHECKING:
    from fastism_cli.ism import FastISM

logger = logging.getLogger(__name__)

BLOCK_ROWS = 64
BLOCK_BYTES = 16e6  # of deltas; about five blocks exist at a time
MOST_UNSCORED = 16  # a block may hold this many times its rows when most of them cannot be scored


class Progress(Protocol):
    """Told how a run goes on."""

    def start(self, rows: int) -> None: ...
    def advance(self, rows: int, substitutions: int) -> None: ...


class Silent:
    """Progress that nobody watches."""

    def start(self, rows: int) -> None:
        pass

    def advance(self, rows: int, substitutions: int) -> None:
        pass


@dataclass(frozen=True)
class RunPlan:
    """What a run will do."""

    model: str
    input_name: str
    input_length: int
    window: int
    heads: tuple[Output, ...]
    engine: str
    reason: str
    batch: int
    regions: int
    output: str
    output_bytes: int

    def lines(self) -> list[str]:
        """For the log: model, heads, engine and why, batch, size of the result."""
        heads = ", ".join(f"{head.name} {_shape_text(head)}" for head in self.heads)
        return [
            f"model {self.model}: input {self.input_name!r} of {self.input_length:,} bases, heads: {heads}",
            f"engine {self.engine}: {self.reason}; {self.batch:,} substitutions a call",
            f"{self.regions:,} regions, {self.window:,} bases of each substituted -> {self.output} "
            f"(up to {size_text(self.output_bytes)})",
        ]


@dataclass(frozen=True)
class RunSummary:
    """What a run did. ``seconds`` are those of scoring, without loading and checking."""

    output: str
    regions: int
    substitutions: int
    seconds: float
    statuses: Mapping[Status, int]

    @property
    def failed(self) -> int:
        return self.statuses.get(Status.FAILED, 0)

    @property
    def line(self) -> str:
        """``3 regions, 4,500 substitutions -> FILE (9,000 substitutions/s)``"""
        rate = self.substitutions / max(self.seconds, 1e-9)
        return (
            f"{self.regions:,} regions, {self.substitutions:,} substitutions -> {self.output} "
            f"({rate:,.0f} substitutions/s)"
        )


@dataclass(frozen=True)
class Job:
    """A run that is ready to go."""

    options: RunOptions
    inputs: RunInputs
    scorer: FastISM
    reader: Reader
    others: OtherInputs
    outputs: tuple[Output, ...]
    attributes: Mapping[str, Any]
    sequences: int  # that one call of the engine holds

    @property
    def geometry(self) -> Geometry:
        return self.reader.geometry

    @property
    def layout(self) -> Layout:
        heads = tuple(output.layout for output in self.outputs)
        letters, o = self.reader.alphabet.letters, self.options
        return Layout(self.inputs.n_rows, self.geometry.length, heads, letters, o.dtype, o.compression)

    @property
    def output_bytes(self) -> int:
        """Upper estimate of the file's size: what is not computed compresses to nothing."""
        layout = self.layout
        refs = sum(4 * prod(layout.ref_shape(head)) for head in layout.heads)
        window = 1.0 if layout.compression == "none" else self.geometry.window / self.geometry.length
        return int(layout.delta_bytes * window) + prod(layout.seq_shape) + refs

    @property
    def block_rows(self) -> int:
        """Rows to score at a time: whole calls of the engine, in bounded memory."""
        heads = sum(prod(head.shape) for head in self.scorer.heads)
        row = 4 * heads * self.geometry.length * self.reader.alphabet.size
        rows = int(min(max(BLOCK_BYTES // row, 1), BLOCK_ROWS))
        return -(-rows // self.sequences) * self.sequences

    def plan(self, model: Any) -> RunPlan:
        scorer = self.scorer
        name = os.fspath(model) if isinstance(model, (str, os.PathLike)) else scorer.model.name
        return RunPlan(
            name,
            scorer.input_names[scorer.sequence_index],
            self.geometry.length,
            self.geometry.window,
            self.outputs,
            scorer.engine,
            scorer.engine_reason,
            scorer._batch(),
            self.inputs.n_rows,
            self.inputs.output,
            self.output_bytes,
        )


def _shape_text(head: Output) -> str:
    kept = f"({', '.join(map(str, head.layout.shape))})"
    return kept if head.layout.reduce == "none" else f"{kept} by {head.layout.reduce}"


# --- the two ways in -------------------------------------------------------------------------------------------------


def plan_run(model: Any, bed: str, fasta: str, output: str | None = None, **options: Any) -> RunPlan:
    """Do all checks of a run, load the model, and say what the run would do; writes nothing.

    Takes what :func:`score_regions` takes.
    """
    with _prepared(model, bed, fasta, output, RunOptions(**options)) as job:
        return job.plan(model)


def score_regions(
    model: Any, bed: str, fasta: str, output: str | None = None, *, progress: Progress | None = None, **options: Any
) -> RunSummary:
    """Score every substitution in the regions of a BED file.

    Parameters
    ----------
    model : path or keras.Model
    bed : str
        A path, or "-" for stdin.
    fasta : str
        Plain or compressed by bgzip.
    output : str, optional
        The HDF5 file to write; default ``<bed stem>.ism.h5`` in the current folder.
    options
        Fields of :class:`fastism_cli.run_options.RunOptions`.

    Returns
    -------
    RunSummary
        ``failed`` counts regions for which the model gave NaN or infinity: their row has no scores.

    Raises
    ------
    UsageError
        Whatever is wrong with the inputs, before anything is written.
    VerifyError
        If the engine disagrees with plain Keras on the first region; nothing is written.
    ResourceError
        If the disk is full or the memory does not do.
    """
    with _prepared(model, bed, fasta, output, RunOptions(**options)) as job:
        for line in job.plan(model).lines():
            logger.info(line)
        if job.options.check:
            check_engine(job)
        return _Run(job, progress or Silent()).score()


@contextmanager
def _prepared(model: Any, bed: str, fasta: str, output: str | None, options: RunOptions) -> Iterator[Job]:
    with ExitStack() as stack:
        inputs = check_run(stack, model, bed, fasta, output or default_output(bed), options)
        scorer = load_scorer(model, inputs.choices, options)
        job = _job(model, fasta, inputs, scorer, options)
        job.reader.check()
        check_space(inputs.output, job.output_bytes)
        yield job


def load_scorer(model: Any, choices: ModelChoices, options: RunOptions) -> FastISM:
    """Load a model and make its engine: the first thing that needs Keras."""
    import_backend(verbose=logger.isEnabledFor(logging.DEBUG))
    from fastism_cli.io.models import load_model
    from fastism_cli.ism import FastISM

    if isinstance(model, (str, os.PathLike)):
        loading = {"custom_objects": options.custom_objects, "allow_lambda": options.allow_lambda}
        model = load_model(os.fspath(model), weights=options.weights, **loading)
    return FastISM(model, reduce=reductions(model, choices.reduce), **options.scorer_options())


def reductions(model: Any, asked: Mapping[str | None, str]) -> str | dict[str, str] | None:
    """``--reduce`` as :class:`FastISM` takes it."""
    from fastism_cli.graph import output_names

    named = {name: kind for name, kind in asked.items() if name is not None}
    if None not in asked:
        return named or None
    if not named:
        return asked[None]
    positional = [n for n, y in zip(output_names(model), model.outputs, strict=True) if len(y.shape) > 2]
    return {name: asked[None] for name in positional} | named


def _job(model: Any, fasta: str, inputs: RunInputs, scorer: FastISM, options: RunOptions) -> Job:
    from fastism_cli.batches import sequences_per_call

    geometry = Geometry(
        scorer.input_length, options.window or scorer.input_length, options.center, options.stranded
    )
    choices = inputs.choices
    policies = {name: getattr(options, name) for name in ("limit", "edge", "n_policy", "max_n")}
    return Job(
        options,
        inputs,
        scorer,
        Reader(inputs.bed, inputs.genome, geometry, choices.alphabet, **policies),
        fit_inputs(choices.inputs, other_shapes(scorer), inputs.n_regions),
        choose_outputs(scorer.heads, choices.targets, choices.target_names),
        _attributes(model, fasta, inputs, scorer, options),
        sequences_per_call(scorer, geometry.all_columns),
    )


def other_shapes(scorer: FastISM) -> dict[str, tuple[int, ...]]:
    """Inputs that are not the sequence, without the batch axis."""
    shapes = zip(scorer.input_names, scorer.input_shapes, strict=True)
    return {name: shape for i, (name, shape) in enumerate(shapes) if i != scorer.sequence_index}


def _attributes(model: Any, fasta: str, inputs: RunInputs, scorer: FastISM, options: RunOptions) -> dict[str, Any]:
    from fastism_cli import backend

    return run_attributes(model, options, inputs.bed.sha256) | {
        "backend": backend.BACKEND,
        "device": backend.device_kind(),
        "fasta_path": fasta,
        "bed_path": inputs.bed.name,
        "n_total": inputs.n_rows,
        "row_start": 0,
        "row_stop": inputs.n_rows,
        "shard_index": 0,
        "num_shards": 1,
        "input_length": scorer.input_length,
        "engine": scorer.engine,
    }


# --- the check at the start ------------------------------------------------------------------------------------------


def check_engine(job: Job) -> None:
    """Compare the engine with plain Keras on the first region that can be scored.

    Raises
    ------
    VerifyError
        If it is wrong.
    """
    from fastism_cli.verify import verify

    block = next((b for b in job.reader.blocks(to_score=1, most_rows=1) if len(b.to_score)), None)
    if block is None:
        return
    others = job.others.rows([block.row_start])
    report = verify(job.scorer, block.one_hot, others, columns=job.geometry.all_columns)
    report.require()
    logger.info(report.line)


# --- scoring ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scored:
    """A block with its scores, by head, for the rows ``block.to_score`` alone."""

    block: Block
    scored: np.ndarray  # bool (n,): rows that have scores
    reference: dict[str, np.ndarray] = field(default_factory=dict)
    delta: dict[str, np.ndarray] = field(default_factory=dict)
    substitutions: int = 0


class _Run:
    """The three steps, each on its own block at the same time."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self.job, self.progress = job, progress
        self.statuses: Counter[Status] = Counter()
        self.substitutions = 0

    def score(self) -> RunSummary:
        job, started = self.job, time.monotonic()
        self.progress.start(job.inputs.n_rows)
        file = {"attributes": job.attributes, "genome_sizes": job.inputs.genome.sizes, "overwrite": job.options.overwrite}
        rows = job.block_rows
        with ResultWriter(job.inputs.output, job.layout, **file) as writer:
            self._stream(job.reader.blocks(to_score=rows, most_rows=MOST_UNSCORED * rows), writer)
        seconds = time.monotonic() - started
        return RunSummary(job.inputs.output, job.inputs.n_rows, self.substitutions, seconds, dict(self.statuses))

    def _stream(self, blocks: Any, writer: ResultWriter) -> None:
        with read_ahead(blocks) as ready, write_behind(lambda scored: write_block(writer, scored)) as put:
            for block in ready:
                scored = score_block(self.job, block)
                put(scored)
                self.statuses.update(row.status for row in scored.block.rows)
                self.substitutions += scored.substitutions
                self.progress.advance(len(block.rows), scored.substitutions)


def score_block(job: Job, block: Block) -> Scored:
    """Run the engine on the rows of a block that can be scored, and give every row its status."""
    at = block.to_score
    if not len(at):
        return Scored(block, np.zeros(len(block.rows), bool))
    reference, delta = _engine_scores(job, block, at)
    reverse = block.is_reverse[at]
    delta = {name: _spread(x, job.geometry, reverse, job.options.dtype) for name, x in delta.items()}
    expected = _substituted(job, block.codes[at], reverse)
    good = _finite(reference, delta, expected)
    for x in delta.values():
        x[~good] = np.nan
    scored = np.zeros(len(block.rows), bool)
    scored[at] = True
    statuses = [row.status for row in block.rows]
    for i, is_good in zip(at, good, strict=True):
        statuses[i] = Status.OK if is_good else Status.FAILED
    letters = job.reader.alphabet.size
    known = (block.codes[at] < letters) & expected
    count = int(((letters - 1) * known + letters * (expected & ~known))[good].sum())
    return Scored(block.with_statuses(statuses), scored, reference, delta, count)


def _engine_scores(job: Job, block: Block, at: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """References (n, T) and deltas (n, T, window, letters) of the chosen targets."""
    from fastism_cli.batches import fill_up

    scorer, n = job.scorer, len(at)
    inputs = job.others.rows([block.rows[i].bed_row for i in at])
    inputs[scorer.input_names[scorer.sequence_index]] = block.one_hot
    result = scorer(fill_up(inputs, job.sequences), positions=job.geometry.all_columns)
    reference = {o.name: o.take(result.reference[o.name][:n], axis=-1) for o in job.outputs}
    return reference, {o.name: o.take(result.delta[o.name][:n], axis=-3) for o in job.outputs}


def _spread(delta: np.ndarray, geometry: Geometry, reverse: np.ndarray, dtype: str) -> np.ndarray:
    """(n, T, L, letters) in the type of the file, from (n, T, window, letters): NaN outside of the window."""
    with np.errstate(over="ignore"):  # what is too large for float16 becomes infinite, and its row fails
        delta = delta.astype(dtype, copy=False)
    first = geometry.all_columns.start
    if len(geometry.all_columns) == geometry.length == geometry.window:
        return delta
    full = np.full((*delta.shape[:-2], geometry.length, delta.shape[-1]), np.nan, dtype)
    for flag in (False, True):
        columns = geometry.columns(reverse=flag)
        rows = np.nonzero(reverse == flag)[0]
        full[rows, ..., columns.start : columns.stop, :] = delta[rows, ..., columns.start - first : columns.stop - first, :]
    return full


def _substituted(job: Job, codes: np.ndarray, reverse: np.ndarray) -> np.ndarray:
    """Which positions of each row have scores, bool (n, L)."""
    expected = np.zeros(codes.shape, bool)
    for flag in (False, True):
        columns = job.geometry.columns(reverse=flag)
        expected[np.nonzero(reverse == flag)[0], columns.start : columns.stop] = True
    return expected if job.options.n_policy == "score" else expected & (codes < job.reader.alphabet.size)


def _finite(reference: Mapping[str, np.ndarray], delta: Mapping[str, np.ndarray], expected: np.ndarray) -> np.ndarray:
    """Rows whose every score is a number, bool (n,)."""
    n = len(expected)
    good = np.ones(n, bool)
    for name, x in delta.items():
        wanted = expected.sum(1) * x.shape[-1] * prod(x.shape[1:-2])
        good &= np.isfinite(x).reshape(n, -1).sum(1) == wanted
        good &= np.isfinite(reference[name]).reshape(n, -1).all(1)
    return good


def write_block(writer: ResultWriter, scored: Scored) -> None:
    """Store a block: rows without scores keep the file's NaN."""
    block, done = scored.block, 0
    edges = [0, *(np.nonzero(np.diff(scored.scored))[0] + 1), len(block.rows)]
    for start, stop in zip(edges, edges[1:], strict=False):
        values = {}
        if scored.scored[start]:
            here = slice(done, done + stop - start)
            done = here.stop
            values = {"reference": _rows(scored.reference, here), "delta": _rows(scored.delta, here)}
        rows = _rows(block.columns, slice(start, stop))
        writer.write_rows(block.row_start + start, regions=rows, seq=block.codes[start:stop], **values)


def _rows(arrays: Mapping[str, np.ndarray], rows: slice) -> dict[str, np.ndarray]:
    return {name: x[rows] for name, x in arrays.items()}


__all__ = ["Progress", "RunPlan", "RunSummary", "check_engine", "plan_run", "replace", "score_regions"]
