"""Convolutions by products of sums of rows and taps, and of rows side by side: the same sums, by fewer products."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from fastism_cli import FastISM
from fastism_cli.rules import conv
from fastism_cli.rules.conv import MAX_SLICES, SideBySide, Tiling, best_side_by_side, best_tiling
from tests.helpers.sequences import random_one_hot
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo.registry import randomise

FEW = settings(max_examples=30)  # JAX compiles every operation for each shape


def products_of(tiling, x, kernel):
    """Each product of :class:`Tiling`, of a window and a kernel in NumPy."""
    rows = tiling.rows_of(ops.convert_to_tensor(x))
    taps = {"left over": kernel, **tiling.taps_of(ops.convert_to_tensor(kernel))}
    return {name: np.einsum("spaic,ckf->spaikf", np.asarray(y), np.asarray(taps[name])) for name, y in rows.items()}


def sum_of_all(x, kernel, dilation):
    """Every row with every tap, where it belongs."""
    width, taps = x.shape[3], kernel.shape[1]
    total = np.zeros((*x.shape[:3], width + (taps - 1) * dilation, kernel.shape[2]))
    for tap in range(taps):
        total[:, :, :, tap * dilation : tap * dilation + width] += x @ kernel[:, tap]
    return total


@FEW
@given(st.integers(2, 40), st.integers(2, 13), st.integers(1, 6), st.integers(1, 5), st.integers(0, 9))
def test_the_sum_is_that_of_whole_products(width, taps, dilation, spacing, seed):
    spacing = min(spacing, (width - 1) // dilation)
    if spacing < 1:
        return
    tiling = Tiling(width, taps, dilation, spacing)
    rng = np.random.default_rng(seed)
    x, kernel = rng.normal(size=(1, 2, 3, width, 4)), rng.normal(size=(4, taps, 5))
    products = products_of(tiling, x, kernel)
    assert sum(y.shape[3] * y.shape[4] for y in products.values()) == tiling.n_products <= width * taps
    strip = tiling.fold({name: ops.convert_to_tensor(y) for name, y in products.items()})
    zeros = (1, 2, 3, 0, 5)
    found = np.asarray(strip.as_array(zeros, "float64"))
    np.testing.assert_allclose(found, sum_of_all(x, kernel, dilation), rtol=2e-6, atol=1e-5)


@FEW
@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 14), st.integers(0, 9))
def test_ordinary_products_are_added_up_where_they_belong(width, taps, dilation, seed):
    rng = np.random.default_rng(seed)
    x, kernel = rng.normal(size=(1, 2, 3, width, 4)), rng.normal(size=(4, taps, 5))
    products = ops.convert_to_tensor(np.einsum("spaic,ckf->spaikf", x, kernel))
    for fold in (conv.fold_by_pieces, conv.fold_padded):
        found = np.asarray(fold(products, dilation).as_array((1, 2, 3, 0, 5), products.dtype))
        np.testing.assert_allclose(found, sum_of_all(x, kernel, dilation), rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize(
    "width, taps, dilation, products",
    [(7, 11, 1, 56), (5, 7, 1, 27), (3, 11, 1, 26), (533, 3, 256, 512 * 2 + 21 * 3), (37, 3, 8, 16 * 4 + 5 * 3)],
)
def test_what_is_saved(width, taps, dilation, products):
    tiling = best_tiling(width, taps, dilation)
    assert tiling.n_products == products and tiling.n_slices <= MAX_SLICES


@pytest.mark.parametrize("width, taps, dilation", [(1, 19, 1), (2, 3, 2), (9, 1, 1), (1041, 75, 1)])
def test_where_nothing_is_saved(width, taps, dilation):
    assert best_tiling(width, taps, dilation) is None


def test_it_pays_for_many_channels():
    tiling = best_tiling(85, 3, 32)
    assert conv.tiling_pays(tiling, 128, 128) and not conv.tiling_pays(tiling, 64, 64)
    assert conv.tiling_pays(best_tiling(7, 11, 1), 64, 64) and not conv.tiling_pays(best_tiling(7, 11, 1), 4, 300)


@FEW
@given(st.integers(1, 40), st.integers(1, 13), st.integers(1, 6), st.integers(2, 9), st.integers(0, 9))
def test_rows_side_by_side_have_the_same_sum(width, taps, dilation, together, seed):
    beside = SideBySide(width, taps, dilation, together)
    rng = np.random.default_rng(seed)
    x, kernel = rng.normal(size=(1, 2, 3, width, 4)), rng.normal(size=(4, taps, 5))
    rows, band = beside.rows_of(ops.convert_to_tensor(x)), beside.band_of(ops.convert_to_tensor(kernel))
    products = beside.product(rows, band)
    assert np.prod(products.shape) == 6 * beside.n_elements * 5
    for fold in (conv.fold_by_pieces, conv.fold_padded):
        found = np.asarray(beside.fold(products, fold).as_array((1, 2, 3, 0, 5), products.dtype))
        np.testing.assert_allclose(found, sum_of_all(x, kernel, dilation), rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize(
    "width, taps, dilation, channels, filters, together",
    [(1041, 75, 1, 64, 2, 3), (1047, 25, 1, 64, 1, 3), (500, 15, 1, 32, 32, 5), (361, 11, 4, 32, 32, 5)],
)
def test_rows_lie_side_by_side_where_channels_are_few(width, taps, dilation, channels, filters, together):
    assert best_side_by_side(width, taps, dilation, channels, filters).together == together


@pytest.mark.parametrize(
    "width, taps, dilation, channels, filters",
    [(1, 19, 1, 4, 300), (1, 25, 1, 16, 16), (65, 3, 4, 64, 64), (7, 11, 1, 300, 200), (9, 7, 1, 100, 200)],
)
def test_single_rows_where_that_takes_as_long(width, taps, dilation, channels, filters):
    assert best_side_by_side(width, taps, dilation, channels, filters) is None


def narrow_towers():
    """inp -> C -> [P] -> C -> C -> C, a profile, and its sum; of convolutions whose rows lie side by side"""
    for padding, pool_size, kernel_size, dilation in (
        ("same", 1, 15, 1),
        ("valid", 2, 9, 1),
        ("causal", 1, 11, 2),
        ("same", 1, 7, 3),
    ):
        x = inputs = keras.Input((80, 4))
        x = layers.Conv1D(12, 9, padding="same", activation="relu")(x)
        x = layers.MaxPooling1D(pool_size)(x) if pool_size > 1 else x
        for filters in (16, 12, 3):
            x = layers.Conv1D(filters, kernel_size, padding=padding, dilation_rate=dilation, activation="relu")(x)
        yield randomise(keras.Model(inputs, [x, layers.Dense(1)(layers.Flatten()(x))]), seed=4)


def towers():
    """inp -> C -> C -> [P] -> C -> F -> D, of convolutions that take fewer products"""
    for padding, pool_size, kernel_size, dilation in (
        ("same", 1, 5, 1),
        ("valid", 3, 6, 1),
        ("causal", 4, 11, 1),
        ("same", 1, 7, 3),
    ):
        x = inputs = keras.Input((70, 4))
        for i in range(3):
            x = layers.Conv1D(64, kernel_size, padding=padding, dilation_rate=dilation, activation="relu")(x)
            if i == 1 and pool_size > 1:
                x = layers.MaxPooling1D(pool_size)(layers.BatchNormalization()(x))
        yield randomise(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))), seed=3)


def assert_used_and_exact(way, models, monkeypatch, rng):
    counted = []
    fold = way.fold
    monkeypatch.setattr(way, "fold", lambda *args: counted.append(1) or fold(*args))
    for model in models:
        counted.clear()
        errors = errors_of(model, inputs_of(model, rng))
        assert counted, "no convolution took fewer products"
        assert errors.fast <= errors.allowed, errors


@pytest.mark.one_in(36)
def test_a_tower_of_wide_layers(monkeypatch, rng):
    assert_used_and_exact(Tiling, towers(), monkeypatch, rng)


@pytest.mark.compiled
@pytest.mark.exhaustive
def test_a_compiled_tower_of_wide_layers(monkeypatch, rng):
    assert_used_and_exact(Tiling, list(towers())[-1:], monkeypatch, rng)


@pytest.mark.one_in(36)
def test_a_tower_of_narrow_layers(monkeypatch, rng):
    assert_used_and_exact(SideBySide, narrow_towers(), monkeypatch, rng)


def wide_profiles():
    """inp -> C -> C(dilation): as wide as the sequence -> profile of 1 to 3 filters, linear or not"""
    for padding, filters, kernel_size, dilation, activation in (
        ("same", 1, 25, 1, None),
        ("valid", 2, 20, 1, None),
        ("causal", 3, 21, 2, "tanh"),
    ):
        x = inputs = keras.Input((50, 4))
        x = layers.Conv1D(16, 5, padding="same", activation="relu")(x)
        x = layers.Conv1D(16, 3, padding="same", dilation_rate=40, activation="relu")(x)
        x = layers.Conv1D(16, 3, padding="same", dilation_rate=20, activation="relu")(x)
        form = {"padding": padding, "dilation_rate": dilation, "activation": activation}
        x = layers.Conv1D(filters, kernel_size, **form)(x)
        yield randomise(keras.Model(inputs, [x, layers.Dense(1)(layers.Flatten()(x))]), seed=5)


@pytest.mark.one_in(36)
def test_a_profile_as_wide_as_the_sequence(monkeypatch, rng):
    assert_used_and_exact(SideBySide, wide_profiles(), monkeypatch, rng)


@pytest.mark.compiled
@pytest.mark.exhaustive
def test_a_compiled_tower_of_narrow_layers(monkeypatch, rng):
    assert_used_and_exact(SideBySide, list(narrow_towers())[2:3], monkeypatch, rng)


@pytest.mark.parametrize("made, reduce", [(towers, None), (narrow_towers, "none")])
def test_in_float64_it_is_exact(made, reduce, rng):
    model = next(made())
    x = random_one_hot(rng, 1, model.input_shape[1])
    engines = [FastISM(model, engine=engine, precision="float64", reduce=reduce) for engine in ("fast", "naive")]
    fast, naive = (engine(x).delta for engine in engines)
    for head, expected in naive.items():
        np.testing.assert_allclose(fast[head], expected, rtol=0, atol=1e-6 * np.nanmax(np.abs(expected)))


def test_bfloat16_rounds_sums_too_much():
    assert not conv.sums_are_precise("bfloat16") and conv.sums_are_precise("float32")


def test_infinite_numbers_stay_where_keras_puts_them():
    """inp -> C -> C: as wide as the sequence -> -inf in a row -> profile, of which 15 rows are infinite."""
    at = np.arange(50)[:, None] == 40
    x = inputs = keras.Input((50, 4))
    for _ in range(2):
        x = layers.Conv1D(16, 3, padding="same", dilation_rate=30, activation="relu")(x)
    model = randomise(keras.Model(inputs, layers.Conv1D(2, 15, padding="same")(ops.where(at, -np.inf, x))), seed=5)
    x = random_one_hot(np.random.default_rng(0), 1, 50)
    results = (FastISM(model, engine=engine, reduce="none")(x).delta for engine in ("fast", "naive"))
    fast, naive = (next(iter(delta.values())) for delta in results)
    assert 0.5 < np.isfinite(naive).mean() < 1
    np.testing.assert_allclose(fast, naive, atol=1e-5)
