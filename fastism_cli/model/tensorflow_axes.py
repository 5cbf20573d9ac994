"""Operations of TensorFlow that ask for, cut, join, move or sum up axes.

TensorFlow's own description of its operations: https://www.tensorflow.org/api_docs/python/tf/raw_ops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import Any

import numpy as np
from keras import ops

from fastism_cli.model.tensorflow_values import (
    BATCHES,
    NOT_WIDENED,
    Apart,
    Beside,
    Made,
    NotFollowedError,
    Operation,
    Rows,
    constant_of,
    integers_of,
    is_symbol,
    of_whole,
    operand_of,
    refused,
    settled,
    sizes_of,
    with_axis,
)


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
    given, sizes = values[0], sizes_of(values[1])
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
    axes = [axis % len(x.shape) for axis in integers_of(value)]
    if 0 in axes:
        raise NotFollowedError("it works along the axis of the sequences")
    return axes


def _reduced(function: Callable[..., Any]) -> Operation:
    def computed(made: Made, op: Any, x: Any, axis: Any) -> Any:
        axes = _axes(axis, x)
        if not axes:
            return x
        return function(x, axis=axes[0] if len(axes) == 1 else tuple(axes), keepdims=op.get_attr("keep_dims"))

    def of_any(made: Made, op: Any, values: list[Any]) -> Any:
        if isinstance(values[0], Beside) and not op.get_attr("keep_dims") and integers_of(values[1]) == [0]:
            return merged(op.type, values[0].symbols)
        return of_whole(computed)(made, op, values)

    return of_any


def merged(kind: str, symbols: Sequence[Any]) -> Any:
    """What a reduction over the axis on which symbols lie side by side makes of them."""
    if kind not in MERGING:
        raise NotFollowedError(f"it uses TensorFlow's {kind} of tensors side by side")
    total = reduce(MERGING[kind], symbols)
    return total / len(symbols) if kind == "Mean" else total


MERGING = {"Mean": ops.add, "Sum": ops.add, "Prod": ops.multiply, "Max": ops.maximum, "Min": ops.minimum}


def _widened(made: Made, op: Any, values: list[Any]) -> Any:
    x, axis = values
    if isinstance(x, Rows):
        raise NotFollowedError("it puts sequences side by side")
    symbol = x.symbol if isinstance(x, Apart) else x
    (place,) = integers_of(axis)
    place %= len(symbol.shape) + 1
    if place == 0:
        raise NotFollowedError("it works along the axis of the sequences")
    y = with_axis(made, symbol, place)
    return Apart(y, (*x.rates[: place - 1], 1, *x.rates[place - 1 :])) if isinstance(x, Apart) else y


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
    axes = integers_of(order)
    if axes[0] != 0:
        raise NotFollowedError("it works along the axis of the sequences")
    return x if axes == sorted(axes) else ops.transpose(x, axes)


def _joined(made: Made, op: Any, *values: Any) -> Any:
    *parts, place = values
    rank = next(len(x.shape) for x in parts if is_symbol(x))
    axis = integers_of(place)[0] % rank
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
    """Symbols and constants side by side: the symbols are padded where constants lie, and these are added."""
    arrays = {i: operand_of(x) for i, x in enumerate(parts) if not is_symbol(x)}
    if not all(map(np.ndim, arrays.values())):
        raise NotFollowedError("it puts a single number beside a tensor")
    lengths = [arrays.get(i, x).shape[axis] for i, x in enumerate(parts)]
    starts = [0, *np.cumsum(lengths).tolist()]
    places = [i for i in range(len(parts)) if i not in arrays]
    ends = [0, *places[1:], len(parts)]
    padded, added = [], []
    for place, first, stop in zip(places, ends[:-1], ends[1:], strict=True):
        beside = [i for i in range(first, stop) if i in arrays and lengths[i]]
        number = _one_number_of([arrays[i] for i in beside])
        before, after = starts[place] - starts[first], starts[stop] - starts[place + 1]
        padded.append(_padded_by(parts[place], axis, before, after, number or 0))
        added += [(arrays[i], starts[i]) for i in beside if number is None]
    y = ops.concatenate(padded, axis=axis) if len(padded) > 1 else padded[0]
    return y + _laid_out(added, y, axis) if added else y


def _one_number_of(arrays: Sequence[np.ndarray]) -> Any | None:
    """The number that all of these consist of; None if they have several, or none."""
    if not arrays:
        return None
    numbers = np.unique(np.concatenate([np.ravel(array) for array in arrays]))
    return numbers[0].item() if numbers.size == 1 else None


def _padded_by(x: Any, axis: int, before: int, after: int, number: Any) -> Any:
    if not before and not after:
        return x
    width = [(before, after) if i == axis else (0, 0) for i in range(len(x.shape))]
    return ops.pad(x, width, constant_values=number)


def _laid_out(constants: Sequence[tuple[np.ndarray, int]], like: Any, axis: int) -> np.ndarray:
    """Constants at their places along an axis, zero elsewhere: an array (1, ...) that is as long as ``like``."""
    if like.dtype in ("bool", "bfloat16"):
        raise NotFollowedError(f"it uses {like.dtype} numbers beside a tensor")
    laid_out = np.zeros((1, *like.shape[1:]), like.dtype)
    for array, start in constants:
        _along(laid_out, axis)[start : start + array.shape[axis]] = _along(array, axis)
    return laid_out


def _along(array: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(array, axis, 0)


def _stacked(made: Made, op: Any, *parts: Any) -> Any:
    axis = op.get_attr("axis") % (next(len(x.shape) for x in parts if is_symbol(x)) + 1)
    if axis == 0:
        if not all(map(is_symbol, parts)):
            raise NotFollowedError("it works along the axis of the sequences")
        return Beside(parts)
    if not all(map(is_symbol, parts)):
        wide = [ops.expand_dims(x, axis) if is_symbol(x) else np.expand_dims(operand_of(x), axis) for x in parts]
        return _joined_with_constants(wide, axis)
    together = _items_in_a_row(made, parts, axis)
    return ops.stack(parts, axis=axis) if together is None else together


def _items_in_a_row(made: Made, parts: Sequence[Any], axis: int) -> Any | None:
    """A slice of a tensor that was taken apart, if these are its items in a row; None for others."""
    found = [made.items.get(id(x), (None, None, -1, -1)) for x in parts]
    _, whole, _, first = found[0]
    if whole is None or any(
        (x is not whole, along, place) != (False, axis, first + i) for i, (_, x, along, place) in enumerate(found)
    ):
        return None
    return whole if len(parts) == whole.shape[axis] else _at(whole, axis, slice(first, first + len(parts)))


def _unstacked(made: Made, op: Any, x: Any) -> Any:
    axis = op.get_attr("axis") % len(x.shape)
    if axis == 0:
        raise NotFollowedError("it works along the axis of the sequences")
    found = [_at(x, axis, i) for i in range(op.get_attr("num"))]
    made.items.update({id(item): (item, x, axis, i) for i, item in enumerate(found)})
    return found


def _at(x: Any, axis: int, key: Any) -> Any:
    """``x[..., key]``, at ``axis``."""
    return x[(*(slice(None) for _ in range(axis)), key)]


def _split(made: Made, op: Any, axis: Any, x: Any) -> Any:
    (place,) = _axes(axis, x)
    count = op.get_attr("num_split")
    return _pieces(made, x, place, [x.shape[place] // count] * count)


def _split_unevenly(made: Made, op: Any, x: Any, sizes: Any, axis: Any) -> Any:
    (place,) = _axes(axis, x)
    lengths = integers_of(sizes)
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
    starts, stops, steps = sizes_of(begin), sizes_of(end), integers_of(strides)
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
    return cut(made, x, keys, added)


def cut(made: Made, x: Any, keys: list[Any], added: Sequence[int] = ()) -> Any:
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
        x = with_axis(made, x, axis)
    return x


def _takes_all_sequences(key: Any) -> bool:
    return isinstance(key, slice) and key.start in (None, 0) and key.stop in (None, "1") and key.step in (None, 1)


def _sliced(made: Made, op: Any, x: Any, begin: Any, size: Any) -> Any:
    keys = []
    for start, n in zip(integers_of(begin), sizes_of(size), strict=True):
        keys.append(slice(start, n if isinstance(n, str) else None if n == -1 else start + n))
    return cut(made, x, keys)


def _gathered(made: Made, op: Any, x: Any, indices: Any, axis: Any) -> Any:
    if op.get_attr("batch_dims"):
        raise NotFollowedError("it uses TensorFlow's GatherV2 with batch_dims")
    (place,) = integers_of(axis)
    if not is_symbol(x):
        return _looked_up(made, op, x, indices) if place == 0 else refused(op)
    if is_symbol(indices):
        return refused(op)
    (place,) = _axes(axis, x)
    found = constant_of(indices)
    if found.ndim == 0:
        return _at(x, place, int(found))
    if (at := _as_slice(found)) is not None:
        return _at(x, place, at)
    return ops.take(x, found, axis=place)


def _as_slice(indices: np.ndarray) -> slice | None:
    """Numbers with equal steps as a slice; None for others."""
    steps = set(np.diff(indices).tolist()) if indices.ndim == 1 else set()
    if len(steps) != 1 or not (step := steps.pop()) or indices.min() < 0:
        return None
    stop = int(indices[-1]) + (1 if step > 0 else -1)
    return slice(int(indices[0]), stop if stop >= 0 else None, step)


def _looked_up(made: Made, op: Any, table: Any, indices: Any) -> Any:
    return ops.take(constant_of(table), indices, axis=0)


def _looked_up_in_weights(made: Made, op: Any, resource: Any, indices: Any) -> Any:
    import tensorflow as tf

    if op.get_attr("batch_dims"):
        return refused(op)
    table = tf.raw_ops.ReadVariableOp(resource=resource, dtype=op.get_attr("dtype"))
    return _looked_up(made, op, table, indices)


def _padded(made: Made, op: Any, x: Any, widths: Any, *number: Any) -> Any:
    sides = [(int(a), int(b)) for a, b in constant_of(widths)]
    if sides[0] != (0, 0):
        raise NotFollowedError("it works along the axis of the sequences")
    if op.type == "MirrorPad":
        return ops.pad(x, sides, mode=op.get_attr("mode").decode().lower())
    return ops.pad(x, sides, constant_values=operand_of(number[0]) if number else 0)


def _tiled(made: Made, op: Any, x: Any, times: Any) -> Any:
    repeats = integers_of(times)
    if repeats[0] != 1:
        raise NotFollowedError("it works along the axis of the sequences")
    return x if set(repeats) == {1} else ops.tile(x, repeats)


def _broadcast(made: Made, op: Any, x: Any, sizes: Any) -> Any:
    wanted = sizes_of(sizes)
    if len(wanted) != len(x.shape) or wanted[0] != "1":
        raise NotFollowedError("it works along the axis of the sequences")
    for axis, n in enumerate(wanted[1:], start=1):
        x = x if x.shape[axis] == n else ops.repeat(x, int(n), axis=axis)
    return x


def _reversed(made: Made, op: Any, x: Any, axis: Any) -> Any:
    axes = _axes(axis, x)
    return ops.flip(x, axis=axes[0] if len(axes) == 1 else tuple(axes)) if axes else x


def _rolled(made: Made, op: Any, x: Any, shift: Any, axis: Any) -> Any:
    for by, place in zip(integers_of(shift), _axes(axis, x), strict=True):
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

    return of_whole(computed)


def _one_hot(made: Made, op: Any, indices: Any, depth: Any, on: Any, off: Any) -> Any:
    if (float(constant_of(on)), float(constant_of(off))) != (1.0, 0.0):
        return refused(op)
    return ops.one_hot(indices, int(constant_of(depth)), axis=op.get_attr("axis"), dtype=op.get_attr("T").name)


def _place_of_largest(function: Callable[..., Any]) -> Operation:
    def computed(made: Made, op: Any, x: Any, axis: Any) -> Any:
        return ops.cast(function(x, axis=_axes(axis, x)[0]), op.get_attr("output_type").name)

    return of_whole(computed)


def _euclidean_norm(x: Any, **options: Any) -> Any:
    return ops.sqrt(ops.sum(ops.square(x), **options))


def _largest(made: Made, op: Any, x: Any, count: Any) -> Any:
    values, places = ops.top_k(x, int(constant_of(count)), sorted=op.get_attr("sorted"))
    return [values, ops.cast(places, op.get_attr("index_type").name)]


def _repeated(made: Made, op: Any, x: Any, sizes: Any) -> Any:
    """The nearest of the positions before, where each of them is taken equally often."""
    for axis, n in enumerate(integers_of(sizes), start=1):
        if op.get_attr("align_corners") or n % x.shape[axis]:
            return refused(op)
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

# By the name that TensorFlow has for them.
AXES: dict[str, Operation] = {
    **{name: _reduced(function) for name, function in REDUCTIONS.items()},
    "Shape": _of_shape(_shape),
    "Rank": _of_shape(_rank),
    "Size": _of_shape(_size),
    "ZerosLike": _of_shape(_filled(0)),
    "OnesLike": _of_shape(_filled(1)),
    "Reshape": _reshaped,
    "ExpandDims": _widened,
    "Squeeze": _squeezed,
    "Transpose": of_whole(_transposed),
    "ConcatV2": of_whole(_joined),
    "Pack": of_whole(_stacked),
    "Unpack": of_whole(_unstacked),
    "Split": of_whole(_split),
    "SplitV": of_whole(_split_unevenly),
    "StridedSlice": of_whole(_strided),
    "Slice": of_whole(_sliced),
    "GatherV2": of_whole(_gathered),
    "ResourceGather": of_whole(_looked_up_in_weights),
    "Pad": of_whole(_padded),
    "PadV2": of_whole(_padded),
    "MirrorPad": of_whole(_padded),
    "Tile": of_whole(_tiled),
    "BroadcastTo": of_whole(_broadcast),
    "ReverseV2": of_whole(_reversed),
    "Roll": of_whole(_rolled),
    "Cumsum": _summed_up(ops.cumsum),
    "Cumprod": _summed_up(ops.cumprod),
    "TopKV2": of_whole(_largest),
    "ResizeNearestNeighbor": of_whole(_repeated),
    "OneHot": of_whole(_one_hot),
    "ArgMax": _place_of_largest(ops.argmax),
    "ArgMin": _place_of_largest(ops.argmin),
}
