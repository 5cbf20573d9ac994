"""Code of one's own in random models: functions, some of them written with TensorFlow, and subclasses of layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
from keras import layers, ops

from fastism_cli.model.backend import BACKEND


def _sloped(x, slope):
    return ops.maximum(x, slope * x)


class _Scaled:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x):
        return self.factor * ops.tanh(x)

    def softly(self, x):
        return ops.softplus(self.factor * x)


# Functions of one tensor that keep its shape.
FUNCTIONS: dict[str, Any] = {
    "quick_gelu": lambda x: x * ops.sigmoid(1.702 * x),
    "partial": partial(_sloped, slope=0.2),
    "object": _Scaled(0.7),
    "method": _Scaled(0.5).softly,
    "nested_layer": layers.LeakyReLU(0.1),
    "over_channels": lambda x: x - ops.max(x, axis=-1, keepdims=True),
    "mean_of_positions": lambda x: x - ops.mean(x, axis=1, keepdims=True),
}
if BACKEND == "tensorflow":
    import tensorflow as tf

    FUNCTIONS |= {
        "tf_relu": tf.nn.relu,
        "tf_gelu": tf.nn.gelu,
        "tf_leaky_relu": partial(tf.nn.leaky_relu, alpha=0.3),
        "tf_swish": lambda x: x * tf.sigmoid(1.3 * x) + 0.1,
        "tf_softmax": tf.nn.softmax,
        "tf_l2_normalize": lambda x: tf.math.l2_normalize(x + 0.3, axis=-1),
        "tf_moments": lambda x: (x - tf.nn.moments(x, -1, keepdims=True)[0]) * 0.5,
        "tf_where": lambda x: tf.where(x > 0, x, 0.1 * x),
        "tf_reversed": lambda x: tf.reverse(x, [1, 2]),
        "tf_rows": lambda x: tf.reshape(tf.tanh(tf.reshape(x, [-1, x.shape[-1]])), tf.shape(x)),
        "tf_shifted": lambda x: tf.pad(x, [[0, 0], [1, 0], [0, 0]])[:, :-1] * 0.5 + x,
        "tf_unstacked": lambda x: tf.stack(tf.unstack(x, axis=-1)[::-1], -1),
        "tf_pooled": lambda x: tf.nn.avg_pool1d(x, 3, 1, "SAME") - 0.2,
        "tf_mean_of_positions": lambda x: x - tf.reduce_mean(x, axis=1, keepdims=True),
        "tf_function": tf.function(lambda x: tf.math.softplus(x) - tf.ones_like(x)),
    }


class Written(layers.Layer):
    """A layer whose call is one of the functions, between weights of its own."""

    def __init__(self, function: str, **options: Any) -> None:
        super().__init__(**options)
        self.named = function

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return FUNCTIONS[self.named](x) * self.scale

    def compute_output_spec(self, x):
        """Said, not tried out: Keras takes what arcsinh makes for sparse."""
        return keras.KerasTensor(x.shape, x.dtype)

    def get_config(self):
        return {**super().get_config(), "function": self.named}


class SetUp(layers.Conv1D):
    """Sets itself up in its own way."""

    def __init__(self, filters: int, **options: Any) -> None:
        super().__init__(filters, **{"kernel_size": 3, "padding": "same", **options})

    def build(self, shape):
        super().build(shape)
        self.seen = tuple(shape)


class ThenSoftplus(SetUp):
    def call(self, x):
        return ops.softplus(super().call(x)) - 0.5


class Standardised(SetUp):
    """The kernel is normalised before it is used."""

    def call(self, x):
        kernel = self.kernel - ops.mean(self.kernel, axis=(0, 1), keepdims=True)
        kernel = kernel / (ops.std(kernel, axis=(0, 1), keepdims=True) + 1e-2)
        return ops.conv(x, kernel, padding=self.padding) * 0.3 + self.bias


class Norm(layers.BatchNormalization):
    def call(self, x, training=None):
        return super().call(x, training=False) * 0.7


SUBCLASSES = {"set_up": SetUp, "then_softplus": ThenSoftplus, "standardised": Standardised}


def own_function(function: str, how: str):
    """One of the functions as an activation, in a Lambda, or in a layer."""
    if how == "layer":
        return Written(function)
    return {"activation": layers.Activation, "lambda": layers.Lambda}[how](FUNCTIONS[function])


def own_activation(function: str, layer: str, size: int):
    """A layer with one of the functions as its activation."""
    options = {"Dense": {}, "Conv1D": {"kernel_size": 3}, "SeparableConv1D": {"kernel_size": 2, "padding": "same"}}
    return getattr(layers, layer)(size, activation=FUNCTIONS[function], **options[layer])


def subclass(kind: str, filters: int):
    """A subclass of Conv1D, and one of BatchNormalization behind it."""
    return lambda x: Norm()(SUBCLASSES[kind](filters)(x))
