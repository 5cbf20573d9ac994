"""Choose the rows to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastism_cli.errors import UsageError
from fastism_cli.genome.placement import parse_span
from fastism_cli.options.problems import MAX_SHOWN
from fastism_cli.results.schema import Status
from fastism_cli.results.scores import Scores
from fastism_cli.scores.region import Interval, ranked, strongest_sites
from fastism_cli.scores.tracks import Track


def parse_interval(text: str) -> Interval:
    """``chr1:1,000-1,200`` as samtools takes it: counted from 1, with the last base.

    Raises
    ------
    UsageError
        If it is not of that form, or holds no base.
    """
    try:
        return Interval(*parse_span(text))
    except UsageError as error:
        raise UsageError(f"--region: {error.message}") from error


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_SHOWN:,} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


def rows_by_name(scores: Scores, names: Sequence[str], within: Interval | None = None) -> list[int]:
    """Scored rows of these names, in the order of asking; all of a name that several have.

    Parameters
    ----------
    within : Interval, optional
        Only rows that share a base with it.

    Raises
    ------
    UsageError
        If a name is not there, or none of its rows was scored, or none lies where it should.
    """
    rows = [row for name in dict.fromkeys(names) for row in _named(scores, name)]
    if within is None:
        return rows
    over = set(scores.rows_over(*within).tolist())
    if over.isdisjoint(rows):
        columns = scores.regions
        where = [str(Interval(columns["chrom"][i], columns["start"][i], columns["end"][i])) for i in rows]
        raise UsageError(f"no region named {', '.join(names)} overlaps {within}: {_listed(where)}.")
    return [row for row in rows if row in over]


def _named(scores: Scores, name: str) -> list[int]:
    rows = scores.rows_named(name)
    if not len(rows):
        examples = _listed([text for text in dict.fromkeys(scores.regions["name"].tolist()) if text][:3])
        like = f" Names there: {examples}, ..." if examples else " Its regions have no names: use --region or --top."
        raise UsageError(f"{scores.path} has no region named {name!r}.{like}")
    status = scores.regions["status"][rows]
    if not (status == Status.OK).any():
        raise UsageError(
            f"region {name!r} of {scores.path} has no scores: it is one of those {Status(int(status[0])).phrase}."
        )
    return [int(row) for row in rows[status == Status.OK]]


def row_over(scores: Scores, interval: Interval) -> int:
    """The scored row that covers most of an interval; of several, the one whose middle is nearest to the interval's.

    Raises
    ------
    UsageError
        If no scored row shares a base with it.
    """
    columns = scores.regions
    over = scores.rows_over(*interval)
    rows = over[columns["status"][over] == Status.OK]
    if not len(rows):
        raise UsageError(f"no scored region of {scores.path} overlaps {interval}.{_nearest(scores, interval)}")
    start, end = columns["start"][rows], columns["end"][rows]
    covered = np.minimum(end, interval.end) - np.maximum(start, interval.start)
    off_centre = np.abs((start + end) - (interval.start + interval.end))
    return int(rows[np.lexsort((off_centre, -covered))[0]])


def _nearest(scores: Scores, interval: Interval) -> str:
    """Where the file has scores on that contig, for a message."""
    columns = scores.regions
    here = np.flatnonzero((columns["chrom"] == interval.chrom) & (columns["status"] == Status.OK))
    if not len(here):
        contigs = list(dict.fromkeys(columns["chrom"][scores.rows_with(Status.OK)].tolist()))
        return f" It has scores on {_listed(contigs)}." if contigs else " It has no scores at all."
    distance = np.maximum(columns["start"][here] - interval.end, interval.start - columns["end"][here])
    row = here[distance.argmin()]
    return f" The nearest: {Interval(interval.chrom, columns['start'][row], columns['end'][row])}."


def strongest_rows(scores: Scores, track: Track, top: int) -> list[int]:
    """The rows of the ``top`` strongest sites, the strongest first."""
    sites = np.full(scores.n_rows, np.nan, np.float32)
    for block in scores.blocks(tracks=[track]):
        sites[block.rows] = strongest_sites(block.on_genome().importance())[0][:, 0]
    return ranked(sites)[:top].tolist()
