"""Input files of any kind: checksums, copies of streams, bgzip, arrays, and reading by a child process.

A damaged HDF5 file can make its library crash or run for ever, and no thread can stop it. So a child process reads each
file first, with a limit of processor time.
"""

from __future__ import annotations

import bisect
import faulthandler
import functools
import hashlib
import itertools
import os
import resource
import shutil
import signal
import stat
import struct
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from fastism_cli.errors import ResourceError, SequenceError, UsageError

if TYPE_CHECKING:
    import numpy as np

MAX_READ_WHOLE = 1 << 28  # bytes: larger files are known by samples
SAMPLES, SAMPLE_BYTES = 1024, 1 << 16


def content_sha256(path: str) -> str:
    """SHA-256 of a file; of one above 256 MiB, of its size and 1,024 samples of 64 kB spread over it.

    A genome of 3 GB takes a tenth of a second instead of a quarter of a minute, in every task of an array.
    """
    size = os.stat(path).st_size
    if size <= MAX_READ_WHOLE:
        return file_sha256(path)
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for i in range(SAMPLES):
            file.seek(i * (size - SAMPLE_BYTES) // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of all bytes of a file, as ``sha256sum`` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileState(NamedTuple):
    """Facts about a file that change when it is written or replaced."""

    inode: int
    size: int
    mtime_ns: int


def state_of(path: str | os.PathLike[str]) -> FileState:
    """The state of a file as it is now.

    Raises
    ------
    OSError
        If it cannot be looked at.
    """
    found = os.stat(path)
    return FileState(found.st_ino, found.st_size, found.st_mtime_ns)


# --- files of another kind than the one that is wanted ---------------------------------------------------------------

UTF_16 = "is text in UTF-16. Save it as UTF-8: iconv -f UTF-16 -t UTF-8 OLD > NEW"
BIGBED = (b"\xeb\xf2\x89\x87", b"\x87\x89\xf2\xeb")  # the first bytes, of either order of bytes
HEAD = 64  # bytes that tell what a file is
COMPRESSED = {
    b"BZh": "is compressed by bzip2: unpack it first",
    b"\xfd7zXZ": "is compressed by xz: unpack it first",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd: unpack it first",
}
OTHER_KINDS = {
    **COMPRESSED,
    b"PK\x03\x04": "is a zip archive: unpack it first",
    b"\x89HDF": "is an HDF5 file, such as a model of Keras or a result",
    b"\x43\x27\x41\x1a": "is a 2bit file. A FASTA of it: twoBitToFa OLD.2bit NEW.fa",
    b"\x1a\x41\x27\x43": "is a 2bit file. A FASTA of it: twoBitToFa OLD.2bit NEW.fa",
    **dict.fromkeys(BIGBED, "is a bigBed file. A BED of it: bigBedToBed OLD.bb NEW.bed"),
    b"BAM\x01": "is a BAM file. A BED of it: bedtools bamtobed -i OLD.bam",
    b"\xff\xfe": UTF_16,
    b"\xfe\xff": UTF_16,
}
_OF_KERAS = (b"metadata.json", b"config.json", b"model.weights.h5")  # the first member of a .keras archive


def other_kind(head: bytes) -> str:
    """What a file with these first bytes is instead of text, and what to do; "" if it may be text.

    Examples
    --------
    >>> other_kind(b"BZh91AY&SY"), other_kind(b"chr1\\t0\\t9")
    ('is compressed by bzip2: unpack it first', '')
    """
    if head.startswith(b"PK") and any(name in head for name in _OF_KERAS):
        return "is a model of Keras"
    is_utf16 = b"\0\0" in (head[:3:2], head[1:4:2]) and len(head[:4].strip(b"\0")) > 2  # without a byte order mark
    known = (text for magic, text in OTHER_KINDS.items() if head.startswith(magic))
    return next(known, UTF_16 if is_utf16 else "")


STDIN = "-"


def stdin_bytes() -> IO[bytes]:
    """The standard input, for an option that is ``-``.

    Raises
    ------
    UsageError
        If it is closed, or a terminal, where nothing would come.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError('"-" reads stdin, which is closed. Pipe a file into the command, or name it.')
    if sys.stdin.isatty():
        raise UsageError('"-" reads stdin, which is a terminal. Pipe a file into the command, or name it.')
    return sys.stdin.buffer


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
        raise no_space(name, error) from error
    return copy.name


def no_space(name: str, error: OSError) -> ResourceError:
    """The error of a copy that cannot be written."""
    return ResourceError(
        f"{name} could not be copied to {tempfile.gettempdir()}: {error.strerror}. "
        "Set TMPDIR to a folder with more space."
    )


# --- bgzip -----------------------------------------------------------------------------------------------------------

GZIP_MAGIC = b"\x1f\x8b"
_HAS_EXTRA_FIELDS = 4
_FIRST_OF_HEADER = 12  # bytes of a gzip header up to its extra fields
_HEADER = 256  # bytes that hold a block's header, extra fields included
_LARGEST_BLOCK = 1 << 16
_GZI_ENTRY = 16


def has_bgzf_header(head: bytes) -> bool:
    """Whether the gzip header has the extra field ``BC`` that bgzip writes: only then can the file be read anywhere."""
    return _block_size(head) > 0


BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
NO_BGZF_END = "is a cut or damaged bgzip file: its end marker is missing. Make or copy it again."


def lacks_bgzf_end(path: str) -> bool:
    """Whether a file is bgzip without the block that ends it: what is left of a cut file can be whole blocks."""
    with open(path, "rb") as file:
        head = file.read(_HEADER)
        file.seek(max(os.fstat(file.fileno()).st_size - len(BGZF_END), 0))
        return has_bgzf_header(head) and file.read() != BGZF_END


def _block_size(head: bytes) -> int:
    """Bytes of the bgzip block that begins with ``head``; 0 if none does."""
    if not head.startswith(GZIP_MAGIC) or len(head) < _FIRST_OF_HEADER or not head[3] & _HAS_EXTRA_FIELDS:
        return 0
    extra = head[_FIRST_OF_HEADER : _FIRST_OF_HEADER + int.from_bytes(head[10:12], "little")]
    sizes = (value for identifier, value in _subfields(extra) if identifier == b"BC" and len(value) == 2)
    return next((int.from_bytes(size, "little") + 1 for size in sizes), 0)


def _subfields(extra: bytes) -> Iterator[tuple[bytes, bytes]]:
    while len(extra) >= 4:
        end = 4 + int.from_bytes(extra[2:4], "little")
        if end <= len(extra):
            yield extra[:2], extra[4:end]
        extra = extra[end:]


def read_block(file: IO[bytes], path: str) -> tuple[int, bytes]:
    """The bgzip block at the position of a file: its size in the file, and its content; (0, b"") at the end.

    Raises
    ------
    SequenceError
        If it is damaged; with its position.
    """
    at = file.tell()
    head = file.read(_FIRST_OF_HEADER)
    if not head:
        return 0, b""
    head += file.read(int.from_bytes(head[10:12], "little"))
    size = _block_size(head)
    body = file.read(max(size - len(head), 0))
    try:
        content = zlib.decompress(body[:-8], wbits=-zlib.MAX_WBITS)
        is_right = struct.unpack("<II", body[-8:]) == (zlib.crc32(content), len(content))
    except (zlib.error, struct.error):
        is_right = False
    if not is_right:
        raise SequenceError(f"{path} is a damaged bgzip file: no whole block at byte {at}. Make or copy it again.")
    return size, content


class Blocks(NamedTuple):
    """Where each block of a bgzip file begins, as a ``.gzi`` says: in the file and in its content."""

    packed: Sequence[int]
    unpacked: Sequence[int]

    def to_gzi(self) -> bytes:
        """The bytes of a ``.gzi``, which leaves the first block out."""
        entries = list(itertools.chain.from_iterable(zip(self.packed[1:], self.unpacked[1:], strict=True)))
        return struct.pack(f"<{1 + len(entries)}Q", len(entries) // 2, *entries)


def blocks_of_gzi(gzi: bytes, path: str) -> Blocks | None:
    """The blocks of a ``.gzi``, compared with the headers of the bgzip file; None if it is not the file's.

    Each block is looked at if the file is no larger than 256 MiB, else 1,024 of them; :class:`BgzfFile` looks at each
    block that it reads.
    """
    n = int.from_bytes(gzi[:8], "little")
    if len(gzi) != 8 + _GZI_ENTRY * n:
        return None
    entries = struct.unpack_from(f"<{2 * n}Q", gzi, 8)
    blocks = Blocks((0, *entries[::2]), (0, *entries[1::2]))
    return blocks if _rises(blocks, os.stat(path).st_size) and _fit_headers(blocks, path) else None


def _rises(blocks: Blocks, size: int) -> bool:
    contents = (after - before for before, after in itertools.pairwise(blocks.unpacked))
    return (
        blocks.packed[-1] < size
        and all(before < after for before, after in itertools.pairwise(blocks.packed))
        and all(0 <= content <= _LARGEST_BLOCK for content in contents)
    )


def _fit_headers(blocks: Blocks, path: str) -> bool:
    n, size = len(blocks.packed), os.stat(path).st_size
    chosen = range(n) if size <= MAX_READ_WHOLE else [i * (n - 1) // (SAMPLES - 1) for i in range(SAMPLES)]
    begins: list[tuple[int, int | None]] = [*zip(*blocks, strict=True), (size, None)]
    with open(path, "rb", buffering=0) as file:
        for i in chosen:
            (at, content_at), (next_at, next_content_at) = begins[i : i + 2]
            packed, unpacked = _sizes_at(file, at)
            is_right = next_content_at in ((content_at or 0) + unpacked, None) and _are_empty(
                file, at + packed, next_at
            )
            if not packed or not is_right:
                return False
    return True


def _sizes_at(file: IO[bytes], at: int) -> tuple[int, int]:
    """Sizes of the block at ``at``, packed and unpacked, by its header and its last bytes; zeros if none is there."""
    packed = _block_size(os.pread(file.fileno(), _HEADER, at))
    unpacked = os.pread(file.fileno(), 4, at + packed - 4) if packed else b""
    return packed, int.from_bytes(unpacked, "little")


def _are_empty(file: IO[bytes], at: int, end: int) -> bool:
    """Whether only blocks without content lie between two positions. Programs differ in whether they index these."""
    while at < end:
        packed, unpacked = _sizes_at(file, at)
        if not packed or unpacked:
            return False
        at += packed
    return at == end


class BgzfFile:
    """The content of a bgzip file, read from anywhere. Blocks without content may lie between others.

    Parameters
    ----------
    blocks : Blocks
        Of the same file. Each that is read is compared with the one after it.
    """

    def __init__(self, path: str, blocks: Blocks) -> None:
        self._path, self._blocks = path, blocks
        self._file = open(path, "rb")
        self._at = self._within = 0
        self._last: tuple[int, int, bytes] = (-1, 0, b"")  # the block that was read last: position, size, content

    def close(self) -> None:
        self._file.close()

    def seek(self, virtual: int) -> None:
        """Go to a virtual offset: 48 bits for the block's position in the file, 16 for the one in its content."""
        self._at, self._within = virtual >> 16, virtual & 0xFFFF

    def read_at(self, at: int, size: int) -> bytes:
        """Up to ``size`` bytes from position ``at`` of the content."""
        i = bisect.bisect_right(self._blocks.unpacked, at) - 1
        self._at, self._within = self._blocks.packed[i], at - self._blocks.unpacked[i]
        return self.read(size)

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end.

        Raises
        ------
        SequenceError
            If a block is damaged, or is not where the index says.
        """
        parts = []
        while size > 0:
            packed, content = self._block()
            if not packed:
                break
            parts.append(content[self._within : self._within + size])
            size -= len(parts[-1])
            self._within += len(parts[-1])
            if size > 0:
                self._at, self._within = self._at + packed, 0
        return b"".join(parts)

    def _block(self) -> tuple[int, bytes]:
        if self._last[0] != self._at:
            self._file.seek(self._at)
            packed, content = read_block(self._file, self._path)
            self._check(self._at, packed, len(content))
            self._last = (self._at, packed, content)
        return self._last[1:]

    def _check(self, at: int, packed: int, unpacked: int) -> None:
        i = bisect.bisect_left(self._blocks.packed, at)
        begins = [column[i : i + 2] for column in self._blocks]
        is_indexed = len(begins[0]) == 2 and begins[0][0] == at  # and not the last one
        if is_indexed and (begins[0][1] < at + packed or begins[1][1] != begins[1][0] + unpacked):
            raise SequenceError(f"{self._path} does not match its index (.gzi) at byte {at}. Delete the index.")


# --- a child process that reads first --------------------------------------------------------------------------------


MAX_KNOWN = 4096  # files whose faults are known; a merge reads each of its shards several times


def fault_in_file(path: str | Path, read: Callable[[Any], str], *, seconds: int, bytes_per_second: int) -> str:
    """What a child process finds wrong with a file, "" if nothing. It reads each state of the file once.

    Parameters
    ----------
    read : callable
        Reads the file, and returns a fault or "".
    seconds, bytes_per_second : int
        Processor time for any file, and how many bytes of it take a second more.

    Raises
    ------
    OSError
        If the file cannot be looked at.
    """
    state = state_of(path)
    return _fault_of_state(path, state, read, seconds + state.size // bytes_per_second)


@functools.lru_cache(maxsize=MAX_KNOWN)
def _fault_of_state(path: str | Path, state: FileState, read: Callable[[Any], str], seconds: int) -> str:
    return found_by_child(lambda: read(path), seconds)


def found_by_child(find: Callable[[], str], seconds: int) -> str:
    """What ``find`` returns in a process of its own, or what became of that process.

    Parameters
    ----------
    find : callable
        Reads a file and returns a fault, or "".
    seconds : int
        Of processor time.
    """
    try:
        receive, send = os.pipe()
    except OSError:  # too many open files: reading tells
        return find()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads: the child touches none of them, h5py holds its lock
        try:
            child = os.fork()
        except OSError:  # no memory, or too many processes: read it here
            os.close(receive)
            os.close(send)
            return find()
    if child == 0:
        _answer(find, send, seconds)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    return answer.decode(errors="surrogateescape") if status == 0 else _end(status)


def _answer(find: Callable[[], str], send: int, seconds: int) -> None:
    faulthandler.disable()
    try:
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)  # a command has a handler for it, which the child inherits
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
        resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, resource.RLIM_INFINITY))
        os.write(send, printable(find())[:4000].encode(errors="surrogateescape"))
        os._exit(0)
    finally:
        os._exit(1)


def _end(status: int) -> str:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return " is damaged: reading it does not end"
    return " is damaged: it makes the library that reads it crash"


def as_utf8(text: str) -> str:
    """A text that can be written as UTF-8: bytes of a path that are not UTF-8 become ``\\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Without control characters, which names in a damaged file can hold."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


# --- numbers of a .npy file, mapped from the disk --------------------------------------------------------------------

HOW_TO_SAVE = "Write an array of numbers with numpy.save."
NUMBERS = "biuf"  # kinds of types: truth values, integers, floats


def array_in(path: str, what: str) -> np.ndarray:
    """The array of a file, which is read where it is used.

    Parameters
    ----------
    what : str
        The option with the file, as a message begins.

    Raises
    ------
    UsageError
        If it cannot be read, or holds something else than one array of numbers.
    """
    import numpy as np  # here: what reads no array starts without it

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UsageError(f"{what} is no regular file. {HOW_TO_SAVE}")
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UsageError(f"{what} cannot be read: {error.strerror or error}") from error
    except UsageError:
        raise
    except Exception as error:  # a damaged header can make NumPy raise anything
        raise UsageError(f"{what} is no array, or an empty one. {HOW_TO_SAVE}") from error
    if not isinstance(found, np.ndarray):  # an archive of several
        found.close()
        raise UsageError(f"{what} is an archive of arrays (.npz). {HOW_TO_SAVE}")
    if found.dtype.kind not in NUMBERS:
        raise UsageError(f"{what} holds values of type {found.dtype}, which are no numbers. {HOW_TO_SAVE}")
    more = os.path.getsize(path) - found.offset - found.nbytes if isinstance(found, np.memmap) else 0
    if found.size and more:
        raise UsageError(f"{what} has {more:,} bytes behind its array of shape {found.shape}. {HOW_TO_SAVE}")
    return found
