"""The contribution scores of chrombpnet: ``raw/seq``, ``shap/seq`` and ``projected_shap/seq``, all (N, 4, L)."""

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
        raw = Rows(file, "raw/seq", (n, 4, width), "int8", compression)
        shap = Rows(file, "shap/seq", (n, 4, width), "float32", compression)
        projected = Rows(file, "projected_shap/seq", (n, 4, width), "float32", compression)

        def add(one_hot: Array, hypothetical: Array) -> None:
            letters, scores = one_hot.transpose(0, 2, 1), hypothetical.transpose(0, 2, 1)
            raw.add(letters)
            shap.add(scores)
            projected.add(letters * scores)

        yield add
