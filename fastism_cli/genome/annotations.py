"""What lies on a stretch of a contig by a BED, GTF or bigWig: for tracks under a picture, and to shade places in it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastism_cli.errors import RegionError, UsageError
from fastism_cli.genome.bed import BedSource, raw_lines
from fastism_cli.genome.fasta import other_name
from fastism_cli.genome.gtf import COLUMNS, Gene, read_genes
from fastism_cli.genome.input_files import found_by_child
from fastism_cli.genome.placement import overlap, parse_span
from fastism_cli.optional import require

Span = tuple[str, int, int]  # contig, first base counted from 0, end
Values = npt.NDArray[np.float32]
BIGWIG = (b"\x26\xfc\x8f\x88", b"\x88\x8f\xfc\x26")  # the first bytes, of either order of bytes
SECONDS = 60  # of processor time, for what is drawn of a bigWig


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
        with _opened(self.path) as file:
            name = next((name for name in (chrom, other_name(chrom)) if name in file.chroms()), None)
            values = np.full(end - start, np.nan, np.float32)
            if name is not None and overlap(start, end, file.chroms(name)):
                first, stop = max(start, 0), min(end, file.chroms(name))
                values[first - start : stop - start] = _values(file, self.path, (name, first, stop))
        return Curve(self.label, Signal(start, values))


AnnotationFile = FeatureFile | GeneFile | SignalFile


def _of(by_contig: dict[str, Any], chrom: str) -> list[Any]:
    """What a file has of a contig, also if it calls it ``1`` for ``chr1``."""
    return by_contig.get(chrom) or by_contig.get(other_name(chrom)) or []


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
        If a bigWig cannot be read, or the library for it is not installed.
    """
    label, path = labelled_path(text)
    kind = _kind(path)
    if kind == "bigwig":
        return SignalFile(label, _checked(path, spans))
    if kind == "gtf":
        return GeneFile(label, read_genes(path, _names(spans)))
    return FeatureFile(label, read_features(path, spans))


def labelled_path(text: str) -> tuple[str, str]:
    """``"genes=hg38.gtf.gz" -> ("genes", "hg38.gtf.gz")``; by itself, a file is called as it is, without its ending."""
    label, equals, path = text.partition("=")
    if equals and label and path and not os.path.exists(text):
        return label, path
    name = os.path.basename(text)
    return name.removesuffix(".gz").rsplit(".", 1)[0] or name, text


def _kind(path: str) -> str:
    if os.path.isdir(path):
        raise RegionError(f"{path} is a folder. Name a BED, GTF or bigWig.")
    head = next(iter(raw_lines(path, path)), b"")
    if head[:4] in BIGWIG:
        return "bigwig"
    if head.startswith(b"##gff-version"):
        raise RegionError(f"{path} is GFF3. It becomes GTF by: gffread {os.path.basename(path)} -T -o OUT.gtf")
    records = (line for line in itertools.islice(raw_lines(path, path), 10_000) if _is_record(line))
    columns = next(records, b"").split(b"\t")
    return "gtf" if len(columns) == COLUMNS and not columns[1].isdigit() and columns[3].isdigit() else "bed"


def _is_record(line: bytes) -> bool:
    return bool(line.strip()) and not line.startswith((b"#", b"track", b"browser"))


def read_features(path: str, spans: Sequence[Span]) -> dict[str, list[Feature]]:
    """Records of a BED that share a base with one of some stretches, by the file's name of the contig, ascending.

    Raises
    ------
    RegionError
        At the first line that is not BED.
    """
    asked: dict[str, list[tuple[int, int]]] = {}
    for chrom, start, end in spans:
        for name in (chrom, other_name(chrom)):
            asked.setdefault(name, []).append((start, end))
    found: dict[str, list[Feature]] = {}
    with BedSource(path) as bed:
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


# --- bigWig ----------------------------------------------------------------------------------------------------------


def _checked(path: str, spans: Sequence[Span]) -> str:
    """The path of a bigWig whose stretches a child process has read: a damaged one can crash the library."""
    require("pyBigWig", wanted_by=f"a track of {path}", extra="export")
    fault = found_by_child(lambda: _fault(path, spans), SECONDS)
    if fault:
        raise UsageError(fault if path in fault else f"{path}{fault}. Make or copy it again.")
    return path


def _fault(path: str, spans: Sequence[Span]) -> str:
    try:
        for span in spans:
            SignalFile("", path).within(*span)
    except UsageError as error:
        return error.message
    return ""


def _opened(path: str) -> Any:
    library = require("pyBigWig", wanted_by=f"a track of {path}", extra="export")
    try:
        file = library.open(path)
    except (RuntimeError, OSError) as error:
        raise UsageError(f"{path} cannot be read as a bigWig. Make or copy it again.") from error
    if not file.isBigWig():
        raise UsageError(f"{path} is a bigBed. Give it as BED: bigBedToBed {os.path.basename(path)} OUT.bed")
    return file


def _values(file: Any, path: str, span: Span) -> Values:
    try:
        return np.asarray(file.values(*span, numpy=True), np.float32)
    except RuntimeError as error:
        raise UsageError(f"{path} is damaged on {span[0]}. Make or copy it again.") from error
