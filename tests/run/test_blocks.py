"""`fastism run --replace-with`: the file against the library, in shards, resumed, and what other commands say of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fastism_cli import FastISM, RunOptions, read_result, score_regions
from fastism_cli.cli import main
from fastism_cli.errors import UsageError
from fastism_cli.results.merge_shards import merge_shards
from fastism_cli.results.schema import WIDER_VERSION
from fastism_cli.run.request import other_files
from tests.helpers.small_run import LENGTH, SCORED, make_folder

pytestmark = pytest.mark.one_in(2)

BLOCKS = {"replace_with": "background", "width": 7, "step": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("blocks"))


def scored(folder, name, **options):
    path = str(folder.path / name)
    score_regions(folder.models["plain"], folder.bed, folder.fasta, path, RunOptions(**options))
    return path


def test_a_run_stores_what_the_library_scores(folder):
    scorer = FastISM(folder.models["plain"], engine="naive", **BLOCKS)
    with read_result(scored(folder, "whole.ism.h5", **BLOCKS)) as result:
        delta = result.delta()[:]
        found = scorer.score_codes(result.seq[list(SCORED)])
        assert delta.shape[2:] == (12, 1)
        assert result.attrs["format_version"] == WIDER_VERSION
        np.testing.assert_allclose(delta[list(SCORED)], found.delta["out"], atol=1e-6)
        assert np.abs(delta[list(SCORED)]).max() > 1e-3
        assert json.loads(result.attrs["blocks"]) == {
            "first": 0, "step": 3, "width": 7, "count": 12, "contents": 1, "replace_with": "background",
        }  # fmt: skip


@pytest.mark.one_in(24)
def test_blocks_of_a_window_and_of_tiles_lie_in_them_as_a_whole(folder):
    with read_result(scored(folder, "window.ism.h5", window=20, stranded=True, **BLOCKS)) as result:
        blocks = result.blocks
        assert (blocks.first, blocks.count, blocks.width) == (10, 5, 7)
        assert np.isfinite(result.delta()[list(SCORED)]).all()
    with read_result(scored(folder, "tiles.ism.h5", tile=True, window=20, **BLOCKS)) as result:
        columns, starts = result.regions, result.blocks.first + 3 * np.arange(result.blocks.count)
        for row, found in enumerate(np.isfinite(result.delta()[:]).all((1, 3))):
            first = columns["input_start"][row] + starts
            inside = (first >= columns["start"][row]) & (first + 7 <= columns["end"][row])
            assert found.tolist() == (inside & (columns["status"][row] == 1)).tolist()
        assert not np.isfinite(result.delta()[:]).all()


@pytest.mark.one_in(24)
@pytest.mark.parametrize("virtual", [False, True])
def test_shards_are_merged(folder, virtual):
    whole = scored(folder, f"all-{virtual}.ism.h5", **BLOCKS)
    parts = [scored(folder, f"{i}-{virtual}.ism.h5", shard=f"{i}/2", **BLOCKS) for i in range(2)]
    merged = str(folder.path / f"merged-{virtual}.ism.h5")
    merge_shards(parts, merged, virtual=virtual)
    with read_result(whole) as one, read_result(merged) as other:
        np.testing.assert_array_equal(one.delta()[:], other.delta()[:])
        assert one.blocks == other.blocks


def test_a_finished_result_is_resumed_and_one_of_other_blocks_is_not(folder):
    path = scored(folder, "resumed.ism.h5", **BLOCKS)
    summary = score_regions(folder.models["plain"], folder.bed, folder.fasta, path, RunOptions(resume=True, **BLOCKS))
    assert summary.resumed == 6
    with pytest.raises(Exception, match="step: 3 and 4"):
        scored(folder, "resumed.ism.h5", resume=True, **{**BLOCKS, "step": 4})


def test_the_command_and_what_it_names_next(folder):
    path = str(folder.path / "command.ism.h5")
    given = ["--model", folder.models["plain"], "--bed", folder.bed, "--fasta", folder.fasta, "-o", path]
    result = CliRunner().invoke(main, ["run", *given, "--replace-with", "shuffle", "--width", "8", "--samples", "2"])
    assert result.exit_code == 0, result.output
    assert "check ok: 5 blocks against plain Keras in float64" in result.stderr
    assert " blocks a call" in result.stderr and " blocks/s)" in result.stderr and "substitutions" not in result.stderr
    assert result.stderr.splitlines()[-1].endswith(f"next: fastism top {path}")
    assert CliRunner().invoke(main, ["top", path, "-n", "1"]).exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 5}, "replace_with says what is put into them"),
        ({"replace_with": "N"}, "give the width of the blocks with width"),
        ({"replace_with": "TGA", "width": 5}, "has 3 letters. Received: width 5"),
        ({"replace_with": "mask", "width": 5}, "replace_with must be N"),
        ({"replace_with": "N", "width": 0}, "width must be at least 1"),
        ({"replace_with": "shuffle", "width": 5, "seed": -1}, "seed must be a whole number from 0 on"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_keras(options, message):
    with pytest.raises(UsageError, match=message):
        RunOptions(**options)


def test_only_a_replacement_that_names_a_file_is_one(tmp_path, monkeypatch):
    """A sequence can be longer than any name, and a file can be called N."""
    monkeypatch.chdir(tmp_path)
    for name in ("N", "x.npy", "zeros"):
        Path(name).touch()
    for text, files in [(300 * "A", []), ("N", []), ("x.npy", ["x.npy"]), ("gone.npy", [])]:
        options = RunOptions(replace_with=text, width=300, inputs=["x=zeros"])
        assert other_files(options) == [Path(file) for file in files]


def test_a_block_that_is_wider_than_the_input_is_refused(folder):
    with pytest.raises(UsageError, match=f"from 1 to {LENGTH} positions"):
        scored(folder, "wide.ism.h5", replace_with="N", width=LENGTH + 1)


def command(*arguments):
    return CliRunner().invoke(main, [str(x) for x in arguments])


def test_inspect_and_verify_take_blocks(folder):
    asked = ("--replace-with", "reverse-complement", "--width", 8, "--step", 4)
    found = json.loads(command("inspect", folder.models["plain"], *asked, "--json").stdout)
    alone = json.loads(command("inspect", folder.models["plain"], "--json").stdout)
    assert found["change"] == "block of 8 bases" and found["nodes"][0]["width"] == 12
    assert found["limit"] < alone["limit"]
    checked = command("verify", "-m", folder.models["plain"], *asked, "--sequences", 1, "--positions", 6)
    assert checked.exit_code == 0 and "fast engine, 6 blocks in 1 sequences" in checked.stdout, checked.output
    both = command("verify", "-m", folder.models["plain"], "--width", 8)
    assert both.exit_code == 2 and "--replace-with says what is put into them" in both.stderr


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (np.zeros((5, 3)), {}, r"replace_with .*x\.npy: an array must have shape"),
        (np.zeros((5, 4)), {"width": 4}, r"replace_with .*x\.npy has a width of its own, 5\. Received: width=4"),
        (np.full((5, 4), np.nan), {}, r"replace_with .*x\.npy: an array must hold finite numbers"),
        (None, {}, r"replace_with .*x\.npy cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_no_block_holds_is_told_with_all_else_before_keras(folder, tmp_path, content, options, message):
    if content is not None:
        np.save(tmp_path / "x.npy", content)
    asked = RunOptions(replace_with=str(tmp_path / "x.npy"), targets=["x"], **options)
    with pytest.raises(UsageError, match=rf"2 problems:(.|\n)*{message}"):
        score_regions(folder.models["plain"], folder.bed, folder.fasta, str(tmp_path / "o.h5"), asked)
