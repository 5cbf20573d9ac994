"""Pictures: every score over its number, every text readable and by itself, whatever the size of the paper."""

from __future__ import annotations

import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps, pyplot
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import fastism_cli
from fastism_cli import plot
from fastism_cli.errors import UsageError
from fastism_cli.genome.annotations import Curve, Feature, FeatureFile, Gene, GeneFile, Signal
from fastism_cli.options.choices import FigureOptions, parse_size
from fastism_cli.results.scores import open_scores
from fastism_cli.scores.drawing import axes as plots
from fastism_cli.scores.drawing.annotation_axes import MAX_LANES, Scale, placed
from fastism_cli.scores.drawing.axes import COLOURS, HEAT, in_lines, shortened, style, text_inches, use_no_display
from fastism_cli.scores.drawing.placing import numbered, round_step, rows_of
from fastism_cli.scores.drawing.whole_figure import heading
from fastism_cli.scores.region import Interval, RegionScores, stitched
from tests.helpers import report_files
from tests.helpers.colour_vision import BLINDNESS, LEAST_DIFFERENCE, least_difference
from tests.helpers.figure_text import faults_of, texts_of
from tests.helpers.report_files import COMPLEMENT, LABELS, LENGTH, SITE_AT, write_look

N = 6
ONE_COLUMN, TWO_COLUMNS = parse_size("89mm"), parse_size("183mm")


@pytest.fixture(scope="module")
def looked(tmp_path_factory) -> tuple[Path, report_files.Truth]:
    path = tmp_path_factory.mktemp("look") / "peaks.ism.h5"
    return path, write_look(path, N)


def regions_of(path: Path, row: int, *, reverse: bool = False) -> list[RegionScores]:
    with open_scores(path) as scores:
        found = [scores.region(row, track) for track in scores.tracks]
    return [region.reversed() for region in found] if reverse else found


def drawn(region: RegionScores, view: Interval | None = None, **options) -> Figure:
    with style():
        contents = plot.Contents([plot.panel_of(region, "t")], view or region.around_site(60))
        return plot.figure(contents, FigureOptions(**options))


# --- what is drawn where ---------------------------------------------------------------------------------------------


