"""A result whose bytes are not what was written: told as such, whatever library finds it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from fastism_cli.errors import ResourceError


@contextmanager
def readable(path: str, what: str) -> Iterator[None]:
    """Around the reading of ``what`` from a result.

    Raises
    ------
    ResourceError
        If a chunk cannot be read or decompressed.
    """
    try:
        yield
    except (OSError, zlib.error) as error:
        raise ResourceError(
            f"{path}: {what} cannot be read ({error}). The file is damaged: copy it again, or run again."
        ) from error
