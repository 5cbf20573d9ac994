"""Read the variants of a VCF, plain, compressed or BCF, with pysam, and write what a scored VCF adds.

Every column is kept as text for the scored VCF."""

from __future__ import annotations

import gzip
import os
import re
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any, NamedTuple, cast

from fastism_cli.errors import SequenceError, UsageError
from fastism_cli.genome.fasta import GZIP_MAGIC, has_bgzf_header
from fastism_cli.genome.input_files import STDIN, spooled
from fastism_cli.version import __version__

INFO_COLUMN = 7


class Variant(NamedTuple):
    """One record.

    Attributes
    ----------
    number : int
        From 0, in the order of the file.
    position : int
        First base of ``ref`` on its contig, from 0.
    alts : tuple of str
        Empty for ``.``.
    columns : tuple of str
        The whole line.
    """

    number: int
    chrom: str
    position: int
    name: str
    ref: str
    alts: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def place(self) -> str:
        """``chr1:1000``, from 1 as in the file."""
        return f"{self.chrom}:{self.position + 1}"


@dataclass(frozen=True)
class VariantSummary:
    """Facts about a VCF, from one pass: how many records, and the first record on each contig."""

    count: int
    contigs: dict[str, int]
    is_sorted: bool


class VariantSource:
    """A VCF that can be read several times. Stdin is copied to a temporary file, which leaving the context removes."""

    def __init__(self, pysam: Any, path: str) -> None:
        self.name = "stdin" if path == STDIN else path
        self.path = path
        self._pysam = pysam
        self._exit = ExitStack()

    def __enter__(self) -> VariantSource:
        self._pysam.set_verbosity(0)  # messages of htslib about headers do not help the user
        with ExitStack() as until:
            if self.path == STDIN:
                self.path = spooled(sys.stdin.buffer, self.name, suffix=".vcf", until=until)
            elif not os.path.isfile(self.path):
                raise UsageError(f"{self.path} does not exist or is not a file")
            if self._is_plain_gzip():
                self._unpack(until)
            self._exit = until.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._exit.close()

    @cached_property
    def header(self) -> list[str]:
        """Lines of the header, the last of which names the columns."""
        with self._open() as file:
            return str(file.header).splitlines()

    @cached_property
    def summary(self) -> VariantSummary:
        """Facts about the file, from one pass over all records."""
        count, contigs, is_sorted, last = 0, dict[str, int](), True, ("", -1)
        for variant in self.variants():
            is_new = variant.chrom not in contigs
            is_sorted &= is_new or (variant.chrom == last[0] and variant.position >= last[1])
            contigs.setdefault(variant.chrom, variant.number)
            last = (variant.chrom, variant.position)
            count += 1
        return VariantSummary(count, contigs, is_sorted)

    def variants(self) -> Iterator[Variant]:
        """Every record, in the order of the file.

        Raises
        ------
        SequenceError
            If a record cannot be read.
        """
        number = 0
        with self._open() as file:
            records = iter(file)
            while (record := self._next(records, number)) is not None:
                columns = tuple(str(record).rstrip("\n").split("\t"))
                alts = () if columns[4] == "." else tuple(columns[4].split(","))
                yield Variant(number, columns[0], int(columns[1]) - 1, columns[2], columns[3], alts, columns)
                number += 1

    def _next(self, records: Iterator[Any], number: int) -> Any:
        try:
            return next(records, None)
        except (OSError, ValueError) as error:
            raise SequenceError(f"{self.name}: record {number + 1} is not VCF ({error})") from error

    def _is_plain_gzip(self) -> bool:
        with open(self.path, "rb") as file:
            head = file.read(1024)
        return head.startswith(GZIP_MAGIC) and not has_bgzf_header(head)

    def _unpack(self, until: ExitStack) -> None:
        """Unpack plain gzip, which htslib can read only once."""
        try:
            with gzip.open(self.path) as stream:
                self.path = spooled(cast(IO[bytes], stream), self.name, suffix=".vcf", until=until)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UsageError(f"{self.name} is a damaged or cut gzip file: {error}") from error

    def _open(self) -> Any:
        try:
            return self._pysam.VariantFile(self.path)
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.name} is not a VCF: {error}") from error


MAX_TBI = 2**29 - 1  # length of a contig that a .tbi index can hold; a .csi index has no limit


def info_keys(prefix: str, labels: Sequence[str]) -> list[str]:
    """An INFO key for each target: the prefix, followed by its label (as a valid key) if there are several.

    Examples
    --------
    >>> info_keys("DELTA", ["out"]), info_keys("DELTA", ["out/K562 (1)", "out/HepG2"])
    (["DELTA"], ["DELTA_out_K562__1_", "DELTA_out_HepG2"])
    """
    if len(labels) == 1:
        return [prefix]
    keys = [f"{prefix}_{re.sub(r'[^0-9A-Za-z_.]', '_', label)}" for label in labels]
    return [f"{key}_{i}" if keys.count(key) > 1 else key for i, key in enumerate(keys)]


def info_line(key: str, number: str, kind: str, description: str) -> str:
    """The header line of an INFO field."""
    quoted = re.sub(r"\s", " ", description).replace("\\", "\\\\").replace('"', '\\"')
    return f'##INFO=<ID={key},Number={number},Type={kind},Description="{quoted}">'


def header(contigs: Mapping[str, int], info_lines: Sequence[str], *, reference: str = "") -> str:
    """Everything before the first record."""
    lines = [
        "##fileformat=VCFv4.3",
        f"##source=fastism {__version__}",
        *([f"##reference={reference}"] if reference else []),
        '##FILTER=<ID=PASS,Description="All filters passed">',
        *(f"##contig=<ID={name},length={size}>" for name, size in contigs.items()),
        *info_lines,
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
    ]
    return "\n".join(lines) + "\n"


def index(pysam: Any, path: str, contigs: Mapping[str, int]) -> str:
    """Index a sorted, bgzipped VCF: ``PATH.tbi``, or ``PATH.csi`` if a contig is too long for that."""
    is_long = max(contigs.values(), default=0) > MAX_TBI
    name = path + (".csi" if is_long else ".tbi")
    pysam.tabix_index(path, preset="vcf", force=True, csi=is_long, index=name)
    return name
