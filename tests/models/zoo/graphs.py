"""Odd graphs: shared layers, layers with calls outside the model, models cut from models."""

import keras
from keras import layers

from .blocks import conv, dna, flat_dense
from .registry import toy, toys


@toy
def shared_at_two_depths() -> keras.Model:
    """inp -> C -> shared C -> relu -> shared C -> relu -> D -> y"""
    inp = dna(36)
    shared = layers.Conv1D(5, 5, padding="same", activation="relu")
    return keras.Model(inp, flat_dense(shared(shared(conv(inp, 5, 3)))))


@toy
def shared_at_two_lengths() -> keras.Model:
    """inp -> C -> shared C -> MXP2 -> shared C -> MXP2 -> shared C -> D -> y: three lengths, one set of weights"""
    inp = dna(36)
    shared = layers.Conv1D(5, 4, padding="same", activation="relu")
    x = shared(conv(inp, 5, 3))
    for _ in range(2):
        x = shared(layers.MaxPooling1D(2)(x))
    return keras.Model(inp, flat_dense(x))


@toy
def shared_at_two_depths_and_merged() -> keras.Model:
    """inp -> C -x-> shared;  x -> C -> shared;  Add -> D -> y"""
    inp = dna(36)
    shared = layers.Conv1D(5, 4, padding="same", activation="tanh")
    x = conv(inp, 5, 3)
    return keras.Model(inp, flat_dense(layers.Add()([shared(x), shared(conv(x, 5, 3))])))


@toy
def shared_pool_and_activation() -> keras.Model:
    """inp -> C -> relu -> MXP2 -> C -> the same relu -> the same MXP2 -> D -> y"""
    inp = dna(36)
    relu, pool = layers.ReLU(), layers.MaxPooling1D(2)
    x = pool(relu(conv(inp, 5, 3)))
    return keras.Model(inp, flat_dense(pool(relu(conv(x, 5, 3)))))


@toy
def called_twice_on_one_tensor() -> keras.Model:
    """inp -> C -> shared C twice on the same x -> Multiply -> D -> y: two nodes with equal values"""
    inp = dna(36)
    shared = layers.Conv1D(5, 4, padding="same")
    x = conv(inp, 5, 3, activation="relu")
    return keras.Model(inp, flat_dense(layers.Multiply()([shared(x), shared(x)])))


@toy(extra_inputs=("other",))
def shared_with_another_input() -> keras.Model:
    """dna -> shared C -> GMP;  other (20, 4, 1) -> Reshape -> shared C -> GMP;  Concat -> D -> y"""
    inp, other = dna(36), keras.Input((20, 4, 1), name="other")
    shared = layers.Conv1D(5, 5, activation="relu")
    pooled = [layers.GlobalMaxPooling1D()(shared(x)) for x in (inp, layers.Reshape((20, 4))(other))]
    return keras.Model([inp, other], layers.Dense(2)(layers.Concatenate()(pooled)))


@toy
def cut_from_a_larger_model() -> keras.Model:
    """inp -> C -> MXP -> C -> y, cut out of inp -> C -> MXP -> C -> D: the last conv has a reader outside"""
    inp = dna(36)
    x = conv(layers.MaxPooling1D(2)(conv(inp, 5, 5, activation="relu")), 4, 3)
    larger = keras.Model(inp, flat_dense(x))
    return keras.Model(larger.inputs, larger.layers[-3].output)


@toy
def layers_also_called_elsewhere() -> keras.Model:
    """inp -> C -> MXP -> C -> D -> y, after every layer was called on another input of another length first"""
    stack = [layers.Conv1D(5, 5, padding="same", activation="relu"), layers.MaxPooling1D(3), layers.Conv1D(4, 3)]
    elsewhere, inp = dna(51), dna(36)
    for layer in stack:
        elsewhere = layer(elsewhere)
    x = inp
    for layer in stack:
        x = layer(x)
    return keras.Model(inp, flat_dense(x))


@toy
def extended_model() -> keras.Model:
    """[inp -> C -> MXP -> y] with -> C -> D put on its output: transfer learning without nesting"""
    inp = dna(36)
    base = keras.Model(inp, layers.MaxPooling1D(3)(conv(inp, 5, 5, activation="relu")))
    return keras.Model(base.input, flat_dense(conv(base.output, 4)))


@toy
def sequential_taken_apart() -> keras.Model:
    """inp -> [C -> BN -> relu -> MXP] as the inputs and output of a Sequential -> D -> y"""
    block = [layers.Conv1D(5, 5), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling1D(3)]
    base = keras.Sequential([dna(36), *block])
    return keras.Model(base.inputs, flat_dense(base.outputs[0]))


@toy
def cloned_model() -> keras.Model:
    """A clone of inp -> C -> Add(x, C(x)) -> MXP -> D -> y: built from its config"""
    inp = dna(36)
    x = conv(inp, 5, 5, activation="relu")
    x = layers.MaxPooling1D(3)(layers.Add()([x, conv(x, 5)]))
    return keras.models.clone_model(keras.Model(inp, flat_dense(x)))


@toy
def branch_that_goes_nowhere() -> keras.Model:
    """inp -> C -> D -> y;  inp -> C -> MXP, which no output reads"""
    inp = dna(36)
    layers.MaxPooling1D(2)(conv(inp, 5, 5))
    return keras.Model(inp, flat_dense(conv(inp, 5, 3, activation="relu")))


@toys({"12": 12, "24": 24})
def many_layers(depth) -> keras.Model:
    """inp -> [C -> tanh, Add every third] x depth -> GAP -> D -> y"""
    inp = dna(40)
    x = skip = conv(inp, 3, 3)
    for i in range(depth):
        x = conv(x, 3, 2, activation="tanh")
        if i % 3 == 2:
            x = skip = layers.Add()([x, skip])
    return keras.Model(inp, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@toy
def only_the_input() -> keras.Model:
    """inp -> Identity -> y: the substitution itself is the answer"""
    inp = dna(20)
    return keras.Model(inp, layers.Identity()(inp))


@toy
def ten_outputs_of_two_positions() -> keras.Model:
    """inp (20) -> C -> Crop to 2 -> UP5 -> C -> y: what the middle two see"""
    inp = dna(20)
    x = layers.UpSampling1D(5)(layers.Cropping1D(9)(conv(inp, 5, 5, activation="relu")))
    return keras.Model(inp, conv(x, 2))


@toy(extra_inputs=("cell", "track"))
def everything_at_once() -> keras.Model:
    """dna, track -> C -> relu -> BN -> dilated residuals -> SE gate by cell -> MXP -> profile, flat and pooled heads"""
    inp, track, cell = dna(48), keras.Input((48, 2), name="track"), keras.Input((4,), name="cell")
    x = layers.BatchNormalization()(conv(layers.Concatenate()([inp, track]), 6, 7, activation="relu"))
    for dilation_rate in (1, 3):
        x = layers.Add()([x, conv(x, 6, 3, dilation_rate=dilation_rate, activation="gelu")])
    x = layers.Multiply()([x, layers.Dense(6, activation="sigmoid")(cell)])
    profile = conv(layers.Cropping1D((5, 7))(x), 2, 4)
    x = layers.Dropout(0.2)(layers.MaxPooling1D(5, padding="same")(x))
    joined = layers.Concatenate()([layers.Flatten()(x), cell, layers.GlobalMaxPooling1D()(x)])
    counts = layers.Dense(2, activation="softplus")(layers.Dense(6, activation="relu")(joined))
    return keras.Model([cell, inp, track], [profile, counts])
