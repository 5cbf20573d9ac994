"""The quality checks of a report: each one line, and whether a person should look at it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from fastism_cli.report.survey import Survey
from fastism_cli.results.schema import MODEL_STRAND, Status
from fastism_cli.results.scores import Scores

Level = Literal["ok", "note", "look"]

BAD = (Status.PENDING, Status.FAILED)


class Check(NamedTuple):
    """``ok``: as it should be. ``note``: good to know. ``look``: something may be wrong."""

    level: Level
    text: str


def checks(scores: Scores, found: Survey) -> list[Check]:
    """All checks, in the order of the page."""
    return [
        *_verified(scores),
        *_statuses(scores),
        *_numbers(found, scores),
        *_unknown(scores, found),
        *_padding(scores),
        *_duplicates(scores),
        *_still(scores, found),
    ]


def _verified(scores: Scores) -> Iterator[Check]:
    """The comparison of the engine with plain Keras, if the file has it."""
    recorded = _json(scores.file.attrs.get("verify"))
    if recorded is None:
        yield Check("note", "the file does not say how far the engine was from plain Keras: it was not checked")
        return
    for head in recorded["heads"]:
        error, plain, tolerance = (head[name] for name in ("fast_error", "naive_error", "tolerance"))
        yield Check(
            "ok" if error <= tolerance else "look",
            f"head {head['name']}: the engine was off from plain Keras in {recorded['judge']} by {error:.2g} "
            f"(plain Keras in the precision of the run by {plain:.2g}; allowed {tolerance:.2g})",
        )
        if n := head.get("not_finite"):
            yield Check("look", f"head {head['name']}: plain Keras gave NaN or infinity for {n:,} deltas of the check")


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None


def _statuses(scores: Scores) -> Iterator[Check]:
    counts = Counter(scores.regions["status"].tolist())
    n, ok = scores.n_rows, counts[Status.OK]
    yield Check("ok" if ok == n and n else "note", f"{ok:,} of {n:,} regions are scored")
    for status in (status for status in Status if status != Status.OK and counts[status]):
        yield Check("look" if status in BAD else "note", f"regions {status.phrase}: {counts[status]:,}")


def _numbers(found: Survey, scores: Scores) -> Iterator[Check]:
    rows = scores.rows_with(Status.OK)
    if not len(rows):
        return
    if found.missing.any():
        yield Check(
            "look", f"deltas that are missing or not finite: {found.missing.sum():,} in {_regions(found.missing)}"
        )
    else:
        yield Check("ok", "every substitution of a known base has a finite delta")
    if found.off_zero.any():
        yield Check("look", f"reference bases whose delta is not 0: {found.off_zero.sum():,}")
    else:
        yield Check("ok", "the delta of every reference base is exactly 0")
    bad = ~np.isfinite(found.prediction[rows]).all(1)
    if bad.any():
        yield Check("look", f"regions whose prediction on the reference is not finite: {bad.sum():,}")


def _regions(counts: Any) -> str:
    n = np.count_nonzero(counts)
    return f"{n:,} region" if n == 1 else f"{n:,} regions"


def _unknown(scores: Scores, found: Survey) -> Iterator[Check]:
    n, bases = found.unknown.sum(), scores.window * len(scores.rows_with(Status.OK))
    if n:
        yield Check("note", f"substituted bases that are N: {n:,} ({n / bases:.2%}) in {_regions(found.unknown)}")
    elif bases:
        yield Check("ok", "no substituted base is an N")


def _padding(scores: Scores) -> Iterator[Check]:
    padded = scores.regions["n_padded"][scores.rows_with(Status.OK)]
    if (padded > 0).any():
        yield Check(
            "note", f"the input of {_regions(padded)} passes an end of its contig, by up to {padded.max():,} bases"
        )
    elif len(padded):
        yield Check("ok", "no scored input passes an end of its contig")


def _duplicates(scores: Scores) -> Iterator[Check]:
    columns = scores.regions
    places = Counter(zip(columns["chrom"], columns["input_start"].tolist(), columns[MODEL_STRAND], strict=True))
    again = sum(n - 1 for n in places.values())
    if again:
        yield Check("note", f"regions that repeat another one (same contig, start and strand): {again:,}")


def _still(scores: Scores, found: Survey) -> Iterator[Check]:
    """Targets and regions without any change: a dead output, or a wrong window."""
    rows = scores.rows_with(Status.OK)
    if not len(rows):
        return
    flat = found.delta[rows] == 0
    for track, dead in zip(found.tracks, flat.all(0), strict=True):
        if dead:
            yield Check("look", f"no substitution changes {track.label} in any region")
    n = flat[:, ~flat.all(0)].any(1).sum()
    if n:
        yield Check("note", f"regions in which no substitution changes one of the targets: {n:,}")
