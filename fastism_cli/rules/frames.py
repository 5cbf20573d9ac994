"""Where a sequence is changed, and which positions of a layer change: integers and half-open intervals, nothing else.

A chunk is the substituted positions, side by side, of one compiled call. Every position of the chunk has a
:class:`Frame` in every tensor that the change has reached: all of one static width, each with its own start. Chunks
begin at ``phase + period * q``: when ``q`` grows by one, all starts of a frame move by its ``step``, so one compiled
call serves every chunk of the same phase with ``q`` as data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from math import lcm, log2

import numpy as np

MAX_PHASES = 3


@dataclass(frozen=True)
class Frame:
    """A static-width interval of a tensor's length axis, one start for each position of the chunk.

    Attributes
    ----------
    starts : tuple of int, one per substituted position of the chunk
        First tensor position of the frame in chunk ``q = 0``. May be negative or run past ``length``.
    width : int
        Positions in the frame, the same for all.
    step : Fraction
        How far ``starts`` move from one chunk to the next (a whole number once the period is right).
    length : int
        Length of the tensor's axis: positions outside ``[0, length)`` are invalid.
    """

    starts: tuple[int, ...]
    width: int
    step: Fraction
    length: int

    @property
    def stops(self) -> tuple[int, ...]:
        return tuple(start + self.width for start in self.starts)

    def leaves(self, chunks: range) -> bool:
        """Whether a frame of any of these chunks holds an invalid position."""
        low, high = self.reach(chunks)
        return low < 0 or high > self.length

    def reach(self, chunks: range) -> tuple[int, int]:
        """First and last-plus-one position that the frames of these chunks touch."""
        moves = [int(self.step * q) for q in (chunks[0], chunks[-1])]
        return min(self.starts) + min(moves), max(self.stops) + max(moves)

    def take(self, order: Sequence[int]) -> Frame:
        """The frames of the chunk's positions in another order."""
        return replace(self, starts=tuple(self.starts[j] for j in order))

    def moved(self, by: int, length: int) -> Frame:
        """The same positions counted from another origin, in a tensor of another length."""
        return replace(self, starts=tuple(start + by for start in self.starts), length=length)


def dilated_span(kernel_size: int, dilation_rate: int) -> int:
    """Number of input positions from the first to the last tap of a kernel, both included."""
    return (kernel_size - 1) * dilation_rate + 1


