"""Models with inputs besides the sequence, in every order of the inputs."""

from itertools import permutations

import keras
from keras import layers

from .blocks import conv, dna, flat_dense
from .registry import toy, toys

ONE_EXTRA = {"first": ("dna", "extra"), "last": ("extra", "dna")}
TWO_EXTRAS = {"".join(name[-1] for name in order): order for order in permutations(("dna", "extra1", "extra2"))}


def _inputs(order: tuple[str, ...], width: int = 7) -> dict[str, keras.KerasTensor]:
    """The inputs by name, in the order in which the model is to list them."""
    return {name: dna(40) if name == "dna" else keras.Input((width,), name=name) for name in order}


@toys(ONE_EXTRA, extra_inputs=("other",), sequence_input="dna")
def two_sequences_added(order) -> keras.Model:
    """dna -> C -> Add -> D (per position) -> y;  other (same shape) -> C -> Add"""
    tensors = {"dna": dna(40), "extra": keras.Input((40, 4), name="other")}
    x = layers.Add()([layers.Conv1D(6, 3)(tensors["dna"]), layers.Conv1D(6, 3)(tensors["extra"])])
    return keras.Model([tensors[name] for name in order], layers.Dense(1)(x))


@toys({"raw": False, "dense": True}, extra_inputs=("extra",))
def features_joined(dense) -> keras.Model:
    """dna -> C -> Flatten -> Concat -> D -> y;  extra (-> D) -> Concat"""
    inputs = _inputs(("dna", "extra"))
    extra = layers.Dense(5)(inputs["extra"]) if dense else inputs["extra"]
    x = layers.Flatten()(layers.Conv1D(6, 3)(inputs["dna"]))
    return keras.Model(list(inputs.values()), layers.Dense(1)(layers.Concatenate()([x, extra])))


@toys({"raw": False, "dense": True}, extra_inputs=("extra",))
def features_first(dense) -> keras.Model:
    """extra (-> D) -> Concat -> D -> y;  dna -> C -> Flatten -> Concat: the extra input is the first everywhere"""
    inputs = _inputs(("extra", "dna"))
    extra = layers.Dense(5)(inputs["extra"]) if dense else inputs["extra"]
    x = layers.Flatten()(layers.Conv1D(6, 3)(inputs["dna"]))
    return keras.Model(list(inputs.values()), layers.Dense(1)(layers.Concatenate()([extra, x])))


@toys(TWO_EXTRAS, extra_inputs=("extra1", "extra2"))
def two_features_joined(order) -> keras.Model:
    """dna -> C -> Flatten -> Concat(x, extra1, extra2) -> D -> y"""
    inputs = _inputs(order)
    x = layers.Flatten()(layers.Conv1D(6, 3)(inputs["dna"]))
    x = layers.Concatenate()([x, inputs["extra1"], inputs["extra2"]])
    return keras.Model(list(inputs.values()), layers.Dense(1)(x))


@toy(extra_inputs=("extra1", "extra2"))
def features_staggered() -> keras.Model:
    """dna -> C -> Flatten -> Concat(extra1) -> D -> Concat(extra2) -> D -> y"""
    inputs = _inputs(("extra2", "dna", "extra1"))
    x = layers.Flatten()(layers.Conv1D(6, 3)(inputs["dna"]))
    x = layers.Dense(8)(layers.Concatenate()([x, inputs["extra1"]]))
    return keras.Model(list(inputs.values()), layers.Dense(1)(layers.Concatenate()([x, inputs["extra2"]])))


@toy(extra_inputs=("extra1", "extra2"))
def features_summed() -> keras.Model:
    """dna -> C -> Flatten -> Concat -> D -> y;  extra1 + extra2 -> Concat"""
    inputs = _inputs(("dna", "extra2", "extra1"))
    total = layers.Add()([inputs["extra1"], inputs["extra2"]])
    x = layers.Flatten()(layers.Conv1D(6, 3)(inputs["dna"]))
    return keras.Model(list(inputs.values()), layers.Dense(1)(layers.Concatenate()([x, total])))


@toy(extra_inputs=("extra",))
def features_twice() -> keras.Model:
    """dna -> C -> Flatten -> Concat(x, extra) -> D -> Concat(extra, x) -> D -> y"""
    inputs = _inputs(("extra", "dna"))
    x = layers.Flatten()(layers.Conv1D(6, 3)(inputs["dna"]))
    x = layers.Dense(8)(layers.Concatenate()([x, inputs["extra"]]))
    return keras.Model(list(inputs.values()), layers.Dense(1)(layers.Concatenate()([inputs["extra"], x])))


@toy(extra_inputs=("extra1", "extra2"))
def features_interact() -> keras.Model:
    """dna -> C -> Flatten -> Concat(s) -> D -> Concat(D(Concat(s, extra2))) -> D -> y;  s = extra1 + extra2"""
    inputs = _inputs(("extra1", "dna", "extra2"))
    total = layers.Add()([inputs["extra1"], inputs["extra2"]])
    x = layers.Flatten()(layers.Conv1D(6, 3)(inputs["dna"]))
    x = layers.Dense(8)(layers.Concatenate()([x, total]))
    side = layers.Dense(5)(layers.Concatenate()([total, inputs["extra2"]]))
    return keras.Model(list(inputs.values()), layers.Dense(1)(layers.Concatenate()([side, x])))


