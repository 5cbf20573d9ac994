"""Choose the size of the compiled calls, halve it when memory runs out, and keep the device busy across batches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from math import lcm, prod
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastism_cli.engine.changes import Change, Changes, Sequences
from fastism_cli.engine.fast import FastEngine
from fastism_cli.engine.forward import ForwardPasses, NaiveEngine
from fastism_cli.engine.inputs_and_scores import Inputs, MutagenesisResult, column_of, repeat_duplicates, scatter
from fastism_cli.engine.prepare import Prepared
from fastism_cli.errors import ResourceError
from fastism_cli.model import backend
from fastism_cli.model.device_choices import device_choices
from fastism_cli.rules.frames import Blocks, ChunkCall, cover, every_position

# Substitutions of a call: with fewer, its products are slow; so they are with arrays that the system takes back after
# every use. ChromBPNet on two cores, 512 filters: 12 took 0.86 of the time of 24; 256 filters: 1.19.
MIN_SUBSTITUTIONS = 24
FEWEST_SUBSTITUTIONS = 12  # where 24 would fill more than so many bytes in the largest stage:
MIN_BYTES = 100e6
# Of a sequence with few substitutions, the pass over the sequence itself takes much of the time, and takes less for
# several at once. Basset with 96 blocks of each of 10 sequences: 175 ms in calls of 2 sequences, 155 of 5, 138 of all.
FEW = 10  # times the multiply-adds of a substitution over those of a forward pass
MIN_TOGETHER = 16  # sequences of a call
SPARE = 1.1  # for small arrays and for gaps
SHARE_OF_FREE = 0.8  # of the device's memory: the rest is for weights, references and other programs


class Engine(Protocol):
    """A compiled engine, fast or naive. ``batch`` is (sequences, positions, alternates) of a call."""

    batch: tuple[int, int, int]

    def reference(self, inputs: Sequence[Any]) -> tuple[list[Any], Any]:
        """Predictions of all heads on the sequences, and what :meth:`deltas` needs of them."""

    def deltas(self, call: ChunkCall, kept: Any, new: np.ndarray) -> list[Any]:
        """Deltas (sequences, positions, alternates, *shape) of all heads for what is put into one chunk."""


class FirstCalls:
    """What the first call of each compiled program took: nearly all of it is compiling.

    Attributes
    ----------
    seconds : float
    substitutions : int
        How many these calls scored at most.
    """

    def __init__(self) -> None:
        self.seconds, self.substitutions = 0.0, 0
        self._seen: set[Hashable] = set()

    @contextmanager
    def timed(self, program: Hashable, substitutions: int = 0) -> Iterator[None]:
        """Count the body if it is the first call of this program."""
        if program in self._seen:
            yield
            return
        began = time.perf_counter()
        yield
        self._seen.add(program)
        self.seconds += time.perf_counter() - began
        self.substitutions += substitutions


class Batching:
    """Make an engine for each shape of a call, and keep it.

    A "substitution" is one change of a block, whatever is put into it.

    Attributes
    ----------
    batch_size : "auto" or int
        The size that was asked for, or a smaller one after memory ran out.
    engines : dict
        The compiled engines and their chunks, by shape.
    first_calls : FirstCalls
    """

    def __init__(
        self, prepared: Prepared, forward: ForwardPasses, changes: Changes, engine: str, batch_size: str | int
    ) -> None:
        self.prepared, self.forward, self.changes = prepared, forward, changes
        self.engine, self.batch_size = engine, batch_size
        self.engines: dict[tuple[Any, ...], tuple[Engine, list[ChunkCall]]] = {}
        self.first_calls = FirstCalls()
        self._cover = cache(cover)
        self._period = cache(prepared.period)

    @property
    def substitutions(self) -> int:
        """How many substitutions one call holds."""
        if isinstance(self.batch_size, int):
            return self.batch_size
        if self.engine == "naive":
            return self._naive_batch
        choices = device_choices()
        plan = self.prepared.plan
        size = 4 * plan.working_set
        wanted = max(choices.working_set / size, min(plan.pays_from, choices.max_working_set / size))
        least = max(FEWEST_SUBSTITUTIONS, min(MIN_SUBSTITUTIONS, MIN_BYTES / size))
        return int(max(least, min(choices.max_substitutions, wanted, self._by_free_memory)))

    @cached_property
    def _by_free_memory(self) -> float:
        """The substitutions that fit what the device has free, before the first call."""
        free = backend.free_memory()
        return float("inf") if free is None else SHARE_OF_FREE * free / self.planned_bytes((1, 1, 1))

    def engine_for(self, positions: np.ndarray, sequences: int, substitutions: int) -> tuple[Engine, list[ChunkCall]]:
        """The compiled engine for chunks of the blocks at these positions, and the chunks. It is made once a shape.

        Parameters
        ----------
        positions : int (n,)
            Where blocks begin; the places of pairs (see :class:`fastism_cli.rules.frames.Blocks`).
        sequences : int
            How many there are to score. They are dealt out evenly to the calls, so that one shape is compiled.
        substitutions : int
            How many one call holds at most.
        """
        blocks = self.changes.blocks(positions, self.prepared.input_length)
        live = positions[~self.is_dead(positions)]
        numbers = blocks.numbers_of(live if len(live) else positions[:1])
        first = int(numbers.min()) // blocks.repeats * blocks.repeats  # pairs that begin at one position stay together
        stop = int(numbers.max()) + 1
        size = max(substitutions // self._others, 1)
        period = self._period(blocks) if self.engine == "fast" else 1
        size, calls = self._chunks(blocks, first, stop, size, period)
        together = self._together(size * self._others, substitutions, is_whole=len(calls) == 1)
        together = max(-(-sequences // -(-sequences // together)), 1) if sequences else 1
        key = (blocks, first, stop, size, together)
        if key not in self.engines:
            self.engines[key] = self._made(blocks, calls, period, size, together), calls
        return self.engines[key]

    def _together(self, of_each: int, substitutions: int, *, is_whole: bool) -> int:
        """How many sequences a call holds, of which each has so many substitutions."""
        together, plan = max(substitutions // of_each, 1), self.prepared.plan
        if not is_whole or self.batch_size != "auto" or self.engine == "naive" or of_each > FEW * plan.limit:
            return together
        choices = device_choices()
        most = min(choices.max_working_set / (4 * plan.working_set), choices.max_substitutions, self._by_free_memory)
        return max(together, min(MIN_TOGETHER, int(most / of_each)))

    def _chunks(self, blocks: Blocks, first: int, stop: int, size: int, period: int) -> tuple[int, list[ChunkCall]]:
        """The size of the chunks over the blocks ``[first, stop)``, and the chunks."""
        multiple = lcm(device_choices().multiple if self.engine == "fast" else 1, blocks.repeats)
        if blocks.are_regular:
            return self._cover(first, stop, size=size, period=period, multiple=multiple)
        # each chunk has a plan of its own: none is made larger so that they lie alike
        size, calls = self._cover(first, stop, size=size, period=1, multiple=multiple)
        return size, [ChunkCall(call.start, call.start % period, call.start // period) for call in calls]

    def planned_bytes(self, batch: tuple[int, int, int]) -> int:
        """Bytes that a call of this shape (sequences, positions, alternates) can fill beside its arguments.

        XLA's own plan of the memory for an H100 is within 4 % of what the plan counts (``make gpu-model``).
        """
        plan, substitutions = self.prepared.plan, prod(batch)
        late = min(substitutions, plan.late_substitutions)
        return int(SPARE * (substitutions * plan.peak + late * plan.late_peak) * self._bytes_each)

    def is_dead(self, positions: np.ndarray) -> np.ndarray:
        """Which blocks at these positions cannot change an output, bool (n,). The naive engine computes all."""
        if self.engine == "naive":
            return np.zeros(len(positions), bool)
        live, (first, stop) = self.prepared.live, self.changes.spans(positions)
        return (stop <= live.start) | (first >= live.stop)

    def halve(self, size: int, error: BaseException) -> None:
        """Halve the batch after a call of ``size`` substitutions ran out of memory.

        Raises
        ------
        ResourceError
            If a call already holds a single position.
        """
        if size <= self._others:
            raise ResourceError(
                f"Out of memory with {size} substitutions in one call; the model does not fit the device."
            ) from error
        self.batch_size = max(size // 2, self._others)
        self.engines.clear()

    @property
    def _bytes_each(self) -> int:
        return {"float64": 8, "bfloat16": 2}.get(self.prepared.precision, 4)

    @property
    def _others(self) -> int:
        """How many changes of a block there are: the other letters, for a letter."""
        return self.changes.alternates

    def _made(self, blocks: Blocks, calls: list[ChunkCall], period: int, size: int, sequences: int) -> Engine:
        if self.engine == "naive":
            return self._naive(blocks, size, sequences)
        with backend.matrix_precision(self.prepared.precision):
            return FastEngine(
                self.prepared.graph,
                self.prepared.input_tensor,
                blocks,
                calls,
                period=period,
                size=size,
                sequences=sequences,
                alternates=self._others,
                weights=self.prepared.weights,
                wide=self.prepared.wide_graph,
            )

    def _naive(self, blocks: Blocks, size: int, sequences: int) -> NaiveEngine:
        return NaiveEngine(
            self.forward.predict,
            self.forward.reduced,
            self.prepared.sequence_index,
            blocks,
            size=size,
            sequences=sequences,
            alternates=self._others,
            weights=self.prepared.weights,
        )

    @cached_property
    def _naive_batch(self) -> int:
        """The number of sequences in a forward pass that takes the least time for each, tried on blank sequences."""
        blank = [np.zeros((1, *shape), "float32") for shape in self.prepared.input_shapes]
        seconds: dict[int, float] = {}
        for batch in device_choices().naive_batches:
            if seconds and batch > self.prepared.input_length * self._others:
                break
            try:
                seconds[batch] = self._time_naive(blank, max(batch // self._others, 1)) / batch
            except Exception as error:
                if not (seconds and backend.is_out_of_memory(error)):
                    raise
                break
        return min(seconds, key=seconds.__getitem__)

    def _time_naive(self, blank: Sequence[np.ndarray], positions: int) -> float:
        """Seconds of one call over ``positions`` positions of one sequence, after a first call that compiles."""
        engine = self._naive(every_position(self.prepared.input_length), positions, 1)
        _, kept = engine.reference(self.forward.tensors(blank))
        bases = np.zeros((1, positions, self._others), "int32")
        for _ in range(2):
            began = time.perf_counter()
            [backend.to_numpy(x) for x in engine.deltas(ChunkCall(0, 0, 0), kept, bases)]
            spent = time.perf_counter() - began
        return spent


# --- the loop over batches -------------------------------------------------------------------------------------------

# Sequences come as tasks. What is started for them waits in one queue, across batches and across tasks, so that the
# device is not idle where a batch or a task ends.

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
