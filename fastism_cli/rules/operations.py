"""``keras.ops`` and operators on symbolic tensors: the nodes of a model that are no layers.

They are named here as Keras names their classes, in lower case. Their other arguments are numbers and arrays, which
hold for the whole tensor: an array that differs by position is cut out for each window where the rule can use one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from fastism_cli.model.graph import Input, Node, Shape
from fastism_cli.model.keras_graph import operation_class
from fastism_cli.rules.base import Call, Decline, Facts, Form, Rule, Splits, State, Window, lay_out, take_up, without
from fastism_cli.rules.combine import Concatenate, LinearMerge, Merge
from fastism_cli.rules.crop_pad_repeat import Repeat, repeats_argument
from fastism_cli.rules.global_pool import LinearReduce, Maximum, Reduce, axis_argument
from fastism_cli.rules.pointwise import Identity
from fastism_cli.rules.reshape import Reshaped, Sliced, Transposed, axes_argument, flip_axes, item, moved, swapped
from fastism_cli.rules.scale_and_shift import Affine, right_aligned
from fastism_cli.rules.table import define


def arguments(node: Node) -> list[Any]:
    """All arguments of the call, positional first: :class:`Input`, numbers, arrays."""
    args, kwargs = node.arguments
    return list(keras.tree.flatten((args, list(kwargs.values()))))


def constants(node: Node) -> Iterator[Any]:
    """The arguments that are arrays."""
    return (x for x in arguments(node) if getattr(x, "shape", ()) not in ((), None) and not isinstance(x, Input))


class Apply(Rule):
    """The operation itself on the frame's values. ``axis``: it works along one, which must not be the positions'."""

    form = Form.VALUE
    splits = Splits.ROWS
    any_axis = True

    def __init__(self, *, axis: bool = False) -> None:
        self.axis = axis

    def propagate(self, facts: Facts) -> State:
        window, shape = facts.window, facts.shape
        if self.axis:
            self.require_channels(facts)
        axis = window.axis if window.flat is None else 0
        if len(shape) != len(facts.shapes[0]) or shape[axis] != facts.shapes[0][axis]:
            raise Decline(f"makes a tensor {shape} of one of {facts.shapes[0]}")
        for array in constants(facts.node):
            if right_aligned(array, len(shape))[axis] != 1:
                raise Decline("has a constant that differs by position")
        return window if window.flat is not None else replace(window, channels=without(shape, window.axis))

    def require_channels(self, facts: Facts) -> None:
        window, axis = facts.window, facts.layer.axis
        axes = axis if isinstance(axis, (list, tuple)) else (axis,)
        rank = len(facts.shape) + 1
        if window.flat is not None:
            raise Decline("mixes all elements of a flattened tensor")
        if any(a is None or a % rank in (0, window.axis + 1) for a in axes):
            raise Decline(f"works along axis {axis}, that of the positions")

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        window = call.facts.window
        axis = window.axis if window.flat is None else 0
        return take_up(call.facts.node.call([lay_out(x, axis)])[0], x, axis)


class Cast(Apply):
    """To another type of real numbers."""

    def propagate(self, facts: Facts) -> State:
        if "float" not in str(facts.layer.dtype):
            raise Decline(f"makes numbers of type {facts.layer.dtype}")
        return super().propagate(facts)


class Shifted(Affine):
    """A sum, difference, product or quotient of a tensor and a constant."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shapes(self, facts: Facts) -> dict[str, Shape]:
        shape = right_aligned(np.asarray(self.constant(facts.node)), len(facts.shapes[0]))
        return {"scale": shape, "shift": shape}

    def prepare(self, node: Node) -> dict[str, Any]:
        scale, shift = self.scale_and_shift(node)
        return {"scale": keras.ops.convert_to_tensor(scale), "shift": keras.ops.convert_to_tensor(shift)}

    def constant(self, node: Node) -> Any:
        return next(x for x in arguments(node) if not isinstance(x, Input))

    def scale_and_shift(self, node: Node) -> tuple[np.ndarray, np.ndarray]:
        constant = np.asarray(self.constant(node), "float64")
        is_first = isinstance(arguments(node)[0], Input)
        if self.kind == "multiply":
            return constant, np.zeros_like(constant)
        if self.kind == "divide":
            return 1 / constant, np.zeros_like(constant)
        if self.kind == "subtract" and not is_first:
            return -np.ones_like(constant), constant
        return np.ones_like(constant), -constant if self.kind == "subtract" else constant


