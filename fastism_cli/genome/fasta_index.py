"""Find the index of a FASTA, or build it. An index that does not fit its FASTA is never used.

An index is built only of a file that holds nothing but bases in lines of equal length: :func:`scan` reads all of it.
An index that is found is compared with the file. A small file is read whole for that. In a large one, each record is
looked at: a header line names it, its first and last lines are as long as the index says, and the next header or the
end of the file follows.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pyfaidx import BgzfBlock, Faidx, IndexRecord

from fastism_cli.errors import SequenceError, log_of
from fastism_cli.genome.fasta_scan import BASES, BYTE_ORDER_MARK, Contents, Record, scan
from fastism_cli.genome.input_files import BgzfFile, blocks_of_gzi
from fastism_cli.options.choices import cache_folder

logger = log_of(__name__)

_WINDOW = 1 << 16
_MAX_HEADER, _MAX_LINE_END = 1 << 24, 1 << 12  # bytes, in a file whose index was found
_MAX_DIGITS = 15
READ_WHOLE = {False: 1 << 25, True: 1 << 22}  # bytes of a file, by whether it is bgzip: about a tenth of a second


@dataclass(frozen=True)
class Index:
    """Paths of the index of a FASTA. Only bgzip has a ``gzi``."""

    folder: Path
    stem: str
    is_bgzf: bool

    @property
    def fai(self) -> Path:
        return self.folder / f"{self.stem}.fai"

    @property
    def gzi(self) -> Path:
        return self.folder / f"{self.stem}.gzi"

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.gzi, self.fai) if self.is_bgzf else (self.fai,)


class UsableIndex(NamedTuple):
    """An index that fits its FASTA."""

    paths: Index
    contents: Contents


# --- an index that is found ------------------------------------------------------------------------------------------


def find_index(path: str, is_bgzf: bool) -> UsableIndex | None:
    """The first usable index: beside the file, beside the file that a link points to, or in the user's cache.

    Raises
    ------
    SequenceError
        As :func:`scan`, if the file is small.
    """
    real = Path(os.path.realpath(path))
    candidates = [_beside(path, is_bgzf)]
    if os.path.islink(path):
        candidates.append(Index(real.parent, real.name, is_bgzf))
    cache = _folder_in_cache(path)
    if cache:
        candidates.append(Index(cache, real.name, is_bgzf))
    return next(filter(None, (_usable(index, path) for index in candidates)), None)


def _beside(path: str, is_bgzf: bool) -> Index:
    return Index(Path(path).parent, Path(path).name, is_bgzf)


def _folder_in_cache(path: str) -> Path | None:
    """The folder of this FASTA in the user's cache; None if the cache is off or the user has no home."""
    root = cache_folder()
    key = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]
    return None if root is None else root / "fasta-index" / key


def _usable(index: Index, path: str) -> UsableIndex | None:
    """The index with its contents if all its files exist, are no older than the FASTA, and fit it."""
    if not all(map(os.path.isfile, index.files)):  # a pipe would be waited for
        return None
    try:
        contents = _fitting_contents(index, path) if all(_is_newer(file, path) for file in index.files) else None
        wrong = index.fai if contents or not _has_wrong_gzi(index, path) else index.gzi
    except OSError:
        return None
    if contents is None:
        logger.warning("%s is older than %s or does not fit it: not used. Run samtools faidx again.", wrong, path)
        return None
    return UsableIndex(index, contents)


def _is_newer(file: Path, path: str) -> bool:
    return os.stat(file).st_mtime_ns >= os.stat(path).st_mtime_ns


def _has_wrong_gzi(index: Index, path: str) -> bool:
    """Whether it is the list of blocks that does not fit, and not that of the records."""
    if not index.is_bgzf:
        return False
    return not _is_newer(index.gzi, path) or blocks_of_gzi(index.gzi.read_bytes(), path) is None


