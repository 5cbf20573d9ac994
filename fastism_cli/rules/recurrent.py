"""One direction of a recurrent layer: from the reference's state at the window, until the change of it has died.

Before the window the states are the reference's. Behind it the inputs are, and the change of the states usually dies.
Once it is below the rounding of the states for every row of a call, all that follows is the reference: how many
positions that takes is data, so that the result is as exact as a forward pass. Where the change never dies, it is
followed to the end.

:mod:`fastism_cli.engine.recurrences` puts these nodes into the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import keras
from keras import ops

from fastism_cli.model import backend
from fastism_cli.rules.base import EVERYWHERE, Call, Decline, Facts, Form, Rule, State, Unchanged, Window
from fastism_cli.rules.frames import Frame
from fastism_cli.rules.recurrent_cells import ROUNDING, CellSteps, Stage, steps_of
from fastism_cli.rules.window_rows import place_by_rows

# With a window of more than this share of the positions, what follows is as quick on all of them.
MAX_SHARE = 0.75
# A change that lives long has fewer steps to the end in the middle of a sequence than at its start. So the positions of
# a call are followed in so many groups, if that leaves this share of the steps, and a step of each has so many rows.
MAX_GROUPS, MAX_GROUPED = 4, 0.8
MIN_ROWS = {"cpu": 500, "gpu": 8_000}
# Elements of a state in one step of the loop: with fewer, much of the time goes into beginning its operations. Two LSTM
# of 32 on 1,000 positions took 2.3, 1.6 and 1.35 s with 466, 1,000 and 3,000 substitutions a call.
STEP_ELEMENTS = 100_000
# A unit of a state whose largest number is so many times smaller than that of all has a rounding of its own.
FAR_BELOW = 8


@dataclass(frozen=True)
class States:
    """Layer of a node that gives the states after every position of the reference, (S, L, n_states * units).

    Its inputs are the layer's, and the initial states if there are any.
    """

    name: str
    cell: Any
    backwards: bool

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        x, *initial = arrays
        steps = steps_of(self.cell)
        projected = steps.projected(x)
        initial = initial or [ops.zeros_like(projected[:, 0, : steps.units])] * steps.n_states
        length = x.shape[1]

        def step(t: Any, _: Any, *states: Any) -> Any:
            at = length - 1 - t if self.backwards else t
            new = steps.advance(ops.take(projected, at, axis=1), states)
            return [ops.concatenate(new, axis=-1), *new], True

        joined = ops.concatenate(initial, axis=-1)
        _, rows, _, _ = backend.loop(step, [joined, *initial], length, row=joined)
        return [ops.moveaxis(ops.flip(rows, axis=0) if self.backwards else rows, 0, 1)]


@dataclass(frozen=True)
class Recurrence:
    """Layer of a node that is one direction of a recurrent layer, or of one cell of a stack.

    Its inputs are the layer's, the output of :class:`States` on the reference, and the initial states if there are
    any. It gives the output at all positions ("sequence", (L, units), as the positions lie), the last output ("last"),
    or all last states side by side ("states").

    Attributes
    ----------
    class_name : str
        Of the Keras layer.
    place : tuple of int
        Which one in the model: it names the figures of a trial.
    lives : int, optional
        Positions behind its window for which a change is above the rounding of the states, at most, by a trial.
    """

    name: str
    class_name: str
    cell: Any
    backwards: bool
    gives: str
    place: tuple[int, ...]
    lives: int | None = None

    @property
    def weights(self) -> list[Any]:
        return list(self.cell.weights)

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        x, _, *initial = arrays
        return self.on_reference([x, *States(self.name, self.cell, self.backwards)([x, *initial])])

    def on_reference(self, arrays: Sequence[Any]) -> list[Any]:
        """The output, from the states on the reference."""
        states, units = arrays[1], int(self.cell.units)
        if self.gives == "sequence":
            return [states[..., :units]]
        last = states[:, 0 if self.backwards else -1]
        return [last[:, :units] if self.gives == "last" else last]


class Carried(NamedTuple):
    """A change of the states, carried on.

    Attributes
    ----------
    last : list of arrays (S, P, A, units)
        Of the states after the last position; 0 where it died before.
    rows : list of arrays
        Of the output after each step, (steps, S, P, A, units): those of the window, and those behind it. Empty if
        they are not kept.
    behind : int scalar
        Steps behind the window.
    alive : bool scalar
        Whether any row was above rounding when the steps were over.
    """

    last: list[Any]
    rows: list[Any]
    behind: Any
    alive: Any


class Recurrent(Rule):
    """A :class:`Recurrence`: LSTM, GRU, SimpleRNN, RNN of their cells, and each direction of Bidirectional."""

    form = Form.DELTA
    fused = False
    pulls = False
    fills = False
    leaks = True
    condition = "if its input has a window, and its cells are Keras' own and have no mask"

    def propagate(self, facts: Facts) -> State:
        window = facts.states[0]
        if not isinstance(window, Window) or window.flat is not None:
            raise Decline("has no positions to go through")
        if not all(isinstance(state, Unchanged) for state in facts.states[1:]):
            raise Decline("its initial state depends on the sequence")
        if self.width(facts) is None:
            return EVERYWHERE
        return Window(self.frame(facts, window.frame), facts.shape[1:])

    def width(self, facts: Facts) -> int | None:
        """Positions of the output that change; None: any may, or nothing would be saved."""
        layer, frame = facts.layer, input_frame(facts)
        if layer.gives != "sequence" or layer.lives is None:
            return None
        width = frame.width + layer.lives
        return int(width) if width <= MAX_SHARE * frame.length else None

    @staticmethod
    def frame(facts: Facts, frame: Frame) -> Frame:
        """The input's frame and the positions behind it in which a change lives."""
        lives = facts.layer.lives
        starts = tuple(start - lives for start in frame.starts) if facts.layer.backwards else frame.starts
        return Frame(starts, frame.width + lives, frame.step, frame.length)

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        return tuple(None for _ in facts.states)

    def needs_order(self, facts: Facts) -> bool:
        return True

    def summarise(self, facts: Facts, *inputs: Any) -> dict[str, Any]:
        """What the steps need of the reference at each position, (S, L, n), with the rounding of its units last."""
        return {"kept": kept_of(facts.layer, *inputs)}

    def product(self, call: Call, *inputs: Any) -> Any:
        x, layer = inputs[0], call.layer
        frame, kept = input_frame(call.facts), call.summary["kept"]
        kept = ops.reshape(kept, (kept.shape[0], *kept.shape[3:]))
        first = call.first(frame)
        carry = Carry(layer, kept, frame.length, call.stage)
        if isinstance(call.output, Window):
            carried = carry.on(x, first, layer.lives, rows=True)
            call.fits.append(ops.logical_not(carried.alive))
            return as_window(carried.rows, layer.backwards)
        results = []
        for (a, b), done in groups(call.facts, x.shape):
            carried = carry.on(x[:, a:b], first[a:b], frame.length, rows=layer.gives == "sequence")
            results.append(self.everywhere(call, carried, first[a:b])[:, done:])
        return ops.concatenate(results, axis=1) if len(results) > 1 else results[0]

    @staticmethod
    def everywhere(call: Call, carried: Carried, first: Any) -> Any:
        """The change of the whole output, for frames that begin at ``first``.

        Rows are brought into order in a stage of their own: alone, each move goes through memory.
        """
        layer, frame = call.layer, input_frame(call.facts)
        if layer.gives == "states":
            return ops.concatenate(carried.last, axis=-1)
        if layer.gives == "last":
            return carried.last[0]

        def in_place(first: Any, *rows: Any) -> Any:
            window = as_window(rows, layer.backwards)
            begin = first + frame.width - window.shape[3] if layer.backwards else first
            return place_by_rows(window, begin, frame.length)

        return call.stage(in_place)(first, *carried.rows)

    def pays_from(self, facts: Facts) -> int:
        return int(STEP_ELEMENTS // facts.layer.cell.units)

    def multiply_adds(self, facts: Facts, output: State) -> int:
        layer, width = facts.layer, input_frame(facts).width
        kernels = [layer.cell.kernel, layer.cell.recurrent_kernel]
        of_input, of_states = (w.shape[0] * w.shape[1] for w in kernels)
        return int(min(width, facts.shapes[0][0]) * of_input + self.mean_steps(facts) * of_states)

    def share(self, facts: Facts, output: State) -> float:
        return self.mean_steps(facts) / facts.shapes[0][0]

    def mean_steps(self, facts: Facts) -> float:
        """Steps of a substitution, over all positions of the sequence: none goes past the end."""
        length, steps = facts.shapes[0][0], most_steps(facts)
        if self.width(facts) is not None:
            return float(steps)
        return steps_in_groups(steps, length, MAX_GROUPS if pays_in_groups(steps, length) else 1)

    def scratch(self, facts: Facts) -> int:
        layer = facts.layer
        steps = steps_of(layer.cell)
        once = int((2 * steps.n_gates + 2 * steps.n_states) * steps.units)
        width = self.width(facts)
        if layer.gives != "sequence":
            return once
        return once + (2 * width if width is not None else 3 * facts.shapes[0][0]) * steps.units


def input_frame(facts: Facts) -> Frame:
    window = facts.states[0]
    assert isinstance(window, Window)
    return window.frame


def kept_of(layer: Recurrence, x: Any, states: Any, *initial: Any) -> Any:
    """What :class:`Carry` needs of the reference, (S, L, n).

    Parameters
    ----------
    x : array (S, L, channels)
        The input of the layer.
    states : array (S, L, n_states * units)
        After each position.
    initial : arrays (S, units)
        The initial states, if they are not zeros.
    """
    steps = steps_of(layer.cell)
    after = [states[..., k * steps.units : (k + 1) * steps.units] for k in range(steps.n_states)]
    before = [shifted(h, h0, layer.backwards) for h, h0 in zip(after, initial or [None] * len(after), strict=True)]
    rounding = ROUNDING[keras.backend.standardize_dtype(x.dtype)]
    limits = [scale_of(ops.abs(h)) * rounding for h in after]
    return ops.concatenate([*steps.kept(steps.projected(x), before, after), *limits], axis=-1)


def scale_of(sizes: Any) -> Any:
    """The size of the numbers that are added up in each unit of a state, from the sizes of its numbers (S, L, units).

    That of the largest unit, as each is made of all; but one that stays far below it may not be, and has its own.
    """
    at_position = ops.max(sizes, axis=-1, keepdims=True)
    of_unit = ops.max(sizes, axis=1, keepdims=True)
    return ops.minimum(at_position, FAR_BELOW * of_unit)


def shifted(after: Any, initial: Any, backwards: bool) -> Any:
    """The states before each position, from those after it and from the initial ones (None: zeros)."""
    first = ops.zeros_like(after[:, :1]) if initial is None else initial[:, None]
    return ops.concatenate([after[:, 1:], first] if backwards else [first, after[:, :-1]], axis=1)


def as_window(parts: Sequence[Any], backwards: bool) -> Any:
    """Rows by step (steps, S, P, A, units), in parts, as those of a window, (S, P, A, steps, units)."""
    rows = ops.concatenate(parts, axis=0)
    return ops.moveaxis(ops.flip(rows, axis=0) if backwards else rows, 0, 3)


def steps_in_groups(steps: int, length: int, n: int) -> float:
    """Steps of a substitution, over all positions of the sequence in ``n`` groups: none goes past the end."""
    return sum(min(steps, length * (n - i) / n) for i in range(n)) / n


def pays_in_groups(steps: int, length: int) -> bool:
    """Whether groups save a fifth of the steps: each of them is begun and followed by itself."""
    return steps_in_groups(steps, length, MAX_GROUPS) < MAX_GROUPED * steps


def most_steps(facts: Facts) -> int:
    """Through the window and behind it, at most."""
    length, lives = facts.shapes[0][0], facts.layer.lives
    return int(length if lives is None else min(input_frame(facts).width + lives, length))


def groups(facts: Facts, shape: Sequence[int]) -> list[tuple[tuple[int, int], int]]:
    """The positions (first, stop) that are followed together, all of one number; how many were done before."""
    sequences, positions, alternates = shape[:3]
    fit = sequences * positions * alternates // MIN_ROWS[backend.device_kind()]
    pays = pays_in_groups(most_steps(facts), facts.shapes[0][0])
    size = -(-positions // (max(min(fit, MAX_GROUPS), 1) if pays else 1))
    firsts = [min(first, positions - size) for first in range(0, positions, size)]
    return [((first, first + size), i * size - first) for i, first in enumerate(firsts)]


@dataclass(frozen=True)
class Carry:
    """Carries changes on from the frames of a window.

    Attributes
    ----------
    kept : array (S, L, n)
        See :func:`kept_of`.
    length : int
        Positions of the sequence.
    stage : callable
        As in :class:`~fastism_cli.rules.base.Call`.
    """

    layer: Recurrence
    kept: Any
    length: int
    stage: Stage

    def on(self, x: Any, first: Any, behind: int, *, rows: bool) -> Carried:
        """Through a window and at most ``behind`` steps further.

        Parameters
        ----------
        x : array (S, P, A, width, channels)
            The change of the input, zero outside of the sequence.
        first : int array (P,)
            Where each window begins.
        rows : bool
            Whether the output is kept at all positions.
        """
        steps, width = steps_of(self.layer.cell), x.shape[3]
        stage = self.stage if steps.stages else (lambda function: function)
        settled = stage(partial(self.settled, steps))
        start, by = (first + (width - 1), -1) if self.layer.backwards else (first, 1)

        def step(t: Any, changes: Sequence[Any], moved: int, projected: Any) -> tuple[list[Any], Any]:
            at = start + (t + moved) * by
            here = ops.take(self.kept, ops.clip(at, 0, self.length - 1), axis=1)[:, :, None]
            product = steps.recurrent(here, projected, changes, stage)
            inside = [ops.logical_and(p >= 0, p < self.length) for p in (at, at + by)]
            new, alive = settled(here, projected, product, list(changes), inside)
            return list(new), alive

        def in_window(t: Any, *changes: Any) -> tuple[list[Any], Any]:
            row = ops.take(x, width - 1 - t if self.layer.backwards else t, axis=3)
            new, alive = step(t, changes[:-1], 0, steps.projected(row))
            return [*new, alive], True

        def after_window(t: Any, *changes: Any) -> tuple[list[Any], Any]:
            return step(t, changes, width, None)

        nothing = ops.zeros((*x.shape[:3], steps.units), x.dtype)
        row = nothing if rows else None
        begin = ops.take(self.kept, ops.clip(start, 0, self.length - 1), axis=1)[:, :, None]
        values = [ops.broadcast_to(value, nothing.shape) for value in steps.values(begin)]
        at_first = [*[nothing] * steps.n_states, *values, ops.zeros((), bool)]
        state, inner, _, _ = backend.loop(in_window, at_first, width, row=row)
        *changes, alive = state
        changes, outer, taken, alive = backend.loop(after_window, changes, behind, goes_on=alive, row=row)
        ended = start + (width - 1 + taken) * by
        is_over = self.along_positions(ended <= 0 if self.layer.backwards else ended >= self.length - 1)
        last = [ops.where(is_over, change, ops.zeros((), change.dtype)) for change in changes[: steps.n_states]]
        return Carried(last, [inner, outer] if rows else [], taken, alive)

    def settled(
        self, steps: CellSteps, here: Any, projected: Any, product: Any, changes: Sequence[Any], inside: Sequence[Any]
    ) -> tuple[list[Any], Any]:
        """The change after a position, and whether it is above rounding anywhere before the end of the sequence.

        ``inside``: whether this position and the next lie in the sequence, bool (P,) each.
        """
        is_here, goes_on = map(self.along_positions, inside)
        n_limits = steps.n_states * steps.units
        new = steps.change(here[..., :-n_limits], projected, product, changes)
        new = [ops.where(is_here, change, old) for change, old in zip(new, changes, strict=True)]
        limits = ops.split(here[..., -n_limits:], steps.n_states, axis=-1)
        # a NaN is above everything
        dead = [ops.abs(change) <= limit for change, limit in zip(new, limits, strict=False)]
        alive = [ops.any(ops.logical_and(goes_on, ops.logical_not(x))) for x in dead]
        return new, ops.any(ops.stack(alive))

    @staticmethod
    def along_positions(mask: Any) -> Any:
        """A bool array (P,) beside arrays (S, P, A, units)."""
        return ops.reshape(mask, (1, -1, 1, 1))
