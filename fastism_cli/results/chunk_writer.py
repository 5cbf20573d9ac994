"""Rows of a dataset, gathered to whole chunks, which are compressed outside of HDF5 and written once.

While HDF5 compresses, all threads of Python wait. zlib lets other threads run, so several chunks are compressed at
once. HDF5 gets the bytes that its own filters, shuffle and deflate, would make.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import h5py
import numpy as np
import numpy.typing as npt

from fastism_cli.errors import OutputError
from fastism_cli.results.intact import is_text, note_text
from fastism_cli.scores.tracks import Array

Offset = tuple[int, ...]

MAX_THREADS = 16


def spare_threads(*, engine_computes_here: bool) -> int:
    """How many threads can compress beside a run: a quarter of the cores, or all but two if a GPU computes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores // 4 if engine_computes_here else cores - 2, MAX_THREADS))


class ChunkWriter:
    """Threads that compress; :meth:`close` ends them."""

    def __init__(self, threads: int | None = None) -> None:
        threads = threads or spare_threads(engine_computes_here=True)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compress")

    def close(self) -> None:
        self._pool.shutdown()

    def write(self, dataset: h5py.Dataset, start: int, rows: Array) -> None:
        """Store rows from ``start`` on, where a chunk begins; the rest of the last chunk gets the fill value."""
        if not len(rows):
            return
        if not _is_packed_here(dataset):
            dataset[start : start + len(rows)] = rows
            if is_text(dataset):
                note_text(dataset, start, rows)
            return
        offsets, chunks = zip(*_chunks(dataset, start, rows), strict=True)
        level, size = dataset.compression_opts, dataset.dtype.itemsize
        for offset, packed in zip(offsets, self._pool.map(lambda chunk: pack(chunk, size, level), chunks), strict=True):
            dataset.id.write_direct_chunk(offset, packed)


def pack(chunk: Array, itemsize: int, level: int) -> bytes:
    """Shuffle and deflate a chunk as HDF5 does: all first bytes of the values, all second bytes, ..."""
    shuffled = np.ascontiguousarray(chunk).reshape(-1).view(np.uint8).reshape(-1, itemsize).T
    return zlib.compress(np.ascontiguousarray(shuffled).data, level)


def _is_packed_here(dataset: h5py.Dataset) -> bool:
    return dataset.compression == "gzip" and bool(dataset.shuffle) and h5py.check_string_dtype(dataset.dtype) is None


def _chunks(dataset: h5py.Dataset, start: int, rows: Array) -> Iterator[tuple[Offset, Array]]:
    """Where each chunk of these rows begins, and its values, all of the full size."""
    shape = dataset.chunks
    first = [range(0, n, size) for n, size in zip(rows.shape, shape, strict=True)]
    for corner in product(*first):
        piece = rows[tuple(slice(at, at + size) for at, size in zip(corner, shape, strict=True))]
        yield (start + corner[0], *corner[1:]), _filled(piece, shape, dataset)


def _filled(piece: Array, shape: tuple[int, ...], dataset: h5py.Dataset) -> Array:
    if piece.shape == shape:
        return piece
    chunk = np.full(shape, dataset.fillvalue, dataset.dtype)
    chunk[tuple(slice(0, n) for n in piece.shape)] = piece
    return chunk


class RowBuffer:
    """Rows of one dataset, gathered so that each chunk is compressed and written once."""

    def __init__(self, dataset: h5py.Dataset, chunks: ChunkWriter) -> None:
        self._dataset, self._chunks = dataset, chunks
        self._name, self._shape, self._dtype = dataset.name, dataset.shape, dataset.dtype
        self._size = dataset.chunks[0] if dataset.chunks else 1
        self._chunk: Array | None = None  # rows [start, start + size) of the dataset, if any were gathered
        self._start = 0
        self._is_written = True

    def checked(self, row: int, values: npt.ArrayLike) -> Array:
        """Convert values to the type of the dataset; raise :class:`ValueError` if they do not fit at ``row``."""
        block = self._converted(np.asarray(values))
        if block.ndim == 0 or block.shape[1:] != self._shape[1:]:
            raise ValueError(f"{self._name} takes rows of shape {self._shape[1:]}. Received: shape {block.shape}")
        if not 0 <= row <= row + len(block) <= self._shape[0]:
            raise ValueError(f"{self._name} has {self._shape[0]} rows. Received: rows {row} to {row + len(block)}")
        return block

    def add(self, row: int, block: Array) -> None:
        """Add rows ``[row, row + len(block))``: whole chunks are written, the rest is kept."""
        done = 0
        while done < len(block):
            offset = (row + done) % self._size
            whole = (len(block) - done) // self._size * self._size if offset == 0 else 0
            n = whole or min(self._size - offset, len(block) - done)
            start, piece = row + done - offset, block[done : done + n]
            if whole:
                self._write_whole(start, piece)
            else:
                self._gather(start, offset, piece)
            done += n

    def flush(self) -> None:
        """Write the gathered rows; they stay, as the rest of their chunk may follow."""
        if self._chunk is not None and not self._is_written:
            self._chunks.write(self._dataset, self._start, self._chunk)
            self._is_written = True

    def _write_whole(self, start: int, rows: Array) -> None:
        if start <= self._start < start + len(rows):
            self._chunk = None  # the gathered rows are overwritten
        self._chunks.write(self._dataset, start, rows)

    def _gather(self, start: int, offset: int, piece: Array) -> None:
        if self._chunk is None or start != self._start:
            self.flush()
            # the chunk as it is in the file: the fill value, unless rows come out of order
            self._chunk, self._start = self._dataset[start : start + self._size], start
        self._chunk[offset : offset + len(piece)] = piece
        self._is_written = False
        if offset + len(piece) == len(self._chunk):
            self.flush()

    def _converted(self, values: Array) -> Array:
        if self._dtype != np.float16:
            return values.astype(self._dtype, copy=False)
        with np.errstate(over="raise"):
            try:
                return values.astype(np.float16, copy=False)
            except FloatingPointError as error:
                raise OutputError(
                    f"{self._name}: {np.nanmax(np.abs(values)):.4g} is too large for float16 (at most 65504). "
                    "Write float32."
                ) from error