def _fitting_contents(index: Index, path: str) -> Contents | None:
    """What an index says; None if it is not the index of this FASTA."""
    fai = index.fai.read_bytes()
    blocks = blocks_of_gzi(index.gzi.read_bytes(), path) if index.is_bgzf else None
    if index.is_bgzf and blocks is None:
        return None
    if os.stat(path).st_size <= READ_WHOLE[index.is_bgzf]:
        contents = Contents(scan(path, index.is_bgzf).records, blocks)
        return contents if _say_the_same(fai, contents) else None
    records = _records_of_fai(fai)
    try:
        with closing(BgzfFile(path, blocks) if blocks else _PlainFile(path)) as file:
            return Contents(records, blocks) if records and _fit(records, file) else None
    except SequenceError:  # a damaged block: who builds the index is told
        return None


def _say_the_same(fai: bytes, contents: Contents) -> bool:
    return fai == contents.to_fai() or list(map(_place, _records_of_fai(fai))) == list(map(_place, contents.records))


def _place(record: Record) -> tuple[str, int, int, int]:
    """What all programs say of a record: they differ in the bytes of a line without line end."""
    return record[:4]


def _records_of_fai(fai: bytes) -> list[Record]:
    """The records in the order of the FASTA; none if a line is not of an index."""
    try:
        records = map(_record_of_line, fai.splitlines())
        return sorted((record for record in records if record.length), key=lambda record: record.offset)
    except ValueError:
        return []


def _record_of_line(line: bytes) -> Record:
    name, *numbers = line.split(b"\t")
    if len(numbers) != 4 or not all(number.isdigit() and len(number) <= _MAX_DIGITS for number in numbers):
        raise ValueError
    length, offset, line_bases, line_bytes = map(int, numbers)
    if length and not 0 < line_bases <= min(length, line_bytes):
        raise ValueError
    return Record(name.decode(), length, offset, line_bases, line_bytes)


class _PlainFile:
    """A plain file, read from anywhere as :class:`BgzfFile` is."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb", buffering=0)
        self._start, self._window = 0, b""

    def close(self) -> None:
        self._file.close()

    def read_at(self, at: int, size: int) -> bytes:
        """Up to ``size`` bytes from position ``at``; fewer only at the end."""
        if not self._start <= at <= at + size <= self._start + len(self._window):
            self._start, self._window = at, os.pread(self._file.fileno(), max(size, _WINDOW), at)
        return self._window[at - self._start : at - self._start + size]


def _fit(records: Sequence[Record], file: _PlainFile | BgzfFile) -> bool:
    """Whether each record is where the index says, and nothing else is in the file."""
    end = 0
    for record in records:
        if not (_header_fits(record, end, file) and _lines_fit(record, file)):
            return False
        end = record.end
    rest = file.read_at(end, _MAX_HEADER).split(b"\n")
    return not rest[0].strip() and all(not line.strip() or line.startswith(b">") for line in rest)


def _header_fits(record: Record, end: int, file: _PlainFile | BgzfFile) -> bool:
    """Whether the header line of a record follows the record that ends at ``end``, 0 if there is none."""
    if not 0 < record.offset - end <= _MAX_HEADER:
        return False
    text = file.read_at(end, record.offset - end)
    if end == 0:  # only here, comments may come before
        text = b"\n" + text.removeprefix(BYTE_ORDER_MARK)
    lines = text.split(b"\n")
    if len(lines) < 3 or lines[-1]:
        return False
    *before, header, _ = lines
    words = header[1:].split(None, 1)
    return (
        not before[0].strip()
        and all(not line.strip() or line.startswith(b">") or (end == 0 and line.startswith(b";")) for line in before)
        and header.startswith(b">")
        and b"\r" not in header.rstrip()
        and words[:1] == [record.name.encode()]
    )


def _lines_fit(record: Record, file: _PlainFile | BgzfFile) -> bool:
    """Whether the first line, the line before the last, and the last base of a record are where they should be."""
    size = record.line_bytes - record.line_bases
    if size > _MAX_LINE_END:
        return False
    first = file.read_at(record.offset + record.line_bases - 1, size + 1)
    if record.length == record.line_bases:  # in the last line of a file, the line end may be missing
        return _is_base(first[:1]) and not first[1:].strip() and b"\n" not in first[1:-1]
    before_last = file.read_at(record.last_line - size - 1, size + 1)
    return _ends_line(first) and _ends_line(before_last) and _is_base(file.read_at(record.end - 1, 1))


def _is_base(letter: bytes) -> bool:
    return len(letter) == 1 and letter in BASES


def _ends_line(text: bytes) -> bool:
    """Whether ``text`` is the last base of a line, white space, and a line end."""
    return _is_base(text[:1]) and text.find(b"\n") == len(text) - 1 and not text[1:].strip()


# --- an index that is built ------------------------------------------------------------------------------------------


def build_index(path: str, is_bgzf: bool, stack: ExitStack) -> UsableIndex:
    """Index the FASTA in the first of three folders that can be written; ``stack`` removes a temporary one.

    An index that lies beside the FASTA and does not fit it is not replaced.

    Raises
    ------
    SequenceError
        As :func:`scan`, or if there is no such folder.
    """
    logger.info("indexing %s (once)", path)
    contents = scan(path, is_bgzf)
    reason: BaseException | None = None
    for index in _places(path, is_bgzf, stack):
        try:
            index.folder.mkdir(parents=True, exist_ok=True)
            _write(contents, index, os.stat(path).st_mtime_ns)
            return UsableIndex(index, contents)
        except OSError as error:
            reason = error
    raise SequenceError(f"{path} cannot be indexed: {reason}. Run samtools faidx on it.")


def _places(path: str, is_bgzf: bool, stack: ExitStack) -> Iterator[Index]:
    beside = _beside(path, is_bgzf)
    if not any(os.path.lexists(file) for file in beside.files):  # one that is there is somebody's, and stays
        yield beside
    cache = _folder_in_cache(path)
    if cache:
        yield Index(cache, Path(os.path.realpath(path)).name, is_bgzf)
    try:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastism-"))
    except OSError:
        return
    yield Index(Path(folder), Path(path).name, is_bgzf)


def _write(contents: Contents, index: Index, fasta_mtime_ns: int) -> None:
    """Write into a temporary folder and rename, so that other jobs never see half an index."""
    with tempfile.TemporaryDirectory(prefix=".fastism-", dir=index.folder) as folder:
        building = Index(Path(folder), index.stem, index.is_bgzf)
        building.fai.write_bytes(contents.to_fai())
        if contents.blocks:
            building.gzi.write_bytes(contents.blocks.to_gzi())
        for built, final in zip(building.files, index.files, strict=True):
            _make_no_older(built, fasta_mtime_ns)
            os.replace(built, final)


def _make_no_older(file: Path, mtime_ns: int) -> None:
    """Set the time of an index to that of its FASTA if a machine's clock that is ahead made the FASTA younger."""
    if os.stat(file).st_mtime_ns < mtime_ns:
        os.utime(file, ns=(mtime_ns, mtime_ns))


