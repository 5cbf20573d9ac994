"""Score the regions of a BED: check the engine on the first one, then read, compute and write at the same time."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeVar

from fastism_cli.errors import RegionError, log_of
from fastism_cli.options.run_options import RunOptions
from fastism_cli.results.chunk_writer import spare_threads
from fastism_cli.results.contents import SAME, SAME_ROWS, differences
from fastism_cli.results.ism_file import read_result
from fastism_cli.results.schema import Status
from fastism_cli.results.writer import ResultWriter, other_configuration
from fastism_cli.run.inspect_and_verify import check_engine, check_pairs
from fastism_cli.run.job import DryRun, Job, load_job
from fastism_cli.run.request import RunInputs, RunRequest, check_run, may_replace
from fastism_cli.run.scored_block import Computed, computed_blocks, settle_block, write_block
from fastism_cli.run.start_backend import import_backend
from fastism_cli.run.summary import (
    Progress,
    RunSummary,
    Silent,
    Steps,
    start_up_line,
    steady_rate,
    write_summary,
)

# --- two threads beside the main one ---------------------------------------------------------------------------------

# Each thread holds a fixed number of blocks. An exception in a thread is raised in the main thread at its next block.
# Leaving the context for any reason ends the thread.

T = TypeVar("T")

_END = object()


@contextmanager
def read_ahead(items: Generator[T, None, None], *, depth: int = 1) -> Iterator[Generator[T, None, None]]:
    """Run a generator in a thread, at most ``depth`` finished items ahead, besides the one that it works on.

    The context is an iterator over the items. It raises the generator's exception.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="reader")
    ahead: deque[Future[Any]] = deque(pool.submit(next, items, _END) for _ in range(depth + 1))

    def received() -> Generator[T, None, None]:
        while (item := ahead.popleft().result()) is not _END:
            ahead.append(pool.submit(next, items, _END))
            yield item

    try:
        yield received()
    finally:
        pool.shutdown(cancel_futures=True)
        items.close()


