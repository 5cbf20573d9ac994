"""A small model for every class of ``keras.layers`` that can stand between two convolutions, and why the others cannot.

A tensor (L, C) is shown to layers of images as (L, 1, C) and to layers of volumes as (L, 1, 1, C).
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops

from tests.helpers.truth import Errors, errors_of, inputs_of
from tests.models.zoo.blocks import conv, dna
from tests.models.zoo.registry import randomise

LENGTH, CHANNELS = 24, 6
Tensor = keras.KerasTensor
Between = Callable[[Tensor], Tensor]


def image(layer: keras.Layer) -> Between:
    """(L, C) -> (L, 1, C) -> layer -> (L', C')"""
    return lambda x: positions_of(layer(layers.Reshape((x.shape[1], 1, x.shape[2]))(x)))


def wide_image(layer: keras.Layer) -> Between:
    """(L, C) -> (L, 2, C / 2) -> layer -> (L', C'): for layers that fail in Keras on an axis of length 1"""
    return lambda x: positions_of(layer(layers.Reshape((x.shape[1], 2, x.shape[2] // 2))(x)))


def wide_volume(layer: keras.Layer) -> Between:
    """(L, C) -> (L, 2, 3, C / 6) -> layer -> (L', C')"""
    return lambda x: positions_of(
        layers.Reshape((8, -1))(layer(layers.Reshape((x.shape[1], 2, 3, x.shape[2] // 6))(x)))
    )


def volume(layer: keras.Layer) -> Between:
    """(L, C) -> (L, 1, 1, C) -> layer -> (L', C')"""
    return lambda x: positions_of(layer(layers.Reshape((x.shape[1], 1, 1, x.shape[2]))(x)))


def positions_of(x: Tensor) -> Tensor:
    """Whatever came out as (L', C'): a tensor without positions as a single one."""
    if len(x.shape) == 2:
        return layers.Reshape((1, x.shape[1]))(x)
    if len(x.shape) == 3:
        return x
    return layers.Reshape((x.shape[1], x.shape[-1] * x.shape[-2]))(x)


def pair(layer: keras.Layer) -> Between:
    """The tensor and a convolution of it."""
    return lambda x: layer([x, conv(x, CHANNELS, 3)])


def twice(layer: keras.Layer) -> Between:
    """The tensor as query and as value."""
    return lambda x: layer(x, x)


def vector(layer: keras.Layer) -> Between:
    """A layer that takes (C,)."""
    return lambda x: layer(layers.GlobalAveragePooling1D()(x))


def cells(*made: keras.Layer) -> keras.Layer:
    return layers.RNN(list(made) if len(made) > 1 else made[0], return_sequences=True)


BETWEEN: dict[str, Callable[[], Between]] = {
    "Activation": lambda: layers.Activation("gelu"),
    "ActivityRegularization": lambda: layers.ActivityRegularization(l1=0.1),
    "AdaptiveAveragePooling1D": lambda: layers.AdaptiveAveragePooling1D(8),
    "AdaptiveAveragePooling2D": lambda: wide_image(layers.AdaptiveAveragePooling2D((8, 2))),
    "AdaptiveAveragePooling3D": lambda: wide_volume(layers.AdaptiveAveragePooling3D((8, 2, 3))),
    "AdaptiveMaxPooling1D": lambda: layers.AdaptiveMaxPooling1D(8),
    "AdaptiveMaxPooling2D": lambda: wide_image(layers.AdaptiveMaxPooling2D((8, 2))),
    "AdaptiveMaxPooling3D": lambda: wide_volume(layers.AdaptiveMaxPooling3D((8, 2, 3))),
    "Add": lambda: pair(layers.Add()),
    "AdditiveAttention": lambda: pair(layers.AdditiveAttention()),
    "AlphaDropout": lambda: layers.AlphaDropout(0.5),
    "Attention": lambda: pair(layers.Attention()),
    "Average": lambda: pair(layers.Average()),
    "AveragePooling1D": lambda: layers.AveragePooling1D(3, strides=2, padding="same"),
    "AveragePooling2D": lambda: image(layers.AveragePooling2D((3, 1), strides=(2, 1), padding="same")),
    "AveragePooling3D": lambda: volume(layers.AveragePooling3D((3, 1, 1), strides=(2, 1, 1), padding="same")),
    "BatchNormalization": lambda: layers.BatchNormalization(),
    "Bidirectional": lambda: layers.Bidirectional(layers.GRU(3, return_sequences=True)),
    "CenterCrop": lambda: image(layers.CenterCrop(15, 1)),
    "Concatenate": lambda: pair(layers.Concatenate()),
    "Conv1D": lambda: layers.Conv1D(5, 4, padding="same", activation="relu"),
    "Conv1DTranspose": lambda: layers.Conv1DTranspose(5, 4, strides=2, padding="same", activation="relu"),
    "Conv2D": lambda: image(layers.Conv2D(5, (4, 1), padding="same", activation="relu")),
    "Conv2DTranspose": lambda: image(layers.Conv2DTranspose(5, (4, 1), strides=(2, 1), padding="same")),
    "Conv3D": lambda: volume(layers.Conv3D(5, (4, 1, 1), padding="same", activation="relu")),
    "Conv3DTranspose": lambda: volume(layers.Conv3DTranspose(5, (4, 1, 1), strides=(2, 1, 1), padding="same")),
    "ConvLSTM1D": lambda: image(layers.ConvLSTM1D(3, 1, return_sequences=True)),
    "ConvLSTM2D": lambda: volume(layers.ConvLSTM2D(3, 1, return_sequences=True)),
    "Cropping1D": lambda: layers.Cropping1D((2, 3)),
    "Cropping2D": lambda: image(layers.Cropping2D(((2, 3), (0, 0)))),
    "Cropping3D": lambda: volume(layers.Cropping3D(((2, 3), (0, 0), (0, 0)))),
    "Dense": lambda: layers.Dense(5, activation="relu"),
    "DepthwiseConv1D": lambda: layers.DepthwiseConv1D(5, padding="same", depth_multiplier=2, activation="relu"),
    "DepthwiseConv2D": lambda: image(layers.DepthwiseConv2D((5, 1), padding="same", activation="relu")),
    "Dot": lambda: pair(layers.Dot(axes=1)),
    "Dropout": lambda: layers.Dropout(0.5),
    "EinsumDense": lambda: layers.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d", activation="relu"),
    "ELU": lambda: layers.ELU(0.7),
    "Flatten": lambda: lambda x: layers.Reshape((LENGTH, CHANNELS))(layers.ReLU()(layers.Flatten()(x))),
    "GaussianDropout": lambda: layers.GaussianDropout(0.5),
    "GaussianNoise": lambda: layers.GaussianNoise(0.7),
    "GlobalAveragePooling1D": lambda: lambda x: positions_of(layers.GlobalAveragePooling1D()(x)),
    "GlobalAveragePooling2D": lambda: image(layers.GlobalAveragePooling2D()),
    "GlobalAveragePooling3D": lambda: volume(layers.GlobalAveragePooling3D()),
    "GlobalMaxPooling1D": lambda: lambda x: positions_of(layers.GlobalMaxPooling1D()(x)),
    "GlobalMaxPooling2D": lambda: image(layers.GlobalMaxPooling2D()),
    "GlobalMaxPooling3D": lambda: volume(layers.GlobalMaxPooling3D()),
    "GroupNormalization": lambda: layers.GroupNormalization(groups=2),
    "GroupQueryAttention": lambda: twice(layers.GroupQueryAttention(3, num_query_heads=2, num_key_value_heads=1)),
    "GRU": lambda: layers.GRU(4, return_sequences=True),
    "GRUCell": lambda: cells(layers.GRUCell(4)),
    "Identity": lambda: layers.Identity(),
    "Lambda": lambda: layers.Lambda(ops.tanh, output_shape=(LENGTH, CHANNELS)),
    "LayerNormalization": lambda: layers.LayerNormalization(),
    "LeakyReLU": lambda: layers.LeakyReLU(),
    "LSTM": lambda: layers.LSTM(4, return_sequences=True),
    "LSTMCell": lambda: cells(layers.LSTMCell(4)),
    "Masking": lambda: layers.Masking(0.25),
    "Maximum": lambda: pair(layers.Maximum()),
    "MaxPooling1D": lambda: layers.MaxPooling1D(3, strides=2, padding="same"),
    "MaxPooling2D": lambda: image(layers.MaxPooling2D((3, 1), strides=(2, 1), padding="same")),
    "MaxPooling3D": lambda: volume(layers.MaxPooling3D((3, 1, 1), strides=(2, 1, 1), padding="same")),
    "Minimum": lambda: pair(layers.Minimum()),
    "MultiHeadAttention": lambda: twice(layers.MultiHeadAttention(2, 3)),
    "Multiply": lambda: pair(layers.Multiply()),
    "Normalization": lambda: layers.Normalization(mean=[0.1, 0, 0, 1, 0, 0], variance=[1, 2, 1, 0.5, 1, 3]),
    "Permute": lambda: lambda x: layers.Permute((2, 1))(layers.ReLU()(layers.Permute((2, 1))(x))),
    "PReLU": lambda: layers.PReLU(),
    "ReLU": lambda: layers.ReLU(max_value=0.8, negative_slope=0.1),
    "RepeatVector": lambda: vector(layers.RepeatVector(5)),
    "Rescaling": lambda: layers.Rescaling(0.7, offset=-0.3),
    "Reshape": lambda: lambda x: layers.Reshape((LENGTH, CHANNELS))(layers.ReLU()(layers.Reshape((LENGTH, 2, 3))(x))),
    "Resizing": lambda: image(layers.Resizing(17, 1)),
    "RMSNormalization": lambda: layers.RMSNormalization(),
    "RNN": lambda: cells(layers.SimpleRNNCell(3)),
    "SeparableConv1D": lambda: layers.SeparableConv1D(5, 4, padding="same", activation="relu"),
    "SeparableConv2D": lambda: image(layers.SeparableConv2D(5, (4, 1), padding="same", activation="relu")),
    "SimpleRNN": lambda: layers.SimpleRNN(4, return_sequences=True),
    "SimpleRNNCell": lambda: cells(layers.SimpleRNNCell(4)),
    "Softmax": lambda: layers.Softmax(),
    "SpatialDropout1D": lambda: layers.SpatialDropout1D(0.5),
    "SpatialDropout2D": lambda: image(layers.SpatialDropout2D(0.5)),
    "SpatialDropout3D": lambda: volume(layers.SpatialDropout3D(0.5)),
    "SpectralNormalization": lambda: layers.SpectralNormalization(layers.Conv1D(5, 3, activation="relu")),
    "StackedRNNCells": lambda: cells(layers.GRUCell(3), layers.LSTMCell(2)),
    "Subtract": lambda: pair(layers.Subtract()),
    "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(5, activation="relu")),
    "UnitNormalization": lambda: layers.UnitNormalization(),
    "UpSampling1D": lambda: layers.UpSampling1D(3),
    "UpSampling2D": lambda: image(layers.UpSampling2D((3, 1))),
    "UpSampling3D": lambda: volume(layers.UpSampling3D((3, 1, 1))),
    "ZeroPadding1D": lambda: layers.ZeroPadding1D((2, 3)),
    "ZeroPadding2D": lambda: image(layers.ZeroPadding2D(((2, 3), (0, 0)))),
    "ZeroPadding3D": lambda: volume(layers.ZeroPadding3D(((2, 3), (0, 0), (0, 0)))),
    # images: at inference most of these hand on what they get
    "AugMix": lambda: image(layers.AugMix()),
    "AutoContrast": lambda: image(layers.AutoContrast(value_range=(-3, 3))),
    "CutMix": lambda: image(layers.CutMix()),
    "MixUp": lambda: image(layers.MixUp()),
    "Pipeline": lambda: layers.Pipeline([layers.ReLU(), layers.Rescaling(0.5)]),
    "RandAugment": lambda: image(layers.RandAugment(value_range=(-3, 3))),
    "RandomBrightness": lambda: image(layers.RandomBrightness(0.1)),
    "RandomColorDegeneration": lambda: lambda x: image(layers.RandomColorDegeneration(0.1))(conv(x, 3)),
    "RandomColorJitter": lambda: image(layers.RandomColorJitter()),
    "RandomContrast": lambda: image(layers.RandomContrast(0.1)),
    "RandomCrop": lambda: image(layers.RandomCrop(LENGTH, 1)),
    "RandomElasticTransform": lambda: image(layers.RandomElasticTransform()),
    "RandomErasing": lambda: image(layers.RandomErasing()),
    "RandomFlip": lambda: image(layers.RandomFlip()),
    "RandomGaussianBlur": lambda: image(layers.RandomGaussianBlur()),
    "RandomGrayscale": lambda: image(layers.RandomGrayscale()),
    "RandomHue": lambda: image(layers.RandomHue(0.1)),
    "RandomInvert": lambda: image(layers.RandomInvert()),
    "RandomPerspective": lambda: image(layers.RandomPerspective()),
    "RandomPosterization": lambda: image(layers.RandomPosterization(4)),
    "RandomRotation": lambda: image(layers.RandomRotation(0.1)),
    "RandomSaturation": lambda: image(layers.RandomSaturation(0.1)),
    "RandomSharpness": lambda: image(layers.RandomSharpness(0.1)),
    "RandomShear": lambda: image(layers.RandomShear()),
    "RandomTranslation": lambda: image(layers.RandomTranslation(0.1, 0.1)),
    "RandomZoom": lambda: image(layers.RandomZoom(0.1)),
    "Solarization": lambda: image(layers.Solarization(value_range=(-3, 3))),
}

# Classes for which TensorFlow has no float64 on a CPU: there the judge is plain Keras in float32.
WITHOUT_FLOAT64 = {
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
    "AveragePooling3D",
    "MaxPooling3D",
}

# Classes that no model of a sequence can hold between two convolutions.
LEFT_OUT = {
    "CategoryEncoding": "takes whole numbers",
    "ContrastLimitedAdaptiveHistogramEqualization": "takes images of one or three colours",
    "ConvLSTM3D": "takes a tensor of five axes besides the batch",
    "Discretization": "gives whole numbers, which no convolution takes",
    "Embedding": "takes whole numbers: the first layer of a model whose input is integer-coded",
    "Equalization": "needs a batch size that is known",
    "FlaxLayer": "wraps a module of Flax, a package of its own",
    "HashedCrossing": "takes strings or whole numbers",
    "Hashing": "takes strings or whole numbers",
    "InputLayer": "is the input itself",
    "IntegerLookup": "takes whole numbers",
    "JaxLayer": "wraps a function of JAX, which runs on the JAX backend",
    "Layer": "is the base class of all layers",
    "MaxNumBoundingBoxes": "takes boxes in an image",
    "MelSpectrogram": "takes a signal of some hundred samples for each sequence, without channels",
    "ReversibleEmbedding": "takes whole numbers",
    "STFTSpectrogram": "takes a signal of some hundred samples for each sequence",
    "StringLookup": "takes strings",
    "TextVectorization": "takes strings",
    "TFSMLayer": "wraps a SavedModel folder",
    "TorchModuleWrapper": "wraps a module of PyTorch, which runs on the PyTorch backend",
    "Wrapper": "is the base class of layers around layers",
}


def model_with(name: str) -> keras.Model:
    """inp -> C -> the layer -> C -> y"""
    inp = dna(LENGTH)
    return randomise(keras.Model(inp, conv(BETWEEN[name]()(conv(inp, CHANNELS, 5)), 2)), seed=1)


def class_names() -> dict[str, list[str]]:
    """Names of the classes in ``keras.layers``, each with the other names it goes by there."""
    found: dict[type, list[str]] = {}
    for name, value in sorted(vars(layers).items()):
        if isinstance(value, type) and issubclass(value, keras.Layer):
            found.setdefault(value, []).append(name)
    named = {}
    for names in found.values():
        main = next((n for n in names if n in BETWEEN or n in LEFT_OUT), names[0])
        named[main] = [n for n in names if n != main]
    return named


def errors_with(name: str) -> Errors:
    """How far the engine is from plain Keras for the model of this class."""
    model = model_with(name)
    truth = "float32" if name in WITHOUT_FLOAT64 else "float64"
    return errors_of(model, inputs_of(model, np.random.default_rng(0)), truth=truth)
