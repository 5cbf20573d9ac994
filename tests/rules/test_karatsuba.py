"""Convolutions by the products of even and odd rows: the same sums, by fewer products."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from fastism_cli import FastISM
from fastism_cli.rules import conv
from tests.helpers.sequences import random_one_hot
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo.registry import randomise


@pytest.mark.parametrize("rows", range(2, 10))
@pytest.mark.parametrize("taps", range(2, 13))
def test_the_sum_is_that_of_whole_products(rows, taps, rng):
    x, kernel = rng.normal(size=(1, 2, 3, rows, 4)), rng.normal(size=(4, taps, 5))
    parts = zip(conv.even_odd_both(x, axis=3), conv.even_odd_both(kernel, axis=1), strict=True)
    products = [np.einsum("spaic,ckf->spaikf", np.asarray(a), np.asarray(b)) for a, b in parts]
    strip = conv.fold_even_odd([ops.convert_to_tensor(y) for y in products])
    found = np.concatenate([np.asarray(piece.array) for piece in strip.pieces], axis=3)
    whole = np.einsum("spaic,ckf->spaikf", x, kernel)
    expected = np.stack(
        [sum(whole[:, :, :, j - k, k] for k in range(taps) if 0 <= j - k < rows) for j in range(rows + taps - 1)], 3
    )
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)
    assert sum(y.shape[3] * y.shape[4] for y in products) == conv.n_products(rows, taps)


def test_what_is_saved():
    assert conv.n_products(7, 11) == 63 and conv.saves_enough(7, 11)
    assert not conv.saves_enough(3, 3) and not conv.saves_enough(1, 19)
    assert not conv.is_large_kernel(4, 19, 300)


def towers():
    """inp -> C -> C -> [P] -> C -> F -> D, of convolutions that are halved"""
    for padding, pool_size, kernel_size in (("same", 1, 5), ("valid", 3, 6), ("causal", 4, 11)):
        x = inputs = keras.Input((70, 4))
        for i in range(3):
            x = layers.Conv1D(64, kernel_size, padding=padding, activation="relu")(x)
            if i == 1 and pool_size > 1:
                x = layers.MaxPooling1D(pool_size)(layers.BatchNormalization()(x))
        yield randomise(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))), seed=3)


def assert_halved_and_exact(models, monkeypatch, rng):
    counted = []
    fold = conv.fold_even_odd
    monkeypatch.setattr(conv, "fold_even_odd", lambda products: counted.append(1) or fold(products))
    for model in models:
        counted.clear()
        errors = errors_of(model, inputs_of(model, rng))
        assert counted, "no convolution was halved"
        assert errors.fast <= errors.allowed, errors


@pytest.mark.one_in(36)
def test_a_tower_of_wide_layers(monkeypatch, rng):
    assert_halved_and_exact(towers(), monkeypatch, rng)


@pytest.mark.compiled
@pytest.mark.exhaustive
def test_a_compiled_tower_of_wide_layers(monkeypatch, rng):
    assert_halved_and_exact(list(towers())[-1:], monkeypatch, rng)


def test_in_float64_it_is_exact(rng):
    model = next(towers())
    x = random_one_hot(rng, 1, 70)
    fast, naive = (FastISM(model, engine=engine, precision="float64")(x).delta for engine in ("fast", "naive"))
    for head, expected in naive.items():
        np.testing.assert_allclose(fast[head], expected, rtol=0, atol=1e-6 * np.nanmax(np.abs(expected)))


def test_bfloat16_rounds_sums_too_much():
    assert not conv.halving_pays("bfloat16") and conv.halving_pays("float32")
