"""Write whole chunks of a dataset, compressed beside HDF5 and not inside it.

HDF5 compresses with all of Python waiting. zlib lets the other threads run, and several chunks be compressed at once;
HDF5 is then given what its own filters, shuffle and deflate, would have made.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Offset = tuple[int, ...]

THREADS = max(1, min((os.cpu_count() or 1) // 4, 8))


class ChunkWriter:
    """Threads that compress; :meth:`close` ends them."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="compress")

    def close(self) -> None:
        self._pool.shutdown()

    def write(self, dataset: h5py.Dataset, start: int, rows: Array) -> None:
        """Store ``rows`` from row ``start`` on, where a chunk begins; what is left of the last chunk is filled."""
        if not len(rows):
            return
        if not _is_packed_here(dataset):
            dataset[start : start + len(rows)] = rows
            return
        offsets, chunks = zip(*_chunks(dataset, start, rows), strict=True)
        level, size = dataset.compression_opts, dataset.dtype.itemsize
        for offset, packed in zip(offsets, self._pool.map(lambda chunk: pack(chunk, size, level), chunks), strict=True):
            dataset.id.write_direct_chunk(offset, packed)


def pack(chunk: Array, itemsize: int, level: int) -> bytes:
    """What HDF5's filters shuffle and deflate make of a chunk: all first bytes of the values, all second bytes, ..."""
    shuffled = np.ascontiguousarray(chunk).reshape(-1).view(np.uint8).reshape(-1, itemsize).T
    return zlib.compress(np.ascontiguousarray(shuffled).data, level)


def _is_packed_here(dataset: h5py.Dataset) -> bool:
    return dataset.compression == "gzip" and bool(dataset.shuffle) and h5py.check_string_dtype(dataset.dtype) is None


def _chunks(dataset: h5py.Dataset, start: int, rows: Array) -> Iterator[tuple[Offset, Array]]:
    """Where each chunk of these rows begins, and its values, all of the full size."""
    shape = dataset.chunks
    first = [range(0, n, size) for n, size in zip(rows.shape, shape, strict=True)]
    for corner in product(*first):
        part = rows[tuple(slice(at, at + size) for at, size in zip(corner, shape, strict=True))]
        yield (start + corner[0], *corner[1:]), _filled(part, shape, dataset)


def _filled(part: Array, shape: tuple[int, ...], dataset: h5py.Dataset) -> Array:
    if part.shape == shape:
        return part
    chunk = np.full(shape, dataset.fillvalue, dataset.dtype)
    chunk[tuple(slice(0, n) for n in part.shape)] = part
    return chunk
