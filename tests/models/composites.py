"""Pieces of random models that are more than one layer, by name: each keeps (L, C) tensors what they are.

``COMPOSITES[name](**options)`` is a function of one tensor, or of two.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from tests.models.own_code import own_activation, own_function, subclass


def slice_(start: int, stop: int | None, step: int):
    return lambda x: x[:, start:stop:step]


def flip(axis):
    return lambda x: ops.flip(x, axis=axis)


def affine(scale: float, shift: float):
    return lambda x: (shift - x * scale) / 2.0


def gate():
    return lambda x: x * ops.sigmoid(x) + ops.exp(ops.minimum(x, 1.0))


def centred():
    return lambda x: x - ops.mean(x, axis=-1, keepdims=True)


def channel_max():
    return lambda x: x * ops.tanh(ops.max(x, axis=2, keepdims=True))


def one_by_one(name: str, positive: bool):
    """A function of ``keras.ops`` where it is smooth: on (1, 3), or on (-0.9, 0.9)."""
    return lambda x: getattr(ops, name)(ops.tanh(x) + 2.0 if positive else ops.tanh(x) * 0.9)


def two_by_two(name: str):
    """A function of two tensors, or an operator, where it is smooth."""
    return lambda x, y: getattr(ops, name)(ops.tanh(x) + 2.0, ops.tanh(y) + 2.0)


def over_channels(name: str):
    """A reduction of the channels, beside them."""
    return lambda x: x + getattr(ops, name)(ops.sigmoid(x), axis=-1, keepdims=True)


def along_channels(name: str):
    """An operation that works along the channels."""
    return lambda x: getattr(ops, name)(x, axis=-1)


def padded(before: int, after: int):
    return lambda x: ops.pad(x, ((0, 0), (before, after), (0, 0)), constant_values=0.3)


def swapped(how: str):
    """The channels first, something by position, and back."""

    def call(x):
        turn = {
            "swapaxes": lambda t: ops.swapaxes(t, 1, 2),
            "moveaxis": lambda t: ops.moveaxis(t, 2, 1),
            "transpose": lambda t: ops.transpose(t, (0, 2, 1)),
        }[how]
        return turn(ops.tanh(turn(x)))

    return call


def squeezed():
    """An axis put in and taken out again, then two."""

    def call(x):
        y = ops.squeeze(ops.relu(ops.expand_dims(x, 2)), 2)
        return ops.reshape(ops.reshape(y, (-1, x.shape[1], 1, 1, x.shape[2])), (-1, *x.shape[1:]))

    return call


def without_channels():
    """Vectors of two channels, one behind the other, and what of them is as long as the tensor."""

    def call(x):
        both = layers.Concatenate()([x[:, :, 0], ops.tanh(x[:, :, -1])])
        return x + both[:, 2 : 2 + x.shape[1], None]

    return call


def with_positions():
    """The positions as a first channel, in the place of the last."""

    def call(x):
        positions = np.linspace(-1, 1, x.shape[1], dtype="float32")[:, None]
        return ops.concatenate([ops.ones_like(x[:, :, :1]) * positions, x[:, :, :-1]], axis=-1)

    return call


def over_positions(how: str):
    """A dense layer over the positions of every channel, or of all together."""

    def call(x):
        if how == "each":
            dense = layers.Dense(x.shape[1], activation="tanh")
            return x + layers.Permute((2, 1))(dense(layers.Permute((2, 1))(x)))
        return x + layers.Dense(x.shape[2])(layers.Reshape((1, -1))(x))

    return call


def projected(units: int, how: str):
    """``x @ constant``"""

    def call(x):
        matrix = np.random.default_rng(units).normal(size=(x.shape[-1], units)).astype("float32")
        return ops.einsum("blc,cd->bld", x, matrix) if how == "einsum" else getattr(ops, how)(x, matrix)

    return call


def spectral(filters: int):
    return lambda x: layers.SpectralNormalization(layers.Conv1D(filters, 3, padding="same", activation="relu"))(x)


# How people call a model of two inputs: its inputs as it declares them, then what it is given.
PAIRS = {
    "list": (lambda a, b: [a, b], lambda model, x, y: model([x, y])),
    "tuple": (lambda a, b: (b, a), lambda model, x, y: model((y, x))),
    "dict": (lambda a, b: {"a": a, "b": b}, lambda model, x, y: model({"b": y, "a": x})),
    "dict_for_list": (lambda a, b: [b, a], lambda model, x, y: model({"a": x, "b": y})),
    "nested_lists": (lambda a, b: [a, [b]], lambda model, x, y: model([x, [y]])),
    "keyword": (lambda a, b: [a, b], lambda model, x, y: model(inputs=[x, y], training=False, mask=[None, None])),
}


def nested(filters: int, how: str = "list", depth: int = 1, outputs: str = "one"):
    """A model of two inputs in ``depth`` models around it, called twice; of several outputs one is used."""
    struct, called = PAIRS[how]
    pick = {"one": lambda y: y, "list": lambda y: y[1], "dict": lambda y: y["main"]}[outputs]

    def inner(shape):
        a, b = keras.Input(shape, name="a"), keras.Input(shape, name="b")
        y = layers.Conv1D(filters, 3, padding="same", activation="relu")(a)
        y = layers.Add()([b, layers.Conv1D(shape[-1], 2, padding="causal")(y)])
        given = {"one": y, "list": [a, y], "dict": {"main": y, "other": layers.Flatten()(b)}}
        return keras.Model(struct(a, b), given[outputs])

    def call(x):
        model = inner(x.shape[1:])
        for _ in range(depth - 1):
            a, b = keras.Input(x.shape[1:], name="a"), keras.Input(x.shape[1:], name="b")
            model = keras.Model(struct(a, b), called(model, a, b))
        y = pick(called(model, x, x))
        return pick(called(model, y, x))

    return call


def conditioned():
    """Scaled and shifted by what a vector says."""

    def call(x, vector):
        scale, shift = (layers.Dense(x.shape[-1], activation="tanh")(vector) for _ in range(2))
        return layers.Add()([layers.Multiply()([x, ops.expand_dims(scale, 1)]), ops.expand_dims(shift, 1)])

    return call


def beside():
    """Another track, put beside the channels."""
    return lambda x, track: layers.Concatenate()([x, layers.Conv1D(2, 3, padding="same")(track)])


def squeeze_excite():
    def call(x):
        weights = layers.Dense(x.shape[-1], activation="sigmoid")(layers.GlobalAveragePooling1D(keepdims=True)(x))
        return layers.Multiply()([x, weights])

    return call


def image(kind: str, axis: int, along: dict, axes: int = 2, **options):
    """(L, C) as (L, 1, C) or (1, L, C), a layer of images, and back; of volumes with three ``axes``.

    ``along`` are the options of the layer that have an entry for every axis, given for the positions.
    """

    def call(x):
        length, channels = x.shape[1:]
        one = (0, 0) if kind.startswith(("ZeroPadding", "Cropping")) else 1
        spread = {name: tuple(n if i == axis else one for i in range(axes)) for name, n in along.items()}
        shape = tuple(length if i == axis else 1 for i in range(axes))
        y = getattr(layers, kind)(**options, **spread)(layers.Reshape((*shape, channels))(x))
        return layers.Reshape((y.shape[1 + axis], y.shape[-1]))(y)

    return call


def columns(filters: int, kernel_size: int, height: int):
    """(L, C) as an image (L, C, 1) that filters slide over both ways, the columns then side by side as channels."""

    def call(x):
        y = layers.Conv2D(filters, (kernel_size, height), padding="same", activation="relu")(ops.expand_dims(x, -1))
        y = layers.MaxPooling2D((1, 2), padding="same")(y)
        return layers.Reshape((y.shape[1], y.shape[2] * y.shape[3]))(y)

    return call


def channels_first(kernel_size: int, padding: str):
    """What TensorFlow computes with the channels first on a CPU; convolutions are not among it."""

    def call(x):
        options = {"padding": padding, "data_format": "channels_first"}
        y = layers.DepthwiseConv1D(kernel_size, activation="relu", **options)(layers.Permute((2, 1))(x))
        y = layers.MaxPooling1D(2, strides=1, padding="same", data_format="channels_first")(y)
        y = layers.SeparableConv1D(3, 2, padding="same", data_format="channels_first")(y)
        return ops.transpose(layers.BatchNormalization(axis=1)(y), (0, 2, 1))

    return call


def split_channels(parts: int):
    """Softmax within groups of channels."""

    def call(x):
        length, channels = x.shape[1:]
        y = layers.Softmax()(layers.Reshape((length, parts, channels // parts))(x))
        return layers.Reshape((length, channels))(y)

    return call


def attention_pooled(size: int):
    """Groups of positions summed up, weighted by a softmax among them."""

    def call(x):
        length, channels = x.shape[1:]
        groups = layers.Reshape((length // size, size, channels))(x)
        weights = ops.softmax(layers.Dense(channels, use_bias=False)(groups), axis=-2)
        return ops.sum(groups * weights, axis=-2)

    return call


def patches(size: int):
    """Groups of positions side by side as channels."""
    return lambda x: layers.Reshape((x.shape[1] // size, size * x.shape[2]))(x)


def interleaved(size: int):
    """Groups of channels one behind the other as positions."""
    return lambda x: layers.Reshape((x.shape[1] * size, x.shape[2] // size))(x)


class Block(layers.Layer):
    """A layer of one's own around others, with a weight of its own."""

    def __init__(self, filters: int, **options):
        super().__init__(**options)
        self.filters = filters
        self.conv, self.norm = layers.Conv1D(filters, 3, padding="same"), layers.BatchNormalization()

    def build(self, shape):
        self.conv.build(shape)
        self.norm.build((*shape[:-1], self.filters))
        self.scale = self.add_weight(shape=(self.filters,), name="scale")

    def call(self, x, training=None):
        return ops.relu(self.norm(self.conv(x), training=training)) * self.scale

    def compute_output_spec(self, x, training=None):
        """Said, not tried out: Keras takes what arcsinh makes for sparse, and cannot try a convolution on that."""
        return keras.KerasTensor((*x.shape[:-1], self.filters), x.dtype)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def ones_own(filters: int):
    return Block(filters)


