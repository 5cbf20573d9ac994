"""The loop over batches: a device computes the next calls while the scores of the last ones are read.

Sequences come as tasks. What is started for them waits in one queue, across batches and across tasks, so that the
device is not idle where a batch or a task ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastism_cli.engine.batching import Batching
from fastism_cli.engine.changes import Change, Changes, Sequences
from fastism_cli.engine.forward import ForwardPasses
from fastism_cli.engine.given_inputs import Inputs
from fastism_cli.engine.mutagenesis_result import MutagenesisResult
from fastism_cli.engine.prepare import Prepared
from fastism_cli.engine.score_arrays import column_of, repeat_duplicates, scatter
from fastism_cli.model import backend
from fastism_cli.rules.blocks import Blocks

# Calls that the device may hold beside the one that is read: one that computes, and one that waits for it.
AHEAD = 2


@dataclass
class Task:
    """Sequences to score, and where their scores go.

    Attributes
    ----------
    wanted : int (p,)
        The positions to substitute, where blocks begin, or the places of pairs, in the order of the length axis of
        ``result.delta``.
    blocks : Blocks
        The blocks that the engine computes for them.
    changes : Changes
        What is put in the place of the reference.
    weights : int
        The set of the weights of the model.
    done : int
        How many sequences have their scores.
    advance : callable
        Told of how many substituted positions there are scores now.
    """

    inputs: Inputs
    wanted: np.ndarray
    blocks: Blocks
    result: MutagenesisResult
    changes: Changes
    weights: int = 0
    done: int = 0
    advance: Callable[[int], object] = lambda positions: None

    @cached_property
    def numbers(self) -> np.ndarray:
        """The number of the block of each wanted position, int (p,)."""
        return self.blocks.numbers_of(self.wanted)

    @cached_property
    def columns(self) -> np.ndarray:
        """The column of the result for each block by number, int (blocks + 1,); -1 for none, and at the end."""
        return np.append(column_of(self.numbers, self.blocks.count), -1)


class Piece(NamedTuple):
    """Work that was started.

    Attributes
    ----------
    finish : callable
        Reads what the device has computed, and says whether its task is done.
    calls : int
        How many calls of the engine it waits for.
    waits : bool
        Whether it waits for the device.
    """

    finish: Callable[[], bool]
    calls: int = 0
    waits: bool = True


class BatchLoop:
    """Score tasks batch by batch."""

    def __init__(self, prepared: Prepared, forward: ForwardPasses, batching: Batching) -> None:
        self.prepared, self.forward, self.batching = prepared, forward, batching

    def scored(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """Fill the results of the tasks; yields each when it is done, in their order.

        A batch that does not fit the memory is halved and scored again, with those that were begun after it.
        """
        source, begun = iter(tasks), deque[Task]()
        while True:
            try:
                for _ in self._until_done(source, begun):
                    yield begun.popleft()
                return
            except Exception as error:
                if not (begun and backend.is_out_of_memory(error)):
                    raise
                self.batching.halve(self.batching.substitutions, error)

    def _until_done(self, source: Iterator[Task], begun: deque[Task]) -> Iterator[None]:
        """Yield whenever the first task of ``begun`` is done; tasks of ``source`` are added to it as they begin."""
        pieces, waiting = self._pieces(source, begun), deque[Piece]()
        while True:
            with backend.matrix_precision(self.prepared.precision):
                piece = next(pieces, None)
            if piece is not None:
                waiting.append(piece)
            while waiting and (piece is None or not waiting[0].waits or sum(w.calls for w in waiting) > AHEAD):
                if waiting.popleft().finish():
                    yield
            if piece is None:
                return

    def _pieces(self, source: Iterator[Task], begun: deque[Task]) -> Iterator[Piece]:
        """Start the work of all tasks, piece by piece."""
        for task in list(begun):
            yield from self._pieces_of(task)
        for task in source:
            begun.append(task)
            yield from self._pieces_of(task)

    def _pieces_of(self, task: Task) -> Iterator[Piece]:
        n, first = len(task.inputs.codes), task.done
        if not n or not len(task.wanted):
            if n:
                self.prepared.weights.use(task.weights)
                task.result.reference.update(self.forward.heads(task.inputs.arrays))
            yield Piece(lambda: True, waits=False)
            return
        if not first:
            for values in task.result.delta.values():
                values[..., self.batching.is_dead(task.wanted), :] = 0
        while first < n:
            engine, calls = self.batching.engine_for(task.wanted, n, self.batching.substitutions)
            sequences, size, _ = engine.batch
            rows = slice(first, min(first + sequences, n))
            # a batch is filled up by repeating its last sequence
            take = np.minimum(np.arange(rows.start, rows.start + sequences), rows.stop - 1)
            arrays = [x[take] for x in task.inputs.arrays]
            given = Sequences(task.inputs.codes[take], arrays[self.prepared.sequence_index])
            self.prepared.weights.use(task.weights)
            with self.batching.first_calls.timed(id(engine)):
                outputs, kept = engine.reference(self.forward.tensors(arrays))
            backend.start_copy(outputs)
            yield Piece(partial(self._read_reference, task, rows, outputs))
            for call in calls:
                if not (task.columns[call.start : call.start + size] >= 0).any():
                    continue
                at = task.columns[np.minimum(call.start + np.arange(size), len(task.columns) - 1)]
                for change in task.changes.of_chunk(given, task.blocks, call.start, size):
                    with self.batching.first_calls.timed((id(engine), call.phase), prod(engine.batch)):
                        deltas = engine.deltas(call, kept, change.new)
                    backend.start_copy(deltas)
                    yield Piece(partial(self._read_deltas, task, rows, deltas, at, change), calls=1)
            yield Piece(partial(self._end_batch, task, rows), waits=False)
            first = rows.stop

    def _read_reference(self, task: Task, rows: slice, outputs: list[Any]) -> bool:
        for head, output in zip(self.prepared.heads, outputs, strict=True):
            values = np.reshape(backend.to_numpy(output), (-1, *head.shape))
            task.result.reference[head.name][rows] = values[: rows.stop - rows.start]
        return False

    def _read_deltas(self, task: Task, rows: slice, deltas: list[Any], at: np.ndarray, change: Change) -> bool:
        for head, values in zip(self.prepared.heads, deltas, strict=True):
            count = rows.stop - rows.start
            scores = task.changes.settled(backend.to_numpy(values), change)
            scatter(task.result.delta[head.name][rows], scores, at, change.slots[:count])
        task.advance((rows.stop - rows.start) * int((at >= 0).sum()))
        return False

    def _end_batch(self, task: Task, rows: slice) -> bool:
        delta = task.result.delta
        repeat_duplicates(delta, rows, task.numbers, task.columns)
        task.changes.end(delta, rows, task.inputs.codes[rows], task.wanted)
        task.done = rows.stop
        return task.done == len(task.inputs.codes)


@dataclass(frozen=True)
class Scorer:
    """What scores the changes of one width.

    Attributes
    ----------
    starts : int (blocks,), or None
        Where the blocks begin; None for substitutions, at every position.
    columns : int (blocks,), or None
        Their places in the result, if there are other widths too.
    """

    prepared: Prepared
    changes: Changes
    batching: Batching
    loop: BatchLoop
    starts: np.ndarray | None = None
    columns: np.ndarray | None = None
