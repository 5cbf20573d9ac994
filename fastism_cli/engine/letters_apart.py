"""Write the two letters of a pair as tensors of their own, as far as layers are linear.

The first layers of most models are linear, and read a window that is two letters and much that does not change between
them. There the change of a pair is the sum of the changes of its letters: so few products are enough for all pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from fastism_cli.engine.planner import Propagation
from fastism_cli.engine.split_windows import is_linear
from fastism_cli.model.graph import FURTHER_WINDOW, REFERENCE, LayerGraph, Node, Port
from fastism_cli.rules.base import UNCHANGED, Unchanged, Window
from fastism_cli.rules.frames import hull
from fastism_cli.rules.letters_of_pairs import LetterOfPair, SumOfLetters
from fastism_cli.rules.table import rule_of

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
