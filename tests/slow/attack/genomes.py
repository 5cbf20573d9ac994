"""BED against a parser of ten lines; FASTA, plain or bgzip, and its indexes against samtools."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pysam

from fastism_cli.genome.bed import BedSource
from fastism_cli.genome.fasta import open_fasta
from tests.slow.attack.mutations import BYTES, LINES, TEXT, edit_columns, mutated, replace_number, zero_all
from tests.slow.attack.outcome import Kind, Outcome, read

pysam.set_verbosity(0)

UNDAMAGED = 0.02  # share of tries with files as they were

# --- BED --------------------------------------------------------------------------------------------------------------

Row = tuple[Any, ...]  # chrom, start, end, name, strand
Summits = tuple[int | None, ...]
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|nan|inf")
MAX_COORDINATE = 2**32 - 1


def bed_row(line: bytes) -> tuple[Row, Summits] | None:
    """A record and the summits that it may have, or None for a line that is none; ValueError: no BED."""
    text = line.decode().rstrip()
    if not text or text[0] == "#" or re.match("(track|browser)( |$)", text):
        return None
    if set(text) & set("\0\r"):
        raise ValueError(text)
    chrom, start, end, *more = text.split("\t")
    name, strand = ([*more, "", "", ""][i] for i in (0, 2))
    if not (chrom and re.fullmatch(r"[0-9]{1,12}", start) and re.fullmatch(r"[0-9]{1,12}", end) and strand in "+-."):
        raise ValueError(text)
    if not int(start) < int(end) <= MAX_COORDINATE:
        raise ValueError(text)
    row = (chrom, int(start), int(end), "" if name == "." else name, strand or ".")
    return row, summits(more, int(start), int(end))


def summits(more: list[str], start: int, end: int) -> Summits:
    """The summit of narrowPeak, by its ten columns; with more columns, or odd ones, a reader may do without."""
    if len(more) < 7:
        return (None,)
    is_narrowpeak = len(more) == 7 and all(NUMBER.fullmatch(value) for value in more[3:6])
    if more[6] == "-1":
        return (None,)
    if re.fullmatch("[0-9]{1,12}", more[6]) and int(more[6]) < end - start:
        return (start + int(more[6]),) if is_narrowpeak else (start + int(more[6]), None)
    if len(more) == 7 and is_narrowpeak:
        raise ValueError(more[6])
    return (None,)


def bed_rows(data: bytes) -> list[tuple[Row, Summits]] | None:
    """All records of a BED; None if a line is none."""
    try:
        found = [bed_row(line) for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    except ValueError:
        return None
    return [row for row in found if row is not None]


def bed_texts(draw: Random) -> bytes:
    """BED3, BED4, BED6 or narrowPeak with a header, of 1 to 9 records."""
    columns = draw.choice((3, 4, 6, 10, 10))
    lines = draw.sample(
        ["# made", 'track name="x" description="y"', "browser position chr1:1-9", ""], draw.randrange(3)
    )
    for i in range(draw.randrange(1, 10)):
        start = draw.randrange(5000)
        length = draw.randrange(2, 300)
        cells = (f"chr{draw.randrange(1, 4)}", start, start + length, draw.choice((f"peak {i}", ".", f"tür_{i}")), i,
                 draw.choice("+-."), 1.5, 2.25, -1, draw.choice((-1, draw.randrange(length))))  # fmt: skip
        lines.append("\t".join(map(str, cells[:columns])))
    return "\n".join([*lines, ""]).encode()


def attempt_bed(_: None, draw: Random, folder: Path) -> Outcome:
    path, original = folder / "peaks.bed", bed_texts(draw)
    data = original if draw.random() < UNDAMAGED else mutated(draw, original, TEXT)
    path.write_bytes(data)
    expected = bed_rows(data)

    def rows() -> list[tuple[Row, Any]]:
        with BedSource(str(path)) as source:
            found = list(source.regions())
            assert len(found) == source.summary.count
        return [((r.chrom, r.start, r.end, r.name, r.strand), r.summit) for r in found]

    def wrong(found: list[tuple[Row, Any]]) -> str:
        if expected is None:
            is_as_before = _same_rows(found, bed_rows(original) or [])
            return "" if is_as_before else f"read as {found}, but a line is no record: {data[:2000]!r}"
        return "" if _same_rows(found, expected) else f"{found} are not {expected}: {data[:2000]!r}"

    outcome = read(rows, ["peaks.bed"], wrong)
    return still_read(outcome, data == original)


def _same_rows(found: list[tuple[Row, Any]], expected: list[tuple[Row, Summits]]) -> bool:
    return len(found) == len(expected) and all(
        row == known and summit in allowed for (row, summit), (known, allowed) in zip(found, expected, strict=True)
    )


def still_read(outcome: Outcome, is_undamaged: bool) -> Outcome:
    """A refusal of undamaged files is wrong."""
    if is_undamaged and outcome.word == "refused":
        return Outcome("wrong", f"refused, but nothing is damaged: {outcome.detail}")
    return outcome


# --- FASTA ------------------------------------------------------------------------------------------------------------

Bases = dict[str, str]


def fasta_text(draw: Random) -> bytes:
    """A genome of 1 to 5 contigs in its own line width, with N, lower case and descriptions."""
    width, end = draw.choice((7, 20, 60, 61, 100)), draw.choice(("\n", "\n", "\n", "\r\n"))
    text = ""
    for i in range(draw.randrange(1, 6)):
        letters = draw.choices("ACGTacgtN", k=draw.choice((1, width, 3 * width, draw.randrange(1, 900))))
        lines = ["".join(letters[j : j + width]) for j in range(0, len(letters), width)]
        text += end.join([f">chr{i + 1}{draw.choice(('', ' of a test', ' 3:7'))}", *lines, ""])
    return text.encode() if draw.random() > 0.1 else text.rstrip().encode()


def letters_of(data: bytes) -> Bases | None:
    """A FASTA read line by line: white space at line ends is no sequence. None if anything else is no sequence."""
    found: Bases = {}
    name = None
    for raw in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        line = raw.rstrip(b" \t\r\v\f")
        if line.startswith(b">"):
            words = line[1:].split()
            name = words[0].decode("utf-8", "replace") if words else ""
            if not name or name in found:
                return None
            found[name] = ""
        elif line and name is None:
            if not line.startswith(b";"):
                return None
        elif line and name is not None:
            if not re.fullmatch(rb"[A-Za-z*.-]+", line):
                return None
            found[name] += line.decode()
    return found or None


def samtools_reads(data: bytes, folder: Path, suffix: str) -> Bases | None:
    """What samtools reads, with an index of its own; None if it refuses."""
    folder.mkdir()
    (folder / f"g{suffix}").write_bytes(data)
    try:
        with pysam.FastaFile(str(folder / f"g{suffix}")) as fasta:
            return {name: fasta.fetch(name) for name in fasta.references}
    except (OSError, ValueError, KeyError):
        return None


def codes_of(bases: str) -> np.ndarray:
    table = np.full(256, 4, "uint8")
    for code, letters in enumerate(("Aa", "Cc", "Gg", "TtUu")):
        for letter in letters:
            table[ord(letter)] = code
    return table[np.frombuffer(bases.encode("latin-1", "replace"), "uint8")]


def spans(draw: Random, bases: Mapping[str, str]) -> list[tuple[str, int, int]]:
    """Whole contigs, and some stretches of each."""
    found = []
    for name, sequence in bases.items():
        ends = [sorted((draw.randrange(len(sequence) + 1), draw.randrange(len(sequence) + 1))) for _ in range(3)]
        found += [(name, 0, len(sequence)), *((name, start, end) for start, end in ends)]
    return found


def wrong_bases(path: Path, expected: Bases, where: list[tuple[str, int, int]]) -> str:
    """Open a FASTA and compare its contigs with the expected ones; "" if all is right."""
    with open_fasta(path) as genome:
        sizes = {name: len(sequence) for name, sequence in expected.items() if sequence}
        found = {name: size for name, size in genome.sizes.items() if size}  # samtools leaves empty contigs out
        if found != sizes:
            return f"contigs {dict(list(found.items())[:5])} in place of {sizes}"
        for name, start, end in where:
            if not np.array_equal(genome.codes(name, start, end), codes_of(expected[name])[start:end]):
                return f"other bases at {name}:{start}-{end}"
    return ""


def attempt_fasta(_: None, draw: Random, folder: Path) -> Outcome:
    """Damage a plain FASTA; samtools reads the same file, or, where it refuses, a parser line by line."""
    original = fasta_text(draw)
    data = original if draw.random() < UNDAMAGED else mutated(draw, original, (*TEXT, replace_letters))
    return judged_fasta(draw, data, original, folder, ".fa")


def replace_letters(draw: Random, data: bytes) -> bytes:
    """Letters of another alphabet, such as IUPAC's."""
    at = draw.randrange(max(len(data), 1))
    return data[:at] + draw.choice((b"R", b"y", b"u", b"-", b"*", b".", b"X", b"Z")) + data[at + 1 :]


