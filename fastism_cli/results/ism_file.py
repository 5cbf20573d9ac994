"""Read a result file."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

import h5py

from fastism_cli.errors import UsageError
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.results import schema
from fastism_cli.results.layout import Array, HeadLayout, Layout
from fastism_cli.results.region_columns import RegionColumns, column
from fastism_cli.results.same_run import plain
from fastism_cli.version import __version__

# HDF5 keeps this much of a file's own tables in memory; by itself it would keep up to 32 MB, of which the names of a
# hundred thousand regions fill 9.
METADATA_BYTES = 1 << 18


class IsmFile:
    """An open result file. Made by :func:`read_result`; leaving its context closes it.

    Arrays that grow with the number of regions are ``h5py.Dataset``: slice them.
    """

    def __init__(self, path: str, file: h5py.File) -> None:
        self.path = path
        self._file = file

    def __enter__(self) -> IsmFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """All attributes, as Python values."""
        return {name: plain(value) for name, value in self._file.attrs.items()}

    @property
    def complete(self) -> bool:
        """Whether every row is final."""
        return bool(self.attrs["complete"])

    @property
    def alphabet(self) -> Alphabet:
        """Letters, in the order of the last axis of ``delta``."""
        return Alphabet(self.attrs["alphabet"])

    @cached_property
    def heads(self) -> tuple[HeadLayout, ...]:
        """Heads in the order of the model."""
        return tuple(self._head(key) for key in self._file[schema.OUTPUTS])

    @cached_property
    def layout(self) -> Layout:
        """Shapes and types, as the writer was given them."""
        delta = self.delta(self.heads[0].name)
        compression = "none" if delta.is_virtual else delta.compression or "none"
        n, length = self.seq.shape
        return Layout(n, length, self.heads, self.attrs["alphabet"], str(delta.dtype), compression)

    @cached_property
    def regions(self) -> dict[str, Array]:
        """Columns of ``/regions``, each (N,); chrom, name and both strands hold str."""
        return dict(self.columns)

    @cached_property
    def columns(self) -> RegionColumns:
        """The same, each read when it is asked for, while the file is open."""
        return RegionColumns(self.path, self._file[schema.REGIONS])

    @cached_property
    def genome_sizes(self) -> dict[str, int]:
        """Length of every contig of the FASTA."""
        genome = self._file[schema.GENOME]
        return dict(zip(column(genome[schema.CHROM_NAMES]), genome[schema.CHROM_SIZES][:].tolist(), strict=True))

    @property
    def sources(self) -> list[str]:
        """The shards that an index reads from, relative to its folder; none of a file that holds its own scores."""
        return [source.file_name for source in self.seq.virtual_sources()] if self.seq.is_virtual else []

    @property
    def seq(self) -> h5py.Dataset:
        """uint8 (N, L): codes of the alphabet."""
        return self._file[schema.SEQ]

    def reference(self, head: str | None = None) -> h5py.Dataset:
        """float32 (N, T): predictions on the reference; ``head`` may be left out if there is only one."""
        return self._file[f"{schema.REF}/{self._key(head)}"]

    def delta(self, head: str | None = None) -> h5py.Dataset:
        """float32 or float16 (N, T, L, 4): substituted - reference; ``head`` may be left out if there is only one."""
        return self._file[f"{schema.DELTA}/{self._key(head)}"]

    def _head(self, key: str) -> HeadLayout:
        group = self._file[f"{schema.OUTPUTS}/{key}"]
        shape = tuple(self._file[f"{schema.REF}/{key}"].shape[1:])
        return HeadLayout(group.attrs["name"], shape, tuple(column(group[schema.TARGET_NAMES])), group.attrs["reduce"])

    def _key(self, name: str | None) -> str:
        names = [head.name for head in self.heads]
        if name is None and len(names) == 1:
            name = names[0]
        if name not in names:
            raise UsageError(f"{self.path} has the heads {', '.join(names)}. Received: head={name!r}")
        return schema.head_key(name)


def read_result(path: str | os.PathLike[str], *, allow_incomplete: bool = False) -> IsmFile:
    """Open a result file for reading.

    Raises
    ------
    UsageError
        If it is no result file, one of another version, or an unfinished one that is not allowed.
    """
    name = os.fspath(path)
    file = _open_hdf5(name)
    try:
        _check_format(name, file)
        _check_sources(name, file)
        if not (allow_incomplete or file.attrs["complete"]):
            raise UsageError(
                f"{name} is unfinished: its run was interrupted, or still goes on. Repeat its command with --resume."
            )
    except BaseException:
        file.close()
        raise
    return IsmFile(name, file)


def _open_hdf5(path: str) -> h5py.File:
    try:
        # unlocked: nobody changes a file that has its name, and read-only file systems refuse locks
        file = h5py.File(path, "r", locking=False)
    except FileNotFoundError as error:
        is_unfinished = os.path.exists(path + schema.PARTIAL_SUFFIX)
        hint = f", but {path}{schema.PARTIAL_SUFFIX} does: its run is not finished" if is_unfinished else ""
        raise UsageError(f"{path} does not exist{hint}") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "it is no HDF5 file, or a part of one"
        raise UsageError(f"{path} cannot be read: {reason}") from error
    cache = file.id.get_mdc_config()
    cache.set_initial_size, cache.initial_size, cache.min_size, cache.max_size = True, *3 * (METADATA_BYTES,)
    cache.max_increment = METADATA_BYTES
    file.id.set_mdc_config(cache)
    return file


def _check_format(path: str, file: h5py.File) -> None:
    found, version = file.attrs.get("format"), file.attrs.get("format_version")
    if found != schema.FORMAT:
        instead = "it does not say its format" if found is None else f"its format is {found!r}"
        raise UsageError(f"{path} is not a result of fastism run: {instead}, which would be {schema.FORMAT!r}")
    if version not in schema.READABLE_VERSIONS:
        known = " and ".join(map(str, schema.READABLE_VERSIONS))
        raise UsageError(
            f"{path} has version {version} of the format {schema.FORMAT}; fastism {__version__} reads versions "
            f"{known}. Read it with the fastism that wrote it: {file.attrs.get('fastism_version')}"
        )


def _check_sources(path: str, file: h5py.File) -> None:
    """Refuse an index whose parts are gone, cut or replaced: HDF5 would read NaN in their place.

    Raises
    ------
    UsageError
        Names the missing files, or the first that has changed.
    """
    dataset = file[schema.SEQ]
    if not dataset.is_virtual:
        return
    folder = os.path.dirname(os.path.realpath(path))
    sources = dataset.virtual_sources()
    gone = [source.file_name for source in sources if not os.path.exists(os.path.join(folder, source.file_name))]
    if gone:
        raise UsageError(f"{path} reads from {len(sources)} files, of which these are gone: {', '.join(gone[:5])}")
    for source in sources:
        first, last = source.vspace.get_select_bounds()
        _check_source(path, file, os.path.join(folder, source.file_name), last[0] + 1 - first[0])


def _check_source(path: str, file: h5py.File, part: str, rows: int) -> None:
    with _open_hdf5(part) as found:
        _check_format(part, found)
        if (found.attrs["config_sha256"], len(found[schema.SEQ])) != (file.attrs["config_sha256"], rows):
            raise UsageError(f"{path} reads from {part}, which has been replaced since. Merge the shards again.")
