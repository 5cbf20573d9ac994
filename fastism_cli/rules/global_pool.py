"""GlobalAveragePooling and GlobalMaxPooling (1D, 2D, 3D), operations like sum, mean, max, and ``--reduce``.

Over the positions only the window is computed: the rest of the tensor adds what it adds to the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from keras import ops

from fastism_cli.model import backend
from fastism_cli.model.reductions import Mean, Reduction
from fastism_cli.rules.base import EVERYWHERE, Call, Decline, Extra, Facts, Form, Rule, Splits, State, Window
from fastism_cli.rules.frames import Frame, dilated_span, pad_amounts
from fastism_cli.rules.layer_calls import (
    arguments,
    first_spatial,
    from_keras,
    lowest,
    per_position,
    to_keras,
    window_axes,
    without,
)
from fastism_cli.rules.window_rows import by_pieces, max_rows, rows_at, sum_rows

# The axes that are reduced (batch not counted), and whether they are kept with length 1.
Reduced = Callable[[Facts], tuple[tuple[int, ...], bool]]


def spatial_axes(facts: Facts) -> tuple[tuple[int, ...], bool]:
    """The axes of a global pooling: all but the channels."""
    first = first_spatial(facts.layer)
    return tuple(range(first, first + len(facts.shapes[0]) - 1)), facts.layer.keepdims


def axis_argument(facts: Facts) -> tuple[tuple[int, ...], bool]:
    """The axes of an operation with ``axis`` and ``keepdims``."""
    axis, rank = facts.layer.axis, len(facts.shapes[0]) + 1
    given = range(rank) if axis is None else axis if isinstance(axis, (list, tuple)) else (axis,)
    axes = tuple(sorted(int(a) % rank for a in given))
    if 0 in axes:
        raise Decline("reduces over the sequences of a batch")
    return tuple(a - 1 for a in axes), getattr(facts.layer, "keepdims", False)


def sum_over(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    """``ops.sum`` that sums the rows (axis 3) first."""
    return (
        ops.sum(sum_rows(x, keepdims=True), axis=axis, keepdims=keepdims) if 3 in axis else ops.sum(x, axis, keepdims)
    )


class Reduce(Rule):
    """A reduction over some axes: with the positions, or over channels alone, which leaves a window."""

    any_axis = True

    def __init__(self, reduced: Reduced) -> None:
        self.reduced = reduced

    def propagate(self, facts: Facts) -> State:
        axes, keepdims = self.reduced(facts)
        window = facts.window
        if window.flat is not None:
            raise Decline("sums up a flattened tensor")
        if window.axis in axes:
            return EVERYWHERE
        axis = window.axis - (0 if keepdims else sum(a < window.axis for a in axes))
        return replace(window, channels=without(facts.shape, axis), axis=axis)

    def reduce(self, call: Call, x: Any, function: Callable[..., Any]) -> Any:
        """``function`` over the axes; the axis of positions leads, as in every window, or is back in its place."""
        axes, keepdims = self.reduced(call.facts)
        axis = call.facts.window.axis
        y = function(x, axis=window_axes(axes, axis), keepdims=keepdims)
        return ops.moveaxis(y, 3, 3 + axis) if keepdims and axis in axes else y


class LinearReduce(Reduce):
    """A sum or a mean."""

    form = Form.DELTA
    linear = True
    splits = Splits.STRIPS

    def __init__(self, reduced: Reduced, *, mean: bool) -> None:
        super().__init__(reduced)
        self.mean = mean

    def form_of(self, output: State) -> Form:
        """Channels alone are summed up as values where these are at hand: small sums keep their digits."""
        return Form.EITHER if isinstance(output, Window) else self.form

    def delta(self, call: Call, *inputs: Any) -> Any:
        axes, _ = self.reduced(call.facts)
        if isinstance(call.output, Window):
            total = by_pieces(lambda x: self.reduce(call, x, ops.sum), inputs)
            return total.map(lambda x, *_: x / self.count(call, axes)) if self.mean else total
        total = inputs[0].total(lambda x: self.reduce(call, x, sum_over), ops.add)
        return total / self.count(call, axes) if self.mean else total

    def value(self, call: Call, *inputs: Any) -> Any:
        total = self.reduce(call, inputs[0].as_array((), ""), ops.sum)
        return total / self.count(call, self.reduced(call.facts)[0]) if self.mean else total

    @staticmethod
    def count(call: Call, axes: tuple[int, ...]) -> int:
        return prod(call.facts.shapes[0][a] for a in axes)


class Maximum(Reduce):
    """A maximum. Over the positions it is the largest of three: before the window, in it, and after it."""

    form = Form.VALUE
    splits = Splits.STRIPS

    def extras(self, facts: Facts, output: State) -> dict[str, Extra]:
        if facts.window.axis not in self.reduced(facts)[0]:
            return {}
        frame = facts.window.frame
        return {
            "before": Extra("prefix_max", Frame(frame.starts, 1, frame.step, frame.length + 1)),
            "after": Extra("suffix_max", Frame(frame.stops, 1, frame.step, frame.length + 1)),
        }

    def value(self, call: Call, *inputs: Any) -> Any:
        (strip,) = inputs
        if not call.extras:
            return self.reduce(call, strip.as_array((), ""), ops.max)
        valid = call.valid(call.facts.window.frame)

        def of_rows(x: Any, first: int, stop: int) -> Any:
            inside = per_position(valid[:, first:stop], len(x.shape))
            return max_rows(ops.where(inside, x, lowest(x.dtype)))

        inner = strip.map(of_rows).total(lambda x: x, ops.maximum)
        outer = ops.maximum(call.extras["before"], call.extras["after"])
        return self.reduce(call, ops.maximum(inner, ops.expand_dims(outer, 2)), ops.max)


class ChannelReduce(Reduce):
    """A reduction that has a rule over channels alone: the operation itself is applied to the frame's values."""

    form = Form.VALUE

    def propagate(self, facts: Facts) -> State:
        output, (axes, keepdims) = super().propagate(facts), self.reduced(facts)
        if not isinstance(output, Window):
            raise Decline("needs all positions")
        left = [n if a not in axes else 1 for a, n in enumerate(facts.shapes[0]) if keepdims or a not in axes]
        if facts.shape != tuple(left) or any(len(getattr(x, "shape", ())) > 1 for x in arguments(facts.node)):
            raise Decline(f"makes a tensor {facts.shape} of one of {facts.shapes[0]}")
        return output

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        assert isinstance(call.output, Window)
        y = call.facts.node.call([to_keras(x, call.facts.window.axis)])[0]
        return from_keras(y, x, call.output.axis)