def half_gated():
    """One half of the channels, gated by the other."""

    def call(x):
        a, b = ops.split(x, 2, axis=-1)
        return a * ops.sigmoid(b)

    return call


def stacked():
    """The larger of a tensor and a neighbouring channel, by way of one more axis."""
    return lambda x: ops.max(ops.stack([x, ops.flip(x, axis=-1)], axis=2), axis=2)


def repeated(repeats: int):
    return lambda x: ops.repeat(x, repeats, axis=1)


def time_distributed(units: int):
    return lambda x: layers.TimeDistributed(layers.Dense(units, activation="tanh"))(x)


def einsum(units: int):
    return lambda x: layers.EinsumDense("blc,cd->bld", (x.shape[1], units), bias_axes="d")(x)


def flat_norm():
    """Weights for every element of a flattened tensor."""

    def call(x):
        y = layers.PReLU()(layers.BatchNormalization()(layers.Flatten()(x)))
        return layers.Reshape(tuple(x.shape[1:]))(y)

    return call


def constant(*shape: int) -> np.ndarray:
    """Weights that are drawn once and for all."""
    return np.random.default_rng(len(shape)).normal(0, 0.5, shape).astype("float32")


def by_function(kind: str, kernel_size: int):
    """A layer as a function of ``keras.ops`` with constant weights."""

    def call(x):
        n = x.shape[-1]
        calls = {
            "conv": lambda: ops.conv(x, constant(kernel_size, n, n), padding="same"),
            "depthwise_conv": lambda: ops.depthwise_conv(x, constant(kernel_size, n, 1), padding="same"),
            "separable_conv": lambda: ops.separable_conv(
                x, constant(kernel_size, n, 1), constant(1, n, n), padding="same"
            ),
            "batch_normalization": lambda: ops.batch_normalization(x, constant(n), constant(n) ** 2 + 0.5, axis=-1),
            "max_pool": lambda: ops.max_pool(x, kernel_size, 1, "same"),
        }
        return calls[kind]()

    return call


