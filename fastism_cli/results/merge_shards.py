"""Join the shards of a run: checked, in bounded memory, as a copy or as an index of the shards."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import h5py
import numpy as np

from fastism_cli.errors import OutputError, ResourceError, UsageError
from fastism_cli.options.choices import array_expression
from fastism_cli.results import schema
from fastism_cli.results.chunk_writer import ChunkWriter, create_columns, write_header
from fastism_cli.results.contents import SAME, differences
from fastism_cli.results.crash_safe_file import new_hdf5
from fastism_cli.results.intact import note_datasets, readable, seal, sum_of_chunks
from fastism_cli.results.ism_file import IsmFile, read_result
from fastism_cli.results.layout import Layout
from fastism_cli.results.outputs import check_new_file, inputs_of_result
from fastism_cli.results.staging import cure_of, require_free
from fastism_cli.results.writer import ResultWriter
from fastism_cli.scores.tracks import Array

BLOCK_BYTES = 32e6  # of deltas and letters that are copied at a time

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
    shards = parts_of(existing(paths))
    shards.sort(key=lambda shard: shard.number("shard_index"))
    check_shards(shards)
    for shard in shards:
        named = inputs_of_result(shard.path, shard.attrs, shard.sources)
        check_new_file(output, named, overwrite=overwrite, role="an input of these shards", is_result=True)
    if virtual:
        _refuse_indexes(shards)
    attributes = {**part_attributes(shards), **OWN_ATTRIBUTES, "command": command}
    return join(shards, output, attributes, virtual=virtual, overwrite=overwrite)


@dataclass(frozen=True)
class Part:
    """A file that becomes a part of another one; it is opened for the time that it is read, and no other with it."""

    path: str
    attrs: Mapping[str, Any]
    layout: Layout
    sources: Sequence[str]  # that an index reads from

    @property
    def n_rows(self) -> int:
        return self.layout.n_rows

    def number(self, attribute: str) -> int:
        """An attribute that every shard has.

        Raises
        ------
        UsageError
            If this file does not have it.
        """
        if attribute not in self.attrs:
            raise UsageError(f"{self.path} is no shard: its attribute {attribute} is missing.")
        return int(self.attrs[attribute])

    def open(self) -> IsmFile:
        """Open the file.

        Raises
        ------
        UsageError
            If it is not what it was.
        """
        file = read_result(self.path)
        if file.attrs != self.attrs:
            file.close()
            raise UsageError(f"{self.path} has changed while it was read. Merge again.")
        return file


def parts_of(paths: Sequence[str]) -> list[Part]:
    """Read the headers of files, one after the other."""
    parts: list[Part] = []
    for path in paths:
        with read_result(path) as file:
            layout = file.layout
            if parts and layout.heads == parts[0].layout.heads:  # the names of the targets are kept once
                layout = replace(layout, heads=parts[0].layout.heads)
            parts.append(Part(path, file.attrs, layout, file.sources))
    return parts


def join(parts: Sequence[Part], output: str, attributes: Mapping[str, Any], *, virtual: bool, overwrite: bool) -> int:
    """Write parts that fit together, in their order, into one file."""
    layout = joined_layout(parts)
    if virtual:
        write_virtual(parts, output, layout, attributes, overwrite=overwrite)
    else:
        copy(parts, output, layout, attributes, overwrite=overwrite)
    return layout.n_rows


def copy(parts: Sequence[Part], output: str, layout: Layout, attributes: Mapping[str, Any], *, overwrite: bool) -> None:
    """Copy block by block: memory does not grow with the number of rows."""
    with parts[0].open() as file:
        sizes = file.genome_sizes
    with ResultWriter(
        output, layout, attributes=attributes, genome_sizes=sizes, overwrite=overwrite, keeps_rows=False
    ) as writer:
        start = 0
        for part in parts:
            with part.open() as file:
                _copy_part(file, layout, writer, start)
            start += part.n_rows


def _copy_part(file: IsmFile, layout: Layout, writer: ResultWriter, start: int) -> None:
    for rows in blocks_of(file, layout):
        regions = {name: column[rows] for name, column in file.regions.items()}
        with readable(file.path, f"the scores of rows {rows.start:,} to {rows.stop - 1:,}"):
            seq = file.seq[rows]
            reference = {head.name: file.reference(head.name)[rows] for head in layout.heads}
            delta = {head.name: file.delta(head.name)[rows] for head in layout.heads}
            spread = {head.name: file.spread(head.name)[rows] for head in layout.heads if layout.has_spread}
            pairs = {head.name: file.pairs(head.name)[rows] for head in layout.heads if layout.pairs}
        scores = {"reference": reference, "delta": delta, "spread": spread, "pairs": pairs}
        writer.write_rows(start + rows.start, regions=regions, seq=seq, **scores)
    writer.n_clipped += int(file.attrs["n_clipped"])


def blocks_of(part: IsmFile, layout: Layout) -> Iterator[slice]:
    """Stretches of rows of about 32 MB, with their letters."""
    numbers = len(layout.delta_groups) * sum(prod(layout.delta_shape(head)[1:]) for head in layout.heads)
    row_bytes = numbers * np.dtype(layout.delta_dtype).itemsize + layout.pairs_bytes // max(layout.n_rows, 1)
    step, n = int(max(BLOCK_BYTES // max(row_bytes + layout.length, 1), 1)), len(part.seq)
    return (slice(i, min(i + step, n)) for i in range(0, n, step))


def joined_layout(parts: Sequence[Part]) -> Layout:
    """Layout of the first part, with the rows of all parts."""
    layouts = [part.layout for part in parts]
    for part, layout in zip(parts, layouts, strict=True):
        same = replace(layout, n_rows=layouts[0].n_rows, compression=layouts[0].compression)
        if same != layouts[0]:
            raise UsageError(f"{part.path} has other heads or shapes than {parts[0].path}. Make them with one command.")
    first = next((layout for layout in layouts if layout.n_rows), layouts[0])  # a file without rows has no compression
    return replace(first, n_rows=sum(layout.n_rows for layout in layouts))


# --- an index of the parts -------------------------------------------------------------------------------------------


def write_virtual(
    parts: Sequence[Part], path: str, layout: Layout, attributes: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Write an index that reads from the parts; their paths are stored relative to its folder.

    The columns of ``/regions`` are small and hold text, which a virtual dataset may not: they are copied.

    Raises
    ------
    OutputError
        If it cannot be written.
    ResourceError
        If the disk is full.
    """
    unnamed = path + schema.PARTIAL_SUFFIX
    is_ours = False
    try:
        try:
            with new_hdf5(unnamed, libver=schema.LIBVER) as (file, disk):
                is_ours = True
                _write_index(file, parts, path, layout, attributes)
                note_datasets(file, disk.bytes_at)
                seal(file)
        except OSError as error:
            raise ResourceError(f"{path} cannot be written: {error.strerror or error}. {cure_of(error)}") from error
        if not overwrite:
            require_free(path)
        os.replace(unnamed, path)
    except BaseException as error:
        if is_ours:
            with suppress(OSError):
                os.unlink(unnamed)
        if isinstance(error, OSError):
            raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
        raise


