"""Run a plan: one reference pass per sequence, then chunks of blocks x alternates x sequences.

A chunk is one compiled call. Inside it every :class:`~fastism_cli.engine.plan.Stage` is a compiled function of its
own: a matrix product with nothing fused to it, the sum over a kernel's taps, a series of elementwise layers. A stage
hands its exports to the next ones, always in delta form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from typing import Any

import numpy as np
from keras import ops, tree

from fastism_cli.engine.plan import Cut, Operand, Plan, Stage, Step, cuts, reaches
from fastism_cli.engine.planner import make_plan
from fastism_cli.engine.stage import LatePart, StageOnStretch, difference_for, first_rows, summary_key
from fastism_cli.model import backend, device_choices
from fastism_cli.model.graph import LayerGraph, WeightSets
from fastism_cli.rules.base import Window
from fastism_cli.rules.frames import Blocks, ChunkCall, Frame
from fastism_cli.rules.several_windows import LetterOfPair, of_one_letter
from fastism_cli.rules.window_rows import Strip

Arrays = dict[str, Any]

# A chunk of a plan in which every change has a window, however long it lives, holds this share of the positions: it
# needs as much more memory.
WIDE_SHARE = 4
# After so many chunks of which this share did not fit into their frames, all are computed without such frames.
MIN_CALLS, MAX_MISFITS = 4, 0.25


@dataclass
class Kept:
    """What chunks need of the sequences.

    Attributes
    ----------
    inputs : list of arrays
        As :meth:`FastEngine.reference` was given them.
    arrays : dict
        The activations that the compiled function reads.
    wide : Kept, optional
        The same for the plan without frames whose width is that of a trial.
    weights : int
        The set of weights that computed them.
    """

    inputs: list[Any]
    arrays: Arrays
    wide: Kept | None = None
    weights: int = 0


class FastEngine:
    """Delta propagation through one model for the chunks of one row of blocks.

    Parameters
    ----------
    graph : LayerGraph
        As :func:`fastism_cli.engine.rewrite.rewritten` returns it.
    input_tensor : int
        The tensor that is changed, of shape (length, letters).
    blocks : Blocks
        What is replaced in it; the "positions" of a chunk are blocks, by number.
    calls : sequence of ChunkCall
        The chunks, all of ``size`` blocks.
    sequences, alternates : int
        Batch axes of every call.
    weights : WeightSets
        All weights of the model; calls take what is in use when the reference is computed.
    wide : LayerGraph, optional
        The graph for chunks in which a change leaves a frame whose width is that of a trial (see
        :mod:`fastism_cli.engine.recurrences`).

    Attributes
    ----------
    reference_pass : callable
        The compiled reference pass.
    chunks : dict
        The compiled function of a chunk for each phase.
    """

    def __init__(
        self,
        graph: LayerGraph,
        input_tensor: int,
        blocks: Blocks,
        calls: Sequence[ChunkCall],
        *,
        size: int,
        period: int,
        sequences: int,
        alternates: int,
        weights: WeightSets,
        wide: LayerGraph | None = None,
    ) -> None:
        self.graph, self.input_tensor, self.blocks = graph, input_tensor, blocks
        self.batch = (sequences, size, alternates)
        self.calls, self.period, self.weights, self.wide_graph = calls, period, weights, wide
        self.calls_made = self.misfits = 0
        phases = sorted({call.phase for call in calls})
        numbers = {phase: [call.q for call in calls if call.phase == phase] for phase in phases}
        self.ranges = {phase: range(min(qs), max(qs) + 1) for phase, qs in numbers.items()}
        self.plans = {
            phase: make_plan(graph, input_tensor, blocks, size=size, phase=phase, period=period) for phase in phases
        }
        self.reaches = reaches((plan, self.ranges[phase]) for phase, plan in self.plans.items())
        self.runners = {phase: ChunkRunner(plan, self.ranges[phase], self) for phase, plan in self.plans.items()}
        self._of_weights: dict[int, tuple[dict[str, Arrays], Arrays]] = {}
        run = {phase: runner.run for phase, runner in self.runners.items()}
        self.chunks = {phase: backend.compiled(function, weights.variables) for phase, function in run.items()}
        self.reference_pass = backend.compiled(self._reference_pass, weights.variables)

    def arrays_of_weights(self, number: int) -> tuple[dict[str, Arrays], Arrays]:
        """What rules make of a set of weights, once: arrays by node, and those that differ by position."""
        self.weights.use(number)
        if number not in self._of_weights:
            params: dict[str, Arrays] = {}
            for runner in self.runners.values():
                for node, arrays in runner.prepare().items():
                    params.setdefault(node, {}).update(arrays)
            constants = {key: self._pad_constant(cut) for key, cut in self._cuts(constant=True)}
            self._of_weights[number] = params, constants
        return self._of_weights[number]

    def _cuts(self, *, constant: bool) -> list[tuple[str, Cut]]:
        return [(cut_key(cut), cut) for cut in self.reaches if (cut.node is not None) == constant]

    def _pad_constant(self, cut: Cut) -> Any:
        steps = (step for plan in self.plans.values() for step in plan.steps)
        step = next(step for step in steps if step.node.index == cut.node and step.rule is not None)
        assert step.rule is not None
        return ops.expand_dims(self._padded(cut, step.rule.constants(step.facts)[cut.source], axis=0), 0)

    def _padded(self, cut: Cut, x: Any, *, axis: int) -> Any:
        low, high = self.reaches[cut]
        before, after = -low, high - x.shape[axis]
        if cut.source in ("prefix_max", "suffix_max"):
            return pad_with_edges(x, before, after)
        return ops.pad(x, [(before, after) if i == axis else (0, 0) for i in range(len(x.shape))])

    # -- the reference pass --

    def reference(self, inputs: Sequence[Any]) -> tuple[list[Any], Kept]:
        """One forward pass: predictions of all heads (S, *shape), and the activations that the chunks need."""
        outputs, arrays = self.reference_pass(list(inputs))
        return outputs, Kept(list(inputs), arrays, weights=self.weights.current)

    def _reference_pass(self, inputs: Sequence[Any]) -> tuple[list[Any], Arrays]:
        values = {t: backend.of_batch(x, self.batch[0]) for t, x in self.graph.run(inputs).items()}
        kept: Arrays = {"full": {str(t): values[t] for t in self.full_tensors}}
        kept["cuts"] = {
            key: self._padded(cut, self._along_length(cut, values), axis=1) for key, cut in self._cuts(constant=False)
        }
        kept["summaries"] = self._summaries(values)
        return [values[port.tensor] for port in self.graph.outputs], kept

    def _summaries(self, values: Mapping[int, Any]) -> Arrays:
        """The arrays that rules make of full reference inputs: (S, 1, 1, ...), with axes for P and A."""
        found: Arrays = {}
        steps = {step.node.index: step for plan in self.plans.values() for step in plan.steps if step.rule is not None}
        for index, step in steps.items():
            assert step.rule is not None
            for name, x in step.rule.summarise(step.facts, *(values[t] for t in step.node.inputs)).items():
                found[summary_key(index, name)] = ops.expand_dims(ops.expand_dims(x, 1), 1)
        return found

    def _along_length(self, cut: Cut, values: Mapping[int, Any]) -> Any:
        x = values[cut.tensor]
        if cut.flat is not None:
            elements = cut.length * prod(cut.channels)
            x = x[:, cut.flat.before : cut.flat.before + elements]
            x = ops.reshape(x, (self.batch[0], *cut.channels[: cut.axis], cut.length, *cut.channels[cut.axis :]))
        x = ops.moveaxis(x, 1 + cut.axis, 1) if cut.axis else x
        if cut.source == "reference":
            return x
        return running_max(x, backwards=cut.source == "suffix_max")

    @cached_property
    def full_tensors(self) -> list[int]:
        """Tensors whose full reference the chunks read: the inputs of opaque nodes, and the heads."""
        steps = [step for plan in self.plans.values() for step in plan.steps]
        read = {op.tensor for step in steps for op in step.operands if op.source == "full"}
        return sorted(read | {port.tensor for port in self.graph.outputs} | {self.input_tensor})

    # -- the chunks --

    def deltas(self, call: ChunkCall, kept: Kept, new: np.ndarray) -> list[Any]:
        """Deltas of all heads for one chunk.

        Parameters
        ----------
        new : int32 array (S, P, A), or float32 array (S or 1, P or 1, A, width, letters)
            Letters to substitute, or the rows to put into each block. For pairs int32 (S, P, n, 2): n letters for the
            first position, and for the second; A is n * n.

        Returns
        -------
        list of arrays (S, P, A, *head shape)
        """
        if self.calls_made >= MIN_CALLS and self.misfits > MAX_MISFITS * self.calls_made:
            return self._wide_deltas(call, kept, new)
        params, constants = self.arrays_of_weights(kept.weights)
        arrays = [backend.as_argument(call.q, "int32"), backend.as_argument(new, str(new.dtype))]
        heads: list[Any]
        heads, fits = self.chunks[call.phase](kept.arrays, constants, params, *arrays)
        self.calls_made += 1
        if all(bool(backend.to_numpy(fit)) for fit in fits):
            return heads
        self.misfits += 1
        return self._wide_deltas(call, kept, new)

    @cached_property
    def wide(self) -> FastEngine:
        """The engine whose frames hold every change, for shorter chunks."""
        assert self.wide_graph is not None
        sequences, size, alternates = self.batch
        pairs = self.blocks.repeats
        size = pairs * -(-size // (WIDE_SHARE * pairs))
        return FastEngine(
            self.wide_graph,
            self.input_tensor,
            self.blocks,
            [self._call_at(call.start + at) for call in self.calls for at in self._parts(size)],
            size=size,
            period=self.period,
            sequences=sequences,
            alternates=alternates,
            weights=self.weights,
        )

    def _parts(self, size: int) -> list[int]:
        """Where the parts of a chunk begin, each of ``size`` positions; the last two overlap if they must."""
        return [min(first, self.batch[1] - size) for first in range(0, self.batch[1], size)]

    def _call_at(self, start: int) -> ChunkCall:
        return ChunkCall(start, start % self.period, start // self.period)

    def _wide_deltas(self, call: ChunkCall, kept: Kept, new: np.ndarray) -> list[Any]:
        """The same as :meth:`deltas`, part by part."""
        if kept.wide is None:
            self.weights.use(kept.weights)
            _, kept.wide = self.wide.reference(kept.inputs)
        size, done = self.wide.batch[1], 0
        parts: list[list[Any]] = []
        for at in self._parts(size):
            part = new if new.shape[1] == 1 else new[:, at : at + size]
            heads = self.wide.deltas(self._call_at(call.start + at), kept.wide, part)
            parts.append([head[:, done - at :] for head in heads])
            done = at + size
        return [joined(arrays) for arrays in zip(*parts, strict=True)]


class ChunkRunner:
    """The computation of one plan, as a function that is compiled once for all chunks of its phase."""

    def __init__(self, plan: Plan, chunks: range, engine: FastEngine) -> None:
        self.plan, self.chunks, self.engine = plan, chunks, engine
        self.graph = plan.graph
        self.batch = engine.batch
        self.choices = device_choices.device_choices()
        self.late = LatePart(plan, engine.batch, plan.late_substitutions)
        self.one_letter = of_one_letter(self.graph.nodes)
        self.difference = difference_for(self.graph)
        self.fits: list[Any] = []

    def prepare(self) -> dict[str, Arrays]:
        """The weights as the rules prepare them, by node."""
        steps = [step for step in self.plan.steps if step.rule is not None]
        return {str(step.node.index): step.rule.prepare(step.facts) for step in steps if step.rule}

    def run(
        self, kept: Arrays, constants: Arrays, params: Mapping[str, Arrays], q: Any, new: Any
    ) -> tuple[list[Any], list[Any]]:
        """Deltas (S, P, A, *head shape) of all heads; whether all changes lie in their frames, bool scalars."""
        self.fits = []
        tables = {**kept["cuts"], **constants, **kept["summaries"]}
        deltas = self._first_deltas(kept, q, new)
        for stage in self.plan.stages:
            if stage.steps[0].rule is not None:
                with backend.named(f"stage of {stage.steps[0].node.name}"):
                    exports = self._run_stage(stage, tables, deltas, params, q)
                deltas.update(zip(stage.exports, exports, strict=True))
        read = {t for step in self.plan.late_steps for t in step.node.inputs}
        read |= {port.tensor for port in self.graph.outputs}
        natural = {t: self._in_order(t, x, range(self.batch[1])) for t, x in deltas.items() if t in read}
        with backend.named("stage of the late part"):
            return self.late.changes(kept["full"], natural, q), self.fits

    def _first_deltas(self, kept: Arrays, q: Any, new: Any) -> dict[int, Any]:
        """(S, P, A, width, letters): what is put into each block, or for each letter of a pair, minus what is there."""
        x = kept["full"][str(self.plan.input_tensor)]
        letters = [node.outputs[0] for node in self.graph.nodes if isinstance(node.layer, LetterOfPair)]
        if letters:
            return {t: self._first_delta(x, t, q, new[..., i]) for i, t in enumerate(letters)}
        return {self.plan.input_tensor: self._first_delta(x, self.plan.input_tensor, q, new)}

    def _first_delta(self, x: Any, tensor: int, q: Any, new: Any) -> Any:
        state = self.plan.states[tensor]
        assert isinstance(state, Window)
        at = first_rows(state.frame, q)[:, None] + np.arange(state.frame.width, dtype="int32")
        here = backend.take(x, ops.clip(at, 0, x.shape[1] - 1), axis=1)[:, :, None]
        return as_rows(new, x) - here

    # -- stages of rules --

    def _run_stage(
        self, stage: Stage, tables: Arrays, deltas: Mapping[int, Any], params: Mapping[str, Arrays], q: Any
    ) -> list[Any]:
        """The exports of a stage, in the order of its positions.

        The matrix product of the first step is computed outside of any compiled stage. All else is one compiled
        function, which takes the positions stretch by stretch and gathers the cuts of the reference that it reads.
        """
        made = {t for step in stage.steps for t in step.node.outputs}
        read = {op.tensor for step in stage.steps for op in step.operands if op.source in ("delta", "value")} - made
        weights = {str(step.node.index): params[str(step.node.index)] for step in stage.steps}
        product = None
        if stage.has_product and not self._is_inlined(stage):
            first = {
                str(op.tensor): self._in_order(op.tensor, deltas[op.tensor], stage.order)
                for op in stage.steps[0].operands
                if op.tensor in read
            }
            product = self._product(stage, first, tables, weights, q)
            read &= self._read_later(stage)
        if stage.is_product:
            return [product]
        outer = {str(t): deltas[t] for t in read}
        if not (self.choices.reorders_inside and stage.is_compiled):
            outer = self._all_in_order(stage, outer)
        read_here = {key: tables[key] for key in self._tables_of(stage, tables)}
        compute = partial(self._compute, stage)
        return (device_choices.stage(compute) if stage.is_compiled else compute)(product, outer, read_here, weights, q)

    def _all_in_order(self, stage: Stage, outer: Arrays) -> Arrays:
        return {t: self._in_order(int(t), x, stage.order) for t, x in outer.items()}

    def _is_inlined(self, stage: Stage) -> bool:
        """Whether the product of the first step is computed inside of the stage."""
        first = stage.steps[0]
        return (
            self.choices.inlines_narrow_products
            and not stage.is_product
            and first.rule is not None
            and first.rule.is_narrow(first.facts)
            and not any(self._moves(operand) for operand in first.operands)
        )

    def _tables_of(self, stage: Stage, tables: Arrays) -> set[str]:
        """The cuts of the reference and of constants, and the summaries, that the compiled function reads."""
        read = {cut_key(cut) for step in stage.elementwise for _, cut, _ in cuts(step, self.plan.states)}
        summaries = tuple(summary_key(step.node.index, "") for step in stage.steps)
        return read | {key for key in tables if key.startswith(summaries)}

    @staticmethod
    def _read_later(stage: Stage) -> set[int]:
        """Tensors that other steps than the first read."""
        return {op.tensor for step in stage.steps[1:] for op in step.operands}

    def _product(self, stage: Stage, outer: Arrays, tables: Arrays, weights: Arrays, q: Any) -> Any:
        """The matrix product of the first step: nothing is fused to it."""
        first = stage.steps[0]
        assert first.rule is not None
        if any(self._moves(operand) for operand in first.operands):
            inputs = device_choices.stage(partial(self._placed, stage))(outer, q)
        else:
            inputs = [None if op.source == "none" else outer[str(op.tensor)] for op in first.operands]
        everything = self._on_stretch(stage, (0, len(stage.order)), outer, weights, q)
        everything.gathered = self._gather([first], stage.order, tables, q)
        product = first.rule.product(everything.call(first), *inputs)
        self.fits += everything.fits
        return product

    def _moves(self, operand: Operand) -> bool:
        state = self.plan.states[operand.tensor]
        return isinstance(state, Window) and operand.frame not in (None, state.frame)

    def _placed(self, stage: Stage, outer: Arrays, q: Any) -> list[Any]:
        """The inputs of the first step in the frames that it wants, all stretches together."""
        first, results = stage.steps[0], []
        for stretch in stage.stretches:
            on_stretch = self._on_stretch(stage, stretch, outer, {}, q)
            results.append([on_stretch.array(on_stretch.placed(op), op) for op in first.operands])
        return [joined(arrays) for arrays in zip(*results, strict=True)]

    def _compute(self, stage: Stage, product: Any, outer: Arrays, tables: Arrays, weights: Arrays, q: Any) -> list[Any]:
        """The content of a compiled stage: every stretch of positions through all steps."""
        results, is_inlined = [], self._is_inlined(stage)
        if self.choices.reorders_inside and stage.is_compiled:
            outer = self._all_in_order(stage, outer)
        for stretch in stage.stretches:
            on_stretch = self._on_stretch(stage, stretch, outer, weights, q)
            on_stretch.gathered = self._gather(stage.elementwise, on_stretch.positions, tables, q)
            if is_inlined:
                of_stretch = on_stretch.narrow_product()
            else:
                of_stretch = tree.map_structure(lambda x, at=stretch: positions_of(x, at), product)
            results.append(on_stretch.run(of_stretch))
        return [joined(arrays) for arrays in zip(*results, strict=True)]

    def _on_stretch(
        self, stage: Stage, stretch: tuple[int, int], outer: Arrays, weights: Arrays, q: Any
    ) -> StageOnStretch:
        return StageOnStretch(
            stage=stage,
            states=self.plan.states,
            chunks=self.chunks,
            positions=stage.order[stretch[0] : stretch[1]],
            batch=self.batch,
            deltas={int(t): self._as_strip(int(t), positions_of(x, stretch)) for t, x in outer.items()},
            weights=weights,
            q=q,
            wrap=device_choices.stage,
            one_letter=self.one_letter,
            difference=self.difference,
        )

    def _as_strip(self, tensor: int, x: Any) -> Any:
        return Strip.of(x) if isinstance(self.plan.states[tensor], Window) else x

    def _in_order(self, tensor: int, x: Any, order: Sequence[int]) -> Any:
        """A stored delta (S, P, A, ...) with its positions in this order."""
        stored = self.plan.orders.get(tensor, tuple(range(len(order))))
        if stored == tuple(order):
            return x
        place_of = {j: i for i, j in enumerate(stored)}
        return backend.take(x, np.array([place_of[j] for j in order], "int32"), axis=1)

    def _gather(self, steps: Sequence[Step], positions: Sequence[int], tables: Arrays, q: Any) -> Arrays:
        """Cut from the reference, and from constants, the frames that these steps read, for these positions."""
        found: Arrays = {}
        for step in steps:
            own = summary_key(step.node.index, "")
            found.update((key, x) for key, x in tables.items() if key.startswith(own))
            for key, cut, frame in cuts(step, self.plan.states):
                table, low = tables[cut_key(cut)], self.engine.reaches[cut][0]
                if cut.separate:
                    found[key] = cut_slices(table, frame, low, q)
                else:
                    found[key] = cut_frames(table, frame.take(positions), low, q)
        return found


def as_rows(new: Any, like: Any) -> Any:
    """What is put into blocks, as rows (S or 1, P or 1, A, width, letters) of the type of ``like`` (S, L, letters)."""
    if len(new.shape) == 3:
        return ops.expand_dims(ops.one_hot(new, like.shape[-1], dtype=like.dtype), 3)
    return ops.cast(new, like.dtype)


def positions_of(x: Any, stretch: tuple[int, int]) -> Any:
    """The positions of a stretch, along axis 1."""
    if x is None or stretch == (0, x.shape[1]):
        return x
    return x[:, stretch[0] : stretch[1]]


def joined(arrays: Sequence[Any]) -> Any:
    return ops.concatenate(arrays, axis=1) if len(arrays) > 1 else arrays[0]


def cut_frames(table: Any, frame: Frame, low: int, q: Any) -> Any:
    """(S, P or 1, width, ...) rows of ``table`` (S, length, ...), whose first row is position ``low``."""
    first = first_rows(frame, q)
    first = first[:1] if len(set(frame.starts)) == 1 else first
    rows = first[:, None] + (np.arange(frame.width, dtype="int32")[None, :] - np.int32(low))
    return backend.take(table, rows, axis=1)


def cut_slices(table: Any, frame: Frame, low: int, q: Any) -> list[Any]:
    """The frames of a constant (1, length, ...) one by one: slices (1, width, ...), which TensorFlow does not copy."""
    rows = ops.reshape(table, table.shape[1:])
    rest = table.shape[2:]
    starts = [start - low + q * np.int32(int(frame.step)) for start in frame.starts]
    return [ops.slice(rows, [start, *(np.int32(0),) * len(rest)], [frame.width, *rest])[None] for start in starts]


def cut_key(cut: Cut) -> str:
    flat = "" if cut.flat is None else f":{cut.flat.before}"
    return f"{cut.source}:{cut.tensor}:{cut.node}:{cut.axis}:{cut.length}{flat}"


def pad_with_edges(x: Any, before: int, after: int) -> Any:
    """Repeat the first and the last row of (S, L, ...) outwards."""
    left, right = ops.repeat(x[:, :1], before, axis=1), ops.repeat(x[:, -1:], after, axis=1)
    return ops.concatenate([left, x, right], axis=1)


def running_max(x: Any, *, backwards: bool) -> Any:
    """(S, L, C) -> (S, L + 1, C): entry ``i`` is the maximum of the rows before ``i`` (from ``i`` on, backwards).

    Doubling: after ``k`` rounds every row holds the maximum of the last ``2 ** k`` rows.
    """
    rows = ops.flip(x, axis=1) if backwards else x
    length, reach = rows.shape[1], 1
    least = ops.full_like(ops.concatenate([rows[:, :1], rows], axis=1), -np.inf)  # S may not be known to a graph
    rows = ops.concatenate([least[:, :1], rows], axis=1)
    while reach <= length:
        rows = ops.maximum(rows, ops.concatenate([least[:, :reach], rows[:, :-reach]], axis=1))
        reach *= 2
    return ops.flip(rows, axis=1) if backwards else rows
