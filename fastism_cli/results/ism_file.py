"""Read a result file, or an index of shards: its rows are read from their files, or there is an error."""

from __future__ import annotations

import os
from collections import OrderedDict
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import h5py
import numpy as np

from fastism_cli.errors import UsageError
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.genome.input_files import FileState, state_of
from fastism_cli.results import schema
from fastism_cli.results.hdf5_files import RegionColumns, check_format, column, open_checked, open_hdf5
from fastism_cli.results.intact import check_numbers, check_text, damaged, plain, readable, sum_of_chunks
from fastism_cli.results.layout import HeadLayout, Layout, MeanOf, PairsLayout, ReplacedBlocks
from fastism_cli.scores.tracks import Array

# --- an index of shards ----------------------------------------------------------------------------------------------

# For each shard, every dataset of the index has a sum of the checksums of all chunks (:func:`sum_of_chunks`). Checksums
# alone tell nothing of a shard in which somebody writes with h5py, as HDF5 makes new ones. An index of version 0.1 has
# no sums: its shards are recognised by their header.

MAX_OPEN_PARTS = 2


def check_sources(path: str, file: h5py.File) -> None:
    """Refuse an index whose parts are gone, cut or replaced.

    Raises
    ------
    UsageError
        Names the missing files, or the first that has changed.
    """
    dataset = file[schema.SEQ]
    if not dataset.is_virtual:
        return
    source = Parts(path, file)
    parts = source.of(dataset)
    gone = [
        os.path.relpath(part.path, os.path.dirname(os.path.realpath(path)))
        for part in parts
        if not os.path.exists(part.path)
    ]
    if gone:
        raise UsageError(f"{path} reads from {len(parts)} files, of which these are gone: {', '.join(gone[:5])}")
    for part in parts:
        source.check(part)


class Part(NamedTuple):
    """Rows ``[start, stop)`` of an index are those of the file at ``path``.

    ``sum`` is :func:`sum_of_chunks` of its dataset when the index was made; None if the index does not say.
    """

    start: int
    stop: int
    path: str
    sum: int | None = None


class Parts:
    """The files that an index reads from. A few are open at a time, however many they are.

    HDF5 itself gives NaN for a file that it cannot open.
    """

    def __init__(self, path: str, file: h5py.File) -> None:
        self.path = path
        self._folder = os.path.dirname(os.path.realpath(path))  # also where the process is in another one later
        self._config = file.attrs.get("config_sha256")
        self._open: OrderedDict[str, tuple[FileState, h5py.File]] = OrderedDict()
        self._as_merged: set[tuple[FileState, str, str]] = set()  # files and their datasets

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1][1].close()

    def of(self, dataset: h5py.Dataset) -> list[Part]:
        """The parts of a dataset, in the order of its rows."""
        with readable(self.path, f"the list of files of {dataset.name}"):
            parts = []
            for source in dataset.virtual_sources():
                first, last = source.vspace.get_select_bounds()
                if source.dset_name.strip("/") != dataset.name.strip("/"):
                    raise damaged(self.path, f"{dataset.name} reads from {source.dset_name}")
                parts.append(Part(int(first[0]), int(last[0]) + 1, os.path.join(self._folder, source.file_name)))
        parts.sort()
        if [0, *(part.stop for part in parts)] != [*(part.start for part in parts), len(dataset)]:
            raise damaged(self.path, f"the files of {dataset.name} do not hold every row once")
        sums = dataset.attrs.get(schema.SHARD_SUMS)
        if sums is None:
            return parts
        if np.shape(sums) != (len(parts),):
            raise damaged(self.path, f"the checksums of {dataset.name} are not as written")
        return [part._replace(sum=int(known)) for part, known in zip(parts, sums, strict=True)]

    def check(self, part: Part) -> None:
        """Refuse a file that was cut or replaced, without a look at all of it.

        Raises
        ------
        UsageError
        """
        with open_hdf5(part.path) as found, readable(part.path, "its header"):
            check_format(part.path, found)
            is_same = found.attrs.get("config_sha256") == self._config
            is_same = is_same and found.attrs.get("row_start", part.start) == part.start
            if not is_same or len(found[schema.SEQ]) != part.stop - part.start:
                raise self._replaced(part)
            if found[schema.SEQ].is_virtual:
                raise damaged(self.path, f"it reads from {part.path}, which is an index itself")

    def dataset(self, part: Part, like: h5py.Dataset) -> h5py.Dataset:
        """The dataset of a part that has the name of ``like``.

        Raises
        ------
        UsageError
            If it is not as it was when the index was made.
        """
        now, file = self._opened(part)
        found = file[like.name]
        if (found.shape, found.dtype) != ((part.stop - part.start, *like.shape[1:]), like.dtype):
            raise self._replaced(part)
        if part.sum is not None and (now, part.path, like.name) not in self._as_merged:
            if sum_of_chunks(found) != part.sum:
                raise UsageError(
                    f"{self.path} reads from {part.path}, whose {like.name} has been written anew since. "
                    "Merge the shards again."
                )
            self._as_merged.add((now, part.path, like.name))
        return found

    def _opened(self, part: Part) -> tuple[FileState, h5py.File]:
        """An open file; one that was written since it was opened is looked at again."""
        now = _state_of(part.path)
        known = self._open.get(part.path)
        if known is not None and known[0] == now:
            return known
        if known is not None:
            self._open.pop(part.path)[1].close()
        self.check(part)
        file = open_checked(part.path)
        self._open[part.path] = opened = (now or state_of(part.path), file)
        if len(self._open) > MAX_OPEN_PARTS:
            self._open.popitem(last=False)[1][1].close()
        return opened

    def _replaced(self, part: Part) -> UsageError:
        return UsageError(f"{self.path} reads from {part.path}, which has been replaced since. Merge the shards again.")


