"""Find the index of a FASTA, or build it. An index that is older than its FASTA is never used."""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pyfaidx import BgzfBlock, Faidx, FastaIndexingError

from fastism_cli.errors import SequenceError
from fastism_cli.options.choices import cache_folder

logger = logging.getLogger(__name__)

BGZF_DAMAGE = (zlib.error, struct.error, EOFError, RuntimeError)  # as Bio.bgzf reports it


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


def find_index(path: str, is_bgzf: bool) -> Index | None:
    """The first usable index: beside the file, beside the file that a link points to, or in the user's cache."""
    real = Path(os.path.realpath(path))
    candidates = [_beside(path, is_bgzf)]
    if os.path.islink(path):
        candidates.append(Index(real.parent, real.name, is_bgzf))
    cache = _folder_in_cache(path)
    if cache:
        candidates.append(Index(cache, real.name, is_bgzf))
    return next((index for index in candidates if _is_current(index, path)), None)


def _beside(path: str, is_bgzf: bool) -> Index:
    return Index(Path(path).parent, Path(path).name, is_bgzf)


def _folder_in_cache(path: str) -> Path | None:
    """The folder of this FASTA in the user's cache; None if the cache is off or the user has no home."""
    root = cache_folder()
    key = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]
    return None if root is None else root / "fasta-index" / key


def _is_current(index: Index, path: str) -> bool:
    """Whether all files of an index exist, are no older than the FASTA, and could be of this FASTA."""
    try:
        fasta = os.stat(path)
        is_newer = all(os.stat(file).st_mtime_ns >= fasta.st_mtime_ns for file in index.files)
        fits = is_newer and _fits(index, path, fasta.st_size)
    except OSError:
        return False
    if not fits:
        logger.warning("%s is older than %s or does not fit it: not used", index.fai, path)
    return fits


def _fits(index: Index, path: str, size: int) -> bool:
    """Whether the last base of the index is the last base of a plain file: catches a replaced or truncated one."""
    try:
        end = max(_end_of_record(line) for line in index.fai.read_text().splitlines())
    except ValueError:  # no line, or one that is not of an index
        return False
    if index.is_bgzf:
        return _gzi_fits(index.gzi.read_bytes(), size)
    with open(path, "rb") as file:
        file.seek(end - 1)
        rest = file.read(1 << 12)
    return end <= size <= end + (1 << 12) - 1 and rest[:1].strip() != b"" and not rest[1:].strip()


def _gzi_fits(gzi: bytes, size: int) -> bool:
    """Whether a .gzi holds as many blocks as it says, and the last begins inside the FASTA of ``size`` bytes."""
    n_blocks = int.from_bytes(gzi[:8], "little")
    return len(gzi) == 8 + 16 * n_blocks and int.from_bytes(gzi[8:][-16:-8], "little") < size


def _end_of_record(line: str) -> int:
    """File position after the last base of a record."""
    length, offset, line_bases, line_bytes = map(int, line.split("\t")[1:5])
    if length == 0:
        return offset - 1  # after the last letter of the name
    full_lines = (length - 1) // line_bases
    return offset + full_lines * line_bytes + (length - full_lines * line_bases)


def build_index(path: str, is_bgzf: bool, stack: ExitStack) -> Index:
    """Index the FASTA in the first of three folders that can be written; ``stack`` removes a temporary one."""
    logger.info("indexing %s (once)", path)
    reason: BaseException | None = None
    for index in _places(path, is_bgzf, stack):
        try:
            index.folder.mkdir(parents=True, exist_ok=True)
            _build_in_place(path, index)
            return index
        except OSError as error:
            reason = error.__context__ or error  # pyfaidx wraps it
    raise SequenceError(f"{path} cannot be indexed: {reason}. Run samtools faidx on it.")


def _places(path: str, is_bgzf: bool, stack: ExitStack) -> Iterator[Index]:
    yield _beside(path, is_bgzf)
    cache = _folder_in_cache(path)
    if cache:
        yield Index(cache, Path(os.path.realpath(path)).name, is_bgzf)
    try:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastism-"))
    except OSError:
        return
    yield Index(Path(folder), Path(path).name, is_bgzf)


def _build_in_place(path: str, index: Index) -> None:
    """Build in a temporary folder and rename, so that other jobs never see half an index."""
    with tempfile.TemporaryDirectory(prefix=".fastism-", dir=index.folder) as folder:
        building = Index(Path(folder), index.stem, index.is_bgzf)
        open_faidx(path, building, build=True).close()
        fasta_mtime = os.stat(path).st_mtime_ns
        for built, final in zip(building.files, index.files, strict=True):
            _make_no_older(built, fasta_mtime)
            os.replace(built, final)


def _make_no_older(file: Path, mtime_ns: int) -> None:
    """Set the time of an index to that of its FASTA if a machine's clock that is ahead made the FASTA younger."""
    if os.stat(file).st_mtime_ns < mtime_ns:
        os.utime(file, ns=(mtime_ns, mtime_ns))


def open_faidx(path: str, index: Index, *, build: bool) -> Faidx:
    """Open a FASTA with pyfaidx and raise its errors as :class:`SequenceError`.

    An OSError means that the index could not be written or read.
    """
    names = {"indexname": str(index.fai), "gzi_indexname": str(index.gzi)}
    try:
        faidx = Faidx(path, **names, as_raw=True, rebuild=build, build_index=build)
    except FastaIndexingError as error:
        raise SequenceError(f"{path} cannot be indexed: {' '.join(str(error).split())}{_advice(error)}") from error
    except UnicodeDecodeError as error:
        raise SequenceError(f"{path} holds bytes that are not text. Is it a FASTA file?") from error
    except BGZF_DAMAGE as error:
        raise SequenceError(f"{path} is a damaged bgzip file ({error}). Make or copy it again.") from error
    except ValueError as error:
        raise SequenceError(_duplicates(path, index) or f"{path} cannot be indexed: {error}") from error
    if index.is_bgzf:
        faidx.gzi_index = [_Block(*block) for block in faidx.gzi_index]
    return faidx


class _Block(BgzfBlock):  # type: ignore[misc]
    """A block of a bgzip file, found also by the position of its first byte.

    pyfaidx looks such a position up at the end of the block before, where a block of 64 kB, as Biopython and others
    write them, has no valid address for it.
    """

    __slots__ = ()

    def __lt__(self, position: int) -> bool:
        return bool(self.ustart <= position)


def _advice(error: FastaIndexingError) -> str:
    return " Make all lines of a record equally long: seqkit seq -w 60" if "consistent" in str(error) else ""


def _duplicates(path: str, index: Index) -> str:
    """The message about names that occur twice in an indexed FASTA; "" if there are none."""
    names = Counter(line.split("\t")[0] for line in index.fai.read_text().splitlines())
    repeated = [name for name, count in names.items() if count > 1]
    if not repeated:
        return ""
    listed = ", ".join(map(repr, repeated[:5])) + (", ..." if len(repeated) > 5 else "")
    return f"{path} has more than one record named {listed}. Names of contigs must differ."
