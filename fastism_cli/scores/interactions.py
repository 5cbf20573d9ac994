"""Interactions of pairs of letters as numbers of two positions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastism_cli.scores.tracks import Array


class PairMap(NamedTuple):
    """A number for each of some pairs of positions, to be drawn below a logo.

    Attributes
    ----------
    ends : int64 (m, 2)
        Both positions of each pair, counted from 0 as those of the picture.
    values : float (m,)
        NaN where it was not computed.
    furthest : int
        The largest distance.
    largest : float
        The largest magnitude of all that are drawn in one picture.
    """

    ends: Array
    values: Array
    furthest: int
    largest: float

    @property
    def label(self) -> str:
        """What stands beside it: the interaction of the darkest colours."""
        return f"pairs \u00b1{self.largest:.2g}"

    def within(self, chrom: str, start: int, end: int) -> PairMap:
        """The pairs whose positions both lie in ``[start, end)``."""
        inside = ((self.ends >= start) & (self.ends < end)).all(1)
        return self._replace(ends=self.ends[inside], values=self.values[inside])


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
    values = strongest_of(interaction)[first, which]
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0)) or 1.0
    return PairMap(ends, values, within, largest)
