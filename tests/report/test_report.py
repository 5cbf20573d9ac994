"""Pictures and reports: the right bases at the right places of either strand, and nothing half written."""

from __future__ import annotations

import base64
import inspect
import json
import re
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from fastism_cli import report
from fastism_cli.cli import main
from fastism_cli.engine.verify import HeadCheck, VerifyReport
from fastism_cli.errors import UsageError
from fastism_cli.options.choices import REPORT_TARGETS
from fastism_cli.report.picture_contents import PlotOptions, parse_interval, row_over, rows_by_name, strongest_rows
from fastism_cli.report.survey import BINS, checks, survey
from fastism_cli.report.write_report import EMPTY_BYTES, assembly, pack_delta, packed_sizes, spread, write_report
from fastism_cli.results.layout import HeadLayout, Layout
from fastism_cli.results.schema import Status
from fastism_cli.results.scores import open_scores
from fastism_cli.results.writer import ResultWriter
from fastism_cli.scores.region import SITE, Interval, ranked, strongest_sites
from tests.helpers import report_files, result_files
from tests.helpers.colour_vision import BLINDNESS, LEAST_DIFFERENCE, least_difference
from tests.helpers.report_files import HOSTILE, LABELS, LENGTH, LETTERS, SITE_AT, write_look

N = 6


