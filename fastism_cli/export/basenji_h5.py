"""The scores of basenji_sat_bed.py: ``seqs`` (N, L, 4), ``sum`` (N, L, 4, T), ``chr``, ``start``, ``end``, ``strand``.

Sequences and scores are as the model saw them, as there. ``sum`` holds deltas: basenji subtracts the score of the
reference base, which is 0 here, so that its plots show the same.
"""

from __future__ import annotations

import h5py
import numpy as np

from fastism_cli.export.arrays import Array, Rows
from fastism_cli.export.exported_regions import one_hot
from fastism_cli.export.request import ExportJob


def write(job: ExportJob) -> None:
    """One file for all targets."""
    frame, n, width = job.frame, job.frame.n_rows, job.frame.even_window
    with h5py.File(job.paths[0][0], "w") as file:
        _write_places(file, job)
        letters = Rows(file, "seqs", (n, width, 4), "bool", job.compression)
        scores = Rows(file, "sum", (n, width, 4, len(job.tracks)), "float32", job.compression)
        for block in frame.even_blocks(job.tracks):
            letters.add(_as_seen(one_hot(block.seq).astype(bool), block.reverse))
            delta = np.nan_to_num(block.delta, nan=0.0)
            delta[np.broadcast_to((block.seq > 3)[:, None], delta.shape[:-1])] = 0
            scores.add(_as_seen(np.moveaxis(delta, 1, -1), block.reverse))


def _write_places(file: h5py.File, job: ExportJob) -> None:
    places = job.frame.whole()
    file["chr"] = np.array([chrom.encode() for chrom in places.chrom], dtype="S")
    file["start"] = places.start
    file["end"] = places.start + job.frame.even_window
    file["strand"] = np.array([strand.encode() for strand in places.column("strand")], dtype="S1")
    file["target_ids"] = np.array([track.label.encode() for track in job.tracks], dtype="S")


def _as_seen(values: Array, flip: Array) -> Array:
    """Rows (n, W, 4, ...) of the + strand, reverse-complemented where the model saw them so."""
    seen = values.copy()
    seen[flip] = values[flip, ::-1, ::-1]
    return seen
