"""What commands print on stderr: messages, tables, and errors, with the exit code that ends a command."""

from __future__ import annotations

import errno
import inspect
import io
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import click

from fastism_cli.errors import FastISMError, Message, brief

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


# --- how a command ends: errors and exit codes -----------------------------------------------------------------------

SIGHUP_CODE, SIGINT_CODE, SIGTERM_CODE = 129, 130, 143
# A terminal that is closed, a scheduler, and what schedulers send before a job's time is up.
STOPPING = ("SIGHUP", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU")
GIVEN = "fastism_cli.given"  # in ctx.meta: the values of a command's parameters, which name its files
MOST_LETTERS = 300  # of an error that nobody foresaw
SECONDS_TO_END = 30.0  # in which another signal does not interrupt that rows are saved and files removed


class Terminated(BaseException):
    """A signal asks the process to end. ``except Exception`` does not catch it, like KeyboardInterrupt."""


@contextmanager
def exit_code_of_errors(ctx: click.Context) -> Iterator[None]:
    """Run a command; end the process with an exit code that says whether to try again.

    2: the call or its inputs are wrong, as for click; the same call fails again. 1: the run failed. 129, 130 and 143:
    stopped by SIGHUP, SIGINT, or SIGTERM and its like, 128 plus the signal's number as shells report it; a scheduler
    can run it again.
    """
    with _stopped_by_signals() as stop, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except click.UsageError as error:
            _tell(f"{error.format_message()} See {(error.ctx or ctx).command_path} --help.", ctx)
            ctx.exit(error.exit_code)
        except FastISMError as error:
            _tell(error.message, ctx)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            _tell("interrupted")
            ctx.exit(SIGINT_CODE)
        except Terminated as error:
            _tell(f"stopped by {error}")
            ctx.exit(_code_of(str(error)))
        except (click.exceptions.Exit, click.ClickException, BrokenPipeError):
            raise
        except (Exception, SystemExit) as error:  # code of the user's own may ask Python to end
            if stop.name:  # the terminal is closed: to write to it failed on the way out
                ctx.exit(_code_of(stop.name))
            _tell(_stdout_fault(error) or _unexpected(error, files_given(ctx.meta.get(GIVEN, {}))), ctx)
            ctx.exit(1)


def open_closed_streams() -> None:
    """Put the null device in the place of a closed stdin, stdout or stderr, so that no other file gets its number.

    Into a closed stdout nothing can be written, so that no result gets lost unnoticed.
    """
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_RDWR)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")


@contextmanager
def told_if_stdout_fails() -> Iterator[None]:
    """End the process with one line where not even --help can be written."""
    try:
        yield
    except OSError as error:
        _tell(_stdout_fault(error) or _unexpected(error))
        sys.exit(1)


def _stdout_fault(error: BaseException) -> str | None:
    """Why stdout cannot be written, if that is the error. What it still holds is dropped: Python would try again."""
    where = traceback.extract_tb(error.__traceback__)[-1].filename
    if not isinstance(error, OSError) or where != inspect.getfile(click.echo):
        return None
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return f"stdout cannot be written: {error.strerror or error}"


def _code_of(name: str) -> int:
    return SIGHUP_CODE if name == "SIGHUP" else SIGTERM_CODE


def _tell(message: str, ctx: click.Context | None = None) -> None:
    message = _with_plain_values(message, ctx.meta.get(GIVEN, {})) if ctx else message
    with suppress(OSError):  # stderr is a terminal that is closed, or a full disk
        if is_verbose():
            click.echo(traceback.format_exc(), err=True)
        click.echo(f"Error: {message}", err=True)


def _with_plain_values(message: str, params: Mapping[str, Any]) -> str:
    """A message in which values with line ends and control characters, such as names of files, are on one line."""
    for text in _texts_given(params):
        if not text.isprintable():
            message = message.replace(text, brief(text, 12 * len(text)))
    return message


def _texts_given(params: Mapping[str, Any]) -> list[str]:
    values = [one for value in params.values() for one in (value if isinstance(value, tuple) else (value,))]
    return [part for one in values if isinstance(one, str) for part in (one, one.partition("=")[2])]


def files_given(params: Mapping[str, Any]) -> list[str]:
    """The files and folders among the values of a command's parameters, as the user wrote them."""
    return list(dict.fromkeys(text for text in _texts_given(params) if text and _is_there(text)))


def _is_there(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL in it
        return False


def _files_in_hand(error: BaseException, files: Sequence[str]) -> list[str]:
    """Those that stand, or whose companions stand, in variables of the innermost call that has any."""
    for frame in reversed([frame for frame, _ in traceback.walk_tb(error.__traceback__)]):
        with suppress(Exception):  # variables can be anything
            own = getattr(frame.f_locals.get("self"), "__dict__", {})
            values = [*frame.f_locals.values(), *own.values()]
            one_by_one = [x for value in values for x in (value if isinstance(value, (tuple, list)) else [value])]
            texts = [os.fspath(x) for x in one_by_one if isinstance(x, (str, os.PathLike))]
            found = [file for file in files if any(_belongs_to(text, file) for text in texts if text)]
            if found:
                return found
    return []


def _belongs_to(path: str, file: str) -> bool:
    """Whether it is the file, one inside of the folder, or a companion such as its index."""
    for place in (os.path.abspath, os.path.realpath):
        found, own = place(path), place(file)
        if found == own or found.startswith((f"{own}.", f"{own}{os.sep}")):
            return True
    return False


def _unexpected(error: BaseException, files: Sequence[str] = ()) -> str:
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, MemoryError):
        return "out of memory. Choose a smaller --batch-size, or a machine with more."
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many files are open: raise what is allowed, as by ulimit -n 1024"
    said = lines[0]
    if said.startswith("Exception encountered when calling "):  # Keras: the cause stands below, in bold
        said = " ".join([said, *(re.sub(r"\x1b\[\d+m", "", line) for line in lines[1:] if line.strip())][:2])
    where = ", ".join(_files_in_hand(error, files) or files)
    told = f"{type(error).__name__}: {brief(said, MOST_LETTERS)} (run again with -v for the traceback)"
    return f"{where}: {told}" if where else told


class _Stop:
    """Turns the first signal into an exception; those that follow it closely are ignored."""

    def __init__(self) -> None:
        self.name = ""
        self._last = -SECONDS_TO_END

    def __call__(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if now - self._last >= SECONDS_TO_END:
            self._last, self.name = now, signal.Signals(number).name
            raise Terminated(self.name)


@contextmanager
def _stopped_by_signals() -> Iterator[_Stop]:
    """Turn the signals of a terminal or a scheduler into an exception, so that everything is cleaned up.

    A signal that is ignored at the start stays so: nohup.
    """
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
