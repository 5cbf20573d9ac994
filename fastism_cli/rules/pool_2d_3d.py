"""MaxPooling, AveragePooling, UpSampling, Cropping and ZeroPadding in 2D and 3D: one axis holds the positions."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from keras import ops

from fastism_cli.rules.base import Call, Decline, Facts, Form, State, Window
from fastism_cli.rules.conv_2d_3d import Spatial
from fastism_cli.rules.frames import expand_groups
from fastism_cli.rules.layer_settings import first_spatial
from fastism_cli.rules.window_arrays import lowest, per_position, without


class SpatialPool(Spatial):
    """Keras pools the frame, whose other axes are padded first: the pooling is 'valid' then."""

    fused = True

    def sizes(self, layer: Any) -> tuple[int, ...]:
        return tuple(layer.pool_size)

    def options(self, layer: Any) -> dict[str, Any]:
        sizes = {"pool_size": tuple(layer.pool_size), "strides": tuple(layer.strides)}
        return {**sizes, "padding": "valid", "data_format": "channels_last"}


class SpatialMaxPool(SpatialPool):
    """Maximum of values; elements past an edge count as the lowest number."""

    form = Form.VALUE

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        facts = call.facts
        if any(self.pads(facts)[self.along(facts)]):
            inside = call.valid(facts.window.frame)
            x = ops.where(per_position(inside, len(x.shape)), x, lowest(x.dtype))
        y = self.padded(self.channels_last(x, facts), facts, lowest(x.dtype))
        return self.as_window(ops.max_pool(y, **self.options(call.layer)), x, facts)


class SpatialAveragePool(SpatialPool):
    """Mean of deltas over the elements that Keras counts, which are those inside the tensor."""

    form = Form.DELTA
    linear = True

    def delta(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        facts = call.facts
        y = self.padded(self.channels_last(x, facts), facts)
        total = self.as_window(ops.average_pool(y, **self.options(call.layer)), x, facts) * prod(call.layer.pool_size)
        here = per_position(self.counted(call, x.dtype), len(total.shape))
        return total / (here * ops.cast(self.counted_aside(facts), x.dtype))

    def counted(self, call: Call, dtype: str) -> Any:
        """Number of positions that each output averages over: (P, width)."""
        facts, geometry = call.facts, self.geometry(call.facts)
        first = call.first(call.frame)[:, None] + np.arange(call.frame.width, dtype="int32")[None, :]
        left = first * geometry["stride"] - geometry["pad_left"]
        count = ops.minimum(left + geometry["span"], facts.window.frame.length) - ops.maximum(left, 0)
        return ops.cast(ops.maximum(count, 1), dtype)

    def counted_aside(self, facts: Facts) -> np.ndarray:
        """Number of elements of the other axes that each output averages over, shaped as the output's channels."""
        window, layer, first = facts.window, facts.layer, first_spatial(facts.layer)
        counts = np.ones((1,) * len(facts.shape))
        for i, (size, stride, pads) in enumerate(zip(layer.pool_size, layer.strides, self.pads(facts), strict=True)):
            if first + i != window.axis:
                left = np.arange(facts.shape[first + i]) * stride - pads[0]
                inside = np.minimum(left + size, facts.shapes[0][first + i]) - np.maximum(left, 0)
                counts = counts * inside.reshape([-1 if j == first + i else 1 for j in range(counts.ndim)])
        return np.squeeze(counts, window.axis)


class SpatialRepeat(Spatial):
    """UpSampling2D and 3D: every element ``size`` times along each axis."""

    form = Form.EITHER
    linear = True
    fused = True
    leaks = False
    pulls = False
    fills = False
    condition = "if the interpolation is 'nearest'"

    def sizes(self, layer: Any) -> tuple[int, ...]:
        return tuple(layer.size)

    def propagate(self, facts: Facts) -> State:
        if getattr(facts.layer, "interpolation", "nearest") != "nearest":
            raise Decline(f"interpolates ({facts.layer.interpolation}) over neighbours that the edges change")
        size, window = facts.layer.size[self.along(facts)], facts.window
        return replace(window, frame=expand_groups(window.frame, size), channels=without(facts.shape, window.axis))

    def demand(self, facts: Facts, output: State) -> tuple[None, ...]:
        return (None,)

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        y = self.channels_last(x, call.facts)
        for axis, size in enumerate(call.layer.size, 1):
            y = ops.repeat(y, size, axis=axis)
        return self.as_window(y, x, call.facts)

    delta = value


class SpatialMove(Spatial):
    """Cropping and zero padding of two or three axes: the positions move, the other axes are cut or padded."""

    fused = True

    def __init__(self, amounts: str, sign: int) -> None:
        self.amounts = amounts
        self.sign = sign

    def sizes(self, layer: Any) -> tuple[int, ...]:
        return tuple(1 for _ in getattr(layer, self.amounts))

    def by(self, facts: Facts) -> int:
        return int(self.sign * getattr(facts.layer, self.amounts)[self.along(facts)][0])

    def propagate(self, facts: Facts) -> State:
        window, shape = facts.window, facts.shape
        frame = window.frame.moved(self.by(facts), shape[window.axis])
        return replace(window, frame=frame, channels=without(shape, window.axis))

    def demand(self, facts: Facts, output: State) -> tuple[Any, ...]:
        assert isinstance(output, Window)
        return (output.frame.moved(-self.by(facts), facts.window.frame.length),)

    def delta(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        i, amounts = self.along(call.facts), getattr(call.layer, self.amounts)
        y = self.channels_last(x, call.facts)
        for axis, (before, after) in enumerate(amounts, 1):
            if axis - 1 != i and (before or after):
                y = self.changed(y, axis, before, after)
        return self.as_window(y, x, call.facts)

    def changed(self, y: Any, axis: int, before: int, after: int) -> Any:
        if self.sign > 0:
            return ops.pad(y, [(before, after) if j == axis else (0, 0) for j in range(len(y.shape))])
        return y[(slice(None),) * axis + (slice(before, y.shape[axis] - after),)]
