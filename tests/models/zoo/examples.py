"""Published architectures, with few channels and short sequences."""

import keras
from keras import layers

from .blocks import conv, dna, flat_dense
from .registry import toy, toys


def _dense_tail(x: keras.KerasTensor, units: int) -> keras.KerasTensor:
    """Flatten -> D -> relu -> BN -> D -> relu -> BN -> D -> y"""
    x = layers.Flatten()(x)
    for width in (10, 8):
        x = layers.BatchNormalization()(layers.Dense(width, activation="relu")(x))
    return layers.Dense(units)(x)


@toys({"even": 96, "uneven": 115})
def basset(length) -> keras.Model:
    """inp -> [C -> relu -> BN -> MXP] x 3 -> Flatten -> [D -> relu -> BN] x 2 -> D -> y (Kelley 2016)"""
    inp = x = dna(length)
    for filters, kernel_size, pool in ((8, 19, 3), (7, 11, 4), (6, 7, 4)):
        x = layers.BatchNormalization()(conv(x, filters, kernel_size, activation="relu"))
        x = layers.MaxPooling1D(pool)(x)
    return keras.Model(inp, _dense_tail(x, 2))


def _factorized(x: keras.KerasTensor, *convs: tuple[int, int]) -> keras.KerasTensor:
    """[C -> BN -> relu], once for each (filters, kernel_size)"""
    for filters, kernel_size in convs:
        x = layers.ReLU()(layers.BatchNormalization()(conv(x, filters, kernel_size)))
    return x


@toys({"even": 96, "uneven": 119})
def factorized_basset(length) -> keras.Model:
    """inp -> [C -> BN -> relu] x 5 -> MXP3 -> x 3 -> MXP4 -> x 1 -> MXP4 -> [D -> relu -> BN] x 2 -> D -> y"""
    inp = dna(length)
    x = layers.MaxPooling1D(3)(_factorized(inp, (4, 3), (5, 3), (5, 3), (6, 7), (8, 7)))
    x = layers.MaxPooling1D(4)(_factorized(x, (6, 7), (6, 3), (5, 3)))
    x = layers.MaxPooling1D(4)(_factorized(x, (5, 7)))
    return keras.Model(inp, _dense_tail(x, 3))


@toys({"5_layers": (100, 5), "9_layers": (60, 9)})
def bpnet(shape) -> keras.Model:
    """inp -> C25 -> [Add(x, dilated C(x))] x n -> Reshape -> C2DT -> Reshape -> y1;  GAP -> D -> y2 (Avsec 2021)

    With 9 layers the last dilations, 64 to 256, are longer than the sequence.
    """
    length, dilated = shape
    inp = dna(length)
    x = conv(inp, 6, 25, activation="relu")
    for i in range(dilated):
        x = layers.Add()([conv(x, 6, 3, activation="relu", dilation_rate=2**i), x])
    profile = layers.Conv2DTranspose(2, (25, 1), padding="same")(layers.Reshape((-1, 1, 6))(x))
    counts = layers.Dense(2)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inp, [layers.Reshape((-1, 2))(profile), counts])


