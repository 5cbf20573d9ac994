"""Read BED, BED6 and narrowPeak, plain, gzipped or from stdin. Streamed; faults are reported with their line."""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from typing import IO, NamedTuple

from pybedtools import Interval, IntervalIterator

from fastism_cli.errors import Listing, RegionError, log_of
from fastism_cli.genome.input_files import (
    GZIP_MAGIC,
    HEAD,
    NO_BGZF_END,
    STDIN,
    file_sha256,
    lacks_bgzf_end,
    other_kind,
    spooled,
    stdin_bytes,
)

logger = log_of(__name__)

_MAX_COORDINATE = 2**32 - 1  # of the C++ reader, which has 32 bits
_MAX_DIGITS = 18  # of what Python is asked to read as a number
_NARROWPEAK_COLUMNS, _BED12_COLUMNS = 10, 12
_NO_SUMMIT = -1
_VCF, _BED_OF_VCF = "##fileformat=VCF", r"bcftools query -f '%CHROM\t%POS0\t%END\n'"
_GFF_STRAND, _BED_OF_GFF = "+-.?", """awk -v OFS='\\t' -F '\\t' '!/^#/ { print $1, $4 - 1, $5, $3, ".", $7 }'"""
_MACS = "chr\tstart\tend\tlength\t"
NO_TEXT = "bytes that are no text (UTF-8). Is this a BED file?"
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")  # no table can hold them; a tab is a column's end
_UCSC_HEADER = re.compile(r"(track|browser)([ \r\n]|$)")
_BLOCKS = re.compile(r"\d+(,\d+)*,?")  # column 11 or 12 of BED12
_NOT_PLAIN = (
    (re.compile(r"""["'].*["']"""), "Write it without quotes: quote=FALSE in R, quoting=3 in pandas"),
    (
        re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", re.ASCII),
        "Write it as an integer: options(scipen=999) and as.integer() in R, .astype(int) in pandas",
    ),
    (re.compile(r"\d{1,3}(,\d{3})+(\.0*)?"), "Write it without commas"),
    (re.compile(r"\d+L"), "Write it without the L of R's integers"),
    (re.compile(r"\s*\d+\s*", re.ASCII), "Write it without blanks"),
)

_Report = Callable[[int, str], None]


class Region(NamedTuple):
    """One record of a BED file: bases ``[start, end)`` of ``chrom``, counted from 0.

    Attributes
    ----------
    name : str
        ``""`` if the file has none, or a dot.
    strand : str
        ``"+"``, ``"-"`` or ``"."``.
    summit : int or None
        Position on the contig, not relative to ``start``; only narrowPeak has one, by its column 10. More columns may
        follow, as IDR and ``bedtools intersect -c`` write them.
    line : int
        Line of the file, counted from 1, headers and blank lines included.
    """

    chrom: str
    start: int
    end: int
    name: str
    strand: str
    summit: int | None
    line: int


@dataclass(frozen=True)
class BedSummary:
    """Facts about a valid BED file, from one pass over it.

    Attributes
    ----------
    count : int
        Number of records.
    sha256 : str
        Of the file's bytes, as ``sha256sum`` prints it (of the compressed bytes if it is compressed).
    contigs : dict of str to int
        Each contig in order of appearance, with the first line on which it occurs.
    summits : int
        Number of records with a summit.
    """

    count: int
    sha256: str
    contigs: dict[str, int]
    summits: int = 0


