"""Bases of a genome: plain or bgzip FASTA, through an index that is never trusted when it is old."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pyfaidx import BgzfBlock, Faidx, FastaIndexingError, FetchError

from fastism_cli.alphabet import DNA, Alphabet, Codes
from fastism_cli.errors import RegionError, SequenceError

logger = logging.getLogger(__name__)

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_HAS_EXTRA = 4
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_BGZF_NAMES = (".gz", ".bgz")  # pyfaidx goes by the name
_BGZF_DAMAGE = (zlib.error, struct.error, EOFError, RuntimeError)  # as Bio.bgzf reports it
_PROBLEMS_SHOWN = 20


class Genome:
    """An open FASTA file. Made by :func:`open_fasta`; leaving its context closes it.

    Attributes
    ----------
    path : str
        As given; messages use it.
    sizes : dict of str to int
        Length of each contig in bases, in the order of the file.
    """

    def __init__(self, path: str, faidx: Faidx, on_close: ExitStack) -> None:
        self.path = path
        self.sizes: dict[str, int] = {name: record.rlen for name, record in faidx.index.items()}
        self._faidx = faidx
        self._on_close = on_close

    def __enter__(self) -> Genome:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and remove an index that could only be kept in a temporary folder."""
        self._on_close.close()

    def codes(self, chrom: str, start: int, end: int, alphabet: Alphabet = DNA) -> Codes:
        """Bases ``[start, end)`` of a contig, uint8 (end - start,); ``alphabet.unknown`` outside the contig.

        Raises
        ------
        RegionError
            If the FASTA has no such contig.
        SequenceError
            If the file does not hold what its index says.
        """
        first, stop = self._inside(chrom, start, end)
        codes = np.full(end - start, alphabet.unknown, dtype=np.uint8)
        if first < stop:
            codes[first - start : stop - start] = alphabet.encode(self._bases(chrom, first, stop))
        return codes

    def n_padded(self, chrom: str, start: int, end: int) -> int:
        """How many positions of ``[start, end)`` lie outside the contig."""
        first, stop = self._inside(chrom, start, end)
        return (end - start) - max(stop - first, 0)

    def _inside(self, chrom: str, start: int, end: int) -> tuple[int, int]:
        """The part of ``[start, end)`` on the contig; empty if its stop is not after its start."""
        if chrom not in self.sizes:
            raise RegionError(f"contig {chrom!r} is not in {self.path}{_other_name(self, chrom)}")
        if end < start:
            raise RegionError(f"{chrom}:{start}-{end}: start {start} is after end {end}")
        return max(start, 0), min(end, self.sizes[chrom])

    def _bases(self, chrom: str, start: int, end: int) -> str:
        try:
            bases = str(self._faidx.fetch(chrom, start + 1, end))  # pyfaidx counts from 1 and includes the end
        except (FetchError, OSError, ValueError, *_BGZF_DAMAGE) as error:
            raise SequenceError(f"{self.path}: {chrom}:{start}-{end} cannot be read: {error}") from error
        if len(bases) != end - start:
            raise SequenceError(
                f"{self.path}: {chrom}:{start}-{end} holds {len(bases)} bases instead of {end - start}. "
                f"Is the file truncated? If not, delete its index {self._faidx.indexname}"
            )
        return bases


def open_fasta(path: str | os.PathLike[str]) -> Genome:
    """Open a FASTA file, plain or compressed by bgzip, building its index where there is no good one.

    An index (``.fai``, and ``.gzi`` for bgzip) is used if it lies beside the file or beside the file that a symbolic
    link points to, is no older, and fits. Otherwise it is built anew: beside the file, or in the user's cache folder,
    or in a temporary folder, whichever can be written first. It appears under its name only when it is complete, so
    any number of jobs may open one FASTA at once.

    Raises
    ------
    SequenceError
        If the file is missing, is no FASTA, or is compressed by something other than bgzip.
    """
    name = os.fspath(path)
    is_bgzf = _check_is_fasta(name)
    with ExitStack() as stack:
        index = _find_index(name, is_bgzf) or _build_index(name, is_bgzf, stack)
        try:
            faidx = _open_faidx(name, index, build=False)
        except OSError as error:
            raise SequenceError(f"{name} cannot be opened: {error}") from error
        stack.callback(faidx.close)
        return Genome(name, faidx, stack.pop_all())


