"""End a command: errors as one message on stderr, and the exit code. No other module does either."""

from __future__ import annotations

import re
import signal
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from fastism_cli.cli.messages import is_verbose
from fastism_cli.errors import FastISMError

SIGINT_CODE, SIGTERM_CODE = 130, 143
STOPPING = ("SIGTERM", "SIGUSR1")  # scripts ask SLURM for the second before a job's time is up


class Terminated(BaseException):
    """A signal asks the process to end. ``except Exception`` does not catch it, like KeyboardInterrupt."""


@contextmanager
def exit_code_of_errors(ctx: click.Context) -> Iterator[None]:
    """Run a command; end the process with an exit code that says whether to try again.

    2: the call or its inputs are wrong, as for click; the same call fails again. 1: the run failed. 130 and 143:
    stopped by SIGINT or SIGTERM, 128 plus the signal's number as shells report it; a scheduler can run it again.
    """
    with _stopped_by_signals(), warnings.catch_warnings():
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
            ctx.exit(SIGTERM_CODE)
        except (click.exceptions.Exit, click.ClickException, BrokenPipeError):
            raise
        except Exception as error:
            _tell(_unexpected(error))
            ctx.exit(1)


def _tell(message: str) -> None:
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


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Turn the signals of a scheduler into an exception, so that everything is cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    before = {number: signal.signal(number, _raise) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, frame: Any) -> None:
    raise Terminated(signal.Signals(number).name)
