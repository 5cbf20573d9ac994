"""BatchNormalization, Rescaling, Normalization, PReLU, and ``x + 1`` or ``x * 2``: weights by channel or by position.

All but PReLU are ``y = x * scale + shift``.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from fastism_cli.model.graph import Input, Node, Shape
from fastism_cli.rules.base import Call, Decline, Extra, Facts, Form, Rule, Splits, State, Window
from fastism_cli.rules.layer_settings import arguments, broadcast_shape
from fastism_cli.rules.window_arrays import along_positions, without


class Weighted(Rule):
    """Elementwise layers with weights. Weights that differ by position are cut out for each window."""

    any_axis = True
    keeps_places = True

    def splits_of(self, facts: Facts) -> Splits:
        by_position = any(differs(shape, facts.window) for shape in self.shapes(facts).values())
        return Splits.NONE if by_position else Splits.ROWS

    def shapes(self, facts: Facts) -> dict[str, Shape]:
        """The shape in which each weight broadcasts to the tensor (batch not counted), by name."""
        raise NotImplementedError

    def prepare(self, node: Node) -> dict[str, Any]:
        """The weights themselves."""
        raise NotImplementedError

    def propagate(self, facts: Facts) -> State:
        window, shape = facts.window, facts.shapes[0]
        if facts.shape != shape:
            raise Decline(f"makes a tensor {facts.shape} of one of {shape}")
        for given in self.shapes(facts).values():
            if any(n not in (1, m) for n, m in zip(given, shape, strict=True)):
                raise Decline(f"has weights of shape {given} for a tensor {shape}")
        return window

    def constants(self, facts: Facts) -> dict[str, Any]:
        names = self._by_position(facts)
        weights = self.prepare(facts.node) if names else {}
        return {n: along_positions(ops.reshape(weights[n], self.shapes(facts)[n]), facts.window) for n in names}

    def extras(self, facts: Facts, output: State) -> dict[str, Extra]:
        return {name: Extra(name, facts.window.frame) for name in self._by_position(facts)}

    def _by_position(self, facts: Facts) -> list[str]:
        return [name for name, shape in self.shapes(facts).items() if differs(shape, facts.window)]

    def weight(self, call: Call, name: str, x: Any) -> Any:
        """The weight as it broadcasts to a window ``x`` (S, P, A, width, *channels)."""
        if name in call.extras:
            return ops.cast(ops.expand_dims(call.extras[name], 2), x.dtype)
        window, shape = call.facts.window, self.shapes(call.facts)[name]
        if window.flat is None:
            shape = without(shape, window.axis)
        return ops.cast(ops.reshape(call.params[name], shape), x.dtype)


def differs(shape: Shape, window: Window) -> bool:
    """Whether a weight that broadcasts from this shape differs by position."""
    return shape != (1,) if window.flat is not None else shape[window.axis] > 1


def vector_shape(array: Any, axis: int, rank: int) -> Shape:
    """The shape, of ``rank`` axes, of a vector that lies along ``axis`` (counted with the batch)."""
    at = axis % (rank + 1) - 1
    return tuple(array.shape[0] if i == at else 1 for i in range(rank))


class Affine(Weighted):
    """Weights "scale" and "shift"; the shift cancels in the delta."""

    form = Form.EITHER
    linear = True

    def delta(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        return x * self.weight(call, "scale", x)

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        return x * self.weight(call, "scale", x) + self.weight(call, "shift", x)


class BatchNorm(Affine):
    """BatchNormalization at inference: with its moving statistics."""

    def shapes(self, facts: Facts) -> dict[str, Shape]:
        layer = facts.layer
        axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
        shape = vector_shape(layer.moving_mean, axis, len(facts.shape))
        return {"scale": shape, "shift": shape}

    def prepare(self, node: Node) -> dict[str, Any]:
        layer = node.layer
        scale = ops.rsqrt(ops.convert_to_tensor(layer.moving_variance) + layer.epsilon)
        scale = scale * layer.gamma if layer.scale else scale
        shift = -ops.convert_to_tensor(layer.moving_mean) * scale
        return {"scale": scale, "shift": shift + layer.beta if layer.center else shift}


class Rescale(Affine):
    """Rescaling."""

    def shapes(self, facts: Facts) -> dict[str, Shape]:
        layer, rank = facts.layer, len(facts.shape)
        given = {"scale": layer.scale, "shift": layer.offset}
        return {name: broadcast_shape(np.asarray(x), rank) for name, x in given.items()}

    def prepare(self, node: Node) -> dict[str, Any]:
        given = {"scale": node.layer.scale, "shift": node.layer.offset}
        return {name: ops.convert_to_tensor(np.asarray(x, "float64")) for name, x in given.items()}


class Standardise(Affine):
    """Normalization, with one mean and variance for each entry of its ``axis``."""

    def shapes(self, facts: Facts) -> dict[str, Shape]:
        shape = broadcast_shape(facts.layer.mean, len(facts.shape))
        return {"scale": shape, "shift": shape}

    def prepare(self, node: Node) -> dict[str, Any]:
        layer = node.layer
        mean, variance = ops.convert_to_tensor(layer.mean), ops.convert_to_tensor(layer.variance)
        deviation = ops.maximum(ops.sqrt(variance), ops.cast(keras.config.epsilon(), variance.dtype))
        if layer.invert:
            return {"scale": deviation, "shift": mean}
        return {"scale": 1 / deviation, "shift": -mean / deviation}


class SlopedReLU(Weighted):
    """PReLU, whose slopes are by default one for each position and channel."""

    form = Form.VALUE

    def shapes(self, facts: Facts) -> dict[str, Shape]:
        return {"alpha": tuple(facts.layer.alpha.shape)}

    def prepare(self, node: Node) -> dict[str, Any]:
        return {"alpha": ops.convert_to_tensor(node.layer.alpha)}

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        return ops.relu(x) - self.weight(call, "alpha", x) * ops.relu(-x)


class WithConstant(Affine):
    """The operation add, subtract, multiply or divide (``kind``) of a tensor and a constant."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shapes(self, facts: Facts) -> dict[str, Shape]:
        shape = broadcast_shape(np.asarray(self.constant(facts.node)), len(facts.shapes[0]))
        return {"scale": shape, "shift": shape}

    def prepare(self, node: Node) -> dict[str, Any]:
        scale, shift = self.scale_and_shift(node)
        return {"scale": ops.convert_to_tensor(scale), "shift": ops.convert_to_tensor(shift)}

    def constant(self, node: Node) -> Any:
        return next(x for x in arguments(node) if not isinstance(x, Input))

    def scale_and_shift(self, node: Node) -> tuple[np.ndarray, np.ndarray]:
        constant = np.asarray(self.constant(node), "float64")
        is_first = isinstance(arguments(node)[0], Input)
        if self.kind == "multiply":
            return constant, np.zeros_like(constant)
        if self.kind == "divide":
            return 1 / constant, np.zeros_like(constant)
        if self.kind == "subtract" and not is_first:
            return -np.ones_like(constant), constant
        return np.ones_like(constant), -constant if self.kind == "subtract" else constant
