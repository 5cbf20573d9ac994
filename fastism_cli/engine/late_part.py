"""The late part of a plan: the nodes whose input may change everywhere, which Keras itself computes.

They take complete tensors, as a forward pass does, and are as fast as one only in calls of its size: the tensors of a
whole chunk go through memory at every node. So the substitutions of a chunk are cut into pieces, and each piece passes
through all of these nodes before the next one does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from math import prod
from typing import Any

import numpy as np
from keras import ops

from fastism_cli.engine.plan import Plan, Step
from fastism_cli.engine.stage import first_rows
from fastism_cli.model import backend
from fastism_cli.rules.base import Everywhere, Unchanged, Window
from fastism_cli.rules.move_rows import place_by_rows
from fastism_cli.rules.several_windows import SumOfWindows

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
            return _Piece(self.plan, self.cuts.piece, at, full, deltas, q).heads(self.steps)

        if len(self.cuts.first) == 1:
            return of_piece(self.cuts.first[0])
        shapes = [
            (tuple(full[str(port.tensor)].shape[1:]), full[str(port.tensor)].dtype) for port in self.plan.graph.outputs
        ]
        like = [((*self.cuts.piece, *shape), dtype) for shape, dtype in shapes]
        return [self.cuts.joined(x) for x in backend.one_by_one(of_piece, self.cuts.first, like)]


class _Piece:
    """Some sequences and positions of a chunk: ``at`` holds the first of both, int32 (2,)."""

    def __init__(
        self, plan: Plan, batch: Batch, at: Any, full: Mapping[str, Any], deltas: Mapping[int, Any], q: Any
    ) -> None:
        self.plan, self.batch, self.at, self.full, self.deltas, self.q = plan, batch, at, full, deltas, q
        self.values: dict[int, Any] = {}
        self.changes: dict[int, Any] = {}

    def heads(self, steps: Sequence[Step]) -> list[Any]:
        """Deltas (s, p, A, *head shape)."""
        for step in steps:
            self._run(step)
        return [self._change(port.tensor) for port in self.plan.graph.outputs]

    def _run(self, step: Step) -> None:
        """Call the Keras layer itself on full tensors (s * p * A, ...); windows of one tensor are added up."""
        if isinstance(step.node.layer, SumOfWindows):
            self.changes[step.node.outputs[0]] = reduce(ops.add, map(self._change, step.node.inputs[:-1]))
            return
        inputs = [self._value(t) for t in step.node.inputs]
        outputs = backend.of_any_batch(step.node.call, inputs)(inputs)
        self.values.update(zip(step.node.outputs, outputs, strict=True))

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
