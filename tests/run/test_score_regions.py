"""Whole runs through the library, compared with plain Keras predictions of every mutated sequence."""

import dataclasses
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from fastism_cli.engine.fastism import FastISM
from fastism_cli.errors import (
    OutputError,
    Problems,
    RegionError,
    ResourceError,
    UsageError,
    VerifyError,
    with_arguments,
)
from fastism_cli.model.loading.load import load_model
from fastism_cli.options.run_options import RunOptions
from fastism_cli.results import schema
from fastism_cli.results.ism_file import read_result
from fastism_cli.results.schema import Status
from fastism_cli.results.writer import ResultWriter
from fastism_cli.run import job, request
from fastism_cli.run.score_regions import plan_run, score_regions
from fastism_cli.run.summary import Silent
from tests.helpers.small_run import ALL_N, LENGTH, RECORDS, SCORED, Folder, codes_of, predicted, true_delta

# Keras saves a weight with numpy.array(tensor), which numpy 2 warns of.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.one_in(2),
]

CLOSE = {"rtol": 1e-5, "atol": 2e-6}


@pytest.fixture
def score(folder, tmp_path):
    """Run a model of the folder; returns the summary and the open result."""
    opened = []

    def run(model: str = "plain", bed: str | None = None, name: str = "out.h5", **options):
        output = tmp_path / name
        path = folder.models.get(model, model)
        summary = score_regions(
            path, bed or folder.bed, folder.fasta, str(output), RunOptions(**{"check": False, **options})
        )
        opened.append(read_result(output))
        assert sorted(p.name for p in tmp_path.glob("*.partial")) == []
        return summary, opened[-1]

    yield run
    for result in opened:
        result.close()


def statuses(result) -> list[int]:
    return result.regions["status"].tolist()


def record(i: int) -> tuple[str, int, str]:
    """chrom, input start and strand of a record, by hand."""
    chrom, start, end, _, _, strand = RECORDS[i].split()
    return chrom, (int(start) + int(end)) // 2 - LENGTH // 2, strand


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.one_in(36)
@pytest.mark.compiled
@pytest.mark.parametrize("stranded", [False, True])
def test_every_score_is_that_of_plain_keras(score, folder, stranded):
    summary, result = score(stranded=stranded, check=True)
    model = load_model(folder.models["plain"])
    assert statuses(result) == [4 if i == ALL_N else 1 for i in range(len(RECORDS))]
    substitutions = 0
    for i in SCORED:
        chrom, start, strand = record(i)
        reverse = stranded and strand == "-"
        codes = codes_of(chrom, start, start + LENGTH, reverse=reverse)
        np.testing.assert_array_equal(result.seq[i], codes)
        np.testing.assert_allclose(result.reference()[i], predicted(model, codes[None])[0][0], **CLOSE)
        np.testing.assert_allclose(result.delta()[i], true_delta(model, codes)[0], **CLOSE)
        known = np.nonzero(codes < 4)[0]
        assert (result.delta()[i][:, known, codes[known]] == 0).all()
        assert (result.regions["strand"][i], result.regions["model_strand"][i]) == (strand, "-" if reverse else "+")
        substitutions += 3 * len(known)
    assert summary.substitutions == substitutions
    assert (summary.regions, summary.failed, summary.unscored) == (6, 0, "1 with too many N")


def test_minus_records_that_the_model_sees_on_plus_are_told(score, folder, tmp_path, caplog):
    line = "3 of 6 records are on the - strand; the model sees +; --stranded shows it their reverse complement"
    with caplog.at_level("WARNING", "fastism_cli"):
        score()
        assert with_arguments(line) in caplog.messages
        caplog.clear()
        score(name="stranded.h5", stranded=True)
        assert "strand" not in caplog.text
    planned = [
        plan_run(folder.models["plain"], folder.bed, folder.fasta, None, RunOptions(stranded=x)) for x in (False, True)
    ]
    assert line in planned[0].warnings and not any("strand" in text for text in planned[1].warnings)


