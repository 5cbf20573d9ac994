"""``y = x * scale + shift`` with weights by channel or by position: normalisation at inference, rescaling, PReLU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fastism_cli.graph import Shape
from fastism_cli.rules.base import Call, Decline, Extra, Facts, Form, Rule, Splits, State, Window, along_positions
from fastism_cli.rules.table import define

# A weight, and the shape in which it broadcasts to the tensor (batch not counted).
Weight = tuple[Any, Shape]


class Weighted(Rule):
    """Elementwise layers with weights. Those that differ by position are cut out for each window."""

    any_axis = True
    keeps_places = True

    def splits_of(self, facts: Facts) -> Splits:
        by_position = any(differs(weight, facts.window) for weight in self.weights(facts).values())
        return Splits.WHOLE if by_position else Splits.ROWS

    def weights(self, facts: Facts) -> dict[str, Weight]:
        """The weights by name, as they are; no computation, so that a plan stays free of arrays."""
        raise NotImplementedError

    def propagate(self, facts: Facts) -> State:
        (shape,) = facts.shapes
        if facts.shape != shape:
            raise Decline(f"makes a tensor {facts.shape} of one of {shape}")
        for _, given in self.weights(facts).values():
            if any(n not in (1, m) for n, m in zip(given, shape, strict=True)):
                raise Decline(f"has weights of shape {given} for a tensor {shape}")
        return facts.window

    def constants(self, facts: Facts) -> dict[str, Any]:
        weights = self.weights(facts).items()
        return {n: self.by_position(w, facts.window) for n, w in weights if differs(w, facts.window)}

    def extras(self, facts: Facts, output: State) -> dict[str, Extra]:
        weights = self.weights(facts).items()
        return {n: Extra(n, facts.window.frame) for n, w in weights if differs(w, facts.window)}

    def by_position(self, weight: Weight, window: Window) -> Any:
        array, shape = weight
        return along_positions(ops.reshape(ops.convert_to_tensor(array), shape), window)

    def weight(self, call: Call, name: str) -> Any:
        """The weight as it broadcasts to a window (S, P, A, width, *channels)."""
        if name in call.extras:
            return ops.expand_dims(call.extras[name], 2)
        window = call.facts.window
        array, shape = self.weights(call.facts)[name]
        x = ops.reshape(ops.convert_to_tensor(array), shape)
        return x if window.flat is not None else ops.squeeze(x, window.axis)


def differs(weight: Weight, window: Window) -> bool:
    """Whether the weight is another one at every position."""
    shape = weight[1]
    return shape != (1,) if window.flat is not None else shape[window.axis] > 1


def spread(array: Any, axis: int, rank: int) -> Weight:
    """A vector along one axis (counted with the batch) of a tensor of ``rank`` axes (counted without)."""
    at = axis % (rank + 1) - 1
    return array, tuple(array.shape[0] if i == at else 1 for i in range(rank))


def right_aligned(array: Any, rank: int) -> Weight:
    """An array that broadcasts as in NumPy, to a tensor of ``rank`` axes besides the batch."""
    shape: Sequence[int] = tuple(getattr(array, "shape", ()))
    if len(shape) == rank + 1 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) > rank:
        raise Decline(f"takes a constant of shape {tuple(shape)}, one for each sequence of a batch")
    return array, (1,) * (rank - len(shape)) + tuple(shape)


class Affine(Weighted):
    """The delta is scaled; the shift cancels in it."""

    form = Form.EITHER
    linear = True

    def scale(self, call: Call) -> Any:
        raise NotImplementedError

    def shift(self, call: Call) -> Any:
        raise NotImplementedError

    def delta(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        return x * ops.cast(self.scale(call), x.dtype)

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        return x * ops.cast(self.scale(call), x.dtype) + ops.cast(self.shift(call), x.dtype)


class BatchNorm(Affine):
    """With the moving statistics: those of the training set, not of the batch."""

    def weights(self, facts: Facts) -> dict[str, Weight]:
        layer, rank = facts.layer, len(facts.shape)
        axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
        names = ["moving_mean", "moving_variance"]
        names += ["gamma"] if layer.scale else []
        names += ["beta"] if layer.center else []
        return {name: spread(getattr(layer, name), axis, rank) for name in names}

    def scale(self, call: Call) -> Any:
        scale = ops.rsqrt(self.weight(call, "moving_variance") + call.layer.epsilon)
        return scale * self.weight(call, "gamma") if call.layer.scale else scale

    def shift(self, call: Call) -> Any:
        shift = -self.weight(call, "moving_mean") * self.scale(call)
        return shift + self.weight(call, "beta") if call.layer.center else shift


class Rescale(Affine):
    def weights(self, facts: Facts) -> dict[str, Weight]:
        rank = len(facts.shape)
        return {name: right_aligned(as_array(getattr(facts.layer, name)), rank) for name in ("scale", "offset")}

    def scale(self, call: Call) -> Any:
        return self.weight(call, "scale")

    def shift(self, call: Call) -> Any:
        return self.weight(call, "offset")


class Standardise(Affine):
    """Normalization: statistics that were given or adapted, one for each entry of ``axis``."""

    def weights(self, facts: Facts) -> dict[str, Weight]:
        layer, rank = facts.layer, len(facts.shape)
        return {name: right_aligned(getattr(layer, name), rank) for name in ("mean", "variance")}

    def deviation(self, call: Call) -> Any:
        variance = self.weight(call, "variance")
        return ops.maximum(ops.sqrt(variance), ops.cast(keras.config.epsilon(), variance.dtype))

    def scale(self, call: Call) -> Any:
        return self.deviation(call) if call.layer.invert else 1 / self.deviation(call)

    def shift(self, call: Call) -> Any:
        mean = self.weight(call, "mean")
        return mean if call.layer.invert else -mean / self.deviation(call)


class SlopedReLU(Weighted):
    """PReLU, whose slopes are by default one for each position and channel."""

    form = Form.VALUE

    def weights(self, facts: Facts) -> dict[str, Weight]:
        return {"alpha": (facts.layer.alpha, tuple(facts.layer.alpha.shape))}

    def value(self, call: Call, *inputs: Any) -> Any:
        return ops.relu(inputs[0]) - self.weight(call, "alpha") * ops.relu(-inputs[0])


def as_array(x: Any) -> Any:
    """Numbers and lists as an array that has a shape."""
    return x if hasattr(x, "shape") else np.asarray(x, "float64")


define(BatchNorm(), keras.layers.BatchNormalization)
define(Rescale(), keras.layers.Rescaling)
define(Standardise(), keras.layers.Normalization)
define(SlopedReLU(), keras.layers.PReLU)
