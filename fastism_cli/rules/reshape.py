"""Reshape, Flatten, Permute, Cropping1D, ZeroPadding1D, UpSampling1D and operations like pad and transpose: moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Any

from keras import ops

from fastism_cli.model.graph import Shape
from fastism_cli.rules.base import EVERYWHERE, Call, Decline, Facts, Flat, Form, Rule, Splits, State, Window
from fastism_cli.rules.frames import Frame, changed_outputs, expand_groups, needed_inputs, touched_groups
from fastism_cli.rules.layer_calls import window_axes, without
from fastism_cli.rules.window_rows import Strip

# --- reshaping --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Regrouping:
    """Where the positions are after a reshape, and how they are grouped.

    ``together`` positions become one, whose channels hold the others of the group; or one becomes ``apart``
    positions, which its channels held before.
    """

    axis: int
    together: int = 1
    apart: int = 1

    @property
    def keeps(self) -> bool:
        return self.together == self.apart == 1


class Reshaped(Rule):
    """A reshape that keeps the positions, or makes groups of equal size of them, or takes such groups apart.

    In a flattened tensor a window is known by where its tensor begins (see :class:`~fastism_cli.rules.base.Flat`).
    """

    form = Form.EITHER
    linear = True
    keeps_places = True  # a valid position is made of valid ones, grouped or not
    any_axis = True
    condition = "if positions keep places of their own, alone or in groups of one size"

    def propagate(self, facts: Facts) -> State:
        window, shape = facts.window, facts.shape
        if window.flat is not None and (window.flat.before, window.flat.total) != (0, window.elements):
            if len(shape) == 1:
                return window
            raise Decline("reshapes a flattened tensor that holds more than the sequence")
        if None in shape or prod(shape) != prod(facts.shapes[0]):
            raise Decline("changes the batch axis")
        if is_flat(facts) and len(window.shape) > 1:
            before, after = prod(window.shape[: window.axis]), prod(window.shape[window.axis + 1 :])
            channels = (before, after) if before > 1 else (after,)
            return replace(window, channels=channels, axis=len(channels) - 1, flat=Flat(0, shape[0]))
        how = regrouping(facts)
        frame = touched_groups(window.frame, how.together) if how.apart == 1 else expand_groups(window.frame, how.apart)
        return Window(frame, without(shape, how.axis), axis=how.axis)

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        assert isinstance(output, Window)
        how = regrouping(facts)
        frame = expand_groups(output.frame, how.together) if how.apart == 1 else touched_groups(output.frame, how.apart)
        return (frame,)

    def splits_of(self, facts: Facts) -> Splits:
        return Splits.ROWS if regrouping(facts).keeps else Splits.NONE

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        assert isinstance(call.output, Window)
        channels, window = call.output.channels, call.facts.window
        how = regrouping(call.facts)
        if how.keeps:
            return ops.reshape(x, (*x.shape[:4], *channels))
        before, rows = prod(window.shape[: window.axis]), x.shape[3]
        if how.together > 1:
            y = ops.reshape(x, (-1, rows // how.together, how.together, before, prod(x.shape[4:]) // before))
            y = ops.transpose(y, (0, 1, 3, 2, 4)) if before > 1 else y
            return ops.reshape(y, (*x.shape[:3], rows // how.together, *channels))
        y = ops.reshape(x, (-1, rows, before, how.apart, prod(x.shape[4:]) // before // how.apart))
        y = ops.transpose(y, (0, 1, 3, 2, 4)) if before > 1 else y
        y = ops.reshape(y, (*x.shape[:3], rows * how.apart, *channels))
        moved = call.move(Strip.of(y), expand_groups(window.frame, how.apart), call.frame)
        return moved.as_array(y.shape, y.dtype)

    delta = value


def is_flat(facts: Facts) -> bool:
    """Whether the result has one axis: the window's rows are what they were."""
    return len(facts.shape) == 1


