"""What each picture shows: chosen rows of one or several results, for one or several targets, with tracks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastism_cli.errors import MAX_SHOWN, UsageError, cell
from fastism_cli.genome.annotations import AnnotationFile, open_annotation, places_to_shade
from fastism_cli.genome.fasta import other_name
from fastism_cli.genome.placement import parse_span
from fastism_cli.options.choices import PICTURE_BASES, FigureOptions
from fastism_cli.options.run_options import RESULT_ENDINGS, stem_of
from fastism_cli.results.schema import Status
from fastism_cli.results.scores import Scores
from fastism_cli.scores.drawing.whole_figure import Contents, Panel, number
from fastism_cli.scores.region import Interval, RegionScores, ranked, stitched, strongest_sites
from fastism_cli.scores.tracks import Track, choose_tracks

# --- the rows to look at ---------------------------------------------------------------------------------------------


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


# --- what a picture shows --------------------------------------------------------------------------------------------

MAX_PANELS = 24
MAX_DRAWN = 1_000_000  # bases of a picture
MAX_STITCHED = 100_000  # bases of tiles that are drawn as one without being asked for by --region


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
        ``[HEAD=]LIST`` of those to draw, one below the other; may be left out where a file has only one.
    bases : int or None
        How many bases to show of a row that was not asked for by ``region``; None shows all.
    strand : "+", "-" or "region"
        Which to draw; "region" is that of the record.
    tracks : sequence of str
        ``[LABEL=]FILE``: BED, GTF or bigWig, below the logos.
    highlights : sequence of str
        Places, or BED files, to shade.
    pairs : bool
        Whether to draw the strongest interaction of each two bases, below; the result must have them.
    figure : FigureOptions
        How it looks.

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
    tracks: Sequence[str] = ()
    highlights: Sequence[str] = ()
    pairs: bool = False
    figure: FigureOptions = field(default_factory=FigureOptions)

    def __post_init__(self) -> None:
        if not (self.region or self.names or self.top):
            raise UsageError("which regions? Give --region chr1:1000-1200, --name NAME or --top 20.")
        if self.top and (self.region or self.names):
            raise UsageError("--top chooses regions by itself; it does not go with --region or --name.")


class Chosen(NamedTuple):
    """One picture: rows of the first result, tiles of one record, and the bases to show."""

    rows: tuple[int, ...]
    view: Interval


@dataclass(frozen=True)
class Pictures:
    """All pictures that were asked for.

    Attributes
    ----------
    results : sequence of Scores
        Open; the rows are chosen in the first one, and found in the others by their place.
    """

    results: Sequence[Scores]
    options: PlotOptions

    def __post_init__(self) -> None:
        names = self.options.figure.labels
        if names and len(names) != len(self.results):
            raise UsageError(f"--label: {len(names)} labels for {len(self.results)} results. Give one for each.")
        if sum(map(len, self.tracks)) > MAX_PANELS:
            raise UsageError(
                f"{sum(map(len, self.tracks))} logos do not go into one picture: at most {MAX_PANELS}. "
                "Choose fewer targets by --target."
            )

        if self.options.pairs and self.first.file.pairs_layout is None:
            raise UsageError(f"--pairs: {self.first.path} holds no pairs. Make them with fastism pairs.")
        if self.options.pairs and sum(map(len, self.tracks)) > 1:
            raise UsageError("--pairs draws one target of one result. Choose it by --target.")

    @property
    def first(self) -> Scores:
        return self.results[0]

    @cached_property
    def tracks(self) -> list[tuple[Track, ...]]:
        """The targets of each result."""
        return targets_of(self.results, self.options.targets)

    @cached_property
    def chosen(self) -> list[Chosen]:
        """Which rows each picture shows, in the order of asking."""
        asked = parse_interval(self.options.region) if self.options.region else None
        if asked and asked.end - asked.start > MAX_DRAWN:
            raise UsageError(
                f"--region {asked} has more than {MAX_DRAWN:,} bases, which no picture shows. Choose a part."
            )
        records: dict[int, list[int]] = {}
        for row in self._rows(asked):
            record = int(self.first.regions["bed_row"][row]) if self.options.top is None else row
            records.setdefault(record, []).append(row)
        return [self._chosen(rows, asked) for rows in records.values()]

    def _rows(self, asked: Interval | None) -> list[int]:
        if self.options.names:
            return rows_by_name(self.first, self.options.names, asked)
        if asked:
            return [row_over(self.first, asked)]
        rows = strongest_rows(self.first, self.tracks[0][0], self.options.top or 0)
        if not rows:
            raise UsageError(f"{self.first.path} has no scored region.")
        return rows

    def _chosen(self, rows: list[int], asked: Interval | None) -> Chosen:
        if asked:
            return Chosen(tiles_over(self.first, rows[0], asked), asked)
        whole = _joined(self.first, rows)
        if whole.end - whole.start > MAX_STITCHED:
            raise UsageError(
                f"{cell(self.first.regions['name'][rows[0]]) or whole} has {len(rows):,} tiles over "
                f"{whole.end - whole.start:,} bases, more than are drawn as one. Choose a part: "
                f"--region {whole.chrom}:A-B"
            )
        if self.options.bases is None:
            return Chosen(tuple(rows), whole)
        view = self._around_site(rows, whole, self.options.bases)
        return Chosen(tiles_over(self.first, rows[0], view), view)

    def _around_site(self, rows: list[int], whole: Interval, bases: int) -> Interval:
        """So many bases around the strongest site of some rows, moved inside of the tiles of their record."""
        asked = Interval(whole.chrom, whole.start - bases, whole.end + bases)
        near = _joined(self.first, tiles_over(self.first, rows[0], asked))
        wide = min(bases, near.end - near.start)
        site = self._stitched(self.first, rows, self.tracks[0][0]).site
        start = min(max(site - wide // 2, near.start), near.end - wide)
        return Interval(whole.chrom, start, start + wide)

    # -- scores --

    def contents(self, chosen: Chosen, annotations: Sequence[AnnotationFile], shaded: Sequence[Interval]) -> Contents:
        """All of one picture."""
        panels: list[Panel] = []
        turn = self._is_turned(chosen)
        for scores, tracks, label in zip(self.results, self.tracks, self.labels, strict=True):
            rows = chosen.rows if scores is self.first else self._rows_of(scores, chosen.view)
            panels += [self._panel(scores, rows, track, label, turn=turn) for track in tracks]
        pairs = self.first.pairs_of(chosen.rows[0], self.tracks[0][0]) if self.options.pairs else None
        return Contents(panels, chosen.view, [*([pairs] if pairs is not None else []), *annotations], shaded)

    def _rows_of(self, scores: Scores, view: Interval) -> tuple[int, ...]:
        return tiles_over(scores, row_over(scores, view), view)

    def _panel(self, scores: Scores, rows: Sequence[int], track: Track, label: str, *, turn: bool) -> Panel:
        region = self._stitched(scores, rows, track)
        predictions = scores.predictions(np.array(sorted(rows)), [track])[:, 0]
        words = f"prediction {number(predictions[0])}"
        if len(rows) > 1:
            words = f"{len(rows)} tiles, predictions {number(predictions.min())} to {number(predictions.max())}"
        return Panel(region.reversed() if turn else region, f"{label}{cell(track.label)}: {words}")

    def _stitched(self, scores: Scores, rows: Sequence[int], track: Track) -> RegionScores:
        return stitched([regions[0] for _, regions in scores.load_regions(sorted(rows), [track])])

    def _is_turned(self, chosen: Chosen) -> bool:
        """Whether the - strand is drawn."""
        asked = self.options.strand
        return asked == "-" or (asked == "region" and self.first.regions["strand"][chosen.rows[0]] == "-")

    @property
    def labels(self) -> list[str]:
        """What stands before the targets of each result; nothing if there is only one result."""
        names = self.options.figure.labels or _told_apart([scores.path for scores in self.results])
        several = len(self.results) > 1 or bool(self.options.figure.labels)
        return [f"{cell(name)}   " if several else "" for name in names]

    # -- what lies around --

    def annotations(self) -> list[AnnotationFile]:
        """The tracks, read for all pictures."""
        spans = [one.view for one in self.chosen]
        return [open_annotation(text, spans) for text in self.options.tracks]

    def shaded(self) -> list[Interval]:
        """Places to shade, with the contig names of the results."""
        known = {one.view.chrom for one in self.chosen}
        found = places_to_shade(self.options.highlights, [one.view for one in self.chosen])
        return [Interval(chrom if chrom in known else other_name(chrom), start, end) for chrom, start, end in found]


# --- rows ------------------------------------------------------------------------------------------------------------


def tiles_over(scores: Scores, row: int, place: Interval) -> tuple[int, ...]:
    """The scored tiles of a record that share a base with a place, ascending; the given row of it if none does."""
    columns = scores.regions
    over = scores.rows_over(*place)
    is_tile = (columns["bed_row"][over] == columns["bed_row"][row]) & (columns["status"][over] == Status.OK)
    return tuple(over[is_tile].tolist()) or (row,)


def _joined(scores: Scores, rows: Sequence[int]) -> Interval:
    """From the first base of some rows of one contig to the last."""
    columns = scores.regions
    at = np.array(rows)
    return Interval(columns["chrom"][rows[0]], int(columns["start"][at].min()), int(columns["end"][at].max()))


# --- targets and names -----------------------------------------------------------------------------------------------


def targets_of(results: Sequence[Scores], asked: Sequence[str]) -> list[tuple[Track, ...]]:
    """The targets to draw of each result; models may have different ones.

    Raises
    ------
    UsageError
        If a result has none of them, or a target is in no result; if none is named and a file has several.
    """
    if not asked:
        return [_only(scores) for scores in results]
    found = [_found(scores, asked) for scores in results]
    for value in asked:
        if not any(value in of_result for of_result in found):
            choose_tracks(results[0], [value], option="--target")  # raises, with the targets that there are
    lacking = [scores for scores, of_result in zip(results, found, strict=True) if not of_result]
    if lacking:
        choose_tracks(lacking[0], asked, option="--target")
    return [tuple(dict.fromkeys(track for tracks in one.values() for track in tracks)) for one in found]


def _found(scores: Scores, asked: Sequence[str]) -> dict[str, tuple[Track, ...]]:
    """The tracks of each value that this result knows."""
    found = {}
    for value in asked:
        try:
            found[value] = choose_tracks(scores, [value], option="--target")
        except UsageError:
            continue
    return found


def _only(scores: Scores) -> tuple[Track, ...]:
    if len(scores.tracks) > 1:
        labels = ", ".join(track.label for track in scores.tracks[:MAX_PANELS])
        more = f" and {len(scores.tracks) - MAX_PANELS:,} more" if len(scores.tracks) > MAX_PANELS else ""
        raise UsageError(
            f"{scores.path} has {len(scores.tracks):,} targets. Choose one or several by --target: {labels}{more}."
        )
    return scores.tracks


def _told_apart(paths: Sequence[str]) -> list[str]:
    """Names of files without their endings; with their folders where names are equal."""
    names = [Path(stem_of(path, RESULT_ENDINGS)).name for path in paths]
    if len(set(names)) == len(names):
        return names
    return [str(Path(path).parent.name or ".") + "/" + name for path, name in zip(paths, names, strict=True)]


def each_contents(pictures: Pictures) -> Iterator[Contents]:
    """The contents of one picture after the other."""
    annotations, shaded = pictures.annotations(), pictures.shaded()
    for chosen in pictures.chosen:
        yield pictures.contents(chosen, annotations, shaded)
