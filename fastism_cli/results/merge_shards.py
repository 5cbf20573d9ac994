"""Join the shards of a run: checked, in bounded memory, as a copy or as an index of the shards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from math import prod
from typing import Any

import h5py
import numpy as np

from fastism_cli.errors import OutputError, UsageError
from fastism_cli.options.shard import array_expression
from fastism_cli.results import schema
from fastism_cli.results.datasets import write_header
from fastism_cli.results.ism_file import IsmFile, read_result
from fastism_cli.results.layout import Layout
from fastism_cli.results.outputs import check_new_file, inputs_of_result
from fastism_cli.results.same_run import SAME, differences
from fastism_cli.results.writer import ResultWriter

BLOCK_BYTES = 32e6  # of deltas that are copied at a time

# Attributes of a merged file that replace those of its shards.
OWN_ATTRIBUTES = {"shard_index": 0, "num_shards": 1, "row_start": 0}


def merge_shards(
    paths: Sequence[str], output: str, *, virtual: bool = False, overwrite: bool = False, command: str = ""
) -> int:
    """Join all shards of one run; returns the number of rows.

    Parameters
    ----------
    paths : sequence of str
        Files of ``fastism run --shard``, in any order.
    output : str
    virtual : bool
        Write datasets that read from the shards in place of a copy.

    Raises
    ------
    UsageError
        If a shard is missing, unfinished, comes twice or is of another configuration.
    """
    check_new_file(output, paths, overwrite=overwrite, role="one of the shards", is_result=True)
    with ExitStack() as stack:
        shards = [stack.enter_context(read_result(path)) for path in existing(paths)]
        shards.sort(key=lambda shard: int(shard.attrs["shard_index"]))
        check_shards(shards)
        for shard in shards:
            named = inputs_of_result(shard.path, shard.attrs, shard.sources)
            check_new_file(output, named, overwrite=overwrite, role="an input of these shards", is_result=True)
        attributes = {**part_attributes(shards), **OWN_ATTRIBUTES, "command": command}
        return join(shards, output, attributes, virtual=virtual, overwrite=overwrite)


def join(
    parts: Sequence[IsmFile], output: str, attributes: Mapping[str, Any], *, virtual: bool, overwrite: bool
) -> int:
    """Write parts that fit together, in their order, into one file."""
    layout = joined_layout(parts)
    if virtual:
        write_virtual(parts, output, layout, attributes)
    else:
        copy(parts, output, layout, attributes, overwrite=overwrite)
    return layout.n_rows


def copy(
    parts: Sequence[IsmFile], output: str, layout: Layout, attributes: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Copy block by block: memory does not grow with the number of rows."""
    sizes = parts[0].genome_sizes
    with ResultWriter(output, layout, attributes=attributes, genome_sizes=sizes, overwrite=overwrite) as writer:
        start = 0
        for part in parts:
            for rows in blocks_of(part, layout):
                writer.write_rows(
                    start + rows.start,
                    regions={name: column[rows] for name, column in part.regions.items()},
                    seq=part.seq[rows],
                    reference={head.name: part.reference(head.name)[rows] for head in layout.heads},
                    delta={head.name: part.delta(head.name)[rows] for head in layout.heads},
                )
            writer.n_clipped += int(part.attrs["n_clipped"])
            start += len(part.seq)


