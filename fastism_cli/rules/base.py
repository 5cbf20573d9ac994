"""What a rule is: how one kind of layer carries a change from its inputs to its output.

A rule says which positions of the output change (:meth:`Rule.propagate`, integers only) and what they change to
(:meth:`Rule.delta` or :meth:`Rule.value`, arrays). Arrays of a window have shape ``(S, P, A, width, *channels)``:
sequences, substituted positions, alternates, positions of the frame, channels.

A window is computed in one of two forms:

* delta form: value(substituted) - value(reference), zero at invalid positions. Linear layers need nothing else.
* value form: value(substituted), and beside it the reference of the same frame, a second array with ``A = 1``. The
  same function is applied to both, and the difference is taken at the end of the stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import Any

from fastism_cli.model.graph import Node, Shape
from fastism_cli.rules.frames import Frame
from fastism_cli.rules.window_rows import Strip


class Form(Enum):
    DELTA = "delta"
    VALUE = "value"
    EITHER = "either"


class Splits(Enum):
    """How many rows of a frame a rule needs at once, in a compiled stage (see :mod:`fastism_cli.rules.window_rows`).

    NONE: all rows, as one array. ROWS: every row by itself, so that it can be given any rows and returns those. VIEWS:
    as ROWS, on the strips that :meth:`Rule.views` makes of the input. STRIPS: the rule handles strips itself.
    """

    NONE = "none"
    ROWS = "rows"
    VIEWS = "views"
    STRIPS = "strips"


@dataclass(frozen=True)
class Flat:
    """Where a window is in a flattened tensor of ``total`` elements: ``before`` of them precede those of its tensor."""

    before: int
    total: int


@dataclass(frozen=True)
class Window:
    """State of a tensor that changes only inside ``frame``.

    ``axis`` is the axis of positions, batch not counted, and ``channels`` the shape without it: a tensor (1, L, 4) has
    axis 1 and channels (1, 4). For a flattened tensor they describe it before it was flattened.
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
    """What a rule knows of a node when the plan is made: its layer and integer shapes, no arrays.

    ``states`` holds one state per input, ``shapes`` the input shapes without batch axis, ``shape`` the output's.
    ``reads_blocks``: the only input is the sequence itself, of which blocks are replaced and not single letters.
    """

    node: Node
    states: tuple[State, ...]
    shapes: tuple[Shape, ...]
    shape: Shape
    reads_blocks: bool = False

    @property
    def layer(self) -> Any:
        return self.node.layer

    @property
    def window(self) -> Window:
        """The state of the only input. The planner asks a rule only where it is a window."""
        if len(self.states) > 1:
            raise Decline("takes several tensors of the model")
        (state,) = self.states
        assert isinstance(state, Window)
        return state

    @property
    def windows(self) -> tuple[Window, ...]:
        return tuple(state for state in self.states if isinstance(state, Window))


@dataclass(frozen=True)
class Extra:
    """Something along the length axis that frames are cut from: constants of the layer, or a running maximum.

    ``source`` is the name of one of :meth:`Rule.constants`, or "prefix_max" (entry ``i``: maximum of the input's
    reference before ``i``) or "suffix_max" (from ``i`` on). The cut has shape (S or 1, P or 1, frame.width, ...): one
    for the whole chunk where the frame has the same start for all positions. If ``separate``, ``frame`` has any number
    of starts, and the cut is a list of slices (1, frame.width, ...), which are not copied.
    """

    source: str
    frame: Frame
    separate: bool = False


