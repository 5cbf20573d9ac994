"""MaxPooling, AveragePooling, adaptive ones that are the same; in 2D and 3D UpSampling, Cropping, ZeroPadding too."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import pairwise
from math import prod
from typing import Any

import keras
import numpy as np
from keras import ops

from fastism_cli.model.graph import Node, Shape
from fastism_cli.rules.base import Call, Decline, Facts, Form, Rule, Splits, State, Window
from fastism_cli.rules.conv_2d_3d import Spatial
from fastism_cli.rules.frames import Frame, changed_outputs, expand_groups, needed_inputs, pad_amounts
from fastism_cli.rules.layer_calls import first_spatial, lowest, per_position, without
from fastism_cli.rules.window_rows import Piece, Strip, by_pieces, rows


class Pool(Rule):
    """A pooling of ``pool_size`` and ``strides``, computed in a frame that is aligned to the strides."""

    any_axis = True
    condition = "if the positions lie along the axis that it pools"

    def pads(self, facts: Facts) -> tuple[int, int]:
        layer = facts.layer
        n_in = facts.window.frame.length
        return pad_amounts(layer.padding, span=layer.pool_size[0], stride=layer.strides[0], n_in=n_in)

    def propagate(self, facts: Facts) -> State:
        layer, window = facts.layer, facts.window
        if window.axis != first_spatial(layer):
            raise Decline("pools the channels")
        n_out = facts.shape[window.axis]
        frame = changed_outputs(
            facts.window.frame,
            span=layer.pool_size[0],
            stride=layer.strides[0],
            pad_left=self.pads(facts)[0],
            n_out=n_out,
        )
        return replace(window, frame=frame)

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        assert isinstance(output, Window)
        return (
            needed_inputs(
                output.frame,
                span=facts.layer.pool_size[0],
                stride=facts.layer.strides[0],
                pad_left=self.pads(facts)[0],
                n_in=facts.window.frame.length,
            ),
        )

    def views(self, call: Call, strip: Strip) -> list[Strip]:
        """For each row of the pool, the rows that it reads; all cut where one of them enters another piece."""
        size, stride, width = call.layer.pool_size[0], call.layer.strides[0], call.frame.width
        edges = {-(-(row - offset) // stride) for row in strip.breaks for offset in range(size)}
        breaks = sorted({0, width} | {row for row in edges if 0 < row < width})
        cuts = list(pairwise(breaks))
        return [
            Strip(tuple(Piece(a, b, strided(strip, offset + a * stride, b - a, stride)) for a, b in cuts))
            for offset in range(size)
        ]


def strided(strip: Strip, first: int, count: int, stride: int) -> Any:
    """``count`` rows from ``first`` on, all of which lie in one piece of the strip."""
    piece = next(p for p in strip.pieces if p.first <= first < p.stop)
    if piece.array is None:
        return None
    first -= piece.first
    return rows(piece.array, first, first + (count - 1) * stride + 1, stride if count > 1 else 1)


class MaxPool(Pool):
    """Maximum of values; positions past an edge count as the lowest number, not as 0."""

    form = Form.VALUE
    splits = Splits.VIEWS

    def views(self, call: Call, strip: Strip) -> list[Strip]:
        if any(self.pads(call.facts)):
            strip = without_invalid(call, strip)
        return super().views(call, strip)

    def value(self, call: Call, *inputs: Any) -> Any:
        return reduce(ops.maximum, inputs)


class AveragePool(Pool):
    """Mean of deltas over the positions that Keras counts, which are those inside the tensor."""

    form = Form.DELTA
    linear = True
    splits = Splits.STRIPS
    leaks = True

    def delta(self, call: Call, *inputs: Any) -> Any:
        (strip,) = inputs
        total = by_pieces(
            lambda *arrays: reduce(ops.add, [x for x in arrays if x is not None]), self.views(call, strip)
        )
        counted = self.counted(call, strip.any_array.dtype)
        return total.map(lambda x, first, stop: x / per_position(counted[:, first:stop], len(x.shape)))

    def counted(self, call: Call, dtype: str) -> Any:
        """Number of positions that each output averages over: (P, width)."""
        layer, facts = call.layer, call.facts
        size, n_in = layer.pool_size[0], facts.window.frame.length
        first = call.first(call.frame)[:, None] + np.arange(call.frame.width, dtype="int32")[None, :]
        left = first * layer.strides[0] - self.pads(facts)[0]
        count = ops.minimum(left + size, n_in) - ops.maximum(left, 0)
        return ops.cast(ops.maximum(count, 1), dtype)


def without_invalid(call: Call, strip: Strip) -> Strip:
    """The strip with the lowest number at positions outside of the tensor."""
    inside = call.valid(call.facts.window.frame)
    return strip.map(lambda x, a, b: ops.where(per_position(inside[:, a:b], len(x.shape)), x, lowest(x.dtype)))


# Where all bins of an adaptive pooling have one width, it is a pooling of that size and stride. Old Keras has none.
ADAPTIVE: dict[type, type] = {
    getattr(keras.layers, f"Adaptive{kind}Pooling{axes}D"): getattr(keras.layers, f"{kind}Pooling{axes}D")
    for kind in ("Average", "Max")
    for axes in (1, 2, 3)
    if hasattr(keras.layers, f"Adaptive{kind}Pooling{axes}D")
}


def as_pooling(node: Node, shape: Shape) -> Node:
    """The node as a plain pooling, if each length of the output divides that of the input (``shape``)."""
    if type(node.layer) not in ADAPTIVE:
        return node
    adaptive = node.layer
    lengths = shape[first_spatial(adaptive) :]
    sizes = [n // wanted for n, wanted in zip(lengths, adaptive.output_size, strict=False)]
    if any(size * n_out != n for size, n_out, n in zip(sizes, adaptive.output_size, lengths, strict=False)):
        return node
    pool = ADAPTIVE[type(adaptive)](
        tuple(sizes), data_format=adaptive.data_format, name=adaptive.name, dtype=adaptive.dtype_policy
    )
    return replace(node, layer=pool, call=lambda arrays: [pool(arrays[0])])


# --- pooling and sampling in 2D and 3D -------------------------------------------------------------------------------


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
