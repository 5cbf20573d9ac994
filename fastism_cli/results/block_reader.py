"""Read the codes and deltas of rows block by block, decompressing some blocks ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import h5py
import numpy as np

from fastism_cli.results.chunk_reader import ChunkReader, decoding_threads, n_threads
from fastism_cli.results.ism_file import IsmFile
from fastism_cli.results.layout import Array, Track
from fastism_cli.results.region_columns import readable

# Deltas of a block: about one chunk, which stays in the processor's cache until it is used. Blocks are whole chunks, so
# that none is decompressed twice.
BLOCK_BYTES = 1 << 20
AHEAD_BYTES = 1 << 25  # deltas of the blocks that are decompressed ahead


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
        self._inner = (file.seq.shape[1], file.alphabet.size)
        self._n_tracks = len(tracks)
        self._heads = [
            _HeadReader([i for i, track in enumerate(tracks) if track.head == head], file.delta(head), threads, tracks)
            for head in dict.fromkeys(track.head for track in tracks)
        ]

    @property
    def rows_at_once(self) -> int:
        """Whole chunks of every head that is read, in bounded memory."""
        step = max((head.rows_of_chunk for head in self._heads), default=1)
        return int(max(BLOCK_BYTES // self._row_bytes // step, 1) * step)

    @property
    def blocks_ahead(self) -> int:
        """Two for each thread, so that none waits, as far as ``AHEAD_BYTES`` allows."""
        return min(max(AHEAD_BYTES // (self._row_bytes * self.rows_at_once), 1), 2 * n_threads())

    @property
    def _row_bytes(self) -> int:
        return 4 * self._inner[0] * self._inner[1] * max(self._n_tracks, 1)

    def start(self, rows: Array) -> Callable[[], StoredBlock]:
        """Start to read a block; the returned function waits for it."""
        start, stop = int(rows[0]), int(rows[-1]) + 1
        with readable(self._path, _what(rows)):
            seq = self._codes.rows(start, stop)
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
