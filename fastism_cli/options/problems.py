"""Several problems in one message: a user who mends one must not meet the next a minute later."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastism_cli.errors import FastISMError, UsageError

SHOWN = 20


def refuse_regions(problems: Iterable[str], error: type[FastISMError], *, bed: str, fault: str, hint: str) -> None:
    """Raise ``error`` if there are problems with records of a BED.

    Parameters
    ----------
    problems : iterable of str
        ``"line 7: what is wrong"``; all are counted, the first 20 are shown.
    fault : str
        What is wrong with all of them, after "3 regions of peaks.bed".
    hint : str
        What to do.
    """
    shown, count = [], 0
    for problem in problems:
        count += 1
        if count <= SHOWN:
            shown.append(problem)
    if count == 1:
        raise error(f"{bed} {shown[0]}. {hint}")
    if count:
        more = [f"... and {count - SHOWN} more"] if count > SHOWN else []
        raise error("\n  ".join([f"{count} regions of {bed} {fault}. {hint}", *shown, *more]))


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
            lines = [str(error).replace("\n", "\n  ") for error in self._found]
            raise UsageError("\n  ".join([f"{len(lines)} problems:", *lines]))
