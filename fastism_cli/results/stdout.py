"""The standard output: results alone go there. What other code prints in the meantime goes to stderr."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from contextvars import ContextVar

_DESCRIPTOR: ContextVar[int] = ContextVar("stdout", default=1)


def stdout_descriptor() -> int:
    """The file descriptor that results are written to, also inside of :func:`stdout_for_results`."""
    return _DESCRIPTOR.get()


@contextmanager
def stdout_for_results() -> Iterator[None]:
    """Until the block ends, what anybody prints goes to stderr: a custom layer, a library, another program.

    What the command itself writes there, it writes after the block, or to :func:`stdout_descriptor`.
    """
    _flush()
    with redirect_stdout(sys.stderr):
        try:
            own = os.dup(1)
        except OSError:  # stdout is closed
            yield
            return
        token = _DESCRIPTOR.set(own)
        try:
            with suppress(OSError):  # stderr is closed
                os.dup2(2, 1)
            yield
        finally:
            _flush()
            os.dup2(own, 1)
            os.close(own)
            _DESCRIPTOR.reset(token)


def _flush() -> None:
    """Write what Python and the C library hold back for stdout: it belongs to the time before."""
    for stream in {sys.stdout, sys.__stdout__}:
        if stream is not None:
            with suppress(OSError, ValueError):  # full, or closed
                stream.flush()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)
