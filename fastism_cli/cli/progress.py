"""Progress of a run: a bar on a terminal, else a line a minute; never a carriage return in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from fastism_cli.cli.messages import LOGGER, is_quiet
from fastism_cli.run.summary import Progress, Silent

SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_PICTURES = 10.0


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A bar, lines or nothing, whichever suits stderr."""
    if is_quiet():
        yield Silent()
    elif sys.stderr.isatty() and _has_width():
        with ExitStack() as stack:
            yield Bar(stack)
    else:
        yield Lines()


def _has_width() -> bool:
    """Whether the terminal says how wide it is; where it does not, tqdm shows nothing."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):  # no descriptor, or one that is closed
        return False


class Lines:
    """A line in the log every minute."""

    def __init__(self) -> None:
        self.total = self.rows = self.substitutions = 0
        self.started = self.last_line = time.monotonic()

    def start(self, rows: int, done: int = 0) -> None:
        self.total = rows - done
        self.started = self.last_line = time.monotonic()

    def advance(self, rows: int, substitutions: int) -> None:
        self.rows += rows
        self.substitutions += substitutions
        now = time.monotonic()
        if now - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = now
            LOGGER.info(self.line(now - self.started))

    def line(self, seconds: float) -> str:
        """``1,200 of 100,000 regions (1.2 %), 2,000,000 substitutions/s, 1 h 22 min left``"""
        left = seconds * (self.total - self.rows) / max(self.rows, 1)
        return (
            f"{self.rows:,} of {self.total:,} regions ({100 * self.rows / max(self.total, 1):.1f} %), "
            f"{self.substitutions / max(seconds, 1e-9):,.0f} substitutions/s, {_duration(left)} left"
        )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


class Bar:
    """tqdm's bar, with the log's lines above it, from ``start`` on."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.update: Callable[[int], object] = lambda rows: None

    def start(self, rows: int, done: int = 0) -> None:
        from tqdm import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm

        bar = tqdm(total=rows, initial=done, unit=" regions", file=sys.stderr, disable=None, leave=False)
        self.update = self.stack.enter_context(bar).update
        self.stack.enter_context(logging_redirect_tqdm([LOGGER]))

    def advance(self, rows: int, substitutions: int) -> None:
        self.update(rows)


@contextmanager
def shown_pictures() -> Iterator[Callable[[int, int], None]]:
    """What is told how many pictures of how many are drawn: a bar on a terminal, else some lines; nothing for one."""
    with ExitStack() as stack:
        if is_quiet():
            yield lambda done, all: None
        elif sys.stderr.isatty() and _has_width():
            yield PictureBar(stack).tick
        else:
            yield PictureLines().tick


class PictureBar:
    """tqdm's bar over several pictures."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.update: Callable[[int], object] | None = None

    def tick(self, done: int, all: int) -> None:
        from tqdm import tqdm

        if self.update is None and all > 1:
            bar = tqdm(total=all, unit=" pictures", file=sys.stderr, leave=False)
            self.update = self.stack.enter_context(bar).update
        if self.update is not None and done:
            self.update(1)


class PictureLines:
    """A line when the first of several pictures is drawn, and then at most one every ten seconds."""

    def __init__(self) -> None:
        self.last_line = 0.0

    def tick(self, done: int, all: int) -> None:
        now = time.monotonic()
        if all > 1 and done < all and (done == 0 or now - self.last_line >= SECONDS_BETWEEN_PICTURES):
            LOGGER.info(f"drawing {all:,} pictures" if done == 0 else f"{done:,} of {all:,} pictures")
            self.last_line = now
