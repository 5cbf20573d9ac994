"""What becomes of a damaged file: read right, refused in one line, read wrong, or an error that nobody foresaw."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from fastism_cli.errors import FastISMError, UsageError

RIGHT, REFUSED, WRONG, RAW = "right", "refused", "wrong", "raw"
WORDS = (RIGHT, REFUSED, WRONG, RAW)


class Outcome(NamedTuple):
    """One of :data:`WORDS`, and what happened, for people."""

    word: str
    detail: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of file to damage.

    Attributes
    ----------
    name : str
    prepare : callable
        Makes the undamaged files in a folder, once; what it returns is given to every ``attempt``.
    attempt : callable
        ``attempt(prepared, draw, folder)`` damages a copy in an empty folder and reads it. Draws are of ``draw`` alone.
    share : float
        Of the time, relative to the other kinds of its lane.
    needs_keras : bool
    """

    name: str
    prepare: Callable[[Path], Any]
    attempt: Callable[[Any, Random, Path], Outcome]
    share: float = 1
    needs_keras: bool = False


def read(function: Callable[[], Any], names: Sequence[str], wrong: Callable[[Any], str]) -> Outcome:
    """Call ``function`` and judge what it returns or raises.

    Parameters
    ----------
    names : sequence of str
        Names of the damaged files: the first line of an error holds one of them.
    wrong : callable
        What is wrong with the value that was read; "" if nothing is.
    """
    try:
        found = function()
    except FastISMError as error:
        return _refused(error, names)
    except Exception as error:
        return Outcome(RAW, f"{type(error).__name__}: {error}"[:300] + f" [{_place(error)}]")
    fault = wrong(found)
    return Outcome(WRONG, fault) if fault else Outcome(RIGHT)


def _refused(error: FastISMError, names: Sequence[str]) -> Outcome:
    """Refused, if the message is one line that names the file, and perhaps an indented list below it."""
    first, *rest = str(error).split("\n")
    if not isinstance(error, UsageError):
        return Outcome(RAW, f"exit code {error.exit_code}, not 2: {first[:300]}")
    named = " ".join(rest) if first.endswith(" problems:") else first
    if not any(name in named for name in names):
        return Outcome(RAW, f"the message names no file: {first[:300]!r}")
    if any(line[:1] != " " for line in rest):
        return Outcome(RAW, f"the message has several lines: {str(error)[:300]!r}")
    if any(not _is_clean(line) for line in (first, *rest)):
        return Outcome(RAW, f"the message has control characters: {str(error)[:300]!r}")
    return Outcome(REFUSED, first)


def _is_clean(line: str) -> bool:
    return not any(ord(letter) < 32 or ord(letter) == 127 for letter in line)


def _place(error: Exception) -> str:
    """The innermost line of the package that the error came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "fastism_cli" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside of the package"
