"""Read a result file."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import h5py
import numpy as np

from fastism_cli.errors import UsageError
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.genome.input_files import fault_in_file
from fastism_cli.results import schema
from fastism_cli.results.intact import (
    ROWS_AT_ONCE,
    check_result,
    check_text,
    damaged,
    is_text,
    plain,
    readable,
    unreadable,
)
from fastism_cli.results.layout import Array, HeadLayout, Layout
from fastism_cli.results.region_columns import RegionColumns, column
from fastism_cli.version import __version__

# HDF5 keeps this much of a file's own tables in memory; by itself it would keep up to 32 MB, of which the names of a
# hundred thousand regions fill 9.
METADATA_BYTES = 1 << 18

SECONDS, BYTES_PER_SECOND = 5, 200 << 20  # of processor time to read all text: of any file, and for more bytes of it

HEADER = ("format", "format_version", "fastism_version", "complete")  # attributes that are asked for by name

MAX_OPEN_PARTS = 2  # of an index of shards


Dataset: TypeAlias = "h5py.Dataset | JoinedDataset"


class IsmFile:
    """An open result file. Made by :func:`read_result`; leaving its context closes it.

    Arrays that grow with the number of regions are ``h5py.Dataset``: slice them. Those of an index of shards are
    :class:`JoinedDataset`.
    """

    def __init__(self, path: str, file: h5py.File) -> None:
        self.path = path
        self._file = file
        self._parts = Parts(path, file)

    def __enter__(self) -> IsmFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._parts.close()
        self._file.close()

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """All attributes, as Python values."""
        found = {name: plain(value) for name, value in self._file.attrs.items()}
        found.pop(schema.CHECKSUMS, None)
        return found

    @property
    def complete(self) -> bool:
        """Whether every row is final."""
        return bool(self.attrs["complete"])

    @property
    def alphabet(self) -> Alphabet:
        """Letters, in the order of the last axis of ``delta``."""
        return Alphabet(self.attrs["alphabet"])

    @cached_property
    def heads(self) -> tuple[HeadLayout, ...]:
        """Heads in the order of the model."""
        return tuple(self._head(key) for key in self._file[schema.OUTPUTS])

    @cached_property
    def layout(self) -> Layout:
        """Shapes and types, as the writer was given them."""
        delta = self.delta(self.heads[0].name)
        compression = "none" if delta.is_virtual else delta.compression or "none"
        n, length = self.seq.shape
        return Layout(n, length, self.heads, self.attrs["alphabet"], str(delta.dtype), compression)

    @cached_property
    def regions(self) -> dict[str, Array]:
        """Columns of ``/regions``, each (N,); chrom, name and both strands hold str."""
        return dict(self.columns)

    @cached_property
    def columns(self) -> RegionColumns:
        """The same, each read when it is asked for, while the file is open."""
        return RegionColumns(self.path, self._file[schema.REGIONS])

    @cached_property
    def genome_sizes(self) -> dict[str, int]:
        """Length of every contig of the FASTA."""
        with readable(self.path, "the contigs of its genome"):
            genome = self._file[schema.GENOME]
            names, sizes = self._text(genome[schema.CHROM_NAMES]), genome[schema.CHROM_SIZES][:].tolist()
        return dict(zip(names, sizes, strict=True))

    @property
    def sources(self) -> list[str]:
        """The shards that an index reads from, relative to its folder; none of a file that holds its own scores."""
        dataset = self._file[schema.SEQ]
        return [source.file_name for source in dataset.virtual_sources()] if dataset.is_virtual else []

    @property
    def seq(self) -> Dataset:
        """uint8 (N, L): codes of the alphabet."""
        return self.dataset(schema.SEQ)

    def reference(self, head: str | None = None) -> Dataset:
        """float32 (N, T): predictions on the reference; ``head`` may be left out if there is only one."""
        return self.dataset(f"{schema.REF}/{self._key(head)}")

    def delta(self, head: str | None = None) -> Dataset:
        """float32 or float16 (N, T, L, 4): substituted - reference; ``head`` may be left out if there is only one."""
        return self.dataset(f"{schema.DELTA}/{self._key(head)}")

    def dataset(self, name: str) -> Dataset:
        """A dataset that has a row for each region."""
        found = self._file[name]
        return JoinedDataset(found, self._parts) if found.is_virtual else found

    def _head(self, key: str) -> HeadLayout:
        with readable(self.path, f"the targets of {key}"):
            group = self._file[f"{schema.OUTPUTS}/{key}"]
            names = tuple(self._text(group[schema.TARGET_NAMES]))
        return HeadLayout(
            group.attrs["name"], self._file[f"{schema.REF}/{key}"].shape[1:], names, group.attrs["reduce"]
        )

    def _text(self, dataset: h5py.Dataset) -> Array:
        check_text(self.path, dataset)
        return column(dataset)

    def _key(self, name: str | None) -> str:
        names = [head.name for head in self.heads]
        if name is None and len(names) == 1:
            name = names[0]
        if name not in names:
            raise UsageError(f"{self.path} has the heads {', '.join(names)}. Received: head={name!r}")
        return schema.head_key(name)


# --- an index of shards ----------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """Rows ``[start, stop)`` of an index are those of the file at ``path``."""

    start: int
    stop: int
    path: str


class Parts:
    """The files that an index reads from. A few are open at a time, however many they are.

    HDF5 itself gives NaN for a file that it cannot open.
    """

    def __init__(self, path: str, file: h5py.File) -> None:
        self.path = path
        self._config = file.attrs.get("config_sha256")
        self._open: OrderedDict[str, IsmFile] = OrderedDict()

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def of(self, dataset: h5py.Dataset) -> list[Part]:
        """The parts of a dataset, in the order of its rows."""
        with readable(self.path, f"the list of files of {dataset.name}"):
            folder, parts = os.path.dirname(os.path.realpath(self.path)), []
            for source in dataset.virtual_sources():
                first, last = source.vspace.get_select_bounds()
                if source.dset_name.strip("/") != dataset.name.strip("/"):
                    raise damaged(self.path, f"{dataset.name} reads from {source.dset_name}")
                parts.append(Part(int(first[0]), int(last[0]) + 1, os.path.join(folder, source.file_name)))
        parts.sort()
        if [0, *(part.stop for part in parts)] != [*(part.start for part in parts), len(dataset)]:
            raise damaged(self.path, f"the files of {dataset.name} do not hold every row once")
        return parts

    def check(self, part: Part) -> None:
        """Refuse a file that was cut or replaced, without a look at all of it.

        Raises
        ------
        UsageError
        """
        with _open_hdf5(part.path) as found, readable(part.path, "its header"):
            _check_format(part.path, found)
            is_same = found.attrs.get("config_sha256") == self._config
            is_same = is_same and found.attrs.get("row_start", part.start) == part.start
            if not is_same or len(found[schema.SEQ]) != part.stop - part.start:
                raise self._replaced(part)
            if found[schema.SEQ].is_virtual:
                raise damaged(self.path, f"it reads from {part.path}, which is an index itself")

    def dataset(self, part: Part, like: h5py.Dataset) -> h5py.Dataset:
        """The dataset of a part that has the name of ``like``."""
        if part.path not in self._open:
            self.check(part)
            self._open[part.path] = read_result(part.path)
            if len(self._open) > MAX_OPEN_PARTS:
                self._open.popitem(last=False)[1].close()
        found = self._open[part.path].dataset(like.name)
        if (found.shape, found.dtype) != ((part.stop - part.start, *like.shape[1:]), like.dtype):
            raise self._replaced(part)
        return found

    def _replaced(self, part: Part) -> UsageError:
        return UsageError(f"{self.path} reads from {part.path}, which has been replaced since. Merge the shards again.")


class JoinedDataset:
    """A dataset of an index, for reading: rows come from the shards, or there is an error. Slice it."""

    is_virtual = True
    chunks = compression = None

    def __init__(self, dataset: h5py.Dataset, parts: Parts) -> None:
        self._dataset, self._source = dataset, parts
        self.name: str = dataset.name
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype
        self.ndim: int = dataset.ndim
        self.fillvalue = dataset.fillvalue

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)

    def __getitem__(self, key: Any) -> Array:
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            first, rest = slice(None), [Ellipsis, *rest]
        rows = np.arange(len(self))[first]
        if not rows.size:
            return np.empty((0, *self.shape[1:]), self.dtype)[(rows, *rest)]
        start = int(rows.min())
        return np.asarray(self._read(start, int(rows.max()) + 1, tuple(rest))[rows - start])

    @cached_property
    def _parts(self) -> list[Part]:
        return self._source.of(self._dataset)

    def _read(self, start: int, stop: int, rest: tuple[Any, ...]) -> Array:
        values = None
        for part in self._parts:
            first, last = max(part.start, start), min(part.stop, stop)
            if first >= last:
                continue
            with readable(part.path, f"{self.name} of it"):
                piece = self._source.dataset(part, self._dataset)[(slice(first - part.start, last - part.start), *rest)]
            if values is None:
                values = np.empty((stop - start, *piece.shape[1:]), self.dtype)
            values[first - start : last - start] = piece
        assert values is not None  # the parts hold every row
        return values


# --- opening ---------------------------------------------------------------------------------------------------------


def read_result(path: str | os.PathLike[str], *, allow_incomplete: bool = False) -> IsmFile:
    """Open a result file for reading.

    Raises
    ------
    UsageError
        If it is no result file, one of another version, or an unfinished one that is not allowed.
    """
    name = os.fspath(path)
    file = _open_hdf5(name)
    try:
        with readable(name, "its header"):
            _check_format(name, file)
        check_result(name, file)
        _check_sources(name, file)
        if not (allow_incomplete or file.attrs["complete"]):
            raise UsageError(
                f"{name} is unfinished: its run was interrupted, or still goes on. Repeat its command with --resume."
            )
    except BaseException:
        file.close()
        raise
    return IsmFile(name, file)


def _open_hdf5(path: str) -> h5py.File:
    if fault := _fault_without_end(path):
        raise UsageError(f"{path}{fault}. Copy it again, or run again.")
    try:
        # unlocked: nobody changes a file that has its name, and read-only file systems refuse locks
        file = h5py.File(os.fsencode(path), "r", locking=False)
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


def _check_format(path: str, file: h5py.File) -> None:
    found, version = (plain(file.attrs.get(name)) for name in ("format", "format_version"))
    if found is None and schema.DELTA in file:
        raise damaged(path, "its attribute format is missing or cannot be read")
    if found is not None and not isinstance(found, str):
        raise damaged(path, "its attribute format is no text")
    if found != schema.FORMAT:
        instead = "it does not say its format" if found is None else f"its format is {found!r}"
        raise UsageError(f"{path} is not a result of fastism run: {instead}, which would be {schema.FORMAT!r}")
    if version not in schema.READABLE_VERSIONS:
        known = " and ".join(map(str, schema.READABLE_VERSIONS))
        raise UsageError(
            f"{path} has version {version} of the format {schema.FORMAT}; fastism {__version__} reads versions "
            f"{known}. Read it with the fastism that wrote it: {file.attrs.get('fastism_version')}"
        )


def _check_sources(path: str, file: h5py.File) -> None:
    """Refuse an index whose parts are gone, cut or replaced.

    Raises
    ------
    UsageError
        Names the missing files, or the first that has changed.
    """
    dataset = file[schema.SEQ]
    if not dataset.is_virtual:
        return
    source = Parts(path, file)
    parts = source.of(dataset)
    gone = [
        os.path.relpath(part.path, os.path.dirname(os.path.realpath(path)))
        for part in parts
        if not os.path.exists(part.path)
    ]
    if gone:
        raise UsageError(f"{path} reads from {len(parts)} files, of which these are gone: {', '.join(gone[:5])}")
    for part in parts:
        source.check(part)
