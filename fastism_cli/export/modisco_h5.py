"""``modisco motifs -i FILE``: datasets ``hyp_scores`` and ``input_seqs``, both (N, L, 4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import h5py

from fastism_cli.export.arrays import Add, Array, Rows, write_arrays
from fastism_cli.export.request import ExportJob


def write(job: ExportJob) -> None:
    """One file for each target."""
    write_arrays(job, _open)


@contextmanager
def _open(paths: tuple[str, ...], n: int, width: int, compression: str) -> Iterator[Add]:
    with h5py.File(paths[0], "w") as file:
        scores = Rows(file, "hyp_scores", (n, width, 4), "float32", compression)
        letters = Rows(file, "input_seqs", (n, width, 4), "int8", compression)

        def add(one_hot: Array, hypothetical: Array) -> None:
            letters.add(one_hot)
            scores.add(hypothetical)

        yield add
