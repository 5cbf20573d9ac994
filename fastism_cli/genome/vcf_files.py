"""Read the variants of a VCF, plain, compressed or BCF, as text; the header and the index of one that is written.

The lines are read by this module, so that every column can be written again as its text was. Bytes that are not UTF-8,
such as Latin-1 in descriptions, are kept as surrogates (``ERRORS``).
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import re
import stat
import tempfile
import zlib
from codecs import BOM_UTF8
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any, NamedTuple, cast

from fastism_cli.errors import Listing, SequenceError, UsageError
from fastism_cli.genome.input_files import (
    GZIP_MAGIC,
    HEAD,
    NO_BGZF_END,
    STDIN,
    lacks_bgzf_end,
    no_space,
    other_kind,
    spooled,
    stdin_bytes,
)
from fastism_cli.version import __version__

FIXED = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
INFO_COLUMN = 7
ERRORS = "surrogateescape"  # of text that is read and written as UTF-8
BCF_MAGIC = b"BCF"
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)


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
        The whole line: eight columns, and what follows INFO as one text if there is any.
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
    """Facts about a VCF, from one pass.

    Attributes
    ----------
    count : int
        Records.
    contigs : dict of str to int
        The number of the first record on each contig.
    largest : int
        The largest POS.
    """

    count: int
    contigs: dict[str, int]
    largest: int
    is_sorted: bool


class VariantSource:
    """A VCF that can be read several times. A stream is copied to a temporary file, which leaving the context removes.

    Parameters
    ----------
    path : str
        "-" is stdin.

    Raises
    ------
    UsageError
        On entering, if there is no such file, or it cannot be read.
    """

    def __init__(self, pysam: Any, path: str) -> None:
        self.name = "stdin" if path == STDIN else path
        self.path = path
        self._pysam = pysam
        self._exit = ExitStack()
        self._is_gzip = self._is_bcf = False

    def __enter__(self) -> VariantSource:
        with ExitStack() as until:
            try:
                self._settle(until)
            except OSError as error:
                raise UsageError(f"{self.name or '--vcf'} cannot be read: {error.strerror or error}") from error
            self._exit = until.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._exit.close()

    @cached_property
    def header(self) -> list[str]:
        """Lines of the header, the last of which names the columns.

        Raises
        ------
        SequenceError
            If it is no header of a VCF: names the line and the fault.
        """
        with closing(self._lines()) as lines:
            return _checked_header(lines, self.name)

    @cached_property
    def contig_lengths(self) -> dict[str, int]:
        """Contigs whose length a ``##contig`` line gives, in bases."""
        lines = [line for line in self.header if line.startswith("##contig=<")]
        lengths = {header_field(line, "ID"): header_field(line, "length") for line in lines}
        return {name: int(text) for name, text in lengths.items() if re.fullmatch("[0-9]{1,15}", text)}

    @cached_property
    def summary(self) -> VariantSummary:
        """Facts about the file, from one pass over all records.

        Raises
        ------
        SequenceError
            Lists the records that cannot be read, each with its line and its fault.
        """
        count, largest, contigs, is_sorted, last = 0, 0, dict[str, int](), True, ("", -1)
        faults = Listing()
        for variant in self._records():
            count += 1
            if isinstance(variant, str):
                faults.add(variant)
                continue
            is_new = variant.chrom not in contigs
            is_sorted &= is_new or (variant.chrom == last[0] and variant.position >= last[1])
            contigs.setdefault(variant.chrom, variant.number)
            largest = max(largest, variant.position + 1)
            last = (variant.chrom, variant.position)
        if faults.count == 1:
            raise SequenceError(f"{self.name} {faults.first}")
        if faults.count:
            raise SequenceError(faults.under(f"{faults.count:,} of {count:,} records of {self.name} are wrong:"))
        return VariantSummary(count, contigs, largest, is_sorted)

    def variants(self) -> Iterator[Variant]:
        """Every record, in the order of the file.

        Raises
        ------
        SequenceError
            If a record cannot be read.
        """
        for variant in self._records():
            if isinstance(variant, str):
                raise SequenceError(f"{self.name} {variant}")
            yield variant

    def _records(self) -> Iterator[Variant | str]:
        """Every record, or what is wrong with it: ``line 7, record 3: POS '7O1' is no number``."""
        skipped, n_columns = len(self.header), self.header[-1].count("\t") + 1
        with closing(self._lines()) as lines:
            for number, line in enumerate(lines, -skipped):
                if number < 0:
                    continue
                columns = tuple(line.split("\t", len(FIXED)))
                if fault := _record_fault(line, columns, n_columns):
                    where = "" if self._is_bcf else f"line {skipped + number + 1}, "
                    yield f"{where}record {number + 1:,}{fault}"
                    continue
                chrom, position, name, ref, alt = columns[:5]
                alts = () if alt == "." else tuple(alt.split(","))
                yield Variant(number, chrom, int(position) - 1, name, ref, alts, columns)

    # --- the lines of the file ---------------------------------------------------------------------------------------

    def _settle(self, until: ExitStack) -> None:
        """Find the file that is read, and what kind of file it is."""
        if self.path == STDIN:
            self.path = spooled(stdin_bytes(), self.name, suffix=".vcf", until=until)
        elif os.path.exists(self.path) and stat.S_ISFIFO(os.stat(self.path).st_mode):
            with open(self.path, "rb") as stream:
                self.path = spooled(stream, self.name, suffix=".vcf", until=until)
        elif not os.path.isfile(self.path):
            raise UsageError(f"{self.path or '--vcf'} does not exist or is not a file")
        if lacks_bgzf_end(self.path):
            raise UsageError(f"{self.name} {NO_BGZF_END}")
        self._is_gzip = self._begins_as_gzip()
        head = self._first_bytes()
        if not head:
            raise UsageError(f"{self.name} is empty, without even the header of a VCF")
        if kind := other_kind(head):
            raise UsageError(f"{self.name} {kind}")
        self._is_bcf = head.startswith(BCF_MAGIC)
        if self._is_bcf:
            self._unpack_bcf(until)

    def _begins_as_gzip(self) -> bool:
        with open(self.path, "rb") as file:
            return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC

    def _first_bytes(self) -> bytes:
        try:
            with self._opened() as file:
                return file.read(HEAD)
        except DAMAGE as error:
            raise self._damaged(error) from error

    def _unpack_bcf(self, until: ExitStack) -> None:
        """Write a BCF as text to a temporary file, as ``bcftools view`` prints it."""
        until.callback(self._pysam.set_verbosity, self._pysam.set_verbosity(0))  # one message, ours, is enough
        try:
            with self._opened() as file:  # all of it is checked, about which htslib says little
                unpacked = spooled(file, self.name, suffix=".bcf", until=until)
        except DAMAGE as error:
            raise self._damaged(error) from error
        copy = until.enter_context(tempfile.NamedTemporaryFile(suffix=".vcf"))
        number = 0
        try:
            with self._pysam.VariantFile(unpacked) as file:
                with self._pysam.VariantFile(copy.name, "w", header=file.header) as text:
                    for number, record in enumerate(file, 1):  # noqa: B007
                        text.write(record)
        except Exception as error:  # of many kinds
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise no_space(self.name, cast(OSError, error)) from error
            what = f"record {number + 1:,}" if number else "its header or first record"
            raise SequenceError(
                f"{self.name} is a damaged BCF: {what} cannot be read. Make or copy it again."
            ) from error
        self.path, self._is_gzip = copy.name, False

    def _opened(self) -> IO[bytes]:
        if not self._is_gzip:
            return open(self.path, "rb")
        return cast(IO[bytes], io.BufferedReader(gzip.open(self.path), 1 << 18))

    def _lines(self) -> Generator[str, None, None]:
        """Lines without their ends, which may be those of Windows."""
        try:
            with self._opened() as file:
                mark = BOM_UTF8  # which Windows may put before the first line
                for line in file:
                    line, mark = line.removeprefix(mark), b""
                    yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", ERRORS)
        except DAMAGE as error:
            raise self._damaged(error) from error
        except OSError as error:
            raise SequenceError(f"{self.name} cannot be read: {error.strerror or error}") from error

    def _damaged(self, error: Exception) -> UsageError:
        said = str(error).removesuffix(".")
        return UsageError(f"{self.name} is a damaged or cut gzip file: {said}. Make or copy it again.")


