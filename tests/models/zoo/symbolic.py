"""``keras.ops`` and operators on symbolic tensors: nodes whose operation is no layer."""

import keras
import numpy as np
from keras import layers, ops

from .blocks import conv, dna, flat_dense
from .registry import toy, toys


def kernel(*shape: int) -> np.ndarray:
    """Constant weights."""
    return np.random.default_rng(len(shape)).normal(0, 0.6, shape).astype("float32")


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
    # the same functions as layers have, with constant kernels
    "conv": lambda x: ops.conv(x, kernel(4, 5, 3), strides=2, padding="same"),
    "conv_image": lambda x: ops.conv(ops.expand_dims(x, 2), kernel(3, 1, 5, 4), padding="SAME")[:, :, 0],
    "depthwise_conv": lambda x: ops.depthwise_conv(x, kernel(3, 5, 2), padding="same"),
    "separable_conv": lambda x: ops.separable_conv(x, kernel(3, 5, 2), kernel(1, 10, 4), dilation_rate=3),
    "batch_normalization": lambda x: ops.batch_normalization(
        x, kernel(5), kernel(5) ** 2 + 0.5, axis=-1, offset=kernel(5), scale=kernel(5) + 1
    ),
    "batch_normalization_plain": lambda x: ops.batch_normalization(x, kernel(5), kernel(5) ** 2 + 0.5, axis=2),
    # truth values and whole numbers
    "mask": lambda x: x * ops.cast(ops.greater_equal(x, 0.1), "float32"),
    "logic": lambda x: ops.where((x > -0.5) & ~(x > 0.5) | (x < -1.0), x, ops.isfinite(x)),
    "select": lambda x: ops.select([x > 0.5, x < -0.5], [x - 0.5, x + 0.5], 0.0),
    "where_by_position": lambda x: ops.where(kernel(24, 1) > 0, x, ops.negative(x)),
    "maximum_by_position": lambda x: ops.maximum(kernel(24, 5), x),
    "above_by_position": lambda x: x * ops.cast(x > kernel(1, 24, 1), x.dtype),
    "power_of_number": lambda x: 2.0**x,
    "remainder": lambda x: x % 0.7 + x // 0.7,
    "argmax": lambda x: ops.one_hot(ops.argmax(x, axis=-1), 5) * x,
    "table": lambda x: ops.take(kernel(5, 3), ops.argmax(x, axis=2), axis=0),
    "sort": lambda x: ops.sort(x, axis=-1) + 0.1 * ops.cast(ops.argsort(x, axis=-1), "float32"),
    "sorted_by": lambda x: ops.take_along_axis(x, ops.argsort(ops.square(x), axis=-1), axis=-1),
    "top_k": lambda x: ops.concatenate([(t := ops.top_k(x, 2))[0], ops.cast(t[1], "float32")], axis=-1),
    "any_and_count": lambda x: (
        x
        * ops.cast(ops.any(x > 0.3, axis=-1, keepdims=True), "float32")
        / (1.0 + ops.cast(ops.expand_dims(ops.count_nonzero(x > 0, axis=-1), -1), "float32"))
    ),
    # products
    "tensordot": lambda x: ops.tensordot(x, kernel(5, 4), axes=1),
    "inner": lambda x: ops.inner(x, kernel(3, 5)),
    "dot_of_matrix": lambda x: ops.dot(x, kernel(5, 3)),
    "matmul_of_vector": lambda x: ops.expand_dims(x @ kernel(5), -1),
    "matmul_transposed": lambda x: ops.transpose(ops.matmul(kernel(3, 5), ops.transpose(x, (0, 2, 1))), (0, 2, 1)),
    "einsum_weights_by_position": lambda x: ops.einsum("blc,lcd->bld", x, kernel(24, 5, 3)),
    "einsum_weights_and_relu": lambda x: ops.relu(ops.einsum("blc,lcd->bld", x, kernel(24, 5, 3))) + 0.1,
    "einsum_scale_by_position": lambda x: ops.einsum("lc,blc->blc", kernel(24, 5), x),
    "einsum_of_two": lambda x: ops.einsum("blc,bld->blcd", x, ops.tanh(x))[..., 2],
    "einsum_of_three": lambda x: ops.einsum("...c,...c,cd->...d", x, ops.tanh(x), kernel(5, 3)),
    "einsum_without_arrow": lambda x: ops.einsum("blc,cz", x, kernel(5, 3)),
    "positions_mixed": lambda x: ops.matmul(kernel(20, 24), x),
    "positions_mixed_by_einsum": lambda x: ops.einsum("ml,blc,cd->bmd", kernel(20, 24), x, kernel(5, 3)),
    # places
    "take_channels": lambda x: ops.take(x, [3, 0, -1, 3], axis=-1),
    "take_table": lambda x: ops.reshape(ops.take(x, np.array([[3, 0], [1, 4]]), axis=2), (-1, 24, 4)),
    "take_positions": lambda x: ops.take(x, list(range(20, 1, -3)), axis=1),
    "take_one": lambda x: x * ops.expand_dims(ops.take(x, 2, axis=-1), -1),
    "take_along_constant": lambda x: ops.take_along_axis(x, np.array([[[4, 1, 2]]] * 1).repeat(24, 1), axis=-1),
    "tile_both": lambda x: ops.tile(x, (1, 2, 2)),
    "roll_both": lambda x: ops.roll(x, (-5, 2), axis=(1, 2)),
    "roll_channels": lambda x: ops.roll(x, 7, axis=-1),
    "pad_symmetric": lambda x: ops.pad(x, [[0, 0], [0, 5], [1, 2]], mode="symmetric"),
    "diff_length": lambda x: ops.diff(x, n=2, axis=1),
    "diff_channels": lambda x: ops.diff(x),
    "hstack": lambda x: ops.hstack([x[:, 4:], x[:, :4]]),
    "append": lambda x: ops.append(x, ops.tanh(x), axis=-1),
    # along the channels
    "cumsum_channels": lambda x: ops.cumsum(x, axis=-1) + ops.cumprod(x, axis=2),
    "moments_channels": lambda x: (
        (x - ops.moments(x, axes=-1, keepdims=True)[0]) / (0.5 + ops.moments(x, axes=(2,), keepdims=True)[1])
    ),
    "median": lambda x: x - ops.median(x, axis=-1, keepdims=True),
    "quantile": lambda x: x - ops.quantile(x, 0.3, axis=-1, keepdims=True),
    "average": lambda x: x - ops.expand_dims(ops.average(x, axis=-1, weights=kernel(5) ** 2), -1),
    "ones_like": lambda x: x + ops.ones_like(x) * 0.5 - ops.full_like(x, 0.3) + ops.zeros_like(x),
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
    "min": lambda x: ops.min(x, axis=1),
    "deviation": lambda x: ops.std(x, axis=1, keepdims=True),
    "deviation_of_all": lambda x: ops.expand_dims(ops.std(x + 30.0, axis=(1, 2)), -1),
    "moments": lambda x: ops.concatenate(ops.moments(x, axes=[1]), axis=-1),
    "product": lambda x: ops.prod(1.0 + 0.1 * x, axis=1),
    "norm_of_positions": lambda x: ops.norm(x, axis=1),
    "norm_of_columns": lambda x: ops.norm(ops.transpose(x, (0, 2, 1)), axis=-1),
    "logsumexp_sharp": lambda x: ops.logsumexp(50.0 * x, axis=1),
    "first_position": lambda x: x[:, 0],
    "middle_position": lambda x: x[:, 12, :],
    "reshape": lambda x: ops.reshape(x, (-1, 24 * 5)),
    "einsum": lambda x: ops.einsum("blc,bld->bcd", x, x),
    "einsum_weights_by_position": lambda x: ops.einsum("blc,lc->bc", x, kernel(24, 5)),
    "einsum_weight_of_positions": lambda x: ops.einsum("blc,l,cd->bd", x, kernel(24), kernel(5, 3)),
    "einsum_sum": lambda x: ops.einsum("blc,cd->bd", x, kernel(5, 3)),
    "einsum_of_parts": lambda x: ops.einsum("blc,blc->bc", x[:, 1:], ops.relu(x[:, :-1])),
    "dot_of_positions": lambda x: layers.Dot(axes=1)([layers.Dense(2, activation="relu")(x), x]),
    "dot_of_transposed": lambda x: layers.Dot(axes=(2, 1))([layers.Permute((2, 1))(x), ops.tanh(x)]),
}


