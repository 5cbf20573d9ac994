"""Layers and functions of Keras 2 that Keras 3 lacks, written for Keras 3: same configuration, weights, arguments."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import keras
from keras import ops


class ThresholdedReLU(keras.layers.Layer):
    """``x`` where it is larger than ``theta``, else 0."""

    def __init__(self, theta: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.theta = float(theta)

    def call(self, x: Any) -> Any:
        return ops.where(x > ops.cast(self.theta, x.dtype), x, ops.zeros_like(x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "theta": self.theta}


class LocallyConnected1D(keras.layers.Layer):
    """A convolution with another kernel at every position: weights (n_out, kernel_size * C_in, filters).

    Only the default, implementation 1 with 'valid' padding; Keras 2 lays the weights of the others out differently.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        activation: Any = None,
        use_bias: bool = True,
        implementation: int = 1,
        **kwargs: Any,
    ) -> None:
        unused = ("kernel", "bias", "activity")
        super().__init__(**{key: value for key, value in kwargs.items() if not key.startswith(unused)})
        if implementation != 1 or padding != "valid" or data_format not in (None, "channels_last"):
            raise ValueError("LocallyConnected1D: only implementation 1, valid, channels_last")
        self.filters = filters
        self.kernel_size, self.strides = _first(kernel_size), _first(strides)
        self.activation, self.use_bias = keras.activations.get(activation), use_bias

    def build(self, input_shape: Any) -> None:
        n_out = (input_shape[1] - self.kernel_size) // self.strides + 1
        shape = (n_out, self.kernel_size * input_shape[2], self.filters)
        self.kernel = self.add_weight(shape=shape, name="kernel")
        if self.use_bias:
            self.bias = self.add_weight(shape=(n_out, self.filters), name="bias")

    def call(self, x: Any) -> Any:
        stop = (self.kernel.shape[0] - 1) * self.strides + 1
        rows = [x[:, i : i + stop : self.strides] for i in range(self.kernel_size)]
        y = ops.einsum("blk,lkf->blf", ops.concatenate(rows, axis=-1), self.kernel)
        return self.activation(y + self.bias if self.use_bias else y)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        return (input_shape[0], (input_shape[1] - self.kernel_size) // self.strides + 1, self.filters)

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("filters", "kernel_size", "strides", "use_bias")}
        return {**super().get_config(), **own, "activation": keras.activations.serialize(self.activation)}


def _first(size: Any) -> int:
    return int(size[0] if isinstance(size, (list, tuple)) else size)


LEGACY_LAYERS: dict[str, type] = {cls.__name__: cls for cls in (ThresholdedReLU, LocallyConnected1D)}


# --- TensorFlow functions of TFOpLambda layers; parameters have their names in TensorFlow -----------------------------


def find_operation(symbol: str) -> Callable[..., Any] | None:
    """The equal of a function, by the name that a TFOpLambda stores, such as ``math.reduce_mean``; None if unknown."""
    if symbol == "__operators__.getitem":
        return get_item
    name = symbol.rpartition(".")[2]
    return UNARY.get(name) or BINARY.get(name) or OTHERS.get(name)


def _unary(function: Callable[[Any], Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        (x,) = (*args, *kwargs.values())  # its name is x, features or input
        return function(x)

    return call


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda x, y: function(x, y)


def _over_axes(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda input_tensor, axis=None, keepdims=False: function(input_tensor, axis=axis, keepdims=keepdims)


def get_item(x: Any, slice_spec: Any) -> Any:
    """``x[slice_spec]``, where a file holds each slice as ``{"start", "stop", "step"}``."""
    spec = slice_spec if isinstance(slice_spec, (list, tuple)) else [slice_spec]
    return x[tuple(slice(s["start"], s["stop"], s["step"]) if isinstance(s, dict) else s for s in spec)]


def matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    a = ops.swapaxes(a, -1, -2) if transpose_a else a
    return ops.matmul(a, ops.swapaxes(b, -1, -2) if transpose_b else b)


def transpose(a: Any, perm: Any = None, conjugate: bool = False) -> Any:
    if conjugate:
        raise TypeError("conjugate transposition")
    return ops.transpose(a, perm)


def clip(t: Any, clip_value_min: Any, clip_value_max: Any) -> Any:
    return ops.clip(t, clip_value_min, clip_value_max)


def pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0) -> Any:
    if mode != "CONSTANT":
        raise TypeError(f"padding by {mode}")
    return ops.pad(tensor, [tuple(int(n) for n in pair) for pair in paddings], constant_values=constant_values)


def split(value: Any, num_or_size_splits: Any, axis: int = 0, num: int | None = None) -> Any:
    if isinstance(num_or_size_splits, int):
        return ops.split(value, num_or_size_splits, axis=axis)
    return ops.split(value, list(accumulate(int(n) for n in num_or_size_splits))[:-1], axis=axis)


def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12) -> Any:
    return x / ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=axis, keepdims=True), epsilon))


def silu(features: Any, beta: float = 1.0) -> Any:
    return ops.silu(features) if beta == 1 else features * ops.sigmoid(beta * features)