@toy
def chrombpnet() -> keras.Model:
    """inp -> C -> [valid dilated C, Crop, Add] x 3 -> C -> Crop -> Flatten -> y1;  GAP -> D -> y2 (valid throughout)"""
    inp = dna(110)
    x = layers.Conv1D(6, 21, activation="relu")(inp)
    for i in range(1, 4):
        dilated = layers.Conv1D(6, 3, activation="relu", dilation_rate=2**i)(x)
        x = layers.Add()([dilated, layers.Cropping1D((x.shape[1] - dilated.shape[1]) // 2)(x)])
    profile = layers.Flatten()(layers.Cropping1D(6)(layers.Conv1D(1, 11)(x)))
    return keras.Model(inp, [profile, layers.Dense(1)(layers.GlobalAveragePooling1D()(x))])


@toy
def deepsea() -> keras.Model:
    """inp -> C -> relu -> MXP4 -> Drop -> C -> relu -> MXP4 -> Drop -> C -> relu -> D -> D (sigmoid) -> y (2015)"""
    inp = dna(120)
    x = layers.Dropout(0.2)(layers.MaxPooling1D(4)(layers.Conv1D(8, 8, activation="relu")(inp)))
    x = layers.Dropout(0.2)(layers.MaxPooling1D(4)(layers.Conv1D(7, 8, activation="relu")(x)))
    x = layers.Flatten()(layers.Conv1D(6, 3, activation="relu")(x))
    return keras.Model(inp, layers.Dense(4, activation="sigmoid")(layers.Dense(8, activation="relu")(x)))


@toy
def danq() -> keras.Model:
    """inp -> C -> relu -> MXP13 -> Drop -> Bi-LSTM -> Drop -> Flatten -> D -> D (sigmoid) -> y (Quang 2016)"""
    inp = dna(90)
    x = layers.Dropout(0.2)(layers.MaxPooling1D(13)(layers.Conv1D(8, 13, activation="relu")(inp)))
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = flat_dense(layers.Dropout(0.5)(x), 8)
    return keras.Model(inp, layers.Dense(3, activation="sigmoid")(layers.ReLU()(x)))


@toy
def spliceai() -> keras.Model:
    """inp -> C1 -> [[BN -> relu -> C] x 2 -> Add] x 4, every second -> C1 -> sum of skips -> Crop -> C1 -> y"""
    inp = dna(70)
    x = conv(inp, 5, 1)
    skip = conv(x, 5, 1)
    for i, (kernel_size, dilation_rate) in enumerate(((3, 1), (3, 1), (3, 2), (5, 2))):
        z = x
        for _ in range(2):
            z = conv(layers.ReLU()(layers.BatchNormalization()(z)), 5, kernel_size, dilation_rate=dilation_rate)
        x = layers.Add()([x, z])
        if i % 2:
            skip = layers.Add()([skip, conv(x, 5, 1)])
    return keras.Model(inp, conv(layers.Cropping1D(20)(skip), 3, 1, activation="softmax"))


@toy
def basenji() -> keras.Model:
    """inp -> [gelu -> C -> BN -> MXP2] x 3 -> [Add(x, Drop(BN(C1(gelu(BN(C(gelu)))))))] x 3 -> Crop -> C1 -> y"""
    inp = x = dna(96)
    for filters in (5, 6, 6):
        x = conv(layers.Activation("gelu")(x), filters, 5, use_bias=False)
        x = layers.MaxPooling1D(2)(layers.BatchNormalization()(x))
    for dilation_rate in (1, 2, 4):
        z = conv(layers.Activation("gelu")(x), 4, 3, dilation_rate=dilation_rate, use_bias=False)
        z = conv(layers.Activation("gelu")(layers.BatchNormalization()(z)), 6, 1, use_bias=False)
        x = layers.Add()([x, layers.Dropout(0.3)(layers.BatchNormalization()(z))])
    x = conv(layers.Cropping1D(2)(layers.Activation("gelu")(x)), 3, 1, activation="softplus")
    return keras.Model(inp, x)


@toy
def deepstarr() -> keras.Model:
    """inp -> [C -> BN -> relu -> MXP2] x 4 -> Flatten -> [D -> BN -> relu -> Drop] x 2 -> D -> y1, D -> y2 (2022)"""
    inp = x = dna(100)
    for filters, kernel_size in ((7, 7), (5, 3), (5, 5), (6, 3)):
        x = layers.ReLU()(layers.BatchNormalization()(conv(x, filters, kernel_size)))
        x = layers.MaxPooling1D(2)(x)
    x = layers.Flatten()(x)
    for width in (9, 8):
        x = layers.Dropout(0.4)(layers.ReLU()(layers.BatchNormalization()(layers.Dense(width)(x))))
    return keras.Model(inp, [layers.Dense(1, name="dev")(x), layers.Dense(1, name="housekeeping")(x)])


@toy
def enformer() -> keras.Model:
    """inp -> [C -> Add(x, C1(x)) -> MXP2] x 2 -> [LN -> MHA -> Add -> LN -> D -> relu -> D -> Add] -> Crop -> D -> y"""
    inp = x = dna(48)
    for filters, kernel_size in ((6, 9), (8, 5)):
        x = conv(layers.Activation("gelu")(layers.BatchNormalization()(x)), filters, kernel_size)
        z = conv(layers.Activation("gelu")(layers.BatchNormalization()(x)), filters, 1)
        x = layers.MaxPooling1D(2)(layers.Add()([x, z]))
    z = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(num_heads=2, key_dim=3)(z, z)])
    z = layers.Dense(10, activation="relu")(layers.LayerNormalization()(x))
    x = layers.Add()([x, layers.Dense(8)(z)])
    return keras.Model(inp, layers.Dense(3, activation="softplus")(layers.Cropping1D(2)(x)))
