"""Write the report: one page with everything in it, within a given size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from fastism_cli.genome.input_files import as_utf8
from fastism_cli.options.choices import REPORT_MEGABYTES, REPORT_REGIONS, REPORT_TARGETS
from fastism_cli.report import page
from fastism_cli.report.page_data import contents, packed_sizes
from fastism_cli.report.survey import Survey, survey
from fastism_cli.results.outputs import check_written
from fastism_cli.results.scores import Scores, open_scores
from fastism_cli.results.staging import write_whole
from fastism_cli.scores.region import ranked
from fastism_cli.scores.tracks import choose_tracks

MAP_BYTES = 150  # of a picture beside its letters and deltas
TABLE_SHARE = 0.5  # of the page, at most: the rest is for pictures


@dataclass(frozen=True)
class ReportSummary:
    """Contents of the page: ``regions`` in its table, ``pictures`` of them, for ``tracks`` out of ``all_tracks``."""

    output: str
    bytes: int
    regions: int
    all_regions: int
    pictures: int
    wanted_pictures: int
    tracks: int
    all_tracks: int

    def lines(self) -> list[str]:
        """For the log: contents of the page, and the parts that were left out."""
        size = f"{self.bytes / 1e6:.2f} MB"
        lines = [f"{self.regions:,} regions, {self.pictures:,} of them drawn -> {self.output} ({size})"]
        if self.tracks < self.all_tracks:
            lines.append(f"{self.tracks:,} of {self.all_tracks:,} targets are shown; choose others with --targets")
        if self.pictures < self.wanted_pictures:
            missing = self.wanted_pictures - self.pictures
            lines.append(f"not drawn, as the page would pass --max-size: {missing:,} more of the strongest regions")
        if self.regions < self.all_regions:
            lines.append(f"the weakest {self.all_regions - self.regions:,} regions are left out of the table")
        return lines


def write_report(
    path: str | os.PathLike[str],
    output: str,
    *,
    targets: Sequence[str] = (),
    top: int = REPORT_REGIONS,
    max_size: float = REPORT_MEGABYTES,
    overwrite: bool = False,
) -> ReportSummary:
    """Write a self-contained HTML page about a result file.

    Parameters
    ----------
    path : str or path-like
        A finished result file.
    output : str
        The page to write.
    targets : sequence of str
        ``[HEAD=]LIST`` as in ``fastism export``. Default: all, of which the first 12 are shown.
    top : int
        How many regions to draw: the strongest of the first target, of the second, ..., then the second strongest.
    max_size : float
        Megabytes of the page. The pictures of the weakest regions are left out, and at last rows of the table; one
        region is always drawn.

    Raises
    ------
    UsageError
        If the file is no finished result, has no such target, holds scores of blocks, or the page exists.
    """
    with open_scores(path) as scores:
        check_written(output, scores.protected, overwrite=overwrite)
        scores.require_letters("the report", "fastism plot, top, or export --format tsv, parquet, bigwig or bedgraph")
        scores.require_bases()
        tracks = choose_tracks(scores, targets)
        shown = tracks if targets else tracks[:REPORT_TARGETS]
        found = survey(scores, shown)
        order = _strongest_first(found)
        rows = _fitting_rows(scores, order, len(shown), max_size)
        size = max_size * 1e6 - page.EMPTY_BYTES - len(rows) * _row_bytes(scores, len(shown))
        drawn = _fitting_maps(scores, found, order[:top], size)
        text = as_utf8(page.render(os.path.basename(scores.path), contents(scores, found, rows, drawn)))
        counts = (len(rows), scores.n_rows, len(drawn), min(top, len(order)), len(shown), len(tracks))
    write_whole(output, text, overwrite=overwrite)
    return ReportSummary(output, len(text.encode()), *counts)


# --- what fits -------------------------------------------------------------------------------------------------------


def _strongest_first(found: Survey) -> list[int]:
    """Rows: the strongest of each target, then the second strongest of each, ..."""
    by_track = [ranked(found.site[:, k]).tolist() for k in range(len(found.tracks))]
    return list(dict.fromkeys(row for rank in zip_longest(*by_track) for row in rank if row is not None))


def _row_bytes(scores: Scores, tracks: int) -> int:
    """A generous estimate of a row of the table."""
    names = sum(map(len, scores.regions["name"])) / max(scores.n_rows, 1)
    return int(100 + 2 * names + 60 * tracks)


def _fitting_rows(scores: Scores, order: Sequence[int], tracks: int, max_size: float) -> list[int]:
    """Rows of the table in the order of the file: all, or the strongest."""
    most = int(TABLE_SHARE * max_size * 1e6 / _row_bytes(scores, tracks))
    if scores.n_rows <= most:
        return list(range(scores.n_rows))
    return sorted(order[: max(most, 1)])


def _fitting_maps(scores: Scores, found: Survey, order: Sequence[int], size: float) -> list[int]:
    """The first rows whose pictures fit; at least one."""
    columns = scores.regions
    rows = np.array(order, np.int64)
    bases, unknown = (columns["end"] - columns["start"])[rows], found.unknown[rows]
    sizes = packed_sizes(bases, unknown, len(scores.letters), len(found.tracks)) + MAP_BYTES
    fitting = int(np.searchsorted(np.cumsum(sizes), size, side="right"))
    return list(order[: max(fitting, 1)])
