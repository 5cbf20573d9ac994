"""How the deltas of a target are distributed: a histogram for the page and its words."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastism_cli.report.survey import BINS, LOWEST, STEPS, Array

COARSE = 8  # bars in a factor of ten
DECADES = 6  # shown below the largest delta; what is smaller is counted in the first bar


def spread(up: Array, down: Array, still: int) -> dict[str, Any]:
    """Bars of equal steps of log10 |delta|, those that raise and those that lower the prediction.

    Parameters
    ----------
    up, down : int64 (BINS,)
        As counted by :func:`fastism_cli.report.survey.survey`.
    still : int
        How many deltas are exactly 0.

    Returns
    -------
    dict
        ``from`` and ``step`` of the bars in powers of ten, their counts ``up`` and ``down``, and ``text``.
    """
    merged = [counts.reshape(-1, STEPS // COARSE).sum(1) for counts in (up, down)]
    used = np.flatnonzero(merged[0] + merged[1])
    if not len(used):
        return {"from": 0, "step": 1 / COARSE, "up": [], "down": [], "text": _nothing(still)}
    stop = int(used[-1]) + 1
    first = max(int(used[0]), stop - DECADES * COARSE)
    bars = [_lumped(counts, first, stop) for counts in merged]
    return {
        "from": LOWEST + first / COARSE,
        "step": 1 / COARSE,
        "up": bars[0],
        "down": bars[1],
        "text": _words(up, down, still) + (" The first bar holds all smaller ones too." if used[0] < first else ""),
    }


def _lumped(counts: Array, first: int, stop: int) -> list[int]:
    return [int(counts[: first + 1].sum()), *counts[first + 1 : stop].tolist()]


def _nothing(still: int) -> str:
    return f"{still:,} deltas, all of them 0." if still else "No deltas."


def _words(up: Array, down: Array, still: int) -> str:
    """Quantiles to within a bin, which is 7 %."""
    n_up, n_down = int(up.sum()), int(down.sum())
    zeros = f", {still:,} change nothing" if still else ""
    return (
        f"Deltas of all regions by their size: {n_up:,} raise the prediction, {n_down:,} lower it{zeros}. "
        f"Half are below about {_quantile(up + down, still, 0.5)}, 99 in 100 below {_quantile(up + down, still, 0.99)}."
    )


def _quantile(counts: Array, still: int, share: float) -> str:
    reached = still + np.cumsum(counts)
    index = int(np.searchsorted(reached, share * reached[-1]))
    if still >= share * reached[-1]:
        return "0"
    return f"{10 ** (LOWEST + min(index + 1, BINS) / STEPS):.2g}"
