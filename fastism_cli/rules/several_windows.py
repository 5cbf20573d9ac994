"""Nodes with several windows: no Keras layers, but what stands for one where its input changes in several places.

:mod:`fastism_cli.engine.split_windows` puts them into the graph. There each window of a tensor is a tensor of its own:
the reference, and what that window changes of it. The deltas of the windows add up to that of the tensor, wherever the
windows lie and whether they meet or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import prod
from typing import Any

from keras import ops

from fastism_cli.model import backend
from fastism_cli.model.graph import REFERENCE, Node
from fastism_cli.rules.base import EVERYWHERE, Call, Decline, Extra, Facts, Form, Rule, Splits, State, Window
from fastism_cli.rules.frames import Frame, hull
from fastism_cli.rules.global_pool import Maximum
from fastism_cli.rules.layer_calls import lowest, per_position
from fastism_cli.rules.window_rows import Strip


@dataclass(frozen=True)
class SumOfWindows:
    """All windows of a tensor in one tensor. Its inputs are the windows, and the tensor as it is on the reference."""

    name: str
    why_opaque: str

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        *windows, reference = arrays
        return [reference + sum(window - reference for window in windows)]


@dataclass(frozen=True)
class FurtherWindow:
    """A further window of the output of a node that is not linear: what it adds to the windows before.

    Where it meets earlier windows, it is ``f(x + earlier + own)`` less what the earlier windows of the output changed:
    all windows add up to the change of the tensor with one rounding, however many they are. The inputs are those of
    the node with this window's change; the same with the earlier changes, of the node's inputs that ``earlier``
    numbers; the node's inputs as they are on the reference; and the earlier windows of the output.
    """

    name: str
    node: Node
    rule: Rule
    earlier: tuple[int, ...]

    @property
    def input_slices(self) -> tuple[slice, slice, slice, slice]:
        """Which inputs are which: own, earlier, those of the reference, earlier outputs."""
        n, m = len(self.node.inputs), len(self.earlier)
        return slice(n), slice(n, n + m), slice(n + m, 2 * n + m), slice(2 * n + m, None)

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        own, earlier, reference, outputs = (arrays[at] for at in self.input_slices)
        changes = [x - reference[number] for number, x in zip(self.earlier, earlier, strict=True)]
        before = self.node.call(reference)[0]
        deltas = self.added([x - old for x, old in zip(own, reference, strict=True)], changes)
        total = self.node.call([old + delta for old, delta in zip(reference, deltas, strict=True)])[0]
        return [total - sum(output - before for output in outputs)]

    def added(self, own: Sequence[Any], changes: Sequence[Any]) -> list[Any]:
        """The deltas of the node's inputs, None where nothing changes, and the earlier ones added to them."""
        total = list(own)
        for number, change in zip(self.earlier, changes, strict=True):
            total[number] = change if total[number] is None else total[number] + change
        return total


