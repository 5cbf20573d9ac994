"""Give files their names only when all of them are complete."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from fastism_cli.errors import OutputError, ResourceError


class Staging:
    """A folder beside the output, in which files have their final names."""

    def __init__(self, folder: str, target: str) -> None:
        self.folder = folder
        self.target = target

    def path(self, name: str) -> str:
        """Where to write the file that will be called ``name``."""
        return os.path.join(self.folder, os.path.basename(name))

    def move(self) -> list[str]:
        """Give every file its name; returns the names, sorted."""
        names = sorted(os.listdir(self.folder))
        for name in names:
            os.replace(os.path.join(self.folder, name), os.path.join(self.target, name))
        return [os.path.join(self.target, name) for name in names]


@contextmanager
def staged(output: str) -> Iterator[Staging]:
    """A staging folder beside ``output``, removed at the end, also after an error.

    Raises
    ------
    OutputError
        If it cannot be made.
    ResourceError
        If a file in it cannot be written: the disk is full or fails.
    """
    target = os.path.dirname(output)
    try:
        folder = tempfile.TemporaryDirectory(prefix=".fastism-", dir=target or ".")
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}. Choose another --output.") from error
    with folder:
        try:
            yield Staging(folder.name, target)
        except OSError as error:
            raise ResourceError(
                f"{output} cannot be written: {error.strerror or error}. "
                "What was unfinished was removed. Free space or choose another --output."
            ) from error
