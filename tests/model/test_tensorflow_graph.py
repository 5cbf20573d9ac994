"""Functions that are written with TensorFlow are read as operations of Keras that compute the same."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from fastism_cli.engine.open_layers import MAGNITUDES
from fastism_cli.model.adapt import agree
from fastism_cli.model.backend import BACKEND

if BACKEND != "tensorflow":
    pytest.skip("functions of TensorFlow are computed by TensorFlow", allow_module_level=True)

import tensorflow as tf
from tensorflow.keras import backend as K

from fastism_cli.model.tensorflow_graph import OPERATIONS, as_keras_operations
from fastism_cli.model.tensorflow_values import NotFollowedError

LENGTH, CHANNELS = 20, 6
_RNG = np.random.default_rng(0)


def drawn(*shape: int) -> np.ndarray:
    return _RNG.normal(size=shape).astype("float32")


KERNEL, MATRIX = tf.Variable(drawn(5, CHANNELS, CHANNELS)), tf.Variable(drawn(CHANNELS, 7))
BIAS, POSITIONS = tf.constant(drawn(CHANNELS)), drawn(LENGTH, CHANNELS)
POSITIVE = tf.abs(BIAS) + 0.5


def n_of(x):
    return tf.shape(x)[0]


ONE_BY_ONE = {
    **{
        name: getattr(tf.nn, name)
        for name in "relu relu6 leaky_relu elu selu gelu softplus softsign silu swish crelu sigmoid tanh".split()
    },
    **{
        f"math_{name}": getattr(tf.math, name)
        for name in (
            "abs square exp expm1 sin cos tan sinh cosh asinh atan floor ceil round rint sign negative erf erfc sigmoid"
        ).split()
    },
    **{
        f"of_positive_{name}": (lambda f: lambda x: f(tf.abs(x) + 1.0))(getattr(tf.math, name))
        for name in "log log1p sqrt rsqrt reciprocal acosh".split()
    },
    **{
        f"of_small_{name}": (lambda f: lambda x: f(tf.tanh(x) * 0.9))(getattr(tf.math, name))
        for name in "asin acos atanh erfinv".split()
    },
    "inverse": lambda x: tf.raw_ops.Inv(x=tf.abs(x) + 1.0),
    "leaky_relu_alpha": lambda x: tf.nn.leaky_relu(x, alpha=0.3),
    "gelu_approximate": lambda x: tf.nn.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * tf.sigmoid(1.702 * x),
    "mish": lambda x: x * tf.tanh(tf.nn.softplus(x)),
    "operators": lambda x: (1 - x) * 2.0 + x / 3.0 - abs(x) ** 2 + 1 / (1 + abs(x)) - (-x),
    "power_of_number": lambda x: 2.0 ** tf.tanh(x),
    "modulo": lambda x: x % 2.0,
    "floor_division": lambda x: x // 0.5,
    "add_sub_mul_div": lambda x: tf.divide(tf.subtract(tf.multiply(2.0, x), tf.add(x, BIAS)), POSITIVE),
    "old_add_div": lambda x: tf.raw_ops.Div(x=tf.raw_ops.Add(x=x, y=BIAS), y=POSITIVE),
    "div_no_nan": lambda x: tf.math.divide_no_nan(x, tf.nn.relu(x)),
    "multiply_no_nan": lambda x: tf.math.multiply_no_nan(x, tf.nn.relu(x)),
    "maximum_minimum": lambda x: tf.minimum(tf.maximum(x, 0.0), BIAS),
    "squared_difference": lambda x: tf.math.squared_difference(x, BIAS),
    "atan2": lambda x: tf.atan2(x, POSITIVE),
    "xlogy": lambda x: tf.math.xlogy(tf.nn.relu(x), abs(x) + 1) + tf.math.xlog1py(tf.nn.relu(x), abs(x)),
    "xdivy": lambda x: tf.math.xdivy(tf.nn.relu(x), abs(x)),
    "clip": lambda x: tf.clip_by_value(x, -1, 1),
    "raw_clip": lambda x: tf.raw_ops.ClipByValue(t=x, clip_value_min=-0.5, clip_value_max=0.5),
    "add_n": lambda x: tf.add_n([x, x, x * 2]),
    "where": lambda x: tf.where(x > 0, x, 0.1 * x),
    "select": lambda x: tf.raw_ops.Select(condition=x > 0, x=x, y=0.1 * x),
    "where_zeros": lambda x: tf.where(tf.logical_and(x >= 0, x < 1), x, tf.zeros_like(x)),
    "comparisons": lambda x: tf.cast(
        tf.logical_or(tf.logical_not(x <= 0), tf.logical_or(tf.equal(x, BIAS), tf.not_equal(x, 1.0))), x.dtype
    ),
    "is_finite": lambda x: (
        tf.where(tf.math.is_finite(x), x, 0.0) + tf.cast(tf.logical_or(tf.math.is_nan(x), tf.math.is_inf(x)), x.dtype)
    ),
    "cast": lambda x: x * tf.cast(x > 0, tf.float32),
    "identity": lambda x: tf.identity(
        tf.stop_gradient(tf.ensure_shape(tf.identity_n([x])[0], [None, LENGTH, CHANNELS]))
    ),
    "checked": lambda x: tf.raw_ops.Snapshot(
        input=tf.debugging.check_numerics(tf.raw_ops.PreventGradient(input=x), "")
    ),
    "ones_and_zeros": lambda x: x + tf.ones_like(x) + tf.zeros_like(x),
    "raw_ones_and_zeros": lambda x: x + tf.raw_ops.OnesLike(x=x) + tf.raw_ops.ZerosLike(x=x),
    "numpy": lambda x: x * POSITIONS + np.pi,
    "constant": lambda x: x * tf.constant(POSITIONS),
    "range": lambda x: x * tf.range(LENGTH, dtype=tf.float32)[:, None],
    "linspace": lambda x: x * tf.linspace(0.0, 1.0, LENGTH)[None, :, None],
    "length": lambda x: x / tf.cast(tf.shape(x)[1] + tf.raw_ops.Rank(input=x), tf.float32),
    "broadcast_to_batch": lambda x: x + tf.broadcast_to(POSITIONS, [n_of(x), LENGTH, CHANNELS]),
    "tiled_to_batch": lambda x: x + tf.tile(POSITIONS[None], [n_of(x), 1, 1]),
    "filled": lambda x: x + tf.fill(tf.shape(x), 2.0) + tf.zeros(tf.shape(x)),
    "dropout_of_nothing": lambda x: tf.nn.dropout(x, rate=0.0),
    "K_relu": lambda x: K.relu(x, alpha=0.1, max_value=2.0),
    "K_hard_sigmoid": K.hard_sigmoid,
    "K_clip": lambda x: K.exp(K.clip(x, -2, 2)),
}

ALONG_CHANNELS = {
    "softmax": tf.nn.softmax,
    "softmax_of_another_axis": lambda x: tf.nn.softmax(x, axis=1),
    "log_softmax": tf.nn.log_softmax,
    "l2_normalize": lambda x: tf.nn.l2_normalize(x, -1),
    "bias_add": lambda x: tf.nn.bias_add(x, BIAS),
    "bias_add_1": lambda x: tf.raw_ops.BiasAddV1(value=x, bias=BIAS),
    "batch_normalization": lambda x: tf.nn.batch_normalization(x, BIAS, POSITIVE, BIAS, POSITIVE, 1e-3),
    "fused_batch_norm": lambda x: tf.compat.v1.nn.fused_batch_norm(
        x[:, None], POSITIVE, BIAS, BIAS, POSITIVE, is_training=False
    )[0][:, 0],
    "moments": lambda x: (
        (x - tf.nn.moments(x, -1, keepdims=True)[0]) * tf.math.rsqrt(tf.nn.moments(x, -1, keepdims=True)[1] + 1e-3)
    ),
    **{
        f"reduce_{name}": (lambda f: lambda x: x - f(x, axis=-1, keepdims=True))(getattr(tf.math, f"reduce_{name}"))
        for name in "mean sum max min prod logsumexp std variance euclidean_norm".split()
    },
    **{
        f"pooled_{name}": (lambda f: lambda x: f(x, axis=1))(getattr(tf.math, f"reduce_{name}"))
        for name in "mean sum max min logsumexp".split()
    },
    "any_and_all": lambda x: (
        x + tf.cast(tf.reduce_any(x > 1, -1, True), tf.float32) + tf.cast(tf.reduce_all(x > -1, -1, True), tf.float32)
    ),
    "cumsum": lambda x: tf.cumsum(x, axis=-1),
    "cumsum_exclusive_reverse": lambda x: tf.cumsum(x, axis=2, exclusive=True, reverse=True),
    "cumprod": lambda x: tf.math.cumprod(tf.tanh(x), axis=-1, exclusive=True),
    "one_hot_of_argmax": lambda x: tf.one_hot(tf.argmax(x, -1), CHANNELS) + tf.one_hot(tf.argmin(x, -1), CHANNELS),
    "top_k": lambda x: tf.math.top_k(x, 3).values,
    "sort": lambda x: tf.sort(x, axis=-1),
    "norm": lambda x: x / (1 + tf.norm(x, axis=-1, keepdims=True)),
    "K_mean": lambda x: x - K.mean(x, axis=-1, keepdims=True),
    "K_std": lambda x: x / (1 + K.std(x, axis=-1, keepdims=True)),
    "K_l2_normalize": lambda x: K.l2_normalize(x, -1),
}

SHAPES = {
    "concat": lambda x: tf.concat([x, x * 2], -1),
    "concat_padding": lambda x: tf.concat([tf.zeros([n_of(x), 3, CHANNELS]), x, tf.ones([n_of(x), 2, CHANNELS])], 1),
    "concat_positions": lambda x: tf.concat([tf.repeat(POSITIONS[None, :, :2], n_of(x), 0), x], -1),
    "concat_positions_made_here": lambda x: tf.concat([x, tf.cumsum(tf.ones_like(x[..., :1]), 1), x[..., :2]], -1),
    "concat_different_numbers": lambda x: tf.concat([tf.zeros_like(x[:, :3]), x, tf.ones_like(x[:, :2]), -x], 1),
    "concat_nothing": lambda x: tf.concat([tf.ones_like(x[:, 0:0]), x, tf.ones_like(x[:, 0:0])], 1),
    "stack_with_a_constant": lambda x: tf.stack([tf.ones_like(x), x, POSITIONS * tf.ones_like(x)], 2),
    "mean_of_members": lambda x: tf.reduce_mean([x, tf.tanh(x), -2.0 * x], axis=0),
    "largest_of_strands": lambda x: tf.reduce_max(tf.stack([x, x[:, ::-1, ::-1]], axis=0), axis=0),
    "gather_windows": lambda x: tf.gather(x, np.arange(16)[:, None] + np.arange(5), axis=1),
    "items_in_a_row": lambda x: tf.stack(tf.unstack(x, axis=1)[2:5], 1),
    "items_elsewhere": lambda x: tf.stack(tf.unstack(x, axis=-1)[2:5], 1),
    "stack": lambda x: tf.reduce_sum(tf.stack([x, x * 2], 2), 2),
    "unstack": lambda x: tf.stack(tf.unstack(x, axis=-1)[::-1], -1),
    "split": lambda x: tf.multiply(*tf.split(x, 2, axis=-1)),
    "split_unevenly": lambda x: tf.split(x, [2, -1], axis=-1)[1],
    "reshape": lambda x: tf.reshape(x, [-1, 10, 12]),
    "reshape_by_shape": lambda x: tf.reshape(x, [n_of(x), 10, 2, CHANNELS]),
    "reshape_by_size": lambda x: tf.reshape(x, [n_of(x), tf.size(x) // n_of(x)]),
    "reshape_rest": lambda x: tf.reshape(x, [n_of(x), -1]),
    "rows_apart": lambda x: tf.reshape(tf.nn.relu(tf.reshape(x, [-1, CHANNELS]) + BIAS), [-1, LENGTH, CHANNELS]),
    "softmax_of_rows": lambda x: tf.reshape(
        tf.nn.softmax(tf.nn.bias_add(tf.reshape(x, [-1, CHANNELS]), BIAS)), tf.shape(x)
    ),
    "transpose": lambda x: tf.transpose(x, [0, 2, 1]),
    "expand_and_squeeze": lambda x: tf.squeeze(tf.expand_dims(x, 1), 1),
    "reverse": lambda x: tf.reverse(x, [1, 2]),
    "tile": lambda x: tf.tile(x, [1, 1, 2]),
    "repeat": lambda x: tf.repeat(x, 2, axis=1),
    "resize": lambda x: tf.image.resize(x[:, None], (1, 2 * LENGTH), method="nearest")[:, 0],
    "K_repeat_elements": lambda x: K.repeat_elements(x, 2, 1),
    "broadcast": lambda x: x + tf.broadcast_to(x[:, :1], tf.shape(x)),
    "pad": lambda x: tf.pad(x, [[0, 0], [2, 3], [0, 0]]),
    "pad_with": lambda x: tf.pad(x, [[0, 0], [2, 3], [0, 0]], constant_values=1.5),
    "pad_reflect": lambda x: tf.pad(x, [[0, 0], [2, 3], [0, 0]], "REFLECT"),
    "gather": lambda x: tf.gather(x, [3, 1, 5], axis=-1),
    "gather_backwards": lambda x: tf.gather(x, [3, 2, 1, 0], axis=1),
    "gather_one": lambda x: tf.gather(x, 2, axis=1),
    "roll": lambda x: tf.roll(x, [1, 2], axis=[1, 2]),
    "slice": lambda x: tf.slice(x, [0, 2, 0], [-1, 5, CHANNELS]),
    "strided_slice": lambda x: tf.strided_slice(x, [0, 1, 0], [n_of(x), 15, CHANNELS], [1, 2, 1]),
    "getitem": lambda x: x[..., 1:3][:, ::-1],
    "getitem_new_axis": lambda x: x[:, 2:-2, None, :],
    "getitem_position": lambda x: x[:, LENGTH // 2],
    "K_permute_dimensions": lambda x: K.permute_dimensions(x, (0, 2, 1)),
    "looked_up": lambda x: tf.gather(POSITIONS, tf.argmax(x, -1)),
    "embedding_lookup": lambda x: tf.nn.embedding_lookup(MATRIX, tf.argmax(x, -1)),
}

PRODUCTS = {
    "matmul": lambda x: tf.matmul(x, MATRIX),
    "matmul_operator": lambda x: x @ MATRIX,
    "matmul_transposed": lambda x: tf.matmul(x, KERNEL[0], transpose_b=True),
    "matmul_old": lambda x: tf.raw_ops.BatchMatMul(
        x=tf.raw_ops.BatchMatMulV3(x=x, y=KERNEL[0][None], Tout=tf.float32), y=x, adj_y=True
    ),
    "matmul_flat": lambda x: tf.matmul(tf.reduce_mean(x, 1), MATRIX),
    "band": lambda x: tf.linalg.matmul(tf.linalg.band_part(tf.ones((LENGTH, LENGTH)), 1, 1), x),
    "einsum": lambda x: tf.einsum("blc,cd->bld", x, MATRIX),
    "tensordot": lambda x: tf.tensordot(x, MATRIX, 1),
    "dense_by_hand": lambda x: tf.nn.relu(tf.tensordot(x, MATRIX, [[2], [0]]) + tf.ones(7)),
    "K_dot": lambda x: K.dot(x, MATRIX),
    "conv1d": lambda x: tf.nn.conv1d(x, KERNEL, 1, "SAME"),
    "conv1d_dilated": lambda x: tf.nn.conv1d(x, KERNEL, 1, "VALID", dilations=2),
    "conv1d_strided": lambda x: tf.nn.conv1d(x, KERNEL, 2, "SAME"),
    "convolution": lambda x: tf.nn.convolution(x, KERNEL, padding="SAME", dilations=3),
    "conv2d": lambda x: tf.squeeze(tf.nn.conv2d(x[:, :, None], KERNEL[:, None], 1, "SAME"), 2),
    "conv2d_padded": lambda x: tf.nn.conv2d(x[:, None], KERNEL[None], 1, [[0, 0], [0, 0], [4, 0], [0, 0]])[:, 0],
    "conv3d": lambda x: tf.nn.conv3d(x[:, None, None], KERNEL[None, None], [1] * 5, "SAME")[:, 0, 0],
    "depthwise": lambda x: tf.nn.depthwise_conv2d(x[:, None], KERNEL[None, :, :, :2], [1] * 4, "SAME")[:, 0],
    "depthwise_dilated": lambda x: tf.nn.depthwise_conv2d(
        x[:, None], KERNEL[None, :, :, :2], [1] * 4, "SAME", dilations=[1, 2]
    )[:, 0],
    "separable": lambda x: tf.nn.separable_conv2d(
        x[:, None], KERNEL[None, :, :, :1], MATRIX[None, None], [1] * 4, "SAME"
    )[:, 0],
    "conv1d_transpose": lambda x: tf.nn.conv1d_transpose(x, KERNEL, [n_of(x), 2 * LENGTH, CHANNELS], 2, "SAME"),
    "max_pool1d": lambda x: tf.nn.max_pool1d(x, 2, 2, "VALID"),
    "max_pool": lambda x: tf.nn.max_pool(x, 3, 1, "SAME"),
    "max_pool3d": lambda x: tf.nn.max_pool3d(x[:, None, None], [1, 1, 3], [1, 1, 2], "SAME")[:, 0, 0],
    "avg_pool1d": lambda x: tf.nn.avg_pool1d(x, 3, 2, "SAME"),
    "avg_pool3d": lambda x: tf.nn.avg_pool3d(x[:, None, None], [1, 1, 3], [1, 1, 2], "SAME")[:, 0, 0],
    "pool": lambda x: tf.nn.pool(x, [2], "AVG", strides=[2]),
    "K_conv1d_causal": lambda x: K.conv1d(x, KERNEL, padding="causal"),
}


@tf.function
def traced(x):
    """Python's own branch on a tensor becomes a branch of the graph."""
    return tf.nn.relu(x) if tf.constant(3) > 2 else x