class FurtherWindowRule(Rule):
    """The node's own rule, on all changes where windows meet, and on its own change where none does."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.fused, self.fills, self.any_axis, self.pulls = rule.fused, rule.fills, rule.any_axis, rule.pulls

    @staticmethod
    def facts_of_node(facts: Facts) -> Facts:
        """What the node's rule knows of it."""
        own, *_ = facts.layer.input_slices
        return Facts(facts.layer.node, facts.states[own], facts.shapes[own], facts.shape)

    def propagate(self, facts: Facts) -> State:
        return self.rule.propagate(self.facts_of_node(facts))

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        """Earlier windows stay in their frames: they are moved only in chunks in which they meet this one."""
        own = self.rule.demand(self.facts_of_node(facts), output)
        reference = [frame_like(frame, state) for frame, state in zip(own, facts.states, strict=False)]
        *_, outputs = facts.layer.input_slices
        return (*own, *(None for _ in facts.layer.earlier), *reference, *(None for _ in facts.states[outputs]))

    def operand_forms(self, facts: Facts, form: Form) -> tuple[Form, ...]:
        """Changes are added up before they are added to the reference: that is one rounding for all of them."""
        _, _, reference, _ = (range(len(facts.states))[at] for at in facts.layer.input_slices)
        return tuple(Form.VALUE if i in reference else Form.DELTA for i in range(len(facts.states)))

    def prepare(self, facts: Facts) -> dict[str, Any]:
        return self.rule.prepare(self.facts_of_node(facts))

    def constants(self, facts: Facts) -> dict[str, Any]:
        return self.rule.constants(self.facts_of_node(facts))

    def extras(self, facts: Facts, output: State) -> dict[str, Extra]:
        return self.rule.extras(self.facts_of_node(facts), output)

    def multiply_adds(self, facts: Facts, output: State) -> int:
        return self.rule.multiply_adds(self.facts_of_node(facts), output)

    def scratch(self, facts: Facts) -> int:
        return 2 * self.rule.scratch(self.facts_of_node(facts))

    def both(self, call: Call, new: Sequence[Any], reference: Sequence[Any]) -> tuple[Any, Any]:
        layer: FurtherWindow = call.layer
        own, earlier, _, outputs = (new[at] for at in layer.input_slices)
        unchanged = reference[layer.input_slices[2]]
        result = self.apply(call, unchanged)

        def of(deltas: Sequence[Any]) -> Any:
            return self.apply(call, [x if d is None else x + d for x, d in zip(unchanged, deltas, strict=True)])

        def together() -> Any:
            changes = [moved(call, x, *frames) for x, frames in zip(earlier, self.input_frames(call), strict=True)]
            made = [moved(call, x, *frames) for x, frames in zip(outputs, self.output_frames(call), strict=True)]
            return of(layer.added(own, changes)) - reduce(ops.add, made)

        if not layer.earlier:
            return of(own), result
        return ops.cond(self.meet(call), together, lambda: of(own)), result

    def apply(self, call: Call, inputs: Sequence[Any]) -> Any:
        facts = self.facts_of_node(call.facts)
        call, splits = replace(call, facts=facts), self.rule.splits_of(facts)
        if splits is Splits.VIEWS:
            inputs = [strip.as_array((), "") for strip in self.rule.views(call, Strip.of(inputs[0]))]
        elif splits is Splits.STRIPS:
            inputs = [Strip.of(x) for x in inputs]
        return self.rule.value(call, *inputs)

    @staticmethod
    def input_frames(call: Call) -> list[tuple[Frame, Frame]]:
        """The frame of every earlier change, and that in which it is wanted."""
        layer: FurtherWindow = call.layer
        own, earlier, _, _ = (call.facts.states[at] for at in layer.input_slices)
        (any_frame, *_) = (state.frame for state in own if isinstance(state, Window))
        wanted = [state.frame if isinstance(state, Window) else any_frame for state in own]
        return [(frame_of(state), wanted[number]) for number, state in zip(layer.earlier, earlier, strict=True)]

    @staticmethod
    def output_frames(call: Call) -> list[tuple[Frame, Frame]]:
        """The frame of every earlier window of the output, and that of this one."""
        *_, outputs = call.layer.input_slices
        return [(frame_of(state), call.frame) for state in call.facts.states[outputs]]

    def meet(self, call: Call) -> Any:
        """Whether an earlier change reaches into the frame of this window, for any position of the chunk."""
        return that_meet(call, self.input_frames(call))


def moved(call: Call, change: Any, old: Frame, new: Frame) -> Any:
    """A change of one window in the frame of another."""
    return call.move(Strip.of(change), old, new).as_array(change.shape, change.dtype)


def that_meet(call: Call, pairs: Sequence[tuple[Frame, Frame]]) -> Any:
    """Whether the frames of any of these pairs have a position in common, for any position of the chunk."""
    found: Any = False
    for old, new in pairs:
        first, other = call.first(old), call.first(new)
        overlap = ops.logical_and(first < other + new.width, other < first + old.width)
        found = ops.logical_or(found, ops.any(overlap))
    return found


def frame_of(state: State) -> Frame:
    assert isinstance(state, Window)
    return state.frame


def frame_like(frame: Frame | None, state: State) -> Frame | None:
    """The frame that an input is wanted in, or has."""
    return state.frame if frame is None and isinstance(state, Window) else frame


