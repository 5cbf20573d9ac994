"""From positions to vectors and back: Flatten, Reshape, Permute, RepeatVector."""

import keras
from keras import layers

from tests.models.composites import attention_pooled

from .blocks import conv, dna, flat_dense
from .registry import toy, toys

BETWEEN = {
    "dropout": lambda: layers.Dropout(0.5),
    "batch_norm": lambda: layers.BatchNormalization(),
    "activation": lambda: layers.Activation("tanh"),
    "relu": lambda: layers.ReLU(),
    "prelu": lambda: layers.PReLU(),
    "softmax": lambda: layers.Softmax(),
    "layer_norm": lambda: layers.LayerNormalization(),
    "flatten": lambda: layers.Flatten(),
}


def _conv_pool(length: int = 36) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """inp -> C -> relu -> MXP3; returns the input and the pooled tensor, (length / 3, 5)"""
    inp = dna(length)
    return inp, layers.MaxPooling1D(3)(conv(inp, 5, 5, activation="relu"))


@toys(BETWEEN)
def flatten_then(layer) -> keras.Model:
    """inp -> C -> MXP -> Flatten -> layer -> D -> y: what is per channel before is per feature after"""
    inp, x = _conv_pool()
    return keras.Model(inp, layers.Dense(2)(layer()(layers.Flatten()(x))))


@toy
def flatten_is_the_head() -> keras.Model:
    """inp -> C -> MXP -> Flatten -> y"""
    inp, x = _conv_pool()
    return keras.Model(inp, layers.Flatten()(x))


@toy
def flatten_first() -> keras.Model:
    """inp -> Flatten -> D -> relu -> D -> y"""
    inp = dna(30)
    return keras.Model(inp, layers.Dense(2)(layers.Dense(6, activation="relu")(layers.Flatten()(inp))))


@toy
def flatten_channels_first() -> keras.Model:
    """inp -> C -> Flatten(channels_first) -> D -> y: the features come channel by channel"""
    inp, x = _conv_pool()
    return keras.Model(inp, layers.Dense(2)(layers.Flatten(data_format="channels_first")(x)))


@toy
def flatten_two_readers() -> keras.Model:
    """inp -> C -> MXP -> Flatten -> D (relu) -> y1 and D (linear) -> y2"""
    inp, x = _conv_pool()
    flat = layers.Flatten()(x)
    return keras.Model(inp, [layers.Dense(3, activation="relu")(flat), layers.Dense(2)(flat)])


@toy
def flatten_and_global_pool() -> keras.Model:
    """inp -> C -> MXP -> Concat(Flatten, GAP, GMP) -> D -> y"""
    inp, x = _conv_pool()
    parts = [layers.Flatten()(x), layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x)]
    return keras.Model(inp, layers.Dense(2)(layers.Concatenate()(parts)))


@toy
def flatten_of_two_branches() -> keras.Model:
    """inp -> Concat(Flatten(MXP3(C(inp))), Flatten(AVP4(C(inp)))) -> D -> y"""
    inp, x = _conv_pool()
    other = layers.AveragePooling1D(4)(conv(inp, 4, 8))
    return keras.Model(inp, layers.Dense(2)(layers.Concatenate()([layers.Flatten()(x), layers.Flatten()(other)])))


@toys({"after": False, "between": True}, extra_inputs=("features",))
def flatten_joined_with_features(between) -> keras.Model:
    """Concat(Flatten(a), Flatten(b), 6 features) -> D -> y; "between": the features stand in the middle"""
    inp, x = _conv_pool()
    features = keras.Input((6,), name="features")
    parts = [layers.Flatten()(x), layers.Flatten()(layers.Conv1D(3, 9)(inp))]
    parts.insert(1 if between else 2, features)
    return keras.Model([inp, features], layers.Dense(2)(layers.Concatenate()(parts)))


@toy
def flatten_added() -> keras.Model:
    """inp -> Add(Flatten(MXP3(C)), Flatten(AVP3(C))) -> relu -> D -> y: two windows of one frame, flattened"""
    inp, x = _conv_pool()
    other = layers.AveragePooling1D(3)(conv(inp, 5, 8))
    x = layers.Add()([layers.Flatten()(x), layers.Flatten()(other)])
    return keras.Model(inp, layers.Dense(2)(layers.ReLU()(x)))


@toy
def one_dense_on_two_flattens() -> keras.Model:
    """inp -> C -> Flatten -> D;  C(C) -> Flatten -> the same D;  Concat -> y"""
    inp, x = _conv_pool()
    dense = layers.Dense(3)
    flats = [layers.Flatten()(x), layers.Flatten()(conv(x, 5, 3))]
    return keras.Model(inp, layers.Concatenate()([dense(flat) for flat in flats]))


@toy
def flatten_wide_dense() -> keras.Model:
    """inp -> C -> Flatten -> D (20, relu) -> D (10, relu) -> D -> y, without pooling"""
    inp = dna(40)
    x = layers.Dense(20, activation="relu")(layers.Flatten()(layers.Conv1D(5, 6, activation="relu")(inp)))
    return keras.Model(inp, layers.Dense(2)(layers.Dense(10, activation="relu")(x)))


