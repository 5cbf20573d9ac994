"""A result file that reads from others: HDF5 virtual datasets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import prod
from typing import Any

import h5py
import numpy as np

from fastism_cli.errors import OutputError
from fastism_cli.results import schema
from fastism_cli.results.datasets import write_header
from fastism_cli.results.ism_file import IsmFile
from fastism_cli.results.layout import Layout


def write_virtual(parts: Sequence[IsmFile], path: str, layout: Layout, attributes: Mapping[str, Any]) -> None:
    """Write an index of parts, which lie where they are; their paths are stored relative to its folder.

    The columns of ``/regions`` are small and hold text, which a virtual dataset may not: they are copied.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    unnamed = path + schema.PARTIAL_SUFFIX
    try:
        with h5py.File(unnamed, "w") as file:
            write_header(file, layout, attributes, parts[0].genome_sizes)
            _copy_columns(file, parts)
            _link(file, f"/{schema.SEQ}", parts, layout.seq_shape, schema.SEQ_DTYPE, len(layout.alphabet), path)
            for head in layout.heads:
                for group, shape, dtype in (
                    (schema.REF, layout.ref_shape(head), schema.REF_DTYPE),
                    (schema.DELTA, layout.delta_shape(head), layout.delta_dtype),
                ):
                    _link(file, f"/{group}/{head.key}", parts, shape, dtype, np.nan, path)
            file.attrs["n_clipped"] = sum(int(part.attrs["n_clipped"]) for part in parts)
            file.attrs["complete"] = True
        os.replace(unnamed, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(unnamed)
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def _copy_columns(file: h5py.File, parts: Sequence[IsmFile]) -> None:
    group = file.create_group(schema.REGIONS)
    for name, dtype in schema.REGION_COLUMNS.items():
        column = np.concatenate([part.regions[name] for part in parts])
        is_text = dtype == schema.TEXT
        stored = column if is_text else column.astype(dtype)
        group.create_dataset(name, data=stored, dtype=h5py.string_dtype() if is_text else dtype)


def _link(
    file: h5py.File,
    name: str,
    parts: Sequence[IsmFile],
    shape: tuple[int, ...],
    dtype: str,
    fillvalue: float,
    path: str,
) -> None:
    if not prod(shape):
        file.create_dataset(name, shape, dtype)
        return
    layout, start = h5py.VirtualLayout(shape, dtype), 0
    folder = os.path.dirname(os.path.realpath(path))
    for part in parts:
        n = len(part.seq)
        if n:
            source = os.path.relpath(os.path.realpath(part.path), folder)
            layout[start : start + n] = h5py.VirtualSource(source, name, (n, *shape[1:]), dtype)
        start += n
    file.create_virtual_dataset(name, layout, fillvalue=fillvalue)