def header_field(line: str, field: str) -> str:
    """A field of a header line: ``##contig=<ID=chr1,length=9>`` and "length" give "9"; "" if it is not there."""
    found = re.search(f"[<,]{field}=([^,>]*)", re.sub(r'"(\\.|[^"\\])*"', '""', line))
    return found[1] if found else ""


# --- what is wrong with a line ---------------------------------------------------------------------------------------

MAX_QUOTED = 30
SPREADSHEET = "quotes and tabs as a spreadsheet writes them. Export plain text with tabs, without quotes"
BLANKS = "columns separated by blanks. Separate them by tabs"
_POSITION = re.compile("[0-9]{1,10}")
_CONTIG = re.compile(r"[^\x00-\x20\x7f]+")
_SEQUENCE = re.compile("[A-Za-z]+")
_ALLELES = re.compile("[!-~]+")


def quoted(text: str) -> str:
    """A text in a message, as Python writes it; its beginning and its length if it is long."""
    return repr(text) if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]!r}... ({len(text):,} characters)"


def _checked_header(lines: Iterator[str], name: str) -> list[str]:
    """The lines to the one that names the columns."""
    found: list[str] = []
    for line in lines:
        found.append(line)
        if fault := (_first_line_fault(line) if len(found) == 1 else "") or _header_fault(line):
            raise SequenceError(f"{name} is not a VCF: line {len(found)}: {fault}.")
        if not line.startswith("##"):
            return found
    raise SequenceError(f"{name} is not a VCF: line {len(found)}: no #CHROM line, the file ends in its header.")


