"""Runs a plan: one reference pass a sequence, then chunks of positions x alternates x sequences.

A chunk is one compiled call. Inside it every :class:`~fastism_cli.plan.Stage` is a compiled function of its own: a
matrix product with nothing fused to it, the sum over a kernel's taps, a run of elementwise layers. What crosses from
one stage to the next are the exports, always in delta form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from math import prod
from typing import Any

import numpy as np
from keras import ops

from fastism_cli import backend
from fastism_cli.graph import LayerGraph
from fastism_cli.plan import Cut, Operand, Plan, Stage, Step, cuts, make_plan, reaches
from fastism_cli.rules.base import Call, Everywhere, Form, State, Unchanged, Window, per_position
from fastism_cli.rules.place import place, place_by_rows
from fastism_cli.windows import ChunkCall, Frame, offsets

Arrays = dict[str, Any]


class FastEngine:
    """Delta propagation through one model for the chunks of one window of positions.

    Parameters
    ----------
    graph : LayerGraph
        With parts and reductions (see :mod:`fastism_cli.plan`).
    input_tensor : int
        The tensor that is substituted in, of shape (length, letters).
    calls : sequence of ChunkCall
        The chunks, all of ``size`` positions.
    sequences, alternates : int
        Batch axes of every call.
    variables : sequence of Keras variables
        All weights of the model.
    """

    def __init__(
        self,
        graph: LayerGraph,
        input_tensor: int,
        calls: Sequence[ChunkCall],
        *,
        size: int,
        period: int,
        sequences: int,
        alternates: int,
        variables: Sequence[Any],
    ) -> None:
        self.graph, self.input_tensor = graph, input_tensor
        self.batch = (sequences, size, alternates)
        phases = sorted({call.phase for call in calls})
        chunks = {phase: [call.q for call in calls if call.phase == phase] for phase in phases}
        self.ranges = {phase: range(min(qs), max(qs) + 1) for phase, qs in chunks.items()}
        self.plans = {phase: make_plan(graph, input_tensor, size=size, phase=phase, period=period) for phase in phases}
        self.reaches = reaches((plan, self.ranges[phase]) for phase, plan in self.plans.items())
        runners = {phase: ChunkRunner(plan, self.ranges[phase], self) for phase, plan in self.plans.items()}
        self.params = {key: value for runner in runners.values() for key, value in runner.prepare().items()}
        self.constants = {key: self._pad_constant(cut) for key, cut in self._cuts(constant=True)}
        self._run = {phase: backend.compiled(runner.run, variables) for phase, runner in runners.items()}
        self._reference = backend.compiled(self._reference_pass, variables)

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

    def reference(self, inputs: Sequence[Any]) -> tuple[list[Any], Arrays]:
        """One forward pass: predictions of all heads (S, *shape), and what the chunks need of the activations."""
        outputs, kept = self._reference(list(inputs))
        return outputs, kept

    def _reference_pass(self, inputs: Sequence[Any]) -> tuple[list[Any], Arrays]:
        values = self.graph.run(inputs)
        kept: Arrays = {"full": {str(t): values[t] for t in self.full_tensors}}
        kept["cuts"] = {
            key: self._padded(cut, self._along_length(cut, values), axis=1) for key, cut in self._cuts(constant=False)
        }
        kept["summaries"] = self._summaries(values)
        return [values[port.tensor] for port in self.graph.outputs], kept

    def _summaries(self, values: Mapping[int, Any]) -> Arrays:
        """What rules made of whole reference inputs, with axes for positions and alternates: (S, 1, 1, ...)."""
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
        """Tensors whose whole reference the chunks read: all that opaque nodes read, and the heads."""
        steps = [step for plan in self.plans.values() for step in plan.steps]
        read = {op.tensor for step in steps for op in step.operands if op.source == "full"}
        return sorted(read | {port.tensor for port in self.graph.outputs} | {self.input_tensor})

    # -- the chunks --

    def deltas(self, call: ChunkCall, kept: Arrays, bases: np.ndarray) -> list[Any]:
        """Deltas of all heads for one chunk.

        Parameters
        ----------
        bases : int32 array (S, P, A)
            Letters to substitute, for the chunk's positions in natural order.

        Returns
        -------
        list of arrays (S, P, A, *head shape), positions in the order of :meth:`order`.
        """
        order = list(self.plans[call.phase].chunk.order)
        arrays = [ops.convert_to_tensor(np.asarray(x, "int32")) for x in (call.q, bases[:, order])]
        return self._run[call.phase](kept, self.constants, self.params, *arrays)

    def order(self, call: ChunkCall) -> tuple[int, ...]:
        """Which natural position of the chunk each position of the result is."""
        return self.plans[call.phase].chunk.order


class ChunkRunner:
    """The computation of one plan, as a function that is compiled once for all chunks of its phase."""

    def __init__(self, plan: Plan, chunks: range, engine: FastEngine) -> None:
        self.plan, self.chunks, self.engine = plan, chunks, engine
        self.graph = plan.graph
        self.batch = engine.batch

    def prepare(self) -> dict[str, Arrays]:
        """Weights in the form that the rules want them, by node."""
        steps = [step for step in self.plan.steps if step.rule is not None]
        return {str(step.node.index): step.rule.prepare(step.node) for step in steps if step.rule}

    def run(self, kept: Arrays, constants: Arrays, params: Mapping[str, Arrays], q: Any, bases: Any) -> list[Any]:
        """Deltas (S, P, A, *head shape) of all heads."""
        tables = {**kept["cuts"], **constants, **kept["summaries"]}
        deltas: dict[int, Any] = {self.plan.input_tensor: self._first_delta(kept, q, bases)}
        values: dict[int, Any] = {}
        for stage in self.plan.stages:
            if stage.steps[0].rule is None:
                self._run_full(stage.steps[0], kept["full"], deltas, values, q)
            else:
                self._run_stage(stage, tables, deltas, params, q)
        return [self._head(port.tensor, kept["full"], deltas, values, q) for port in self.graph.outputs]

    def _first_delta(self, kept: Arrays, q: Any, bases: Any) -> Any:
        x = kept["full"][str(self.plan.input_tensor)]
        state = self.plan.states[self.plan.input_tensor]
        assert isinstance(state, Window)
        at = ops.clip(self._first(state.frame, q), 0, x.shape[1] - 1)
        here = ops.take(x, at, axis=1)[:, :, None]
        return ops.expand_dims(ops.one_hot(bases, x.shape[-1], dtype=x.dtype) - here, 3)

    # -- stages of rules --

    def _run_stage(
        self, stage: Stage, tables: Arrays, deltas: dict[int, Any], params: Mapping[str, Arrays], q: Any
    ) -> None:
        """Run a stage: gather what it reads outside of it, compute inside, store its exports."""
        made = {t for step in stage.steps for t in step.node.outputs}
        outer = {
            str(op.tensor): deltas[op.tensor]
            for step in stage.steps
            for op in step.operands
            if self._is_outer(op, made)
        }
        gathered = self._gather(stage, tables, q)
        weights = {str(step.node.index): params[str(step.node.index)] for step in stage.steps}
        function: Callable[..., list[Any]] = partial(self._compute, stage)
        if stage.fused:
            function = backend.stage(function)
        deltas.update(zip(stage.exports, function(outer, gathered, weights, q), strict=True))

    @staticmethod
    def _is_outer(operand: Operand, made: set[int]) -> bool:
        return operand.source in ("delta", "value") and operand.tensor not in made

    def _gather(self, stage: Stage, tables: Arrays, q: Any) -> Arrays:
        """Cut from the reference, and from constants, the frames that the stage reads."""
        found: Arrays = {}
        for step in stage.steps:
            own = summary_key(step.node.index, "")
            found.update((key, x) for key, x in tables.items() if key.startswith(own))
            for key, cut, frame in cuts(step, self.plan.states):
                if key not in found:
                    found[key] = self._cut(tables[cut_key(cut)], frame, self.engine.reaches[cut][0], q)
        return found

    def _cut(self, table: Any, frame: Frame, low: int, q: Any) -> Any:
        """(S, P or 1, width, ...) rows of ``table`` (S, length, ...), whose first row is position ``low``."""
        single = len(set(frame.starts)) == 1
        first = self._first(frame, q)[:1] if single else self._first(frame, q)
        rows = first[:, None] + (np.arange(frame.width, dtype="int32")[None, :] - np.int32(low))
        return ops.take(table, rows, axis=1)

    def _compute(self, stage: Stage, outer: Arrays, gathered: Arrays, weights: Arrays, q: Any) -> list[Any]:
        """The steps of one stage on their arrays; returns the exports in delta form."""
        deltas = {int(t): x for t, x in outer.items()}
        values: dict[int, tuple[Any, Any]] = {}
        for step in stage.steps:
            (tensor,) = step.node.outputs
            if step.form is Form.VALUE:
                values[tensor] = self._value_step(step, deltas, values, gathered, weights, q)
            else:
                deltas[tensor] = self._delta_step(step, deltas, values, gathered, weights, q)
        return [self._as_delta(t, deltas, values, q) for t in stage.exports]

    def _value_step(
        self, step: Step, deltas: Any, values: Any, gathered: Arrays, weights: Arrays, q: Any
    ) -> tuple[Any, Any]:
        pairs = [self._value_operand(step, i, op, deltas, values, gathered, q) for i, op in enumerate(step.operands)]
        call = self._call(step, gathered, weights, q)
        assert step.rule is not None
        return step.rule.both(call, [new for new, _ in pairs], [reference for _, reference in pairs])

    def _value_operand(
        self, step: Step, i: int, operand: Operand, deltas: Any, values: Any, gathered: Arrays, q: Any
    ) -> tuple[Any, Any]:
        if operand.source == "value":
            return values[operand.tensor]
        reference = gathered[f"{step.node.index}:{i}"][:, :, None]
        if operand.source == "reference":
            return reference, reference
        delta = self._placed(operand, deltas, values, q)
        return delta + reference, reference

    def _delta_step(self, step: Step, deltas: Any, values: Any, gathered: Arrays, weights: Arrays, q: Any) -> Any:
        inputs = [None if op.source == "none" else self._placed(op, deltas, values, q) for op in step.operands]
        assert step.rule is not None
        output = step.rule.delta(self._call(step, gathered, weights, q), *inputs)
        return self._masked(output, step.output, q) if step.masks else output

    def _placed(self, operand: Operand, deltas: Any, values: Any, q: Any) -> Any:
        delta = self._as_delta(operand.tensor, deltas, values, q)
        state = self.plan.states[operand.tensor]
        assert isinstance(state, Window) and operand.frame is not None
        if operand.frame == state.frame:
            return delta
        if operand.frame.step != state.frame.step:
            return place_by_rows(
                delta, self._first(state.frame, q) - self._first(operand.frame, q), operand.frame.width
            )
        return place(delta, offsets(state.frame, operand.frame), operand.frame.width)

    def _as_delta(self, tensor: int, deltas: Any, values: Any, q: Any) -> Any:
        if tensor not in deltas:
            new, reference = values[tensor]
            deltas[tensor] = self._masked(new - reference, self.plan.states[tensor], q)
        return deltas[tensor]

    def _masked(self, delta: Any, state: State, q: Any) -> Any:
        """Zeros at positions that lie outside of the tensor."""
        if not isinstance(state, Window) or not state.frame.leaves(self.chunks):
            return delta
        return ops.where(per_position(self._valid(state.frame, q), len(delta.shape)), delta, ops.zeros((), delta.dtype))

    def _call(self, step: Step, gathered: Arrays, weights: Arrays, q: Any) -> Call:
        assert step.rule is not None
        index = str(step.node.index)
        return Call(
            facts=step.facts,
            output=step.output,
            params=weights[index],
            valid=lambda frame: self._valid(frame, q),
            first=lambda frame: self._first(frame, q),
            stage=backend.stage,
            summary=summary_of(step.node.index, gathered),
            extras={n: gathered[f"{index}:{n}"] for n in step.rule.extras(step.facts, step.output)},
        )

    def _first(self, frame: Frame, q: Any) -> Any:
        starts = ops.convert_to_tensor(np.asarray(frame.starts, "int32"))
        return starts + q * np.int32(int(frame.step))

    def _valid(self, frame: Frame, q: Any) -> Any:
        rows = self._first(frame, q)[:, None] + np.arange(frame.width, dtype="int32")[None, :]
        return ops.logical_and(rows >= 0, rows < frame.length)

    # -- nodes whose whole input may change --

    def _run_full(self, step: Step, full: Arrays, deltas: dict[int, Any], values: dict[int, Any], q: Any) -> None:
        """Call the Keras layer itself on ordinary batches of S * P * A."""
        inputs = [self._full_value(t, full, deltas, values, q) for t in step.node.inputs]
        for tensor, x in zip(step.node.outputs, step.node.call(inputs), strict=True):
            values[tensor] = x

    def _full_value(self, tensor: int, full: Arrays, deltas: dict[int, Any], values: dict[int, Any], q: Any) -> Any:
        """(S * P * A, *shape)"""
        if tensor in values:
            return values[tensor]
        reference = full[str(tensor)]
        shape = tuple(reference.shape[1:])
        state = self.plan.states[tensor]
        spread = ops.reshape(reference, (self.batch[0], 1, 1, *shape))
        if isinstance(state, Unchanged):
            x = ops.broadcast_to(spread, (*self.batch, *shape))
        else:
            x = self._full_delta(tensor, shape, deltas, q) + spread
        values[tensor] = ops.reshape(x, (prod(self.batch), *shape))
        return values[tensor]

    def _full_delta(self, tensor: int, shape: tuple[int, ...], deltas: dict[int, Any], q: Any) -> Any:
        """(S, P, A, *shape)"""
        state = self.plan.states[tensor]
        delta = deltas[tensor]
        if isinstance(state, Everywhere):
            return delta
        assert isinstance(state, Window)
        rows = place_by_rows(delta, self._first(state.frame, q), state.frame.length)
        rows = ops.moveaxis(rows, 3, 3 + state.axis) if state.axis else rows
        if state.flat is None:
            return rows
        rows = ops.reshape(rows, (*self.batch, state.elements))
        after = state.flat.total - state.flat.before - rows.shape[-1]
        return ops.pad(rows, [(0, 0)] * 3 + [(state.flat.before, after)])

    def _head(self, tensor: int, full: Arrays, deltas: dict[int, Any], values: dict[int, Any], q: Any) -> Any:
        reference = full[str(tensor)]
        shape = tuple(reference.shape[1:])
        if isinstance(self.plan.states[tensor], Unchanged):
            return ops.zeros((*self.batch, *shape), reference.dtype)
        if tensor in deltas:
            return self._full_delta(tensor, shape, deltas, q)
        value = ops.reshape(values[tensor], (*self.batch, *shape))
        return value - ops.reshape(reference, (self.batch[0], 1, 1, *shape))


def summary_key(node: int, name: str) -> str:
    return f"summary:{node}:{name}"


def summary_of(node: int, arrays: Arrays) -> Arrays:
    """The summary of one node by name."""
    own = summary_key(node, "")
    return {key.removeprefix(own): x for key, x in arrays.items() if key.startswith(own)}


def cut_key(cut: Cut) -> str:
    flat = "" if cut.flat is None else f":{cut.flat.before}"
    return f"{cut.source}:{cut.tensor}:{cut.node}:{cut.axis}:{cut.length}{flat}"


def pad_with_edges(x: Any, before: int, after: int) -> Any:
    """Repeat the first and the last row of (S, L, ...) outwards."""
    left = ops.broadcast_to(x[:, :1], (x.shape[0], before, *x.shape[2:]))
    right = ops.broadcast_to(x[:, -1:], (x.shape[0], after, *x.shape[2:]))
    return ops.concatenate([left, x, right], axis=1)


def running_max(x: Any, *, backwards: bool) -> Any:
    """(S, L, C) -> (S, L + 1, C): entry ``i`` is the maximum of the rows before ``i`` (from ``i`` on, backwards).

    Doubling: after ``k`` rounds every row holds the maximum of the last ``2 ** k`` rows.
    """
    rows = ops.flip(x, axis=1) if backwards else x
    length, reach = rows.shape[1], 1
    least = ops.full((rows.shape[0], length + 1, *rows.shape[2:]), -np.inf, dtype=x.dtype)
    rows = ops.concatenate([least[:, :1], rows], axis=1)
    while reach <= length:
        rows = ops.maximum(rows, ops.concatenate([least[:, :reach], rows[:, :-reach]], axis=1))
        reach *= 2
    return ops.flip(rows, axis=1) if backwards else rows
