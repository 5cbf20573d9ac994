"""The file under HDF5: one process at a time, and a full disk that HDF5 does not stumble over."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import Any

from fastism_cli.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows: two jobs with one output are not told of each other
    fcntl = None  # type: ignore[assignment]


class Disk(io.RawIOBase):
    """The file that HDF5 writes to; after the first error it only pretends, and ``failure`` tells.

    HDF5 cannot close a file that it cannot write: it fails again at every attempt, and at last at the exit of the
    process, where it crashes. So no method raises, and what cannot be written is kept in memory, little as it is,
    until the file is closed.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.failure: OSError | None = None
        self.written = 0
        self._descriptor = descriptor
        self._pretends = False
        self._position = 0
        self._kept: list[tuple[int, bytes]] = []

    def abandon(self) -> None:
        """Write nothing any more."""
        self._pretends = True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_END:
            offset += self._end()
        elif whence == os.SEEK_CUR:
            offset += self._position
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        read = os.pread(self._descriptor, len(view), self._position)
        view[:] = read.ljust(len(view), b"\0")
        for start, data in self._kept:
            _overlay(view, self._position, data, start)
        self._position += len(view)
        return len(view)

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        if not self._pretends:
            self._try(self._write_all, view)
        if self._pretends:
            self._kept.append((self._position, bytes(view)))
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        size = self._position if size is None else size
        if not self._pretends:
            self._try(os.ftruncate, self._descriptor, size)
        return size

    def sync(self) -> None:
        """Wait until all is on the disk."""
        if not self._pretends:
            self._try(os.fsync, self._descriptor)

    def close(self) -> None:
        """Close the file; never fails, for ``sync`` has told whether all is written."""
        if not self.closed:
            with suppress(OSError):
                os.close(self._descriptor)
        super().close()

    def _end(self) -> int:
        ends = [start + len(data) for start, data in self._kept]
        return max(os.fstat(self._descriptor).st_size, *ends, 0)

    def _write_all(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            done += os.pwrite(self._descriptor, view[done:], self._position + done)
        self.written += len(view)

    def _try(self, operation: Any, *arguments: Any) -> None:
        try:
            operation(*arguments)
        except OSError as error:
            self.failure = error
            self._pretends = True


def _overlay(view: memoryview, view_start: int, data: bytes, data_start: int) -> None:
    """Copy into ``view`` what ``data`` has of it."""
    first = max(view_start, data_start)
    stop = min(view_start + len(view), data_start + len(data))
    if first < stop:
        view[first - view_start : stop - view_start] = data[first - data_start : stop - data_start]


def open_disk(path: str) -> Disk:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    try:
        if not _lock(descriptor, path):
            raise OutputError(f"{path} is being written by another process. Wait for it, or choose another --output.")
        os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return Disk(descriptor)


def _lock(descriptor: int, path: str) -> bool:
    """Whether this process alone has the file, until it closes it. File systems without locks are trusted."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    # the process that had it may have renamed or removed it since it was opened here
    return os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path))


def sync_folder(folder: str) -> None:
    """Make a renaming last; not every system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
