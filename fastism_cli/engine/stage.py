"""Compute one stage for one stretch of its positions, and the late part of a plan, which Keras itself computes.

A stage has no matrix products, and no moves by offsets that are data. The positions of a stretch have equal offsets in
all frames of the stage, so that every move is a plain slice. Windows are strips of pieces (see
:mod:`fastism_cli.rules.window_rows`); inside the stage a tensor is a delta, or two values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from math import isqrt, prod
from operator import sub
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from fastism_cli.engine.plan import Operand, Plan, Stage, Step
from fastism_cli.model import backend
from fastism_cli.model.graph import LayerGraph, Node
from fastism_cli.rules.base import Call, Everywhere, Form, Rule, Splits, State, Unchanged, Window
from fastism_cli.rules.frames import Frame, offsets
from fastism_cli.rules.layer_calls import is_infinite_somewhere
from fastism_cli.rules.several_windows import SumOfWindows
from fastism_cli.rules.table import rule_of
from fastism_cli.rules.window_rows import Piece, Strip, by_pieces, common_breaks, place, place_by_rows


class Pair(NamedTuple):
    """A tensor in value form: ``new`` is None where it equals ``reference``, whose arrays have A = 1."""

    new: Strip
    reference: Strip

    def at(self, breaks: set[int]) -> Pair:
        return Pair(self.new.at(breaks), self.reference.at(breaks))

    def filled(self, batch: tuple[int, int, int]) -> Strip:
        """``new`` with the reference where nothing changes."""
        pieces = zip(self.new.pieces, self.reference.pieces, strict=True)
        return Strip(tuple(_repeated(r, batch) if n.array is None else n for n, r in pieces))


def _repeated(piece: Piece, batch: tuple[int, int, int]) -> Piece:
    return replace(piece, array=ops.broadcast_to(piece.array, (*batch, *piece.array.shape[3:])))


@dataclass
class StageOnStretch:
    """One stretch of positions through the steps of a stage.

    Attributes
    ----------
    positions : sequence of int
        The positions of the chunk that make the stretch.
    deltas : dict of tensor number to Strip, or to an array for what is not a window
        The tensors that the stage reads; those that its steps make are added.
    one_letter : set of int
        Tensors that one letter of a pair changes, see :func:`~fastism_cli.rules.several_windows.of_one_letter`.
    gathered : dict of arrays
        Cuts of references and constants, by step and operand.
    difference : callable
        The delta of new values and reference, see :func:`difference_for`.
    fits : list of bool scalars
        See :class:`~fastism_cli.rules.base.Call`.
    """

    stage: Stage
    states: Sequence[State]
    chunks: range
    positions: Sequence[int]
    batch: tuple[int, int, int]
    deltas: dict[int, Any]
    weights: Mapping[str, Any]
    q: Any
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
    one_letter: Set[int] = frozenset()
    difference: Callable[[Any, Any], Any] = sub
    gathered: Mapping[str, Any] = field(default_factory=dict)
    fits: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pairs: dict[int, Pair] = {}

    def run(self, product: Any) -> list[Any]:
        """The exports in delta form, as arrays (S, p, A, ...); ``product`` is the first step's, if it has one."""
        for i, step in enumerate(self.stage.steps):
            (tensor,) = step.node.outputs
            if step.form is Form.VALUE:
                self._store_value(step, tensor)
            elif i == 0 and product is not None:
                assert step.rule is not None
                self._store_delta(step, tensor, step.rule.finish(self.call(step), product))
            else:
                self._store_delta(step, tensor, self._delta(step))
        return [self._exported(tensor) for tensor in self.stage.exports]

    def narrow_product(self) -> Any:
        """The product of the first step, computed as part of the stage."""
        first = self.stage.steps[0]
        assert first.rule is not None
        inputs = [self.array(self.placed(operand), operand) for operand in first.operands]
        return first.rule.narrow_product(self.call(first), *inputs)

    def _exported(self, tensor: int) -> Any:
        delta = self.as_delta(tensor)
        if not isinstance(delta, Strip):
            return delta
        state = self.states[tensor]
        assert isinstance(state, Window)
        return delta.as_array((*self.shape_of(tensor), 0, *state.channels), self.dtype)

    def shape_of(self, tensor: int) -> tuple[int, int, int]:
        """First axes of a delta: sequences, positions of the stretch, alternates."""
        alternates = isqrt(self.batch[2]) if tensor in self.one_letter else self.batch[2]
        return self.batch[0], len(self.positions), alternates

    @property
    def dtype(self) -> Any:
        arrays = [x.any_array if isinstance(x, Strip) else x for x in self.deltas.values()]
        return next(x.dtype for x in arrays if x is not None)

    # -- delta form --

    def _store_delta(self, step: Step, tensor: int, output: Any) -> None:
        if isinstance(step.output, Window) and not isinstance(output, Strip):
            output = Strip.of(output)
        self.deltas[tensor] = self.masked(output, step.output) if step.masks else output

    def _delta(self, step: Step) -> Any:
        rule = step.rule
        assert rule is not None
        inputs = [None if op.source == "none" else self.placed(op) for op in step.operands]
        call, splits = self.call(step), rule.splits_of(step.facts)
        if splits is Splits.ROWS:
            return by_pieces(lambda *arrays: rule.delta(call, *arrays), inputs)
        inputs = [self._with_an_array(x, op) for x, op in zip(inputs, step.operands, strict=True)]
        if splits is Splits.STRIPS:
            return rule.delta(call, *inputs)
        return rule.delta(call, *[self.array(x, op) for x, op in zip(inputs, step.operands, strict=True)])

    def _with_an_array(self, strip: Any, operand: Operand) -> Any:
        """The strip, as zeros if no piece of it changes: a rule that is given strips reads their shape and type."""
        if not isinstance(strip, Strip) or strip.any_array is not None:
            return strip
        return Strip.of(self.array(strip, operand))

    def array(self, strip: Any, operand: Operand) -> Any:
        if not isinstance(strip, Strip):
            return strip
        state = self.states[operand.tensor]
        assert isinstance(state, Window)
        return strip.as_array((*self.shape_of(operand.tensor), 0, *state.channels), self.dtype)

    def placed(self, operand: Operand) -> Any:
        """The operand's delta in the frame that the rule wants."""
        state = self.states[operand.tensor]
        assert isinstance(state, Window) and operand.frame is not None
        return self.move(self.as_delta(operand.tensor), state.frame, operand.frame)

    def move(self, strip: Strip, old: Frame, new: Frame) -> Strip:
        if old == new:
            return strip
        by = offsets(old.take(self.positions), new.take(self.positions))
        if len(set(by)) == 1 and old.step == new.step:
            return strip.moved(by[0], new.width)
        known = strip.any_array
        if known is None:
            return Strip((Piece(0, new.width, None),))
        x = strip.as_array(known.shape, known.dtype)
        if old.step != new.step:
            return Strip.of(place_by_rows(x, self.first(old) - self.first(new), new.width))
        return Strip.of(place(x, by, new.width))

    def as_delta(self, tensor: int) -> Any:
        if tensor not in self.deltas:
            new, reference = self.pairs[tensor]
            pieces = zip(new.pieces, reference.pieces, strict=True)
            less = self.difference
            strip = Strip(tuple(n if n.array is None else replace(n, array=less(n.array, r.array)) for n, r in pieces))
            self.deltas[tensor] = self.masked(strip, self.states[tensor])
        return self.deltas[tensor]

    def masked(self, delta: Any, state: State) -> Any:
        """Zeros at positions that lie outside of the tensor."""
        if not isinstance(state, Window) or not state.frame.leaves(self.chunks):
            return delta
        rest = (1,) * (len(delta.any_array.shape) - 4) if delta.any_array is not None else ()
        valid = Strip.of(ops.reshape(self.valid(state.frame), (1, -1, 1, state.frame.width, *rest)))
        pieces = zip(delta.pieces, valid.at(delta.breaks).pieces, strict=True)
        return Strip(
            tuple(
                p if p.array is None else replace(p, array=ops.where(v.array, p.array, ops.zeros((), p.array.dtype)))
                for p, v in pieces
            )
        )

    # -- value form --

    def _store_value(self, step: Step, tensor: int) -> None:
        rule = step.rule
        assert rule is not None
        call, splits = self.call(step), rule.splits_of(step.facts)
        if splits in (Splits.ROWS, Splits.VIEWS):
            pairs = [self._pair(step, i, operand) for i, operand in enumerate(step.operands)]
        if splits is Splits.ROWS:
            self.pairs[tensor] = _value_by_pieces(lambda *arrays: rule.value(call, *arrays), pairs)
        elif splits is Splits.VIEWS:
            (pair,) = pairs
            pair = pair.at(common_breaks(pair))
            views = [
                Pair(*both) for both in zip(rule.views(call, pair.new), rule.views(call, pair.reference), strict=True)
            ]
            self.pairs[tensor] = _value_by_pieces(lambda *arrays: rule.value(call, *arrays), views)
        else:
            inputs = [self._value_input(step, i, splits) for i in range(len(step.operands))]
            new, reference = zip(*inputs, strict=True)
            self._store_both(step, tensor, *rule.both(call, new, reference))

    def _value_input(self, step: Step, i: int, splits: Splits) -> tuple[Any, Any]:
        """An input as the rule is given it: new values and reference; in delta form the delta and None."""
        operand = step.operands[i]
        if operand.form is Form.DELTA:
            return (None if operand.source == "none" else self.array(self.placed(operand), operand)), None
        pair = self._pair(step, i, operand)
        both = (pair.filled(self.shape_of(operand.tensor)), pair.reference)
        return both if splits is Splits.STRIPS else (both[0].as_array((), ""), both[1].as_array((), ""))

    def _store_both(self, step: Step, tensor: int, new: Any, reference: Any) -> None:
        if isinstance(step.output, Window):
            self.pairs[tensor] = Pair(Strip.of(new), Strip.of(reference))
        else:
            self.deltas[tensor] = self.difference(new, reference)

    def _pair(self, step: Step, i: int, operand: Operand) -> Pair:
        if operand.source == "value":
            return self.pairs[operand.tensor]
        reference = Strip.of(self.gathered[f"{step.node.index}:{i}"][:, :, None])
        if operand.source == "reference":
            return Pair(Strip((Piece(0, reference.width, None),)), reference)
        delta = self.placed(operand)
        pieces = zip(delta.pieces, reference.at(delta.breaks).pieces, strict=True)
        new = Strip(tuple(d if d.array is None else replace(d, array=d.array + r.array) for d, r in pieces))
        return Pair(new, reference.at(delta.breaks))

    # -- the call that rules are given --

    def call(self, step: Step) -> Call:
        assert step.rule is not None
        index = str(step.node.index)
        return Call(
            facts=step.facts,
            output=step.output,
            params=self.weights[index],
            valid=self.valid,
            first=self.first,
            stage=self.wrap,
            summary=summary_of(step.node.index, self.gathered),
            extras=self._extras(step),
            move=self.move,
            cuts=self.stage.cuts,
            fits=self.fits,
        )

    def _extras(self, step: Step) -> dict[str, Any]:
        """The cuts that the rule asked for; those of a product are gathered where it is computed, before the stage."""
        assert step.rule is not None
        keys = {name: f"{step.node.index}:{name}" for name in step.rule.extras(step.facts, step.output)}
        return {name: self.gathered[key] for name, key in keys.items() if key in self.gathered}

    def first(self, frame: Frame) -> Any:
        return first_rows(frame.take(self.positions), self.q)

    def valid(self, frame: Frame) -> Any:
        at = self.first(frame)[:, None] + np.arange(frame.width, dtype="int32")[None, :]
        return ops.logical_and(at >= 0, at < frame.length)