class BedSource:
    """A BED file that can be read several times, also if it comes from a pipe.

    Stdin and pipes can be read only once, so entering the context copies them to a temporary file, which leaving
    the context removes.

    Parameters
    ----------
    source : str
        A path, gzipped or not, or ``"-"`` for stdin.

    Attributes
    ----------
    name : str
        Its name in messages: the path as given, or ``stdin``.
    path : str
        The regular file that is read.

    Examples
    --------
    >>> with BedSource("peaks.bed") as bed:
    ...     bed.summary.count
    ...     for region in bed.regions(): ...
    """

    def __init__(self, source: str) -> None:
        self.source = os.fspath(source)
        self.name = "stdin" if self.source == STDIN else self.source or "''"
        self.path = self.source
        self._exit = ExitStack()
        self._contigs: Mapping[str, str] = {}

    def __enter__(self) -> BedSource:
        if self.source == STDIN:
            self._spool(stdin_bytes())
        elif not _is_regular_file(self.path):
            with _open(self.path, self.name) as pipe:
                self._spool(pipe)
        return self

    def __exit__(self, *exception: object) -> None:
        self._exit.close()

    def regions(self) -> Iterator[Region]:
        """Every record, in the order of the file. Each call reads the file again.

        Raises
        ------
        RegionError
            At the first line that is not BED.
        """
        regions = _regions(self.path, self.name, self._refuse)
        return map(self._renamed, regions) if self._contigs else regions

    def rename_contigs(self, names: Mapping[str, str]) -> None:
        """From now on, give contigs other names, such as those that the FASTA has for them."""
        self._contigs = names

    @cached_property
    def summary(self) -> BedSummary:
        """Facts about the file, from one pass over all lines.

        Raises
        ------
        RegionError
            If any line is not BED; lists the first 20 of them.
        """
        return _summarise(self.path, self.name)

    @property
    def sha256(self) -> str:
        """Of the file's bytes."""
        return self.summary.sha256

    def _renamed(self, region: Region) -> Region:
        return region._replace(chrom=self._contigs.get(region.chrom, region.chrom))

    def _refuse(self, line: int, problem: str) -> None:
        raise RegionError(f"{self.name} line {line}: {problem}")

    def _spool(self, stream: IO[bytes]) -> None:
        try:
            self.path = spooled(stream, self.name, suffix=".bed", until=self._exit)
        except BaseException:
            self._exit.close()
            raise


def _summarise(path: str, name: str) -> BedSummary:
    problems, unused, contigs, count, summits = Listing(), Listing(), dict[str, int](), 0, 0
    reports = (_into(problems), _into(unused))
    for region in _regions(path, name, *reports):
        count += 1
        summits += region.summit is not None
        contigs.setdefault(region.chrom, region.line)
    if problems.count == 1:
        raise RegionError(f"{name} {problems.first}")
    if problems.count:
        raise RegionError(problems.under(f"{problems.count} lines of {name} are not BED:"))
    if unused.count:
        logger.warning(
            "%s: no summit is used of %d records with more than 10 columns, as columns 1-10 are not narrowPeak (%s)",
            *(name, unused.count, unused.first),
        )
    return BedSummary(count=count, sha256=file_sha256(path), contigs=contigs, summits=summits)


def _into(listing: Listing) -> _Report:
    """A report that adds to ``listing``."""
    return lambda line, problem: listing.add(f"line {line}: {problem}")


def _ignore(line: int, problem: str) -> None:
    """A report that nobody reads."""


def _regions(path: str, name: str, report: _Report, unused: _Report = _ignore) -> Iterator[Region]:
    """Records of ``path``.

    ``report(line, problem)`` is called for each line that is not one, ``unused(line, why)`` for each with more than
    ten columns that are neither narrowPeak nor BED12.
    """
    with closing(_checked_rows(path, name, report, unused)) as rows:
        # By itself, pybedtools names neither file nor line of a fault, drops contigs whose name begins with "track" and
        # takes some BED12 for SAM. So it gets rows of eight checked columns; the last two, summit and line, are ours.
        for interval in IntervalIterator(rows):
            yield _to_region(interval)


def _to_region(interval: Interval) -> Region:
    name, _score, strand, summit, line = interval.fields[3:]
    position = int(summit)
    return Region(
        interval.chrom,
        interval.start,
        interval.end,
        name,
        strand,
        None if position == _NO_SUMMIT else position,
        int(line),
    )


def _checked_rows(path: str, name: str, report: _Report, unused: _Report) -> Generator[list[str], None, None]:
    """chrom, start, end, name, score, strand, summit position, line: all as text, for each record."""
    for line, raw in enumerate(raw_lines(path, name), start=1):
        if line == 1 and (kind := other_kind(raw[:HEAD])):
            raise RegionError(f"{name} {kind}")
        try:
            text = _text(raw)
            columns = text.split("\t")
            if kind := _other_format(text, columns):
                raise RegionError(f"{name} is {kind}")
            if text and not is_header(text):
                record = _columns(text, columns)
                if why := _why_no_narrowpeak(columns):
                    unused(line, why)
                yield [*record, str(line)]
        except _NotBed as problem:
            report(line, str(problem))


