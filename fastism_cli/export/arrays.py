"""Formats with a row for each region: one pass, all files open, the same memory for any number of rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from fastism_cli.export.exported_regions import one_hot
from fastism_cli.export.request import ExportJob
from fastism_cli.results.score_blocks import hypothetical

Array = npt.NDArray[Any]
Add = Callable[[Array, Array], None]
# From the parts of a file set, the number of rows, their width and the compression to a function that adds rows:
# one-hot int8 (n, W, 4) and hypothetical float32 (n, W, 4).
Open = Callable[[tuple[str, ...], int, int, str], AbstractContextManager[Add]]

CHUNK_BYTES = 1 << 20


def write_arrays(job: ExportJob, open_files: Open) -> None:
    """Give every region to the files of each target."""
    shape = (job.frame.n_rows, job.frame.even_window, job.compression)
    with ExitStack() as stack:
        adders = [stack.enter_context(open_files(paths, *shape)) for paths in job.paths]
        for block in job.frame.even_blocks(job.tracks):
            letters, values = one_hot(block.seq), hypothetical(block.seq, block.delta, unknown=0)
            for k, add in enumerate(adders):
                add(letters, values[:, k])


class Rows:
    """A dataset that is filled from its first row on."""

    def __init__(self, file: h5py.File, name: str, shape: tuple[int, ...], dtype: str, compression: str) -> None:
        self._dataset = file.create_dataset(name, shape, dtype, **_storage(shape, dtype, compression))
        self._done = 0

    def add(self, values: Array) -> None:
        """Store the next rows."""
        self._dataset[self._done : self._done + len(values)] = values
        self._done += len(values)


def _storage(shape: tuple[int, ...], dtype: str, compression: str) -> dict[str, Any]:
    """One stretch of the file if it is not compressed: nothing reads or writes faster."""
    if compression == "none" or 0 in shape:
        return {}
    row_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    rows = min(max(CHUNK_BYTES // row_bytes, 1), shape[0])
    return {"chunks": (rows, *shape[1:]), "compression": "gzip", "compression_opts": 1, "shuffle": True}
