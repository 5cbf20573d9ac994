"""Chains: one input, one path, one head."""

import keras
from keras import layers

from .blocks import conv, dna, flat_dense
from .registry import toy, toys

FIRST_CONVS = {
    "valid": {"kernel_size": 3},
    "same": {"kernel_size": 3, "padding": "same"},
    "even": {"kernel_size": 4},
    "even_same": {"kernel_size": 4, "padding": "same"},
    "dilated": {"kernel_size": 3, "dilation_rate": 3},
}


@toys(FIRST_CONVS)
def conv_dense(options) -> keras.Model:
    """inp -> C -> D -> y"""
    inp = dna(60)
    return keras.Model(inp, flat_dense(layers.Conv1D(6, **options)(inp), 1))


@toy
def conv_dense_sequential() -> keras.Model:
    """inp -> C -> D -> y, as a Sequential"""
    return keras.Sequential([dna(60), layers.Conv1D(6, 3), layers.Flatten(), layers.Dense(1)])


@toy
def conv_dense_sequential_deferred() -> keras.Model:
    """inp -> C -> D -> y, as a Sequential that learns its input shape by being built"""
    model = keras.Sequential([layers.Conv1D(6, 5), layers.ReLU(), layers.Flatten(), layers.Dense(2)])
    model.build((None, 40, 4))
    return model


@toys({"one": [3], "two": [3, 2]})
def conv_pools_dense(sizes) -> keras.Model:
    """inp -> C -> MXP (-> MXP) -> D -> y"""
    inp = dna(60)
    x = layers.Conv1D(6, 7)(inp)
    for size in sizes:
        x = layers.MaxPooling1D(size)(x)
    return keras.Model(inp, flat_dense(x))


@toy
def two_conv_pools_dense() -> keras.Model:
    """inp -> C -> MXP -> C -> MXP -> D -> y"""
    inp = dna(60)
    x = layers.MaxPooling1D(3)(conv(inp, 6, 7))
    x = layers.MaxPooling1D(2)(layers.Conv1D(5, 3)(x))
    return keras.Model(inp, flat_dense(x))


TOWERS = {
    "plain": [{"kernel_size": 7}, {"kernel_size": 4}, {"kernel_size": 2, "padding": "valid"}, {"kernel_size": 6}],
    "dilated": [
        {"kernel_size": 3, "dilation_rate": 3},
        {"kernel_size": 4, "activation": "relu"},
        {"kernel_size": 2, "dilation_rate": 2, "padding": "valid", "activation": "tanh"},
        {"kernel_size": 6},
    ],
    "unbiased": [
        {"kernel_size": 5, "use_bias": False},
        {"kernel_size": 4, "activation": "relu"},
        {"kernel_size": 2, "dilation_rate": 2, "padding": "valid", "activation": "tanh", "use_bias": False},
        {"kernel_size": 3},
    ],
}


@toys(TOWERS)
def tower_two_dense(convs) -> keras.Model:
    """inp -> C -> MXP -> C -> MXP -> C -> MXP -> C -> MXP -> D -> D -> y"""
    inp = x = dna(124)
    for filters, options in zip([5, 6, 7, 4], convs, strict=True):
        x = layers.MaxPooling1D(2)(conv(x, filters, **options))
    return keras.Model(inp, layers.Dense(1)(flat_dense(x, 8)))


@toys({"raw": False, "tanh_first": True})
def tower_global_average(activate_input) -> keras.Model:
    """inp (-> tanh) -> C -> MXP -> C -> Drop -> MXP -> C -> MXP -> Drop -> C -> MXP -> GAP -> D -> Drop -> D -> y"""
    inp = x = dna(124)
    if activate_input:
        x = layers.Activation("tanh")(x)
    x = layers.MaxPooling1D(2)(conv(x, 5, 5, use_bias=False))
    x = layers.MaxPooling1D(2)(layers.Dropout(0.5)(conv(x, 6, 4, activation="relu")))
    x = layers.Conv1D(7, 2, dilation_rate=2, use_bias=False, activation="tanh")(x)
    x = layers.Dropout(0.8)(layers.MaxPooling1D(2)(x))
    x = layers.MaxPooling1D(2)(conv(x, 5, 3))
    x = layers.Dense(8)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inp, layers.Dense(1)(layers.Dropout(0.3)(x)))


@toy
def tower_sequential() -> keras.Model:
    """inp -> tanh -> C -> MXP -> C -> Drop -> MXP -> C -> MXP -> GAP -> D -> y, as a Sequential"""
    return keras.Sequential(
        [
            dna(100),
            layers.Activation("tanh"),
            layers.Conv1D(5, 5, use_bias=False, padding="same"),
            layers.MaxPooling1D(2),
            layers.Conv1D(6, 4, padding="same", activation="relu"),
            layers.Dropout(0.5),
            layers.MaxPooling1D(2),
            layers.Conv1D(6, 2, dilation_rate=2, use_bias=False, activation="tanh"),
            layers.MaxPooling1D(2),
            layers.GlobalAveragePooling1D(),
            layers.Dense(8),
            layers.Dense(1),
        ]
    )


@toys({"even": [(4, 4)], "odd": [(5, 3)], "even_odd": [(4, 5)], "twice": [(2, 0), (1, 3)]})
def conv_crops_dense(crops) -> keras.Model:
    """inp -> C -> Crop (-> Crop) -> D -> y"""
    inp = dna(50)
    x = layers.Conv1D(6, 3)(inp)
    for crop in crops:
        x = layers.Cropping1D(crop)(x)
    return keras.Model(inp, flat_dense(x, 1))


@toy
def beyond_the_receptive_field() -> keras.Model:
    """inp (22) -> C (span 15) -> C (span 29) -> C (span 33) -> D -> y: every base reaches every position"""
    inp = dna(22)
    x = conv(inp, 4, 15, activation="relu")
    x = conv(x, 4, 8, dilation_rate=4, activation="relu")
    return keras.Model(inp, flat_dense(conv(x, 4, 5, dilation_rate=8, activation="relu")))


@toy
def one_position_left() -> keras.Model:
    """inp (24) -> C (24, valid) -> relu -> D -> y: the length is 1 after the first layer"""
    inp = dna(24)
    return keras.Model(inp, flat_dense(layers.Conv1D(8, 24, activation="relu")(inp)))


@toy
def linear_regression() -> keras.Model:
    """inp -> D -> y, on the flattened sequence: no convolution at all"""
    inp = dna(30)
    return keras.Model(inp, flat_dense(inp, 3))


@toy
def position_wise_only() -> keras.Model:
    """inp -> D (per position) -> relu -> D (per position) -> y: no two positions ever meet"""
    inp = dna(30)
    return keras.Model(inp, layers.Dense(3)(layers.Dense(6, activation="relu")(inp)))
