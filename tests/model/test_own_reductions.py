"""Heads that a function of the user's reduces, against plain Keras in float64 and the same function in NumPy."""

import functools
import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers, ops

from fastism_cli import FastISM, RunOptions, open_scores, score_regions
from fastism_cli.cli import main
from fastism_cli.engine.verify import verify
from fastism_cli.errors import UsageError
from fastism_cli.model import backend
from fastism_cli.results.schema import Status
from tests.helpers.sequences import random_one_hot
from tests.helpers.small_run import make_folder
from tests.helpers.truth import errors_of
from tests.models.zoo import randomise

pytestmark = pytest.mark.one_in(2)

LENGTH = 40


def two_heads() -> keras.Model:
    """inp -> C -> C -> profile (34, 3);  GAP(C) -> D -> count (2)"""
    inputs = keras.Input((LENGTH, 4), name="dna")
    x = layers.Conv1D(6, 5, padding="same", activation="relu")(inputs)
    profile = layers.Conv1D(3, 7, name="profile")(x)
    count = layers.Dense(2, name="count")(layers.GlobalAveragePooling1D()(x))
    return randomise(keras.Model(inputs, [profile, count]), seed=3)


def sharpness(y):
    """(n, 34, 3) -> (n, 3): how much of the exponential of a profile lies in its middle."""
    powers = ops.exp(y)
    return ops.sum(powers[:, 10:20], axis=1) / ops.sum(powers, axis=1)


def balance(y):
    """(n, 34, 3) -> (n, 2): the first target over the second, twice. Other targets than those of the head."""
    means = ops.mean(ops.square(y), axis=1)
    return ops.stack([means[:, 0] - means[:, 1], means[:, 0] * means[:, 2]], axis=-1)


def highest(y):
    """(n, 34, 3) -> (n, 3) whole numbers: where the maximum is."""
    return ops.argmax(y, axis=1)


def as_numpy(y):
    """``sharpness`` without Keras."""
    powers = np.exp(y)
    return powers[:, 10:20].sum(axis=1) / powers.sum(axis=1)


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_a_function_gives_what_numpy_gives(rng, engine):
    model, one_hot = two_heads(), random_one_hot(rng, 2, LENGTH)
    whole = FastISM(model, reduce="none", engine="naive", precision="float64")(one_hot)
    before = whole.reference["profile"].astype("float64")
    after = np.moveaxis(whole.delta["profile"].astype("float64"), (-2, -1), (1, 2)) + before[:, None, None]
    expected = as_numpy(after.reshape(-1, 34, 3)).reshape(2, LENGTH, 4, 3) - as_numpy(before)[:, None, None]
    result = FastISM(model, reduce=sharpness, engine=engine)(one_hot)
    assert list(result.delta) == ["profile", "count"]
    np.testing.assert_allclose(result.reference["profile"], as_numpy(before), rtol=1e-5)
    np.testing.assert_allclose(np.moveaxis(result.delta["profile"], 1, -1), expected, atol=3e-6)


@pytest.mark.parametrize("function", [sharpness, balance, highest])
def test_the_error_is_that_of_plain_keras(rng, function):
    one_hot = random_one_hot(rng, 2, LENGTH, n_fraction=0.05)
    errors = errors_of(two_heads(), {"dna": one_hot}, reduce={"profile": [function, "sum"]})
    assert errors.fast <= errors.allowed and errors.largest > 0, errors


@pytest.mark.one_in(24)
@pytest.mark.compiled
def test_a_function_when_it_is_compiled(rng):
    one_hot = random_one_hot(rng, 2, LENGTH, n_fraction=0.05)
    errors = errors_of(two_heads(), {"dna": one_hot}, reduce=[sharpness, balance])
    assert errors.fast <= errors.allowed and errors.largest > 0, errors


