"""From a graph and the rules to a frozen plan: states, frames, stages and cost. Integers only, milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any

from fastism_cli.graph import PART, REFERENCE, LayerGraph, Node, Shape, Tensor
from fastism_cli.reduce import Reduction
from fastism_cli.rules import rule_of
from fastism_cli.rules.base import (
    EVERYWHERE,
    UNCHANGED,
    Decline,
    Everywhere,
    Extra,
    Facts,
    Flat,
    Form,
    Rule,
    State,
    Unchanged,
    Window,
)
from fastism_cli.rules.opaque import why_opaque
from fastism_cli.rules.place import MOST_RUNS
from fastism_cli.rules.pointwise import ACTIVATION_PART
from fastism_cli.windows import Chunk, Frame, offsets, runs, whole_period

# An element that is written and read again costs about as much as so many multiply-adds in a matrix product: more in a
# forward pass, whose layers each go through memory, than in a compiled stage. Measured on two cores.
STAGE_ELEMENT, LAYER_ELEMENT = 30, 45
# A single forward pass, for the reference, takes so many times as long as one among many.
REFERENCE_PASSES = 3
# With more slices to add up than these, a kernel's taps are summed in a stage of their own: it compiles faster.
MOST_TERMS = 700


@dataclass(frozen=True)
class Operand:
    """One input of a step: which tensor, in which form, and for a window in which frame.

    ``source`` says where it comes from: the tensor's "delta" or "value" as it stands, or its "reference" (added to
    the delta to make a value, or alone for a tensor that does not change).
    """

    tensor: int
    form: Form
    source: str
    frame: Frame | None


@dataclass(frozen=True)
class Step:
    """One node that the change passes through. ``rule`` None: the node is opaque, or all of its input changes.

    ``masks``: in delta form, invalid positions of the output must be set to zero, because a reader relies on it.
    """

    node: Node
    rule: Rule | None
    facts: Facts
    operands: tuple[Operand, ...]
    output: State
    form: Form
    reason: str | None
    multiply_adds: int
    full_multiply_adds: int
    scratch: int
    masks: bool


@dataclass(frozen=True)
class Stage:
    """Steps that are compiled together, after the matrix product of the first where it has one.

    Attributes
    ----------
    exports : tuple of int
        The tensors that later stages read; they are stored in delta form.
    order : tuple of int
        The positions of the chunk, sorted so that those which lie alike in all frames of the stage stand together.
    runs : tuple of (first, stop)
        Those stretches of ``order``; a single one where there would be too many.
    cuts : bool
        Whether windows are cut into pieces by rows.
    """

    steps: tuple[Step, ...]
    exports: tuple[int, ...]
    order: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]
    cuts: bool

    @property
    def has_product(self) -> bool:
        """Whether a matrix product stands before the stage."""
        return _has_product(self.steps[0])

    @property
    def is_compiled(self) -> bool:
        """False for a rule that multiplies matrices on values: it is left to the graph as it is."""
        rule = self.steps[0].rule
        return self.has_product or (rule is not None and rule.fused)

    @property
    def is_product(self) -> bool:
        """Whether the product is all that the stage is: nothing is left to compile."""
        first = self.steps[0]
        assert first.rule is not None
        return self.has_product and len(self.steps) == 1 and first.rule.is_product(first.facts) and not first.masks

    @property
    def elementwise(self) -> tuple[Step, ...]:
        """The steps that read the reference inside the compiled function: a product reads it before."""
        return self.steps[1:] if self.has_product else self.steps


@dataclass(frozen=True)
class Plan:
    """How one chunk of substituted positions passes through the model.

    ``states`` has the state of every tensor (frames as they are stored), ``stages`` the work in order.
    """

    graph: LayerGraph
    chunk: Chunk
    input_tensor: int
    states: tuple[State, ...]
    stages: tuple[Stage, ...]

    @property
    def steps(self) -> list[Step]:
        return [step for stage in self.stages for step in stage.steps]

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one substitution by this plan."""
        return sum(step.multiply_adds for step in self.steps)

    @property
    def full_multiply_adds(self) -> int:
        """Multiply-adds of one substitution by a forward pass (of what depends on the input)."""
        return sum(step.full_multiply_adds for step in self.steps)

    @property
    def orders(self) -> dict[int, tuple[int, ...]]:
        """The order of the chunk's positions in each stored tensor that is not in the natural one."""
        return {t: stage.order for stage in self.stages for t in stage.exports if stage.steps[0].rule is not None}

    @property
    def elements(self) -> int:
        """Elements of all the tensors that one substitution writes."""
        return sum(self._written(step) for step in self.steps)

    def _written(self, step: Step) -> int:
        return sum(written(self.states[t], self.graph.tensors[t]) for t in step.node.outputs)

    @property
    def working_set(self) -> int:
        """Elements of the largest stage for one substitution: its output and what it holds in between."""
        return max((step.scratch + self._written(step) for step in self.steps), default=1)

    @property
    def full_elements(self) -> int:
        """The same for a forward pass."""
        whole = [step.node for step in self.steps if step.node.role != PART]
        return sum(prod(self.graph.tensors[t].shape) for node in whole for t in node.outputs)

    @property
    def limit(self) -> float:
        """How many times fewer multiply-adds than a forward pass."""
        return self.full_multiply_adds / max(self.multiply_adds, 1)

    @property
    def predicted_speedup(self) -> float:
        """Estimated saving in time against forward passes, elements moved and the reference pass counted in."""
        full = self.full_multiply_adds + LAYER_ELEMENT * self.full_elements
        moved = sum(
            self._written(step) * (LAYER_ELEMENT if step.rule is None else STAGE_ELEMENT) for step in self.steps
        )
        length, letters = self.graph.tensors[self.input_tensor].shape
        substitutions = length * max(letters - 1, 1)
        fast = self.multiply_adds + moved + REFERENCE_PASSES * full / substitutions
        return full / max(fast, 1)


