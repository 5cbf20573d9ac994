"""An index of shards: its rows are read from the files of the shards, or there is an error.

For each shard, every dataset of the index has a sum of the checksums of all chunks (:func:`sum_of_chunks`). Checksums
alone tell nothing of a shard in which somebody writes with h5py, as HDF5 makes new ones. An index of version 0.1 has
no sums: its shards are recognised by their header.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from functools import cached_property
from typing import Any, NamedTuple

import h5py
import numpy as np

from fastism_cli.errors import UsageError
from fastism_cli.genome.input_files import FileState, state_of
from fastism_cli.results import schema
from fastism_cli.results.hdf5_files import check_format, open_checked, open_hdf5
from fastism_cli.results.intact import damaged, readable, sum_of_chunks
from fastism_cli.scores.tracks import Array

MAX_OPEN_PARTS = 2


def check_sources(path: str, file: h5py.File) -> None:
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


class Part(NamedTuple):
    """Rows ``[start, stop)`` of an index are those of the file at ``path``.

    ``sum`` is :func:`sum_of_chunks` of its dataset when the index was made; None if the index does not say.
    """

    start: int
    stop: int
    path: str
    sum: int | None = None


class Parts:
    """The files that an index reads from. A few are open at a time, however many they are.

    HDF5 itself gives NaN for a file that it cannot open.
    """

    def __init__(self, path: str, file: h5py.File) -> None:
        self.path = path
        self._folder = os.path.dirname(os.path.realpath(path))  # also where the process is in another one later
        self._config = file.attrs.get("config_sha256")
        self._open: OrderedDict[str, tuple[FileState, h5py.File]] = OrderedDict()
        self._as_merged: set[tuple[FileState, str, str]] = set()  # files and their datasets

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1][1].close()

    def of(self, dataset: h5py.Dataset) -> list[Part]:
        """The parts of a dataset, in the order of its rows."""
        with readable(self.path, f"the list of files of {dataset.name}"):
            parts = []
            for source in dataset.virtual_sources():
                first, last = source.vspace.get_select_bounds()
                if source.dset_name.strip("/") != dataset.name.strip("/"):
                    raise damaged(self.path, f"{dataset.name} reads from {source.dset_name}")
                parts.append(Part(int(first[0]), int(last[0]) + 1, os.path.join(self._folder, source.file_name)))
        parts.sort()
        if [0, *(part.stop for part in parts)] != [*(part.start for part in parts), len(dataset)]:
            raise damaged(self.path, f"the files of {dataset.name} do not hold every row once")
        sums = dataset.attrs.get(schema.SHARD_SUMS)
        if sums is None:
            return parts
        if np.shape(sums) != (len(parts),):
            raise damaged(self.path, f"the checksums of {dataset.name} are not as written")
        return [part._replace(sum=int(known)) for part, known in zip(parts, sums, strict=True)]

    def check(self, part: Part) -> None:
        """Refuse a file that was cut or replaced, without a look at all of it.

        Raises
        ------
        UsageError
        """
        with open_hdf5(part.path) as found, readable(part.path, "its header"):
            check_format(part.path, found)
            is_same = found.attrs.get("config_sha256") == self._config
            is_same = is_same and found.attrs.get("row_start", part.start) == part.start
            if not is_same or len(found[schema.SEQ]) != part.stop - part.start:
                raise self._replaced(part)
            if found[schema.SEQ].is_virtual:
                raise damaged(self.path, f"it reads from {part.path}, which is an index itself")

    def dataset(self, part: Part, like: h5py.Dataset) -> h5py.Dataset:
        """The dataset of a part that has the name of ``like``.

        Raises
        ------
        UsageError
            If it is not as it was when the index was made.
        """
        now, file = self._opened(part)
        found = file[like.name]
        if (found.shape, found.dtype) != ((part.stop - part.start, *like.shape[1:]), like.dtype):
            raise self._replaced(part)
        if part.sum is not None and (now, part.path, like.name) not in self._as_merged:
            if sum_of_chunks(found) != part.sum:
                raise UsageError(
                    f"{self.path} reads from {part.path}, whose {like.name} has been written anew since. "
                    "Merge the shards again."
                )
            self._as_merged.add((now, part.path, like.name))
        return found

    def _opened(self, part: Part) -> tuple[FileState, h5py.File]:
        """An open file; one that was written since it was opened is looked at again."""
        now = _state_of(part.path)
        known = self._open.get(part.path)
        if known is not None and known[0] == now:
            return known
        if known is not None:
            self._open.pop(part.path)[1].close()
        self.check(part)
        file = open_checked(part.path)
        self._open[part.path] = opened = (now or state_of(part.path), file)
        if len(self._open) > MAX_OPEN_PARTS:
            self._open.popitem(last=False)[1][1].close()
        return opened

    def _replaced(self, part: Part) -> UsageError:
        return UsageError(f"{self.path} reads from {part.path}, which has been replaced since. Merge the shards again.")


def _state_of(path: str) -> FileState | None:
    """None for a file that cannot be looked at, which is told when it is opened."""
    try:
        return state_of(path)
    except OSError:
        return None


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
