"""What is put into a block: letters, numbers, or the block's own letters in another order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from fastism_cli.errors import UsageError, brief
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.genome.input_files import NUMBERS, array_in
from fastism_cli.options.averages import Pass
from fastism_cli.options.choices import (
    BACKGROUND,
    FILE,
    LETTERS,
    SHUFFLE,
    UNKNOWN,
    Replacement,
    parse_replacement,
)


class Content(Protocol):
    """What is put into a block.

    Attributes
    ----------
    count : int
        How many contents there are for each block.
    is_averaged : bool
        Whether the mean of their deltas is the score.
    """

    @property
    def is_averaged(self) -> bool: ...

    @property
    def count(self) -> int: ...

    def rows(self, here: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """float32 (S or 1, P or 1, count, width, letters), for what is there, (S, P, 1, width, letters)."""


@dataclass(frozen=True)
class Fixed:
    """The same in every block: float32 (count, width, letters)."""

    values: np.ndarray
    is_averaged = False

    @property
    def count(self) -> int:
        return len(self.values)

    def rows(self, here: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return self.values[None, None]


@dataclass(frozen=True)
class Shuffled:
    """The block's own letters in ``count`` random orders.

    An order depends on the seed, on its number, and on where the block begins in the input: not on other blocks.
    """

    count: int
    seed: int
    width: int
    is_averaged = True

    def rows(self, here: np.ndarray, starts: np.ndarray) -> np.ndarray:
        orders = np.stack([random_orders(self.count, self.width, self.seed, int(start)) for start in starts])
        return np.take_along_axis(here, orders[None, ..., None], axis=3)


@lru_cache(maxsize=1024)
def random_orders(count: int, width: int, seed: int, start: int) -> np.ndarray:
    """int (count, width): in each row, the numbers below ``width`` in a random order."""
    rng = np.random.default_rng([seed, start])
    return rng.permuted(np.tile(np.arange(width, dtype="int32"), (count, 1)), axis=1)


@dataclass(frozen=True)
class ReverseComplement:
    """The block's own letters on the other strand. ``partners`` are the channels of the complements."""

    partners: tuple[int, ...]
    count = 1
    is_averaged = False

    def rows(self, here: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return here[:, :, :, ::-1, self.partners]


@dataclass(frozen=True)
class Seen:
    """A content in the way that a pass shows it: in another place, and perhaps on the other strand.

    Attributes
    ----------
    content : Content
        Of the input as it is.
    shown : Pass
    length, width : int
        Of the input, and of a block.
    partners : tuple of int
        The channel of each letter on the strand that is shown.
    """

    content: Content
    shown: Pass
    length: int
    width: int
    partners: tuple[int, ...]

    @property
    def count(self) -> int:
        return self.content.count

    @property
    def is_averaged(self) -> bool:
        return self.content.is_averaged

    def rows(self, here: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return self._strand(self.content.rows(self._strand(here), self._as_given(starts)))

    def _as_given(self, starts: np.ndarray) -> np.ndarray:
        """Where blocks begin in the input as it is."""
        moved: np.ndarray = self.length - self.width - starts if self.shown.reverse else starts
        given: np.ndarray = np.maximum(moved + self.shown.shift, 0)  # a call may be filled up with blocks past the end
        return given

    def _strand(self, rows: np.ndarray) -> np.ndarray:
        return rows[..., ::-1, self.partners] if self.shown.reverse else rows


# --- from what a user gives ------------------------------------------------------------------------------------------


def content_of(replace_with: Any, alphabet: Alphabet, width: int, *, samples: int, seed: int) -> Content:
    """What is put into blocks of this width.

    Parameters
    ----------
    replace_with : str, number or array
        As :class:`fastism_cli.engine.fastism.FastISM` takes it.

    Raises
    ------
    UsageError
        If it cannot have such a width.
    """
    if isinstance(replace_with, str):
        given = parse_replacement(replace_with, alphabet.letters)
        return _of_text(given, alphabet, width, samples=samples, seed=seed)
    return Fixed(fixed_rows(replace_with, alphabet.size, width))


def width_for(replace_with: Any, alphabet: Alphabet, asked: int | None) -> int:
    """The width of all blocks, of which ``asked`` were asked for.

    Raises
    ------
    UsageError
        If it is not given, or another than that of the replacement.
    """
    own = width_of(replace_with, alphabet)
    width = asked if own is None else own
    if width is None:
        raise UsageError(f"{named(replace_with)}: give the width of the blocks (--width), or ranges.")
    if asked not in (None, width):
        raise UsageError(f"{named(replace_with)} has a width of its own, {own}. Received: width={asked}")
    return width


def width_of(replace_with: Any, alphabet: Alphabet) -> int | None:
    """The width that a replacement has by itself; None if it can have any.

    Raises
    ------
    UsageError
        If it is not one.
    """
    if isinstance(replace_with, str):
        given = parse_replacement(replace_with, alphabet.letters)
        return given.width if given.kind != FILE else width_of(stored_content(given.text), alphabet)
    shape = np.shape(replace_with)
    return shape[-2] if len(shape) > 1 else None


def stored_content(path: str) -> np.ndarray:
    """The numbers of a ``.npy`` file.

    Raises
    ------
    UsageError
        If it cannot be read, or holds no numbers.
    """
    return array_in(path, named(path))


def named(replace_with: Any) -> str:
    """What it is called in messages: by its option, with its text, or by its name in the library."""
    return f"--replace-with {brief(replace_with)}" if isinstance(replace_with, str) else "replace_with"


def _of_text(given: Replacement, alphabet: Alphabet, width: int, *, samples: int, seed: int) -> Content:
    if given.kind == UNKNOWN:
        return Fixed(fixed_rows(0, alphabet.size, width))
    if given.kind == BACKGROUND:
        return Fixed(fixed_rows(given.frequencies or (1 / alphabet.size,) * alphabet.size, alphabet.size, width))
    if given.kind == LETTERS:
        return Fixed(fixed_rows(alphabet.one_hot(alphabet.encode(given.text)), alphabet.size, width))
    if given.kind == FILE:
        return Fixed(fixed_rows(stored_content(given.text), alphabet.size, width, named(given.text)))
    if given.kind == SHUFFLE:
        return Shuffled(samples, seed, width)
    return ReverseComplement(alphabet.complements)


def fixed_rows(values: Any, letters: int, width: int, what: str = "replace_with") -> np.ndarray:
    """A number, (letters,), (width, letters) or (A, width, letters) as float32 (A, width, letters).

    ``what`` names it in messages.

    Raises
    ------
    UsageError
        If it has another shape, or holds something that is no finite number.
    """
    try:
        given = np.asarray(values)
    except ValueError:  # lists of different lengths
        given = np.asarray(None)
    with np.errstate(over="ignore"):
        rows = given.astype("float32") if given.dtype.kind in NUMBERS else np.asarray(np.nan)
    if not np.isfinite(rows).all():
        raise UsageError(f"{what}: an array must hold finite numbers.")
    shape = rows.shape
    if rows.ndim > 3 or (rows.ndim and shape[-1] != letters) or (rows.ndim > 1 and shape[-2] != width) or not rows.size:
        raise UsageError(
            f"{what}: an array must have shape ({letters},), (width, {letters}) or (A, width, {letters}) with "
            f"width {width}. Received: {shape}"
        )
    return np.broadcast_to(rows, (shape[0] if rows.ndim == 3 else 1, width, letters))
