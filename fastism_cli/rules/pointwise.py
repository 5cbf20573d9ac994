"""Layers that treat every position by itself: activations, normalisation at inference, dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from fastism_cli.graph import Node
from fastism_cli.io.legacy_layers import ThresholdedReLU
from fastism_cli.rules.base import (
    Call,
    Decline,
    Facts,
    Form,
    Rule,
    State,
    merge_batch,
    split_batch,
)
from fastism_cli.rules.table import define

Condition = Callable[[Facts], str | None]


class Pointwise(Rule):
    """``y[i] = f(x[i])``: the layer itself is applied to the frame's values.

    Parameters
    ----------
    unless : callable, optional
        Returns the reason why the layer, configured so, does not treat every position by itself.
    elementwise : bool
        Every channel is treated by itself too, which makes the layer exact on a flattened window.
    """

    form = Form.VALUE

    def __init__(self, *, unless: Condition | None = None, elementwise: bool = True) -> None:
        self.unless = unless
        self.elementwise = elementwise

    def propagate(self, facts: Facts) -> State:
        window = facts.window
        if self.unless is not None and (reason := self.unless(facts)):
            raise Decline(reason)
        if window.flat is not None and not self.elementwise:
            raise Decline("mixes all elements of a flattened tensor")
        return window

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        return split_batch(call.layer(merge_batch(x)), x)


class Identity(Pointwise):
    """Layers that hand their input on at inference."""

    form = Form.EITHER
    keeps_places = True

    def delta(self, call: Call, *inputs: Any) -> Any:
        return inputs[0]

    def value(self, call: Call, *inputs: Any) -> Any:
        return inputs[0]


class ActivationPart(Pointwise):
    """The activation that was split from a layer with weights (see :meth:`Rule.split`)."""

    def propagate(self, facts: Facts) -> State:
        if not acts_per_position(facts.layer.activation) or (
            facts.window.flat is not None and not acts_per_element(facts.layer.activation)
        ):
            raise Decline(f"activation {name_of(facts.layer.activation)!r} may mix positions")
        return facts.window

    def value(self, call: Call, *inputs: Any) -> Any:
        return call.layer.activation(inputs[0])


class ChannelScale(Rule):
    """``y = x * scale + shift`` per channel: the delta is scaled, the shift cancels."""

    form = Form.EITHER
    keeps_places = True

    def propagate(self, facts: Facts) -> State:
        window = facts.window
        axis = facts.layer.axis
        axis = axis[0] if isinstance(axis, (list, tuple)) else axis
        if axis not in (-1, len(facts.shape)):
            raise Decline(f"normalises along axis {axis}, not along the channels")
        if window.flat is not None:
            raise Decline("has weights for every position of a flattened tensor")
        return window

    def prepare(self, node: Node) -> dict[str, Any]:
        layer = node.layer
        scale = ops.rsqrt(ops.convert_to_tensor(layer.moving_variance) + layer.epsilon)
        return {"scale": scale * layer.gamma if layer.scale else scale}

    def delta(self, call: Call, *inputs: Any) -> Any:
        return inputs[0] * call.params["scale"]

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        return split_batch(call.layer(merge_batch(x), training=False), x)


_PER_CHANNEL_GROUP = frozenset({"softmax", "log_softmax", "glu"})


def name_of(activation: Any) -> str:
    return getattr(activation, "__name__", None) or type(activation).__name__


def is_keras_function(activation: Any) -> bool:
    """Whether this is one of Keras' own activation functions, by identity and not by name."""
    return getattr(keras.activations, name_of(activation), None) is activation


def acts_per_position(activation: Any) -> bool:
    """Keras' own activation functions all act on the channels of one position; of others nothing is known."""
    return isinstance(activation, keras.Layer) is False and is_keras_function(activation)


def acts_per_element(activation: Any) -> bool:
    return is_keras_function(activation) and name_of(activation) not in _PER_CHANNEL_GROUP


def _unknown_activation(facts: Facts) -> str | None:
    activation = facts.layer.activation
    if not acts_per_position(activation):
        return f"activation {name_of(activation)!r} is not one of Keras' own and may mix positions"
    if facts.window.flat is not None and not acts_per_element(activation):
        return f"activation {name_of(activation)!r} mixes all elements of a flattened tensor"
    return None


def _off_channels(facts: Facts) -> str | None:
    axis = facts.layer.axis
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    rank = len(facts.shape) + 1
    return None if all(a % rank == rank - 1 for a in axes) else f"works along axis {axis}, not along the channels"


def _per_position_weights(facts: Facts) -> str | None:
    shared = facts.layer.shared_axes or ()
    return None if 1 in shared and facts.window.flat is None else "has weights of its own for every position"


define(Identity(), keras.layers.Dropout, keras.layers.SpatialDropout1D, keras.layers.GaussianDropout)
define(Identity(), keras.layers.GaussianNoise, keras.layers.AlphaDropout, keras.layers.ActivityRegularization)
define(Identity(), keras.layers.Identity)
define(Pointwise(unless=_unknown_activation), keras.layers.Activation)
define(Pointwise(), ThresholdedReLU)
define(Pointwise(), keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU)
define(Pointwise(elementwise=False, unless=_off_channels), keras.layers.Softmax, keras.layers.LayerNormalization)
define(Pointwise(unless=_per_position_weights), keras.layers.PReLU)
define(ChannelScale(), keras.layers.BatchNormalization)

ACTIVATION_PART = ActivationPart()
