"""Scores on another scale, against plain Keras in float64: logits from the graph, log2 of what was reduced."""

import keras
import numpy as np
import pytest

from fastism_cli.engine.fastism import FastISM
from fastism_cli.errors import UsageError
from fastism_cli.options.run_options import Scale, parse_scale
from tests.helpers.sequences import random_one_hot

layers = keras.layers
LENGTH = 30


def trunk():
    inp = keras.Input((LENGTH, 4), name="dna")
    x = layers.Conv1D(6, 5, activation="relu", padding="same")(inp)
    return inp, layers.GlobalAveragePooling1D()(x), x


def dense(units, activation=None):
    """Logits around 14: a sigmoid of them is 1 - 1e-6."""
    return layers.Dense(units, activation, bias_initializer=keras.initializers.Constant(13.8))


def nested(x):
    inp = keras.Input(x.shape[1:])
    return keras.Model(inp, dense(2, "sigmoid")(inp))(x)


ENDS = {
    "dense": lambda x: dense(2, "sigmoid")(x),
    "activation": lambda x: layers.Activation("sigmoid")(dense(2)(x)),
    "operation": lambda x: keras.ops.sigmoid(dense(2)(x)),
    "softmax": lambda x: layers.Softmax()(dense(3)(x)),
    "softmax operation": lambda x: keras.ops.softmax(dense(3)(x)),
    "behind a reshape": lambda x: layers.Dropout(0.5)(layers.Reshape((2,))(dense(2, "sigmoid")(x))),
    "model in a model": nested,
}


def logits_of(model, one_hot: np.ndarray) -> np.ndarray:
    """By hand in numpy, float64: the convolution, the mean and the last dense layer."""
    weights = [w.astype("float64") for w in model.get_weights()]
    kernel, bias, matrix, shift = weights
    padded = np.pad(one_hot.astype("float64"), [(0, 0), (2, 2), (0, 0)])
    windows = np.stack([padded[:, i : i + LENGTH] for i in range(5)], axis=2)
    hidden = np.maximum(np.einsum("nlkc,kcf->nlf", windows, kernel) + bias, 0).mean(1)
    return hidden @ matrix + shift


def substituted(one_hot: np.ndarray) -> np.ndarray:
    """Every substitution of one sequence, (L * 4, L, 4)."""
    rows = np.repeat(one_hot[None], 4 * LENGTH, axis=0)
    for i in range(4 * LENGTH):
        rows[i, i // 4] = np.eye(4)[i % 4]
    return rows


@pytest.mark.parametrize("engine", ["fast", "naive"])
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.replace(" ", "-"))
def test_logits_keep_four_digits_where_probabilities_have_none(rng, end, engine):
    inp, pooled, _ = trunk()
    model = keras.Model(inp, ENDS[end](pooled))
    one_hot = random_one_hot(rng, 1, LENGTH)
    scores = FastISM(model, engine=engine, scale="logit")(one_hot)
    (delta,), (reference,) = scores.delta.values(), scores.reference.values()
    if "softmax" not in end:
        assert (np.asarray(model(one_hot)) > 1 - 3e-6).all()
    before = logits_of(model, one_hot)
    truth = (logits_of(model, substituted(one_hot[0])) - before).T.reshape(-1, LENGTH, 4)
    np.testing.assert_allclose(reference, before, rtol=1e-6)
    np.testing.assert_allclose(delta[0], truth, rtol=1e-4, atol=1e-4 * np.abs(truth).max())


def test_each_head_has_its_own_scale(rng):
    inp, pooled, profile = trunk()
    heads = {
        "chance": layers.Dense(2, "sigmoid", name="chance")(pooled),
        "count": layers.Dense(1, "softplus", name="count")(pooled),
        "profile": layers.Dense(1, "softplus", name="profile")(profile),
    }
    model = keras.Model(inp, list(heads.values()))
    one_hot = random_one_hot(rng, 1, LENGTH)
    options = {"reduce": "sum", "scale": ["chance=logit", "log2:0.5"]}
    scores = FastISM(model, **options)(one_hot)
    chance, count, profile = (
        np.asarray(y).astype("float64") for y in model(np.concatenate([one_hot, substituted(one_hot[0])]))
    )
    values = {
        "chance": np.log(chance / (1 - chance)),
        "count": np.log2(count + 0.5),
        "profile": np.log2(profile.sum(1) + 0.5),
    }
    for name, value in values.items():
        truth = (value[1:] - value[:1]).T.reshape(-1, LENGTH, 4)
        np.testing.assert_allclose(scores.delta[name][0], truth, atol=3e-6, err_msg=name)
        np.testing.assert_allclose(scores.reference[name][0], value[0], rtol=1e-5, atol=1e-6, err_msg=name)
    judge = FastISM(model, engine="naive", precision="float64", **options)(one_hot)
    for name, delta in scores.delta.items():
        np.testing.assert_allclose(delta, judge.delta[name], atol=1e-6, err_msg=name)


def test_negative_numbers_have_no_logarithm(rng):
    inp, pooled, _ = trunk()
    model = keras.Model(inp, layers.Dense(1, bias_initializer=keras.initializers.Constant(-5.0))(pooled))
    scores = FastISM(model, scale="log2")(random_one_hot(rng, 1, LENGTH))
    assert all(np.isnan(x).all() for x in scores.reference.values())


def test_what_has_no_scale_is_refused():
    inp, pooled, _ = trunk()
    model = keras.Model(inp, layers.Dense(1, "relu", name="count")(pooled))
    with pytest.raises(
        UsageError, match=r"scale=\"logit\": head 'count' ends in Dense 'count', which is neither a sigmoid"
    ):
        FastISM(model, scale="logit")
    with pytest.raises(UsageError, match=r"scale: the model has no head 'top'\. Its heads: count\."):
        FastISM(model, scale="top=log2")


@pytest.mark.parametrize(
    "text", ["ln", "log2:", "log2:0", "log2:-1", "log2:nan", "logit:1", "log2:x", "a=", "log2:1_0"]
)
def test_unknown_scales_are_refused(text):
    with pytest.raises(UsageError, match=r"scale .*: not known. Choose logit, log2, or log2:C with C above 0\."):
        parse_scale(text)


def test_scales_are_parsed():
    assert parse_scale(["a=logit", "log2:0.5"]) == {"a": Scale("logit"), None: Scale("log2", 0.5)}
    with pytest.raises(UsageError, match="scale is given twice for 'a'"):
        parse_scale(["a=logit", "a=log2"])
