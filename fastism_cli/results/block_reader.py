"""Read the codes and deltas of rows block by block, decompressing some blocks ahead.

Chunks are decompressed on all cores: HDF5 itself decompresses one after the other.
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import h5py
import numpy as np

from fastism_cli.results.intact import damaged, readable
from fastism_cli.results.ism_file import IsmFile
from fastism_cli.scores.tracks import Array, Track

# Deltas of a block: about one chunk, which stays in the processor's cache until it is used. Blocks are whole chunks, so
# that none is decompressed twice, unless their rows have so few deltas that the letters take more than LETTER_BYTES.
BLOCK_BYTES = 1 << 20
LETTER_BYTES = 1 << 25  # of a block: its letters, and the importance of each of them
AHEAD_BYTES = 1 << 25  # of the blocks that are decompressed ahead
MAX_THREADS = 8


class StoredBlock(NamedTuple):
    """Some rows as they are in the file: letters are in the order of its alphabet.

    Attributes
    ----------
    rows : int64 (n,)
    seq : uint8 (n, L)
    delta : float32 (n, K, L, letters)
    """

    rows: Array
    seq: Array
    delta: Array


def stored_blocks(file: IsmFile, tracks: Sequence[Track], rows: Iterator[Array]) -> Iterator[StoredBlock]:
    """Ascending rows of some tracks, which come in pieces of any size, a few chunks of the file at a time."""
    with decoding_threads() as threads:
        reader = _BlockReader(file, tracks, threads)
        ahead: deque[Callable[[], StoredBlock]] = deque()
        for piece in _cut(rows, reader.rows_at_once):
            ahead.append(reader.start(piece))
            if len(ahead) > reader.blocks_ahead:
                yield ahead.popleft()()
        while ahead:
            yield ahead.popleft()()


def _cut(pieces: Iterator[Array], step: int) -> Iterator[Array]:
    """The same rows, in pieces that end at multiples of ``step``, where chunks begin."""
    begun = np.empty(0, np.int64)
    for rows in pieces:
        rows = np.concatenate([begun, rows])
        *done, begun = np.split(rows, np.flatnonzero(np.diff(rows // step)) + 1)
        yield from done
    if len(begun):
        yield begun


def _what(rows: Array) -> str:
    return f"the scores of rows {rows[0]:,} to {rows[-1]:,}"


class _BlockReader:
    def __init__(self, file: IsmFile, tracks: Sequence[Track], threads: Executor) -> None:
        self._path = file.path
        self._codes = _Codes(file.seq)
        self._letters, (*_, first, last) = file.alphabet.size, file.delta(file.heads[0].name).shape
        self._inner, self._length = (first, last), max(file.seq.shape[1], 1)
        self._n_tracks = len(tracks)
        self._heads = [
            _HeadReader([i for i, track in enumerate(tracks) if track.head == head], file.delta(head), threads, tracks)
            for head in dict.fromkeys(track.head for track in tracks)
        ]

    @property
    def rows_at_once(self) -> int:
        """Whole chunks of every head that is read, or parts of them, in bounded memory."""
        step = max((head.rows_of_chunk for head in self._heads), default=1)
        whole = max(BLOCK_BYTES // self._delta_bytes // step, 1) * step
        return int(min(whole, max(LETTER_BYTES // self._letter_bytes, 1)))

    @property
    def blocks_ahead(self) -> int:
        """Two for each thread, so that none waits, as far as ``AHEAD_BYTES`` allows."""
        row_bytes = self._delta_bytes + self._letter_bytes
        return min(max(AHEAD_BYTES // (row_bytes * self.rows_at_once), 1), 2 * n_threads())

    @property
    def _delta_bytes(self) -> int:
        """Of a row."""
        return 4 * self._inner[0] * self._inner[1] * max(self._n_tracks, 1)

    @property
    def _letter_bytes(self) -> int:
        """Of a row: its letters, and what is made of them, which float32 (K, L) are."""
        return self._length * (1 + 4 * self._n_tracks)

    def start(self, rows: Array) -> Callable[[], StoredBlock]:
        """Start to read a block; the returned function waits for it."""
        start, stop = int(rows[0]), int(rows[-1]) + 1
        with readable(self._path, _what(rows)):
            seq = self._codes.rows(start, stop)
            if seq.max(initial=0) > self._letters:
                raise damaged(self._path, f"{seq.max()} is no letter of its sequences")
            pending = [(head.columns, head.start(start, stop)) for head in self._heads]

        def finish() -> StoredBlock:
            with readable(self._path, _what(rows)):
                delta = self._joined([(columns, wait()) for columns, wait in pending], stop - start)
            if len(rows) == stop - start:
                return StoredBlock(rows, seq, delta)
            return StoredBlock(rows, seq[rows - start], delta[rows - start])

        return finish

    def _joined(self, by_head: Sequence[tuple[list[int], Array]], n: int) -> Array:
        """Deltas of several heads as one array (n, K, L, letters), each at its columns."""
        if len(by_head) == 1:  # of one head, whose columns are all in their order
            return by_head[0][1]
        joined = np.empty((n, self._n_tracks, *self._inner), np.float32)
        for columns, delta in by_head:
            joined[:, columns] = delta
        return joined


class _HeadReader:
    """The tracks of one head: ``columns`` among all, ``units`` in the dataset."""

    def __init__(self, columns: list[int], dataset: h5py.Dataset, threads: Executor, tracks: Sequence[Track]) -> None:
        self.columns = columns
        self.rows_of_chunk = int((dataset.chunks or (1,))[0])
        self._units = [tracks[column].unit for column in columns]
        self._dataset = dataset
        self._reader = ChunkReader(dataset, threads) if dataset.ndim == 4 else None

    def start(self, start: int, stop: int) -> Callable[[], Array]:
        if self._reader is not None:
            return self._reader.start(start, stop, self._units)
        whole = self._dataset[start:stop]  # positions were kept
        flat = whole.reshape(len(whole), -1, *whole.shape[-2:])
        return lambda: np.asarray(flat[:, self._units], np.float32)


class _Codes:
    """Codes of consecutive rows; whole chunks are read and kept, as they hold more rows than those of delta."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self._step = int((dataset.chunks or (1,))[0])
        self._first, self._kept = 0, np.empty((0, 0), np.uint8)

    def rows(self, start: int, stop: int) -> Array:
        if start < self._first or stop > self._first + len(self._kept):
            self._first = start // self._step * self._step
            self._kept = self._dataset[self._first : -(-stop // self._step) * self._step]
        return self._kept[start - self._first : stop - self._first]


# --- chunks, decompressed in threads ---------------------------------------------------------------------------------


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
        if self.dataset.is_virtual or not self._chunks.is_simple:
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
