"""Write and read the result file: whole chunks, another name until it is complete, one line when the disk is full."""

from __future__ import annotations

import datetime
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from math import prod
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from fastism_cli.alphabet import Alphabet
from fastism_cli.errors import OutputError, ResourceError, UsageError
from fastism_cli.io import schema
from fastism_cli.version import __version__

try:
    import fcntl
except ImportError:  # Windows: two jobs with one output are not told of each other
    fcntl = None  # type: ignore[assignment]

Array = npt.NDArray[Any]
Blocks = Mapping[str, npt.ArrayLike]


@dataclass(frozen=True)
class HeadLayout:
    """One head of the model, as it is stored.

    Attributes
    ----------
    name : str
        As in the model; see :func:`fastism_cli.io.schema.head_key` for its name in the file.
    shape : tuple of int
        Of one row of ``/ref``: ``(T,)``, or ``(positions, T)`` of a positional head that is kept whole.
    target_names : tuple of str
        One for each unit of the last axis; default ``"0", "1", ...``.
    reduce : str
        How positions became one number.
    """

    name: str
    shape: tuple[int, ...]
    target_names: tuple[str, ...] = ()
    reduce: str = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "target_names", self.target_names or tuple(map(str, range(self.shape[-1]))))
        if len(self.target_names) != self.shape[-1]:
            raise OutputError(
                f"head {self.name!r} has {self.shape[-1]} targets. Received: {len(self.target_names)} names for them"
            )

    @property
    def key(self) -> str:
        """Name of its datasets."""
        return schema.head_key(self.name)


@dataclass(frozen=True)
class Layout:
    """Shapes and types of a result file.

    Attributes
    ----------
    n_rows : int
        Records of the BED, or of its shard.
    length : int
        Bases of each row that ``/seq`` and ``/delta`` hold.
    heads : tuple of HeadLayout
    alphabet : str
        Letters, in the order of the last axis of ``/delta``.
    delta_dtype : str
        ``"float32"`` or ``"float16"``.
    compression : str
        ``"gzip"``, ``"lzf"`` or ``"none"``.

    Raises
    ------
    OutputError
        If a value is not one of those above, or two heads would have one name.
    """

    n_rows: int
    length: int
    heads: tuple[HeadLayout, ...]
    alphabet: str = "ACGT"
    delta_dtype: str = "float32"
    compression: str = "gzip"

    def __post_init__(self) -> None:
        _check_choice("delta_dtype", self.delta_dtype, schema.DELTA_DTYPES)
        _check_choice("compression", self.compression, schema.COMPRESSIONS)
        keys = [head.key for head in self.heads]
        if len(set(keys)) < len(keys):
            raise OutputError(f"two heads would have the same name in the file. Received: {keys}")

    @property
    def delta_bytes(self) -> int:
        """Size of all deltas before compression."""
        values = sum(prod(self.delta_shape(head)) for head in self.heads)
        return values * np.dtype(self.delta_dtype).itemsize

    @property
    def seq_shape(self) -> tuple[int, int]:
        """(N, L)."""
        return (self.n_rows, self.length)

    def ref_shape(self, head: HeadLayout) -> tuple[int, ...]:
        """(N, T)."""
        return (self.n_rows, *head.shape)

    def delta_shape(self, head: HeadLayout) -> tuple[int, ...]:
        """(N, T, L, 4)."""
        return (self.n_rows, *head.shape, self.length, len(self.alphabet))


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise OutputError(f"{name} must be one of {', '.join(choices)}. Received: {name}={value!r}")


