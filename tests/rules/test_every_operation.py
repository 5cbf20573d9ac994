"""Every operation that has a rule, after a convolution, against plain Keras in float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from fastism_cli import FastISM
from fastism_cli.engine.inspection import inspect_scorer
from fastism_cli.engine.simpler_operations import SIMPLER
from fastism_cli.model.keras_graph import layer_graph, operation_class
from fastism_cli.rules.table import OPERATIONS
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo.blocks import conv, dna
from tests.models.zoo.registry import randomise

LENGTH, CHANNELS = 24, 6


def constant(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(0, 0.6, shape).astype("float32")


def whole(x):
    """Whole numbers from 0 to 5, as channels have them."""
    return ops.argsort(x, axis=-1)


# Names of functions, then calls by name: of x, whose elements lie in (-0.9, 0.9), and of y, in (0.1, 1.9).
ELEMENTWISE = (
    "absolute abs fabs arccos arcsin arcsinh arctan arctanh ceil cos cosh deg2rad exp exp2 expm1 floor negative "
    "rad2deg round sign sin sinc sinh square tan tanh trunc erf erfc erfinv relu relu6 sigmoid softplus softsign "
    "sparse_sigmoid soft_shrink sparse_plus silu squareplus log_sigmoid leaky_relu hard_sigmoid hard_silu elu selu "
    "gelu celu tanh_shrink hard_tanh hard_shrink signbit isnan isinf isposinf isneginf isfinite isreal real i0 "
    "nan_to_num stop_gradient copy ones_like zeros_like"
)
OF_POSITIVE = "log log10 log1p log2 sqrt rsqrt reciprocal arccosh cbrt"
OF_TWO = (
    "add subtract multiply divide true_divide divide_no_nan maximum minimum fmax fmin arctan2 hypot logaddexp "
    "logaddexp2 mod fmod floor_divide heaviside nextafter isclose greater greater_equal less less_equal equal not_equal"
)
OF_WHOLE_NUMBERS = (
    "gcd lcm bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift left_shift right_shift"
)
OF_TRUTH_VALUES = "logical_and logical_or logical_xor"
OVER_CHANNELS = (
    "max amax min amin mean sum std var prod logsumexp norm all any argmax argmin median ptp nanmax nanmin nanmean "
    "nansum nanprod nanstd nanvar nanargmax nanargmin"
)
ALONG_CHANNELS = (
    "softmax log_softmax sparsemax normalize rms_normalization layer_normalization sort argsort cumsum cumprod "
    "nancumsum nancumprod diff"
)
CALLS = {
    "threshold": lambda x, y: ops.threshold(x, 0.2, -0.1),
    "glu": lambda x, y: ops.glu(x, axis=-1),
    "clip": lambda x, y: (ops.clip(x, -0.3, 0.4), ops.clip(x, -(constant(6) ** 2), 0.4)),
    "power": lambda x, y: (ops.power(y, x), ops.power(2.0, x), x**2),
    "ldexp": lambda x, y: ops.ldexp(x, whole(y)),
    "saturate_cast": lambda x, y: ops.saturate_cast(7 * x, "int32"),
    "cast": lambda x, y: ops.cast(9 * x, "int32") * 0.5,
    "bitwise_not": lambda x, y: ops.bitwise_not(whole(x)),
    "bitwise_invert": lambda x, y: ops.bitwise_invert(whole(x)),
    "logical_not": lambda x, y: ops.logical_not(x > 0),
    "digitize": lambda x, y: ops.digitize(x, np.array([-0.5, 0.0, 0.5], "float32")),
    "top_k": lambda x, y: ops.top_k(x, 3),
    "take_along_axis": lambda x, y: ops.take_along_axis(x, whole(y), axis=-1),
    "full_like": lambda x, y: x + ops.full_like(x, 0.7),
    "one_hot": lambda x, y: ops.one_hot(ops.argmax(x, axis=-1), CHANNELS),
    "take": lambda x, y: (ops.take(x, [2, 2, 0], axis=-1), ops.take(constant(6, 3), ops.argmax(x, axis=-1), axis=0)),
    "where": lambda x, y: ops.where(x > 0.1, y, constant(LENGTH, 1)),
    "select": lambda x, y: ops.select([x > 0.2, y > 1.0], [x, y], -1.0),
    "count_nonzero": lambda x, y: ops.count_nonzero(x > 0, axis=-1),
    "quantile": lambda x, y: ops.quantile(x, 0.4, axis=-1),
    "percentile": lambda x, y: ops.percentile(x, 30.0, axis=-1),
    "average": lambda x, y: ops.average(x, axis=-1, weights=constant(CHANNELS) ** 2),
    "trapezoid": lambda x, y: ops.trapezoid(x, axis=-1),
    "concatenate": lambda x, y: ops.concatenate([x, y], axis=-1),
    "append": lambda x, y: ops.append(x, y, axis=2),
    "hstack": lambda x, y: ops.hstack([x[:, :12], x[:, 12:]]),
    "dstack": lambda x, y: ops.dstack([x, y]),
    "stack": lambda x, y: ops.stack([x, y], axis=2),
    "unstack": lambda x, y: ops.unstack(x, axis=-1)[1:3],
    "split": lambda x, y: ops.split(x, [2, 3], axis=-1),
    "array_split": lambda x, y: ops.array_split(x, 4, axis=-1),
    "hsplit": lambda x, y: ops.hsplit(x, 2)[0],
    "einsum": lambda x, y: (ops.einsum("blc,lcd->bld", x, constant(LENGTH, 6, 2)), ops.einsum("...c,...c->...", x, y)),
    "matmul": lambda x, y: (ops.matmul(x, constant(6, 3)), ops.matmul(constant(LENGTH, LENGTH), x)),
    "dot": lambda x, y: ops.dot(x, constant(6, 3)),
    "inner": lambda x, y: ops.inner(x, constant(3, 6)),
    "tensordot": lambda x, y: ops.tensordot(x, constant(6, 2, 2), axes=1),
    "reshape": lambda x, y: ops.reshape(x, (-1, LENGTH, 2, 3)),
    "expand_dims": lambda x, y: ops.expand_dims(x, 2),
    "squeeze": lambda x, y: ops.squeeze(x[..., :1], -1),
    "transpose": lambda x, y: ops.transpose(x, (0, 2, 1)),
    "swapaxes": lambda x, y: ops.swapaxes(x, 1, 2),
    "moveaxis": lambda x, y: ops.moveaxis(x, 1, 2),
    "get_item": lambda x, y: x[:, 3:-2, ::2],
    "flip": lambda x, y: ops.flip(x, axis=1),
    "pad": lambda x, y: [ops.pad(x, ((0, 0), (3, 2), (1, 0)), mode=m) for m in ("constant", "reflect", "symmetric")],
    "repeat": lambda x, y: (ops.repeat(x, 2, axis=1), ops.repeat(x, 2, axis=2)),
    "tile": lambda x, y: (ops.tile(x, (1, 2, 1)), ops.tile(x, (2,))),
    "roll": lambda x, y: (ops.roll(x, 5, axis=1), ops.roll(x, (-1, 2), axis=(1, 2))),
    "moments": lambda x, y: (*ops.moments(x, axes=-1), *ops.moments(x, axes=1, keepdims=True)),
    "average_pool": lambda x, y: ops.average_pool(x, 3, 2, "same"),
    "max_pool": lambda x, y: ops.max_pool(x, 2),
    "conv": lambda x, y: ops.conv(x, constant(3, 6, 4), padding="same"),
    "depthwise_conv": lambda x, y: ops.depthwise_conv(x, constant(3, 6, 1), padding="same"),
    "separable_conv": lambda x, y: ops.separable_conv(x, constant(3, 6, 1), constant(1, 6, 2)),
    "batch_normalization": lambda x, y: ops.batch_normalization(x, constant(6), constant(6) ** 2 + 0.5, axis=-1),
}
OVER_POSITIONS = "max min mean sum std var prod logsumexp norm"
# No functional model can hold these: Keras cannot run what it traces. Layers that call them are in test_open_layers.py.
IN_LAYERS_ALONE = {"broadcastto", "convtranspose", "slice"}
OTHER_NAMES = {"abs"}
HEADS = 12  # functions in one model


def each(names: str, call) -> dict[str, object]:
    """``call(function)`` for those of these functions that this version of Keras has."""
    return {name: call(getattr(ops, name)) for name in names.split() if hasattr(ops, name)}


FUNCTIONS = (
    each(ELEMENTWISE, lambda f: lambda x, y: f(x))
    | each(OF_POSITIVE, lambda f: lambda x, y: f(1.05 + y))
    | each(OF_TWO, lambda f: lambda x, y: (f(x, y), f(x, constant(6)), f(constant(LENGTH, 1), y)))
    | each(OF_WHOLE_NUMBERS, lambda f: lambda x, y: (f(whole(x), whole(y)), f(whole(x), np.full(6, 3, "int32"))))
    | each(OF_TRUTH_VALUES, lambda f: lambda x, y: f(x > 0.1, y > 1.0))
    | each(OVER_CHANNELS, lambda f: lambda x, y: f(x, axis=-1))
    | each(ALONG_CHANNELS, lambda f: lambda x, y: f(x, axis=-1))
    | {name: call for name, call in CALLS.items() if hasattr(ops, name)}
    | {f"{name} of positions": f for name, f in each(OVER_POSITIONS, lambda f: lambda x, y: f(x, axis=1)).items()}
)
GROUPS = [list(FUNCTIONS)[i : i + HEADS] for i in range(0, len(FUNCTIONS), HEADS)]


def model_with(names: list[str]) -> keras.Model:
    """inp -> C -> tanh -> every function -> a head"""
    inp = dna(LENGTH)
    x, y = (0.9 * ops.tanh(conv(inp, CHANNELS, 5)), 1.0 + 0.9 * ops.tanh(conv(inp, CHANNELS, 3)))
    made = keras.tree.flatten([FUNCTIONS[name](x, y) for name in names])
    return randomise(keras.Model(inp, [ops.cast(head, "float32") * 1.0 for head in made]), seed=1)


@pytest.mark.one_in(48)
@pytest.mark.parametrize("names", GROUPS, ids=[f"{names[0]} to {names[-1]}" for names in GROUPS])
def test_engine_equals_plain_keras(names):
    model = model_with(names)
    opaque = {
        (node.class_name, node.reason)
        for node in inspect_scorer(FastISM(model, engine="fast", reduce="none")).nodes
        if node.state == "opaque" and node.reason != "the output is given whole"
    }
    assert not opaque
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors
    assert errors.largest > 1e-3


def test_bounds_by_position():
    inp = dna(LENGTH)
    x = ops.clip(conv(inp, 3, 3), -(constant(LENGTH, 1) ** 2), 0.4)
    model = randomise(keras.Model(inp, keras.layers.Dense(1)(keras.layers.Flatten()(x))), seed=1)
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


def test_every_rule_is_tried():
    tried = {type(node.layer).__name__.lower() for names in GROUPS for node in layer_graph(model_with(names)).nodes}
    known = {name for names in (*OPERATIONS, *SIMPLER) for name in names.split() if operation_class(name) is not None}
    assert known - IN_LAYERS_ALONE - OTHER_NAMES <= tried