def _state_of(path: str) -> FileState | None:
    """None for a file that cannot be looked at, which is told when it is opened."""
    try:
        return state_of(path)
    except OSError:
        return None


class JoinedDataset:
    """A dataset of an index, for reading: rows come from the shards, or there is an error. Slice it."""

    is_virtual = True
    chunks = compression = None

    def __init__(self, dataset: h5py.Dataset, parts: Parts) -> None:
        self._dataset, self._source = dataset, parts
        self.name: str = dataset.name
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype
        self.ndim: int = dataset.ndim
        self.fillvalue = dataset.fillvalue

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)

    def __getitem__(self, key: Any) -> Array:
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            first, rest = slice(None), [Ellipsis, *rest]
        rows = np.arange(len(self))[first]
        if not rows.size:
            return np.empty((0, *self.shape[1:]), self.dtype)[(rows, *rest)]
        start = int(rows.min())
        return np.asarray(self._read(start, int(rows.max()) + 1, tuple(rest))[rows - start])

    @cached_property
    def _parts(self) -> list[Part]:
        return self._source.of(self._dataset)

    def _read(self, start: int, stop: int, rest: tuple[Any, ...]) -> Array:
        values = None
        for part in self._parts:
            first, last = max(part.start, start), min(part.stop, stop)
            if first >= last:
                continue
            with readable(part.path, f"{self.name} of it"):
                piece = self._source.dataset(part, self._dataset)[(slice(first - part.start, last - part.start), *rest)]
            if values is None:
                values = np.empty((stop - start, *piece.shape[1:]), self.dtype)
            values[first - start : last - start] = piece
        assert values is not None  # the parts hold every row
        return values


# --- the reader ------------------------------------------------------------------------------------------------------

Dataset: TypeAlias = "h5py.Dataset | JoinedDataset"


