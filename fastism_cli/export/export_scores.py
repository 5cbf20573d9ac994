"""Export a result from end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from fastism_cli.errors import UsageError, cell, counted, log_of
from fastism_cli.export.exported_regions import Choice, ExportedRegions, ExportJob, write_peaks
from fastism_cli.export.formats import FORMATS, Format, default_output, file_names, split_ending, writer_of
from fastism_cli.optional import require
from fastism_cli.options.choices import EXPORT_COMPRESSIONS, OVERLAPS
from fastism_cli.results.outputs import check_new_file, check_place, check_stream, require_name
from fastism_cli.results.scores import Scores, open_scores
from fastism_cli.results.staging import Staging, check_space, is_stream, staged
from fastism_cli.scores.tracks import Track, choose_tracks

logger = log_of(__name__)

TABLES = ("tsv", "parquet")
PEAKS_ENDING = ".regions.narrowPeak"  # not that of the user's own peaks


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
        Rows with scores whose window passes an end of its contig: arrays do not hold them.
    targets : int
    window, width : int
        Bases of each window that have scores, and those in arrays and the narrowPeak: an even number, or one.
    cut_names : int
        Names of regions or targets in which tabs or line ends are written as blanks.
    without_peak : int
        Rows of the file that the narrowPeak leaves out, as their window passes an end of its contig.
    """

    files: tuple[str, ...]
    regions: int
    left_out: int
    targets: int
    window: int
    width: int
    cut_names: int = 0
    without_peak: int = 0

    def lines(self) -> list[str]:
        """For the log: what was left out, and what was written where."""
        lines = []
        if self.left_out:
            lines.append(f"left out: {self.left_out:,} regions whose window passes an end of its contig")
        if self.without_peak:
            lines.append(
                f"the narrowPeak leaves out {self.without_peak:,} regions whose window passes an end of its contig"
            )
        if self.window != self.width:
            lines.append(
                f"windows of {self.window:,} bases: arrays and narrowPeak leave out the last base of each, "
                f"so that the summit is the middle, start + {self.width // 2:,}"
            )
        if self.cut_names:
            lines.append(f"{self.cut_names:,} names hold tabs or line ends, which are written as blanks")
        if any(map(is_stream, self.files)):
            lines.append("no narrowPeak of the regions beside a stream: name a file to get one")
        what = f"{counted(self.regions, 'region')}, {counted(self.targets, 'target')}"
        return [*lines, f"{what} -> {', '.join(self.files)}"]


