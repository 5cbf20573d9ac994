"""Numbers of bigWigs: of every kind of block and order of bytes, and what is damaged is told."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from fastism_cli.errors import UsageError
from fastism_cli.genome.bigwig import BigWig
from tests.helpers.bigwig_files import Block, bigwig_bytes

SIZES = {"chr1": 500, "chrM": 90, "empty": 40}
BLOCKS = (
    Block(0, 1, [10, 14, 40], [12, 17, 41], [1.5, -2, 3]),
    Block(0, 2, [50, 61, 80], [55, 66, 85], [4, 5.25, 6]),
    Block(0, 3, [100, 110, 120, 130], [104, 114, 124, 134], [7, 8, 9, 10]),
    Block(0, 3, [200, 201, 202], [201, 202, 203], [11, np.nan, 13]),
    Block(0, 1, [490], [500], [14]),
    Block(1, 1, [0, 89], [1, 90], [15, 16]),
)


def truth(chrom: str, start: int, end: int) -> np.ndarray:
    """The numbers base by base."""
    known = {
        (list(SIZES)[block.contig], base): value
        for block in BLOCKS
        for first, last, value in zip(block.starts, block.ends, block.values, strict=True)
        for base in range(first, last)
    }
    return np.array([known.get((chrom, base), np.nan) for base in range(start, end)], "float32")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("fan_out", [2, 3, 99])
def test_numbers_of_every_kind_of_block(order, packed, fan_out):
    Path("a.bw").write_bytes(bigwig_bytes(SIZES, BLOCKS, order=order, packed=packed, fan_out=fan_out))
    with BigWig("a.bw") as file:
        assert file.sizes == SIZES
        for chrom, start, end in (
            *(("chr1", -7, 520), ("chr1", 15, 52), ("chr1", 101, 133), ("chr1", 17, 40), ("chr1", 499, 500)),
            *(("chrM", 0, 90), ("empty", 0, 40), ("none", 0, 5), ("chr1", 600, 700), ("chr1", -9, 0)),
        ):
            np.testing.assert_array_equal(file.values(chrom, start, end), truth(chrom, start, end))


def test_it_reads_what_another_library_wrote():
    library = pytest.importorskip("pyBigWig")
    rng = np.random.default_rng(3)
    values, starts = rng.normal(size=4000), np.sort(rng.choice(90_000, 4000, replace=False)).tolist()
    with library.open("a.bw", "w") as file:
        file.addHeader([("chr2", 100_000), ("chr10", 5)])
        file.addEntries(
            ["chr2"] * 2000, starts[:2000], ends=[x + 1 for x in starts[:2000]], values=values[:2000].tolist()
        )
        file.addEntries("chr2", starts[2000:], values=values[2000:].tolist(), span=1)
    with library.open("a.bw") as file, BigWig("a.bw") as own:
        for start, end in ((0, 100_000), (333, 777), (89_000, 100_000)):
            expected = file.values("chr2", start, end, numpy=True)
            np.testing.assert_array_equal(own.values("chr2", start, end), expected.astype("float32"))
        assert own.sizes == {"chr2": 100_000, "chr10": 5}


def test_a_file_without_numbers():
    Path("a.bw").write_bytes(bigwig_bytes({"chr1": 9}, []))
    with BigWig("a.bw") as file:
        assert np.isnan(file.values("chr1", 0, 9)).all()


def edited(data: bytes, at: int, form: str, value: int) -> bytes:
    return data[:at] + struct.pack("<" + form, value) + data[at + struct.calcsize("<" + form) :]


WHOLE = bigwig_bytes(SIZES, BLOCKS, packed=False)
TREE = struct.unpack_from("<Q", WHOLE, 24)[0]
DATA = struct.unpack_from("<Q", WHOLE, 16)[0]
DAMAGES = {
    "cut": WHOLE[: TREE + 60],
    "no tree": edited(WHOLE, TREE, "I", 7),
    "a node that leads to itself": edited(WHOLE, TREE + 48 + 4 + 16, "Q", TREE + 48),
    "a node beyond the end": edited(WHOLE, TREE + 48 + 4 + 16, "Q", 10**18),
    "a node of no kind": edited(WHOLE, TREE + 48, "B", 9),
    "a block of another contig": edited(WHOLE, DATA, "I", 1),
    "a block of no kind": edited(WHOLE, DATA + 20, "B", 7),
    "a block of more items": edited(WHOLE, DATA + 22, "H", 4),
    "an item beyond its block": edited(WHOLE, DATA + 24 + 24 + 4, "I", 48),
    "an item before its block": edited(WHOLE, DATA + 24, "I", 8),
    "items in no order": edited(WHOLE, DATA + 24, "I", 13),
    "an item without a base": edited(WHOLE, DATA + 24 + 4, "I", 10),
    "a block that ends before it starts": edited(WHOLE, DATA + 8, "I", 5),
    "blocks of 4 GB": edited(WHOLE, 52, "I", 2**32 - 1),
    "a contig of another number": edited(WHOLE, 64 + 32 + 4 + len("empty"), "I", 8),
    "no contig": edited(edited(WHOLE, 64 + 16, "Q", 0), 64 + 32 + 2, "H", 0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_told(damage):
    Path("a.bw").write_bytes(DAMAGES[damage])
    with BigWig("a.bw") as file, pytest.raises(UsageError, match=r"^a\.bw .*Make or copy it again\.$"):
        file.values("chr1", 0, 500)


def test_a_packed_block_that_is_damaged_is_told():
    data = bigwig_bytes(SIZES, BLOCKS)
    for at in range(DATA, struct.unpack_from("<Q", data, 24)[0]):
        Path("a.bw").write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with BigWig("a.bw") as file:
            for chrom in ("chr1", "chrM"):
                try:
                    found = file.values(chrom, 0, SIZES[chrom])
                except UsageError:
                    continue
                np.testing.assert_array_equal(found, truth(chrom, 0, SIZES[chrom]))


@pytest.mark.parametrize("data", [b"", b"&\xfc", b"no bigWig", WHOLE[:64], edited(WHOLE, 8, "Q", 10**17)])
def test_what_is_none_is_told(data):
    Path("a.bw").write_bytes(data)
    with pytest.raises(UsageError, match=r"^a\.bw cannot be read as a bigWig\. Make or copy it again\.$"):
        with BigWig("a.bw") as file:
            _ = file.sizes


def test_a_file_that_is_not_there_is_told():
    with pytest.raises(UsageError, match=r"^gone\.bw cannot be read: No such file or directory$"):
        BigWig("gone.bw")
