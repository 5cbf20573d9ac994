"""The contents of a result file, finished or not; whether two files, or a file and a run, belong together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fastism_cli.errors import MAX_LONG_LETTERS, brief
from fastism_cli.results.intact import plain
from fastism_cli.results.ism_file import read_result
from fastism_cli.results.layout import MeanOf, PairsLayout, ReplacedBlocks
from fastism_cli.results.schema import ATTRIBUTES, Status
from fastism_cli.results.score_blocks import ScoreBlock
from fastism_cli.results.scores import Scores
from fastism_cli.scores.tracks import Array, Track

MEDIAN_DELTAS = 1 << 24  # in memory, for the medians


@dataclass(frozen=True)
class Range:
    """Least, median and largest value; None if there is none."""

    least: float | None
    median: float | None
    largest: float | None


@dataclass(frozen=True)
class TargetContents:
    """One target: its ranges are over all rows with scores, and not known if they were not asked for."""

    name: str
    reference: Range | None
    delta: Range | None


@dataclass(frozen=True)
class HeadContents:
    """One head: ``shape`` is that of a row of its predictions."""

    name: str
    shape: tuple[int, ...]
    reduce: str
    dtype: str
    targets: tuple[TargetContents, ...]


@dataclass(frozen=True)
class Contents:
    """The contents of a file, as :func:`contents_of` reads them.

    Attributes
    ----------
    rows : int
        Records of the BED, or of its shard.
    statuses : dict of str to int
        Rows by status, only those that occur.
    missing : tuple of (start, stop)
        Stretches of rows that no run has reached yet.
    n_total, row_start, row_stop, shard_index, num_shards : int
        Which part of the BED this file is.
    window : int
        Bases substituted, of ``length``.
    window_first : int or None
        The first of them, counted from the middle one along the strand of the record; None if they are the middle.
    padded : int
        Rows whose input passes an end of its contig.
    median_rows : int
        How many rows the medians of the deltas are of, evenly spread over those with scores.
    averaged : MeanOf or None
        What every score is the mean of.
    has_spread : bool
        Whether there is a standard deviation of each delta, over several models.
    pairs : PairsLayout or None
        The pairs of letters of which the file has interactions.
    blocks : ReplacedBlocks or None
        What was replaced; None: single letters.
    """

    path: str
    format_version: float
    complete: bool
    rows: int
    n_total: int
    row_start: int
    row_stop: int
    shard_index: int
    num_shards: int
    statuses: dict[str, int]
    missing: tuple[tuple[int, int], ...]
    padded: int
    length: int
    window: int
    window_first: int | None
    alphabet: str
    stranded: bool
    contigs: int
    median_rows: int
    heads: tuple[HeadContents, ...]
    made: dict[str, Any]
    config: dict[str, Any]
    averaged: MeanOf | None
    has_spread: bool
    pairs: PairsLayout | None = None
    blocks: ReplacedBlocks | None = None


def contents_of(path: str, *, ranges: bool = True) -> Contents:
    """Read what a result file contains; an unfinished one, such as ``OUT.partial``, too.

    Parameters
    ----------
    ranges : bool
        Whether to read all scores for their least and largest values.

    Raises
    ------
    UsageError
        If it is no result file, or one of another version.
    """
    with Scores(read_result(path, allow_incomplete=True)) as scores:
        file, attrs, regions = scores.file, scores.file.attrs, scores.regions
        n = scores.n_rows
        return Contents(
            path=path,
            format_version=attrs["format_version"],
            complete=file.complete,
            rows=n,
            **{name: int(attrs.get(name, default)) for name, default in _whole(n).items()},
            statuses=_statuses(regions["status"]),
            missing=_stretches(scores.rows_with(Status.PENDING)),
            padded=int((regions["n_padded"] > 0).sum()),
            length=scores.length,
            window=scores.window,
            window_first=scores.substituted.first,
            alphabet=attrs["alphabet"],
            stranded=bool(attrs.get("stranded", False)),
            contigs=len(file.genome_sizes),
            median_rows=len(_median_rows(scores)) if ranges else 0,
            heads=_heads(scores, ranges),
            made={name: attrs[name] for name, known in ATTRIBUTES.items() if known.is_shown and name in attrs},
            config=json.loads(attrs.get("config") or "{}"),
            averaged=file.averaged,
            has_spread=file.has_spread,
            pairs=file.pairs_layout,
            blocks=file.blocks,
        )


def _whole(n: int) -> dict[str, int]:
    """Defaults for a file that is no shard."""
    return {"n_total": n, "row_start": 0, "row_stop": n, "shard_index": 0, "num_shards": 1}


def _statuses(column: Array) -> dict[str, int]:
    counts = np.bincount(column, minlength=len(Status))
    return {status.name.lower(): int(counts[status]) for status in Status if counts[status]}


def _stretches(rows: Array) -> tuple[tuple[int, int], ...]:
    """``[3, 4, 5, 9] -> ((3, 6), (9, 10))``"""
    pieces = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    return tuple((int(piece[0]), int(piece[-1]) + 1) for piece in pieces if len(piece))


def _heads(scores: Scores, ranges: bool) -> tuple[HeadContents, ...]:
    found = _ranges(scores) if ranges else {}
    return tuple(
        HeadContents(
            head.name,
            head.shape,
            head.reduce,
            str(scores.file.delta(head.name).dtype),
            tuple(_target(track, found) for track in scores.tracks_of(head.name)),
        )
        for head in scores.file.heads
    )


def _target(track: Track, found: dict[Track, tuple[Range, Range]]) -> TargetContents:
    reference, delta = found.get(track, (None, None))
    return TargetContents(track.name, reference, delta)


def _ranges(scores: Scores) -> dict[Track, tuple[Range, Range]]:
    """Ranges of reference and delta, over the rows with scores."""
    tracks, rows, chosen = scores.tracks, scores.rows_with(Status.OK), _median_rows(scores)
    reference = scores.predictions(rows, tracks)
    least, largest = np.full(len(tracks), np.inf), np.full(len(tracks), -np.inf)
    kept = [np.empty((len(tracks), 0), np.float32)]
    for block in scores.blocks(rows, tracks):
        low, high = _ends(block.delta, axes=(0, 2, 3))
        least, largest = np.minimum(least, low), np.maximum(largest, high)
        kept.append(_substituted(block, np.isin(block.rows, chosen), of_letters=scores.file.blocks is None))
    deltas, ends = np.concatenate(kept, axis=1), _ends(reference, axes=(0,))
    return {
        track: (_range(ends[0][k], reference[:, k], ends[1][k]), _range(least[k], deltas[k], largest[k]))
        for k, track in enumerate(tracks)
    }


def _median_rows(scores: Scores) -> Array:
    """The rows whose deltas the medians are of: all that have scores, or as many as fit the memory, evenly spread."""
    rows = scores.rows_with(Status.OK)
    most = max(MEDIAN_DELTAS // max(len(scores.tracks) * prod(scores.inner_shape), 1), 1)
    return rows if len(rows) <= most else rows[np.arange(most) * len(rows) // most]


def _substituted(block: ScoreBlock, chosen: Array, *, of_letters: bool) -> Array:
    """Deltas (K, values) of the chosen rows of a block, without those of the letters that are there, which are 0."""
    deltas = np.moveaxis(block.delta[chosen], 1, 0)
    if of_letters:
        is_there = block.seq[chosen][..., None] == np.arange(deltas.shape[-1])
        deltas = deltas[:, ~is_there]
    return deltas.reshape(len(deltas), -1)


def _ends(values: Array, *, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Least and largest value over some axes, NaN left out; infinite where there is none."""
    return np.fmin.reduce(values, axes, initial=np.inf), np.fmax.reduce(values, axes, initial=-np.inf)


