"""Skip connections: branches that part and meet again."""

import keras
from keras import layers

from .blocks import conv, dna, flat_dense
from .registry import toy, toys


@toy
def residual() -> keras.Model:
    """inp -> C -> Add(x, C(x)) -> D -> y"""
    inp = dna(60)
    x = layers.Conv1D(6, 3)(inp)
    return keras.Model(inp, flat_dense(layers.Add()([x, conv(x, 6)]), 1))


@toy
def added_to_itself() -> keras.Model:
    """inp -> C -> C -> Add([x, x]) -> D -> y"""
    inp = dna(60)
    x = conv(layers.Conv1D(6, 3)(inp), 6)
    return keras.Model(inp, flat_dense(layers.Add()([x, x]), 1))


@toys({"same": None, "cropped": [(1, 3), (2, 0)]})
def three_ways(crops) -> keras.Model:
    """inp -> C -> Add(x, C3(x), C5(x)) -> D -> y; "cropped": valid convolutions, the others cropped off-centre"""
    inp = dna(60)
    x = layers.Conv1D(6, 3)(inp)
    padding = "valid" if crops else "same"
    near, far = conv(x, 6, 3, padding=padding), conv(x, 6, 5, padding=padding)
    if crops:
        x, near = layers.Cropping1D(crops[0])(x), layers.Cropping1D(crops[1])(near)
    return keras.Model(inp, flat_dense(layers.Add()([x, near, far]), 1))


@toys({"same": None, "cropped": ((0, 2), (1, 1))})
def residual_pool_positional(crops) -> keras.Model:
    """inp -> C -> Add(x, C(x)) (-> Crop) -> MXP -> D (per position) -> y"""
    inp = dna(60)
    x = layers.Conv1D(6, 3)(inp)
    if crops is None:
        x = layers.Add()([x, conv(x, 6)])
    else:
        x = layers.Add()([layers.Cropping1D(crops[0])(x), layers.Conv1D(6, 3)(x)])
        x = layers.Cropping1D(crops[1])(x)
    return keras.Model(inp, layers.Dense(3)(layers.MaxPooling1D(3)(x)))


@toy
def crop_then_add() -> keras.Model:
    """inp -> C -> Add(Crop(x), C(x)) -> D -> y"""
    inp = dna(60)
    x = layers.Conv1D(6, 3)(inp)
    return keras.Model(inp, flat_dense(layers.Add()([layers.Cropping1D(1)(x), layers.Conv1D(6, 3)(x)]), 1))


def _dense_block(x, filters: int, kernel_sizes: tuple[int, int], first_merge=layers.Add):
    """x -> a = merge(x, C(x)) -> Add(x, a, C(a)), all of one length"""
    a = first_merge()([x, conv(x, filters, kernel_sizes[0])])
    return layers.Add()([x, a, conv(a, filters, kernel_sizes[1])])


@toys({"once": False, "twice": True})
def dense_net(twice) -> keras.Model:
    """inp -> C -> a = Add(x, C(x)) -> Add(x, a, C(a)) (-> MXP -> C -> the same with Maximum) -> D -> y"""
    inp = dna(60)
    x = _dense_block(layers.Conv1D(6, 3)(inp), 6, (3, 5))
    if twice:
        x = layers.Conv1D(5, 2)(layers.MaxPooling1D(3)(x))
        x = _dense_block(x, 5, (7, 4), layers.Maximum)
    return keras.Model(inp, flat_dense(x, 1))


def _cropped_dense_block(x, filters: int):
    """The first block with valid convolutions: what is added is cropped, once off-centre"""
    a = layers.Add()([layers.Cropping1D(1)(x), layers.Conv1D(filters, 3)(x)])
    return layers.Add()([layers.Cropping1D((2, 4))(x), layers.Cropping1D(2)(a), layers.Conv1D(filters, 5)(a)])


@toy
def dense_net_cropped() -> keras.Model:
    """inp -> C -> a = Add(Crop(x), C(x)) -> Add(Crop(x), Crop(a), C(a)) -> D -> y"""
    inp = dna(60)
    return keras.Model(inp, flat_dense(_cropped_dense_block(layers.Conv1D(6, 3)(inp), 6), 1))


