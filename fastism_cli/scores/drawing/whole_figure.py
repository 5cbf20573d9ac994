"""A whole figure: logos of one or several targets and results on one axis, heat maps, tracks, in one row or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastism_cli.errors import UsageError, cell
from fastism_cli.genome.annotations import AnnotationFile, Curve
from fastism_cli.genome.placement import FIRST
from fastism_cli.options.choices import NO_TITLE, FigureOptions
from fastism_cli.scores.drawing import axes as plots
from fastism_cli.scores.drawing.annotation_axes import Scale, curve_limits, curve_number, inches_of, track
from fastism_cli.scores.drawing.axes import Limits, in_lines, line_inches, shortened
from fastism_cli.scores.drawing.placing import (
    BAR_GAP,
    BAR_INCHES,
    EDGE,
    FLATTEST,
    LABEL_SHARE,
    NARROWEST,
    TICK,
    WHOLE,
    Box,
    Margins,
    Parts,
    Placing,
    Row,
    margins_of,
    numbered,
    placing_of,
    rows_of,
    ticks_of,
    width_of,
)
from fastism_cli.scores.importance import PairMap
from fastism_cli.scores.region import Interval, RegionBlocks, RegionScores


@dataclass(frozen=True)
class Panel:
    """Scores of one target of one result.

    Attributes
    ----------
    region : RegionScores
        On the strand to draw.
    label : str
        What stands above it: target and prediction.
    """

    region: RegionScores
    label: str


@dataclass(frozen=True)
class Contents:
    """What a figure shows.

    Attributes
    ----------
    panels : sequence of Panel
        One below the other; all on one strand.
    view : Interval
        Bases to show; may pass the ends of a region: nothing is drawn there.
    tracks : sequence of AnnotationFile or PairMap
        Below them.
    highlights : sequence of Interval
        Bases to shade; what lies outside of the view is left out.
    title : sequence of str
        Parts of it. Default: name, place and strand of the first region, and the label of a panel that is alone.
    """

    panels: Sequence[Panel]
    view: Interval
    tracks: Sequence[AnnotationFile | PairMap] = ()
    highlights: Sequence[Interval] = ()
    title: Sequence[str] = ()

    @property
    def reverse(self) -> bool:
        return self.panels[0].region.reverse


def panel_of(region: RegionScores, label: str) -> Panel:
    """A panel of a target: ``ctcf: prediction 6.38``."""
    return Panel(region, f"{cell(label)}: prediction {number(region.prediction)}")


def number(value: float) -> str:
    """Three digits that matter, or a whole number."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def heading(region: RegionScores) -> list[str]:
    """Name, place and strand of a region: the record's, and the one that was scored, where it is another."""
    as_expected = (region.model_strand == "-") == (region.strand == "-")
    seen = "" if as_expected else f", scored on {region.model_strand}"
    name = [cell(region.name)] if region.name else []
    return [*name, f"{region.interval} ({region.strand}{seen})"]


def figure(contents: Contents, options: FigureOptions | None = None) -> Any:
    """Draw a figure.

    Parameters
    ----------
    contents : Contents
    options : FigureOptions, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    UsageError
        If it does not fit into its width or height.
    """
    return _Drawing(contents, options or FigureOptions()).drawn()


def _limits_of(regions: list[RegionScores]) -> Limits:
    """Ends of an axis of logos, or of blocks."""
    blocks = [region for region in regions if isinstance(region, RegionBlocks)]
    return plots.block_limits(blocks) if blocks else plots.importance_limits([x.importance for x in regions])


