"""Operations of TensorFlow on elements, products of matrices, and those that slide a window: convolutions and pools.

TensorFlow's own description of its operations: https://www.tensorflow.org/api_docs/python/tf/raw_ops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from fastism_cli.model.tensorflow_axes import cut
from fastism_cli.model.tensorflow_values import (
    NOT_WIDENED,
    Apart,
    Made,
    NotFollowedError,
    Operation,
    Rows,
    constant_of,
    integers_of,
    is_symbol,
    is_symbolic,
    of_whole,
    one_by_one,
    operand_of,
    refused,
    sizes_of,
    with_axis,
)


def _product(made: Made, op: Any, values: list[Any]) -> Any:
    flags = ("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y")
    turned = [bool(op.get_attr(name)) for name in flags]
    x, y = values
    if isinstance(x, Rows):
        if turned[0] or is_symbolic(y) or len(x.symbol.shape) != x.axes + 1:
            raise NotFollowedError("it puts sequences side by side")
        return Rows(ops.matmul(x.symbol, _turned(constant_of(y), turned[1])), x.axes)
    if isinstance(y, Rows) or isinstance(x, Apart) or isinstance(y, Apart):
        raise NotFollowedError("it puts sequences side by side")
    if op.type == "MatMul" and (turned[0] or is_symbol(y)):
        raise NotFollowedError("it sums products over the sequences")
    return ops.matmul(*(_turned(operand_of(z), swap) for z, swap in zip((x, y), turned, strict=True)))


def _turned(x: Any, swap: bool) -> Any:
    if not swap:
        return x
    return ops.swapaxes(x, -1, -2) if is_symbol(x) else np.swapaxes(x, -1, -2)


def _einsum(made: Made, op: Any, *values: Any) -> Any:
    return ops.einsum(op.get_attr("equation").decode(), *map(operand_of, values))


class _Slide(NamedTuple):
    """How an operation slides along the axes of its input: one entry for each of them."""

    padding: str
    data_format: str
    settings: dict[str, tuple[int, ...]]


def _slide(op: Any, *names: str) -> _Slide:
    data_format = op.get_attr("data_format").decode()
    last = data_format.endswith("C")
    settings = {}
    for name in names:
        sizes = op.get_attr(name)
        settings[name] = tuple(sizes[1:-1] if last else sizes[2:])
    padding = op.get_attr("padding").decode().lower()
    return _Slide(padding, "channels_last" if last else "channels_first", settings)


def _explicitly_padded(op: Any, x: Any) -> Any:
    flat = op.get_attr("explicit_paddings")
    sides = [(int(a), int(b)) for a, b in zip(flat[::2], flat[1::2], strict=True)]
    return ops.pad(x, sides)


def _along_one_axis(made: Made, x: Any, slide: _Slide, kernel: Any) -> int | None:
    """The axis of length 1 that was added before a window slides over the other; None if there is none."""
    _, before, axis = made.widened.get(id(x), NOT_WIDENED)
    if before is None or len(x.shape) != 4 or slide.data_format != "channels_last" or axis not in (1, 2):
        return None
    sizes = [settings[axis - 1] for name, settings in slide.settings.items() if name == "ksize"]
    sizes += [kernel.shape[axis - 1]] if kernel is not None else []
    return axis if set(sizes) <= {1} else None


def _windows(function: Callable[..., Any], *names: str) -> Operation:
    """A convolution (with a kernel) or a pooling: ``function(x, kernel or None, slide)``."""

    def computed(made: Made, op: Any, values: list[Any]) -> Any:
        given = values[0]
        if isinstance(given, Rows) or any(map(is_symbolic, values[1:])):
            raise NotFollowedError("it uses a kernel that depends on the input")
        slide = _slide(op, *names)
        kernel = constant_of(values[1]) if len(values) > 1 else None
        x, rates = (given.symbol, given.rates) if isinstance(given, Apart) else (given, None)
        if rates is not None:
            if slide.padding != "valid" or "ksize" in names or set(slide.settings["strides"]) != {1}:
                raise NotFollowedError("it puts sequences side by side")
            slide.settings["dilations"] = (*rates, *(1,) * (len(x.shape) - 2 - len(rates)))
        axis = _along_one_axis(made, x, slide, kernel)
        if slide.padding == "explicit":
            x, axis, slide = _explicitly_padded(op, x), None, slide._replace(padding="valid")
        if axis is None:
            y = function(x, kernel, slide)
        else:
            other: dict[str, tuple[int, ...]] = {name: (s[2 - axis],) for name, s in slide.settings.items()}
            one = None if kernel is None else np.squeeze(kernel, axis - 1)
            y = with_axis(made, function(made.widened[id(x)][1], one, slide._replace(settings=other)), axis)
        return y if rates is None else Apart(y, rates)

    return computed


def _convolved(x: Any, kernel: Any, slide: _Slide) -> Any:
    given = {"padding": slide.padding, "data_format": slide.data_format}
    return ops.conv(x, kernel, slide.settings["strides"], dilation_rate=slide.settings["dilations"], **given)


def _convolved_by_channel(x: Any, kernel: Any, slide: _Slide) -> Any:
    given = {"padding": slide.padding, "data_format": slide.data_format}
    return ops.depthwise_conv(x, kernel, slide.settings["strides"], dilation_rate=slide.settings["dilations"], **given)


def _pooled(function: Callable[..., Any]) -> Callable[..., Any]:
    def computed(x: Any, _: Any, slide: _Slide) -> Any:
        return function(
            x, slide.settings["ksize"], slide.settings["strides"], slide.padding, data_format=slide.data_format
        )

    return computed


def _convolved_back(made: Made, op: Any, sizes: Any, kernel: Any, x: Any) -> Any:
    wanted, slide = sizes_of(sizes), _slide(op, "strides", "dilations")
    if slide.padding == "explicit":
        return refused(op)
    weights = constant_of(kernel)
    axis = _along_one_axis(made, x, slide, weights)
    if axis is None:
        y = _transposed_convolution(x, weights, slide)
    else:
        other: dict[str, tuple[int, ...]] = {name: (s[2 - axis],) for name, s in slide.settings.items()}
        one = np.squeeze(weights, axis - 1)
        y = with_axis(made, _transposed_convolution(made.widened[id(x)][1], one, slide._replace(settings=other)), axis)
    if list(y.shape[1:]) != wanted[1:]:
        raise NotFollowedError("it uses a transposed convolution with output_shape")
    return y


def _transposed_convolution(x: Any, kernel: np.ndarray, slide: _Slide) -> Any:
    """By a layer: the operation of ``keras.ops`` takes its padding for its output_padding when it is run (3.15)."""
    layer = getattr(keras.layers, f"Conv{kernel.ndim - 2}DTranspose")(
        kernel.shape[-2],
        kernel.shape[:-2],
        slide.settings["strides"],
        slide.padding,
        data_format=slide.data_format,
        dilation_rate=slide.settings["dilations"],
        use_bias=False,
        dtype=x.dtype,
    )
    y = layer(x)
    layer.kernel.assign(kernel)
    return y


def _dealt_out(made: Made, op: Any, x: Any, block: Any, widths: Any) -> Any:
    sides = [(0, 0), *((int(a), int(b)) for a, b in constant_of(widths))]
    sides += [(0, 0)] * (len(x.shape) - len(sides))
    _, before, axis = made.widened.get(id(x), NOT_WIDENED)
    if any(side != (0, 0) for side in sides):
        if before is not None and sides[axis] == (0, 0):
            x = with_axis(made, ops.pad(before, [*sides[:axis], *sides[axis + 1 :]]), axis)
        else:
            x = ops.pad(x, sides)
    return Apart(x, tuple(integers_of(block)))


def _dealt_back(made: Made, op: Any, values: list[Any]) -> Any:
    given, block, crops = values
    if not isinstance(given, Apart) or given.rates != tuple(integers_of(block)):
        return refused(op)
    x = given.symbol
    keys = [slice(None)]
    for (left, right), n in zip(constant_of(crops).tolist(), x.shape[1:], strict=False):
        keys.append(slice(int(left), n - int(right)) if left or right else slice(None))
    _, before, axis = made.widened.get(id(x), NOT_WIDENED)
    if before is not None and (len(keys) <= axis or keys[axis] == slice(None)):
        return with_axis(made, cut(made, before, [k for i, k in enumerate(keys) if i != axis]), axis)
    return cut(made, x, keys)


# By the name that TensorFlow has for them.
WINDOWS: dict[str, Operation] = {
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _product),
    "Einsum": of_whole(_einsum),
    "Conv2D": _windows(_convolved, "strides", "dilations"),
    "Conv3D": _windows(_convolved, "strides", "dilations"),
    "DepthwiseConv2dNative": _windows(_convolved_by_channel, "strides", "dilations"),
    "Conv2DBackpropInput": of_whole(_convolved_back),
    **{name: _windows(_pooled(ops.max_pool), "ksize", "strides") for name in ("MaxPool", "MaxPool3D")},
    **{name: _windows(_pooled(ops.average_pool), "ksize", "strides") for name in ("AvgPool", "AvgPool3D")},
    "SpaceToBatchND": of_whole(_dealt_out),
    "BatchToSpaceND": _dealt_back,
}


# --- each element, or each row of channels, by itself ----------------------------------------------------------------


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