@dataclass(frozen=True)
class Call:
    """What a rule can use while it computes, besides its input arrays.

    Attributes
    ----------
    facts : Facts
        As when the plan was made, with the frames that the inputs are delivered in.
    output : State
        The state to return; a window's array must fill ``output.frame``.
    params : dict of arrays
        The result of :meth:`Rule.prepare`.
    valid : callable
        ``valid(frame)`` is a bool array (P, width): which positions of the frame lie inside the tensor.
    first : callable
        ``first(frame)`` is an int array (P,): the frames' absolute starts.
    stage : callable
        Wraps a function of arrays into a compiled stage of its own, so that nothing is fused across its edge.
    extras : dict of arrays
        The cuts that :meth:`Rule.extras` asked for; a list of arrays for one that is ``separate``.
    move : callable
        ``move(strip, old, new)``: a strip in another frame of the same tensor.
    cuts : bool
        Whether the stage cuts windows into pieces by rows.
    summary : dict of arrays (S, 1, 1, ...)
        The result of :meth:`Rule.summarise`.
    fits : list of bool scalars
        To which a rule adds, in :meth:`Rule.product`, whether all that changes lies in its frame, where that depends
        on the numbers. If it does not, the chunk is computed by a plan without such frames.
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
    fits: list[Any] = field(default_factory=list)

    @property
    def layer(self) -> Any:
        return self.facts.layer

    @property
    def frame(self) -> Frame:
        assert isinstance(self.output, Window)
        return self.output.frame


class Rule:
    """Base of all rules: class attributes that state facts, and methods that a family overrides.

    Attributes
    ----------
    form : Form
        The form that inputs are delivered in and the output is given in.
    fused : bool
        Elementwise work that can share a compiled stage with its neighbours. False for matrix products: the rule's
        :meth:`product` is computed by itself, and its :meth:`finish` begins a stage.
    splits : Splits
        How many rows of a frame :meth:`delta` and :meth:`value` need at once.
    leaks : bool
        In delta form, the output may be non-zero at invalid positions and is masked after the rule.
    keeps_places : bool
        In delta form, position ``i`` of the output depends on position ``i`` of the input alone and is computed from
        it whether it is valid or not, so that masking can wait until after this rule.
    fills : bool
        The output can be made in a wider frame than :meth:`propagate` returns. False: only in that one.
    pulls : bool
        The layer before should make its output in the frame that this rule wants.
    any_axis : bool
        Positions can lie along any axis of the tensor; False: only along the first.
    begins : bool
        It begins a compiled stage of its own.
    linear : bool
        For a rule in delta form: the output of a sum of deltas is the sum of their outputs, so that each window of a
        tensor that has several can be computed by itself (see :mod:`fastism_cli.engine.split_windows`).
    condition : str
        When the rule holds, in words: "if ...". Empty: always.
    """

    form: Form = Form.VALUE
    fused: bool = True
    splits: Splits = Splits.NONE
    leaks: bool = False
    keeps_places: bool = False
    fills: bool = True
    pulls: bool = True
    any_axis: bool = False
    linear: bool = False
    begins: bool = False
    condition: str = ""

    def propagate(self, facts: Facts) -> State:
        """The state of the output, or :class:`Decline` with the reason."""
        raise NotImplementedError

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        """The frame in which each input must be delivered (None: as it is)."""
        if isinstance(output, Window):
            return tuple(output.frame for _ in facts.states)
        return tuple(None for _ in facts.states)

    def form_of(self, output: State) -> Form:
        """The form in which the rule works where its output has this state."""
        return self.form

    def operand_forms(self, facts: Facts, form: Form) -> tuple[Form, ...]:
        """The form in which each input is delivered, for a rule that works in ``form``.

        Inputs in delta form are given to :meth:`both` as deltas (None: nothing changes), their reference as None.
        """
        return tuple(form for _ in facts.states)

    def prepare(self, facts: Facts) -> dict[str, Any]:
        """Arrays made once from the layer's weights; those that differ by the window have different names."""
        return {}

    def constants(self, facts: Facts) -> dict[str, Any]:
        """Weights that differ by position: arrays (length, ...) over the positions of the input."""
        return {}

    def extras(self, facts: Facts, output: State) -> dict[str, Extra]:
        """Cuts that the rule reads besides its inputs, given in ``call.extras``."""
        return {}

    def summarise(self, facts: Facts, *inputs: Any) -> dict[str, Any]:
        """Arrays (S, ...) made of the full reference inputs (S, *shape), once for each sequence."""
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

    def is_narrow(self, facts: Facts) -> bool:
        """Whether the product has so few channels that :meth:`narrow_product` can take its place on a GPU."""
        return False

    def narrow_product(self, call: Call, *inputs: Any) -> Any:
        """What :meth:`product` computes, as elementwise work inside of the stage."""
        raise NotImplementedError

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
        """The inputs of a rule whose ``splits`` is VIEWS: strips that are all cut at the same rows."""
        return [strip]

    def summed_slices(self, facts: Facts, output: Window) -> int:
        """How many slices of the product :meth:`finish` adds up if the stage cuts windows; 0: it does nothing."""
        return 0

    def split(self, node: Node) -> Callable[[Any], Any] | None:
        """The layer without its built-in activation, as a function of the input array; None if it has none."""
        return None

    @property
    def takes_changes(self) -> bool:
        """Whether :meth:`change_everywhere` may give anything."""
        return type(self).change_everywhere is not Rule.change_everywhere

    def change_everywhere(self, node: Node, delta: Any) -> Any | None:
        """The delta (n, *shape) of the output of that of the input, at all positions; None: Keras runs the layer."""
        return None

    def multiply_adds(self, facts: Facts, output: State) -> int:
        """Multiplications with weights for one substitution."""
        return 0

    def full_multiply_adds(self, facts: Facts) -> int | None:
        """The same for a forward pass; None: each weight matrix of the layer once per position."""
        return None

    def share(self, facts: Facts, output: State) -> float:
        """Which share of what the layer does besides its matrix products is done for one substitution."""
        return 0.0

    def scratch(self, facts: Facts) -> int:
        """Elements that one substitution needs for intermediate results, besides inputs and output."""
        return 0

    def pays_from(self, facts: Facts) -> int:
        """Substitutions of a call below which most of its time goes into what each call costs."""
        return 1
