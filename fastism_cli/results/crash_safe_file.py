"""The file that HDF5 writes to: for one process at a time, with checkpoints, and without a crash on a full disk."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from fastism_cli.errors import OutputError

# --- the journal of a growing file -----------------------------------------------------------------------------------

# HDF5 changes what it wrote before (its indices), in no fixed order: if its process is killed, the file may be
# unreadable. So between two checkpoints the bytes of the last one are not touched: new bytes go behind its end, changes
# of old ones are held in memory (:class:`Disk`). A checkpoint is
#
# 1. fsync of the file: all bytes behind the old end are on the disk;
# 2. a journal under another name, with the held changes, the new size and checksums, then fsync;
# 3. renaming it to ``FILE.journal``: from this moment on the checkpoint is valid;
# 4. writing the held changes into the file.
#
# After a kill before step 3, the old journal describes the file. After a kill later on, the new one does, and step 4 is
# repeated, as it may be undone, half done or not yet on the disk. The next journal replaces this one only after the
# fsync in step 1, which covers step 4. Checksums of the journal as a whole, and of each MiB of the file, show that the
# two belong together and that neither was changed or cut.

SUFFIX = ".journal"
NEW = ".new"  # behind it, until the journal is complete
PAGE = 1 << 12  # bytes: changes are held in memory, and stored here, in whole pages
SUM_BYTES = 1 << 20  # bytes of the file for each checksum

_MAGIC = b"fastismJ"


@dataclass(frozen=True)
class Checkpoint:
    """A state of the file that can be restored.

    Attributes
    ----------
    size : int
        Bytes of the file.
    rows : int
        Finished rows.
    sums : uint32 array
        CRC-32 of each ``SUM_BYTES`` of the file.
    pages : mapping of int to bytes
        Number of a page, from 0, to its content.
    """

    size: int
    rows: int
    sums: np.ndarray
    pages: Mapping[int, bytes | bytearray]


def write_checkpoint(path: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint: it is on the disk when this returns; if this is interrupted, the last one still is."""
    unnamed = path + NEW
    try:
        with open(unnamed, "wb") as file:
            file.write(_packed(checkpoint))
            file.flush()
            os.fsync(file.fileno())
        os.replace(unnamed, path)
    except OSError:
        with suppress(OSError):
            os.unlink(unnamed)  # a full disk needs even this space
        raise
    sync_folder(os.path.dirname(path) or ".")


def read_checkpoint(path: str) -> Checkpoint | None:
    """The last checkpoint, or None if there has been none.

    Raises
    ------
    OutputError
        If the journal is damaged.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) < 20 or zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0] or data[:8] != _MAGIC:
        raise damaged(path.removesuffix(SUFFIX), "its journal is not as it was written")
    return _unpacked(data)


def remove_journal(path: str) -> None:
    for name in (path, path + NEW):
        with suppress(OSError):
            os.unlink(name)


def damaged(partial: str, why: str) -> OutputError:
    return OutputError(f"{partial} is damaged: {why}. Start anew with --overwrite instead of --resume.")


def sync_folder(folder: str) -> None:
    """Bring a renaming to the disk, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _packed(checkpoint: Checkpoint) -> bytes:
    numbers = sorted(checkpoint.pages)
    header = {"size": checkpoint.size, "rows": checkpoint.rows, "sums": len(checkpoint.sums), "pages": len(numbers)}
    text = json.dumps(header).encode()
    parts = [_MAGIC, struct.pack("<Q", len(text)), text]
    parts += [checkpoint.sums.astype("<u4").tobytes(), np.array(numbers, "<i8").tobytes()]
    data = b"".join([*parts, *(checkpoint.pages[number] for number in numbers)])
    return data + struct.pack("<I", zlib.crc32(data))


def _unpacked(data: bytes) -> Checkpoint:
    start = 16 + struct.unpack("<Q", data[8:16])[0]
    header = json.loads(data[16:start])
    sums = np.frombuffer(data, "<u4", header["sums"], start)
    start += sums.nbytes
    numbers = np.frombuffer(data, "<i8", header["pages"], start)
    start += numbers.nbytes
    pages = {int(n): data[start + i * PAGE : start + (i + 1) * PAGE] for i, n in enumerate(numbers)}
    return Checkpoint(header["size"], header["rows"], sums.astype("uint32"), pages)


# --- the file that HDF5 writes to ------------------------------------------------------------------------------------

try:
    import fcntl
except ImportError:  # Windows: two jobs with the same output do not notice each other
    fcntl = None  # type: ignore[assignment]


