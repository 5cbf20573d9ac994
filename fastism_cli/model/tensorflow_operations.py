"""What each operation of a TensorFlow graph is in Keras, for :mod:`fastism_cli.model.tensorflow_graph`.

TensorFlow's own description of its operations: https://www.tensorflow.org/api_docs/python/tf/raw_ops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

# Numbers of sequences for which is computed what depends on them alone.
BATCHES = (2, 3)


class NotFollowedError(Exception):
    """A function cannot be read as operations of Keras. The text is a clause that says why."""


class OfBatch(NamedTuple):
    """A tensor that depends on the number of sequences and on no input: its values for the numbers in ``BATCHES``."""

    values: tuple[Any, ...]


class Rows(NamedTuple):
    """The first ``axes`` axes of a symbol as one: what stands along it is treated each by itself."""

    symbol: Any
    axes: int


class Apart(NamedTuple):
    """A symbol whose positions are dealt out to ``rates`` sequences each, for a convolution with dilation."""

    symbol: Any
    rates: tuple[int, ...]


def is_symbol(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def is_symbolic(value: Any) -> bool:
    return is_symbol(value) or isinstance(value, (Rows, Apart))


def settled(values: tuple[Any, ...]) -> Any:
    """One tensor, if it is the same for each number of sequences."""
    arrays = [np.asarray(x) for x in values]
    same = all(np.array_equal(a, b) for a, b in pairwise(arrays))
    return values[0] if same else OfBatch(values)


def constant_of(value: Any) -> np.ndarray:
    """The array of a tensor that depends on no input."""
    if isinstance(value, OfBatch) or is_symbolic(value):
        raise NotFollowedError("it uses a size or an axis that depends on the input or on the number of sequences")
    return np.asarray(value)


def _integers(value: Any) -> list[int]:
    return [int(n) for n in constant_of(value).reshape(-1)]


def operand_of(value: Any) -> Any:
    """What stands beside a symbol in an operation: a symbol, a number, or an array whose first axis may be 1."""
    if is_symbol(value):
        return value
    if isinstance(value, OfBatch):
        array = _first_of_batch(value)
    else:
        array = constant_of(value)
    return array.item() if array.ndim == 0 and array.dtype.kind in "fiub" else array


def _operands(values: Sequence[Any]) -> list[Any]:
    """Operands that broadcast to one shape; an array of one number that does not widen it is that number."""
    found = [operand_of(x) for x in values]
    shape = np.broadcast_shapes(*((1, *x.shape[1:]) for x in found if is_symbol(x)))
    return [
        x.flat[0].item() if _is_one_number(x) and np.broadcast_shapes(x.shape, shape) == shape else x for x in found
    ]


def _is_one_number(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.size > 0 and x.dtype.kind in "fiub" and bool((x == x.flat[0]).all())


def _first_of_batch(value: OfBatch) -> np.ndarray:
    """The rows of a tensor that has one for each sequence, if all are equal: (1, ...)."""
    arrays = [np.atleast_1d(np.asarray(x)) for x in value.values]
    row = arrays[0][:1]
    if all(len(a) == n and np.array_equal(a, np.repeat(row, n, 0)) for a, n in zip(arrays, BATCHES, strict=True)):
        return row
    raise NotFollowedError("it uses numbers that depend on the number of sequences")


def _sizes(value: Any) -> list[int | str]:
    """A shape; the length of an axis that grows with the number of sequences is a text: its length for each of them."""
    if not isinstance(value, OfBatch):
        return list(_integers(value))
    first, second = (np.asarray(x).reshape(-1) for x in value.values)
    return [int(a) if a == b else str(_each(int(a), int(b))) for a, b in zip(first, second, strict=True)]


def _each(first: int, second: int) -> int:
    if first * BATCHES[1] != second * BATCHES[0] or first % BATCHES[0]:
        raise NotFollowedError("it uses a size that depends on the number of sequences")
    return first // BATCHES[0]


# --- operations on symbols --------------------------------------------------------------------------------------------

NOT_WIDENED = (None, None, -1)


@dataclass
class Made:
    """How symbols were made, by id: what an operation makes of them may be known more simply.

    Attributes
    ----------
    widened : dict
        Symbols with an axis of length 1 that was added: the symbol, what it was made of, and the axis.
    pieces : dict
        Single positions of an axis: the symbol, what it was cut from, the axis, and the position.
    """

    widened: dict[int, tuple[Any, Any, int]] = field(default_factory=dict)
    pieces: dict[int, tuple[Any, Any, int, int]] = field(default_factory=dict)


# A function of these, the operation, and the values of its inputs; returns a value, or a list of them.
Operation = Callable[[Made, Any, list[Any]], Any]


def _one_by_one(function: Callable[..., Any]) -> Operation:
    """An operation of which every element depends on the elements at its place."""

    def computed(made: Made, op: Any, values: list[Any]) -> Any:
        rows = [x for x in values if isinstance(x, Rows)]
        if not rows:
            return function(*_operands(values))
        first = rows[0]
        lead = first.symbol.shape[: first.axes]
        for x in values:
            if isinstance(x, Rows):
                fits = x.symbol.shape[: x.axes] == lead
            else:
                fits = not is_symbol(x) and np.ndim(operand_of(x)) <= len(first.symbol.shape) - first.axes
            if not fits:
                raise NotFollowedError("it puts sequences side by side")
        given = [x.symbol if isinstance(x, Rows) else operand_of(x) for x in values]
        return Rows(function(*given), first.axes)

    return computed


def _plain(function: Callable[..., Any]) -> Operation:
    """An operation of symbols that are whole."""

    def computed(made: Made, op: Any, values: list[Any]) -> Any:
        if any(isinstance(x, (Rows, Apart)) for x in values):
            raise NotFollowedError("it puts sequences side by side")
        return function(made, op, *values)

    return computed


def _squared_difference(x: Any, y: Any) -> Any:
    return ops.square(ops.subtract(x, y))


def _zero_where_zero(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def computed(x: Any, y: Any) -> Any:
        return ops.where(ops.equal(x, 0), ops.multiply(x, 0), function(x, y))

    return computed


def _alpha(function: Callable[..., Any], **names: str) -> Operation:
    def computed(made: Made, op: Any, values: list[Any]) -> Any:
        options = {name: float(op.get_attr(attribute)) for name, attribute in names.items()}
        return _one_by_one(lambda x: function(x, **options))(made, op, values)

    return computed


def _cast(made: Made, op: Any, values: list[Any]) -> Any:
    dtype = keras.backend.standardize_dtype(op.get_attr("DstT").name)
    return _one_by_one(lambda x: x if x.dtype == dtype else ops.cast(x, dtype))(made, op, values)


def _bias_added(made: Made, op: Any, values: list[Any]) -> Any:
    x, bias = values
    if op.get_attr("data_format") == b"NCHW" and not isinstance(x, Rows):
        bias = constant_of(bias).reshape((-1, *(1,) * (len(x.shape) - 2)))
    return _one_by_one(ops.add)(made, op, [x, bias])


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


# sizes


def _full_shape(value: Any, batch: int) -> list[int]:
    symbol = value.symbol if isinstance(value, Rows) else value
    if None in symbol.shape[1:]:
        raise NotFollowedError("it uses a length that is not known")
    shape = [batch, *symbol.shape[1:]]
    return [prod(shape[: value.axes]), *shape[value.axes :]] if isinstance(value, Rows) else shape


def _of_shape(make: Callable[[Any, list[int]], Any]) -> Operation:
    """What an operation says of the shape of its input alone."""

    def computed(made: Made, op: Any, values: list[Any]) -> Any:
        if isinstance(values[0], Apart):
            raise NotFollowedError("it puts sequences side by side")
        return settled(tuple(make(op, _full_shape(values[0], batch)) for batch in BATCHES))

    return computed


def _shape(op: Any, shape: list[int]) -> Any:
    import tensorflow as tf

    return tf.constant(shape, op.get_attr("out_type"))


def _filled(number: float) -> Callable[[Any, list[int]], Any]:
    def make(op: Any, shape: list[int]) -> Any:
        import tensorflow as tf

        return tf.fill(shape, tf.constant(number, op.get_attr("T")))

    return make


def _rank(op: Any, shape: list[int]) -> Any:
    import tensorflow as tf

    return tf.constant(len(shape), "int32")


def _size(op: Any, shape: list[int]) -> Any:
    import tensorflow as tf

    return tf.constant(prod(shape), op.get_attr("out_type"))


def _reshaped(made: Made, op: Any, values: list[Any]) -> Any:
    given, sizes = values[0], _sizes(values[1])
    if isinstance(given, Apart):
        raise NotFollowedError("it puts sequences side by side")
    x = given.symbol if isinstance(given, Rows) else given
    total = prod(x.shape[1:])
    if not sizes or any(isinstance(n, str) for n in sizes[1:]):
        raise NotFollowedError("it puts sequences side by side")
    rest = [int(n) for n in sizes[1:]]
    if -1 in rest:
        if not isinstance(sizes[0], str):
            raise NotFollowedError("it uses a fixed number of sequences")
        rest[rest.index(-1)] = total // (int(sizes[0]) * -prod(rest))
    if sizes[0] != -1 and not isinstance(sizes[0], str):
        raise NotFollowedError("it uses a fixed number of sequences")
    each = total // prod(rest) if sizes[0] == -1 else int(sizes[0])
    if each * prod(rest) != total:
        raise NotFollowedError("it puts sequences side by side")
    if each == 1:
        return x if list(x.shape[1:]) == rest else ops.reshape(x, (-1, *rest))
    axes = next((i for i in range(1, len(x.shape)) if list(x.shape[i:]) == rest), None)
    if axes is not None:
        return Rows(x, axes)
    return Rows(ops.reshape(x, (-1, each, *rest)), 2)


def _axes(value: Any, x: Any) -> list[int]:
    """Axes that are given, counted from 0; the first one, that of the sequences, is refused."""
    axes = [axis % len(x.shape) for axis in _integers(value)]
    if 0 in axes:
        raise NotFollowedError("it works along the axis of the sequences")
    return axes


def _reduced(function: Callable[..., Any]) -> Operation:
    def computed(made: Made, op: Any, x: Any, axis: Any) -> Any:
        axes = _axes(axis, x)
        if not axes:
            return x
        return function(x, axis=axes[0] if len(axes) == 1 else tuple(axes), keepdims=op.get_attr("keep_dims"))

    return _plain(computed)


def _widened(made: Made, op: Any, values: list[Any]) -> Any:
    x, axis = values
    if isinstance(x, Rows):
        raise NotFollowedError("it puts sequences side by side")
    symbol = x.symbol if isinstance(x, Apart) else x
    (place,) = _integers(axis)
    place %= len(symbol.shape) + 1
    if place == 0:
        raise NotFollowedError("it works along the axis of the sequences")
    y = _with_axis(made, symbol, place)
    return Apart(y, (*x.rates[: place - 1], 1, *x.rates[place - 1 :])) if isinstance(x, Apart) else y


def _with_axis(made: Made, x: Any, axis: int) -> Any:
    y = ops.expand_dims(x, axis)
    made.widened[id(y)] = (y, x, axis)
    return y


def _squeezed(made: Made, op: Any, values: list[Any]) -> Any:
    (given,) = values
    if isinstance(given, Rows):
        raise NotFollowedError("it puts sequences side by side")
    x = given.symbol if isinstance(given, Apart) else given
    axes = sorted({axis % len(x.shape) for axis in op.get_attr("squeeze_dims")})
    axes = axes or [i for i, n in enumerate(x.shape) if n == 1]
    if 0 in axes:
        raise NotFollowedError("it works along the axis of the sequences")
    for axis in reversed(axes):
        _, before, place = made.widened.get(id(x), NOT_WIDENED)
        x = before if place == axis else ops.squeeze(x, axis)
    if isinstance(given, Apart):
        return Apart(x, tuple(rate for i, rate in enumerate(given.rates, start=1) if i not in axes))
    return x


def _transposed(made: Made, op: Any, x: Any, order: Any) -> Any:
    axes = _integers(order)
    if axes[0] != 0:
        raise NotFollowedError("it works along the axis of the sequences")
    return x if axes == sorted(axes) else ops.transpose(x, axes)


def _joined(made: Made, op: Any, *values: Any) -> Any:
    *parts, place = values
    rank = next(len(x.shape) for x in parts if is_symbol(x))
    axis = _integers(place)[0] % rank
    if axis == 0:
        raise NotFollowedError("it works along the axis of the sequences")
    if not all(map(is_symbol, parts)):
        return _joined_with_constants(parts, axis)
    repeated = _repeated_whole(made, parts, axis)
    if repeated is not None:
        return repeated
    return ops.concatenate(parts, axis=axis) if len(parts) > 1 else parts[0]


def _repeated_whole(made: Made, parts: Sequence[Any], axis: int) -> Any | None:
    """All positions of a tensor side by side, each of them equally often: how Keras 2 repeats; None for others."""
    found = [made.pieces.get(id(x), (None, None, -1, -1)) for x in parts]
    whole = found[0][1]
    if whole is None or any(x is not whole or along != axis for _, x, along, _ in found):
        return None
    times, rest = divmod(len(parts), whole.shape[axis])
    if rest or [place for *_, place in found] != [i // times for i in range(len(parts))]:
        return None
    return whole if times == 1 else ops.repeat(whole, times, axis=axis)


def _joined_with_constants(parts: list[Any], axis: int) -> Any:
    """Symbols side by side, and before and behind them one number, repeated: padding."""
    places = [i for i, x in enumerate(parts) if is_symbol(x)]
    x = parts[places[0]]
    if places != list(range(places[0], places[-1] + 1)):
        raise NotFollowedError("it uses a constant between two tensors")
    if len(places) > 1:
        x = ops.concatenate([parts[i] for i in places], axis=axis)
    for side, constants in (((1, 0), parts[: places[0]]), ((0, 1), parts[places[-1] + 1 :])):
        for constant in constants if side == (0, 1) else reversed(constants):
            array = operand_of(constant)
            width = [(0, 0)] * len(x.shape)
            if not np.ndim(array) or np.unique(array).size != 1:
                raise NotFollowedError("it uses a constant of several numbers beside a tensor")
            n = array.shape[axis]
            width[axis] = (n * side[0], n * side[1])
            x = ops.pad(x, width, constant_values=np.ravel(array)[0].item())
    return x


def _stacked(made: Made, op: Any, *parts: Any) -> Any:
    axis = op.get_attr("axis")
    if not all(map(is_symbol, parts)):
        raise NotFollowedError("it uses a constant beside a tensor")
    axis %= len(parts[0].shape) + 1
    if axis == 0:
        raise NotFollowedError("it works along the axis of the sequences")
    return ops.stack(parts, axis=axis)


def _unstacked(made: Made, op: Any, x: Any) -> Any:
    axis = op.get_attr("axis") % len(x.shape)
    if axis == 0:
        raise NotFollowedError("it works along the axis of the sequences")
    return [_at(x, axis, i) for i in range(op.get_attr("num"))]


def _at(x: Any, axis: int, key: Any) -> Any:
    """``x[..., key]``, at ``axis``."""
    return x[(*(slice(None) for _ in range(axis)), key)]


def _split(made: Made, op: Any, axis: Any, x: Any) -> Any:
    (place,) = _axes(axis, x)
    count = op.get_attr("num_split")
    return _pieces(made, x, place, [x.shape[place] // count] * count)


def _split_unevenly(made: Made, op: Any, x: Any, sizes: Any, axis: Any) -> Any:
    (place,) = _axes(axis, x)
    lengths = _integers(sizes)
    rest = x.shape[place] - sum(n for n in lengths if n >= 0)
    return _pieces(made, x, place, [n if n >= 0 else rest for n in lengths])


def _pieces(made: Made, x: Any, axis: int, lengths: Sequence[int]) -> list[Any]:
    stops = [int(stop) for stop in np.cumsum(lengths)]
    found = [_at(x, axis, slice(stop - n, stop)) for n, stop in zip(lengths, stops, strict=True)]
    if set(lengths) == {1}:
        made.pieces.update({id(piece): (piece, x, axis, i) for i, piece in enumerate(found)})
    return found


def _strided(made: Made, op: Any, x: Any, begin: Any, end: Any, strides: Any) -> Any:
    masks = {name: op.get_attr(f"{name}_mask") for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    starts, stops, steps = _sizes(begin), _sizes(end), _integers(strides)
    n_axes = sum(not (masks["ellipsis"] | masks["new_axis"]) >> i & 1 for i in range(len(starts)))
    keys: list[Any] = []
    added: list[int] = []  # the new axes of the result
    for i, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True)):
        has = {name: mask >> i & 1 for name, mask in masks.items()}
        if has["ellipsis"]:
            keys += [slice(None)] * (len(x.shape) - n_axes)
        elif has["new_axis"]:
            added.append(sum(isinstance(key, slice) for key in keys) + len(added))
        elif has["shrink_axis"]:
            keys.append(start)
        else:
            keys.append(slice(None if has["begin"] else start, None if has["end"] else stop, step))
    return _cut(made, x, keys, added)


def _cut(made: Made, x: Any, keys: list[Any], added: Sequence[int] = ()) -> Any:
    if keys and not _takes_all_sequences(keys[0]):
        raise NotFollowedError("it takes some of the sequences alone")
    keys[:1] = [slice(None)] * len(keys[:1])
    if any(
        isinstance(key, str) or (isinstance(key, slice) and {str} & {*map(type, (key.start, key.stop))}) for key in keys
    ):
        raise NotFollowedError("it uses a size that depends on the number of sequences")
    if any(key != slice(None) and key != slice(None, None, 1) for key in keys):
        x = x[tuple(keys)]
    for axis in added:
        if axis == 0:
            raise NotFollowedError("it works along the axis of the sequences")
        x = _with_axis(made, x, axis)
    return x


def _takes_all_sequences(key: Any) -> bool:
    return isinstance(key, slice) and key.start in (None, 0) and key.stop in (None, "1") and key.step in (None, 1)


def _sliced(made: Made, op: Any, x: Any, begin: Any, size: Any) -> Any:
    keys = []
    for start, n in zip(_integers(begin), _sizes(size), strict=True):
        keys.append(slice(start, n if isinstance(n, str) else None if n == -1 else start + n))
    return _cut(made, x, keys)


def _gathered(made: Made, op: Any, x: Any, indices: Any, axis: Any) -> Any:
    if op.get_attr("batch_dims"):
        raise NotFollowedError("it uses TensorFlow's GatherV2 with batch_dims")
    (place,) = _integers(axis)
    if not is_symbol(x):
        return _looked_up(made, op, x, indices) if place == 0 else _refused(op)
    if is_symbol(indices):
        return _refused(op)
    (place,) = _axes(axis, x)
    found = constant_of(indices)
    if found.ndim == 0:
        return _at(x, place, int(found))
    steps = set(np.diff(found.reshape(-1)).tolist())
    if found.ndim == 1 and len(steps) == 1 and (step := steps.pop()):
        stop = int(found[-1]) + (1 if step > 0 else -1)
        return _at(x, place, slice(int(found[0]), stop if stop >= 0 else None, step))
    return ops.take(x, found, axis=place)


def _looked_up(made: Made, op: Any, table: Any, indices: Any) -> Any:
    return ops.take(constant_of(table), indices, axis=0)


def _looked_up_in_weights(made: Made, op: Any, resource: Any, indices: Any) -> Any:
    import tensorflow as tf

    if op.get_attr("batch_dims"):
        return _refused(op)
    table = tf.raw_ops.ReadVariableOp(resource=resource, dtype=op.get_attr("dtype"))
    return _looked_up(made, op, table, indices)


def _refused(op: Any) -> Any:
    raise NotFollowedError(f"it uses TensorFlow's {op.type}")


def _padded(made: Made, op: Any, x: Any, widths: Any, *number: Any) -> Any:
    sides = [(int(a), int(b)) for a, b in constant_of(widths)]
    if sides[0] != (0, 0):
        raise NotFollowedError("it works along the axis of the sequences")
    if op.type == "MirrorPad":
        return ops.pad(x, sides, mode=op.get_attr("mode").decode().lower())
    return ops.pad(x, sides, constant_values=operand_of(number[0]) if number else 0)


def _tiled(made: Made, op: Any, x: Any, times: Any) -> Any:
    repeats = _integers(times)
    if repeats[0] != 1:
        raise NotFollowedError("it works along the axis of the sequences")
    return x if set(repeats) == {1} else ops.tile(x, repeats)


def _broadcast(made: Made, op: Any, x: Any, sizes: Any) -> Any:
    wanted = _sizes(sizes)
    if len(wanted) != len(x.shape) or wanted[0] != "1":
        raise NotFollowedError("it works along the axis of the sequences")
    for axis, n in enumerate(wanted[1:], start=1):
        x = x if x.shape[axis] == n else ops.repeat(x, int(n), axis=axis)
    return x


def _reversed(made: Made, op: Any, x: Any, axis: Any) -> Any:
    axes = _axes(axis, x)
    return ops.flip(x, axis=axes[0] if len(axes) == 1 else tuple(axes)) if axes else x


def _rolled(made: Made, op: Any, x: Any, shift: Any, axis: Any) -> Any:
    for by, place in zip(_integers(shift), _axes(axis, x), strict=True):
        x = ops.roll(x, by, axis=place)
    return x


def _summed_up(function: Callable[..., Any]) -> Operation:
    def computed(made: Made, op: Any, x: Any, axis: Any) -> Any:
        (place,) = _axes(axis, x)
        backwards = op.get_attr("reverse")
        x = ops.flip(x, axis=place) if backwards else x
        y = function(x, axis=place)
        if op.get_attr("exclusive"):
            sides = [(0, 0)] * len(x.shape)
            sides[place] = (1, 0)
            number = 0 if function is ops.cumsum else 1
            y = _at(ops.pad(y, sides, constant_values=number), place, slice(None, -1))
        return ops.flip(y, axis=place) if backwards else y

    return _plain(computed)


def _one_hot(made: Made, op: Any, indices: Any, depth: Any, on: Any, off: Any) -> Any:
    if (float(constant_of(on)), float(constant_of(off))) != (1.0, 0.0):
        return _refused(op)
    return ops.one_hot(indices, int(constant_of(depth)), axis=op.get_attr("axis"), dtype=op.get_attr("T").name)


def _place_of_largest(function: Callable[..., Any]) -> Operation:
    def computed(made: Made, op: Any, x: Any, axis: Any) -> Any:
        return ops.cast(function(x, axis=_axes(axis, x)[0]), op.get_attr("output_type").name)

    return _plain(computed)


# products


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


# windows


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
            y = _with_axis(made, function(made.widened[id(x)][1], one, slide._replace(settings=other)), axis)
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
    wanted, slide = _sizes(sizes), _slide(op, "strides", "dilations")
    if slide.padding == "explicit":
        return _refused(op)
    weights = constant_of(kernel)
    axis = _along_one_axis(made, x, slide, weights)
    if axis is None:
        y = _transposed_convolution(x, weights, slide)
    else:
        other: dict[str, tuple[int, ...]] = {name: (s[2 - axis],) for name, s in slide.settings.items()}
        one = np.squeeze(weights, axis - 1)
        y = _with_axis(made, _transposed_convolution(made.widened[id(x)][1], one, slide._replace(settings=other)), axis)
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
            x = _with_axis(made, ops.pad(before, [*sides[:axis], *sides[axis + 1 :]]), axis)
        else:
            x = ops.pad(x, sides)
    return Apart(x, tuple(_integers(block)))


def _dealt_back(made: Made, op: Any, values: list[Any]) -> Any:
    given, block, crops = values
    if not isinstance(given, Apart) or given.rates != tuple(_integers(block)):
        return _refused(op)
    x = given.symbol
    keys = [slice(None)]
    for (left, right), n in zip(constant_of(crops).tolist(), x.shape[1:], strict=False):
        keys.append(slice(int(left), n - int(right)) if left or right else slice(None))
    _, before, axis = made.widened.get(id(x), NOT_WIDENED)
    if before is not None and (len(keys) <= axis or keys[axis] == slice(None)):
        return _with_axis(made, _cut(made, before, [k for i, k in enumerate(keys) if i != axis]), axis)
    return _cut(made, x, keys)


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


def _euclidean_norm(x: Any, **options: Any) -> Any:
    return ops.sqrt(ops.sum(ops.square(x), **options))


def _largest(made: Made, op: Any, x: Any, count: Any) -> Any:
    values, places = ops.top_k(x, int(constant_of(count)), sorted=op.get_attr("sorted"))
    return [values, ops.cast(places, op.get_attr("index_type").name)]


def _repeated(made: Made, op: Any, x: Any, sizes: Any) -> Any:
    """The nearest of the positions before, where each of them is taken equally often."""
    for axis, n in enumerate(_integers(sizes), start=1):
        if op.get_attr("align_corners") or n % x.shape[axis]:
            return _refused(op)
        x = x if n == x.shape[axis] else ops.repeat(x, n // x.shape[axis], axis=axis)
    return x


REDUCTIONS = {
    "All": ops.all,
    "Any": ops.any,
    "Max": ops.max,
    "Mean": ops.mean,
    "Min": ops.min,
    "Prod": ops.prod,
    "Sum": ops.sum,
}
REDUCTIONS["EuclideanNorm"] = _euclidean_norm

# What each operation of a TensorFlow graph is in Keras, by the name that TensorFlow has for it.
OPERATIONS: dict[str, Operation] = {
    **{name: _one_by_one(function) for name, function in ONE_BY_ONE.items()},
    **{name: _reduced(function) for name, function in REDUCTIONS.items()},
    **dict.fromkeys(
        ("Identity", "StopGradient", "PreventGradient", "Snapshot", "CheckNumerics", "EnsureShape"), _first
    ),
    "IdentityN": _same,
    "LeakyRelu": _alpha(ops.leaky_relu, negative_slope="alpha"),
    "Cast": _cast,
    "BiasAdd": _bias_added,
    "BiasAddV1": lambda made, op, values: _one_by_one(ops.add)(made, op, values),
    "Softmax": _last_axis(ops.softmax),
    "LogSoftmax": _last_axis(ops.log_softmax),
    "Shape": _of_shape(_shape),
    "Rank": _of_shape(_rank),
    "Size": _of_shape(_size),
    "ZerosLike": _of_shape(_filled(0)),
    "OnesLike": _of_shape(_filled(1)),
    "Reshape": _reshaped,
    "ExpandDims": _widened,
    "Squeeze": _squeezed,
    "Transpose": _plain(_transposed),
    "ConcatV2": _plain(_joined),
    "Pack": _plain(_stacked),
    "Unpack": _plain(_unstacked),
    "Split": _plain(_split),
    "SplitV": _plain(_split_unevenly),
    "StridedSlice": _plain(_strided),
    "Slice": _plain(_sliced),
    "GatherV2": _plain(_gathered),
    "ResourceGather": _plain(_looked_up_in_weights),
    "Pad": _plain(_padded),
    "PadV2": _plain(_padded),
    "MirrorPad": _plain(_padded),
    "Tile": _plain(_tiled),
    "BroadcastTo": _plain(_broadcast),
    "ReverseV2": _plain(_reversed),
    "Roll": _plain(_rolled),
    "Cumsum": _summed_up(ops.cumsum),
    "Cumprod": _summed_up(ops.cumprod),
    "TopKV2": _plain(_largest),
    "ResizeNearestNeighbor": _plain(_repeated),
    "OneHot": _plain(_one_hot),
    "ArgMax": _place_of_largest(ops.argmax),
    "ArgMin": _place_of_largest(ops.argmin),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _product),
    "Einsum": _plain(_einsum),
    "Conv2D": _windows(_convolved, "strides", "dilations"),
    "Conv3D": _windows(_convolved, "strides", "dilations"),
    "DepthwiseConv2dNative": _windows(_convolved_by_channel, "strides", "dilations"),
    "Conv2DBackpropInput": _plain(_convolved_back),
    **{name: _windows(_pooled(ops.max_pool), "ksize", "strides") for name in ("MaxPool", "MaxPool3D")},
    **{name: _windows(_pooled(ops.average_pool), "ksize", "strides") for name in ("AvgPool", "AvgPool3D")},
    "SpaceToBatchND": _plain(_dealt_out),
    "BatchToSpaceND": _dealt_back,
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), _plain(_normalised)),
}
