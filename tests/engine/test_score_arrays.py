"""The letters to substitute, and the places of the scores, against the plainest code."""

import numpy as np
import pytest

from fastism_cli.engine.inputs_and_scores import alternates, scatter, set_reference_letters


@pytest.mark.parametrize("letters", [4, 20])
def test_every_letter_but_the_reference_is_substituted_once(letters, rng):
    codes = rng.integers(0, letters + 1, (3, 11)).astype("uint8")
    (skipped,) = alternates(codes, 2, 6, letters, "skip")
    both = list(alternates(codes, 2, 6, letters, "score"))
    assert skipped.shape == (3, 6, letters - 1) and skipped.dtype == np.int32
    for s, p in np.ndindex(3, 6):
        code = codes[s, 2 + p]
        if code < letters:
            assert sorted(skipped[s, p]) == [x for x in range(letters) if x != code]
        else:
            assert sorted({*both[0][s, p], *both[1][s, p]}) == list(range(letters))


def test_positions_past_the_end_have_letters_too(rng):
    codes = rng.integers(0, 4, (2, 10)).astype("uint8")
    (found,) = alternates(codes, 8, 4, 4, "skip")
    assert found.shape == (2, 4, 3) and found.max() < 4


@pytest.mark.parametrize("shape", [(1,), (), (3,), (2, 2)])
@pytest.mark.parametrize("columns", [slice(None), slice(2, 9)])
def test_scores_find_their_places(shape, columns, rng):
    n, length = 3, 12
    whole = np.full((n, *shape, length, 4), np.nan, "float32")
    delta = whole[..., columns, :]
    size = delta.shape[-2]
    codes = rng.integers(0, 5, (n, size)).astype("uint8")
    set_reference_letters(delta, codes)
    values = rng.normal(size=(4, 5, 3, *shape)).astype("float32")  # the last sequence fills up the batch
    at = np.array([1, -1, 0, size - 1, -1])
    bases = np.stack([rng.permutation(4)[:3] for _ in range(n * 5)]).reshape(n, 5, 3)
    expected = delta.copy()
    for s, p, a in np.ndindex(n, 5, 3):
        if at[p] >= 0:
            expected[(s, ..., at[p], bases[s, p, a])] = values[s, p, a]
    scatter(delta, values, at, bases)
    np.testing.assert_array_equal(delta, expected)
    unknown = ~np.isin(np.arange(size), at)
    for s, p in zip(*np.nonzero((codes < 4) & unknown), strict=True):
        assert (delta[(s, ..., p, codes[s, p])] == 0).all()
