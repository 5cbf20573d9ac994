"""``modisco motifs -s OHE.npz -a SHAP.npz``: one array ``arr_0`` (N, 4, L) in each file, one-hot and hypothetical."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from numpy.lib import format as npy

from fastism_cli.export.arrays import Add, Array, write_arrays
from fastism_cli.export.request import ExportJob


def write(job: ExportJob) -> None:
    """Two files for each target."""
    write_arrays(job, _open)


@contextmanager
def _open(paths: tuple[str, ...], n: int, width: int, compression: str) -> Iterator[Add]:
    with (
        _open_array(paths[0], (n, 4, width), "int8", compression) as letters,
        _open_array(paths[1], (n, 4, width), "float32", compression) as scores,
    ):

        def add(one_hot: Array, hypothetical: Array) -> None:
            letters(one_hot.transpose(0, 2, 1))
            scores(hypothetical.transpose(0, 2, 1))

        yield add


@contextmanager
def _open_array(path: str, shape: tuple[int, ...], dtype: str, compression: str) -> Iterator[Callable[[Array], Any]]:
    """An .npz of one array that is written row by row, as ``numpy.savez`` could only do with all of it in memory."""
    method = ZIP_DEFLATED if compression == "gzip" else ZIP_STORED
    with (
        ZipFile(path, "w", method, compresslevel=1) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as member,
    ):
        header = {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(member, header)
        yield lambda values: member.write(np.ascontiguousarray(values, dtype).data.cast("B"))
