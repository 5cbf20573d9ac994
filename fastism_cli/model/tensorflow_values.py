"""What flows along the edges of a TensorFlow graph that is read as operations of Keras; what its operations share.

TensorFlow's own description of its operations: https://www.tensorflow.org/api_docs/python/tf/raw_ops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
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


class Beside(NamedTuple):
    """Symbols of one shape on a new first axis, before that of the sequences: members of a mean, or strands."""

    symbols: tuple[Any, ...]


def is_symbol(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def is_symbolic(value: Any) -> bool:
    return is_symbol(value) or isinstance(value, (Rows, Apart, Beside))


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


def integers_of(value: Any) -> list[int]:
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


def sizes_of(value: Any) -> list[int | str]:
    """A shape; the length of an axis that grows with the number of sequences is a text: its length for each of them."""
    if not isinstance(value, OfBatch):
        return list(integers_of(value))
    first, second = (np.asarray(x).reshape(-1) for x in value.values)
    return [int(a) if a == b else str(_each(int(a), int(b))) for a, b in zip(first, second, strict=True)]


def _each(first: int, second: int) -> int:
    if first * BATCHES[1] != second * BATCHES[0] or first % BATCHES[0]:
        raise NotFollowedError("it uses a size that depends on the number of sequences")
    return first // BATCHES[0]


def refused(op: Any) -> Any:
    raise NotFollowedError(f"it uses TensorFlow's {op.type}")


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
    items : dict
        The same for symbols without this axis.
    """

    widened: dict[int, tuple[Any, Any, int]] = field(default_factory=dict)
    pieces: dict[int, tuple[Any, Any, int, int]] = field(default_factory=dict)
    items: dict[int, tuple[Any, Any, int, int]] = field(default_factory=dict)


def with_axis(made: Made, x: Any, axis: int) -> Any:
    y = ops.expand_dims(x, axis)
    made.widened[id(y)] = (y, x, axis)
    return y


# A function of these, the operation, and the values of its inputs; returns a value, or a list of them.
Operation = Callable[[Made, Any, list[Any]], Any]


def one_by_one(function: Callable[..., Any]) -> Operation:
    """An operation of which every element depends on the elements at its place."""

    def computed(made: Made, op: Any, values: list[Any]) -> Any:
        if any(isinstance(x, Beside) for x in values):
            raise NotFollowedError("it puts sequences side by side")
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


def of_whole(function: Callable[..., Any]) -> Operation:
    """An operation of symbols that are whole."""

    def computed(made: Made, op: Any, values: list[Any]) -> Any:
        if any(isinstance(x, (Rows, Apart, Beside)) for x in values):
            raise NotFollowedError("it puts sequences side by side")
        return function(made, op, *values)

    return computed
