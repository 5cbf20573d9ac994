"""Layers that treat every position by itself: activations, normalisation at inference, dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from fastism_cli.model.loading.legacy_layers import ThresholdedReLU
from fastism_cli.rules.base import (
    Call,
    Decline,
    Facts,
    Form,
    Rule,
    Splits,
    State,
    lay_out,
    take_up,
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
        # Keras' own take arrays of any rank; one of the user's, registered as such a layer, may count on three axes
        if self.elementwise and type(call.layer).__module__.startswith("keras."):
            return call.layer(x)
        axis = 0 if self.elementwise else call.facts.window.axis
        return take_up(call.layer(lay_out(x, axis)), x, axis)


class Identity(Pointwise):
    """Layers that hand their input on at inference."""

    form = Form.EITHER
    linear = True
    keeps_places = True

    def delta(self, call: Call, *inputs: Any) -> Any:
        return inputs[0]

    def value(self, call: Call, *inputs: Any) -> Any:
        return inputs[0]


class Activated(Pointwise):
    """The activation of a layer: of Activation, or split from one with weights (see :meth:`Rule.split`)."""

    def __init__(self) -> None:
        super().__init__()
        self.condition = "if the activation is one of Keras' own"

    def propagate(self, facts: Facts) -> State:
        activation, window = facts.layer.activation, facts.window
        if not is_keras_function(activation):
            raise Decline(f"activation {name_of(activation)!r} is not one of Keras' own and may mix positions")
        if not acts_per_element(activation):
            if window.flat is not None:
                raise Decline(f"activation {name_of(activation)!r} mixes all elements of a flattened tensor")
            if window.axis == window.rank - 1:
                raise Decline(f"activation {name_of(activation)!r} works along the positions")
        return window

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        activation, axis = call.layer.activation, call.facts.window.axis
        return activation(x) if acts_per_element(activation) else take_up(activation(lay_out(x, axis)), x, axis)


_PER_CHANNEL_GROUP = frozenset({"softmax", "log_softmax", "glu"})


def name_of(activation: Any) -> str:
    return getattr(activation, "__name__", None) or type(activation).__name__


def is_keras_function(activation: Any) -> bool:
    """Whether this is one of Keras' own activation functions, by identity and not by name."""
    return getattr(keras.activations, name_of(activation), None) is activation


def acts_per_element(activation: Any) -> bool:
    return is_keras_function(activation) and name_of(activation) not in _PER_CHANNEL_GROUP


def _along_positions(facts: Facts) -> str | None:
    axis = getattr(facts.layer, "axis", -1)
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    rank = len(facts.shape) + 1
    works = any(a % rank == facts.window.axis + 1 for a in axes)
    return f"works along axis {axis}, that of the positions" if works else None


define(Identity(), keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.AlphaDropout)
define(Identity(), keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D)
define(Identity(), keras.layers.GaussianNoise, keras.layers.ActivityRegularization, keras.layers.Identity)
# What augments images in training does nothing at inference.
AUGMENTATIONS = (
    "AugMix CutMix MixUp RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast "
    "RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert "
    "RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear "
    "RandomTranslation RandomZoom"
)
define(Identity(), *(getattr(keras.layers, name) for name in AUGMENTATIONS.split() if hasattr(keras.layers, name)))
define(Activated(), keras.layers.Activation)
define(Pointwise(), ThresholdedReLU)
define(Pointwise(), keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU)
define(Pointwise(elementwise=False, unless=_along_positions), keras.layers.Softmax, keras.layers.Masking)
define(Pointwise(elementwise=False, unless=_along_positions), keras.layers.LayerNormalization)
define(Pointwise(elementwise=False, unless=_along_positions), keras.layers.RMSNormalization)
define(Pointwise(elementwise=False, unless=_along_positions), keras.layers.UnitNormalization)

ACTIVATION_PART = Activated()
