"""Find means over the positions that are weighted by a softmax over them, and write each as one node.

A softmax over all positions changes everywhere, and so do the weighted values; their sum over the positions does not
need them. It is written in many ways: ``sum(x * softmax(l, axis=1), axis=1)``, Dot, einsum, matmul, a softmax of
flattened logits that is repeated for every channel, and ``exp(l) / sum(exp(l))``. What they have in common is an
equation in which the axis of the softmax is summed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Any

import keras

from fastism_cli.engine.planner import Propagation
from fastism_cli.engine.rewrite import pruned
from fastism_cli.model.graph import LayerGraph, Node, Shape
from fastism_cli.rules.around_window import PooledBySoftmax
from fastism_cli.rules.base import Decline, Facts, State, Unchanged, Window
from fastism_cli.rules.combine import Concatenate
from fastism_cli.rules.einsum import ALPHABET, EinsumOfTensors
from fastism_cli.rules.global_pool import LinearReduce, Maximum
from fastism_cli.rules.layer_calls import has_other_arguments
from fastism_cli.rules.pointwise import Broadcast, Identity, WithConstant
from fastism_cli.rules.reshape import Repeat, Reshaped, Transposed
from fastism_cli.rules.table import rule_of


def with_softmax_pooling(graph: LayerGraph, input_tensor: int) -> LayerGraph:
    """The graph with one node for each of these means; nodes that nothing needs any more are left out."""
    finder = _Finder(graph, input_tensor)
    nodes = [finder.pooled(node) or node for node in graph.nodes]
    return pruned(graph.extended(nodes, (), graph.outputs)) if finder.found else graph


@dataclass(frozen=True)
class Weights:
    """A tensor that shows the weights of a softmax of the tensor ``logits`` along its axis ``axis``.

    ``axes`` are the axes of ``logits`` that the axes of the tensor show; None: one that repeats them, or has length 1.
    The sum of the exponentials has ``epsilon`` added to it, in units of the largest if ``shifted``.
    """

    logits: int
    axis: int
    axes: tuple[int | None, ...]
    epsilon: float = 0.0
    shifted: bool = False


@dataclass(frozen=True)
class Products:
    """A tensor that is the product of weights and of the tensor ``values``, element by element."""

    weights: Weights
    values: int


class _Finder:
    def __init__(self, graph: LayerGraph, input_tensor: int) -> None:
        self.graph, self.found = graph, False
        self.propagation = Propagation(graph, input_tensor, [0], Fraction(1))
        self.makers = {t: node for node in graph.nodes for t in node.outputs}
        self.weights: dict[int, Weights] = {}
        self.products: dict[int, Products] = {}
        for node in graph.nodes:
            self._follow(node)

    def shape(self, tensor: int) -> Shape:
        return self.graph.tensors[tensor].shape

    def state(self, tensor: int) -> State:
        return self.propagation.changed[tensor]

    def facts(self, node: Node) -> Facts:
        shapes = tuple(map(self.shape, node.inputs))
        return Facts(node, tuple(map(self.state, node.inputs)), shapes, self.shape(node.outputs[0]))

    # -- which tensors are weights, and which are weighted values

    def _follow(self, node: Node) -> None:
        if len(node.outputs) != 1:
            return
        (output,) = node.outputs
        found = self._softmax(node) or self._exponentials(node) or self._shown(node)
        if found is not None:
            self.weights[output] = found
        elif (made := self._product(node)) is not None:
            self.products[output] = made

    def _softmax(self, node: Node) -> Weights | None:
        axis = _softmax_axis(node)
        if axis is None or len(node.inputs) != 1:
            return None
        return self._over_positions(node.inputs[0], axis)

    def _over_positions(self, logits: int, axis: int, **options: Any) -> Weights | None:
        """The weights, if the axis (batch counted) is that of the positions of a window."""
        rank, state = len(self.shape(logits)), self.state(logits)
        if not isinstance(state, Window) or axis % (rank + 1) - 1 != (0 if state.flat else state.axis):
            return None
        return Weights(logits, axis % (rank + 1) - 1, tuple(range(rank)), **options)

    def _exponentials(self, node: Node) -> Weights | None:
        """``exp(l) / sum(exp(l))``, the largest taken away before or not, a small number added to the sum or not."""
        if not _is_operation(node, "divide", "truedivide") or len(node.inputs) != 2:
            return None
        above, below = node.inputs
        epsilon, total = self._plus_number(below)
        maker, summed = self.makers.get(above), self.makers.get(total)
        if summed is None or maker is None or not _is_operation(maker, "exp") or summed.inputs != (above,):
            return None
        axis = self._summed_axis(summed, LinearReduce)
        if axis is None or getattr(rule_of(summed), "mean", True):
            return None
        (logits,) = maker.inputs
        inner = self.makers.get(logits)
        if inner is not None and _is_operation(inner, "subtract") and len(inner.inputs) == 2:
            largest = self.makers.get(inner.inputs[1])
            if largest is not None and largest.inputs == inner.inputs[:1]:
                if self._summed_axis(largest, Maximum) == axis:
                    return self._over_positions(inner.inputs[0], axis + 1, epsilon=epsilon, shifted=True)
        return self._over_positions(logits, axis + 1, epsilon=epsilon)

    def _plus_number(self, tensor: int) -> tuple[float, int]:
        """The number that was added to a tensor to make this one, and that tensor."""
        maker = self.makers.get(tensor)
        rule = rule_of(maker) if maker is not None else None
        if maker is None or not isinstance(rule, WithConstant) or rule.kind != "add" or len(maker.inputs) != 1:
            return 0.0, tensor
        _, shift = rule.scale_and_shift(maker)
        return (float(shift), maker.inputs[0]) if shift.ndim == 0 and shift > 0 else (0.0, tensor)

    def _summed_axis(self, node: Node, kind: type[LinearReduce] | type[Maximum]) -> int | None:
        """The one axis that a reduction of this kind works along and keeps."""
        rule = rule_of(node)
        if not isinstance(rule, kind) or getattr(node.layer, "initial", None) is not None:
            return None
        try:
            axes, keepdims = rule.reduced(self.facts(node))
        except Decline:
            return None
        return axes[0] if len(axes) == 1 and keepdims else None

    def _shown(self, node: Node) -> Weights | None:
        """The weights in another shape."""
        weights = self.weights.get(node.inputs[0])
        if weights is None or len(set(node.inputs)) != 1:
            return None
        axes = self._axes_shown(node, weights.axes)
        return None if axes is None else replace(weights, axes=axes)

    def _axes_shown(self, node: Node, axes: tuple[int | None, ...]) -> tuple[int | None, ...] | None:
        rule, shape, before = rule_of(node), self.shape(node.outputs[0]), self.shape(node.inputs[0])
        if isinstance(rule, Identity):
            return axes
        if isinstance(rule, Transposed):
            return tuple(axes[a] for a in rule.order(self.facts(node)))
        if isinstance(rule, Reshaped):
            return _kept(axes, before, shape)
        if type(node.layer) is keras.layers.RepeatVector:
            return (None, *axes)
        if isinstance(rule, (Broadcast, Concatenate, Repeat)) and len(shape) == len(before):
            grown = [i for i, (n, m) in enumerate(zip(before, shape, strict=True)) if n != m]
            if all(before[i] == 1 for i in grown):
                return tuple(None if i in grown else a for i, a in enumerate(axes))
        return None

    def _product(self, node: Node) -> Products | None:
        is_product = _is_operation(node, "multiply") or type(node.layer) is keras.layers.Multiply
        if not is_product or len(node.inputs) != 2:
            return None
        known = [t for t in node.inputs if t in self.weights]
        if len(known) != 1 or len({len(self.shape(t)) for t in (*node.inputs, *node.outputs)}) > 1:
            return None
        (values,) = (t for t in node.inputs if t != known[0])
        return Products(self.weights[known[0]], values)

    # -- what sums them

    def pooled(self, node: Node) -> Node | None:
        """The node that computes the mean as a whole, if this one sums weighted values over the positions."""
        if len(node.outputs) != 1:
            return None
        rule = rule_of(node)
        try:
            if isinstance(rule, LinearReduce) and node.inputs[0] in self.products:
                return self._summed(node, rule, self.products[node.inputs[0]])
            if isinstance(rule, EinsumOfTensors) and len(node.inputs) == 2:
                return self._multiplied(node, rule)
        except Decline:
            return None
        return None

    def _summed(self, node: Node, rule: LinearReduce, products: Products) -> Node | None:
        shape, (axes, _) = self.shape(node.inputs[0]), rule.reduced(self.facts(node))
        letters = ALPHABET[1 : len(shape) + 1]
        result = "".join(c for i, c in enumerate(letters) if i not in axes)
        scale = 1 / prod(shape[a] for a in axes) if rule.mean else 1.0
        return self._entered(node, products, (letters, letters), shape, result, scale)

    def _multiplied(self, node: Node, rule: EinsumOfTensors) -> Node | None:
        equation = rule.equation(self.facts(node))
        given = [(node.inputs[number], letters[1:]) for number, letters in equation.tensors]
        known = [t for t, _ in given if t in self.weights]
        if equation.constants or len(known) != 1 or equation.result[0] != equation.letters[0][0]:
            return None
        (shown,) = (letters for t, letters in given if t == known[0])
        ((values, others),) = ((t, letters) for t, letters in given if t != known[0])
        sizes = equation.sizes([self.shape(t) for t in node.inputs])
        if any(
            c not in others + equation.result and sizes[c] > 1 and a is None for c, a in self._axis_of(shown, known[0])
        ):
            return None  # a sum over copies
        products = Products(self.weights[known[0]], values)
        return self._entered(node, products, (shown, others), tuple(sizes[c] for c in shown), equation.result[1:], 1.0)

    def _axis_of(self, letters: str, tensor: int) -> list[tuple[str, int | None]]:
        return list(zip(letters, self.weights[tensor].axes, strict=True))

    def _entered(
        self, node: Node, products: Products, letters: tuple[str, str], shape: Shape, result: str, scale: float
    ) -> Node | None:
        """The node, from the letters of the axes that show the weights, and of those of the values.

        Axes of length 1 that are repeated get letters of their own, which are summed over.
        """
        weights, values = products.weights, products.values
        shown, others = letters
        unused = iter([c for c in ALPHABET[::-1] if c not in shown + others + result])
        batch = next(unused)
        of_axis = {a: c for c, a in zip(shown, weights.axes, strict=True) if a is not None}
        of_logits = [
            of_axis[a] if a in of_axis and n == shape[shown.index(of_axis[a])] else next(unused)
            for a, n in enumerate(self.shape(weights.logits))
        ]
        sizes = dict(zip(shown, shape, strict=True))
        of_values = [
            c if sizes.get(c, n) == n else next(unused) for c, n in zip(others, self.shape(values), strict=True)
        ]
        position = of_logits[weights.axis]
        if position in result or position not in of_values or not {*result} <= {*of_logits, *of_values}:
            return None
        layer = PooledBySoftmax(
            name=node.name,
            letters=batch + "".join(of_logits),
            values=batch + "".join(of_values),
            result=batch + result,
            position=position,
            shape=self.shape(node.outputs[0]),
            scale=scale,
            epsilon=weights.epsilon,
            shifted=weights.shifted,
        )
        made = replace(node, layer=layer, inputs=(weights.logits, values), call=layer, arguments=((), {}))
        if not isinstance(self.state(values), (Window, Unchanged)) or not self._holds(made):
            return None
        self.found = True
        return made

    def _holds(self, node: Node) -> bool:
        rule = rule_of(node)
        assert rule is not None
        try:
            rule.propagate(self.facts(node))
        except Decline:
            return False
        return True


def _kept(axes: Sequence[int | None], before: Shape, shape: Shape) -> tuple[int | None, ...] | None:
    """The axes after a reshape that puts in or takes out axes of length 1; None if it does more."""
    if [n for n in before if n > 1] != [n for n in shape if n > 1]:
        return None
    left = iter([a for a, n in zip(axes, before, strict=True) if n > 1])
    return tuple(next(left) if n > 1 else None for n in shape)


def _softmax_axis(node: Node) -> int | None:
    """The axis of a softmax, batch counted; None for anything else."""
    layer: Any = node.layer
    if has_other_arguments(node):
        return None
    if type(layer) is keras.layers.Softmax or _is_operation(node, "softmax"):
        axis = layer.axis
        axis = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
        return axis if isinstance(axis, int) else None
    is_activation = type(layer) is keras.layers.Activation or node.role == "activation"
    return -1 if is_activation and layer.activation is keras.activations.softmax else None


def _is_operation(node: Node, *names: str) -> bool:
    return not isinstance(node.layer, keras.Layer) and type(node.layer).__name__.lower() in names