class Elementwise(Rule):
    """One rule for a tensor with a constant, another for two tensors."""

    def __init__(self, two: Rule, *, affine: str | None = None) -> None:
        self.two = two
        self.affine = Shifted(affine) if affine else None
        self.one = Apply()

    def choose(self, node: Node) -> Rule:
        given = arguments(node)
        if len(node.inputs) > 1:
            return self.two
        if self.affine is None or (self.affine.kind == "divide" and not isinstance(given[0], Input)):
            return self.one
        return self.affine


class ChannelReduce(Reduce):
    """A reduction that is known for channels alone: the operation itself on the frame's values."""

    form = Form.VALUE

    def propagate(self, facts: Facts) -> State:
        output = super().propagate(facts)
        if not isinstance(output, Window):
            raise Decline("needs all positions")
        return output

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        assert isinstance(call.output, Window)
        y = call.facts.node.call([lay_out(x, call.facts.window.axis)])[0]
        return take_up(y, x, call.output.axis)


class FromLowest(Maximum):
    """``max`` without a value to begin with."""

    def propagate(self, facts: Facts) -> State:
        if facts.layer.initial is not None:
            raise Decline("has an initial value")
        return super().propagate(facts)


class Padded(Rule):
    """What is put around a tensor does not change; the positions move."""

    form = Form.DELTA
    linear = True
    leaks = True
    any_axis = True

    def pads(self, facts: Facts) -> list[tuple[int, int]]:
        widths = list(facts.layer.pad_width)
        if facts.layer.mode != "constant":
            raise Decline(f"pads with what is inside ({facts.layer.mode})")
        if len(widths) != len(facts.shape) + 1 or any(widths[0]) or facts.window.flat is not None:
            raise Decline("pads the batch, or a flattened tensor")
        return [(int(a), int(b)) for a, b in widths[1:]]

    def propagate(self, facts: Facts) -> State:
        window, before = facts.window, self.pads(facts)[facts.window.axis][0]
        frame = window.frame.moved(before, facts.shape[window.axis])
        return replace(window, frame=frame, channels=without(facts.shape, window.axis))

    def demand(self, facts: Facts, output: State) -> tuple[Any, ...]:
        assert isinstance(output, Window)
        window, before = facts.window, self.pads(facts)[facts.window.axis][0]
        return (output.frame.moved(-before, window.frame.length),)

    def delta(self, call: Call, *inputs: Any) -> Any:
        pads = self.pads(call.facts)
        axis = call.facts.window.axis
        return keras.ops.pad(inputs[0], [(0, 0)] * 4 + [*without(pads, axis)])


def define_operation(rule: Rule, names: str) -> None:
    """Let ``rule`` hold for these operations, as far as this version of Keras has them."""
    define(rule, *(cls for cls in map(operation_class, names.split()) if cls is not None))


ONE_BY_ONE = (
    "absolute abs fabs arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil clip cos cosh deg2rad exp exp2 expm1 "
    "floor log log10 log1p log2 nantonum negative rad2deg reciprocal round sign sin sinc sinh sqrt square tan tanh "
    "trunc rsqrt erf erfc erfinv relu relu6 sigmoid sparsesigmoid softplus softsign softshrink sparseplus silu "
    "squareplus logsigmoid leakyrelu hardsigmoid hardsilu elu selu gelu celu tanhshrink hardtanh hardshrink threshold"
)

define_operation(Apply(), ONE_BY_ONE)
define_operation(Apply(axis=True), "glu softmax logsoftmax sparsemax normalize rmsnorm layernorm")
define_operation(Identity(), "stopgradient copy")
define_operation(Elementwise(LinearMerge(lambda n: [1.0] * n), affine="add"), "add")
define_operation(Elementwise(LinearMerge(lambda n: [1.0, -1.0]), affine="subtract"), "subtract")
define_operation(Elementwise(Merge(), affine="multiply"), "multiply")
define_operation(Elementwise(Merge(), affine="divide"), "divide truedivide")
define_operation(Elementwise(Merge()), "dividenonan power maximum minimum fmax fmin arctan2 hypot logaddexp logaddexp2")
define_operation(Concatenate(), "concatenate")
define_operation(Reshaped(), "reshape expanddims squeeze")
define_operation(Transposed(axes_argument), "transpose")
define_operation(Transposed(swapped), "swapaxes")
define_operation(Transposed(moved), "moveaxis")
define_operation(Sliced(item), "getitem")
define_operation(Sliced(flip_axes), "flip")
define_operation(Padded(), "pad")
define_operation(LinearReduce(axis_argument, mean=True), "mean")
define_operation(LinearReduce(axis_argument, mean=False), "sum")
define_operation(FromLowest(axis_argument), "max")
define_operation(Maximum(axis_argument), "amax")
define_operation(ChannelReduce(axis_argument), "min amin std var prod logsumexp norm")
define_operation(Cast(), "cast")
define_operation(Repeat(repeats_argument), "repeat")
