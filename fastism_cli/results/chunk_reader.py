"""Read rows of a compressed dataset on all cores: HDF5 itself decompresses one chunk after the other."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import h5py
import numpy as np

from fastism_cli.results.layout import Array

MAX_THREADS = 8


def decoding_threads() -> ThreadPoolExecutor:
    """Threads for :meth:`ChunkReader.start`: zlib and numpy let other threads run while they work."""
    return ThreadPoolExecutor(n_threads(), thread_name_prefix="decode")


def n_threads() -> int:
    """Number of these threads."""
    return min(os.cpu_count() or 1, MAX_THREADS)


@dataclass(frozen=True)
class ChunkReader:
    """Reads ``dataset[start:stop][:, units]`` of a dataset (N, T, ...), float16 or float32.

    Chunks with the filters shuffle and gzip are decompressed in ``threads``, all others by HDF5.
    """

    dataset: h5py.Dataset
    threads: Executor

    def start(self, start: int, stop: int, units: Sequence[int]) -> Callable[[], Array]:
        """Start to read; the returned function waits for the values, (stop - start, units, ...)."""
        if not self._chunks.is_simple:
            return lambda: self._by_hdf5(start, stop, units)
        chunks = list(self._raw(start, stop, units))
        if len(chunks) == 1 and self._chunks.is_just(chunks[0][0], start, stop, units):
            whole = self.threads.submit(self._chunks.decode, chunks[0][1], self._chunks.new())
            return lambda: whole.result()[: stop - start]
        values = np.full((stop - start, len(units), *self.dataset.shape[2:]), self.dataset.fillvalue, np.float32)
        pending = [self.threads.submit(_place, self._chunks, values, *chunk, start, units) for chunk in chunks]
        return lambda: _finished(values, pending)

    @cached_property
    def _chunks(self) -> _Chunks:
        return _Chunks(self.dataset)

    def _by_hdf5(self, start: int, stop: int, units: Sequence[int]) -> Array:
        first = min(units)
        hull = self.dataset[start:stop, first : max(units) + 1]
        return np.asarray(hull[:, [unit - first for unit in units]], np.float32)

    def _raw(self, start: int, stop: int, units: Sequence[int]) -> Iterator[tuple[tuple[int, int], bytes]]:
        """First row and unit of each wanted chunk, and its bytes; chunks that were never written are left out."""
        rows, columns = self._chunks.chunks[:2]
        row_starts = range(start // rows * rows, stop, rows)
        unit_starts = sorted({unit // columns * columns for unit in units})
        for chunk in product(row_starts, unit_starts):
            offset = (*chunk, *(0 for _ in self.dataset.shape[2:]))
            if self.dataset.id.get_chunk_info_by_coord(offset).byte_offset is not None:
                yield chunk, self._bytes(offset)

    def _bytes(self, offset: tuple[int, ...]) -> bytes:
        skipped, raw = self.dataset.id.read_direct_chunk(offset)
        assert skipped == 0  # only optional filters of other libraries are ever skipped
        return bytes(raw)


class _Chunks:
    """Facts about the chunks of a dataset for the threads, which must not call HDF5.

    Attributes
    ----------
    is_simple : bool
        Whether chunks are cut along the first two axes alone, and made by shuffle and gzip.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        filters = dataset.id.get_create_plist()
        names = [filters.get_filter(i)[0] for i in range(filters.get_nfilters())]
        is_gzip = names == [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE]
        self.dtype, self.chunks = dataset.dtype, dataset.chunks
        self.is_simple = is_gzip and dataset.dtype.isnative and (dataset.chunks or ())[2:] == dataset.shape[2:]

    def is_just(self, chunk: tuple[int, int], start: int, stop: int, units: Sequence[int]) -> bool:
        """Whether a chunk holds exactly the wanted units, from the first wanted row on."""
        is_whole = self.dtype == np.float32 and list(units) == list(range(chunk[1], chunk[1] + self.chunks[1]))
        return is_whole and chunk[0] == start and stop - start <= self.chunks[0]

    def new(self) -> Array:
        """An empty array for a chunk.

        The thread that uses the values must allocate it: memory that one thread allocates and another frees is
        fragmented.
        """
        return np.empty(self.chunks, self.dtype)

    def decode(self, raw: bytes, chunk: Array) -> Array:
        """Fill a chunk with its values."""
        itemsize = self.dtype.itemsize
        shuffled = np.frombuffer(zlib.decompress(raw, bufsize=chunk.nbytes), np.uint8).reshape(itemsize, -1)
        values = chunk.reshape(-1).view(np.uint8).reshape(-1, itemsize)
        for byte in range(itemsize):  # a few long copies: several times faster than one transposed copy
            values[:, byte] = shuffled[byte]
        return chunk


def _place(facts: _Chunks, values: Array, chunk: tuple[int, int], raw: bytes, start: int, units: Sequence[int]) -> None:
    """Decode a chunk and copy its wanted values into ``values``, whose first row is ``start``."""
    decoded = facts.decode(raw, facts.new())
    first, last = max(chunk[0], start), min(chunk[0] + decoded.shape[0], start + len(values))
    rows = decoded[first - chunk[0] : last - chunk[0]]
    for column, unit in enumerate(units):
        if chunk[1] <= unit < chunk[1] + decoded.shape[1]:
            values[first - start : last - start, column] = rows[:, unit - chunk[1]]


def _finished(values: Array, pending: Sequence[Future[None]]) -> Array:
    for future in pending:
        future.result()
    return values