def attempt_bgzip(_: None, draw: Random, folder: Path) -> Outcome:
    """Damage the compressed bytes."""
    original = blocks(fasta_text(draw), draw.choice((100, 333, 65280)))
    data = original if draw.random() < UNDAMAGED else mutated(draw, original, BYTES)
    return judged_fasta(draw, data, original, folder, ".fa.gz")


def judged_fasta(draw: Random, data: bytes, original: bytes, folder: Path, suffix: str) -> Outcome:
    path = folder / f"genome{suffix}"
    path.write_bytes(data)
    by_line = letters_of(unpacked(data)) if suffix.endswith(".gz") else letters_of(data)
    by_samtools = samtools_reads(data, folder / "samtools", suffix)
    expected = by_line if by_samtools is None else by_samtools
    where = spans(draw, expected or {})

    def wrong(found: str) -> str:
        if by_line is None or expected is None:
            before = letters_of(unpacked(original) if suffix.endswith(".gz") else original)
            return wrong_bases(path, before or {}, []) and f"read, but it is no FASTA: {data[:1500]!r}"
        return found and f"{found}: {data[:1500]!r}"

    outcome = read(lambda: wrong_bases(path, expected or {}, where), [path.name], wrong)
    return still_read(outcome, data == original)


# --- bgzip ------------------------------------------------------------------------------------------------------------

