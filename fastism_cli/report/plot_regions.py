"""Draw pictures of regions, each in its file or all in one PDF."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from fastism_cli.errors import OutputError, UsageError
from fastism_cli.options.choices import PICTURE_BASES, PICTURE_FORMATS
from fastism_cli.options.run_options import RESULT_ENDINGS, stem_of
from fastism_cli.report.choose import only_track, parse_interval, row_over, rows_by_name, strongest_rows
from fastism_cli.results.outputs import check_new_file
from fastism_cli.results.scores import Scores, open_scores
from fastism_cli.results.staging import staged
from fastism_cli.scores import picture
from fastism_cli.scores.region import Interval
from fastism_cli.scores.tracks import Track
from fastism_cli.scores.written_names import part_of_name

DPI = 150
METADATA: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


@dataclass(frozen=True)
class PlotOptions:
    """What to draw: ``region``, ``names``, both (that stretch of those rows), or ``top``.

    Attributes
    ----------
    region : str or None
        ``chr1:1000-1200``, from 1 with the last base
    names : sequence of str
    top : int or None
    targets : sequence of str
        ``[HEAD=]NAME`` of the one to draw; may be left out where the file has only one.
    bases : int or None
        How many bases to show of a row that was not asked for by ``region``; None shows all.
    strand : "+", "-" or "region"
        Which to draw; "region" is what the model saw.

    Raises
    ------
    UsageError
        If no region is asked for, or options do not go together.
    """

    region: str | None = None
    names: Sequence[str] = ()
    top: int | None = None
    targets: Sequence[str] = ()
    bases: int | None = PICTURE_BASES
    strand: str = "+"

    def __post_init__(self) -> None:
        if not (self.region or self.names or self.top):
            raise UsageError("which regions? Give --region chr1:1000-1200, --name NAME or --top 20.")
        if self.top and (self.region or self.names):
            raise UsageError("--top chooses regions by itself; it does not go with --region or --name.")


def plot_regions(
    path: str | os.PathLike[str],
    options: PlotOptions,
    output: str | None = None,
    *,
    format: str | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Draw regions of a result file: one picture a file, or all on the pages of one PDF.

    Parameters
    ----------
    path : str or path-like
        A finished result file.
    options : PlotOptions
        Which regions to draw, and how.
    output : str, optional
        A picture (.png, .svg, .pdf), or a folder for one file a region; a PDF holds any number of regions. Default:
        ``<stem>.<name or place>.png`` for one region, ``<stem>.plots.pdf`` for several, in this folder.
    format : "png", "svg" or "pdf", optional
        Default: that of ``output``; png in a folder.

    Returns
    -------
    list of str
        The files that were written.

    Raises
    ------
    UsageError
        If there is no such region or target, or the output does not suit them; nothing is written.
    """
    picture.require_libraries("fastism plot")
    picture.use_no_display()
    with open_scores(path) as scores:
        scores.require_bases()
        track = only_track(scores, options.targets)
        rows = _rows(scores, options, track)
        files = _files(scores, rows, output, format, options)
        for file in files:
            check_new_file(file, scores.protected, overwrite=overwrite)
        pictures = (_draw(scores, row, track, options) for row in rows)
        with picture.style(), staged(files[0]) as staging:
            _write(pictures, [staging.path(file) for file in files])
            staging.move()
    return files


# --- what ------------------------------------------------------------------------------------------------------------


def _rows(scores: Scores, options: PlotOptions, track: Track) -> list[int]:
    interval = parse_interval(options.region) if options.region else None
    if options.names:
        return rows_by_name(scores, options.names, interval)
    if interval:
        return [row_over(scores, interval)]
    rows = strongest_rows(scores, track, options.top or 0)
    if not rows:
        raise UsageError(f"{scores.path} has no scored region.")
    return rows


def _draw(scores: Scores, row: int, track: Track, options: PlotOptions) -> Any:
    whole = scores.region(row, track)
    view = parse_interval(options.region) if options.region else whole.around_site(options.bases)
    if options.strand == "-" or (options.strand == "region" and whole.strand == "-"):
        whole = whole.reversed()
    return picture.draw(whole, view, track)


# --- where -----------------------------------------------------------------------------------------------------------


def _files(
    scores: Scores, rows: Sequence[int], output: str | None, format: str | None, options: PlotOptions
) -> list[str]:
    """The files to write: one for each row, or one for all."""
    if output is None:
        output = _default_output(scores, rows, format, options)
    suffix = Path(output).suffix.lower().removeprefix(".")
    if output.endswith(("/", os.sep)) or os.path.isdir(output):
        return _in_folder(scores, rows, output, format or "png")
    if suffix not in PICTURE_FORMATS:
        raise UsageError(f"-o {output}: name a .png, .svg or .pdf, or a folder (with / at its end).")
    if format not in (None, suffix):
        raise UsageError(f"-o {output} does not go with --format {format}.")
    if len(rows) > 1 and suffix != "pdf":
        raise UsageError(
            f"{len(rows)} regions do not go into one {suffix}. Name a .pdf, which has a page for each, or a folder: "
            f"-o {Path(output).stem}/"
        )
    return [output]


def _default_output(scores: Scores, rows: Sequence[int], format: str | None, options: PlotOptions) -> str:
    stem = stem_of(scores.path, RESULT_ENDINGS)
    if len(rows) > 1:
        return f"{stem}.plots.pdf" if format in (None, "pdf") else f"{stem}.plots/"
    label = options.region if options.region and not options.names else _label(scores, rows[0])
    return f"{stem}.{_safe(label)}.{format or 'png'}"


def _in_folder(scores: Scores, rows: Sequence[int], folder: str, format: str) -> list[str]:
    """``01_peak_25.png``: in the order of asking."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder {folder} cannot be made: {error.strerror}") from error
    digits = max(len(str(len(rows))), 2)
    names = [f"{i:0{digits}d}_{_safe(_label(scores, row))}.{format}" for i, row in enumerate(rows, 1)]
    return [os.path.join(folder, name) for name in names]


def _label(scores: Scores, row: int) -> str:
    columns = scores.regions
    return columns["name"][row] or str(Interval(columns["chrom"][row], columns["start"][row], columns["end"][row]))


def _safe(text: str) -> str:
    """A name as a part of a file name, without commas, and neither hidden nor with a dot or dash at its ends."""
    return part_of_name(text.replace(",", ""), "-").strip(".-") or "region"


def _write(pictures: Iterator[Any], files: Sequence[str]) -> None:
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
        figure.savefig(picture, format=format, dpi=DPI, metadata=METADATA[format])
        Path(file).write_bytes(picture.getvalue())
