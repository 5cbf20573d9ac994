"""One pass over a result: the largest scores of every region, how deltas are distributed, and the quality checks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from fastism_cli.errors import counted
from fastism_cli.results.schema import MODEL_STRAND, Status
from fastism_cli.results.score_blocks import GenomeBlock
from fastism_cli.results.scores import Scores
from fastism_cli.scores.region import strongest_sites
from fastism_cli.scores.tracks import Array, Track

STEPS = 32  # bins of log10 |delta| in a factor of ten
LOWEST, HIGHEST = -12, 8  # powers of ten; values outside are counted in the first or last bin
BINS = (HIGHEST - LOWEST) * STEPS


@dataclass(frozen=True)
class Survey:
    """Findings for N rows of the file and K tracks. Rows without scores have NaN, and -1 for a place or a letter.

    Attributes
    ----------
    tracks : tuple of Track
    prediction, delta, site : float32 (N, K)
        Prediction on the reference; delta of the largest absolute value; strongest site.
    delta_at, site_at : int64 (N, K)
        Base of the + strand.
    ref, alt : int8 (N, K)
        Letters of the largest delta, on the + strand; an N is the code after the last letter.
    unknown : int64 (N,)
        N in the substituted part of the contig.
    missing : int64 (N,)
        Deltas that should be there and are not a finite number.
    off_zero : int64 (N,)
        Reference bases whose delta is not 0.
    up, down : int64 (K, BINS)
        How many deltas raise and lower the prediction, by log10 of their size.
    still : int64 (K,)
        How many are exactly 0.
    """

    tracks: tuple[Track, ...]
    prediction: Array
    delta: Array
    site: Array
    delta_at: Array
    site_at: Array
    ref: Array
    alt: Array
    unknown: Array
    missing: Array
    off_zero: Array
    up: Array
    down: Array
    still: Array


def survey(scores: Scores, tracks: Sequence[Track]) -> Survey:
    """Read the scored rows of a file once, a block at a time."""
    found = _blank(scores.n_rows, tuple(tracks))
    rows = scores.rows_with(Status.OK)
    found.prediction[rows] = scores.predictions(rows, tracks)
    for block in scores.blocks(rows, tracks):
        _add(found, block.on_genome(), scores)
    return found


def _blank(n: int, tracks: tuple[Track, ...]) -> Survey:
    shape, counts = (n, len(tracks)), (len(tracks), BINS)
    return Survey(
        tracks,
        prediction=np.full(shape, np.nan, np.float32),
        delta=np.full(shape, np.nan, np.float32),
        site=np.full(shape, np.nan, np.float32),
        delta_at=np.full(shape, -1, np.int64),
        site_at=np.full(shape, -1, np.int64),
        ref=np.full(shape, -1, np.int8),
        alt=np.full(shape, -1, np.int8),
        unknown=np.zeros(n, np.int64),
        missing=np.zeros(n, np.int64),
        off_zero=np.zeros(n, np.int64),
        up=np.zeros(counts, np.int64),
        down=np.zeros(counts, np.int64),
        still=np.zeros(len(tracks), np.int64),
    )


def _add(found: Survey, block: GenomeBlock, scores: Scores) -> None:
    rows, letters = block.rows, len(scores.letters)
    inside = _inside(block, scores)
    known = inside & (block.seq < letters)
    found.unknown[rows] = (inside & (block.seq >= letters)).sum(1)
    is_reference = block.seq[..., None] == np.arange(letters)
    expected = known[..., None] & ~is_reference
    finite = np.isfinite(block.delta)
    found.missing[rows] = (expected[:, None] & ~finite).sum((1, 2, 3))
    found.off_zero[rows] = ((is_reference & inside[..., None])[:, None] & (block.delta != 0)).sum((1, 2, 3))
    substituted = np.where(finite & ~is_reference[:, None], block.delta, 0)
    _add_largest(found, block, substituted)
    values, at = strongest_sites(block.importance())
    found.site[rows], found.site_at[rows] = values, block.start[:, None] + at
    for track in range(len(found.tracks)):
        _count(found, track, substituted[:, track][finite[:, track] & ~is_reference])


def _inside(block: GenomeBlock, scores: Scores) -> Array:
    """Which columns lie on the contig, bool (n, W)."""
    positions = block.start[:, None] + np.arange(block.seq.shape[1])
    columns = scores.regions
    return (positions >= columns["start"][block.rows, None]) & (positions < columns["end"][block.rows, None])


def _add_largest(found: Survey, block: GenomeBlock, substituted: Array) -> None:
    n, k, width, letters = substituted.shape
    if n * k * width * letters == 0:
        return
    flat = substituted.reshape(n, k, -1)
    best = np.abs(flat).argmax(-1)
    column, alt = np.divmod(best, letters)
    found.delta[block.rows] = np.take_along_axis(flat, best[..., None], -1)[..., 0]
    found.delta_at[block.rows] = block.start[:, None] + column
    found.ref[block.rows], found.alt[block.rows] = np.take_along_axis(block.seq, column, 1), alt


def _count(found: Survey, track: int, values: Array) -> None:
    found.still[track] += (values == 0).sum()
    for counts, chosen in ((found.up, values[values > 0]), (found.down, -values[values < 0])):
        powers = np.log10(chosen.astype(np.float64))
        bins = np.clip(np.floor((powers - LOWEST) * STEPS).astype(np.int64), 0, BINS - 1)
        counts[track] += np.bincount(bins, minlength=BINS)


# --- the quality checks of a report ----------------------------------------------------------------------------------

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
    return counted(int(np.count_nonzero(counts)), "region")


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
