"""End a command: errors as one message on stderr, and the exit code. No other module does either."""

from __future__ import annotations

import inspect
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from fastism_cli.cli.messages import is_verbose
from fastism_cli.errors import FastISMError

SIGHUP_CODE, SIGINT_CODE, SIGTERM_CODE = 129, 130, 143
# A terminal that is closed, a scheduler, and what schedulers send before a job's time is up.
STOPPING = ("SIGHUP", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU")
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
            _tell(f"{error.format_message()} See {(error.ctx or ctx).command_path} --help.")
            ctx.exit(error.exit_code)
        except FastISMError as error:
            _tell(str(error))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            _tell("interrupted")
            ctx.exit(SIGINT_CODE)
        except Terminated as error:
            _tell(f"stopped by {error}")
            ctx.exit(_code_of(str(error)))
        except (click.exceptions.Exit, click.ClickException, BrokenPipeError):
            raise
        except Exception as error:
            if stop.name:  # the terminal is closed: to write to it failed on the way out
                ctx.exit(_code_of(stop.name))
            _tell(_stdout_fault(error) or _unexpected(error))
            ctx.exit(1)


@contextmanager
def told_if_stdout_fails() -> Iterator[None]:
    """End the process with one line where not even --help can be written."""
    try:
        yield
    except OSError as error:
        _tell(_stdout_fault(error) or _unexpected(error))
        sys.exit(1)


def _stdout_fault(error: Exception) -> str | None:
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


def _tell(message: str) -> None:
    with suppress(OSError):  # stderr is a terminal that is closed, or a full disk
        if is_verbose():
            click.echo(traceback.format_exc(), err=True)
        click.echo(f"Error: {message}", err=True)


def _unexpected(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, MemoryError):
        return "out of memory. Choose a smaller --batch-size, or a machine with more."
    said = lines[0]
    if said.startswith("Exception encountered when calling "):  # Keras: the cause stands below, in bold
        said = " ".join([said, *(re.sub(r"\x1b\[\d+m", "", line) for line in lines[1:] if line.strip())][:2])
    return f"{type(error).__name__}: {said} (run again with -v for the traceback)"


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
