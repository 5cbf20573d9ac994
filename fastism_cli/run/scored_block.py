"""Score a block of rows, decide the status of each row, and write them: the second and third step of a run."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod

import numpy as np

from fastism_cli.engine.inputs_and_scores import MutagenesisResult, PairsResult, blank, fill_up
from fastism_cli.genome.alphabet import Codes
from fastism_cli.results.layout import PairsLayout
from fastism_cli.results.schema import Status
from fastism_cli.results.writer import ResultWriter
from fastism_cli.run.job import Job
from fastism_cli.run.region_reader import Block, Row


@dataclass(frozen=True)
class Computed:
    """A block and the scores of its rows ``block.to_score``, by head.

    ``reference`` is (m, T), ``delta`` (m, T, L, letters) with NaN outside of the window, for the chosen targets;
    ``spread`` is like ``delta``, or empty; ``pairs`` (m, T, P, D, letters, letters), or empty.
    """

    block: Block
    reference: dict[str, np.ndarray] = field(default_factory=dict)
    delta: dict[str, np.ndarray] = field(default_factory=dict)
    spread: dict[str, np.ndarray] = field(default_factory=dict)
    pairs: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """A block as it is stored.

    Attributes
    ----------
    scored : bool (n,)
        Rows that have scores; ``m`` of them.
    reference : dict of head name to float32 (m, T)
    delta, spread : dict of head name to array (m, T, L, letters), in the type of the file
    pairs : dict of head name to array (m, T, P, D, letters, letters), the same
    substitutions : int
        How many were scored.
    n_clipped : int
        Deltas that were too large for the type of the file.
    """

    block: Block
    scored: np.ndarray
    reference: dict[str, np.ndarray] = field(default_factory=dict)
    delta: dict[str, np.ndarray] = field(default_factory=dict)
    spread: dict[str, np.ndarray] = field(default_factory=dict)
    pairs: dict[str, np.ndarray] = field(default_factory=dict)
    substitutions: int = 0
    n_clipped: int = 0


def computed_blocks(job: Job, blocks: Iterable[Block]) -> Generator[Computed, None, None]:
    """Run the engine on the rows that can be scored, block after block; the next one begins before one is read."""
    waiting: deque[Block] = deque()

    def batches() -> Iterator[tuple[Codes, dict[str, np.ndarray]]]:
        for block in blocks:
            waiting.append(block)
            if len(block.to_score):
                yield _batch(job, block)

    for result in _results(job, batches()):
        yield from _not_scored(waiting)
        block = waiting.popleft()
        rows = slice(len(block.to_score))
        pairs = result.interaction if isinstance(result, PairsResult) else {}
        arrays = (result.reference, result.delta, result.spread or {}, pairs)
        yield Computed(block, *(_rows(scores, rows) for scores in arrays))
    yield from _not_scored(waiting)


def _results(job: Job, batches: Iterable[tuple[Codes, dict[str, np.ndarray]]]) -> Iterator[MutagenesisResult]:
    columns = job.geometry.all_columns
    if job.pairs is None:
        return job.scorer.score_stream(batches, window=columns)
    within = job.pairs.within
    return (job.scorer.score_pairs(codes, others, within=within, window=columns) for codes, others in batches)


def _batch(job: Job, block: Block) -> tuple[Codes, dict[str, np.ndarray]]:
    """The letters and the other inputs of the rows to score, filled up to whole calls of the engine."""
    at = block.to_score
    others = job.others.rows([block.rows[i].bed_row for i in at])
    return fill_up(block.shown[at], job.sequences), {name: fill_up(x, job.sequences) for name, x in others.items()}


def _not_scored(waiting: deque[Block]) -> Iterator[Computed]:
    """The blocks at the front that have no row to score."""
    while waiting and not len(waiting[0].to_score):
        yield Computed(waiting.popleft())


def settle_block(job: Job, computed: Computed) -> Scored:
    """Decide the status of every row, and convert the deltas to the type of the file.

    This is done in the thread that writes, so that the engine does not wait for it.
    """
    block, at, reference = computed.block, computed.block.to_score, computed.reference
    if not len(at):
        return Scored(block, np.zeros(len(block.rows), bool))
    expected, delta, columns = _substituted(job, block, at), computed.delta, job.geometry.all_columns
    inside = slice(None) if job.blocks else slice(columns.start, columns.stop)
    for arrays in (delta, computed.spread):
        part = {name: x[..., inside, :] for name, x in arrays.items()}
        blank(part, slice(len(at)), ~expected[:, inside])
    pairs, both = computed.pairs, _both_substituted(job.pairs, expected)
    for x in pairs.values():
        _blank_pairs(x, ~both)
    good = _finite(reference, delta, expected) & _finite(reference, pairs, both)
    for x in (*delta.values(), *computed.spread.values(), *pairs.values()):
        x[~good] = np.nan
    dtype, kinds = job.request.options.dtype, (delta, computed.spread, pairs)
    stored, spread, stored_pairs = ({name: as_stored(x, dtype) for name, x in found.items()} for found in kinds)
    scored = np.zeros(len(block.rows), bool)
    scored[at] = True
    return Scored(
        _with_statuses(block, at, good),
        scored,
        reference,
        {name: x for name, (x, _) in stored.items()},
        {name: x for name, (x, _) in spread.items()},
        {name: x for name, (x, _) in stored_pairs.items()},
        _count(job, block.codes[at], expected & good[:, None], both[good]),
        sum(n for _, n in (*stored.values(), *stored_pairs.values())),
    )


def as_stored(delta: np.ndarray, dtype: str) -> tuple[np.ndarray, int]:
    """Convert deltas to the type of the file; return them, and how many were clipped to its largest number."""
    if dtype == "float32":
        return delta, 0
    limit = np.finfo(dtype).max
    too_large = int((np.abs(delta) > limit).sum())
    return np.clip(delta, -limit, limit).astype(dtype), too_large


def _with_statuses(block: Block, at: np.ndarray, good: np.ndarray) -> Block:
    """The block with the statuses of the rows that were scored."""
    statuses = [row.status for row in block.rows]
    for i, is_good in zip(at, good, strict=True):
        statuses[i] = Status.OK if is_good else Status.FAILED
    return block.with_statuses(statuses)


def _both_substituted(pairs: PairsLayout | None, expected: np.ndarray) -> np.ndarray:
    """Which pairs have both positions in ``expected``, bool (m, L): bool (m, P, D); (m, 0, 0) without pairs."""
    if pairs is None:
        return np.zeros((len(expected), 0, 0), bool)
    inside = expected[:, pairs.first : pairs.first + pairs.count]
    found = np.zeros((*inside.shape, pairs.within), bool)
    for distance in range(1, pairs.within + 1):
        found[:, :-distance, distance - 1] = inside[:, :-distance] & inside[:, distance:]
    return found


def _blank_pairs(values: np.ndarray, where: np.ndarray) -> None:
    """Set interactions (m, *shape, P, D, letters, letters) to NaN at some pairs, bool (m, P, D)."""
    row, first, distance = np.nonzero(where)
    flat = values.reshape(len(values), -1, *values.shape[-4:])
    flat[row, :, first, distance] = np.nan


def _count(job: Job, codes: np.ndarray, where: np.ndarray, both: np.ndarray) -> int:
    """Count the substitutions at the positions ``where``, bool (n, L): all letters at an N, else one fewer.

    Of blocks, bool (n, P): all their contents. Of pairs ``both``, bool (n, P, D), the other letters of two bases.
    """
    if job.blocks is not None:
        return int(where.sum()) * job.scorer.changes.alternates
    letters = job.reader.alphabet.size
    singles = int(where.sum() * (letters - 1) + (where & (codes == letters)).sum())
    return singles + int(both.sum()) * (letters - 1) ** 2


def _substituted(job: Job, block: Block, at: np.ndarray) -> np.ndarray:
    """Which positions of the rows ``at`` are substituted, bool (m, L); which blocks lie in them, bool (m, P)."""
    geometry = job.geometry
    codes, reverse = block.codes[at], block.is_reverse[at]
    expected = np.zeros(codes.shape, bool)
    for i, flag in enumerate(reverse):
        columns = geometry.columns(reverse=bool(flag), minus=block.rows[at[i]].strand == "-")
        expected[i, columns.start : columns.stop] = True
        if geometry.tile:
            expected[i] &= _in_region(block.rows[at[i]], geometry.length, reverse=bool(flag))
    if job.blocks is not None:
        places = job.blocks.starts[:, None] + np.arange(job.blocks.width)
        return np.asarray(expected[:, places].all(-1))
    return expected if job.request.options.n_policy == "score" else expected & (codes < job.reader.alphabet.size)


def _in_region(row: Row, length: int, *, reverse: bool) -> np.ndarray:
    """Which positions of the input are bases ``[start, end)``, bool (L,)."""
    bases = row.input_start + np.arange(length)
    inside = (bases >= row.start) & (bases < row.end)
    return inside[::-1] if reverse else inside


def _finite(reference: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray], expected: np.ndarray) -> np.ndarray:
    """Rows with finite scores wherever expected, bool (n,): at positions (n, L), blocks, or pairs (n, P, D)."""
    n = len(expected)
    good = np.ones(n, bool)
    for name, x in scores.items():
        of_each = prod(x.shape[1:]) // prod(expected.shape[1:])
        good &= np.isfinite(x).reshape(n, -1).sum(1) == expected.reshape(n, -1).sum(1) * of_each
        good &= np.isfinite(reference[name]).reshape(n, -1).all(1)
    return good


def write_block(writer: ResultWriter, scored: Scored, *, after: int) -> None:
    """Write a block, ``after`` rows further down in the file. Rows without scores keep the file's NaN."""
    block, done = scored.block, 0
    edges = [0, *(np.nonzero(np.diff(scored.scored))[0] + 1), len(block.rows)]
    for start, stop in pairwise(edges):
        values = {}
        if scored.scored[start]:
            here = slice(done, done + stop - start)
            done = here.stop
            values = {name: _rows(getattr(scored, name), here) for name in ("reference", "delta", "spread", "pairs")}
        rows = _rows(block.columns, slice(start, stop))
        writer.write_rows(after + block.row_start + start, regions=rows, seq=block.codes[start:stop], **values)


def _rows(arrays: Mapping[str, np.ndarray], rows: slice) -> dict[str, np.ndarray]:
    return {name: x[rows] for name, x in arrays.items()}
