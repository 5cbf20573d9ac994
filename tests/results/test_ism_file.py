"""The result file: what is written is read, in whole chunks, under its name only when complete, on any disk."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastism_cli.errors import OutputError, ResourceError, UsageError
from fastism_cli.options.choices import COMPRESSIONS, DELTA_DTYPES
from fastism_cli.results import crash_safe_file, schema
from fastism_cli.results.chunk_writer import ChunkWriter
from fastism_cli.results.contents import differences
from fastism_cli.results.ism_file import read_result
from fastism_cli.results.layout import HeadLayout, Layout
from fastism_cli.results.outputs import check_output
from fastism_cli.results.schema import Status
from fastism_cli.results.writer import ResultWriter

resource = pytest.importorskip("resource")

HEADS = (HeadLayout("main", (3,), ("K562", "HepG2", "H1é")), HeadLayout("profile/out", (5, 2), reduce="none"))
ATTRIBUTES = {"bed_path": "peaks.bed", "config": json.dumps({"a": 1}), "n_total": 7, "stranded": False, "device": None}
GENOME = {"chr1": 248_956_422, "chrM": 16_569}


def layout_of(n_rows: int, length: int = 6, heads: tuple[HeadLayout, ...] = HEADS, **options) -> Layout:
    return Layout(n_rows=n_rows, length=length, heads=heads, **options)


def block_of(layout: Layout, rng: np.random.Generator) -> dict:
    """All rows of a result."""
    n = layout.n_rows
    start = np.arange(n) * 10
    return {
        "regions": {
            "chrom": [("chr1", "chrM")[i % 2] for i in range(n)],
            "start": start,
            "end": start + layout.length,
            "input_start": start - 3,
            "strand": ["+-."[i % 3] for i in range(n)],
            "name": [f"peak é {i}" for i in range(n)],
            "bed_row": np.arange(n),
            "status": [Status.OK] * n,
            "n_padded": np.arange(n) % 2,
        },
        "seq": rng.integers(0, 5, layout.seq_shape),
        "reference": {head.name: rng.normal(size=layout.ref_shape(head)) for head in layout.heads},
        "delta": {head.name: rng.normal(size=layout.delta_shape(head)) for head in layout.heads},
    }


def rows_of(block: dict, rows: slice) -> dict:
    return {
        "regions": {name: values[rows] for name, values in block["regions"].items()},
        "seq": block["seq"][rows],
        "reference": {name: values[rows] for name, values in block["reference"].items()},
        "delta": {name: values[rows] for name, values in block["delta"].items()},
    }


def write(path, layout: Layout, block: dict, pieces: list[slice] | None = None, **options) -> None:
    with ResultWriter(path, layout, attributes=ATTRIBUTES, genome_sizes=GENOME, **options) as writer:
        for rows in pieces or [slice(0, layout.n_rows)]:
            writer.write_rows(rows.start, **rows_of(block, rows))


def assert_holds(path, layout: Layout, block: dict) -> None:
    with read_result(path) as result:
        assert list(result.regions) == list(schema.REGION_COLUMNS)
        for column, values in block["regions"].items():
            np.testing.assert_array_equal(result.regions[column], values)
        np.testing.assert_array_equal(result.seq[:], block["seq"])
        for head in layout.heads:
            np.testing.assert_array_equal(result.reference(head.name)[:], np.float32(block["reference"][head.name]))
            expected = block["delta"][head.name].astype(layout.delta_dtype)
            np.testing.assert_array_equal(result.delta(head.name)[:], expected)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "ism.h5"


# --- what is written is read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("delta_dtype", DELTA_DTYPES)
def test_round_trip(output, rng, compression, delta_dtype):
    layout = layout_of(7, compression=compression, delta_dtype=delta_dtype)
    block = block_of(layout, rng)
    write(output, layout, block)
    assert_holds(output, layout, block)
    with read_result(output) as result:
        assert result.delta("main").dtype == delta_dtype
        assert result.delta("main").compression == (None if compression == "none" else compression)
        assert result.delta("main").shuffle == (compression != "none")


def test_header(output, rng):
    layout = layout_of(2, alphabet="ACGU")
    write(output, layout, block_of(layout, rng))
    with read_result(output) as result:
        assert (
            result.attrs.items()
            >= {
                "format": "fastism-ism",
                "format_version": 1.1,
                "complete": True,
                "bed_path": "peaks.bed",
                "config": '{"a": 1}',
                "n_total": 7,
                "stranded": False,
                "device": "",
                "alphabet": "ACGU",
                "score": "delta",
            }.items()
        )
        assert set(result.attrs) <= set(schema.ATTRIBUTES)
        assert result.complete
        assert result.alphabet.letters == "ACGU"
        assert result.heads == layout.heads
        assert result.genome_sizes == GENOME


def test_an_attribute_that_is_not_in_the_list_is_refused(output):
    with (
        pytest.raises(ValueError, match=r"those of schema\.ATTRIBUTES\. Received: mood"),
        ResultWriter(output, layout_of(1), attributes={"command": "", "mood": "good"}, genome_sizes={}),
    ):
        pass
    assert os.listdir(output.parent) == []


def test_the_file_is_as_the_schema_says(output, rng):
    layout = layout_of(4)
    write(output, layout, block_of(layout, rng))
    with h5py.File(output) as file:
        assert set(file) == {"regions", "genome", "outputs", "seq", "ref", "delta"}
        assert set(file["regions"]) == set(schema.REGION_COLUMNS)
        assert (file["seq"].shape, file["seq"].dtype) == ((4, 6), np.uint8)
        assert (file["ref/main"].shape, file["ref/main"].dtype) == ((4, 3), np.float32)
        assert file["delta/main"].shape == (4, 3, 6, 4)
        assert file["ref/profile_out"].shape == (4, 5, 2)
        assert file["delta/profile_out"].shape == (4, 5, 2, 6, 4)
        assert file["outputs/profile_out"].attrs["name"] == "profile/out"
        assert file["outputs/main/names"].asstr()[:].tolist() == ["K562", "HepG2", "H1é"]
        assert file["outputs/profile_out/names"].asstr()[:].tolist() == ["0", "1"]
        assert file["regions/strand"].dtype == "S1"
        assert h5py.check_string_dtype(file["regions/name"].dtype).length is None


def test_heads_keep_the_order_of_the_model(output, rng):
    layout = layout_of(1, heads=tuple(HeadLayout(name, (1,)) for name in ("z", "a", "m")))
    write(output, layout, block_of(layout, rng))
    with read_result(output) as result:
        assert [head.name for head in result.heads] == ["z", "a", "m"]


def test_no_rows(output, rng):
    layout = layout_of(0)
    write(output, layout, block_of(layout, rng), pieces=[slice(0, 0)])
    assert_holds(output, layout, block_of(layout, rng))
    with read_result(output) as result:
        assert result.complete
        assert result.delta("main").shape == (0, 3, 6, 4)
        assert result.regions["chrom"].shape == (0,)


def test_rows_that_are_left_out_are_pending_and_nan(output, rng):
    layout = layout_of(5)
    write(output, layout, block_of(layout, rng), pieces=[slice(1, 2), slice(3, 4)])
    with read_result(output) as result:
        assert result.regions["status"].tolist() == [0, 1, 0, 1, 0]
        assert result.seq[0].tolist() == [4] * 6
        for values in (result.reference("main")[:], result.delta("profile/out")[:]):
            np.testing.assert_array_equal(np.isnan(values).all(axis=tuple(range(1, values.ndim))), [1, 0, 1, 0, 1])


def test_a_row_that_cannot_be_scored_keeps_its_columns(output, rng):
    layout = layout_of(2)
    rows = rows_of(block_of(layout, rng), slice(0, 2))
    rows["regions"]["status"] = [Status.MISSING_CONTIG, Status.TOO_MANY_N]
    with ResultWriter(output, layout, attributes={}, genome_sizes={}) as writer:
        writer.write_rows(0, regions=rows["regions"], seq=rows["seq"])
    with read_result(output) as result:
        assert result.regions["status"].tolist() == [3, 4]
        assert result.regions["name"].tolist() == ["peak é 0", "peak é 1"]
        assert np.isnan(result.delta("main")[:]).all()
        assert result.genome_sizes == {}


@pytest.mark.one_in(48)
@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 23), max_size=6), data=st.data(), chunk_rows=st.integers(1, 9))
def test_results_do_not_depend_on_how_rows_arrive(tmp_path_factory, cuts, data, chunk_rows):
    """Any blocks, in any order, with or without flushes."""
    layout = layout_of(23, length=2, heads=(HeadLayout("y", (2,)),))
    block = block_of(layout, np.random.default_rng(0))
    edges = sorted({0, 23, *cuts})
    pieces = data.draw(st.permutations([slice(a, b) for a, b in pairwise(edges)]))
    path = tmp_path_factory.mktemp("rows") / "x.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "CHUNK_BYTES", chunk_rows * 2 * 2 * 4 * 4)
        patch.setattr(schema, "COLUMN_CHUNK_ROWS", chunk_rows + 1)
        with ResultWriter(path, layout, attributes={}, genome_sizes=GENOME) as writer:
            for rows in pieces:
                writer.write_rows(rows.start, **rows_of(block, rows))
                if data.draw(st.booleans()):
                    writer.checkpoint()
    assert_holds(path, layout, block)
    with read_result(path) as result:
        assert result.delta().chunks[0] == chunk_rows


@pytest.mark.parametrize(
    "pieces", [[(0, 2), (0, 4)], [(0, 4), (1, 3)], [(1, 3), (0, 4), (2, 5)], [(0, 3), (0, 4), (3, 5)]]
)
def test_rows_may_be_written_again(output, rng, monkeypatch, pieces):
    """The last write counts, also where a whole chunk meets one that is being gathered."""
    monkeypatch.setattr(schema, "CHUNK_BYTES", 4 * 3 * 6 * 4 * 4)
    layout = layout_of(5, heads=HEADS[:1])
    expected = np.full(layout.delta_shape(HEADS[0]), np.nan, np.float32)
    with ResultWriter(output, layout, attributes={}, genome_sizes={}) as writer:
        for start, stop in pieces:
            block = block_of(layout, rng)
            expected[start:stop] = block["delta"]["main"][start:stop]
            writer.write_rows(start, **rows_of(block, slice(start, stop)))
    with read_result(output) as result:
        np.testing.assert_array_equal(result.delta()[:], expected)


def test_each_chunk_is_written_once(output, rng, monkeypatch):
    """A chunk that is written in parts is compressed and read back for every part."""
    monkeypatch.setattr(schema, "CHUNK_BYTES", 4 * 3 * 6 * 4 * 4)
    written: list[tuple[str, int, int]] = []
    store = ChunkWriter.write

    def spy(chunks, dataset, start, rows):
        written.append((dataset.name, start, start + len(rows)))
        store(chunks, dataset, start, rows)

    monkeypatch.setattr(ChunkWriter, "write", spy)
    layout = layout_of(10, heads=HEADS[:1])
    write(output, layout, block_of(layout, rng), pieces=[slice(i, i + 1) for i in range(10)])
    assert [rows[1:] for rows in written if rows[0] == "/delta/main"] == [(0, 4), (4, 8), (8, 10)]


def test_only_one_head(output, rng):
    layout = layout_of(2, heads=HEADS[:1])
    write(output, layout, block_of(layout, rng))
    with read_result(output) as result:
        assert result.delta().name == "/delta/main"
        assert result.reference().name == "/ref/main"
        with pytest.raises(UsageError, match=r"ism\.h5 has the heads main\. Received: head='other'$"):
            result.delta("other")


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "chunk"),
    [
        ((1000, 1, 1000, 4), (65, 1, 1000, 4)),
        ((10, 1, 1000, 4), (10, 1, 1000, 4)),
        ((1000, 5313, 1000, 4), (1, 65, 1000, 4)),
        ((1000, 12, 145, 4), (37, 12, 145, 4)),
        ((5, 1000, 2, 2114, 4), (1, 15, 2, 2114, 4)),
        ((3, 2, 196_608, 4), (1, 1, 196_608, 4)),
        ((0, 2, 100, 4), (1, 2, 100, 4)),
    ],
)
def test_delta_chunks_are_about_a_mebibyte(shape, chunk):
    assert schema.delta_chunk(shape, 4) == chunk


@given(st.lists(st.integers(1, 3000), min_size=3, max_size=5), st.sampled_from([2, 4]))
def test_a_chunk_is_inside_the_array_and_no_larger_than_it_must_be(shape, itemsize):
    chunk = schema.delta_chunk(shape, itemsize)
    assert all(1 <= part <= whole for part, whole in zip(chunk, shape, strict=True))
    assert chunk[-2:] == tuple(shape[-2:])
    uncut = int(np.prod(shape[-2:])) * itemsize
    assert int(np.prod(chunk)) * itemsize <= max(schema.CHUNK_BYTES, uncut)


def test_delta_bytes():
    assert layout_of(10).delta_bytes == 10 * (3 + 5 * 2) * 6 * 4 * 4
    assert layout_of(10, delta_dtype="float16").delta_bytes == 10 * (3 + 5 * 2) * 6 * 4 * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seq": np.zeros((2, 7))}, "/seq takes rows of shape (6,). Received: shape (2, 7)"),
        ({"delta": {"main": np.zeros((2, 3, 4, 6))}}, "/delta/main takes rows of shape (3, 6, 4). Received: shape"),
        ({"reference": {"main": np.zeros((1, 3))}}, "a block must have the same number of rows everywhere. Received"),
        ({"regions": {"chrom": ["chr1"]}}, "regions must have the columns ['chrom', 'start'"),
    ],
)
def test_blocks_of_a_wrong_shape(output, rng, change, message):
    layout = layout_of(2)
    with (
        pytest.raises(ValueError, match=re.escape(message)),
        ResultWriter(output, layout, attributes={}, genome_sizes={}) as writer,
    ):
        writer.write_rows(0, **(rows_of(block_of(layout, rng), slice(0, 2)) | change))
    assert not list(output.parent.iterdir())


@pytest.mark.parametrize("row_start", [-1, 1])
def test_rows_outside_the_file(output, rng, row_start):
    layout = layout_of(2)
    with (
        pytest.raises(ValueError, match=rf"has 2 rows\. Received: rows {row_start} to {row_start + 2}"),
        ResultWriter(output, layout, attributes={}, genome_sizes={}) as writer,
    ):
        writer.write_rows(row_start, **block_of(layout, rng))


def test_too_large_for_float16(output, rng):
    layout = layout_of(1, heads=HEADS[:1], delta_dtype="float16")
    block = block_of(layout, rng)
    block["delta"]["main"][0, 0, 0, 0] = -1e5
    block["delta"]["main"][0, 0, 0, 1] = np.nan
    with pytest.raises(OutputError, match=r"^/delta/main: 1e\+05 is too large for float16 \(at most 65504\)"):
        write(output, layout, block)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layout_of(1, delta_dtype="float64"), "delta_dtype must be one of float32, float16. Received: "),
        (lambda: layout_of(1, compression="zstd"), "compression must be one of gzip, lzf, none. Received: "),
        (lambda: HeadLayout("y", (2,), ("a",)), "head 'y' has 2 targets. Received: 1 names for them"),
        (lambda: layout_of(1, heads=(HeadLayout("a/b", (1,)), HeadLayout("a_b", (1,)))), "the heads 'a/b', 'a_b'"),
    ],
)
def test_bad_layout(make, message):
    with pytest.raises(OutputError, match=re.escape(message)):
        make()


# --- the name --------------------------------------------------------------------------------------------------------


def test_the_name_appears_when_the_file_is_complete(output, rng):
    layout = layout_of(3)
    block = block_of(layout, rng)
    with ResultWriter(output, layout, attributes={}, genome_sizes={}) as writer:
        writer.write_rows(0, **block)
        assert os.listdir(output.parent) == ["ism.h5.partial"]
        writer.finish()
        assert os.listdir(output.parent) == ["ism.h5"]
    assert_holds(output, layout, block)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_exception_before_the_first_row_leaves_nothing(output, error):
    with pytest.raises(error), ResultWriter(output, layout_of(3), attributes={}, genome_sizes={}):
        raise error
    assert os.listdir(output.parent) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_exception_keeps_all_rows_so_far(output, rng, error):
    layout = layout_of(5)
    block = block_of(layout, rng)
    with pytest.raises(error), ResultWriter(output, layout, attributes={}, genome_sizes=GENOME) as writer:
        writer.write_rows(0, **rows_of(block, slice(0, 2)))
        raise error
    partial = f"{output}.partial"
    assert sorted(os.listdir(output.parent)) == ["ism.h5.partial", "ism.h5.partial.journal"]
    with pytest.raises(
        UsageError, match=r"partial is unfinished: its run was interrupted, or still goes on\. .* with resume=True"
    ):
        read_result(partial)
    with read_result(partial, allow_incomplete=True) as result:
        assert not result.complete
        assert result.regions["status"].tolist() == [1, 1, 0, 0, 0]
        np.testing.assert_array_equal(result.delta("main")[:2], np.float32(block["delta"]["main"][:2]))


def test_flushed_rows_survive_a_kill(output, rng):
    layout = layout_of(5)
    block = block_of(layout, rng)
    with ResultWriter(output, layout, attributes={}, genome_sizes={}) as writer:
        writer.write_rows(0, **rows_of(block, slice(0, 2)))
        writer.checkpoint()
        copy = shutil.copy(f"{output}.partial", output.parent / "copy.h5")  # what a killed process leaves
        with read_result(copy, allow_incomplete=True) as result:
            np.testing.assert_array_equal(result.delta("main")[:2], np.float32(block["delta"]["main"][:2]))


def test_the_rest_of_a_killed_run_is_replaced(output, rng):
    Path(f"{output}.partial").write_bytes(bytes(100) + b"x" * 100_000)  # killed before its first checkpoint
    layout = layout_of(1)
    block = block_of(layout, rng)
    write(output, layout, block)
    assert_holds(output, layout, block)
    assert output.stat().st_size < 90_000


def test_an_existing_file_is_kept_until_the_new_one_is_complete(output, rng):
    output.write_text("old")
    layout = layout_of(1)
    with pytest.raises(OutputError, match=r"ism\.h5 exists\. Replace it with overwrite=True, or choose another output"):
        ResultWriter(output, layout, attributes={}, genome_sizes={})
    with pytest.raises(RuntimeError), ResultWriter(output, layout, attributes={}, genome_sizes={}, overwrite=True):
        raise RuntimeError
    assert output.read_text() == "old"
    block = block_of(layout, rng)
    write(output, layout, block, overwrite=True)
    assert_holds(output, layout, block)


def test_two_processes_with_one_output(output):
    layout = layout_of(1)
    late = ResultWriter(output, layout, attributes={}, genome_sizes={})
    with ResultWriter(output, layout, attributes={}, genome_sizes={}):
        message = r"ism\.h5\.partial is being written by another process\. Wait for it"
        for other in (late.__enter__, lambda: check_output(output, overwrite=True, resume=True)):
            with pytest.raises(OutputError, match=message):
                other()
        assert os.path.exists(f"{output}.partial")
    assert read_result(output).close() is None


def test_check_output(tmp_path, monkeypatch):
    check_output(tmp_path / "new.h5", overwrite=False)
    monkeypatch.chdir(tmp_path)
    check_output("new.h5", overwrite=False)
    Path("old.h5").touch()
    check_output("old.h5", overwrite=True)
    with pytest.raises(OutputError, match=r"^old\.h5 exists\."):
        check_output("old.h5", overwrite=False)
    with pytest.raises(OutputError, match=r"^a/b\.h5: folder a does not exist\. Make it first: mkdir -p a$"):
        check_output("a/b.h5", overwrite=False)
    with pytest.raises(OutputError, match=r"^old\.h5/b\.h5: old\.h5 is no folder\. Choose another output\.$"):
        check_output("old.h5/b.h5", overwrite=False)
    with pytest.raises(OutputError, match=r"^output is empty\. Name a file to write\.$"):
        check_output("", overwrite=False)
    with pytest.raises(OutputError, match=r" is a folder or a device\. Name a file to write\.$"):
        check_output(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match=r"^/dev/null is a folder or a device"):
        check_output("/dev/null", overwrite=True)
    check_output(235 * "x", overwrite=False)
    for n in (236, 240, 300):  # of OUT.partial.journal.new 255 letters are allowed
        with pytest.raises(
            OutputError, match=r"^output x{80}\.\.\.: no file can have so long a name\. Choose a shorter"
        ):
            check_output(n * "x", overwrite=False)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match=r"^new\.h5: folder \. cannot be written\. Choose another output\.$"):
        check_output("new.h5", overwrite=False)


def test_what_differs_is_told_in_one_line():
    found = differences(
        {"config": '{"weights": "a\\n\\u001b[2J"}', "engine": "fast"}, {"config": "{}", "engine": 999 * "x"}
    )
    assert found == [r"--weights: a\n\x1b[2J and not given", f"the engine: fast and {200 * 'x'}..."]


def test_a_partial_file_that_cannot_be_made(output):
    Path(f"{output}.partial").mkdir()
    with pytest.raises(OutputError, match=r"ism\.h5\.partial is a link, a folder or a device"):
        ResultWriter(output, layout_of(1), attributes={}, genome_sizes={})
    Path(f"{output}.partial").rmdir()
    writer = ResultWriter(output, layout_of(1), attributes={}, genome_sizes={})
    Path(f"{output}.partial").mkdir()
    with pytest.raises(OutputError, match=r"ism\.h5\.partial cannot be written: Is a directory$"):
        writer.__enter__()
    assert writer.rows_kept == 0


# --- the disk --------------------------------------------------------------------------------------------------------

BIG = Layout(n_rows=600, length=500, heads=(HeadLayout("y", (2,)),))  # 10 MB, incompressible


@contextmanager
def files_of_at_most(n_bytes: int):
    """Every write past ``n_bytes`` fails with EFBIG, as it does with ENOSPC on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("n_bytes", [0, 1, 100, 2048, 10_000, 100_000, 3_000_000, 7_000_000])
