"""Activation, BatchNormalization, LayerNormalization, TimeDistributed and others: every position is treated by itself.

So do most functions of ``keras.ops``. Their other arguments are numbers and arrays, which hold for the whole tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import keras
import numpy as np
from keras import ops

from fastism_cli.model.adapt import is_keras_function, name_of
from fastism_cli.model.graph import Input, Node, Shape
from fastism_cli.rules.base import UNCHANGED, Call, Decline, Extra, Facts, Form, Rule, Splits, State, Window
from fastism_cli.rules.layer_calls import (
    along_positions,
    arguments,
    broadcast_shape,
    from_keras,
    require_no_constant_by_position,
    to_keras,
    without,
)

Condition = Callable[[Facts], str | None]


class Pointwise(Rule):
    """``y[i] = f(x[i])``: the layer itself is applied to the frame's values.

    Parameters
    ----------
    unless : callable, optional
        Returns the reason why this layer, as it is configured, does not treat every position by itself.
    elementwise : bool
        Every channel is treated by itself too, so that the layer is exact on a flattened window.
    """

    form = Form.VALUE
    splits = Splits.ROWS
    any_axis = True

    def __init__(self, *, unless: Condition | None = None, elementwise: bool = True) -> None:
        self.unless = unless
        self.elementwise = elementwise
        self.condition = "if its axis is not that of the positions" if unless else ""

    def propagate(self, facts: Facts) -> State:
        window = facts.window
        if self.unless is not None and (reason := self.unless(facts)):
            raise Decline(reason)
        if window.flat is not None and not self.elementwise:
            raise Decline("mixes all elements of a flattened tensor")
        return window

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        # layers of Keras take arrays of any rank; a custom layer that was registered like one may expect three axes
        if self.elementwise and type(call.layer).__module__.startswith("keras."):
            return call.layer(x)
        axis = 0 if self.elementwise else call.facts.window.axis
        return from_keras(call.layer(to_keras(x, axis)), x, axis)


class Identity(Pointwise):
    """Layers that return their input at inference."""

    form = Form.EITHER
    linear = True
    keeps_places = True

    def delta(self, call: Call, *inputs: Any) -> Any:
        return inputs[0]

    def value(self, call: Call, *inputs: Any) -> Any:
        return inputs[0]


class Activated(Pointwise):
    """Activation, or the activation that was split from a layer with weights (see :meth:`Rule.split`)."""

    def __init__(self) -> None:
        super().__init__()
        self.condition = "if the activation is one of Keras' own, or a function that can be followed"

    def propagate(self, facts: Facts) -> State:
        activation, window = facts.layer.activation, facts.window
        if not is_keras_function(activation):
            unknown = f"activation {name_of(activation)!r} is not one of Keras' own and may mix positions"
            raise Decline(facts.node.reason or unknown)
        if not acts_per_element(activation):
            if window.flat is not None:
                raise Decline(f"activation {name_of(activation)!r} mixes all elements of a flattened tensor")
            if window.axis == window.rank - 1:
                raise Decline(f"activation {name_of(activation)!r} works along the positions")
        return window

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        activation, axis = call.layer.activation, call.facts.window.axis
        return activation(x) if acts_per_element(activation) else from_keras(activation(to_keras(x, axis)), x, axis)


_PER_CHANNEL_GROUP = frozenset({"softmax", "log_softmax", "glu", "sparsemax"})


def acts_per_element(activation: Any) -> bool:
    return is_keras_function(activation) and name_of(activation) not in _PER_CHANNEL_GROUP


def along_positions_axis(facts: Facts) -> str | None:
    """The reason, for a layer that works along the axis of the positions."""
    axis = getattr(facts.layer, "axis", -1)
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    rank = len(facts.shape) + 1
    works = any(a % rank == facts.window.axis + 1 for a in axes)
    return f"works along axis {axis}, that of the positions" if works else None


class EachPosition(Rule):
    """TimeDistributed: the layer inside, whatever it is, sees one position at a time."""

    form = Form.VALUE
    fused = False
    condition = "if the positions lie along the first axis"

    def propagate(self, facts: Facts) -> State:
        window = facts.window
        if window.flat is not None or len(facts.shapes[0]) < 2:
            raise Decline("has no positions to go through")
        return replace(window, channels=facts.shape[1:])

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        y = call.layer.layer(ops.reshape(x, (prod(x.shape[:4]), *x.shape[4:])))
        return ops.reshape(y, (*x.shape[:4], *y.shape[1:]))

    def multiply_adds(self, facts: Facts, output: State) -> int:
        assert isinstance(output, Window)
        weights: int = sum(prod(w.shape) for w in facts.layer.weights if len(w.shape) > 1)
        return output.frame.width * weights


# --- keras.ops --------------------------------------------------------------------------------------------------------


class Apply(Rule):
    """The operation itself, applied to the frame's values. ``axis``: it works along one, not that of the positions."""

    form = Form.VALUE
    splits = Splits.ROWS
    any_axis = True

    def __init__(self, *, axis: bool = False) -> None:
        self.axis = axis

    def propagate(self, facts: Facts) -> State:
        window, shape = facts.window, facts.shape
        if self.axis:
            self.require_channels(facts)
        axis = window.axis if window.flat is None else 0
        if len(shape) != len(facts.shapes[0]) or shape[axis] != facts.shapes[0][axis]:
            raise Decline(f"makes a tensor {shape} of one of {facts.shapes[0]}")
        require_no_constant_by_position(facts, axis)
        return window if window.flat is not None else replace(window, channels=without(shape, window.axis))

    def require_channels(self, facts: Facts) -> None:
        window, axis = facts.window, getattr(facts.layer, "axis", -1)
        axes = axis if isinstance(axis, (list, tuple)) else (axis,)
        rank = len(facts.shape) + 1
        if window.flat is not None:
            raise Decline("mixes all elements of a flattened tensor")
        if any(a is None or a % rank in (0, window.axis + 1) for a in axes):
            raise Decline(f"works along axis {axis}, that of the positions")

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        window = call.facts.window
        axis = window.axis if window.flat is None else 0
        return from_keras(call.facts.node.call([to_keras(x, axis)])[0], x, axis)


