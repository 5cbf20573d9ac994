"""Features, genes, curves and interactions under a logo, on matplotlib axes with positions of the contig."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastism_cli.errors import cell
from fastism_cli.genome.annotations import Curve, Feature, Features, Gene, Genes, Shown
from fastism_cli.genome.placement import FIRST
from fastism_cli.options.choices import LEAST_POINTS
from fastism_cli.scores.drawing.axes import (
    HEAT,
    INK,
    ITEM,
    NOT_COMPUTED,
    check_axes,
    line_inches,
    shortened,
    text_inches,
)
from fastism_cli.scores.importance import PairMap

MAX_LANES = 8
BOX_INCHES = 0.07
CURVE_INCHES = 0.4
FLATTEST_TRIANGLE, TALLEST_TRIANGLE = 0.5, 3.0
GAP_INCHES = 0.04  # between neighbours in a lane
TIP_INCHES = 0.05  # of an arrow
CHEVRON_INCHES = 0.16  # from one to the next along an intron


class Scale(NamedTuple):
    """How positions lie on the paper.

    Attributes
    ----------
    start, end : int
        Bases in view, counted from 0.
    inches : float
        Width of the plot.
    reverse : bool
        Whether positions run from right to left.
    """

    start: int
    end: int
    inches: float
    reverse: bool

    def x(self, position: float) -> float:
        """Inches from the left end of the plot, of the edge before a base."""
        along = (position - self.start) * self.inches / (self.end - self.start)
        return self.inches - along if self.reverse else along

    def position(self, x: float) -> float:
        """What lies ``x`` inches from the left, in numbers of the axis."""
        along = self.inches - x if self.reverse else x
        return self.start + along * (self.end - self.start) / self.inches + FIRST - 0.5


class Placed(NamedTuple):
    """An item in its lane; ``left`` and ``right`` of its box and ``middle`` of its name are inches from the left."""

    item: Any
    lane: int
    name: str
    left: float
    right: float
    middle: float


def placed(items: Sequence[Any], scale: Scale, points: float) -> tuple[list[Placed], int]:
    """Put items into lanes in which neither boxes nor names overlap.

    Returns
    -------
    list of Placed
    int
        How many items have no place in ``MAX_LANES`` lanes.
    """
    ends: list[float] = []
    found: list[Placed] = []
    extents = sorted((_extent(item, scale, points) for item in items), key=lambda extent: extent[0])
    for left_of_all, right_of_all, one in extents:
        free = (lane for lane, end in enumerate(ends) if end + GAP_INCHES <= left_of_all)
        lane = next(free, len(ends))
        if lane == len(ends):
            if lane == MAX_LANES:
                continue
            ends.append(0.0)
        ends[lane] = right_of_all
        found.append(one._replace(lane=lane))
    return found, len(items) - len(found)


def _extent(item: Any, scale: Scale, points: float) -> tuple[float, float, Placed]:
    """Where an item and its name begin and end, within the plot."""
    left, right = sorted(min(max(scale.x(at), 0.0), scale.inches) for at in (item.start, item.end))
    name = shortened(_name(item), points, scale.inches)
    half = text_inches(name, points) / 2
    middle = min(max((left + right) / 2, half), scale.inches - half)
    return min(left, middle - half), max(right, middle + half), Placed(item, 0, name, left, right, middle)


def _name(item: Any) -> str:
    name = cell(item.name)
    return f"{name} ({item.strand})" if isinstance(item, Gene) and item.strand != "." else name


def lane_inches(points: float) -> float:
    return line_inches(points) + BOX_INCHES + GAP_INCHES


def inches_of(shown: Shown | PairMap, scale: Scale, points: float) -> float:
    """How tall the plot of a track is; cells of pairs are squares that stand on a corner, within limits."""
    if isinstance(shown, PairMap):
        of_base = scale.inches / (scale.end - scale.start)
        return min(max(of_base * (shown.furthest + 1) / 2, FLATTEST_TRIANGLE), TALLEST_TRIANGLE)
    if isinstance(shown, Curve):
        return CURVE_INCHES
    return _tall(*placed(shown.items, scale, points), points)


def _tall(found: Sequence[Placed], missing: int, points: float) -> float:
    """Of lanes, and of a line that says how many items have none."""
    lanes = max((one.lane + 1 for one in found), default=1)
    return lanes * lane_inches(points) + (line_inches(points) if missing else 0.0)


def track(
    shown: Shown | PairMap,
    axes: Any = None,
    *,
    points: float = LEAST_POINTS + 1,
    ylim: tuple[float, float] | None = None,
) -> Any:
    """Draw a track: boxes with names for a BED, genes with exons and strand for a GTF, a curve for a bigWig.

    Parameters
    ----------
    shown : Features, Genes or Curve
        As ``open_annotation(FILE, [place]).within(*place)`` returns it.
    axes : matplotlib.axes.Axes, optional
        That show positions counted from 1, as :func:`logo` leaves them; best below it, with ``sharex``. Default: those
        of pyplot.
    points : float
        Size of names.
    ylim : (float, float), optional
        Of a curve. Default: its lowest and highest number, and 0.

    Returns
    -------
    matplotlib.axes.Axes
    """
    axes = check_axes(axes)
    if isinstance(shown, PairMap):
        _draw_pairs(axes, shown)
    elif isinstance(shown, Curve):
        _draw_curve(axes, shown, ylim or curve_limits([shown]))
    else:
        _draw_items(axes, shown, points)
    return axes


def _draw_pairs(axes: Any, shown: PairMap) -> None:
    """A triangle: the cell of two bases lies below the middle between them, the further apart the deeper."""
    import matplotlib
    from matplotlib.collections import PolyCollection

    middle, apart = shown.ends.mean(1) + FIRST, np.abs(np.diff(shown.ends, axis=1))[:, 0]
    corners = np.stack([middle, apart], axis=1)[:, None] + np.array([[-0.5, 0], [0, -1], [0.5, 0], [0, 1]])
    colours = matplotlib.colormaps[HEAT].with_extremes(bad=NOT_COMPUTED)
    cells = PolyCollection(list(corners), cmap=colours, edgecolors="none", antialiaseds=False)
    cells.set_array(np.ma.masked_invalid(shown.values))
    cells.set_clim(-shown.largest, shown.largest)
    axes.add_collection(cells)
    axes.set_ylim(shown.furthest + 1, 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def scale_of(axes: Any) -> Scale:
    """How positions lie on axes that were drawn on."""
    left, right = axes.get_xlim()
    start, end = (round(min(left, right) - FIRST + 0.5), round(max(left, right) - FIRST + 0.5))
    return Scale(start, end, axes.get_position().width * axes.figure.get_figwidth(), right < left)


def _draw_items(axes: Any, shown: Features | Genes, points: float) -> None:
    scale, tall = scale_of(axes), lane_inches(points)
    found, missing = placed(shown.items, scale, points)
    for one in found:
        box = one.lane * tall + line_inches(points)
        x = scale.position(one.middle)
        axes.text(x, box - 0.02, one.name, size=points, ha="center", va="bottom", color=INK)
        if isinstance(one.item, Gene):
            _draw_gene(axes, one, scale, box)
        else:
            _draw_feature(axes, one, scale, box)
    bottom = _tall(found, missing, points)
    axes.set_ylim(bottom, 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if missing:
        x = scale.position(scale.inches)
        axes.text(x, bottom, f"{missing:,} more", size=points, ha="right", va="bottom", color=INK)


def _draw_feature(axes: Any, one: Placed, scale: Scale, top: float) -> None:
    """A box; an arrow, where the strand is known and its end in view."""
    left, right = one.left, max(one.right, one.left + 0.01)
    tip = min(TIP_INCHES, (right - left) / 2)
    bottom, middle = top + BOX_INCHES, top + BOX_INCHES / 2
    if not _ends_in_view(one.item, scale):
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    elif _points_right(one.item, scale):
        corners = [(left, top), (right - tip, top), (right, middle), (right - tip, bottom), (left, bottom)]
    else:
        corners = [(right, top), (left + tip, top), (left, middle), (left + tip, bottom), (right, bottom)]
    axes.fill(*zip(*((scale.position(x), y) for x, y in corners), strict=True), color=ITEM, linewidth=0)


def _ends_in_view(item: Feature, scale: Scale) -> bool:
    """Whether the 3' end is known, and in view."""
    return item.end <= scale.end if item.strand == "+" else item.strand == "-" and item.start >= scale.start


