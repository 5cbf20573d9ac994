"""Tensors with several windows: mirror images, and concatenations in which one change has two places."""

import keras
from keras import layers, ops

from .blocks import conv, dna, flat_dense
from .registry import toy, toys

STRANDS = {
    "add": lambda x, y: layers.Add()([x, y]),
    "maximum": lambda x, y: layers.Maximum()([x, y]),
    "multiply": lambda x, y: layers.Multiply()([x, y]),
    "concatenate": lambda x, y: layers.Concatenate()([x, y]),
    "subtract": lambda x, y: x - y,
    "average_of_halves": lambda x, y: layers.Average()([x[:, 2:], y[:, :-2]]),
}


@toys(STRANDS)
def beside_the_mirror_image(merge) -> keras.Model:
    """inp -> C -> merge(x, flip(x)) -> relu -> C -> D -> y"""
    inp = dna(40)
    x = conv(inp, 5, 5, activation="relu")
    x = layers.ReLU()(merge(x, ops.flip(x, axis=1)))
    return keras.Model(inp, flat_dense(conv(x, 4, 3)))


@toys({"same": (2, "same"), "valid": (3, "valid")})
def mirrored_then_pooled(pool) -> keras.Model:
    """inp -> C -> Maximum(x, flip(x)) -> MXP -> C -> relu -> AVP -> C -> y"""
    size, padding = pool
    inp = dna(50)
    x = conv(inp, 5, 5, activation="relu")
    x = layers.MaxPooling1D(size, padding=padding)(layers.Maximum()([x, ops.flip(x, axis=1)]))
    x = layers.AveragePooling1D(2, strides=2, padding=padding)(conv(x, 4, 3, activation="relu"))
    return keras.Model(inp, conv(x, 2, 3))


ENDS = {
    "average": lambda x: layers.Dense(2)(layers.GlobalAveragePooling1D()(x)),
    "max": lambda x: layers.Dense(2)(layers.GlobalMaxPooling1D()(x)),
    "gru": lambda x: layers.GRU(2)(x),
    "itself": lambda x: x,
}


@toys(ENDS)
def mirrored_to_the_end(end) -> keras.Model:
    """inp -> C -> Concat(x, flip(x)) -> BN -> softmax -> end -> y"""
    inp = dna(40)
    x = conv(inp, 5, 3, activation="relu")
    x = layers.BatchNormalization()(layers.Concatenate()([x, ops.flip(x, axis=1)]))
    return keras.Model(inp, end(layers.Softmax()(x)))


@toy
def mirrored_twice() -> keras.Model:
    """inp -> C -> Add(x, flip(x)) -> C -> relu -> Maximum(z, flip(z)) -> C -> D -> y"""
    inp = dna(60)
    x = conv(inp, 4, 3)
    z = conv(layers.Add()([x, ops.flip(x, axis=1)]), 4, 3, activation="relu")
    return keras.Model(inp, flat_dense(conv(layers.Maximum()([z, ops.flip(z, axis=1)]), 3, 3)))


@toy
def one_tower_on_both_strands() -> keras.Model:
    """inp -> tower(inp), tower(reverse complement) -> Average -> y: each strand through the whole tower"""
    inp = dna(40)
    shared = [layers.Conv1D(5, 5, activation="relu"), layers.MaxPooling1D(3), layers.Conv1D(4, 3, activation="relu")]
    shared += [layers.Flatten(), layers.Dense(3)]
    ends = []
    for x in (inp, ops.flip(inp, axis=(1, 2))):
        for layer in shared:
            x = layer(x)
        ends.append(x)
    return keras.Model(inp, layers.Average()(ends))


@toys({"two": 2, "three": 3})
def end_to_end(n) -> keras.Model:
    """inp -> Concat(C(inp), C(inp), axis=1) -> relu -> C -> MXP -> D -> y"""
    inp = dna(30)
    x = layers.Concatenate(axis=1)([conv(inp, 5, 3 + 2 * i) for i in range(n)])
    return keras.Model(inp, flat_dense(layers.MaxPooling1D(2)(conv(layers.ReLU()(x), 4, 3))))


@toys({"two": 2, "three": 3})
def flattened_branches(n) -> keras.Model:
    """inp -> Concat(Flatten(MXP(C(inp))), ...) -> BN -> relu -> D -> relu -> D -> y: kernels of several widths"""
    inp = dna(36)
    branches = [layers.Flatten()(layers.MaxPooling1D(2 + i)(conv(inp, 4, 3 + 2 * i))) for i in range(n)]
    x = layers.ReLU()(layers.BatchNormalization()(layers.Concatenate()(branches)))
    return keras.Model(inp, layers.Dense(2)(layers.Dense(5, activation="relu")(x)))


@toy
def end_to_end_with_itself_shifted() -> keras.Model:
    """inp -> C -> Concat(x, x[:, 7:], axis=1) -> sigmoid -> C -> GAP -> y"""
    inp = dna(40)
    x = conv(inp, 5, 5)
    x = layers.Activation("sigmoid")(ops.concatenate([x, x[:, 7:]], axis=1))
    return keras.Model(inp, layers.GlobalAveragePooling1D()(conv(x, 3)))
