"""What a run shows while it works: a bar on a terminal, lines in a log."""

import fcntl
import logging
import os
import pty
import struct
import sys
import termios
from collections.abc import Callable

import pytest

from fastism_cli.cli.messages import LOGGER, start_logging
from fastism_cli.cli.progress import Lines, shown_pictures, shown_progress

END = "<end>"
pytestmark = pytest.mark.usefixtures("logging_as_before")


def work() -> None:
    """What a run tells: 100 regions in four blocks, and a line of the log between them."""
    with shown_progress() as progress:
        progress.start(100, 20)
        for rows in (20, 20, 20, 20):
            progress.advance(rows, 1500)
            LOGGER.info("a line between")
    LOGGER.info("the end")


def shown(monkeypatch, *, columns: int | None, quiet: bool = False, what: Callable[[], None] = work) -> str:
    """What appears on a terminal so many columns wide, or in a pipe."""
    reading, writing = os.pipe() if columns is None else pty.openpty()
    if columns is not None:
        fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
    with os.fdopen(writing, "w", buffering=1) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        start_logging(quiet=quiet, verbose=False)
        what()
        stderr.write(END)
        stderr.flush()
        found = b""
        while not found.endswith(END.encode()):  # a terminal hands on what was written a little later, and in pieces
            found += os.read(reading, 1 << 16)
    os.close(reading)
    return found.decode().removesuffix(END).replace("\r\n", "\n")


def test_a_bar_on_a_terminal(monkeypatch):
    text = shown(monkeypatch, columns=100)
    bars = [part for part in text.split("\r") if "%|" in part]
    assert bars and "20/100" in bars[0] and all(len(bar.split("\n")[0]) <= 100 for bar in bars), text
    assert text.count("a line between\n") == 4 and text.endswith("the end\n")
    assert text.rindex("%|") < text.rindex("\r") < text.index("the end")  # it is wiped out at the end


def test_no_bar_and_no_carriage_return_in_a_pipe(monkeypatch):
    text = shown(monkeypatch, columns=None)
    assert "\r" not in text and "%|" not in text and "regions/s" not in text
    assert [line.split(" ", 2)[2] for line in text.splitlines()] == [*4 * ["a line between"], "the end"]


def test_lines_on_a_terminal_that_has_no_size(monkeypatch):
    """As of ``docker run -t`` and some continuous integration: tqdm would show nothing at all."""
    monkeypatch.setattr("fastism_cli.cli.progress.SECONDS_BETWEEN_LINES", 0.0)
    text = shown(monkeypatch, columns=0)
    assert "\r" not in text and "%|" not in text and text.count("of 80 regions (") == 4


def test_no_bar_on_a_terminal_if_quiet(monkeypatch):
    assert shown(monkeypatch, columns=100, quiet=True) == ""


def test_progress_is_a_line_a_minute_in_a_log(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr("fastism_cli.cli.progress.time.monotonic", lambda: now[0])
    start_logging(quiet=False, verbose=False)
    with caplog.at_level(logging.INFO, LOGGER.name), shown_progress() as progress:
        assert isinstance(progress, Lines)
        progress.start(1000)
        for _ in range(10):
            now[0] += 25
            progress.advance(10, 3000)
    assert [record.getMessage() for record in caplog.records] == [
        "30 of 1,000 regions (3.0 %), 120 substitutions/s, 40 min left",
        "60 of 1,000 regions (6.0 %), 120 substitutions/s, 39 min left",
        "90 of 1,000 regions (9.0 %), 120 substitutions/s, 38 min left",
    ]


def test_a_long_wait_is_told_in_hours():
    lines = Lines()
    lines.start(100)
    lines.rows = 1
    assert lines.line(100).endswith("2 h 45 min left")


def draw(pictures: int) -> None:
    with shown_pictures() as tick:
        for done in range(pictures + 1):
            tick(done, pictures)
    LOGGER.info("the end")


def test_pictures_have_a_bar_on_a_terminal(monkeypatch):
    text = shown(monkeypatch, columns=100, what=lambda: draw(20))
    bars = [part for part in text.split("\r") if "%|" in part]
    assert bars and "0/20" in bars[0] and text.endswith("the end\n")
    assert "%|" not in shown(monkeypatch, columns=100, what=lambda: draw(1)), "one picture needs none"


def test_pictures_have_lines_in_a_pipe(monkeypatch):
    monkeypatch.setattr("fastism_cli.cli.progress.SECONDS_BETWEEN_PICTURES", 0.0)
    text = shown(monkeypatch, columns=None, what=lambda: draw(3))
    lines = [line.split(" ", 2)[2] for line in text.splitlines()]
    assert lines == ["drawing 3 pictures", "1 of 3 pictures", "2 of 3 pictures", "the end"]
    assert "pictures" not in shown(monkeypatch, columns=None, quiet=True, what=lambda: draw(3))
