"""`fastism pairs`: the file against the library, in shards, resumed, drawn, and what other commands make of it."""

import json
import re
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.collections import PolyCollection

from fastism_cli import FastISM, RunOptions, open_scores, read_result, score_regions
from fastism_cli.cli import main
from fastism_cli.errors import UsageError, VerifyError
from fastism_cli.results.merge_shards import merge_shards
from fastism_cli.results.schema import Status
from fastism_cli.scores.importance import strongest_of
from tests.helpers.small_run import RECORDS, SCORED, make_folder

pytestmark = pytest.mark.one_in(2)

PAIRS = {"within": 4, "window": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("pairs"))


def scored(folder, name, **options) -> str:
    path = str(folder.path / name)
    score_regions(folder.models["plain"], folder.bed, folder.fasta, path, RunOptions(**{**PAIRS, **options}))
    return path


@pytest.fixture(scope="module")
def whole(folder) -> str:
    return scored(folder, "whole.pairs.h5")


def fastism(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fastism")


def test_a_run_stores_what_the_library_scores(folder, whole):
    scorer = FastISM(folder.models["plain"], engine="naive")
    with read_result(whole) as result:
        found, delta, seq = result.pairs()[:], result.delta()[:], result.seq[:]
        assert result.attrs["format_version"] == 1.2
        assert json.loads(result.attrs["pairs"]) == {"first": 14, "count": 12, "within": 4}
        assert json.loads(result.attrs["verify"])["pairs"]["kind"] == "pairs"
    assert found.shape == (len(RECORDS), 3, 12, 4, 4, 4) and found.dtype == np.float32
    expected = scorer.score_pairs(seq[list(SCORED)], within=4, window=range(14, 26))
    np.testing.assert_allclose(found[list(SCORED)], expected.interaction["out"], atol=2e-6)
    np.testing.assert_allclose(delta[list(SCORED)], expected.delta["out"], atol=1e-6)
    assert np.nanmax(np.abs(found)) > 1e-3
    assert np.isnan(found[4]).all()  # all N


def test_single_letters_are_those_of_a_run(folder, whole):
    path = scored(folder, "single.ism.h5", within=None)
    with read_result(whole) as one, read_result(path) as other:
        for name in ("seq", "ref/out", "delta/out"):
            np.testing.assert_array_equal(one.dataset(name)[:], other.dataset(name)[:])
        assert other.pairs_layout is None
        with pytest.raises(UsageError, match="holds no pairs: it is no result of fastism pairs"):
            other.pairs()


def test_a_window_beside_the_middle_of_both_strands(folder):
    """Columns of + and - records differ: pairs lie in the window of each record."""
    with read_result(scored(folder, "beside.pairs.h5", window="-9:1", stranded=True)) as result:
        found, layout, columns = result.pairs()[:], result.pairs_layout, result.regions
        is_scored = np.isfinite(result.delta()[:, 0]).any(-1)
    for row in np.flatnonzero(columns["status"] == Status.OK):
        inside = is_scored[row, layout.first : layout.first + layout.count]
        for d in range(1, 5):
            both = inside[:-d] & inside[d:]
            np.testing.assert_array_equal(np.isfinite(found[row, 0, :-d, d - 1]).all((-1, -2)), both)
            assert both.any() and np.isnan(found[row, 0, -d:, d - 1]).all()


@pytest.mark.one_in(24)
@pytest.mark.parametrize("virtual", [False, True])
def test_shards_are_merged(folder, whole, virtual):
    parts = [scored(folder, f"{i}-{virtual}.pairs.h5", shard=f"{i}/2") for i in range(2)]
    merged = str(folder.path / f"merged-{virtual}.pairs.h5")
    merge_shards(parts, merged, virtual=virtual)
    with read_result(whole) as one, read_result(merged) as other:
        np.testing.assert_allclose(one.pairs()[:], other.pairs()[:], atol=1e-6)
        assert one.layout.pairs == other.layout.pairs and bool(other.sources) == virtual


@pytest.mark.one_in(24)
def test_a_run_that_ended_is_resumed(folder, whole, monkeypatch):
    """After three rows the model fails; what follows is computed when the run is resumed."""
    from fastism_cli.run import job
    from fastism_cli.run import score_regions as runs

    monkeypatch.setattr(job, "BLOCK_SUBSTITUTIONS", 1)
    few = {"batch_size": 100, "checkpoint": 0.0}
    path, written = str(folder.path / "resumed.pairs.h5"), runs.write_block

    def fails(writer, found, *, after):
        if found.block.row_start == 3:
            raise RuntimeError("the end")
        written(writer, found, after=after)

    monkeypatch.setattr(runs, "write_block", fails)
    with pytest.raises(RuntimeError, match="the end"):
        scored(folder, "resumed.pairs.h5", **few)
    monkeypatch.setattr(runs, "write_block", written)
    summary = score_regions(
        folder.models["plain"], folder.bed, folder.fasta, path, RunOptions(resume=True, **few, **PAIRS)
    )
    assert summary.resumed == 3
    with read_result(whole) as one, read_result(path) as other:
        np.testing.assert_allclose(one.pairs()[:], other.pairs()[:], atol=1e-6)
    again = score_regions(folder.models["plain"], folder.bed, folder.fasta, path, RunOptions(resume=True, **PAIRS))
    assert again.resumed == len(RECORDS)
    with pytest.raises(UsageError, match="within: 4 and 5"):
        scored(folder, "resumed.pairs.h5", resume=True, within=5)


def test_float16_cuts_what_does_not_fit_and_counts_it(folder, whole):
    with read_result(scored(folder, "half.pairs.h5", dtype="float16")) as half, read_result(whole) as one:
        assert half.pairs().dtype == np.float16
        np.testing.assert_allclose(half.pairs()[:].astype("float32"), one.pairs()[:], atol=2e-3)


def test_a_wrong_engine_is_found_before_anything_is_written(folder, monkeypatch):
    from fastism_cli.engine import pairs

    right = pairs.interaction
    monkeypatch.setattr(pairs, "interaction", lambda *given: right(*given) + np.float32(0.01))
    with pytest.raises(VerifyError, match="disagrees with plain Keras"):
        scored(folder, "wrong.pairs.h5")
    assert not Path(folder.path / "wrong.pairs.h5").exists()


# --- the commands -----------------------------------------------------------------------------------------------------


def test_the_command_and_its_default_output(folder, whole, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = ["--model", folder.models["plain"], "--bed", folder.bed, "--fasta", folder.fasta, "--within", 4]
    result = fastism("pairs", *given, "--window", 12)
    assert result.exit_code == 0, result.output
    assert "38 pairs of 12 bases, at most 4 apart" in result.stderr
    assert "pairs against plain Keras in float64" in result.stderr
    with read_result("peaks.pairs.h5") as found, read_result(whole) as expected:
        np.testing.assert_array_equal(found.pairs()[:], expected.pairs()[:])
    assert "--overwrite" in fastism("pairs", *given, "--window", 12).stderr
    dry = fastism("pairs", *given, "--window", 12, "-o", "new.h5", "--dry-run")
    assert dry.exit_code == 0 and "38 pairs of 12 bases" in dry.stderr and not Path("new.h5").exists()


def test_what_other_commands_make_of_it(folder, whole, tmp_path):
    said = fastism("info", whole).stdout
    assert "pairs     38 pairs of 12 bases, at most 4 apart: interactions in /pairs" in said
    assert json.loads(fastism("info", whole, "--json").stdout)["pairs"] == {"first": 14, "count": 12, "within": 4}
    for command in (["export", "--format", "tsv", "-o", tmp_path / "x.tsv"], ["report", "-o", tmp_path / "x.html"]):
        assert fastism(command[0], whole, *command[1:]).exit_code == 0
    assert fastism("top", whole).exit_code == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--within", 12, "--window", 12], "--within 12: the window has 12 bases, of which none lie so far apart"),
        (["--within", 40], "--within 40: 40 bases are substituted, of which none lie so far apart. The most is 39"),
        (["--within", 0], "--within"),
        (["--within", 3, "--tile"], "--tile"),
        (["--within", 3, "--replace-with", "N"], "--replace-with"),
    ],
)
def test_refusals(folder, more, message, tmp_path):
    given = ["--model", folder.models["plain"], "--bed", folder.bed, "--fasta", folder.fasta, "-o", tmp_path / "o.h5"]
    result = fastism("pairs", *given, *more)
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert not list(tmp_path.iterdir())


