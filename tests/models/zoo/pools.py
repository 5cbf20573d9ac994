"""Pooling: every phase between size, stride, padding and length, and what a pooling hides."""

import keras
from keras import layers

from .blocks import conv, dna, flat_dense
from .registry import toy, toys

MAX, AVERAGE = layers.MaxPooling1D, layers.AveragePooling1D
WINDOWS = {
    "divisible": {"pool_size": 4},
    "rest_dropped": {"pool_size": 7},
    "rest_kept": {"pool_size": 7, "padding": "same"},
    "overlapping": {"pool_size": 5, "strides": 2},
    "overlapping_same": {"pool_size": 5, "strides": 3, "padding": "same"},
    "even_stride_1_same": {"pool_size": 4, "strides": 1, "padding": "same"},
    "stride_1": {"pool_size": 3, "strides": 1},
    "stride_over_size": {"pool_size": 2, "strides": 5},
    "stride_over_size_same": {"pool_size": 2, "strides": 5, "padding": "same"},
    "size_1": {"pool_size": 1, "strides": 3},
    "whole_length": {"pool_size": 40},
    "beyond_the_length": {"pool_size": 50, "strides": 6, "padding": "same"},
}


@toys(WINDOWS)
def max_between(options) -> keras.Model:
    """inp -> C -> MXP -> C -> y"""
    inp = dna(40)
    return keras.Model(inp, conv(MAX(**options)(conv(inp)), 2))


@toys(WINDOWS)
def average_between(options) -> keras.Model:
    """inp -> C -> AVP -> C -> y: 'same' divides by the number of positions that exist"""
    inp = dna(40)
    return keras.Model(inp, conv(AVERAGE(**options)(conv(inp, activation="relu")), 2))


@toys({"max": MAX, "average": AVERAGE})
def pool_first(pool) -> keras.Model:
    """inp -> pool3 -> C -> D -> y: directly on the bases"""
    inp = dna(40)
    return keras.Model(inp, flat_dense(conv(pool(3)(inp), activation="relu")))


@toys({"max": MAX, "average": AVERAGE})
def pool_below_zero(pool) -> keras.Model:
    """inp -> C -> relu -> -1 - x -> pool5 /3 same -> C -> y: every value is negative, a pad of 0 would win"""
    inp = dna(40)
    x = layers.Rescaling(-1.0, offset=-1.0)(conv(inp, 5, 5, activation="relu"))
    return keras.Model(inp, conv(pool(5, strides=3, padding="same")(x), 2))


@toy
def pool_hides_changes() -> keras.Model:
    """inp -> C -> relu -> MXP20 -> C1 -> y: most substitutions change no maximum at all"""
    inp = dna(60)
    return keras.Model(inp, conv(layers.MaxPooling1D(20)(conv(inp, 3, 3, activation="relu")), 2, 1))


@toy
def dead_relu_hides_changes() -> keras.Model:
    """inp -> C -> relu - threshold 1 -> MXP4 -> C -> y: most of the tensor is zero before and after"""
    inp = dna(60)
    x = layers.ReLU()(layers.Rescaling(1.0, offset=-1.0)(conv(inp, 6, 5)))
    return keras.Model(inp, conv(layers.MaxPooling1D(4)(x), 2, 3))


@toy
def pool_cascade() -> keras.Model:
    """inp (61) -> C -> MXP2 -> AVP3 /2 -> MXP3 same -> C -> AVP2 same -> D -> y: four phases one after another"""
    inp = dna(61)
    x = AVERAGE(3, strides=2)(MAX(2)(conv(inp, 5, 5)))
    x = conv(MAX(3, padding="same")(x), 5, 3, activation="relu")
    return keras.Model(inp, flat_dense(AVERAGE(2, padding="same")(x)))


