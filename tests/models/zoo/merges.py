"""Merges: of branches with other widths, other phases, other states, and other shapes."""

import keras
from keras import layers

from .blocks import conv, dna, flat_dense
from .registry import toy, toys

MERGES = {
    "add": layers.Add,
    "subtract": layers.Subtract,
    "multiply": layers.Multiply,
    "average": layers.Average,
    "maximum": layers.Maximum,
    "minimum": layers.Minimum,
    "concatenate": layers.Concatenate,
}
THREE_WAY = {name: merge for name, merge in MERGES.items() if name != "subtract"}


@toys(MERGES)
def merge_of_widths(merge) -> keras.Model:
    """inp -> merge(C3(inp), C8(C3 dilated 4)) -> C -> y: two windows, neither inside the other's frame"""
    inp = dna(36)
    far = conv(conv(inp, 5, 3, dilation_rate=4, activation="relu"), 5, 8)
    return keras.Model(inp, conv(merge()([conv(inp, 5, 3), far]), 2))


@toys(MERGES)
def merge_of_phases(merge) -> keras.Model:
    """inp (35) -> merge(C(inp) without its last 2, UP3(MXP3(C(inp)))) -> C -> y: starts differ by 0, 1 or 2"""
    inp = dna(35)
    coarse = layers.UpSampling1D(3)(layers.MaxPooling1D(3)(conv(inp, 4, 5)))
    fine = layers.Cropping1D((0, 2))(conv(inp, 4, 4))
    return keras.Model(inp, conv(merge()([coarse, fine]), 2))


@toys(THREE_WAY)
def merge_of_three(merge) -> keras.Model:
    """inp -> merge(MXP4(C(inp)), C /4(inp), AVP4(C(inp))) -> C -> y: three ways down to a quarter"""
    inp = dna(32)
    pooled = layers.MaxPooling1D(4)(conv(inp, 4, 5))
    averaged = layers.AveragePooling1D(4)(conv(inp, 4, 2))
    return keras.Model(inp, conv(merge()([pooled, conv(inp, 4, 7, strides=4), averaged]), 2))


@toys(MERGES)
def merge_with_itself(merge) -> keras.Model:
    """inp -> C -> Concat(x, merge(x, x)) -> C -> y: the same tensor as both operands"""
    inp = dna(24)
    x = conv(inp, 4, 5)
    x = layers.Concatenate()([x, merge()([x, x])])
    return keras.Model(inp, conv(x, 2))


@toys(MERGES, extra_inputs=("track",))
def merge_with_an_unchanged_track(merge) -> keras.Model:
    """inp, track (L, 4) of floats, reshaped from (L * 4,) -> merge(track, C(inp)) -> C -> y; the unchanged one first"""
    inp, track = dna(30), keras.Input((120,), name="track")
    return keras.Model([inp, track], conv(merge()([layers.Reshape((30, 4))(track), conv(inp, 4, 5)]), 2))


@toys({name: MERGES[name] for name in ("add", "multiply", "maximum", "concatenate")})
def merge_of_vectors(merge) -> keras.Model:
    """inp -> merge(GAP(C(inp)), GMP(C(inp)), D(C(inp))) -> D -> y: after the length axis is gone"""
    inp = dna(30)
    x = conv(inp, 5, 5)
    vectors = [layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x), flat_dense(x, 5)]
    return keras.Model(inp, layers.Dense(2)(merge()(vectors)))


@toys({name: MERGES[name] for name in ("add", "subtract", "multiply", "minimum")})
def merge_broadcast_over_positions(merge) -> keras.Model:
    """inp -> C -> merge(x (L, C), GAP keepdims (1, C)) -> C -> y: a window and an everywhere state"""
    inp = dna(30)
    x = conv(inp, 5, 5)
    return keras.Model(inp, conv(merge()([x, layers.GlobalAveragePooling1D(keepdims=True)(x)]), 2))


@toys({"add": layers.Add, "multiply": layers.Multiply})
def merge_broadcast_over_ranks(merge) -> keras.Model:
    """inp -> C -> merge(x (L, C), GMP (C,)) -> C -> y: Keras inserts the missing axis itself"""
    inp = dna(30)
    x = conv(inp, 5, 5)
    return keras.Model(inp, conv(merge()([layers.GlobalMaxPooling1D()(x), x]), 2))


@toys({"add": layers.Add, "multiply": layers.Multiply, "maximum": layers.Maximum})
def merge_broadcast_over_channels(merge) -> keras.Model:
    """inp -> merge(C(inp) (L, 5), C(inp) (L, 1)) -> C -> y: a spatial gate"""
    inp = dna(30)
    return keras.Model(inp, conv(merge()([conv(inp, 5, 5), conv(inp, 1, 8, activation="sigmoid")]), 2))