def _first_line_fault(line: str) -> str:
    if line.startswith("##fileformat=VCFv4"):
        return ""
    if re.search(r"[\x00-\x08\x0e-\x1f]", line):
        return "bytes that are no text: it is damaged, or another kind of file"
    if line.startswith('"'):
        return SPREADSHEET
    if line.lower().startswith("##fileformat"):
        return f"{quoted(line)} names no version of VCF that can be read, such as VCFv4.2"
    if not line.startswith("#"):
        return "no ##fileformat line and no #CHROM line: the header is missing"
    return "no ##fileformat line. Write ##fileformat=VCFv4.2 above it"


def _header_fault(line: str) -> str:
    if fault := _odd_character(line):
        return fault
    if line.startswith('"') or (line.startswith("##") and line.endswith("\t\t")):
        return SPREADSHEET
    if line.startswith("##"):
        return ""
    if line.startswith("#"):
        return _names_fault(line)
    if not line.strip():
        return "a blank line in the header. Remove it"
    return f"no #CHROM line before {quoted(line)}. It names the columns"


def _odd_character(line: str) -> str:
    if "\r" in line:
        return "a carriage return inside of the line, as of an old Mac. Make them line ends: tr '\\r' '\\n'"
    return "a NUL byte" if "\0" in line else ""


def _names_fault(line: str) -> str:
    """What is wrong with the line that names the columns."""
    names = line.split("\t")
    wanted = [*FIXED, "FORMAT"]
    if any(" " in name for name in names[: len(FIXED)]) or (len(names) == 1 and " " in line):
        return BLANKS
    for number, (name, right) in enumerate(zip(names, wanted, strict=False), 1):
        if name != right and (name or number <= len(FIXED)):
            return f"column {number} is {quoted(name)} instead of {right}"
    if len(names) < len(FIXED):
        return f"the #CHROM line has {len(names)} columns, without {FIXED[len(names)]}"
    if not names[-1]:
        return f"a tab after {next(name for name in reversed(names) if name)}. Remove it"
    if "" in names:
        return f"column {names.index('') + 1} has no name"
    twice = next((name for name in names if names.count(name) > 1), None)
    return f"{quoted(twice)} names two columns" if twice else ""


def _record_fault(line: str, columns: Sequence[str], n_columns: int) -> str:
    """What is wrong with a record, after ``record 3``; "" if nothing is."""
    if not line.strip():
        return ": the line is blank. Remove it."
    if line.startswith(("#", '"')):
        return ": a header line among the records." if line[0] == "#" else f": {SPREADSHEET}."
    if fault := _odd_character(line):
        return f": {fault}."
    n = line.count("\t") + 1
    if n != n_columns:
        if n == 1 and " " in line:
            return f": {BLANKS}."
        ending = ", the last of them empty" if line.endswith("\t") else ""
        return f" has {n:,} columns{ending}; the #CHROM line names {n_columns:,}."
    if "\t\t" in line or line[0] == "\t" or line[-1] == "\t":
        return f": {_name_of_empty(line)} is empty. Where there is no value, VCF has a dot."
    return _value_fault(columns)


def _name_of_empty(line: str) -> str:
    number = line.split("\t").index("")
    return FIXED[number].removeprefix("#") if number < len(FIXED) else f"column {number + 1}"


def _value_fault(columns: Sequence[str]) -> str:
    chrom, position, _, ref, alt = columns[:5]
    if not _CONTIG.fullmatch(chrom):
        return f": CHROM {quoted(chrom)} holds a blank or another character that no contig has."
    if not _POSITION.fullmatch(position):
        return f": POS {quoted(position)} is {_position_fault(position)}."
    if not _SEQUENCE.fullmatch(ref):
        return f": REF {quoted(ref)} is no sequence."
    if not _ALLELES.fullmatch(alt):
        return f": ALT {quoted(alt)} holds a character that no allele has."
    return f": ALT {quoted(alt)} has an empty allele." if "" in alt.split(",") else ""


def _position_fault(position: str) -> str:
    digits = position.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        return "no number"
    return "too large" if digits == position else "negative"


# --- what is written into a VCF --------------------------------------------------------------------------------------

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
    while len(set(keys)) < len(keys):
        keys = [f"{key}_{i}" if keys.count(key) > 1 else key for i, key in enumerate(keys)]
    return keys


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


def index_names(path: str) -> list[str]:
    """The names that an index of a VCF may have; none of one that is not compressed."""
    return [] if path.endswith(".vcf") else [f"{path}.tbi", f"{path}.csi"]


def index(pysam: Any, path: str, contigs: Mapping[str, int], last: int = 0) -> str:
    """Index a sorted, bgzipped VCF: ``PATH.tbi``, or ``PATH.csi`` if a contig is too long for that.

    Parameters
    ----------
    last : int
        The largest position of a record, which may be beyond its contig.
    """
    is_long = max([last, *contigs.values()]) > MAX_TBI
    name = path + (".csi" if is_long else ".tbi")
    pysam.tabix_index(path, preset="vcf", force=True, csi=is_long, index=name)
    return name
