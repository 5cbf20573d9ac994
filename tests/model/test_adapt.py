"""Models whose sequence lies in an image, has its letters first, or is cut into groups of positions."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from fastism_cli import FastISM
from fastism_cli.engine.inspection import inspect_scorer
from fastism_cli.errors import ModelError
from fastism_cli.model.adapt import position_axis
from tests.helpers.sequences import random_one_hot
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo.flattens import REGROUPED
from tests.models.zoo.registry import MODELS, randomise

LENGTH = 40
# shape of the input, kernel, pooling
IMAGES = {
    "upright": ((LENGTH, 1, 4), (5, 1), (3, 1)),
    "lying": ((1, LENGTH, 4), (1, 5), (1, 3)),
    "columns": ((LENGTH, 4, 1), (5, 4), (3, 1)),
    "rows": ((4, LENGTH, 1), (4, 5), (1, 3)),
}


def image_model(shape, kernel_size, pool_size) -> keras.Model:
    """inp -> C2D -> relu -> MXP2D -> C2D -> Flatten -> D -> a; GAP2D -> D -> b"""
    inp = keras.Input(shape, name="dna")
    x = layers.MaxPooling2D(pool_size)(layers.Conv2D(5, kernel_size, activation="relu")(inp))
    x = layers.Conv2D(4, pool_size, activation="relu")(x)
    a = layers.Dense(2, name="a")(layers.Flatten()(x))
    b = layers.Dense(1, name="b")(layers.GlobalAveragePooling2D()(x))
    return randomise(keras.Model(inp, [a, b]), seed=3)


def scores(model, one_hot, **options):
    return FastISM(model, batch_size=60, **options)(one_hot)


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", IMAGES)
def test_scores_of_an_image_model_equal_plain_predictions(name, rng):
    shape, kernel_size, pool_size = IMAGES[name]
    model, one_hot = image_model(shape, kernel_size, pool_size), random_one_hot(rng, 2, LENGTH)
    fast = scores(model, one_hot, engine="fast")
    exact = scores(model, one_hot, engine="naive", precision="float64")
    rows = np.moveaxis(one_hot, 1, 2) if shape[0] == 4 else one_hot
    predicted = model(rows.reshape(2, *shape))
    for i, head in enumerate(("a", "b")):
        np.testing.assert_allclose(fast.reference[head], predicted[i], atol=1e-5)
        np.testing.assert_allclose(fast.delta[head], exact.delta[head], atol=1e-6)


@pytest.mark.parametrize("name", IMAGES)
def test_every_layer_of_an_image_model_is_fast(name):
    found = inspect_scorer(FastISM(image_model(*IMAGES[name]), engine="fast"))
    assert [node.name for node in found.nodes if node.state == "opaque"] == []


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", REGROUPED)
def test_positions_in_groups_are_fast(name):
    model = MODELS[f"regrouped-{name}"]()
    found = inspect_scorer(FastISM(model, engine="fast", reduce="none"))
    assert [node.name for node in found.nodes if node.state == "opaque"] == []
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


def test_letters_first(rng):
    inp = keras.Input((4, LENGTH), name="dna")
    x = layers.Conv1D(5, 3, activation="relu")(layers.Permute((2, 1))(inp))
    model = randomise(keras.Model(inp, layers.Dense(1, name="y")(layers.Flatten()(x))), seed=1)
    one_hot = random_one_hot(rng, 1, LENGTH)
    fast, exact = scores(model, one_hot, engine="fast"), scores(model, one_hot, engine="naive", precision="float64")
    np.testing.assert_allclose(fast.delta["y"], exact.delta["y"], atol=1e-6)


# Heads that cannot be subtracted as they are, and what plain Keras says as float32 (n, targets).
HEADS = {
    "true_or_false": lambda y: y > 0.1,
    "unsigned": lambda y: ops.cast(100 + 90 * ops.tanh(y), "uint8"),
    "one_byte": lambda y: ops.cast(120 * ops.tanh(5 * y), "int8"),
    "one_number": lambda y: ops.sum(y, axis=-1),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_of_other_numbers(name, rng):
    inp = keras.Input((LENGTH, 4), name="dna")
    x = layers.Conv1D(3, 3, activation="relu")(inp)
    inner = randomise(keras.Model(inp, layers.Dense(2)(layers.Flatten()(x))), seed=1)
    model = keras.Model(inp, HEADS[name](inner(inp)))
    one_hot = random_one_hot(rng, 1, LENGTH)
    fast, naive = scores(model, one_hot, engine="fast"), scores(model, one_hot, engine="naive")
    (head,) = model.output_names
    plain = keras.ops.convert_to_numpy(model(one_hot)).astype("float32").reshape(1, -1)
    np.testing.assert_allclose(fast.reference[head], plain, rtol=1e-6)
    changed = np.repeat(one_hot, 3, axis=0)
    letters = [letter for letter in range(4) if not one_hot[0, 5, letter]]
    changed[:, 5] = np.eye(4)[letters]
    wanted = keras.ops.convert_to_numpy(model(changed)).astype("float32").reshape(3, -1) - plain
    for found in (fast, naive):
        np.testing.assert_allclose(found.delta[head][0][:, 5, letters].T, wanted, atol=1e-6)


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_tied_images(engine, rng):
    """forward (L, 1, 4), reverse (1, L, 4) -> C2D each -> GAP -> Add -> y"""
    forward, reverse = keras.Input((LENGTH, 1, 4), name="forward"), keras.Input((1, LENGTH, 4), name="reverse")
    x, y = layers.Conv2D(3, (5, 1), activation="relu")(forward), layers.Conv2D(3, (1, 5), activation="relu")(reverse)
    pool = layers.GlobalAveragePooling2D()
    model = randomise(keras.Model([forward, reverse], layers.Add(name="y")([pool(x), pool(y)])), seed=4)
    one_hot = random_one_hot(rng, 1, LENGTH)
    delta = scores(model, one_hot, engine=engine, tie="forward,reverse:rc").delta["y"]

    def predict(x):
        return np.asarray(model([x.reshape(1, LENGTH, 1, 4), x[:, ::-1, ::-1].reshape(1, 1, LENGTH, 4)]))

    for position in (0, 7, LENGTH - 1):
        for letter in range(4):
            substituted = one_hot.copy()
            substituted[0, position] = np.eye(4)[letter]
            wanted = predict(substituted) - predict(one_hot)
            np.testing.assert_allclose(delta[:, :, position, letter], wanted, atol=2e-6)


def test_the_axis_of_positions():
    assert position_axis((1000, 1, 4), 4) == 0
    assert position_axis((4, 1, 1000), 4) == 2
    assert position_axis((None, 4, 1), 4) == 0
    assert position_axis((4, 4, 1), 4) is None
    assert position_axis((10, 20, 4), 4) is None
    assert position_axis((6,), 4) is None


@pytest.mark.parametrize("rows", (16, -1))
def test_a_model_built_for_batches_of_one_size(rows, rng):
    """inp -> C -> reshape of ``rows`` sequences -> GAP: scored if it says -1; the number itself fits no other batch."""
    inp = keras.Input(batch_shape=(16, LENGTH, 4), name="dna")
    x = ops.reshape(layers.Conv1D(3, 5, padding="same")(inp), (rows, LENGTH // 4, 12))
    model = randomise(keras.Model(inp, layers.GlobalAveragePooling1D()(x)), seed=5)
    if rows == 16:
        with pytest.raises(ModelError, match=r"built for batches of 16, .* write -1 there"):
            FastISM(model)
        return
    errors = errors_of(model, inputs_of(model, rng))
    assert errors.fast <= errors.allowed