def test_rows_keep_the_order_of_the_bed_and_say_where_they_are(score):
    regions = score()[1].regions
    assert regions["bed_row"].tolist() == [0, 1, 2, 3, 4, 5]
    assert regions["name"].tolist() == ["inside", "has_n", "at_start", "at_end", "all_n", "inside_too"]
    assert regions["chrom"].tolist() == ["chrA", "chrA", "chrA", "chrB", "chrA", "chrA"]
    assert regions["input_start"].tolist() == [30, 100, -15, 35, 200, 30]
    assert regions["start"].tolist() == [30, 100, 0, 35, 200, 30]
    assert regions["end"].tolist() == [70, 140, 25, 60, 240, 70]
    assert regions["n_padded"].tolist() == [0, 0, 15, 15, 0, 0]


@pytest.mark.parametrize("window", [1, 15, 16])
def test_window_scores_the_same_bases_on_both_strands(score, folder, window):
    _, result = score(window=window, stranded=True)
    model = load_model(folder.models["plain"])
    for i in (0, 1, 3):
        chrom, start, strand = record(i)
        codes = codes_of(chrom, start, start + LENGTH, reverse=strand == "-")
        bases = np.arange(start, start + LENGTH)[:: -1 if strand == "-" else 1]
        middle = start + LENGTH // 2
        inside = (bases >= middle - window // 2) & (bases < middle - window // 2 + window)
        truth = true_delta(model, codes)[0]
        truth[:, ~inside] = np.nan
        np.testing.assert_allclose(result.delta()[i], truth, **CLOSE)
        size = 60 if chrom == "chrB" else 300
        expected = [middle - window // 2, min(middle - window // 2 + window, size)]
        assert [result.regions["start"][i], result.regions["end"][i]] == expected


@pytest.mark.parametrize("stranded", [False, True])
@pytest.mark.parametrize(("window", "offset"), [("-5:12", 0), ("3:9", 4), (16, -7), ("-19:20", -3)])
def test_windows_lie_along_the_strand_of_the_record(score, folder, window, offset, stranded):
    """By hand: bases are counted from the middle one to the 3' end of the record, whatever the model sees."""
    _, result = score(window=window, offset=offset, stranded=stranded)
    model = load_model(folder.models["plain"])
    for i in (0, 1, 2, 3):
        chrom, start, strand = record(i)
        step = -1 if strand == "-" else 1
        start += step * offset
        reverse = stranded and strand == "-"
        codes = codes_of(chrom, start, start + LENGTH, reverse=reverse)
        bases = np.arange(start, start + LENGTH)[:: -1 if reverse else 1]
        middle = start + LENGTH // 2
        first, end = map(int, window.split(":")) if isinstance(window, str) else (-(window // 2), window - window // 2)
        wanted = [middle + (step if isinstance(window, str) else 1) * at for at in range(first, end)]
        truth = true_delta(model, codes)[0]
        truth[:, ~np.isin(bases, wanted)] = np.nan
        assert result.regions["input_start"][i] == start
        np.testing.assert_array_equal(result.seq[i], codes)
        np.testing.assert_allclose(result.delta()[i], truth, **CLOSE)
        size = 60 if chrom == "chrB" else 300
        ends = result.regions["start"][i], result.regions["end"][i]
        assert ends == tuple(np.clip([min(wanted), max(wanted) + 1], 0, size))


def test_places_beside_the_middle_that_cannot_be_are_refused(score, folder):
    with pytest.raises(UsageError, match="window -20:20 passes an end of the model's input of 40: of records on the -"):
        score(window="-20:20")
    plus = folder.bed_of("plus.bed", *(r for r in RECORDS if r.endswith("+")))
    assert score(window="-20:20", bed=plus)[0].regions == 2
    with pytest.raises(UsageError, match="offset moves the middle of records of a BED"):
        plan_run(folder.models["plain"], None, folder.fasta, None, RunOptions(offset=3))


def test_the_result_says_its_scale(score, folder):
    """Outputs near 0, some below: 100 is added, so that each has a logarithm."""
    summary, result = score(scale=["log2:100"], check=True)
    _, plain = score(name="plain.h5")
    assert (result.attrs["scale"], result.attrs["format_version"], summary.failed) == ("log2:100", 1.2, 0)
    assert "scale" not in plain.attrs and plain.attrs["format_version"] == 1.1
    model = load_model(folder.models["plain"])
    for i in (0, 1):
        chrom, start, _ = record(i)
        codes = codes_of(chrom, start, start + LENGTH)
        reference = predicted(model, codes[None])[0][0].astype("float64")
        delta = true_delta(model, codes)[0].astype("float64")
        truth = np.log2(1 + delta / (reference[:, None, None] + 100))
        np.testing.assert_allclose(result.reference()[i], np.log2(reference + 100), rtol=1e-6)
        np.testing.assert_allclose(result.delta()[i], truth, atol=3e-6)


@pytest.mark.one_in(36)
def test_results_do_not_depend_on_batches_blocks_or_order(score, folder, monkeypatch):
    _, whole = score(name="whole.h5")
    backwards = folder.bed_of("backwards.bed", *RECORDS[::-1])
    _, reversed_ = score(bed=backwards, name="reversed.h5")
    _, batched = score(batch_size=7, name="batched.h5")
    _, naive = score(engine="naive", name="naive.h5")
    monkeypatch.setattr(job, "BLOCK_SUBSTITUTIONS", 1)
    _, single = score(name="single.h5", compression="none")
    np.testing.assert_allclose(reversed_.delta()[:][::-1], whole.delta()[:], **CLOSE)
    for other in (batched, naive, single):
        np.testing.assert_array_equal(other.seq[:], whole.seq[:])
        np.testing.assert_allclose(other.delta()[:], whole.delta()[:], **CLOSE)
        np.testing.assert_allclose(other.reference()[:], whole.reference()[:], **CLOSE)


def test_several_inputs_and_heads(score, folder, rng):
    given = rng.normal(size=(6, 2))
    np.save(folder.path / "rows.npy", given)
    options = {"inputs": [f"features={folder.path}/rows.npy"], "reduce": ["profile=sum"]}
    _, result = score("pair", **options)
    model = load_model(folder.models["pair"])
    assert [(head.name, head.shape, head.reduce) for head in result.heads] == [
        ("profile", (2,), "sum"),
        ("count", (1,), "none"),
    ]
    for i in (0, 5):
        codes = result.seq[i]
        profile, count = true_delta(model, codes, {"features": given[i].astype("float32")})
        np.testing.assert_allclose(result.delta("count")[i], count, **CLOSE)
        np.testing.assert_allclose(result.delta("profile")[i], profile.sum(0), rtol=1e-5, atol=1e-5)


def test_a_head_kept_whole_has_its_axes_in_place_of_the_targets(score):
    _, result = score("pair", inputs=["features=ones"], reduce=["none"], targets=["profile=1"], limit=1)
    assert [head.name for head in result.heads] == ["profile"]
    assert result.reference().shape == (1, LENGTH, 1)
    assert result.delta().shape == (1, LENGTH, 1, LENGTH, 4)
    _, summed = score("pair", inputs=["features=ones"], reduce=["none", "profile=sum"], limit=1, name="summed.h5")
    np.testing.assert_allclose(summed.delta("profile")[0, 1], result.delta()[0, :, 0].sum(0), rtol=1e-5, atol=1e-5)


def test_a_variable_length_is_that_of_the_option(score, folder):
    _, result = score("variable", length=30, limit=1)
    codes = codes_of("chrA", 35, 65)
    np.testing.assert_array_equal(result.seq[0], codes)
    np.testing.assert_allclose(result.delta()[0], true_delta(load_model(folder.models["variable"]), codes)[0], **CLOSE)


def test_summits(score, folder):
    peak = "chrA 20 80 peak 0 . 1.0 2.0 3.0 {}"
    bed = folder.bed_of("peaks.narrowPeak", peak.format(7), peak.format(-1))
    assert score(bed=bed)[1].regions["input_start"].tolist() == [7, 30]
    assert score(bed=bed, center="midpoint", name="m.h5")[1].regions["input_start"].tolist() == [30, 30]


def test_targets_and_their_names(score, folder):
    _, whole = score()
    names = folder.path / "names.txt"
    names.write_text("first\nsecond\nthird\n")
    _, result = score(targets=["2,0"], target_names=[str(names)], name="two.h5")
    assert result.heads[0].target_names == ("third", "first")
    np.testing.assert_allclose(result.delta()[:], whole.delta()[:][:, [2, 0]], **CLOSE)
    np.testing.assert_allclose(result.reference()[:], whole.reference()[:][:, [2, 0]], **CLOSE)


# --- rows that are not scored ----------------------------------------------------------------------------------------


def test_n_policy_score_substitutes_all_letters_of_an_n(score, folder):
    summary, result = score(n_policy="score", limit=2)
    model = load_model(folder.models["plain"])
    codes = codes_of("chrA", 100, 140)
    (position, *_) = np.nonzero(codes == 4)[0]
    mutated = np.repeat(codes[None], 4, axis=0)
    mutated[:, position] = range(4)
    truth = predicted(model, mutated)[0] - predicted(model, codes[None])[0]
    np.testing.assert_allclose(result.delta()[1][:, position], truth.T, **CLOSE)
    assert summary.substitutions == 3 * (40 + 36) + 4 * 4


def test_edge_skip_keeps_the_row_without_scores(score):
    _, result = score(edge="skip")
    assert statuses(result) == [1, 1, Status.EDGE, Status.EDGE, Status.TOO_MANY_N, 1]
    assert result.regions["n_padded"].tolist()[2:4] == [15, 15]
    assert np.isnan(result.delta()[2:5]).all() and np.isnan(result.reference()[2:5]).all()
    assert (result.seq[2] == 4).all()


def test_a_record_beyond_its_contig_is_told_as_such(score, folder):
    bed = folder.bed_of("beyond.bed", "chrB 4000 7000", "chrB 79 81", "chrB 75 77")
    summary, result = score(bed=bed)  # the last input begins at base 56 of 60
    assert statuses(result) == [Status.EDGE, Status.EDGE, Status.OK]
    assert summary.unscored == "2 past the end of their contig, or longer than the input"


def test_missing_contig_skip(score, folder):
    bed = folder.bed_of("other.bed", "chrX 5 10", RECORDS[0], "chrY 7 30")
    summary, result = score(bed=bed, missing_contig="skip")
    assert statuses(result) == [Status.MISSING_CONTIG, 1, Status.MISSING_CONTIG]
    assert summary.unscored == "2 on a missing contig"
    _, alone = score(limit=1, name="alone.h5")
    np.testing.assert_allclose(result.delta()[1], alone.delta()[0], **CLOSE)


def test_contigs_of_a_bed_are_matched_with_and_without_chr(score, folder, caplog):
    """The result is that of the FASTA's own names; the log has a line for it."""
    bed = folder.bed_of("short.bed", *(record.removeprefix("chr") for record in (*RECORDS, "chrX 5 10", "X 5 10")))
    with caplog.at_level("INFO", logger="fastism_cli"):
        _, result = score(bed=bed, missing_contig="skip")
    said = [line for line in caplog.messages if "have other names" in line]
    assert said == [f"contigs of {bed} have other names in {folder.fasta}: A is chrA there"]
    assert result.regions["chrom"].astype(str).tolist() == ["chrA", "chrA", "chrA", "chrB", "chrA", "chrA", "X", "X"]
    assert statuses(result)[-2:] == [Status.MISSING_CONTIG] * 2
    _, own = score(name="own.h5")
    np.testing.assert_array_equal(result.delta()[:6], own.delta())
    with pytest.raises(RegionError, match=r"short.bed line 7: contig 'X' is not in .*genome.fa$"):
        score(bed=bed, name="refused.h5")


def test_max_n(score):
    assert statuses(score(max_n=0.1)[1]) == [1, 1, 4, 4, 4, 1]
    assert statuses(score(max_n=0.09, name="less.h5")[1]) == [1, 4, 4, 4, 4, 1]


def test_a_window_of_n_has_nothing_to_score(score, folder):
    bed = folder.bed_of("n.bed", "chrA 120 124")
    assert statuses(score(bed=bed, window=4)[1]) == [Status.TOO_MANY_N]
    assert statuses(score(bed=bed, window=5, name="wider.h5")[1]) == [Status.OK]


def test_a_region_whose_prediction_is_no_number_fails_alone(score, folder):
    bed = folder.bed_of("nan.bed", RECORDS[0], "chrC 30 70", RECORDS[3])
    summary, result = score("log", bed=bed, check=True)
    assert statuses(result) == [Status.FAILED, Status.OK, Status.FAILED]
    assert summary.failed == 2 and "2 regions failed: the model gave NaN or infinity" in summary.failed_line
    assert np.isnan(result.delta()[0]).all() and np.isnan(result.delta()[2]).all()
    model = load_model(folder.models["log"])
    np.testing.assert_allclose(result.delta()[1], true_delta(model, np.zeros(LENGTH, int))[0], **CLOSE)


def test_float16_cuts_what_does_not_fit_and_counts_it(score, monkeypatch):
    _, whole = score()
    _, half = score(dtype="float16", name="half.h5")
    assert half.delta().dtype == np.float16
    np.testing.assert_array_equal(half.delta()[:], whole.delta()[:].astype("float16"))
    stream = FastISM.score_stream

    def enlarged(self, batches, *, window):
        for result in stream(self, batches, window=window):
            yield dataclasses.replace(result, delta={name: x * np.float32(1e6) for name, x in result.delta.items()})

    monkeypatch.setattr(FastISM, "score_stream", enlarged)
    right, exact = score(dtype="float32", name="exact.h5", engine="fast")
    summary, cut = score(dtype="float16", name="cut.h5", engine="fast")
    expected = np.clip(exact.delta()[:], -65504, 65504)
    n_clipped = int((np.abs(exact.delta()[:]) > 65504).sum())
    assert 0 < n_clipped < expected.size and (summary.n_clipped, summary.failed) == (n_clipped, 0)
    assert (right.n_clipped, right.clipped_line) == (0, "")
    assert cut.attrs["n_clipped"] == n_clipped and f"{n_clipped:,} deltas were too large" in summary.clipped_line
    np.testing.assert_array_equal(cut.delta()[:], expected.astype("float16"))


def scaled(factor: float):
    """FastISM's call with wrong deltas."""
    right = FastISM.score_codes

    def call(self, codes, others=None, **wanted):
        result = right(self, codes, others, **wanted)
        return dataclasses.replace(result, delta={name: x * np.float32(factor) for name, x in result.delta.items()})

    return call


def test_an_empty_bed_gives_a_valid_empty_file(score, folder):
    summary, result = score(bed=folder.bed_of("empty.bed"), check=True)
    assert result.complete and result.delta().shape == (0, 3, LENGTH, 4) and result.seq.shape == (0, LENGTH)
    assert (summary.regions, summary.substitutions) == (0, 0)


def test_a_bed_without_one_region_to_score(score, folder):
    summary, result = score(bed=folder.bed_of("n_only.bed", RECORDS[ALL_N], RECORDS[ALL_N]), check=True)
    assert statuses(result) == [4, 4] and summary.substitutions == 0


def test_limit_reads_only_the_first_records(score):
    summary, result = score(limit=2)
    assert summary.regions == 2 and result.delta().shape[0] == 2
    assert (result.attrs["n_total"], result.attrs["row_stop"]) == (2, 2)


# --- what the file says of itself ------------------------------------------------------------------------------------


def test_attributes_say_what_the_run_was(score, folder):
    _, result = score(window=10)
    of_other_files = {"averaged", "blocks", "pairs", "scale"}
    assert set(result.attrs) == set(schema.ATTRIBUTES) - of_other_files
    expected = {
        "complete": True,
        "model_path": folder.models["plain"],
        "bed_path": folder.bed,
        "fasta_path": folder.fasta,
        "input_length": LENGTH,
        "alphabet": "ACGT",
        "score": "delta",
        "stranded": False,
        "engine": "fast",
    }
    assert {name: result.attrs[name] for name in expected} == expected
    assert result.genome_sizes == {"chrA": 300, "chrB": 60, "chrC": 100}


def test_the_hash_of_the_configuration_changes_with_the_result_alone(score):
    hashes = [
        score(name=f"{i}.h5", limit=1, **options)[1].attrs["config_sha256"]
        for i, options in enumerate([{}, {"batch_size": 5, "compression": "lzf"}, {"window": 8}])
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_model_that_is_already_loaded(folder, tmp_path):
    summary = score_regions(load_model(folder.models["plain"]), folder.bed, folder.fasta, str(tmp_path / "o.h5"))
    assert summary.regions == 6


# --- refusals: nothing is left behind --------------------------------------------------------------------------------


def refused(
    folder: Folder,
    tmp_path: Path,
    error: type[BaseException],
    match: str | None,
    model: str = "plain",
    progress: Silent | None = None,
    **options,
):
    with pytest.raises(error, match=match):
        score_regions(
            folder.models.get(model, model),
            options.pop("bed", folder.bed),
            options.pop("fasta", folder.fasta),
            str(tmp_path / "o.h5"),
            RunOptions(**options),
            progress=progress,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_a_wrong_engine_writes_nothing(folder, tmp_path, monkeypatch, engine):
    monkeypatch.setattr(FastISM, "score_codes", scaled(1.001))
    message = rf"the {engine} engine disagrees with plain Keras in float64:\n  head 'out': off by"
    refused(folder, tmp_path, VerifyError, message, engine=engine)


def test_a_disk_that_fills_up(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "BLOCK_SUBSTITUTIONS", 1)

    def full(self, row_start, **blocks):
        raise ResourceError("the disk is full")

    monkeypatch.setattr(ResultWriter, "write_rows", full)
    refused(folder, tmp_path, ResourceError, "the disk is full", check=False)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(("reader", "writer"))] == []


@pytest.mark.parametrize("records", [RECORDS[:3], (*RECORDS, RECORDS[0])])
def test_a_bed_that_changes_during_the_run(folder, tmp_path, records):
    bed = folder.bed_of("changing.bed", *RECORDS)

    class Meddler(Silent):
        def start(self, rows: int, done: int = 0) -> None:
            folder.bed_of("changing.bed", *records)

    refused(folder, tmp_path, UsageError, "has changed since this run began", bed=bed, check=False, progress=Meddler())


def test_a_bed_that_changes_while_the_inputs_are_checked(folder, tmp_path, monkeypatch):
    bed = folder.bed_of("changing.bed", *RECORDS)
    monkeypatch.setattr(request, "check_outputs", lambda request: folder.bed_of("changing.bed", RECORDS[0]))
    refused(folder, tmp_path, UsageError, "has changed since this run began", bed=bed, check=False)


@pytest.mark.parametrize(("options", "is_told"), [({}, True), ({"center": "midpoint"}, False), ({"tile": True}, False)])
def test_that_column_10_decides_is_told(folder, caplog, options, is_told):
    """After BED6 come four columns of counts, as bedtools multicov writes them, or those of narrowPeak."""
    bed = folder.bed_of("counts.bed", "chrA 20 80 a 0 + 7 3 12 11", "chrA 20 80 b 0 + 7 3 12 -1")
    with caplog.at_level("INFO", logger="fastism_cli"), ExitStack() as stack:
        request.open_regions(Problems(), stack, bed, folder.fasta, RunOptions(**options))
    said = "counts.bed: inputs are centred on the summits of column 10 (1 of 2 records); --center midpoint ignores them"
    assert caplog.text.count(with_arguments(said)) == is_told


def test_a_disk_that_is_too_small(folder, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    refused(folder, tmp_path, OutputError, r"will take up to 11.8 kB, but only 1 kB are free")


def test_a_plan_writes_nothing(folder, tmp_path):
    plan = plan_run(
        folder.models["plain"], folder.bed, folder.fasta, str(tmp_path / "o.h5"), RunOptions(window=10, limit=4)
    )
    assert (plan.regions, plan.window, plan.input_length, plan.engine) == (4, 10, LENGTH, "fast")
    assert plan.output_bytes == 4 * (3 * 10 * 4 * 4) + 4 * LENGTH + 4 * 3 * 4
    assert list(tmp_path.iterdir()) == []
