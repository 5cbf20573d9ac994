"""Convolutions and the layers that move positions, each between two convolutions so that its edges show.

``inp -> C -> X -> C -> y``, with y positional: nothing averages an error away.
"""

import keras
from keras import layers

from .blocks import conv, dna, flat_dense
from .registry import toy, toys

CONVS = {
    "stride_over_span": {"kernel_size": 3, "strides": 5},
    "stride_over_span_same": {"kernel_size": 3, "strides": 5, "padding": "same"},
    "strided": {"kernel_size": 7, "strides": 2},
    "strided_same": {"kernel_size": 7, "strides": 3, "padding": "same"},
    "strided_even_same": {"kernel_size": 4, "strides": 2, "padding": "same"},
    "strided_pointwise": {"kernel_size": 1, "strides": 3},
    "pointwise": {"kernel_size": 1},
    "kernel_2_same": {"kernel_size": 2, "padding": "same"},
    "even_dilated_same": {"kernel_size": 4, "dilation_rate": 3, "padding": "same"},
    "causal": {"kernel_size": 4, "padding": "causal"},
    "causal_dilated": {"kernel_size": 3, "dilation_rate": 5, "padding": "causal"},
    "causal_strided": {"kernel_size": 3, "strides": 2, "padding": "causal"},
    "dilated_beyond": {"kernel_size": 3, "dilation_rate": 64, "padding": "same"},
    "dilated_beyond_causal": {"kernel_size": 3, "dilation_rate": 50, "padding": "causal"},
    "kernel_beyond": {"kernel_size": 61, "padding": "same"},
    "grouped": {"kernel_size": 5, "groups": 2, "padding": "same"},
    "grouped_each_channel": {"kernel_size": 3, "groups": 6, "strides": 2},
    "activated": {"kernel_size": 5, "padding": "same", "activation": "gelu"},
    "unbiased_softmax": {"kernel_size": 5, "padding": "same", "use_bias": False, "activation": "softmax"},
}


def _between(layer: layers.Layer, length: int = 43) -> keras.Model:
    """inp -> C -> layer -> C -> y"""
    inp = dna(length)
    return keras.Model(inp, conv(layer(conv(inp, 6, 3, activation="relu")), 2, 3))


@toys(CONVS)
def conv_between(options) -> keras.Model:
    """inp -> C -> C (options) -> C -> y"""
    return _between(layers.Conv1D(6, **options))


@toys({name: CONVS[name] for name in ("stride_over_span", "strided_same", "causal_dilated", "dilated_beyond")})
def conv_first(options) -> keras.Model:
    """inp -> C (options) -> relu -> D -> y: here the window is one base wide and the input is one-hot"""
    inp = dna(43)
    return keras.Model(inp, flat_dense(layers.Conv1D(6, activation="relu", **options)(inp)))


@toy
def grouped_first() -> keras.Model:
    """inp -> grouped C (each group sees two of the four bases) -> relu -> D -> y"""
    inp = dna(30)
    return keras.Model(inp, flat_dense(conv(inp, 6, 5, groups=2, activation="relu")))


DEPTHWISE = {
    "valid": {"kernel_size": 5},
    "same": {"kernel_size": 5, "padding": "same", "activation": "tanh"},
    "even_same": {"kernel_size": 4, "padding": "same", "depth_multiplier": 2},
    "strided": {"kernel_size": 3, "strides": 2, "padding": "same"},
    "dilated": {"kernel_size": 3, "dilation_rate": 4, "padding": "same", "use_bias": False},
}


@toys(DEPTHWISE)
def depthwise_between(options) -> keras.Model:
    """inp -> C -> depthwise C -> C -> y"""
    return _between(layers.DepthwiseConv1D(**options))


SEPARABLE = {
    "valid": {"kernel_size": 5},
    "same": {"kernel_size": 4, "padding": "same", "depth_multiplier": 2, "activation": "relu"},
    "strided": {"kernel_size": 5, "strides": 3, "padding": "same", "use_bias": False},
    "dilated": {"kernel_size": 3, "dilation_rate": 3, "padding": "same"},
}


@toys(SEPARABLE)
def separable_between(options) -> keras.Model:
    """inp -> C -> separable C -> C -> y"""
    return _between(layers.SeparableConv1D(5, **options))


TRANSPOSED = {
    "valid": {"kernel_size": 5},
    "same": {"kernel_size": 4, "padding": "same"},
    "strided": {"kernel_size": 5, "strides": 2},
    "strided_same": {"kernel_size": 4, "strides": 3, "padding": "same", "activation": "relu"},
    "stride_over_span": {"kernel_size": 2, "strides": 3},
}


@toys(TRANSPOSED)
def transposed_between(options) -> keras.Model:
    """inp -> C -> transposed C -> C -> y"""
    return _between(layers.Conv1DTranspose(5, **options), length=24)