@toy
def dense_net_cropped_across_a_pool() -> keras.Model:
    """inp -> C -> block -> MXP -> C -> b = Max(z, C(z)) -> Add(Crop(x), z, b, C(b)) -> D -> y

    The last Add joins a cropped tensor from before the pooling to three from after it.
    """
    inp = dna(60)
    x = layers.Conv1D(5, 2)(inp)
    z = layers.Conv1D(5, 2)(layers.MaxPooling1D(3)(_cropped_dense_block(x, 5)))
    b = layers.Maximum()([z, conv(z, 5, 7)])
    surplus = x.shape[1] - z.shape[1]
    early = layers.Cropping1D((11, surplus - 11))(x)
    return keras.Model(inp, flat_dense(layers.Add()([early, z, b, conv(b, 5, 4)]), 1))


@toys({"direct": False, "late_skip": True})
def two_stems(late_skip) -> keras.Model:
    """inp -> Add(C(inp), C(inp)) -> D (-> Add with a Dense of the second stem) -> y"""
    inp = dna(60)
    left, right = layers.Conv1D(6, 3)(inp), layers.Conv1D(6, 3)(inp)
    y = flat_dense(layers.Add()([left, right]), 5)
    return keras.Model(inp, layers.Add()([y, flat_dense(right, 5)]) if late_skip else y)


@toy
def parallel_convs() -> keras.Model:
    """inp -> C -> Add(C(x), C(x)) -> D -> y"""
    inp = dna(60)
    x = layers.Conv1D(6, 3)(inp)
    return keras.Model(inp, flat_dense(layers.Add()([layers.Conv1D(6, 3)(x), layers.Conv1D(6, 3)(x)]), 1))


@toy
def conv_plus_pointwise_dense() -> keras.Model:
    """inp -> C -> Add(x, D(x) per position) -> D -> y"""
    inp = dna(60)
    x = conv(inp, 6)
    return keras.Model(inp, flat_dense(layers.Add()([x, layers.Dense(6)(x)]), 1))


@toy
def pre_activation_resnet() -> keras.Model:
    """inp -> C -> [BN -> relu -> C -> BN -> relu -> dilated C -> Add] x 2 -> Crop -> GAP -> D -> y"""
    inp = dna(50)
    x = conv(inp, 6, 5)
    for dilation_rate in (2, 4):
        z = conv(layers.ReLU()(layers.BatchNormalization()(x)), 6, 3)
        z = conv(layers.ReLU()(layers.BatchNormalization()(z)), 6, 3, dilation_rate=dilation_rate)
        x = layers.Add()([x, z])
    x = layers.GlobalAveragePooling1D()(layers.Cropping1D(6)(x))
    return keras.Model(inp, layers.Dense(2)(x))


@toy
def concatenated_growth() -> keras.Model:
    """inp -> x = Concat(x, C(x)) three times, the dilation doubling -> C1 -> D -> y (the input itself is kept)"""
    inp = x = dna(40)
    for dilation_rate in (1, 2, 4):
        x = layers.Concatenate()([x, conv(x, 4, 3, dilation_rate=dilation_rate, activation="relu")])
    return keras.Model(inp, flat_dense(conv(x, 3, 1)))


@toy
def input_added_to_conv() -> keras.Model:
    """inp -> Add(inp, C(inp)) -> relu -> C -> D -> y"""
    inp = dna(40)
    x = layers.ReLU()(layers.Add()([inp, conv(inp, 4, 5)]))
    return keras.Model(inp, flat_dense(conv(x, 4, 3)))


@toy
def u_net() -> keras.Model:
    """inp -> C -a-> MXP2 -> C -b-> MXP2 -> C -> UP2 -> Concat(b) -> C -> UP2 -> Concat(a) -> C -> y (positional)"""
    inp = dna(48)
    a = conv(inp, 4, 5, activation="relu")
    b = conv(layers.MaxPooling1D(2)(a), 5, 3, activation="relu")
    x = conv(layers.MaxPooling1D(2)(b), 6, 3, activation="relu")
    x = conv(layers.Concatenate()([layers.UpSampling1D(2)(x), b]), 5, 3, activation="relu")
    return keras.Model(inp, conv(layers.Concatenate()([a, layers.UpSampling1D(2)(x)]), 2, 3))