# --- the maximum over the positions -----------------------------------------------------------------------------------

MAX_TABLE_ELEMENTS = 1 << 25


@dataclass(frozen=True)
class MaximumOverWindows:
    """A maximum over positions of a tensor that has several windows.

    Its inputs are the windows, and as often the tensor as it is on the reference.
    """

    name: str
    node: Node
    rule: Maximum
    n_windows: int

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        reference = arrays[-1]
        return self.node.call([reference + sum(window - reference for window in arrays[: self.n_windows])])


class MaximumOverWindowsRule(Rule):
    """Compare the reference outside of all windows, which is tabled, with the values inside of each.

    The maximum of the reference over any gap between windows is that of two overlapping stretches whose length is a
    power of two. They are tabled once for each sequence (the sparse table of Bender and Farach-Colton 2000).
    """

    any_axis = True

    def __init__(self, rule: Maximum) -> None:
        self.rule = rule

    @staticmethod
    def facts_of_node(facts: Facts) -> Facts:
        """What the node's own rule knows of the first window."""
        return Facts(facts.layer.node, facts.states[:1], facts.shapes[:1], facts.shape)

    def propagate(self, facts: Facts) -> State:
        inner = self.facts_of_node(facts)
        if self.rule.propagate(inner) is not EVERYWHERE:
            raise Decline("keeps the positions")
        length = inner.window.frame.length
        if length.bit_length() * prod(inner.window.shape) > MAX_TABLE_ELEMENTS:
            raise Decline("needs all windows of the change at once, and is too large for a table of its maxima")
        return EVERYWHERE

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        windows = facts.states[: facts.layer.n_windows]
        return (*(None for _ in windows), *(frame_of(state) for state in windows))

    def operand_forms(self, facts: Facts, form: Form) -> tuple[Form, ...]:
        return (*(Form.DELTA,) * facts.layer.n_windows, *(Form.VALUE,) * facts.layer.n_windows)

    def summarise(self, facts: Facts, *inputs: Any) -> dict[str, Any]:
        """Entry ``j`` of the table, at ``i``: the maximum of ``2 ** j`` positions from ``i`` on; and that of all."""
        x = level = ops.moveaxis(inputs[-1], 1 + self.facts_of_node(facts).window.axis, 1)
        length, table = x.shape[1], [x]
        for j in range(1, length.bit_length()):
            half = 1 << (j - 1)
            level = ops.concatenate([ops.maximum(level[:, :-half], level[:, half:]), level[:, -half:]], axis=1)
            table.append(level)
        return {"table": ops.stack(table, axis=1), "all": ops.max(x, axis=1, keepdims=True)}

    def both(self, call: Call, new: Sequence[Any], reference: Sequence[Any]) -> tuple[Any, Any]:
        deltas, unchanged = new[: call.layer.n_windows], reference[call.layer.n_windows :]
        frames = [frame_of(state) for state in call.facts.states[: call.layer.n_windows]]
        values = [x + delta for x, delta in zip(unchanged, deltas, strict=True)]

        def inside(i: int, x: Any) -> Any:
            valid = per_position(call.valid(frames[i]), len(x.shape))
            return ops.max(ops.where(valid, x, lowest(x.dtype)), axis=3, keepdims=True)

        def apart() -> Any:
            return reduce(ops.maximum, [inside(i, x) for i, x in enumerate(values)])

        def together() -> Any:
            return reduce(ops.maximum, [inside(i, unchanged[i] + in_frame(i)) for i in range(len(frames))])

        def in_frame(i: int) -> Any:
            """The changes of all windows in the frame of one."""
            moves = [moved(call, x, old, frames[i]) for x, old in zip(deltas, frames, strict=True)]
            return reduce(ops.add, moves)

        pairs = [(a, b) for i, a in enumerate(frames) for b in frames[:i]]
        inner = ops.cond(that_meet(call, pairs), together, apart)
        table = call.summary["table"]
        gaps = [over_range(table, *gap) for gap in self.gaps(call, frames, table.shape[4])]
        outer = ops.expand_dims(ops.expand_dims(reduce(ops.maximum, gaps), 2), 2)
        of_node = replace(call, facts=self.facts_of_node(call.facts))
        found = (ops.maximum(inner, outer), call.summary["all"])
        return self.rule.reduce(of_node, found[0], ops.max), self.rule.reduce(of_node, found[1], ops.max)

    @staticmethod
    def gaps(call: Call, frames: Sequence[Frame], length: int) -> list[tuple[Any, Any]]:
        """First and last-plus-one positions (P,) of the gaps before, between and behind the frames."""
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
    found = ops.maximum(*(backend.take(rows, at, axis=1) for at in ends))
    some = ops.reshape(size > 0, (1, -1, *(1,) * (len(found.shape) - 2)))
    return ops.where(some, found, lowest(found.dtype))


