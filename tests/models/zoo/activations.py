"""Every activation, by name and as a layer.

Left out, because a rounding error of the input becomes a jump of the output: hard_shrink, threshold.
"""

import keras
from keras import layers

from .blocks import conv, dna, flat_dense
from .registry import toy, toys

NAMES = (
    "relu relu6 elu celu selu gelu softplus softsign soft_shrink sigmoid log_sigmoid hard_sigmoid tanh hard_tanh "
    "tanh_shrink exponential leaky_relu silu hard_silu mish squareplus sparse_plus sparse_sigmoid linear "
    "softmax log_softmax sparsemax"
).split()


@toys({name: name for name in NAMES})
def activation(name) -> keras.Model:
    """inp -> C -> Activation(name) -> C (activation=name) -> y; the last three mix the channels of a position"""
    inp = dna(24)
    return keras.Model(inp, conv(layers.Activation(name)(conv(inp, 6, 5)), 3, 4, activation=name))


LAYERS = {
    "relu": lambda: layers.ReLU(),
    "relu_capped": lambda: layers.ReLU(max_value=0.4),
    "relu_sloped": lambda: layers.ReLU(negative_slope=0.2),
    "relu_threshold": lambda: layers.ReLU(threshold=0.15),
    "relu_all": lambda: layers.ReLU(max_value=0.8, negative_slope=0.3, threshold=0.1),
    "leaky_relu": lambda: layers.LeakyReLU(),
    "leaky_relu_steep": lambda: layers.LeakyReLU(negative_slope=1.7),
    "elu": lambda: layers.ELU(alpha=0.7),
    "prelu_positions": lambda: layers.PReLU(),
    "prelu_shared": lambda: layers.PReLU(shared_axes=[1]),
    "prelu_shared_channels": lambda: layers.PReLU(shared_axes=[2]),
    "prelu_shared_both": lambda: layers.PReLU(shared_axes=[1, 2]),
    "softmax_channels": lambda: layers.Softmax(axis=-1),
    "softmax_channels_axis_2": lambda: layers.Softmax(axis=2),
    "softmax_length": lambda: layers.Softmax(axis=1),
    "softmax_both": lambda: layers.Softmax(axis=(1, 2)),
    "activation_by_function": lambda: layers.Activation(keras.activations.swish),
}


@toys(LAYERS)
def activation_layer(layer) -> keras.Model:
    """inp -> C -> advanced activation -> C -> y"""
    inp = dna(30)
    return keras.Model(inp, conv(layer()(conv(inp, 5, 5)), 2, 4))


@toy
def activation_first() -> keras.Model:
    """inp -> sigmoid -> C -> D -> y: the one-hot zeros become a half, the pads stay zero"""
    inp = dna(30)
    return keras.Model(inp, flat_dense(conv(layers.Activation("sigmoid")(inp), 5, 5)))


@toy
def prelu_after_a_dense() -> keras.Model:
    """inp -> C -> D -> PReLU -> D -> y: no length axis left"""
    inp = dna(30)
    return keras.Model(inp, layers.Dense(2)(layers.PReLU()(flat_dense(conv(inp), 6))))


@toy
def softmax_after_a_dense() -> keras.Model:
    """inp -> C -> D -> softmax -> y: classes"""
    inp = dna(30)
    return keras.Model(inp, layers.Softmax()(flat_dense(conv(inp, 5, 5, activation="relu"), 4)))


@toys({"glu": "glu", "sigmoid": "sigmoid"})
def gated_conv(gate) -> keras.Model:
    """inp -> Multiply(C(inp), gate(C(inp))) -> C -> y; "glu" as one function that halves the channels"""
    inp = dna(30)
    if gate == "glu":
        x = keras.ops.glu(conv(inp, 8, 5), axis=-1)
    else:
        x = layers.Multiply()([conv(inp, 4, 5), conv(inp, 4, 5, activation=gate)])
    return keras.Model(inp, conv(x, 2))


@toy
def attention_pooling_by_softmax() -> keras.Model:
    """inp -> C -> relu -x-> C1 -> Softmax(axis=1) -> Multiply(x) -> GAP -> D -> y: weights that sum to 1 over L"""
    inp = dna(30)
    x = conv(inp, 5, 5, activation="relu")
    weights = layers.Softmax(axis=1)(conv(x, 1, 1))
    return keras.Model(inp, layers.Dense(2)(layers.GlobalAveragePooling1D()(layers.Multiply()([x, weights]))))
