"""Arrays around the engines: the letters of one-hot rows, the letters to substitute, and the arrays of scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastism_cli.errors import SequenceError, UsageError
from fastism_cli.genome.alphabet import Alphabet, Codes

HOW = "--input NAME=zeros|ones|FILE.npy"


class OtherInput(NamedTuple):
    """An input that is not the sequence.

    Attributes
    ----------
    shape : tuple of int
        Without the batch axis.
    dtype : str
    integers : int or None
        If an Embedding reads it: how many integers that knows, from 0 on.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    integers: int | None = None


def letters_of(one_hot: np.ndarray) -> np.ndarray:
    """Letter codes, uint8 (n, L), of one-hot rows (n, L, letters). An N, a row of equal numbers, is ``letters``.

    Raises
    ------
    SequenceError
        If a row is neither one-hot nor an N. Names the row.
    """
    size = one_hot.shape[-1]
    is_letter = (one_hot.max(-1) == 1) & ((one_hot != 0).sum(-1) == 1)
    is_n = (one_hot == one_hot[..., :1]).all(-1) & ~is_letter
    if not (is_letter | is_n).all():
        sequence, position = (int(i[0]) for i in np.nonzero(~(is_letter | is_n)))
        row = one_hot[sequence, position].tolist()
        raise SequenceError(f"Sequence {sequence}, position {position} is neither one-hot nor an N. Received: {row}")
    codes: np.ndarray = np.where(is_letter, one_hot.argmax(-1), size).astype("uint8")
    return codes


def is_text(given: Any) -> bool:
    """Whether it is a sequence as text, or a list of them."""
    if isinstance(given, np.ndarray):
        return bool(given.dtype.kind == "U")
    return isinstance(given, str) or (
        isinstance(given, (list, tuple)) and bool(given) and all(isinstance(x, str) for x in given)
    )


def codes_of_text(given: str | Sequence[str], alphabet: Alphabet, length: int, wide: int = 0) -> Codes:
    """Letter codes, uint8 (n, L), of one text or several; all may be ``wide`` instead.

    Raises
    ------
    SequenceError
        If a text has another length, or holds what is no letter. Names the sequence.
    """
    texts = [given] if isinstance(given, str) else [str(text) for text in np.atleast_1d(given)]
    length = wide if all(len(text) == wide for text in texts) else length
    for i, text in enumerate(texts):
        if len(text) != length:
            raise SequenceError(f"Sequence {i} must have {length:,} letters, as the input has. Received: {len(text):,}")
        if not (text.isascii() and text.isalpha()):
            at = next(k for k, letter in enumerate(text) if not (letter.isascii() and letter.isalpha()))
            raise SequenceError(f"Sequence {i}, position {at} is no letter. Received: {text[at]!r}")
    return np.stack([alphabet.encode(text) for text in texts])


def alternates(codes: np.ndarray, start: int, size: int, letters: int, n_policy: str) -> Iterable[np.ndarray]:
    """Letters to substitute in a chunk, int32 (S, size, letters - 1).

    If N are scored, a second array has the letter of each N that is left over.
    """
    chunk = codes[:, start : start + size]
    if chunk.shape[1] < size:
        chunk = np.pad(chunk, [(0, 0), (0, size - chunk.shape[1])], constant_values=0)
    others = other_letters(letters)
    yield others[chunk]
    if n_policy == "score" and (chunk >= letters).any():
        rest = others.copy()
        rest[letters] = letters - 1
        yield rest[chunk]


@cache
def other_letters(letters: int) -> np.ndarray:
    """The letters that can replace each letter, int32 (letters + 1, letters - 1); an N by all but the last."""
    others = np.arange(letters - 1, dtype="int32")
    table = (np.arange(letters, dtype="int32")[:, None] + 1 + others) % letters
    return np.concatenate([table, others[None]]).astype("int32")


def set_reference_letters(delta: np.ndarray, codes: np.ndarray) -> None:
    """Write 0 into ``delta`` (n, *head shape, positions, letters) at the sequences' own letters, (n, positions)."""
    row, column = np.nonzero(codes < delta.shape[-1])
    if _is_single(delta):
        delta.reshape(-1)[_places(delta, row, column, codes[row, column])] = 0
    else:
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
    row, column = np.nonzero(where)
    for values in delta.values() if len(row) else ():
        values[rows][row, ..., column, :] = np.nan


def repeat_duplicates(delta: Mapping[str, np.ndarray], rows: slice, wanted: np.ndarray, columns: np.ndarray) -> None:
    """Copy the scores of positions that were asked for twice or more."""
    again = np.nonzero(columns[wanted] != np.arange(len(wanted)))[0]
    for values in delta.values():
        values[rows][..., again, :] = values[rows][..., columns[wanted[again]], :]


def check_all_given(given: Mapping[str, object], wanted: Mapping[str, tuple[int, ...]], *, sequence: str = "") -> None:
    """Raise :class:`UsageError` if an input that is not the sequence has no values.

    ``sequence`` is the name and the shape of the input that holds the sequence, for the message.
    """
    missing = {name: shape for name, shape in wanted.items() if name not in given}
    if missing:
        listing = ", ".join(f"{name!r} {shape}" for name, shape in missing.items())
        noun = "an input" if len(missing) == 1 else f"{len(missing)} inputs"
        where = f" The sequence is in {sequence}." if sequence else ""
        raise UsageError(f"The model has {noun} beside the sequence: {listing}. Give each its values: {HOW}.{where}")


def fill_up(array: np.ndarray, multiple: int) -> np.ndarray:
    """Repeat the last row of an array (n, ...) until ``n`` is a multiple of ``multiple``.

    The last block of a run then has the shape of the others, so that nothing new is compiled for it.
    """
    n = len(array)
    return np.asarray(array)[np.minimum(np.arange(-(-n // multiple) * multiple), n - 1)]
