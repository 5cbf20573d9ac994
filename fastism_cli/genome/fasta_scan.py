"""Read all of a FASTA, check each of its lines, and list its records as an index has them."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, NamedTuple, NoReturn

import numpy as np

from fastism_cli.errors import Listing, SequenceError, log_of
from fastism_cli.genome.input_files import Blocks, read_block

logger = log_of(__name__)

BASES = (string.ascii_letters + "*-.").encode()  # all that may stand for a base
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CR_ALONE = "the lines end in carriage returns alone (CR), as on old Macs. Mend them: tr '\\r' '\\n' < OLD > NEW"
_EQUAL = "Make all lines of a record equally long: seqkit seq -w 60"
_PIECE = 1 << 22  # bytes that are read at once


class Record(NamedTuple):
    """A line of a ``.fai``: where the bases of a record lie.

    Attributes
    ----------
    length : int
        Bases of the record.
    offset : int
        Position of the first base in the file, or in the content of a bgzip file.
    line_bases, line_bytes : int
        Of each line but the last, without and with the white space at its end.
    """

    name: str
    length: int
    offset: int
    line_bases: int
    line_bytes: int

    @property
    def last_line(self) -> int:
        """Position of the line with the last base."""
        return self.offset + (self.length - 1) // self.line_bases * self.line_bytes

    @property
    def end(self) -> int:
        """Position after the last base."""
        return self.last_line + (self.length - 1) % self.line_bases + 1

    def bases_of(self, text: bytes, at: int) -> bytes:
        """The bases in a piece of the file that begins at ``at``; b"" if some are not where lines have them.

        Parameters
        ----------
        text : bytes
            Bases, and the white space at the end of each line.
        """
        columns = (np.arange(len(text)) + (at - self.offset)) % self.line_bytes
        letters, is_base = np.frombuffer(text, np.uint8), columns < self.line_bases
        bases, ends = letters[is_base].tobytes(), letters[~is_base].tobytes()
        n_lines = np.count_nonzero(columns[~is_base] == self.line_bytes - 1)
        is_regular = not bases.translate(None, BASES) and not ends.strip() and ends.count(b"\n") == n_lines
        return bases if is_regular else b""


class Contents(NamedTuple):
    """What an index says: records in the order of the file, and the blocks of a bgzip file."""

    records: Sequence[Record]
    blocks: Blocks | None

    def to_fai(self) -> bytes:
        """The bytes of a ``.fai``."""
        return "".join("\t".join(map(str, record)) + "\n" for record in self.records).encode()


# --- all of a file ---------------------------------------------------------------------------------------------------


def scan(path: str, is_bgzf: bool) -> Contents:
    """Read all of a FASTA, check each line, and list its records.

    White space at the end of a line is no sequence. Blank lines may follow a record. A record without bases is left
    out with a warning, as by samtools.

    Raises
    ------
    SequenceError
        At the first fault, with its record and line: a character that is no base, lines of unequal length, a record
        without a name, two of one name, a damaged block.
    """
    lines, begins = _Scan(path), list[tuple[int, int]]()
    try:
        with open(path, "rb") as file:
            pieces = _unpacked(file, path, begins) if is_bgzf else iter(lambda: file.read(_PIECE), b"")
            for chunk in _whole_lines(pieces):
                lines.read(chunk)
    except OSError as error:
        raise SequenceError(f"{path} cannot be read: {error.strerror}") from error
    records = lines.records()
    if lines.empty.count:
        logger.warning("%s: %d records without bases are left out (%s)", path, lines.empty.count, lines.empty.first)
    return Contents(records, Blocks(*zip(*begins, strict=True)) if is_bgzf else None)


def _unpacked(file: IO[bytes], path: str, begins: list[tuple[int, int]]) -> Iterator[bytes]:
    """The content of each block of a bgzip file; where it begins is added to ``begins``."""
    packed = unpacked = 0
    size, content = read_block(file, path)
    while size:
        begins.append((packed, unpacked))
        packed, unpacked = packed + size, unpacked + len(content)
        yield content
        size, content = read_block(file, path)
    while len(begins) > 1 and begins[-1][1] == unpacked:  # the end marker
        begins.pop()


def _whole_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, cut only after line ends."""
    rest: list[bytes] = []
    for piece in pieces:
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield b"".join([*rest, piece[:cut]])
            rest.clear()
        rest.append(piece[cut:])
    yield b"".join(rest)


@dataclass
class _Open:
    """The record that is being read.

    ``line_end`` is the white space at the end of its first line; ``ended`` says what ended the record and what to do,
    if another line of bases follows.
    """

    name: str
    offset: int
    length: int = 0
    line_bases: int = 0
    line_end: bytes = b""
    ended: str = ""

    @property
    def line_bytes(self) -> int:
        return self.line_bases + len(self.line_end)

    def closed(self) -> Record:
        return Record(self.name, self.length, self.offset, self.line_bases, self.line_bytes)

    def are_equal(self, lines: bytes) -> bool:
        """Whether all of ``lines`` hold bases only, and are as long as the first line of the record."""
        n, size = len(lines) // self.line_bytes, self.line_bytes
        ends = range(len(self.line_end))
        return len(lines.translate(None, BASES)) == n * len(ends) and all(
            lines[self.line_bases + i :: size] == self.line_end[i : i + 1] * n for i in ends
        )


