"""What blocks say of each base, and how they are cut, turned and drawn: against loops over bases."""

import numpy as np
import pytest

from fastism_cli import plot
from fastism_cli.errors import UsageError
from fastism_cli.options.choices import FigureOptions
from fastism_cli.scores.drawing.axes import bar_widths, style
from fastism_cli.scores.importance import BlockPlaces, base_importance
from fastism_cli.scores.region import Interval, RegionBlocks, RegionScores, stitched

LENGTH = 30
START = 100


def region(rng, starts, widths, contents: int = 1) -> RegionBlocks:
    places = BlockPlaces(np.array(starts), np.array(widths))
    delta = rng.normal(size=(len(starts), contents)).astype("float32")
    seq = rng.integers(0, 5, LENGTH).astype("uint8")
    return RegionBlocks("chr1", START, "peak", "+", "+", "ACGT", seq, delta, 1.5, places=places)


def by_loops(delta: np.ndarray, starts, widths, length: int) -> np.ndarray:
    """Of one sequence and target, float64 (length,)."""
    found = np.full(length, np.nan)
    for base in range(length):
        over = [x.mean() for x, s, w in zip(delta, starts, widths, strict=True) if s <= base < s + w]
        known = [x for x in over if np.isfinite(x)]
        found[base] = -np.mean(known) if known else np.nan
    return found


@pytest.mark.parametrize(
    ("starts", "widths"),
    [
        (range(0, 24, 3), 8 * [7]),
        (range(4, 20, 5), 4 * [5]),
        ([20, 0, 11, 0, 11], [10, 3, 3, 30, 1]),
        ([-3, 25], [5, 9]),
        (range(-2, 29), 31 * [4]),
        ([5, -9, 40], [3, 9, 2]),
    ],
)
def test_the_importance_of_a_base_is_minus_the_mean_of_its_blocks(rng, starts, widths):
    places = BlockPlaces(np.array(starts), np.array(widths))
    delta = rng.normal(size=(2, 3, len(widths), 2)).astype("float32")
    delta[0, :, 1] = np.nan
    found = base_importance(delta, places, LENGTH)
    assert found.dtype == np.float32 and found.shape == (2, 3, LENGTH)
    for row, track in np.ndindex(2, 3):
        expected = by_loops(delta[row, track].astype("float64"), starts, widths, LENGTH)
        np.testing.assert_allclose(found[row, track], expected, rtol=1e-6)


def test_many_rows_of_long_sequences_are_taken_some_at_a_time(rng, monkeypatch):
    places, delta = BlockPlaces(np.array([0, 9, 12]), np.full(3, 10)), rng.normal(size=(7, 2, 3, 1)).astype("float32")
    whole = base_importance(delta, places, LENGTH)
    monkeypatch.setattr("fastism_cli.scores.importance.MAX_SUMS", 3 * LENGTH)
    np.testing.assert_array_equal(base_importance(delta, places, LENGTH), whole)


def test_a_part_has_the_blocks_that_reach_into_it(rng):
    whole = region(rng, range(0, 24, 3), 8 * [7])
    part = whole.between(START + 8, START + 15)
    assert part.interval == Interval("chr1", START + 8, START + 15)
    assert part.places.starts.tolist() == [-5, -2, 1, 4]  # of 3, 6, 9 and 12
    np.testing.assert_array_equal(part.delta, whole.delta[1:5])
    inside = whole.importance[8:15]
    np.testing.assert_allclose(part.importance, inside, rtol=1e-6)
    assert len(whole.between(5, 6).places.starts) == 0


def test_on_the_other_strand_every_block_stays_over_its_bases(rng):
    whole = region(rng, [0, 4, 20], [3, 10, 10])
    turned = whole.reversed()
    np.testing.assert_allclose(turned.importance, whole.importance[::-1], rtol=1e-6)
    np.testing.assert_array_equal(np.sort(turned.middles), np.sort(whole.middles))
    by_middle = dict(zip(whole.middles, whole.delta[:, 0], strict=True))
    assert by_middle == dict(zip(turned.middles, turned.delta[:, 0], strict=True))
    again = turned.reversed()
    np.testing.assert_array_equal(again.delta, whole.delta)
    np.testing.assert_array_equal(turned.between(START + 20, START + 30).delta, whole.delta[2:])


def test_tiles_are_joined(rng):
    one, other = region(rng, [20, 25], [5, 5]), region(rng, [0, 5], [5, 5])
    other = RegionBlocks(
        "chr1", START + LENGTH, *list(vars(one).values())[2:6], other.seq, other.delta, 1.0, places=other.places
    )
    both = stitched([one, other])
    assert both.interval == Interval("chr1", START, START + 2 * LENGTH)
    np.testing.assert_allclose(both.importance, np.concatenate([one.importance, other.importance]), rtol=1e-6)


# --- pictures ---------------------------------------------------------------------------------------------------------


def drawn(*regions: RegionScores, **options):
    panels = [plot.panel_of(one, "t") for one in regions]
    with style():
        return plot.figure(plot.Contents(panels, regions[0].interval), FigureOptions(**options))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_bar_is_as_tall_as_its_delta_and_over_its_bases(rng, reverse):
    whole = region(rng, range(0, 30, 5), 6 * [5])
    figure = drawn(whole.reversed() if reverse else whole)
    (axes,) = figure.axes
    bars = {(round(b.get_x() + 0.5), round(b.get_width())): b.get_height() for b in axes.patches}
    expected = {(START + 1 + 5 * i, 5): whole.delta[i, 0] for i in range(6)}  # numbers count from 1
    assert bars == pytest.approx(expected)
    low, high = axes.get_ylim()
    letters = axes.collections[-1]
    assert len(letters.get_paths()) == LENGTH and low < whole.delta.min() and whole.delta.max() < 0.9 * high
    assert "delta" in [text.get_text() for text in figure.texts]


def test_bars_of_blocks_that_overlap_stand_side_by_side():
    places = BlockPlaces(np.array([0, 2, 4, 40, 0]), np.array([10, 10, 10, 10, 10]))
    assert bar_widths(places).tolist() == [2, 2, 2, 10, 2]
    assert bar_widths(BlockPlaces(np.array([7]), np.array([4]))).tolist() == [4]


def test_several_contents_have_a_dot_each(rng):
    whole = region(rng, [0, 10, 20], [10, 10, 10], contents=3)
    (axes,) = drawn(whole).axes
    dots = axes.collections[0].get_offsets()
    np.testing.assert_allclose(np.sort(dots[:, 1]), np.sort(whole.delta.ravel()), rtol=1e-6)
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches], whole.delta.mean(-1), rtol=1e-6)


def test_blocks_beside_a_logo_and_no_heat_map(rng):
    whole = region(rng, [0, 10, 20], [10, 10, 10])
    letters = RegionScores("chr1", START, "peak", "+", "+", "ACGT", whole.seq, 9 * np.ones((LENGTH, 4), "float32"), 1.0)
    logo, bars = drawn(letters, whole).axes
    assert logo.get_ylim()[0] < -8 and bars.get_ylim()[0] > -8  # each kind has an axis of its own
    with pytest.raises(UsageError, match="a heat map shows deltas of single letters"):
        drawn(whole, heat_map=True)
    with pytest.raises(
        UsageError, match=r"^heat_map: the region holds scores of blocks, not of letters\. Use blocks\."
    ):
        plot.heat_map(whole)
    with pytest.raises(UsageError, match=r"^blocks: the region holds scores of letters, not of blocks\. Use logo or"):
        plot.blocks(letters)