class Cast(Apply):
    """Conversion to another type of real numbers."""

    def propagate(self, facts: Facts) -> State:
        if "complex" in str(facts.layer.dtype):
            raise Decline(f"makes numbers of type {facts.layer.dtype}")
        return super().propagate(facts)


class Broadcast(Apply):
    """``broadcast_to``: a channel is repeated."""

    form = Form.EITHER
    linear = True

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        assert isinstance(call.output, Window)
        return ops.broadcast_to(x, (*x.shape[:4], *call.output.channels))

    delta = value


class Taken(Apply):
    """``take`` of channels by constant numbers."""

    form = Form.DELTA
    linear = True

    def propagate(self, facts: Facts) -> State:
        self.require_channels(facts)
        window, axis = facts.window, facts.layer.axis % (len(facts.shapes[0]) + 1) - 1
        added = len(facts.shape) - len(facts.shapes[0])
        place = window.axis + (added if axis < window.axis else 0)
        if not isinstance(arguments(facts.node)[0], Input) or facts.shape[place] != window.frame.length:
            raise Decline("takes entries by numbers that depend on the sequence")
        return replace(window, channels=without(facts.shape, place), axis=place)

    def delta(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        assert isinstance(call.output, Window)
        return from_keras(call.facts.node.call([to_keras(x, call.facts.window.axis)])[0], x, call.output.axis)


class NewChannels(Rule):
    """One number at each place becomes several, on axes behind the others: ``one_hot``, or rows of a constant table."""

    form = Form.VALUE
    splits = Splits.ROWS
    any_axis = True

    def propagate(self, facts: Facts) -> State:
        window, rank = facts.window, len(facts.shapes[0])
        if window.flat is not None or facts.shape[:rank] != facts.shapes[0] or not self.puts_behind(facts):
            raise Decline(f"makes a tensor {facts.shape} of one of {facts.shapes[0]}")
        return replace(window, channels=without(facts.shape, window.axis))

    def puts_behind(self, facts: Facts) -> bool:
        """Whether the new axes are the last ones."""
        return facts.layer.axis in (-1, len(facts.shape))

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        axis = call.facts.window.axis
        return from_keras(call.facts.node.call([to_keras(x, axis)])[0], x, axis)


class RowsOfTable(NewChannels):
    """``take`` of rows of a constant."""

    def puts_behind(self, facts: Facts) -> bool:
        return facts.layer.axis == 0 or (facts.layer.axis is None and facts.shape == facts.shapes[0])


class Fixed(Rule):
    """``ones_like`` and the like: the output depends on the shape of the tensor alone."""

    any_axis = True

    def propagate(self, facts: Facts) -> State:
        return UNCHANGED


# --- scale and shift -------------------------------------------------------------------------------------------------

# All but PReLU are ``y = x * scale + shift``.


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

    def prepare(self, facts: Facts) -> dict[str, Any]:
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
        weights = self.prepare(facts) if names else {}
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

    def prepare(self, facts: Facts) -> dict[str, Any]:
        layer = facts.layer
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

    def prepare(self, facts: Facts) -> dict[str, Any]:
        given = {"scale": facts.layer.scale, "shift": facts.layer.offset}
        return {name: ops.convert_to_tensor(np.asarray(x, "float64")) for name, x in given.items()}


class Standardise(Affine):
    """Normalization, with one mean and variance for each entry of its ``axis``."""

    def shapes(self, facts: Facts) -> dict[str, Shape]:
        shape = broadcast_shape(facts.layer.mean, len(facts.shape))
        return {"scale": shape, "shift": shape}

    def prepare(self, facts: Facts) -> dict[str, Any]:
        layer = facts.layer
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

    def prepare(self, facts: Facts) -> dict[str, Any]:
        return {"alpha": ops.convert_to_tensor(facts.layer.alpha)}

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

    def prepare(self, facts: Facts) -> dict[str, Any]:
        scale, shift = self.scale_and_shift(facts.node)
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
