"""Several problems in one message: a user who mends one must not meet the next a minute later."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastism_cli.errors import FastISMError, UsageError

MAX_SHOWN = 20
MAX_LETTERS = 80  # of a value that a message repeats
MAX_LONG_LETTERS = 200  # of one that is a path or a list


def brief(value: object, most: int = MAX_LETTERS) -> str:
    """A value as it stands in a message: on one line, and not longer than one."""
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(value)[: most + 1])
    return text if len(text) <= most else f"{text[:most]}..."


class Listing:
    """Problems of one kind: all are counted, the first 20 are kept for the message."""

    def __init__(self, problems: Iterable[str] = ()) -> None:
        self.count = 0
        self._shown: list[str] = []
        for problem in problems:
            self.add(problem)

    def add(self, problem: str) -> None:
        """Count ``"line 7: what is wrong"``."""
        self.count += 1
        if self.count <= MAX_SHOWN:
            self._shown.append(problem)

    @property
    def first(self) -> str:
        return self._shown[0]

    def under(self, heading: str) -> str:
        """A message: the heading, a line for each of the first, and how many more there are."""
        more = [f"... and {self.count - MAX_SHOWN} more"] if self.count > MAX_SHOWN else []
        return "\n  ".join([heading, *self._shown, *more])


def refuse_regions(problems: Iterable[str], error: type[FastISMError], *, bed: str, fault: str, hint: str) -> None:
    """Raise ``error`` if there are problems with records of a BED.

    Parameters
    ----------
    problems : iterable of str
        ``"line 7: what is wrong"``.
    fault : str
        What is wrong with all of them, after "3 regions of peaks.bed".
    hint : str
        What to do.
    """
    found = Listing(problems)
    if found.count == 1:
        raise error(f"{bed} {found.first}. {hint}")
    if found.count:
        raise error(found.under(f"{found.count} regions of {bed} {fault}. {hint}"))


class Problems:
    """Runs checks that do not depend on each other and raises what all of them found in one error."""

    def __init__(self) -> None:
        self._found: list[FastISMError] = []

    def check(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """``function``'s result, or None if it found a problem."""
        try:
            return function(*args, **kwargs)
        except FastISMError as error:
            self._found.append(error)
            return None

    def raise_if_any(self) -> None:
        """Raise the one problem as it is, or all of them as a :class:`UsageError`."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            lines = [error.message.replace("\n", "\n  ") for error in self._found]
            raise UsageError("\n  ".join([f"{len(lines)} problems:", *lines]))