def _points_right(item: Feature | Gene, scale: Scale) -> bool:
    return item.strand == ("-" if scale.reverse else "+")


def _draw_gene(axes: Any, one: Placed, scale: Scale, top: float) -> None:
    """A line with chevrons along its strand; exons are half as tall as what is coding."""
    middle = top + BOX_INCHES / 2
    axes.plot([scale.position(one.left), scale.position(one.right)], [middle, middle], color=ITEM, linewidth=0.7)
    for stretches, tall in ((one.item.exons, BOX_INCHES / 2), (one.item.coding, BOX_INCHES)):
        for start, end in stretches:
            if start < scale.end and end > scale.start:
                x = [max(start, scale.start) + FIRST - 0.5, min(end, scale.end) + FIRST - 0.5]
                axes.fill_between(x, middle - tall / 2, middle + tall / 2, color=ITEM, linewidth=0)
    if one.item.strand in ("+", "-"):
        inside = np.arange(one.left + CHEVRON_INCHES / 2, one.right, CHEVRON_INCHES)
        free = [x for x in inside if not _in_exon(one.item, scale.position(x) - FIRST + 0.5)]
        marker = "4" if _points_right(one.item, scale) else "3"  # tri_right and tri_left
        axes.plot([scale.position(x) for x in free], [middle] * len(free), marker, color=ITEM, markersize=3)


def _in_exon(gene: Gene, position: float) -> bool:
    return any(start <= position < end for start, end in gene.exons)


def curve_limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Ends of an axis that shows all of some curves, and 0."""
    known = [np.nan_to_num(curve.signal.values) for curve in curves]
    low = min(float(values.min(initial=0)) for values in known)
    high = max(float(values.max(initial=0)) for values in known)
    return low, high if high > low else low + 1


def curve_number(value: float) -> str:
    """As it stands at the axis of a curve."""
    return f"{value:.3g}"


def _draw_curve(axes: Any, shown: Curve, limits: tuple[float, float]) -> None:
    start, values = shown.signal
    edges = np.arange(len(values) + 1) + start + FIRST - 0.5
    axes.stairs(np.nan_to_num(values), edges, fill=True, color=ITEM, linewidth=0)
    axes.set_ylim(*limits)
    axes.set_yticks(limits, [curve_number(value) for value in limits])
    axes.axhline(0, color=INK, linewidth=0.5)