class _Scan:
    """Goes through the lines of a FASTA: one by one where a record begins or ends, many at once in between."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._records: list[Record] = []
        self._names = Counter[str]()
        self.empty = Listing()
        self._open: _Open | None = None
        self._position = self._line = 0

    def read(self, chunk: bytes) -> None:
        """Read whole lines."""
        at = 0
        while at < len(chunk):
            at += self._equal_lines(chunk, at) or self._one_line(chunk, at)

    def records(self) -> list[Record]:
        """All records, at the end of the file."""
        self._close()
        if not self._records:
            raise SequenceError(f"{self._path} holds no record with bases. Is it a FASTA file?")
        repeated = [name for name, count in self._names.items() if count > 1]
        if repeated:
            listed = ", ".join(map(repr, repeated[:5])) + (", ..." if len(repeated) > 5 else "")
            raise SequenceError(f"{self._path} has more than one record named {listed}. Names of contigs must differ.")
        return self._records

    def _equal_lines(self, chunk: bytes, at: int) -> int:
        """Read lines that are like the first of the record; returns their bytes, 0 if there are less than two."""
        record = self._open
        if not record or not record.line_bases or record.ended:
            return 0
        stop = chunk.find(b">", at)
        n = ((len(chunk) if stop < 0 else stop) - at) // record.line_bytes
        while n > 1 and not record.are_equal(chunk[at : at + n * record.line_bytes]):
            n //= 2
        if n < 2:
            return 0
        record.length += n * record.line_bases
        self._line += n
        self._position += n * record.line_bytes
        return n * record.line_bytes

    def _one_line(self, chunk: bytes, at: int) -> int:
        stop = chunk.find(b"\n", at) + 1 or len(chunk)
        raw = chunk[at:stop]
        if self._position == 0:
            raw = raw.removeprefix(BYTE_ORDER_MARK)
        self._line += 1
        self._position += stop - at
        self._read_line(raw.rstrip(), raw)
        return stop - at

    def _read_line(self, text: bytes, raw: bytes) -> None:
        if b"\r" in text:
            self._refuse(CR_ALONE)
        if text.startswith(b">"):
            self._close()
            self._open = _Open(self._name(text), self._position)
            self._names[self._open.name] += 1
        elif not text:
            self._end("is blank. Remove blank lines: sed '/^[[:space:]]*$/d'")
        elif self._open:
            self._add(self._open, text, raw)
        elif not text.startswith(b";"):
            self._refuse("text before the first record. A record begins with '>'; is this a FASTA file?")

    def _close(self) -> None:
        if self._open and self._open.length:
            self._records.append(self._open.closed())
        elif self._open:
            self.empty.add(repr(self._open.name))

    def _name(self, text: bytes) -> str:
        words = text[1:].split(None, 1)
        if not words:
            self._refuse("'>' is followed by no name. Give the record a name.")
        try:
            name = words[0].decode()
        except UnicodeDecodeError:
            self._refuse(f"the name of the record, {words[0]!r}, is not text (UTF-8). Rename the record.")
        if not name.isprintable():
            self._refuse(f"the name of the record, {name!r}, holds characters that cannot be printed. Rename it.")
        return name

    def _add(self, record: _Open, text: bytes, raw: bytes) -> None:
        other = text.translate(None, BASES)
        if other:
            self._refuse(f"record {record.name!r} holds {_why_no_base(other)}")
        if record.ended:
            self._refuse(f"record {record.name!r} goes on after {record.ended}")
        line_end = raw[len(text) :] or b"\n"
        if not record.line_bases:
            record.line_bases, record.line_end = len(text), line_end
        lengths = f"has {len(text)} bases, and the lines before it have {record.line_bases}. {_EQUAL}"
        if len(text) > record.line_bases:
            self._refuse(f"record {record.name!r} {lengths}")
        if len(text) < record.line_bases:
            self._end(lengths)
        elif line_end != record.line_end:
            self._end("ends in other white space than the lines before it. Remove it: sed 's/[[:space:]]*$//'")
        record.length += len(text)

    def _end(self, why: str) -> None:
        """After this line, the record may not go on."""
        if self._open and not self._open.ended:
            self._open.ended = f"line {self._line}, which {why}"

    def _refuse(self, problem: str) -> NoReturn:
        raise SequenceError(f"{self._path} line {self._line}: {problem}")


def _why_no_base(other: bytes) -> str:
    first = other[:1].decode(errors="surrogateescape")
    problem = f"{other[:1]!r}"[1:] + ", which is no letter, '*', '-' or '.'."
    if first in (">", ";"):
        return f"{problem} Only at the beginning of a line it is no sequence: is a line end missing?"
    if first.isspace():
        return f"{problem} White space may only end a line. Remove it: sed '/^>/!s/[[:space:]]//g'"
    return f"{problem} Is the file damaged, or no FASTA?"
