"""Write outputs: into a stream, or into files that get their names only when all of them are complete."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from fastism_cli.errors import OutputError, ResourceError
from fastism_cli.genome.input_files import STDIN, as_utf8
from fastism_cli.results.stdout import stdout_descriptor

# --- stdout and pipes ------------------------------------------------------------------------------------------------


STDOUT_NAMES = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
STREAMS = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")


def is_stream(path: str) -> bool:
    """Whether bytes are written into what is there, as into ``-``, ``/dev/stdout``, ``/dev/null`` or a pipe."""
    return names_stream(path) or is_pipe(path) or stat.S_ISCHR(_mode(path))


def names_stream(path: str) -> bool:
    """Whether a name is that of a stream: ``-`` and ``/dev/stdout``, but not ``/dev/null``."""
    return path == STDIN or path.startswith(STREAMS)


def is_pipe(path: str) -> bool:
    """Whether a file is a named pipe."""
    return stat.S_ISFIFO(_mode(path))


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError):
        return 0


@contextmanager
def open_stream(path: str, option: str = "--output") -> Iterator[IO[bytes]]:
    """Open what :func:`is_stream` accepts, for writing. A reader that has gone away raises BrokenPipeError.

    Raises
    ------
    OutputError
        If it cannot be opened.
    ResourceError
        If it cannot be written, as on a full disk.
    """
    descriptor = None
    try:
        descriptor = _descriptor(path)
        with open(descriptor, "wb") as file:
            yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        kind = OutputError if descriptor is None else ResourceError
        raise kind(f"{option} {path} cannot be written: {error.strerror or error}") from error


def write_whole(output: str, text: str, option: str = "--output") -> None:
    """Write a text into a stream, or into a file that gets its name when it is complete.

    Raises
    ------
    OutputError, ResourceError
        If it cannot be written.
    """
    if is_stream(output):
        with open_stream(output, option) as stream:
            stream.write(as_utf8(text).encode())
        return
    with staged(output, option) as staging:
        with open(staging.path(output), "w", encoding="utf-8") as file:
            file.write(as_utf8(text))
        staging.move()


def _descriptor(path: str) -> int:
    """A descriptor of its own; a file behind ``/dev/stdout`` or ``/dev/fd/3`` is written on, not cut."""
    stdout = str(stdout_descriptor())
    numbers = {STDIN: stdout, **dict.fromkeys(STDOUT_NAMES, stdout), "/dev/stderr": "2"}
    number = numbers.get(path) or next((path[len(x) :] for x in STREAMS if path.startswith(x)), "")
    if number.isascii() and number.isdigit() and len(number) < 8:
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, ValueError):  # closed, or none
                stream.flush()
        return os.dup(int(number))
    return os.open(path, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))


# --- names only when complete ----------------------------------------------------------------------------------------


class Staging:
    """A folder beside the output, in which files have their final names."""

    def __init__(self, folder: str, target: str) -> None:
        self.folder = folder
        self.target = target
        self._kept: set[str] = set()

    def path(self, name: str) -> str:
        """Where to write the file that will be called ``name``."""
        return os.path.join(self.folder, os.path.basename(name))

    def keep(self, name: str) -> None:
        """Leave the file that has this name already as it is: the one in the folder is equal."""
        self._kept.add(os.path.basename(name))

    def move(self) -> list[str]:
        """Give every file its name; returns the names, sorted."""
        names = sorted(os.listdir(self.folder))
        for name in names:
            if name not in self._kept:
                os.replace(os.path.join(self.folder, name), os.path.join(self.target, name))
        return [os.path.join(self.target, name) for name in names]


@contextmanager
def staged(output: str, option: str = "--output") -> Iterator[Staging]:
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
        raise OutputError(f"{output} cannot be written: {error.strerror}. Choose another {option}.") from error
    with folder:
        try:
            yield Staging(folder.name, target)
        except OSError as error:
            raise ResourceError(
                f"{output} cannot be written: {error.strerror or error}. "
                "What was unfinished was removed. Free space or choose another --output."
            ) from error
