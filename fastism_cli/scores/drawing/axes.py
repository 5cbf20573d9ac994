"""Scores on matplotlib axes: each function draws one plot on the axes that it is given, and returns them.

On the x axis stand positions of the contig as people count them, from 1, so that anything else can be drawn over them.
On the - strand they run from right to left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastism_cli.errors import UsageError
from fastism_cli.genome.placement import FIRST
from fastism_cli.scores.drawing.appearance import (
    COLOURS,
    HEAT,
    INK,
    NOT_COMPUTED,
    OTHER_LETTER,
    SHADE,
    letter_paths,
    require_libraries,
)
from fastism_cli.scores.region import Interval, RegionScores
from fastism_cli.scores.tracks import Array

MAX_LETTERS = 1500  # bases; letters of more would be narrower than a pixel, and take seconds to draw
MAX_BARS = 4000
LETTER_WIDTH = 0.95  # of a base
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
    """
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
    """Draw the importance over a whole region as bars, with ``view`` shaded.

    Parameters and returns are those of :func:`logo`.
    """
    axes, _, _ = _begun(region, axes, None)
    kept = strongest_of_groups(region.importance)
    values = np.nan_to_num(region.importance[kept])
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


def _add_letters(axes: Any, letters: str, x: Array, heights: Array, *, reverse: bool) -> None:
    from matplotlib.collections import PathCollection

    width = -LETTER_WIDTH if reverse else LETTER_WIDTH
    paths = letter_paths(letters, x, heights, width=width)
    shapes = PathCollection(paths, facecolors=[colour_of(letter) for letter in letters], linewidths=0)
    shapes.set_transform(axes.transData)
    axes.add_collection(shapes, autolim=False)
