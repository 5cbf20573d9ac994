"""Where a sequence is changed: blocks of one width, by number. Integers only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Blocks:
    """Blocks ``[start, start + width)`` that are replaced, each by itself; they may overlap.

    Attributes
    ----------
    width : int
        Positions of each block; 1 for single letters.
    starts : range or tuple of int
        Where they begin, ascending. A range if the distances are equal: then one plan serves many chunks of blocks.
    """

    width: int
    starts: range | tuple[int, ...]

    @classmethod
    def of(cls, starts: Iterable[int], width: int) -> Blocks:
        """The blocks that begin at ``starts``, in any order, each once."""
        places = sorted({int(start) for start in starts})
        steps = {b - a for a, b in pairwise(places)}
        if places and len(steps) <= 1:
            return cls(width, range(places[0], places[-1] + 1, min(steps, default=1)))
        return cls(width, tuple(places))

    @property
    def are_regular(self) -> bool:
        return isinstance(self.starts, range)

    @property
    def count(self) -> int:
        return len(self.starts)

    @property
    def step(self) -> int:
        """From one block to the next; of blocks that do not lie regularly, 1: each chunk of them has its own plan."""
        return self.starts.step if isinstance(self.starts, range) else 1

    def starts_from(self, number: int, count: int) -> tuple[int, ...]:
        """Where ``count`` blocks begin. After the last, regular blocks go on and others repeat it."""
        if isinstance(self.starts, range):
            return tuple(self.starts.start + self.step * i for i in range(number, number + count))
        return tuple(self.starts[min(i, self.count - 1)] for i in range(number, number + count))

    def numbers_of(self, starts: np.ndarray) -> np.ndarray:
        """The number of the block that begins at each of these, int (n,)."""
        if isinstance(self.starts, range):
            return (starts - self.starts.start) // self.step
        return np.searchsorted(self._starts, starts)

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.asarray(self.starts)


def every_position(length: int) -> Blocks:
    """A block of one position at each."""
    return Blocks(1, range(length))
