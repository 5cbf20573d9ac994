"""Write operations as simpler ones: those that are others in disguise, by nodes for which there are rules.

Pieces of a tensor are slices of it, a stack is tensors with one more axis side by side, a roll puts two slices end to
end. A convolution, a pooling or a batch normalisation by a function is the layer with the same settings and weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import keras
import numpy as np

from fastism_cli.model import backend
from fastism_cli.model.graph import REFERENCE, Arguments, Input, LayerGraph, Node, Shape, Tensor
from fastism_cli.model.keras_graph import operation_class
from fastism_cli.rules.layer_calls import argument, is_constant

# More copies than this are left to the operation; each becomes a window of its own.
MAX_COPIES = 8
MAX_COLUMNS = 64  # entries of each window that is taken


def with_simpler_operations(graph: LayerGraph) -> LayerGraph:
    """The graph with these operations replaced."""
    writer = _Writer(graph)
    for node in graph.nodes:
        written = _written_as(node, writer)
        writer.nodes += [node] if written is None else written
    return graph.extended(writer.nodes, writer.tensors, graph.outputs)


def has_simpler_form(node: Node, graph: LayerGraph) -> bool:
    """Whether the node is replaced by others."""
    return _written_as(node, _Writer(graph)) is not None


def _written_as(node: Node, writer: _Writer) -> list[Node] | None:
    """The nodes that replace this one; None if it stays."""
    name = type(node.layer).__name__.lower()
    if name not in SIMPLER or type(node.layer) is not operation_class(name):
        return None
    return SIMPLER[name](node, writer)


def that_runs(graph: LayerGraph) -> LayerGraph:
    """The graph of a layer's call, traced with symbols, so that it runs with arrays as the call did.

    A call that asks a symbolic tensor for the size of its batch is told None: ``reshape(x, (shape(x)[0], 12, 10))``
    needs a -1 there. And the operation of Keras 3.15 behind ``conv_transpose`` mixes up two of its arguments.
    """
    return replace(graph, nodes=tuple(_that_runs(node, graph) for node in graph.nodes))


def _that_runs(node: Node, graph: LayerGraph) -> Node:
    operation: Any = node.layer
    name = type(operation).__name__.lower()
    cls: Any = type(operation)
    shape = graph.tensors[node.outputs[0]].shape
    if cls is not operation_class(name):
        return node
    if name == "reshape" and _leaves_open(operation.newshape, shape):
        return operation_node(node, "reshape", node.inputs, node.outputs[0], newshape=(-1, *shape))
    if name == "broadcastto" and _leaves_open(operation.shape, shape):
        return replace(node, call=lambda arrays: [_broadcast(arrays[0], shape)])
    if name == "slice" and _leaves_open(operation.shape, shape):
        return (_slice_given_by_shape(node, _Writer(graph)) or [node])[0]
    if name == "convtranspose" and len(node.inputs) == 1:
        return replace(node, call=lambda arrays: [_transposed_convolution(node, arrays[0])])
    return node


def _leaves_open(given: Any, shape: Shape) -> bool:
    return isinstance(given, (list, tuple)) and None in given and None not in shape


def _broadcast(x: Any, shape: Shape) -> Any:
    return keras.ops.broadcast_to(x, (keras.ops.shape(x)[0], *shape))


def _transposed_convolution(node: Node, x: Any) -> Any:
    operation: Any = node.layer
    names = ("strides", "padding", "output_padding", "data_format", "dilation_rate")
    return keras.ops.conv_transpose(
        x, argument(node, 1, "kernel"), **{name: getattr(operation, name) for name in names}
    )


@dataclass
class _Writer:
    """The new graph as far as it is written; ``tensors`` are those that it has more than the old one."""

    graph: LayerGraph
    nodes: list[Node] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)

    def tensor(self, number: int) -> Tensor:
        known = len(self.graph.tensors)
        return self.graph.tensors[number] if number < known else self.tensors[number - known]

    def shape(self, tensor: int) -> Shape:
        return self.tensor(tensor).shape

    def dtype(self, tensor: int) -> str:
        return self.tensor(tensor).dtype

    def new(self, shape: Sequence[int], dtype: str) -> int:
        self.tensors.append(Tensor(tuple(shape), dtype))
        return len(self.graph.tensors) + len(self.tensors) - 1


def operation_node(
    node: Node, name: str, inputs: tuple[int, ...], output: int, *, given: tuple[Any, ...] = (), **options: Any
) -> Node:
    """An operation of Keras on these tensors; ``given`` are further arguments of its call."""
    cls: Any = operation_class(name)
    operation = cls(**options)
    takes_list = name == "concatenate"
    places = tuple(Input(i) for i in range(len(inputs)))

    def call(arrays: Sequence[Any]) -> list[Any]:
        return [operation.call(list(arrays)) if takes_list else operation.call(*arrays, *given)]

    arguments: Arguments = ((list(places),) if takes_list else (*places, *given), {})
    return Node(0, node.name, operation, inputs, (output,), call, node.role, arguments)


# --- slices, stacks, and what they make -------------------------------------------------------------------------------


def _item(node: Node, axis: int, key: int | slice, source: int, output: int) -> Node:
    """``x[..., key]``, at ``axis``."""
    keys = (*(slice(None) for _ in range(axis)), key)
    return operation_node(node, "getitem", (source,), output, given=(keys,))


def _rank(node: Node, writer: _Writer) -> int:
    """Axes of the first input, with the batch."""
    return len(writer.shape(node.inputs[0])) + 1


def _unstacked(node: Node, writer: _Writer) -> list[Node] | None:
    layer: Any = node.layer
    axis = layer.axis % _rank(node, writer)
    if axis == 0:
        return None
    return [_item(node, axis, i, node.inputs[0], output) for i, output in enumerate(node.outputs)]


def _split(node: Node, writer: _Writer) -> list[Node] | None:
    layer: Any = node.layer
    return _slices(node, layer.axis % _rank(node, writer), writer)


def _slices(node: Node, axis: int, writer: _Writer) -> list[Node] | None:
    if axis == 0:
        return None
    lengths = [writer.shape(t)[axis - 1] for t in node.outputs]
    stops = list(accumulate(lengths))
    keys = [slice(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]
    return [_item(node, axis, key, node.inputs[0], output) for key, output in zip(keys, node.outputs, strict=True)]


def _split_horizontally(node: Node, writer: _Writer) -> list[Node] | None:
    return _slices(node, 1, writer) if _rank(node, writer) > 1 else None


def _stacked(node: Node, writer: _Writer) -> list[Node] | None:
    """Tensors with one more axis side by side."""
    (output,), layer = node.outputs, node.layer
    axis = layer.axis % (_rank(node, writer) + 1)
    if axis == 0 or not _only_tensors(node):
        return None
    shape = writer.shape(output)
    between = tuple(writer.new((*shape[: axis - 1], 1, *shape[axis:]), writer.dtype(output)) for _ in node.inputs)
    widened = [
        operation_node(node, "expanddims", (t,), x, axis=axis) for t, x in zip(node.inputs, between, strict=True)
    ]
    return [*widened, operation_node(node, "concatenate", between, output, axis=axis)]


def _only_tensors(node: Node) -> bool:
    """Whether all that is put together are tensors of the model, none a constant."""
    return len(keras.tree.flatten(node.arguments)) == len(node.inputs)


def _beside(axis: int) -> Callable[[Node, _Writer], list[Node] | None]:
    """``hstack`` and ``dstack``."""

    def written(node: Node, writer: _Writer) -> list[Node] | None:
        if _rank(node, writer) <= axis or not _only_tensors(node):
            return None
        return [operation_node(node, "concatenate", node.inputs, node.outputs[0], axis=axis)]

    return written


def _appended(node: Node, writer: _Writer) -> list[Node] | None:
    layer: Any = node.layer
    if len(node.inputs) != 2 or not layer.axis:
        return None
    return [operation_node(node, "concatenate", node.inputs, node.outputs[0], axis=layer.axis)]


def _rolled(node: Node, writer: _Writer) -> list[Node] | None:
    """``roll``: the last entries, then the first."""
    layer: Any = node.layer
    if layer.axis is None:
        return None
    axes, shifts = (list(x) if isinstance(x, (list, tuple)) else [x] for x in (layer.axis, layer.shift))
    shifts = shifts * len(axes) if len(shifts) == 1 else shifts
    axes = [axis % _rank(node, writer) for axis in axes]
    if 0 in axes or len(axes) != len(shifts) or not all(isinstance(by, int) for by in shifts):
        return None
    nodes: list[Node] = []
    (source,), shape = node.inputs, writer.shape(node.inputs[0])
    for number, (axis, by) in enumerate(zip(axes, shifts, strict=True), 1):
        output = node.outputs[0] if number == len(axes) else writer.new(shape, writer.dtype(source))
        at = -by % shape[axis - 1]
        keys = [key for key in (slice(at, None), slice(0, at)) if key != slice(0, 0)]
        nodes += _joined_items(node, axis, keys, source, output, writer)
        source = output
    return nodes


def _joined_items(
    node: Node, axis: int, keys: Sequence[slice], source: int, output: int, writer: _Writer
) -> list[Node]:
    """Slices of a tensor along ``axis``, end to end."""
    if len(keys) == 1:
        return [_item(node, axis, keys[0], source, output)]
    shape, dtype = writer.shape(output), writer.dtype(output)
    length = writer.shape(source)[axis - 1]
    lengths = [len(range(*key.indices(length))) for key in keys]
    parts = tuple(writer.new((*shape[: axis - 1], n, *shape[axis:]), dtype) for n in lengths)
    cut = [_item(node, axis, key, source, part) for key, part in zip(keys, parts, strict=True)]
    return [*cut, operation_node(node, "concatenate", parts, output, axis=axis)]


def _tiled(node: Node, writer: _Writer) -> list[Node] | None:
    """``tile``: copies side by side."""
    layer: Any = node.layer
    given = layer.repeats if isinstance(layer.repeats, (list, tuple)) else [layer.repeats]
    (source,) = node.inputs
    shape = writer.shape(source)
    repeats = [1] * (len(shape) + 1 - len(given)) + list(given)
    if len(repeats) != len(shape) + 1 or repeats[0] != 1 or max(repeats) > MAX_COPIES:
        return None
    axes = [axis for axis, n in enumerate(repeats) if n != 1] or [len(shape)]
    nodes = []
    for axis in axes:
        shape = (*shape[: axis - 1], shape[axis - 1] * repeats[axis], *shape[axis:])
        output = node.outputs[0] if axis == axes[-1] else writer.new(shape, writer.dtype(source))
        nodes.append(operation_node(node, "concatenate", (source,) * repeats[axis], output, axis=axis))
        source = output
    return nodes


def _padded(node: Node, writer: _Writer) -> list[Node] | None:
    """``pad`` with entries of the tensor: mirrored ones beside it."""
    layer: Any = node.layer
    if layer.mode not in ("reflect", "symmetric") or len(node.inputs) != 1:
        return None
    (source,) = node.inputs
    shape, skipped = writer.shape(source), int(layer.mode == "reflect")
    widths = [(int(a), int(b)) for a, b in layer.pad_width]
    axes = [axis for axis, pads in enumerate(widths) if any(pads)]
    if len(widths) != len(shape) + 1 or not axes or axes[0] == 0:
        return None
    nodes = []
    for axis in axes:
        (before, after), n = widths[axis], shape[axis - 1]
        if max(before, after) + skipped > n:
            return None
        shape = (*shape[: axis - 1], before + n + after, *shape[axis:])
        output = node.outputs[0] if axis == axes[-1] else writer.new(shape, writer.dtype(source))
        keys = [
            slice(before - 1 + skipped, 0 if skipped else None, -1) if before else None,
            slice(0, n),
            slice(n - 1 - skipped, (n - 1 - skipped - after) if n - 1 - skipped - after >= 0 else None, -1)
            if after
            else None,
        ]
        nodes += _joined_items(node, axis, [key for key in keys if key], source, output, writer)
        source = output
    return nodes


def _differences(node: Node, writer: _Writer) -> list[Node] | None:
    """``diff``: what follows, less what is before."""
    layer: Any = node.layer
    axis = layer.axis % _rank(node, writer)
    if axis == 0 or not 1 <= layer.n <= MAX_COPIES:
        return None
    (source,), nodes = node.inputs, list[Node]()
    for number in range(1, layer.n + 1):
        before = writer.shape(node.inputs[0])
        shape = (*before[: axis - 1], before[axis - 1] - number, *before[axis:])
        later, earlier = (writer.new(shape, writer.dtype(source)) for _ in range(2))
        output = node.outputs[0] if number == layer.n else writer.new(shape, writer.dtype(source))
        nodes += [
            _item(node, axis, slice(1, None), source, later),
            _item(node, axis, slice(None, -1), source, earlier),
            operation_node(node, "subtract", (later, earlier), output),
        ]
        source = output
    return nodes


def _slice_given_by_shape(node: Node, writer: _Writer) -> list[Node] | None:
    """``slice`` with constant starts."""
    starts = argument(node, 1, "start_indices")
    if len(node.inputs) != 1 or not is_constant(starts):
        return None
    starts = np.asarray(backend.to_numpy(starts)).reshape(-1).tolist()
    if len(starts) != _rank(node, writer) or starts[0] != 0:
        return None
    sizes = writer.shape(node.outputs[0])
    keys = (slice(None), *(slice(start, start + n) for start, n in zip(starts[1:], sizes, strict=True)))
    return [operation_node(node, "getitem", node.inputs, node.outputs[0], given=(keys,))]


def _taken(node: Node, writer: _Writer) -> list[Node] | None:
    """``take`` of entries at equal distances: a slice. Any others along the channels have a rule."""
    layer: Any = node.layer
    indices = argument(node, 1, "indices")
    if len(node.inputs) != 1 or not is_constant(indices) or layer.axis is None:
        return None
    axis = layer.axis % _rank(node, writer)
    if axis == 0:
        return None
    n, at = writer.shape(node.inputs[0])[axis - 1], np.asarray(backend.to_numpy(indices))
    at = np.where(at < 0, at + n, at)
    if at.ndim > 2 or at.size == 0 or at.min() < 0 or at.max() >= n:
        return None
    if at.ndim == 0:
        return [_item(node, axis, int(at), node.inputs[0], node.outputs[0])]
    columns = at.T if at.ndim == 2 else [at]
    keys = [key for column in columns if (key := _as_slice(column)) is not None]
    if len(keys) != len(columns) or len(keys) > MAX_COLUMNS:
        return None
    if at.ndim == 1:
        return [_item(node, axis, keys[0], node.inputs[0], node.outputs[0])]
    return _windows(node, axis, keys, writer)


def _as_slice(at: np.ndarray) -> slice | None:
    step = int(at[1] - at[0]) if at.size > 1 else 1
    if step == 0 or (np.diff(at) != step).any():
        return None
    stop = int(at[-1]) + (1 if step > 0 else -1)
    return slice(int(at[0]), None if stop < 0 else stop, step)


def _windows(node: Node, axis: int, keys: Sequence[slice], writer: _Writer) -> list[Node]:
    """Entries of windows: those at the same place of each, beside each other on a new axis."""
    (source,), (output,) = node.inputs, node.outputs
    wide, dtype = writer.shape(output), writer.dtype(source)
    nodes, parts = list[Node](), list[int]()
    for key in keys:
        taken = writer.new((*wide[:axis], *wide[axis + 1 :]), dtype)
        parts.append(writer.new((*wide[:axis], 1, *wide[axis + 1 :]), dtype))
        nodes.append(_item(node, axis, key, source, taken))
        nodes.append(operation_node(node, "expanddims", (taken,), parts[-1], axis=axis + 1))
    return [*nodes, operation_node(node, "concatenate", tuple(parts), output, axis=axis + 1)]


# --- several results, and minima --------------------------------------------------------------------------------------


def _moments(node: Node, writer: _Writer) -> list[Node]:
    layer: Any = node.layer
    options = {"axis": layer.axes, "keepdims": layer.keepdims}
    kinds = zip(("mean", "var"), node.outputs, strict=True)
    return [operation_node(node, name, node.inputs, output, **options) for name, output in kinds]


def _each_result(node: Node, writer: _Writer) -> list[Node] | None:
    """A node for each result of an operation that has several."""
    if len(node.outputs) == 1:
        return None

    def result(number: int) -> Callable[[Sequence[Any]], list[Any]]:
        return lambda arrays: [node.call(arrays)[number]]

    return [replace(node, outputs=(output,), call=result(i)) for i, output in enumerate(node.outputs)]


def _minimum(node: Node, writer: _Writer) -> list[Node] | None:
    """``min``: less the maximum of the negative."""
    layer: Any = node.layer
    if getattr(layer, "initial", None) is not None:
        return None
    (source,), (output,) = node.inputs, node.outputs
    negative = writer.new(writer.shape(source), writer.dtype(source))
    largest = writer.new(writer.shape(output), writer.dtype(output))
    return [
        operation_node(node, "negative", (source,), negative),
        operation_node(node, "amax", (negative,), largest, axis=layer.axis, keepdims=layer.keepdims),
        operation_node(node, "negative", (largest,), output),
    ]


# --- layers -----------------------------------------------------------------------------------------------------------


def _pooling(name: str) -> Callable[[Node, _Writer], list[Node]]:
    """The node with the layer, whose rule it gets; the operation still computes it, in the type of its input."""

    def written(node: Node, writer: _Writer) -> list[Node]:
        operation: Any = node.layer
        sizes = [operation.pool_size, operation.strides, operation.padding]
        layer = getattr(keras.layers, f"{name}{_rank(node, writer) - 2}D")(*sizes, operation.data_format)
        return [_as_layer(node, layer)]

    return written


def _as_layer(node: Node, layer: Any) -> Node:
    layer.name = node.name
    return replace(node, layer=layer, arguments=((Input(0),), {}))


def _with_weights(node: Node, layer: Any, weights: Sequence[Any], writer: _Writer) -> list[Node] | None:
    """The node with a layer of these weights (constants, in the order of the layer); None if they do not fit."""
    if len(node.inputs) != 1 or not all(map(is_constant, weights)):
        return None
    arrays = [np.asarray(backend.to_numpy(x)) for x in weights]
    try:
        layer.build((None, *writer.shape(node.inputs[0])))
        layer.set_weights([x.reshape(w.shape) for x, w in zip(arrays, layer.weights, strict=True)])
    except ValueError:
        return None
    return [_as_layer(node, layer)]


def _convolution(make: Callable[..., Any], *kernels: str) -> Callable[[Node, _Writer], list[Node] | None]:
    """A convolution by a function; ``make(axes, kernel, options)`` makes its layer."""

    def written(node: Node, writer: _Writer) -> list[Node] | None:
        operation: Any = node.layer
        given = [argument(node, 1 + i, name) for i, name in enumerate(kernels)]
        shapes = [tuple(getattr(x, "shape", ())) for x in given]
        if operation.padding not in ("valid", "same") or any(len(shape) < 3 for shape in shapes):
            return None
        options = {
            "strides": operation.strides,
            "padding": operation.padding,
            "data_format": operation.data_format,
            "dilation_rate": operation.dilation_rate,
            "use_bias": False,
            "dtype": writer.dtype(node.inputs[0]),
        }
        shape, last = writer.shape(node.inputs[0]), operation.data_format != "channels_first"
        try:
            layer = make(operation, shape[-1] if last else shape[0], *shapes, options)
        except (AttributeError, ValueError):  # of volumes, or with strides that a layer does not take
            return None
        return _with_weights(node, layer, given, writer)

    return written


def _conv(operation: Any, channels: int, kernel: Shape, options: dict[str, Any]) -> Any:
    cls = getattr(keras.layers, f"Conv{len(kernel) - 2}D")
    return cls(kernel[-1], kernel[:-2], groups=channels // kernel[-2], **options)


def _depthwise_conv(operation: Any, channels: int, kernel: Shape, options: dict[str, Any]) -> Any:
    cls = getattr(keras.layers, f"DepthwiseConv{len(kernel) - 2}D")
    return cls(kernel[:-2], depth_multiplier=kernel[-1], **options)


def _separable_conv(operation: Any, channels: int, kernel: Shape, pointwise: Shape, options: dict[str, Any]) -> Any:
    cls = getattr(keras.layers, f"SeparableConv{len(kernel) - 2}D")
    return cls(pointwise[-1], kernel[:-2], depth_multiplier=kernel[-1], **options)


def _conv_transpose(operation: Any, channels: int, kernel: Shape, options: dict[str, Any]) -> Any:
    cls = getattr(keras.layers, f"Conv{len(kernel) - 2}DTranspose")
    return cls(kernel[-2], kernel[:-2], output_padding=operation.output_padding, **options)


def _batch_normalization(node: Node, writer: _Writer) -> list[Node] | None:
    operation: Any = node.layer
    names = ("mean", "variance", "offset", "scale")
    mean, variance, offset, scale = (argument(node, 1 + i, name) for i, name in enumerate(names))
    if not isinstance(operation.axis, int):
        return None
    layer = keras.layers.BatchNormalization(
        axis=operation.axis,
        epsilon=operation.epsilon,
        center=offset is not None,
        scale=scale is not None,
        dtype=writer.dtype(node.inputs[0]),
    )
    weights = [x for x in (scale, offset) if x is not None]
    return _with_weights(node, layer, [*weights, mean, variance], writer)


# --- constants that differ by position --------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConstantTensor:
    """Layer of a node whose output is the same for every sequence."""

    name: str
    array: np.ndarray

    def __call__(self, x: Any) -> Any:
        tensor = keras.ops.convert_to_tensor(self.array)
        return keras.ops.broadcast_to(tensor, (keras.ops.shape(x)[0], *self.array.shape[1:]))


def _constants_as_tensors(node: Node, writer: _Writer) -> list[Node] | None:
    """Constants that differ along another axis than the last as tensors of the graph, which are cut like any other."""
    rank, nodes, inputs = _rank(node, writer), list[Node](), list(node.inputs)

    def lifted(x: Any) -> Any:
        if isinstance(x, Input) or not is_constant(x):
            return x
        array = np.asarray(backend.to_numpy(x))
        if array.ndim < 2 or max(array.shape[:-1]) == 1 or (array.ndim == rank and array.shape[0] != 1):
            return x
        array = array.reshape(1, *(1,) * (rank - 1 - array.ndim), *array.shape[array.ndim == rank :])
        output = writer.new(array.shape[1:], str(array.dtype))
        layer = ConstantTensor(node.name, array)
        source = writer.graph.inputs[0].tensor
        nodes.append(Node(0, node.name, layer, (source,), (output,), lambda arrays: [layer(arrays[0])], REFERENCE))
        inputs.append(output)
        return Input(len(inputs) - 1)

    args, kwargs = keras.tree.map_structure(lifted, node.arguments)
    if not nodes:
        return None

    def call(arrays: Sequence[Any], operation: Any = node.layer) -> list[Any]:
        given, named = keras.tree.map_structure(
            lambda x: arrays[x.number] if isinstance(x, Input) else x, (args, kwargs)
        )
        return [operation(*given, **named)]

    return [*nodes, replace(node, inputs=tuple(inputs), arguments=(args, kwargs), call=call)]


def _widened(node: Node, writer: _Writer) -> list[Node] | None:
    """An operation of a tensor and a constant with more entries along an axis: the tensor is repeated before."""
    if len(node.inputs) > 1:
        return None
    (source,), (output,) = node.inputs, node.outputs
    shape, wide = writer.shape(source), writer.shape(output)
    if len(shape) != len(wide) or shape == wide or None in wide:
        return None
    repeated = writer.new(wide, writer.dtype(source))
    broadcast = operation_node(node, "broadcastto", (source,), repeated, shape=(None, *wide))
    broadcast = replace(broadcast, call=lambda arrays: [_broadcast(arrays[0], wide)])
    return [broadcast, replace(node, inputs=(repeated,))]


def _quotient(node: Node, writer: _Writer) -> list[Node] | None:
    """A constant by a tensor; a tensor by a constant has a rule."""
    if isinstance(argument(node, 0, "x1"), Input):
        return _widened(node, writer)
    return _constants_as_tensors(node, writer)


ELEMENTWISE = (
    "where select greater greaterequal less lessequal equal notequal isclose logicaland logicalor logicalxor mod fmod "
    "floordivide power maximum minimum fmax fmin arctan2 hypot logaddexp logaddexp2 dividenonan heaviside "
    "ldexp nextafter gcd lcm bitwiseand bitwiseor bitwisexor bitwiseleftshift bitwiserightshift leftshift rightshift"
)

SIMPLER: dict[str, Callable[[Node, _Writer], list[Node] | None]] = {
    "averagepool": _pooling("AveragePooling"),
    "maxpool": _pooling("MaxPooling"),
    "conv": _convolution(_conv, "kernel"),
    "depthwiseconv": _convolution(_depthwise_conv, "kernel"),
    "separableconv": _convolution(_separable_conv, "depthwise_kernel", "pointwise_kernel"),
    "convtranspose": _convolution(_conv_transpose, "kernel"),
    "batchnorm": _batch_normalization,
    "split": _split,
    "arraysplit": _split,
    "hsplit": _split_horizontally,
    "unstack": _unstacked,
    "stack": _stacked,
    "hstack": _beside(1),
    "dstack": _beside(2),
    "append": _appended,
    "roll": _rolled,
    "tile": _tiled,
    "pad": _padded,
    "diff": _differences,
    "slice": _slice_given_by_shape,
    "take": _taken,
    "moments": _moments,
    "topk": _each_result,
    "add": _widened,
    "subtract": _widened,
    "multiply": _widened,
    "divide": _quotient,
    "truedivide": _quotient,
    "min": _minimum,
    "amin": _minimum,
} | dict.fromkeys(ELEMENTWISE.split(), _constants_as_tensors)
