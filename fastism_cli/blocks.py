"""One block of a run: through the engine, and into the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod

import numpy as np

from fastism_cli.io.hdf5 import ResultWriter
from fastism_cli.io.schema import Status
from fastism_cli.job import Job
from fastism_cli.reader import Block
from fastism_cli.regions import Geometry


@dataclass(frozen=True)
class Scored:
    """A block with its scores, by head, for the rows ``block.to_score`` alone."""

    block: Block
    scored: np.ndarray  # bool (n,): rows that have scores
    reference: dict[str, np.ndarray] = field(default_factory=dict)
    delta: dict[str, np.ndarray] = field(default_factory=dict)
    substitutions: int = 0


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
    count = _count(job, block.codes[at], expected & good[:, None])
    return Scored(_with_outcome(block, at, good), scored, reference, delta, count)


def _with_outcome(block: Block, at: np.ndarray, good: np.ndarray) -> Block:
    """The block with the statuses of the rows that were scored."""
    statuses = [row.status for row in block.rows]
    for i, is_good in zip(at, good, strict=True):
        statuses[i] = Status.OK if is_good else Status.FAILED
    return block.with_statuses(statuses)


def _count(job: Job, codes: np.ndarray, where: np.ndarray) -> int:
    """Substitutions at some positions, bool (n, L): one more at an N, which has no letter to spare."""
    letters = job.reader.alphabet.size
    return int(where.sum() * (letters - 1) + (where & (codes == letters)).sum())


def _engine_scores(job: Job, block: Block, at: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """References (n, T) and deltas (n, T, window, letters) of all heads."""
    from fastism_cli.batches import fill_up

    scorer, n = job.scorer, len(at)
    inputs = job.others.rows([block.rows[i].bed_row for i in at])
    inputs[scorer.input_names[scorer.sequence_index]] = block.one_hot
    result = scorer(fill_up(inputs, job.sequences), positions=job.geometry.all_columns)
    reference = {name: x[:n] for name, x in result.reference.items()}
    return reference, {name: x[:n] for name, x in result.delta.items()}


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
