"""What `--replace-with` puts into a block of the sequence, as it is written."""

from __future__ import annotations

from math import isfinite
from typing import NamedTuple

from fastism_cli.errors import UsageError
from fastism_cli.options.problems import brief

UNKNOWN, BACKGROUND, SHUFFLE, REVERSE_COMPLEMENT = "N", "background", "shuffle", "reverse-complement"
LETTERS, FILE = "letters", "file"
ARRAY_ENDING = ".npy"
WAYS = f"{UNKNOWN}, {BACKGROUND}[:NUMBER,...], {SHUFFLE}, {REVERSE_COMPLEMENT}, a sequence of letters, or FILE.npy"


class Replacement(NamedTuple):
    """What a block is replaced with.

    Attributes
    ----------
    kind : str
        One of the constants of this module.
    text : str
        The letters of a sequence, or the name of a file.
    frequencies : tuple of float
        Of the letters, in the order of the alphabet; empty: all equal.
    """

    kind: str
    text: str = ""
    frequencies: tuple[float, ...] = ()

    @property
    def width(self) -> int | None:
        """The width that it has by itself; None if it can have any, or only the file knows."""
        return len(self.text) if self.kind == LETTERS else None


def names_file(text: str) -> bool:
    """Whether it is the name of a file."""
    return text.endswith(ARRAY_ENDING)


def parse_replacement(text: str, alphabet: str = "ACGT") -> Replacement:
    """``"background:0.3,0.2,0.2,0.3" -> Replacement("background", frequencies=(0.3, 0.2, 0.2, 0.3))``

    Raises
    ------
    UsageError
        If it is none of :data:`WAYS`.
    """
    word, colon, rest = text.partition(":")
    unknown = "X" if UNKNOWN in alphabet.upper() else UNKNOWN  # N is an amino acid
    if text == unknown:
        return Replacement(UNKNOWN)
    if text in (SHUFFLE, REVERSE_COMPLEMENT, BACKGROUND):
        return Replacement(text)
    if word == BACKGROUND and colon:
        return Replacement(BACKGROUND, frequencies=_frequencies(rest, len(alphabet)))
    if names_file(text):
        return Replacement(FILE, text)
    letters = text.upper()
    if letters and set(letters) <= {*alphabet.upper(), unknown}:
        return Replacement(LETTERS, letters)
    raise UsageError(
        f"--replace-with must be {WAYS}; the letters are {alphabet} and {unknown}. Received: {brief(text)}"
    )


def _frequencies(text: str, letters: int) -> tuple[float, ...]:
    """Numbers for all letters; they add up to 1."""
    try:
        found = tuple(float(number) for number in text.split(","))
    except ValueError:
        found = ()
    fits = len(found) == letters and all(isfinite(x) and x >= 0 for x in found)
    if not fits or abs(sum(found) - 1) > 1e-6:
        raise UsageError(
            f"--replace-with {BACKGROUND}: give {letters} frequencies that add up to 1, as in "
            f"{BACKGROUND}:0.3,0.2,0.2,0.3. Received: {brief(text)}"
        )
    return found
