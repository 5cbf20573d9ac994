"""Copy inputs that can be read only once, such as stdin, to a temporary file."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from typing import IO

from fastism_cli.errors import ResourceError

STDIN = "-"


def spooled(stream: IO[bytes], name: str, *, suffix: str, until: ExitStack) -> str:
    """Copy the rest of a stream to a temporary file, which is removed when ``until`` closes.

    Parameters
    ----------
    name : str
        Name of the stream in messages.

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