class _Drawing:
    """One figure: what is shown, measured and placed."""

    def __init__(self, contents: Contents, options: FigureOptions) -> None:
        self.contents, self.options = contents, options
        self.regions = [panel.region for panel in contents.panels]
        self.limits = self._limits()
        self.largest = self._largest()
        self.has_heat = self._has_heat()
        self.rows = rows_of(contents.view, options.wrap, reverse=contents.reverse)
        self.shown = [[one.within(*row) for one in contents.tracks] for row in self.rows]
        self.curve_limits = self._curve_limits()
        self.labels = self._track_labels()
        self.margins = self._margins()
        self.width = width_of(self.rows[0].end - self.rows[0].start, self.margins, options)
        self.title = self._title()
        self.placing = placing_of(self._parts(), self.width, self.margins, options)

    # -- what is measured --

    def _has_heat(self) -> bool:
        of_blocks = any(isinstance(region, RegionBlocks) for region in self.regions)
        if of_blocks and self.options.heat_map:
            raise UsageError("a heat map shows deltas of single letters, and these are of blocks. Leave it out.")
        if self.options.heat_map is None:
            return len(self.regions) == 1 and not of_blocks
        return self.options.heat_map

    def _limits(self) -> list[Limits]:
        """Of each panel: one for all logos, and one for all blocks, unless each has its own."""
        view = self.contents.view
        shown = [region.between(view.start, view.end) for region in self.regions]
        if self.options.ylim is not None:
            return [self.options.ylim for _ in shown]
        if self.options.own_y:
            return [_limits_of([one]) for one in shown]
        return [_limits_of([other for other in shown if type(other) is type(one)]) for one in shown]

    def _largest(self) -> list[float]:
        view = self.contents.view
        shown = [region.between(view.start, view.end) for region in self.regions]
        if self.options.own_y:
            return [plots.largest_delta(region) for region in shown]
        return [plots.largest_delta(*shown)] * len(shown)

    def _bar_ends(self) -> list[str]:
        return [text for largest in self.largest for text in (f"{-largest:.2g}", "0", f"{largest:.2g}")]

    def _curve_limits(self) -> list[Limits | None]:
        """Of each track, one for all rows; None where it is no curve."""
        by_track = zip(*self.shown, strict=True)
        return [curve_limits(rows) if isinstance(rows[0], Curve) else None for rows in by_track]

    def _track_labels(self) -> list[str]:
        most = LABEL_SHARE * (self.options.width or NARROWEST)
        return [shortened(cell(one.label), self.options.small, most) for one in self.contents.tracks]

    def _margins(self) -> Margins:
        small = self.options.small
        ticks = [f"{x:.4g}" for limits in self.limits for x in ticks_of(limits, FLATTEST, small)]
        ticks += [f"{x:.4g}" for limits in self.limits for x in ticks_of(limits, 2.0, small)]
        ticks += [curve_number(x) for limits in self.curve_limits if limits for x in limits]
        bar = self._bar_ends() if self.has_heat else []
        return margins_of(self.contents.view, ticks, self.labels, bar, self.options)

    def _title(self) -> list[str]:
        points, inches = self.options.font_size, self.width - 2 * EDGE
        if self.options.title == NO_TITLE:
            return []
        if self.options.title is not None:
            return in_lines(cell(self.options.title).split(), points, inches, between=" ")
        parts = list(self.contents.title) or heading(self.regions[0])
        return in_lines(parts + [panel.label for panel in self._alone()], points, inches)

    def _alone(self) -> Sequence[Panel]:
        """The panel without a caption, if there is one alone: its label is in the title."""
        return self.contents.panels if len(self.regions) == 1 else ()

    def _parts(self) -> Parts:
        whole, view = self.regions[0].interval, self.contents.view
        is_part = view.start > whole.start or view.end < whole.end
        plot = self.width - self.margins.left - self.margins.right
        heights = [[inches_of(one, self._scale(row, plot), self.options.small) for one in shown]
                   for row, shown in zip(self.rows, self.shown, strict=True)]  # fmt: skip
        return Parts(
            rows=self.rows,
            panels=len(self.regions),
            has_heat=self.has_heat,
            has_overview=is_part and len(self.regions) == 1,
            has_captions=len(self.regions) > 1,
            letters=len(self.regions[0].letters),
            title_lines=len(self.title),
            tracks=tuple(map(tuple, heights)),
            curves=tuple(isinstance(one, Curve) for one in self.shown[0]),
        )

    def _scale(self, row: Interval, plot: float) -> Scale:
        wide = plot * (row.end - row.start) / (self.rows[0].end - self.rows[0].start)
        return Scale(row.start, row.end, wide, self.contents.reverse)

    # -- what is drawn --

    def drawn(self) -> Any:
        import matplotlib

        placing: Placing = self.placing
        self.figure = matplotlib.figure.Figure(figsize=(placing.width, placing.height))
        for i, text in enumerate(self.title):
            y = EDGE + (i + 0.5) * line_inches(self.options.font_size)
            self._text(text, EDGE, y, size=self.options.font_size, ha="left")
        if placing.overview is not None:
            self._draw_overview(placing.overview)
        for i, row in enumerate(placing.rows):
            self._draw_row(i, row)
        strand = "-" if self.contents.reverse else "+"
        words = f"{cell(self.contents.view.chrom)}, {strand} strand, base counted from {FIRST}"
        middle = (self.margins.left + placing.width - self.margins.right) / 2
        room = 2 * min(middle, placing.width - middle) - 2 * EDGE
        self._text(shortened(words, self.options.small, room), middle, placing.footer)
        return self.figure

    def _draw_overview(self, box: Box) -> None:
        region = self.regions[0]
        axes = plots.overview(region, self._axes(box), view=self.contents.view)
        self._number(axes, region.interval, box.width)
        self._left_text("\n".join(WHOLE), box)

    def _draw_row(self, i: int, row: Row) -> None:
        drawn = [self._draw_logo(k, box, row.bases) for k, box in enumerate(row.logos)]
        drawn += [self._draw_heat(k, box, row.bases, has_bar=i == 0) for k, box in enumerate(row.heats)]
        for shown, limits, label, box in zip(self.shown[i], self.curve_limits, self.labels, row.tracks, strict=True):
            axes = self._axes(box)
            axes.set_xlim(drawn[0].get_xlim())
            track(shown, axes, points=self.options.small, ylim=limits)
            axes.tick_params(axis="y", labelsize=self.options.small, length=2, pad=2)
            self._left_text(label, box)
            drawn.append(axes)
        lowest = drawn[-1] if row.tracks or not row.heats else drawn[len(row.logos) + len(row.heats) - 1]
        for axes in drawn:
            axes.set_xticks([])
            axes.spines["bottom"].set_visible(False)
            self._shade(axes, row.bases, is_heat_map=bool(axes.images))
        self._number(lowest, row.bases, row.logos[0].width)

    def _draw_logo(self, k: int, box: Box, bases: Interval) -> Any:
        region = self.regions[k]
        if isinstance(region, RegionBlocks):
            axes = plots.blocks(region, self._axes(box), view=bases, ylim=self.limits[k])
        else:
            axes = plots.logo(region, self._axes(box), view=bases, ylim=self.limits[k])
        values = list(ticks_of(self.limits[k], box.height, self.options.small))
        axes.set_yticks(values, [f"{value:.4g}" for value in values])
        axes.tick_params(axis="y", labelsize=self.options.small, length=2, pad=2)
        words = axes.get_ylabel()
        axes.set_ylabel("")
        x, y = EDGE + line_inches(self.options.small) / 2, box.y + box.height / 2
        self._text(words, x, y, rotation=90)
        if len(self.regions) > 1:
            points = self.options.font_size
            label = shortened(self.contents.panels[k].label, points, self.width - self.margins.right - box.x)
            self._text(label, box.x, box.y - line_inches(points) / 2, size=points, ha="left")
        return axes

    def _draw_heat(self, k: int, box: Box, bases: Interval, *, has_bar: bool) -> Any:
        small, largest = self.options.small, self.largest[k]
        axes = plots.heat_map(self.regions[k], self._axes(box), view=bases, largest=largest)
        axes.tick_params(axis="y", labelsize=small, pad=3)
        if has_bar:
            bar = self._axes(Box(self.width - self.margins.right + BAR_GAP, box.y, BAR_INCHES, box.height))
            self.figure.colorbar(axes.images[0], cax=bar)
            bar.set_yticks([-largest, 0, largest], [f"{-largest:.2g}", "0", f"{largest:.2g}"])
            bar.tick_params(axis="y", labelsize=small, length=2, pad=2)
            self._text("delta", self.width - EDGE - line_inches(small) / 2, box.y + box.height / 2, rotation=90)
        return axes

    def _shade(self, axes: Any, bases: Interval, *, is_heat_map: bool) -> None:
        for chrom, start, end in self.contents.highlights:
            first, stop = max(start, bases.start), min(end, bases.end)
            if chrom == bases.chrom and first < stop:
                plots.highlight(axes, first, stop, is_heat_map=is_heat_map)

    def _number(self, axes: Any, bases: Interval, inches: float) -> None:
        """Numbers at round positions of the contig, under the bases that have them."""
        found = numbered(bases, inches, self.options.small)
        axes.set_xticks(found, [f"{value:,}" for value in found])
        axes.tick_params(axis="x", labelsize=self.options.small, length=2, pad=2)

    # -- paper --

    def _axes(self, box: Box) -> Any:
        wide, tall = self.placing.width, self.placing.height
        place = (box.x / wide, 1 - (box.y + box.height) / tall, box.width / wide, box.height / tall)
        return self.figure.add_axes(place, label=f"axes {len(self.figure.axes)}")

    def _text(
        self, text: str, x: float, y: float, *, size: float | None = None, ha: str = "center", rotation: int = 0
    ) -> None:
        """A line of text whose middle is ``y`` inches below the upper end of the paper."""
        place = (x / self.placing.width, 1 - y / self.placing.height)
        self.figure.text(*place, text, size=size or self.options.small, ha=ha, va="center", rotation=rotation)

    def _left_text(self, text: str, box: Box) -> None:
        self._text(text, box.x - TICK, box.y + box.height / 2, ha="right")
