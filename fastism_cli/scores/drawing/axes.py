"""Scores on matplotlib axes: each function draws one plot on the axes that it is given, and returns them.

On the x axis stand positions of the contig as people count them, from 1, so that anything else can be drawn over them.
On the - strand they run from right to left.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

import numpy as np

from fastism_cli.errors import UsageError
from fastism_cli.genome.placement import FIRST
from fastism_cli.optional import require
from fastism_cli.scores.importance import BlockPlaces
from fastism_cli.scores.region import Interval, RegionBlocks, RegionScores
from fastism_cli.scores.tracks import Array

# --- colours, letters and libraries of all pictures ------------------------------------------------------------------

# Told apart with any kind of colour vision, also where bars are too narrow for letters: after Okabe and Ito.
COLOURS = {"A": "#009e73", "C": "#0072b2", "G": "#e6a800", "T": "#c43d00", "U": "#c43d00"}
OTHER_LETTER = "#6a7380"
INK = "#39424e"
NOT_COMPUTED = "#c9ced6"
SHADE = "#f0c75e"
ITEM = "#5a6f8f"  # of tracks
HEAT = "RdBu_r"

LIBRARIES = ("matplotlib", "matplotlib.figure")
FONT = "DejaVu Sans"  # comes with matplotlib
MOST_LETTERS = 1000  # of a line: no paper is wider
HINTED = 1.05  # how much wider text of few pixels may be drawn than its outlines are

STYLE: Any = {
    "font.family": FONT,
    "text.parse_math": False,  # a name may hold dollar signs
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
    "svg.hashsalt": "fastism",  # the same picture is the same file
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
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


@contextmanager
def style() -> Iterator[None]:
    """The context to draw and to save in. A letter that the font lacks is an empty box, without a warning for each."""
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


# --- text ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=10_000)
def text_inches(text: str, points: float) -> float:
    """How wide a line of text is."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    if not text:
        return 0.0
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(family=FONT, size=points), False)
    return HINTED * float(width) / 72


def line_inches(points: float) -> float:
    """How tall a line of text is, with the space to the next."""
    return 1.35 * points / 72


def shortened(text: str, points: float, inches: float) -> str:
    """As much of a text as fits, with dots in its middle where some is left out."""
    if len(text) <= MOST_LETTERS and text_inches(text, points) <= inches:
        return text
    kept, most = 1, min(len(text) - 1, MOST_LETTERS)
    while kept < most:
        middle = (kept + most + 1) // 2
        fits = text_inches(_without_middle(text, middle), points) <= inches
        kept, most = (middle, most) if fits else (kept, middle - 1)
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    tail = kept // 3
    return f"{text[: kept - tail]}\u2026{text[len(text) - tail :] if tail else ''}"


def in_lines(parts: list[str], points: float, inches: float, *, between: str = "   ") -> list[str]:
    """Parts of a title on as few lines as they need; a part that is wider than a line is shortened."""
    lines: list[str] = []
    for part in (shortened(part, points, inches) for part in parts):
        longer = f"{lines[-1]}{between}{part}" if lines else part
        if lines and text_inches(longer, points) <= inches:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


# --- letters as shapes -----------------------------------------------------------------------------------------------


