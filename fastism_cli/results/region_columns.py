"""The columns of ``/regions``: read on demand, and in pieces where a file has very many rows."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import h5py
import numpy as np

from fastism_cli.errors import ResourceError
from fastism_cli.results import schema
from fastism_cli.results.layout import Array

ROWS_AT_ONCE = 1 << 10  # in a pass over all rows; to read text takes several times its memory


class RegionColumns(Mapping[str, Array]):
    """Name of a column to its values, (N,); chrom, name and both strands hold str.

    A column that was read is kept. It can be read while the file is open: ``dict(columns)`` reads all.
    """

    def __init__(self, path: str, group: h5py.Group) -> None:
        self._path = path
        self._group = group
        self._read: dict[str, Array] = {}

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
            return column(self._group[self._stored(name)], start, stop)

    def _stored(self, name: str) -> str:
        """The column that holds ``name``; files of version 1 have one strand, that which the model saw."""
        return schema.STRAND if name == schema.MODEL_STRAND and name not in self._group else name

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


@contextmanager
def readable(path: str, what: str) -> Iterator[None]:
    """Report a damaged result: the context in which ``what`` is read from it.

    Raises
    ------
    ResourceError
        If a chunk cannot be read or decompressed.
    """
    try:
        yield
    except (OSError, zlib.error) as error:
        raise ResourceError(
            f"{path}: {what} cannot be read ({error}). The file is damaged: copy it again, or run again."
        ) from error