def blocks_of(part: IsmFile, layout: Layout) -> Iterator[slice]:
    """Stretches of rows of about 32 MB."""
    row_bytes = sum(prod(layout.delta_shape(head)[1:]) for head in layout.heads) * np.dtype(layout.delta_dtype).itemsize
    step, n = int(max(BLOCK_BYTES // max(row_bytes, 1), 1)), len(part.seq)
    return (slice(i, min(i + step, n)) for i in range(0, n, step))


def joined_layout(parts: Sequence[IsmFile]) -> Layout:
    """Layout of the first part, with the rows of all parts."""
    layouts = [part.layout for part in parts]
    for part, layout in zip(parts, layouts, strict=True):
        if (layout.heads, layout.length, layout.delta_dtype) != (
            layouts[0].heads,
            layouts[0].length,
            layouts[0].delta_dtype,
        ):
            raise UsageError(f"{part.path} has other heads or shapes than {parts[0].path}. Make them with one command.")
    first = next((layout for layout in layouts if layout.n_rows), layouts[0])  # a file without rows has no compression
    return Layout(
        sum(layout.n_rows for layout in layouts),
        first.length,
        first.heads,
        first.alphabet,
        first.delta_dtype,
        first.compression,
    )


# --- an index of the parts -------------------------------------------------------------------------------------------


def write_virtual(parts: Sequence[IsmFile], path: str, layout: Layout, attributes: Mapping[str, Any]) -> None:
    """Write an index that reads from the parts; their paths are stored relative to its folder.

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


# --- whether they fit ------------------------------------------------------------------------------------------------


def existing(paths: Sequence[str]) -> list[str]:
    """The paths that exist. Missing and unfinished files are reported in one error."""
    gone = [path for path in paths if not os.path.exists(path)]
    unfinished = [path for path in gone if os.path.exists(path + schema.PARTIAL_SUFFIX)]
    if unfinished:
        raise UsageError(f"{', '.join(unfinished)}: unfinished. Run again with the same --shard and --resume.")
    present = [path for path in paths if path not in gone]
    if not present:
        raise UsageError(f"none of the shards exists. Received: {', '.join(paths)}")
    if gone and not _says_what_is_missing(present):
        raise UsageError(f"{', '.join(gone)}: no such file")
    return present


def _says_what_is_missing(present: Sequence[str]) -> bool:
    """Whether the files that exist say how many are missing, so that their numbers can be listed."""
    with read_result(present[0]) as first:
        return int(first.attrs["num_shards"]) > len(present)


def check_shards(shards: Sequence[IsmFile]) -> None:
    """Refuse shards, sorted by number, that do not make up one run.

    Raises
    ------
    UsageError
        Says which do not fit, come twice or are missing.
    """
    first = shards[0]
    names = {**SAME, "num_shards": "the number of shards"}
    for shard in shards[1:]:
        differ = differences(first.attrs, shard.attrs, names)
        if differ:
            raise UsageError(
                f"{first.path} and {shard.path} are of different configurations: {'; '.join(differ)}. "
                "Make all shards with the same command."
            )
    _check_each_once(shards)
    rows = 0
    for shard in shards:
        start, stop = int(shard.attrs["row_start"]), int(shard.attrs["row_stop"])
        if start != rows or stop - start != len(shard.seq):
            raise UsageError(f"{shard.path} holds rows {start} to {stop}, but row {rows} comes next. Make it again.")
        rows = stop
    if rows != int(first.attrs["n_total"]):
        raise UsageError(f"the shards hold {rows} of {first.attrs['n_total']} rows. Make them again.")


def _check_each_once(shards: Sequence[IsmFile]) -> None:
    found: dict[int, str] = {}
    for shard in shards:
        index = int(shard.attrs["shard_index"])
        if index in found:
            raise UsageError(f"{found[index]} and {shard.path} are both shard {index}. Give one of them.")
        found[index] = shard.path
    count = int(shards[0].attrs["num_shards"])
    missing = [index for index in range(count) if index not in found]
    if missing:
        noun = "shard is" if len(missing) == 1 else "shards are"
        raise UsageError(f"{len(missing)} of {count} {noun} missing: run --array={array_expression(missing)}")


def part_attributes(parts: Sequence[IsmFile]) -> dict[str, Any]:
    """Attributes of the joined file: those of the first part, and the end of the last."""
    copied = {name for name, known in schema.ATTRIBUTES.items() if not known.by_writer}
    attributes = {name: value for name, value in parts[0].attrs.items() if name in copied}
    return {**attributes, "row_stop": parts[-1].attrs["row_stop"]}
