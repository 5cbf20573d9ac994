"""Products of tensors: EinsumDense, Dot, and the operations einsum, matmul, dot, tensordot and inner.

Each is written as an equation of einsum. One of its letters stands for the positions: it is kept, or summed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import keras
from keras import ops

from fastism_cli.model.graph import Input, Node, Shape
from fastism_cli.rules.base import EVERYWHERE, Call, Decline, Extra, Facts, Form, Rule, State, Unchanged, Window
from fastism_cli.rules.frames import Frame, hull
from fastism_cli.rules.layer_calls import is_constant, per_position, without, without_activation
from fastism_cli.rules.window_rows import sum_rows

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Equation:
    """``einsum("blc,cd->bld", x, kernel)``: the letters of each operand and of the result.

    ``operands`` are :class:`~fastism_cli.model.graph.Input` for tensors of the model, and constants.
    """

    letters: tuple[str, ...]
    operands: tuple[Any, ...]
    result: str

    @property
    def tensors(self) -> list[tuple[int, str]]:
        """The tensors of the model: number of the node's input, and letters."""
        given = zip(self.operands, self.letters, strict=True)
        return [(x.number, letters) for x, letters in given if isinstance(x, Input)]

    @property
    def constants(self) -> list[tuple[str, str]]:
        """The constants: their place among the operands as a name, and letters."""
        given = enumerate(zip(self.operands, self.letters, strict=True))
        return [(str(i), letters) for i, (x, letters) in given if not isinstance(x, Input)]

    def sizes(self, shapes: Sequence[Shape]) -> dict[str, int]:
        """The length of the axis of each letter, but that of the batch."""
        found: dict[str, int] = {}
        for x, letters in zip(self.operands, self.letters, strict=True):
            is_tensor = isinstance(x, Input)
            shape = shapes[x.number] if is_tensor else tuple(x.shape)
            for letter, n in zip(letters[is_tensor:], shape, strict=True):
                if found.setdefault(letter, n) != n:
                    raise Decline("repeats an axis of length 1")
        return found

    def unused(self, count: int) -> str:
        """Letters that stand for nothing yet."""
        used = {*"".join(self.letters), *self.result}
        return "".join([letter for letter in ALPHABET if letter not in used][:count])


# --- what each operation computes -------------------------------------------------------------------------------------

# Returns the equation of a node, from the shapes of its inputs (batch not counted).
Spelled = Callable[[Node, Sequence[Shape]], Equation]


def _ranks(operands: Sequence[Any], shapes: Sequence[Shape]) -> list[int]:
    """Axes of each operand, the batch counted."""
    return [len(shapes[x.number]) + 1 if isinstance(x, Input) else len(getattr(x, "shape", ())) for x in operands]


def einsum(node: Node, shapes: Sequence[Shape]) -> Equation:
    """``einsum``, its dots replaced by letters."""
    layer: Any = node.layer
    operands = node.arguments[0]
    return spelled_out(layer.subscripts, operands, _ranks(operands, shapes))


def spelled_out(subscripts: str, operands: Sequence[Any], ranks: Sequence[int]) -> Equation:
    """The equation of operands of these ranks."""
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise Decline(f"has an equation of another kind ({subscripts})")
    if not arrow:
        once = sorted(c for c in {*left} - {*",."} if left.count(c) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    missing = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True)]
    dots = "".join([c for c in ALPHABET[::-1] if c not in subscripts][: max(missing)])
    letters = [term.replace("...", dots[len(dots) - n :]) for term, n in zip(terms, missing, strict=True)]
    return Equation(tuple(letters), tuple(operands), right.replace("...", dots))


def matmul(node: Node, shapes: Sequence[Shape]) -> Equation:
    """``matmul``: the last axis of the first with the last but one of the second."""
    operands = node.arguments[0]
    first, second = ranks = _ranks(operands, shapes)
    if second == 1:
        subscripts = "...a,a->..."
    elif first == 1:
        subscripts = "a,...ab->...b"
    else:
        subscripts = "...ca,...ab->...cb"
    return spelled_out(subscripts, operands, ranks)


def dot(node: Node, shapes: Sequence[Shape]) -> Equation:
    """``dot``: the same axes as ``matmul``, every other axis of both is kept."""
    first, second = _ranks(node.arguments[0], shapes)
    return _contracted(node, shapes, [first - 1], [max(second - 2, 0)])


def inner(node: Node, shapes: Sequence[Shape]) -> Equation:
    """``inner``: the last axes."""
    first, second = _ranks(node.arguments[0], shapes)
    return _contracted(node, shapes, [first - 1], [second - 1])


def tensordot(node: Node, shapes: Sequence[Shape]) -> Equation:
    """``tensordot``: the axes that it names."""
    layer: Any = node.layer
    first, second = _ranks(node.arguments[0], shapes)
    if isinstance(layer.axes, int):
        return _contracted(node, shapes, range(first - layer.axes, first), range(layer.axes))
    left, right = ([a] if isinstance(a, int) else a for a in layer.axes)
    return _contracted(node, shapes, [int(a) % first for a in left], [int(a) % second for a in right])