@pytest.fixture(scope="module")
def looked(tmp_path_factory) -> tuple[Path, report_files.Truth]:
    path = tmp_path_factory.mktemp("look") / "peaks.ism.h5"
    return path, write_look(path, N)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fastism(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fastism")


# --- the strongest site ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 5, SITE, SITE + 1, 60])
def test_the_strongest_site_is_that_of_trying_all(rng, width):
    importance = rng.normal(size=(4, 3, width)).astype("float32")
    importance[rng.random(importance.shape) < 0.1] = np.nan
    values, at = strongest_sites(importance)
    size = min(SITE, width)
    for place in np.ndindex(4, 3):
        sums = [np.nansum(importance[place][i : i + size]) for i in range(width - size + 1)]
        best = int(np.argmax(np.abs(sums)))
        assert values[place] == pytest.approx(sums[best], rel=1e-5) and at[place] == best + size // 2


def test_an_empty_window_has_no_site():
    values, at = strongest_sites(np.empty((2, 1, 0), np.float32))
    assert values.tolist() == [[0], [0]] and at.shape == (2, 1)


def test_ranks_go_by_size_and_leave_out_what_has_no_score():
    assert ranked(np.array([1, np.nan, -3, 2, -3], np.float32)).tolist() == [2, 4, 3, 0]


# --- one pass over the file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [result_files.LENGTH, 7])
def test_the_survey_finds_what_the_formula_says(tmp_path, window):
    with open_scores(result_files.write_result(tmp_path / "r.h5", window=window)) as scores:
        found = survey(scores, scores.tracks)
        rows = scores.rows_with(Status.OK).tolist()
        columns = dict(scores.regions)
    assert np.isnan(found.site[sorted(set(range(len(columns["name"]))) - set(rows))]).all()
    for row in rows:
        chrom, first, end = (columns[name][row] for name in ("chrom", "start", "end"))
        bases = {p: result_files.base(chrom, p) for p in range(first, end)}
        assert found.unknown[row] == list(bases.values()).count("N")
        for track in range(4):
            deltas = {
                (p, x): result_files.true_delta(row, p, x, track)
                for p in bases
                for x in LETTERS
                if x != bases[p] != "N"
            }
            position, alt = max(deltas, key=lambda key: abs(deltas[key]))
            assert found.delta[row, track] == np.float32(deltas[position, alt])
            assert found.delta_at[row, track] == position
            assert "ACGTN"[found.ref[row, track]] + "ACGT"[found.alt[row, track]] == bases[position] + alt
    assert not found.missing.any() and not found.off_zero.any()


def test_every_delta_is_counted_once(looked):
    path, truth = looked
    with open_scores(path) as scores:
        found = survey(scores, scores.tracks)
    known = (truth.seq < 4)[..., None] & (truth.seq[..., None] != np.arange(4))
    for track in range(3):
        values = truth.delta[:, track][known]
        assert (found.up[track].sum(), found.down[track].sum()) == ((values > 0).sum(), (values < 0).sum())
        shown = spread(found.up[track], found.down[track], 0)
        assert sum(shown["up"]) + sum(shown["down"]) == values.size
        median = float(re.search(r"below about ([\d.e-]+),", shown["text"])[1])
        assert median == pytest.approx(np.median(np.abs(values)), rel=0.15)


def test_nothing_has_no_distribution():
    nothing = np.zeros(BINS, np.int64)
    assert spread(nothing, nothing, 0)["text"] == "No deltas."
    assert spread(nothing, nothing, 5) == {
        "from": 0,
        "step": 0.125,
        "up": [],
        "down": [],
        "text": "5 deltas, all of them 0.",
    }


def levels(path: Path) -> dict[str, str]:
    with open_scores(path) as scores:
        return {check.text: check.level for check in checks(scores, survey(scores, scores.tracks))}


def test_a_sound_file_has_nothing_to_look_at(looked):
    found = levels(looked[0])
    assert "look" not in found.values()
    assert found["6 of 7 regions are scored"] == "note" and found["regions with too many N: 1"] == "note"
    assert found["substituted bases that are N: 3 (0.17%) in 1 region"] == "note"
    assert found["the input of 1 region passes an end of its contig, by up to 20 bases"] == "note"


def test_wrong_scores_are_pointed_at(tmp_path):
    write_look(tmp_path / "bad.h5", 3)
    report_files.spoil(tmp_path / "bad.h5", 2)
    found = levels(tmp_path / "bad.h5")
    assert found["deltas that are missing or not finite: 1 in 1 region"] == "look"
    assert found["reference bases whose delta is not 0: 1"] == "look"


@pytest.mark.parametrize(("error", "level"), [(1e-7, "ok"), (1e-3, "look")])
def test_the_errors_of_the_check_are_shown_if_the_file_has_them(tmp_path, error, level):
    head = HeadCheck("out", 1.0, 2.0, fast_error=error, naive_error=2e-7, tolerance=1e-5)
    recorded = VerifyReport("fast", "float64", "", 1, 24, (head,)).to_json()
    write_look(tmp_path / "v.h5", 3, verify=recorded)
    (text,) = (text for text in levels(tmp_path / "v.h5") if text.startswith("head out"))
    assert f"in float64 by {error:.2g} (plain Keras in the precision of the run by 2e-07; allowed 1e-05)" in text
    assert levels(tmp_path / "v.h5")[text] == level


# --- what to look at -------------------------------------------------------------------------------------------------


def test_an_interval_is_read_and_written_as_in_samtools():
    assert parse_interval("chr1:1,000-1,200") == Interval("chr1", 999, 1200)
    assert parse_interval("HLA-A*01:01:01-2:5-6") == Interval("HLA-A*01:01:01-2", 4, 6)
    assert str(Interval("chr1", 999, 1200)) == "chr1:1,000-1,200"


@pytest.mark.parametrize("text", ["chr1", "chr1:5", "chr1:5-", "chr1:0-9", "chr1:9-3", ":1-2", "chr1:a-b", "chr1:,-5x"])
def test_what_is_no_interval_is_refused(text):
    with pytest.raises(UsageError, match="region"):
        parse_interval(text)


def test_rows_are_found_by_place_and_name(tmp_path):
    with open_scores(result_files.write_result(tmp_path / "r.h5")) as scores:
        assert row_over(scores, Interval("chrA", 17, 20)) == 1  # rows 1, 3, 5 cover it, and 2 in part
        assert row_over(scores, Interval("chrA", 28, 37)) == 2
        assert rows_by_name(scores, ["late", "plus", "late"]) == [0, 1]
        assert rows_by_name(scores, ["late", "plus"], Interval("chrA", 0, 11)) == [1]
        with pytest.raises(UsageError, match=r"no region named late overlaps chrA:1-11: chrB:31-50\."):
            rows_by_name(scores, ["late"], Interval("chrA", 0, 11))
        with pytest.raises(UsageError, match=r"no region named 'gone'\. Names there: late, plus, minus, \.\.\."):
            rows_by_name(scores, ["gone"])
        with pytest.raises(
            UsageError, match=r"region 'all_n' of .* has no scores: it is one of those with too many N\."
        ):
            rows_by_name(scores, ["all_n"])
        with pytest.raises(UsageError, match=r"overlaps chrA:83-90\. The nearest: chrA:61-80\."):
            row_over(scores, Interval("chrA", 82, 90))
        with pytest.raises(UsageError, match=r"overlaps chrQ:2-2\. It has scores on chrB, chrA\."):
            row_over(scores, Interval("chrQ", 1, 2))


def test_the_strongest_rows_come_first(looked):
    path, truth = looked
    with open_scores(path) as scores:
        for track in range(3):
            strength = [np.abs(strongest_sites(truth.importance(row, track))[0]) for row in range(N)]
            rows = strongest_rows(scores, scores.tracks[track], 4)
            assert rows == np.argsort(strength)[::-1][:4].tolist()


# --- a region on either strand ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", range(N))
def test_a_region_has_its_scores_at_its_bases(looked, row):
    path, truth = looked
    with open_scores(path) as scores:
        ((_, regions),) = scores.load_regions([row], scores.tracks)
    outside = 20 if row == 0 else 0
    for track, region in enumerate(regions):
        assert region.start == truth.start[row] + outside and len(region.seq) == LENGTH - outside
        for drawn in (region, region.reversed(), region.reversed().between(region.start + 30, region.end - 5)):
            for column, position in enumerate(drawn.positions):
                at = position - truth.start[row]
                code = COMPLEMENT[truth.seq[row, at]] if drawn.reverse else truth.seq[row, at]
                expected = truth.delta[row, track, at, ::-1] if drawn.reverse else truth.delta[row, track, at]
                assert drawn.seq[column] == code
                np.testing.assert_array_equal(drawn.delta[column], expected)
            importance = truth.importance(row, track)[drawn.positions - truth.start[row]]
            atol = 1e-6 * np.nanmax(np.abs(importance))  # sums of another order
            np.testing.assert_allclose(drawn.importance, importance, rtol=1e-6, atol=atol)
        assert region.prediction == truth.reference[row, track]
        assert len({region.site, region.reversed().site}) == 1
        assert SITE_AT <= region.site - truth.start[row] < SITE_AT + 10


COMPLEMENT = report_files.COMPLEMENT


def test_a_view_around_the_site_stays_inside(looked):
    with open_scores(looked[0]) as scores:
        region = scores.region(2, scores.tracks[0])
    assert region.around_site(None) == region.interval == region.around_site(10**9)
    view = region.around_site(40)
    assert view.end - view.start == 40 and view.start <= region.site < view.end
    part = region.between(view.start - 10**6, region.start + 25)
    assert (part.start, part.end) == (region.start, region.start + 25)
    assert len(region.between(0, 5).seq) == 0


# --- report ----------------------------------------------------------------------------------------------------------


def data_of(html: Path) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html.read_text(), re.S)[1])