# Operations that make infinite numbers of finite ones.
OVERFLOWING = frozenset("divide exp exp2 expm1 log log10 log1p log2 power reciprocal rsqrt truedivide".split())


def difference_for(graph: LayerGraph) -> Callable[[Any, Any], Any]:
    """How a delta is taken in this graph: as 0 where an infinite number stays the same, if there may be any."""
    return _difference_of_any if may_be_infinite(graph) else sub


def may_be_infinite(graph: LayerGraph) -> set[int]:
    """The tensors that may hold infinite numbers, or what layers make of them."""
    found = set[int]()
    for node in graph.nodes:
        overflows = type(node.layer).__name__.lower() in OVERFLOWING or is_infinite_somewhere(node)
        if overflows or not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return found


def _difference_of_any(new: Any, reference: Any) -> Any:
    return ops.where(new == reference, ops.zeros((), new.dtype), new - reference)


def summary_key(node: int, name: str) -> str:
    return f"summary:{node}:{name}"


def summary_of(node: int, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays that a rule made of the full reference, by name."""
    own = summary_key(node, "")
    return {key.removeprefix(own): x for key, x in arrays.items() if key.startswith(own)}


def first_rows(frame: Frame, q: Any) -> Any:
    """Absolute starts of a frame in chunk ``q``, int32 (P,)."""
    starts = ops.convert_to_tensor(np.asarray(frame.starts, "int32"))
    return starts + q * np.int32(int(frame.step))


def _value_by_pieces(function: Callable[..., Any], pairs: Sequence[Pair]) -> Pair:
    """Apply a function of rows to values; an operand of a single row stands for all rows."""
    width = max(pair.reference.width for pair in pairs)
    rows = [pair for pair in pairs if pair.reference.width == width]
    breaks = common_breaks([strip for pair in rows for strip in pair])
    cut = [pair.at(breaks) if pair.reference.width == width else pair for pair in pairs]
    new, reference = [], []
    for i, piece in enumerate(next(pair for pair in cut if pair.reference.width == width).reference.pieces):
        both = [_of_piece(pair, i) for pair in cut]
        old = function(*[r for _, r in both])
        changes = any(n is not None for n, _ in both)
        reference.append(replace(piece, array=old))
        new.append(replace(piece, array=function(*[r if n is None else n for n, r in both]) if changes else None))
    return Pair(Strip(tuple(new)), Strip(tuple(reference)))


def _of_piece(pair: Pair, i: int) -> tuple[Any, Any]:
    i = min(i, len(pair.reference.pieces) - 1)
    return pair.new.pieces[i].array, pair.reference.pieces[i].array


# --- the late part of a plan -----------------------------------------------------------------------------------------

# They take complete tensors, as a forward pass does, and are as fast as one only in calls of its size: the tensors of a
# whole chunk go through memory at every node. So the substitutions of a chunk are cut into pieces, and each piece
# passes through all of these nodes before the next one does.

Batch = tuple[int, int, int]


@dataclass(frozen=True)
class Cuts:
    """A batch (sequences, positions, alternates) cut into pieces of one size: some sequences x some positions.

    ::

        5 positions, 2 a piece      [0 1] [2 3] [3 4]      the last one begins where it just fits

    Attributes
    ----------
    piece : tuple of int
        (sequences, positions, alternates) of each piece.
    """

    batch: Batch
    piece: Batch

    @classmethod
    def of(cls, batch: Batch, most: int) -> Cuts:
        """Pieces of at most ``most`` substitutions, as far as the letters of one position allow."""
        sequences, positions, alternates = batch
        at_once = _even(positions, most // (sequences * alternates))
        fits = sequences * at_once * alternates <= most
        together = sequences if fits else _even(sequences, most // alternates)
        return cls(batch, (together, at_once, alternates))

    @cached_property
    def first(self) -> np.ndarray:
        """The first sequence and the first position of every piece, int32 (pieces, 2)."""
        starts = [
            [min(i, n - size) for i in range(0, n, size)]
            for n, size in zip(self.batch[:2], self.piece[:2], strict=True)
        ]
        return np.array([(s, p) for s in starts[0] for p in starts[1]], "int32")

    def joined(self, pieces: Any) -> Any:
        """Results (pieces, *piece, ...) as one array (*batch, ...)."""
        rest = tuple(pieces.shape[4:])
        flat = ops.reshape(pieces, (-1, self.batch[2], *rest))
        return ops.reshape(backend.take(flat, self._place, axis=0), (*self.batch, *rest))

    @cached_property
    def _place(self) -> np.ndarray:
        """The number of the result of each sequence and position, int32 (sequences * positions,)."""
        place = np.zeros(self.batch[:2], "int32")
        numbers = np.arange(prod(self.piece[:2]), dtype="int32").reshape(self.piece[:2])
        for i, (s, p) in enumerate(self.first):
            place[s : s + self.piece[0], p : p + self.piece[1]] = numbers + i * numbers.size
        return place.reshape(-1)


def _starts(total: int, size: int) -> list[int]:
    return [min(first, total - size) for first in range(0, total, size)]


def _even(total: int, most: int) -> int:
    """The size of the fewest parts of ``total`` that hold at most ``most`` each, and nearly the same."""
    return -(-total // -(-total // max(min(most, total), 1)))


class LatePart:
    """The late part of one plan, for calls of one shape.

    Parameters
    ----------
    plan : Plan
    batch : tuple of int
        (sequences, positions, alternates) of a call.
    most : int
        Substitutions of a piece.
    """

    def __init__(self, plan: Plan, batch: Batch, most: int) -> None:
        self.plan, self.steps = plan, plan.late_steps
        self.cuts = Cuts.of(batch, most if self.steps else prod(batch))
        self.rules = rules_of_changes([step.node for step in self.steps], may_be_infinite(plan.graph))

    def changes(self, full: Mapping[str, Any], deltas: Mapping[int, Any], q: Any) -> list[Any]:
        """Deltas (S, P, A, *head shape) of all heads.

        Parameters
        ----------
        full : dict of arrays (S, *shape)
            The reference of tensors, by number.
        deltas : dict of arrays (S, P, A, ...)
            What the early stages made, positions in natural order.
        """

        def of_piece(at: Any) -> list[Any]:
            return _Piece(self.plan, self.cuts.piece, at, full, deltas, q).heads(self.steps, self.rules)

        if len(self.cuts.first) == 1:
            return of_piece(self.cuts.first[0])
        shapes = [
            (tuple(full[str(port.tensor)].shape[1:]), full[str(port.tensor)].dtype) for port in self.plan.graph.outputs
        ]
        like = [((*self.cuts.piece, *shape), dtype) for shape, dtype in shapes]
        return [self.cuts.joined(x) for x in backend.one_by_one(of_piece, self.cuts.first, like)]


def rules_of_changes(nodes: Iterable[Node], infinite: Set[int]) -> dict[int, Rule]:
    """The rules that may take a change alone, by node; a change between infinite numbers is no number."""
    single = [node for node in nodes if len(node.inputs) == 1 and infinite.isdisjoint(node.inputs)]
    rules = {node.index: rule_of(node) for node in single}
    return {index: rule for index, rule in rules.items() if rule is not None and rule.takes_changes}


class _Piece:
    """Some sequences and positions of a chunk: ``at`` holds the first of both, int32 (2,)."""

    def __init__(
        self, plan: Plan, batch: Batch, at: Any, full: Mapping[str, Any], deltas: Mapping[int, Any], q: Any
    ) -> None:
        self.plan, self.batch, self.at, self.full, self.deltas, self.q = plan, batch, at, full, deltas, q
        self.values: dict[int, Any] = {}
        self.changes: dict[int, Any] = {}

    def heads(self, steps: Sequence[Step], rules: Mapping[int, Rule]) -> list[Any]:
        """Deltas (s, p, A, *head shape)."""
        for step in steps:
            self._run(step, rules.get(step.node.index))
        return [self._change(port.tensor) for port in self.plan.graph.outputs]

    def _run(self, step: Step, rule: Rule | None) -> None:
        """Call the Keras layer itself on full tensors (s * p * A, ...); windows of one tensor are added up.

        A few linear layers are quicker by their rule, which takes the change alone.
        """
        if isinstance(step.node.layer, SumOfWindows):
            self.changes[step.node.outputs[0]] = reduce(ops.add, map(self._change, step.node.inputs[:-1]))
            return
        if rule is not None and (delta := self._by_rule(step.node, rule)) is not None:
            self.changes[step.node.outputs[0]] = delta
            return
        inputs = [self._value(t) for t in step.node.inputs]
        outputs = backend.of_any_batch(step.node.call, inputs)(inputs)
        self.values.update(zip(step.node.outputs, outputs, strict=True))

    def _by_rule(self, node: Node, rule: Rule) -> Any | None:
        """The delta (s, p, A, *shape) of the output; None: Keras runs the layer."""
        (tensor,) = node.inputs
        if tensor in self.values and self.values[tensor].shape[0] != prod(self.batch):
            return None
        change = self._change(tensor)
        delta = rule.change_everywhere(node, ops.reshape(change, (-1, *change.shape[3:])))
        return None if delta is None else ops.reshape(delta, (*self.batch, *delta.shape[1:]))

    def _value(self, tensor: int) -> Any:
        """(s * p * A, *shape)"""
        if tensor not in self.values:
            reference = self._reference(tensor)
            shape = tuple(reference.shape[3:])
            if isinstance(self.plan.states[tensor], Unchanged):
                x = ops.broadcast_to(reference, (*self.batch, *shape))
            else:
                x = self._change(tensor) + reference
            self.values[tensor] = ops.reshape(x, (prod(self.batch), *shape))
        return self.values[tensor]

    def _change(self, tensor: int) -> Any:
        """The delta (s, p, A, *shape) of a tensor."""
        if tensor in self.changes:
            return self.changes[tensor]
        if tensor in self.deltas:
            return self._laid_out(tensor)
        reference = self._reference(tensor)
        shape = (*self.batch, *reference.shape[3:])
        if isinstance(self.plan.states[tensor], Unchanged):
            return ops.zeros(shape, reference.dtype)
        return ops.reshape(self.values[tensor], shape) - reference

    def _reference(self, tensor: int) -> Any:
        """(s, 1, 1, *shape)"""
        x = self._cut(self.full[str(tensor)], 0, axis=0)
        return ops.reshape(x, (self.batch[0], 1, 1, *x.shape[1:]))

    def _cut(self, x: Any, which: int, *, axis: int) -> Any:
        """The sequences (``which`` 0) or the positions (1) of the piece, along an axis of an array."""
        size = self.batch[which]
        if x.shape[axis] == size:
            return x
        starts = [self.at[which] if i == axis else np.int32(0) for i in range(len(x.shape))]
        return ops.slice(x, starts, [size if i == axis else n for i, n in enumerate(x.shape)])

    def _laid_out(self, tensor: int) -> Any:
        """The delta (s, p, A, *shape) of a tensor that an early stage made, at all positions."""
        state, delta = self.plan.states[tensor], self._cut(self._cut(self.deltas[tensor], 0, axis=0), 1, axis=1)
        if isinstance(state, Everywhere):
            return delta
        assert isinstance(state, Window)
        first = self._cut(first_rows(state.frame, self.q), 1, axis=0)
        rows = place_by_rows(delta, first, state.frame.length)
        rows = ops.moveaxis(rows, 3, 3 + state.axis) if state.axis else rows
        if state.flat is None:
            return rows
        rows = ops.reshape(rows, (*self.batch, state.elements))
        after = state.flat.total - state.flat.before - rows.shape[-1]
        return ops.pad(rows, [(0, 0)] * 3 + [(state.flat.before, after)])
