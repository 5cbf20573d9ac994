"""The datasets of a result file: made empty, and filled in whole chunks, which are compressed outside of HDF5.

While HDF5 compresses, all threads of Python wait. zlib lets other threads run, so several chunks are compressed at
once. HDF5 gets the bytes that its own filters, shuffle and deflate, would make.
"""

from __future__ import annotations

import datetime
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from math import prod
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from fastism_cli.errors import OutputError
from fastism_cli.results import schema
from fastism_cli.results.intact import add_text_sums, is_text, note_text
from fastism_cli.results.layout import Layout
from fastism_cli.scores.tracks import Array
from fastism_cli.version import __version__

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


# --- the header and the empty datasets -------------------------------------------------------------------------------


def write_header(
    file: h5py.File, layout: Layout, attributes: Mapping[str, Any], genome_sizes: Mapping[str, int]
) -> None:
    """Write the attributes, and the groups that do not grow with the rows.

    Raises
    ------
    ValueError
        If an attribute is not in :data:`fastism_cli.results.schema.ATTRIBUTES`.
    """
    unknown = [name for name in attributes if name not in schema.ATTRIBUTES]
    if unknown:
        raise ValueError(f"attributes of a result are those of schema.ATTRIBUTES. Received: {', '.join(unknown)}")
    file.attrs["format"] = schema.FORMAT
    file.attrs["format_version"] = schema.FORMAT_VERSION
    file.attrs["complete"] = False
    file.attrs["fastism_version"] = __version__
    file.attrs["h5py_version"] = h5py.__version__
    file.attrs["created"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    file.attrs["alphabet"] = layout.alphabet
    file.attrs["score"] = "delta"
    file.attrs["n_clipped"] = 0
    if layout.blocks is not None:
        file.attrs["blocks"] = layout.blocks.to_json()
    if layout.pairs is not None:
        file.attrs["pairs"] = layout.pairs.to_json()
    for name, value in attributes.items():
        file.attrs[name] = "" if value is None else value
    genome = file.create_group(schema.GENOME)
    _write_text(genome, schema.CHROM_NAMES, list(genome_sizes))
    sizes = np.array(list(genome_sizes.values()), schema.CHROM_SIZE_DTYPE)
    genome.create_dataset(schema.CHROM_SIZES, data=sizes, fletcher32=True if len(sizes) else None)
    outputs = file.create_group(schema.OUTPUTS, track_order=True)
    for head in layout.heads:
        group = outputs.create_group(head.key)
        group.attrs["name"], group.attrs["reduce"] = head.name, head.reduce
        _write_text(group, schema.TARGET_NAMES, head.target_names)


def _write_text(group: h5py.Group, name: str, values: Sequence[str]) -> None:
    dataset = group.create_dataset(name, data=np.array(values, dtype=object), dtype=h5py.string_dtype())
    add_text_sums(dataset)
    note_text(dataset, 0, values)


def dataset_names(layout: Layout) -> list[str]:
    """Paths of all datasets that have a row for each region."""
    columns = [f"/{schema.REGIONS}/{column}" for column in schema.REGION_COLUMNS]
    heads = [f"/{group}/{head.key}" for group in (schema.REF, *layout.delta_groups) for head in layout.heads]
    heads += [f"/{schema.PAIRS}/{head.key}" for head in layout.heads if layout.pairs]
    return [*columns, f"/{schema.SEQ}", *heads]


def create_columns(file: h5py.File, layout: Layout) -> None:
    """Create the columns of ``/regions``, empty."""
    for column, dtype in schema.REGION_COLUMNS.items():
        _create(file, f"{schema.REGIONS}/{column}", (layout.n_rows,), dtype, layout)


def create_datasets(file: h5py.File, layout: Layout) -> None:
    """Create all datasets that have a row for each region, empty."""
    create_columns(file, layout)
    _create(file, schema.SEQ, layout.seq_shape, schema.SEQ_DTYPE, layout, fillvalue=len(layout.alphabet))
    for head in layout.heads:
        name = f"{schema.REF}/{head.key}"
        _create(file, name, layout.ref_shape(head), schema.REF_DTYPE, layout, fillvalue=np.nan)
    for group, head in product(layout.delta_groups, layout.heads):
        shape, itemsize = layout.delta_shape(head), np.dtype(layout.delta_dtype).itemsize
        chunks = schema.delta_chunk(shape, itemsize)
        _create(file, f"{group}/{head.key}", shape, layout.delta_dtype, layout, fillvalue=np.nan, chunks=chunks)
    for head in layout.heads if layout.pairs else ():
        shape, itemsize = layout.pairs_shape(head), np.dtype(layout.delta_dtype).itemsize
        chunks = schema.pairs_chunk(shape, itemsize)
        name = f"{schema.PAIRS}/{head.key}"
        _create(file, name, shape, layout.delta_dtype, layout, fillvalue=np.nan, chunks=chunks)


def _create(
    file: h5py.File,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    layout: Layout,
    *,
    fillvalue: float | None = None,
    chunks: tuple[int, ...] | None = None,
) -> None:
    is_text = dtype == schema.TEXT
    stored = h5py.string_dtype() if is_text else np.dtype(dtype)
    options: dict[str, Any] = {"shape": shape, "dtype": stored, "fillvalue": fillvalue}
    if prod(shape) > 0:  # HDF5 has no chunks in an empty dataset
        options["chunks"] = chunks or schema.row_chunk(shape, stored.itemsize)
        # text lies outside of its dataset, where no filter reaches it
        options |= {} if is_text else _filters(layout.compression)
    dataset = file.create_dataset(name, **options)
    if is_text:
        add_text_sums(dataset)


def _filters(compression: str) -> dict[str, Any]:
    """Each has a checksum of every chunk: that of gzip, Adler-32, or fletcher32 of HDF5."""
    if compression == "none":
        return {"fletcher32": True}
    if compression == "gzip":
        return {"compression": "gzip", "shuffle": True, "compression_opts": schema.GZIP_LEVEL}
    return {"compression": compression, "shuffle": True, "fletcher32": True}
