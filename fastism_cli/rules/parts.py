"""Nodes that :mod:`fastism_cli.parts` puts into a graph where one tensor has several windows.

The delta of such a tensor is the sum of its parts; parts of a layer that is not linear do not overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from keras import ops

from fastism_cli.rules.base import EVERYWHERE, UNCHANGED, Call, Facts, Form, Rule, State, Window, per_position
from fastism_cli.rules.table import define
from fastism_cli.windows import Frame, hull


@dataclass(frozen=True)
class Gather:
    """All parts of a tensor in one frame: the hull of the first ``members`` inputs; the rest are what is added up."""

    name: str
    members: int

    def __call__(self, parts: Sequence[Any]) -> list[Any]:
        return [parts[self.members]]


@dataclass(frozen=True)
class Exclude:
    """A part without what lies in the windows of the parts before it."""

    name: str

    def __call__(self, parts: Sequence[Any]) -> list[Any]:
        return [parts[0]]


@dataclass(frozen=True)
class Join:
    """All parts of a tensor laid out in full."""

    name: str

    def __call__(self, parts: Sequence[Any]) -> list[Any]:
        return [parts[0]]


@dataclass(frozen=True)
class Frozen:
    """A tensor as it is on the reference."""

    name: str

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        return [inputs[0]]


@dataclass(frozen=True)
class Total:
    """The sum of what each part alone makes of a tensor without positions; the last input is the reference."""

    name: str

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        *parts, reference = inputs
        total = reference
        for part in parts:
            total = total + (part - reference)
        return [total]


class GatherRule(Rule):
    form = Form.DELTA
    any_axis = True

    def propagate(self, facts: Facts) -> State:
        members = facts.layer.members
        return replace(facts.windows[members], frame=hull(window.frame for window in facts.windows[:members]))

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        assert isinstance(output, Window)
        members = facts.layer.members
        return (None,) * members + (output.frame,) * (len(facts.states) - members)

    def delta(self, call: Call, *inputs: Any) -> Any:
        first, *others = inputs[call.layer.members :]
        return sum(others, first)


class ExcludeRule(Rule):
    form = Form.DELTA
    any_axis = True

    def propagate(self, facts: Facts) -> State:
        return facts.windows[0]

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        assert isinstance(output, Window)
        return (output.frame, *(None for _ in facts.states[1:]))

    def delta(self, call: Call, *inputs: Any) -> Any:
        x = inputs[0]
        own, *others = (window.frame for window in call.facts.windows)
        rows = call.first(own)[:, None] + np.arange(own.width, dtype="int32")[None, :]
        for frame in others:
            first = call.first(frame)[:, None]
            taken = ops.logical_and(rows >= first, rows < first + np.int32(frame.width))
            x = ops.where(per_position(taken, len(x.shape)), ops.zeros((), x.dtype), x)
        return x


class JoinRule(Rule):
    form = Form.DELTA
    any_axis = True

    def propagate(self, facts: Facts) -> State:
        return EVERYWHERE

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        return tuple(whole_length(window.frame) for window in facts.windows)

    def delta(self, call: Call, *inputs: Any) -> Any:
        total: Any = 0
        for x, window in zip(inputs, call.facts.windows, strict=True):
            rows = ops.moveaxis(x, 3, 3 + window.axis) if window.axis else x
            if window.flat is not None:
                rows = ops.reshape(rows, (*x.shape[:3], window.elements))
                after = window.flat.total - window.flat.before - window.elements
                rows = ops.pad(rows, [(0, 0)] * 3 + [(window.flat.before, after)])
            total = total + rows
        return total


class FrozenRule(Rule):
    any_axis = True
    takes_everywhere = True

    def propagate(self, facts: Facts) -> State:
        return UNCHANGED


def whole_length(like: Frame) -> Frame:
    return Frame((0,) * len(like.starts), like.length, Fraction(0), like.length)


define(GatherRule(), Gather)
define(ExcludeRule(), Exclude)
define(JoinRule(), Join)
define(FrozenRule(), Frozen)
