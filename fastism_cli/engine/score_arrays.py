"""Arrays around the engines: the letters to substitute, and the arrays of scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from math import prod

import numpy as np


def alternates(codes: np.ndarray, start: int, size: int, letters: int, n_policy: str) -> Iterable[np.ndarray]:
    """Letters to substitute in a chunk, int32 (S, size, letters - 1).

    If N are scored, a second array has the letter of each N that is left over.
    """
    chunk = codes[:, start : start + size]
    if chunk.shape[1] < size:
        chunk = np.pad(chunk, [(0, 0), (0, size - chunk.shape[1])], constant_values=0)
    others = other_letters(letters)
    yield others.take(chunk, axis=0)
    if n_policy == "score" and (chunk >= letters).any():
        rest = others.copy()
        rest[letters] = letters - 1
        yield rest.take(chunk, axis=0)


@cache
def other_letters(letters: int) -> np.ndarray:
    """The letters that can replace each letter, int32 (letters + 1, letters - 1); an N by all but the last."""
    others = np.arange(letters - 1, dtype="int32")
    table = (np.arange(letters, dtype="int32")[:, None] + 1 + others) % letters
    return np.concatenate([table, others[None]]).astype("int32")


def set_reference_letters(delta: np.ndarray, codes: np.ndarray) -> None:
    """Write 0 into ``delta`` (n, *head shape, positions, letters) at the sequences' own letters, (n, positions)."""
    known = codes < delta.shape[-1]
    if _is_single(delta):
        places = np.arange(codes.size) * delta.shape[-1] + codes.reshape(-1)
        delta.reshape(-1)[places if known.all() else places[known.reshape(-1)]] = 0
    else:
        row, column = np.nonzero(known)
        _flat(delta)[row, :, column, codes[row, column]] = 0


def column_of(wanted: np.ndarray, length: int) -> np.ndarray:
    """The column of the result for each position of the sequence: the first, if asked for twice; -1 if not at all."""
    columns = np.full(length, -1)
    columns[wanted[::-1]] = np.arange(len(wanted))[::-1]
    return columns


def scatter(delta: np.ndarray, values: np.ndarray, at: np.ndarray, bases: np.ndarray) -> None:
    """Write a chunk's values (S, P, A, *head shape) into ``delta`` (n, *head shape, positions, letters)."""
    n = len(delta)
    values = values.reshape(*values.shape[:3], -1)[:n]
    keep = at >= 0
    if not keep.all():
        at, bases, values = at[keep], bases[:, keep], values[:, keep]
    row, column = np.arange(n)[:, None, None], at[None, :, None]
    if _is_single(delta):
        delta.reshape(-1)[_places(delta, row, column, bases)] = values[..., 0]
    else:
        _flat(delta)[row, :, column, bases] = values


def _is_single(delta: np.ndarray) -> bool:
    """Whether there is one unit and no gap in memory: one number then says where a score goes, which is faster."""
    return prod(delta.shape[1:-2]) == 1 and bool(delta.flags.c_contiguous)


def _places(delta: np.ndarray, row: np.ndarray, column: np.ndarray, letter: np.ndarray) -> np.ndarray:
    length, letters = delta.shape[-2:]
    places: np.ndarray = (row * length + column) * letters + letter
    return places


def _flat(delta: np.ndarray) -> np.ndarray:
    """The same memory as (n, units, positions, letters)."""
    n, *shape, length, letters = delta.shape
    flat = delta.reshape(n, prod(shape), length, letters)
    assert not flat.size or np.may_share_memory(flat, delta)
    return flat


def blank(delta: Mapping[str, np.ndarray], rows: slice, where: np.ndarray) -> None:
    """Set the scores to NaN at some positions, bool (n, positions)."""
    if not where.any():  # which takes a tenth of the time
        return
    row, column = np.nonzero(where)
    for values in delta.values():
        values[rows][row, ..., column, :] = np.nan


def repeat_duplicates(delta: Mapping[str, np.ndarray], rows: slice, wanted: np.ndarray, columns: np.ndarray) -> None:
    """Copy the scores of positions that were asked for twice or more."""
    again = np.nonzero(columns[wanted] != np.arange(len(wanted)))[0]
    for values in delta.values():
        values[rows][..., again, :] = values[rows][..., columns[wanted[again]], :]


def fill_up(array: np.ndarray, multiple: int) -> np.ndarray:
    """Repeat the last row of an array (n, ...) until ``n`` is a multiple of ``multiple``.

    The last block of a run then has the shape of the others, so that nothing new is compiled for it.
    """
    n = len(array)
    return np.asarray(array)[np.minimum(np.arange(-(-n // multiple) * multiple), n - 1)]