def test_several_functions_and_targets_of_theirs(rng):
    model, one_hot = two_heads(), random_one_hot(rng, 1, LENGTH)
    whole = FastISM(model, reduce=[balance, "sum", sharpness])(one_hot)
    assert list(whole.delta) == ["profile.balance", "profile.sum", "profile.sharpness", "count"]
    assert [whole.delta[head].shape[1] for head in whole.delta] == [2, 3, 3, 2]
    for engine in ("fast", "naive"):
        chosen = FastISM(model, reduce=[balance, "sum"], targets={"profile": (1, 0)}, engine=engine)(one_hot)
        for head in ("profile.balance", "profile.sum"):
            np.testing.assert_allclose(chosen.delta[head], whole.delta[head][:, [1, 0]], atol=1e-5)


def test_what_a_function_does_is_opened(rng):
    plan = FastISM(two_heads(), reduce=sharpness, engine="fast").prepared.plan
    names = [type(step.node.layer).__name__ for step in plan.steps]
    assert "Exp" in names and "Lambda" not in names


@pytest.mark.skipif(backend.BACKEND != "tensorflow", reason="a function of TensorFlow")
def test_a_function_of_tensorflow(rng):
    import tensorflow as tf

    def sorted_top(y):
        return tf.sort(y, axis=1, direction="DESCENDING")[:, 1]

    errors = errors_of(two_heads(), {"dna": random_one_hot(rng, 2, LENGTH)}, reduce={"profile": sorted_top})
    assert errors.fast <= errors.allowed and errors.largest > 0, errors


def test_scales_and_means_of_a_function(rng):
    model, one_hot = two_heads(), random_one_hot(rng, 2, LENGTH)
    plain = FastISM(model, reduce=sharpness)
    scaled = FastISM(model, reduce=sharpness, scale="profile=log2:0.5")(one_hot)
    delta, reference = plain(one_hot).delta["profile"], plain(one_hot).reference["profile"][..., None, None]
    expected = np.log2(reference + delta + 0.5) - np.log2(reference + 0.5)
    np.testing.assert_allclose(scaled.delta["profile"], expected, atol=3e-6)
    mean = FastISM(model, reduce=sharpness, rc=True)(one_hot)
    turned = plain(one_hot[:, ::-1, ::-1])
    both = (plain(one_hot).delta["profile"] + turned.delta["profile"][..., ::-1, ::-1]) / 2
    np.testing.assert_allclose(mean.delta["profile"], both, atol=3e-6)


def test_the_mean_of_heads_before_a_function(rng):
    model, one_hot = two_heads(), random_one_hot(rng, 1, LENGTH)
    mean = FastISM(model, reduce=sharpness, rc=True, average="outputs")(one_hot)
    forward, turned = (model(x)[0] for x in (one_hot, np.ascontiguousarray(one_hot[:, ::-1, ::-1])))
    whole = (backend.to_numpy(forward) + backend.to_numpy(turned)[:, ::-1]) / 2
    np.testing.assert_allclose(mean.reference["profile"], as_numpy(whole), rtol=1e-5)
    assert np.abs(mean.delta["profile"]).max() > 0


def test_a_function_passes_verification(rng):
    report = verify(FastISM(two_heads(), reduce={"profile": sharpness}), random_one_hot(rng, 1, LENGTH))
    assert report.passed and report.judge == "float64"


def test_what_is_shown_and_stored_says_which_function():
    engine = FastISM(two_heads(), reduce=[functools.partial(balance), "sum", lambda y: y[:, 0]])
    assert [(head.name, head.reduce) for head in engine.heads] == [
        ("profile.balance", "function balance"),
        ("profile.sum", "sum"),
        ("profile.lambda", "function lambda"),
        ("count", "none"),
    ]
    assert "profile.balance (2,) by function balance, profile.sum (3,) by sum, " in repr(engine)
    options = RunOptions(reduce={"profile": [balance, "sum"], None: "max"})
    assert json.loads(options.config())["reduce"] == ["profile=function balance,sum", "max"]
    for name, value in (("resume", True), ("devices", "0,1")):  # the first is a switch
        with pytest.raises(UsageError, match=rf"^{name}(=True)?: reduce is function balance, which "):
            replace(options, **{name: value})


