"""Add, Subtract, Average, Multiply, Maximum, Minimum and Concatenate: layers of several inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Any

from keras import ops

from fastism_cli.rules.base import Call, Decline, Facts, Flat, Form, Rule, Splits, State, Unchanged, Window
from fastism_cli.rules.frames import Frame, hull
from fastism_cli.rules.layer_calls import from_keras, require_no_constant_by_position, to_keras, without


def aligned_hull(facts: Facts) -> Frame:
    """The common hull of the inputs' windows; declines if their tensors differ in length, axis or stride."""
    if not all(isinstance(state, (Window, Unchanged)) for state in facts.states):
        raise Decline("another input changes everywhere")
    if len({window.frame.length for window in facts.windows}) > 1:
        raise Decline("its inputs differ in length")
    if len({window.frame.step for window in facts.windows}) > 1:
        raise Decline("its inputs follow the sequence at different strides")
    if len({(window.axis, window.rank, window.flat) for window in facts.windows}) > 1:
        raise Decline("its inputs have their positions along different axes")
    return hull(window.frame for window in facts.windows)


class Merge(Rule):
    """Add, Multiply and the like: every output element from the same element of each input, channels broadcast."""

    any_axis = True
    condition = "if no input changes everywhere"

    splits = Splits.ROWS

    def propagate(self, facts: Facts) -> State:
        window = replace(facts.windows[0], frame=aligned_hull(facts))
        if window.flat is not None:
            return self.propagate_flat(facts, window)
        for state, shape in zip(facts.states, facts.shapes, strict=True):
            if len(shape) != len(facts.shape):
                raise Decline(f"broadcasts an input of shape {shape} to {facts.shape}")
            if isinstance(state, Window) and shape[window.axis] != facts.shape[window.axis]:
                raise Decline("repeats one position of an input at every position")
        require_no_constant_by_position(facts, window.axis)
        return replace(window, channels=without(facts.shape, window.axis))

    def propagate_flat(self, facts: Facts, window: Window) -> State:
        for state, shape in zip(facts.states, facts.shapes, strict=True):
            is_alike = not isinstance(state, Window) or (state.flat, state.shape) == (window.flat, window.shape)
            if shape != facts.shape or not is_alike:
                raise Decline("its inputs are flattened in different ways")
        require_no_constant_by_position(facts, 0)
        return window

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        assert isinstance(output, Window)
        frames = []
        for state, shape in zip(facts.states, facts.shapes, strict=True):
            repeated = isinstance(state, Unchanged) and output.flat is None and shape[output.axis] == 1
            frames.append(first_position(output.frame) if repeated else output.frame)
        return tuple(frames)

    def value(self, call: Call, *inputs: Any) -> Any:
        like = max(inputs, key=lambda x: x.shape[2])
        full = [ops.broadcast_to(x, (*like.shape[:3], *x.shape[3:])) for x in inputs]
        window = call.output
        assert isinstance(window, Window)
        axis = 0 if window.flat is not None else window.axis
        return from_keras(call.facts.node.call([to_keras(x, axis) for x in full])[0], like, axis)


class MergeAlong(Merge):
    """An operation of several tensors that works along their channels, such as ``take_along_axis``."""

    def propagate(self, facts: Facts) -> State:
        window, axis = facts.windows[0], facts.layer.axis
        if window.flat is not None or axis is None or axis % (len(facts.shape) + 1) in (0, window.axis + 1):
            raise Decline(f"works along axis {axis}, that of the positions")
        return super().propagate(facts)


def first_position(like: Frame) -> Frame:
    """The only position of a tensor that is the same for all."""
    return Frame((0,) * len(like.starts), 1, Fraction(0), 1)


class LinearMerge(Merge):
    """A sum of the inputs with fixed weights: the deltas are summed alike; an unchanged input adds nothing."""

    form = Form.DELTA
    linear = True

    def __init__(self, weights: Callable[[int], Sequence[float]]) -> None:
        self.weights = weights

    def delta(self, call: Call, *inputs: Any) -> Any:
        weights = self.weights(len(inputs))
        terms = [x * w if w != 1 else x for x, w in zip(inputs, weights, strict=True) if x is not None]
        total = sum(terms[1:], terms[0])
        assert isinstance(call.output, Window)
        return ops.broadcast_to(total, (*total.shape[:4], *call.output.channels))


class Concatenate(Rule):
    """Windows are put side by side along the channels, and flattened tensors one after the other."""

    form = Form.DELTA
    linear = True
    splits = Splits.ROWS
    leaks = True  # positions past the end of an input are valid where another input follows
    any_axis = True
    condition = "if no input changes everywhere"

    def axis(self, facts: Facts) -> int:
        """The axis, batch not counted."""
        return int(facts.layer.axis % (len(facts.shape) + 1)) - 1

    def propagate(self, facts: Facts) -> State:
        if self.axis(facts) < 0:
            raise Decline("puts sequences behind those of the batch")
        if all(window.flat is not None for window in facts.windows):
            return self.behind_each_other(facts)
        if any(window.flat is not None for window in facts.windows):
            raise Decline("concatenates a window with a flattened tensor")
        window = facts.windows[0]
        if self.is_along_positions(facts):
            return self.end_to_end(facts)
        return Window(aligned_hull(facts), without(facts.shape, window.axis), axis=window.axis)

    def is_along_positions(self, facts: Facts) -> bool:
        return self.axis(facts) == facts.windows[0].axis

    def puts_apart(self, facts: Facts) -> bool:
        """Whether equal positions of two inputs come to lie in different places of the result."""
        return any(window.flat is not None for window in facts.windows) or self.is_along_positions(facts)

    def end_to_end(self, facts: Facts) -> State:
        if len(facts.windows) > 1 or not all(isinstance(state, (Window, Unchanged)) for state in facts.states):
            raise Decline("several windows lie in different places of the result")
        (window,) = facts.windows
        return replace(window, frame=window.frame.moved(self.before(facts), facts.shape[window.axis]))

    def before(self, facts: Facts) -> int:
        """Positions of the inputs that come before the one that changes."""
        place = next(i for i, state in enumerate(facts.states) if isinstance(state, Window))
        return sum(shape[facts.windows[0].axis] for shape in facts.shapes[:place])

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        assert isinstance(output, Window)
        if output.flat is not None or not self.is_along_positions(facts):
            return tuple(output.frame for _ in facts.states)
        frame = output.frame.moved(-self.before(facts), facts.windows[0].frame.length)
        return tuple(frame if isinstance(state, Window) else None for state in facts.states)

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
        assert isinstance(call.output, Window)
        if call.output.flat is not None or self.is_along_positions(call.facts):
            return present[0]
        like = present[0]
        along, axis = call.output.axis, self.axis(call.facts)
        arrays = [
            ops.zeros((*like.shape[:4], *without(shape, along)), dtype=like.dtype) if x is None else x
            for x, shape in zip(inputs, call.facts.shapes, strict=True)
        ]
        return ops.concatenate(arrays, axis=4 + axis - (axis > along))