def norm(tensor: Any, ord: Any = "euclidean", axis: Any = None, keepdims: bool = False) -> Any:
    return ops.norm(tensor, ord=None if ord == "euclidean" else ord, axis=axis, keepdims=keepdims)


def _pool(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(input: Any, ksize: Any, strides: Any, padding: str, data_format: str = "NWC") -> Any:
        if data_format != "NWC":
            raise TypeError(f"pooling of {data_format}")
        return function(input, ksize, strides=strides, padding=padding.lower())

    return call


UNARY: dict[str, Callable[..., Any]] = {
    name: _unary(function)
    for name, function in {
        "abs": ops.abs,
        "ceil": ops.ceil,
        "cos": ops.cos,
        "elu": ops.elu,
        "erf": ops.erf,
        "exp": ops.exp,
        "expm1": ops.expm1,
        "floor": ops.floor,
        "identity": lambda x: x,
        "log": ops.log,
        "log1p": ops.log1p,
        "log_sigmoid": ops.log_sigmoid,
        "neg": ops.negative,
        "negative": ops.negative,
        "relu": ops.relu,
        "relu6": ops.relu6,
        "reciprocal": ops.reciprocal,
        "round": ops.round,
        "rsqrt": ops.rsqrt,
        "selu": ops.selu,
        "sigmoid": ops.sigmoid,
        "sign": ops.sign,
        "sin": ops.sin,
        "softplus": ops.softplus,
        "softsign": ops.softsign,
        "sqrt": ops.sqrt,
        "square": ops.square,
        "stop_gradient": ops.stop_gradient,
        "tanh": ops.tanh,
    }.items()
}

BINARY: dict[str, Callable[..., Any]] = {
    name: _binary(function)
    for name, function in {
        "add": ops.add,
        "divide": ops.divide,
        "bias_add": ops.add,
        "floordiv": ops.floor_divide,
        "greater": ops.greater,
        "less": ops.less,
        "maximum": ops.maximum,
        "minimum": ops.minimum,
        "multiply": ops.multiply,
        "pow": ops.power,
        "radd": lambda x, y: ops.add(y, x),
        "rdiv": lambda x, y: ops.divide(y, x),
        "realdiv": ops.divide,
        "rmul": lambda x, y: ops.multiply(y, x),
        "rsub": lambda x, y: ops.subtract(y, x),
        "rtruediv": lambda x, y: ops.divide(y, x),
        "squared_difference": lambda x, y: ops.square(ops.subtract(x, y)),
        "sub": ops.subtract,
        "subtract": ops.subtract,
        "truediv": ops.divide,
    }.items()
}
BINARY |= {"mul": BINARY["multiply"], "div": BINARY["divide"], "gt": BINARY["greater"], "lt": BINARY["less"]}

OTHERS: dict[str, Callable[..., Any]] = {
    "avg_pool1d": _pool(ops.average_pool),
    "cast": lambda x, dtype: ops.cast(x, getattr(dtype, "name", dtype)),
    "clip_by_value": clip,
    "concat": lambda values, axis: ops.concatenate(values, axis=axis),
    "expand_dims": lambda input, axis: ops.expand_dims(input, axis),
    "gelu": lambda features, approximate=False: ops.gelu(features, approximate=approximate),
    "l2_normalize": l2_normalize,
    "leaky_relu": lambda features, alpha=0.2: ops.leaky_relu(features, negative_slope=alpha),
    "log_softmax": lambda logits, axis=-1: ops.log_softmax(logits, axis=-1 if axis is None else axis),
    "matmul": matmul,
    "max_pool1d": _pool(ops.max_pool),
    "norm": norm,
    "pad": pad,
    "reduce_logsumexp": _over_axes(ops.logsumexp),
    "reduce_max": _over_axes(ops.max),
    "reduce_mean": _over_axes(ops.mean),
    "reduce_min": _over_axes(ops.min),
    "reduce_prod": _over_axes(ops.prod),
    "reduce_std": _over_axes(ops.std),
    "reduce_sum": _over_axes(ops.sum),
    "reduce_variance": _over_axes(ops.var),
    "repeat": lambda input, repeats, axis=None: ops.repeat(input, repeats, axis=axis),
    "reshape": lambda tensor, shape: ops.reshape(tensor, tuple(shape)),
    "reverse": lambda tensor, axis: ops.flip(tensor, axis=tuple(axis)),
    "roll": lambda input, shift, axis: ops.roll(input, shift, axis=axis),
    "silu": silu,
    "softmax": lambda logits, axis=-1: ops.softmax(logits, axis=-1 if axis is None else axis),
    "split": split,
    "squeeze": lambda input, axis=None: ops.squeeze(input, axis=axis),
    "stack": lambda values, axis=0: ops.stack(values, axis=axis),
    "tile": lambda input, multiples: ops.tile(input, tuple(multiples)),
    "transpose": transpose,
    "unstack": lambda value, num=None, axis=0: ops.unstack(value, num, axis=axis),
    "where": lambda condition, x, y: ops.where(condition, x, y),
}
