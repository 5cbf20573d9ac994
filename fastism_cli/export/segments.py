"""Along the genome: from regions in any order to stretches of bases that the same regions cover."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MOST_VALUES = 1 << 18  # of all regions in a stretch: a pile of thousands is cut into shorter stretches


class Segment(NamedTuple):
    """Bases ``[start, stop)`` of a contig and the regions that cover all of them, ascending."""

    chrom: str
    start: int
    stop: int
    covering: tuple[int, ...]


def segments(chrom: Array, starts: Array, stops: Array, contigs: Mapping[str, int]) -> Iterator[Segment]:
    """Stretches that a region covers, contigs in the order of ``contigs``, ascending.

    Positions count from 0, ends are excluded::

        region 0     . . a a a a . .
        region 1     . . . . b b b .      ->  [2, 4) (0,)   [4, 6) (0, 1)   [6, 7) (1,)

    Parameters
    ----------
    chrom, starts, stops : (n,)
        Regions in any order; they may overlap, be equal, or pass the ends of their contig, which are cut off.
    """
    for name, size in contigs.items():
        here = np.flatnonzero(chrom == name)
        if len(here):
            first, last = np.clip(starts[here], 0, size), np.clip(stops[here], 0, size)
            yield from _of_contig(name, here, first, last)


def _of_contig(name: str, regions: Array, starts: Array, stops: Array) -> Iterator[Segment]:
    by_start, by_stop = np.argsort(starts, kind="stable"), np.argsort(stops, kind="stable")
    begun = ended = 0
    covering: list[int] = []
    for start, stop in pairwise(np.unique(np.concatenate([starts, stops])).tolist()):
        while begun < len(by_start) and starts[by_start[begun]] <= start:
            insort(covering, int(regions[by_start[begun]]))
            begun += 1
        while ended < len(by_stop) and stops[by_stop[ended]] <= start:
            covering.remove(int(regions[by_stop[ended]]))
            ended += 1
        if covering:
            yield from _cut(name, start, stop, covering)


def _cut(name: str, start: int, stop: int, covering: Sequence[int]) -> Iterator[Segment]:
    step = max(MOST_VALUES // len(covering), 1)
    for first in range(start, stop, step):
        yield Segment(name, first, min(first + step, stop), tuple(covering))
