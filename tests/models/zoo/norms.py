"""Normalisation, and the layers that do nothing at inference."""

import keras
from keras import layers

from .blocks import conv, dna, flat_dense
from .registry import toy, toys

NORMS = {
    "batch": lambda: layers.BatchNormalization(),
    "batch_unscaled": lambda: layers.BatchNormalization(scale=False),
    "batch_uncentred": lambda: layers.BatchNormalization(center=False),
    "batch_bare": lambda: layers.BatchNormalization(center=False, scale=False),
    "batch_epsilon": lambda: layers.BatchNormalization(epsilon=0.3),
    "batch_positive_axis": lambda: layers.BatchNormalization(axis=2),
    "batch_positions": lambda: layers.BatchNormalization(axis=1),
    "layer": lambda: layers.LayerNormalization(),
    "layer_bare": lambda: layers.LayerNormalization(center=False, scale=False),
    "layer_both_axes": lambda: layers.LayerNormalization(axis=[1, 2]),
    "layer_positions": lambda: layers.LayerNormalization(axis=1),
    "rms": lambda: layers.RMSNormalization(),
    "group": lambda: layers.GroupNormalization(groups=2),
    "group_instance": lambda: layers.GroupNormalization(groups=-1),
    "unit": lambda: layers.UnitNormalization(axis=-1),
    "unit_both_axes": lambda: layers.UnitNormalization(axis=[1, 2]),
    "feature": lambda: layers.Normalization(
        mean=[0.1, -0.2, 0.3, 0.0, 0.2, -0.1], variance=[1.0, 0.5, 2.0, 1.5, 0.7, 1.1]
    ),
    "rescaling": lambda: layers.Rescaling(0.7, offset=-0.3),
    "rescaling_channels": lambda: layers.Rescaling([0.7, -1.0, 0.0, 2.0, 1.0, -0.1], offset=[0, 1, 0, 0, -1, 0.5]),
}


@toys(NORMS)
def norm_between(layer) -> keras.Model:
    """inp -> C -> norm -> relu -> C -> y: the shift is no part of a delta, but relu must see it"""
    inp = dna(30)
    return keras.Model(inp, conv(layers.ReLU()(layer()(conv(inp, 6, 5))), 2, 4))


@toy
def batch_norm_after_the_activation() -> keras.Model:
    """inp -> C -> relu -> BN -> same C -> y: folding BN into the next conv would be wrong at the edges"""
    inp = dna(30)
    return keras.Model(inp, conv(layers.BatchNormalization()(conv(inp, 6, 5, activation="relu")), 2, 7))


@toy
def batch_norm_before_the_pool() -> keras.Model:
    """inp -> C -> BN -> MXP3 -> C -> y: gammas of both signs, so folding past the maximum would be wrong"""
    inp = dna(30)
    return keras.Model(inp, conv(layers.MaxPooling1D(3)(layers.BatchNormalization()(conv(inp, 6, 5))), 2, 3))


@toy
def batch_norm_of_a_shared_conv() -> keras.Model:
    """inp -> C -x-> BN -> relu -> Add(relu(x)) -> C -> y: the conv is read without the BN too"""
    inp = dna(30)
    x = conv(inp, 5, 5)
    x = layers.Add()([layers.ReLU()(layers.BatchNormalization()(x)), layers.ReLU()(x)])
    return keras.Model(inp, conv(x, 2))


@toy
def two_batch_norms_on_one_conv() -> keras.Model:
    """inp -> C -> Concat(relu(BN(x)), relu(BN(x))) -> C -> y: one conv, two different norms"""
    inp = dna(30)
    x = conv(inp, 5, 5)
    branches = [layers.ReLU()(layers.BatchNormalization()(x)) for _ in range(2)]
    return keras.Model(inp, conv(layers.Concatenate()(branches), 2))


