"""An index of shards: its rows are read from the files of the shards, or there is an error."""

from __future__ import annotations

import os
from collections import OrderedDict
from functools import cached_property
from typing import Any, NamedTuple

import h5py
import numpy as np

from fastism_cli.errors import UsageError
from fastism_cli.results import schema
from fastism_cli.results.hdf5_files import check_format, open_checked, open_hdf5
from fastism_cli.results.intact import damaged, readable
from fastism_cli.results.layout import Array

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
        self._open: OrderedDict[str, h5py.File] = OrderedDict()

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
        with open_hdf5(part.path) as found, readable(part.path, "its header"):
            check_format(part.path, found)
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
            self._open[part.path] = open_checked(part.path)
            if len(self._open) > MAX_OPEN_PARTS:
                self._open.popitem(last=False)[1].close()
        found = self._open[part.path][like.name]
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