def export_scores(
    path: str,
    output: str | None = None,
    *,
    kind: str,
    targets: Sequence[str] = (),
    overlap: str | None = None,
    top: int | None = None,
    min_delta: float | None = None,
    compression: str = "none",
    region_columns: bool = False,
    overwrite: bool = False,
) -> ExportSummary:
    """Write the scores of a result file in the format of another tool, and a narrowPeak of the regions beside it.

    The narrowPeak is called ``<stem>.regions.narrowPeak``.

    Parameters
    ----------
    path : str
        A finished result of ``fastism run``.
    output : str, optional
        The file to write; ``-`` is stdout, for text, without a narrowPeak. Default: named after ``path``, in the
        current folder. Several targets, in a format that holds one, get a file each with the target's name in it.
    kind : str
        One of :data:`fastism_cli.export.formats.FORMATS`.
    targets : sequence of str
        ``[HEAD=]LIST`` of names or numbers; default: all.
    overlap : "mean", "max" or "first", optional
        What stands where regions overlap; "mean" for bigwig and bedgraph. Without it, tables have the lines of every
        region.
    top : int, optional
        Of tables: so many lines of each target, the strongest first.
    min_delta : float, optional
        Of tables: the least magnitude of a delta.
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
    form = _checked(kind, overlap or "mean", compression)
    choice = _choice(kind, overlap, top, min_delta)
    output = default_output(path, form) if output is None else output
    require_name(output, "--output")
    with open_scores(path) as scores:
        scores.require_bases()
        _check_blocks(scores, kind, form, overlap)
        tracks = choose_tracks(scores, targets)
        regions = _regions(scores, form)
        _warn_if_empty(regions, kind)
        on_contig = replace(regions, only_on_contig=True)  # the same lines beside every format
        options = (overlap or "mean", compression, region_columns, choice)
        if is_stream(output):
            _check_stream(output, kind, scores, tracks)
            writer_of(kind)(ExportJob(regions, tracks, [(output,)], *options))
            return _summary([output], regions, tracks)
        names = file_names(output, form, tracks)
        peaks = split_ending(output)[0] + PEAKS_ENDING
        check_place(peaks, "--output")
        written = [name for files in names for name in files]
        indexes = [index for name in written for index in form.indexes(name)]
        for name in [*written, *indexes]:
            check_new_file(name, scores.protected, overwrite=overwrite, others=[peaks])
        check_space(output, _wanted(regions, form, len(tracks)) if compression == "none" else 0)
        with staged(output, overwrite=overwrite) as staging:
            _write_peaks(staging, peaks, on_contig, overwrite)
            paths = [tuple(staging.path(name) for name in files) for files in names]
            writer_of(kind)(ExportJob(regions, tracks, paths, *options))
            files = staging.move(without=indexes)
            return _summary(files, regions, tracks, _cut_names(regions), regions.n_rows - on_contig.n_rows)


def _choice(kind: str, overlap: str | None, top: int | None, min_delta: float | None) -> Choice | None:
    """Which lines a table has; None for all. Only tables can choose."""
    if kind not in TABLES:
        for option, value in (("--top", top), ("--min-delta", min_delta)):
            if value is not None:
                raise UsageError(f"{option} is for {' and '.join(TABLES)}. Received: --format {kind}")
        return None
    if overlap is None and top is None and min_delta is None:
        return None
    return Choice(top, min_delta or 0.0, overlap=overlap or "mean")


def _summary(
    files: Sequence[str], regions: ExportedRegions, tracks: Sequence[Track], n_cut: int = 0, without_peak: int = 0
) -> ExportSummary:
    n_cut += sum(cell(track.label) != track.label for track in tracks)
    counts = (regions.n_rows, regions.n_left_out, len(tracks), regions.window, regions.peak_width)
    return ExportSummary(tuple(files), *counts, n_cut, without_peak)


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


def _check_blocks(scores: Scores, kind: str, form: Format, overlap: str | None) -> None:
    """Refuse what scores of blocks cannot be."""
    if not form.of_blocks:
        others = [name for name, other in FORMATS.items() if other.of_blocks]
        scores.require_letters(f"--format {kind}", f"--format {', '.join(others[:-1])} or {others[-1]}")
    if scores.places is not None and kind in TABLES and overlap is not None:
        raise UsageError(
            f"--overlap: {scores.path} holds scores of blocks, whose table has a line for each region that holds a "
            "block. Leave it out."
        )


def _regions(scores: Scores, form: Format) -> ExportedRegions:
    """The regions to write."""
    regions = ExportedRegions(scores, only_on_contig=form.holds != "bases")
    if regions.only_on_contig and not regions.even_window:
        raise UsageError(f"{scores.path} has a window of one base, which no array of even width holds.")
    return regions


def _warn_if_empty(regions: ExportedRegions, kind: str) -> None:
    regions.scores.warn_if_unscored()
    if not regions.n_rows and regions.n_left_out:
        logger.warning(
            "the windows of all regions with scores pass an end of their contig: %s holds none of them", kind
        )


def _wanted(regions: ExportedRegions, form: Format, n_tracks: int) -> int:
    """Bytes of uncompressed arrays; 0 for other formats, whose size is not known beforehand."""
    return 4 * prod((regions.n_rows, regions.even_window, 4, n_tracks)) if form.holds == "regions" else 0


def _check_stream(output: str, kind: str, scores: Scores, tracks: Sequence[Track]) -> None:
    """Refuse what no stream can hold."""
    if not FORMATS[kind].is_text:
        text = ", ".join(name for name, form in FORMATS.items() if form.is_text)
        raise UsageError(f"--output {output}: {kind} cannot be written to stdout or a pipe; {text} can. Name a file.")
    if FORMATS[kind].per_target and len(tracks) > 1:
        raise UsageError(
            f"--output {output}: {kind} has a file for each of the {len(tracks):,} targets. Choose one by --targets."
        )
    check_stream(output, scores.protected, option="--output")


def _cut_names(regions: ExportedRegions) -> int:
    """How many names of regions hold tabs or line ends, which are written as blanks."""
    return sum(cell(name) != name for piece in regions.pieces() for name in piece.column("name"))


def _write_peaks(staging: Staging, name: str, regions: ExportedRegions, overwrite: bool) -> None:
    path = staging.path(name)
    write_peaks(path, regions)
    if not staging.share(name):  # another format of the same result has the same regions
        check_new_file(name, regions.scores.protected, overwrite=overwrite)