@pytest.mark.one_in(36)
@pytest.mark.parametrize("row", [2, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_score_is_over_its_number(looked, row, reverse):
    path, truth = looked
    start = int(truth.start[row])
    region = regions_of(path, row, reverse=reverse)[0]
    figure = drawn(region, Interval("chr1", start + 100, start + 171))
    _, logo, heat, bar = figure.axes
    image = heat.images[0]
    left, right, _, _ = image.get_extent()
    assert (left, right) == (start + 100.5, start + 171.5)
    values, ticks = image.get_array(), heat.get_xticks()
    assert len(ticks) >= 3 and [text.get_text() for text in heat.get_xticklabels()] == [f"{x:,.0f}" for x in ticks]
    for number in range(start + 101, start + 172):
        at = number - 1 - start
        expected = truth.delta[row, 0, at, ::-1] if reverse else truth.delta[row, 0, at]
        np.testing.assert_array_equal(values[:, number - start - 101], expected)
    dots = {round(x): int(y) for x, y in heat.collections[0].get_offsets()}
    code = truth.seq[row, 100]
    assert dots[start + 101] == (COMPLEMENT[code] if reverse else code)
    ends = (start + 100.5, start + 171.5)
    assert logo.get_xlim() == heat.get_xlim() == (ends[::-1] if reverse else ends)
    assert [text.get_text() for text in heat.get_yticklabels()] == list("ACGT") and len(bar.get_yticks()) == 3
    words = [text.text for text in texts_of(figure)]
    assert f"chr1, {'-' if reverse else '+'} strand, base counted from 1" in words


def test_the_title_is_that_of_the_record(looked):
    path, truth = looked
    region = regions_of(path, 3)[0]
    start = int(truth.start[3])
    assert heading(region) == ["peak_3", f"chr1:{start + 1:,}-{start + LENGTH:,} (-)"]
    assert heading(region.reversed()) == heading(region), "the place is the record's, whichever strand is drawn"
    other = RegionScores("chr1", 5, "", "-", "+", "ACGT", region.seq, region.delta, 6.3847)
    assert heading(other)[0].endswith(" (-, scored on +)")
    assert plot.panel_of(other, "ctcf").label == "ctcf: prediction 6.38"
    assert plot.panel_of(region, "x").label == f"x: prediction {truth.reference[3, 0]:.3g}"


@pytest.mark.parametrize("reverse", [False, True])
def test_letters_are_as_tall_as_the_importance(looked, reverse):
    path, truth = looked
    start = int(truth.start[2])
    region = regions_of(path, 2, reverse=reverse)[0]
    axes = plot.logo(region, Figure().add_subplot(), view=Interval("chr1", start + SITE_AT - 5, start + SITE_AT + 15))
    boxes = [path.get_extents() for path in axes.collections[0].get_paths()]
    expected = truth.importance(2, 0)[SITE_AT - 5 : SITE_AT + 15]
    assert len(boxes) == 20
    for box in boxes:
        at = round((box.x0 + box.x1) / 2) - 1 - start - (SITE_AT - 5)
        assert (box.y1 if expected[at] > 0 else box.y0) == pytest.approx(expected[at], rel=1e-5)
        assert min(abs(box.y0), abs(box.y1)) < 1e-9 and box.width == pytest.approx(0.95)
    low, high = axes.get_ylim()
    assert low <= min(0, expected.min()) and high >= expected.max()


def test_letters_are_never_mirrored(looked):
    """On the - strand the axis runs from right to left, and an F of the letters still looks to the right."""
    shapes = []
    for reverse in (False, True):
        region = regions_of(looked[0], 2, reverse=reverse)[0]
        view = Interval("chr1", int(region.start), int(region.start) + 60)
        axes = plot.logo(region, Figure().add_subplot(), view=view)
        paths = axes.collections[0].get_paths()
        letters = "".join(np.array(list("ACGT"))[region.between(view.start, view.end).seq])
        path = paths[letters.index("G")]
        pixels = axes.transData.transform(path.vertices)
        shapes.append((pixels[:, 0] - pixels[:, 0].min()) / np.ptp(pixels[:, 0]))
    np.testing.assert_allclose(*shapes, atol=1e-9)


def test_a_long_region_is_drawn_with_bars(looked, monkeypatch):
    monkeypatch.setattr(plots, "MAX_LETTERS", 100)
    monkeypatch.setattr(plots, "MAX_BARS", 60)
    region = regions_of(looked[0], 2)[0]
    axes = plot.logo(region, Figure().add_subplot(), view=Interval("chr1", 0, 10**5))
    segments = axes.collections[0].get_segments()
    assert len(segments) == 60
    tallest = max(segments, key=lambda segment: abs(segment[1][1]))[1]
    strongest = np.nanargmax(np.abs(region.importance))
    assert tuple(tallest) == pytest.approx((region.positions[strongest] + 1, region.importance[strongest]))


def test_nothing_known_is_drawn_empty(looked):
    figure = drawn(regions_of(looked[0], 1)[0], Interval("chr1", 1057, 1060))  # three N
    assert figure.axes[2].images[0].get_array().mask.all() and not figure.axes[1].collections[0].get_paths()


def test_axes_are_taken_and_returned(looked):
    region = regions_of(looked[0], 2)[0]
    for draw in (plot.logo, plot.heat_map, plot.overview):
        axes = Figure().add_subplot()
        assert draw(region, axes) is axes
        with pytest.raises(UsageError, match=r"one matplotlib Axes is needed. Received: Figure"):
            draw(region, Figure())
    axes = plot.logo(region, Figure().add_subplot())
    assert plot.highlight(axes, 5, 9) is axes and axes.patches[0].get_x() == 5.5 and axes.patches[0].get_width() == 4
    assert plot.track(Curve("c", Signal(region.start, np.ones(5, np.float32))), axes) is axes
    assert "plot" in fastism_cli.__all__ and set(plot.__all__) <= set(dir(plot))


def test_the_library_page_draws_what_it_says(monkeypatch):
    root = Path(fastism_cli.__file__).parents[1]
    monkeypatch.chdir(root / "examples" / "figures")
    use_no_display()
    code = (root / "docs" / "reference" / "library.md").read_text().split("## Pictures")[1].split("```")[1]
    drawn = {}
    exec(code.removeprefix("python"), drawn)
    assert drawn["both"].get_figwidth() == 3.5 and faults_of(drawn["both"]) == []
    assert drawn["upper"].get_ylim() == (-2, 8) and len(drawn["lower"].patches) == 1
    assert drawn["upper"].get_xlim() == drawn["lower"].get_xlim()
    pyplot.close(drawn["figure"])


def test_one_axis_for_all_or_one_for_each(looked):
    regions = regions_of(looked[0], 4)
    panels = [plot.panel_of(region, label) for region, label in zip(regions, LABELS, strict=True)]
    contents = plot.Contents(panels, regions[0].around_site(50))
    with style():
        shared = plot.figure(contents)
        own = plot.figure(contents, FigureOptions(own_y=True, heat_map=True))
        given = plot.figure(contents, FigureOptions(ylim=(-3, 8)))
    assert len({axes.get_ylim() for axes in shared.axes}) == 1 and len(shared.axes) == 3
    heats = [axes.images[0] for axes in own.axes if axes.images]
    assert len({heat.get_clim() for heat in heats}) == 3 and len({axes.get_ylim() for axes in own.axes[:3]}) == 3
    assert {axes.get_ylim() for axes in given.axes} == {(-3, 8)}


@pytest.mark.parametrize("says_window", [True, False])
def test_tiles_become_one(tmp_path, says_window):
    seq, delta = report_files.write_tiled(tmp_path / "tiled.h5", says_window=says_window)
    with open_scores(tmp_path / "tiled.h5") as scores:
        assert scores.window == report_files.TILE
        parts = [found[0] for _, found in scores.load_regions([0, 2], scores.tracks)]
    whole = stitched(parts[::-1])
    assert (whole.start, whole.end) == (1000, 1300)
    np.testing.assert_array_equal(whole.seq, np.r_[seq[:100], np.full(100, 4), seq[200:300]])
    np.testing.assert_array_equal(whole.delta[200:], delta[200:300])
    assert np.isnan(whole.delta[100:200]).all() and np.isnan(whole.importance[100:200]).all()


# --- rows, numbers and text ------------------------------------------------------------------------------------------


def test_rows_hold_each_base_once():
    view = Interval("chr1", 100, 345)
    forward, backward = (rows_of(view, 100, reverse=reverse) for reverse in (False, True))
    assert [(row.start, row.end) for row in forward] == [(100, 200), (200, 300), (300, 345)]
    assert [(row.start, row.end) for row in backward] == [(245, 345), (145, 245), (100, 145)]
    assert rows_of(view, None, reverse=True) == (view,) and rows_of(view, 1000, reverse=False) == (view,)
    with pytest.raises(UsageError, match="more than 200 rows of 10 bases"):
        rows_of(Interval("chr1", 0, 2001), 10, reverse=False)


def test_a_wrapped_figure_shows_each_base_once(looked):
    region = regions_of(looked[0], 2)[0]
    figure = drawn(region, region.interval, wrap=80, heat_map=False, width=TWO_COLUMNS)
    assert len(figure.axes) == 4 and faults_of(figure) == []
    limits = sorted(axes.get_xlim() for axes in figure.axes)
    assert limits == [(start + 0.5, min(start + 80, region.end) + 0.5) for start in range(region.start, region.end, 80)]
    widths = [axes.get_position().width for axes in figure.axes]
    assert widths[3] / widths[0] == pytest.approx(60 / 80), "a base is as wide in each row"


def test_round_numbers():
    assert [round_step(x) for x in (0.1, 1, 1.5, 3, 7, 11, 499)] == [1, 1, 2, 5, 10, 20, 500]
    assert numbered(Interval("chr1", 995, 1040), 5.0, 6) == list(range(1000, 1041, 5))
    assert numbered(Interval("chr1", 1000, 1003), 0.1, 6) == [1001]


def test_text_is_measured_and_shortened():
    assert text_inches("importance", 10) == pytest.approx(2 * text_inches("importance", 5))
    text = "a name of a peak that somebody has made very long"
    short = shortened(text, 8, 1.0)
    assert text_inches(short, 8) <= 1.0 < text_inches(text, 8)
    assert short.startswith("a name") and short.endswith("long") and "…" in short
    assert in_lines(["peak_1", "chr1:1-500 (+)", text], 8, 2.0) == ["peak_1   chr1:1-500 (+)", shortened(text, 8, 2.0)]


def test_a_text_of_any_length_is_shortened_at_once():
    """A gene or a title of a million letters."""
    began = time.monotonic()
    for text in (1_000_000 * "x", 999 * "wide ", "W" * 1001):
        short = shortened(text, 8, 2.0)
        assert text_inches(short, 8) <= 2.0 < text_inches(short + 4 * text[0], 8)
    assert time.monotonic() - began < 10
    assert shortened("long", 8, 0.0) == "l\u2026"


def test_what_does_not_fit_is_refused_with_what_would(looked):
    region = regions_of(looked[0], 2)[0]
    with pytest.raises(UsageError, match=r"width 0.6in leaves no place .* at least \d+mm"):
        drawn(region, width=0.6)
    with pytest.raises(UsageError, match=r"height 0.6in is too small .* at least (\d+)mm") as error:
        drawn(region, height=0.6)
    least = int(str(error.value).rsplit("least ", 1)[1].removesuffix("mm."))
    figure = drawn(region, height=(least + 1) / 25.4)
    assert figure.get_figheight() == pytest.approx((least + 1) / 25.4) and faults_of(figure) == []


@pytest.mark.parametrize("title", [None, "none", "CTCF at the promoter of a gene with a very long name indeed"])
def test_the_title_is_what_was_asked_for(looked, title):
    figure = drawn(regions_of(looked[0], 2)[0], title=title, width=ONE_COLUMN)
    words = " ".join(text.text for text in texts_of(figure))
    assert ("prediction" in words) == (title is None) and faults_of(figure) == []
    if title not in (None, "none"):
        assert title in words


# --- texts of all kinds, at one and at two columns of a journal ------------------------------------------------------

LONG_NAME = "ENSMUST00000123456_a_name_that_is_longer_than_what_lies_there"


def annotations_around(place: Interval) -> list:
    """Features with names, of which some are long and some lie over each other; genes of both strands; no curve."""
    at, rng = place.start, np.random.default_rng(4)
    starts = rng.integers(at - 20, place.end, 14).tolist()
    motifs = [Feature(start, start + 12, f"MA{start}", "+-."[i % 3]) for i, start in enumerate(starts)]
    motifs.append(Feature(at + 30, at + 33, LONG_NAME, "+"))
    genes = [
        Gene(at - 500, at + 70, "GENE1", "+", ((at - 500, at - 10), (at + 20, at + 60)), ((at + 20, at + 40),)),
        Gene(at + 40, at + 900, LONG_NAME, "-", ((at + 60, at + 80),), ()),
    ]
    return [
        FeatureFile("motif hits of a search with a long label", {place.chrom: sorted(motifs)}),
        GeneFile("genes", {place.chrom: genes}),
        Curves(),
    ]


class Curves:
    """As a bigWig is read."""

    label = "DNase"

    def within(self, chrom: str, start: int, end: int) -> Curve:
        values = 1234.5 * np.abs(np.sin(np.arange(start, end) / 9)).astype(np.float32)
        values[:5] = np.nan
        return Curve(self.label, Signal(start, values))


KINDS = {
    "one target": {},
    "the other strand": {"reverse": True},
    "three targets": {"targets": 3},
    "three targets with heat maps": {"targets": 3, "heat_map": True, "own_y": True},
    "tracks": {"tracks": True},
    "tracks, the other strand": {"tracks": True, "reverse": True, "heat_map": False},
    "rows": {"wrap": 40, "tracks": True},
    "rows of two targets": {"wrap": 50, "targets": 2, "reverse": True},
    "a given axis": {"targets": 2, "ylim": (-1e-5, 123456.0)},
    "large letters": {"font_size": 12, "tracks": True},
    "small letters": {"font_size": 5, "tracks": True, "targets": 2},
    "a given height": {"height": 4.0, "targets": 2},
}


@pytest.mark.one_in(36)
@pytest.mark.parametrize("width", [ONE_COLUMN, TWO_COLUMNS], ids=["89mm", "183mm"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_text_is_too_small_or_over_another(looked, kind, width):
    asked = dict(KINDS[kind])
    n, reverse, has_tracks = asked.pop("targets", 1), asked.pop("reverse", False), asked.pop("tracks", False)
    regions = regions_of(looked[0], 3, reverse=reverse)[:n]
    view = regions[0].around_site(120)
    panels = [plot.panel_of(region, f"{LONG_NAME} {label}") for region, label in zip(regions, LABELS, strict=False)]
    tracks = annotations_around(view) if has_tracks else []
    shaded = [Interval("chr1", view.start + 20, view.start + 30), Interval("chr1", 0, 10**6)]
    with style():
        figure = plot.figure(plot.Contents(panels, view, tracks, shaded), FigureOptions(width=width, **asked))
    assert figure.get_figwidth() == width
    assert faults_of(figure) == []
    if has_tracks:
        assert {"genes", "DNase"} <= {text.text for text in texts_of(figure)}


def test_a_fault_would_be_found(looked):
    figure = drawn(regions_of(looked[0], 2)[0], width=ONE_COLUMN)
    figure.text(0.5, 0.5, "one", size=8)
    figure.text(0.5, 0.5, "two", size=4)
    figure.text(0.99, 0.9, "beyond it")
    assert faults_of(figure) == ["two: 4.0 points", "beyond it: beyond the paper", "one over two"]


# --- tracks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_items_lie_in_lanes_without_touching(reverse):
    rng = np.random.default_rng(0)
    items = [Feature(int(x), int(x) + int(n), f"name{x}", "+") for x, n in rng.integers(1, 90, (12, 2))]
    scale = Scale(0, 100, 4.0, reverse)
    found, missing = placed(items, scale, 6)
    assert len(found) + missing == 12
    for one, other in combinations(found, 2):
        if one.lane == other.lane:
            extents = [(min(x.left, x.middle - text_inches(x.name, 6) / 2),
                        max(x.right, x.middle + text_inches(x.name, 6) / 2)) for x in (one, other)]  # fmt: skip
            assert max(x[0] for x in extents) >= min(x[1] for x in extents)
    assert all(0 <= x.left <= x.right <= 4 for x in found)


def test_of_too_many_items_the_number_of_the_others_is_written():
    features = [Feature(10, 20, f"hit {i}", "+") for i in range(MAX_LANES + 3)]
    region = RegionScores("chr1", 0, "", "+", "+", "ACGT", np.zeros(60, np.uint8), np.zeros((60, 4), np.float32), 1.0)
    contents = plot.Contents([plot.panel_of(region, "t")], region.interval, [FeatureFile("hits", {"chr1": features})])
    with style():
        figure = plot.figure(contents, FigureOptions(width=ONE_COLUMN))
    assert "3 more" in [text.text for text in texts_of(figure)] and faults_of(figure) == []


def test_arrows_point_along_the_strand(looked):
    for reverse in (False, True):
        region = regions_of(looked[0], 2, reverse=reverse)[0]
        axes = plot.logo(region, Figure(figsize=(6, 2)).add_subplot())
        at = region.start + 100
        plot.track(FeatureFile("", {"chr1": [Feature(at, at + 40, "m", "-")]}).within(*region.interval), axes)
        corners = axes.patches[-1].get_xy()
        tip = corners[np.isclose(corners[:, 1], np.unique(corners[:, 1])[1])][0, 0]
        assert tip == pytest.approx(at + 0.5), "the tip of a feature of the - strand is at its first base"
        plot.track(FeatureFile("", {"chr1": [Feature(at - 500, at + 40, "m", "-")]}).within(*region.interval), axes)
        assert len(axes.patches[-1].get_xy()) == 5, "a box without a tip where its 3' end is beyond the view"


def test_letters_that_could_not_be_read_are_bars(looked):
    region = regions_of(looked[0], 2)[0]
    for inches, is_bars in ((3, True), (12, False)):
        axes = plot.logo(region, Figure(figsize=(inches, 2)).add_subplot())
        assert hasattr(axes.collections[0], "get_segments") == is_bars


# --- colours ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_are_told_apart(kind):
    heat = colormaps[HEAT]
    for colours in ([COLOURS[letter] for letter in "ACGT"], [heat(0.0), heat(0.5), heat(1.0)]):
        assert least_difference([to_rgb(colour) for colour in colours], kind) > LEAST_DIFFERENCE


def test_red_and_green_would_not_do():
    assert least_difference([to_rgb("#5a8a2a"), to_rgb("#b0602a")], "green") < LEAST_DIFFERENCE