def unpacked(map_: dict, track: int) -> np.ndarray:
    """(L, 4) of a region's text; written apart from what packs it."""
    raw = np.frombuffer(base64.b64decode(map_["delta"][track]), np.uint8).reshape(-1, 3)
    values = iter(np.pad(raw, [(0, 0), (1, 0)]).copy().view("<f4")[:, 0])
    rows = [[0.0 if letter == base else next(values) for letter in LETTERS] for base in map_["seq"]]
    assert next(values, None) is None
    return np.array(rows, np.float32)


def test_a_report_holds_every_score(looked, here):
    path, truth = looked
    result = fastism("report", path)
    assert result.exit_code == 0 and result.stdout == ""
    assert "7 regions, 6 of them drawn -> report.html (" in result.stderr
    data = data_of(here / "report.html")
    assert [track["label"] for track in data["tracks"]] == LABELS and len(data["maps"]) == N
    assert data["rows"]["name"][:3] == HOSTILE and data["rows"]["status"] == N * ["ok"] + ["too many N"]
    for map_ in data["maps"]:
        row = map_["row"]
        shift = map_["start"] - truth.start[row]
        for track in range(3):
            np.testing.assert_allclose(unpacked(map_, track), truth.delta[row, track, shift:], rtol=2**-16)
    for track in range(3):
        scores = data["tracks"][track]["scores"]
        np.testing.assert_allclose(scores["prediction"][:N], truth.reference[:, track], rtol=1e-5)
        np.testing.assert_allclose(
            np.abs(scores["delta"][:N]), np.nanmax(np.abs(truth.delta[:, track]), (1, 2)), rtol=1e-5
        )
        assert scores["delta"][N] is scores["site"][N] is None
        strength = [
            abs(data["tracks"][track]["scores"]["site"][data["maps"][i]["row"]]) for i in data["tracks"][track]["order"]
        ]
        assert strength == sorted(strength, reverse=True) and len(strength) == N