@toys(ONE_EXTRA, extra_inputs=("extra",))
def features_three_heads(order) -> keras.Model:
    """dna -> C -> Flatten -> D -> y1;  Concat(x, D(extra)) -> D -> D -> y2;  Concat(that, D(D(extra))) -> D -> y3"""
    inputs = _inputs(order)
    x = layers.Flatten()(layers.Conv1D(6, 3)(inputs["dna"]))
    side = layers.Dense(6)(inputs["extra"])
    joined = layers.Dense(8)(layers.Concatenate()([x, side]))
    last = layers.Concatenate()([joined, layers.Dense(6)(side)])
    return keras.Model(list(inputs.values()), [layers.Dense(1)(t) for t in (x, joined, last)])


@toy(extra_inputs=("track",))
def track_beside_the_sequence() -> keras.Model:
    """dna -> C -> Multiply -> C -> D -> y;  track (L, 6), as of accessibility -> Multiply"""
    inp, track = dna(40), keras.Input((40, 6), name="track")
    x = layers.Multiply()([conv(inp, 6, 5), track])
    return keras.Model([inp, track], flat_dense(conv(x, 4, 3)))


@toy(extra_inputs=("track",))
def track_stacked_on_the_sequence() -> keras.Model:
    """Concat(dna, track (L, 2)) -> C -> MXP -> D -> y: five or six channels, four of which are bases"""
    inp, track = dna(40), keras.Input((40, 2), name="track")
    x = conv(layers.Concatenate()([track, inp]), 6, 5, activation="relu")
    return keras.Model([track, inp], flat_dense(layers.MaxPooling1D(4)(x)))


@toy(extra_inputs=("cell",))
def conditioned_on_a_cell_type() -> keras.Model:
    """dna -> C -> * gamma -> + beta -> relu -> C -> GAP -> D -> y;  cell -> D -> Reshape -> gamma, beta (FiLM)"""
    inp, cell = dna(40), keras.Input((5,), name="cell")
    gamma = layers.Reshape((1, 6))(layers.Dense(6)(cell))
    beta = layers.Reshape((1, 6))(layers.Dense(6)(cell))
    x = layers.Add()([layers.Multiply()([conv(inp, 6, 5), gamma]), beta])
    x = conv(layers.ReLU()(x), 5, 3)
    return keras.Model([inp, cell], layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@toy(extra_inputs=("features",))
def xpresso() -> keras.Model:
    """dna -> C -> MXP -> C -> MXP -> Flatten -> Concat(features (6)) -> D -> Drop -> D -> Drop -> D -> y

    The topology of Xpresso (Agarwal and Shendure 2020): mRNA half-life features beside the promoter.
    """
    inp, features = dna(110), keras.Input((6,), name="features")
    x = layers.MaxPooling1D(6)(conv(inp, 8, 6, activation="relu"))
    x = layers.MaxPooling1D(4)(conv(x, 6, 9, activation="relu"))
    x = layers.Concatenate()([layers.Flatten()(x), features])
    for units in (8, 3):
        x = layers.Dropout(0.1)(layers.Dense(units, activation="relu")(x))
    return keras.Model([inp, features], layers.Dense(1)(x))


@toy(extra_inputs=("extra",), blind_heads=(1,))
def one_head_without_the_sequence() -> keras.Model:
    """dna -> C -> D -> y1;  extra -> D -> tanh -> D -> y2: no base can change y2"""
    inputs = _inputs(("dna", "extra"))
    side = layers.Dense(3)(layers.Dense(4, activation="tanh")(inputs["extra"]))
    return keras.Model(list(inputs.values()), [flat_dense(conv(inputs["dna"])), side])


@toy(extra_inputs=("extra",))
def named_inputs_and_heads() -> keras.Model:
    """dna -> C -> GAP -> Concat(extra) -> D -> y;  C -> y positional; inputs and outputs are dicts"""
    inputs = _inputs(("extra", "dna"))
    x = conv(inputs["dna"], 6, 5, activation="relu")
    pooled = layers.Concatenate()([layers.GlobalAveragePooling1D()(x), inputs["extra"]])
    return keras.Model(inputs, {"profile": conv(x, 2, 3), "counts": layers.Dense(1)(pooled)})


@toy(extra_inputs=("mask",))
def weighted_by_a_mask() -> keras.Model:
    """dna -> C -> Multiply(mask (L, 1)) -> GMP -> D -> y: one weight a position, broadcast over channels"""
    inp, mask = dna(40), keras.Input((40, 1), name="mask")
    x = layers.Multiply()([conv(inp, 6, 5), mask])
    return keras.Model([inp, mask], layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))
