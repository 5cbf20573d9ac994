"""What commands print: messages on stderr, as clean lines in a log, and tables of text."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Collection, Sequence
from typing import Any

from fastism_cli.errors import Message

LOGGER = logging.getLogger("fastism_cli")
LEVEL_VARIABLE = "FASTISM_LOG_LEVEL"  # read by worker processes


class _Stderr(logging.StreamHandler):
    """Writes to the current ``sys.stderr``."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:  # type: ignore[override]
        return sys.stderr


class _Formatter(logging.Formatter):
    """Bare messages on a terminal, with the time in a log; warnings are marked as such."""

    def format(self, record: logging.LogRecord) -> str:
        word = f"{record.levelname.capitalize()}: " if record.levelno >= logging.WARNING else ""
        when = "" if sys.stderr.isatty() else f"{self.formatTime(record, '%Y-%m-%d %H:%M:%S')} "
        return f"{when}{word}{_text(record)}"


def _text(record: logging.LogRecord) -> str:
    """The message with the options of the command line."""
    if not isinstance(record.msg, Message):
        return record.getMessage()
    text: str = record.msg.text
    return text % record.args if record.args else text


def start_logging(*, quiet: bool, verbose: bool) -> None:
    """Send the package's messages to stderr: warnings only if ``quiet``, everything if ``verbose``."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that is not UTF-8, or a locale without it
        sys.stdout.reconfigure(errors="backslashreplace")
    for handler in list(LOGGER.handlers):
        if isinstance(handler, _Stderr):
            LOGGER.removeHandler(handler)
    handler = _Stderr()
    handler.setFormatter(_Formatter())
    LOGGER.addHandler(handler)
    os.environ[LEVEL_VARIABLE] = "verbose" if verbose else "quiet" if quiet else ""
    LOGGER.setLevel(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)


def is_verbose() -> bool:
    return LOGGER.getEffectiveLevel() <= logging.DEBUG


def is_quiet() -> bool:
    return LOGGER.getEffectiveLevel() >= logging.WARNING


def aligned(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Lines of equal columns; those numbered in ``right`` are set flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_set(row[i], widths[i], i in right) for i in range(len(row))).rstrip() for row in rows]


def _set(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def human(number: float) -> str:
    """``7_590_000 -> 7.59M``, ``12 -> 12``"""
    for unit in ("", "k", "M", "G"):
        if abs(number) < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"