def piecewise(how: str):
    """Comparisons where both sides meet, and what sorts the channels."""

    def call(x):
        y = ops.tanh(x)
        calls = {
            "where": lambda: ops.where(x > 0, x, 0.1 * x),
            "select": lambda: ops.select([x > 0.5, ops.logical_not(x >= -0.5)], [x - 0.5, x + 0.5], 0.0),
            "mask": lambda: x * ops.cast(x > 0, x.dtype) + y * ops.cast(~(x > 0), x.dtype),
            "by_position": lambda: ops.where(constant(x.shape[1], 1) > 0, x, y),
            "sort": lambda: ops.sort(x, axis=-1),
            "top_k": lambda: x + ops.sum(ops.top_k(x, 2)[0], axis=-1, keepdims=True),
            "median": lambda: x - ops.median(y, axis=-1, keepdims=True),
            "cumsum": lambda: ops.cumsum(y, axis=-1),
            "take": lambda: ops.take(x, [*range(1, x.shape[-1]), 1], axis=-1),
        }
        return calls[how]()

    return call


def rolled(by: int, axis: int):
    return lambda x: ops.roll(x, by, axis=axis)


def mirrored_pad(before: int, after: int, mode: str):
    return lambda x: ops.pad(x, ((0, 0), (before, after), (0, 0)), mode=mode)


