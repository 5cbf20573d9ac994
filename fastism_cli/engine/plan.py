"""A frozen plan: steps and stages, what they cost, and what they need of the reference. Integers only, no arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from fastism_cli.model.device_choices import device_choices
from fastism_cli.model.graph import FURTHER_WINDOW, LayerGraph, Node, Shape, Tensor
from fastism_cli.rules.base import Extra, Facts, Flat, Form, Rule, State, Window
from fastism_cli.rules.frames import Chunk, Frame
from fastism_cli.rules.opaque import AttentionOfProjections
from fastism_cli.rules.several_windows import pairs_sharing

# To write an element and read it again costs about as much as this many multiply-adds: more in a forward pass, in which
# each layer goes through memory, than in a compiled stage.
STAGE_ELEMENT, LAYER_ELEMENT = 30, 45
# A multiply-add of a recurrence takes this many times as long: its steps are small, and wait for each other.
RECURRENCE = 5
# A layer goes through its intermediate results, gates or the weights of attention, this many times.
PASSES_INSIDE = 4


def weighted_multiply_adds(layer: Any, shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
    """Multiply-adds of one call of a layer: each weight matrix once per position; for attention, also its pairs.

    Parameters
    ----------
    shapes, shape : tuples of int
        Shapes of its inputs and of its output, without the batch.
    """
    if not _matrices(layer) or type(layer).__name__ == "Embedding":
        return 0
    positions = prod(shape[:-1]) if len(shape) > 1 else prod(shapes[0][:-1])
    of_pairs = sum(_number(layer, name) for name in ("key_dim", "value_dim")) or 2 * _number(layer, "head_dim")
    weights: int = sum(prod(w.shape) for w in _matrices(layer))
    return positions * weights + _pairs(layer, shapes) * of_pairs


def work_inside(layer: Any, shapes: Sequence[tuple[int, ...]], multiply_adds: int) -> int:
    """Cost of a layer besides its ``multiply_adds`` and its output: recurrence and attention are slow."""
    positions = prod(shapes[0][:-1])
    if hasattr(getattr(layer, "forward_layer", layer), "cell"):  # forward_layer: of Bidirectional
        gates: int = sum(w.shape[-1] for w in _matrices(layer))
        return (RECURRENCE - 1) * multiply_adds + PASSES_INSIDE * LAYER_ELEMENT * positions * gates
    pairs = _pairs(layer, shapes)
    if not pairs:
        return 0
    projected: int = positions * sum(prod(w.shape[1:]) for w in _matrices(layer))
    return LAYER_ELEMENT * (PASSES_INSIDE * pairs + projected)


def _pairs(layer: Any, shapes: Sequence[tuple[int, ...]]) -> int:
    """Pairs of positions in all heads of MultiHeadAttention or GroupQueryAttention; each pair gets a weight."""
    if isinstance(layer, AttentionOfProjections):
        return layer.pairs
    heads = _number(layer, "num_heads") or _number(layer, "num_query_heads")
    return heads * prod(shapes[0][:-1]) * prod(shapes[-1][:-1])


def _matrices(layer: Any) -> list[Any]:
    return [w for w in getattr(layer, "weights", []) if len(w.shape) > 1]


def _number(layer: Any, name: str) -> int:
    """An attribute if it is a number, else 0: in a custom layer these names can mean anything."""
    value = getattr(layer, name, 0)
    return value if isinstance(value, int) else 0


# A single forward pass, for the reference, takes this many times as long as one of a large batch.
REFERENCE_PASSES = 3


@dataclass(frozen=True)
class Operand:
    """One input of a step: which tensor, in which form, and for a window in which frame.

    ``source`` says where it comes from: the "delta" or the "value" of the tensor (to a delta that is wanted in value
    form the reference is added); for a tensor that does not change, its "reference", or "none" in delta form; "full"
    for all of the tensor.
    """

    tensor: int
    form: Form
    source: str
    frame: Frame | None


@dataclass(frozen=True)
class Step:
    """One node that the change passes through. ``rule`` None: the node is opaque, or all of its input changes.

    ``masks``: in delta form, invalid positions of the output must be set to zero, because a reader relies on it.
    ``share``: of the layer's work besides its matrix products, what one substitution needs.
    ``multiply_adds``, ``scratch``: of one substitution; of pairs, several share what one letter needs.
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
    share: float = 1.0

    @property
    def has_product(self) -> bool:
        """Whether a matrix product comes first."""
        return self.rule is not None and not self.rule.fused and self.form is not Form.VALUE

    @property
    def needs_order(self) -> bool:
        """Whether it needs the positions in their natural order."""
        return self.rule is not None and self.rule.needs_order(self.facts)


