"""Check that the inputs of a run have not changed since it began."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from fastism_cli.errors import UsageError


class Stamp(NamedTuple):
    """Facts about a file that change when the file does."""

    inode: int
    size: int
    mtime_ns: int


class Watch:
    """Files that must not change from now on, with their facts."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._before = {path: _stamp(path) for path in paths}

    def check(self) -> None:
        """Compare all files with their state at the beginning.

        Raises
        ------
        UsageError
            Names the first that has changed.
        """
        for path, before in self._before.items():
            if _stamp(path) != before:
                raise UsageError(
                    f"{path} has changed since this run began. Put it back and continue with --resume, "
                    "or start anew with --overwrite."
                )


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)
