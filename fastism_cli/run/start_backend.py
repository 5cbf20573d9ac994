"""Import Keras with its backend, hiding the start-up messages of the C++ libraries."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from fastism_cli.model.quiet import log_errors_only
from fastism_cli.run.compile_cache import use_compile_cache


def import_backend(*, verbose: bool = False) -> None:
    """Import Keras with its backend and find the devices.

    TensorFlow logs before its own log level applies, so file descriptor 2 leads to a temporary file for these seconds.
    If the import fails, that file is shown. Later, TensorFlow logs fatal errors only: it logs an error for anything
    unusual in its compile cache, and real failures are exceptions.
    """
    use_compile_cache()
    if not verbose:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        log_errors_only()
    with held_back_stderr(show=verbose):
        from fastism_cli.model import backend

        backend.device_kind()


@contextmanager
def held_back_stderr(*, show: bool = False) -> Iterator[None]:
    """Write file descriptor 2 to a temporary file; copy it to the terminal if the body fails."""
    saved = None if show else _duplicate(2)
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
