"""Several heads, positional heads, and odd choices of what the output is."""

import keras
from keras import layers

from .blocks import conv, dna, flat_dense
from .registry import toy, toys


@toys({"two": 2, "three": 3})
def dense_heads(count) -> keras.Model:
    """inp -> C -> Flatten -> D -> y1, D -> y2 (, D -> y3): one flatten, several readers"""
    inp = dna(60)
    x = layers.Flatten()(layers.Conv1D(6, 3)(inp))
    return keras.Model(inp, [layers.Dense(1)(x) for _ in range(count)])


@toy
def heads_after_a_dense() -> keras.Model:
    """inp -> C -> D -> D -> y1, D -> y2"""
    inp = dna(60)
    x = flat_dense(layers.Conv1D(6, 3)(inp), 8)
    return keras.Model(inp, [layers.Dense(1)(x), layers.Dense(1)(x)])


@toy
def head_per_conv() -> keras.Model:
    """inp -> C -> C -> D -> y2;  the first C -> D -> y1"""
    inp = dna(60)
    x = layers.Conv1D(6, 3)(inp)
    return keras.Model(inp, [flat_dense(x, 1), flat_dense(layers.Conv1D(6, 3)(x), 1)])


@toy
def head_per_pool() -> keras.Model:
    """inp -> C -> MXP -> C -> MXP -> C -> MXP, each pool -> D -> y1, y2, y3"""
    inp = dna(60)
    a = layers.MaxPooling1D(2)(conv(inp, 6, 3))
    b = layers.MaxPooling1D(2)(conv(a, 5, 4))
    c = layers.MaxPooling1D(3)(layers.Conv1D(5, 3)(b))
    return keras.Model(inp, [flat_dense(x, 1) for x in (a, b, c)])


@toy
def positional_conv_head() -> keras.Model:
    """inp -> C -> relu -> C -> y (L, 2)"""
    inp = dna(40)
    return keras.Model(inp, conv(conv(inp, 6, 7, activation="relu"), 2, 5))


@toy
def positional_pooled_head() -> keras.Model:
    """inp -> C -> MXP4 -> C -> softplus -> y (L / 4, 3), as of Basenji's binned tracks"""
    inp = dna(48)
    x = layers.MaxPooling1D(4)(conv(inp, 6, 7, activation="relu"))
    return keras.Model(inp, conv(x, 3, 3, activation="softplus"))


@toy
def positional_cropped_head() -> keras.Model:
    """inp -> C -> Crop(9, 10) -> y: a change near an end leaves every output as it is"""
    inp = dna(40)
    return keras.Model(inp, layers.Cropping1D((9, 10))(conv(inp, 3, 5, activation="tanh")))


@toy
def profile_and_counts() -> keras.Model:
    """inp -> C -> C -> y1 positional;  C -> GAP -> D -> y2"""
    inp = dna(40)
    x = conv(inp, 6, 7, activation="relu")
    return keras.Model(inp, [conv(x, 2, 5), layers.Dense(1)(layers.GlobalAveragePooling1D()(x))])


@toy
def positional_softmax_over_the_length() -> keras.Model:
    """inp -> C -> C1 -> Flatten -> Softmax -> y (L,): a profile as probabilities"""
    inp = dna(40)
    x = conv(conv(inp, 6, 7, activation="relu"), 1, 5)
    return keras.Model(inp, layers.Softmax()(layers.Flatten()(x)))


@toy
def heads_of_every_kind() -> keras.Model:
    """inp -> C -> D -> y1;  GAP -> y2;  GMP -> y3;  the conv itself -> y4;  its flattening -> y5"""
    inp = dna(30)
    x = conv(inp, 4, 5, activation="relu")
    pooled = [layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x)]
    return keras.Model(inp, [flat_dense(x), *pooled, x, layers.Flatten()(x)])


@toy
def inner_tensor_is_a_head() -> keras.Model:
    """inp -> C -> MXP -> C -> D -> y1;  the pooled tensor is y2, although others read it too"""
    inp = dna(40)
    pooled = layers.MaxPooling1D(3)(conv(inp, 5, 5, activation="relu"))
    return keras.Model(inp, [flat_dense(conv(pooled, 4)), pooled])


@toy
def input_is_a_head() -> keras.Model:
    """inp -> C -> D -> y1;  inp itself is y2"""
    inp = dna(30)
    return keras.Model(inp, [flat_dense(conv(inp)), inp])


@toy(extra_inputs=("extra",), blind_heads=(0,))
def extra_input_is_a_head() -> keras.Model:
    """extra itself is y1;  dna -> C -> D -> y2"""
    inp, extra = dna(30), keras.Input((3,), name="extra")
    return keras.Model([inp, extra], [extra, flat_dense(conv(inp))])


@toy
def one_tensor_is_two_heads() -> keras.Model:
    """inp -> C -> D -> y1 and y2, the same tensor twice"""
    inp = dna(30)
    y = flat_dense(conv(inp, 5, 5, activation="relu"))
    return keras.Model(inp, [y, y])


@toy
def heads_in_a_dict() -> keras.Model:
    """inp -> C -> D -> "b";  C -> GMP -> D -> "a": outputs are named, and not in alphabetic order"""
    inp = dna(30)
    x = conv(inp, 5, 5, activation="relu")
    return keras.Model(inp, {"b": flat_dense(x, 1), "a": layers.Dense(3)(layers.GlobalMaxPooling1D()(x))})


@toy
def heads_in_nested_lists() -> keras.Model:
    """inp -> C -> D -> y[0];  D -> y[1][0];  positional -> y[1][1]"""
    inp = dna(30)
    x = conv(inp, 5, 5, activation="relu")
    return keras.Model(inp, [flat_dense(x, 1), [flat_dense(x, 2), conv(x, 2)]])


@toy
def lists_of_one() -> keras.Model:
    """[inp] -> C -> D -> [y]"""
    inp = dna(30)
    return keras.Model([inp], [flat_dense(conv(inp))])


@toy
def head_on_one_position() -> keras.Model:
    """inp -> C -> Crop to one position -> Flatten -> y: only the middle of the sequence matters, as in SpliceAI"""
    inp = dna(41)
    x = conv(conv(inp, 5, 7, activation="relu"), 3, 5)
    return keras.Model(inp, layers.Flatten()(layers.Cropping1D(20)(x)))


@toy
def sigmoid_head() -> keras.Model:
    """inp -> C -> GMP -> D (sigmoid) -> y: probabilities, where a delta is small at both ends"""
    inp = dna(40)
    x = layers.GlobalMaxPooling1D()(conv(inp, 6, 7, activation="relu"))
    return keras.Model(inp, layers.Dense(3, activation="sigmoid")(x))
