"""Models inside models: functional, Sequential and subclassed."""

import keras
from keras import layers

from .blocks import conv, dna, flat_dense
from .custom import ConvPair
from .registry import toy, toys


def _residual_block(length: int, channels: int) -> keras.Model:
    """inp -> Add(inp, C(inp)) -> out"""
    inp = keras.Input((length, channels))
    return keras.Model(inp, layers.Add()([inp, conv(inp, channels, 3)]))


def _double_block(length: int, channels: int) -> keras.Model:
    """inp -> [Add(inp, C(inp))] -> [Add(x, C(x))] -> out"""
    inp = keras.Input((length, channels))
    return keras.Model(inp, _residual_block(length, channels)(_residual_block(length, channels)(inp)))


def _dense_block(width: int) -> keras.Model:
    """inp -> D -> D -> out"""
    inp = keras.Input((width,))
    return keras.Model(inp, layers.Dense(1)(layers.Dense(6)(inp)))


def _merge_block(length: int, channels: int, *merges) -> keras.Model:
    """left, right -> one output for each merge layer"""
    left, right = keras.Input((length, channels)), keras.Input((length, channels))
    merged = [merge([left, right]) for merge in merges]
    return keras.Model([left, right], merged if len(merged) > 1 else merged[0])


def _pool_then_dense_block(inp: keras.KerasTensor, x: keras.KerasTensor) -> keras.Model:
    """... x -> MXP -> Flatten -> [D -> D] -> y"""
    x = layers.Flatten()(layers.MaxPooling1D(3)(x))
    return keras.Model(inp, _dense_block(x.shape[-1])(x))


@toy
def nested_tower_and_head() -> keras.Model:
    """inp -> [C -> MXP -> C -> MXP -> C -> MXP] -> Flatten -> [D -> D] -> y"""
    block_in = x = keras.Input((81, 4))
    for kernel_size in (3, 5, 9):
        x = layers.MaxPooling1D(3)(conv(x, 5, kernel_size))
    tower = keras.Model(block_in, x)

    inp = dna(81)
    x = layers.Flatten()(tower(inp))
    return keras.Model(inp, _dense_block(x.shape[-1])(x))


@toys({"once": _residual_block, "doubly": _double_block})
def nested_residual(block) -> keras.Model:
    """inp -> C -> [Add(x, C(x))] or [[Add(x, C(x))] -> [Add(x, C(x))]] -> MXP -> [D -> D] -> y"""
    inp = dna(42)
    return _pool_then_dense_block(inp, block(42, 6)(conv(inp, 6)))


@toys({"add": layers.Add, "subtract": layers.Subtract})
def nested_merge(merge) -> keras.Model:
    """inp -> C -a-> C -b-> [merge(a, b)] -> MXP -> [D -> D] -> y: the order of the inputs matters to Subtract"""
    inp = dna(42)
    a = conv(inp, 6)
    b = conv(a, 6)
    return _pool_then_dense_block(inp, _merge_block(42, 6, merge())([a, b]))


@toy
def nested_merge_inputs_exchanged() -> keras.Model:
    """inp -> C -a-> C -b-> [Subtract(left, right)] called with (b, a) -> MXP -> [D -> D] -> y"""
    inp = dna(42)
    a = conv(inp, 6)
    b = conv(a, 6)
    return _pool_then_dense_block(inp, _merge_block(42, 6, layers.Subtract())([b, a]))


@toy
def nested_two_outputs() -> keras.Model:
    """inp -> C -a-> C -b-> [Add(a, b), Maximum(a, b)] -> Add -> MXP -> [D -> D] -> y"""
    inp = dna(42)
    a = conv(inp, 6)
    total, largest = _merge_block(42, 6, layers.Add(), layers.Maximum())([a, conv(a, 6)])
    return _pool_then_dense_block(inp, layers.Add()([total, largest]))


@toy
def nested_sequential() -> keras.Model:
    """inp -> C -> [Sequential: BN -> relu -> MXP -> C] -> D -> y"""
    inp = dna(42)
    block = [layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling1D(2), layers.Conv1D(4, 3)]
    return keras.Model(inp, flat_dense(keras.Sequential(block)(conv(inp, 6))))


