"""Write a result file: whole chunks, another name until it is complete, one line when the disk is full."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import h5py
import numpy.typing as npt

from fastism_cli.errors import OutputError, ResourceError
from fastism_cli.io import schema
from fastism_cli.io.datasets import create_datasets, write_header
from fastism_cli.io.disk import open_disk, sync_folder
from fastism_cli.io.layout import Layout
from fastism_cli.io.rows import RowBuffer

Array = npt.NDArray[Any]
Blocks = Mapping[str, npt.ArrayLike]


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
        self._disk = open_disk(self.partial_path)
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
            write_header(self._file, self.layout, self._attributes, self._genome_sizes)
            datasets = create_datasets(self._file, self.layout)
            self._rows = {dataset.name: RowBuffer(dataset) for dataset in datasets}

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
        sync_folder(os.path.dirname(self.path) or ".")

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
