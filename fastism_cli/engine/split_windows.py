"""Tensors with several windows: a change beside its mirror image, or in two places of a concatenation.

The graph is written anew so that every window is a tensor of its own, and each rule sees one window as before. A
linear node is repeated for each part. One that is not linear is repeated too, and what the later parts give is what
they add to the earlier ones (see :mod:`fastism_cli.rules.several_windows`). Where a node needs all positions, or the
windows are together as wide as the tensor, the parts are joined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from fastism_cli.engine.planner import Propagation
from fastism_cli.model.graph import PART, REFERENCE, LayerGraph, Node, Port
from fastism_cli.rules.base import UNCHANGED, Everywhere, Form, Rule, State, Window
from fastism_cli.rules.combine import Concatenate, Merge
from fastism_cli.rules.frames import hull
from fastism_cli.rules.global_pool import Maximum
from fastism_cli.rules.several_windows import Later, Peak, Still, Whole
from fastism_cli.rules.table import rule_of

MOST_PARTS = 4
# Windows of one part, by the number of the node's input.
Group = dict[int, int]


def with_parts_apart(graph: LayerGraph, input_tensor: int) -> LayerGraph:
    """The graph with a tensor for every window, and nodes that join them; itself if no tensor has several."""
    return _Rewriter(graph, input_tensor).rewritten()


@dataclass
class Written:
    """The new graph as far as it is written.

    Attributes
    ----------
    parts : dict of tensor to list of tensors
        What stands for the tensors that have several windows.
    wholes, stills : dict of tensor to tensor
        The parts of a tensor joined; a tensor as it is on the reference.
    """

    nodes: list[Node] = field(default_factory=list)
    parts: dict[int, list[int]] = field(default_factory=dict)
    wholes: dict[int, int] = field(default_factory=dict)
    stills: dict[int, int] = field(default_factory=dict)

    def copy(self) -> Written:
        return Written(list(self.nodes), dict(self.parts), dict(self.wholes), dict(self.stills))


class _Rewriter(Propagation):
    """Propagates a change through the graph while it writes the new one. Old tensors keep their numbers."""

    def __init__(self, graph: LayerGraph, input_tensor: int) -> None:
        self.written = Written()
        self.old = graph
        super().__init__(graph, input_tensor, [0], Fraction(1))

    def rewritten(self) -> LayerGraph:
        if not self.written.parts:
            return self.old
        outputs = [Port(port.name, self.whole(port.tensor, "the output is given whole")) for port in self.old.outputs]
        extra = self.graph.tensors[len(self.old.tensors) :]
        return self.old.extended(self.written.nodes, extra, outputs)

    # -- building blocks --

    def _propagate(self, node: Node) -> None:
        several = any(t in self.written.parts for t in node.inputs)
        if several or self._parts_windows(node):
            if not self._by_parts(node):
                why = self._why_whole(node)
                self._append(replace(node, inputs=tuple(self.whole(t, why) for t in node.inputs)))
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

    def _insert(self, layer: Any, inputs: Sequence[int], like: int, role: str) -> int:
        """A node of this module's own; returns its output."""
        output = self._new_tensor(like)
        self._append(Node(0, layer.name, layer, tuple(inputs), (output,), layer, role))
        return output

    def parts(self, tensor: int) -> list[int]:
        return self.written.parts.get(tensor, [tensor])

    def still(self, tensor: int) -> int:
        """The tensor as it is on the reference."""
        source = self.parts(tensor)[0]
        if all(self.changed[part] == UNCHANGED for part in self.parts(tensor)):
            return source
        stills = self.written.stills
        if tensor not in stills:
            stills[tensor] = self._insert(Still("reference"), [source], tensor, REFERENCE)
        return stills[tensor]

    def whole(self, tensor: int, why: str) -> int:
        """The tensor with all its parts in one."""
        if tensor not in self.written.parts:
            return tensor
        wholes = self.written.wholes
        if tensor not in wholes:
            inputs = [*self.parts(tensor), self.still(tensor)]
            wholes[tensor] = self._insert(Whole("windows", why), inputs, tensor, PART)
        return wholes[tensor]

    # -- nodes on several windows --

    @staticmethod
    def _rule(node: Node) -> Rule | None:
        return rule_of(node)

    def _parts_windows(self, node: Node) -> bool:
        """Whether windows that lie apart meet in this node, which its rule declines and each window alone passes."""
        states = [self.changed[t] for t in node.inputs]
        if not isinstance(self._rule(node), (Merge, Concatenate)) or any(isinstance(s, Everywhere) for s in states):
            return False
        return sum(isinstance(s, Window) for s in states) > 1 and self._try_rule(node)[0] is None

    def _why_whole(self, node: Node) -> str:
        """Why a node cannot be given one window at a time."""
        alone = replace(node, inputs=tuple(self.parts(t)[0] for t in node.inputs))
        reason = self._try_rule(alone)[1]
        return f"{node.name}: {reason}" if reason else f"{node.name} needs all windows of the change at once"

    def _by_parts(self, node: Node) -> bool:
        """Enter the node once for each part of its output; False if it has to see the whole tensor."""
        rule = self._rule(node)
        states = [self.changed[p] for t in node.inputs for p in self.parts(t)]
        if rule is None or len(node.outputs) > 1 or any(isinstance(s, Everywhere) for s in states):
            return False
        groups = self._groups(node, rule)
        if len(groups) > MOST_PARTS:
            return False
        if isinstance(rule, Maximum) and self._kept_if(lambda: self._enter_peak(node, rule)):
            return True
        return self._kept_if(lambda: self._enter_parts(node, rule, groups))

    def _enter_peak(self, node: Node, rule: Maximum) -> bool:
        """Enter a maximum over the positions, which sees all windows; False if it is none."""
        (tensor,) = node.inputs
        parts = self.parts(tensor)
        first, *others = (self.window(part) for part in parts)
        if not all(_lie_alike(first, other) for other in others):
            return False
        layer = Peak(node.name, node, rule, len(parts))
        inputs = (*parts, *(self.still(tensor) for _ in parts))
        self._append(replace(node, layer=layer, inputs=inputs, call=layer))
        return self.rules.get(self.written.nodes[-1].index) is not None

    def _enter_parts(self, node: Node, rule: Rule, groups: list[Group]) -> bool:
        outputs: list[int] = []
        for number in range(len(groups)):
            part = self._part(node, rule, groups[number], list(zip(groups, outputs, strict=False)))
            if part is None:
                return False
            outputs.append(self._new_tensor(node.outputs[0]))
            self._append(replace(part, outputs=(outputs[-1],)))
            if self.rules.get(self.written.nodes[-1].index) is None:
                return False
            if not (is_linear(rule) or isinstance(self.changed[outputs[-1]], Window)):
                return False
        return self._settle(node, rule, outputs)

    def _groups(self, node: Node, rule: Rule) -> list[Group]:
        """The windows that make one part of the output together."""
        groups: list[Group] = []
        windows = [(i, part) for i, tensor in enumerate(node.inputs) for part in self.parts(tensor)]
        for i, part in windows:
            if not isinstance(self.changed[part], Window):
                continue
            group = next((g for g in groups if i not in g and self._fits(g, part, node, rule)), None)
            if group is None:
                groups.append(group := {})
            group[i] = part
        return groups

    def _fits(self, group: Group, part: int, node: Node, rule: Rule) -> bool:
        """Whether a window is better kept in the hull of a group than apart."""
        windows = [self.window(p) for p in (*group.values(), part)]
        frames = [window.frame for window in windows]
        alike = {(w.axis, w.flat, w.frame.step, w.frame.length) for w in windows}
        if isinstance(rule, Concatenate) and self._puts_apart(node, rule):
            return False
        return len(alike) == 1 and hull(frames).width <= sum(frame.width for frame in frames)

    def _puts_apart(self, node: Node, rule: Concatenate) -> bool:
        shown: list[State] = list(self.changed)
        for t in node.inputs:
            shown[t] = self.changed[self.parts(t)[0]]
        return rule.puts_apart(self.facts(node, shown))

    def window(self, part: int) -> Window:
        state = self.changed[part]
        assert isinstance(state, Window)
        return state

    def _part(self, node: Node, rule: Rule, group: Group, before: list[tuple[Group, int]]) -> Node | None:
        """The node on one group of windows, its output not yet named; None if that cannot be.

        ``before`` holds the groups entered before this one, and what stands for their part of the output.
        """
        own = [group[i] if i in group else self.still(t) for i, t in enumerate(node.inputs)]
        name = f"{node.name}: window {len(before) + 1}" if before else node.name
        first = replace(node, name=name, inputs=tuple(own), role=PART if before else node.role)
        if not before or is_linear(rule):
            return first
        near = self._near(group, before)
        if near is None:
            return None
        if not near and node.role != "activation":
            return first
        earlier = [(i, part) for other, _ in near for i, part in other.items()]
        inputs = [
            *own,
            *(part for _, part in earlier),
            *(self.still(t) for t in node.inputs),
            *(out for _, out in near),
        ]
        layer = Later(name, node, rule, tuple(i for i, _ in earlier))
        return Node(0, name, layer, tuple(inputs), (), layer, PART)

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

    def _settle(self, node: Node, rule: Rule, outputs: list[int]) -> bool:
        """Let the outputs stand for the old tensor, or join them; False if they cannot or are not worth it."""
        (old,) = node.outputs
        states = [self.changed[t] for t in outputs]
        if all(isinstance(state, Window) for state in states):
            frames = [self.window(t).frame for t in outputs]
            self.written.parts[old] = outputs
            return sum(frame.width for frame in frames) < frames[0].length
        if not all(isinstance(state, Everywhere) for state in states):
            return False
        still = self._insert(Still("reference"), [outputs[0]], old, REFERENCE)
        layer = Whole(f"{node.name}: sum", "")
        self._append(Node(0, layer.name, layer, (*outputs, still), (old,), layer, PART))
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
    """Whether two windows lie in different parts of a flattened tensor."""
    if a.flat is None or b.flat is None:
        return False
    return a.flat.before + a.elements <= b.flat.before or b.flat.before + b.elements <= a.flat.before
