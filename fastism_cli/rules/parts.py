"""Nodes that :mod:`fastism_cli.parts` puts into a graph where one tensor has several windows.

Every part of such a tensor is a tensor of its own: the reference, and what one window changes of it. The parts' deltas
add up to that of the tensor, wherever the windows lie and whether they meet or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from keras import ops

from fastism_cli.graph import Node
from fastism_cli.rules.base import Call, Extra, Facts, Rule, Splits, State, Window
from fastism_cli.rules.strips import Strip
from fastism_cli.rules.table import define
from fastism_cli.windows import Frame


@dataclass(frozen=True)
class Still:
    """A tensor as it is on the reference."""

    name: str

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        return [arrays[0]]


@dataclass(frozen=True)
class Whole:
    """All parts of a tensor as one. Its inputs are the parts, and the tensor as it is on the reference."""

    name: str
    why_opaque: str

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        *parts, still = arrays
        return [still + sum(part - still for part in parts)]


@dataclass(frozen=True)
class Later:
    """A further part of the output of a node that is not linear: what its window adds to that of the parts before.

    ``f(x + earlier + own) - f(x + earlier)``, besides ``f(x)``. The inputs are those of the node with this window's
    change; the same with the earlier changes, of the node's inputs that ``earlier`` numbers; and the node's inputs as
    they are on the reference.
    """

    name: str
    node: Node
    rule: Rule
    earlier: tuple[int, ...]

    @property
    def count(self) -> int:
        """Inputs of the node."""
        return len(self.node.inputs)

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        own, still = arrays[: self.count], arrays[-self.count :]
        changes = [x - still[number] for number, x in zip(self.earlier, arrays[self.count : -self.count], strict=True)]
        after, before = self.added(own, changes), self.added(still, changes)
        return [self.node.call(after)[0] - self.node.call(before)[0] + self.node.call(still)[0]]

    def added(self, inputs: Sequence[Any], changes: Sequence[Any]) -> list[Any]:
        """The node's inputs with the earlier changes."""
        total = list(inputs)
        for number, change in zip(self.earlier, changes, strict=True):
            total[number] = total[number] + change
        return total


class LaterRule(Rule):
    """The node's own rule on two values in place of one. Where no window meets another, on one."""

    def __init__(self, rule: Rule | None = None) -> None:
        if rule is not None:
            self.rule = rule
            self.fused, self.fills, self.any_axis, self.pulls = rule.fused, rule.fills, rule.any_axis, rule.pulls

    def choose(self, node: Node) -> Rule:
        return LaterRule(node.layer.rule)

    @staticmethod
    def inner(facts: Facts) -> Facts:
        """What the node's rule knows of it."""
        n = facts.layer.count
        return Facts(facts.layer.node, facts.states[:n], facts.shapes[:n], facts.shape)

    def propagate(self, facts: Facts) -> State:
        return self.rule.propagate(self.inner(facts))

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        """Earlier windows stay in their frames: they are moved only in chunks in which they meet this one."""
        own = self.rule.demand(self.inner(facts), output)
        still = [frame_like(frame, state) for frame, state in zip(own, facts.states, strict=False)]
        return (*own, *(None for _ in facts.layer.earlier), *still)

    def prepare(self, node: Node) -> dict[str, Any]:
        return self.rule.prepare(node.layer.node)

    def constants(self, facts: Facts) -> dict[str, Any]:
        return self.rule.constants(self.inner(facts))

    def extras(self, facts: Facts, output: State) -> dict[str, Extra]:
        return self.rule.extras(self.inner(facts), output)

    def multiply_adds(self, facts: Facts, output: State) -> int:
        return 2 * self.rule.multiply_adds(self.inner(facts), output)

    def scratch(self, facts: Facts) -> int:
        return 2 * self.rule.scratch(self.inner(facts))

    def both(self, call: Call, new: Sequence[Any], reference: Sequence[Any]) -> tuple[Any, Any]:
        layer: Later = call.layer
        n, m = layer.count, len(layer.earlier)
        own, still = list(new[:n]), list(reference[:n])
        changes = [new[n + i] - reference[n + i] for i in range(m)]
        result = self.apply(call, still)
        if not changes:
            return self.apply(call, own), result

        def together() -> Any:
            moved = [self.moved(call, i, change) for i, change in enumerate(changes)]
            before = self.apply(call, layer.added(still, moved))
            return self.apply(call, layer.added(own, moved)) - before + result

        return ops.cond(self.meet(call), together, lambda: self.apply(call, own)), result

    def apply(self, call: Call, inputs: Sequence[Any]) -> Any:
        facts = self.inner(call.facts)
        call, splits = replace(call, facts=facts), self.rule.splits_of(facts)
        if splits is Splits.VIEWS:
            inputs = [strip.whole((), "") for strip in self.rule.views(call, Strip.of(inputs[0]))]
        elif splits is Splits.STRIPS:
            inputs = [Strip.of(x) for x in inputs]
        return self.rule.value(call, *inputs)

    @staticmethod
    def frames(call: Call, i: int) -> tuple[Frame, Frame]:
        """The frame of an earlier change, and that in which it is wanted."""
        layer: Later = call.layer
        old, new = call.facts.states[layer.count + i], call.facts.states[layer.earlier[i]]
        assert isinstance(old, Window)
        if isinstance(new, Window):
            return old.frame, new.frame
        return old.frame, next(s for s in call.facts.states if isinstance(s, Window)).frame

    def moved(self, call: Call, i: int, change: Any) -> Any:
        """An earlier change in the frame of this window."""
        strip = call.move(Strip.of(change), *self.frames(call, i))
        return strip.whole(change.shape, change.dtype)

    def meet(self, call: Call) -> Any:
        """Whether an earlier change reaches into the frame of this window, for any position of the chunk."""
        found: Any = False
        for i in range(len(call.layer.earlier)):
            old, new = self.frames(call, i)
            first, other = call.first(old), call.first(new)
            overlap = ops.logical_and(first < other + new.width, other < first + old.width)
            found = ops.logical_or(found, ops.any(overlap))
        return found


def frame_like(frame: Frame | None, state: State) -> Frame | None:
    """The frame that an input is wanted in, or has."""
    return state.frame if frame is None and isinstance(state, Window) else frame


define(LaterRule(), Later)