def _range(least: float, values: Array, largest: float) -> Range:
    """The range between two ends, with the median of values, of which NaN are left out."""
    known = values[~np.isnan(values)]
    if not least <= largest or not len(known):
        return Range(None, None, None)
    return Range(float(least), float(np.median(known)), float(largest))


# --- whether two files, or a file and a run, belong together ---------------------------------------------------------

# Attributes that decide the numbers of a row, and how a message calls them.
SAME: dict[str, str] = {
    "format_version": "the version of the format",
    "fastism_version": "the version of fastism",
    "backend": "the backend",
    "model_sha256": "the model file",
    "bed_sha256": "the BED",
    "fasta_sha256": "the FASTA",
    "files_sha256": "the files of --input, --target-names or --custom-objects",
    "config": "the options",
    "input_length": "the length of the input",
    "n_total": "the number of rows",
    "engine": "the engine",
}
SAME_ROWS: dict[str, str] = {name: name for name in ("row_start", "row_stop", "shard_index", "num_shards")}


def differences(before: Mapping[str, Any], now: Mapping[str, Any], names: Mapping[str, str] = SAME) -> list[str]:
    """A phrase for each difference; only attributes that both have are compared.

    Options are called by their name: ``"--window: 100 and 200"``.
    """
    found = []
    for name, word in names.items():
        if name not in before or name not in now or before[name] == now[name]:
            continue
        both = plain(before[name]), plain(now[name])
        found += _options(*both) if name == "config" else [_phrase(word, *both)]
    return found


def _options(before: str, now: str) -> list[str]:
    old, new = json.loads(before), json.loads(now)
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return [_phrase(f"--{key.replace('_', '-')}", old.get(key), new.get(key)) for key in keys]


def _phrase(word: str, before: Any, now: Any) -> str:
    if word.startswith("the ") and len(str(before)) == len(str(now)) == 64:
        return f"{word} (SHA-256 {before[:8]}... and {now[:8]}...)"
    return f"{word}: {_text(before)} and {_text(now)}"


def _text(value: Any) -> str:
    return brief(value, MAX_LONG_LETTERS) if value or isinstance(value, (int, float)) else "not given"