def weights_by_position(units: int):
    """A matrix of its own for every position."""
    return lambda x: ops.einsum("blc,lcd->bld", x, constant(*x.shape[1:], units))


RECURRENT = {
    "lstm": lambda units: layers.LSTM(units, return_sequences=True),
    "gru": lambda units: layers.GRU(units, return_sequences=True),
    "reset_first": lambda units: layers.GRU(units, return_sequences=True, reset_after=False),
    "simple": lambda units: layers.SimpleRNN(units, return_sequences=True),
    "backwards": lambda units: layers.LSTM(units, return_sequences=True, go_backwards=True),
    "both": lambda units: layers.Bidirectional(layers.GRU(units, return_sequences=True), merge_mode="sum"),
    "stacked": lambda units: layers.RNN([layers.LSTMCell(2), layers.SimpleRNNCell(units)], return_sequences=True),
}


def recurrent(units: int, kind: str, mask: str | None = None):
    """``mask``: positions where the first channel is not positive are left out, by a mask that is made inside a nested
    model, or that is given to one."""

    def inside(layer, x):
        inner = keras.Input(x.shape[1:])
        return keras.Model(inner, layer(inner))

    def called(x):
        layer = RECURRENT[kind](units)
        if mask is None:
            return layer(x)
        x, masking = ops.relu(x[..., :1]), layers.Masking()
        if mask == "made":
            return layer(inside(masking, x)(x))
        return inside(layer, x)(masking(x), training=False)

    return called


def end_to_end():
    """Two tensors, one behind the other along the length."""
    return lambda x, y: ops.concatenate([x, y], axis=1)


def both_strands():
    """The tensor beside its mirror image."""
    return lambda x: layers.Concatenate()([x, ops.flip(x, axis=1)])


COMPOSITES = {
    made.__name__.rstrip("_"): made
    for made in (
        slice_,
        flip,
        affine,
        gate,
        centred,
        channel_max,
        one_by_one,
        two_by_two,
        over_channels,
        along_channels,
        padded,
        swapped,
        squeezed,
        without_channels,
        with_positions,
        over_positions,
        projected,
        spectral,
        nested,
        conditioned,
        beside,
        squeeze_excite,
        image,
        columns,
        channels_first,
        split_channels,
        attention_pooled,
        patches,
        interleaved,
        half_gated,
        ones_own,
        own_function,
        own_activation,
        subclass,
        stacked,
        repeated,
        time_distributed,
        einsum,
        flat_norm,
        by_function,
        piecewise,
        rolled,
        mirrored_pad,
        weights_by_position,
        recurrent,
        end_to_end,
        both_strands,
    )
}
