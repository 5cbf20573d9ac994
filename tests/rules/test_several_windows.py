"""Tensors with several windows: which nodes are carried window by window, and that windows that meet count together."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from fastism_cli import FastISM
from fastism_cli.engine import prepare
from fastism_cli.engine.inspection import inspect_scorer
from fastism_cli.rules import several_windows
from fastism_cli.rules.several_windows import FurtherWindowRule, MaximumOverWindowsRule
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo.blocks import conv, dna
from tests.models.zoo.registry import randomise

pytestmark = pytest.mark.one_in(2)

LENGTH = 60


def tower():
    """C -> relu -> BN -> MXP -> C -> relu, with the same weights on whatever it is called on"""
    shared = [layers.Conv1D(5, 5, padding="same", activation="relu"), layers.BatchNormalization()]
    shared += [layers.MaxPooling1D(2), layers.Conv1D(4, 3, padding="same", activation="relu")]

    def call(x):
        for layer in shared:
            x = layer(x)
        return x

    return call


def strands(shared, inp):
    """The tower on a sequence, and on its reverse complement."""
    return shared(inp), shared(ops.flip(inp, axis=(1, 2)))


def flat_dense(x):
    return layers.Dense(2)(layers.Flatten()(x))


# --- both strands at matching positions, or met at the prediction: one window a tensor -------------------------------


def matched(merge):
    def build(inp):
        x, y = strands(tower(), inp)
        return flat_dense(conv(merge([x, ops.flip(y, axis=1)]), 3, activation="relu"))

    return build


def at_the_end(pool):
    def build(inp):
        dense, pooling = layers.Dense(2), pool()
        return layers.Average()([dense(pooling(x)) for x in strands(tower(), inp)])

    return build


ONE_WINDOW = {
    "average": matched(layers.Average()),
    "maximum": matched(layers.Maximum()),
    "add": matched(layers.Add()),
    "multiply": matched(layers.Multiply()),
    "concatenate": matched(layers.Concatenate()),
    "pooled": at_the_end(layers.GlobalMaxPooling1D),
    "averaged": at_the_end(layers.GlobalAveragePooling1D),
    "flattened": at_the_end(layers.Flatten),
}


@pytest.mark.parametrize("name", ONE_WINDOW)
def test_both_strands_are_one_window_each(name, monkeypatch):
    inp = dna(LENGTH)
    model = randomise(keras.Model(inp, ONE_WINDOW[name](inp)), seed=1)
    found = inspect_scorer(FastISM(model, engine="fast"))
    assert found.count("opaque") == 0
    assert not any("window" in node.name for node in found.nodes)


# --- two windows ----------------------------------------------------------------------------------------------------


def beside_its_image(inp):
    return tower()(layers.Concatenate()([inp, ops.flip(inp, axis=1)]))


def end_to_end(inp):
    return conv(ops.concatenate(strands(tower(), inp), axis=1), 3, activation="relu")


def side_by_side(inp):
    flat = [layers.Flatten()(x) for x in strands(tower(), inp)]
    return layers.ReLU()(layers.Concatenate()(flat))


TWO_WINDOWS = {
    "image": lambda inp: flat_dense(beside_its_image(inp)),
    "averaged": lambda inp: layers.Dense(2)(layers.GlobalAveragePooling1D()(beside_its_image(inp))),
    "largest": lambda inp: layers.Dense(2)(layers.GlobalMaxPooling1D()(beside_its_image(inp))),
    "largest_of_both": lambda inp: layers.Dense(2)(ops.max(end_to_end(inp), axis=(1, 2), keepdims=True)[:, 0]),
    "end_to_end": lambda inp: flat_dense(end_to_end(inp)),
    "flattened": lambda inp: layers.Dense(2)(side_by_side(inp)),
}


@pytest.mark.parametrize("name", TWO_WINDOWS)
def test_two_windows_are_carried_by_themselves(name, monkeypatch):
    inp = dna(LENGTH)
    model = randomise(keras.Model(inp, TWO_WINDOWS[name](inp)), seed=1)
    scorer = FastISM(model, engine="fast")
    found = inspect_scorer(scorer)
    assert found.count("opaque") == 0
    assert any("window 2" in node.name for node in found.nodes)
    assert {node.class_name.partition(":")[0] for node in found.nodes} <= {
        *dir(layers),
        "Flip",
        "Max",
        "GetItem",
        "sum of windows",
    }
    monkeypatch.setattr(prepare, "with_windows_apart", lambda graph, tensor, width: graph)
    joined = FastISM(model, engine="fast").prepared.plan
    assert scorer.prepared.plan.full_multiply_adds == joined.full_multiply_adds
    assert scorer.prepared.plan.full_elements == joined.full_elements
    assert scorer.prepared.plan.multiply_adds < joined.multiply_adds


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (layers.LSTM(3, name="end"), "end: every position depends on those before it"),
        (
            layers.Lambda(lambda x: np.add(x, x)[:, 0], output_shape=(4,), name="end"),
            "end: its function cannot be followed",
        ),
    ],
)
def test_where_windows_are_joined_the_reason_names_the_layer(end, reason):
    inp = dna(LENGTH)
    model = keras.Model(inp, layers.Dense(2)(end(beside_its_image(inp))))
    opaque = [node for node in inspect_scorer(FastISM(model, engine="fast")).nodes if node.state == "opaque"]
    assert [node.reason[: len(reason)] for node in opaque] == [reason]


@pytest.mark.parametrize("meet", [None, False], ids=["as it is", "never said to meet"])
def test_windows_that_meet_count_together(meet, monkeypatch):
    """In the middle of the sequence a change meets its image; a test of the test says that they never do."""
    inp = dna(LENGTH)
    model = randomise(keras.Model(inp, flat_dense(beside_its_image(inp))), seed=1)
    if meet is not None:
        monkeypatch.setattr(FurtherWindowRule, "meet", lambda self, call: ops.convert_to_tensor(meet))
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert (errors.fast <= errors.allowed) == (meet is None), errors


def folded_twice(inp):
    """Four windows that meet, in nodes that have no rounding error of their own."""
    x = layers.Concatenate(axis=1)([inp, ops.flip(inp, axis=1)])
    x = ops.softmax(conv(x, 3))
    x = layers.Concatenate(axis=1)([x, ops.flip(x, axis=1)])
    for _ in range(3):
        x = ops.maximum(x, x)
    return flat_dense(layers.AveragePooling1D(5)(ops.cbrt(x)))


@pytest.mark.one_in(36)
def test_changes_of_windows_that_meet_are_rounded_together():
    """Each window rounded by itself, the error would be as large as naive's, most of which is its predictions'."""
    inp = dna(24)
    model = randomise(keras.Model(inp, folded_twice(inp)), seed=1)
    assert any("window 4" in node.name for node in inspect_scorer(FastISM(model, engine="fast")).nodes)
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.naive / 3, errors


@pytest.mark.parametrize("broken", [None, "meet", "gap"])
def test_the_largest_of_several_windows(broken, monkeypatch):
    """It may lie in a window, in two that meet, or in the gap between them; tests of the test leave these out."""
    inp = dna(LENGTH)
    model = randomise(keras.Model(inp, layers.GlobalMaxPooling1D()(beside_its_image(inp))), seed=2)
    if broken == "meet":
        monkeypatch.setattr(several_windows, "that_meet", lambda call, pairs: ops.convert_to_tensor(False))
    if broken == "gap":
        gaps = MaximumOverWindowsRule.gaps
        monkeypatch.setattr(
            MaximumOverWindowsRule, "gaps", staticmethod(lambda *given: [gaps(*given)[0], gaps(*given)[-1]])
        )
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)), every=True)
    assert (errors.fast <= errors.allowed) == (broken is None), errors
