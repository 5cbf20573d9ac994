"""Check that a file of a model is sound before it is read: nothing outside of it, nothing without end or measure.

HDF5 is a program's memory on a disk. A damaged file can make the library crash or run for ever, and no thread can stop
it. So a child process reads each file first, with a limit of processor time; what it finds is one line.
"""

from __future__ import annotations

import inspect
import io
import math
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import h5py

from fastism_cli.errors import ModelError
from fastism_cli.genome.input_files import fault_in_file, printable

SECONDS, BYTES_PER_SECOND = 3, 50 << 20  # of processor time: for any file, and for each more bytes of it
SMALL = 64 << 20  # bytes; below this, nobody minds how small it was when packed
MAX_EXPANSION = 100  # times what is stored; weights are hardly ever packed to less than half
WELL_PACKED = 20  # numbers of a byte each, in a byte of the file: few weights can be packed as well
MAX_OBJECTS = 1_000_000
MAX_DEPTH = 100
WEIGHTS = ".h5"
LENGTHS_IN_HEADER = 26  # bytes of a member's header in an archive before the lengths of its name and extra field


def check_hdf5(path: Path) -> None:
    """Raise :class:`ModelError` unless all of an HDF5 file can be read, lies in it, and has the size that it says."""
    _check(path, _read_hdf5)


def check_archive(path: Path) -> None:
    """Raise :class:`ModelError` unless a zip archive and the weights in it are sound."""
    _check(path, _read_archive)


def _check(path: Path, read: Callable[[Path], str]) -> None:
    try:
        fault = fault_in_file(path, read, seconds=SECONDS, bytes_per_second=BYTES_PER_SECOND)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if fault:
        raise ModelError(f"{path}{fault}")


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def _read_hdf5(source: Path | IO[bytes] | io.RawIOBase) -> str:
    options: dict[str, Any] = {"locking": False} if isinstance(source, Path) else {}
    try:
        with h5py.File(source, "r", **options) as file:
            return next(_faults(file), "")
    except Exception as error:  # a damaged file can make HDF5 raise anything
        return f" is damaged or incomplete: {printable(' '.join(str(error).split()))}"


def _faults(file: h5py.File) -> Iterator[str]:
    """Read every attribute, link and dataset (but not what lies there in one piece), and say what is wrong."""
    groups, seen = [("", file, 0)], {file.id}
    while groups:
        place, group, depth = groups.pop()
        dict(group.attrs)
        if depth > MAX_DEPTH or len(seen) > MAX_OBJECTS:
            yield f" is damaged: {place} is one of too many groups inside each other"
        for name in group:
            inside = f"{place}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                yield f": {inside} {_target(link)}, which is not followed"
            found = group[name]
            if isinstance(found, h5py.Group) and found.id not in seen:
                groups.append((inside, found, depth + 1))
            elif isinstance(found, h5py.Dataset):
                dict(found.attrs)
                yield from _faults_of_dataset(inside, found)
            seen.add(found.id)


def _target(link: Any) -> str:
    return "lies in another file" if isinstance(link, h5py.ExternalLink) else "is a link to another place"


def _faults_of_dataset(place: str, dataset: h5py.Dataset) -> Iterator[str]:
    if dataset.external or dataset.is_virtual:
        yield f": {place} lies in another file, which is not followed"
    declared, stored = math.prod(dataset.shape or ()) * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if declared > SMALL and declared > MAX_EXPANSION * stored:
        yield f": {place} says that it holds {declared:,} bytes, but the file has {stored:,} for it"
    if dataset.chunks is not None and dataset.size:
        for chunk in dataset.iter_chunks():  # one at a time: together they may be large
            dataset[chunk]


# --- zip archives -----------------------------------------------------------------------------------------------------


def _read_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            fault = next(_faults_of_members(archive.infolist()), "")
            return fault or next(_faults_of_weights(archive), "")
    except Exception as error:  # a damaged archive can make zipfile raise anything
        return f" is damaged or incomplete: {printable(' '.join(str(error).split()))}"


def _faults_of_members(members: list[zipfile.ZipInfo]) -> Iterator[str]:
    names = [member.filename for member in members]
    if len(names) > len(set(names)):
        yield f" holds {next(name for name in names if names.count(name) > 1)} twice, which is not read"
    for member in members:
        if member.filename.startswith(("/", "\\")) or ".." in member.filename.replace("\\", "/").split("/"):
            yield f" holds {member.filename!r}, a path that leads out of the archive"
        if stat.S_ISLNK(member.external_attr >> 16):
            yield f" holds {member.filename}, a link, which is not followed"
        if member.flag_bits & 1:
            yield f" holds {member.filename} encrypted: a model must be saved without a password"
        if member.file_size > SMALL and member.file_size > MAX_EXPANSION * member.compress_size:
            packed = f"{member.compress_size:,} bytes unpack to {member.file_size:,}"
            yield f" holds {member.filename}, whose {packed}, which is not read"


def _faults_of_weights(archive: zipfile.ZipFile) -> Iterator[str]:
    """Read the weights to their end, where their checksum is compared, then as HDF5."""
    for member in archive.infolist():
        if member.filename.endswith(WEIGHTS):
            with archive.open(member) as file:
                while file.read(1 << 20):
                    pass
            if member.compress_type == zipfile.ZIP_STORED:
                with _StoredMember(archive, member) as file:
                    fault = _read_hdf5(file)
            else:
                fault = _read_hdf5(io.BytesIO(archive.read(member)))
            if fault:
                yield f", {member.filename}{fault}"


class _StoredMember(io.RawIOBase):
    """An uncompressed member of an archive as a file of its own.

    ``ZipFile.open`` reads a member again from its start whenever HDF5 goes back in it, which it does for each dataset:
    minutes for a large model.
    """

    def __init__(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        self._file = open(str(archive.filename), "rb")
        self._file.seek(member.header_offset + LENGTHS_IN_HEADER)
        lengths = struct.unpack("<HH", self._file.read(4))  # of the member's name, and of what is said beside it
        self._start, self._size, self._at = self._file.tell() + sum(lengths), member.file_size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = memoryview(buffer)[: max(self._size - self._at, 0)]
        self._file.seek(self._start + self._at)
        got = self._file.readinto(wanted)
        self._at += got
        return got

    def close(self) -> None:
        self._file.close()
        super().close()


# --- sizes that a configuration asks for ------------------------------------------------------------------------------


@contextmanager
def weights_that_fit(layer_class: Any, path: Path) -> Iterator[None]:
    """Until the block ends, a layer with a weight that the file at ``path`` cannot hold is refused.

    A damaged number of units would otherwise take all memory, as layers make their weights before any is read.
    """
    add_weight, limit = layer_class.add_weight, _numbers_in(path)

    def checked(layer: Any, *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(add_weight).bind(layer, *args, **kwargs).arguments
        shape = bound.get("shape") or ()
        if math.prod(int(n or 1) for n in (shape if isinstance(shape, (list, tuple)) else ())) > limit:
            wanted = f"layer '{layer.name}' asks for a weight of shape {tuple(shape)}"
            raise ModelError(f"{path}: {wanted}, which the file is too small for")
        return add_weight(layer, *args, **kwargs)

    layer_class.add_weight = checked
    try:
        yield
    finally:
        layer_class.add_weight = add_weight


def _numbers_in(path: Path) -> int:
    """How many numbers a file of weights can hold at most: one a byte, packed well."""
    files = path.rglob("*") if path.is_dir() else [path]
    return max(SMALL, WELL_PACKED * sum(file.stat().st_size for file in files if file.is_file()))