MOVES = {
    "upsampling": lambda: layers.UpSampling1D(3),
    "zero_padding": lambda: layers.ZeroPadding1D(2),
    "zero_padding_asymmetric": lambda: layers.ZeroPadding1D((5, 1)),
    "zero_padding_right": lambda: layers.ZeroPadding1D((0, 4)),
    "cropping": lambda: layers.Cropping1D(4),
    "cropping_asymmetric": lambda: layers.Cropping1D((7, 2)),
    "cropping_left": lambda: layers.Cropping1D((9, 0)),
    "cropping_almost_all": lambda: layers.Cropping1D((12, 14)),
}


@toys(MOVES)
def moved_between(layer) -> keras.Model:
    """inp -> C -> padding, cropping or upsampling -> C -> y"""
    return _between(layer(), length=30)


@toy
def change_in_the_cropped_edge() -> keras.Model:
    """inp -> Crop(6, 3) -> C -> Crop(2, 5) -> D -> y: changes of the first 6 and the last 3 bases do nothing"""
    inp = dna(40)
    x = conv(layers.Cropping1D((6, 3))(inp), 5, 5, activation="relu")
    return keras.Model(inp, flat_dense(layers.Cropping1D((2, 5))(x)))


@toy
def crop_then_pad() -> keras.Model:
    """inp -> C -> Crop(5, 4) -> Pad(4, 5) -> C -> y: zeros where the bias of the first conv was, one position off"""
    inp = dna(40)
    x = layers.ZeroPadding1D((4, 5))(layers.Cropping1D((5, 4))(conv(inp, 5, 5, activation="sigmoid")))
    return keras.Model(inp, conv(x, 2, 5))


@toy
def pad_then_valid() -> keras.Model:
    """inp -> Pad(9) -> valid C -> relu -> Pad(2, 0) -> valid C -> MXP -> D -> y: 'same' by hand"""
    inp = dna(40)
    x = layers.Conv1D(6, 19, activation="relu")(layers.ZeroPadding1D(9)(inp))
    x = layers.Conv1D(5, 3, activation="relu")(layers.ZeroPadding1D((2, 0))(x))
    return keras.Model(inp, flat_dense(layers.MaxPooling1D(4)(x)))


@toy
def stacked_even_same() -> keras.Model:
    """inp -> [C even, same] x 4 -> y: the odd pad on the right adds up"""
    inp = x = dna(30)
    for kernel_size in (2, 4, 6, 8):
        x = conv(x, 4, kernel_size, activation="relu")
    return keras.Model(inp, x)


@toy
def strided_tower() -> keras.Model:
    """inp (47) -> C /2 same -> C /3 same -> C /2 valid -> D -> y: no length divides by its stride"""
    inp = dna(47)
    x = conv(inp, 5, 5, strides=2, activation="relu")
    x = conv(x, 5, 4, strides=3, activation="relu")
    return keras.Model(inp, flat_dense(layers.Conv1D(4, 3, strides=2, activation="relu")(x)))


@toy
def down_and_up_again() -> keras.Model:
    """inp -> C /4 -> relu -> CT x4 -> Add(C(inp)) -> relu -> C -> y"""
    inp = dna(32)
    x = conv(inp, 6, 8, strides=4, activation="relu")
    x = layers.Conv1DTranspose(5, 8, strides=4, padding="same")(x)
    return keras.Model(inp, conv(layers.ReLU()(layers.Add()([x, conv(inp, 5, 3)])), 2, 3))


@toy
def two_dimensional() -> keras.Model:
    """inp -> Reshape (1, L, 4) -> C2D (1, 5) -> relu -> MXP2D (1, 3) -> Reshape -> D -> y"""
    inp = dna(36)
    x = layers.Conv2D(5, (1, 5), padding="same", activation="relu")(layers.Reshape((1, 36, 4))(inp))
    x = layers.MaxPooling2D((1, 3))(x)
    return keras.Model(inp, flat_dense(layers.Reshape((12, 5))(x)))


@toy
def bases_as_image_columns() -> keras.Model:
    """inp -> Reshape (L, 4, 1) -> valid C2D (7, 4) -> relu -> Reshape (L - 6, 5) -> C -> y: filters span the bases"""
    inp = dna(36)
    x = layers.Conv2D(5, (7, 4), activation="relu")(layers.Reshape((36, 4, 1))(inp))
    return keras.Model(inp, conv(layers.Reshape((30, 5))(x), 2))


@toys(
    {
        "depthwise": layers.DepthwiseConv1D,
        "separable": lambda size, **options: layers.SeparableConv1D(5, size, **options),
    }
)
def as_many_channels_as_positions(layer) -> keras.Model:
    """inp (7) -> C5 -> T -> (5, 7) -> layer3 channels_first -> (5, 5) -> T -> C -> y: Keras adds the bias along L"""
    inp = dna(7)
    x = layer(3, data_format="channels_first", activation="relu")(layers.Permute((2, 1))(conv(inp, 5, 4)))
    return keras.Model(inp, conv(layers.Permute((2, 1))(x), 2))
