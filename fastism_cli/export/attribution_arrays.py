"""Arrays with a row for each region, for TF-MoDISco, chrombpnet and basenji.

One pass over the result, all files open, the same memory for any number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import h5py
import numpy as np
from numpy.lib import format as npy

from fastism_cli.export.exported_regions import ExportJob, one_hot
from fastism_cli.results.crash_safe_file import Disk, new_hdf5
from fastism_cli.results.schema import MODEL_STRAND
from fastism_cli.scores.importance import hypothetical
from fastism_cli.scores.tracks import Array

Add = Callable[[Array, Array], None]
# From the files of a file set, the number of rows, their width and the compression to a function that adds rows:
# one-hot int8 (n, W, 4) and hypothetical float32 (n, W, 4).
Open = Callable[[tuple[str, ...], int, int, str], AbstractContextManager[Add]]

CHUNK_BYTES = 1 << 20


def write_modisco_npz(job: ExportJob) -> None:
    """``modisco motifs -s OHE.npz -a SHAP.npz``: one-hot and hypothetical, each one array ``arr_0`` (N, 4, L).

    Two files for each target.
    """
    write_arrays(job, _open_modisco_npz)


@contextmanager
def _open_modisco_npz(paths: tuple[str, ...], n: int, width: int, compression: str) -> Iterator[Add]:
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
    """An .npz of one array that is written row by row, which ``numpy.savez`` cannot do."""
    method = ZIP_DEFLATED if compression == "gzip" else ZIP_STORED
    with (
        ZipFile(path, "w", method, compresslevel=1) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as member,
    ):
        header = {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(member, header)
        yield lambda values: member.write(np.ascontiguousarray(values, dtype).data.cast("B"))


def write_modisco_h5(job: ExportJob) -> None:
    """``modisco motifs -i FILE``: datasets ``hyp_scores`` and ``input_seqs``, both (N, L, 4).

    One file for each target.
    """
    write_arrays(job, _open_modisco_h5)


@contextmanager
def _open_modisco_h5(paths: tuple[str, ...], n: int, width: int, compression: str) -> Iterator[Add]:
    with new_hdf5(paths[0]) as (file, disk):
        scores = Rows(file, disk, "hyp_scores", (n, width, 4), "float32", compression)
        letters = Rows(file, disk, "input_seqs", (n, width, 4), "int8", compression)

        def add(one_hot: Array, hypothetical: Array) -> None:
            letters.add(one_hot)
            scores.add(hypothetical)

        yield add


def write_chrombpnet_h5(job: ExportJob) -> None:
    """The contribution scores of chrombpnet: ``raw/seq``, ``shap/seq``, ``projected_shap/seq``, all (N, 4, L).

    One file for each target.
    """
    write_arrays(job, _open_chrombpnet_h5)


@contextmanager
def _open_chrombpnet_h5(paths: tuple[str, ...], n: int, width: int, compression: str) -> Iterator[Add]:
    with new_hdf5(paths[0]) as (file, disk):
        raw = Rows(file, disk, "raw/seq", (n, 4, width), "int8", compression)
        shap = Rows(file, disk, "shap/seq", (n, 4, width), "float32", compression)
        projected = Rows(file, disk, "projected_shap/seq", (n, 4, width), "float32", compression)

        def add(one_hot: Array, hypothetical: Array) -> None:
            letters, scores = one_hot.transpose(0, 2, 1), hypothetical.transpose(0, 2, 1)
            raw.add(letters)
            shap.add(scores)
            projected.add(letters * scores)

        yield add


def write_basenji_h5(job: ExportJob) -> None:
    """Like basenji_sat_bed.py: ``seqs`` (N, L, 4), ``sum`` (N, L, 4, T), ``chr``, ``start``, ``end``, ``strand``.

    One file for all targets. Sequences and scores are as the model saw them, like those of basenji. ``sum`` holds
    deltas: basenji subtracts the score of the reference base, which is 0 here, so that its plots show the same.
    """
    regions, n, width = job.regions, job.regions.n_rows, job.regions.even_window
    with new_hdf5(job.paths[0][0]) as (file, disk):
        _write_places(file, job)
        letters = Rows(file, disk, "seqs", (n, width, 4), "bool", job.compression)
        scores = Rows(file, disk, "sum", (n, width, 4, len(job.tracks)), "float32", job.compression)
        for block in regions.even_blocks(job.tracks):
            letters.add(_as_seen(one_hot(block.seq).astype(bool), block.reverse))
            delta = np.nan_to_num(block.delta, nan=0.0)
            delta[np.broadcast_to((block.seq > 3)[:, None], delta.shape[:-1])] = 0
            scores.add(_as_seen(np.moveaxis(delta, 1, -1), block.reverse))


def _write_places(file: h5py.File, job: ExportJob) -> None:
    places = job.regions.whole()
    file["chr"] = np.array([chrom.encode() for chrom in places.chrom], dtype="S")
    file["start"] = places.start
    file["end"] = places.start + job.regions.even_window
    file["strand"] = np.array([strand.encode() for strand in places.column(MODEL_STRAND)], dtype="S1")
    file["target_ids"] = np.array([track.label.encode() for track in job.tracks], dtype="S")


def _as_seen(values: Array, flip: Array) -> Array:
    """Rows (n, W, 4, ...) of the + strand, reverse-complemented where the model saw them so."""
    seen = values.copy()
    seen[flip] = values[flip, ::-1, ::-1]
    return seen


# --- shared ----------------------------------------------------------------------------------------------------------


def write_arrays(job: ExportJob, open_files: Open) -> None:
    """Give every region to the files of each target."""
    shape = (job.regions.n_rows, job.regions.even_window, job.compression)
    with ExitStack() as stack:
        adders = [stack.enter_context(open_files(paths, *shape)) for paths in job.paths]
        for block in job.regions.even_blocks(job.tracks):
            letters, values = one_hot(block.seq), hypothetical(block.seq, block.delta, unknown=0)
            for k, add in enumerate(adders):
                add(letters, values[:, k])


class Rows:
    """A dataset that is filled from its first row on; OSError if the disk is full."""

    def __init__(
        self, file: h5py.File, disk: Disk, name: str, shape: tuple[int, ...], dtype: str, compression: str
    ) -> None:
        self._disk = disk
        self._dataset = file.create_dataset(name, shape, dtype, **_storage(shape, dtype, compression))
        self._done = 0

    def add(self, values: Array) -> None:
        """Store the next rows."""
        self._dataset[self._done : self._done + len(values)] = values
        self._disk.raise_if_failed()
        self._done += len(values)


def _storage(shape: tuple[int, ...], dtype: str, compression: str) -> dict[str, Any]:
    """One stretch of the file if it is not compressed: nothing reads or writes faster."""
    if compression == "none" or 0 in shape:
        return {}
    row_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    rows = min(max(CHUNK_BYTES // row_bytes, 1), shape[0])
    return {"chunks": (rows, *shape[1:]), "compression": "gzip", "compression_opts": 1, "shuffle": True}
