"""Interactions of pairs of letters as numbers of two positions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastism_cli.scores.tracks import Array


class PairMap(NamedTuple):
    """A number for each of some pairs of positions.

    Attributes
    ----------
    ends : int64 (m, 2)
        Both positions of each pair, counted as those of the picture.
    values : float (m,)
        NaN where it was not computed.
    within : int
        The largest distance.
    """

    ends: Array
    values: Array
    within: int


def strongest_of(interaction: Array) -> Array:
    """The interaction of the largest magnitude over the letters of both positions, with its sign.

    Parameters
    ----------
    interaction : float (..., letters, letters)
        NaN where not computed.

    Returns
    -------
    float (...)
        NaN where there is none.
    """
    flat = interaction.reshape(*interaction.shape[:-2], -1)
    sizes = np.where(np.isfinite(flat), np.abs(flat), -1)
    at = sizes.argmax(-1)[..., None]
    found: Array = np.take_along_axis(flat, at, -1)[..., 0]
    return np.where(np.take_along_axis(sizes, at, -1)[..., 0] < 0, np.nan, found)


def pair_map(interaction: Array, positions: Array) -> PairMap:
    """The strongest interaction of each two positions, of one sequence and target.

    Parameters
    ----------
    interaction : float (P, D, letters, letters)
        As ``/pairs`` of a result file holds them.
    positions : int64 (P,)
        The place of each position in the picture.
    """
    count, within = interaction.shape[:2]
    first, which = np.nonzero(np.arange(count)[:, None] + np.arange(1, within + 1) < count)
    ends = np.stack([positions[first], positions[first + which + 1]], axis=1)
    return PairMap(ends, strongest_of(interaction)[first, which], within)