@toy
def batch_norm_twice() -> keras.Model:
    """inp -> C -> BN -> BN -> relu -> C -> y"""
    inp = dna(30)
    x = layers.BatchNormalization()(layers.BatchNormalization()(conv(inp, 5, 5)))
    return keras.Model(inp, conv(layers.ReLU()(x), 2))


@toy
def batch_norm_one_layer_at_two_depths() -> keras.Model:
    """inp -> C -> BN -> relu -> C -> the same BN -> relu -> C -> y"""
    inp = dna(30)
    norm = layers.BatchNormalization()
    x = layers.ReLU()(norm(conv(inp, 5, 5)))
    return keras.Model(inp, conv(layers.ReLU()(norm(conv(x, 5, 3))), 2))


@toy
def batch_norm_first() -> keras.Model:
    """inp -> BN -> C -> D -> y: bases become four arbitrary numbers"""
    inp = dna(30)
    return keras.Model(inp, flat_dense(conv(layers.BatchNormalization()(inp), 5, 5, activation="relu")))


@toy
def batch_norm_last() -> keras.Model:
    """inp -> C -> GAP -> D -> BN -> y"""
    inp = dna(30)
    x = layers.Dense(3)(layers.GlobalAveragePooling1D()(conv(inp, 5, 5, activation="relu")))
    return keras.Model(inp, layers.BatchNormalization()(x))


DROPOUTS = {
    "dropout": lambda: layers.Dropout(0.5),
    "spatial": lambda: layers.SpatialDropout1D(0.4),
    "noise": lambda: layers.GaussianNoise(0.7),
    "gaussian": lambda: layers.GaussianDropout(0.5),
    "alpha": lambda: layers.AlphaDropout(0.5),
    "activity": lambda: layers.ActivityRegularization(l1=0.1, l2=0.1),
    "identity": lambda: layers.Identity(),
}


@toys(DROPOUTS)
def nothing_between(layer) -> keras.Model:
    """inp -> C -> relu -> a layer that is the identity at inference -> MXP -> D -> y"""
    inp = dna(30)
    return keras.Model(inp, flat_dense(layers.MaxPooling1D(2)(layer()(conv(inp, 5, 5, activation="relu")))))


@toy
def nothing_everywhere() -> keras.Model:
    """inp -> X -> C -> X -> MXP -> X -> Flatten -> X -> D -> X -> y, each X one of the dropout family"""
    inp = dna(30)
    x = layers.Dropout(0.1)(layers.GaussianNoise(0.1)(inp))
    x = layers.GaussianDropout(0.2)(layers.SpatialDropout1D(0.2)(conv(x, 6, 5, activation="relu")))
    x = layers.AlphaDropout(0.1)(layers.MaxPooling1D(3)(x))
    x = layers.ActivityRegularization(l2=0.1)(layers.Dropout(0.3)(layers.Flatten()(x)))
    return keras.Model(inp, layers.Dropout(0.2)(layers.Dense(2)(x)))


@toy
def dropout_first() -> keras.Model:
    """inp -> Drop -> C -> D -> y"""
    inp = dna(30)
    return keras.Model(inp, flat_dense(conv(layers.Dropout(0.2)(inp), 5, 5, activation="relu")))


@toy
def inference_asked_for() -> keras.Model:
    """inp -> C -> BN(training=False) -> relu -> Drop(training=False) -> C -> y: frozen, as in transfer learning"""
    inp = dna(30)
    x = layers.ReLU()(layers.BatchNormalization()(conv(inp, 5, 5), training=False))
    return keras.Model(inp, conv(layers.Dropout(0.5)(x, training=False), 2))


@toy
def spectral_wrapper() -> keras.Model:
    """inp -> SpectralNormalization(C) -> relu -> D -> y: a wrapper that owns the convolution"""
    inp = dna(30)
    return keras.Model(inp, flat_dense(layers.ReLU()(layers.SpectralNormalization(layers.Conv1D(5, 5))(inp))))