END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def block(data: bytes) -> bytes:
    """One block of bgzip."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = deflate.compress(data) + deflate.flush()
    head = bytes.fromhex("1f8b08040000000000ff060042430200") + struct.pack("<H", len(packed) + 25)
    return head + packed + struct.pack("<II", zlib.crc32(data), len(data))


def blocks(data: bytes, size: int) -> bytes:
    """bgzip with blocks of ``size`` bytes, so that a small file has many."""
    return b"".join(block(data[i : i + size]) for i in range(0, len(data), size)) + END


def unpacked(data: bytes) -> bytes:
    """What gzip makes of all blocks; nothing of a damaged file."""
    found = b""
    while data:
        gzip = zlib.decompressobj(31)
        try:
            found += gzip.decompress(data)
        except zlib.error:
            return b""
        if not gzip.eof:
            return b""
        data = gzip.unused_data
    return found


# --- indexes ----------------------------------------------------------------------------------------------------------


def indexed(data: bytes, folder: Path, suffix: str) -> dict[str, bytes]:
    """A FASTA and its index by samtools: ending of the name and content."""
    path = folder / f"index{suffix}"
    path.write_bytes(data)
    pysam.faidx(str(path))
    endings = ("", ".fai", ".gzi") if suffix.endswith(".gz") else ("", ".fai")
    return {ending: Path(f"{path}{ending}").read_bytes() for ending in endings}


def attempt_index(_: None, draw: Random, folder: Path, *, ending: str) -> Outcome:
    """Damage one file of an index, or put another FASTA, which is older, in the place of the indexed one."""
    suffix = draw.choice((".fa", ".fa.gz")) if ending == ".fai" else ".fa.gz"
    size = draw.choice((100, 333))
    texts = [fasta_text(draw) for _ in range(2)]
    made = [indexed(blocks(text, size) if suffix == ".fa.gz" else text, folder, suffix) for text in texts]
    files, action = dict(made[0]), draw.random()
    if action > 0.3:
        files[ending] = damaged_index(draw, files[ending], ending)
    elif action > UNDAMAGED:
        files[""], texts[0] = replaced(draw, made[0][""], texts, size, suffix)
    path = folder / f"genome{suffix}"
    for name, content in files.items():
        Path(f"{path}{name}").write_bytes(content)
    os.utime(path, (1e9, 1e9))
    expected = samtools_reads(files[""], folder / "samtools", suffix)
    where = spans(draw, expected or {})
    names = [path.name]
    outcome = read(
        lambda: wrong_bases(path, expected or {}, where), names, lambda found: found and f"{found}: {files!r}"[:3000]
    )
    return still_read(outcome, files == made[0])


def damaged_index(draw: Random, data: bytes, ending: str) -> bytes:
    if ending == ".fai":
        changes = (*BYTES, *LINES, edit_columns, replace_number, replace_number, zero_all)
        return mutated(draw, data, changes)
    return mutated(draw, data, (*BYTES, zero_all, change_entry, change_entry))


def change_entry(draw: Random, data: bytes) -> bytes:
    """Another number in place of one of a ``.gzi``: a little more, or less, or very much."""
    if len(data) < 8:
        return data
    at = draw.randrange(len(data) // 8) * 8
    number = int.from_bytes(data[at : at + 8], "little") + draw.choice((-100, -1, 1, 60, 100, 2**32, 2**63 - 1))
    return data[:at] + (number % 2**64).to_bytes(8, "little") + data[at + 8 :]


def replaced(draw: Random, before: bytes, texts: list[bytes], size: int, suffix: str) -> tuple[bytes, bytes]:
    """Another FASTA for the index of the first: one of its kind, or the same with one change."""
    text = texts[1] if draw.random() < 0.5 else other_version(draw, texts[0])
    return (blocks(text, size) if suffix == ".fa.gz" else text), text


def other_version(draw: Random, text: bytes) -> bytes:
    """The genome with its contigs in another order or of other names, with a base more or less, or of other width."""
    records = [b">" + record for record in text.split(b">")[1:]]
    action = draw.randrange(5)
    if action == 0:
        draw.shuffle(records)
    elif action == 1:
        return text.replace(b">chr", draw.choice((b">Chr", b">", b">chromosome")))
    elif action == 2:
        at = draw.randrange(len(records))
        del records[at : at + 1 if len(records) > 1 else at]
    elif action == 3:
        name, _, rest = records[0].partition(b"\n")
        records[0] = name + draw.choice((b"x", b" longer")) + b"\n" + rest
    else:
        widths = [record.partition(b"\n") for record in records]
        records = [head + b"\n" + b"".join(rest.split()) + b"\n" for head, _, rest in widths]
    return b"".join(record if record.endswith(b"\n") else record + b"\n" for record in records)


def no_files(folder: Path) -> None:
    """Every try makes its own."""


def kinds() -> Iterator[Kind]:
    yield Kind("BED", no_files, attempt_bed, share=1)
    yield Kind("FASTA", no_files, attempt_fasta, share=2)
    yield Kind("bgzip", no_files, attempt_bgzip, share=1)
    yield Kind("fai", no_files, partial(attempt_index, ending=".fai"), share=2)
    yield Kind("gzi", no_files, partial(attempt_index, ending=".gzi"), share=2)
