"""Read bases of a genome from a plain or bgzip FASTA. What is read is checked: it holds letters only."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property

import numpy as np
from pyfaidx import FetchError

from fastism_cli.errors import Listing, RegionError, SequenceError, log_of
from fastism_cli.genome.alphabet import DNA, Alphabet, Codes
from fastism_cli.genome.bed import BedSummary, Region
from fastism_cli.genome.fasta_index import IndexedFasta, build_index, find_index
from fastism_cli.genome.fasta_scan import BYTE_ORDER_MARK, CR_ALONE, scan
from fastism_cli.genome.input_files import GZIP_MAGIC, HEAD, NO_BGZF_END, has_bgzf_header, lacks_bgzf_end, other_kind

logger = log_of(__name__)

_NUCLEOTIDES = b"ACGTUNRYSWKMBDHVXacgtunryswkmbdhvx*-."  # IUPAC's codes, X where bases are masked, gaps
_CHRM_OF_HG19 = 16_571  # bases, in the file of UCSC; MT has 16,569
_BGZF_NAMES = (".gz", ".bgz")  # the names that pyfaidx reads as bgzip
_READ_WHOLE = 1 << 10  # bases of a line: shorter ones take less time to read whole than to read their ends


class Genome:
    """An open FASTA file, made by :func:`open_fasta`. Leaving its context closes it.

    Attributes
    ----------
    path : str
        The path as given, for messages.
    sizes : dict of str to int
        Length of each contig in bases, in the order of the file.
    """

    def __init__(self, path: str, faidx: IndexedFasta, on_close: ExitStack) -> None:
        self.path = path
        self.sizes: dict[str, int] = {record.name: record.length for record in faidx.contents.records}
        self._faidx = faidx
        self._on_close = on_close
        self._has_warned = False

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
            If the file does not match its index.
        """
        first, stop = self._inside(chrom, start, end)
        codes = np.full(end - start, alphabet.unknown, dtype=np.uint8)
        if first < stop:
            bases = self._bases(chrom, first, stop)
            codes[first - start : stop - start] = alphabet.encode(bases)
            if alphabet.has_complement and not self._has_warned:
                self._warn_of_other_letters(chrom, bases)
        return codes

    def _warn_of_other_letters(self, chrom: str, bases: bytes) -> None:
        others = bases.translate(None, _NUCLEOTIDES)
        if others:
            self._has_warned = True
            letters = ", ".join(sorted(set(others.decode().upper())))
            logger.warning(
                "%s: %s holds letters that stand for no nucleotide (%s) and are read as N. Is it a FASTA of DNA?",
                *(self.path, chrom, letters),
            )

    def _inside(self, chrom: str, start: int, end: int) -> tuple[int, int]:
        """The part of ``[start, end)`` on the contig; empty if its stop is not after its start."""
        if chrom not in self.sizes:
            other = other_name(chrom)
            hint = f", which names it {other!r}" if other in self.sizes else ""
            raise RegionError(f"contig {chrom!r} is not in {self.path}{why_no_match(self, chrom) or hint}")
        if end < start:
            raise RegionError(f"{chrom}:{start}-{end}: start {start} is after end {end}")
        return max(start, 0), min(end, self.sizes[chrom])

    def _bases(self, chrom: str, start: int, end: int) -> bytes:
        """Bases that are where the index says.

        A large file is not read whole at the start of a run, so an index that is younger than a file that was edited
        may pass. Where a line lost or got a base, those after it are shifted until another line makes up for it, as the
        index was compared with both ends of each record. So the ends of the first and the last line are looked at
        too: between them, a shift would put a line end among the bases.
        """
        record = self._faidx.records[chrom]
        size = record.line_bases
        ends = (start // size * size, -(-end // size) * size)
        if size <= _READ_WHOLE:
            first = max(ends[0] - 1, 0)
            return self._read(chrom, first, min(ends[1] + 1, record.length))[start - first : end - first]
        for at in (at for at in ends if 0 < at < record.length):
            self._read(chrom, at - 1, at + 1)
        return self._read(chrom, start, end)

    def _read(self, chrom: str, start: int, end: int) -> bytes:
        try:
            # pyfaidx counts from 1 and includes the end; with internals, it leaves the line ends in
            text, facts = self._faidx.from_file(chrom, start + 1, end, internals=True)
            bases = self._faidx.records[chrom].bases_of(text.encode(), facts.get("bstart", 0))
        except UnicodeDecodeError:
            bases = b""
        except (FetchError, OSError, SequenceError) as error:
            raise SequenceError(f"{self.path}: {chrom}:{start}-{end} cannot be read: {error}") from error
        if len(bases) != end - start:
            scan(self.path, self._faidx.contents.blocks is not None)  # names the line
            raise SequenceError(
                f"{self.path}: {chrom}:{start}-{end} holds {len(bases)} bases instead of {end - start}. "
                f"Is the file truncated? If not, delete its index {self._faidx.indexname}"
            )
        return bases


def open_fasta(path: str | os.PathLike[str]) -> Genome:
    """Open a FASTA file, plain or compressed by bgzip. Builds its index if there is no usable one.

    An index (``.fai``, and ``.gzi`` for bgzip) is used if it lies beside the file or beside the file that a symbolic
    link points to, is no older, and fits in every record. Otherwise the whole file is checked and the index built:
    beside the file if none is there, or in the user's cache folder, or in a temporary folder, where it can be written.
    It appears under its name only when it is complete, so that any number of jobs can open one FASTA at once.

    Raises
    ------
    SequenceError
        If the file is missing, is no FASTA, holds something that is no base (with its record and line), or is
        compressed by something other than bgzip.
    """
    name = os.fspath(path)
    is_bgzf = _check_is_fasta(name)
    with ExitStack() as stack:
        index = find_index(name, is_bgzf) or build_index(name, is_bgzf, stack)
        try:
            faidx = IndexedFasta(name, index)
        except OSError as error:
            raise SequenceError(f"{name} cannot be opened: {error}") from error
        stack.callback(faidx.close)
        return Genome(name, faidx, stack.pop_all())


# --- names of contigs ------------------------------------------------------------------------------------------------


def matched_contigs(genome: Genome, names: Iterable[str], lengths: Mapping[str, int] | None = None) -> dict[str, str]:
    """The FASTA's name of each contig of a BED or VCF that it has.

    The same name if the FASTA has it, else the name with or without ``chr`` (``MT`` is ``chrM``, but not that of hg19,
    unless it has its length in ``lengths``).
    """
    known = lengths or {}
    found = {name: name if name in genome.sizes else other_name(name) for name in names}
    return {
        name: own
        for name, own in found.items()
        if own in genome.sizes and not why_no_match(genome, name, known.get(name))
    }


def why_no_match(genome: Genome, name: str, length: int | None = None) -> str:
    """Why a contig is not the one with the other name in the FASTA; "" if it is, or if there is none."""
    is_mt = name == "MT" and name not in genome.sizes and length != _CHRM_OF_HG19
    is_other = is_mt and genome.sizes.get("chrM") == _CHRM_OF_HG19
    return f" (its chrM of {_CHRM_OF_HG19:,} bases is another sequence)" if is_other else ""


def other_name(chrom: str) -> str:
    """The name of a contig in the other convention, UCSC's or Ensembl's: ``chr1`` and ``1``, ``chrM`` and ``MT``."""
    special = {"MT": "chrM", "chrM": "MT"}
    return special.get(chrom, chrom[3:] if chrom.startswith("chr") else f"chr{chrom}")


def renaming_line(genome: Genome, matched: Mapping[str, str], source: str) -> str:
    """A line for the log if the FASTA has other names for contigs of ``source``, else ``""``."""
    renamed = [(name, own) for name, own in matched.items() if name != own]
    if not renamed:
        return ""
    name, own = renamed[0]
    return f"contigs of {source} have other names in {genome.path}: {name} is {own} there"


def check_contigs(genome: Genome, contigs: Mapping[str, int], bed_name: str) -> None:
    """Refuse regions on contigs that the FASTA does not have under either name.

    Parameters
    ----------
    contigs : mapping of str to int
        Contig names, each with the first line of the BED on which it occurs.
    bed_name : str
        Name of the BED in messages.

    Raises
    ------
    RegionError
        Lists the missing contigs with their lines.
    """
    matched = matched_contigs(genome, contigs)
    missing = {name: line for name, line in contigs.items() if name not in matched}
    if len(missing) == 1:
        ((name, line),) = missing.items()
        why = why_no_match(genome, name)
        raise RegionError(f"{bed_name} line {line}: contig {name!r} is not in {genome.path}{why}")
    if missing:
        problems = [f"line {line}: contig {name!r}{why_no_match(genome, name)}" for name, line in missing.items()]
        raise RegionError(Listing(problems).under(f"{len(missing)} contigs of {bed_name} are not in {genome.path}:"))


# --- what kind of file it is -----------------------------------------------------------------------------------------


def _check_is_fasta(path: str) -> bool:
    """Whether the file is bgzip (True) or plain (False). Raises if it is neither."""
    try:
        mode = os.stat(path).st_mode
        head = _head(path) if stat.S_ISREG(mode) else b""
    except FileNotFoundError as error:
        raise SequenceError(f"{path or repr(path)} does not exist") from error
    except OSError as error:
        raise SequenceError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise SequenceError(f"{path} is not a regular file: bases are read from anywhere in it")
    if head.startswith(GZIP_MAGIC):
        _check_bgzf(path, head)
        return True
    _check_plain(path, head)
    return False


def _head(path: str) -> bytes:
    """The first 64 kB."""
    with open(path, "rb") as file:
        return file.read(1 << 16)


def _check_bgzf(path: str, head: bytes) -> None:
    if not has_bgzf_header(head):
        raise SequenceError(
            f"{path} is compressed by gzip, which cannot be read from the middle. "
            f"Run gunzip on it, or recompress it: gunzip -c {path} | bgzip > ..."
        )
    if lacks_bgzf_end(path):
        raise SequenceError(f"{path} {NO_BGZF_END}")
    if not path.lower().endswith(_BGZF_NAMES):
        raise SequenceError(f"{path} is compressed by bgzip, but its name does not end in .gz. Rename it.")


def _check_plain(path: str, head: bytes) -> None:
    text = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    if not text:
        raise SequenceError(f"{path} is empty")
    if kind := other_kind(head[:HEAD]):
        raise SequenceError(f"{path} {kind}")
    if text[:1] == b"@":
        raise SequenceError(f"{path} begins with '@', as FASTQ does. A FASTA of it: seqtk seq -a OLD > NEW")
    if text[:1] not in (b">", b";"):  # ';' begins a comment
        raise SequenceError(f"{path} does not begin with '>'. Is it a FASTA file?")
    if b"\r" in text and b"\n" not in head:
        raise SequenceError(f"{path} line 1: {CR_ALONE}")
    if path.lower().endswith(_BGZF_NAMES):
        raise SequenceError(f"{path} is not compressed, but its name ends as if it were. Rename it.")


NO_LINE = 0


class RecordSource:
    """One region for each record of a FASTA, in the order of the file, as :class:`BedSource` gives those of a BED.

    Attributes
    ----------
    name : str
        Its name in messages: the path of the FASTA.
    path : None
        There is no BED.
    """

    path: str | None = None

    def __init__(self, genome: Genome) -> None:
        self.name = genome.path
        self._sizes = genome.sizes

    def regions(self) -> Iterator[Region]:
        """Every record. ``line`` is 0, as there is no BED."""
        return (Region(name, 0, size, name, ".", None, NO_LINE) for name, size in self._sizes.items())

    @cached_property
    def summary(self) -> BedSummary:
        """The summary of a BED with these records."""
        return BedSummary(len(self._sizes), self.sha256, dict.fromkeys(self._sizes, NO_LINE))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the names and lengths of the records, one line ``NAME<tab>LENGTH`` each."""
        lines = "".join(f"{name}\t{size}\n" for name, size in self._sizes.items())
        return hashlib.sha256(lines.encode()).hexdigest()


def where(region: Region) -> str:
    """A region in messages: its line in the BED, or its name in the FASTA."""
    return f"record {region.chrom}" if region.line == NO_LINE else f"line {region.line}"
