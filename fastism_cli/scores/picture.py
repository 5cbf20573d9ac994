"""The picture of a region: a sequence logo of importance over a heat map of deltas, by logomaker and matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastism_cli.genome.placement import FIRST
from fastism_cli.optional import require
from fastism_cli.scores.region import Interval, RegionScores
from fastism_cli.scores.tracks import Array, Track
from fastism_cli.scores.written_names import cell

COLOURS = {"A": "#2a8a3a", "C": "#2459c4", "G": "#d18b00", "T": "#c92a2a", "U": "#c92a2a"}
NOT_COMPUTED = "#c9ced6"
LIBRARIES = ("matplotlib", "matplotlib.figure", "pandas", "logomaker")
MAX_LETTERS = 1500  # bases; letters of more would be narrower than a pixel, and take seconds to draw

MAX_BARS = 4000

BASE_INCHES, NARROWEST, WIDEST = 0.085, 7.0, 40.0
MARGIN_INCHES = 1.9  # left and right of the plots together
TICK_INCHES = 1.1  # from one position number to the next, at least

STYLE: Any = {
    "font.size": 9,
    "text.parse_math": False,  # a name may hold dollar signs
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
    "svg.hashsalt": "fastism",  # the same picture is the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def require_libraries(wanted_by: str) -> None:
    """Refuse at once, before anything is read, if the extra ``plot`` is not installed."""
    for name in LIBRARIES:
        require(name, wanted_by=wanted_by, extra="plot")


def use_no_display() -> None:
    """Draw without a display, also if the environment asks for one."""
    import matplotlib

    matplotlib.use("Agg")


def style() -> Any:
    """The context to draw and to save in."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def draw(whole: RegionScores, view: Interval, track: Track) -> Any:
    """Draw ``view`` of a region, with a strip of the whole region above it where it shows only a part.

    Parameters
    ----------
    whole : RegionScores
        On the strand to draw.
    view : Interval
        May pass the ends of the region: nothing is drawn there.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib

    part = whole.between(view.start, view.end)
    figure = matplotlib.figure.Figure(figsize=(_width(view), 4.3), layout="constrained")
    strip, logo, heat, bar = _axes(figure)
    _draw_strip(strip, whole, view)
    _draw_logo(logo, part, view)
    _draw_heat(heat, bar, part, view, largest=_largest(whole.delta))
    _number_places(heat, part, view, figure.get_figwidth() - MARGIN_INCHES)
    figure.suptitle(_title(whole, track), fontsize=10, x=0.01, ha="left")
    return figure


def _width(view: Interval) -> float:
    return min(max(BASE_INCHES * (view.end - view.start) + MARGIN_INCHES, NARROWEST), WIDEST)


def _axes(figure: Any) -> list[Any]:
    grid = figure.add_gridspec(3, 2, height_ratios=[0.45, 1.6, 0.95], width_ratios=[1, 0.12 / figure.get_figwidth()])
    strip, logo, heat = (figure.add_subplot(grid[row, 0]) for row in range(3))
    return [strip, logo, heat, figure.add_subplot(grid[2, 1])]


def _title(whole: RegionScores, track: Track) -> str:
    name = f"{cell(whole.name)}   " if whole.name else ""
    as_expected = (whole.model_strand == "-") == (whole.strand == "-")
    seen = "" if as_expected else f", scored on {whole.model_strand}"
    return f"{name}{whole.interval} ({whole.strand}{seen})   {cell(track.label)}: {whole.prediction:.4g}"


def _largest(delta: Array) -> float:
    return float(np.abs(delta[np.isfinite(delta)]).max(initial=0)) or 1.0


# --- the three plots; column 0 is the leftmost base of the view -----------------------------------------------------


def _columns(part: RegionScores, view: Interval) -> Array:
    """Column of the view of each base of a part."""
    return view.end - 1 - part.positions if part.reverse else part.positions - view.start


def _draw_strip(axes: Any, whole: RegionScores, view: Interval) -> None:
    """Importance over the whole region, the view shaded."""
    from matplotlib.ticker import StrMethodFormatter

    kept = _strongest_of_groups(whole.importance)
    positions, values = whole.positions[kept] + FIRST, np.nan_to_num(whole.importance[kept])
    axes.vlines(positions, np.minimum(values, 0), np.maximum(values, 0), color="#39424e", linewidth=0.6)
    axes.axvspan(view.start + FIRST - 0.5, view.end + FIRST - 0.5, color="#f0c75e", alpha=0.35, linewidth=0)
    ends = (whole.start + FIRST - 0.5, whole.end + FIRST - 0.5)
    axes.set_xlim(*(ends[::-1] if whole.reverse else ends))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.locator_params(axis="x", integer=True)
    axes.tick_params(axis="x", labelsize=7, length=2)
    axes.set_yticks([])
    axes.set_ylabel("whole\nregion", rotation=0, ha="right", va="center")


def _draw_logo(axes: Any, part: RegionScores, view: Interval) -> None:
    columns, values = _columns(part, view), part.importance
    is_drawn = np.isfinite(values) & (values != 0)
    if len(values) > MAX_LETTERS:
        kept = _strongest_of_groups(values)
        colours = [COLOURS.get(letter, "grey") for letter in np.array([*part.letters, "N"])[part.seq[kept]]]
        axes.vlines(columns[kept], 0, np.nan_to_num(values[kept]), color=colours, linewidth=1)
    elif is_drawn.any():
        _draw_letters(axes, part, columns, is_drawn)
    axes.axhline(0, color="#39424e", linewidth=0.6)
    axes.set_xlim(-0.5, view.end - view.start - 0.5)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_ylabel("importance")


def _strongest_of_groups(values: Array) -> Array:
    """Index of the largest value, NaN aside, in each of at most ``MAX_BARS`` groups of neighbours."""
    group = max(-(-len(values) // MAX_BARS), 1)
    sizes = np.abs(np.nan_to_num(values))
    starts = range(0, len(values), group)
    return np.array([start + sizes[start : start + group].argmax() for start in starts], np.int64)


def _draw_letters(axes: Any, part: RegionScores, columns: Array, is_drawn: Array) -> None:
    import logomaker
    import pandas as pd

    heights = np.zeros((len(columns), len(part.letters)))
    at = np.flatnonzero(is_drawn)
    heights[at, part.seq[at]] = part.importance[at]
    table = pd.DataFrame(heights, index=columns, columns=list(part.letters))
    colours = {letter: COLOURS.get(letter, "grey") for letter in part.letters}
    logomaker.Logo(table, ax=axes, color_scheme=colours, font_name="DejaVu Sans", vpad=0.02, width=0.95)


def _draw_heat(axes: Any, bar: Any, part: RegionScores, view: Interval, *, largest: float) -> None:
    import matplotlib

    letters, wide = len(part.letters), view.end - view.start
    grid = np.full((letters, wide), np.nan)
    grid[:, _columns(part, view)] = part.delta.T
    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad=NOT_COMPUTED)
    image = axes.imshow(
        np.ma.masked_invalid(grid), cmap=colours, vmin=-largest, vmax=largest, aspect="auto", interpolation="nearest"
    )
    known = np.flatnonzero(part.seq < letters) if len(part.seq) <= MAX_LETTERS else np.empty(0, np.int64)
    axes.scatter(_columns(part, view)[known], part.seq[known], s=2, color="#39424e", linewidths=0)
    axes.set_yticks(range(letters), list(part.letters))
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.figure.colorbar(image, cax=bar, label="delta")


def _number_places(axes: Any, part: RegionScores, view: Interval, inches: float) -> None:
    """Numbers at round positions of the contig, under the bases that have them."""
    every = _round_step((view.end - view.start) / max(inches / TICK_INCHES, 1))
    numbers = np.arange(-(-(view.start + FIRST) // every) * every, view.end + FIRST, every)
    places = numbers - FIRST
    columns = view.end - 1 - places if part.reverse else places - view.start
    axes.set_xticks(columns, [f"{number:,}" for number in numbers])
    strand = "-" if part.reverse else "+"
    axes.set_xlabel(f"{part.chrom}, {strand} strand, base counted from {FIRST}")


def _round_step(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, ... from ``least`` on."""
    power = 1
    while 5 * power < least:
        power *= 10
    return next(step * power for step in (1, 2, 5) if step * power >= least)
