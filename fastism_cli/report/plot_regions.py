"""Draw pictures of regions: each into a file, or all on the pages of one PDF."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

from fastism_cli.errors import OutputError, UsageError, part_of_name
from fastism_cli.genome.annotations import files_of
from fastism_cli.options.choices import PICTURE_FORMATS
from fastism_cli.options.run_options import RESULT_ENDINGS, stem_of
from fastism_cli.report.picture_contents import Chosen, Pictures, PlotOptions, each_contents
from fastism_cli.results.outputs import check_new_file
from fastism_cli.results.scores import Scores, open_scores
from fastism_cli.results.staging import staged
from fastism_cli.scores.drawing.axes import require_libraries, style, use_no_display
from fastism_cli.scores.drawing.whole_figure import figure
from fastism_cli.scores.region import Interval

# --- which files pictures go to --------------------------------------------------------------------------------------

METADATA: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def files_for(result: str, labels: Sequence[str], output: str | None, format: str | None) -> list[str]:
    """The files to write: one for each picture, or one for all.

    Parameters
    ----------
    result : str
        The file that default names are made of.
    labels : sequence of str
        What each picture is called.
    output : str or None
        A picture, or a folder. Default: ``<stem>.<label>.png`` for one, ``<stem>.plots.pdf`` for several.
    format : "png", "svg", "pdf" or None

    Raises
    ------
    UsageError
        If the output does not suit the pictures.
    """
    if output is None:
        output = _default_output(result, labels, format)
    suffix = Path(output).suffix.lower().removeprefix(".")
    if output.endswith(("/", os.sep)) or os.path.isdir(output):
        return _in_folder(labels, output, format or "png")
    if suffix not in PICTURE_FORMATS:
        raise UsageError(f"-o {output}: name a .png, .svg or .pdf, or a folder (with / at its end).")
    if format not in (None, suffix):
        raise UsageError(f"-o {output} does not go with --format {format}.")
    if len(labels) > 1 and suffix != "pdf":
        raise UsageError(
            f"{len(labels)} regions do not go into one {suffix}. Name a .pdf, which has a page for each, or a folder: "
            f"-o {Path(output).stem}/"
        )
    return [output]


def _default_output(result: str, labels: Sequence[str], format: str | None) -> str:
    stem = stem_of(result, RESULT_ENDINGS)
    if len(labels) > 1:
        return f"{stem}.plots.pdf" if format in (None, "pdf") else f"{stem}.plots/"
    return f"{stem}.{_safe(labels[0])}.{format or 'png'}"


def _in_folder(labels: Sequence[str], folder: str, format: str) -> list[str]:
    """``01_peak_25.png``: in the order of asking."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder {folder} cannot be made: {error.strerror}") from error
    digits = max(len(str(len(labels))), 2)
    names = [f"{i:0{digits}d}_{_safe(label)}.{format}" for i, label in enumerate(labels, 1)]
    return [os.path.join(folder, name) for name in names]


def _safe(text: str) -> str:
    """A name as a part of a file name, without commas, and neither hidden nor with a dot or dash at its ends."""
    return part_of_name(text.replace(",", ""), "-").strip(".-") or "region"


def write_pictures(pictures: Iterator[Any], files: Sequence[str], *, dpi: int) -> None:
    """Write each picture to its file, or all of them to the only file, a PDF.

    Each file is made in memory, as matplotlib ends a PDF on a full disk in an error of zlib.
    """
    format = Path(files[0]).suffix.lower().removeprefix(".")
    if format == "pdf" and len(files) == 1:
        from matplotlib.backends.backend_pdf import PdfPages

        whole = BytesIO()
        with PdfPages(whole, metadata=METADATA[format]) as pages:
            for figure in pictures:
                pages.savefig(figure)
        Path(files[0]).write_bytes(whole.getvalue())
        return
    for figure, file in zip(pictures, files, strict=True):
        picture = BytesIO()
        figure.savefig(picture, format=format, dpi=dpi, metadata=METADATA[format])
        Path(file).write_bytes(picture.getvalue())


# --- drawing ---------------------------------------------------------------------------------------------------------

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
