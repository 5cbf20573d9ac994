"""Messages of a command while it works: on stderr, as clean lines in a log."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

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
        return f"{when}{word}{record.getMessage()}"


def start_logging(*, quiet: bool, verbose: bool) -> None:
    """Send the package's messages to stderr: warnings only if ``quiet``, everything if ``verbose``."""
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