# --- reading with an index -------------------------------------------------------------------------------------------


class IndexedFasta(Faidx):  # type: ignore[misc]
    """pyfaidx with an index that was read and compared with the file before."""

    def __init__(self, path: str, usable: UsableIndex) -> None:
        self.contents = usable.contents
        self.records = {record.name: record for record in usable.contents.records}
        names = {"indexname": str(usable.paths.fai), "gzi_indexname": str(usable.paths.gzi)}
        self.file: Any
        super().__init__(path, **names, as_raw=True, rebuild=False, build_index=False)
        if self.contents.blocks:
            self.file.close()
            self.file = BgzfFile(path, self.contents.blocks)

    def read_fai(self) -> None:
        """Take the records of the index."""
        end = 0
        for name, length, offset, line_bases, line_bytes in self.contents.records:
            n_lines = -(-length // line_bases) if length else 0
            after = offset + length + n_lines * (line_bytes - line_bases)
            self.index[name] = IndexRecord(length, offset, line_bases, line_bytes, after, end)
            end = after

    def read_gzi(self) -> None:
        """Take the blocks of the index."""
        blocks = self.contents.blocks or ()
        self.gzi_index = [_Block(packed, None, unpacked, None) for packed, unpacked in zip(*blocks, strict=True)]


class _Block(BgzfBlock):  # type: ignore[misc]
    """A block of a bgzip file, found also by the position of its first byte.

    pyfaidx looks such a position up at the end of the block before, where a block of 64 kB, as Biopython and others
    write them, has no valid address for it.
    """

    __slots__ = ()

    def __lt__(self, position: int) -> bool:
        return bool(self.ustart <= position)
