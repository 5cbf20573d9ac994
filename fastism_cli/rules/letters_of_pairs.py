"""Two letters that are substituted at once: each by itself as long as layers are linear, then both together.

:mod:`fastism_cli.engine.letters_apart` puts these nodes into the graph. The change of the sequence is the sum of two
windows of one position, some distance apart. A linear layer is computed for each: for all letters of the first, and for
all letters of the second. The sum of both has all pairs of letters, in one window from the first to the second::

    sequence            . . a . . . b . . .      two windows, 3 letters each
    Conv1D(3)           . a a a . b b b . .      two windows, 3 letters each
    sum                 . x x x . x x x . .      one window, 9 pairs of letters
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from keras import ops

from fastism_cli.model.graph import REFERENCE, Node
from fastism_cli.rules.base import Call, Facts, Form, Rule, Splits, State, Window
from fastism_cli.rules.frames import hull


@dataclass(frozen=True)
class LetterOfPair:
    """Layer of a node that hands the sequence on, with the window of one of the two letters.

    Attributes
    ----------
    distances : tuple of int
        How far the letter lies behind the first one, for all pairs that begin at one position.
    """

    name: str
    distances: tuple[int, ...]

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        return [arrays[0]]

    def window(self, pairs: Window) -> Window:
        """The window of the letter, where the pairs have ``pairs``."""
        n = len(self.distances)
        starts = tuple(start + self.distances[j % n] for j, start in enumerate(pairs.frame.starts))
        return replace(pairs, frame=replace(pairs.frame, starts=starts, width=1))


@dataclass(frozen=True)
class SumOfLetters:
    """Layer of a node that adds up what the two letters change. Both inputs are the same tensor of the model."""

    name: str

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        return [arrays[0]]


def of_one_letter(nodes: Sequence[Node]) -> frozenset[int]:
    """The tensors of a graph that one letter of a pair changes: their deltas have n alternates, all others n * n."""
    found: set[int] = set()
    for node in nodes:
        is_read = bool(found.intersection(node.inputs)) and node.role != REFERENCE
        if isinstance(node.layer, LetterOfPair) or (is_read and not isinstance(node.layer, SumOfLetters)):
            found.update(node.outputs)
    return frozenset(found)


def pairs_sharing(nodes: Sequence[Node], letters: int) -> dict[int, int]:
    """How many pairs of other letters share what one letter changes, for each tensor that one letter changes."""
    return dict.fromkeys(of_one_letter(nodes), max(letters - 1, 1))


class SumOfLettersRule(Rule):
    """The sum of two deltas (S, P, n, width, ...) for all pairs of letters, (S, P, n * n, hull, ...)."""

    form = Form.DELTA
    splits = Splits.ROWS
    keeps_places = True
    fills = False
    pulls = False
    any_axis = True
    begins = True

    def propagate(self, facts: Facts) -> State:
        return replace(facts.windows[0], frame=hull(window.frame for window in facts.windows))

    def delta(self, call: Call, *inputs: Any) -> Any:
        first, second = inputs
        by_first = None if first is None else first[:, :, :, None]
        by_second = None if second is None else second[:, :, None]
        if by_first is None or by_second is None:
            known = by_first if by_second is None else by_second
            assert known is not None
            n = known.shape[2] * known.shape[3]
            total = ops.broadcast_to(known, (*known.shape[:2], n, n, *known.shape[4:]))
        else:
            total = by_first + by_second
        return ops.reshape(total, (*total.shape[:2], total.shape[2] * total.shape[3], *total.shape[4:]))
