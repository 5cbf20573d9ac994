"""Open the HDF5 file of a result, if it is one, of a version that is read, sound, complete; and its columns."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress

import h5py
import numpy as np

from fastism_cli.errors import UsageError
from fastism_cli.genome.input_files import fault_in_file
from fastism_cli.results import schema
from fastism_cli.results.intact import (
    ROWS_AT_ONCE,
    check_numbers,
    check_result,
    check_text,
    damaged,
    is_text,
    plain,
    readable,
    text_chunks,
    unreadable,
)
from fastism_cli.scores.tracks import Array
from fastism_cli.version import __version__

# HDF5 keeps this much of a file's own tables in memory; by itself it would keep up to 32 MB, of which the names of a
# hundred thousand regions fill 9.
METADATA_BYTES = 1 << 18

SECONDS, BYTES_PER_SECOND = 5, 200 << 20  # of processor time to read all text: of any file, and for more bytes of it

HEADER = ("format", "format_version", "fastism_version", "complete")  # attributes that are asked for by name


def open_checked(path: str, *, allow_incomplete: bool = False) -> h5py.File:
    """Open a result for reading, after all checks but those of the shards that an index reads from.

    Raises
    ------
    UsageError
        If it is no result file, one of another version, or an unfinished one that is not allowed.
    """
    file = open_hdf5(path)
    try:
        with readable(path, "its header"):
            check_format(path, file)
        check_result(path, file)
        if not (allow_incomplete or file.attrs["complete"]):
            raise UsageError(
                f"{path} is unfinished: its run was interrupted, or still goes on. Repeat its command with --resume."
            )
    except BaseException:
        file.close()
        raise
    return file


def open_hdf5(path: str) -> h5py.File:
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):  # reading may never end
        raise UsageError(f"{path} is a pipe, a socket or a device, and no result of fastism run")
    if fault := _fault_without_end(path):
        raise UsageError(f"{path}{fault}. Copy it again, or run again.")
    try:
        # unlocked: nobody changes a file that has its name, and read-only file systems refuse locks; by sec2, whose
        # handle is a descriptor, also where HDF5_DRIVER names another
        file = h5py.File(os.fsencode(path), "r", driver="sec2", locking=False)
    except FileNotFoundError as error:
        is_unfinished = os.path.exists(path + schema.PARTIAL_SUFFIX)
        hint = f", but {path}{schema.PARTIAL_SUFFIX} does: its run is not finished" if is_unfinished else ""
        raise UsageError(f"{path} does not exist{hint}") from error
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise unreadable(path, error) from error
        reason = os.strerror(error.errno) if error.errno else "it is no HDF5 file, or a part of one"
        raise UsageError(f"{path} cannot be read: {reason}") from error
    cache = file.id.get_mdc_config()
    cache.set_initial_size, cache.initial_size, cache.min_size, cache.max_size = True, *3 * (METADATA_BYTES,)
    cache.max_increment = METADATA_BYTES
    file.id.set_mdc_config(cache)
    return file


def _fault_without_end(path: str) -> str:
    """Whether the text and the attributes of a file make HDF5 crash or run for ever; "" if they do not.

    HDF5 has no checksums for the place where these lie. All other faults are told when they are met.
    """
    try:
        return fault_in_file(path, _touch_text, seconds=SECONDS, bytes_per_second=BYTES_PER_SECOND)
    except (OSError, ValueError):  # it cannot be looked at, which is told when it is opened
        return ""


def _touch_text(path: str) -> str:
    with suppress(Exception), h5py.File(os.fsencode(path), "r", locking=False) as file:
        _touch("", file)
        file.visititems(_touch)
    return ""


def _touch(name: str, found: h5py.Group | h5py.Dataset) -> None:
    names = list(HEADER)
    with suppress(Exception):
        names += found.attrs
    for attribute in names:
        with suppress(Exception):
            found.attrs[attribute]
    if isinstance(found, h5py.Dataset) and is_text(found):
        for start in range(0, len(found), ROWS_AT_ONCE):
            with suppress(Exception):
                found[start : start + ROWS_AT_ONCE]


def check_format(path: str, file: h5py.File) -> None:
    found, version = (plain(file.attrs.get(name)) for name in ("format", "format_version"))
    if found is None and schema.DELTA in file:
        raise damaged(path, "its attribute format is missing or cannot be read")
    if found is not None and not isinstance(found, str):
        raise damaged(path, "its attribute format is no text")
    if found != schema.FORMAT:
        instead = "it does not say its format" if found is None else f"its format is {found!r}"
        raise UsageError(f"{path} is not a result of fastism run: {instead}, which would be {schema.FORMAT!r}")
    if version not in schema.READABLE_VERSIONS:
        known = ", ".join(map(str, schema.READABLE_VERSIONS))
        raise UsageError(
            f"{path} has version {version} of the format {schema.FORMAT}; fastism {__version__} reads versions "
            f"{known}. Read it with the fastism that wrote it: {file.attrs.get('fastism_version')}"
        )


# --- the columns of /regions -----------------------------------------------------------------------------------------


class RegionColumns(Mapping[str, Array]):
    """Name of a column to its values, (N,); chrom, name and both strands hold str.

    A column that was read is kept. It can be read while the file is open: ``dict(columns)`` reads all.
    """

    def __init__(self, path: str, group: h5py.Group) -> None:
        self._path = path
        self._group = group
        self._read: dict[str, Array] = {}
        self._checked: set[tuple[str, int]] = set()  # chunks of text, and columns of numbers, that are as written

    def __getitem__(self, name: str) -> Array:
        if name not in self._read:
            self._read[name] = self.slice(name)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(schema.REGION_COLUMNS)

    def __len__(self) -> int:
        return len(schema.REGION_COLUMNS)

    def slice(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Rows ``[start, stop)`` of a column; they are not kept."""
        with readable(self._path, f"the column {name!r} of its regions"):
            dataset = self._group[self._stored(name)]
            stop = len(dataset) if stop is None else stop
            self._check(name, dataset, start, stop)
            values = column(dataset, start, stop)
        if name == "status" and len(values) and values.max() >= len(schema.Status):
            raise damaged(self._path, f"{values.max()} is no status of a region")
        return values

    def _stored(self, name: str) -> str:
        """The column that holds ``name``; files of version 1 have one strand, that which the model saw."""
        return schema.STRAND if name == schema.MODEL_STRAND and name not in self._group else name

    def _check(self, name: str, dataset: h5py.Dataset, start: int, stop: int) -> None:
        """Compare numbers as a whole, and text chunk by chunk, with what was written."""
        for chunk in text_chunks(dataset, start, stop) if is_text(dataset) else [0]:
            if (name, chunk) in self._checked:
                continue
            if is_text(dataset):
                check_text(self._path, dataset, chunk)
            else:
                check_numbers(self._path, dataset)
            self._checked.add((name, chunk))

    def at(self, name: str, rows: Array) -> Array:
        """Values (n,) of some ascending rows; they are not kept, so few rows of a large file take little memory."""
        first, stop = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        return np.asarray(self.slice(name, first, stop)[rows - first])


def column(dataset: h5py.Dataset, start: int = 0, stop: int | None = None) -> Array:
    """Values of a dataset (N,), text as str: equal ones are one object, as the contigs of a million rows are few."""
    stop = len(dataset) if stop is None else stop
    if h5py.check_string_dtype(dataset.dtype) is None:
        return np.asarray(dataset[start:stop])
    values, known = np.empty(stop - start, dtype=object), _Texts()
    for first in range(start, stop, ROWS_AT_ONCE):
        piece = dataset[first : min(first + ROWS_AT_ONCE, stop)].tolist()
        values[first - start : first - start + len(piece)] = [known[raw] for raw in piece]
    return values


class _Texts(dict[bytes, str]):
    """Bytes to text; equal texts are one object."""

    def __missing__(self, raw: bytes) -> str:
        self[raw] = text = raw.decode()
        return text