@toy
def whole_length_conv_as_dense() -> keras.Model:
    """inp -> C -> MXP -> C over the whole length -> Flatten -> y: a dense layer by another name"""
    inp, x = _conv_pool()
    return keras.Model(inp, layers.Flatten()(layers.Conv1D(3, x.shape[1])(x)))


RESHAPES = {
    "as_flatten": (60,),
    "inferred": (-1,),
    "unchanged": (12, 5),
    "merges_positions": (4, 15),
    "splits_positions": (60, 1),
    "across": (5, 12),
    "unit_axis": (12, 1, 5),
}


@toys(RESHAPES)
def reshape_then_dense(shape) -> keras.Model:
    """inp -> C -> MXP (12, 5) -> Reshape -> D -> y: on the last axis of whatever came out"""
    inp, x = _conv_pool()
    return keras.Model(inp, layers.Dense(2)(layers.Reshape(shape)(x)))


@toy
def reshape_there_and_back() -> keras.Model:
    """inp -> C -> Reshape (L, 1, C) -> Reshape (L, C) -> C -> y"""
    inp, x = _conv_pool()
    return keras.Model(inp, conv(layers.Reshape((12, 5))(layers.Reshape((12, 1, 5))(x)), 2))


@toy
def pairs_of_positions() -> keras.Model:
    """inp (30, 4) -> Reshape (15, 8) -> C -> y: dinucleotides as channels"""
    inp = dna(30)
    return keras.Model(inp, conv(layers.Reshape((15, 8))(inp), 3, 3, activation="relu"))


REGROUPED = {
    "patches": lambda x: layers.Reshape((6, 10))(x),
    "attention_pooling": lambda x: attention_pooled(3)(x),
    "channels_in_front": lambda x: layers.Permute((2, 3, 1))(layers.Reshape((5, 6, 2))(layers.Permute((2, 1))(x))),
    "sub_pixels": lambda x: layers.Reshape((60, 1))(x),
    "there_and_back": lambda x: layers.Reshape((12, 5))(layers.ReLU()(layers.Reshape((4, 3, 5))(x))),
    "apart_behind_channels": lambda x: layers.Permute((2, 1))(
        layers.Reshape((3, 24))(layers.Permute((3, 1, 2))(layers.Reshape((12, 2, 3))(layers.Dense(6)(x))))
    ),
    "from_flat": lambda x: layers.Reshape((4, 15))(layers.PReLU()(layers.Flatten()(x))),
}


@toys(REGROUPED)
def regrouped(call) -> keras.Model:
    """inp -> C -> MXP (12, 5) -> Reshape by groups of positions -> Reshape (positions, channels) -> C -> y"""
    inp, x = _conv_pool()
    x = call(x)
    return keras.Model(inp, conv(layers.Reshape((x.shape[1], -1))(x), 2, 3, activation="relu"))


@toy
def permute_then_dense() -> keras.Model:
    """inp -> C -> MXP -> Permute (C, L) -> D (over positions) -> relu -> Flatten -> D -> y"""
    inp, x = _conv_pool()
    return keras.Model(inp, flat_dense(layers.Dense(4, activation="relu")(layers.Permute((2, 1))(x))))


@toy
def permute_there_and_back() -> keras.Model:
    """inp -> C -> Permute -> Permute -> C -> y"""
    inp, x = _conv_pool()
    return keras.Model(inp, conv(layers.Permute((2, 1))(layers.Permute((2, 1))(x)), 2))


@toy
def permute_then_flatten() -> keras.Model:
    """inp -> C -> MXP -> Permute (C, L) -> Flatten -> D -> y: rows of the weights channel by channel"""
    inp, x = _conv_pool()
    return keras.Model(inp, flat_dense(layers.Permute((2, 1))(x)))


@toy
def repeated_vector() -> keras.Model:
    """inp -> C -> GMP -> RepeatVector(10) -> C -> D -> y"""
    inp, x = _conv_pool()
    return keras.Model(inp, flat_dense(conv(layers.RepeatVector(10)(layers.GlobalMaxPooling1D()(x)), 4, 3)))


@toy
def dense_back_to_positions() -> keras.Model:
    """inp -> C -> Flatten -> D (20) -> Reshape (10, 2) -> C -> y: an autoencoder's way"""
    inp, x = _conv_pool()
    return keras.Model(inp, conv(layers.Reshape((10, 2))(flat_dense(x, 20)), 2))


@toy
def einsum_dense() -> keras.Model:
    """inp -> C -> MXP -> EinsumDense (per position) -> EinsumDense (over the length) -> y"""
    inp, x = _conv_pool()
    x = layers.EinsumDense("blc,cd->bld", output_shape=(12, 4), bias_axes="d", activation="relu")(x)
    return keras.Model(inp, layers.EinsumDense("blc,lct->bt", output_shape=(2,))(x))
