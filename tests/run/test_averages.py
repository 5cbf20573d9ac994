"""`fastism run` over strands, shifts and models: the file is the mean of the files of runs one by one."""

import json
from itertools import product
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers

from fastism_cli import FastISM, RunOptions, read_result, score_regions
from fastism_cli.cli import main
from fastism_cli.errors import FastISMError, OutputError, UsageError
from fastism_cli.results import schema
from fastism_cli.results.merge_shards import merge_shards
from tests.helpers.same_results import assert_same_results
from tests.helpers.small_run import LENGTH, SCORED, make_folder
from tests.models.zoo import randomise

pytestmark = pytest.mark.one_in(2)

RC = {"rc": True, "rc_pairs": ("out=0:2",)}


def stranded(seed: int) -> keras.Model:
    """inp -> C -> MXP -> F -> D -> out (3 targets)"""
    inp = keras.Input((LENGTH, 4), name="dna")
    x = layers.Conv1D(6, 5, padding="same", activation="relu")(inp)
    x = layers.Flatten()(layers.MaxPooling1D(2)(x))
    return randomise(keras.Model(inp, layers.Dense(3, name="out")(x)), seed=seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = make_folder(tmp_path_factory.mktemp("averages"))
    for seed in (1, 2):
        found.models[f"fold{seed}"] = str(found.path / f"fold{seed}.keras")
        stranded(seed).save(found.models[f"fold{seed}"])
    return found


def scored(folder, name, models=("fold1",), bed=None, **options):
    path = folder.path / name
    files = [folder.models[model] for model in models]
    score_regions(
        files[0] if len(files) == 1 else files, bed or folder.bed, folder.fasta, str(path), RunOptions(**options)
    )
    return path


def arrays(path, *rows):
    with read_result(path) as result:
        rows = list(rows or SCORED)
        return result.reference()[rows].astype("float64"), result.delta()[rows].astype("float64")


def on_plus(delta, swap):
    """Deltas of the reverse complement at their bases and letters; with the targets that stand for the strands."""
    return delta[:, swap, ::-1, ::-1]


def other_strand(folder):
    """The same records, each on the other strand: with --stranded, the model sees the other strand of each."""
    lines = [line.split("\t") for line in Path(folder.bed).read_text().splitlines()]
    return folder.bed_of("mirrored.bed", *(" ".join([*line[:5], "-"]) for line in lines))


def within_two_ulp(found, expected) -> None:
    expected = expected.astype("float32")
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    known = ~np.isnan(expected)
    assert (np.abs(found - expected)[known] <= 2 * np.spacing(np.abs(expected[known]))).all()


# --- the mean of runs one by one --------------------------------------------------------------------------------------


def test_both_strands(folder):
    found = arrays(scored(folder, "rc.h5", **RC))
    forward = arrays(scored(folder, "forward.h5"))
    reverse = arrays(scored(folder, "reverse.h5", bed=other_strand(folder), stranded=True))
    within_two_ulp(found[0], np.mean([forward[0], reverse[0][:, [2, 1, 0]]], axis=0))
    within_two_ulp(found[1], np.mean([forward[1], on_plus(reverse[1], [2, 1, 0])], axis=0))
    assert np.nanmax(np.abs(forward[1] - on_plus(reverse[1], [2, 1, 0]))) > 1e-2


@pytest.mark.one_in(48)
def test_shifts_read_the_genome_around_the_input(folder):
    shifts = (-3, 0, 1)
    bed = folder.bed_of("plus.bed", *("chrA 20 80 a 0 +", "chrA 0 10 b 0 +", "chrB 50 60 c 0 +", "chrA 100 141 d 0 +"))
    found = arrays(scored(folder, "shifts.h5", bed=bed, shifts="-3,0,1"), 0, 1, 2, 3)
    singles = [arrays(scored(folder, f"shift{s}.h5", bed=bed, offset=s), 0, 1, 2, 3) for s in shifts]
    within_two_ulp(found[0], np.mean([reference for reference, _ in singles], axis=0))
    moved = []
    for shift, (_, delta) in zip(shifts, singles, strict=True):
        moved.append(np.zeros_like(delta))
        for position in range(LENGTH):
            if 0 <= position - shift < LENGTH:
                moved[-1][:, :, position] = delta[:, :, position - shift]
    is_n = np.isnan(found[1])
    within_two_ulp(found[1], np.where(is_n, np.nan, np.mean(moved, axis=0)))
    with read_result(folder.path / "shift0.h5") as one, read_result(folder.path / "shifts.h5") as mean:
        unknown = np.array(one.seq[:]) == 4
        np.testing.assert_array_equal(is_n, np.broadcast_to(unknown[:, None, :, None], is_n.shape))
        np.testing.assert_array_equal(one.seq[:], mean.seq[:])
        np.testing.assert_array_equal(one.regions["n_padded"], mean.regions["n_padded"])


def test_models_and_their_spread(folder):
    path = scored(folder, "models.h5", ("fold1", "fold2"), spread=True)
    found, singles = arrays(path), [arrays(scored(folder, f"{name}.h5", (name,))) for name in ("fold1", "fold2")]
    within_two_ulp(found[0], np.mean([one[0] for one in singles], axis=0))
    within_two_ulp(found[1], np.mean([one[1] for one in singles], axis=0))
    with read_result(path) as result:
        spread, both = result.spread()[list(SCORED)], np.stack([one[1] for one in singles])
        within_two_ulp(spread, np.std(both, axis=0))
        assert np.isnan(result.spread()[4]).all() and np.nanmax(spread) > 1e-2
        said = json.loads(result.attrs["averaged"])
        assert [model["path"] for model in said["models"]] == [folder.models["fold1"], folder.models["fold2"]]
        assert said["spread"] is True and result.attrs["format_version"] == schema.WIDER_VERSION
    with read_result(folder.path / "fold1.h5") as single:
        assert "averaged" not in single.attrs and single.attrs["format_version"] == schema.FORMAT_VERSION
        with pytest.raises(UsageError, match="no deviation over models"):
            single.spread()
    with h5py.File(folder.path / "fold1.h5") as file:
        assert schema.DELTA_SD not in file


def test_a_result_whose_deviations_are_gone_is_refused(folder):
    path = scored(folder, "gone.h5", ("fold1", "fold2"), spread=True, limit=1)
    with h5py.File(path, "r+") as file:
        del file[schema.DELTA_SD]
    with pytest.raises(UsageError, match="the group /delta_sd is missing"):
        read_result(path)


ALL = {**RC, "shifts": "-1,0,1", "stranded": True}


@pytest.mark.one_in(48)
@pytest.mark.parametrize("more", [{}, {"tile": True, "window": 12}, {"window": "-9:5"}, {"dtype": "float16"}], ids=str)
def test_all_of_it_against_the_library(folder, more):
    """Rows of every strand, tiles and windows: each has the scores of the library for the letters around it."""
    path = scored(folder, f"all-{len(str(more))}.h5", ("fold1", "fold2"), spread=True, **ALL, **more)
    library = FastISM([folder.models["fold1"], folder.models["fold2"]], shifts=(-1, 0, 1), spread=True, **RC)
    contigs = {line[1:]: text for line, text in _records(folder.fasta)}
    with read_result(path) as result:
        n = 0
        for row in np.nonzero(result.regions["status"] == schema.Status.OK)[0]:
            start, chrom = int(result.regions["input_start"][row]), result.regions["chrom"][row]
            text = "".join(
                contigs[chrom][i] if 0 <= i < len(contigs[chrom]) else "N" for i in range(start - 1, start + 41)
            )
            if result.regions["model_strand"][row] == "-":
                text = text[::-1].translate(str.maketrans("ACGTacgt", "TGCAtgca"))
            expected = library(text)
            for found, wanted in ((result.delta()[row], expected.delta), (result.spread()[row], expected.spread)):
                scored_here = ~np.isnan(found)
                atol = 1e-3 if more.get("dtype") else 1e-6
                np.testing.assert_allclose(found[scored_here], wanted["out"][0][scored_here], atol=atol)
                n += scored_here.sum()
        assert n > 1000


def _records(fasta):
    lines = Path(fasta).read_text().split()
    return zip(lines[::2], lines[1::2], strict=True)


@pytest.mark.parametrize("edge", ["pad", "skip", "error"])
def test_edges_are_those_of_every_moved_input(folder, edge):
    bed = folder.bed_of(f"edges-{edge}.bed", "chrA 20 60 inside 0 +", "chrA 0 40 first 0 +", "chrA 2 42 near 0 +")
    if edge == "error":
        with pytest.raises(UsageError, match="pass an end of their contig"):
            scored(folder, "edge-error.h5", bed=bed, edge=edge, shifts="-3,0")
        return
    with read_result(scored(folder, f"edge-{edge}.h5", bed=bed, edge=edge, shifts="-3,0")) as result:
        edges = [schema.Status.OK] * 3 if edge == "pad" else [schema.Status.OK, schema.Status.EDGE, schema.Status.EDGE]
        assert result.regions["status"].tolist() == edges
        assert result.regions["n_padded"].tolist() == [0, 0, 0]


@pytest.mark.one_in(48)
@pytest.mark.parametrize("virtual", [False, True])
def test_shards_and_a_resumed_run_are_the_whole(folder, virtual):
    options = {"spread": True, "checkpoint": 0.0, **ALL}
    models = ("fold1", "fold2")
    whole = scored(folder, f"whole-{virtual}.h5", models, **options)
    parts = [scored(folder, f"{i}-{virtual}.h5", models, shard=f"{i}/3", **options) for i in range(3)]
    merged = folder.path / f"merged-{virtual}.h5"
    merge_shards([str(part) for part in parts], str(merged), virtual=virtual)
    if not virtual:
        assert assert_same_results(merged, whole) > 15
    with read_result(merged) as one, read_result(whole) as other:
        np.testing.assert_allclose(one.spread()[:], other.spread()[:], atol=1e-6)
        assert one.averaged == other.averaged
    changed = scored(folder, f"changed-{virtual}.h5", models, shard="0/3", **{**options, "shifts": "-1,0"})
    with pytest.raises(UsageError, match="shifts: -1,0 and -1,0,1"):
        merge_shards([str(changed), *map(str, parts[1:])], str(folder.path / "no.h5"))


@pytest.mark.one_in(48)
def test_resume_continues_a_mean_and_refuses_another(folder, monkeypatch):
    from fastism_cli.run import score_regions as module

    models, options = ("fold1", "fold2"), {**ALL, "spread": True, "checkpoint": 0.0, "batch_size": 3 * LENGTH}
    monkeypatch.setattr("fastism_cli.run.job.BLOCK_SUBSTITUTIONS", 1)
    whole = scored(folder, "undisturbed.h5", models, **options)
    settle, seen = module.settle_block, []

    def failing(job, computed):
        seen.append(computed)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return settle(job, computed)

    monkeypatch.setattr(module, "settle_block", failing)
    with pytest.raises(KeyboardInterrupt):
        scored(folder, "stopped.h5", models, **options)
    monkeypatch.setattr(module, "settle_block", settle)
    for changed in ({"rc": False, "rc_pairs": ()}, {"shifts": "0,1"}, {"average": "outputs", "shifts": "-1,0,1"}):
        with pytest.raises(
            OutputError, match=r"made by another configuration: (rc: True and False|shifts: |average: )"
        ):
            scored(folder, "stopped.h5", models, resume=True, **{**options, **changed})
    with pytest.raises(OutputError, match="the model file"):
        scored(folder, "stopped.h5", models[::-1], resume=True, **options)
    resumed = scored(folder, "stopped.h5", models, resume=True, **options)
    assert_same_results(resumed, whole)
    summary = score_regions(
        [folder.models[model] for model in models],
        folder.bed,
        folder.fasta,
        str(resumed),
        RunOptions(resume=True, **options),
    )
    assert summary.resumed == 6


@pytest.mark.one_in(24)
def test_profiles_are_averaged_before_or_after_their_reduction(folder):
    more = {"inputs": ("features=ones",), "reduce": ("profile=jsd",), **{"rc": True, "rc_pairs": ("profile=0:1",)}}
    found = {}
    for average in ("scores", "outputs"):
        path = scored(folder, f"{average}.h5", ("pair",), average=average, **more)
        with read_result(path) as result:
            found[average] = result.delta("profile")[list(SCORED)], result.delta("count")[list(SCORED)]
    np.testing.assert_allclose(found["scores"][1], found["outputs"][1], atol=1e-6)
    assert np.nanmax(np.abs(found["scores"][0] - found["outputs"][0])) > 1e-4
    library = FastISM(
        folder.models["pair"], rc=True, rc_pairs="profile=0:1", reduce={"profile": "jsd"}, average="outputs"
    )
    with read_result(folder.path / "outputs.h5") as result:
        codes = result.seq[list(SCORED)]
    expected = library.score_codes(codes, {"features": np.ones((len(codes), 2), "float32")})
    np.testing.assert_allclose(found["outputs"][0], expected.delta["profile"], atol=1e-7)


# --- the command ------------------------------------------------------------------------------------------------------


def fastism(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_says_what_it_averages_and_info_too(folder):
    output = folder.path / "command.h5"
    models = [argument for name in ("fold1", "fold2") for argument in ("--model", folder.models[name])]
    given = ["run", *models, "--bed", folder.bed, "--fasta", folder.fasta, "-o", output]
    options = ["--rc", "--rc-pairs", "out=0:2", "--shifts", "-1,0,1", "--spread"]
    for more in (["--dry-run"], []):
        result = fastism(*given, *options, *more)
        assert result.exit_code == 0, result.output
        assert "scores are the mean of 2 models, both strands, shifts -1, 0, 1" in result.output
        assert f"model {folder.models['fold1']}, {folder.models['fold2']}: input 'dna'" in result.output
    told = fastism("info", output).output
    assert (
        "mean      2 models, both strands, shifts -1, 0, 1; the reverse complement exchanges out=0:2; delta_sd" in told
    )
    assert f"mean      {folder.models['fold2']}" in told
    assert json.loads(fastism("info", output, "--json").output)["averaged"]["shifts"] == [-1, 0, 1]
    for command in (["export", output, "--format", "tsv", "-o", "-"], ["top", output, "-o", "-"]):
        assert fastism(*command).exit_code == 0
    for model in ("fold1", "fold2"):
        refused = fastism("export", output, "--format", "tsv", "-o", folder.models[model], "--overwrite")
        assert refused.exit_code != 0 and "is an input" in refused.output, refused.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "{fold1}", "--model", "{fold1}"], "is given twice. Give each model of a mean once."),
        (["--model", "{fold1}", "--model", "{same}"], "is given twice. Give each model of a mean once."),
        (
            ["--model", "{fold1}", "--model", "{pair}"],
            "{pair}: its inputs are dna, features, those of the first model dna",
        ),
        (
            ["--model", "{plain}", "--spread"],
            "--spread is the deviation over several models: give --model more than once",
        ),
        (["--model", "{plain}", "--rc-pairs", "0:1"], "give --rc too"),
        (["--model", "{plain}", "--rc", "--rc-pairs", "0:3"], "head 'out' has 3 targets, numbered from 0. Received: 3"),
        (["--model", "{plain}", "--rc", "--alphabet", "ACGN"], "have a reverse complement"),
        (["--model", "{plain}", "--shifts", "1,x"], "--shifts must be whole numbers, each once"),
        (["--model", "{plain}", "--model", "missing.h5"], "missing.h5"),
        (["--model", "{fold1}", "--model", "{plain}", "--weights", "w.h5"], "--weights is of one model"),
    ],
)
def test_one_line_for_what_cannot_be_meant(folder, arguments, message):
    same = f"{folder.path}/./{folder.models['fold1'].rsplit('/', 1)[1]}"  # by another name
    known = [argument.format(**folder.models, same=same) for argument in arguments]
    output = folder.path / "refused.h5"
    result = fastism("run", *known, "--bed", folder.bed, "--fasta", folder.fasta, "-o", output)
    assert result.exit_code == 2, result.output
    assert message.format(**folder.models) in result.output and not output.exists()
    assert isinstance(result.exception, SystemExit)