def check_output(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Find out whether a result can be written, before anything is loaded.

    Raises
    ------
    OutputError
        If the file exists and may not be replaced, or its folder is missing or cannot be written.
    """
    name = os.fspath(path)
    folder = os.path.dirname(name) or "."
    if os.path.exists(name) and not os.path.isfile(name):
        raise OutputError(f"{name} is a folder or a device. Name a file to write.")
    if os.path.lexists(name) and not overwrite:
        raise OutputError(f"{name} exists. Replace it with --overwrite, or choose another --output.")
    if not os.path.isdir(folder):
        raise OutputError(f"{name}: folder {folder} does not exist. Make it first: mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{name}: folder {folder} cannot be written. Choose another --output.")


# --- writing ---------------------------------------------------------------------------------------------------------


class ResultWriter:
    """Write a result file. It is called ``PATH.partial`` until it is finished.

    Leaving the context finishes the file; leaving it by an exception removes it. All calls of HDF5 are made in one
    thread of their own, which no signal interrupts: Ctrl-C waits for the call that is under way, then has its effect.

    Parameters
    ----------
    path : str or path-like
        The file to make.
    layout : Layout
    attributes : mapping of str to str, int, float or bool
        What the run was: see :data:`fastism_cli.io.schema.ATTRIBUTES`. None is written as ``""``.
    genome_sizes : mapping of str to int
        Length of every contig.
    overwrite : bool
        Whether an existing file may be replaced. It is kept until the new one is complete.
    keep_partial : bool
        Whether an exception leaves ``PATH.partial`` behind, with all rows so far. A full disk never does.

    Raises
    ------
    OutputError
        If the file cannot be made, or another process is making it.
    ResourceError
        From any method, if the disk is full or fails.

    Examples
    --------
    >>> with ResultWriter("ism.h5", layout, attributes=attributes, genome_sizes=genome.sizes) as writer:
    ...     for block in blocks:
    ...         writer.write_rows(
    ...             block.row_start,
    ...             regions=block.columns,
    ...             seq=block.codes,
    ...             reference=block.reference,
    ...             delta=block.delta,
    ...         )
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        layout: Layout,
        *,
        attributes: Mapping[str, Any],
        genome_sizes: Mapping[str, int],
        overwrite: bool = False,
        keep_partial: bool = False,
    ) -> None:
        check_output(path, overwrite=overwrite)
        self.path = os.fspath(path)
        self.partial_path = self.path + schema.PARTIAL_SUFFIX
        self.layout = layout
        self._attributes = attributes
        self._genome_sizes = genome_sizes
        self._keep_partial = keep_partial
        self._file: Any = None
        self._is_open = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hdf5")

    def __enter__(self) -> ResultWriter:
        self._disk = _open_disk(self.partial_path)
        self._is_open = True
        try:
            self._in_thread(self._create)
        except BaseException:
            self._close_thread(self._discard)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._is_open:
                self.finish()
        finally:
            self._close_thread(self._abort)

    def write_rows(
        self,
        row_start: int,
        *,
        regions: Blocks,
        seq: npt.ArrayLike,
        reference: Blocks | None = None,
        delta: Blocks | None = None,
    ) -> None:
        """Store ``n`` consecutive rows; rows may be left out, blocks may come in any order (ascending is fastest).

        Parameters
        ----------
        row_start : int
            Row of the file, from 0.
        regions : mapping of str to (n,)
            All of :data:`fastism_cli.io.schema.REGION_COLUMNS`.
        seq : uint8 (n, L)
            As the model saw it.
        reference : mapping of head name to (n, T), optional
            Heads that are left out stay NaN, as for rows that cannot be scored.
        delta : mapping of head name to (n, T, L, 4), optional

        Raises
        ------
        ValueError
            If a shape does not fit the layout.
        OutputError
            If a delta is too large for float16.
        """
        named = {f"/{schema.REGIONS}/{column}": values for column, values in self._all_columns(regions).items()}
        named[f"/{schema.SEQ}"] = seq
        named |= {f"/{schema.REF}/{schema.head_key(head)}": values for head, values in (reference or {}).items()}
        named |= {f"/{schema.DELTA}/{schema.head_key(head)}": values for head, values in (delta or {}).items()}
        blocks = {name: self._rows[name].checked(row_start, values) for name, values in named.items()}
        n = {len(block) for block in blocks.values()}
        if len(n) > 1:
            sizes = {name: len(block) for name, block in blocks.items()}
            raise ValueError(f"a block must have the same number of rows everywhere. Received: {sizes}")
        self._in_thread(self._add, row_start, blocks)

    def flush(self) -> None:
        """Write all rows so far, so that they survive the end of the process."""
        self._in_thread(self._flush)

    def finish(self) -> None:
        """Mark the file as complete and give it its name."""
        self._in_thread(self._finish)

    def _in_thread(self, call: Callable[..., None], *arguments: Any) -> None:
        self._thread.submit(call, *arguments).result()

    def _close_thread(self, last_call: Callable[[], None]) -> None:
        """Wait for the call that is under way and for ``last_call``."""
        try:
            self._in_thread(last_call)
        finally:
            self._thread.shutdown()

    def _all_columns(self, regions: Blocks) -> Blocks:
        if set(regions) != set(schema.REGION_COLUMNS):
            raise ValueError(f"regions must have the columns {list(schema.REGION_COLUMNS)}. Received: {list(regions)}")
        return regions

    # the methods below run in the thread

    def _create(self) -> None:
        with self._disk_errors():
            self._file = h5py.File(self._disk, "w")
            _write_header(self._file, self.layout, self._attributes, self._genome_sizes)
            datasets = _create_datasets(self._file, self.layout)
            self._rows = {dataset.name: _RowBuffer(dataset) for dataset in datasets}

    def _add(self, row_start: int, blocks: Mapping[str, Array]) -> None:
        with self._disk_errors():
            for name, block in blocks.items():
                self._rows[name].add(row_start, block)

    def _flush(self) -> None:
        with self._disk_errors():
            self._write_buffers()
            self._file.flush()

    def _finish(self) -> None:
        with self._disk_errors():
            self._write_buffers()
            self._file.attrs["complete"] = True
            self._file.close()
            self._disk.sync()
        self._rename()
        self._is_open = False
        self._disk.close()

    def _write_buffers(self) -> None:
        for rows in self._rows.values():
            rows.flush()

    def _rename(self) -> None:
        try:
            os.replace(self.partial_path, self.path)
        except OSError as error:
            raise OutputError(f"{self.partial_path} cannot be renamed to {self.path}: {error.strerror}") from error
        _sync_folder(os.path.dirname(self.path) or ".")

    def _abort(self) -> None:
        if self._is_open and self._keep_partial and self._disk.failure is None:
            with suppress(ResourceError):  # which leaves the rest to _discard
                self._keep()
        if self._is_open:
            self._discard()

    def _keep(self) -> None:
        with self._disk_errors():
            if self._file:  # false once it is closed
                self._write_buffers()
                self._file.close()
        self._is_open = False
        self._disk.close()

    def _discard(self) -> None:
        self._is_open = False
        self._disk.abandon()
        with suppress(Exception):  # the error that led here is the one to tell
            if self._file:
                self._file.close()
        with suppress(OSError):
            os.unlink(self.partial_path)
        self._disk.close()

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception:  # HDF5 stumbling over a disk that only pretends
            if self._disk.failure is None:
                raise
        failure = self._disk.failure
        if failure is not None:
            raise ResourceError(
                f"{self.path} cannot be written: {failure.strerror} after {self._disk.written / 1e9:.3g} GB. "
                "The unfinished file was removed. Free space or choose another --output."
            ) from failure


