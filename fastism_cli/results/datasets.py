"""The header of a result file and its empty datasets."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import h5py
import numpy as np

from fastism_cli.results import schema
from fastism_cli.results.intact import add_text_sums, note_text
from fastism_cli.results.layout import Layout
from fastism_cli.version import __version__


def write_header(
    file: h5py.File, layout: Layout, attributes: Mapping[str, Any], genome_sizes: Mapping[str, int]
) -> None:
    """Write the attributes, and the groups that do not grow with the rows.

    Raises
    ------
    ValueError
        If an attribute is not in :data:`fastism_cli.results.schema.ATTRIBUTES`.
    """
    unknown = [name for name in attributes if name not in schema.ATTRIBUTES]
    if unknown:
        raise ValueError(f"attributes of a result are those of schema.ATTRIBUTES. Received: {', '.join(unknown)}")
    file.attrs["format"] = schema.FORMAT
    file.attrs["format_version"] = schema.FORMAT_VERSION
    file.attrs["complete"] = False
    file.attrs["fastism_version"] = __version__
    file.attrs["h5py_version"] = h5py.__version__
    file.attrs["created"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    file.attrs["alphabet"] = layout.alphabet
    file.attrs["score"] = "delta"
    file.attrs["n_clipped"] = 0
    if layout.blocks is not None:
        file.attrs["blocks"] = layout.blocks.to_json()
    if layout.pairs is not None:
        file.attrs["pairs"] = layout.pairs.to_json()
    for name, value in attributes.items():
        file.attrs[name] = "" if value is None else value
    genome = file.create_group(schema.GENOME)
    _write_text(genome, schema.CHROM_NAMES, list(genome_sizes))
    sizes = np.array(list(genome_sizes.values()), schema.CHROM_SIZE_DTYPE)
    genome.create_dataset(schema.CHROM_SIZES, data=sizes, fletcher32=True if len(sizes) else None)
    outputs = file.create_group(schema.OUTPUTS, track_order=True)
    for head in layout.heads:
        group = outputs.create_group(head.key)
        group.attrs["name"], group.attrs["reduce"] = head.name, head.reduce
        _write_text(group, schema.TARGET_NAMES, head.target_names)


def _write_text(group: h5py.Group, name: str, values: Sequence[str]) -> None:
    dataset = group.create_dataset(name, data=np.array(values, dtype=object), dtype=h5py.string_dtype())
    add_text_sums(dataset)
    note_text(dataset, 0, values)


def dataset_names(layout: Layout) -> list[str]:
    """Paths of all datasets that have a row for each region."""
    columns = [f"/{schema.REGIONS}/{column}" for column in schema.REGION_COLUMNS]
    heads = [f"/{group}/{head.key}" for group in (schema.REF, *layout.delta_groups) for head in layout.heads]
    heads += [f"/{schema.PAIRS}/{head.key}" for head in layout.heads if layout.pairs]
    return [*columns, f"/{schema.SEQ}", *heads]


def create_columns(file: h5py.File, layout: Layout) -> None:
    """Create the columns of ``/regions``, empty."""
    for column, dtype in schema.REGION_COLUMNS.items():
        _create(file, f"{schema.REGIONS}/{column}", (layout.n_rows,), dtype, layout)


def create_datasets(file: h5py.File, layout: Layout) -> None:
    """Create all datasets that have a row for each region, empty."""
    create_columns(file, layout)
    _create(file, schema.SEQ, layout.seq_shape, schema.SEQ_DTYPE, layout, fillvalue=len(layout.alphabet))
    for head in layout.heads:
        name = f"{schema.REF}/{head.key}"
        _create(file, name, layout.ref_shape(head), schema.REF_DTYPE, layout, fillvalue=np.nan)
    for group, head in product(layout.delta_groups, layout.heads):
        shape, itemsize = layout.delta_shape(head), np.dtype(layout.delta_dtype).itemsize
        chunks = schema.delta_chunk(shape, itemsize)
        _create(file, f"{group}/{head.key}", shape, layout.delta_dtype, layout, fillvalue=np.nan, chunks=chunks)
    for head in layout.heads if layout.pairs else ():
        shape, itemsize = layout.pairs_shape(head), np.dtype(layout.delta_dtype).itemsize
        chunks = schema.pairs_chunk(shape, itemsize)
        name = f"{schema.PAIRS}/{head.key}"
        _create(file, name, shape, layout.delta_dtype, layout, fillvalue=np.nan, chunks=chunks)


def _create(
    file: h5py.File,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    layout: Layout,
    *,
    fillvalue: float | None = None,
    chunks: tuple[int, ...] | None = None,
) -> None:
    is_text = dtype == schema.TEXT
    stored = h5py.string_dtype() if is_text else np.dtype(dtype)
    options: dict[str, Any] = {"shape": shape, "dtype": stored, "fillvalue": fillvalue}
    if prod(shape) > 0:  # HDF5 has no chunks in an empty dataset
        options["chunks"] = chunks or schema.row_chunk(shape, stored.itemsize)
        # text lies outside of its dataset, where no filter reaches it
        options |= {} if is_text else _filters(layout.compression)
    dataset = file.create_dataset(name, **options)
    if is_text:
        add_text_sums(dataset)


def _filters(compression: str) -> dict[str, Any]:
    """Each has a checksum of every chunk: that of gzip, Adler-32, or fletcher32 of HDF5."""
    if compression == "none":
        return {"fletcher32": True}
    if compression == "gzip":
        return {"compression": "gzip", "shuffle": True, "compression_opts": schema.GZIP_LEVEL}
    return {"compression": compression, "shuffle": True, "fletcher32": True}
