"""Place the model's input on a region, and find the bases that are substituted. Integers only.

Positions are counted from 0 and ends are excluded, but for people: :func:`span_text` and :func:`parse_span`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from fastism_cli.errors import UsageError
from fastism_cli.genome.bed import Region
from fastism_cli.options.choices import MOST_BASES

FIRST = 1  # the number of a contig's first base for people; it is 0 in the program
SPAN = re.compile(r"(?P<chrom>\S+):(?P<start>[0-9,]{1,20})-(?P<end>[0-9,]{1,20})")


class Placement(NamedTuple):
    """Where the model's input lies on the contig, in bases counted from 0.

    Attributes
    ----------
    input_start : int
        First base of the model's input; negative if it begins before the contig.
    start, end : int
        The substituted bases ``[start, end)``, as far as they lie on the contig.
    n_padded : int
        Positions of the input outside the contig.
    """

    input_start: int
    start: int
    end: int
    n_padded: int


@dataclass(frozen=True)
class Geometry:
    """How regions become inputs: the same for all regions of a run.

    Parameters
    ----------
    length : int
        Positions of the model's input.
    window : int
        Positions that are substituted.
    first : int or None
        The first of them, counted from the centre along the strand of the region; None if they are the middle of the
        input, the same bases on both strands.
    center : "auto", "midpoint" or "summit"
        The base at input position ``length // 2``; "auto" is the summit if the region has one, else the midpoint.
    offset : int
        By how many bases the centre is moved, to the 3' end of the region's strand.
    stranded : bool
        Whether the model sees the reverse complement of a "-" region.
    from_start : bool
        The input begins where the region begins, whatever ``center`` says: for whole records of a FASTA.
    tile : bool
        Whether as many windows as needed cover a region, instead of one at its centre.
    has_minus : bool
        Whether there are regions on the - strand: a window beside the middle must fit for them too.
    shifts : tuple of int
        By how many bases moved inputs begin later, as the model sees the sequence. They are read with the input.
    """

    length: int
    window: int
    center: str = "auto"
    stranded: bool = False
    from_start: bool = False
    tile: bool = False
    first: int | None = None
    offset: int = 0
    has_minus: bool = True
    shifts: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if self.first is not None:
            self._check_beside_middle(self.first)
        elif not 0 < self.window <= self.length:
            raise UsageError(
                f"--window must be from 1 to the length of the model's input, {self.length}. "
                f"Received: --window {self.window}"
            )

    def _check_beside_middle(self, first: int) -> None:
        for minus in (False, True) if self.has_minus else (False,):
            start = self.window_start(minus=minus)
            if not 0 <= start <= self.length - self.window:
                low, high = -(self.length // 2), (self.length + 1) // 2
                low, high = (1 - high, 1 - low) if minus else (low, high)
                raise UsageError(
                    f"--window {first}:{first + self.window} passes an end of the model's input of {self.length}: of "
                    f"records on the {'-' if minus else '+'} strand it holds {low}:{high}."
                )

    def window_start(self, *, minus: bool) -> int:
        """First substituted position of the input of a region, on the + strand; ``minus`` is the region's strand."""
        return window_offset(self.length, self.window, self.first, minus=minus)

    def place(self, region: Region, contig_size: int | None) -> Placement:
        """Place the input on a region. ``contig_size`` is None for an unknown contig; nothing is padded there."""
        minus = region.strand == "-"
        centre = region.start + self.length // 2 if self.from_start else centre_of(region, self.center)
        input_start = centre + (-self.offset if minus else self.offset) - self.length // 2
        start = input_start + self.window_start(minus=minus)
        end = start + self.window
        if contig_size is None:
            return Placement(input_start, start, end, 0)
        inside = overlap(input_start, input_start + self.length, contig_size)
        return Placement(input_start, *clipped(start, end, contig_size), self.length - inside)

    def around(self, *, reverse: bool = False) -> tuple[int, int]:
        """How many bases are read before and behind an input that is ``reverse`` or not, on the + strand."""
        before, after = max(-min(self.shifts), 0), max(*self.shifts, 0)
        return (after, before) if reverse else (before, after)

    def most_padded(self, input_start: int, contig_size: int, *, reverse: bool) -> int:
        """Most positions outside of the contig, of an input and those that are moved."""
        before, after = self.around(reverse=reverse)
        ends = (input_start - before, input_start + after)
        return max(self.length - overlap(start, start + self.length, contig_size) for start in ends)

    def cuts(self, region: Region) -> bool:
        """Whether a record of a FASTA is longer than the input."""
        return self.from_start and region.end - region.start > self.length

    def places(self, region: Region, contig_size: int | None) -> Iterator[Placement]:
        """All inputs of a region: one, or its tiles in order.

        Each base of the region that lies on the contig is in one tile; the rest of the input is its context. The tiles
        are centred on the region, and cut to it::

            region          [ . . . . . . . . . . . )         11 bases, window 4: 3 tiles
            tiles           [ . . .)[ . . . .)[ . . . .)
        """
        if self.tile:
            yield from self._tiles(region, contig_size)
        else:
            yield self.place(region, contig_size)

    def _tiles(self, region: Region, contig_size: int | None) -> Iterator[Placement]:
        first, stop = region.start, region.end
        if contig_size is not None and overlap(first, stop, contig_size):
            first, stop = clipped(first, stop, contig_size)
        n = -(-(stop - first) // self.window)
        begin = (first + stop) // 2 - n * self.window // 2
        for start in range(begin, begin + n * self.window, self.window):
            input_start = start - window_offset(self.length, self.window)
            outside = (
                0 if contig_size is None else self.length - overlap(input_start, input_start + self.length, contig_size)
            )
            yield Placement(input_start, max(start, first), min(start + self.window, stop), outside)

    def reverses(self, region: Region) -> bool:
        """Whether the model sees this region's reverse complement."""
        return self.stranded and region.strand == "-"

    def columns(self, *, reverse: bool, minus: bool | None = None) -> range:
        """Input positions that are substituted.

        Parameters
        ----------
        reverse : bool
            Whether the model sees the reverse complement.
        minus : bool, optional
            Whether the region is on the - strand. Default: if it is reversed.

        The bases are the same on both strands, so the positions differ by one if only one of length and window is odd::

            base     0 1 2 3 4 5       length 6, window 3: centre 3, bases [2, 5)
            forward  . . x x x .       columns [2, 5)
            reverse  . x x x . .       columns [1, 4), base 4 first
        """
        first = self.window_start(minus=reverse if minus is None else minus)
        if reverse:
            first = self.length - first - self.window
        return range(first, first + self.window)

    @property
    def all_columns(self) -> range:
        """The columns of both strands: the engine is compiled for them."""
        forward = self.columns(reverse=False)
        reverse = self.columns(reverse=self.stranded and self.has_minus, minus=self.has_minus)
        return range(min(forward.start, reverse.start), max(forward.stop, reverse.stop))


def window_offset(length: int, window: int, first: int | None = None, *, minus: bool = False) -> int:
    """First position of a window in an input, counted from the input's first base on the + strand.

    Without ``first`` the window is in the middle. Otherwise it begins ``first`` bases after the middle one, ``c``,
    along the strand of the region, ``minus`` for the - strand::

        bases    0 1 2 c 4 5 6       length 7, window 2, first 1
        + strand . . . . x x .       first base 4
        - strand . x x . . . .       first base 1
    """
    if first is None:
        return length // 2 - window // 2
    return length // 2 + (1 - first - window if minus else first)


def centre_of(region: Region, center: str) -> int:
    """The base at the middle of the input.

    Raises
    ------
    UsageError
        If the summit is asked for and the region has none.
    """
    if center == "midpoint" or (center == "auto" and region.summit is None):
        return (region.start + region.end) // 2
    if region.summit is None:
        raise UsageError(f"line {region.line} has no summit (column 10 of narrowPeak). Use --center auto or midpoint.")
    return region.summit


def overlap(start: int, end: int, size: int) -> int:
    """How many positions of ``[start, end)`` lie in ``[0, size)``."""
    return max(min(end, size) - max(start, 0), 0)


def clipped(start: int, end: int, size: int) -> tuple[int, int]:
    """The part of ``[start, end)`` in ``[0, size)``; empty at the nearer end if there is none."""
    return min(max(start, 0), size), min(max(end, 0), size)


# --- places as people read and type them -----------------------------------------------------------------------------


def span_text(chrom: str, start: int, end: int) -> str:
    """Bases ``[start, end)``, counted from 0, as people read them: from 1, with the last base.

    The only place that turns positions of the program into those of samtools, UCSC and IGV; :func:`parse_span` is the
    way back. Without a base it says so.

    Examples
    --------
    >>> span_text("chr1", 999, 1200), span_text("chr2", 3499, 3500)
    ('chr1:1,000-1,200', 'chr2:3,500-3,500')
    """
    return f"{chrom}:{start + FIRST:,}-{end:,}" if start < end else f"{chrom}:{start + FIRST:,} (no base)"


def parse_span(text: str) -> tuple[str, int, int]:
    """``"chr1:1,000-1,200" -> ("chr1", 999, 1200)``: typed as samtools takes it, returned as ``[start, end)`` from 0.

    Raises
    ------
    UsageError
        If it is not CHROM:START-END, or holds no base.
    """
    match = SPAN.fullmatch(text.strip())
    digits = [match[name].replace(",", "") for name in ("start", "end")] if match else []
    if match is None or not all(digits):
        raise UsageError(f"a place is CHROM:START-END, such as chr1:1,000-1,200. Received: {text[:60]!r}")
    first, last = map(int, digits)
    if first < FIRST:
        raise UsageError(f"{text}: positions count from 1, as in samtools. Received: {first}")
    if last > MOST_BASES:
        raise UsageError(f"{text}: no contig has so many bases: the most is {MOST_BASES:,}.")
    if first > last:
        raise UsageError(f"{text}: the end comes before the start. Give the first and the last base.")
    return match["chrom"], first - FIRST, last
