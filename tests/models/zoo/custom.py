"""Layers that no rule can know: classes that a user would have written."""

import keras
from keras import layers, ops

registered = keras.saving.register_keras_serializable(package="zoo")


@registered
class MirrorMix(layers.Layer):
    """Adds the mirrored tensor, weighted by channel: a change at p also changes length - 1 - p."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(1, input_shape[-1]), name="kernel")
        super().build(input_shape)

    def call(self, x):
        return x + ops.flip(x, axis=1) * self.kernel


@registered
class PositionScale(layers.Layer):
    """Multiplies by one weight a position: shape-preserving, but not the same at each position."""

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=(input_shape[1], 1), name="gamma")
        super().build(input_shape)

    def call(self, x):
        return x * self.gamma


@registered
class SquaredConv1D(layers.Conv1D):
    """A Conv1D by class, but not linear: a rule looked up with isinstance would be wrong."""

    def call(self, x):
        return ops.square(super().call(x))


@registered
class CenteredReLU(layers.ReLU):
    """A ReLU by class, but it subtracts the mean over the length: not per position."""

    def call(self, x):
        return super().call(x - ops.mean(x, axis=1, keepdims=True))


@registered
class UnchangedConv1D(layers.Conv1D):
    """A subclass that overrides nothing: a user may register it ``like=Conv1D``."""


@registered
class GatedUnit(layers.Layer):
    """A layer that owns layers: tanh(C(x)) * sigmoid(C(x)), as in WaveNet."""

    def __init__(self, filters: int = 4, kernel_size: int = 3, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size = filters, kernel_size
        self.signal = layers.Conv1D(filters, kernel_size, padding="same", activation="tanh")
        self.gate = layers.Conv1D(filters, kernel_size, padding="same", activation="sigmoid")

    def build(self, input_shape):
        self.signal.build(input_shape)
        self.gate.build(input_shape)
        super().build(input_shape)

    def call(self, x):
        return self.signal(x) * self.gate(x)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "kernel_size": self.kernel_size}


@registered
class SplitHalves(layers.Layer):
    """Returns two tensors: the first and the second half of the channels."""

    def call(self, x):
        half = x.shape[-1] // 2
        return x[..., :half], x[..., half:]


@registered
class ScaleBy(layers.Layer):
    """Its call takes an argument that is no tensor."""

    def call(self, x, factor=1.0):
        return x * factor


@registered
class AttentionPooling(layers.Layer):
    """Softmax-weighted mean over the length, with a learned query: (L, C) -> (C,)."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 1), name="kernel")
        super().build(input_shape)

    def call(self, x):
        return ops.sum(x * ops.softmax(ops.matmul(x, self.kernel), axis=1), axis=1)


@registered
class ConvPair(keras.Model):
    """A subclassed model: C -> relu -> C, written as a call."""

    def __init__(self, filters: int = 4, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.first = layers.Conv1D(filters, 3, padding="same")
        self.second = layers.Conv1D(filters, 5, padding="same")

    def build(self, input_shape):
        self.first.build(input_shape)
        self.second.build((*input_shape[:-1], self.filters))
        super().build(input_shape)

    def call(self, x):
        return self.second(ops.relu(self.first(x)))

    def get_config(self):
        return {"filters": self.filters, "name": self.name}