def _write_index(
    file: h5py.File, parts: Sequence[Part], path: str, layout: Layout, attributes: Mapping[str, Any]
) -> None:
    with parts[0].open() as first:
        write_header(file, layout, attributes, first.genome_sizes)
    create_columns(file, layout)
    linked: dict[str, tuple[tuple[int, ...], str, float]] = {
        f"/{schema.SEQ}": (layout.seq_shape, schema.SEQ_DTYPE, len(layout.alphabet))
    }
    for head in layout.heads:
        linked[f"/{schema.REF}/{head.key}"] = (layout.ref_shape(head), schema.REF_DTYPE, np.nan)
        for group in layout.delta_groups:
            linked[f"/{group}/{head.key}"] = (layout.delta_shape(head), layout.delta_dtype, np.nan)
        if layout.pairs is not None:
            linked[f"/{schema.PAIRS}/{head.key}"] = (layout.pairs_shape(head), layout.delta_dtype, np.nan)
    sums = _copy_columns(file[schema.REGIONS], parts, linked)
    for name, (shape, dtype, fillvalue) in linked.items():
        _link(file, name, parts, shape, dtype, fillvalue, path, sums[name])
    file.attrs["n_clipped"] = sum(int(part.attrs["n_clipped"]) for part in parts)
    file.attrs["complete"] = True


