"""A run from end to end: verify on the first region, then read, compute and write at the same time."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from fastism_cli.blocks import score_block, write_block
from fastism_cli.errors import RegionError
from fastism_cli.io.hdf5 import ResultWriter
from fastism_cli.io.schema import Status
from fastism_cli.job import Job, RunPlan, prepared
from fastism_cli.overlap import read_ahead, write_behind
from fastism_cli.reader import Block
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
        checked = check_engine(job) if job.options.check else ""
        job = replace(job, attributes={**job.attributes, "verify": checked})
        return _Run(job, progress or Silent()).score()


# --- the check at the start ------------------------------------------------------------------------------------------


def check_engine(job: Job) -> str:
    """Compare the engine with plain Keras on the first region that can be scored.

    Returns
    -------
    str
        JSON of both errors, for the result file; empty if there is no such region.

    Raises
    ------
    VerifyError
        If it is wrong.
    """
    from fastism_cli.verify import verify

    block = next((b for b in job.reader.blocks(to_score=1, most_rows=1) if len(b.to_score)), None)
    if block is None:
        return ""
    others = job.others.rows([block.row_start])
    report = verify(job.scorer, block.one_hot, others, columns=job.geometry.all_columns)
    report.require()
    logger.info(report.line)
    return report.to_json()


# --- scoring ---------------------------------------------------------------------------------------------------------


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
