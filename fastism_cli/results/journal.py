"""The journal of a growing file: its last checkpoint survives the end of the process or of the machine.

HDF5 changes what it wrote before (its indices), in no fixed order: if its process is killed, the file may be
unreadable. So between two checkpoints the bytes of the last one are not touched: new bytes go behind its end, changes
of old ones are held in memory (see
:mod:`fastism_cli.results.crash_safe_file`). A checkpoint is

1. fsync of the file: all bytes behind the old end are on the disk;
2. a journal under another name, with the held changes, the new size and checksums, then fsync;
3. renaming it to ``FILE.journal``: from this moment on the checkpoint is valid;
4. writing the held changes into the file.

After a kill before step 3, the old journal describes the file. After a kill later on, the new one does, and step 4 is
repeated, as it may be undone, half done or not yet on the disk. The next journal replaces this one only after the fsync
in step 1, which covers step 4. Checksums of the journal as a whole, and of each MiB of the file, show that the two
belong together and that neither was changed or cut.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from fastism_cli.errors import OutputError

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