@dataclass(frozen=True)
class Stage:
    """Steps that are compiled together, after the matrix product of the first where it has one.

    Attributes
    ----------
    exports : tuple of int
        The tensors that later stages read; they are stored in delta form.
    order : tuple of int
        The positions of the chunk, sorted so that those with equal offsets in all frames of the stage are together.
    stretches : tuple of (first, stop)
        The stretches of ``order`` with equal offsets; a single one if there would be too many.
    cuts : bool
        Whether windows are cut into pieces by rows.
    """

    steps: tuple[Step, ...]
    exports: tuple[int, ...]
    order: tuple[int, ...]
    stretches: tuple[tuple[int, int], ...]
    cuts: bool

    @property
    def has_product(self) -> bool:
        """Whether a matrix product comes before the stage."""
        return self.steps[0].has_product

    @property
    def is_compiled(self) -> bool:
        """False for a rule that multiplies matrices in value form: it runs outside of any compiled stage."""
        rule = self.steps[0].rule
        return self.has_product or (rule is not None and rule.fused)

    @property
    def is_product(self) -> bool:
        """Whether the stage is the product alone, so that nothing is left to compile."""
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

    ``states`` has the state of every tensor (with the frame that it is stored in), ``stages`` the work in order.
    ``changes`` is how many changes of a sequence share its reference pass; None: all its substitutions.
    """

    graph: LayerGraph
    chunk: Chunk
    input_tensor: int
    states: tuple[State, ...]
    stages: tuple[Stage, ...]
    changes: int | None = None

    @property
    def steps(self) -> list[Step]:
        return [step for stage in self.stages for step in stage.steps]

    @cached_property
    def late_steps(self) -> tuple[Step, ...]:
        """The steps whose input may change everywhere: Keras computes them on complete tensors, after all others."""
        return tuple(step for step in self.steps if step.rule is None)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one substitution by this plan."""
        return sum(step.multiply_adds for step in self.steps)

    @property
    def full_multiply_adds(self) -> int:
        """Multiply-adds of one substitution by a forward pass (of what depends on the input)."""
        return sum(step.full_multiply_adds for step in self.steps)

    @cached_property
    def orders(self) -> dict[int, tuple[int, ...]]:
        """The order of the chunk's positions in each tensor that a stage of rules stores."""
        return {t: stage.order for stage in self.stages for t in stage.exports if stage.steps[0].rule is not None}

    @property
    def elements(self) -> int:
        """Elements that one substitution writes, in all tensors."""
        return sum(self._written(step) for step in self.steps)

    def _written(self, step: Step) -> int:
        return sum(self._stored(t) for t in step.node.outputs)

    def _stored(self, tensor: int) -> int:
        """Elements of a tensor for one substitution; of pairs, several share what one letter changes."""
        return -(-written(self.states[tensor], self.graph.tensors[tensor]) // self._sharing.get(tensor, 1))

    @cached_property
    def _sharing(self) -> dict[int, int]:
        return pairs_sharing(self.graph.nodes, self.graph.tensors[self.input_tensor].shape[-1])

    @cached_property
    def working_set(self) -> int:
        """Elements of the largest step of a rule for one substitution, or of all heads."""
        heads = sum(self._stored(port.tensor) for port in self.graph.outputs)
        return max(heads, 1, *(step.scratch + self._written(step) for step in self.steps if step.rule is not None))

    @cached_property
    def pays_from(self) -> int:
        """Substitutions that a call should hold at least, see :meth:`fastism_cli.rules.base.Rule.pays_from`."""
        return max((step.rule.pays_from(step.facts) for step in self.steps if step.rule is not None), default=1)

    @cached_property
    def late_working_set(self) -> int:
        """Elements of the largest of the late steps for one substitution: its inputs and its output, laid out."""
        return max((step.scratch + self._written(step) for step in self.late_steps), default=1)

    @cached_property
    def late_substitutions(self) -> int:
        """Substitutions of a piece of the late part."""
        return device_choices().late_substitutions(self.late_working_set, self._late_reuse)

    @property
    def _late_reuse(self) -> int:
        """Substitutions for which the late layers read no more elements of their weights than of their tensors.

        DanQ's dense layer has 48,000 x 925: in pieces of 39 substitutions it waits for its weights.
        """
        weighted = ((_matrices(step.node.layer), step) for step in self.late_steps)
        return max(
            (prod(w[0].shape) // (step.scratch + self._written(step)) for w, step in weighted if len(w) == 1), default=1
        )

    @cached_property
    def peak(self) -> int:
        """Elements that one substitution needs at once, without those of the late steps, which work in pieces."""
        stages = [stage for stage in self.stages if stage.steps[0].rule is not None]
        return self._most_at_once(stages, {t for step in self.late_steps for t in step.node.inputs})

    @cached_property
    def late_peak(self) -> int:
        """Elements that one substitution of a piece needs at once in the late steps."""
        return self._most_at_once([stage for stage in self.stages if stage.steps[0].rule is None], set())

    def _most_at_once(self, stages: Sequence[Stage], read_after: set[int]) -> int:
        """Elements that are there at once in these stages: what later ones read, and the largest step of a stage.

        What a stage reads and what it makes are there together; its product is another array.

        Parameters
        ----------
        read_after : set of int
            Tensors that are read after all of these stages, beside the heads.
        """
        last = {t: i for i, stage in enumerate(stages) for step in stage.steps for t in step.node.inputs}
        last |= dict.fromkeys({*read_after, *(port.tensor for port in self.graph.outputs)}, len(stages))
        made_by = {t: i for i, stage in enumerate(stages) for t in stage.exports}
        sizes = {t: self._stored(t) for t in made_by}
        most = 0
        for i, stage in enumerate(stages):
            kept = sum(sizes[t] for t, maker in made_by.items() if maker <= i <= last.get(t, maker))
            most = max(most, kept + max(step.scratch for step in stage.steps))
        return most

    @property
    def full_elements(self) -> int:
        """Elements that a forward pass writes, in all tensors that depend on the input."""
        nodes = [step.node for step in self.steps if step.node.role != FURTHER_WINDOW]
        return sum(prod(self.graph.tensors[t].shape) for node in nodes for t in node.outputs)

    @property
    def limit(self) -> float:
        """How many times fewer multiply-adds than a forward pass."""
        return self.full_multiply_adds / max(self.multiply_adds, 1)

    @property
    def predicted_speedup(self) -> float:
        """How many times faster than forward passes: an estimate that counts elements moved and the reference pass."""
        inside = {
            step.node.index: work_inside(step.node.layer, step.facts.shapes, step.full_multiply_adds)
            for step in self.steps
        }
        full = self.full_multiply_adds + LAYER_ELEMENT * self.full_elements + sum(inside.values())
        moved = sum(
            self._written(step) * (LAYER_ELEMENT if step.rule is None else STAGE_ELEMENT)
            + step.share * inside[step.node.index]
            for step in self.steps
        )
        length, letters = self.graph.tensors[self.input_tensor].shape
        changes = self.changes or length * max(letters - 1, 1)
        fast = self.multiply_adds + moved + REFERENCE_PASSES * full / changes
        return full / max(fast, 1)


def written(state: State, tensor: Tensor) -> int:
    """Elements of a tensor that are stored."""
    return state.size if isinstance(state, Window) else prod(tensor.shape)


# --- cuts from the reference and from constants -----------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """Something along a length axis that frames are cut from, such as the reference of a tensor.

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
    """The reference of an operand; one that does not change has the axes of the window beside it (``like``)."""
    state = states[tensor]
    window = state if isinstance(state, Window) else like
    return Cut("reference", tensor, None, window.flat, window.channels, length, axis=window.axis)


def extra_cut(step: Step, extra: Extra) -> Cut:
    """A cut that a rule asks for besides its inputs."""
    derived = extra.source in ("prefix_max", "suffix_max")
    node = None if derived else step.node.index
    window = step.facts.states[0]
    axis = window.axis if derived and isinstance(window, Window) else 0
    return Cut(extra.source, step.node.inputs[0], node, None, (), extra.frame.length, extra.separate, axis)


def reaches(plans: Iterable[tuple[Plan, range]]) -> dict[Cut, tuple[int, int]]:
    """The range that each cut has to cover: all positions, and those outside that frames of the plans' chunks reach."""
    found: dict[Cut, tuple[int, int]] = {}
    for plan, chunks in plans:
        for step in plan.steps:
            for _, cut, frame in cuts(step, plan.states):
                low, high = frame.reach(chunks)
                before = found.get(cut, (0, cut.length))
                found[cut] = (min(low, before[0]), max(high, before[1]))
    return found