def test_a_full_disk_is_one_line_and_nothing_is_left(output, rng, n_bytes):
    block = block_of(BIG, rng)
    pieces = [slice(i, i + 25) for i in range(0, 600, 25)]
    with files_of_at_most(n_bytes), pytest.raises(ResourceError) as caught:
        write(output, BIG, block, pieces)
    message = str(caught.value)
    assert message.startswith(f"{output} cannot be written: File too large after ")
    assert re.search(
        r" after [0-9.]+ (bytes|kB|MB)\. The unfinished file was removed\. Raise the largest size", message
    )
    assert message.endswith(" of a file, as by ulimit -f unlimited, or choose another output.")
    assert "\n" not in message
    assert os.listdir(output.parent) == []


def test_the_disk_fills_up_at_the_last_moment(output, rng, monkeypatch):
    """All data fits, the end of the file does not; and a network file system may tell only at fsync."""
    block = block_of(BIG, rng)
    write(output, BIG, block)
    n_bytes = output.stat().st_size
    output.unlink()
    with files_of_at_most(n_bytes - 1), pytest.raises(ResourceError, match="File too large"):
        write(output, BIG, block)

    def no_space(_descriptor):
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ResourceError, match=r"Disk quota exceeded after .* of your quota or choose"):
        write(output, BIG, block)
    assert os.listdir(output.parent) == []


