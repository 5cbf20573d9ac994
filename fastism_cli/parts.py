"""Tensors with several windows: a change beside its mirror image, or in two places of a concatenation.

The graph is written anew so that every window is a tensor of its own, and each rule sees one window as before. A
linear layer is applied to each part. Before any other layer, all parts are gathered in the frame of each; after it,
what lies in an earlier window is taken out of the later ones, so that the parts add up. Two windows are kept as long
as they are together narrower than the tensor; then the parts are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from fastism_cli.graph import LayerGraph, Node, Port
from fastism_cli.plan import Propagation
from fastism_cli.rules import rule_of
from fastism_cli.rules.base import UNCHANGED, Everywhere, Form, Rule, State, Window
from fastism_cli.rules.merge import Concatenate, Merge
from fastism_cli.rules.parts import Exclude, Frozen, Gather, Join, Total
from fastism_cli.rules.pointwise import ACTIVATION_PART
from fastism_cli.windows import hull

MOST_PARTS = 4


def with_windows(graph: LayerGraph, input_tensor: int) -> LayerGraph:
    """The graph with a tensor for every window, and nodes that gather and join them."""
    return _Rewriter(graph, input_tensor).rewritten()


class _Rewriter(Propagation):
    """Propagates a change through the graph while it writes the new one. Old tensors keep their numbers."""

    def __init__(self, graph: LayerGraph, input_tensor: int) -> None:
        self.nodes: list[Node] = []
        self.parts: dict[int, list[int]] = {}
        self.joined: dict[int, int] = {}
        self.frozen: dict[int, int] = {}
        self.first_new = len(graph.tensors)
        super().__init__(graph, input_tensor, [0], Fraction(1))

    def rewritten(self) -> LayerGraph:
        outputs = [Port(port.name, self.whole(port.tensor)) for port in self.graph.outputs]
        extra = self.graph.tensors[self.first_new :]
        old = replace(self.graph, tensors=self.graph.tensors[: self.first_new])
        return old.extended(self.nodes, extra, outputs) if self.parts else old

    # -- building blocks --

    def _propagate(self, node: Node) -> None:
        several = any(t in self.parts for t in node.inputs)
        if not several and not self._parts_windows(node):
            self.append(node)
            return
        if not self._by_parts(node):
            self.append(replace(node, inputs=tuple(self.whole(t) for t in node.inputs)))

    def append(self, node: Node) -> None:
        """Enter a node and the states of its outputs."""
        node = replace(node, index=len(self.nodes))
        self.nodes.append(node)
        super()._propagate(node)

    def new_tensor(self, like: int) -> int:
        tensors = (*self.graph.tensors, self.graph.tensors[like])
        self.graph = replace(self.graph, tensors=tensors)
        self.changed.append(UNCHANGED)
        return len(tensors) - 1

    def insert(self, layer: Any, inputs: Sequence[int], like: int) -> int:
        """A node of this module's own; returns its output."""
        output = self.new_tensor(like)
        self.append(Node(0, layer.name, layer, tuple(inputs), (output,), layer, part=0))
        return output

    def whole(self, tensor: int) -> int:
        """The tensor with all its parts in one."""
        if tensor not in self.parts:
            return tensor
        if tensor not in self.joined:
            self.joined[tensor] = self.insert(Join("join"), self.parts[tensor], tensor)
        return self.joined[tensor]

    def still(self, tensor: int) -> int:
        """The tensor as it is on the reference."""
        if tensor not in self.frozen:
            source = self.parts.get(tensor, [tensor])[0]
            self.frozen[tensor] = self.insert(Frozen("reference"), [source], tensor)
        return self.frozen[tensor]

    # -- nodes on several windows --

    def _rule(self, node: Node) -> Rule | None:
        return ACTIVATION_PART if node.role == "activation" else rule_of(node)

    def _parts_windows(self, node: Node) -> bool:
        """Whether windows that lie apart meet in this node, which its rule declines and each window alone passes."""
        states = [self.changed[t] for t in node.inputs]
        if not isinstance(self._rule(node), (Merge, Concatenate)) or any(isinstance(s, Everywhere) for s in states):
            return False
        if sum(isinstance(s, Window) for s in states) < 2:
            return False
        return self._try_rule(node)[0] is None

    def _by_parts(self, node: Node) -> bool:
        """Enter the node once for each part of its output; False if it has to see the whole tensor."""
        rule = self._rule(node)
        if rule is None or len(node.outputs) != 1:
            return False
        states = [self.changed[p] for t in node.inputs for p in self.parts.get(t, [t])]
        if any(isinstance(s, Everywhere) for s in states):
            return False
        groups = self._groups(node, rule)
        if len(groups) > MOST_PARTS:
            return False
        checkpoint = self._checkpoint()
        outputs = self._outputs(node, rule, groups)
        if outputs is None:
            self._restore(checkpoint)
            return False
        self._settle(node, outputs)
        return True

    def _groups(self, node: Node, rule: Rule) -> list[list[tuple[int, int]]]:
        """The windows (number of the input, tensor) that make one part of the output."""
        windows = [(i, p) for i, t in enumerate(node.inputs) for p in self.parts.get(t, [t])]
        windows = [(i, p) for i, p in windows if isinstance(self.changed[p], Window)]
        groups: list[list[tuple[int, int]]] = []
        for window in windows:
            group = next((g for g in groups if self._fits(g, window, node, rule)), None)
            if group is None:
                groups.append([window])
            else:
                group.append(window)
        return groups

    def _fits(self, group: list[tuple[int, int]], window: tuple[int, int], node: Node, rule: Rule) -> bool:
        """Whether a window is better kept in the hull of a group than apart."""
        states = [self.changed[p] for _, p in (*group, window)]
        frames = [state.frame for state in states if isinstance(state, Window)]
        alike = {(s.axis, s.flat, s.frame.step, s.frame.length) for s in states if isinstance(s, Window)}
        if isinstance(rule, Concatenate) and rule.puts_apart(self.facts(node, self._shown(node))):
            return False
        return len(alike) == 1 and hull(frames).width <= sum(frame.width for frame in frames)

    def _shown(self, node: Node) -> list[State]:
        """States in which a tensor of several parts shows its first."""
        shown = list(self.changed)
        for t in node.inputs:
            shown[t] = self.changed[self.parts.get(t, [t])[0]]
        return shown

    def _outputs(self, node: Node, rule: Rule, groups: list[list[tuple[int, int]]]) -> list[int] | None:
        """The output's part for every group, or None if the rule does not hold for one."""
        outputs: list[int] = []
        linear = rule.form is not Form.VALUE
        for number, group in enumerate(groups):
            inputs = [self._input(i, t, group, linear) for i, t in enumerate(node.inputs)]
            output = self.new_tensor(node.outputs[0])
            name = node.name if number == 0 else f"{node.name}/{number}"
            self.append(replace(node, name=name, inputs=tuple(inputs), outputs=(output,), part=number))
            if self.rules[self.nodes[-1].index] is None:
                return None
            if not linear and isinstance(self.changed[output], Everywhere):
                return None
            if not linear and outputs:
                output = self.insert(Exclude("exclude"), [output, *outputs], output)
            outputs.append(output)
        return outputs if self._is_worth_it(outputs) else None

    def _input(self, number: int, tensor: int, group: list[tuple[int, int]], linear: bool) -> int:
        """What a node reads for one part of its output: that part of the input, or all parts in its frame."""
        own = [p for i, p in group if i == number]
        parts = self.parts.get(tensor, [tensor])
        changed = [p for p in parts if isinstance(self.changed[p], Window)]
        if not changed:
            return tensor
        if linear:
            if not own:
                return self.still(tensor)
            return own[0] if len(own) == 1 else self.insert(Gather("gather", len(own)), [*own, *own], tensor)
        if len(group) == 1 and changed == own:
            return own[0]
        leading = [p for _, p in group]
        return self.insert(Gather("gather", len(leading)), [*leading, *changed], tensor)

    def _is_worth_it(self, outputs: Sequence[int]) -> bool:
        frames = [state.frame for state in map(self.changed.__getitem__, outputs) if isinstance(state, Window)]
        return not frames or sum(frame.width for frame in frames) < frames[0].length

    def _settle(self, node: Node, outputs: list[int]) -> None:
        """Let the outputs stand for the old tensor."""
        (old,) = node.outputs
        if isinstance(self.changed[outputs[0]], Everywhere):
            total = Total("total")
            self.append(Node(0, total.name, total, (*outputs, self.still_of(outputs[0])), (old,), total, part=0))
        else:
            self.parts[old] = outputs

    def still_of(self, tensor: int) -> int:
        return self.insert(Frozen("reference"), [tensor], tensor)

    # -- taking back what did not work --

    def _checkpoint(self) -> tuple[Any, ...]:
        return len(self.nodes), self.graph, len(self.changed), dict(self.frozen), dict(self.rules)

    def _restore(self, checkpoint: tuple[Any, ...]) -> None:
        nodes, self.graph, changed, self.frozen, self.rules = checkpoint
        del self.nodes[nodes:]
        del self.changed[changed:]
