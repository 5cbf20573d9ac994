"""Where a region puts the model: integers against brute force."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastism_cli.errors import UsageError
from fastism_cli.genome.bed import Region
from fastism_cli.genome.placement import Geometry, Placement, centre_of, clipped, overlap, parse_span, span_text


def region(start: int, end: int, *, strand: str = "+", summit: int | None = None) -> Region:
    return Region("chr1", start, end, "r", strand, summit, 7)


@pytest.mark.parametrize(
    ("start", "end", "middle"), [(0, 2, 1), (0, 3, 1), (1, 4, 2), (5, 6, 5), (10, 20, 15), (10, 21, 15)]
)
def test_midpoint_is_half_of_the_sum_rounded_down(start, end, middle):
    assert centre_of(region(start, end), "auto") == centre_of(region(start, end), "midpoint") == middle


def test_summit_wins_where_there_is_one():
    peak = region(100, 200, summit=103)
    assert [centre_of(peak, how) for how in ("auto", "summit", "midpoint")] == [103, 103, 150]


def test_summit_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="line 7 has no summit"):
        centre_of(region(0, 9), "summit")


def test_input_is_centred_for_even_and_odd_lengths():
    places = [Geometry(length, 1).place(region(10, 20), 100).input_start for length in (1, 2, 3, 4)]
    assert places == [15, 14, 14, 13]


def test_ends_of_the_contig():
    at_start = Geometry(40, 40).place(region(0, 10), 300)
    assert at_start == Placement(input_start=-15, start=0, end=25, n_padded=15)
    at_end = Geometry(40, 40).place(region(50, 60), 60)
    assert at_end == Placement(input_start=35, start=35, end=60, n_padded=15)
    shorter = Geometry(40, 40).place(region(2, 4), 10)
    assert shorter == Placement(input_start=-17, start=0, end=10, n_padded=30)
    beyond = Geometry(4, 4).place(region(500, 510), 100)
    assert beyond == Placement(input_start=503, start=100, end=100, n_padded=4)


def test_unknown_contig_pads_nothing():
    assert Geometry(40, 10).place(region(0, 10), None) == Placement(-15, 0, 10, 0)


@pytest.mark.parametrize("window", [0, 41])
def test_window_must_fit_the_input(window):
    with pytest.raises(UsageError, match=f"from 1 to the length of the model's input, 40.*Received: window {window}"):
        Geometry(40, window)


@given(st.integers(1, 60), st.data(), st.integers(0, 200), st.integers(1, 50), st.booleans())
def test_columns_hold_the_same_bases_on_both_strands(length, data, start, size, reverse):
    window = data.draw(st.integers(1, length))
    geometry = Geometry(length, window, stranded=True)
    place = geometry.place(region(start, start + size), 10**6)
    bases = list(range(place.input_start, place.input_start + length))
    seen = bases[::-1] if reverse else bases
    substituted = sorted(seen[column] for column in geometry.columns(reverse=reverse))
    middle = (start + start + size) // 2
    assert substituted == list(range(middle - window // 2, middle - window // 2 + window))
    assert set(geometry.columns(reverse=reverse)) <= set(geometry.all_columns) <= set(range(length))
    assert len(geometry.all_columns) <= window + 1


@given(st.integers(2, 60), st.data(), st.booleans(), st.sampled_from("+-."), st.integers(-70, 70))
def test_a_window_beside_the_middle_lies_along_the_strand_of_the_record(length, data, stranded, strand, offset):
    """The bases are counted one by one from the middle one, to the 3' end of the record."""
    low, high = -((length - 1) // 2), (length - 1) // 2  # fits on both strands
    first = data.draw(st.integers(low, high))
    end = data.draw(st.integers(first + 1, high + 1))
    geometry = Geometry(length, end - first, stranded=stranded, first=first, offset=offset)
    record = region(200, 233, strand=strand)
    step = -1 if strand == "-" else 1
    middle = 216 + step * offset
    wanted = {middle + step * i for i in range(first, end)}
    place = geometry.place(record, 10**6)
    assert place.input_start == middle - length // 2
    assert set(range(place.start, place.end)) == wanted
    bases = list(range(place.input_start, place.input_start + length))
    reverse = geometry.reverses(record)
    columns = geometry.columns(reverse=reverse, minus=strand == "-")
    seen = bases[::-1] if reverse else bases
    assert {seen[column] for column in columns} == wanted
    assert set(columns) <= set(geometry.all_columns)


def test_half_of_the_input_to_each_side_is_the_whole_input_on_the_plus_strand_alone():
    assert Geometry(40, 40, first=-20, has_minus=False).all_columns == range(40)
    with pytest.raises(UsageError, match=r"window -20:20 passes an end.*of 40: of records on the - strand.*-19:21\."):
        Geometry(40, 40, first=-20)
    with pytest.raises(UsageError, match=r"window -21:2 passes an end.*of 40: of records on the \+ strand.*-20:20\."):
        Geometry(40, 23, first=-21, has_minus=False)
    assert Geometry(41, 41, first=-20).all_columns == range(41)


def test_unstranded_runs_need_no_second_set_of_columns():
    assert Geometry(40, 3).all_columns == Geometry(40, 3).columns(reverse=False)


@pytest.mark.parametrize(
    ("strand", "stranded", "reverses"), [("-", True, True), ("-", False, False), ("+", True, False), (".", True, False)]
)
def test_only_minus_regions_of_a_stranded_run_are_reversed(strand, stranded, reverses):
    assert Geometry(4, 4, stranded=stranded).reverses(region(0, 4, strand=strand)) == reverses


@given(st.integers(-20, 30), st.integers(0, 30), st.integers(1, 20))
def test_overlap_and_clip_by_counting(start, width, size):
    inside = [base for base in range(start, start + width) if 0 <= base < size]
    assert overlap(start, start + width, size) == len(inside)
    first, stop = clipped(start, start + width, size)
    assert list(range(first, stop)) == inside and 0 <= first <= stop <= size


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("chr1:1,000-1,200", ("chr1", 999, 1200)),
        (" chr1:1000-1200\n", ("chr1", 999, 1200)),
        ("chr2:3,500-3,500", ("chr2", 3499, 3500)),
        ("HLA-A*01:01:1-20", ("HLA-A*01:01", 0, 20)),
    ],
)
def test_people_count_from_1_with_the_last_base(text, span):
    assert parse_span(text) == span
    assert parse_span(span_text(*span)) == span


def test_a_place_without_a_base_says_so():
    assert span_text("chr1", 5, 5) == "chr1:6 (no base)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1", "CHROM:START-END"),
        ("chr1:5", "CHROM:START-END"),
        ("chr1:,-,", "CHROM:START-END"),
        (f"chr1:1-{'9' * 5000}", "CHROM:START-END"),
        ("chr1:0-5", "count from 1"),
        ("chr1:6-5", "the end comes before the start"),
        ("chr1:1-4294967296", "no contig has so many bases: the most is 4,294,967,295"),
        (f"chr1:1-{'9' * 19}", "no contig has so many bases"),
    ],
)
def test_what_is_no_place_is_refused(text, message):
    with pytest.raises(UsageError, match=message) as error:
        parse_span(text)
    assert len(str(error.value)) < 200
