"""Dense, along the channels of every position, or over the positions; Embedding, of integers made of one-hot rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any

from keras import ops

from fastism_cli.model.graph import Node
from fastism_cli.rules.base import EVERYWHERE, Call, Decline, Extra, Facts, Form, Rule, State, Window
from fastism_cli.rules.frames import Frame, equal_stretches
from fastism_cli.rules.layer_calls import along_positions, merge_batch, split_batch, without_activation
from fastism_cli.rules.window_rows import place


class Dense(Rule):
    """``y = x @ kernel``.

    A sum over the positions, as of a flattened tensor, takes the rows of the kernel that the window meets alone.
    """

    form = Form.DELTA
    linear = True
    fused = False
    pulls = False
    fills = False
    any_axis = True

    def propagate(self, facts: Facts) -> State:
        window = facts.window
        if sums_over_positions(window):
            return EVERYWHERE
        return replace(window, channels=(*window.channels[:-1], facts.shape[-1]))

    def constants(self, facts: Facts) -> dict[str, Any]:
        window = facts.window
        if not sums_over_positions(window):
            return {}
        kernel = ops.convert_to_tensor(facts.layer.kernel)
        rows = kernel if window.flat is None else along_positions(kernel, window)
        return {"rows": ops.reshape(rows, (window.frame.length, channels_summed(window), kernel.shape[1]))}

    def extras(self, facts: Facts, output: State) -> dict[str, Extra]:
        if isinstance(output, Window):
            return {}
        frame, groups = facts.window.frame, self.groups(facts)
        return {"rows": Extra("rows", replace(frame, starts=groups.starts, width=groups.width), separate=True)}

    def groups(self, facts: Facts) -> StartGroups:
        """How the positions share slices of the kernel, where it sums over them."""
        return start_groups(facts.window.frame, channels_summed(facts.window) * facts.layer.kernel.shape[1])

    def split(self, node: Node) -> Callable[[Any], Any] | None:
        layer = node.layer

        def linear(x: Any) -> Any:
            y = ops.matmul(x, layer.kernel)
            return y + layer.bias if layer.use_bias else y

        return without_activation(layer, linear)

    def needs_order(self, facts: Facts) -> bool:
        return sums_over_positions(facts.window)

    def product(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        if isinstance(call.output, Window):
            return ops.matmul(x, call.layer.kernel)
        frame, groups = call.facts.window.frame, self.groups(call.facts)
        if groups.width != frame.width:
            x = call.stage(lambda x: place(x, groups.offsets(frame), groups.width))(x)
        if call.facts.window.flat is None:
            x = ops.moveaxis(x, 3, -1)
        kernels = zip(groups.bounds, call.extras["rows"], strict=True)
        products = [self._rows_product(x[:, a:b], kernel) for (a, b), kernel in kernels]
        summed = ops.concatenate(products, axis=1) if len(products) > 1 else products[0]
        return ops.reshape(summed, (*x.shape[:3], *call.facts.shape))

    @staticmethod
    def _rows_product(x: Any, kernel: Any) -> Any:
        """(S, P, A, ..., elements) times (1, width, channels, units), in which width * channels are the elements."""
        _, width, channels, units = kernel.shape
        products = ops.matmul(ops.reshape(x, (-1, width * channels)), ops.reshape(kernel, (-1, units)))
        return ops.reshape(products, (*x.shape[:2], -1, units))

    def multiply_adds(self, facts: Facts, output: State) -> int:
        window, units = facts.window, facts.layer.kernel.shape[1]
        width = window.frame.width if isinstance(output, Window) else self.groups(facts).width
        return int(width * prod(window.channels) * units)


def sums_over_positions(window: Window) -> bool:
    return window.flat is not None or window.axis == window.rank - 1


def channels_summed(window: Window) -> int:
    """Elements of each position that are summed up with it: those of a flattened tensor, or one."""
    return prod(window.channels) if window.flat is not None else 1


@dataclass(frozen=True)
class StartGroups:
    """Neighbouring positions that share one slice of ``width`` rows of the kernel.

    ``bounds`` are (first, stop) positions of the chunk, ``starts`` where the slices begin.
    """

    bounds: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]
    width: int

    def offsets(self, frame: Frame) -> tuple[int, ...]:
        """Where each position's frame begins in the slice of its group."""
        slices = zip(self.bounds, self.starts, strict=True)
        return tuple(frame.starts[j] - start for (first, stop), start in slices for j in range(first, stop))


# A matrix product costs as much as one with this many positions more: the slice of the kernel is read from memory.
OVERHEAD_POSITIONS = 13
# And it takes at least as long as this many multiplications of a single substitution.
OVERHEAD_MULTIPLICATIONS = 1e6


@cache
def start_groups(frame: Frame, row: int) -> StartGroups:
    """The groups that cost least: small ones read few rows that they do not need, large ones make large products.

    ``row`` is the number of weights that one position of the tensor meets.
    """
    stretches = equal_stretches(frame.starts)
    sizes = [2**i for i in range(len(stretches).bit_length() + 1)]

    def work(groups: StartGroups) -> float:
        overhead = max(OVERHEAD_POSITIONS * groups.width, OVERHEAD_MULTIPLICATIONS / row)
        return groups.width * len(frame.starts) + overhead * len(groups.bounds)

    return min((_grouped(frame, stretches, size) for size in sizes), key=work)


def _grouped(frame: Frame, stretches: list[tuple[int, int, int]], size: int) -> StartGroups:
    groups = [stretches[i : i + size] for i in range(0, len(stretches), size)]
    bounds = tuple((group[0][0], group[-1][1]) for group in groups)
    starts = tuple(min(start for _, _, start in group) for group in groups)
    widest = max(max(start for _, _, start in group) - low for group, low in zip(groups, starts, strict=True))
    return StartGroups(bounds, starts, frame.width + widest)


# --- Embedding -------------------------------------------------------------------------------------------------------


class ToIntegers(Rule):
    """One-hot rows to the integer of each position's letter."""

    form = Form.VALUE

    def propagate(self, facts: Facts) -> State:
        return Window(facts.window.frame, facts.window.channels[:-1])

    def value(self, call: Call, *inputs: Any) -> Any:
        return call.facts.node.call(inputs)[0]  # as floating-point numbers: see engine/rewrite.py


class Lookup(Rule):
    """A row of weights for each integer."""

    form = Form.VALUE

    def propagate(self, facts: Facts) -> State:
        if facts.window.flat is not None:
            raise Decline("reads a flattened tensor")
        return Window(facts.window.frame, (*facts.window.channels, facts.layer.output_dim))

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        return split_batch(call.layer(merge_batch(x)), x)