def missing_contigs(genome: Genome, names: Iterable[str]) -> list[str]:
    """Those of ``names`` that the FASTA does not have, in their order."""
    return [name for name in names if name not in genome.sizes]


def check_contigs(genome: Genome, contigs: Mapping[str, int], bed_name: str) -> None:
    """Refuse regions on contigs that the FASTA does not have.

    Parameters
    ----------
    contigs : mapping of str to int
        Contig names, each with the first line of the BED on which it occurs.
    bed_name : str
        What messages call the BED.

    Raises
    ------
    RegionError
        Lists the missing contigs, with their lines and a hint if only a ``chr`` is missing or too many.
    """
    missing = missing_contigs(genome, contigs)
    problems = [f"line {contigs[name]}: contig {name!r}{_other_name(genome, name)}" for name in missing]
    if len(missing) == 1:
        name = missing[0]
        raise RegionError(
            f"{bed_name} line {contigs[name]}: contig {name!r} is not in {genome.path}{_other_name(genome, name)}"
        )
    if missing:
        shown = problems[:_PROBLEMS_SHOWN]
        if len(problems) > len(shown):
            shown.append(f"... and {len(problems) - len(shown)} more")
        raise RegionError("\n  ".join([f"{len(missing)} contigs of {bed_name} are not in {genome.path}:", *shown]))


def _other_name(genome: Genome, chrom: str) -> str:
    """``", which names it '1'"`` where the two differ by a ``chr`` prefix, else nothing."""
    aliases = {"chrM": "MT", "MT": "chrM"}
    other = aliases.get(chrom, chrom[3:] if chrom.startswith("chr") else f"chr{chrom}")
    return f", which names it {other!r}" if other in genome.sizes else ""


# --- what kind of file it is -----------------------------------------------------------------------------------------


def _check_is_fasta(path: str) -> bool:
    """Whether the file is bgzip (else plain); refuses all that is neither."""
    try:
        mode = os.stat(path).st_mode
        head, tail = (b"", b"") if not stat.S_ISREG(mode) else _ends(path)
    except FileNotFoundError as error:
        raise SequenceError(f"{path} does not exist") from error
    except OSError as error:
        raise SequenceError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise SequenceError(f"{path} is not a regular file: bases are read from anywhere in it")
    if head.startswith(_GZIP_MAGIC):
        _check_bgzf(path, head, tail)
        return True
    _check_plain(path, head)
    return False


def _ends(path: str) -> tuple[bytes, bytes]:
    """The first 64 kB and the last 28 bytes."""
    with open(path, "rb") as file:
        head = file.read(1 << 16)
        file.seek(max(os.fstat(file.fileno()).st_size - len(_BGZF_END), 0))
        return head, file.read()


def _check_bgzf(path: str, head: bytes, tail: bytes) -> None:
    if not _has_bgzf_header(head):
        raise SequenceError(
            f"{path} is compressed by gzip, which cannot be read from the middle. "
            f"Run gunzip on it, or recompress it: gunzip -c {path} | bgzip > ..."
        )
    if tail != _BGZF_END:
        raise SequenceError(f"{path} is truncated: the end marker of bgzip is missing. Make or copy it again.")
    if not path.lower().endswith(_BGZF_NAMES):
        raise SequenceError(f"{path} is compressed by bgzip, but its name does not end in .gz. Rename it.")


def _has_bgzf_header(head: bytes) -> bool:
    """Whether the gzip header has the extra field ``BC`` that bgzip writes."""
    if len(head) < 12 or not head[3] & _GZIP_HAS_EXTRA:
        return False
    extra = head[12 : 12 + int.from_bytes(head[10:12], "little")]
    return any(identifier == b"BC" for identifier in _subfields(extra))


def _subfields(extra: bytes) -> Iterator[bytes]:
    while len(extra) >= 4:
        yield extra[:2]
        extra = extra[4 + int.from_bytes(extra[2:4], "little") :]


