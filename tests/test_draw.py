"""The share of the dear tests that ``make test`` runs."""

import pytest

from tests.helpers.draw import ALWAYS, is_drawn

TESTS = [f"tests/test_x.py::test_y[{i}]" for i in range(200)]


@pytest.mark.parametrize("one_in", [1, 4, 7])
def test_as_many_seeds_in_a_row_run_every_test_once(one_in):
    drawn = [test for seed in range(3, 3 + one_in) for test in TESTS if is_drawn(test, one_in, str(seed))]
    assert sorted(drawn) == sorted(TESTS)


def test_all_runs_all():
    assert all(is_drawn(test, 1000, "all") for test in TESTS)


def test_what_catches_a_broken_rule_runs_with_every_seed():
    assert ALWAYS and all(is_drawn(test, 1000, str(seed)) for test in ALWAYS for seed in range(3))
