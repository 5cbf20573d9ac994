"""Export a result from end to end."""

from __future__ import annotations

import filecmp
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from fastism_cli.errors import UsageError
from fastism_cli.export.exported_regions import ExportedRegions, ExportJob
from fastism_cli.export.formats import FORMATS, Format, writer_of
from fastism_cli.export.narrowpeak import write_peaks
from fastism_cli.export.output_files import default_output, file_names, split_ending
from fastism_cli.optional import require
from fastism_cli.options.choices import EXPORT_COMPRESSIONS, OVERLAPS
from fastism_cli.results.outputs import Staging, check_new_file, check_space, require_name, staged
from fastism_cli.results.scores import Scores, choose_tracks, open_scores

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportSummary:
    """What an export did.

    Attributes
    ----------
    files : tuple of str
        All that were written, sorted.
    regions : int
        Rows that they hold.
    left_out : int
        Rows with scores whose window passes an end of its contig, where no narrowPeak could say where they are.
    targets : int
    """

    files: tuple[str, ...]
    regions: int
    left_out: int
    targets: int


def export_scores(
    path: str,
    output: str | None = None,
    *,
    kind: str,
    targets: Sequence[str] = (),
    overlap: str = "mean",
    compression: str = "none",
    region_columns: bool = False,
    overwrite: bool = False,
) -> ExportSummary:
    """Write the scores of a result file in the format of another tool, and a narrowPeak of the regions beside it.

    Parameters
    ----------
    path : str
        A finished result of ``fastism run``.
    output : str, optional
        The file to write; default: named after ``path``, in the current folder. Several targets, in a format that
        holds one, get a file each with the target's name in it.
    kind : str
        One of :data:`fastism_cli.export.formats.FORMATS`.
    targets : sequence of str
        ``[HEAD=]LIST`` of names or numbers; default: all.
    overlap : "mean", "max" or "first"
        For bigwig and bedgraph.
    compression : "none" or "gzip"
        Of arrays in HDF5 and npz.
    region_columns : bool
        Whether tables get the columns ``row`` and ``name``.
    overwrite : bool

    Returns
    -------
    ExportSummary

    Raises
    ------
    UsageError
        If the file is no finished result, a target is not in it, or a library is missing.
    OutputError
        If a file exists and may not be replaced, or cannot be written.
    """
    form = _checked(kind, overlap, compression)
    output = default_output(path, form) if output is None else output
    require_name(output, "--output")
    with open_scores(path) as scores:
        scores.require_bases()
        tracks = choose_tracks(scores, targets)
        names = file_names(output, form, tracks)
        inputs = [path, scores.file.attrs.get("bed_path", "")]
        for name in (name for files in names for name in files):
            check_new_file(name, inputs, overwrite=overwrite)
        regions = _regions(scores, form)
        check_space(output, _wanted(regions, form, len(tracks)) if compression == "none" else 0)
        with staged(output) as staging:
            _write_peaks(staging, output, regions, inputs, overwrite)
            paths = [tuple(staging.path(name) for name in files) for files in names]
            writer_of(kind)(ExportJob(regions, tracks, paths, overlap, compression, region_columns))
            return ExportSummary(tuple(staging.move()), regions.n_rows, regions.n_left_out, len(tracks))


def _checked(kind: str, overlap: str, compression: str) -> Format:
    """The format, if the options are valid and its library is installed."""
    choices = {
        "--format": (kind, FORMATS),
        "--overlap": (overlap, OVERLAPS),
        "--compression": (compression, EXPORT_COMPRESSIONS),
    }
    for option, (value, allowed) in choices.items():
        if value not in allowed:
            raise UsageError(f"{option} must be one of {', '.join(allowed)}. Received: {value!r}")
    form = FORMATS[kind]
    if form.library:
        require(form.library, wanted_by=f"--format {kind}", extra="export")
    return form


def _regions(scores: Scores, form: Format) -> ExportedRegions:
    """The regions to write."""
    regions = ExportedRegions(scores, only_on_contig=form.holds != "bases")
    if regions.only_on_contig and not regions.even_window:
        raise UsageError(f"{scores.path} has a window of one base, which no array of even width holds.")
    return regions


def _wanted(regions: ExportedRegions, form: Format, n_tracks: int) -> int:
    """Bytes of uncompressed arrays; 0 for other formats, whose size is not known beforehand."""
    return 4 * prod((regions.n_rows, regions.even_window, 4, n_tracks)) if form.holds == "regions" else 0


def _write_peaks(
    staging: Staging, output: str, regions: ExportedRegions, inputs: Sequence[str], overwrite: bool
) -> None:
    name = split_ending(output)[0] + ".narrowPeak"
    path = staging.path(name)
    write_peaks(path, regions)
    # another format of the same result has the same regions
    if not (os.path.isfile(name) and filecmp.cmp(path, name, shallow=False)):
        check_new_file(name, inputs, overwrite=overwrite)
