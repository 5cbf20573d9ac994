"""Make a frozen plan of a graph by the rules, in milliseconds.

Forward through the graph: which positions of each tensor change. Backward: in which frame each tensor is kept. Then
the steps are grouped into stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from math import prod

from fastism_cli.engine.plan import STAGE_ELEMENT, Operand, Plan, Stage, Step, weighted_multiply_adds, written
from fastism_cli.model.graph import FURTHER_WINDOW, REFERENCE, LayerGraph, Node
from fastism_cli.model.reductions import Reduction
from fastism_cli.rules.base import (
    EVERYWHERE,
    UNCHANGED,
    Decline,
    Everywhere,
    Facts,
    Form,
    Rule,
    State,
    Unchanged,
    Window,
)
from fastism_cli.rules.frames import Blocks, Chunk, Frame, common_period, equal_stretches, offsets
from fastism_cli.rules.layer_calls import has_other_arguments
from fastism_cli.rules.several_windows import LetterOfPair, pairs_sharing
from fastism_cli.rules.table import rule_of, why_opaque
from fastism_cli.rules.window_rows import MAX_STRETCHES

# With more slices to add up than this, a kernel's taps are summed in a stage of their own, which compiles faster.
MAX_TERMS = 700
OTHER_ARGUMENTS = "is called with a constant beside its tensor, such as a mask, which its rule does not know"


def period_of(graph: LayerGraph, input_tensor: int, blocks: Blocks) -> int:
    """Number of blocks after which chunks may begin so that every frame moves by whole positions.

    For blocks that do not lie regularly, the number of all: no chunk is like another.
    """
    if not blocks.are_regular:
        return blocks.count
    states = Propagation(graph, input_tensor, [0], Fraction(blocks.step), blocks.width).changed
    return common_period(state.frame.step for state in states if isinstance(state, Window))


def make_plan(graph: LayerGraph, input_tensor: int, blocks: Blocks, *, size: int, phase: int, period: int) -> Plan:
    """Plan a chunk of ``size`` blocks from number ``phase + period * q`` on.

    Parameters
    ----------
    graph : LayerGraph
        As :func:`fastism_cli.engine.rewrite.rewritten` left it.
    input_tensor : int
        The tensor that is changed.
    """
    step = Fraction(blocks.step * period)
    planner = _Planner(graph, input_tensor, blocks.starts_from(phase, size), step, blocks.width)
    return Plan(graph, Chunk(size, phase, period), input_tensor, tuple(planner.stored), tuple(planner.stages()))


class Propagation:
    """Forward: which positions of every tensor change for blocks of ``width`` at ``positions``, and by which rule.

    ``step`` is how far the blocks move from one chunk to the next.
    """

    def __init__(
        self, graph: LayerGraph, input_tensor: int, positions: Sequence[int], step: Fraction, width: int = 1
    ) -> None:
        self.graph = graph
        self.input_tensor = input_tensor
        self.positions, self.width = positions, width
        self.rules: dict[int, Rule | None] = {}
        self.reasons: dict[int, str | None] = {}
        self.changed: list[State] = [UNCHANGED] * len(graph.tensors)
        shape = graph.tensors[input_tensor].shape
        self.changed[input_tensor] = Window(Frame(tuple(positions), width, step, shape[0]), shape[1:])
        for node in graph.nodes:
            self._propagate(node)

    def facts(self, node: Node, states: Sequence[State]) -> Facts:
        tensors = self.graph.tensors
        return Facts(
            node,
            tuple(states[t] for t in node.inputs),
            tuple(tensors[t].shape for t in node.inputs),
            tensors[node.outputs[0]].shape,
            reads_blocks=self.width > 1 and node.inputs == (self.input_tensor,),
        )

    def _propagate(self, node: Node) -> None:
        if isinstance(node.layer, LetterOfPair):
            pairs = self.changed[self.input_tensor]
            assert isinstance(pairs, Window)
            self.changed[node.outputs[0]] = node.layer.window(pairs)
            return
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
        rule = rule_of(node)
        if any(isinstance(state, Everywhere) for state in facts.states):
            return None, None, EVERYWHERE
        if rule is None:
            return None, node.reason or _why_opaque(node), EVERYWHERE
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
        """Whether the window costs less than the layer on all positions, for which its input is made in full."""
        if output.frame.width < output.frame.length:
            return True
        elements = prod(output.channels) * STAGE_ELEMENT
        window = rule.multiply_adds(facts, output) + output.frame.width * elements
        full = weighted_multiply_adds(facts.layer, facts.shapes, facts.shape) + output.frame.length * elements
        laid_out = 2 * STAGE_ELEMENT * sum(prod(shape) for shape in facts.shapes)
        return window < full + laid_out


class _Planner(Propagation):
    """Backward: in which frame every tensor is kept; then the stages."""

    def __init__(
        self, graph: LayerGraph, input_tensor: int, positions: Sequence[int], step: Fraction, width: int
    ) -> None:
        super().__init__(graph, input_tensor, positions, step, width)
        self.readers = graph.consumers()
        self.makers = {t: node.index for node in graph.nodes for t in node.outputs}
        self.stored = list(self.changed)
        for node in reversed(graph.nodes):
            self._pull_frames(node)

    def _pull_frames(self, node: Node) -> None:
        """Keep a tensor with one reader in the frame that this reader wants."""
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
        """Whether the tensor has one reader, and its maker can make it in a wider frame."""
        maker = self.rules.get(self.makers.get(tensor, -1))
        heads = {port.tensor for port in self.graph.outputs}
        return maker is not None and maker.fills and len(self.readers[tensor]) == 1 and tensor not in heads

    def stages(self) -> list[Stage]:
        """Group the steps: elementwise work joins the stage that makes its input."""
        groups: list[list[Step]] = []
        forms: list[dict[int, Form]] = []
        made_in: dict[int, int] = {}
        for node in self.graph.nodes:
            if node.index not in self.rules:
                continue
            rule = self.rules[node.index]
            number = max((made_in[t] for t in node.inputs if t in made_in), default=-1)
            step = self._joined(node, rule, groups[number], forms[number]) if number >= 0 else None
            if step is None:
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
        return self._as_read(found)

    def _as_read(self, stages: Sequence[Stage]) -> list[Stage]:
        """The stages, of which one that has nothing to sort takes the order of those that read it.

        Then the positions are sorted where the stage reads them, if that is less than what it makes.
        """
        wanted: dict[int, set[tuple[int, ...]]] = {port.tensor: {self._natural} for port in self.graph.outputs}
        found = []
        for stage in reversed(stages):
            orders = set().union(*(wanted.get(t, set()) for t in stage.exports))
            inputs = {t for step in stage.steps for t in step.node.inputs if isinstance(self.stored[t], Window)}
            inputs -= {t for step in stage.steps for t in step.node.outputs}
            if len(orders) == 1 and self._is_free(stage) and self._elements(inputs) <= self._elements(stage.exports):
                stage = replace(stage, order=orders.pop())
            for t in inputs:
                wanted.setdefault(t, set()).add(self._natural if stage.steps[0].rule is None else stage.order)
            found.append(stage)
        return found[::-1]

    def _is_free(self, stage: Stage) -> bool:
        """Whether the stage can take its positions in any order."""
        first = stage.steps[0]
        return first.rule is not None and not first.needs_order and len(self._distinct_moves(stage.steps)) <= 1

    def _elements(self, tensors: Iterable[int]) -> int:
        return sum(written(self.stored[t], self.graph.tensors[t]) for t in tensors)

    @cached_property
    def _natural(self) -> tuple[int, ...]:
        return tuple(range(len(self.positions)))

    def _joined(self, node: Node, rule: Rule | None, group: list[Step], forms: dict[int, Form]) -> Step | None:
        """The node as a step of a group; None if it begins another."""
        if not self._joins(rule, group):
            return None
        step = self._step(node, rule, forms)
        return step if self._stays_sorted(group, step) else None

    def _stays_sorted(self, group: list[Step], step: Step) -> bool:
        """Whether a group that adds up letters of pairs still has few stretches of positions with this step."""
        first = group[0].rule
        if first is None or not first.begins:
            return True
        before, after = (len(self._distinct_moves(steps)) for steps in (group, [*group, step]))
        return after <= MAX_STRETCHES or after == before

    def _distinct_moves(self, steps: Sequence[Step]) -> set[tuple[int, ...]]:
        return set(zip(*(move for step in steps for move in self._moves(step)), strict=True))

    def _joins(self, rule: Rule | None, group: list[Step]) -> bool:
        first = group[0]
        if rule is None or first.rule is None or not rule.fused or rule.begins:
            return False
        return first.rule.fused or (first.has_product and self._terms(first) <= MAX_TERMS)

    def _terms(self, step: Step) -> int:
        """Slices that the first step of a stage adds up, over all stretches of positions."""
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
        given = self._natural if group[0].needs_order else orders.get(group[0].node.inputs[0], self._natural)
        order, stretches = self._stretches(group, given)
        cuts = self._terms(group[0]) <= MAX_TERMS
        return Stage(tuple(group), tuple(dict.fromkeys(exports)), order, stretches, cuts)

    def _stretches(
        self, group: list[Step], given: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        """The chunk's positions sorted by their offsets in the frames of these steps; the stretches of equal offsets.

        If there is nothing to sort, they stay in the order in which the first input is ``given``.
        """
        size = len(self.positions)
        keys = [tuple(key) for key in zip(*(move for step in group for move in self._moves(step)), strict=True)]
        if not 1 < len(set(keys)) <= MAX_STRETCHES:
            return given, ((0, size),)
        order = sorted(range(size), key=lambda j: (keys[j], j))
        number = {key: i for i, key in enumerate(sorted(set(keys)))}
        return tuple(order), tuple((a, b) for a, b, _ in equal_stretches([number[keys[j]] for j in order]))

    def _moves(self, step: Step) -> list[tuple[int, ...]]:
        """The offset of each position, for every move of rows into another frame."""
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
        work = _full_work(node, facts)
        full = work if node.role != FURTHER_WINDOW else 0
        if rule is None:
            operands = tuple(Operand(t, Form.VALUE, "full", None) for t in node.inputs)
            reason, laid_out = self.reasons[node.index], sum(prod(shape) for shape in facts.shapes)
            return Step(node, None, facts, operands, output, Form.VALUE, reason, work, full, laid_out, False)
        form = self._form(rule.form_of(output), node, forms)
        demands = rule.demand(facts, output)
        given = zip(node.inputs, facts.states, demands, rule.operand_forms(facts, form), strict=True)
        operands = tuple(self._operand(*operand, forms) for operand in given)
        facts = replace(facts, states=tuple(_delivered(s, o) for s, o in zip(facts.states, operands, strict=True)))
        sharing = self._sharing.get(node.outputs[0], 1)
        work, scratch = rule.multiply_adds(facts, output) // sharing, -(-rule.scratch(facts) // sharing)
        masks = self._masks.get(node.outputs[0], False)
        share = rule.share(facts, output)
        return Step(node, rule, facts, operands, output, form, None, work, full, scratch, masks, share)

    @cached_property
    def _sharing(self) -> dict[int, int]:
        return pairs_sharing(self.graph.nodes, self.graph.tensors[self.input_tensor].shape[-1])

    @cached_property
    def _masks(self) -> dict[int, bool]:
        """The windows that may be non-zero at invalid positions, and whether a reader requires zeros."""
        dirty: set[int] = set()
        for node in self.graph.nodes:
            rule = self.rules.get(node.index)
            if rule is not None and (rule.leaks or (rule.keeps_places and node.inputs[0] in dirty)):
                dirty.update(node.outputs)
        return {t: any(self._requires_zeros(self.graph.nodes[reader]) for reader in self.readers[t]) for t in dirty}

    def _requires_zeros(self, reader: Node) -> bool:
        """Whether a reader computes valid positions from invalid ones of a delta."""
        rule = self.rules.get(reader.index)
        return rule is not None and rule.form is not Form.VALUE and not rule.keeps_places

    def _form(self, form: Form, node: Node, forms: dict[int, Form]) -> Form:
        if form is not Form.EITHER:
            return form
        return forms.get(node.inputs[0], Form.DELTA)

    def _operand(self, tensor: int, state: State, frame: Frame | None, form: Form, forms: dict[int, Form]) -> Operand:
        if isinstance(state, Unchanged):
            return Operand(tensor, form, "none" if form is Form.DELTA else "reference", frame)
        assert isinstance(state, Window)
        frame = frame or state.frame
        ready = forms.get(tensor) is Form.VALUE and frame == state.frame
        return Operand(tensor, form, "value" if ready and form is Form.VALUE else "delta", frame)


def _why_opaque(node: Node) -> str:
    return OTHER_ARGUMENTS if has_other_arguments(node) else why_opaque(node.layer)


def _full_work(node: Node, facts: Facts) -> int:
    """Multiply-adds of a node in a forward pass."""
    if node.role == "activation" or isinstance(node.layer, Reduction):
        return 0
    rule = rule_of(node)
    known = rule.full_multiply_adds(facts) if rule is not None else None
    return weighted_multiply_adds(node.layer, facts.shapes, facts.shape) if known is None else known


def _delivered(state: State, operand: Operand) -> State:
    return replace(state, frame=operand.frame) if isinstance(state, Window) and operand.frame else state


def live_positions(graph: LayerGraph, input_tensor: int) -> range:
    """The shortest range of positions outside of which no substitution changes an output.

    ::

        positions  . . . . . . . .      a Cropping1D((2, 1)) before the output
        live           [ . . . . )      ->  range(2, 7)
    """
    length = graph.tensors[input_tensor].shape[0]

    def is_live(first: int, stop: int) -> bool:
        return reaches_output(graph, input_tensor, (first, stop - 1))

    def is_live_backwards(first: int, stop: int) -> bool:
        return is_live(length - stop, length - first)

    first = first_live(is_live, 0, length)
    if first == length:
        return range(0)
    return range(first, length - first_live(is_live_backwards, 0, length))


def first_live(is_live: Callable[[int, int], bool], first: int, stop: int) -> int:
    """The first position of ``[first, stop)`` that is not in a dead block, or ``stop``."""
    if not is_live(first, stop):
        return stop
    if stop - first == 1:
        return first
    middle = (first + stop) // 2
    found = first_live(is_live, first, middle)
    return found if found < middle else first_live(is_live, middle, stop)


def reaches_output(graph: LayerGraph, input_tensor: int, ends: tuple[int, int]) -> bool:
    """Whether a change between two positions can reach an output. True if it is not known."""
    found = Propagation(graph, input_tensor, ends, Fraction(1))
    live = {input_tensor}
    for node in graph.nodes:
        if not any(t in live for t in node.inputs):
            continue
        facts, rule = found.facts(node, found.changed), found.rules.get(node.index)
        live.update(t for t in node.outputs if _is_changed(found.changed[t], rule, facts))
    return any(port.tensor in live for port in graph.outputs)


def _is_changed(output: State, rule: Rule | None, facts: Facts) -> bool:
    if isinstance(output, Window):
        return _low(output) < output.frame.length and _high(output) > 0
    if rule is None:
        return not isinstance(output, Unchanged)
    wanted = rule.demand(facts, output)
    return any(
        not isinstance(state, Window)
        or frame is None
        or frame.step != 0
        or (_low(state) < max(frame.stops) and _high(state) > min(frame.starts))
        for state, frame in zip(facts.states, wanted, strict=True)
    )


def _low(window: Window) -> int:
    return min(window.frame.starts)


def _high(window: Window) -> int:
    return max(window.frame.stops)