class Disk(io.RawIOBase):
    """The file that HDF5 writes to. After the first write error it accepts all writes; the error is in ``failure``.

    HDF5 cannot close a file that it cannot write: it fails at every attempt, and crashes at the exit of the process.
    So no method that HDF5 calls raises an error. Bytes that cannot be written are held in memory until the file is
    closed; they are few. Changes of the last checkpoint are held in memory too: see
    :mod:`fastism_cli.results.crash_safe_file`.
    """

    def __init__(self, descriptor: int, journal: str) -> None:
        super().__init__()
        self.failure: OSError | None = None
        self.written = 0
        self.rows = 0  # that the last checkpoint holds
        self._descriptor, self._journal = descriptor, journal
        self._pretends = self._is_announced = False
        self._position = self._size = 0
        self._kept_size = 0  # size of the last checkpoint in whole pages: bytes before it stay as they are
        self._held: dict[int, bytearray] = {}
        self._sums = np.zeros(0, "uint32")
        self._changed: set[int] = set()  # stretches of SUM_BYTES whose checksum is out of date

    # -- checkpoints --

    def recover(self) -> bool:
        """Bring the file to its last checkpoint; False if there is none.

        Raises
        ------
        OutputError
            If the file or its journal is damaged.
        """
        checkpoint = read_checkpoint(self._journal)
        if checkpoint is None:
            return False
        if checkpoint.size and not os.fstat(self._descriptor).st_size:
            raise damaged(
                self._journal.removesuffix(SUFFIX), "bytes after 0 are not as written, only its journal is there"
            )
        self._size = checkpoint.size
        self._held = {number: bytearray(page) for number, page in checkpoint.pages.items()}
        for i, known in enumerate(checkpoint.sums):
            if self._sum(i) != known:
                raise damaged(self._journal.removesuffix(SUFFIX), f"bytes after {i * SUM_BYTES:,} are not as written")
        self._sums = checkpoint.sums
        self._apply(checkpoint.rows)
        return True

    def start_anew(self) -> None:
        """Empty the file and forget its checkpoints."""
        remove_journal(self._journal)  # first: a file without a journal is not resumed
        os.ftruncate(self._descriptor, 0)

    def announce(self) -> None:
        """Write a journal without rows, before HDF5 first flushes the file, which has no signature until then.

        So a file that is HDF5 and has no journal has lost it: a kill before the first checkpoint leaves none such.
        """
        if not (self._pretends or self._is_announced or self.rows):
            self._try(self._announce)
            self._is_announced = True

    def _announce(self) -> None:
        with suppress(FileNotFoundError):  # the folder is gone, which is told when the file gets its name
            write_checkpoint(self._journal, Checkpoint(0, 0, self._sums, {}))

    def checkpoint(self, rows: int) -> None:
        """Make a checkpoint of what was written so far. HDF5 must have flushed its buffers."""
        if not self._pretends:
            self._try(self._checkpoint, rows)

    def _checkpoint(self, rows: int) -> None:
        os.fsync(self._descriptor)
        self._update_sums()
        write_checkpoint(self._journal, Checkpoint(self._size, rows, self._sums, self._held))
        self._apply(rows)

    def _apply(self, rows: int) -> None:
        self.rows, self._kept_size = rows, -(-self._size // PAGE) * PAGE  # first: the checkpoint is valid from here on
        for number, page in self._held.items():
            self._write_at(page, number * PAGE)
        os.ftruncate(self._descriptor, self._size)
        self._held.clear()

    def _update_sums(self) -> None:
        n = -(-self._size // SUM_BYTES)
        sums = np.zeros(n, "uint32")
        known = min(n, len(self._sums))
        sums[:known] = self._sums[:known]
        for i in self._changed:
            if i < n:
                sums[i] = self._sum(i)
        self._sums = sums
        self._changed.clear()

    def _sum(self, i: int) -> int:
        stretch = bytearray(min(SUM_BYTES, self._size - i * SUM_BYTES))
        self._read_at(memoryview(stretch), i * SUM_BYTES)
        return zlib.crc32(stretch)

    def forget(self) -> None:
        """Write nothing from now on, and leave the file as it was at the last checkpoint."""
        self._pretends = True
        with suppress(OSError):
            os.ftruncate(self._descriptor, self._kept_size)

    def is_at(self, path: str) -> bool:
        """Whether the file still has this name."""
        return _is_at(self._descriptor, path)

    def remove_journal(self) -> None:
        remove_journal(self._journal)

    # -- what HDF5 calls --

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_END:
            offset += self._size
        elif whence == os.SEEK_CUR:
            offset += self._position
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        self._read_at(view, self._position)
        self._position += len(view)
        return len(view)

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        start, stop = self._position, self._position + len(view)
        self._size = max(self._size, stop)
        self._changed.update(range(start // SUM_BYTES, -(-stop // SUM_BYTES)))
        split = min(max(self._kept_size - start, 0), len(view))
        if not self._pretends and split < len(view):
            self._try(self._write_all, view[split:], start + split)
        self._hold(view if self._pretends else view[:split], start)
        self._position = stop
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        size = self._position if size is None else size
        self._changed.update(range(min(self._size, size) // SUM_BYTES, -(-max(self._size, size) // SUM_BYTES)))
        self._size = size
        if not self._pretends and size >= self._kept_size:
            self._try(os.ftruncate, self._descriptor, size)
        return size

    def raise_if_failed(self) -> None:
        """Raise the first error of writing, if there was one: OSError."""
        if self.failure is not None:
            raise self.failure

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        if not self._pretends:
            self._try(os.fsync, self._descriptor)

    def close(self) -> None:
        """Close the file; never fails, as ``sync`` has reported whether everything is written."""
        if not self.closed:
            with suppress(OSError):
                os.close(self._descriptor)
        super().close()

    # -- bytes --

    def bytes_at(self, start: int, size: int) -> bytes:
        """Bytes of the file as HDF5 sees them; 0 beyond its end."""
        found = bytearray(size)
        self._read_at(memoryview(found), start)
        return bytes(found)

    def _read_at(self, view: memoryview, start: int) -> None:
        read = os.pread(self._descriptor, len(view), start)
        view[:] = read.ljust(len(view), b"\0")
        for number, first, stop in _pages(start, len(view)):
            if number in self._held:
                at = number * PAGE + first - start
                view[at : at + stop - first] = self._held[number][first:stop]

    def _hold(self, view: memoryview, start: int) -> None:
        for number, first, stop in _pages(start, len(view)):
            if number not in self._held:
                self._held[number] = bytearray(os.pread(self._descriptor, PAGE, number * PAGE).ljust(PAGE, b"\0"))
            at = number * PAGE + first - start
            self._held[number][first:stop] = view[at : at + stop - first]

    def _write_all(self, view: memoryview, start: int) -> None:
        self._write_at(view, start)
        self.written += len(view)

    def _write_at(self, data: memoryview | bytearray, start: int) -> None:
        done, view = 0, memoryview(data)
        while done < len(view):
            done += os.pwrite(self._descriptor, view[done:], start + done)

    def _try(self, operation: Any, *arguments: Any) -> None:
        try:
            operation(*arguments)
        except OSError as error:
            self.failure = error
            self._pretends = True


def _pages(start: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Number of each page that ``[start, start + length)`` touches, and which of its bytes."""
    stop = start + length
    last = -(-stop // PAGE) if length else 0
    for number in range(start // PAGE, last):
        yield number, max(start - number * PAGE, 0), min(stop - number * PAGE, PAGE)


def open_disk(path: str) -> Disk:
    """Open or make a file for this process alone; nothing in it is changed.

    Raises
    ------
    OutputError
        If it cannot be opened, or another process has it.
    """
    try:
        kept_apart = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | kept_apart, 0o666)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    if not _lock(descriptor, path):
        os.close(descriptor)
        raise in_use(path)
    return Disk(descriptor, path + SUFFIX)


@contextmanager
def new_hdf5(path: str, **options: Any) -> Iterator[tuple[h5py.File, Disk]]:
    """A new HDF5 file for writing, without checkpoints, and the disk below it, which tells whether writing fails.

    Parameters
    ----------
    options
        Of ``h5py.File``.

    Raises
    ------
    OutputError
        If it cannot be opened, or another process has it.
    OSError
        At the end, if something could not be written.
    """
    disk = open_disk(path)
    try:
        disk.start_anew()
        with h5py.File(disk, "w", **options) as file:
            yield file, disk
        disk.sync()
    except Exception:  # HDF5 can fail on a file that drops its writes
        disk.raise_if_failed()
        raise
    finally:
        disk.close()
    disk.raise_if_failed()


def in_use(path: str) -> OutputError:
    return OutputError(f"{path} is being written by another process. Wait for it, or choose another --output.")


def is_in_use(path: str) -> bool:
    """Whether another process is writing the file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _lock(descriptor, path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: str) -> bool:
    """Lock the file for this process until it closes it; True on file systems without locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    # the process that had it may have renamed or removed it since it was opened here
    return _is_at(descriptor, path)


def _is_at(descriptor: int, path: str) -> bool:
    return os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path))
