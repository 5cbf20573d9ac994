"""EinsumDense, and the operations einsum, matmul and dot: products with a constant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

from keras import ops

from fastism_cli.model.graph import Input, Node
from fastism_cli.rules.base import Call, Decline, Facts, Form, Rule, State, Window
from fastism_cli.rules.layer_settings import arguments, without_activation
from fastism_cli.rules.window_arrays import from_keras, to_keras, without


def spelled_out(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """The letters of each operand (of these ranks) and of the result in an equation of einsum, its dots replaced."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or len(terms) != len(ranks):
        raise Decline(f"has an equation of another kind ({equation})")
    unused = [c for c in "zyxwvutsrqponmlkjihgfedcbaZYXWVUTSRQPONM" if c not in equation]
    n_dots = max(rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True))
    dots = "".join(unused[:n_dots])
    letters = []
    for term, rank in zip(terms, ranks, strict=True):
        missing = rank - len(term.replace("...", ""))
        letters.append(term.replace("...", dots[n_dots - missing :] if missing else ""))
    return letters, right.replace("...", dots)


class Einsum(Rule):
    """A product with a constant that keeps the positions: linear, and the same at every one."""

    form = Form.DELTA
    linear = True
    fused = False
    any_axis = True
    condition = "if it keeps the positions and has the same weights at every one"

    def terms(self, facts: Facts) -> tuple[str, Any, bool]:
        """Equation, constant, and whether the tensor comes first."""
        raise NotImplementedError

    def parsed(self, facts: Facts) -> tuple[str, str, str]:
        """Letters of the tensor, of the constant, and of the result."""
        equation, constant, first = self.terms(facts)
        ranks = [len(facts.shapes[0]) + 1, len(constant.shape)]
        letters, result = spelled_out(equation, ranks if first else ranks[::-1])
        tensor, other = letters if first else letters[::-1]
        return tensor, other, result

    def propagate(self, facts: Facts) -> State:
        tensor, other, result = self.parsed(facts)
        window = facts.window
        if len(set(tensor)) != len(tensor) or result[:1] != tensor[0] or tensor[0] in other:
            raise Decline("does not keep the batch as it is")
        position = tensor[window.axis + 1] if window.flat is None else tensor[1]
        if window.flat is not None or position in other or position not in result:
            raise Decline("sums over the positions, or has weights of its own for each")
        axis = result.index(position) - 1
        return replace(window, channels=without(facts.shape, axis), axis=axis)

    def delta(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        tensor, other, result = self.parsed(call.facts)
        constant = ops.cast(ops.convert_to_tensor(self.terms(call.facts)[1]), x.dtype)
        y = ops.einsum(f"{tensor},{other}->{result}", to_keras(x, call.facts.window.axis), constant)
        assert isinstance(call.output, Window)
        return from_keras(y, x, call.output.axis)

    def multiply_adds(self, facts: Facts, output: State) -> int:
        assert isinstance(output, Window)
        tensor, other, _ = self.parsed(facts)
        sizes = dict(zip(tensor[1:], facts.shapes[0], strict=True)) | dict(
            zip(other, self.terms(facts)[1].shape, strict=True)
        )
        sizes[tensor[facts.window.axis + 1]] = output.frame.width
        return prod(sizes.values())


class EinsumLayer(Einsum):
    def terms(self, facts: Facts) -> tuple[str, Any, bool]:
        return facts.layer.equation, facts.layer.kernel, True

    def split(self, node: Node) -> Callable[[Any], Any] | None:
        layer = node.layer

        def linear(x: Any) -> Any:
            y = ops.einsum(layer.equation, x, layer.kernel)
            return y if layer.bias is None else y + layer.bias

        return without_activation(layer, linear)


class EinsumOperation(Einsum):
    def terms(self, facts: Facts) -> tuple[str, Any, bool]:
        given = arguments(facts.node)
        if len(given) != 2 or len(facts.states) != 1:
            raise Decline("multiplies tensors that both change, or more than two")
        first = isinstance(given[0], Input)
        return facts.layer.subscripts, given[1 if first else 0], first


class Matmul(Einsum):
    """``x @ constant``, written as an equation."""

    def terms(self, facts: Facts) -> tuple[str, Any, bool]:
        given = arguments(facts.node)
        if len(facts.states) != 1 or not isinstance(given[0], Input) or len(getattr(given[1], "shape", ())) != 2:
            raise Decline("multiplies tensors that both change, or with a matrix from the left")
        return "...a,ab->...b", given[1], True
