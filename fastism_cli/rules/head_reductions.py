"""The reductions of ``--reduce``, and the choice of targets: no Keras layers, but nodes behind the model's heads."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from keras import ops

from fastism_cli.rules.base import EVERYWHERE, Call, Decline, Facts, Form, Rule, Splits, State, Window
from fastism_cli.rules.global_pool import Maximum
from fastism_cli.rules.strips import sum_rows
from fastism_cli.rules.window_arrays import per_position


class WindowSum(Rule):
    """``sum``: of the deltas in the window, as the rest of the head does not change."""

    form = Form.DELTA
    linear = True
    splits = Splits.STRIPS

    def propagate(self, facts: Facts) -> State:
        return EVERYWHERE

    def delta(self, call: Call, *inputs: Any) -> Any:
        return inputs[0].total(lambda x: self.total(call, x), ops.add)

    def total(self, call: Call, x: Any) -> Any:
        """(S, P, A, rows, *rest) -> (S, P, A, T), or (S, P, A, 1) for a head whose only axis is reduced."""
        x = sum_rows(x, keepdims=True)
        if len(call.facts.shapes[0]) == 1:
            return ops.expand_dims(ops.sum(x, axis=tuple(range(3, len(x.shape)))), -1)
        return ops.sum(x, axis=tuple(range(3, len(x.shape) - 1)))


class WindowMean(WindowSum):
    """``mean``."""

    def delta(self, call: Call, *inputs: Any) -> Any:
        shape = call.facts.shapes[0]
        return super().delta(call, *inputs) / (prod(shape[:-1]) if len(shape) > 1 else shape[0])


class WindowNorm(WindowSum):
    """``l2``: the norm of the change, all of which is in the window."""

    linear = False

    def delta(self, call: Call, *inputs: Any) -> Any:
        return ops.sqrt(super().delta(call, inputs[0].map(lambda x, *_: ops.square(x))))


class CenterSum(WindowSum):
    """``center``: the sum of the deltas at positions of the window that lie in the middle of the head."""

    splits = Splits.NONE

    def propagate(self, facts: Facts) -> State:
        flat = facts.window.flat
        if flat is not None and (flat.before or flat.total != facts.window.frame.length):
            raise Decline("counts the elements of a flattened tensor, not positions")
        return EVERYWHERE

    def delta(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        shape, frame = call.facts.shapes[0], call.facts.window.frame
        first, stop = call.layer.span(frame.length)
        rows = call.first(frame)[:, None] + np.arange(frame.width, dtype="int32")[None, :]
        inside = per_position(ops.logical_and(rows >= first, rows < stop), len(x.shape))
        x = ops.where(inside, x, ops.zeros((), x.dtype))
        for axis, n in enumerate(shape[1:-1], start=4):
            x = ops.take(x, list(range(*call.layer.span(n))), axis=axis)
        return self.total(call, x)


def positions_of_head(facts: Facts) -> tuple[tuple[int, ...], bool]:
    """The axes of a head that are reduced; they are not kept."""
    return tuple(range(len(facts.shapes[0]) - 1)), False


class WindowMax(Maximum):
    """``max``: a global maximum over the length, for heads with one axis of positions."""

    def __init__(self) -> None:
        super().__init__(positions_of_head)

    def propagate(self, facts: Facts) -> State:
        if facts.window.flat is not None or len(facts.shapes[0]) != 2:
            raise Decline(f"maximum over all of {facts.shapes[0]}")
        return super().propagate(facts)


class NeedsWholeHead(Rule):
    """Reductions in which every position influences every other; declines with the reason."""

    def __init__(self, why: str) -> None:
        self.why = why

    def propagate(self, facts: Facts) -> State:
        raise Decline(self.why)


class SelectTargets(Rule):
    """The chosen targets: some channels of every position."""

    form = Form.EITHER
    linear = True
    splits = Splits.ROWS
    keeps_places = True

    def propagate(self, facts: Facts) -> State:
        window = facts.window
        if window.flat is not None or not window.channels:
            raise Decline("chooses among elements that lie along the sequence")
        return Window(window.frame, (*window.channels[:-1], len(facts.layer.entries)))

    def value(self, call: Call, *inputs: Any) -> Any:
        return call.layer(inputs[0])

    delta = value
