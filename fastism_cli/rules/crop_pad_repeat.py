"""Cropping1D, ZeroPadding1D, UpSampling1D, and the operations pad and repeat: positions move and are not mixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from keras import ops

from fastism_cli.rules.base import Call, Decline, Facts, Form, Rule, Splits, State, Window
from fastism_cli.rules.frames import Frame, expand_groups
from fastism_cli.rules.window_arrays import window_axes, without


class Move(Rule):
    """Cropping1D and ZeroPadding1D: the same positions, counted from another origin."""

    form = Form.DELTA
    linear = True
    splits = Splits.ROWS
    leaks = True

    def __init__(self, amounts: str, sign: int) -> None:
        self.amounts = amounts
        self.sign = sign

    def by(self, facts: Facts) -> int:
        return int(self.sign * getattr(facts.layer, self.amounts)[0])

    def propagate(self, facts: Facts) -> State:
        if getattr(facts.layer, "data_format", "channels_last") != "channels_last":
            raise Decline("its positions are the last axis")
        return Window(facts.window.frame.moved(self.by(facts), facts.shape[0]), facts.window.channels)

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        assert isinstance(output, Window)
        return (output.frame.moved(-self.by(facts), facts.shapes[0][0]),)

    def delta(self, call: Call, *inputs: Any) -> Any:
        return inputs[0]


class Repeat(Rule):
    """Repeat every position, or every channel."""

    form = Form.EITHER
    linear = True
    pulls = False
    fills = False
    any_axis = True

    def __init__(self, amounts: Callable[[Facts], tuple[int, int]]) -> None:
        self.amounts = amounts

    def propagate(self, facts: Facts) -> State:
        axis, size = self.amounts(facts)
        window = facts.window
        frame = expand_groups(window.frame, size) if axis == window.axis else window.frame
        return Window(frame, without(facts.shape, window.axis), axis=window.axis)

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        return (None,)

    def value(self, call: Call, *inputs: Any) -> Any:
        axis, size = self.amounts(call.facts)
        return ops.repeat(inputs[0], size, axis=window_axes((axis,), call.facts.window.axis)[0])

    delta = value


def up_sampling(facts: Facts) -> tuple[int, int]:
    """The axis (batch not counted) and the number of repeats of UpSampling1D."""
    return 0, facts.layer.size


def repeats_argument(facts: Facts) -> tuple[int, int]:
    """The axis (batch not counted) and the number of repeats of ``repeat``."""
    repeats, axis = facts.layer.repeats, facts.layer.axis
    if axis is None or not isinstance(repeats, int) or facts.window.flat is not None:
        raise Decline("repeats entries differently, or those of a flattened tensor")
    if axis % (len(facts.shape) + 1) == 0:
        raise Decline("repeats the sequences of a batch")
    return axis % (len(facts.shape) + 1) - 1, repeats


class Padded(Rule):
    """The operation ``pad`` with a constant, which does not change; the positions move."""

    form = Form.DELTA
    linear = True
    leaks = True
    any_axis = True

    def pads(self, facts: Facts) -> list[tuple[int, int]]:
        widths = list(facts.layer.pad_width)
        if facts.layer.mode != "constant":
            raise Decline(f"pads with values of the tensor (mode {facts.layer.mode!r})")
        if len(widths) != len(facts.shape) + 1 or any(widths[0]) or facts.window.flat is not None:
            raise Decline("pads the batch, or a flattened tensor")
        return [(int(a), int(b)) for a, b in widths[1:]]

    def propagate(self, facts: Facts) -> State:
        window, before = facts.window, self.pads(facts)[facts.window.axis][0]
        frame = window.frame.moved(before, facts.shape[window.axis])
        return replace(window, frame=frame, channels=without(facts.shape, window.axis))

    def demand(self, facts: Facts, output: State) -> tuple[Any, ...]:
        assert isinstance(output, Window)
        window, before = facts.window, self.pads(facts)[facts.window.axis][0]
        return (output.frame.moved(-before, window.frame.length),)

    def delta(self, call: Call, *inputs: Any) -> Any:
        pads = self.pads(call.facts)
        axis = call.facts.window.axis
        return ops.pad(inputs[0], [(0, 0)] * 4 + [*without(pads, axis)])
