"""What lies on a stretch of a contig by a BED, GTF or bigWig: for tracks under a picture, and to shade places in it."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastism_cli.errors import RegionError, UsageError, brief
from fastism_cli.genome.bed import BedSource, is_header, raw_lines
from fastism_cli.genome.bigwig import BIGWIG, BigWig, Values
from fastism_cli.genome.fasta import other_name
from fastism_cli.genome.input_files import BIGBED
from fastism_cli.genome.placement import parse_span

# --- genes of a GTF --------------------------------------------------------------------------------------------------

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


# --- what lies on a stretch ------------------------------------------------------------------------------------------

Span = tuple[str, int, int]  # contig, first base counted from 0, end
GFF3 = re.compile(rb"##gff-version\s+3")  # a GTF can have 2


class Feature(NamedTuple):
    """A record of a BED on bases ``[start, end)``, counted from 0."""

    start: int
    end: int
    name: str
    strand: str


class Signal(NamedTuple):
    """Numbers of a bigWig from base ``start`` on, float32 (n,); NaN where it has none."""

    start: int
    values: Values


class Features(NamedTuple):
    """Those of a stretch, ascending."""

    label: str
    items: Sequence[Feature]


class Genes(NamedTuple):
    """Those of a stretch, ascending."""

    label: str
    items: Sequence[Gene]


class Curve(NamedTuple):
    """The numbers of a stretch."""

    label: str
    signal: Signal


Shown = Features | Genes | Curve


# --- files of each kind ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FeatureFile:
    """Records of a BED, of the contigs that were asked for."""

    label: str
    by_contig: dict[str, list[Feature]]

    def within(self, chrom: str, start: int, end: int) -> Features:
        return Features(self.label, [x for x in _of(self.by_contig, chrom) if x.start < end and x.end > start])


@dataclass(frozen=True)
class GeneFile:
    """Genes of a GTF, of the contigs that were asked for."""

    label: str
    by_contig: dict[str, list[Gene]]

    def within(self, chrom: str, start: int, end: int) -> Genes:
        return Genes(self.label, [x for x in _of(self.by_contig, chrom) if x.start < end and x.end > start])


@dataclass(frozen=True)
class SignalFile:
    """A bigWig; read where it is drawn."""

    label: str
    path: str

    def within(self, chrom: str, start: int, end: int) -> Curve:
        with BigWig(self.path) as file:
            name = next((name for name in (chrom, other_name(chrom)) if name in file.sizes), chrom)
            return Curve(self.label, Signal(start, file.values(name, start, end)))


AnnotationFile = FeatureFile | GeneFile | SignalFile


def _of(by_contig: dict[str, Any], chrom: str) -> list[Any]:
    """What a file has of a contig, ascending, also if it calls it ``1`` for ``chr1``."""
    return sorted([*by_contig.get(chrom, ()), *by_contig.get(other_name(chrom), ())])


def _names(spans: Sequence[Span]) -> set[str]:
    return {name for chrom, _, _ in spans for name in (chrom, other_name(chrom))}


def open_annotation(text: str, spans: Sequence[Span]) -> AnnotationFile:
    """Read what lies on some stretches; the content of the file says of which kind it is.

    Parameters
    ----------
    text : str
        ``[LABEL=]FILE``: a BED or narrowPeak, a GTF, or a bigWig. Default label: the name of the file.

    Raises
    ------
    RegionError
        If there is no such file, or a line of it is wrong.
    UsageError
        If a bigWig is damaged, or comes from a pipe.
    """
    label, path = labelled_path(text)
    with BedSource(path) as source:  # which copies a pipe: it can be read once
        kind = _kind(source)
        if kind == "bigwig":
            return SignalFile(label, _checked(source, spans))
        if kind == "gtf":
            return GeneFile(label, read_genes(source.path, _names(spans), source.name))
        return FeatureFile(label, _features(source, spans))


def labelled_path(text: str) -> tuple[str, str]:
    """``"genes=hg38.gtf.gz" -> ("genes", "hg38.gtf.gz")``; by itself, a file is called as it is, without its ending."""
    label, equals, path = text.partition("=")
    if equals and label and path and not os.path.exists(text):
        return label, path
    name = os.path.basename(text)
    return name.removesuffix(".gz").rsplit(".", 1)[0] or name, text


def _kind(source: BedSource) -> str:
    path, name = source.path, source.name
    if os.path.isdir(path):
        raise RegionError(f"{name} is a folder. Name a BED, GTF or bigWig.")
    head = next(iter(raw_lines(path, name)), b"")
    if head[:4] in BIGWIG:
        return "bigwig"
    if head[:4] in BIGBED:
        raise UsageError(f"{name} is a bigBed. Give it as BED: bigBedToBed {os.path.basename(name)} OUT.bed")
    if GFF3.match(head):
        raise RegionError(f"{name} is GFF3. It becomes GTF by: gffread {os.path.basename(name)} -T -o OUT.gtf")
    records = (line for line in itertools.islice(raw_lines(path, name), 10_000) if _is_record(line))
    columns = next(records, b"").split(b"\t")
    return "gtf" if len(columns) == COLUMNS and not columns[1].isdigit() and columns[3].isdigit() else "bed"


def _checked(source: BedSource, spans: Sequence[Span]) -> str:
    """The path of a bigWig, which is read where something is drawn: first here, so that a fault is told early."""
    if source.path != source.source:
        raise UsageError(f"{source.name} is a bigWig from a pipe, which cannot be read in places. Name a file.")
    for span in spans:
        SignalFile("", source.path).within(*span)
    return source.path


def _is_record(line: bytes) -> bool:
    return bool(line.strip()) and not is_header(line)


def read_features(path: str, spans: Sequence[Span]) -> dict[str, list[Feature]]:
    """Records of a BED that share a base with one of some stretches, by the file's name of the contig, ascending.

    Raises
    ------
    RegionError
        At the first line that is not BED.
    """
    with BedSource(path) as bed:
        return _features(bed, spans)


def _features(bed: BedSource, spans: Sequence[Span]) -> dict[str, list[Feature]]:
    asked: dict[str, list[tuple[int, int]]] = {}
    for chrom, start, end in spans:
        for name in (chrom, other_name(chrom)):
            asked.setdefault(name, []).append((start, end))
    found: dict[str, list[Feature]] = {}
    for region in bed.regions():
        if any(region.start < end and region.end > start for start, end in asked.get(region.chrom, ())):
            feature = Feature(region.start, region.end, region.name, region.strand)
            found.setdefault(region.chrom, []).append(feature)
    return {chrom: sorted(features) for chrom, features in found.items()}


# --- places to shade -------------------------------------------------------------------------------------------------


def places_to_shade(texts: Sequence[str], spans: Sequence[Span]) -> list[Span]:
    """Stretches that ``--highlight`` names: ``chr1:1,000-1,010``, or the records of a BED.

    Parameters
    ----------
    spans : sequence of (str, int, int)
        Where something is drawn: no other records are kept.

    Raises
    ------
    UsageError
        If a text is neither a place nor a file.
    """
    return [span for text in texts for span in _shaded(text, spans)]


def _shaded(text: str, spans: Sequence[Span]) -> list[Span]:
    if not os.path.exists(text):
        try:
            return [parse_span(text)]
        except UsageError as error:
            raise UsageError(f"--highlight {text[:60]!r}: there is no such file, and {error.message}") from error
    features = read_features(text, spans)
    return [(chrom, x.start, x.end) for chrom, of_contig in features.items() for x in of_contig]


def files_of(tracks: Sequence[str], highlights: Sequence[str]) -> list[str]:
    """The files among what ``--track`` and ``--highlight`` were given."""
    return [labelled_path(text)[1] for text in tracks] + [text for text in highlights if os.path.exists(text)]
