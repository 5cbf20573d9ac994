"""Layers of several inputs: sums and products by position, concatenation along the channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import keras
from keras import ops

from fastism_cli.rules.base import (
    Call,
    Decline,
    Facts,
    Flat,
    Form,
    Rule,
    Splits,
    State,
    Unchanged,
    Window,
    merge_batch,
    split_batch,
)
from fastism_cli.rules.table import define
from fastism_cli.windows import Frame, hull


def aligned_hull(facts: Facts) -> Frame:
    """The common hull of the inputs' windows, which must lie in tensors of one length."""
    if not all(isinstance(state, (Window, Unchanged)) for state in facts.states):
        raise Decline("another input changes everywhere")
    if len({window.frame.length for window in facts.windows}) > 1:
        raise Decline("its inputs differ in length")
    if len({window.frame.step for window in facts.windows}) > 1:
        raise Decline("its inputs follow the sequence at different strides")
    return hull(window.frame for window in facts.windows)


class Merge(Rule):
    """Add, Multiply and the like: every output element from the same element of each input."""

    splits = Splits.ROWS

    def propagate(self, facts: Facts) -> State:
        frame = aligned_hull(facts)
        window = replace(facts.windows[0], frame=frame)
        for state, shape in zip(facts.states, facts.shapes, strict=True):
            if isinstance(state, Window) and (shape != facts.shape or state.flat != window.flat):
                raise Decline(f"broadcasts an input of shape {shape} to {facts.shape}")
            if isinstance(state, Unchanged) and shape != facts.shape and self.form is not Form.DELTA:
                raise Decline(f"broadcasts an input of shape {shape} to {facts.shape}")
        return window

    def value(self, call: Call, *inputs: Any) -> Any:
        like = max(inputs, key=lambda x: x.shape[2])
        full = [ops.broadcast_to(x, (*like.shape[:3], *x.shape[3:])) for x in inputs]
        return split_batch(call.layer([merge_batch(x) for x in full]), like)


class LinearMerge(Merge):
    """A sum of the inputs with fixed weights: the deltas are summed alike; an unchanged input adds nothing."""

    form = Form.DELTA

    def __init__(self, weights: Callable[[int], Sequence[float]]) -> None:
        self.weights = weights

    def delta(self, call: Call, *inputs: Any) -> Any:
        weights = self.weights(len(inputs))
        terms = [x * w if w != 1 else x for x, w in zip(inputs, weights, strict=True) if x is not None]
        return sum(terms[1:], terms[0])


class Concatenate(Rule):
    """Along the channels windows are put side by side; flattened tensors one after the other."""

    form = Form.DELTA
    splits = Splits.ROWS

    def propagate(self, facts: Facts) -> State:
        if all(window.flat is not None for window in facts.windows):
            return self.behind_each_other(facts)
        axis, rank = facts.layer.axis, len(facts.shape) + 1
        if axis % rank != rank - 1:
            raise Decline(f"concatenates along axis {axis}, not along the channels")
        if rank < 3 or any(window.flat is not None for window in facts.windows):
            raise Decline("concatenates a window with a flattened tensor")
        return Window(aligned_hull(facts), facts.shape[1:])

    def behind_each_other(self, facts: Facts) -> State:
        if not all(isinstance(state, (Window, Unchanged)) for state in facts.states):
            raise Decline("another input changes everywhere")
        if len(facts.windows) > 1:
            raise Decline("two flattened windows lie in different places of the result")
        place = next(i for i, state in enumerate(facts.states) if isinstance(state, Window))
        (window,) = facts.windows
        assert window.flat is not None
        before = window.flat.before + sum(prod(shape) for shape in facts.shapes[:place])
        return replace(window, flat=Flat(before, prod(facts.shape)))

    def delta(self, call: Call, *inputs: Any) -> Any:
        present = [x for x in inputs if x is not None]
        if isinstance(call.output, Window) and call.output.flat is not None:
            return present[0]
        like = present[0]
        parts = [
            ops.zeros((*like.shape[:4], *shape[1:]), dtype=like.dtype) if x is None else x
            for x, shape in zip(inputs, call.facts.shapes, strict=True)
        ]
        return ops.concatenate(parts, axis=-1)


define(LinearMerge(lambda n: [1.0] * n), keras.layers.Add)
define(LinearMerge(lambda n: [1.0, -1.0]), keras.layers.Subtract)
define(LinearMerge(lambda n: [1.0 / n] * n), keras.layers.Average)
define(Merge(), keras.layers.Multiply, keras.layers.Maximum, keras.layers.Minimum)
define(Concatenate(), keras.layers.Concatenate)