LINKED = {"genome.ucsc.edu", "igv.org", "localhost:60151"}


def test_a_report_asks_for_nothing_outside_of_itself(looked, here):
    fastism("report", looked[0])
    html = (here / "report.html").read_text()
    assert "default-src 'none'" in html
    hosts = set(re.findall(r"https?://([\w.:-]+)", html))
    assert hosts <= {"www.w3.org", *LINKED}, "a name of SVG, and links that a reader may follow"
    assert html.count("</script>") == 2 and "<img" not in html


def test_a_report_stays_under_its_size(tmp_path):
    write_look(tmp_path / "many.h5", 40)
    small = write_report(tmp_path / "many.h5", str(tmp_path / "small.html"), max_size=0.2)
    assert small.bytes == (tmp_path / "small.html").stat().st_size <= 200_000
    assert small.pictures < small.wanted_pictures == 40 and small.regions == 41
    assert "not drawn, as the page would pass --max-size" in small.lines()[1]
    tiny = write_report(tmp_path / "many.h5", str(tmp_path / "tiny.html"), max_size=0.02)
    assert tiny.pictures == 1 and tiny.regions < 41
    assert tiny.lines()[-1] == f"the weakest {41 - tiny.regions} regions are left out of the table"
    drawn = [map_["row"] for map_ in data_of(tmp_path / "tiny.html")["maps"]]
    assert len(drawn) == 1 and drawn[0] < tiny.regions


def test_a_page_without_regions_is_as_small_as_reckoned(tmp_path, here):
    layout = Layout(0, LENGTH, (HeadLayout("out", (1,)),))
    with ResultWriter(tmp_path / "none.h5", layout, attributes={}, genome_sizes={"chr1": 5}):
        pass
    assert fastism("report", tmp_path / "none.h5").exit_code == 0
    assert (here / "report.html").stat().st_size < EMPTY_BYTES
    result = fastism("plot", tmp_path / "none.h5", "--top", 3)
    assert result.exit_code == 2 and "has no scored region" in result.stderr


def test_only_some_targets_are_shown(looked, here):
    fastism("report", looked[0], "--targets", "out=HepG2", "-o", "some.html")
    assert [track["label"] for track in data_of(here / "some.html")["tracks"]] == ["out/HepG2"]


@pytest.mark.parametrize(("letters", "partners"), [("ACGT", "TGCA"), ("ACGU", "UGCA")])
def test_the_page_is_given_the_letters_of_the_other_strand(tmp_path, letters, partners):
    layout = Layout(1, 5, (HeadLayout("out", (1,)),), letters)
    with ResultWriter(tmp_path / "r.h5", layout, attributes={}, genome_sizes={"chr1": 5}):
        pass
    write_report(tmp_path / "r.h5", str(tmp_path / "r.html"))
    assert data_of(tmp_path / "r.html")["complement"] == dict(zip(f"{letters}N", f"{partners}N", strict=True))


