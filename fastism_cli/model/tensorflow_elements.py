"""Operations of TensorFlow that compute each element, or each row of channels, by itself.

TensorFlow's own description of its operations: https://www.tensorflow.org/api_docs/python/tf/raw_ops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from fastism_cli.model.tensorflow_values import (
    Made,
    NotFollowedError,
    Operation,
    Rows,
    constant_of,
    of_whole,
    one_by_one,
)


def _squared_difference(x: Any, y: Any) -> Any:
    return ops.square(ops.subtract(x, y))


def _zero_where_zero(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def computed(x: Any, y: Any) -> Any:
        return ops.where(ops.equal(x, 0), ops.multiply(x, 0), function(x, y))

    return computed


def _alpha(function: Callable[..., Any], **names: str) -> Operation:
    def computed(made: Made, op: Any, values: list[Any]) -> Any:
        options = {name: float(op.get_attr(attribute)) for name, attribute in names.items()}
        return one_by_one(lambda x: function(x, **options))(made, op, values)

    return computed


def _cast(made: Made, op: Any, values: list[Any]) -> Any:
    dtype = keras.backend.standardize_dtype(op.get_attr("DstT").name)
    return one_by_one(lambda x: x if x.dtype == dtype else ops.cast(x, dtype))(made, op, values)


def _bias_added(made: Made, op: Any, values: list[Any]) -> Any:
    x, bias = values
    if op.get_attr("data_format") == b"NCHW" and not isinstance(x, Rows):
        bias = constant_of(bias).reshape((-1, *(1,) * (len(x.shape) - 2)))
    return one_by_one(ops.add)(made, op, [x, bias])


def _last_axis(function: Callable[..., Any]) -> Operation:
    """An operation along the last axis."""

    def computed(made: Made, op: Any, values: list[Any]) -> Any:
        (x,) = values
        if isinstance(x, Rows):
            if x.axes == len(x.symbol.shape):
                raise NotFollowedError("it puts sequences side by side")
            return Rows(function(x.symbol, axis=-1), x.axes)
        return function(x, axis=-1)

    return computed


def _first(made: Made, op: Any, values: list[Any]) -> Any:
    return values[0]


def _same(made: Made, op: Any, values: list[Any]) -> Any:
    return list(values)


def _normalised(made: Made, op: Any, x: Any, scale: Any, offset: Any, mean: Any, variance: Any) -> Any:
    """Batch normalisation with constants, at inference."""
    if op.get_attr("is_training"):
        raise NotFollowedError("it normalises with the statistics of the batch")
    gamma, beta, centre, spread = (constant_of(v).astype("float64") for v in (scale, offset, mean, variance))
    factor = gamma / np.sqrt(spread + float(op.get_attr("epsilon")))
    shape = (-1,) if op.get_attr("data_format").endswith(b"C") else (-1, *(1,) * (len(x.shape) - 2))
    dtype = np.asarray(offset).dtype
    y = ops.multiply(x, factor.astype(dtype).reshape(shape))
    y = ops.add(y, (beta - centre * factor).astype(dtype).reshape(shape))
    return [y] * len(op.outputs)


ONE_BY_ONE: dict[str, Callable[..., Any]] = {
    "Abs": ops.abs,
    "Acos": ops.arccos,
    "Acosh": ops.arccosh,
    "Add": ops.add,
    "AddN": lambda *xs: sum(xs[1:], xs[0]),
    "AddV2": ops.add,
    "Asin": ops.arcsin,
    "Asinh": ops.arcsinh,
    "Atan": ops.arctan,
    "Atan2": ops.arctan2,
    "Atanh": ops.arctanh,
    "Ceil": ops.ceil,
    "ClipByValue": lambda x, low, high: ops.minimum(ops.maximum(x, low), high),
    "Cos": ops.cos,
    "Cosh": ops.cosh,
    "Div": ops.divide,
    "DivNoNan": ops.divide_no_nan,
    "Elu": ops.elu,
    "Equal": ops.equal,
    "Erf": ops.erf,
    "Erfc": lambda x: ops.subtract(1, ops.erf(x)),
    "Erfinv": ops.erfinv,
    "Exp": ops.exp,
    "Expm1": ops.expm1,
    "Floor": ops.floor,
    "FloorDiv": ops.floor_divide,
    "FloorMod": ops.mod,
    "Greater": ops.greater,
    "GreaterEqual": ops.greater_equal,
    "Inv": ops.reciprocal,
    "IsFinite": ops.isfinite,
    "IsInf": ops.isinf,
    "IsNan": ops.isnan,
    "Less": ops.less,
    "LessEqual": ops.less_equal,
    "Log": ops.log,
    "Log1p": ops.log1p,
    "LogicalAnd": ops.logical_and,
    "LogicalNot": ops.logical_not,
    "LogicalOr": ops.logical_or,
    "Maximum": ops.maximum,
    "Minimum": ops.minimum,
    "Mul": ops.multiply,
    "MulNoNan": lambda x, y: ops.where(ops.equal(y, 0), 0, ops.multiply(x, y)),
    "Neg": ops.negative,
    "NotEqual": ops.not_equal,
    "Pow": ops.power,
    "RealDiv": ops.divide,
    "Reciprocal": ops.reciprocal,
    "Relu": ops.relu,
    "Relu6": ops.relu6,
    "Rint": ops.round,
    "Round": ops.round,
    "Rsqrt": ops.rsqrt,
    "Select": ops.where,
    "SelectV2": ops.where,
    "Selu": ops.selu,
    "Sigmoid": ops.sigmoid,
    "Sign": ops.sign,
    "Sin": ops.sin,
    "Sinh": ops.sinh,
    "Softplus": ops.softplus,
    "Softsign": ops.softsign,
    "Sqrt": ops.sqrt,
    "Square": ops.square,
    "SquaredDifference": _squared_difference,
    "Sub": ops.subtract,
    "Tan": ops.tan,
    "Tanh": ops.tanh,
    "Xdivy": _zero_where_zero(ops.divide),
    "Xlog1py": _zero_where_zero(lambda x, y: ops.multiply(x, ops.log1p(y))),
    "Xlogy": _zero_where_zero(lambda x, y: ops.multiply(x, ops.log(y))),
}

# By the name that TensorFlow has for them.
ELEMENTS: dict[str, Operation] = {
    **{name: one_by_one(function) for name, function in ONE_BY_ONE.items()},
    **dict.fromkeys(
        ("Identity", "StopGradient", "PreventGradient", "Snapshot", "CheckNumerics", "EnsureShape"), _first
    ),
    "IdentityN": _same,
    "LeakyRelu": _alpha(ops.leaky_relu, negative_slope="alpha"),
    "Cast": _cast,
    "BiasAdd": _bias_added,
    "BiasAddV1": lambda made, op, values: one_by_one(ops.add)(made, op, values),
    "Softmax": _last_axis(ops.softmax),
    "LogSoftmax": _last_axis(ops.log_softmax),
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), of_whole(_normalised)),
}
