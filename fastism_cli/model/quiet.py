"""Keep what Keras, TensorFlow and JAX log and warn about off the user's terminal. Loads none of them."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # of TensorFlow; 3 logs fatal errors only
LIBRARIES = ("absl", "jax", "tensorflow")


def log_errors_only() -> None:
    """Set the loggers of these libraries to errors, for the rest of the process."""
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Log only errors and ignore all warnings (of compiling, names, retracing) until the block ends."""
    before = {name: logging.getLogger(name).level for name in LIBRARIES}
    log_errors_only()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def quiet_start() -> Iterator[None]:
    """Import the libraries without what they log at their start, if they are not there yet and nobody asked for it."""
    if "keras" in sys.modules or LOG_LEVEL in os.environ:
        yield
        return
    os.environ[LOG_LEVEL] = "3"
    with held_back_stderr():
        yield


@contextmanager
def held_back_stderr(*, show: bool = False) -> Iterator[None]:
    """Write file descriptor 2 to a temporary file; copy it to the terminal if the body fails."""
    saved = None if show or sys.stderr is None else _duplicate(2)
    if saved is None:
        yield
        return
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        os.dup2(file.fileno(), 2)
        try:
            yield
        except BaseException:
            _restore(saved)
            _replay(file.fileno())
            raise
        _restore(saved)


def _duplicate(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:  # closed, as in a daemon
        return None


def _restore(saved: int) -> None:
    sys.stderr.flush()
    os.dup2(saved, 2)
    os.close(saved)


def _replay(descriptor: int) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb") as source, os.fdopen(os.dup(2), "wb") as terminal:
        shutil.copyfileobj(source, terminal)
