"""``keras.ops`` and operators on symbolic tensors: nodes whose operation is no layer."""

import keras
from keras import ops

from .blocks import conv, dna, flat_dense
from .registry import toy, toys

ONE_TENSOR = {
    "plus_number": lambda x: x + 1.0,
    "number_minus": lambda x: 1.0 - x,
    "times_number": lambda x: x * -0.5,
    "over_number": lambda x: x / 3.0,
    "number_over": lambda x: 1.0 / (ops.square(x) + 1.0),
    "negative": lambda x: -x,
    "power": lambda x: (x * 0.5) ** 2,
    "relu": ops.relu,
    "exp": ops.exp,
    "log1p_relu": lambda x: ops.log1p(ops.relu(x)),
    "absolute": lambda x: abs(x),
    "clip": lambda x: ops.clip(x, -0.3, 0.4),
    "maximum_zero": lambda x: ops.maximum(x, 0.0),
    "softmax_channels": lambda x: ops.softmax(x, axis=-1),
    "softmax_length": lambda x: ops.softmax(x, axis=1),
    "where": lambda x: ops.where(x > 0.0, x, 0.1 * x),
    "plus_array": lambda x: x + ops.convert_to_tensor([0.1, -0.2, 0.3, 0.0, 0.5], dtype=x.dtype),
    "slice_length": lambda x: x[:, 5:-5],
    "slice_step": lambda x: x[:, ::2],
    "slice_reversed": lambda x: x[:, ::-1],
    "slice_channels": lambda x: x[..., 1:4],
    "slice_both": lambda x: x[:, 3:, :2],
    "flip_length": lambda x: ops.flip(x, axis=1),
    "flip_channels": lambda x: ops.flip(x, axis=-1),
    "flip_both": lambda x: ops.flip(x, axis=(1, 2)),
    "roll": lambda x: ops.roll(x, 3, axis=1),
    "pad": lambda x: ops.pad(x, [[0, 0], [3, 1], [0, 0]]),
    "pad_reflect": lambda x: ops.pad(x, [[0, 0], [3, 3], [0, 0]], mode="reflect"),
    "cumsum": lambda x: ops.cumsum(x, axis=1),
    "repeat": lambda x: ops.repeat(x, 2, axis=1),
    "tile_channels": lambda x: ops.tile(x, (1, 1, 2)),
    "mean_kept": lambda x: x - ops.mean(x, axis=1, keepdims=True),
    "mean_channels": lambda x: x - ops.mean(x, axis=-1, keepdims=True),
    "two_axes_and_back": lambda x: ops.squeeze(ops.expand_dims(x, 2), 2),
    "transpose_and_back": lambda x: ops.transpose(ops.transpose(x, (0, 2, 1)), (0, 2, 1)),
    "repeat_channels": lambda x: ops.repeat(x, 2, axis=-1),
    "average_pool": lambda x: ops.average_pool(x, 2, strides=2, padding="valid"),
    "max_pool": lambda x: ops.max_pool(x, 3, padding="same"),
    "cast": lambda x: ops.cast(x, "float32") * 0.5,
    "norm": lambda x: x / (1.0 + ops.norm(x, axis=-1, keepdims=True)),
    "split_length": lambda x: ops.subtract(*ops.split(x, 2, axis=1)),
    "split_unevenly": lambda x: ops.concatenate(ops.split(x, [2, 3], axis=-1)[::-1], axis=-1),
    "unstack": lambda x: ops.stack(ops.unstack(x, axis=-1)[1:3], axis=-1),
}


@toys(ONE_TENSOR)
def op_between(op) -> keras.Model:
    """inp -> C -> op -> C -> y"""
    inp = dna(24)
    return keras.Model(inp, conv(op(conv(inp, 5, 5)), 2))


TWO_TENSORS = {
    "plus": lambda x, y: x + y,
    "minus": lambda x, y: x - y,
    "times": lambda x, y: x * y,
    "over": lambda x, y: x / (1.5 + ops.tanh(y)),
    "maximum": ops.maximum,
    "minimum": ops.minimum,
    "concatenate": lambda x, y: ops.concatenate([x, y], axis=-1),
    "concatenate_length": lambda x, y: ops.concatenate([x, y], axis=1),
    "stack_sum": lambda x, y: ops.sum(ops.stack([x, y], axis=1), axis=1),
    "stack_max": lambda x, y: ops.max(ops.stack([x, y], axis=-1), axis=-1),
    "gate_by_comparison": lambda x, y: ops.where(y > 0.0, x, y),
}


@toys(TWO_TENSORS)
def op_of_two(op) -> keras.Model:
    """inp -> op(C5(inp), C4(inp)) -> C -> y"""
    inp = dna(24)
    return keras.Model(inp, conv(op(conv(inp, 5, 5), conv(inp, 5, 4)), 2))


REDUCTIONS = {
    "mean": lambda x: ops.mean(x, axis=1),
    "max": lambda x: ops.max(x, axis=1),
    "sum": lambda x: ops.sum(x, axis=1),
    "logsumexp": lambda x: ops.logsumexp(x, axis=1),
    "variance": lambda x: ops.var(x, axis=1),
    "first_position": lambda x: x[:, 0],
    "middle_position": lambda x: x[:, 12, :],
    "reshape": lambda x: ops.reshape(x, (-1, 24 * 5)),
    "einsum": lambda x: ops.einsum("blc,bld->bcd", x, x),
}


@toys(REDUCTIONS)
def op_at_the_end(op) -> keras.Model:
    """inp -> C -> op -> y: the op's own result is the head"""
    inp = dna(24)
    return keras.Model(inp, op(conv(inp, 5, 5)))


@toy
def op_with_two_results() -> keras.Model:
    """inp -> C -> ops.split(2, axis=-1) -> a * sigmoid(b) -> C -> y"""
    inp = dna(24)
    a, b = ops.split(conv(inp, 6, 5), 2, axis=-1)
    return keras.Model(inp, conv(a * ops.sigmoid(b), 2))


@toy
def op_first() -> keras.Model:
    """inp -> 2 * inp - 0.5 -> C -> D -> y"""
    inp = dna(24)
    return keras.Model(inp, flat_dense(conv(2.0 * inp - 0.5, 5, 5, activation="relu")))


@toy
def op_attention() -> keras.Model:
    """inp -> C -> softmax(x @ x^T) @ x -> D -> y"""
    inp = dna(20)
    x = conv(inp, 5, 5, activation="relu")
    weights = ops.softmax(ops.matmul(x, ops.transpose(x, (0, 2, 1))))
    return keras.Model(inp, flat_dense(ops.matmul(weights, x)))


@toy
def reverse_complement_sharing() -> keras.Model:
    """inp -> C(inp), and C(flip(inp)) flipped back -> maximum -> MXP -> C -> D -> y: one conv, both strands"""
    inp = dna(30)
    shared = keras.layers.Conv1D(5, 7, padding="same", activation="relu")
    back = ops.flip(shared(ops.flip(inp, axis=(1, 2))), axis=1)
    x = keras.layers.MaxPooling1D(3)(ops.maximum(shared(inp), back))
    return keras.Model(inp, flat_dense(conv(x, 4)))


@toy(extra_inputs=("extra",))
def op_with_an_extra_input() -> keras.Model:
    """inp -> C * tanh(extra)[:, None] + extra[:, None] -> C -> y"""
    inp, extra = dna(24), keras.Input((5,), name="extra")
    shift = ops.expand_dims(extra, 1)
    return keras.Model([inp, extra], conv(conv(inp, 5, 5) * ops.tanh(shift) + shift, 2))
