"""Pictures of scores, by matplotlib: ``from fastism_cli import plot``.

``logo``, ``heat_map``, ``blocks``, ``overview``, ``track`` and ``highlight`` each draw one plot on axes that they are
given, and return them; ``figure`` puts them together::

    from fastism_cli import open_scores, plot

    with open_scores("peaks.ism.h5") as scores:
        region = scores.region(0, scores.tracks[0])
    axes = plot.logo(region, view=region.around_site(60))
    plot.highlight(axes, 28_380, 28_395)
"""

from fastism_cli.genome.annotations import open_annotation
from fastism_cli.options.choices import FigureOptions
from fastism_cli.scores.drawing.annotation_axes import track
from fastism_cli.scores.drawing.axes import blocks, heat_map, highlight, logo, overview, style
from fastism_cli.scores.drawing.whole_figure import Contents, Panel, figure, panel_of

__all__ = [
    "Contents",
    "FigureOptions",
    "Panel",
    "blocks",
    "figure",
    "heat_map",
    "highlight",
    "logo",
    "open_annotation",
    "overview",
    "panel_of",
    "style",
    "track",
]