@toy
def sequential_of_sequentials() -> keras.Model:
    """inp -> [C -> relu -> MXP] -> [C -> [BN -> relu] -> MXP] -> Flatten -> D -> y"""
    inner = keras.Sequential([layers.BatchNormalization(), layers.ReLU()])
    return keras.Sequential(
        [
            dna(42),
            keras.Sequential([layers.Conv1D(6, 5), layers.ReLU(), layers.MaxPooling1D(2)]),
            keras.Sequential([layers.Conv1D(5, 3), inner, layers.MaxPooling1D(2)]),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


@toy
def nested_twice_on_different_inputs() -> keras.Model:
    """inp -> C -a-> C -b->;  block(a) - block(b) -> D -> y: one block, one set of weights, two nodes"""
    inp = dna(40)
    block = _residual_block(40, 6)
    a = conv(inp, 6)
    x = layers.Subtract()([block(a), block(conv(a, 6, 5, activation="tanh"))])
    return keras.Model(inp, flat_dense(x))


@toy
def nested_twice_in_a_row() -> keras.Model:
    """inp -> C -> [block] -> relu -> [the same block] -> MXP -> D -> y"""
    inp = dna(40)
    block = _residual_block(40, 6)
    x = block(layers.ReLU()(block(conv(inp, 6))))
    return keras.Model(inp, flat_dense(layers.MaxPooling1D(4)(x)))


@toy
def nested_shares_a_layer_with_the_outside() -> keras.Model:
    """inp -> C -> shared -> [Add(x, shared(x))] -> D -> y: the layer belongs to both models"""
    inp = dna(40)
    shared = layers.Conv1D(6, 3, padding="same", activation="relu")
    block_in = keras.Input((40, 6))
    block = keras.Model(block_in, layers.Add()([block_in, shared(block_in)]))
    return keras.Model(inp, flat_dense(block(shared(conv(inp, 6)))))


@toy
def nested_passes_its_input_on() -> keras.Model:
    """inp -> C -> [x, C(x)] -> Multiply -> D -> y: one output of the block is its own input"""
    inp = dna(40)
    block_in = keras.Input((40, 6))
    block = keras.Model(block_in, [block_in, conv(block_in, 6, 5, activation="sigmoid")])
    return keras.Model(inp, flat_dense(layers.Multiply()(block(conv(inp, 6)))))


@toy
def nested_one_output_unused() -> keras.Model:
    """inp -> [C -> (C, GAP)] -> the pooled one -> D -> y: the positional output goes nowhere"""
    inp = dna(40)
    block_in = keras.Input((40, 4))
    x = conv(block_in, 6, 5, activation="relu")
    _, pooled = keras.Model(block_in, [conv(x, 3, 3), layers.GlobalAveragePooling1D()(x)])(inp)
    return keras.Model(inp, layers.Dense(2)(pooled))


def _pair(struct) -> keras.Model:
    """left, right -> Subtract(C(left), C(right)); ``struct`` makes what the model declares as its inputs"""
    left, right = keras.Input((40, 6), name="left"), keras.Input((40, 6), name="right")
    return keras.Model(struct(left, right), layers.Subtract()([conv(left, 5, 5), conv(right, 5, 3)]))


# How a model of two inputs declares them, and how it is called.
PAIRS = {
    "list": (lambda left, right: [left, right], lambda model, a, b: model([a, b])),
    "tuple": (lambda left, right: (right, left), lambda model, a, b: model((a, b))),
    "dict": (lambda left, right: {"left": left, "right": right}, lambda model, a, b: model({"right": b, "left": a})),
    "dict_for_list": (lambda left, right: [right, left], lambda model, a, b: model({"left": a, "right": b})),
    "struct": (lambda left, right: {"x": [left, {"y": right}]}, lambda model, a, b: model({"x": [b, {"y": a}]})),
    "keyword": (lambda left, right: [left, right], lambda model, a, b: model(inputs=[b, a], training=False)),
    "same": (lambda left, right: [left, right], lambda model, a, b: model([a, a], mask=[None, None])),
}


@toys(PAIRS)
def nested_pair(pair) -> keras.Model:
    """inp -> C -a-> C -b->; [Subtract(C(left), C(right))](a, b) in the way of each variant -> MXP -> D -> y"""
    struct, call = pair
    inp = dna(40)
    a = conv(inp, 6)
    return keras.Model(inp, flat_dense(layers.MaxPooling1D(4)(call(_pair(struct), a, conv(a, 6)))))


# How a model of one input is called.
CALLS = {
    "list": lambda model, x: model([x]),
    "tuple": lambda model, x: model((x,)),
    "keyword": lambda model, x: model(inputs=x),
    "named": lambda model, x: model({"block_in": x, "unused": x}),
    "no_mask": lambda model, x: model([x], mask=[None]),
    "training": lambda model, x: model([x], training=True),
    "twice": lambda model, x: model([layers.ReLU()(*keras.tree.flatten(model(x)))]),
}


@toys(
    {f"{name}{suffix}": (call, listed) for name, call in CALLS.items() for suffix, listed in (("", 0), ("_of_list", 1))}
)
def nested_call(call) -> keras.Model:
    """inp -> C -> [[[Add(x, C(x))]]], each called in the way of the variant -> MXP -> D -> y"""
    how, listed = call
    x = block_in = keras.Input((40, 6), name="block_in")
    model = keras.Model(
        [block_in] if listed else block_in, [layers.Add()([x, conv(x, 6, 5)])] if listed else conv(x, 6)
    )
    for _ in range(2):
        outer = keras.Input((40, 6), name="block_in")
        model = keras.Model([outer], how(model, outer))
    inp = dna(40)
    (x,) = keras.tree.flatten(how(model, conv(inp, 6)))
    return keras.Model(inp, flat_dense(layers.MaxPooling1D(4)(x)))


@toys({"lower": ((40, 6, 1), (40, 6)), "higher": ((40, 6), (40, 6, 1))})
def nested_another_rank(shapes) -> keras.Model:
    """inp -> C -> as an image or not -> [the other of them, in float64 -> C] -> D -> y: Keras adds or drops an axis"""
    given, declared = shapes
    block_in = keras.Input(declared, dtype="float64")
    block = keras.Model(block_in, conv(layers.Reshape((40, 6))(block_in), 5, 3))
    inp = dna(40)
    return keras.Model(inp, flat_dense(block(layers.Reshape(given)(conv(inp, 6)))))


@toy
def nested_subclass() -> keras.Model:
    """inp -> C -> [subclassed Model: C -> relu -> C] -> D -> y: its call is code, not a graph"""
    inp = dna(40)
    return keras.Model(inp, flat_dense(ConvPair(5)(conv(inp, 6, 5))))


@toy
def siamese_strands() -> keras.Model:
    """inp -> block(inp), block(reverse complement of inp) -> Maximum -> D -> y"""
    inp, block_in = dna(40), keras.Input((40, 4))
    x = conv(block_in, 6, 7, activation="relu")
    block = keras.Model(block_in, layers.GlobalMaxPooling1D()(x))
    x = layers.Maximum()([block(inp), block(keras.ops.flip(inp, axis=(1, 2)))])
    return keras.Model(inp, layers.Dense(2)(x))
