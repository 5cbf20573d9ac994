"""One importance for each base of the genome: what bigWig and bedGraph hold."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastism_cli.export.along_genome import along_genome
from fastism_cli.export.request import ExportJob

Array = npt.NDArray[Any]

MOST_BASES = 1 << 16  # of a run: adjacent stretches are joined up to here


class Run(NamedTuple):
    """Consecutive bases from ``start`` on, float32 (K, bases); NaN where a target has no importance."""

    chrom: str
    start: int
    values: Array


def importance_runs(job: ExportJob) -> Iterator[Run]:
    """Importance of every base with scores, along the genome; overlapping regions made one by ``job.overlap``."""
    folder = os.path.dirname(job.paths[0][0])
    pending: list[Run] = []
    for segment, values in along_genome(job.frame, job.tracks, lambda block: block.importance(), folder):
        run = Run(segment.chrom, segment.start, merged(values, job.overlap))
        if pending and not _continues(pending, run):
            yield _joined(pending)
            pending = []
        pending.append(run)
    if pending:
        yield _joined(pending)


def merged(values: Array, overlap: str) -> Array:
    """One value a base from those of several regions (regions, K, bases), in their order; NaN counts as none.

    Parameters
    ----------
    overlap : "mean", "max" or "first"
        ``max`` is the largest value, not the largest magnitude; ``first`` that of the first region with a value.
    """
    if len(values) == 1:
        return np.asarray(values[0])
    if overlap == "first":
        chosen = np.isfinite(values).argmax(axis=0)[None]
        return np.asarray(np.take_along_axis(values, chosen, axis=0)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a base where all are NaN stays NaN
        if overlap == "max":
            return np.asarray(np.nanmax(values, axis=0))
        return np.asarray(np.nanmean(values, axis=0, dtype=np.float64).astype(np.float32))


def _continues(pending: list[Run], run: Run) -> bool:
    last = pending[-1]
    bases = run.start - pending[0].start
    return last.chrom == run.chrom and last.start + last.values.shape[1] == run.start and bases < MOST_BASES


def _joined(runs: list[Run]) -> Run:
    return runs[0]._replace(values=np.concatenate([run.values for run in runs], axis=1))


def known_stretches(values: Array) -> Iterator[tuple[int, Array]]:
    """Offset and values of each stretch without NaN, from float32 (bases,)."""
    known = np.isfinite(values)
    edges = np.flatnonzero(np.diff(known.astype(np.int8), prepend=0, append=0))
    for start, stop in edges.reshape(-1, 2):
        yield int(start), values[start:stop]