def written(state: State, tensor: Tensor) -> int:
    return state.size if isinstance(state, Window) else prod(tensor.shape)


def weighted_multiply_adds(layer: Any, shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
    """Multiplications with weights in one call of a layer: every weight matrix once a position."""
    weights = [w for w in getattr(layer, "weights", []) if len(w.shape) > 1]
    if not weights:
        return 0
    positions = prod(shape[:-1]) if len(shape) > 1 else prod(shapes[0][:-1])
    if type(layer).__name__ == "Embedding":
        return 0
    return positions * sum(prod(w.shape) for w in weights)


# --- planning --------------------------------------------------------------------------------------------------------


def period_of(graph: LayerGraph, input_tensor: int) -> int:
    """Distance at which chunks may begin so that every frame moves by whole positions."""
    states = Propagation(graph, input_tensor, [0], Fraction(1)).changed
    return whole_period(state.frame.step for state in states if isinstance(state, Window))


def make_plan(graph: LayerGraph, input_tensor: int, *, size: int, phase: int, period: int) -> Plan:
    """Plan a chunk of ``size`` positions from ``phase + period * q`` on.

    Parameters
    ----------
    graph : LayerGraph
        As :func:`fastism_cli.rewrite.as_run` left it.
    input_tensor : int
        The tensor that is substituted in.
    """
    planner = _Planner(graph, input_tensor, [phase + j for j in range(size)], Fraction(period))
    return Plan(graph, Chunk(size, phase, period), input_tensor, tuple(planner.stored), tuple(planner.stages()))


class Propagation:
    """Forward: which positions of every tensor change, for the substituted ``positions``, and by which rule."""

    def __init__(self, graph: LayerGraph, input_tensor: int, positions: Sequence[int], step: Fraction) -> None:
        self.graph = graph
        self.input_tensor = input_tensor
        self.positions = positions
        self.rules: dict[int, Rule | None] = {}
        self.reasons: dict[int, str | None] = {}
        self.changed: list[State] = [UNCHANGED] * len(graph.tensors)
        shape = graph.tensors[input_tensor].shape
        self.changed[input_tensor] = Window(Frame(tuple(positions), 1, step, shape[0]), shape[1:])
        for node in graph.nodes:
            self._propagate(node)

    def facts(self, node: Node, states: Sequence[State]) -> Facts:
        tensors = self.graph.tensors
        return Facts(
            node,
            tuple(states[t] for t in node.inputs),
            tuple(tensors[t].shape for t in node.inputs),
            tensors[node.outputs[0]].shape,
        )

    def _propagate(self, node: Node) -> None:
        states = [self.changed[t] for t in node.inputs]
        if node.role == REFERENCE or all(isinstance(state, Unchanged) for state in states):
            return
        rule, reason, output = self._try_rule(node)
        if isinstance(output, Unchanged):
            return
        self.rules[node.index], self.reasons[node.index] = rule, reason
        for tensor in node.outputs:
            self.changed[tensor] = output

    def _try_rule(self, node: Node) -> tuple[Rule | None, str | None, State]:
        facts = self.facts(node, self.changed)
        rule = ACTIVATION_PART if node.role == "activation" else rule_of(node)
        if any(isinstance(state, Everywhere) for state in facts.states) and not (rule and rule.takes_everywhere):
            return None, None, EVERYWHERE
        if rule is None:
            return None, why_opaque(node.layer), EVERYWHERE
        if not rule.any_axis and any(window.axis for window in facts.windows):
            return None, "works along another axis than the positions", EVERYWHERE
        try:
            output = rule.propagate(facts)
        except Decline as reason:
            return None, str(reason), EVERYWHERE
        if isinstance(output, Window) and not self._saves(rule, facts, output):
            return None, "the window is as wide as the layer", EVERYWHERE
        return rule, None, output

    def _saves(self, rule: Rule, facts: Facts, output: Window) -> bool:
        """Whether the window costs less than the whole layer, for which the input has to be laid out in full."""
        if output.frame.width < output.frame.length:
            return True
        elements = prod(output.channels) * STAGE_ELEMENT
        window = rule.multiply_adds(facts, output) + output.frame.width * elements
        full = weighted_multiply_adds(facts.layer, facts.shapes, facts.shape) + output.frame.length * elements
        laid_out = 2 * STAGE_ELEMENT * sum(prod(shape) for shape in facts.shapes)
        return window < full + laid_out


class _Planner(Propagation):
    """Backward: in which frame every tensor is kept; then the stages."""

    def __init__(self, graph: LayerGraph, input_tensor: int, positions: Sequence[int], step: Fraction) -> None:
        super().__init__(graph, input_tensor, positions, step)
        self.readers = graph.consumers()
        self.makers = {t: node.index for node in graph.nodes for t in node.outputs}
        self.stored = list(self.changed)
        for node in reversed(graph.nodes):
            self._pull_frames(node)

    def _pull_frames(self, node: Node) -> None:
        """Let a tensor with one reader be kept in the frame that this reader wants."""
        rule = self.rules.get(node.index)
        if rule is None or not rule.pulls:
            return
        demands = rule.demand(self.facts(node, self.changed), self.stored[node.outputs[0]])
        for tensor, wanted in zip(node.inputs, demands, strict=True):
            state = self.stored[tensor]
            if isinstance(state, Window) and wanted is not None and self._can_fill(tensor):
                if wanted.step == state.frame.step and all(
                    0 <= o <= wanted.width - state.frame.width for o in offsets(state.frame, wanted)
                ):
                    self.stored[tensor] = replace(state, frame=wanted)

    def _can_fill(self, tensor: int) -> bool:
        """Whether the tensor has one reader, and a maker that can put it into a wider frame."""
        maker = self.rules.get(self.makers.get(tensor, -1))
        heads = {port.tensor for port in self.graph.outputs}
        return maker is not None and maker.fills and len(self.readers[tensor]) == 1 and tensor not in heads

    def stages(self) -> list[Stage]:
        """Group the steps: elementwise work joins the stage that makes what it reads."""
        groups: list[list[Step]] = []
        forms: list[dict[int, Form]] = []
        made_in: dict[int, int] = {}
        for node in self.graph.nodes:
            if node.index not in self.rules:
                continue
            rule = self.rules[node.index]
            number = max((made_in[t] for t in node.inputs if t in made_in), default=-1)
            if number < 0 or not self._joins(rule, groups[number]):
                number = len(groups)
                groups.append([])
                forms.append({})
            step = self._step(node, rule, forms[number])
            forms[number][node.outputs[0]] = step.form
            groups[number].append(step)
            made_in.update(dict.fromkeys(node.outputs, number))
        orders: dict[int, tuple[int, ...]] = {}
        found = []
        for group in groups:
            found.append(self._stage(group, orders))
            if group[0].rule is not None:
                orders.update(dict.fromkeys(found[-1].exports, found[-1].order))
        return found

    def _joins(self, rule: Rule | None, group: list[Step]) -> bool:
        first = group[0]
        if rule is None or first.rule is None or not rule.fused:
            return False
        return first.rule.fused or (_has_product(first) and self._terms(first) <= MOST_TERMS)

    def _terms(self, step: Step) -> int:
        """Slices that the first step of a stage adds up, over all runs of positions."""
        if step.rule is None or not isinstance(step.output, Window):
            return 0
        return step.rule.summed_slices(step.facts, step.output) * len(set(zip(*self._moves(step), strict=True)) or {()})

    def _stage(self, group: list[Step], orders: Mapping[int, tuple[int, ...]]) -> Stage:
        inside = {step.node.index for step in group}
        heads = {port.tensor for port in self.graph.outputs}
        exports = [
            t
            for step in group
            for t in step.node.outputs
            if t in heads or any(reader not in inside for reader in self.readers[t])
        ]
        natural = tuple(range(len(self.positions)))
        given = natural if _needs_order(group[0]) else orders.get(group[0].node.inputs[0], natural)
        order, stretches = self._runs(group, given)
        cuts = self._terms(group[0]) <= MOST_TERMS
        return Stage(tuple(group), tuple(dict.fromkeys(exports)), order, stretches, cuts)

    def _runs(self, group: list[Step], given: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        """The chunk's positions sorted by how they lie in the frames of these steps, and the stretches alike.

        Where there is nothing to sort, they stay in the order in which the first input is ``given``.
        """
        size = len(self.positions)
        keys = [tuple(key) for key in zip(*(move for step in group for move in self._moves(step)), strict=True)]
        if not 1 < len(set(keys)) <= MOST_RUNS:
            return given, ((0, size),)
        order = sorted(range(size), key=lambda j: (keys[j], j))
        number = {key: i for i, key in enumerate(sorted(set(keys)))}
        return tuple(order), tuple((a, b) for a, b, _ in runs([number[keys[j]] for j in order]))

    def _moves(self, step: Step) -> list[tuple[int, ...]]:
        """For every move of rows into another frame, the offset of each position."""
        if step.rule is None:
            return []
        moves = []
        for operand in step.operands:
            state = self.stored[operand.tensor]
            if isinstance(state, Window) and operand.frame is not None and operand.frame.step == state.frame.step:
                moves.append(offsets(state.frame, operand.frame))
        if isinstance(step.output, Window):
            natural = step.rule.propagate(step.facts)
            assert isinstance(natural, Window)
            moves.append(offsets(natural.frame, step.output.frame))
        return moves

    def _step(self, node: Node, rule: Rule | None, forms: dict[int, Form]) -> Step:
        facts = self.facts(node, self.stored)
        output = self.stored[node.outputs[0]]
        work = weighted_multiply_adds(node.layer, facts.shapes, facts.shape) if node.role != "activation" else 0
        work = 0 if isinstance(node.layer, Reduction) else work
        full = work if node.role != PART else 0
        if rule is None:
            operands = tuple(Operand(t, Form.VALUE, "full", None) for t in node.inputs)
            reason, laid_out = self.reasons[node.index], sum(prod(shape) for shape in facts.shapes)
            return Step(node, None, facts, operands, output, Form.VALUE, reason, work, full, laid_out, False)
        form = self._form(rule, node, forms)
        demands = rule.demand(facts, output)
        states = zip(node.inputs, facts.states, demands, strict=True)
        operands = tuple(self._operand(t, state, frame, form, forms) for t, state, frame in states)
        facts = replace(facts, states=tuple(_delivered(s, o) for s, o in zip(facts.states, operands, strict=True)))
        work, scratch = rule.multiply_adds(facts, output), rule.scratch(facts)
        masks = self._masks.get(node.outputs[0], False)
        return Step(node, rule, facts, operands, output, form, None, work, full, scratch, masks)

    @cached_property
    def _masks(self) -> dict[int, bool]:
        """For every window that its rule may leave dirty at invalid positions, whether a reader minds."""
        dirty: set[int] = set()
        for node in self.graph.nodes:
            rule = self.rules.get(node.index)
            if rule is not None and (rule.leaks or (rule.keeps_places and node.inputs[0] in dirty)):
                dirty.update(node.outputs)
        return {t: any(self._minds(self.graph.nodes[reader]) for reader in self.readers[t]) for t in dirty}

    def _minds(self, reader: Node) -> bool:
        """Whether a reader computes valid positions from invalid ones of a delta."""
        rule = self.rules.get(reader.index)
        return rule is not None and rule.form is not Form.VALUE and not rule.keeps_places

    def _form(self, rule: Rule, node: Node, forms: dict[int, Form]) -> Form:
        if rule.form is not Form.EITHER:
            return rule.form
        return forms.get(node.inputs[0], Form.DELTA)

    def _operand(self, tensor: int, state: State, frame: Frame | None, form: Form, forms: dict[int, Form]) -> Operand:
        if isinstance(state, Unchanged):
            return Operand(tensor, form, "none" if form is Form.DELTA else "reference", frame)
        assert isinstance(state, Window)
        frame = frame or state.frame
        ready = forms.get(tensor) is Form.VALUE and frame == state.frame
        return Operand(tensor, form, "value" if ready and form is Form.VALUE else "delta", frame)


def _has_product(step: Step) -> bool:
    return step.rule is not None and not step.rule.fused and step.form is not Form.VALUE


def _needs_order(step: Step) -> bool:
    return step.rule is not None and step.rule.needs_order(step.facts)


def _delivered(state: State, operand: Operand) -> State:
    return replace(state, frame=operand.frame) if isinstance(state, Window) and operand.frame else state


# --- what a plan needs of the reference ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """Something along a length axis that frames are cut from.

    ``source`` is "reference", "prefix_max" or "suffix_max" of ``tensor``, or the name of a constant of ``node``;
    ``separate`` as in :class:`~fastism_cli.rules.base.Extra`.
    """

    source: str
    tensor: int
    node: int | None
    flat: Flat | None
    channels: Shape
    length: int
    separate: bool = False
    axis: int = 0


def cuts(step: Step, states: Sequence[State]) -> list[tuple[str, Cut, Frame]]:
    """Every cut that a step makes: a key for it ("node:operand" or "node:extra"), what is cut, and its frame."""
    if step.rule is None:
        return []
    window = next(s for s in step.facts.states if isinstance(s, Window))
    found = []
    for i, operand in enumerate(step.operands):
        if operand.source == "reference" or (operand.source == "delta" and operand.form is Form.VALUE):
            assert operand.frame is not None
            cut = reference_cut(operand.tensor, states, like=window, length=operand.frame.length)
            found.append((f"{step.node.index}:{i}", cut, operand.frame))
    for name, extra in step.rule.extras(step.facts, step.output).items():
        found.append((f"{step.node.index}:{name}", extra_cut(step, extra), extra.frame))
    return found


def reference_cut(tensor: int, states: Sequence[State], *, like: Window, length: int) -> Cut:
    """The reference of an operand; one that does not change lies as the windows beside it do (``like``)."""
    state = states[tensor]
    window = state if isinstance(state, Window) else like
    return Cut("reference", tensor, None, window.flat, window.channels, length, axis=window.axis)


def extra_cut(step: Step, extra: Extra) -> Cut:
    derived = extra.source in ("prefix_max", "suffix_max")
    node = None if derived else step.node.index
    window = step.facts.states[0]
    axis = window.axis if derived and isinstance(window, Window) else 0
    return Cut(extra.source, step.node.inputs[0], node, None, (), extra.frame.length, extra.separate, axis)


def reaches(plans: Iterable[tuple[Plan, range]]) -> dict[Cut, tuple[int, int]]:
    """How far below 0 and up to where the frames of these plans' chunks reach, for every cut."""
    found: dict[Cut, tuple[int, int]] = {}
    for plan, chunks in plans:
        for step in plan.steps:
            for _, cut, frame in cuts(step, plan.states):
                low, high = frame.reach(chunks)
                before = found.get(cut, (0, cut.length))
                found[cut] = (min(low, before[0]), max(high, before[1]))
    return found
