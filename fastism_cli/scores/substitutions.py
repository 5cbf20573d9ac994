"""Deltas as a list of substitutions, or of contents of blocks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastism_cli.scores.tracks import Array


class Substituted(NamedTuple):
    """Substitutions with a score: int64 (m,) indices into the arrays that they were found in, and their deltas.

    Attributes
    ----------
    row, track, column, alt : int64 (m,)
    delta : float32 (m,)
    """

    row: Array
    track: Array
    column: Array
    alt: Array
    delta: Array


def substituted(seq: Array, delta: Array, wanted: Array | None = None) -> Substituted:
    """List the substitutions that have a score, by row, track, column and letter.

    Parameters
    ----------
    seq : uint8 (n, W)
    delta : float32 (n, K, W, letters)
        NaN where not computed. The letter that is there is no substitution.
    wanted : bool (n, W), optional
        The columns to list. Default: all.
    """
    is_other = np.arange(delta.shape[-1]) != seq[..., None]
    if wanted is not None:
        is_other &= wanted[..., None]
    found = np.isfinite(delta) & is_other[:, None]
    row, track, column, alt = np.nonzero(found)
    return Substituted(row, track, column, alt, delta[found])


def replaced(delta: Array, wanted: Array | None = None) -> Substituted:
    """List the contents of blocks that have a score: ``column`` is the number of a block, ``alt`` that of a content.

    Parameters
    ----------
    delta : float32 (n, K, P, A)
        NaN where not computed.
    wanted : bool (n, P), optional
        The blocks to list. Default: all.
    """
    found = np.isfinite(delta)
    if wanted is not None:
        found &= wanted[:, None, :, None]
    row, track, column, alt = np.nonzero(found)
    return Substituted(row, track, column, alt, delta[found])