def pad_amounts(padding: str, *, span: int, stride: int, n_in: int) -> tuple[int, int]:
    """Zeros that Keras puts to the left and the right of the length axis.

    'same' makes ``ceil(n_in / stride)`` outputs and puts the odd zero on the right; 'causal' pads the left alone.
    """
    if padding == "valid":
        return 0, 0
    if padding == "causal":
        return span - 1, 0
    total = max((-(-n_in // stride) - 1) * stride + span - n_in, 0)
    return total // 2, total - total // 2


def changed_outputs(changed: Frame, *, span: int, stride: int, pad_left: int, n_out: int) -> Frame:
    """Output positions whose window touches ``changed``.

    Positions count from 0, ends are excluded::

        input    . . . X . . . .      changed = [3, 4)
        output   . . o o o . . .      span 3, stride 1, pad_left 1  ->  [2, 5)

    With dilation the result may include outputs that skip the changed base:
    too wide is slower, too narrow would be wrong.
    """
    starts = tuple(-((span - 1 - pad_left - start) // stride) for start in changed.starts)
    stops = [(stop - 1 + pad_left) // stride + 1 for stop in changed.stops]
    width = max(max(stop - start for start, stop in zip(starts, stops, strict=True)), 1)
    return Frame(starts, width, changed.step / stride, n_out)


def needed_inputs(out: Frame, *, span: int, stride: int, pad_left: int, n_in: int) -> Frame:
    """Input positions that the outputs in ``out`` read, padding included: on that frame the layer is 'valid'.

    ::

        output   . o o . .            out = [1, 3), span 3, stride 3, pad_left 0
        input    . . . i i i i i i .  ->  [3, 9)
    """
    starts = tuple(start * stride - pad_left for start in out.starts)
    return Frame(starts, (out.width - 1) * stride + span, out.step * stride, n_in)


def touched_groups(frame: Frame, size: int) -> Frame:
    """Groups of ``size`` positions that a frame touches."""
    return changed_outputs(frame, span=size, stride=size, pad_left=0, n_out=frame.length // size)


def expand_groups(frame: Frame, size: int) -> Frame:
    """All positions of these groups of ``size``."""
    return needed_inputs(frame, span=size, stride=size, pad_left=0, n_in=frame.length * size)


def hull(frames: Iterable[Frame]) -> Frame:
    """The narrowest frame that holds all of ``frames`` (of one tensor, or of tensors with aligned positions)."""
    frames = list(frames)
    starts = tuple(map(min, *(f.starts for f in frames))) if len(frames) > 1 else frames[0].starts
    stops = tuple(map(max, *(f.stops for f in frames))) if len(frames) > 1 else frames[0].stops
    width = max(stop - start for start, stop in zip(starts, stops, strict=True))
    return replace(frames[0], starts=starts, width=width)


def offsets(inner: Frame, outer: Frame) -> tuple[int, ...]:
    """Where each inner frame begins in its outer frame (negative: before it)."""
    return tuple(a - b for a, b in zip(inner.starts, outer.starts, strict=True))


def equal_stretches(values: Sequence[int]) -> list[tuple[int, int, int]]:
    """Stretches of equal values as ``(first, stop, value)``: ``[5, 5, 7] -> [(0, 2, 5), (2, 3, 7)]``."""
    found: list[tuple[int, int, int]] = []
    for j, value in enumerate(values):
        if found and found[-1][2] == value:
            found[-1] = (found[-1][0], j + 1, value)
        else:
            found.append((j, j + 1, value))
    return found


def common_period(steps: Iterable[Fraction]) -> int:
    """The smallest distance between chunks for which every frame moves by whole positions."""
    return lcm(1, *(step.denominator for step in steps))


@dataclass(frozen=True)
class Chunk:
    """The substituted positions of one compiled call: ``phase + period * q + j`` for ``j`` below ``size``."""

    size: int
    phase: int
    period: int


@dataclass(frozen=True)
class ChunkCall:
    """One call of the chunk that begins at ``start = phase + period * q``."""

    start: int
    phase: int
    q: int


def cover(start: int, stop: int, *, size: int, period: int, multiple: int = 1) -> tuple[int, list[ChunkCall]]:
    """Chunks of one size near ``size``, a multiple of ``multiple``, that cover ``[start, stop)``, and that size.

    Each phase is compiled once, so one phase is best: a size of whole periods, if one computes at most 8 % of the
    positions for nothing. Else chunks of equal size, if they have at most three phases.
    """
    total = stop - start
    equal = multiple * -(-total // (multiple * -(-total // min(size, total))))
    aligned = best_aligned(total, size=size, period=lcm(period, multiple))
    phases = {(first + start) % period for first in range(0, total, equal)}
    waste = -(-total // aligned) * aligned / total
    chosen = equal if len(phases) == 1 or (waste > 1.08 and len(phases) <= MAX_PHASES) else aligned
    return chosen, [ChunkCall(first, first % period, first // period) for first in range(start, stop, chosen)]


def best_aligned(total: int, *, size: int, period: int) -> int:
    """The multiple of ``period`` near ``size`` that covers ``total`` with the least waste."""
    lowest, highest = max(size // (2 * period), 1), max(7 * size // (5 * period), 1)

    def cost(number: int) -> float:
        aligned = number * period
        return -(-total // aligned) * aligned / total + 0.05 * abs(log2(aligned / size))

    return min(range(lowest, highest + 1), key=cost) * period


# --- where a sequence is changed -------------------------------------------------------------------------------------


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
