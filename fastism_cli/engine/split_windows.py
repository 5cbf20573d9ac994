"""Give each window a tensor of its own, where a tensor has several: a change beside its mirror image, or in two places.

The graph is rewritten so that each rule sees one window as before. A linear node is repeated for each window. One that
is not linear is repeated too: what a later window adds to the earlier ones is computed for it (see
:mod:`fastism_cli.rules.several_windows`). Where a node needs all positions, or the windows are together as wide as the
tensor, they are added up into one tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from fastism_cli.engine.planner import Propagation
from fastism_cli.model.graph import FURTHER_WINDOW, REFERENCE, LayerGraph, Node, Port, ReferenceTensor
from fastism_cli.rules.base import UNCHANGED, Everywhere, Form, Rule, State, Unchanged, Window
from fastism_cli.rules.combine import Concatenate, Merge
from fastism_cli.rules.frames import hull
from fastism_cli.rules.global_pool import Maximum
from fastism_cli.rules.several_windows import (
    FurtherWindow,
    LetterOfPair,
    MaximumOverWindows,
    SumOfLetters,
    SumOfWindows,
)
from fastism_cli.rules.table import rule_of

MAX_WINDOWS = 4
# Windows of a node's inputs that make one window of its output: tensors, by the number of the input.
Group = dict[int, int]


def with_windows_apart(graph: LayerGraph, input_tensor: int, width: int = 1) -> LayerGraph:
    """The graph with a tensor for every window, and nodes that add them up; itself if no tensor has several.

    ``width`` is that of the blocks that are changed.
    """
    return _Splitter(graph, input_tensor, width).split()


@dataclass
class Written:
    """The new graph as far as it is written.

    Attributes
    ----------
    windows : dict of tensor to list of tensors
        What stands for the tensors that have several windows.
    sums, references : dict of tensor to tensor
        The windows of a tensor added up; a tensor as it is on the reference.
    """

    nodes: list[Node] = field(default_factory=list)
    windows: dict[int, list[int]] = field(default_factory=dict)
    sums: dict[int, int] = field(default_factory=dict)
    references: dict[int, int] = field(default_factory=dict)

    def copy(self) -> Written:
        return Written(list(self.nodes), dict(self.windows), dict(self.sums), dict(self.references))


class _Splitter(Propagation):
    """Propagates a change through the graph while it writes the new one. Old tensors keep their numbers."""

    def __init__(self, graph: LayerGraph, input_tensor: int, width: int) -> None:
        self.written = Written()
        self.old = graph
        super().__init__(graph, input_tensor, [0], Fraction(1), width)

    def split(self) -> LayerGraph:
        if not self.written.windows:
            return self.old
        outputs = [Port(port.name, self.sum_of(port.tensor, "the output is given whole")) for port in self.old.outputs]
        extra = self.graph.tensors[len(self.old.tensors) :]
        return self.old.extended(self.written.nodes, extra, outputs)

    # -- building blocks --

    def _propagate(self, node: Node) -> None:
        several = any(t in self.written.windows for t in node.inputs)
        if several or self._makes_several(node):
            if not self._enter_by_window(node):
                why = self._why_all_at_once(node)
                self._append(replace(node, inputs=tuple(self.sum_of(t, why) for t in node.inputs)))
        else:
            self._append(node)

    def _append(self, node: Node) -> None:
        """Enter a node and the states of its outputs."""
        node = replace(node, index=len(self.written.nodes))
        self.written.nodes.append(node)
        super()._propagate(node)

    def _new_tensor(self, like: int) -> int:
        tensors = self.graph.tensors
        self.graph = replace(self.graph, tensors=(*tensors, tensors[like]))
        self.changed.append(UNCHANGED)
        return len(tensors)

    def windows_of(self, tensor: int) -> list[int]:
        """The tensors that stand for the windows of this one."""
        return self.written.windows.get(tensor, [tensor])

    def reference_of(self, tensor: int) -> int:
        """The tensor as it is on the reference."""
        windows = self.windows_of(tensor)
        if all(self.changed[window] == UNCHANGED for window in windows):
            return windows[0]
        references = self.written.references
        if tensor not in references:
            references[tensor] = self._enter_reference(windows[0], tensor)
        return references[tensor]

    def _enter_reference(self, source: int, like: int) -> int:
        output, layer = self._new_tensor(like), ReferenceTensor()
        self._append(Node(0, layer.name, layer, (source,), (output,), lambda arrays: [arrays[0]], REFERENCE))
        return output

    def sum_of(self, tensor: int, why: str) -> int:
        """The tensor with all its windows in one."""
        if tensor not in self.written.windows:
            return tensor
        sums = self.written.sums
        if tensor not in sums:
            inputs = (*self.windows_of(tensor), self.reference_of(tensor))
            sums[tensor] = self._new_tensor(tensor)
            self._enter_sum(SumOfWindows("windows", why), inputs, sums[tensor])
        return sums[tensor]

    def _enter_sum(self, layer: SumOfWindows, inputs: tuple[int, ...], output: int) -> None:
        self._append(Node(0, layer.name, layer, inputs, (output,), layer, FURTHER_WINDOW))

    # -- nodes on several windows --

    def _makes_several(self, node: Node) -> bool:
        """Whether windows that lie apart meet in this node, which its rule declines and each window alone passes."""
        states = [self.changed[t] for t in node.inputs]
        if not isinstance(rule_of(node), (Merge, Concatenate)) or any(isinstance(s, Everywhere) for s in states):
            return False
        return sum(isinstance(s, Window) for s in states) > 1 and self._try_rule(node)[0] is None

    def _why_all_at_once(self, node: Node) -> str:
        """Why a node cannot be given one window at a time."""
        alone = replace(node, inputs=tuple(self.windows_of(t)[0] for t in node.inputs))
        reason = self._try_rule(alone)[1]
        return f"{node.name}: {reason}" if reason else f"{node.name} needs all windows of the change at once"

    def _enter_by_window(self, node: Node) -> bool:
        """Enter the node once for each window of its output; False if it has to see the whole tensor."""
        rule = rule_of(node)
        states = [self.changed[window] for t in node.inputs for window in self.windows_of(t)]
        if rule is None or len(node.outputs) > 1 or any(isinstance(s, Everywhere) for s in states):
            return False
        if rule.form is Form.DELTA and not rule.linear:
            return False
        groups = self._groups(node, rule)
        if len(groups) > MAX_WINDOWS:
            return False
        if isinstance(rule, Maximum) and self._kept_if(lambda: self._enter_maximum(node, rule)):
            return True
        return self._kept_if(lambda: self._enter_windows(node, rule, groups))

    def _enter_maximum(self, node: Node, rule: Maximum) -> bool:
        """Enter a maximum over the positions, which sees all windows; False if it is none."""
        (tensor,) = node.inputs
        windows = self.windows_of(tensor)
        first, *others = (self.window(window) for window in windows)
        if not all(_lie_alike(first, other) for other in others):
            return False
        layer = MaximumOverWindows(node.name, node, rule, len(windows))
        inputs = (*windows, *(self.reference_of(tensor) for _ in windows))
        self._append(replace(node, layer=layer, inputs=inputs, call=layer))
        return self.rules.get(self.written.nodes[-1].index) is not None

    def _enter_windows(self, node: Node, rule: Rule, groups: list[Group]) -> bool:
        outputs: list[int] = []
        for number in range(len(groups)):
            one = self._node_of_group(node, rule, groups[number], list(zip(groups, outputs, strict=False)))
            if one is None:
                return False
            outputs.append(self._new_tensor(node.outputs[0]))
            self._append(replace(one, outputs=(outputs[-1],)))
            if self.rules.get(self.written.nodes[-1].index) is None:
                return False
            if not (is_linear(rule) or isinstance(self.changed[outputs[-1]], Window)):
                return False
        return self._settle(node, outputs)

    def _groups(self, node: Node, rule: Rule) -> list[Group]:
        """The windows that make one window of the output together."""
        groups: list[Group] = []
        windows = [(i, window) for i, tensor in enumerate(node.inputs) for window in self.windows_of(tensor)]
        for i, window in windows:
            if not isinstance(self.changed[window], Window):
                continue
            group = next((g for g in groups if i not in g and self._fits(g, window, node, rule)), None)
            if group is None:
                groups.append(group := {})
            group[i] = window
        return groups

    def _fits(self, group: Group, window: int, node: Node, rule: Rule) -> bool:
        """Whether a window is better kept in the hull of a group than apart."""
        windows = [self.window(t) for t in (*group.values(), window)]
        frames = [window.frame for window in windows]
        alike = {(w.axis, w.flat, w.frame.step, w.frame.length) for w in windows}
        if isinstance(rule, Concatenate) and self._puts_apart(node, rule):
            return False
        return len(alike) == 1 and hull(frames).width <= sum(frame.width for frame in frames)

    def _puts_apart(self, node: Node, rule: Concatenate) -> bool:
        shown: list[State] = list(self.changed)
        for t in node.inputs:
            shown[t] = self.changed[self.windows_of(t)[0]]
        return rule.puts_apart(self.facts(node, shown))

    def window(self, tensor: int) -> Window:
        """The state of a tensor that has one window."""
        state = self.changed[tensor]
        assert isinstance(state, Window)
        return state

    def _node_of_group(self, node: Node, rule: Rule, group: Group, before: list[tuple[Group, int]]) -> Node | None:
        """The node on one group of windows, its output not yet named; None if that cannot be.

        ``before`` holds the groups entered before this one, each with the window of the output that it makes.
        """
        own = [group[i] if i in group else self.reference_of(t) for i, t in enumerate(node.inputs)]
        name = f"{node.name}: window {len(before) + 1}" if before else node.name
        alone = replace(node, name=name, inputs=tuple(own), role=FURTHER_WINDOW if before else node.role)
        if not before or is_linear(rule):
            return alone
        near = self._near(group, before)
        if near is None:
            return None
        if not near and node.role != "activation":
            return alone
        earlier = [(i, window) for other, _ in near for i, window in other.items()]
        inputs = [
            *own,
            *(window for _, window in earlier),
            *(self.reference_of(t) for t in node.inputs),
            *(out for _, out in near),
        ]
        layer = FurtherWindow(name, node, rule, tuple(i for i, _ in earlier))
        return Node(0, name, layer, tuple(inputs), (), layer, FURTHER_WINDOW)

    def _near(self, group: Group, before: list[tuple[Group, int]]) -> list[tuple[Group, int]] | None:
        """The groups whose windows may lie where those of this one do; None if it cannot be said."""
        found = []
        for other, output in before:
            (one, *_), (two, *_) = (map(self.window, windows.values()) for windows in (other, group))
            if _lie_alike(one, two):
                found.append((other, output))
            elif not _are_disjoint(one, two):
                return None
        return found

    def _settle(self, node: Node, outputs: list[int]) -> bool:
        """Let the outputs stand for the old tensor, or add them up; False if they cannot or are not worth it."""
        (old,) = node.outputs
        states = [self.changed[t] for t in outputs]
        if all(isinstance(state, Window) for state in states):
            frames = [self.window(t).frame for t in outputs]
            self.written.windows[old] = outputs
            return sum(frame.width for frame in frames) < frames[0].length
        if not all(isinstance(state, Everywhere) for state in states):
            return False
        inputs = (*outputs, self._enter_reference(outputs[0], old))
        self._enter_sum(SumOfWindows(f"{node.name}: sum", ""), inputs, old)
        return True

    # -- taking back what did not work --

    def _kept_if(self, entered: Callable[[], bool]) -> bool:
        """Whether something could be entered; what it has written until it could not is taken back."""
        before = self._checkpoint()
        if entered():
            return True
        self._restore(before)
        return False

    def _checkpoint(self) -> tuple[Any, ...]:
        return self.written.copy(), self.graph, list(self.changed), dict(self.rules), dict(self.reasons)

    def _restore(self, checkpoint: tuple[Any, ...]) -> None:
        self.written, self.graph, self.changed, self.rules, self.reasons = checkpoint


def is_linear(rule: Rule) -> bool:
    return rule.linear and rule.form is not Form.VALUE


def _lie_alike(a: Window, b: Window) -> bool:
    """Whether equal positions of two windows are the same elements of their tensor."""
    return (a.axis, a.flat, a.frame.length) == (b.axis, b.flat, b.frame.length)


def _are_disjoint(a: Window, b: Window) -> bool:
    """Whether two windows lie in different places of a flattened tensor."""
    if a.flat is None or b.flat is None:
        return False
    return a.flat.before + a.elements <= b.flat.before or b.flat.before + b.elements <= a.flat.before


# --- the two letters of a pair ---------------------------------------------------------------------------------------

# The first layers of most models are linear, and read a window that is two letters and much that does not change
# between them. There the change of a pair is the sum of the changes of its letters: so few products are enough for all
# pairs.

TRIED_STARTS = 64  # at most, at which windows are looked at


def with_letters_apart(graph: LayerGraph, input_tensor: int, distances: Sequence[int]) -> LayerGraph:
    """The graph in which linear layers are computed for each letter of a pair, and all others for their sum.

    Parameters
    ----------
    graph : LayerGraph
        With one tensor for all windows of a tensor.
    distances : sequence of int
        From the first letter to the second, the widest first, for all pairs that begin at one position.
    """
    return _Writer(graph, input_tensor, tuple(distances)).written()


class _Writer(Propagation):
    """Propagates a change through the graph while it writes the new one. Old tensors keep their numbers.

    Attributes
    ----------
    apart : dict of tensor to two tensors
        What stands for the tensors that have a window for each letter.
    sums : dict of tensor to tensor
        Both windows of a tensor in one.
    """

    def __init__(self, graph: LayerGraph, input_tensor: int, distances: tuple[int, ...]) -> None:
        self.old, self.nodes = graph, list[Node]()
        self.apart: dict[int, tuple[int, int]] = {}
        self.sums: dict[int, int] = {}
        length, width = graph.tensors[input_tensor].shape[0], distances[0] + 1
        starts = range(min(max(length - width + 1, 1), TRIED_STARTS))
        super().__init__(
            self._with_letters(graph, input_tensor, distances),
            input_tensor,
            [start for start in starts for _ in distances],
            Fraction(1),
            width,
        )

    def _with_letters(self, graph: LayerGraph, tensor: int, distances: tuple[int, ...]) -> LayerGraph:
        first = len(graph.tensors)
        self.apart[tensor] = (first, first + 1)
        both = {"first letter": (0,) * len(distances), "second letter": distances}
        letters = [LetterOfPair(name, offsets) for name, offsets in both.items()]
        nodes = [
            Node(0, layer.name, layer, (tensor,), (first + i,), layer, REFERENCE) for i, layer in enumerate(letters)
        ]
        return graph.extended([*nodes, *graph.nodes], [graph.tensors[tensor]] * 2, graph.outputs)

    def written(self) -> LayerGraph:
        outputs = [Port(port.name, self._sum_of(port.tensor)) for port in self.old.outputs]
        return self.old.extended(self.nodes, self.graph.tensors[len(self.old.tensors) :], outputs)

    def _propagate(self, node: Node) -> None:
        if node.role == REFERENCE:
            known = isinstance(node.layer, LetterOfPair)
            self._append(node if known else replace(node, inputs=tuple(self._any_of(t) for t in node.inputs)))
        elif not any(t in self.apart for t in node.inputs):
            self._append(node)
        elif self._is_for_each_letter(node):
            self._append_for_each_letter(node)
        else:
            self._append(replace(node, inputs=tuple(self._sum_of(t) for t in node.inputs)))

    def _append(self, node: Node) -> None:
        node = replace(node, index=len(self.nodes))
        self.nodes.append(node)
        super()._propagate(node)

    def _any_of(self, tensor: int) -> int:
        """A tensor with the values of the reference."""
        return self.apart.get(tensor, (tensor,))[0]

    def _for_letter(self, node: Node, number: int) -> Node:
        inputs = tuple(self.apart[t][number] if t in self.apart else t for t in node.inputs)
        name = f"{node.name}: second letter" if number else node.name
        return replace(node, name=name, inputs=inputs, role=FURTHER_WINDOW if number else node.role)

    def _is_for_each_letter(self, node: Node) -> bool:
        """Whether the node is linear, and has a window in which each letter changes its output."""
        rule = rule_of(node)
        others = [self.changed[t] for t in node.inputs if t not in self.apart]
        if rule is None or not is_linear(rule) or len(node.outputs) > 1:
            return False
        if not all(isinstance(state, Unchanged) for state in others):
            return False
        found = [self._try_rule(self._for_letter(node, number)) for number in (0, 1)]
        windows = [state for rule, _, state in found if rule is not None and isinstance(state, Window)]
        return len(windows) == 2 and hull(w.frame for w in windows).width < windows[0].frame.length

    def _append_for_each_letter(self, node: Node) -> None:
        (old,) = node.outputs
        made = (self._new_tensor(old), self._new_tensor(old))
        for number, output in enumerate(made):
            self._append(replace(self._for_letter(node, number), outputs=(output,)))
        self.apart[old] = made

    def _new_tensor(self, like: int) -> int:
        tensors = self.graph.tensors
        self.graph = replace(self.graph, tensors=(*tensors, tensors[like]))
        self.changed.append(UNCHANGED)
        return len(tensors)

    def _sum_of(self, tensor: int) -> int:
        """The tensor with both windows in one."""
        if tensor not in self.apart:
            return tensor
        if tensor not in self.sums:
            self.sums[tensor] = self._new_tensor(tensor)
            layer = SumOfLetters("both letters")
            both = self.apart[tensor]
            self._append(Node(0, layer.name, layer, both, (self.sums[tensor],), layer, FURTHER_WINDOW))
        return self.sums[tensor]
