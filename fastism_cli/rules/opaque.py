"""Layers without a rule: what one would save if it had a rule, and what attention does after its projections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastism_cli.model.graph import Shape
from fastism_cli.rules.base import EVERYWHERE, Decline, Facts, Rule, State, Window
from fastism_cli.rules.frames import Frame, changed_outputs, hull


class Supposed:
    """Stands for a layer that is supposed to work on a window, of so many multiply-adds in a forward pass."""

    def __init__(self, layer: Any, multiply_adds: int) -> None:
        self.supposed, self.work = layer, multiply_adds

    def __getattr__(self, name: str) -> Any:
        """Weights and settings are those of the layer."""
        return getattr(self.supposed, name)


class SupposedRule(Rule):
    """Every position of the output depends on the positions of the input at its place alone, as in a convolution.

    A layer that gives no positions, such as a pooling of all, gives its output everywhere, for the work on the window.
    """

    pulls = False

    def propagate(self, facts: Facts) -> State:
        frames = [window.frame for window in facts.windows]
        first, *others = frames
        lie_alike = all((frame.length, frame.step) == (first.length, first.step) for frame in others)
        if not lie_alike or any(window.axis or window.flat for window in facts.windows):
            raise Decline("its windows cannot be put together")
        frame = _outputs_of(hull(frames), facts.shape)
        return EVERYWHERE if frame is None else Window(frame, facts.shape[1:])

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        """Each input as it is: the output may have another length, and its frame then fits no input."""
        return tuple(None for _ in facts.states)

    def multiply_adds(self, facts: Facts, output: State) -> int:
        return int(facts.layer.work * self.share(facts, output))

    def share(self, facts: Facts, output: State) -> float:
        """Of the layer's work, what the window needs."""
        frame = output.frame if isinstance(output, Window) else facts.windows[0].frame
        return min(frame.width / frame.length, 1.0)


def _outputs_of(frame: Frame, shape: Shape) -> Frame | None:
    """The positions of an output of this shape; None if it has none."""
    if len(shape) < 2:
        return None
    n_in, n_out = frame.length, shape[0]
    if n_out > n_in:
        times = n_out // n_in
        return Frame(tuple(i * times for i in frame.starts), frame.width * times, frame.step * times, n_out)
    stride = max(round(n_in / n_out), 1)
    span = stride if stride > 1 else n_in - n_out + 1
    return replace(changed_outputs(frame, span=span, stride=stride, pad_left=0, n_out=n_out), length=n_out)


# --- attention -------------------------------------------------------------------------------------------------------

WHY = "every position looks at all others; all that helps is to place it late and keep its input short"


@dataclass(frozen=True)
class AttentionOfProjections:
    """MultiHeadAttention or GroupQueryAttention, given the projected queries, keys and values.

    Attributes
    ----------
    class_text : str
        The class of the layer.
    attend : callable
        From the arrays of the node's inputs to those of its outputs.
    pairs : int
        Pairs of positions in all heads; each gets a weight.
    multiply_adds : int
        Of one call: the pairs, and the projection of the output.
    """

    name: str
    class_text: str
    attend: Callable[[Sequence[Any]], list[Any]]
    pairs: int
    multiply_adds: int

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        return self.attend(arrays)


class AttentionRule(Rule):
    """Counts the work, and declines."""

    def propagate(self, facts: Facts) -> State:
        raise Decline(WHY)

    def full_multiply_adds(self, facts: Facts) -> int | None:
        multiply_adds: int = facts.layer.multiply_adds
        return multiply_adds