def test_a_damaged_note_of_the_mean_is_told(folder):
    path = scored(folder, "noted.h5", **RC)
    for text in ("{}", "x", '{"models": 3}', json.dumps({"models": [], "rc": 1, "rc_pairs": [], "shifts": "x"})):
        with h5py.File(path, "r+") as file:
            file.attrs["averaged"] = text
            file.attrs.pop(schema.CHECKSUMS, None)
        with pytest.raises(FastISMError, match="averaged"):
            read_result(path)


@pytest.mark.one_in(48)
def test_every_pass_of_every_model_is_one_of_the_runs(folder):
    """Two models, both strands, two shifts: eight runs one by one, each at its own place and strand."""
    bed = folder.bed_of("one.bed", "chrA 20 80 a 0 +", "chrB 20 50 b 0 +")
    mirrored = folder.bed_of("one-minus.bed", "chrA 20 80 a 0 -", "chrB 20 50 b 0 -")
    found = arrays(scored(folder, "eight.h5", ("fold1", "fold2"), bed=bed, shifts="0,2", window="-5:6", **RC), 0, 1)
    total = []
    for model, shift in product(("fold1", "fold2"), (0, 2)):
        window = f"{-5 - shift}:{6 - shift}"
        plus = scored(folder, f"p{shift}{model}.h5", (model,), bed=bed, offset=shift, window=window)
        # --offset follows the strand of the record, --shifts what the model sees without --rc
        minus = scored(
            folder,
            f"m{shift}{model}.h5",
            (model,),
            bed=mirrored,
            offset=-shift,
            window=f"{-5 + shift}:{6 + shift}",
            stranded=True,
        )
        total += [np.roll(arrays(plus, 0, 1)[1], shift, axis=2)]
        total += [np.roll(on_plus(arrays(minus, 0, 1)[1], [2, 1, 0]), shift, axis=2)]
    np.testing.assert_allclose(found[1][..., 15:26, :], np.mean(total, axis=0)[..., 15:26, :], atol=1e-6)
    assert np.isfinite(found[1][..., 15:26, :]).all()