def flat_softmax(x, size=1):
    """As attention was written for Keras 2: one logit for each position, its weight repeated for every channel."""
    weights = layers.Activation("softmax")(layers.Flatten()(layers.Dense(1, activation="tanh")(x)))
    weights = layers.Permute((2, 1))(layers.RepeatVector(x.shape[-1])(weights))
    return ops.sum(layers.Multiply()([x, weights]), axis=1)


def by_exponentials(x, epsilon=0.0, shifted=False):
    """As attention layers of one's own compute it."""
    logits = ops.tanh(x @ kernel(5, 1)) * 3.0
    exponentials = ops.exp(logits - ops.max(logits, axis=1, keepdims=True) if shifted else logits)
    total = ops.sum(exponentials, axis=1, keepdims=True)
    return ops.sum(x * (exponentials / (total + epsilon if epsilon else total)), axis=1)


def heads_of(x):
    """Two queries, each with its part of the channels."""
    weights = ops.softmax(x @ kernel(5, 2), axis=1)
    return ops.einsum("blh,blhd->bhd", weights, ops.reshape(x[..., :4], (-1, x.shape[1], 2, 2)))


SOFTMAX_POOLINGS = {
    "sum": lambda x: ops.sum(x * ops.softmax(x @ kernel(5, 1), axis=1), axis=1),
    "sum_kept": lambda x: ops.sum(ops.softmax(x @ kernel(5, 1), axis=1) * x, axis=1, keepdims=True)[:, 0],
    "by_channel": lambda x: ops.sum(x * ops.softmax(8.0 * x, axis=1), axis=1),
    "mean": lambda x: layers.GlobalAveragePooling1D()(x * ops.softmax(x @ kernel(5, 1), axis=1)),
    "dot": lambda x: layers.Dot(axes=1)([layers.Softmax(axis=1)(layers.Dense(2)(x)), x]),
    "dot_of_flat": lambda x: layers.Dot(axes=1)([ops.softmax(ops.squeeze(x @ kernel(5, 1), -1)), x]),
    "einsum": lambda x: ops.einsum("blk,blc->bc", ops.softmax(x @ kernel(5, 3), axis=1), ops.relu(x)),
    "heads": heads_of,
    "matmul": lambda x: ops.matmul(ops.transpose(ops.softmax(x @ kernel(5, 2), axis=-2), (0, 2, 1)), x),
    "queries": lambda x: ops.matmul(ops.softmax(ops.matmul(kernel(3, 5), ops.transpose(x, (0, 2, 1))), axis=-1), x),
    "flat": flat_softmax,
    "exponentials": by_exponentials,
    "exponentials_shifted": lambda x: by_exponentials(x, shifted=True),
    "exponentials_epsilon": lambda x: by_exponentials(x, epsilon=0.1),
    "exponentials_both": lambda x: by_exponentials(x, epsilon=0.1, shifted=True),
    "peaked": lambda x: ops.sum(x * ops.softmax(40.0 * x @ kernel(5, 1), axis=1), axis=1),
    "masked": lambda x: ops.sum(x * ops.softmax(ops.where(x > 0.2, x, -np.inf), axis=1), axis=1)[:, :1],
    "of_two_windows": lambda x: SOFTMAX_POOLINGS["sum"](ops.concatenate([x, ops.flip(x, axis=1)], axis=1)),
    "with_another_reader": lambda x: (
        (w := ops.softmax(x @ kernel(5, 1), axis=1)) * ops.sum(x * w, axis=1, keepdims=True)
    ),
    "in_blocks": lambda x: ops.einsum("bnsc,bnsc->bnc", y := ops.reshape(x, (-1, 12, 2, 5)), ops.softmax(y, axis=2)),
    "of_a_conv": lambda x: ops.sum(conv(x, 5, 3) * ops.softmax(layers.Dense(1)(x), axis=1), axis=(1,)),
}


@toys(SOFTMAX_POOLINGS)
def softmax_pooling(op) -> keras.Model:
    """inp -> C -> mean over the positions, weighted by a softmax over them -> D"""
    inp = dna(24)
    return keras.Model(inp, layers.Dense(2)(layers.Flatten()(op(conv(inp, 5, 5)))))


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