def _contracted(node: Node, shapes: Sequence[Shape], left: Sequence[int], right: Sequence[int]) -> Equation:
    """The product over pairs of axes; what is left of both operands, one after the other."""
    operands = node.arguments[0]
    ranks = _ranks(operands, shapes)
    first = ALPHABET[: ranks[0]]
    second = list(ALPHABET[ranks[0] : sum(ranks)])
    for a, b in zip(left, right, strict=True):
        second[b] = first[a]
    summed = {first[a] for a in left}
    result = [c for c in (*first, *second) if c not in summed]
    return Equation((first, "".join(second)), tuple(operands), "".join(result))


def dot_layer(node: Node, shapes: Sequence[Shape]) -> Equation:
    """Dot: the axes that it names, of each pair of sequences."""
    layer: Any = node.layer
    if layer.normalize or max(map(len, shapes)) == 1:
        raise Decline("compares two vectors: none of them has positions")
    axes = (layer.axes,) * 2 if isinstance(layer.axes, int) else layer.axes
    first = ALPHABET[: len(shapes[0]) + 1]
    second = [first[0], *ALPHABET[len(first) : len(first) + len(shapes[1])]]
    left, right = (a % (len(shape) + 1) for a, shape in zip(axes, shapes, strict=True))
    second[right] = first[left]
    result = [c for c in (*first, *second[1:]) if c != first[left]]
    return Equation((first, "".join(second)), (Input(0), Input(1)), "".join(result))


def einsum_layer(node: Node, shapes: Sequence[Shape]) -> Equation:
    """EinsumDense."""
    layer: Any = node.layer
    return spelled_out(layer.equation, [Input(0), layer.kernel], [len(shapes[0]) + 1, len(layer.kernel.shape)])


# --- the rules --------------------------------------------------------------------------------------------------------


class Product(Rule):
    """What both rules share: where the positions are in the equation."""

    fused = False
    any_axis = True

    def __init__(self, spelled: Spelled) -> None:
        self.spelled = spelled

    def equation(self, facts: Facts) -> Equation:
        return self.spelled(facts.node, facts.shapes)

    def position(self, facts: Facts) -> str:
        """The letter of the positions; declines if they, or sequences of a batch, are multiplied with each other."""
        equation = self.equation(facts)
        batch = equation.result[:1]
        for number, letters in equation.tensors:
            if len(set(letters)) != len(letters) or letters[0] != batch:
                raise Decline("does not keep the batch as it is")
            if isinstance(state := facts.states[number], Window) and state.flat is not None:
                raise Decline("multiplies a flattened tensor")
        if any(batch in letters for _, letters in equation.constants):
            raise Decline("does not keep the batch as it is")
        equation.sizes(facts.shapes)
        found = {
            letters[state.axis + 1]
            for number, letters in equation.tensors
            if isinstance(state := facts.states[number], Window)
        }
        if len(found) > 1:
            raise Decline("multiplies every position with every other")
        return found.pop()

    def window_or_all(self, facts: Facts, window: Window) -> State:
        """The state of the result, where ``window`` has the positions of the operands."""
        position, result = self.position(facts), self.equation(facts).result
        if position not in result:
            return EVERYWHERE
        axis = result.index(position) - 1
        return replace(window, channels=without(facts.shape, axis), axis=axis)

    def prepare(self, facts: Facts) -> dict[str, Any]:
        """The constants, by their place among the operands."""
        node = facts.node
        operands = (
            keras.tree.flatten(node.arguments) if not hasattr(node.layer, "kernel") else (None, node.layer.kernel)
        )
        return {str(i): ops.convert_to_tensor(x) for i, x in enumerate(operands) if is_constant(x)}

    def full_multiply_adds(self, facts: Facts) -> int | None:
        try:
            return prod(self.equation(facts).sizes(facts.shapes).values())
        except Decline:
            return None

    def multiply_adds(self, facts: Facts, output: State) -> int:
        sizes = self.equation(facts).sizes(facts.shapes)
        return prod((sizes | {self.position(facts): facts.windows[0].frame.width}).values())


