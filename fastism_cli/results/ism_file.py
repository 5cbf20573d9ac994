"""Read a result file."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, TypeAlias

import h5py

from fastism_cli.errors import UsageError
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.results import schema
from fastism_cli.results.hdf5_files import open_checked
from fastism_cli.results.intact import check_numbers, check_text, plain, readable
from fastism_cli.results.layout import HeadLayout, Layout, MeanOf, PairsLayout, ReplacedBlocks
from fastism_cli.results.region_columns import RegionColumns, column
from fastism_cli.results.shard_index import JoinedDataset, Parts, check_sources
from fastism_cli.scores.tracks import Array

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