@cache
def _shape(letter: str) -> tuple[Array, Array]:
    """Outline of a letter that fills the unit square: vertices (n, 2) and codes."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    path = TextPath((0, 0), letter, size=10, prop=FontProperties(family=FONT, weight="bold"))
    vertices = np.asarray(path.vertices)
    low, high = vertices[path.codes != 79].min(0), vertices[path.codes != 79].max(0)  # 79 closes an outline
    return (vertices - low) / (high - low), np.asarray(path.codes)


def letter_paths(letters: str, x: Array, heights: Array, *, width: float) -> list[Any]:
    """An outline for each letter, from 0 to its height, centred on ``x``; below 0 they stand on their heads.

    Parameters
    ----------
    letters : str
        n of them.
    x, heights : float (n,)
    width : float
        Negative where the axis runs from right to left.
    """
    from matplotlib.path import Path

    found = []
    for letter, middle, height in zip(letters, x, heights, strict=True):
        vertices, codes = _shape(letter)
        found.append(Path((vertices - [0.5, 0]) * [width, height] + [middle, 0], codes))
    return found


# --- plots -----------------------------------------------------------------------------------------------------------

MAX_LETTERS = 1500  # bases; letters of more would be narrower than a pixel, and take seconds to draw
MAX_BARS = 4000
LETTER_WIDTH = 0.95  # of a base
LETTER_BAND = (0.06, 0.14)  # above the bars of blocks, shares of their axis: free, and letters
LEAST_LETTER, THINNEST = 1.2, 0.8  # points: narrower letters cannot be read, so that bars take their place
Limits = tuple[float, float]


def logo(region: RegionScores, axes: Any = None, *, view: Interval | None = None, ylim: Limits | None = None) -> Any:
    """Draw a sequence logo of importance: each letter is as tall as what it does for the prediction.

    Parameters
    ----------
    region : RegionScores
        Of one target, as ``scores.region(row, track)`` returns it; ``.reversed()`` is on the other strand.
    axes : matplotlib.axes.Axes, optional
        Default: those of pyplot.
    view : Interval, optional
        Bases to show; may pass the ends of the region. Default: all.
    ylim : (float, float), optional
        Default: what is drawn.

    Returns
    -------
    matplotlib.axes.Axes
    """
    axes, view, part = _begun(region, axes, view)
    values = np.nan_to_num(part.importance)
    base = base_points(axes, view)
    if len(values) > MAX_LETTERS or base < LEAST_LETTER:
        kept = strongest_of_groups(values)
        colours = [colour_of(letter) for letter in _text(part, kept)]
        axes.vlines(part.positions[kept] + FIRST, 0, values[kept], color=colours, linewidth=max(base, THINNEST))
    else:
        kept = np.flatnonzero(values)
        _add_letters(axes, _text(part, kept), part.positions[kept] + FIRST, values[kept], reverse=part.reverse)
    axes.axhline(0, color=INK, linewidth=0.5)
    axes.set_ylim(*(ylim or importance_limits([values])))
    axes.set_ylabel("importance")
    return axes


def blocks(region: RegionBlocks, axes: Any = None, *, view: Interval | None = None, ylim: Limits | None = None) -> Any:
    """Draw the delta of each block as a bar, under the letters of the reference.

    A bar is as wide as its block; where blocks overlap, as far as it is from one to the next. Of several contents, the
    bar is their mean, and each has a dot.

    Parameters and returns are those of :func:`logo`; ``ylim`` is without the letters.

    Raises
    ------
    UsageError
        If letters were substituted, not blocks.
    """
    if not isinstance(region, RegionBlocks):
        raise UsageError("blocks: the region holds scores of letters, not of blocks. Use logo or heat_map.")
    axes, view, _ = _begun(region, axes, view)
    part = region.between(view.start, view.end)
    low, high = ylim or block_limits([part])
    middles, widths, heights = part.middles + FIRST - 0.5, bar_widths(part.places), part.delta.mean(-1)
    kept = strongest_of_groups(heights)
    axes.bar(middles[kept], heights[kept], widths[kept], color=ITEM, linewidth=0)
    if part.delta.shape[-1] > 1:
        x, y = np.repeat(middles[kept], part.delta.shape[-1]), part.delta[kept].ravel()
        axes.scatter(x, y, s=2.0, color=INK, linewidths=0)
    axes.axhline(0, color=INK, linewidth=0.5)
    if len(part.seq) <= MAX_LETTERS and base_points(axes, view) >= LEAST_LETTER:
        gap, tall = ((high - low) * share for share in LETTER_BAND)
        columns = np.arange(len(part.seq))
        heights = np.full(len(columns), tall)
        x = part.positions + FIRST
        _add_letters(axes, _text(part, columns), x, heights, reverse=part.reverse, bottom=high + gap)
        high += gap + tall
    axes.set_ylim(low, high)
    axes.set_ylabel("delta")
    return axes


def bar_widths(places: BlockPlaces) -> Array:
    """How wide the bar of each block is, float64 (P,): as the block, or as far as it is to the next one, if less."""
    middles = places.starts + places.widths / 2
    apart = np.diff(np.unique(middles))
    ends = np.concatenate([[np.inf], apart, [np.inf]])
    nearest = np.minimum(ends[:-1], ends[1:])[np.unique(middles, return_inverse=True)[1]]
    return np.minimum(places.widths, nearest)


def block_limits(regions: list[RegionBlocks]) -> Limits:
    """Ends of an axis that shows the deltas of all blocks of some regions, and 0."""
    return importance_limits([region.delta.ravel() for region in regions])


def heat_map(
    region: RegionScores, axes: Any = None, *, view: Interval | None = None, largest: float | None = None
) -> Any:
    """Draw the deltas of all substitutions, a row for each letter; a dot marks the base that is there.

    Parameters
    ----------
    region, axes, view
        As in :func:`logo`.
    largest : float, optional
        The delta of the darkest red, and of the darkest blue below 0. Default: the largest in view.

    Returns
    -------
    matplotlib.axes.Axes
        Its image, for a colour bar, is ``axes.images[0]``.

    Raises
    ------
    UsageError
        If blocks were replaced, not letters.
    """
    if isinstance(region, RegionBlocks):
        raise UsageError("heat_map: the region holds scores of blocks, not of letters. Use blocks.")
    import matplotlib

    axes, view, part = _begun(region, axes, view)
    letters, limit = len(part.letters), largest or largest_delta(part)
    grid = np.full((letters, view.end - view.start), np.nan)
    at = part.positions - view.start
    grid[:, at] = part.delta.T
    colours = matplotlib.colormaps[HEAT].with_extremes(bad=NOT_COMPUTED)
    axes.imshow(
        np.ma.masked_invalid(grid),
        cmap=colours,
        vmin=-limit,
        vmax=limit,
        aspect="auto",
        interpolation="nearest",
        extent=(view.start + FIRST - 0.5, view.end + FIRST - 0.5, letters - 0.5, -0.5),
    )
    known = np.flatnonzero(part.seq < letters) if len(part.seq) <= MAX_LETTERS else np.empty(0, np.int64)
    dot = min(2.0, (0.6 * base_points(axes, view)) ** 2)  # no wider than a base; square points
    axes.scatter(part.positions[known] + FIRST, part.seq[known], s=dot, color=INK, linewidths=0)
    axes.set_yticks(range(letters), list(part.letters))
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    _show(axes, view, reverse=region.reverse)
    return axes


def overview(region: RegionScores, axes: Any = None, *, view: Interval | None = None) -> Any:
    """Draw the importance over a whole region as bars, or the mean delta of its blocks, with ``view`` shaded.

    Parameters and returns are those of :func:`logo`.
    """
    axes, _, _ = _begun(region, axes, None)
    kept = strongest_of_groups(region.outline)
    values = np.nan_to_num(region.outline[kept])
    axes.vlines(region.positions[kept] + FIRST, np.minimum(values, 0), np.maximum(values, 0), color=INK, linewidth=0.6)
    if view is not None:
        axes.axvspan(view.start + FIRST - 0.5, view.end + FIRST - 0.5, color=SHADE, alpha=0.4, linewidth=0)
    axes.set_yticks([])
    return axes


def highlight(axes: Any, start: int, end: int, *, is_heat_map: bool = False) -> Any:
    """Shade bases ``[start, end)`` of the contig, counted from 0; on a heat map, whose colours stay, draw their ends.

    Returns
    -------
    matplotlib.axes.Axes
    """
    first, last = start + FIRST - 0.5, end + FIRST - 0.5
    if is_heat_map:
        for x in (first, last):
            axes.axvline(x, color=INK, linewidth=0.8)
    else:
        axes.axvspan(first, last, color=SHADE, alpha=0.35, linewidth=0, zorder=0)
    return axes


def importance_limits(values: list[Array]) -> Limits:
    """Ends of an axis that shows all of some arrays of importance, and 0."""
    known = [np.nan_to_num(array) for array in values]
    low = min(float(array.min(initial=0)) for array in known)
    high = max(float(array.max(initial=0)) for array in known)
    margin = 0.04 * (high - low)
    return (low - margin if low < 0 else 0.0, high + margin) if margin else (-1.0, 1.0)


def largest_delta(*regions: RegionScores) -> float:
    """The largest absolute value of the deltas of some regions; 1 if all are 0."""
    return max(float(np.abs(x.delta[np.isfinite(x.delta)]).max(initial=0)) for x in regions) or 1.0


def strongest_of_groups(values: Array) -> Array:
    """Index of the largest value, NaN aside, in each of at most ``MAX_BARS`` groups of neighbours."""
    group = max(-(-len(values) // MAX_BARS), 1)
    sizes = np.abs(np.nan_to_num(values))
    starts = range(0, len(values), group)
    return np.array([start + sizes[start : start + group].argmax() for start in starts], np.int64)


def base_points(axes: Any, view: Interval) -> float:
    """How wide a base is on the paper, in points."""
    return float(72 * axes.get_position().width * axes.figure.get_figwidth() / max(view.end - view.start, 1))


def colour_of(letter: str) -> str:
    return COLOURS.get(letter, OTHER_LETTER)


def check_axes(axes: Any) -> Any:
    """The axes to draw on: those that were given, else those of pyplot.

    Raises
    ------
    UsageError
        If they are something else, such as a figure or an array of axes.
    """
    require_libraries("plot")
    if axes is None:
        from matplotlib import pyplot

        return pyplot.gca()
    if not hasattr(axes, "add_collection"):
        raise UsageError(f"axes: one matplotlib Axes is needed. Received: {type(axes).__name__}")
    return axes


def _begun(region: RegionScores, axes: Any, view: Interval | None) -> tuple[Any, Interval, RegionScores]:
    """Axes that show ``view``, and the part of the region in it."""
    axes, view = check_axes(axes), view or region.interval
    _show(axes, view, reverse=region.reverse)
    return axes, view, region.between(view.start, view.end)


def _show(axes: Any, view: Interval, *, reverse: bool) -> None:
    ends = (view.start + FIRST - 0.5, view.end + FIRST - 0.5)
    axes.set_xlim(*(ends[::-1] if reverse else ends))


def _text(part: RegionScores, columns: Array) -> str:
    return "".join(np.array([*part.letters, "N"])[part.seq[columns]])


def _add_letters(axes: Any, letters: str, x: Array, heights: Array, *, reverse: bool, bottom: float = 0.0) -> None:
    from matplotlib.collections import PathCollection
    from matplotlib.transforms import Affine2D

    width = -LETTER_WIDTH if reverse else LETTER_WIDTH
    paths = letter_paths(letters, x, heights, width=width)
    shapes = PathCollection(paths, facecolors=[colour_of(letter) for letter in letters], linewidths=0)
    shapes.set_transform(Affine2D().translate(0, bottom) + axes.transData)
    axes.add_collection(shapes, autolim=False)