@toy
def pool_tower_even_same() -> keras.Model:
    """inp (50) -> [C even -> relu -> MXP2 same] x 4 -> y (4 positions): odd lengths 25, 13, 7, 4"""
    inp = x = dna(50)
    for _ in range(4):
        x = layers.MaxPooling1D(2, padding="same")(conv(x, 4, 4, activation="relu"))
    return keras.Model(inp, x)


@toys({"max": MAX, "average": AVERAGE})
def pool_over_channels(pool) -> keras.Model:
    """inp -> C -> pool2 channels_first -> C -> y: pools neighbouring channels, not positions"""
    inp = dna(30)
    return keras.Model(inp, conv(pool(2, data_format="channels_first")(conv(inp, 6, 5)), 2))


GLOBAL = {"average": layers.GlobalAveragePooling1D, "max": layers.GlobalMaxPooling1D}


@toys(GLOBAL)
def global_pool(pool) -> keras.Model:
    """inp -> C -> global pool -> y"""
    inp = dna(40)
    return keras.Model(inp, pool()(conv(inp, 6, 7)))


@toys(GLOBAL)
def global_pool_dense(pool) -> keras.Model:
    """inp -> C -> relu -> C -> global pool -> D -> relu -> D -> y"""
    inp = dna(40)
    x = pool()(layers.Conv1D(6, 4)(conv(inp, 6, 7, activation="relu")))
    return keras.Model(inp, layers.Dense(2)(layers.Dense(5, activation="relu")(x)))


@toys(GLOBAL)
def global_pool_keeps_the_axis(pool) -> keras.Model:
    """inp -> C -> global pool, keepdims -> C1 -> Flatten -> D -> y: a length of one that is not a window"""
    inp = dna(40)
    x = pool(keepdims=True)(conv(inp, 6, 7, activation="relu"))
    return keras.Model(inp, flat_dense(conv(x, 5, 1, activation="relu")))


@toys(GLOBAL)
def global_pool_over_channels(pool) -> keras.Model:
    """inp -> C -> global pool channels_first -> D -> y: one number a position"""
    inp = dna(30)
    return keras.Model(inp, layers.Dense(2)(pool(data_format="channels_first")(conv(inp, 6, 5))))


@toys(GLOBAL)
def global_pool_first(pool) -> keras.Model:
    """inp (6) -> global pool -> D -> y: base composition, or which bases occur at all"""
    inp = dna(6)
    return keras.Model(inp, layers.Dense(3)(pool()(inp)))


@toy
def both_global_pools() -> keras.Model:
    """inp -> C -> Concat(GAP, GMP) -> D -> y"""
    inp = dna(40)
    x = conv(inp, 6, 7)
    x = layers.Concatenate()([layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x)])
    return keras.Model(inp, layers.Dense(2)(x))


@toy
def global_max_below_zero() -> keras.Model:
    """inp -> C -> softplus -> -1 - x -> GMP -> D -> y: the maximum of numbers all below -1"""
    inp = dna(40)
    x = layers.Rescaling(-1.0, offset=-1.0)(conv(inp, 5, 5, activation="softplus"))
    return keras.Model(inp, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))


@toy
def global_max_of_a_cropped_end() -> keras.Model:
    """inp -> C -> Crop(0, 12) -> C -> GMP -> y: the window leaves the tensor on one side"""
    inp = dna(40)
    x = conv(layers.Cropping1D((0, 12))(conv(inp, 5, 7)), 4, 6)
    return keras.Model(inp, layers.GlobalMaxPooling1D()(x))


ADAPTIVE = {"average": layers.AdaptiveAveragePooling1D, "max": layers.AdaptiveMaxPooling1D}


@toys(ADAPTIVE)
def adaptive_pool(pool) -> keras.Model:
    """inp (30) -> C -> adaptive pool to 10 -> C -> adaptive pool to 4 -> C -> y: bins of one width, then of two"""
    inp = dna(30)
    return keras.Model(inp, conv(pool(4)(conv(pool(10)(conv(inp, 5, 4)), 4)), 2))
