"""MaxPooling1D and AveragePooling1D, and AdaptivePooling where it is the same; from shifted views of the frame."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import ops

from fastism_cli.model.graph import Node, Shape
from fastism_cli.rules.base import Call, Decline, Facts, Form, Rule, Splits, State, Window
from fastism_cli.rules.frames import Frame, changed_outputs, needed_inputs, pad_amounts
from fastism_cli.rules.layer_settings import first_spatial
from fastism_cli.rules.strips import Piece, Strip, by_pieces, rows
from fastism_cli.rules.window_arrays import lowest, per_position


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
