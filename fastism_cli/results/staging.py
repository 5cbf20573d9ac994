"""Write outputs, if there is space: into a stream, or into files that get their names only when all are complete."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

from fastism_cli.errors import OutputError, ResourceError, size_text
from fastism_cli.genome.input_files import STDIN, as_utf8
from fastism_cli.results.schema import PARTIAL_SUFFIX
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
        why = "it is closed" if error.errno == errno.EBADF else error.strerror or error
        raise kind(f"{option} {path} cannot be written: {why}") from error


def write_whole(output: str, text: str, option: str = "--output", *, overwrite: bool) -> None:
    """Write a text into a stream, or into a file that gets its name when it is complete.

    Parameters
    ----------
    overwrite : bool
        Whether a file that has the name by then may be replaced.

    Raises
    ------
    OutputError, ResourceError
        If it cannot be written.
    """
    if is_stream(output):
        with open_stream(output, option) as stream:
            stream.write(as_utf8(text).encode())
        return
    with staged(output, option, overwrite=overwrite) as staging:
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


def cure_of(error: OSError) -> str:
    """What to do if a file cannot be written."""
    freed = {
        errno.EFBIG: "Raise the largest size of a file, as by ulimit -f unlimited,",
        errno.EDQUOT: "Free space of your quota",
    }
    return f"{freed.get(error.errno or 0, 'Free space')} or choose another --output."


# --- names only when complete ----------------------------------------------------------------------------------------


class Staging:
    """A folder beside the output, in which files have their final names."""

    def __init__(self, folder: str, target: str, option: str, *, overwrite: bool) -> None:
        self.folder = folder
        self.target = target
        self._option, self._overwrite = option, overwrite
        self._shared: set[str] = set()
        self._asked: set[str] = set()

    def path(self, name: str) -> str:
        """Where to write the file that will be called ``name``."""
        self._asked.add(os.path.basename(name))
        return os.path.join(self.folder, os.path.basename(name))

    def clear(self) -> None:
        """Remove what is left, by its names: no folder can be listed where too many files are open."""
        for name in self._asked:
            with suppress(OSError):
                os.unlink(os.path.join(self.folder, name))
        with suppress(OSError):
            os.rmdir(self.folder)

    def share(self, name: str) -> bool:
        """Leave a file that has this name as it is, now and at the end, if the one in the folder is equal.

        Returns
        -------
        bool
            Whether there is one now.
        """
        self._shared.add(os.path.basename(name))
        return self._is_equal(os.path.basename(name))

    def move(self, without: Iterable[str] = ()) -> list[str]:
        """Give every file its name, or none of them if none may be replaced; returns the names, sorted.

        Parameters
        ----------
        without : iterable of str
            Files that must not stand beside them unless they are among them, such as the index of an older VCF.

        Raises
        ------
        OutputError
            If a file has come into being under one of the names, and may not be replaced.
        """
        names = sorted(os.listdir(self.folder))
        self._clear(name for name in without if os.path.basename(name) not in names)
        moved: dict[str, os.stat_result] = {}
        try:
            for name in names:
                if not (name in self._shared and self._is_equal(name)):
                    moved[name] = os.lstat(os.path.join(self.folder, name))
                    self._give_name(name)
        except BaseException:
            if not self._overwrite:
                self._take_back(moved)
            raise
        return [os.path.join(self.target, name) for name in names]

    def _clear(self, names: Iterable[str]) -> None:
        for name in names:
            if not self._overwrite:
                require_free(name, self._option)
            with suppress(FileNotFoundError):
                os.unlink(name)

    def _give_name(self, name: str) -> None:
        source, target = os.path.join(self.folder, name), os.path.join(self.target, name)
        if not self._overwrite:
            with suppress(OSError):  # a file system without links, or the name is taken, which is told below
                os.link(source, target, follow_symlinks=False)
                return
            require_free(target, self._option)
        os.replace(source, target)

    def _take_back(self, moved: dict[str, os.stat_result]) -> None:
        for name, own in moved.items():
            target = os.path.join(self.target, name)
            with suppress(OSError):
                if os.path.samestat(own, os.lstat(target)):
                    os.unlink(target)

    def _is_equal(self, name: str) -> bool:
        source, target = os.path.join(self.folder, name), os.path.join(self.target, name)
        return os.path.isfile(target) and filecmp.cmp(source, target, shallow=False)


def require_free(name: str, option: str = "--output") -> None:
    """Refuse a name that a file has got since it was checked, at the start of the command.

    Raises
    ------
    OutputError
    """
    if os.path.lexists(name):
        raise OutputError(
            f"{name} has come into being since this command began. Replace it with --overwrite, or choose another "
            f"{option}."
        )


@contextmanager
def staged(output: str, option: str = "--output", *, overwrite: bool) -> Iterator[Staging]:
    """A staging folder beside ``output``, removed at the end, also after an error.

    Parameters
    ----------
    overwrite : bool
        Whether files that have the names by then may be replaced.

    Raises
    ------
    OutputError
        If it cannot be made.
    ResourceError
        If a file in it cannot be written: the disk is full or fails.
    """
    target = os.path.dirname(output)
    try:
        folder = tempfile.TemporaryDirectory(prefix=".fastism-", dir=target or ".", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}. Choose another {option}.") from error
    with folder:
        staging = Staging(folder.name, target, option, overwrite=overwrite)
        try:
            yield staging
        except OSError as error:
            raise ResourceError(
                f"{output} cannot be written: {error.strerror or error}. "
                f"What was unfinished was removed. {cure_of(error)}"
            ) from error
        finally:
            staging.clear()


# --- whether an output fits on its disk ------------------------------------------------------------------------------


def check_space(output: str, wanted: int) -> None:
    """Refuse an output that does not fit on the disk.

    Raises
    ------
    OutputError
        Says both numbers.
    """
    free = shutil.disk_usage(os.path.dirname(output) or ".").free
    if wanted > free:
        raise OutputError(
            f"{output} will take up to {size_text(wanted)}, but only {size_text(free)} are free on its disk. "
            "Choose fewer --targets, a smaller --window, --dtype float16, or another --output."
        )


def unfinished_bytes(output: str) -> int:
    """Bytes of the unfinished file of an earlier run, which is continued or replaced: the output can have its space."""
    try:
        return os.path.getsize(output + PARTIAL_SUFFIX)
    except OSError:
        return 0
