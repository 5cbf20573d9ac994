"""Write a result file: in whole chunks, under another name until it is complete, with checkpoints."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from fastism_cli.errors import OutputError, ResourceError, size_text
from fastism_cli.options.choices import CHECKPOINT_SECONDS
from fastism_cli.results import schema
from fastism_cli.results.chunk_writer import ChunkWriter, RowBuffer, create_datasets, dataset_names, write_header
from fastism_cli.results.contents import SAME, SAME_ROWS, differences
from fastism_cli.results.crash_safe_file import damaged, open_disk, sync_folder
from fastism_cli.results.intact import note_datasets, seal
from fastism_cli.results.layout import Layout
from fastism_cli.results.outputs import check_output
from fastism_cli.results.staging import cure_of, require_free
from fastism_cli.scores.tracks import Array

Blocks = Mapping[str, npt.ArrayLike]


class ResultWriter:
    """Write a result file. It is called ``PATH.partial`` until it is finished.

    Leaving the context finishes the file; leaving it by an exception keeps the rows so far, for ``resume``, or removes
    a file that has none. One separate thread makes all calls of HDF5, so that no signal interrupts them: Ctrl-C waits
    for the current call. Every ``checkpoint_seconds``, a checkpoint makes sure that the rows so far survive a kill: see
    :mod:`fastism_cli.results.crash_safe_file`.

    Parameters
    ----------
    path : str or path-like
        The file to make.
    layout : Layout
    attributes : mapping of str to str, int, float or bool
        How the file is made: see :data:`fastism_cli.results.schema.ATTRIBUTES`. None is written as ``""``.
    genome_sizes : mapping of str to int
        Length of every contig.
    overwrite : bool
        Whether an existing file may be replaced. It is kept until the new one is complete.
    resume : bool
        Continue the file that an earlier writer left; ``rows_done`` says how far it came.
    checkpoint_seconds : float
        Time between checkpoints: a kill loses at most this much work, and the current block.
    keeps_rows : bool
        Whether an exception leaves the rows so far.
    threads : int, optional
        How many compress.
    guard : callable, optional
        Called before a checkpoint; if the inputs have changed it raises, and there is no checkpoint.

    Attributes
    ----------
    rows_done : int
        Rows from the first on that an earlier writer finished.
    status_done : uint8 (rows_done,)
        Their status.
    n_clipped : int
        Counted by the caller; stored as an attribute, and read from there when a file is resumed.

    Raises
    ------
    OutputError
        If the file cannot be made, another process is making it, or it is of another configuration.
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
    ...         writer.checkpoint_if_due()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        layout: Layout,
        *,
        attributes: Mapping[str, Any],
        genome_sizes: Mapping[str, int],
        overwrite: bool = False,
        resume: bool = False,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        keeps_rows: bool = True,
        threads: int | None = None,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        check_output(path, overwrite=overwrite, resume=resume)
        self.path = os.fspath(path)
        self.partial_path = self.path + schema.PARTIAL_SUFFIX
        self.layout = layout
        self.rows_done = self.n_clipped = 0
        self.status_done: Array = np.zeros(0, "uint8")
        self._attributes = attributes
        self._genome_sizes = genome_sizes
        self._may_replace, self._resume = overwrite or os.path.lexists(self.path), resume
        self._seconds, self._guard = checkpoint_seconds, guard
        self._keeps_rows, self._threads = keeps_rows, threads
        self._file: Any = None
        self._is_open = self._is_ours = False
        self._rows: dict[str, RowBuffer] = {}
        self._rows_written = 0

    def __enter__(self) -> ResultWriter:
        self._disk = open_disk(self.partial_path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hdf5")
        self._chunks = ChunkWriter(self._threads)
        self._is_open = True
        try:
            self._in_thread(self._open)
        except BaseException:
            self._close_thread(self._abort)
            raise
        self._last = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._is_open:
                self.finish()
        finally:
            self._close_thread(self._abort)

    @property
    def rows_kept(self) -> int:
        """Rows of the last checkpoint in the unfinished file; 0 if that is finished, or belongs to another writer."""
        return self._disk.rows if self._is_ours and os.path.exists(self.partial_path) else 0

    def write_rows(
        self,
        row_start: int,
        *,
        regions: Blocks,
        seq: npt.ArrayLike,
        reference: Blocks | None = None,
        delta: Blocks | None = None,
        spread: Blocks | None = None,
        pairs: Blocks | None = None,
    ) -> None:
        """Store ``n`` consecutive rows; rows may be left out, blocks may come in any order (ascending is fastest).

        Parameters
        ----------
        row_start : int
            Row of the file, from 0.
        regions : mapping of str to (n,)
            All of :data:`fastism_cli.results.schema.REGION_COLUMNS`; ``model_strand`` may be left out where it is
            ``strand``.
        seq : uint8 (n, L)
            As the model saw it.
        reference : mapping of head name to (n, T), optional
            Heads that are left out stay NaN, as for rows that cannot be scored.
        delta, spread : mapping of head name to (n, T, L, 4), optional
        pairs : mapping of head name to (n, T, P, D, 4, 4), optional

        Raises
        ------
        ValueError
            If a shape does not fit the layout.
        OutputError
            If a delta is too large for float16.
        """
        named = {f"/{schema.REGIONS}/{column}": values for column, values in self._all_columns(regions).items()}
        named[f"/{schema.SEQ}"] = seq
        groups = {schema.REF: reference, schema.DELTA: delta, schema.DELTA_SD: spread, schema.PAIRS: pairs}
        for group, scores in groups.items():
            named |= {f"/{group}/{schema.head_key(head)}": values for head, values in (scores or {}).items()}
        blocks = {name: self._rows[name].checked(row_start, values) for name, values in named.items()}
        n = {len(block) for block in blocks.values()}
        if len(n) > 1:
            sizes = {name: len(block) for name, block in blocks.items()}
            raise ValueError(f"a block must have the same number of rows everywhere. Received: {sizes}")
        self._in_thread(self._add, row_start, blocks)

    def checkpoint_if_due(self) -> None:
        """Make a checkpoint if the last one is ``checkpoint_seconds`` old.

        Call it between blocks: a resumed run then cuts its rows into the same blocks, and its numbers are the same.
        """
        if time.monotonic() - self._last >= self._seconds:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Make a checkpoint: the rows so far survive the end of the process and of the machine."""
        self._guard()
        self._in_thread(self._checkpoint)
        self._last = time.monotonic()

    def finish(self) -> None:
        """Mark the file as complete and give it its name."""
        self._guard()
        self._in_thread(self._finish)

    def _in_thread(self, call: Callable[..., None], *arguments: Any) -> None:
        self._thread.submit(call, *arguments).result()

    def _close_thread(self, last_call: Callable[[], None]) -> None:
        """Wait for the current call and for ``last_call``."""
        try:
            self._in_thread(last_call)
        finally:
            self._thread.shutdown()
            self._chunks.close()

    def _all_columns(self, regions: Blocks) -> Blocks:
        if schema.STRAND in regions:
            regions = {schema.MODEL_STRAND: regions[schema.STRAND], **regions}
        if set(regions) != set(schema.REGION_COLUMNS):
            raise ValueError(f"regions must have the columns {list(schema.REGION_COLUMNS)}. Received: {list(regions)}")
        return regions

    # the methods below run in the thread

    def _open(self) -> None:
        with self._disk_errors():
            if not (self._resume and self._disk.recover() and self._disk.rows):
                self._create()
            else:
                self._continue()
            self._is_ours = True
            self._rows = {name: RowBuffer(self._file[name], self._chunks) for name in dataset_names(self.layout)}

    def _create(self) -> None:
        self._disk.start_anew()
        self._is_ours = True
        self._file = h5py.File(self._disk, "w", libver=schema.LIBVER)
        write_header(self._file, self.layout, self._attributes, self._genome_sizes)
        create_datasets(self._file, self.layout)

    def _continue(self) -> None:
        try:
            self._file = h5py.File(self._disk, "r+", libver=schema.LIBVER)
        except OSError as error:
            raise damaged(self.partial_path, str(error)) from error
        differ = differences(
            self._file.attrs, {"format_version": schema.FORMAT_VERSION, **self._attributes}, SAME | SAME_ROWS
        )
        if differ:
            raise other_configuration(self.partial_path, differ)
        status = self._file[f"{schema.REGIONS}/status"][:]
        pending = np.nonzero(status == schema.Status.PENDING)[0]
        self.rows_done = self._rows_written = int(pending[0]) if len(pending) else len(status)
        self.status_done = status[: self.rows_done]
        self.n_clipped = int(self._file.attrs["n_clipped"])

    def _add(self, row_start: int, blocks: Mapping[str, Array]) -> None:
        with self._disk_errors():
            for name, block in blocks.items():
                self._rows[name].add(row_start, block)
                self._rows_written = max(self._rows_written, int(row_start) + len(block))

    def _checkpoint(self) -> None:
        with self._disk_errors():
            self._flush()
            self._file.flush()
            self._disk.checkpoint(self._rows_written)

    def _finish(self) -> None:
        with self._disk_errors():
            self._flush()
            self._file.attrs["complete"] = True
            note_datasets(self._file, self._disk.bytes_at)
            seal(self._file)
            self._file.close()
            if (
                self._disk.rows
            ):  # without a checkpoint, no change is held back and less than half a minute of work is at risk
                self._disk.checkpoint(self._rows_written)
            self._disk.sync()
        self._rename()
        self._is_open = False
        self._disk.remove_journal()
        self._disk.close()

    def _flush(self) -> None:
        self._disk.announce()
        for rows in self._rows.values():
            rows.flush()
        self._file.attrs["n_clipped"] = self.n_clipped
        seal(self._file)

    def _rename(self) -> None:
        if not self._may_replace:
            require_free(self.path)
        try:
            if not self._disk.is_at(self.partial_path):
                raise FileNotFoundError(errno.ENOENT, "it was removed or replaced while it was written")
            os.replace(self.partial_path, self.path)
        except OSError as error:
            raise OutputError(f"{self.partial_path} cannot be renamed to {self.path}: {error.strerror}") from error
        sync_folder(os.path.dirname(self.path) or ".")

    def _abort(self) -> None:
        """Keep the finished rows: with a last checkpoint, or as of the checkpoint before if that fails."""
        if not self._is_open:
            return
        self._is_open = False
        with suppress(Exception):  # report the error that led here
            is_more = self._rows_written > self.rows_done and self._keeps_rows
            if self._file and is_more and self._disk.failure is None:
                self._guard()
                self._checkpoint()
        self._disk.forget()
        with suppress(Exception):
            if self._file:
                self._file.close()
        if self._is_ours and not self._disk.rows:
            with suppress(OSError):
                os.unlink(self.partial_path)
            self._disk.remove_journal()
        self._disk.close()

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception:  # HDF5 can fail on a file that drops its writes
            if self._disk.failure is None:
                raise
        failure = self._disk.failure
        if failure is not None:
            raise ResourceError(
                f"{self.path} cannot be written: {failure.strerror} after {size_text(self._disk.written)}. "
                f"{self._what_is_left} {cure_of(failure)}"
            ) from failure

    @property
    def _what_is_left(self) -> str:
        rows = self._disk.rows
        if not rows:
            return "The unfinished file was removed."
        return f"Its first {rows:,} rows are kept; run again with --resume when there is space."


def other_configuration(path: str, differ: list[str]) -> OutputError:
    return OutputError(
        f"{path} was made by another configuration: {'; '.join(differ)}. "
        "Give the same, or start anew with --overwrite instead of --resume."
    )