def _other_format(text: str, columns: list[str]) -> str:
    """The format of a line that is not of a BED, and what to do; "" if it may be one."""
    if text.startswith(_VCF):
        return f"a VCF. fastism variants scores it; a BED of it: {_BED_OF_VCF}"
    if text.startswith(_MACS):
        return "a table of MACS, whose positions count from 1. Take the .narrowPeak or .broadPeak of the same run."
    if text.startswith(">"):
        return "a FASTA. Give it by --fasta, and regions in BED by --bed."
    if text.startswith("##gff-version") or (len(columns) == 9 and _is_gff(columns)):
        return f"a GFF or GTF, whose positions are columns 4 and 5 and count from 1. A BED of it: {_BED_OF_GFF}"
    return ""


def _is_gff(columns: list[str]) -> bool:
    return not _is_integer(columns[1]) and all(map(_is_integer, columns[3:5])) and columns[6] in _GFF_STRAND


class _NotBed(Exception):
    """Why one line is not a BED record."""


def _text(raw: bytes) -> str:
    """A line without its end."""
    try:
        text = raw.decode("utf-8").rstrip()
    except UnicodeDecodeError as error:
        raise _NotBed(NO_TEXT) from error
    if control := _CONTROL.search(text):
        raise _NotBed(_why_not_text(control[0]))
    return text


def _why_not_text(control: str) -> str:
    if control == "\0":  # UTF-16 and many binary files
        return NO_TEXT
    if control == "\r":
        return "the lines end in carriage returns alone (CR), as on old Macs. Mend them: tr '\\r' '\\n' < OLD > NEW"
    return f"holds the control character {control!r}. Remove it."


def is_header(line: str | bytes) -> bool:
    """Whether a line is a comment, or one of UCSC's, which a blank follows: a tab would follow the name of a contig."""
    text = line if isinstance(line, str) else line.decode("latin-1")
    return text[0] == "#" or (text[0] in "tb" and bool(_UCSC_HEADER.match(text)))


def _columns(text: str, columns: list[str]) -> list[str]:
    """The seven columns that are used, normalised."""
    if len(columns) < 3 or not columns[0]:
        raise _NotBed(_why_not_three(text, columns))
    chrom, start, end = columns[:3]
    _check_contig(chrom)
    _check_interval(start, end)
    name = columns[3] if len(columns) > 3 and columns[3] != "." else ""
    return [chrom, start.lstrip("0") or "0", end.lstrip("0"), name, ".", _strand(columns), _summit(columns)]


def _why_not_three(text: str, columns: list[str]) -> str:
    if len(columns) >= 3:
        return "the first column, the contig, is empty"
    if len(text.split()) >= 3:
        return "columns are separated by spaces, but BED needs tabs: tr -s ' ' '\\t'"
    noun = "column" if len(columns) == 1 else "columns"
    return f"{len(columns)} {noun}, but BED needs at least contig, start and end. Received: {_brief(text)}"


def _check_contig(chrom: str) -> None:
    if len(chrom.split()) != 1:
        raise _NotBed(f"contig {_brief(chrom)} holds blanks, but BED needs tabs between columns")
    if len(chrom) > 1 and chrom[0] == chrom[-1] and chrom[0] in "\"'":
        raise _NotBed(f"contig {_brief(chrom)} is in quotes. {_NOT_PLAIN[0][1]}")


def _check_interval(start: str, end: str) -> None:
    if not (_is_integer(start) and _is_integer(end)):
        raise _NotBed(_why_no_integers(start, end))
    first, stop = _to_int(start), _to_int(end)
    if first > _MAX_COORDINATE:
        raise _NotBed(f"start {_shortened(start)} is longer than any contig can be ({_MAX_COORDINATE})")
    if stop > _MAX_COORDINATE:
        raise _NotBed(f"end {_shortened(end)} is longer than any contig can be ({_MAX_COORDINATE})")
    if first > stop:
        raise _NotBed(f"start {first} is after end {stop}")
    if first == stop:
        raise _NotBed(f"start and end are both {first}: the region has no bases")


def _is_integer(value: str) -> bool:
    return value.isascii() and value.isdigit()


def _to_int(value: str) -> int:
    """A number of any length; one of more than 18 digits is only known to be large."""
    digits = value.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MAX_DIGITS else 10**_MAX_DIGITS