class IsmFile:
    """An open result file. Made by :func:`read_result`; leaving its context closes it.

    Arrays that grow with the number of regions are ``h5py.Dataset``: slice them. Those of an index of shards are
    :class:`JoinedDataset`.
    """

    def __init__(self, path: str, file: h5py.File) -> None:
        self.path = path
        self._file = file
        self._parts = Parts(path, file)
        self._as_written: set[str] = set()

    def __enter__(self) -> IsmFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._parts.close()
        self._file.close()

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """All attributes, as Python values."""
        found = {name: plain(value) for name, value in self._file.attrs.items()}
        found.pop(schema.CHECKSUMS, None)
        return found

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
        kinds = (str(delta.dtype), compression, self.blocks, self.has_spread, self.pairs_layout)
        return Layout(n, length, self.heads, self.attrs["alphabet"], *kinds)

    @property
    def has_spread(self) -> bool:
        """Whether there is a standard deviation of each delta, over several models."""
        return schema.DELTA_SD in self._file

    @property
    def blocks(self) -> ReplacedBlocks | None:
        """The blocks that were replaced; None in a file of substitutions."""
        text = self.attrs.get("blocks")
        return ReplacedBlocks.of_json(text) if text else None

    @property
    def averaged(self) -> MeanOf | None:
        """What every score is the mean of; None in a file that holds no means."""
        text = self.attrs.get("averaged")
        return MeanOf.of_json(text) if text else None

    @property
    def pairs_layout(self) -> PairsLayout | None:
        """Which pairs of positions have interactions; None in a file without."""
        text = self.attrs.get("pairs")
        return PairsLayout.of_json(text) if text else None

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
        with readable(self.path, "the contigs of its genome"):
            genome = self._file[schema.GENOME]
            check_numbers(self.path, genome[schema.CHROM_SIZES])
            names, sizes = self._text(genome[schema.CHROM_NAMES]), genome[schema.CHROM_SIZES][:].tolist()
        return dict(zip(names, sizes, strict=True))

    @property
    def sources(self) -> list[str]:
        """The shards that an index reads from, relative to its folder; none of a file that holds its own scores."""
        dataset = self._file[schema.SEQ]
        return [source.file_name for source in dataset.virtual_sources()] if dataset.is_virtual else []

    @property
    def seq(self) -> Dataset:
        """uint8 (N, L): codes of the alphabet."""
        return self.dataset(schema.SEQ)

    def reference(self, head: str | None = None) -> Dataset:
        """float32 (N, T): predictions on the reference; ``head`` may be left out if there is only one."""
        return self.dataset(f"{schema.REF}/{self._key(head)}")

    def delta(self, head: str | None = None) -> Dataset:
        """float32 or float16 (N, T, L, 4): substituted - reference; ``head`` may be left out if there is only one."""
        return self.dataset(f"{schema.DELTA}/{self._key(head)}")

    def pairs(self, head: str | None = None) -> Dataset:
        """float32 or float16 (N, T, P, D, 4, 4): interactions of pairs of letters, in a result of ``fastism pairs``.

        Raises
        ------
        UsageError
            If the file has none.
        """
        if self.pairs_layout is None:
            raise UsageError(f"{self.path} holds no pairs: it is no result of fastism pairs.")
        return self.dataset(f"{schema.PAIRS}/{self._key(head)}")

    def spread(self, head: str | None = None) -> Dataset:
        """Like :meth:`delta`: its standard deviation over the models of a mean.

        Raises
        ------
        UsageError
            If the file has none.
        """
        if not self.has_spread:
            raise UsageError(f"{self.path} has no deviation over models. Run again with --spread.")
        return self.dataset(f"{schema.DELTA_SD}/{self._key(head)}")

    def dataset(self, name: str) -> Dataset:
        """A dataset that has a row for each region, and is as it was written."""
        found = self._file[name]
        if found.is_virtual:
            return JoinedDataset(found, self._parts)
        if name not in self._as_written:
            with readable(self.path, found.name):
                check_numbers(self.path, found)
            self._as_written.add(name)
        return found

    def _head(self, key: str) -> HeadLayout:
        with readable(self.path, f"the targets of {key}"):
            group = self._file[f"{schema.OUTPUTS}/{key}"]
            names = tuple(self._text(group[schema.TARGET_NAMES]))
        return HeadLayout(
            group.attrs["name"], self._file[f"{schema.REF}/{key}"].shape[1:], names, group.attrs["reduce"]
        )

    def _text(self, dataset: h5py.Dataset) -> Array:
        check_text(self.path, dataset)
        return column(dataset)

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
        If it is no result file, one of another version, or an unfinished one that is not allowed; if it is an index of
        shards of which some are gone or have changed.
    """
    name = os.fspath(path)
    file = open_checked(name, allow_incomplete=allow_incomplete)
    try:
        check_sources(name, file)
    except BaseException:
        file.close()
        raise
    return IsmFile(name, file)
