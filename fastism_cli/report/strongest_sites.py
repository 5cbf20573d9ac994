"""The strongest site of a region: by it regions are ranked, and around it a picture is drawn."""

from __future__ import annotations

import numpy as np

from fastism_cli.results.arrays import Array

SITE = 11  # bases, about a motif: with one base, noise would rank above a motif of moderately important bases


def strongest_sites(importance: Array) -> tuple[Array, Array]:
    """The largest sum of importance, positive or negative, over ``SITE`` bases in a row.

    Parameters
    ----------
    importance : float32 (..., W)
        NaN, where there is none, counts as 0. Where W is less than ``SITE``, the site is the whole window.

    Returns
    -------
    float32 (...)
        The sum, with its sign; 0 of an empty window.
    int64 (...)
        The column in the middle of the site.
    """
    width = min(SITE, importance.shape[-1])
    if width == 0:
        nothing = np.zeros(importance.shape[:-1])
        return nothing.astype(np.float32), nothing.astype(np.int64)
    sums = _running_sums(np.nan_to_num(importance.astype(np.float64)), width)
    first = np.abs(sums).argmax(-1)
    best = np.take_along_axis(sums, first[..., None], -1)[..., 0]
    return best.astype(np.float32), first + width // 2


def _running_sums(values: Array, width: int) -> Array:
    """Sum of ``width`` columns from each on, (..., W - width + 1)."""
    ends = np.cumsum(values, axis=-1)
    starts = np.concatenate([np.zeros_like(ends[..., :1]), ends[..., :-width]], axis=-1)
    return ends[..., width - 1 :] - starts


def ranked(sites: Array) -> Array:
    """Rows from the strongest site to the weakest, int64; rows without scores (NaN) are left out.

    Parameters
    ----------
    sites : float32 (N,)
    """
    known = np.flatnonzero(np.isfinite(sites))
    return known[np.argsort(-np.abs(sites[known]), kind="stable")]
