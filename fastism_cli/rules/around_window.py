"""Reductions over all positions that are no sums: var, std, prod, logsumexp, norm, and means weighted by a softmax.

Each has a total that can be joined: that of the positions before the window, of the window, and of those behind it.
The totals before and behind every position are tabled once for each sequence. Nothing is taken away from a total, so
that no digits are lost where the window holds nearly all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from keras import ops

from fastism_cli.model.graph import Shape
from fastism_cli.rules.base import EVERYWHERE, Call, Decline, Facts, Form, Rule, State, Unchanged, Window
from fastism_cli.rules.einsum import ALPHABET
from fastism_cli.rules.frames import Frame, hull
from fastism_cli.rules.global_pool import ChannelReduce, Reduced
from fastism_cli.rules.layer_calls import lowest, per_position

# The parts of a total, arrays of one shape each.
Total = tuple[Any, ...]


@dataclass(frozen=True)
class Statistic:
    """How a reduction joins totals.

    Attributes
    ----------
    of_each : callable
        The total of every element by itself.
    neutral : tuple
        The total of none; None: the lowest number.
    join : callable
        The total of two totals.
    result : callable
        What the reduction returns for a total.
    centred : bool
        It does not depend on a number that is added to all elements, so that the mean of the reference can be taken
        away from them: small differences of large numbers would lose digits.
    """

    of_each: Callable[..., Total]
    neutral: tuple[float | None, ...]
    join: Callable[[Total, Total], Total]
    result: Callable[[Total], Any]
    centred: bool = False

    def none_like(self, total: Total) -> Total:
        return tuple(
            ops.full_like(x, lowest(x.dtype) if n is None else n) for x, n in zip(total, self.neutral, strict=True)
        )


def over_axis(statistic: Statistic, total: Total, axis: int) -> Total:
    """The total of all entries along ``axis``, which is dropped: neighbours are joined until one is left."""
    while (n := total[0].shape[axis]) > 1:
        left, right, rest = (
            at_axis(total, axis, key) for key in (slice(0, n - 1, 2), slice(1, n, 2), slice(n - n % 2, n))
        )
        total = statistic.join(left, right)
        if n % 2:
            total = tuple(ops.concatenate(pair, axis=axis) for pair in zip(total, rest, strict=True))
    return tuple(ops.squeeze(x, axis) for x in total)


def at_axis(total: Total, axis: int, key: slice) -> Total:
    return tuple(x[(slice(None),) * axis + (key,)] for x in total)


def running(statistic: Statistic, total: Total, *, backwards: bool) -> Total:
    """(S, L, ...) -> (S, L + 1, ...): entry ``i`` is the total before position ``i`` (from ``i`` on, backwards).

    Doubling: after ``k`` rounds every row holds the total of the last ``2 ** k`` rows.
    """
    rows = tuple(ops.flip(x, axis=1) for x in total) if backwards else total
    length, reach = rows[0].shape[1], 1
    rows = tuple(
        ops.concatenate(pair, axis=1)
        for pair in zip(statistic.none_like(at_axis(rows, 1, slice(0, 1))), rows, strict=True)
    )
    while reach <= length:
        joined = statistic.join(at_axis(rows, 1, slice(0, -reach)), at_axis(rows, 1, slice(reach, None)))
        first = at_axis(rows, 1, slice(0, reach))
        rows = tuple(ops.concatenate(pair, axis=1) for pair in zip(first, joined, strict=True))
        reach *= 2
    return tuple(ops.flip(x, axis=1) for x in rows) if backwards else rows


def tables(statistic: Statistic, total: Total) -> dict[str, Any]:
    """The totals before and behind every position, from those of each (S, L, ...), as a summary."""
    sides = {"before": False, "behind": True}
    return {
        f"{side}{i}": x
        for side, backwards in sides.items()
        for i, x in enumerate(running(statistic, total, backwards=backwards))
    }


def with_the_rest(statistic: Statistic, call: Call, frame: Frame, inside: Total) -> Total:
    """The total of all positions (S, P, A, ...), from that of the window ``frame``."""
    first, parts = call.first(frame), range(len(inside))

    def at(side: str, where: Any) -> Total:
        rows = ops.clip(where, 0, frame.length)
        return tuple(ops.expand_dims(ops.take(call.summary[f"{side}{i}"][:, 0, 0], rows, axis=1), 2) for i in parts)

    return statistic.join(statistic.join(at("before", first), inside), at("behind", first + frame.width))


def of_window(statistic: Statistic, call: Call, frame: Frame, total: Total) -> Total:
    """The total of a window, positions outside of the tensor left out, from those of each (S, P, A, width, ...)."""
    inside = call.valid(frame)
    kept = zip(total, statistic.none_like(total), strict=True)
    return over_axis(
        statistic, tuple(ops.where(per_position(inside, len(x.shape)), x, none) for x, none in kept), axis=3
    )


# --- statistics -------------------------------------------------------------------------------------------------------


def _joined_moments(a: Total, b: Total) -> Total:
    """Number, mean and sum of squared distances from it, of two samples in one (Chan, Golub and LeVeque 1979)."""
    (n, mean, squares), (m, other, more) = a, b
    count = n + m
    share = m / ops.maximum(count, 1)
    distance = other - mean
    return count, mean + distance * share, squares + more + ops.square(distance) * n * share


def _joined_exponentials(a: Total, b: Total) -> Total:
    """Largest, and sums of terms in units of its exponential."""
    largest = ops.maximum(a[0], b[0])
    scales = ops.exp(a[0] - largest), ops.exp(b[0] - largest)
    return largest, a[1] * scales[0] + b[1] * scales[1]


def _finite(x: Any) -> Any:
    """Minus infinity as the lowest number."""
    return ops.maximum(x, lowest(x.dtype))


VARIANCE = Statistic(
    lambda x: (ops.ones_like(x), x, ops.zeros_like(x)), (0, 0, 0), _joined_moments, lambda t: t[2] / t[0], centred=True
)
DEVIATION = replace(VARIANCE, result=lambda t: ops.sqrt(t[2] / t[0]))
PRODUCT = Statistic(lambda x: (x,), (1,), lambda a, b: (a[0] * b[0],), lambda t: t[0])
NORM = Statistic(lambda x: (ops.square(x),), (0,), lambda a, b: (a[0] + b[0],), lambda t: ops.sqrt(t[0]))
LOG_SUM_EXP = Statistic(
    lambda x: (_finite(x), ops.exp(x - _finite(x))), (None, 0), _joined_exponentials, lambda t: t[0] + ops.log(t[1])
)


class OverPositions(ChannelReduce):
    """A statistic over the positions, or over channels alone."""

    form = Form.VALUE

    def __init__(self, reduced: Reduced, statistic: Statistic) -> None:
        super().__init__(reduced)
        self.statistic = statistic

    def is_over_positions(self, facts: Facts) -> bool:
        return facts.window.axis in self.reduced(facts)[0] and facts.window.flat is None

    def propagate(self, facts: Facts) -> State:
        if not self.is_over_positions(facts):
            return super().propagate(facts)
        if getattr(facts.layer, "ord", None) not in (None, 2) or (
            getattr(facts.layer, "ord", None) and len(self.reduced(facts)[0]) > 1
        ):
            raise Decline(f"needs all positions for a norm of order {facts.layer.ord}")
        return EVERYWHERE

    def summarise(self, facts: Facts, *inputs: Any) -> dict[str, Any]:
        if not self.is_over_positions(facts):
            return {}
        (x,), axes = inputs, tuple(a + 1 for a in self.reduced(facts)[0])
        center = ops.mean(x, axis=axes, keepdims=True)
        center, x = (ops.moveaxis(y, 1 + facts.window.axis, 1) for y in (center, x))
        if not self.statistic.centred:
            return tables(self.statistic, self.statistic.of_each(x))
        return {"center": center, **tables(self.statistic, self.statistic.of_each(x - center))}

    def value(self, call: Call, *inputs: Any) -> Any:
        facts = call.facts
        if not self.is_over_positions(facts):
            return super().value(call, *inputs)
        (x,), window = inputs, facts.window
        x = x - call.summary["center"] if self.statistic.centred else x
        inside = of_window(self.statistic, call, window.frame, self.statistic.of_each(x))
        total = with_the_rest(self.statistic, call, window.frame, inside)
        others = [a - (a > window.axis) for a in self.reduced(facts)[0] if a != window.axis]
        for axis in sorted(others, reverse=True):
            total = over_axis(self.statistic, total, 3 + axis)
        result = self.statistic.result(total)
        return ops.reshape(result, (*result.shape[:3], *facts.shape))


# --- means weighted by a softmax --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PooledBySoftmax:
    """``einsum(equation, softmax(logits), values)``, which sums over the axis of the softmax; times ``scale``.

    Attributes
    ----------
    letters, values, result : str
        The letters of the logits, of the values and of the result, the batch first. Those of the logits and of the
        values that are not in the result are summed.
    position : str
        The letter along which the softmax works.
    shape : tuple of int
        The shape that the result is given, batch not counted.
    epsilon : float
        Is added to the sum of the exponentials, in units of that of the largest logit if ``shifted``.
    """

    name: str
    letters: str
    values: str
    result: str
    position: str
    shape: Shape
    scale: float = 1.0
    epsilon: float = 0.0
    shifted: bool = False

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        logits, values = arrays
        axis = self.letters.index(self.position)
        largest = ops.max(logits, axis=axis, keepdims=True)
        exponentials = ops.exp(logits - largest)
        weights = exponentials / self.denominator(largest, ops.sum(exponentials, axis=axis, keepdims=True))
        y = ops.einsum(f"{self.letters},{self.values}->{self.result}", weights, values) * self.scale
        return [ops.reshape(y, (-1, *self.shape))]

    def denominator(self, largest: Any, total: Any) -> Any:
        if not self.epsilon:
            return total
        return total + (self.epsilon if self.shifted else self.epsilon * ops.exp(-largest))


class PooledBySoftmaxRule(Rule):
    """The sums of the weights and of the weighted values, in units of the largest weight."""

    any_axis = True

    def propagate(self, facts: Facts) -> State:
        layer: PooledBySoftmax = facts.layer
        if not all(isinstance(state, (Window, Unchanged)) for state in facts.states):
            raise Decline("another input changes everywhere")
        for state, letters in zip(facts.states, (layer.letters, layer.values), strict=True):
            if isinstance(state, Window) and state.axis != letters.index(layer.position) - 1:
                raise Decline("its softmax is not over the positions")
            flat = state.flat if isinstance(state, Window) else None
            if flat is not None and (flat.before or flat.total != facts.windows[0].frame.length):
                raise Decline("pools a flattened tensor that holds more than the positions")
        if len({(window.frame.length, window.frame.step) for window in facts.windows}) > 1:
            raise Decline("its inputs follow the sequence at different strides")
        if any(isinstance(state, Unchanged) for state in facts.states) and self.axes(facts) != self.axes(facts)[::-1]:
            raise Decline("its inputs have their positions along different axes")
        return EVERYWHERE

    @staticmethod
    def axes(facts: Facts) -> tuple[int, int]:
        layer: PooledBySoftmax = facts.layer
        return layer.letters.index(layer.position), layer.values.index(layer.position)

    def frame(self, facts: Facts) -> Frame:
        return hull([window.frame for window in facts.windows])

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        return (self.frame(facts),) * 2

    def multiply_adds(self, facts: Facts, output: State) -> int:
        return prod((self._sizes(facts) | {facts.layer.position: self.frame(facts).width}).values())

    def full_multiply_adds(self, facts: Facts) -> int | None:
        return prod(self._sizes(facts).values())

    @staticmethod
    def _sizes(facts: Facts) -> dict[str, int]:
        layer: PooledBySoftmax = facts.layer
        letters, shapes = (layer.letters[1:], layer.values[1:]), facts.shapes
        return {c: n for term, shape in zip(letters, shapes, strict=True) for c, n in zip(term, shape, strict=True)}

    def summarise(self, facts: Facts, *inputs: Any) -> dict[str, Any]:
        moved = [ops.moveaxis(x, axis, 1) for x, axis in zip(inputs, self.axes(facts), strict=True)]
        return tables(self.statistic(facts.layer), self.of_each(facts.layer, "S", *moved))

    def value(self, call: Call, *inputs: Any) -> Any:
        layer: PooledBySoftmax = call.layer
        statistic, frame = self.statistic(layer), self.frame(call.facts)
        size = tuple(map(max, zip(*(x.shape[:3] for x in inputs), strict=True)))
        ranks = [len(letters) - 2 for letters in (layer.letters, layer.values)]
        logits, values = (
            ops.reshape(
                ops.broadcast_to(x, (*size, *x.shape[3:])), (*size, x.shape[3], *x.shape[len(x.shape) - rank :])
            )
            for x, rank in zip(inputs, ranks, strict=True)
        )
        inside = of_window(statistic, call, frame, self.of_each(layer, "SPA", logits, values))
        return self.result(layer, *with_the_rest(statistic, call, frame, inside))

    # -- totals: the largest logit, the sum of the weights in its units, and that of the weighted values

    @staticmethod
    def kept(layer: PooledBySoftmax) -> str:
        """The letters of the weighted values, without batch and position: the channels of the weights come first."""
        channels = without_letters(layer.letters[1:], layer.position)
        return channels + without_letters(layer.result[1:], channels)

    def of_each(self, layer: PooledBySoftmax, batch: str, logits: Any, values: Any) -> Total:
        """The totals of every position; the positions come after the axes of ``batch``, then the channels."""
        position = layer.position
        given = [without_letters(letters[1:], position) for letters in (layer.letters, layer.values)]
        batch = "".join(c for c in ALPHABET if c not in layer.letters + layer.values + layer.result)[: len(batch)]
        largest = _finite(logits)
        weights = ops.exp(logits - largest)
        terms = [batch + position + letters for letters in given]
        weighted = ops.einsum(f"{','.join(terms)}->{batch}{position}{self.kept(layer)}", weights, values)
        return largest, weights, weighted

    def statistic(self, layer: PooledBySoftmax) -> Statistic:
        added = len(self.kept(layer)) - len(layer.letters[2:])

        def join(a: Total, b: Total) -> Total:
            largest, weights = _joined_exponentials(a[:2], b[:2])
            scales = (_widened(ops.exp(x[0] - largest), added) for x in (a, b))
            return largest, weights, sum(x[2] * scale for x, scale in zip((a, b), scales, strict=True))

        return Statistic(lambda *x: x, (None, 0, 0), join, lambda total: total[0])

    def result(self, layer: PooledBySoftmax, largest: Any, weights: Any, weighted: Any) -> Any:
        """(S, P, A, *shape)"""
        kept, added = self.kept(layer), len(self.kept(layer)) - len(layer.letters[2:])
        y = weighted / _widened(layer.denominator(largest, weights), added) * layer.scale
        batch = "".join(c for c in ALPHABET if c not in kept + layer.result)[:3]
        y = ops.einsum(f"{batch}{kept}->{batch}{layer.result[1:]}", y)
        return ops.reshape(y, (*y.shape[:3], *layer.shape))


def without_letters(letters: str, others: str) -> str:
    return "".join(c for c in letters if c not in others)


def _widened(x: Any, by: int) -> Any:
    """The array with axes of length 1 behind its own."""
    return ops.reshape(x, (*x.shape, *(1,) * by))
