"""Inputs that can be read once only, stdin above all, copied to where they can be read again."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from typing import IO

from fastism_cli.errors import ResourceError

STDIN = "-"


def spooled(stream: IO[bytes], name: str, *, suffix: str, until: ExitStack) -> str:
    """Copy what is left of a stream to a temporary file, which lasts as long as ``until``.

    Parameters
    ----------
    name : str
        What messages call the stream.

    Returns
    -------
    str
        Path of the copy.

    Raises
    ------
    ResourceError
        If it cannot be written.
    """
    try:
        # unbuffered: all of the copy must be in the file before it is opened again by its path
        copy = until.enter_context(tempfile.NamedTemporaryFile("wb", buffering=0, suffix=suffix))
        shutil.copyfileobj(stream, copy)
    except OSError as error:
        if error.errno is None:  # the stream's own, such as of gzip
            raise
        raise ResourceError(
            f"{name} could not be copied to {tempfile.gettempdir()}: {error.strerror}. "
            "Set TMPDIR to a folder with more space."
        ) from error
    return copy.name
