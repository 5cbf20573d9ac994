"""A run from end to end: verify on the first region, then read, compute and write at the same time."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any, Protocol

import numpy as np

from fastism_cli.errors import RegionError
from fastism_cli.io.hdf5 import ResultWriter
from fastism_cli.io.schema import Status
from fastism_cli.job import Job, RunPlan, prepared
from fastism_cli.overlap import read_ahead, write_behind
from fastism_cli.reader import Block
from fastism_cli.regions import Geometry
from fastism_cli.run_options import RunOptions

logger = logging.getLogger(__name__)

MOST_UNSCORED = 16  # a block may hold this many times its rows when most of them cannot be scored


WORDS = {
    Status.EDGE: "past the end of their contig",
    Status.MISSING_CONTIG: "on a missing contig",
    Status.TOO_MANY_N: "with too many N",
    Status.FAILED: "failed",
}


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
    def unscored(self) -> str:
        """``2 on a missing contig, 1 with too many N``; empty if every region was scored."""
        return ", ".join(f"{n:,} {WORDS[s]}" for s, n in sorted(self.statuses.items()) if s != Status.OK)

    @property
    def failed_line(self) -> str:
        """What to tell about failed regions."""
        noun = "region" if self.failed == 1 else "regions"
        return f"{self.failed} {noun} failed: the model gave NaN or infinity there (status 5 in {self.output})"

    @property
    def line(self) -> str:
        """``3 regions, 4,500 substitutions -> FILE (9,000 substitutions/s)``"""
        rate = self.substitutions / max(self.seconds, 1e-9)
        return (
            f"{self.regions:,} regions, {self.substitutions:,} substitutions -> {self.output} "
            f"({rate:,.0f} substitutions/s)"
        )


# --- the two ways in -------------------------------------------------------------------------------------------------


def plan_run(model: Any, bed: str, fasta: str, output: str | None = None, **options: Any) -> RunPlan:
    """Do all checks of a run, load the model, and say what the run would do; writes nothing.

    Takes what :func:`score_regions` takes.
    """
    with prepared(model, bed, fasta, output, RunOptions(**options)) as job:
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
    with prepared(model, bed, fasta, output, RunOptions(**options)) as job:
        for line in job.plan(model).lines():
            logger.info(line)
        if job.options.check:
            check_engine(job)
        return _Run(job, progress or Silent()).score()


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
        self.rows = self.substitutions = 0

    def score(self) -> RunSummary:
        job, started = self.job, time.monotonic()
        self.progress.start(job.inputs.n_rows)
        rows = job.block_rows
        with self._writer() as writer:
            self._stream(job.reader.blocks(to_score=rows, most_rows=MOST_UNSCORED * rows), writer)
        seconds = time.monotonic() - started
        return RunSummary(job.inputs.output, job.inputs.n_rows, self.substitutions, seconds, dict(self.statuses))

    def _writer(self) -> ResultWriter:
        job = self.job
        return ResultWriter(
            job.inputs.output,
            job.layout,
            attributes=job.attributes,
            genome_sizes=job.inputs.genome.sizes,
            overwrite=job.options.overwrite,
        )

    def _count(self, block: Block) -> None:
        self.rows += len(block.rows)
        if self.rows > self.job.inputs.n_rows:
            raise self._changed()

    def _changed(self) -> RegionError:
        name, n = self.job.inputs.bed.name, self.job.inputs.n_rows
        return RegionError(f"{name} had {n:,} records and has changed since this run began. Start it again.")

    def _stream(self, blocks: Generator[Block, None, None], writer: ResultWriter) -> None:
        with read_ahead(blocks) as ready, write_behind(partial(write_block, writer)) as put:
            for block in ready:
                self._count(block)
                scored = score_block(self.job, block)
                put(scored)
                self.statuses.update(row.status for row in scored.block.rows)
                self.substitutions += scored.substitutions
                self.progress.advance(len(block.rows), scored.substitutions)
        if self.rows < self.job.inputs.n_rows:
            raise self._changed()


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
    for flag in set(reverse.tolist()):
        columns = geometry.columns(reverse=flag)
        rows = np.nonzero(reverse == flag)[0]
        full[rows, ..., columns.start : columns.stop, :] = delta[
            rows, ..., columns.start - first : columns.stop - first, :
        ]
    return full


def _substituted(job: Job, codes: np.ndarray, reverse: np.ndarray) -> np.ndarray:
    """Which positions of each row have scores, bool (n, L)."""
    expected = np.zeros(codes.shape, bool)
    for flag in set(reverse.tolist()):
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
    for start, stop in pairwise(edges):
        values = {}
        if scored.scored[start]:
            here = slice(done, done + stop - start)
            done = here.stop
            values = {"reference": _rows(scored.reference, here), "delta": _rows(scored.delta, here)}
        rows = _rows(block.columns, slice(start, stop))
        writer.write_rows(block.row_start + start, regions=rows, seq=block.codes[start:stop], **values)


def _rows(arrays: Mapping[str, np.ndarray], rows: slice) -> dict[str, np.ndarray]:
    return {name: x[rows] for name, x in arrays.items()}
