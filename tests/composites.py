"""Pieces of random models that are more than one layer, by name: each keeps (L, C) tensors what they are.

``COMPOSITES[name](**options)`` is a function of one tensor, or of two.
"""

from __future__ import annotations

from keras import layers, ops


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


def squeeze_excite():
    def call(x):
        weights = layers.Dense(x.shape[-1], activation="sigmoid")(layers.GlobalAveragePooling1D(keepdims=True)(x))
        return layers.Multiply()([x, weights])

    return call


def image(kind: str, axis: int, kernel_size: int, **options):
    """(L, C) as (L, 1, C) or (1, L, C), a layer of images, and back."""

    def call(x):
        length, channels = x.shape[1:]
        shape = (length, 1, channels) if axis == 0 else (1, length, channels)
        size = (kernel_size, 1) if axis == 0 else (1, kernel_size)
        made = {"MaxPooling2D": "pool_size", "AveragePooling2D": "pool_size"}.get(kind, "kernel_size")
        given = {**options, made: size}
        if "strides" in given and made == "pool_size":
            given["strides"] = (given["strides"], 1) if axis == 0 else (1, given["strides"])
        y = getattr(layers, kind)(**given)(layers.Reshape(shape)(x))
        return layers.Reshape((y.shape[1] * y.shape[2], y.shape[3]))(y)

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


def recurrent(units: int):
    return lambda x: layers.GRU(units, return_sequences=True)(x)


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
        squeeze_excite,
        image,
        columns,
        channels_first,
        split_channels,
        time_distributed,
        einsum,
        flat_norm,
        recurrent,
        end_to_end,
        both_strands,
    )
}
