"""``fastism plot``: which rows, targets and results a picture shows, and the files that pictures go to."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.figure import Figure

from fastism_cli.cli import main
from fastism_cli.errors import UsageError
from fastism_cli.options.choices import FigureOptions
from fastism_cli.report import plot_regions as module
from fastism_cli.report.picture_contents import Pictures, PlotOptions, each_contents, strongest_rows, targets_of
from fastism_cli.report.plot_regions import plot_regions
from fastism_cli.results.scores import open_scores
from fastism_cli.scores.drawing.axes import LIBRARIES
from fastism_cli.scores.drawing.whole_figure import Contents
from fastism_cli.scores.region import Interval
from tests.export.test_export_scores import write_named
from tests.helpers import report_files
from tests.helpers.report_files import LABELS, LENGTH, SITE_AT, write_look

N = 6


@pytest.fixture(scope="module")
def looked(tmp_path_factory) -> tuple[Path, report_files.Truth]:
    path = tmp_path_factory.mktemp("look") / "peaks.ism.h5"
    return path, write_look(path, N)


@pytest.fixture(scope="module")
def after(tmp_path_factory) -> Path:
    """The same regions of another model: all deltas are twice as large."""
    path = tmp_path_factory.mktemp("after") / "after.ism.h5"
    write_look(path, N, factor=2.0)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fastism(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fastism")


def contents_of(*paths: Path, **options) -> list[Contents]:
    results = [open_scores(path) for path in paths]
    try:
        return list(each_contents(Pictures(results, PlotOptions(**options))))
    finally:
        for scores in results:
            scores.file.close()


# --- what ------------------------------------------------------------------------------------------------------------


def test_targets_are_chosen_where_there_are_several(looked):
    with open_scores(looked[0]) as scores:
        for asked, expected in (
            (["out=HepG2"], LABELS[1:2]),
            (["out"], LABELS[:2]),
            (["count", "out=0"], LABELS[2::-2]),
        ):
            ((*found,),) = targets_of([scores], asked)
            assert [track.label for track in found] == expected
        with pytest.raises(UsageError, match=r"3 targets. Choose one or several by target: out/K562, out/HepG2, count"):
            targets_of([scores], [])


def test_results_may_have_different_targets(looked, tmp_path):
    report_files.write_tiled(tmp_path / "other.h5")
    with open_scores(looked[0]) as one, open_scores(tmp_path / "other.h5") as other:
        found = targets_of([one, other], ["count", "out"])
        assert [[track.label for track in tracks] for tracks in found] == [["count", *LABELS[:2]], ["out"]]
        with pytest.raises(UsageError, match=r"other.h5 has no head or target|other.h5 has no target 'count'"):
            targets_of([one, other], ["count"])


def test_several_results_show_the_same_bases(looked, after):
    path, truth = looked
    ((contents),) = contents_of(path, after, names=["peak_3"], targets=["count"], bases=40)
    first, second = (panel.region for panel in contents.panels)
    np.testing.assert_allclose(second.delta, 2 * first.delta, rtol=1e-6)
    assert contents.view.end - contents.view.start == 40
    assert [panel.label.split("   ")[0] for panel in contents.panels] == ["peaks", "after"]
    assert contents.panels[1].label == f"after   count: prediction {truth.reference[3, 2]:.3g}"
    labelled = contents_of(path, after, names=["peak_3"], targets=["count"], figure=FigureOptions(labels=["A", "G"]))[0]
    assert [panel.label[:4] for panel in labelled.panels] == ["A   ", "G   "]
    with pytest.raises(UsageError, match=r"label: 1 labels for 2 results"):
        contents_of(path, after, names=["peak_3"], targets=["count"], figure=FigureOptions(labels=["A"]))


def test_a_place_that_a_result_lacks_is_told(looked, tmp_path):
    report_files.write_tiled(tmp_path / "other.h5")
    with pytest.raises(UsageError, match=r"no scored region of .*other\.h5 .* The nearest: chr1:1,201-1,300"):
        contents_of(looked[0], tmp_path / "other.h5", names=["peak_4"], targets=["out"])


@pytest.mark.parametrize("strand", ["+", "-", "region"])
@pytest.mark.parametrize("row", [2, 3])
def test_the_strand_is_the_one_that_was_asked_for(looked, row, strand):
    names = {2: report_files.HOSTILE[2], 3: "peak_3"}
    (contents,) = contents_of(looked[0], names=[names[row]], targets=["count"], strand=strand)
    region = contents.panels[0].region
    assert region.reverse == (strand == "-" or (strand == "region" and row == 3))
    assert region.strand == "+-"[row % 2], "of the record, whatever is drawn"


def test_too_many_logos_are_refused(looked):
    with pytest.raises(UsageError, match=r"26 logos do not go into one picture: at most 24"):
        contents_of(*13 * [looked[0]], names=["peak_3"], targets=["out"])


# --- tiles -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiled(tmp_path) -> tuple[Path, np.ndarray]:
    path = tmp_path / "tiled.ism.h5"
    return path, report_files.write_tiled(path)[1]


@pytest.mark.parametrize(
    ("asked", "view", "tiles"),
    [
        ({"names": ["long"], "bases": None}, (1000, 1300), 3),
        ({"names": ["long"], "bases": 40}, (1180, 1220), 2),
        ({"region": "chr1:1,151-1,250"}, (1150, 1250), 2),
        ({"region": "chr1:1,210-1,220"}, (1209, 1220), 1),
        ({"top": 1, "bases": 60}, (1165, 1225), 2),
    ],
    ids=str,
)
def test_tiles_are_one_picture(tiled, asked, view, tiles):
    path, delta = tiled
    (contents,) = contents_of(path, **asked)
    found = contents.view.start, contents.view.end
    assert found == view if "top" not in asked else (found[1] - found[0] == 60 and found[0] < 1200 < found[1])
    part = contents.panels[0].region.between(*found)
    np.testing.assert_array_equal(part.delta, delta[found[0] - 1000 : found[1] - 1000])
    words = contents.panels[0].label
    assert (f"{tiles} tiles, predictions" in words) == (tiles > 1) and ("prediction " in words) == (tiles == 1)


def test_very_many_tiles_are_drawn_in_part(tiled, monkeypatch):
    monkeypatch.setattr("fastism_cli.report.picture_contents.MAX_STITCHED", 200)
    with pytest.raises(UsageError, match=r"long has 3 tiles over 300 bases, .* region chr1:A-B"):
        contents_of(tiled[0], names=["long"])


# --- tracks and places to shade --------------------------------------------------------------------------------------


def test_tracks_and_shaded_places_lie_on_the_bases(looked, here):
    Path("motifs.bed").write_text("1\t2060\t2070\tAP1\t0\t-\n1\t9000\t9001\tfar\n")
    Path("places.bed").write_text("1\t2100\t2110\n")
    (contents,) = contents_of(
        looked[0],
        region="chr1:2,051-2,200",
        targets=["count"],
        tracks=["hits=motifs.bed"],
        highlights=["chr1:2,061-2,070", "places.bed"],
    )
    shown = contents.tracks[0].within(*contents.view)
    assert shown.label == "hits" and [(x.start, x.end, x.name, x.strand) for x in shown.items] == [
        (2060, 2070, "AP1", "-")
    ]
    assert contents.highlights == [Interval("chr1", 2060, 2070), Interval("chr1", 2100, 2110)]


def test_a_picture_never_replaces_its_tracks(looked, here):
    for name, option in (("a.png", "--track"), ("b.png", "--highlight"), ("c.png", "--track=x")):
        Path(name).write_text("chr1\t2060\t2070\n")
        joined = [f"{option}={name}"] if "=" in option else [option, name]
        result = fastism("plot", looked[0], "--name", "peak_3", "--target", "count", *joined, "-o", name, "--overwrite")
        assert result.exit_code == 2 and "is an input of this run" in result.stderr, result.output
        assert Path(name).read_text() == "chr1\t2060\t2070\n"


# --- files -----------------------------------------------------------------------------------------------------------

MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.one_in(36)
@pytest.mark.parametrize("format", MAGIC)
def test_one_region_is_one_file(looked, here, format):
    arguments = ("plot", looked[0], "--target", "count", "--name", "peak_3", "-o", f"a.{format}")
    result = fastism(*arguments)
    assert result.exit_code == 0 and result.stdout == "", result.stderr
    first = (here / f"a.{format}").read_bytes()
    assert first.startswith(MAGIC[format])
    assert fastism(*arguments).exit_code == 2 and (here / f"a.{format}").read_bytes() == first
    assert fastism(*arguments, "--overwrite").exit_code == 0
    assert (here / f"a.{format}").read_bytes() == first, "the same picture is the same file"
    assert [path.name for path in here.iterdir()] == [f"a.{format}"]


def test_a_picture_is_as_large_as_asked_for(looked, here):
    arguments = ("plot", looked[0], "--target", "count", "--name", "peak_3", "-o", "a.png")
    assert fastism(*arguments, "--width", "89mm", "--height", "3in", "--dpi", 100).exit_code == 0
    head = Path("a.png").read_bytes()[16:24]
    assert [int.from_bytes(head[at : at + 4], "big") for at in (0, 4)] == [round(89 / 25.4 * 100), 300]


@pytest.mark.one_in(36)
def test_several_regions_are_pages_or_a_folder(looked, here):
    draw = ("plot", looked[0], "--target", "out=K562", "--bases", 30, "--top")
    result = fastism(*draw, 3)
    assert result.exit_code == 0 and "drawing 3 pictures\n" in result.stderr
    assert (here / "peaks.plots.pdf").read_bytes().count(b"/Type /Page ") == 3
    assert fastism(*draw, 2, "-o", "top/", "--format", "svg").exit_code == 0
    with open_scores(looked[0]) as scores:
        best = strongest_rows(scores, scores.tracks[0], 2)
    names = [re.sub(r"[^\w.+-]+", "-", report_files.names_of(N)[row]).strip(".-") for row in best]
    assert sorted(path.name for path in (here / "top").iterdir()) == [f"0{i + 1}_{names[i]}.svg" for i in range(2)]
    result = fastism(*draw, 2, "-o", "top.png")
    assert result.exit_code == 2 and "2 regions do not go into one png. Name a .pdf" in result.stderr
    assert sorted(path.name for path in here.iterdir()) == ["peaks.plots.pdf", "top"]


@pytest.mark.one_in(36)
def test_default_names(looked, after, here):
    plot_regions(looked[0], PlotOptions(targets=["count"], region="chr1:2,060-2,100"))
    plot_regions([after, looked[0]], PlotOptions(targets=["count"], names=["peak_4"], strand="region"), format="svg")
    assert sorted(path.name for path in here.iterdir()) == ["after.peak_4.svg", "peaks.chr1-2060-2100.png"]


def test_pictures_of_names_with_paths_lie_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "figure", lambda *_: Figure(figsize=(0.1, 0.1)))  # names of files are looked at
    names = [
        "/vol1/lab/peak_3a",
        "/vol1/lab/peak_3b",
        "../../up",
        "same",
        "same",
        "a" * 300,
        "peak 7;x",
        "Peak_1",
        "peak_1",
        ".",
    ]
    source = write_named(tmp_path / "r.ism.h5", ["chr1", "chr2", "chr3"], names, ("a/b", "a_b"))
    before = {path for path in tmp_path.rglob("*")}
    assert len(plot_regions(source, PlotOptions(top=10, targets=["0"]), "pics/")) == 10
    assert len({path.name.lower() for path in (tmp_path / "pics").iterdir()}) == 10
    assert len(plot_regions(source, PlotOptions(names=["same"], targets=["0"]), "same/")) == 2
    assert plot_regions(source, PlotOptions(names=["/vol1/lab/peak_3a"], targets=["0"])) == ["r.vol1-lab-peak_3a.png"]
    assert plot_regions(source, PlotOptions(names=["../../up"], targets=["0"])) == ["r.up.png"]
    made = {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before}
    assert made == {"pics", "same", "r.vol1-lab-peak_3a.png", "r.up.png"}


REFUSED = {
    "nothing asked for": ([], "which regions? Give --region"),
    "top with a name": (["--top", 2, "--name", "peak_3"], "--top chooses regions by itself"),
    "no such target": (["--target", "out=A549", "--name", "peak_3"], "has no target 'A549'"),
    "no such name": (["--target", "count", "--name", "peak"], "no region named 'peak'"),
    "not a picture": (["--target", "count", "--name", "peak_3", "-o", "a.jpg"], "-o a.jpg: name a .png, .svg or .pdf"),
    "two formats": (["--target", "count", "--name", "peak_3", "-o", "a.png", "--format", "svg"], "does not go with"),
    "no folder": (["--target", "count", "--name", "peak_3", "-o", "gone/a.png"], "folder gone does not exist"),
    "no bases": (["--target", "count", "--name", "peak_3", "--bases", 0], "neither all nor a whole number"),
    "no track": (["--target", "count", "--name", "peak_3", "--track", "gone.bed"], "gone.bed does not exist"),
    "no place": (["--target", "count", "--name", "peak_3", "--highlight", "gone.bed"], "no such file, and a place is"),
    "no size": (["--name", "peak_3", "--width", "89 parsecs"], "no length of 0.5 to 200 inches, such as 89mm"),
    "no limits": (["--name", "peak_3", "--ylim", "2:1"], "'2:1' is not LOW:HIGH, two numbers such as -0.5:2"),
    "too small": (["--target", "count", "--name", "peak_3", "--height", "15mm"], "is too small for what is drawn"),
    "many labels": (
        ["--target", "count", "--name", "peak_3", "--label", "a", "--label", "b"],
        "2 labels for 1 result",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_plot_leaves_nothing(looked, here, case):
    arguments, message = REFUSED[case]
    result = fastism("plot", looked[0], *arguments)
    assert result.exit_code == 2 and message in result.stderr, result.stderr
    assert "Error: " in result.stderr and list(here.iterdir()) == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_missing_library_is_asked_for_by_its_extra(looked, here, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    result = fastism("plot", looked[0], "--top", 1)
    assert result.exit_code == 2 and "pip install 'fastism-cli[plot]'" in result.stderr
    assert fastism("report", looked[0]).exit_code == 0, "a report needs no extra"


def test_the_pictures_site_is_in_the_view(looked):
    path, truth = looked
    for contents in contents_of(path, top=N, targets=["out=0"], bases=60):
        row = report_files.names_of(N).index(contents.panels[0].region.name)
        assert contents.view.start <= truth.start[row] + SITE_AT + 5 < contents.view.end <= truth.start[row] + LENGTH


def test_a_region_that_no_picture_shows_is_refused(here, looked):
    with pytest.raises(
        UsageError, match=r"^region chr1:1-4,000,000,000 has more than 1,000,000 bases, which no picture"
    ):
        plot_regions(looked[0], PlotOptions(targets=["count"], region="chr1:1-4,000,000,000"), "o.png")
    assert list(here.iterdir()) == []
