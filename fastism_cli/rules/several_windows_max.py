"""The maximum over the positions of a tensor that has several windows: inside each of them, and in the gaps between.

The maximum of the reference over any gap is that of two overlapping stretches whose length is a power of two, which are
tabled once for each sequence (the sparse table of Bender and Farach-Colton 2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import prod
from typing import Any

from keras import ops

from fastism_cli.model.graph import Node
from fastism_cli.rules.base import EVERYWHERE, Call, Decline, Facts, Form, Rule, State, per_position
from fastism_cli.rules.frames import Frame
from fastism_cli.rules.global_pool import Maximum
from fastism_cli.rules.pool import lowest
from fastism_cli.rules.several_windows import frame_of, moved, that_meet
from fastism_cli.rules.table import define

MOST_ELEMENTS = 1 << 25  # of a table


@dataclass(frozen=True)
class Peak:
    """A maximum over positions. Its inputs are the parts of the tensor, and as often what it is on the reference."""

    name: str
    node: Node
    rule: Maximum
    count: int

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        still = arrays[-1]
        return self.node.call([still + sum(part - still for part in arrays[: self.count])])


class PeakRule(Rule):
    any_axis = True

    def __init__(self, rule: Maximum | None = None) -> None:
        if rule is not None:
            self.rule = rule

    def choose(self, node: Node) -> Rule:
        return PeakRule(node.layer.rule)

    @staticmethod
    def inner(facts: Facts) -> Facts:
        """What the node's own rule knows of the first part."""
        return Facts(facts.layer.node, facts.states[:1], facts.shapes[:1], facts.shape)

    def propagate(self, facts: Facts) -> State:
        inner = self.inner(facts)
        if self.rule.propagate(inner) is not EVERYWHERE:
            raise Decline("keeps the positions")
        length = inner.window.frame.length
        if length.bit_length() * prod(inner.window.shape) > MOST_ELEMENTS:
            raise Decline("needs all windows of the change at once, and is too large for a table of its maxima")
        return EVERYWHERE

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        parts = facts.states[: facts.layer.count]
        return (*(None for _ in parts), *(frame_of(state) for state in parts))

    def operand_forms(self, facts: Facts, form: Form) -> tuple[Form, ...]:
        return (*(Form.DELTA,) * facts.layer.count, *(Form.VALUE,) * facts.layer.count)

    def summarise(self, facts: Facts, *inputs: Any) -> dict[str, Any]:
        """Entry ``j`` of the table, at ``i``: the maximum of ``2 ** j`` positions from ``i`` on; and that of all."""
        x = level = ops.moveaxis(inputs[-1], 1 + self.inner(facts).window.axis, 1)
        length, table = x.shape[1], [x]
        for j in range(1, length.bit_length()):
            half = 1 << (j - 1)
            level = ops.concatenate([ops.maximum(level[:, :-half], level[:, half:]), level[:, -half:]], axis=1)
            table.append(level)
        return {"table": ops.stack(table, axis=1), "all": ops.max(x, axis=1, keepdims=True)}

    def both(self, call: Call, new: Sequence[Any], reference: Sequence[Any]) -> tuple[Any, Any]:
        deltas, stills = new[: call.layer.count], reference[call.layer.count :]
        frames = [frame_of(state) for state in call.facts.states[: call.layer.count]]
        values = [x + delta for x, delta in zip(stills, deltas, strict=True)]

        def inside(i: int, x: Any) -> Any:
            valid = per_position(call.valid(frames[i]), len(x.shape))
            return ops.max(ops.where(valid, x, lowest(x.dtype)), axis=3, keepdims=True)

        def apart() -> Any:
            return reduce(ops.maximum, [inside(i, x) for i, x in enumerate(values)])

        def together() -> Any:
            return reduce(ops.maximum, [inside(i, stills[i] + in_frame(i)) for i in range(len(frames))])

        def in_frame(i: int) -> Any:
            """The changes of all windows in the frame of one."""
            moves = [moved(call, x, old, frames[i]) for x, old in zip(deltas, frames, strict=True)]
            return reduce(ops.add, moves)

        pairs = [(a, b) for i, a in enumerate(frames) for b in frames[:i]]
        inner = ops.cond(that_meet(call, pairs), together, apart)
        table = call.summary["table"]
        gaps = [over_range(table, *gap) for gap in self.gaps(call, frames, table.shape[4])]
        outer = ops.expand_dims(ops.expand_dims(reduce(ops.maximum, gaps), 2), 2)
        of_node = replace(call, facts=self.inner(call.facts))
        found = (ops.maximum(inner, outer), call.summary["all"])
        return self.rule.reduce(of_node, found[0], ops.max), self.rule.reduce(of_node, found[1], ops.max)

    @staticmethod
    def gaps(call: Call, frames: Sequence[Frame], length: int) -> list[tuple[Any, Any]]:
        """First and last-plus-one positions (P,) of what lies before, between and behind the frames."""
        starts = ops.stack([call.first(frame) for frame in frames], axis=1)
        stops = starts + ops.convert_to_tensor([frame.width for frame in frames], dtype=starts.dtype)
        order = ops.argsort(starts, axis=1)
        starts, stops = (ops.clip(ops.take_along_axis(x, order, axis=1), 0, length) for x in (starts, stops))
        reached, found = ops.zeros_like(starts[:, 0]), []
        for i in range(len(frames)):
            found.append((reached, starts[:, i]))
            reached = ops.maximum(reached, stops[:, i])
        return [*found, (reached, ops.full_like(reached, length))]


def over_range(table: Any, first: Any, stop: Any) -> Any:
    """Maxima (S, P, *channels) over positions ``first`` to ``stop`` (P,), from a table (S, 1, 1, levels, L, ...)."""
    levels, length = table.shape[3:5]
    size = stop - first
    level = sum((ops.cast(size >= (1 << j), first.dtype) for j in range(1, levels)), ops.zeros_like(first))
    span = ops.take(ops.convert_to_tensor([1 << j for j in range(levels)], dtype=first.dtype), level)
    rows = ops.reshape(table, (table.shape[0], levels * length, *table.shape[5:]))
    ends = [level * length + ops.clip(at, 0, length - 1) for at in (first, stop - span)]
    found = ops.maximum(*(ops.take(rows, at, axis=1) for at in ends))
    some = ops.reshape(size > 0, (1, -1, *(1,) * (len(found.shape) - 2)))
    return ops.where(some, found, lowest(found.dtype))


define(PeakRule(), Peak)
