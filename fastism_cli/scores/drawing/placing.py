"""Where the parts of a figure lie on the paper, in inches from its upper left corner.

Every text is measured beforehand, so that none lies over another, whatever the size of the figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastism_cli.errors import UsageError
from fastism_cli.genome.placement import FIRST
from fastism_cli.options.choices import MOST_INCHES, FigureOptions
from fastism_cli.scores.drawing.axes import Limits, line_inches, text_inches
from fastism_cli.scores.region import Interval

BASE_INCHES, NARROWEST, WIDEST = 0.085, 7.0, 40.0
EDGE = 0.06  # between text and the edge of the paper
TICK = 0.06  # from a plot to the numbers of its axis
BAR_INCHES, BAR_GAP = 0.09, 0.08
OVERVIEW_INCHES = 0.35
BELOW_HEAT = 0.06  # from a heat map to the caption of the next logo
LEAST_PLOT = 0.8  # width
TALLEST, FLATTEST = 1.6, 0.7  # of a logo, if no height is asked for
LABEL_SHARE = 0.2  # of the width, for names of tracks
MAX_ROWS = 200

IMPORTANCE, WHOLE = "importance", ("whole", "region")


class Box(NamedTuple):
    """A part of the figure."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Margins:
    """Left and right of the plots."""

    left: float
    right: float


@dataclass(frozen=True)
class Parts:
    """What has to be placed.

    Attributes
    ----------
    rows : tuple of Interval
        Bases of each row, in the order of reading.
    panels : int
        Logos in a row.
    has_heat, has_overview, has_captions : bool
    letters : int
        Rows of a heat map.
    title_lines : int
    tracks : tuple of tuple of float
        For each row, the height of each track.
    curves : tuple of bool
        Which of the tracks have numbers on their axis.
    """

    rows: tuple[Interval, ...]
    panels: int
    has_heat: bool
    has_overview: bool
    has_captions: bool
    letters: int
    title_lines: int
    tracks: tuple[tuple[float, ...], ...]
    curves: tuple[bool, ...]


@dataclass(frozen=True)
class Row:
    """Boxes of one row of bases: a logo for each panel, maybe a heat map for each, and tracks."""

    bases: Interval
    logos: tuple[Box, ...]
    heats: tuple[Box, ...]
    tracks: tuple[Box, ...]


@dataclass(frozen=True)
class Placing:
    """Boxes of a whole figure of ``width`` by ``height``; ``footer`` is the middle of the last line."""

    width: float
    height: float
    overview: Box | None
    rows: tuple[Row, ...]
    footer: float


def rows_of(view: Interval, wrap: int | None, *, reverse: bool) -> tuple[Interval, ...]:
    """The bases of each row, in the order of reading.

    Raises
    ------
    UsageError
        If they are too many for a figure.
    """
    wide = min(wrap or view.end - view.start, view.end - view.start)
    if view.end - view.start > MAX_ROWS * wide:
        raise UsageError(f"{view} makes more than {MAX_ROWS} rows of {wide:,} bases. Draw fewer bases, or wrap later.")
    if reverse:
        return tuple(
            Interval(view.chrom, max(end - wide, view.start), end) for end in range(view.end, view.start, -wide)
        )
    return tuple(
        Interval(view.chrom, start, min(start + wide, view.end)) for start in range(view.start, view.end, wide)
    )


def margins_of(
    view: Interval, ticks: Sequence[str], track_labels: Sequence[str], bar: Sequence[str], options: FigureOptions
) -> Margins:
    """Left and right of the plots, as wide as the texts there need.

    Parameters
    ----------
    ticks, bar : sequence of str
        Numbers left of the logos, and right of the colour bar; no ``bar`` is none.
    track_labels : sequence of str
        As they are drawn.
    """
    small = options.small
    numbers = max((text_inches(text, small) for text in ticks), default=0.0)
    labels = max((text_inches(text, small) for text in (*track_labels, *WHOLE)), default=0.0)
    left = max(EDGE + line_inches(small) + numbers + TICK + 0.03, EDGE + labels + TICK)
    right = EDGE + half_number(view, small)
    if bar:
        widest = max(text_inches(text, small) for text in bar)
        right = max(right, BAR_GAP + BAR_INCHES + TICK + widest + line_inches(small) + EDGE)
    return Margins(left, right)


def half_number(view: Interval, points: float) -> float:
    return text_inches(f"{view.end:,}", points) / 2


def width_of(per_row: int, margins: Margins, options: FigureOptions) -> float:
    """Inches of the whole figure.

    Raises
    ------
    UsageError
        If no plot fits between the margins.
    """
    both = margins.left + margins.right
    width = options.width or min(max(BASE_INCHES * per_row + both, NARROWEST), WIDEST)
    if width - both < LEAST_PLOT:
        raise UsageError(
            f"width {width:.3g}in leaves no place beside the texts, which take {both:.2f} inches: choose at least "
            f"{25.4 * (both + LEAST_PLOT):.0f}mm, or smaller letters."
        )
    return width