def _copy_columns(group: h5py.Group, parts: Sequence[Part], linked: Iterable[str]) -> dict[str, list[int]]:
    """Copy the columns of all parts; returns the sum of each dataset that is not copied, for each part with rows."""
    columns: dict[str, list[Array]] = {name: [] for name in schema.REGION_COLUMNS}
    sums: dict[str, list[int]] = {name: [] for name in linked}
    for part in parts:
        with part.open() as file:
            for name, column in file.regions.items():
                columns[name].append(column)
            for name, found in sums.items():
                if part.n_rows:
                    with readable(part.path, name):
                        found.append(sum_of_chunks(file.dataset(name)))
    with closing(ChunkWriter()) as chunks:
        for name, pieces in columns.items():
            dataset = group[name]
            chunks.write(dataset, 0, np.concatenate(pieces).astype(dataset.dtype))
    return sums


def _link(
    file: h5py.File,
    name: str,
    parts: Sequence[Part],
    shape: tuple[int, ...],
    dtype: str,
    fillvalue: float,
    path: str,
    sums: Sequence[int],
) -> None:
    if not prod(shape):
        file.create_dataset(name, shape, dtype)
        return
    layout, start = h5py.VirtualLayout(shape, dtype), 0
    folder = os.path.dirname(os.path.realpath(path))
    for part in parts:
        n = part.n_rows
        if n:
            source = os.path.relpath(os.path.realpath(part.path), folder)
            layout[start : start + n] = h5py.VirtualSource(source, name, (n, *shape[1:]), dtype)
        start += n
    dataset = file.create_virtual_dataset(name, layout, fillvalue=fillvalue)
    dataset.attrs[schema.SHARD_SUMS] = np.array(sums, "uint32")


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
        return int(first.attrs.get("num_shards", 1)) > len(present)


def check_shards(shards: Sequence[Part]) -> None:
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
        start, stop = shard.number("row_start"), shard.number("row_stop")
        if start != rows or stop - start != shard.n_rows:
            raise UsageError(f"{shard.path} holds rows {start} to {stop}, but row {rows} comes next. Make it again.")
        rows = stop
    if rows != first.number("n_total"):
        raise UsageError(f"the shards hold {rows} of {first.attrs['n_total']} rows. Make them again.")


def _check_each_once(shards: Sequence[Part]) -> None:
    found: dict[int, str] = {}
    for shard in shards:
        index = shard.number("shard_index")
        if index in found:
            raise UsageError(f"{found[index]} and {shard.path} are both shard {index}. Give one of them.")
        found[index] = shard.path
    count = shards[0].number("num_shards")
    missing = [index for index in range(count) if index not in found]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UsageError(f"{len(missing)} of {count} shards {verb} missing: run --array={array_expression(missing)}")


def _refuse_indexes(shards: Sequence[Part]) -> None:
    for shard in shards:
        if shard.sources:
            raise UsageError(f"{shard.path} is an index of shards itself. Merge its shards, or leave out --virtual.")


def part_attributes(parts: Sequence[Part]) -> dict[str, Any]:
    """Attributes of the joined file: those of the first part, and the end of the last."""
    copied = {name for name, known in schema.ATTRIBUTES.items() if not known.by_writer}
    attributes = {name: value for name, value in parts[0].attrs.items() if name in copied}
    version = max(
        schema.FORMAT_VERSION, parts[0].attrs["format_version"]
    )  # the columns of version 1 become those of 1.1
    return {**attributes, "format_version": version, "row_stop": parts[-1].number("row_stop")}