class FromLowest(Maximum):
    """``max`` without an initial value."""

    def propagate(self, facts: Facts) -> State:
        if facts.layer.initial is not None:
            raise Decline("has an initial value")
        return super().propagate(facts)


# --- the reductions of --reduce --------------------------------------------------------------------------------------


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


# --- Conv1D whose outputs are summed over the positions --------------------------------------------------------------

# A profile head reduced by its sum or mean is linear in the input of its convolution. An input position that is a
# kernel's span away from both ends reaches an output by every tap, so all such rows can be added up before they are
# multiplied. The few rows at the ends lack some taps, for which they are corrected. No output is ever made.


class SummedConvolution:
    """A Conv1D without activation over ``n_in`` positions, then a :class:`Reduction`; called like a layer."""

    def __init__(self, layer: Any, reduction: Reduction, call: Any, n_in: int) -> None:
        self.layer, self.reduction, self.n_in = layer, reduction, n_in
        self.name = layer.name
        self._call = call

    @property
    def weights(self) -> Any:
        return self.layer.weights

    def __call__(self, x: Any) -> Any:
        (y,) = self._call([x])
        return self.reduction(y)


def can_be_summed(layer: Any, n_in: int) -> bool:
    plain = layer.groups == 1 and layer.strides[0] == 1 and layer.data_format == "channels_last"
    return bool(plain and n_in >= 2 * dilated_span(layer.kernel_size[0], layer.dilation_rate[0]))


def summed_taps(layer: Any, reduction: Reduction, n_in: int) -> np.ndarray:
    """The sum of taps by which each input position adds to the reduced head, float64 (n_in, channels, filters)."""
    kernel = np.asarray(backend.to_numpy(layer.kernel), "float64")
    dilation = layer.dilation_rate[0]
    span = dilated_span(len(kernel), dilation)
    pads = pad_amounts(layer.padding, span=span, stride=1, n_in=n_in)
    total = np.zeros((n_in, *kernel.shape[1:]))
    for tap, weights in enumerate(kernel):
        output = np.arange(n_in) + pads[0] - tap * dilation
        total[(output >= 0) & (output < n_in + sum(pads) - span + 1)] += weights
    if isinstance(reduction, Mean):
        total /= n_in + sum(pads) - span + 1
    return total


def end_rows(layer: Any, n_in: int) -> list[int]:
    """Input positions that do not reach an output by every tap."""
    n = dilated_span(layer.kernel_size[0], layer.dilation_rate[0]) - 1
    return [*range(n), *range(n_in - n, n_in)]


class SummedConvolutionRule(Rule):
    """Sum the rows, multiply once, and correct for the rows at the ends."""

    form = Form.DELTA
    linear = True
    splits = Splits.STRIPS

    def propagate(self, facts: Facts) -> State:
        return EVERYWHERE

    def prepare(self, facts: Facts) -> dict[str, Any]:
        """The sum of all taps (channels, filters), and differences from it at the ends (rows, channels, filters)."""
        summed: SummedConvolution = facts.layer
        layer, n_in = summed.layer, summed.n_in
        taps = summed_taps(layer, summed.reduction, n_in)
        inside = taps[n_in // 2]
        arrays = {"inside": inside, "ends": taps[end_rows(layer, n_in)] - inside}
        return {name: ops.convert_to_tensor(x.astype(str(layer.compute_dtype))) for name, x in arrays.items()}

    def delta(self, call: Call, *inputs: Any) -> Any:
        (strip,) = inputs
        summed: SummedConvolution = call.layer
        total = strip.total(sum_rows, ops.add)
        result = weighted(total[:, :, :, None], call.params["inside"][None])
        ends = end_rows(summed.layer, summed.n_in)
        if not ends:
            return result
        frame = call.facts.window.frame
        window = strip.as_array(strip.any_array.shape, strip.any_array.dtype)
        at = np.asarray(ends, "int32")[None, :] - call.first(frame)[:, None]
        return result + weighted(rows_at(window, at), call.params["ends"])

    def multiply_adds(self, facts: Facts, output: State) -> int:
        layer = facts.layer.layer
        rows = 1 + len(end_rows(layer, facts.layer.n_in))
        return int(rows * facts.window.channels[0] * layer.filters)


def weighted(x: Any, weights: Any) -> Any:
    """(S, P, A, rows, channels) by (rows, channels, filters) -> (S, P, A, filters)"""
    elements = x.shape[3] * x.shape[4]
    flat = ops.matmul(ops.reshape(x, (-1, elements)), ops.reshape(weights, (elements, -1)))
    return ops.reshape(flat, (*x.shape[:3], weights.shape[-1]))