def _why_no_integers(start: str, end: str) -> str:
    label, value = ("end", end) if _is_integer(start) else ("start", start)
    if value[:1] == "-" and _is_integer(value[1:]):
        return f"{label} {_shortened(value)} is negative"
    names_columns = not any(character.isdigit() for character in start + end)
    hint = ". A line of column names must begin with '#'" if names_columns else _cure(value)
    return f"{label} {_brief(value)} is not a whole number{hint}"


def _cure(value: str) -> str:
    """How R, pandas and spreadsheets are told to write a whole number."""
    return next((f". {cure}" for pattern, cure in _NOT_PLAIN if pattern.fullmatch(value)), "")


def _strand(columns: list[str]) -> str:
    strand = columns[5] if len(columns) > 5 else "."
    if strand not in ("+", "-", ".", ""):
        raise _NotBed(f"strand {_brief(strand)} is not '+', '-' or '.'. If column 6 is no strand: cut -f1-5")
    return strand or "."


def _summit(columns: list[str]) -> str:
    """Position of the summit on the contig, or -1."""
    problem = _why_no_narrowpeak(columns)
    if problem and len(columns) == _NARROWPEAK_COLUMNS:
        cure = "" if _is_integer(columns[9]) else _cure(columns[9])
        raise _NotBed(f"{problem}{cure}. If this is not narrowPeak: cut -f1-6")
    if problem or len(columns) < _NARROWPEAK_COLUMNS or _is_bed12(columns) or columns[9] == str(_NO_SUMMIT):
        return str(_NO_SUMMIT)
    return str(_to_int(columns[1]) + _to_int(columns[9]))


def _why_no_narrowpeak(columns: list[str]) -> str:
    """Why the first ten columns are not narrowPeak; "" if they are, if there are less, and for BED12."""
    if len(columns) < _NARROWPEAK_COLUMNS or _is_bed12(columns):
        return ""
    other = [f"column {i + 1}, {_brief(columns[i])}, is no number" for i in (6, 7, 8) if not _is_number(columns[i])]
    if not other and columns[9] != str(_NO_SUMMIT):
        other = [_why_no_offset(columns)]
    return other[0] if other else ""


def _why_no_offset(columns: list[str]) -> str:
    length = _to_int(columns[2]) - _to_int(columns[1])
    if _is_integer(columns[9]) and _to_int(columns[9]) < length:
        return ""
    return f"summit {_brief(columns[9])} (column 10 of narrowPeak) is neither -1 nor an offset below {length}"


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return value in (".", "NA")
    return True


def _is_bed12(columns: list[str]) -> bool:
    """Whether columns 7 to 12 are those of BED12: the thick part, the colour, and lists of blocks."""
    if len(columns) < _BED12_COLUMNS:
        return False
    sizes, starts = columns[10:12]
    has_blocks = all(map(_BLOCKS.fullmatch, (sizes, starts))) and ("," in sizes + starts or columns[9] == "1")
    return has_blocks and all(map(_is_integer, columns[6:8]))


def _shortened(value: str) -> str:
    return value if len(value) <= 40 else value[:37] + "..."


def _brief(value: str) -> str:
    return repr(_shortened(value))


def raw_lines(path: str, name: str) -> Iterator[bytes]:
    """Lines of a plain or gzipped file, recognised by content: names such as ``peaks.bed.gz.tmp`` are common.

    The first is without the byte order mark that Windows may put before it.
    """
    with _open(path, name) as file:
        is_gzip = file.peek(2)[:2] == GZIP_MAGIC
        try:
            if is_gzip and file.seekable() and lacks_bgzf_end(path):
                raise RegionError(f"{name} {NO_BGZF_END}")
            lines = iter(gzip.open(file) if is_gzip else file)
            for first in lines:
                yield first.removeprefix(BOM_UTF8)
                break
            yield from lines
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise RegionError(f"{name} is a damaged gzip file ({error}). Make or copy it again.") from error
        except OSError as error:
            raise RegionError(f"{name} cannot be read: {error.strerror}") from error


def _open(path: str, name: str) -> io.BufferedReader:
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise RegionError(f"{name} does not exist") from error
    except OSError as error:
        raise RegionError(f"{name} cannot be read: {error.strerror}") from error


def _is_regular_file(path: str) -> bool:
    """Whether ``path`` can be read twice. True for a missing file and a folder: reading them raises the right error."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)
