"""Two forms of a model agree up to rounding, and the tolerance is that of float32 sums, whatever the scale."""

import ml_dtypes
import numpy as np
import pytest

from fastism_cli.model.adapt import agree, random_inputs, tolerance


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_rounding_agrees_and_an_error_does_not(scale, rng):
    x = (scale * rng.normal(size=(2, 500))).astype("float32")
    terms = rng.normal(size=(4096, 100)).astype("float32")
    assert agree([terms.sum(axis=0)], [terms[::-1].cumsum(axis=0)[-1]])
    assert agree([x], [x + np.float32(5e-6 * np.abs(x).max())])
    assert not agree([x], [x + np.float32(2e-5 * np.abs(x).max())])
    assert not agree([x], [x[:, :-1]]) and not agree([x], [x * np.nan])


def test_zeros_agree_with_zeros_alone():
    zeros = np.zeros((2, 3), "float32")
    assert agree([zeros], [zeros]) and not agree([zeros], [zeros + np.float32(1e-12)])


@pytest.mark.parametrize(
    ("dtype", "relative"),
    [("float64", 7.63e-6), ("float32", 7.63e-6), ("float16", 0.0625), (ml_dtypes.bfloat16, 0.1), ("int32", 7.63e-6)],
)
def test_the_tolerance_of_each_type(dtype, relative):
    assert tolerance(np.array([1, -4], dtype)) == pytest.approx(4 * relative, rel=1e-3)


def test_random_inputs_differ_from_each_other():
    first, second, whole, word = random_inputs([((5, 3), "float32")] * 2 + [((5,), "int32"), ((2,), "bfloat16")])
    assert first.shape == (2, 5, 3) and not np.allclose(first, second)
    assert set(whole.ravel()) <= {0, 1} and whole.dtype == "int32" and word.dtype == "float32"
    rows, flat = random_inputs([((6, 4), "float32"), ((6,), "float32")], one_hot=True)
    assert (rows.sum(axis=-1) == 1).all() and set(rows.ravel()) == {0, 1} == set(flat.ravel())
