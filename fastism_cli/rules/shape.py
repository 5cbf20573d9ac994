"""Layers that move positions without mixing them: cropping, padding, repeating."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from fastism_cli.rules.base import Call, Facts, Form, Rule, Splits, State, Window
from fastism_cli.rules.table import define
from fastism_cli.windows import Frame


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
        return self.sign * getattr(facts.layer, self.amounts)[0]

    def propagate(self, facts: Facts) -> State:
        return Window(facts.window.frame.moved(self.by(facts), facts.shape[0]), facts.window.channels)

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        assert isinstance(output, Window)
        return (output.frame.moved(-self.by(facts), facts.shapes[0][0]),)

    def delta(self, call: Call, *inputs: Any) -> Any:
        return inputs[0]


class Repeat(Rule):
    """UpSampling1D: every position ``size`` times."""

    form = Form.EITHER
    linear = True
    pulls = False
    fills = False

    def propagate(self, facts: Facts) -> State:
        size, frame = facts.layer.size, facts.window.frame
        starts = tuple(start * size for start in frame.starts)
        return Window(Frame(starts, frame.width * size, frame.step * size, facts.shape[0]), facts.window.channels)

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        return (None,)

    def value(self, call: Call, *inputs: Any) -> Any:
        return ops.repeat(inputs[0], call.layer.size, axis=3)

    delta = value


define(Move("cropping", -1), keras.layers.Cropping1D)
define(Move("padding", +1), keras.layers.ZeroPadding1D)
define(Repeat(), keras.layers.UpSampling1D)
