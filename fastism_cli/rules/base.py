"""What a rule is: how one kind of layer carries a change from its inputs to its output.

A rule says which positions of the output change (:meth:`Rule.propagate`, integers only) and what they change to
(:meth:`Rule.delta` or :meth:`Rule.value`, arrays). Arrays of a window have shape ``(S, P, A, width, *channels)``:
sequences, substituted positions, alternates, positions of the frame, channels.

Two forms of a window are computed with:

* delta form: value(substituted) - value(reference), zero at invalid positions. Linear layers work on it alone.
* value form: value(substituted), with the reference of the same frame carried beside it as a second array with
  ``A = 1``. The same function is applied to both; the difference is taken at the end of the stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import Any

from fastism_cli.model.graph import Node, Shape
from fastism_cli.rules.frames import Frame
from fastism_cli.rules.strips import Strip


class Form(Enum):
    DELTA = "delta"
    VALUE = "value"
    EITHER = "either"


class Splits(Enum):
    """How much of a frame a rule looks at at once, inside a compiled stage (see :mod:`fastism_cli.rules.strips`).

    WHOLE: all rows, as one array. ROWS: every row by itself, so that any rows can be given and returned. VIEWS: as
    ROWS, on the strips that :meth:`Rule.views` makes of the input. STRIPS: the rule handles strips itself.
    """

    WHOLE = "whole"
    ROWS = "rows"
    VIEWS = "views"
    STRIPS = "strips"


@dataclass(frozen=True)
class Flat:
    """How a window lies in a flattened tensor: its elements, in the tensor's order, from ``before`` on of ``total``."""

    before: int
    total: int


@dataclass(frozen=True)
class Window:
    """State of a tensor that changes only inside ``frame``.

    ``axis`` is the axis of positions, batch not counted, and ``channels`` the shape without it: a tensor (1, L, 4) has
    axis 1 and channels (1, 4). Of a flattened tensor they describe it as it was before.
    """

    frame: Frame
    channels: Shape
    flat: Flat | None = None
    axis: int = 0

    @property
    def size(self) -> int:
        return self.frame.width * prod(self.channels)

    @property
    def rank(self) -> int:
        """Axes of the tensor (before it was flattened), batch not counted."""
        return len(self.channels) + 1

    @property
    def shape(self) -> Shape:
        """The tensor's shape (before it was flattened), batch not counted."""
        return (*self.channels[: self.axis], self.frame.length, *self.channels[self.axis :])

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Everywhere:
    """State of a tensor that may change anywhere."""


@dataclass(frozen=True)
class Unchanged:
    """State of a tensor that does not depend on the substituted input."""


State = Window | Everywhere | Unchanged
EVERYWHERE = Everywhere()
UNCHANGED = Unchanged()


class Decline(Exception):
    """This rule does not hold here; the message says why, and the node becomes opaque."""


@dataclass(frozen=True)
class Facts:
    """What a rule may know of a node at plan time: its layer and integer shapes, no arrays.

    ``states`` holds one state per input, ``shapes`` the input shapes without batch axis, ``shape`` the output's.
    """

    node: Node
    states: tuple[State, ...]
    shapes: tuple[Shape, ...]
    shape: Shape

    @property
    def layer(self) -> Any:
        return self.node.layer

    @property
    def window(self) -> Window:
        """The state of the only input, which a rule of one input can take for a window."""
        (state,) = self.states
        assert isinstance(state, Window)
        return state

    @property
    def windows(self) -> tuple[Window, ...]:
        return tuple(state for state in self.states if isinstance(state, Window))


@dataclass(frozen=True)
class Extra:
    """A cut of something that lies along the length axis: constants of the layer, or a running maximum.

    ``source`` is the name of one of :meth:`Rule.constants`, or "prefix_max" (entry ``i``: maximum of the input's
    reference before ``i``) or "suffix_max" (from ``i`` on). The cut has shape (S or 1, P or 1, frame.width, ...): one
    for the whole chunk where the frame starts at the same place for all positions. One that is ``separate`` has starts
    of its own, not one for each position: a list of slices (1, frame.width, ...), which are not copied.
    """

    source: str
    frame: Frame
    separate: bool = False


@dataclass(frozen=True)
class Call:
    """What a rule may use while it computes, besides its input arrays.

    Attributes
    ----------
    facts : Facts
        As at plan time, with the frames that the inputs are delivered in.
    output : State
        What is to be returned; a window's array must fill ``output.frame``.
    params : dict of arrays
        What :meth:`Rule.prepare` made of the weights.
    valid : callable
        ``valid(frame)`` is a bool array (P, width): which positions of the frame lie inside the tensor.
    first : callable
        ``first(frame)`` is an int array (P,): the frames' absolute starts.
    stage : callable
        Wraps a function of arrays into a compiled stage of its own, so that nothing is fused across its edge.
    extras : dict of arrays
        What :meth:`Rule.extras` asked for; a list of arrays for one that is ``separate``.
    move : callable
        ``move(strip, old, new)``: a strip in another frame of the same tensor.
    cuts : bool
        Whether the stage computes by pieces of rows.
    summary : dict of arrays (S, 1, 1, ...)
        What :meth:`Rule.summarise` made of the reference.
    """

    facts: Facts
    output: State
    params: dict[str, Any]
    valid: Callable[[Frame], Any]
    first: Callable[[Frame], Any]
    stage: Callable[[Callable[..., Any]], Callable[..., Any]]
    extras: dict[str, Any]
    move: Callable[[Strip, Frame, Frame], Strip]
    cuts: bool
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def layer(self) -> Any:
        return self.facts.layer

    @property
    def frame(self) -> Frame:
        assert isinstance(self.output, Window)
        return self.output.frame


