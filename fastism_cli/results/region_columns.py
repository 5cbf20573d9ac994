"""The columns of ``/regions``: read on demand, and in pieces where a file has very many rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import h5py
import numpy as np

from fastism_cli.results import schema
from fastism_cli.results.intact import ROWS_AT_ONCE, check_numbers, check_text, damaged, is_text, readable, text_chunks
from fastism_cli.scores.tracks import Array


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
