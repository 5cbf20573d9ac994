"""From a graph and the rules to a frozen plan: states, frames, stages and cost. Integers only, milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any

from fastism_cli.graph import LayerGraph, Node, Port, Shape, Tensor
from fastism_cli.heads import Head
from fastism_cli.reduce import Reduction, Reference, Select
from fastism_cli.rules import rule_of
from fastism_cli.rules.base import (
    EVERYWHERE,
    UNCHANGED,
    Decline,
    Everywhere,
    Facts,
    Flat,
    Form,
    Rule,
    State,
    Unchanged,
    Window,
)
from fastism_cli.rules.pointwise import ACTIVATION_PART
from fastism_cli.windows import Chunk, Frame, offsets, whole_period

# An element that is read and written costs about as much as this many multiply-adds in a matrix product.
MULTIPLY_ADDS_PER_ELEMENT = 30

# Role of a node whose output counts as unchanged: the reference that a reduction compares with.
REFERENCE = "reference"


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
    """Steps that are compiled together. ``exports`` are the tensors that later stages read, in delta form."""

    steps: tuple[Step, ...]
    fused: bool
    exports: tuple[int, ...]


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
    def elements(self) -> int:
        """Elements of all the tensors that one substitution writes."""
        tensors = self.graph.tensors
        return sum(written(self.states[t], tensors[t]) for step in self.steps for t in step.node.outputs)

    @property
    def working_set(self) -> int:
        """Elements of the largest stage for one substitution: its output and what it holds in between."""
        tensors = self.graph.tensors
        sizes = [
            step.scratch + sum(written(self.states[t], tensors[t]) for t in step.node.outputs) for step in self.steps
        ]
        return max(sizes, default=1)

    @property
    def full_elements(self) -> int:
        """The same for a forward pass."""
        return sum(prod(self.graph.tensors[t].shape) for step in self.steps for t in step.node.outputs)

    @property
    def limit(self) -> float:
        """How many times fewer multiply-adds than a forward pass."""
        return self.full_multiply_adds / max(self.multiply_adds, 1)

    @property
    def predicted_speedup(self) -> float:
        """Estimated saving in time against forward passes, elements moved counted in."""
        fast = self.multiply_adds + MULTIPLY_ADDS_PER_ELEMENT * self.elements
        full = self.full_multiply_adds + MULTIPLY_ADDS_PER_ELEMENT * self.full_elements
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


# --- the graph as the engine runs it -------------------------------------------------------------------------------


def with_parts(graph: LayerGraph) -> LayerGraph:
    """Every layer that has a built-in activation as two nodes: its linear part, then the activation."""
    nodes: list[Node] = []
    tensors: list[Tensor] = []
    for node in graph.nodes:
        rule = rule_of(node.layer)
        linear = rule.split(node) if rule is not None else None
        if linear is None:
            nodes.append(node)
            continue
        (output,) = node.outputs
        between = len(graph.tensors) + len(tensors)
        tensors.append(graph.tensors[output])
        activation = node.layer.activation
        nodes.append(replace(node, outputs=(between,), call=_unary(linear), role="linear"))
        nodes.append(replace(node, inputs=(between,), call=_unary(activation), role="activation"))
    return graph.extended(nodes, tensors, graph.outputs)


def with_heads(graph: LayerGraph, heads: Sequence[Head]) -> LayerGraph:
    """The graph with these heads as its outputs: targets chosen and positions reduced by nodes of their own."""
    nodes, tensors, made = list(graph.nodes), list[Tensor](), dict[tuple[Any, ...], int]()

    def add(key: tuple[Any, ...], name: str, layer: Any, inputs: tuple[int, ...], shape: Shape, role: str) -> int:
        if key not in made:
            made[key] = len(graph.tensors) + len(tensors)
            tensors.append(Tensor(shape, graph.tensors[graph.outputs[key[0]].tensor].dtype))
            nodes.append(Node(len(nodes), name, layer, inputs, (made[key],), _applied(layer), role))
        return made[key]

    outputs = []
    for head in heads:
        port = graph.outputs[head.source]
        tensor, shape = port.tensor, head.full_shape
        if head.units is not None and not head.is_reduced_flat:
            shape = (*shape[:-1], len(head.units))
            key: tuple[Any, ...] = (head.source, head.units)
            tensor = add(key, f"{port.name}:targets", Select(head.units), (tensor,), shape, "layer")
        reduction = head.reduction
        if reduction is not None:
            inputs: tuple[int, ...] = (tensor,)
            if reduction.compares:
                key = (head.source, head.units, "reference")
                inputs += (add(key, f"{port.name}:reference", Reference(), (tensor,), shape, REFERENCE),)
            key = (head.source, head.units, head.reduce)
            tensor = add(key, f"{port.name}:{head.reduce}", reduction, inputs, head.shape, "layer")
        outputs.append(Port(head.name, tensor))
    return _pruned(graph.extended(nodes, tensors, outputs))


def _applied(layer: Any) -> Any:
    return lambda arrays, operation=layer: [operation(*arrays)]


def _pruned(graph: LayerGraph) -> LayerGraph:
    """The graph without nodes that no output needs."""
    needed = {port.tensor for port in graph.outputs}
    kept = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return graph.extended(kept[::-1], (), graph.outputs)


def _unary(function: Any) -> Any:
    return lambda arrays: [function(arrays[0])]


# --- planning --------------------------------------------------------------------------------------------------------


def period_of(graph: LayerGraph, input_tensor: int) -> int:
    """Distance at which chunks may begin so that every frame moves by whole positions."""
    states = _Planner(graph, input_tensor, [0], Fraction(1)).changed
    return whole_period(state.frame.step for state in states if isinstance(state, Window))


def make_plan(graph: LayerGraph, input_tensor: int, *, size: int, phase: int, period: int) -> Plan:
    """Plan a chunk of ``size`` positions from ``phase + period * q`` on.

    Parameters
    ----------
    graph : LayerGraph
        As :func:`with_parts` and :func:`with_heads` left it.
    input_tensor : int
        The tensor that is substituted in.
    """
    natural = [phase + j for j in range(size)]
    keys = _Planner(graph, input_tensor, natural, Fraction(period)).alignments()
    order = sorted(range(size), key=lambda j: tuple(key[j] for key in keys))
    planner = _Planner(graph, input_tensor, [natural[j] for j in order], Fraction(period))
    chunk = Chunk(size, phase, period, tuple(order))
    return Plan(graph, chunk, input_tensor, tuple(planner.stored), tuple(planner.stages()))


class _Planner:
    """Works out the states of all tensors: forward which positions change, backward in which frame they are kept."""

    def __init__(self, graph: LayerGraph, input_tensor: int, positions: Sequence[int], step: Fraction) -> None:
        self.graph = graph
        self.input_tensor = input_tensor
        self.rules: dict[int, Rule | None] = {}
        self.reasons: dict[int, str | None] = {}
        self.readers = graph.consumers()
        self.makers = {t: node.index for node in graph.nodes for t in node.outputs}
        self.changed: list[State] = [UNCHANGED] * len(graph.tensors)
        shape = graph.tensors[input_tensor].shape
        self.changed[input_tensor] = Window(Frame(tuple(positions), 1, step, shape[0]), shape[1:])
        for node in graph.nodes:
            self._propagate(node)
        self.stored = list(self.changed)
        for node in reversed(graph.nodes):
            self._pull_frames(node)

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
        self.rules[node.index], self.reasons[node.index] = rule, reason
        for tensor in node.outputs:
            self.changed[tensor] = output

    def _try_rule(self, node: Node) -> tuple[Rule | None, str | None, State]:
        facts = self.facts(node, self.changed)
        if any(isinstance(state, Everywhere) for state in facts.states):
            return None, None, EVERYWHERE
        rule = ACTIVATION_PART if node.role == "activation" else rule_of(node.layer)
        if rule is None:
            return None, f"no rule for class {node.class_name}", EVERYWHERE
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
        elements = prod(output.channels) * MULTIPLY_ADDS_PER_ELEMENT
        window = rule.multiply_adds(facts, output) + output.frame.width * elements
        full = weighted_multiply_adds(facts.layer, facts.shapes, facts.shape) + output.frame.length * elements
        laid_out = 2 * MULTIPLY_ADDS_PER_ELEMENT * sum(prod(shape) for shape in facts.shapes)
        return window < full + laid_out

    def _pull_frames(self, node: Node) -> None:
        """Let a tensor with one reader be kept in the frame that this reader wants."""
        rule = self.rules.get(node.index)
        if rule is None or not rule.pulls:
            return
        demands = rule.demand(self.facts(node, self.changed), self.stored[node.outputs[0]])
        for tensor, wanted in zip(node.inputs, demands, strict=True):
            state = self.stored[tensor]
            if isinstance(state, Window) and wanted is not None and self._can_fill(tensor):
                if all(0 <= o <= wanted.width - state.frame.width for o in offsets(state.frame, wanted)):
                    self.stored[tensor] = replace(state, frame=wanted)

    def _can_fill(self, tensor: int) -> bool:
        """Whether the tensor has one reader, and a maker that can put it into a wider frame."""
        maker = self.rules.get(self.makers.get(tensor, -1))
        heads = {port.tensor for port in self.graph.outputs}
        return maker is not None and maker.fills and len(self.readers[tensor]) == 1 and tensor not in heads

    def alignments(self) -> list[tuple[int, ...]]:
        """For every move of rows into another frame, the offset of each position: what the chunk is sorted by."""
        keys = []
        for step in (step for stage in self.stages() for step in stage.steps):
            for operand in step.operands:
                state = self.stored[operand.tensor]
                if isinstance(state, Window) and operand.frame is not None:
                    keys.append(offsets(state.frame, operand.frame))
            if step.rule is not None and isinstance(step.output, Window):
                natural = step.rule.propagate(step.facts)
                assert isinstance(natural, Window)
                keys.append(offsets(natural.frame, step.output.frame))
        return keys

    def stages(self) -> list[Stage]:
        """Group the steps: neighbours that are elementwise and hand a tensor on share a compiled stage."""
        groups: list[list[Step]] = []
        forms: dict[int, Form] = {}
        for node in self.graph.nodes:
            if node.index not in self.rules:
                continue
            rule = self.rules[node.index]
            joins = bool(groups) and self._joins(node, rule, groups[-1])
            if not joins:
                groups.append([])
                forms = {}
            step = self._step(node, rule, forms)
            forms[node.outputs[0]] = step.form
            groups[-1].append(step)
        return [self._stage(group) for group in groups]

    def _joins(self, node: Node, rule: Rule | None, group: list[Step]) -> bool:
        last = group[-1].rule
        if rule is None or last is None or not (rule.fused and last.fused):
            return False
        made = {t for step in group for t in step.node.outputs}
        return any(t in made for t in node.inputs)

    def _stage(self, group: list[Step]) -> Stage:
        inside = {step.node.index for step in group}
        heads = {port.tensor for port in self.graph.outputs}
        exports = [
            t
            for step in group
            for t in step.node.outputs
            if t in heads or any(reader not in inside for reader in self.readers[t])
        ]
        fused = group[0].rule is not None and group[0].rule.fused
        return Stage(tuple(group), fused, tuple(dict.fromkeys(exports)))

    def _step(self, node: Node, rule: Rule | None, forms: dict[int, Form]) -> Step:
        facts = self.facts(node, self.stored)
        output = self.stored[node.outputs[0]]
        full = weighted_multiply_adds(node.layer, facts.shapes, facts.shape) if node.role != "activation" else 0
        full = 0 if isinstance(node.layer, Reduction) else full
        if rule is None:
            operands = tuple(Operand(t, Form.VALUE, "full", None) for t in node.inputs)
            reason, laid_out = self.reasons[node.index], sum(prod(shape) for shape in facts.shapes)
            return Step(node, None, facts, operands, output, Form.VALUE, reason, full, full, laid_out, False)
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


def _delivered(state: State, operand: Operand) -> State:
    return replace(state, frame=operand.frame) if isinstance(state, Window) and operand.frame else state


# --- what a plan needs of the reference ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """Something along a length axis that frames are cut from.

    ``source`` is "reference", "prefix_max" or "suffix_max" of ``tensor``, or the name of a constant of ``node``.
    """

    source: str
    tensor: int
    node: int | None
    flat: Flat | None
    channels: Shape
    length: int


def cuts(step: Step, states: Sequence[State]) -> list[tuple[str, Cut, Frame]]:
    """Every cut that a step makes: a key for it ("node:operand" or "node:extra"), what is cut, and its frame."""
    if step.rule is None:
        return []
    window = next(s for s in step.facts.states if isinstance(s, Window))
    found = []
    for i, operand in enumerate(step.operands):
        if operand.source == "reference" or (operand.source == "delta" and operand.form is Form.VALUE):
            assert operand.frame is not None
            found.append((f"{step.node.index}:{i}", reference_cut(operand.tensor, states, window), operand.frame))
    for name, extra in step.rule.extras(step.facts, step.output).items():
        found.append((f"{step.node.index}:{name}", extra_cut(step, extra.source, extra.frame), extra.frame))
    return found


def reference_cut(tensor: int, states: Sequence[State], like: Window) -> Cut:
    state = states[tensor]
    window = state if isinstance(state, Window) else like
    return Cut("reference", tensor, None, window.flat, window.channels, window.frame.length)


def extra_cut(step: Step, source: str, frame: Frame) -> Cut:
    derived = source in ("prefix_max", "suffix_max")
    return Cut(source, step.node.inputs[0], None if derived else step.node.index, None, (), frame.length)


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