class Einsum(Product):
    """A product of a tensor with constants: linear. Those that differ by position are cut out for each window."""

    form = Form.DELTA
    linear = True
    condition = "if it keeps the positions, or sums over them"

    def propagate(self, facts: Facts) -> State:
        return self.window_or_all(facts, facts.window)

    def constants(self, facts: Facts) -> dict[str, Any]:
        arrays, position = self.prepare(facts), self.position(facts)
        differ = {name: letters for name, letters in self.equation(facts).constants if position in letters}
        return {name: ops.moveaxis(arrays[name], letters.index(position), 0) for name, letters in differ.items()}

    def extras(self, facts: Facts, output: State) -> dict[str, Extra]:
        return {name: Extra(name, facts.window.frame) for name in self.constants_by_position(facts)}

    def constants_by_position(self, facts: Facts) -> list[str]:
        position = self.position(facts)
        return [name for name, letters in self.equation(facts).constants if position in letters]

    def needs_sum_alone(self, facts: Facts) -> bool:
        """Whether the constants need the sum over the positions alone."""
        return self.position(facts) not in self.equation(facts).result and not self.constants_by_position(facts)

    def delta(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        equation, position = self.equation(call.facts), self.position(call.facts)
        batch = equation.unused(3)
        ((_, letters),) = equation.tensors
        if self.needs_sum_alone(call.facts):
            x, position = sum_rows(x), ""
        given, terms = [x], [f"{batch}{position}{_without(letters[1:], self.position(call.facts))}"]
        for name, letters in equation.constants:
            array, term = call.params[name], letters
            if name in call.extras:  # (1, P or 1, width, ...)
                array, term = call.extras[name][0], batch[1] + position + _without(letters, position)
                array, term = (array[0], term[1:]) if array.shape[0] == 1 else (array, term)
            given.append(ops.cast(array, x.dtype))
            terms.append(term)
        result = _with_position_first(equation.result[1:], position)
        return ops.einsum(f"{','.join(terms)}->{batch}{result}", *given)

    def multiply_adds(self, facts: Facts, output: State) -> int:
        work = super().multiply_adds(facts, output)
        return work // facts.window.frame.width if self.needs_sum_alone(facts) else work


class EinsumLayer(Einsum):
    """EinsumDense."""

    def __init__(self) -> None:
        super().__init__(einsum_layer)

    def split(self, node: Node) -> Callable[[Any], Any] | None:
        layer = node.layer

        def linear(x: Any) -> Any:
            y = ops.einsum(layer.equation, x, layer.kernel)
            return y if layer.bias is None else y + layer.bias

        return without_activation(layer, linear)


class EinsumOfTensors(Product):
    """A product of several tensors of the model, position by position: kept, or summed over the positions."""

    form = Form.VALUE
    condition = "if it does not multiply every position with every other"

    def propagate(self, facts: Facts) -> State:
        if not all(isinstance(state, (Window, Unchanged)) for state in facts.states):
            raise Decline("another input changes everywhere")
        if any(self.position(facts) in letters for _, letters in self.equation(facts).constants):
            raise Decline("multiplies several tensors and a constant that differs by position")
        self.require_cuts(facts)
        return self.window_or_all(facts, replace(facts.windows[0], frame=self.frame(facts)))

    def require_cuts(self, facts: Facts) -> None:
        """The reference of a tensor that does not change is cut along the axis of the first window."""
        for number, letters in self.equation(facts).tensors:
            at = letters.find(self.position(facts)) - 1
            if isinstance(facts.states[number], Unchanged) and at >= 0 and at != facts.windows[0].axis:
                raise Decline("its inputs have their positions along different axes")

    def frame(self, facts: Facts) -> Frame:
        """The common hull of the windows."""
        frames = [window.frame for window in facts.windows]
        if len({(frame.length, frame.step) for frame in frames}) > 1:
            raise Decline("its inputs follow the sequence at different strides")
        return hull(frames)

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        frame = output.frame if isinstance(output, Window) else self.frame(facts)
        return tuple(None if number in self.whole(facts) else frame for number, _ in enumerate(facts.states))

    def whole(self, facts: Facts) -> set[int]:
        """The inputs that have no positions: they do not change."""
        return {number for number, letters in self.equation(facts).tensors if self.position(facts) not in letters}

    def operand_forms(self, facts: Facts, form: Form) -> tuple[Form, ...]:
        whole = self.whole(facts)
        return tuple(Form.DELTA if number in whole else form for number, _ in enumerate(facts.states))

    def summarise(self, facts: Facts, *inputs: Any) -> dict[str, Any]:
        return {str(number): inputs[number] for number in self.whole(facts)}

    def value(self, call: Call, *inputs: Any) -> Any:
        facts = call.facts
        equation, position = self.equation(facts), self.position(facts)
        batch, whole = equation.unused(3), self.whole(facts)
        shapes = [x.shape[:3] for number, x in enumerate(inputs) if number not in whole]
        size = tuple(map(max, zip(*shapes, strict=True)))
        given, terms = [], []
        for number, letters in equation.tensors:
            if number in whole:
                x = call.summary[str(number)]
                given.append(ops.reshape(x, (x.shape[0], *x.shape[3:])))
                terms.append(batch[0] + letters[1:])
            else:
                x = ops.broadcast_to(inputs[number], (*size, *inputs[number].shape[3:]))
                given.append(x if position in equation.result else self.valid_alone(call, x))
                terms.append(batch + _with_position_first(letters[1:], position))
        for name, letters in equation.constants:
            given.append(ops.cast(call.params[name], given[0].dtype))
            terms.append(letters)
        result = _with_position_first(equation.result[1:], position)
        return ops.einsum(f"{','.join(terms)}->{batch}{result}", *given)

    def valid_alone(self, call: Call, x: Any) -> Any:
        """Zeros where a frame leaves the tensor."""
        inside = per_position(call.valid(self.frame(call.facts)), len(x.shape))
        return ops.where(inside, x, ops.zeros((), x.dtype))


def _without(letters: str, position: str) -> str:
    return letters.replace(position, "") if position else letters


def _with_position_first(letters: str, position: str) -> str:
    return position + _without(letters, position) if position and position in letters else letters