def regrouping(facts: Facts) -> Regrouping:
    """What the reshape does with the positions; declines if it mixes them with channels."""
    if is_flat(facts):
        return Regrouping(0)
    window, shape = facts.window, facts.shape
    length, before = window.frame.length, prod(window.shape[: window.axis])
    axes = [axis for axis in range(len(shape)) if prod(shape[:axis]) == before]
    for axis in axes:
        if shape[axis] == length:
            return Regrouping(axis)
    for axis in axes:
        if 1 < shape[axis] < length and length % shape[axis] == 0:
            return Regrouping(axis, together=length // shape[axis])
        if 1 < length < shape[axis] and shape[axis] % length == 0:
            return Regrouping(axis, apart=shape[axis] // length)
    raise Decline(f"reshapes {facts.shapes[0]} to {shape}, which puts channels among the positions")


class Flatten(Reshaped):
    """Flatten. With 'channels_first' the layer transposes first, so that the rule declines."""

    condition = "if every position keeps a place of its own"

    def propagate(self, facts: Facts) -> State:
        if facts.layer.data_format == "channels_first" and len(facts.shapes[0]) > 1:
            raise Decline("data_format 'channels_first' transposes before it flattens")
        return super().propagate(facts)


# --- transposing ------------------------------------------------------------------------------------------------------

# Returns the axes of the input in the order of the output, batch not counted.
Order = Callable[[Facts], tuple[int, ...]]


class Transposed(Rule):
    """The axes in another order."""

    form = Form.EITHER
    linear = True
    splits = Splits.ROWS
    keeps_places = True
    any_axis = True

    def __init__(self, order: Order) -> None:
        self.order = order

    def propagate(self, facts: Facts) -> State:
        window, order = facts.window, self.order(facts)
        if order == tuple(range(len(order))):
            return window
        axis = order.index(window.axis)
        return replace(window, channels=without(facts.shape, axis), axis=axis)

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        order, along = self.order(call.facts), call.facts.window.axis
        channels = [4 + a - (a > along) for a in order if a != along]
        return ops.transpose(x, (0, 1, 2, 3, *channels)) if len(order) > 1 else x

    delta = value


def permuted(facts: Facts) -> tuple[int, ...]:
    """The order of Permute."""
    return tuple(a - 1 for a in facts.layer.dims)


def axes_argument(facts: Facts) -> tuple[int, ...]:
    """The order of ``transpose``."""
    rank = len(facts.shape) + 1
    axes = facts.layer.axes
    return _batch_first(tuple(a % rank for a in axes) if axes is not None else tuple(reversed(range(rank))))


def swapped(facts: Facts) -> tuple[int, ...]:
    """The order of ``swapaxes``."""
    rank = len(facts.shape) + 1
    order = list(range(rank))
    a, b = facts.layer.axis1 % rank, facts.layer.axis2 % rank
    order[a], order[b] = b, a
    return _batch_first(tuple(order))


def moved(facts: Facts) -> tuple[int, ...]:
    """The order of ``moveaxis``."""
    rank = len(facts.shape) + 1
    source, destination = (
        [a % rank for a in (x if isinstance(x, (list, tuple)) else [x])]
        for x in (facts.layer.source, facts.layer.destination)
    )
    order = [a for a in range(rank) if a not in source]
    for at, a in sorted(zip(destination, source, strict=True)):
        order.insert(at, a)
    return _batch_first(tuple(order))


def _batch_first(order: tuple[int, ...]) -> tuple[int, ...]:
    if order[0] != 0:
        raise Decline("moves the batch axis")
    return tuple(a - 1 for a in order[1:])


# --- slicing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entries:
    """Entries ``start, start + step, ...`` of an axis, ``count`` of them."""

    start: int
    step: int
    count: int

    @property
    def indices(self) -> slice:
        stop = self.start + self.count * self.step
        return slice(self.start, None if stop < 0 else stop, self.step)


@dataclass(frozen=True)
class Cutting:
    """Which entries of every axis of a tensor are taken (batch not counted): several, or one, whose axis is dropped.

    ``new`` are the places in the result at which an axis of length 1 is inserted.
    """

    taken: tuple[Entries | int, ...]
    new: tuple[int, ...] = ()


class Sliced(Rule):
    """Slices of the positions, forwards or backwards, and of the channels. Backwards, windows move the other way."""

    form = Form.DELTA
    linear = True
    leaks = True
    any_axis = True

    def __init__(self, cutting: Callable[[Facts], Cutting]) -> None:
        self.cutting = cutting

    def propagate(self, facts: Facts) -> State:
        window, cutting = facts.window, self.cutting(facts)
        if window.flat is not None:
            raise Decline("slices a flattened tensor")
        taken = cutting.taken[window.axis]
        if isinstance(taken, int):
            return EVERYWHERE
        frame, start, step = self.forwards(window.frame, taken)
        frame = changed_outputs(frame, span=1, stride=step, pad_left=-start, n_out=taken.count)
        axis = sum(not isinstance(t, int) for t in cutting.taken[: window.axis])
        for at in cutting.new:
            axis += at <= axis
        return replace(window, frame=frame, channels=without(facts.shape, axis), axis=axis)

    def forwards(self, frame: Frame, taken: Entries) -> tuple[Frame, int, int]:
        """The frame, start and step of the same slice, of the flipped tensor if the step is negative."""
        if taken.step > 0:
            return frame, taken.start, taken.step
        return flipped(frame), frame.length - 1 - taken.start, -taken.step

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        window = facts.window
        taken, length = self.cutting(facts).taken[window.axis], window.frame.length
        if isinstance(taken, int):
            return (Frame((taken,) * len(window.frame.starts), 1, Fraction(0), length),)
        assert isinstance(output, Window)
        _, start, step = self.forwards(window.frame, taken)
        wanted = needed_inputs(output.frame, span=1, stride=step, pad_left=-start, n_in=length)
        return (wanted if taken.step > 0 else flipped(wanted),)

    def delta(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        cutting, along = self.cutting(call.facts), call.facts.window.axis
        taken = cutting.taken[along]
        channels = [t if isinstance(t, int) else t.indices for t in without(cutting.taken, along)]
        rows: Any = 0 if isinstance(taken, int) else slice(None, None, taken.step)
        if not isinstance(taken, int) and taken.step < 0:
            x, rows = ops.flip(x, axis=3), slice(None, None, -taken.step)
        y = x[(slice(None),) * 3 + (rows, *channels)]
        shape = call.facts.shape if isinstance(taken, int) else (y.shape[3], *self.channels_of(call))
        return ops.reshape(y, (*x.shape[:3], *shape))

    def channels_of(self, call: Call) -> Shape:
        assert isinstance(call.output, Window)
        return call.output.channels


def flipped(frame: Frame) -> Frame:
    """The same positions in a tensor that is read from its end."""
    return Frame(tuple(frame.length - stop for stop in frame.stops), frame.width, -frame.step, frame.length)


def all_entries(n: int) -> Entries:
    """All of an axis of length ``n``."""
    return Entries(0, 1, n)


def flip_axes(facts: Facts) -> Cutting:
    """All entries, backwards along the axes of ``flip``."""
    axis, shape = facts.layer.axis, facts.shapes[0]
    rank = len(shape) + 1
    given = range(rank) if axis is None else axis if isinstance(axis, (list, tuple)) else (axis,)
    axes = {a % rank for a in given}
    if 0 in axes:
        raise Decline("flips the batch")
    return Cutting(tuple(Entries(n - 1, -1, n) if i in axes else all_entries(n) for i, n in enumerate(shape, 1)))


def item(facts: Facts) -> Cutting:
    """``x[key]``: numbers, slices, ``None`` and ``...``."""
    args, kwargs = facts.node.arguments
    key = kwargs["key"] if "key" in kwargs else args[1]
    keys = list(key) if isinstance(key, (list, tuple)) else [key]
    shape = facts.shapes[0]
    if Ellipsis not in keys:
        keys.append(Ellipsis)
    at = keys.index(Ellipsis)
    used = sum(k is not None for k in keys) - 1
    keys[at : at + 1] = [slice(None)] * (len(shape) + 1 - used)
    if not all(k is None or isinstance(k, (int, slice)) for k in keys) or keys[0] != slice(None):
        raise Decline("takes entries of the batch, or entries that are data")
    return _read_keys(keys[1:], shape)


def _read_keys(keys: Sequence[Any], shape: Shape) -> Cutting:
    taken: list[Entries | int] = []
    new: list[int] = []
    place = 0
    for key in keys:
        if key is None:
            new.append(place)
        elif isinstance(key, int):
            taken.append(key % shape[len(taken)])
            continue
        else:
            start, stop, step = key.indices(shape[len(taken)])
            taken.append(Entries(start, step, len(range(start, stop, step))))
        place += 1
    return Cutting(tuple(taken), tuple(new))


# --- positions that move and are not mixed ---------------------------------------------------------------------------


class Move(Rule):
    """Cropping1D and ZeroPadding1D: the same positions, counted from another origin."""

    form = Form.DELTA
    linear = True
    splits = Splits.ROWS
    leaks = True

    def __init__(self, amounts: str, sign: int) -> None:
        self.amounts = amounts
        self.sign = sign

    def by(self, facts: Facts) -> int:
        return int(self.sign * getattr(facts.layer, self.amounts)[0])

    def propagate(self, facts: Facts) -> State:
        if getattr(facts.layer, "data_format", "channels_last") != "channels_last":
            raise Decline("its positions are the last axis")
        return Window(facts.window.frame.moved(self.by(facts), facts.shape[0]), facts.window.channels)

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        assert isinstance(output, Window)
        return (output.frame.moved(-self.by(facts), facts.shapes[0][0]),)

    def delta(self, call: Call, *inputs: Any) -> Any:
        return inputs[0]


class Repeat(Rule):
    """Repeat every position, or every channel."""

    form = Form.EITHER
    linear = True
    pulls = False
    fills = False
    any_axis = True

    def __init__(self, amounts: Callable[[Facts], tuple[int, int]]) -> None:
        self.amounts = amounts

    def propagate(self, facts: Facts) -> State:
        axis, size = self.amounts(facts)
        window = facts.window
        frame = expand_groups(window.frame, size) if axis == window.axis else window.frame
        return Window(frame, without(facts.shape, window.axis), axis=window.axis)

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        return (None,)

    def value(self, call: Call, *inputs: Any) -> Any:
        axis, size = self.amounts(call.facts)
        return ops.repeat(inputs[0], size, axis=window_axes((axis,), call.facts.window.axis)[0])

    delta = value


def up_sampling(facts: Facts) -> tuple[int, int]:
    """The axis (batch not counted) and the number of repeats of UpSampling1D."""
    return 0, facts.layer.size


def repeats_argument(facts: Facts) -> tuple[int, int]:
    """The axis (batch not counted) and the number of repeats of ``repeat``."""
    repeats, axis = facts.layer.repeats, facts.layer.axis
    if axis is None or not isinstance(repeats, int) or facts.window.flat is not None:
        raise Decline("repeats entries differently, or those of a flattened tensor")
    if axis % (len(facts.shape) + 1) == 0:
        raise Decline("repeats the sequences of a batch")
    return axis % (len(facts.shape) + 1) - 1, repeats


class Padded(Rule):
    """The operation ``pad`` with a constant, which does not change; the positions move."""

    form = Form.DELTA
    linear = True
    leaks = True
    any_axis = True

    def pads(self, facts: Facts) -> list[tuple[int, int]]:
        widths = list(facts.layer.pad_width)
        if facts.layer.mode != "constant":
            raise Decline(f"pads with values of the tensor (mode {facts.layer.mode!r})")
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
        return ops.pad(inputs[0], [(0, 0)] * 4 + [*without(pads, axis)])