def test_a_size_that_no_memory_holds_is_refused_with_the_number(folder, monkeypatch):
    from fastism_cli.run import job

    monkeypatch.setattr(job, "memory_of_machine", lambda: 100_000)
    with pytest.raises(UsageError, match=r"The scores of one region take 307 kB in memory.*smaller within"):
        scored(folder, "large.pairs.h5", within=16, window=20, targets=["0-2"])


def test_pairs_go_with_neither_tiles_nor_blocks():
    for options in ({"tile": True}, {"replace_with": "N", "width": 3}, {"rc": True}):
        with pytest.raises(UsageError, match=r"within is of .* leave"):
            RunOptions(within=3, **options)


# --- a damaged file ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.__delitem__("pairs/out"), "/pairs and /outputs have other heads"),
        (lambda file: file.__delitem__("pairs"), "the group /pairs is missing"),
        (lambda file: file.attrs.__setitem__("pairs", "{}"), "its attribute pairs is not as written"),
    ],
)
def test_a_damaged_file_is_refused(whole, change, message, tmp_path):
    path = tmp_path / "damaged.h5"
    path.write_bytes(Path(whole).read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(UsageError, match=message):
        read_result(path)


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stranded", [False, True])
def test_pairs_in_the_places_of_the_genome(folder, stranded):
    path = scored(folder, f"drawn-{stranded}.pairs.h5", stranded=stranded)
    with open_scores(path) as scores:
        track = scores.tracks[1]
        for row in SCORED:
            drawn = {
                tuple(sorted(map(int, ends))): value
                for ends, value in zip(*scores.pairs_of(row, track)[:2], strict=True)
            }
            strongest = strongest_of(scores.file.pairs()[row, 1].astype("float32"))
            begin, reverse = int(scores.regions["input_start"][row]), scores.regions["model_strand"][row] == "-"
            for i in range(12):
                for d in range(1, min(5, 12 - i)):
                    ends = [14 + i, 14 + i + d]
                    bases = sorted(begin + (39 - end if reverse else end) for end in ends)
                    np.testing.assert_equal(drawn.pop(tuple(bases)), strongest[i, d - 1])
            assert not drawn


def test_a_triangle_below_the_heat_map(folder, whole, tmp_path):
    asked = ("plot", whole, "--name", "inside", "--target", "0")
    for name, more in {"plain.png": [], "pairs.png": ["--pairs"]}.items():
        result = fastism(*asked, *more, "-o", tmp_path / name)
        assert result.exit_code == 0, result.output
    heights = [int.from_bytes((tmp_path / name).read_bytes()[20:24], "big") for name in ("plain.png", "pairs.png")]
    assert heights[1] > heights[0] + 50
    with open_scores(whole) as scores:
        drawn = scores.plot("0", row=0)
        pairs = scores.pairs_of(0, scores.tracks[0])
    (cells,) = (x for axes in drawn.axes for x in axes.collections if isinstance(x, PolyCollection))
    middles = np.array([path.vertices[:4].mean(0) for path in cells.get_paths()])
    np.testing.assert_allclose(middles, np.stack([pairs.ends.mean(1) + 1, np.ptp(pairs.ends, axis=1)], axis=1))
    np.testing.assert_array_equal(cells.get_array(), pairs.values)
    assert len(middles) == 38 and pairs.largest == np.abs(pairs.values).max()


def test_results_in_memory_draw_the_same(folder, whole):
    with read_result(whole) as result:
        codes = result.seq[:1]
    found = FastISM(folder.models["plain"], engine="fast").pairs(np.eye(5, 4)[codes], within=4, window=range(14, 26))
    drawn = found.plot("out/0")
    (cells,) = (x for axes in drawn.axes for x in axes.collections if isinstance(x, PolyCollection))
    assert len(cells.get_paths()) == 38
    np.testing.assert_array_equal(found.strongest("out/0")[0, 3, :4], found.pairs_of(0, found.tracks[0]).values[12:16])


def test_pairs_are_drawn_of_one_target_of_a_result_that_has_them(folder, whole, tmp_path):
    single = scored(folder, "single-too.ism.h5", within=None)
    for result, target, message in (
        (single, "0", "holds no pairs. Make them with fastism pairs."),
        (whole, "0-1", "--pairs draws one target of one result"),
    ):
        refused = fastism("plot", result, "--pairs", "--top", 1, "--target", target, "-o", tmp_path / "x.png")
        assert refused.exit_code == 2 and message in refused.stderr and not list(tmp_path.iterdir())


def test_what_comes_next_draws_a_picture(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = ("--model", folder.models["plain"], "--bed", folder.bed, "--fasta", folder.fasta)
    said = fastism(
        "pairs", *files, "--within", 2, "--window", 4, "--limit", 1, "--no-check", "-o", "my pairs.h5"
    ).stderr
    command = re.search(r"next: fastism (.*)$", said)[1]
    assert command == "plot 'my pairs.h5' --pairs --top 5 --target out/0"
    assert fastism(*shlex.split(command)).exit_code == 0 and list(tmp_path.glob("my pairs.*.png"))