@toys({"gap": layers.GlobalAveragePooling1D, "gmp": layers.GlobalMaxPooling1D})
def squeeze_excite(pool) -> keras.Model:
    """inp -> C -> Multiply(x, Reshape(D(relu(D(pool(x)))))) -> C -> MXP -> D -> y"""
    inp = dna(36)
    x = conv(inp, 6, 5, activation="relu")
    gate = layers.Dense(6, activation="sigmoid")(layers.Dense(3, activation="relu")(pool()(x)))
    x = layers.Multiply()([x, layers.Reshape((1, 6))(gate)])
    return keras.Model(inp, flat_dense(layers.MaxPooling1D(3)(conv(x, 4, 3))))


@toy
def squeeze_excite_residual() -> keras.Model:
    """inp -> C -> Add(x, Multiply(C(x), gate(GAP(C(x))))) -> relu -> C -> y"""
    inp = dna(30)
    x = conv(inp, 5, 5, activation="relu")
    z = conv(x, 5, 3)
    gate = layers.Dense(5, activation="sigmoid")(layers.GlobalAveragePooling1D()(z))
    return keras.Model(inp, conv(layers.ReLU()(layers.Add()([x, layers.Multiply()([z, gate])])), 2))


@toy
def multiply_by_zero() -> keras.Model:
    """inp -> Multiply(relu(C(inp)), relu(C(inp))) -> C -> y: where one factor is zero the other does not matter"""
    inp = dna(30)
    return keras.Model(inp, conv(layers.Multiply()([conv(inp, 5, 5, activation="relu") for _ in range(2)]), 2))


@toy
def subtract_both_ways() -> keras.Model:
    """inp -> a = C(inp), b = C(inp) -> Concat(relu(a - b), relu(b - a)) -> C -> y"""
    inp = dna(30)
    a, b = conv(inp, 4, 3), conv(inp, 4, 6)
    differences = [layers.ReLU()(layers.Subtract()(pair)) for pair in ([a, b], [b, a])]
    return keras.Model(inp, conv(layers.Concatenate()(differences), 2))


@toy
def inception() -> keras.Model:
    """inp -> Concat(C1, C3, C5 dilated, C1(MXP3 /1 same)) -> MXP -> the same again -> GAP -> D -> y"""
    inp = x = dna(36)
    for _ in range(2):
        pooled = conv(layers.MaxPooling1D(3, strides=1, padding="same")(x), 3, 1)
        x = layers.Concatenate()([conv(x, 3, 1), conv(x, 3, 3), conv(x, 3, 5, dilation_rate=2), pooled])
        x = layers.MaxPooling1D(2)(layers.ReLU()(x))
    return keras.Model(inp, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@toy
def concatenate_along_the_length() -> keras.Model:
    """inp -> Concat(C3(inp), C5(inp), axis=1) -> C -> D -> y: one change, two places"""
    inp = dna(24)
    x = layers.Concatenate(axis=1)([conv(inp, 4, 3), conv(inp, 4, 5, activation="relu")])
    return keras.Model(inp, flat_dense(conv(x, 3, 3)))


@toy(extra_inputs=("flank",), sequence_input="dna")
def concatenate_an_unchanged_flank() -> keras.Model:
    """Concat(flank (9, 4), inp, axis=1) -> C -> y: the window moves by 9, and nothing else"""
    inp, flank = dna(24), keras.Input((9, 4), name="flank")
    return keras.Model([flank, inp], conv(layers.Concatenate(axis=1)([flank, inp]), 3, 5, activation="relu"))


@toy
def dot_attention() -> keras.Model:
    """inp -> C -> q, k, v -> Dot(q, k) -> softmax -> Dot(weights, v) -> D -> y"""
    inp = dna(20)
    x = conv(inp, 5, 5, activation="relu")
    query, key, value = (layers.Dense(4)(x) for _ in range(3))
    weights = layers.Softmax()(layers.Dot(axes=(2, 2))([query, key]))
    return keras.Model(inp, flat_dense(layers.Dot(axes=(2, 1))([weights, value])))


@toys({"plain": False, "cosine": True})
def dot_of_vectors(normalize) -> keras.Model:
    """inp -> Dot(GAP(C(inp)), GMP(C(inp))) -> y"""
    inp = dna(30)
    vectors = [layers.GlobalAveragePooling1D()(conv(inp, 5, 5)), layers.GlobalMaxPooling1D()(conv(inp, 5, 3))]
    return keras.Model(inp, layers.Dot(axes=1, normalize=normalize)(vectors))


@toy
def merge_of_everywhere_and_window() -> keras.Model:
    """inp -> C -> Add(x, GRU(x)) -> relu -> C -> y: one branch has no window any more"""
    inp = dna(20)
    x = conv(inp, 4, 5)
    return keras.Model(inp, conv(layers.ReLU()(layers.Add()([layers.GRU(4, return_sequences=True)(x), x])), 2))


@toy
def merge_across_a_stride() -> keras.Model:
    """inp (37) -> Add(MXP2 same(C(inp)), C /2 same(inp)) -> relu -> C -> y: the two pad differently"""
    inp = dna(37)
    pooled = layers.MaxPooling1D(2, padding="same")(conv(inp, 5, 3))
    return keras.Model(inp, conv(layers.ReLU()(layers.Add()([pooled, conv(inp, 5, 6, strides=2)])), 2))
