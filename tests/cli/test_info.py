"""``fastism info`` says what is in a file, finished or not."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fastism_cli.cli import main
from fastism_cli.results.contents import contents_of
from fastism_cli.results.layout import HeadLayout, Layout, ReplacedBlocks
from fastism_cli.results.schema import Status
from fastism_cli.results.writer import ResultWriter
from tests.helpers.result_files import (
    LENGTH,
    RECORDS,
    base,
    bases_seen,
    edited,
    true_delta,
    window_of,
    write_result,
)


def info(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["info", *map(str, arguments)])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def all_deltas(track: int, window: int | str, *, of_others: bool = False) -> list[float]:
    """Of all letters; of those that are not there alone."""
    return [
        true_delta(row, position, alt, track)
        for row, record in enumerate(RECORDS)
        if record.status == Status.OK
        for position, letter in bases_seen(row)
        if letter != "N" and position in window_of(row, window)
        for alt in "ACGT"
        if not (of_others and alt == base(record.chrom, position))
    ]


def delta_range(track: int, window: int | str) -> dict[str, float]:
    deltas = all_deltas(track, window)
    median = float(np.median(np.array(all_deltas(track, window, of_others=True), np.float32)))
    return {"least": min(deltas), "median": median, "largest": max(deltas)}


def test_a_window_beside_the_middle_is_told(tmp_path):
    path = write_result(tmp_path / "r.h5", window="-3:6")
    found = json.loads(info(path, "--json"))
    assert (found["window"], found["window_first"]) == (9, -3)
    assert f"window    9 of {LENGTH} bases (from -3 to 5 of the middle), ACGT" in info(path)
    assert found["heads"][0]["targets"][0]["delta"] == delta_range(0, "-3:6")


@pytest.mark.parametrize("window", [LENGTH, 7])
def test_contents(tmp_path, window):
    path = write_result(tmp_path / "r.h5", window=window, command="fastism run x", model_path="m.h5")
    found = json.loads(info(path, "--json"))
    assert (found["complete"], found["rows"], found["n_total"], found["missing"]) == (True, 10, 10, [])
    assert found["statuses"] == {"ok": 8, "missing_contig": 1, "too_many_n": 1}
    assert (found["length"], found["window"], found["stranded"], found["contigs"]) == (LENGTH, window, True, 2)
    assert (found["made"]["command"], found["made"]["model_path"]) == ("fastism run x", "m.h5")
    heads = found["heads"]
    assert [(head["name"], head["shape"], head["reduce"]) for head in heads] == [
        ("profile/sum", [3], "none"),
        ("count", [1], "none"),
    ]
    targets = [target for head in heads for target in head["targets"]]
    assert [target["name"] for target in targets] == ["a", "b", "c", "0"]
    for track, target in enumerate(targets):
        assert target["delta"] == delta_range(track, window)
    assert targets[1]["reference"] == {"least": 0.25, "median": 4.25, "largest": 9.25}


def test_text(tmp_path):
    path = write_result(tmp_path / "r.h5", command="fastism run x", shard_index=2, num_shards=4, n_total=40)
    lines = info(path).splitlines()
    assert lines[0] == f"{path}: complete, format version 1.1"
    assert lines[1] == ("regions   10 (rows 0 to 9 of 40, shard 2/4): 8 ok, 1 missing contig, 1 too many N")
    assert lines[2] == "window    20 of 20 bases, ACGT, + strand, or the reverse complement of - records"
    assert "head profile/sum: (3,), float32" in lines and any(
        line.split() == ["command", "fastism run x".split()[0], "run", "x"] for line in lines
    )


def test_no_ranges_reads_no_scores(tmp_path, monkeypatch):
    path = write_result(tmp_path / "r.h5")
    monkeypatch.setattr("fastism_cli.results.scores.Scores.blocks", None)
    assert contents_of(str(path), ranges=False).heads[0].targets[0].delta is None
    assert "  a       -  -  -  -  -  -".split() in [line.split() for line in info(path, "--no-ranges").splitlines()]


def test_an_unfinished_file_tells_its_missing_rows(tmp_path):
    path = write_result(tmp_path / "r.h5")
    with edited(path) as file:
        file.attrs["complete"] = False
        status = file["regions/status"][:]
        status[[2, 3, 4, 7]] = 0
        file["regions/status"][:] = status
    assert contents_of(str(path)).missing == ((2, 5), (7, 8))
    text = info(path)
    assert "NOT FINISHED" in text and "missing   rows 2 to 4, 7" in text


def test_no_scores_have_no_range(tmp_path):
    path = write_result(tmp_path / "r.h5")
    with edited(path) as file:
        file["regions/status"][:] = np.full(len(RECORDS), int(Status.FAILED))
    (target, *_) = json.loads(info(path, "--json"))["heads"][0]["targets"]
    assert target["delta"] == {"least": None, "median": None, "largest": None}


@pytest.mark.parametrize("command", ["info", "merge"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("p")
    result = CliRunner().invoke(main, [command, "p", *(["-o", "x.h5"] if command == "merge" else [])])
    assert result.exit_code == 2 and "p is a pipe, a socket or a device, and no result" in result.output


def test_what_is_no_result_is_refused(tmp_path):
    Path(tmp_path / "x.h5").write_bytes(b"no")
    result = CliRunner().invoke(main, ["info", str(tmp_path / "x.h5")])
    assert result.exit_code == 2 and "it is no HDF5 file, or a part of one" in result.stderr


def test_medians_of_some_regions_say_so(tmp_path, monkeypatch):
    path = write_result(tmp_path / "r.h5")
    assert json.loads(info(path, "--json"))["median_rows"] == 8 and "medians of deltas" not in info(path)
    monkeypatch.setattr("fastism_cli.results.contents.MEDIAN_DELTAS", 3 * 4 * LENGTH * 4)  # of three rows, four targets
    assert json.loads(info(path, "--json"))["median_rows"] == 3
    assert "medians of deltas are those of 3 regions, evenly spread over all" in info(path).splitlines()


@pytest.mark.parametrize("contents", [1, 40])
def test_medians_of_blocks_are_of_as_many_rows_as_fit(tmp_path, monkeypatch, contents):
    """A row has P x A deltas, whatever its length."""
    monkeypatch.setattr("fastism_cli.results.contents.MEDIAN_DELTAS", 4 * 2 * 40)
    blocks = ReplacedBlocks(0, 10, 10, 2, contents, "bad\x1b[2J\tname.npy")
    layout, n = Layout(8, LENGTH, (HeadLayout("out", (1,)),), blocks=blocks), 8
    regions = {name: [0] * n for name in ("start", "end", "input_start", "bed_row", "n_padded")}
    regions |= {"chrom": ["chr1"] * n, "name": ["x"] * n, "strand": ["+"] * n, "status": [1] * n}
    given = {"config": "{}", "model_path": "bad\x1b[2J.h5"}
    with ResultWriter(tmp_path / "b.h5", layout, attributes=given, genome_sizes={"chr1": 99}) as writer:
        delta = {"out": np.ones((n, 1, 2, contents))}
        seq = np.zeros((n, LENGTH))
        writer.write_rows(0, regions=regions, seq=seq, reference={"out": np.zeros((n, 1))}, delta=delta)
    assert contents_of(str(tmp_path / "b.h5")).median_rows == (8 if contents == 1 else 4)
    text = info(tmp_path / "b.h5")
    assert "\x1b" not in text and r"replaced with bad\x1b[2J\tname.npy" in text and "bad [2J.h5" in text