@contextmanager
def write_behind(write: Callable[[T], object], *, depth: int = 1) -> Iterator[Callable[[T], None]]:
    """Call ``write`` in a thread, in order; at most ``depth`` items wait, besides the one that it works on.

    The context is a function that hands an item over. It raises the exception of an earlier ``write``, and so does
    leaving the context, which waits for the last ``write`` unless the body failed. Nothing is written after an error.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
    behind: deque[Future[None]] = deque()
    failed: list[BaseException] = []

    def guarded(item: T) -> None:
        if failed:
            return
        try:
            write(item)
        except BaseException as error:
            failed.append(error)

    def put(item: T) -> None:
        behind.append(pool.submit(guarded, item))
        if len(behind) > depth + 1:
            behind.popleft().result()
        if failed:
            raise failed[0]

    try:
        yield put
        pool.shutdown()
        if failed:
            raise failed[0]
    finally:
        pool.shutdown(cancel_futures=True)


# --- the run ---------------------------------------------------------------------------------------------------------

logger = log_of(__name__)

SUMMARISED = ("device", "backend", "precision", "fastism_version", "shard_index", "num_shards", "row_start", "row_stop")
MAX_UNSCORED = 16  # a block may hold this many times its rows if most of them cannot be scored


# --- the two ways in -------------------------------------------------------------------------------------------------


def plan_run(
    model: Any, bed: str | None, fasta: str, output: str | None = None, options: RunOptions | None = None
) -> DryRun:
    """Do all checks of a run, load the model, and say what the run would do. Write nothing.

    Parameters and errors are those of :func:`score_regions`.
    """
    request = RunRequest.of(model, bed, fasta, output, options)
    with ExitStack() as stack:
        job = load_job(request, check_run(stack, request))
        return replace(job.dry_run(), statuses=Counter(row.status for row, _ in job.reader.rows()))


def score_regions(
    model: Any,
    bed: str | None,
    fasta: str,
    output: str | None = None,
    options: RunOptions | None = None,
    *,
    progress: Progress | None = None,
) -> RunSummary:
    """Score every substitution in the regions of a BED file.

    Parameters
    ----------
    model : path or keras.Model
    bed : str or None
        A path, or "-" for stdin; None scores every record of the FASTA that fits into the model's input.
    fasta : str
        Plain or compressed by bgzip.
    output : str, optional
        The HDF5 file to write; default ``<stem of the BED, or FASTA>.ism.h5`` in the current folder.
    options : RunOptions, optional
        The options of ``fastism run``.
    progress : Progress, optional
        Is called when rows are done.

    Returns
    -------
    RunSummary
        ``failed`` counts regions for which the model gave NaN or infinity; their rows have no scores.

    Raises
    ------
    UsageError
        Lists what is wrong with the inputs, before anything is written.
    VerifyError
        If the engine disagrees with plain Keras on the first region; nothing is written.
    ResourceError
        If the disk is full or there is too little memory.
    """
    return score_request(RunRequest.of(model, bed, fasta, output, options), progress)


def score_request(request: RunRequest, progress: Progress | None = None) -> RunSummary:
    """Do what :func:`score_regions` does, for a request."""
    with ExitStack() as stack:
        inputs = check_run(stack, request)
        summary = finished_before(request, inputs) or _score(request, inputs, progress or Silent())
    if path := request.options.summary:
        write_summary(path, summary, overwrite=may_replace(path, request))
    return summary


def _score(request: RunRequest, inputs: RunInputs, progress: Progress) -> RunSummary:
    steps = Steps()
    with steps.time("import"):
        import_backend(verbose=logger.isEnabledFor(logging.DEBUG))
    with steps.time("load"):
        job = load_job(request, inputs)
    plan = job.dry_run()
    for line in plan.lines():
        logger.info(line)
    for line in plan.warnings:
        logger.warning(line)
    checked = ""
    if request.options.check:
        with steps.time("check"):
            checked = check_first_region(job)
    logger.info(start_up_line(steps))
    job = replace(job, attributes={**job.attributes, "verify": checked})
    return _Run(job, progress, steps).score()


def finished_before(request: RunRequest, inputs: RunInputs) -> RunSummary | None:
    """The summary of a result that ``--resume`` finds complete, or None.

    Raises
    ------
    OutputError
        If the result is of another configuration.
    """
    if not (request.options.resume and os.path.exists(inputs.output)):
        return None
    with read_result(inputs.output) as result:
        differ = differences(result.attrs, inputs.attributes, SAME | SAME_ROWS)
        if differ:
            raise other_configuration(inputs.output, differ)
        statuses = Counter(Status(int(s)) for s in result.regions["status"])
        n, clipped = len(result.seq), result.attrs["n_clipped"]
    logger.info(f"{inputs.output} is complete already: nothing to do")
    return RunSummary(inputs.output, n, 0, 0.0, statuses, resumed=n, n_clipped=clipped)


# --- the check at the start ------------------------------------------------------------------------------------------


def check_first_region(job: Job) -> str:
    """Compare the engine with plain Keras on the first region that can be scored.

    Returns
    -------
    str
        JSON of both errors, for the result file; empty if there is no such region.

    Raises
    ------
    VerifyError
        If the engine is wrong.
    """
    block = next(job.reader.to_score(), None)
    if block is None:
        return ""
    others, columns = job.others.rows([block.rows[0].bed_row]), job.geometry.all_columns
    report = check_engine(job.scorer, block.codes, others, columns)
    if job.pairs is None:
        return report.to_json()
    of_pairs = check_pairs(job.scorer, block.codes, others, within=job.pairs.within, columns=columns)
    return json.dumps({**asdict(report), "pairs": asdict(of_pairs)})


# --- scoring ---------------------------------------------------------------------------------------------------------


class _Run:
    """The three steps of a run, which work on different blocks at the same time."""

    def __init__(self, job: Job, progress: Progress, steps: Steps) -> None:
        self.job, self.progress, self.steps = job, progress, steps
        self.statuses: Counter[Status] = Counter()
        self.rows = self.substitutions = 0
        self.before = self._compiled()

    def score(self) -> RunSummary:
        writer = self._writer()
        try:
            with self.steps.time("scoring"), writer:
                self._resume(writer)
                self._stream(writer)
        except BaseException:
            self._report_kept_rows(writer)
            raise
        return self._summary(writer)

    def _writer(self) -> ResultWriter:
        job = self.job
        return ResultWriter(
            job.inputs.output,
            job.layout,
            attributes=job.attributes,
            genome_sizes=job.inputs.genome.sizes,
            overwrite=job.request.options.overwrite,
            resume=job.request.options.resume,
            checkpoint_seconds=job.request.options.checkpoint,
            threads=spare_threads(engine_computes_here=job.attributes["device"] == "cpu"),
            guard=job.inputs.watch.check,
        )

    def _resume(self, writer: ResultWriter) -> None:
        done, n = writer.rows_done, self.job.n_rows
        if done:
            logger.info(f"resumed: {done:,} of {n:,} regions are done already")
        self.rows = done
        self.statuses.update(Status(int(status)) for status in writer.status_done)
        self.progress.start(n, done)

    def _report_kept_rows(self, writer: ResultWriter) -> None:
        if writer.rows_kept:
            logger.warning(
                f"{writer.rows_kept:,} of {self.job.n_rows:,} regions are kept in {writer.partial_path}: "
                "run again with --resume to continue"
            )

    def _changed(self) -> RegionError:
        name = self.job.inputs.bed.name
        return RegionError(f"{name} has changed since this run began: it has another number of records.")

    def _stream(self, writer: ResultWriter) -> None:
        job = self.job
        reader = replace(job.reader, first=job.reader.first + writer.rows_done)
        blocks = reader.blocks(to_score=job.block_rows, max_rows=MAX_UNSCORED * job.block_rows)
        with (
            read_ahead(self.steps.each("read", blocks)) as ready,
            write_behind(partial(self._write, writer, writer.rows_done)) as put,
        ):
            waited = self.steps.each("wait", ready)
            for computed in self.steps.each("engine", computed_blocks(job, waited)):
                put(computed)
        self.steps.seconds["engine"] -= self.steps.seconds.pop("wait", 0.0)
        if self.rows != job.n_rows:
            raise self._changed()

    def _write(self, writer: ResultWriter, after: int, computed: Computed) -> None:
        """The last of the three steps, in a thread of its own."""
        with self.steps.time("write"):
            scored = settle_block(self.job, computed)
            n = len(scored.block.rows)
            if self.rows + n > self.job.n_rows:
                raise self._changed()
            write_block(writer, scored, after=after)
            writer.n_clipped += scored.n_clipped
            self.rows += n
            self.statuses.update(row.status for row in scored.block.rows)
            self.substitutions += scored.substitutions
            writer.checkpoint_if_due()
        self.progress.advance(n, scored.substitutions)

    def _compiled(self) -> tuple[float, int]:
        """Seconds and substitutions of the calls that compiled something, so far."""
        found = self.job.scorer.batching.first_calls
        return found.seconds, found.substitutions

    def _rate(self) -> float:
        seconds, substitutions = self._compiled()
        first_calls = (seconds - self.before[0], substitutions - self.before[1])
        return steady_rate(self.substitutions, self.steps.seconds["scoring"], first_calls)

    def _summary(self, writer: ResultWriter) -> RunSummary:
        job, used = self.job, self.job.used
        return RunSummary(
            job.inputs.output,
            job.n_rows,
            self.substitutions,
            self.steps.seconds["scoring"],
            dict(self.statuses),
            writer.rows_done,
            writer.n_clipped,
            job.n_longer,
            self.steps.seconds,
            self._rate(),
            {
                "engine": used.engine,
                "engine_reason": used.engine_reason,
                "batch": used.substitutions,
                **{name: job.attributes[name] for name in SUMMARISED},
            },
            job.request.options.what_is_scored,
        )
