"""Pooling along the positions, computed from shifted views of the frame."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import keras
import numpy as np
from keras import ops

from fastism_cli.rules.base import (
    Call,
    Decline,
    Facts,
    Form,
    Rule,
    State,
    Window,
    per_position,
)
from fastism_cli.rules.spatial import first_spatial
from fastism_cli.rules.table import define
from fastism_cli.windows import Frame, changed_outputs, needed_inputs, pad_amounts


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

    def pooled(self, call: Call, x: Any, combine: Any) -> Any:
        """Combine the ``pool_size`` shifted views of the frame, row by row of the output."""
        size, stride, width = call.layer.pool_size[0], call.layer.strides[0], call.frame.width
        if stride == 1:
            views = [x[:, :, :, i : i + width] for i in range(size)]
        else:
            views = [x[:, :, :, i : i + (width - 1) * stride + 1 : stride] for i in range(size)]
        return reduce(combine, views)


class MaxPool(Pool):
    """Maximum of values; positions past an edge are -inf, not 0."""

    form = Form.VALUE

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        if any(self.pads(call.facts)):
            inside = call.valid(call.facts.window.frame)
            x = ops.where(per_position(inside, len(x.shape)), x, lowest(x.dtype))
        return self.pooled(call, x, ops.maximum)


class AveragePool(Pool):
    """Mean of deltas over the positions that Keras counts: those past an edge are not."""

    form = Form.DELTA
    leaks = True

    def delta(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        total = self.pooled(call, x, ops.add)
        return total / per_position(self.counted(call, x.dtype), len(x.shape))

    def counted(self, call: Call, dtype: str) -> Any:
        """How many positions each output averages over: (P, width)."""
        layer, facts = call.layer, call.facts
        size, n_in = layer.pool_size[0], facts.window.frame.length
        first = call.first(call.frame)[:, None] + np.arange(call.frame.width, dtype="int32")[None, :]
        left = first * layer.strides[0] - self.pads(facts)[0]
        count = ops.minimum(left + size, n_in) - ops.maximum(left, 0)
        return ops.cast(ops.maximum(count, 1), dtype)


def lowest(dtype: str) -> Any:
    """The most negative finite number: what a maximum over nothing counts as."""
    return ops.cast(-3e38 if "64" not in str(dtype) else -1.7e308, dtype)


define(MaxPool(), keras.layers.MaxPooling1D)
define(AveragePool(), keras.layers.AveragePooling1D)
