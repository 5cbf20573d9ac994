"""Genes of a GTF: their exons and coding parts, all transcripts of a gene as one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from fastism_cli.errors import RegionError
from fastism_cli.genome.bed import is_header, raw_lines
from fastism_cli.options.problems import brief

COLUMNS = 9
_ATTRIBUTE = re.compile(rb'([^\s;"]+)\s+(?:"([^"]*)"|([^\s;"]+))')  # a value in quotes can hold a semicolon
Stretch = tuple[int, int]


class Gene(NamedTuple):
    """A gene on bases ``[start, end)``, counted from 0.

    Attributes
    ----------
    name : str
        ``gene_name``, else ``gene_id``.
    strand : str
        ``"+"``, ``"-"`` or ``"."``.
    exons, coding : tuple of (int, int)
        Of all its transcripts, ascending; those that touch or overlap are one.
    """

    start: int
    end: int
    name: str
    strand: str
    exons: tuple[Stretch, ...]
    coding: tuple[Stretch, ...]


@dataclass
class _Parts:
    """What the lines of one gene say."""

    name: str
    strand: str
    whole: list[Stretch] = field(default_factory=list)
    exons: list[Stretch] = field(default_factory=list)
    coding: list[Stretch] = field(default_factory=list)

    def gene(self) -> Gene:
        all_of_it = self.whole + self.exons + self.coding
        start, end = min(first for first, _ in all_of_it), max(stop for _, stop in all_of_it)
        return Gene(start, end, self.name, self.strand, merged(self.exons), merged(self.coding))


def merged(stretches: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """Stretches in order; those that touch or overlap are one.

    Examples
    --------
    >>> merged([(5, 9), (0, 3), (3, 4), (7, 12)])
    ((0, 4), (5, 12))
    """
    found: list[Stretch] = []
    for start, end in sorted(stretches):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


def read_genes(path: str, contigs: Set[str], name: str = "") -> dict[str, list[Gene]]:
    """The genes of some contigs by the file's name of the contig, ascending.

    ``name`` is that of the file in messages, if it is not its path.

    Raises
    ------
    RegionError
        At the first line that is not GTF.
    """
    wanted, file = {contig.encode() for contig in contigs}, name or path
    genes: dict[tuple[str, bytes], _Parts] = {}
    for line, raw in enumerate(raw_lines(path, file), start=1):
        if not raw.strip() or is_header(raw):
            continue
        columns = raw.rstrip(b"\r\n").split(b"\t")
        if len(columns) != COLUMNS:
            raise RegionError(f"{file} line {line}: {len(columns)} columns, but GTF has {COLUMNS}, separated by tabs.")
        if columns[0] in wanted:
            _add(genes, columns, f"{file} line {line}")
    found: dict[str, list[Gene]] = {}
    for (chrom, _), parts in genes.items():
        found.setdefault(chrom, []).append(parts.gene())
    return {chrom: sorted(of_contig) for chrom, of_contig in found.items()}


def _add(genes: dict[tuple[str, bytes], _Parts], columns: list[bytes], where: str) -> None:
    attributes = _attributes(columns[8])
    if columns[8].count(b'"') % 2:
        raise RegionError(f"{where}: a quote of column 9 is not closed.")
    if columns[8].lstrip().startswith(b'"'):
        raise RegionError(f"{where}: column 9 begins with a quote, as spreadsheets write it. Take the GTF from before.")
    if b"gene_id" not in attributes:
        raise RegionError(f'{where}: no gene_id "..." in column 9. Of a GFF3 make a GTF: gffread IN.gff3 -T -o OUT.gtf')
    stretch = _stretch(columns[3], columns[4], where)
    identifier = attributes[b"gene_id"]
    name = (attributes.get(b"gene_name") or identifier).decode(errors="replace")
    strand = columns[6].decode(errors="replace")
    parts = genes.setdefault((columns[0].decode(), identifier), _Parts(name, strand if strand in ("+", "-") else "."))
    {b"exon": parts.exons, b"CDS": parts.coding}.get(columns[2], parts.whole).append(stretch)


def _attributes(text: bytes) -> dict[bytes, bytes]:
    """The value of each attribute; of one that is given twice, such as ``tag``, the first."""
    found: dict[bytes, bytes] = {}
    for name, quoted, plain in _ATTRIBUTE.findall(text):
        found.setdefault(name, quoted or plain)
    return found


def _stretch(first: bytes, last: bytes, where: str) -> Stretch:
    """Bases from 0 without the last one, of numbers from 1 with it."""
    is_plain = all(text.isdigit() and len(text) < 19 for text in (first, last))
    if not is_plain or not 1 <= int(first) <= int(last):
        shown = b" to ".join((first, last)).decode(errors="replace")
        raise RegionError(f"{where}: {brief(shown)!r} are not the first and the last base, counted from 1.")
    return int(first) - 1, int(last)
