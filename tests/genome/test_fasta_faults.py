"""Odd FASTA files are read as samtools reads them, or refused with record and line; a wrong index is never used."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from Bio import bgzf

from fastism_cli.errors import SequenceError
from fastism_cli.genome import fasta as fasta_module
from fastism_cli.genome import fasta_index, fasta_scan
from fastism_cli.genome.alphabet import DNA
from fastism_cli.genome.fasta import open_fasta
from fastism_cli.genome.input_files import has_bgzf_header

pysam = pytest.importorskip("pysam")

BASES = {"chrA": "ACGTTGCAAC" * 13 + "GAT", "chrB": "TTGACCAGTA" * 6}
EMPTY_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("FASTISM_CACHE", "off")


@pytest.fixture(params=["small", "large"])
def size(request, monkeypatch) -> str:
    """Whether an index that is found is checked by reading the whole file, or at each record."""
    if request.param == "large":
        monkeypatch.setattr(fasta_index, "READ_WHOLE", {False: 0, True: 0})
    return request.param


def text_of(bases: dict[str, str], end: str = "\n", width: int = 10) -> bytes:
    lines = []
    for name, letters in bases.items():
        lines += [f">{name} description", *(letters[at : at + width] + end for at in range(0, len(letters), width))]
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines).encode("latin-1")


def read(path: Path) -> dict[str, str]:
    with open_fasta(path) as genome:
        return {name: DNA.decode(genome.codes(name, 0, size)) for name, size in genome.sizes.items()}


def write_blocks(path: Path, content: bytes, size: int) -> None:
    """A bgzip file with blocks of ``size`` bytes, and one without content after each of them."""
    with open(path, "wb") as file:
        writer = bgzf.BgzfWriter(fileobj=file)
        for at in range(0, len(content), size):
            writer._write_block(content[at : at + size])
            file.write(EMPTY_BLOCK)


def make_older(path: Path, seconds: int = 100) -> None:
    """Date a FASTA before its index, as ``cp -p`` of an older file does."""
    os.utime(path, (os.stat(path).st_mtime - seconds,) * 2)


# --- lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", ["own", "samtools"])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\t\n", " \t \r\n", "\v\n"])
def test_white_space_at_line_ends_is_no_sequence(tmp_path, end, index, size):
    path = tmp_path / "g.fa"
    path.write_bytes(text_of(BASES, end))
    if index == "samtools":
        pysam.faidx(str(path))
    assert read(path) == BASES
    with pysam.FastaFile(str(path)) as samtools, open_fasta(path) as genome:
        for start in range(0, 130, 7):
            for stop in (start + 1, start + 10, start + 23):
                expected = samtools.fetch("chrA", start, stop)
                assert DNA.decode(genome.codes("chrA", start, min(stop, 133))) == expected


@pytest.mark.parametrize(
    "content",
    [
        b">chrA\r\nACGT\r\nAC\r\n>chrB\nGGG\nTT\n",
        b"> chrA\nACGT\nAC\n>\tchrB x\nGGG\nTT",
        b">chrA\nACGT\nAC\n\n\n>chrB\nGGG\nTT\n\n \n",
        b">chrA \xd7 Neotyphodium\nACGT\nAC\n>chrB\n\rGGG\nTT\n".replace(b"\n\r", b"\n"),
        b"\xef\xbb\xbf>chrA\nACGT\nAC\n>chrB\nGGG\nTT\n",
        b"\xef\xbb\xbf\n;a comment\n\n>chrA >x\nacgt\nac\n>chrB\nGGG\nTT   \n",
    ],
    ids=["line ends by record", "blank after >", "blank lines", "Latin-1", "byte order mark", "comment"],
)
def test_what_is_no_sequence_does_no_harm(tmp_path, content, size):
    path = tmp_path / "g.fa"
    path.write_bytes(content)
    for _ in ("builds the index", "finds it"):
        assert read(path) == {"chrA": "ACGTAC", "chrB": "GGGTT"}


def test_records_without_bases_are_left_out_as_by_samtools(tmp_path, size, caplog):
    path = tmp_path / "g.fa"
    path.write_bytes(b">e0\n\n>chrA\nAC\n>e1\n>e2\n\n\n>chrB\nGT\n>e3")
    assert read(path) == {"chrA": "AC", "chrB": "GT"}
    assert f"{path}: 4 records without bases are left out ('e0')" in caplog.text
    assert read(path) == {"chrA": "AC", "chrB": "GT"}
    path.write_bytes(b">chrA\nAC\n>e1 x\n>chrB\nGT\n")
    pysam.faidx(str(path))
    with pysam.FastaFile(str(path)) as samtools:
        assert (
            read(path) == {name: samtools.fetch(name) for name in samtools.references} == {"chrA": "AC", "chrB": "GT"}
        )
    path.write_bytes(b">chrA\n>chrB\n")
    with pytest.raises(SequenceError, match=r"g\.fa holds no record with bases"):
        open_fasta(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b">a\nACGT\nA1GT\n", "line 3: record 'a' holds '1', which is no letter, '*', '-' or '.'. Is the file damaged"),
        (b">a\nACGT\n  10 ACGT\n", "line 3: record 'a' holds ' ', which is no letter"),
        (b">a\nAC GT\nAC GT\n", "line 2: record 'a' holds ' ', which is no letter, '*', '-' or '.'. White space may"),
        (b">a\nAC\tGT\n", "line 2: record 'a' holds '\\t', which is no letter"),
        (b">a\nACGT\n\n>b\nAC\0T\nA\n", "line 5: record 'b' holds '\\x00', which is no letter"),
        (b">a\nACGT>b\nACGT\n", "line 2: record 'a' holds '>', which is no letter, '*', '-' or '.'. Only at the begin"),
        (b">a\nACGT\n;x\n", "line 3: record 'a' holds ';'"),
        (b">a\nAC\xc3\xa9T\n", "line 2: record 'a' holds '\\xc3'"),
        (b">a x\rACGT\r>b\rAC\r", "line 1: the lines end in carriage returns alone (CR), as on old Macs. Mend them:"),
        (b">a x\rACGT\n", "line 1: the lines end in carriage returns alone (CR)"),
        (b">a x\nAC\rGT\r\n", "line 2: the lines end in carriage returns alone (CR)"),
        (b">a\nAC\n\nAC\n", "line 4: record 'a' goes on after line 3, which is blank. Remove blank lines: sed"),
        (b">a\n\nAC\n", "line 3: record 'a' goes on after line 2, which is blank"),
        (b">a\nACG\nAC\nACG\n", "line 4: record 'a' goes on after line 3, which has 2 bases, and the lines before it"),
        (b">a\nACG\nACGT\n", "line 3: record 'a' has 4 bases, and the lines before it have 3. Make all lines of a"),
        (b">a\nACG\nACG \nACG\n", "line 4: record 'a' goes on after line 3, which ends in other white space than the"),
        (b">a\nAC\n>\nACGT\n", "line 3: '>' is followed by no name"),
        (b">a\nAC\n> \t\nACGT\n", "line 3: '>' is followed by no name"),
        (b">a\nAC\n>b\xd7\nACGT\n", "line 3: the name of the record, b'b\\xd7', is not text (UTF-8)"),
        (b">a\nAC\n>b\0\nACGT\n", "line 3: the name of the record, 'b\\x00', holds characters that cannot be printed"),
        (b";only\n;comments\n", " holds no record with bases"),
        (b";comment\nACGT\n>a\nAC\n", "line 2: text before the first record"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["g.fa", "g.fa.gz"])
def test_what_is_no_fasta_is_refused_with_its_line(tmp_path, content, problem, name):
    path = tmp_path / name
    if name.endswith("gz"):
        write_blocks(path, content, 5)
    else:
        path.write_bytes(content)
    with pytest.raises(SequenceError) as caught:
        open_fasta(path)
    assert str(caught.value).startswith(f"{path} {problem.lstrip()}")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == [name]


def test_a_fault_far_down_has_its_line(tmp_path, monkeypatch):
    """Many equal lines are read at once; lines are counted over pieces of the file too."""
    monkeypatch.setattr(fasta_scan, "_PIECE", 777)
    lines = [b">a", *[b"ACGTACGTAC"] * 1000, b"AC", b">b x", *[b"GGGGG"] * 500]
    path = tmp_path / "g.fa"
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert {name: len(bases) for name, bases in read(path).items()} == {"a": 10_002, "b": 2500}
    for number in (3, 500, 1001, 1004, 1400, len(lines)):
        path.write_bytes(b"\n".join([*lines[: number - 1], b"AC#", *lines[number:]]))
        with pytest.raises(SequenceError, match=rf"g\.fa line {number}: record '[ab]' holds '#'"):
            open_fasta(path)


def test_a_large_file_with_a_good_index_is_checked_where_it_is_read(tmp_path, monkeypatch):
    """A genome is not read twice at each run; the lines that are read hold bases only."""
    monkeypatch.setattr(fasta_index, "READ_WHOLE", {False: 0, True: 0})
    path = tmp_path / "g.fa"
    path.write_bytes(text_of({"chrA": "ACGTTGCAAC" * 6 + "AC7TTG\0AAC" + "ACGTTGCAAC" * 6}))
    start, line = len(">chrA description\n"), 11
    index = Path(f"{path}.fai")
    index.write_text(f"chrA\t130\t{start}\t10\t{line}\n")
    with open_fasta(path) as genome:
        assert DNA.decode(genome.codes("chrA", 2, 58)) == ("ACGTTGCAAC" * 6)[2:58]
        with pytest.raises(SequenceError, match=r"g\.fa line 8: record 'chrA' holds '7', which is no letter"):
            genome.codes("chrA", 55, 65)
        with pytest.raises(SequenceError, match=r"g\.fa line 8: record 'chrA' holds '7'"):
            genome.codes("chrA", 66, 67)
        assert DNA.decode(genome.codes("chrA", 71, 73)) == "CG"


@pytest.mark.parametrize("most", [0, 10, 1 << 10])
def test_short_lines_are_read_whole_and_of_long_ones_both_ends_are_looked_at(tmp_path, monkeypatch, most):
    monkeypatch.setattr(fasta_module, "_READ_WHOLE", most)
    text = "".join(np.random.default_rng(1).choice(list("ACGTN"), 47))
    path = tmp_path / "g.fa"
    path.write_text(">one\n" + "\n".join(text[i : i + 10] for i in range(0, 47, 10)) + "\n>two\nACGT\n")
    with open_fasta(path) as genome:
        for start in range(-3, 47):
            for end in range(max(start, 0), 50):
                found = DNA.decode(genome.codes("one", start, end))
                assert found == "N" * max(-start, 0) + text[max(start, 0) : end] + "N" * max(end - max(start, 47), 0)
        assert DNA.decode(genome.codes("two", 0, 4)) == "ACGT"


def test_a_large_file_that_was_edited_under_its_index_gives_no_shifted_bases(tmp_path, monkeypatch):
    """One line loses bases, another gets as many: both ends of the record fit, what lies between is shifted.

    The .gzi of an edited bgzip file does not fit its blocks, which is seen when it is opened.
    """
    monkeypatch.setattr(fasta_index, "READ_WHOLE", {False: 0, True: 0})
    rng = np.random.default_rng(0)
    lines = ["".join(rng.choice(list("ACGT"), 10)) for _ in range(30)]
    intact = "".join(lines)
    n_right = n_refused = 0
    for shift, shorter, longer in [(1, 3, 20), (4, 10, 11), (3, 20, 5), (2, 2, 28)]:
        path = tmp_path / f"{shift}.fa"
        path.write_bytes(text_of({"chrA": intact}))
        open_fasta(path).close()
        edited = list(lines)
        edited[shorter], edited[longer] = lines[shorter][shift:], lines[longer] + shift * "A"
        moved = "".join(edited)
        path.write_bytes(b">chrA description\n" + "".join(f"{line}\n" for line in edited).encode())
        os.utime(f"{path}.fai", (2**31, 2**31))
        with open_fasta(path) as genome:
            for start in range(0, 297):
                for end in (start + 1, start + 3, min(start + 25, 300)):
                    try:
                        found = DNA.decode(genome.codes("chrA", start, end))
                    except SequenceError as error:
                        assert "bases, and the lines before it have 10" in str(error)
                        n_refused += 1
                    else:
                        assert found == moved[start:end], (shift, start, end)
                        n_right += 1
    assert n_right > 500 < n_refused


# --- the index -------------------------------------------------------------------------------------------------------


def written(path: Path, bases: dict[str, str]) -> None:
    if path.suffix == ".gz":
        write_blocks(path, text_of(bases), 57)
    else:
        path.write_bytes(text_of(bases))


OLDER: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "another order": lambda bases: dict(reversed(bases.items())),
    "another name": lambda bases: {"chrC" if name == "chrB" else name: letters for name, letters in bases.items()},
    "a base less": lambda bases: {name: letters[1:] if name == "chrA" else letters for name, letters in bases.items()},
    "a record more": lambda bases: {**bases, "chrC": "ACGT"},
    "a record less": lambda bases: {"chrA": bases["chrA"]},
    "a longer last line": lambda bases: {**bases, "chrB": bases["chrB"] + "A"},
}


@pytest.mark.parametrize("change", OLDER)
@pytest.mark.parametrize("name", ["g.fa", "g.fa.gz"])
def test_an_older_file_in_the_place_of_a_newer_one(tmp_path, name, change, size, caplog):
    """cp -p, rsync -t and mv keep the date, so that the index of the newer file is younger than the older file."""
    path = tmp_path / name
    written(path, BASES)
    assert read(path) == BASES
    older = OLDER[change](BASES)
    written(path, older)
    make_older(path)
    caplog.set_level(logging.WARNING)
    assert read(path) == older
    assert "does not fit it: not used" in caplog.text


@pytest.mark.parametrize("name", ["g.fa", "g.fa.gz"])
def test_no_flipped_bit_of_an_index_changes_a_base(tmp_path, name, size):
    path = tmp_path / name
    written(path, BASES)
    read(path)
    make_older(path)
    for file in sorted(set(tmp_path.iterdir()) - {path}):
        good = file.read_bytes()
        for bit in range(0, 8 * len(good), 5 if file.suffix == ".fai" else 43):
            damaged = bytearray(good)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            assert read(path) == BASES, (file, bit)


@pytest.mark.parametrize(
    "line",
    [
        "chrA\t0\t0\t0\t0\n",
        f"chrA\t{'9' * 5000}\t18\t10\t11\n",
        f"chrA\t133\t18\t10\t{'1' * 18}\n",
        "chrA\t133\t18\t10\t9\n",
        "chrA\t133\t18\t0\t11\n",
        "chrA\t133\t18\t10\n",
        "chrA\t-133\t18\t10\t11\n",
        "\xff\t133\t18\t10\t11\n",
        "\0" * 40,
        "",
    ],
)
def test_an_index_of_odd_numbers_is_not_used(tmp_path, line, size):
    path = tmp_path / "g.fa"
    path.write_bytes(text_of(BASES))
    Path(f"{path}.fai").write_bytes(line.encode("latin-1"))
    make_older(path)
    assert read(path) == BASES


@pytest.mark.parametrize("name", ["g.fa", "g.fa.gz"])
def test_an_index_by_samtools_is_used(tmp_path, name, monkeypatch, size):
    path = tmp_path / name
    written(path, {**BASES, "last": "A"})
    path.with_name("plain.fa").write_bytes(text_of(BASES)[:-1])  # no line end at the end of the file
    for file in (path, path.with_name("plain.fa")):
        pysam.faidx(str(file))
    monkeypatch.setattr(fasta_module, "build_index", None)  # would fail if it were built
    assert read(path) == {**BASES, "last": "A"}
    assert read(path.with_name("plain.fa")) == BASES


def test_bgzip_files_that_were_joined(tmp_path, size):
    """``cat a.gz b.gz`` leaves the end marker of the first, a block without content, in the middle."""
    parts = []
    for name, bases in BASES.items():
        with bgzf.BgzfWriter(str(tmp_path / name)) as file:
            file.write(text_of({name: bases}))
        parts.append((tmp_path / name).read_bytes())
    path = tmp_path / "g.fa.gz"
    path.write_bytes(b"".join(parts))
    for _ in ("builds the index", "finds it"):
        assert read(path) == BASES


def test_the_index_of_a_large_file_is_checked_without_reading_all_of_it(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    path = tmp_path / "g.fa"
    bases = {f"contig_{i}": "".join(rng.choice(list("ACGT"), 20_000)) for i in range(30)}
    path.write_bytes(text_of(bases, width=60))
    assert read(path) == bases
    monkeypatch.setattr(fasta_index, "READ_WHOLE", {False: 0, True: 0})
    monkeypatch.setattr(fasta_index, "scan", None)  # would fail if all were read
    monkeypatch.setattr(fasta_index, "_WINDOW", 1 << 8)
    assert read(path) == bases


def test_a_block_has_a_size_of_two_bytes_in_its_header() -> None:
    """htslib reads no block whose field BC says another length, so neither do we."""
    header = bytes.fromhex("1f8b08040000000000ff0600424302002700")
    assert has_bgzf_header(header)
    assert not any(has_bgzf_header(header[:14] + bytes([low, high]) + header[16:]) for low, high in ((0xF0, 0), (2, 1)))