SCRIPT = """
import numpy as np, resource, sys
from fastism_cli.errors import FastISMError
from fastism_cli.results.layout import HeadLayout, Layout
from fastism_cli.results.writer import ResultWriter
layout = Layout(n_rows=600, length=500, heads=(HeadLayout("y", (2,)),))
delta = {"y": np.random.default_rng(0).normal(size=(25, 2, 500, 4))}
columns = {name: np.zeros(25, int) for name in ("start", "end", "input_start", "bed_row", "status", "n_padded")}
columns |= {"chrom": ["chr1"] * 25, "name": ["x"] * 25, "strand": ["."] * 25}
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with ResultWriter(sys.argv[1], layout, attributes={}, genome_sizes={}) as writer:
        for row in range(0, 600, 25):
            writer.write_rows(row, regions=columns, seq=np.zeros((25, 500)), delta=delta)
except FastISMError as error:
    sys.exit(f"Error: {error}")
"""


def run_script(*command: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(Path(schema.__file__).parents[2])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_full_disk_does_not_crash_at_the_exit_of_the_process(output):
    result = run_script(sys.executable, "-W", "error", "-c", SCRIPT, str(output), "1000000")
    assert result.returncode == 1, result.stderr
    assert result.stderr.startswith(f"Error: {output} cannot be written: File too large after ")
    assert result.stderr.count("\n") == 1
    assert os.listdir(output.parent) == []


def test_a_disk_that_is_really_full(tmp_path):
    shell = 'mount -t tmpfs -o size=2m tmpfs "$1" && "$2" -W error -c "$3" "$1/x.h5"; code=$?; ls "$1"; exit $code'
    try:
        probe = run_script("unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs "$1"', "sh", str(tmp_path))
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if probe.returncode:
        pytest.skip("a small file system cannot be mounted here")
    result = run_script("unshare", "-m", "sh", "-c", shell, "sh", str(tmp_path), sys.executable, SCRIPT)
    assert result.returncode == 1, result.stderr
    assert "x.h5 cannot be written: No space left on device after 1." in result.stderr
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)


@pytest.mark.one_in(48)
@pytest.mark.parametrize("nth", [1, 2, 5, 12, 15, 18, 20, 22])
def test_a_signal_that_arrives_while_hdf5_writes(output, rng, monkeypatch, nth):
    """HDF5 crashes if the signal's exception interrupts a write of its closing; so it must not."""
    write_all, calls = crash_safe_file.Disk._write_all, []

    def interrupted(file, view, start):
        calls.append(len(view))
        if len(calls) == nth:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
        write_all(file, view, start)

    monkeypatch.setattr(crash_safe_file.Disk, "_write_all", interrupted)
    block = block_of(BIG, rng)
    with pytest.raises(KeyboardInterrupt):
        write(output, BIG, block, [slice(i, i + 25) for i in range(0, 600, 25)])
    assert len(calls) >= nth
    if not output.exists():  # else it came while the file was being finished
        with ResultWriter(output, BIG, attributes=ATTRIBUTES, genome_sizes=GENOME, resume=True) as writer:
            for row in range(writer.rows_done, 600, 25):
                writer.write_rows(row, **rows_of(block, slice(row, row + 25)))
    assert_holds(output, BIG, block)


def test_writing_in_another_thread(output, rng):
    block, errors = block_of(BIG, rng), []

    def job():
        try:
            write(output, BIG, block)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=job)
    thread.start()
    thread.join(60)
    assert errors == []
    assert_holds(output, BIG, block)


