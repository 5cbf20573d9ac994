"""Which files pictures go to, and how they are written: each in its file, or all on the pages of one PDF."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from fastism_cli.errors import OutputError, UsageError
from fastism_cli.options.choices import PICTURE_FORMATS
from fastism_cli.options.run_options import RESULT_ENDINGS, stem_of
from fastism_cli.scores.written_names import part_of_name

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