# --- the two letters of a pair ---------------------------------------------------------------------------------------

# :mod:`fastism_cli.engine.split_windows` puts these nodes into the graph. The change of the sequence is the sum of two
# windows of one position, some distance apart. A linear layer is computed for each: for all letters of the first, and
# for all letters of the second. The sum of both has all pairs of letters, in one window from the first to the second::
#
#     sequence            . . a . . . b . . .      two windows, 3 letters each
#     Conv1D(3)           . a a a . b b b . .      two windows, 3 letters each
#     sum                 . x x x . x x x . .      one window, 9 pairs of letters


@dataclass(frozen=True)
class LetterOfPair:
    """Layer of a node that hands the sequence on, with the window of one of the two letters.

    Attributes
    ----------
    distances : tuple of int
        How far the letter lies behind the first one, for all pairs that begin at one position.
    """

    name: str
    distances: tuple[int, ...]

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        return [arrays[0]]

    def window(self, pairs: Window) -> Window:
        """The window of the letter, where the pairs have ``pairs``."""
        n = len(self.distances)
        starts = tuple(start + self.distances[j % n] for j, start in enumerate(pairs.frame.starts))
        return replace(pairs, frame=replace(pairs.frame, starts=starts, width=1))


@dataclass(frozen=True)
class SumOfLetters:
    """Layer of a node that adds up what the two letters change. Both inputs are the same tensor of the model."""

    name: str

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        return [arrays[0]]


def of_one_letter(nodes: Sequence[Node]) -> frozenset[int]:
    """The tensors of a graph that one letter of a pair changes: their deltas have n alternates, all others n * n."""
    found: set[int] = set()
    for node in nodes:
        is_read = bool(found.intersection(node.inputs)) and node.role != REFERENCE
        if isinstance(node.layer, LetterOfPair) or (is_read and not isinstance(node.layer, SumOfLetters)):
            found.update(node.outputs)
    return frozenset(found)


def pairs_sharing(nodes: Sequence[Node], letters: int) -> dict[int, int]:
    """How many pairs of other letters share what one letter changes, for each tensor that one letter changes."""
    return dict.fromkeys(of_one_letter(nodes), max(letters - 1, 1))


class SumOfLettersRule(Rule):
    """The sum of two deltas (S, P, n, width, ...) for all pairs of letters, (S, P, n * n, hull, ...)."""

    form = Form.DELTA
    splits = Splits.ROWS
    keeps_places = True
    fills = False
    pulls = False
    any_axis = True
    begins = True

    def propagate(self, facts: Facts) -> State:
        return replace(facts.windows[0], frame=hull(window.frame for window in facts.windows))

    def delta(self, call: Call, *inputs: Any) -> Any:
        first, second = inputs
        by_first = None if first is None else first[:, :, :, None]
        by_second = None if second is None else second[:, :, None]
        if by_first is None or by_second is None:
            known = by_first if by_second is None else by_second
            assert known is not None
            n = known.shape[2] * known.shape[3]
            total = ops.broadcast_to(known, (*known.shape[:2], n, n, *known.shape[4:]))
        else:
            total = by_first + by_second
        return ops.reshape(total, (*total.shape[:2], total.shape[2] * total.shape[3], *total.shape[4:]))
