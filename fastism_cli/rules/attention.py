"""What attention does after its projections: every position looks at all others, so that no window is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastism_cli.rules.base import Decline, Facts, Rule, State

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
