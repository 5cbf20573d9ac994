"""Deltas of a region as text that a page can hold: three bytes a substitution, base64."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def pack_delta(seq: Array, delta: Array) -> str:
    """The deltas of all substitutions, column by column in the order of the letters, as floats of 24 bits.

    The reference base is left out, for its delta is 0; a column that holds an N has all letters. A float of 24 bits is
    the upper three bytes of a float32, least significant first: 16 significant bits, so that a number is off by at most
    2 ** -16 of itself.

    Parameters
    ----------
    seq : uint8 (W,)
    delta : float32 (W, letters)
    """
    is_reference = seq[:, None] == np.arange(delta.shape[1])
    return base64.b64encode(_upper_bytes(delta[~is_reference])).decode()


def _upper_bytes(values: Array) -> bytes:
    bits = np.where(np.isnan(values), np.float32(np.nan), values).astype("<f4").view("<u4")
    rounded = bits + np.uint32(0x80)  # half of what is cut off
    return rounded.view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()


def packed_sizes(bases: Array, unknown: Array, letters: int, tracks: int) -> Array:
    """Bytes of each region in the page: its letters and the deltas of all tracks.

    Parameters
    ----------
    bases, unknown : int64 (n,)
        Columns of each region, and how many of them hold an N.
    """
    substitutions = bases * (letters - 1) + unknown
    return bases + 4 * tracks * substitutions  # base64 has 4 letters for 3 bytes
