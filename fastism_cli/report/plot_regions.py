"""Draw pictures of regions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from fastism_cli.genome.annotations import files_of
from fastism_cli.report.picture_contents import Chosen, Pictures, PlotOptions, each_contents
from fastism_cli.report.picture_files import files_for, write_pictures
from fastism_cli.results.outputs import check_new_file
from fastism_cli.results.scores import Scores, open_scores
from fastism_cli.results.staging import staged
from fastism_cli.scores.drawing.appearance import require_libraries, style, use_no_display
from fastism_cli.scores.drawing.whole_figure import figure
from fastism_cli.scores.region import Interval

Paths = str | os.PathLike[str]
Tick = Callable[[int, int], None]  # is told how many pictures are drawn, of how many


def plot_regions(
    paths: Paths | Sequence[Paths],
    options: PlotOptions,
    output: str | None = None,
    *,
    format: str | None = None,
    overwrite: bool = False,
    tick: Tick = lambda done, all: None,
) -> list[str]:
    """Draw regions of one or several result files: one picture a file, or all on the pages of one PDF.

    Parameters
    ----------
    paths : str or path-like, or several
        Finished result files. Of several, the same bases are drawn one below the other.
    options : PlotOptions
        Which regions to draw, and how.
    output : str, optional
        A picture (.png, .svg, .pdf), or a folder for one file a region; a PDF holds any number of regions. Default:
        ``<stem>.<name or place>.png`` for one region, ``<stem>.plots.pdf`` for several, in this folder.
    format : "png", "svg" or "pdf", optional
        Default: that of ``output``; png in a folder.
    tick : callable, optional
        Called with the number of pictures that are drawn, and of all, before the first and after each.

    Returns
    -------
    list of str
        The files that were written.

    Raises
    ------
    UsageError
        If there is no such region or target, or the output does not suit them; nothing is written.
    """
    require_libraries("fastism plot")
    use_no_display()
    with ExitStack() as stack:
        results = [stack.enter_context(open_scores(path)) for path in _listed(paths)]
        for scores in results:
            scores.require_bases()
        pictures = Pictures(results, options)
        labels = [_label(results[0], chosen, options) for chosen in pictures.chosen]
        files = files_for(results[0].path, labels, output, format)
        protected = [name for scores in results for name in scores.protected]
        for file in files:
            check_new_file(file, [*protected, *files_of(options.tracks, options.highlights)], overwrite=overwrite)
        with style(), staged(files[0], overwrite=overwrite) as staging:
            drawn = _drawn(pictures, tick)
            write_pictures(drawn, [staging.path(file) for file in files], dpi=options.figure.dpi)
            staging.move()
    return files


def _listed(paths: Paths | Sequence[Paths]) -> list[Paths]:
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


def _drawn(pictures: Pictures, tick: Tick) -> Iterator[Any]:
    tick(0, len(pictures.chosen))
    for done, contents in enumerate(each_contents(pictures), 1):
        yield figure(contents, pictures.options.figure)
        tick(done, len(pictures.chosen))


def _label(scores: Scores, chosen: Chosen, options: PlotOptions) -> str:
    """What a picture is called in the name of its file."""
    if options.region and not options.names:
        return options.region
    columns, row = scores.regions, chosen.rows[0]
    return columns["name"][row] or str(Interval(columns["chrom"][row], columns["start"][row], columns["end"][row]))