def test_a_report_of_many_targets_shows_the_first(tmp_path):
    layout = Layout(1, LENGTH, (HeadLayout("out", (30,)),))
    with ResultWriter(tmp_path / "wide.h5", layout, attributes={}, genome_sizes={"chr1": 5}):
        pass
    summary = write_report(tmp_path / "wide.h5", str(tmp_path / "wide.html"))
    assert summary.lines()[1] == "12 of 30 targets are shown; choose others with --targets"
    assert summary.pictures == 0


def test_packed_deltas_are_off_by_less_than_16_bits(rng):
    seq = rng.integers(0, 5, 200)
    delta = (rng.normal(size=(200, 4)) * 10.0 ** rng.uniform(-30, 30, (200, 4))).astype(np.float32)
    delta[seq < 4, seq[seq < 4]] = 0
    delta[5] = np.where(np.arange(4) == seq[5], 0, np.nan)
    packed = pack_delta(seq, delta)
    found = unpacked({"seq": "".join("ACGTN"[code] for code in seq), "delta": [packed]}, 0)
    np.testing.assert_allclose(found, delta, rtol=2**-16)
    assert len(packed) + 200 == packed_sizes(np.array([200]), np.array([(seq == 4).sum()]), 4, 1)[0]


# --- the command line ------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_library():
    of_plot = {option.name: option.default for option in main.get_command(click.Context(main), "plot").params}
    assert (of_plot["bases"], of_plot["strand"]) == (PlotOptions.bases, PlotOptions.strand)
    command = main.get_command(click.Context(main), "report")
    of_report = {option.name: option.default for option in command.params}
    library = inspect.signature(write_report).parameters
    assert all(of_report[name] == library[name].default for name in ("top", "max_size"))
    assert f"first {REPORT_TARGETS}" in next(o.help for o in command.params if o.name == "targets")
    assert f"over {SITE} bases" in main.get_command(click.Context(main), "plot").help


# --- colours and links of the page -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_of_the_page_are_told_apart(kind):
    style = (Path(report.__file__).parent / "page" / "report.css").read_text()
    for names in ("ACGT", ("up", "zero", "down")):
        schemes = zip(*(re.findall(rf"--{name}: #(\w{{6}});", style) for name in names), strict=True)
        for scheme in schemes:
            colours = [tuple(int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)) for text in scheme]
            assert least_difference(colours, kind) > LEAST_DIFFERENCE, (names, scheme)
    assert len(re.findall("--A:", style)) == 3, "light, dark by the system, dark by choice"


@pytest.mark.parametrize(
    ("path", "genome"),
    [
        ("/data/hg38.fa.gz", "hg38"),
        ("GRCh38.primary_assembly.genome.fa", "hg38"),
        ("Homo_sapiens.GRCh37.dna.fa", "hg19"),
        ("mm10_no_alt.fa", "mm10"),
        ("danRer11.fa", "danRer11"),
        ("demo.fa", ""),
        ("", ""),
    ],
)
def test_the_genome_is_read_off_the_name_of_the_fasta(path, genome):
    assert assembly(path) == genome


def test_where_most_deltas_are_0_the_half_is_not_below_them():
    counts = np.zeros(BINS, np.int64)
    counts[100:110] = 1
    few, many, nearly_all = (spread(counts, np.zeros(BINS, np.int64), still)["text"] for still in (5, 90, 990))
    assert re.search(r"change nothing\. Half are below about [\d.e-]+, 99 in 100 below ", few)
    assert re.search(r"change nothing\. Half or more are 0, 99 in 100 below [\d.e-]+\.$", many)
    assert nearly_all.endswith("change nothing. 99 in 100 or more are 0.")