def asserted(x):
    tf.debugging.assert_greater(tf.shape(x)[1], 3)
    return x * 2


CONTROL = {
    "cond": lambda x: tf.cond(tf.constant(True), lambda: x * 2, lambda: x),
    "case": lambda x: tf.switch_case(tf.constant(1), [lambda: x, lambda: x * 3]),
    "while_loop": lambda x: tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.nn.relu(y - 0.1)), [0, x])[1],
    "function": traced,
    "assertion": asserted,
}

FUNCTIONS = {**ONE_BY_ONE, **ALONG_CHANNELS, **SHAPES, **PRODUCTS, **CONTROL}


def numbers() -> np.ndarray:
    """Sequences of small, usual and large numbers."""
    return np.concatenate([drawn(2, LENGTH, CHANNELS) * scale for scale in MAGNITUDES])


def read(function) -> Any:
    x = keras.Input((LENGTH, CHANNELS))
    return keras.Model(x, as_keras_operations(function, [x]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_read(name):
    x = numbers()
    wanted, found = np.asarray(FUNCTIONS[name](tf.constant(x))), np.asarray(read(FUNCTIONS[name])(x))
    # of small numbers, log(1 + x) has the rounding of 1
    for rows in (slice(0, 4), slice(4, 6)):
        assert agree([wanted[rows]], [found[rows]], nan_is_nan=True)


def test_every_operation_is_met():
    met = set()
    spec = tf.TensorSpec((None, LENGTH, CHANNELS))
    for function in FUNCTIONS.values():
        graph = tf.function(function, autograph=False).get_concrete_function(spec).graph
        met |= {op.type for op in graph.get_operations()}
    assert set(OPERATIONS) - met - {"FusedBatchNorm", "FusedBatchNormV2", "BroadcastTo"} == set()


REFUSED = {
    "median_of_members": (lambda x: tf.sort(tf.stack([x, -x, 2.0 * x], 0), axis=0)[1], "sequences"),
    "stack_of_members": (lambda x: tf.stack([x, -x], 0), "one for each sequence"),
    "random": (lambda x: x + tf.random.normal(tf.shape(x)), "RandomStandardNormal"),
    "python": (lambda x: tf.ensure_shape(tf.py_function(lambda y: y, [x], tf.float32), x.shape), "EagerPyFunc"),
    "fourier": (lambda x: tf.math.real(tf.signal.fft(tf.cast(x, tf.complex64))), "FFT"),
    "mean_of_batch": (lambda x: x - tf.reduce_mean(x, 0), "axis of the sequences"),
    "first_sequence": (lambda x: x - x[:1], "some of the sequences"),
    "shuffled_batch": (lambda x: tf.reverse(x, [0]), "axis of the sequences"),
    "scaled_by_batch": (lambda x: x / tf.cast(n_of(x), tf.float32), "number of sequences"),
    "merged_batch": (lambda x: tf.reshape(x, [-1, CHANNELS]), "one for each sequence"),
    "number": (lambda x: tf.constant(1.0), "one for each sequence"),
    "assigned": (lambda x: x + COUNTER.assign_add(1.0), "changes weights"),
    "training_statistics": (
        lambda x: tf.compat.v1.nn.fused_batch_norm(x[:, None], POSITIVE, BIAS, is_training=True)[0][:, 0],
        "statistics of the batch",
    ),
    "resized": (lambda x: tf.image.resize(x[:, None], (1, 30), method="nearest")[:, 0], "ResizeNearestNeighbor"),
}
COUNTER = tf.Variable(0.0)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused(name):
    function, said = REFUSED[name]
    with pytest.raises(NotFollowedError, match=said):
        read(function)


def test_positions_that_keras_2_repeats_are_one_operation():
    """As UpSampling1D of Keras 2 does: all positions apart, and each of them several times side by side."""
    assert [type(x).__name__ for x in read(SHAPES["K_repeat_elements"]).operations[1:]] == ["Repeat"]


def test_items_in_a_row_are_a_slice():
    found = read(lambda x: tf.concat([tf.stack(tf.unstack(x, axis=-1)[a:b], -1) for a, b in ((3, 6), (0, 3))], -1))
    assert [type(x).__name__ for x in found.operations[1:]] == ["GetItem", "GetItem", "Concatenate"]


def test_layers_stay_layers():
    dense, conv = layers.Dense(5, activation="relu"), layers.Conv1D(3, 3)

    @tf.function
    def call(x):
        return tf.nn.relu(conv(ops.tanh(dense(x))) - 1.0)

    model, x = read(call), numbers()
    assert {dense, conv} <= set(model.layers)
    np.testing.assert_allclose(model(x), call(tf.constant(x)), atol=1e-4)


def test_keras_is_afterwards_as_before():
    before = layers.Layer.__call__
    read(tf.nn.relu)
    with pytest.raises(NotFollowedError):
        read(REFUSED["random"][0])
    assert layers.Layer.__call__ is before