# --- what is no reduction ---------------------------------------------------------------------------------------------


def means_over_sequences(y):
    return ops.mean(y, axis=1) - ops.mean(y, axis=(0, 1))


def broken(y):
    return y.no_such_thing


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda y: y, r"must give \(n, targets\)\. Received: \(3, 34, 3\) for n 3$"),
        (lambda y: ops.sum(y, axis=(1, 2)), r"must give \(n, targets\)\. Received: \(3,\) for n 3$"),
        (lambda y: ops.sum(y, axis=0), r"must give \(n, targets\)\. Received: \(34, 3\) for n 3$"),
        (means_over_sequences, "gives a sequence another score when others are in the same call"),
        (broken, r"does not run: AttributeError: .*no_such_t.*\. Write it with keras\.ops\.$"),
    ],
)
def test_a_function_that_is_no_reduction(function, message):
    with pytest.raises(UsageError, match=r"^reduce: function \w+ of head 'profile', for predictions \(n, 34, 3\), "):
        FastISM(two_heads(), reduce=function)
    with pytest.raises(UsageError, match=message):
        FastISM(two_heads(), reduce={"profile": function})


@pytest.mark.compiled
def test_a_function_that_cannot_be_compiled():
    def by_numpy(y):
        return np.asarray(y).sum(axis=1)

    with pytest.raises(UsageError, match=r"function by_numpy .* does not run: .*\. Write it with keras\.ops\.$"):
        FastISM(two_heads(), reduce=by_numpy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"reduce": [lambda y: y[:, 0], lambda y: y[:, 1]]},
            "two heads of the result would be called 'profile.lambda'",
        ),
        ({"reduce": {"profile": balance}, "targets": {"profile": (2,)}}, "^targets: head 'profile' has 2 targets"),
        ({"reduce": balance, "rc": True, "rc_pairs": "profile=0:1"}, "^rc_pairs numbers targets of the model"),
        (
            {"reduce": balance, "rc": True, "average": "outputs", "targets": {"profile": (1,)}},
            "^targets of head 'profile' are those that function balance gives, and average=.outputs. is before it",
        ),
    ],
)
def test_options_that_do_not_go_with_a_function(options, message):
    with pytest.raises(UsageError, match=message):
        FastISM(two_heads(), **options)


def test_a_function_for_a_model_without_positions():
    inputs = keras.Input((20, 4))
    model = keras.Model(inputs, layers.Dense(3, name="top")(layers.Flatten()(inputs)))
    with pytest.raises(UsageError, match=r"no head has positions\. Name the head that the function reduces: top"):
        FastISM(model, reduce=balance)
    assert FastISM(model, reduce={"top": lambda y: y[:, :2] * 2}).heads[0].shape == (2,)


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_says_which_function(tmp_path):
    model, folder = two_heads(), make_folder(tmp_path)
    options = RunOptions(reduce={"profile": [sharpness, "sum"]}, targets=("profile=0,2",))
    output = str(tmp_path / "o.h5")
    score_regions(model, folder.bed, folder.fasta, output, options)
    said = CliRunner().invoke(main, ["info", output]).output
    assert "head profile.sharpness: (2,), positions by function sharpness, float32" in said
    with open_scores(output) as scores:
        assert list(scores.heads) == ["profile.sharpness", "profile.sum"]
        assert [(head.name, head.reduce) for head in scores.file.heads] == [
            ("profile.sharpness", "function sharpness"),
            ("profile.sum", "sum"),
        ]
        assert json.loads(scores.file.attrs["config"])["reduce"] == ["profile=function sharpness,sum"]
        row = int(np.flatnonzero(scores.regions["status"] == Status.OK)[0])
        one_hot = np.eye(5, 4, dtype="float32")[scores.file.seq[row]][None]
        found = FastISM(model, reduce=sharpness)(one_hot).delta["profile"][0, [0, 2]]
        np.testing.assert_allclose(scores.file.delta("profile.sharpness")[row], found, atol=1e-6)
