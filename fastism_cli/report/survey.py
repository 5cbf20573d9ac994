"""One pass over a result: the largest scores of every region, and the distribution of every target's deltas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastism_cli.results.schema import Status
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
