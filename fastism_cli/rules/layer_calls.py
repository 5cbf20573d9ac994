"""How rules call a layer: its settings, the arguments of an operation, and arrays of a window as Keras takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from fastism_cli.model import backend
from fastism_cli.model.graph import Input, Node, Shape
from fastism_cli.rules.base import Decline, Facts, Window


def first_spatial(layer: Any) -> int:
    """The first spatial axis of a layer with a ``data_format``, batch not counted."""
    return 0 if layer.data_format == "channels_last" else 1


def without_activation(layer: Any, linear: Callable[[Any], Any]) -> Callable[[Any], Any] | None:
    """``linear``, which is the layer without its activation; None if it has none."""
    return None if layer.activation in (None, keras.activations.linear) else linear


def arguments(node: Node) -> list[Any]:
    """All arguments of the call, positional first: :class:`Input`, numbers, arrays."""
    args, kwargs = node.arguments
    return list(keras.tree.flatten((args, list(kwargs.values()))))


def has_other_arguments(node: Node) -> bool:
    """Whether a layer of Keras is called with a constant, such as a mask, beside what it works on and ``training``."""
    args, kwargs = node.arguments
    beside = dict(list(kwargs.items())[0 if args else 1 :])
    given = keras.tree.flatten((args[1:], [x for name, x in beside.items() if name != "training"]))
    is_of_keras = isinstance(node.layer, keras.Layer) and type(node.layer).__module__.startswith("keras.")
    return is_of_keras and not all(x is None or isinstance(x, Input) for x in given)


def argument(node: Node, place: int, name: str) -> Any:
    """One argument of the call, given by position or by name; None if it is left out."""
    args, kwargs = node.arguments
    return args[place] if place < len(args) else kwargs.get(name)


def is_constant(x: Any) -> bool:
    """Whether an argument is given, and no tensor of the model is in it."""
    return x is not None and not any(isinstance(part, Input) for part in keras.tree.flatten(x))


def is_infinite_somewhere(node: Node) -> bool:
    """Whether an infinite number is among the constants of a call, or in an array of them."""
    no_numbers = (Input, str, bool, slice, keras.Variable)  # weights are numbers, but finite ones
    constants = (x for x in arguments(node) if not isinstance(x, no_numbers) and x is not None)
    return any(getattr(x, "dtype", None) != "bool" and _has_infinity(x) for x in constants)


def _has_infinity(x: Any) -> bool:
    try:
        return bool(np.isinf(backend.to_numpy(x)).any())
    except (TypeError, ValueError):  # it holds no numbers
        return False


def broadcast_shape(array: Any, rank: int) -> Shape:
    """The shape, batch not counted, in which an array broadcasts to a tensor of ``rank`` axes as in NumPy."""
    shape: Sequence[int] = tuple(getattr(array, "shape", ()))
    if len(shape) == rank + 1 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) > rank:
        raise Decline(f"takes a constant of shape {tuple(shape)}, one for each sequence of a batch")
    return (1,) * (rank - len(shape)) + tuple(shape)


def _bounds(operation: Any) -> list[np.ndarray]:
    """The bounds of ``clip``, which its operation keeps."""
    given = [getattr(operation, name, None) for name in ("x_min", "x_max")]
    return [np.asarray(x) for x in given if x is not None]


def require_no_constant_by_position(facts: Facts, axis: int) -> None:
    """Decline for a call with a constant array that differs along an axis of the output, that of the positions."""
    for x in [*arguments(facts.node), *_bounds(facts.layer)]:
        if getattr(x, "shape", ()) in ((), None) or isinstance(x, Input):
            continue
        if broadcast_shape(x, len(facts.shape))[axis] != 1:
            raise Decline("has a constant that differs by position")


# --- arrays of a window ----------------------------------------------------------------------------------------------

# (S, P, A, width, *channels): S are sequences, P substituted positions, A alternates; ``width`` are the positions of
# the frame. The axis of positions leads the channels, wherever it is in the tensor.


def to_keras(x: Any, axis: int = 0) -> Any:
    """(S, P, A, width, *channels) -> (S * P * A, ...) with the positions at ``axis``, as a Keras layer expects them."""
    return ops.moveaxis(merge_batch(x), 1, 1 + axis) if axis else merge_batch(x)


def from_keras(x: Any, like: Any, axis: int = 0) -> Any:
    """The reverse of :func:`to_keras`, with the first axes of ``like``."""
    return split_batch(ops.moveaxis(x, 1 + axis, 1) if axis else x, like)


def merge_batch(x: Any) -> Any:
    """(S, P, A, ...) -> (S * P * A, ...), the batch that a Keras layer expects."""
    return ops.reshape(x, (-1, *x.shape[3:]))


def split_batch(x: Any, like: Any) -> Any:
    """(S * P * A, ...) -> (S, P, A, ...) with the first axes of ``like``."""
    return ops.reshape(x, (*like.shape[:3], *x.shape[1:]))


def per_position(mask: Any, rank: int) -> Any:
    """A (P, width) array shaped to broadcast over (S, P, A, width, *channels) of this rank."""
    return ops.reshape(mask, (1, mask.shape[0], 1, mask.shape[1], *(1,) * (rank - 4)))


def along_positions(weight: Any, window: Window) -> Any:
    """An array (*shape of the tensor, ...), cut out where it was flattened, as (length, *channels, ...)."""
    if window.flat is not None:
        rows = weight[window.flat.before : window.flat.before + window.elements]
        weight = ops.reshape(rows, (*window.shape, *rows.shape[1:]))
    return ops.moveaxis(weight, window.axis, 0)


def without(shape: Sequence[Any], axis: int) -> tuple[Any, ...]:
    """A shape, or anything by axis, without one of its axes."""
    return (*shape[:axis], *shape[axis + 1 :])


def window_axes(axes: tuple[int, ...], positions: int) -> tuple[int, ...]:
    """The axes of a window that are these of the tensor (batch not counted), whose positions lie at ``positions``."""
    return tuple(3 if a == positions else 4 + a - (a > positions) for a in axes)


def lowest(dtype: str) -> Any:
    """The most negative finite number: what a maximum over nothing counts as."""
    return ops.cast(-3e38 if "64" not in str(dtype) else -1.7e308, dtype)
