"""The integer functions, against brute force over every position."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastism_cli.rules.dense import start_groups
from fastism_cli.rules.frames import (
    Frame,
    changed_outputs,
    common_period,
    cover,
    dilated_span,
    equal_stretches,
    hull,
    needed_inputs,
    offsets,
    pad_amounts,
)


def n_outputs(n_in: int, *, span: int, stride: int, pads: tuple[int, int]) -> int:
    """Outputs of a windowed layer over ``n_in`` positions."""
    return max((n_in + sum(pads) - span) // stride + 1, 0)


def frame(*starts: int, width: int = 1, length: int = 50) -> Frame:
    return Frame(starts, width, Fraction(1), length)


def touched(changed: set[int], *, taps: range, stride: int, pad_left: int, n_out: int) -> set[int]:
    """Outputs that read a changed input, by looking at every tap of every output."""
    return {j for j in range(n_out) if any(j * stride - pad_left + tap in changed for tap in taps)}


windowed = st.fixed_dictionaries(
    {
        "kernel_size": st.integers(1, 7),
        "dilation": st.integers(1, 4),
        "stride": st.integers(1, 6),
        "padding": st.sampled_from(["valid", "same", "causal"]),
        "n_in": st.integers(1, 40),
        "width": st.integers(1, 9),
        "data": st.data(),
    }
)


@given(windowed)
def test_changed_outputs_hold_every_output_that_changes(case):
    span = dilated_span(case["kernel_size"], case["dilation"])
    pads = pad_amounts(case["padding"], span=span, stride=case["stride"], n_in=case["n_in"])
    n_out = n_outputs(case["n_in"], span=span, stride=case["stride"], pads=pads)
    start = case["data"].draw(st.integers(0, case["n_in"] - 1))
    stop = min(start + case["width"], case["n_in"])
    found = changed_outputs(
        frame(start, width=stop - start, length=case["n_in"]),
        span=span,
        stride=case["stride"],
        pad_left=pads[0],
        n_out=n_out,
    )
    taps = range(0, span, case["dilation"])
    expected = touched(set(range(start, stop)), taps=taps, stride=case["stride"], pad_left=pads[0], n_out=n_out)
    covered = set(range(found.starts[0], found.stops[0]))
    assert expected <= covered
    if case["dilation"] == 1 and case["stride"] <= span and expected:
        assert covered & set(range(n_out)) == expected, "wider than need be"


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 4), st.integers(-5, 20), st.integers(1, 8))
def test_needed_inputs_are_what_the_outputs_read(span, stride, pad_left, start, width):
    found = needed_inputs(frame(start, width=width), span=span, stride=stride, pad_left=pad_left, n_in=50)
    read = {j * stride - pad_left + tap for j in range(start, start + width) for tap in range(span)}
    assert (found.starts[0], found.stops[0]) == (min(read), max(read) + 1)


@pytest.mark.parametrize("n_in", range(1, 25))
@pytest.mark.parametrize("span, stride", [(1, 1), (2, 1), (3, 2), (4, 3), (5, 4), (2, 5), (8, 8)])
def test_pads_of_same_are_those_of_keras(n_in, span, stride):
    pads = pad_amounts("same", span=span, stride=stride, n_in=n_in)
    assert n_outputs(n_in, span=span, stride=stride, pads=pads) == -(-n_in // stride)
    assert pads[1] - pads[0] in (0, 1), "the odd zero goes to the right"


def test_hull_and_offsets():
    a, b = frame(3, 5, width=2), frame(1, 6, width=3)
    both = hull([a, b])
    assert (both.starts, both.width) == ((1, 5), 4)
    assert offsets(a, both) == (2, 0)


def test_reach_and_leaves_over_chunks():
    f = Frame((-1, 0), 3, Fraction(4), 11)
    assert f.reach(range(0, 3)) == (-1, 11)
    assert f.leaves(range(0, 3))
    assert not Frame((0,), 3, Fraction(4), 11).leaves(range(0, 3))


def test_equal_stretches():
    assert equal_stretches([5, 5, 7, 5]) == [(0, 2, 5), (2, 3, 7), (3, 4, 5)]
    assert equal_stretches([]) == []


def test_period_is_the_least_common_one():
    assert common_period([Fraction(1), Fraction(1, 3), Fraction(1, 12), Fraction(2, 5)]) == 60


@given(st.integers(0, 300), st.integers(1, 400), st.integers(1, 500), st.integers(1, 130))
def test_cover_leaves_no_position_out(start, total, size, period):
    chosen, calls = cover(start, start + total, size=size, period=period)
    covered = [p for call in calls for p in range(call.start, call.start + chosen)]
    assert len(covered) == len(set(covered)) and set(range(start, start + total)) <= set(covered)
    assert all(call.start == call.phase + period * call.q and 0 <= call.phase < period for call in calls)


def test_cover_uses_one_phase_where_that_is_cheap():
    size, calls = cover(0, 1000, size=250, period=48)
    assert len({call.phase for call in calls}) == 1
    assert size * len(calls) <= 1080


STARTS = st.lists(st.integers(0, 3), min_size=1, max_size=40)


@given(STARTS, st.integers(1, 6), st.sampled_from([1, -1]), st.sampled_from([4, 10**5, 10**7]))
def test_groups_of_starts_hold_every_frame(moves, width, way, row):
    starts = tuple((way * np.cumsum(moves)).tolist())
    groups = start_groups(Frame(starts, width, Fraction(1), 500), row)
    assert [first for first, _ in groups.bounds] == [0, *(stop for _, stop in groups.bounds[:-1])]
    assert groups.bounds[-1][1] == len(starts)
    for (first, stop), begin in zip(groups.bounds, groups.starts, strict=True):
        assert all(begin <= starts[j] and starts[j] + width <= begin + groups.width for j in range(first, stop))