def placing_of(parts: Parts, width: float, margins: Margins, options: FigureOptions) -> Placing:
    """Place all parts; logos take what is left of a given height.

    Raises
    ------
    UsageError
        If the height does not suffice.
    """
    logos = len(parts.rows) * parts.panels
    fixed = _height(parts, options, logo=0.0)
    if options.height is None:
        tall = min(max(0.22 * width, FLATTEST), TALLEST)
        logo = max(tall if logos == 1 else min(tall, 1.0), least_logo(options))
    else:
        logo = (options.height - fixed) / logos
    if logo < least_logo(options) - 1e-9:
        least = fixed + logos * least_logo(options)
        raise UsageError(
            f"height {options.height:.3g}in is too small for what is drawn: choose at least {25.4 * least:.0f}mm."
        )
    height = fixed + logos * logo
    if height > MOST_INCHES:
        raise UsageError(f"the figure would be {height:.0f} inches tall. Draw fewer bases, or wrap later.")
    return _placed(parts, width, height, margins, options, logo)


def least_logo(options: FigureOptions) -> float:
    """A logo is at least as tall as its label is long."""
    return text_inches(IMPORTANCE, options.small) + 0.04


def heat_inches(letters: int, points: float) -> float:
    return letters * 1.02 * line_inches(points)


def _height(parts: Parts, options: FigureOptions, *, logo: float) -> float:
    """Of the whole figure, if each logo is so tall."""
    placing = _placed(parts, 1.0, 1.0, Margins(0, 0), options, logo)
    return placing.footer + line_inches(options.small) / 2 + EDGE


def _placed(
    parts: Parts, width: float, height: float, margins: Margins, options: FigureOptions, logo: float
) -> Placing:
    line, plot = line_inches(options.small), width - margins.left - margins.right
    y = EDGE + parts.title_lines * line_inches(options.font_size) + (0.06 if parts.title_lines else 0.0)
    overview = None
    if parts.has_overview:
        overview = Box(margins.left, y, plot, OVERVIEW_INCHES)
        y += OVERVIEW_INCHES + TICK + line + 0.08
    rows, widest = [], max(row.end - row.start for row in parts.rows)
    for bases, heights in zip(parts.rows, parts.tracks, strict=True):
        wide = plot * (bases.end - bases.start) / widest
        boxes, y = _row(parts, Box(margins.left, y, wide, logo), heights, options)
        rows.append(Row(bases, *boxes))
        y += TICK + line + 0.12
    return Placing(width, height, overview, tuple(rows), y - 0.06 + line / 2)


def _row(
    parts: Parts, first: Box, heights: Sequence[float], options: FigureOptions
) -> tuple[tuple[tuple[Box, ...], tuple[Box, ...], tuple[Box, ...]], float]:
    """The boxes of logos, heat maps and tracks of a row, and where it ends."""
    line, y = line_inches(options.small), first.y
    logos, heats, tracks = [], [], []
    for panel in range(parts.panels):
        y += line_inches(options.font_size) if parts.has_captions else line / 2
        y += BELOW_HEAT if panel and parts.has_heat else 0.0
        logos.append(first._replace(y=y))
        y += first.height
        if parts.has_heat:
            heats.append(first._replace(y=y + 0.08, height=heat_inches(parts.letters, options.small)))
            y = heats[-1].y + heats[-1].height
    for has_numbers, height in zip(parts.curves, heights, strict=True):
        y += line if has_numbers else 0.08
        tracks.append(first._replace(y=y, height=height))
        y += height
    return (tuple(logos), tuple(heats), tuple(tracks)), y


# --- numbers ---------------------------------------------------------------------------------------------------------


def round_step(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, ... from ``least`` on."""
    power = 1
    while 5 * power < least:
        power *= 10
    return next(step * power for step in (1, 2, 5) if step * power >= least)


def numbered(bases: Interval, inches: float, points: float) -> list[int]:
    """Round positions, counted from 1, whose numbers have room below so wide a plot."""
    room = 2 * half_number(bases, points) + 0.15
    every = round_step((bases.end - bases.start) * room / inches)
    found = list(range(-(-(bases.start + FIRST) // every) * every, bases.end + FIRST, every))
    return found or [bases.start + FIRST]


def ticks_of(limits: Limits, inches: float, points: float) -> Iterator[float]:
    """Round values of an axis of importance whose numbers have room."""
    from matplotlib.ticker import MaxNLocator

    most = max(int(inches / (2 * line_inches(points))), 1)
    slack = 1e-9 * (limits[1] - limits[0])
    for value in MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]).tick_values(*limits):
        if limits[0] - slack <= value <= limits[1] + slack:
            yield float(np.where(abs(value) <= slack, 0.0, value))