def _check_plain(path: str, head: bytes) -> None:
    if not head.strip():
        raise SequenceError(f"{path} is empty")
    if head.lstrip()[:1] not in (b">", b";"):  # ';' begins a comment
        raise SequenceError(f"{path} does not begin with '>'. Is it a FASTA file?")
    if path.lower().endswith(_BGZF_NAMES):
        raise SequenceError(f"{path} is not compressed, but its name ends as if it were. Rename it.")


# --- the index -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Index:
    """Where the index of a FASTA is; ``gzi`` only matters for bgzip."""

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


def _find_index(path: str, is_bgzf: bool) -> _Index | None:
    real = Path(os.path.realpath(path))
    candidates = [_beside(path, is_bgzf)]
    if os.path.islink(path):
        candidates.append(_Index(real.parent, real.name, is_bgzf))
    cache = _cache_folder(path)
    if cache:
        candidates.append(_Index(cache, real.name, is_bgzf))
    return next((index for index in candidates if _is_current(index, path)), None)


def _beside(path: str, is_bgzf: bool) -> _Index:
    return _Index(Path(path).parent, Path(path).name, is_bgzf)


def _cache_folder(path: str) -> Path | None:
    """A folder for this FASTA alone in the user's cache, or None if there is no home folder."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    key = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]
    return Path(root, "fastism", "fasta-index", key) if os.path.isabs(root) else None


def _is_current(index: _Index, path: str) -> bool:
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


def _fits(index: _Index, path: str, size: int) -> bool:
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


def _build_index(path: str, is_bgzf: bool, stack: ExitStack) -> _Index:
    """Index the FASTA in the first of three folders that can be written."""
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


def _places(path: str, is_bgzf: bool, stack: ExitStack) -> Iterator[_Index]:
    yield _beside(path, is_bgzf)
    cache = _cache_folder(path)
    if cache:
        yield _Index(cache, Path(os.path.realpath(path)).name, is_bgzf)
    try:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastism-"))
    except OSError:
        return
    yield _Index(Path(folder), Path(path).name, is_bgzf)


def _build_in_place(path: str, index: _Index) -> None:
    """Build in a folder of its own and rename: others never see half an index, whoever is first."""
    with tempfile.TemporaryDirectory(prefix=".fastism-", dir=index.folder) as folder:
        building = _Index(Path(folder), index.stem, index.is_bgzf)
        _open_faidx(path, building, build=True).close()
        fasta_mtime = os.stat(path).st_mtime_ns
        for built, final in zip(building.files, index.files, strict=True):
            _make_no_older(built, fasta_mtime)
            os.replace(built, final)


def _make_no_older(file: Path, mtime_ns: int) -> None:
    """A FASTA from a machine whose clock is ahead would make every index stale."""
    if os.stat(file).st_mtime_ns < mtime_ns:
        os.utime(file, ns=(mtime_ns, mtime_ns))


def _open_faidx(path: str, index: _Index, *, build: bool) -> Faidx:
    """pyfaidx, with its errors in our words. An OSError means that the index could not be written or read."""
    names = {"indexname": str(index.fai), "gzi_indexname": str(index.gzi)}
    try:
        faidx = Faidx(path, **names, as_raw=True, rebuild=build, build_index=build)
    except FastaIndexingError as error:
        raise SequenceError(f"{path} cannot be indexed: {' '.join(str(error).split())}{_advice(error)}") from error
    except UnicodeDecodeError as error:
        raise SequenceError(f"{path} holds bytes that are not text. Is it a FASTA file?") from error
    except _BGZF_DAMAGE as error:
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


def _duplicates(path: str, index: _Index) -> str:
    """Which names occur twice in a FASTA whose index has been built."""
    names = Counter(line.split("\t")[0] for line in index.fai.read_text().splitlines())
    repeated = [name for name, count in names.items() if count > 1]
    if not repeated:
        return ""
    listed = ", ".join(map(repr, repeated[:5])) + (", ..." if len(repeated) > 5 else "")
    return f"{path} has more than one record named {listed}. Names of contigs must differ."