class _RowBuffer:
    """Rows of one dataset, gathered so that each chunk is compressed and written once."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self._name, self._shape, self._dtype = dataset.name, dataset.shape, dataset.dtype
        self._size = dataset.chunks[0] if dataset.chunks else 1
        self._chunk: Array | None = None  # rows [start, start + size) of the dataset, if any were gathered
        self._start = 0
        self._is_written = True

    def checked(self, row: int, values: npt.ArrayLike) -> Array:
        """``values`` in the type of the dataset, if they fit it at ``row``."""
        block = self._converted(np.asarray(values))
        if block.ndim == 0 or block.shape[1:] != self._shape[1:]:
            raise ValueError(f"{self._name} takes rows of shape {self._shape[1:]}. Received: shape {block.shape}")
        if not 0 <= row <= row + len(block) <= self._shape[0]:
            raise ValueError(f"{self._name} has {self._shape[0]} rows. Received: rows {row} to {row + len(block)}")
        return block

    def add(self, row: int, block: Array) -> None:
        """Take rows ``[row, row + len(block))``: whole chunks are written, the rest is kept."""
        done = 0
        while done < len(block):
            offset = (row + done) % self._size
            n = min(self._size - offset, len(block) - done)
            start, piece = row + done - offset, block[done : done + n]
            if n == self._size:
                self._write_whole(start, piece)
            else:
                self._gather(start, offset, piece)
            done += n

    def flush(self) -> None:
        """Write what was gathered; it stays, for the rest of its chunk may follow."""
        if self._chunk is not None and not self._is_written:
            self._dataset[self._start : self._start + len(self._chunk)] = self._chunk
            self._is_written = True

    def _write_whole(self, start: int, chunk: Array) -> None:
        if start == self._start:
            self._chunk = None  # what was gathered of it is superseded
        self._dataset[start : start + self._size] = chunk

    def _gather(self, start: int, offset: int, piece: Array) -> None:
        if self._chunk is None or start != self._start:
            self.flush()
            # what the file has of the chunk: the fill value, unless rows come out of order
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


def _write_header(
    file: h5py.File, layout: Layout, attributes: Mapping[str, Any], genome_sizes: Mapping[str, int]
) -> None:
    file.attrs["format"] = schema.FORMAT
    file.attrs["format_version"] = schema.FORMAT_VERSION
    file.attrs["complete"] = False
    file.attrs["fastism_version"] = __version__
    file.attrs["h5py_version"] = h5py.__version__
    file.attrs["created"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    file.attrs["alphabet"] = layout.alphabet
    file.attrs["score"] = "delta"
    for name, value in attributes.items():
        file.attrs[name] = "" if value is None else value
    genome = file.create_group(schema.GENOME)
    _write_text(genome, schema.CHROM_NAMES, list(genome_sizes))
    genome.create_dataset(schema.CHROM_SIZES, data=np.array(list(genome_sizes.values()), schema.CHROM_SIZE_DTYPE))
    outputs = file.create_group(schema.OUTPUTS, track_order=True)
    for head in layout.heads:
        group = outputs.create_group(head.key)
        group.attrs["name"], group.attrs["reduce"] = head.name, head.reduce
        _write_text(group, schema.TARGET_NAMES, head.target_names)


def _write_text(group: h5py.Group, name: str, values: Sequence[str]) -> None:
    group.create_dataset(name, data=np.array(values, dtype=object), dtype=h5py.string_dtype())


def _create_datasets(file: h5py.File, layout: Layout) -> Iterator[h5py.Dataset]:
    """All datasets that have a row for each region, empty."""
    n = layout.n_rows
    for column, dtype in schema.REGION_COLUMNS.items():
        yield _create(file, f"{schema.REGIONS}/{column}", (n,), dtype, layout)
    yield _create(file, schema.SEQ, layout.seq_shape, schema.SEQ_DTYPE, layout, fillvalue=len(layout.alphabet))
    for head in layout.heads:
        name = f"{schema.REF}/{head.key}"
        yield _create(file, name, layout.ref_shape(head), schema.REF_DTYPE, layout, fillvalue=np.nan)
    for head in layout.heads:
        shape, itemsize = layout.delta_shape(head), np.dtype(layout.delta_dtype).itemsize
        chunks = schema.delta_chunk(shape, itemsize)
        name = f"{schema.DELTA}/{head.key}"
        yield _create(file, name, shape, layout.delta_dtype, layout, fillvalue=np.nan, chunks=chunks)


def _create(
    file: h5py.File,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    layout: Layout,
    *,
    fillvalue: float | None = None,
    chunks: tuple[int, ...] | None = None,
) -> h5py.Dataset:
    is_text = dtype == schema.TEXT
    stored = h5py.string_dtype() if is_text else np.dtype(dtype)
    options: dict[str, Any] = {"shape": shape, "dtype": stored, "fillvalue": fillvalue}
    if prod(shape) > 0:  # HDF5 has no chunks in an empty dataset
        options["chunks"] = chunks or schema.row_chunk(shape, stored.itemsize)
        # text lies outside of its dataset, where no filter reaches it
        options |= {} if is_text else _filters(layout.compression)
    return file.create_dataset(name, **options)


def _filters(compression: str) -> dict[str, Any]:
    if compression == "none":
        return {}
    level = {"compression_opts": schema.GZIP_LEVEL} if compression == "gzip" else {}
    return {"compression": compression, "shuffle": True, **level}


# --- the disk --------------------------------------------------------------------------------------------------------


class _Disk(io.RawIOBase):
    """The file that HDF5 writes to; after the first error it only pretends, and ``failure`` tells.

    HDF5 cannot close a file that it cannot write: it fails again at every attempt, and at last at the exit of the
    process, where it crashes. So no method raises, and what cannot be written is kept in memory, little as it is,
    until the file is closed.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.failure: OSError | None = None
        self.written = 0
        self._descriptor = descriptor
        self._pretends = False
        self._position = 0
        self._kept: list[tuple[int, bytes]] = []

    def abandon(self) -> None:
        """Write nothing any more."""
        self._pretends = True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_END:
            offset += self._end()
        elif whence == os.SEEK_CUR:
            offset += self._position
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        read = os.pread(self._descriptor, len(view), self._position)
        view[:] = read.ljust(len(view), b"\0")
        for start, data in self._kept:
            _overlay(view, self._position, data, start)
        self._position += len(view)
        return len(view)

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        if not self._pretends:
            self._try(self._write_all, view)
        if self._pretends:
            self._kept.append((self._position, bytes(view)))
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        size = self._position if size is None else size
        if not self._pretends:
            self._try(os.ftruncate, self._descriptor, size)
        return size

    def sync(self) -> None:
        """Wait until all is on the disk."""
        if not self._pretends:
            self._try(os.fsync, self._descriptor)

    def close(self) -> None:
        """Close the file; never fails, for ``sync`` has told whether all is written."""
        if not self.closed:
            with suppress(OSError):
                os.close(self._descriptor)
        super().close()

    def _end(self) -> int:
        ends = [start + len(data) for start, data in self._kept]
        return max(os.fstat(self._descriptor).st_size, *ends, 0)

    def _write_all(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            done += os.pwrite(self._descriptor, view[done:], self._position + done)
        self.written += len(view)

    def _try(self, operation: Any, *arguments: Any) -> None:
        try:
            operation(*arguments)
        except OSError as error:
            self.failure = error
            self._pretends = True


def _overlay(view: memoryview, view_start: int, data: bytes, data_start: int) -> None:
    """Copy into ``view`` what ``data`` has of it."""
    first = max(view_start, data_start)
    stop = min(view_start + len(view), data_start + len(data))
    if first < stop:
        view[first - view_start : stop - view_start] = data[first - data_start : stop - data_start]


def _open_disk(path: str) -> _Disk:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    try:
        if not _lock(descriptor, path):
            raise OutputError(f"{path} is being written by another process. Wait for it, or choose another --output.")
        os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return _Disk(descriptor)


def _lock(descriptor: int, path: str) -> bool:
    """Whether this process alone has the file, until it closes it. File systems without locks are trusted."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    # the process that had it may have renamed or removed it since it was opened here
    return os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path))


def _sync_folder(folder: str) -> None:
    """Make a renaming last; not every system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# --- reading ---------------------------------------------------------------------------------------------------------


class IsmFile:
    """An open result file. Made by :func:`read_result`; leaving its context closes it.

    Arrays that grow with the number of regions are ``h5py.Dataset``: slice what is needed.
    """

    def __init__(self, path: str, file: h5py.File) -> None:
        self.path = path
        self._file = file

    def __enter__(self) -> IsmFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """All attributes, as Python values."""
        return {
            name: value.item() if isinstance(value, np.generic) else value for name, value in self._file.attrs.items()
        }

    @property
    def complete(self) -> bool:
        """Whether every row is final."""
        return bool(self.attrs["complete"])

    @property
    def alphabet(self) -> Alphabet:
        """Letters, in the order of the last axis of ``delta``."""
        return Alphabet(self.attrs["alphabet"])

    @cached_property
    def heads(self) -> tuple[HeadLayout, ...]:
        """Heads in the order of the model."""
        return tuple(self._head(key) for key in self._file[schema.OUTPUTS])

    @cached_property
    def regions(self) -> dict[str, Array]:
        """Columns of ``/regions``, each (N,); chrom, name and strand hold str."""
        group = self._file[schema.REGIONS]
        return {column: _column(group[column]) for column in schema.REGION_COLUMNS}

    @cached_property
    def genome_sizes(self) -> dict[str, int]:
        """Length of every contig of the FASTA."""
        genome = self._file[schema.GENOME]
        return dict(zip(_column(genome[schema.CHROM_NAMES]), genome[schema.CHROM_SIZES][:].tolist(), strict=True))

    @property
    def seq(self) -> h5py.Dataset:
        """uint8 (N, L): codes of the alphabet."""
        return self._file[schema.SEQ]

    def reference(self, head: str | None = None) -> h5py.Dataset:
        """float32 (N, T): predictions on the reference; ``head`` may be left out if there is only one."""
        return self._file[f"{schema.REF}/{self._key(head)}"]

    def delta(self, head: str | None = None) -> h5py.Dataset:
        """float32 or float16 (N, T, L, 4): substituted - reference; ``head`` may be left out if there is only one."""
        return self._file[f"{schema.DELTA}/{self._key(head)}"]

    def _head(self, key: str) -> HeadLayout:
        group = self._file[f"{schema.OUTPUTS}/{key}"]
        shape = tuple(self._file[f"{schema.REF}/{key}"].shape[1:])
        return HeadLayout(group.attrs["name"], shape, tuple(_column(group[schema.TARGET_NAMES])), group.attrs["reduce"])

    def _key(self, name: str | None) -> str:
        names = [head.name for head in self.heads]
        if name is None and len(names) == 1:
            name = names[0]
        if name not in names:
            raise UsageError(f"{self.path} has the heads {', '.join(names)}. Received: head={name!r}")
        return schema.head_key(name)


def read_result(path: str | os.PathLike[str], *, allow_incomplete: bool = False) -> IsmFile:
    """Open a result file for reading.

    Raises
    ------
    UsageError
        If it is no result file, one of another version, or an unfinished one that is not allowed.
    """
    name = os.fspath(path)
    file = _open_hdf5(name)
    try:
        _check_format(name, file)
        if not (allow_incomplete or file.attrs["complete"]):
            raise UsageError(f"{name} is unfinished: the run that wrote it was interrupted. Run it again.")
    except BaseException:
        file.close()
        raise
    return IsmFile(name, file)


def _open_hdf5(path: str) -> h5py.File:
    try:
        # unlocked: nobody changes a file that has its name, and read-only file systems refuse locks
        return h5py.File(path, "r", locking=False)
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "it is not an HDF5 file, or a truncated one"
        raise UsageError(f"{path} cannot be read: {reason}") from error


def _check_format(path: str, file: h5py.File) -> None:
    found, version = file.attrs.get("format"), file.attrs.get("format_version")
    if found != schema.FORMAT:
        raise UsageError(f"{path} is not a result of fastism: its format is {found!r} instead of {schema.FORMAT!r}")
    if version != schema.FORMAT_VERSION:
        raise UsageError(
            f"{path} has version {version} of the format {schema.FORMAT}; fastism {__version__} reads version "
            f"{schema.FORMAT_VERSION}. Read it with the fastism that wrote it: {file.attrs.get('fastism_version')}"
        )


def _column(dataset: h5py.Dataset) -> Array:
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr()[:], dtype=object)
    return np.asarray(dataset[:])