# --- reading what is not a result ------------------------------------------------------------------------------------


def test_not_a_result(tmp_path):
    with pytest.raises(UsageError, match=r"none\.h5 does not exist$"):
        read_result(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(UsageError, match=r"text\.h5 cannot be read: it is no HDF5 file, or a part of one$"):
        read_result(tmp_path / "text.h5")
    with pytest.raises(UsageError, match=r" cannot be read: Is a directory$"):
        read_result(tmp_path)
    with h5py.File(tmp_path / "other.h5", "w"):
        pass
    with pytest.raises(
        UsageError, match=r"other\.h5 is not a result of fastism run: it does not say its format, which"
    ):
        read_result(tmp_path / "other.h5")


def test_another_version(output, rng):
    layout = layout_of(1)
    write(output, layout, block_of(layout, rng))
    with h5py.File(output, "r+") as file:
        file.attrs["format_version"] = 2
    with pytest.raises(
        UsageError, match=r"ism\.h5 has version 2 of the format fastism-ism; .* reads versions 1, 1\.1, 1\.2\."
    ):
        read_result(output)


def test_a_truncated_result(output, rng):
    write(output, BIG, block_of(BIG, rng))
    os.truncate(output, 1_000_000)
    with pytest.raises(UsageError, match="no HDF5 file, or a part of one"):
        read_result(output)
