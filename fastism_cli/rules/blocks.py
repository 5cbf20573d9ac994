"""Where a sequence is changed: blocks of one width, or the two ends of blocks, by number. Integers only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Blocks:
    """Blocks ``[start, start + width)`` that are replaced, each by itself; they may overlap.

    Or pairs of positions: at each start begin several, whose second position lies so many further. They have numbers
    in a row, and a place each, which is the number that it would have if the first began at 0::

        distances (2, 1), starts 5, 6      numbers  0       1       2       3
                                           pairs    5 7     5 6     6 8     6 7
                                           places   10      11      12      13

    Attributes
    ----------
    width : int
        Positions of each block; 1 for single letters.
    starts : range or tuple of int
        Where they begin, ascending. A range if the distances are equal: then one plan serves many chunks of blocks.
    distances : tuple of int
        Of pairs that begin at one position, the widest first: it is ``width - 1``. Empty for blocks.
    """

    width: int
    starts: range | tuple[int, ...]
    distances: tuple[int, ...] = ()

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
    def repeats(self) -> int:
        """How many begin at each start."""
        return max(len(self.distances), 1)

    @property
    def count(self) -> int:
        return len(self.starts) * self.repeats

    @property
    def step(self) -> Fraction:
        """From one block to the next, on average; of blocks that do not lie regularly, 1: each chunk has its plan."""
        return Fraction(self.starts.step, self.repeats) if isinstance(self.starts, range) else Fraction(1)

    def starts_from(self, number: int, count: int) -> tuple[int, ...]:
        """Where ``count`` blocks begin. After the last, regular blocks go on and others repeat it."""
        if isinstance(self.starts, range):
            first, step, repeats = self.starts.start, self.starts.step, self.repeats
            return tuple([first + step * (i // repeats) for i in range(number, number + count)])
        return tuple(self.starts[min(i, self.count - 1)] for i in range(number, number + count))

    def seconds_from(self, number: int, count: int) -> tuple[int, ...]:
        """The second positions of ``count`` pairs."""
        firsts, repeats = enumerate(self.starts_from(number, count), number), self.repeats
        return tuple([start + self.distances[i % repeats] for i, start in firsts])

    def numbers_of(self, places: np.ndarray) -> np.ndarray:
        """The numbers of the blocks at these places, int (n,): of blocks, the places are where they begin."""
        if isinstance(self.starts, range):
            starts, which = places // self.repeats, places % self.repeats
            numbers: np.ndarray = (starts - self.starts.start) // self.starts.step * self.repeats + which
            return numbers
        return np.searchsorted(self._starts, places)

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.asarray(self.starts)


def every_position(length: int) -> Blocks:
    """A block of one position at each."""
    return Blocks(1, range(length))