class Rule:
    """Base of all rules: a fact sheet of class attributes, and the methods that a family overrides.

    Attributes
    ----------
    form : Form
        The form that inputs are delivered in and the output is given in.
    fused : bool
        Elementwise work that may share a compiled stage with its neighbours. False for matrix products: the rule's
        :meth:`product` is computed by itself, and its :meth:`finish` begins a stage.
    splits : Splits
        How much of a frame :meth:`delta` and :meth:`value` look at at once.
    leaks : bool
        In delta form, the output may be non-zero at invalid positions and is masked after the rule.
    keeps_places : bool
        In delta form, position ``i`` of the output depends on position ``i`` of the input alone and is computed from
        it without looking at its validity, so that a mask may wait until after this rule.
    fills : bool
        The output can be made in a wider frame than the natural one. False: it comes as :meth:`propagate` says.
    pulls : bool
        The frame that the rule wants its input in is worth making where the input is made.
    any_axis : bool
        Positions may lie along any axis of the tensor; else only along the first.
    linear : bool
        Of a rule in delta form: the output of a sum of deltas is the sum of their outputs, so that the windows of a
        tensor that has several may be carried on by themselves (see :mod:`fastism_cli.engine.split_windows`).
    condition : str
        When :meth:`propagate` does not decline, in words: "if ...". Empty: always.
    """

    form: Form = Form.VALUE
    fused: bool = True
    splits: Splits = Splits.WHOLE
    leaks: bool = False
    keeps_places: bool = False
    fills: bool = True
    pulls: bool = True
    any_axis: bool = False
    linear: bool = False
    condition: str = ""

    def propagate(self, facts: Facts) -> State:
        """The state of the output, or :class:`Decline` with the reason."""
        raise NotImplementedError

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        """The frame in which each input must be delivered (None: as it is)."""
        if isinstance(output, Window):
            return tuple(output.frame for _ in facts.states)
        return tuple(None for _ in facts.states)

    def operand_forms(self, facts: Facts, form: Form) -> tuple[Form, ...]:
        """The form in which each input is delivered, for a rule that works in ``form``.

        Inputs in delta form are given to :meth:`both` as deltas (None: nothing changes), their reference as None.
        """
        return tuple(form for _ in facts.states)

    def prepare(self, node: Node) -> dict[str, Any]:
        """Arrays made once from the layer's weights."""
        return {}

    def constants(self, facts: Facts) -> dict[str, Any]:
        """Weights that differ by position: arrays (length, ...) over the positions of the input."""
        return {}

    def extras(self, facts: Facts, output: State) -> dict[str, Extra]:
        """What the rule reads besides its inputs, cut out for the chunk and given in ``call.extras``."""
        return {}

    def summarise(self, facts: Facts, *inputs: Any) -> dict[str, Any]:
        """What the rule needs of whole reference inputs (S, *shape), once for each sequence: arrays (S, ...)."""
        return {}

    def delta(self, call: Call, *inputs: Any) -> Any:
        """Output delta from input deltas."""
        raise NotImplementedError

    def both(self, call: Call, new: Sequence[Any], reference: Sequence[Any]) -> tuple[Any, Any]:
        """Output values of the substituted and of the reference arrays (A = 1), in value form."""
        return self.value(call, *new), self.value(call, *reference)

    def value(self, call: Call, *inputs: Any) -> Any:
        """Output value from input values; called once for the substituted and once for the reference arrays."""
        raise NotImplementedError

    def product(self, call: Call, *inputs: Any) -> Any:
        """The matrix product of a rule that is not ``fused``, an array (S, P, A, ...)."""
        return self.delta(call, *inputs)

    def finish(self, call: Call, product: Any) -> Any:
        """Output delta from the product: elementwise work."""
        return product

    def splits_of(self, facts: Facts) -> Splits:
        """``splits`` of this node."""
        return self.splits

    def needs_order(self, facts: Facts) -> bool:
        """Whether :meth:`product` must be given the positions in their natural order."""
        return False

    def is_product(self, facts: Facts) -> bool:
        """Whether :meth:`finish` has nothing to do."""
        return type(self).finish is Rule.finish

    def views(self, call: Call, strip: Strip) -> list[Strip]:
        """The strips, all cut at the same rows, that are the inputs of a rule that ``splits`` into VIEWS."""
        return [strip]

    def summed_slices(self, facts: Facts, output: Window) -> int:
        """Slices of the product that :meth:`finish` adds up when it computes by pieces; 0: it does nothing."""
        return 0

    def split(self, node: Node) -> Callable[[Any], Any] | None:
        """For a layer with a built-in activation: the layer without it, as a function of the input array."""
        return None

    def multiply_adds(self, facts: Facts, output: State) -> int:
        """Multiplications with weights for one substitution."""
        return 0

    def scratch(self, facts: Facts) -> int:
        """Elements that one substitution needs in between, besides inputs and output."""
        return 0
