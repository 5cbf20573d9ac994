"""Slashes and other letters in the names of layers, inputs and heads: the names stay, and no two become one."""

from __future__ import annotations

import json
import re
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras
from tf_keras import layers as k2

from fastism_cli.engine.fastism import FastISM
from fastism_cli.engine.inspection import inspect_scorer
from fastism_cli.errors import ModelError, OutputError
from fastism_cli.model.loading.config_entries import plain_name, written_name
from fastism_cli.model.loading.load import load_model
from fastism_cli.results.layout import HeadLayout, Layout
from tests.helpers.model_files import FILE_WARNINGS, assert_same, save_as, with_random_weights
from tests.helpers.model_files import fresh_names as fresh_names  # used by every test here

pytestmark = FILE_WARNINGS

LENGTH = 24


def two_heads(heads: tuple[str, str], inner: tuple[str, str]) -> Any:
    """dna/seq -> C -> C -> one convolution and one dense head."""
    x = inputs = tf_keras.Input((LENGTH, 4), name="dna/seq")
    for name in inner:
        x = k2.Conv1D(4, 5, activation="relu", padding="same", name=name)(x)
    profile = k2.Conv1D(2, 3, padding="same", name=heads[0])(x)
    return with_random_weights(tf_keras.Model(inputs, [profile, k2.Dense(2, name=heads[1])(k2.Flatten()(x))]))


@pytest.mark.one_in(48)
@pytest.mark.parametrize("ending", [".h5", ".json", ""])
@pytest.mark.parametrize(
    "heads, inner",
    [
        (("Oct4/profile", "Oct4/counts"), ("block1/conv", "block2/conv")),
        (("Oct4/profile", "Oct4_profile"), ("block1/conv", "block1_conv")),
    ],
    ids=["slashes", "the same with underscores"],
)
def test_names_are_those_of_the_file(heads, inner, ending, tmp_path):
    model = two_heads(heads, inner)
    if ending == ".json":
        (tmp_path / "m.json").write_text(model.to_json())
        model.save_weights(tmp_path / "w.h5")
        loaded = load_model(tmp_path / "m.json", weights=tmp_path / "w.h5")
    else:
        loaded = load_model(save_as(model, tmp_path, ending))
    assert_same(loaded, model)
    scorer = FastISM(loaded, reduce={heads[0]: ("sum", "jsd")}, engine="fast")
    assert scorer.input_names == ["dna/seq"]
    assert [head.name for head in scorer.heads] == [f"{heads[0]}.sum", f"{heads[0]}.jsd", heads[1]]
    assert set(inner) <= {node.name for node in inspect_scorer(scorer).nodes}


def test_each_of_two_similar_heads_has_its_own_numbers():
    model = two_heads(("Oct4/counts", "Oct4_counts"), ("a/b", "a_b"))
    scorer = FastISM(model, reduce="sum", engine="naive")
    x = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (2, LENGTH))]
    found = scorer(x, positions=[3]).reference
    profile, counts = (np.asarray(y) for y in model(x))
    np.testing.assert_allclose(found["Oct4/counts"], profile.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found["Oct4_counts"], counts, rtol=1e-5)


def test_heads_that_a_file_cannot_hold_together_are_named():
    heads = (HeadLayout("Oct4/counts", (1,)), HeadLayout("other", (1,)), HeadLayout("Oct4_counts", (1,)))
    with pytest.raises(OutputError, match=r"heads 'Oct4/counts', 'Oct4_counts' would have the same name .*targets"):
        Layout(1, LENGTH, heads)


# --- names that no scope in a graph of TensorFlow can have ------------------------------------------------------------

NAMES = ("a b", "_x", "-x", "séquence", "日本", "a:b", "x" * 300)


@pytest.mark.parametrize("name", [*NAMES, "a/b", "/a", "__", ".x", "conv_1", "a/_b", " "])
def test_a_plain_name_is_a_scope_and_leads_back(name):
    plain = plain_name(name)
    assert re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.>-]*", plain) and plain_name(plain) == plain
    assert written_name(plain) == name
    assert len({plain_name(one) for one in NAMES}) == len(NAMES)


@pytest.mark.one_in(24)
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_layers_of_any_name_are_run(ending, tmp_path):
    """Keras runs such a model without a graph alone, as on JAX or with run_eagerly."""
    inputs = keras.Input((LENGTH, 4), name="dna seq")
    x = keras.layers.Conv1D(3, 5, activation="relu", name="_first conv")(inputs)
    heads = [keras.layers.Dense(2, name=name)(keras.layers.Flatten(name=f"-{name}")(x)) for name in ("é 1", "a:b")]
    model = keras.Model(inputs, heads)
    model.save(tmp_path / f"m{ending}")
    codes = np.random.default_rng(0).integers(0, 4, (2, LENGTH))
    expected = [np.asarray(y) for y in model(np.eye(4, dtype="float32")[codes])]
    for engine in ("fast", "naive"):
        scorer = FastISM(load_model(tmp_path / f"m{ending}"), engine=engine)
        assert scorer.input_names == ["dna seq"] and [head.name for head in scorer.heads] == ["é 1", "a:b"]
        found = scorer.score_codes(codes.astype("uint8"), window=range(3, 5)).reference
        for name, values in zip(("é 1", "a:b"), expected, strict=True):
            np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6)
    assert {"_first conv", "-é 1"} <= {node.name for node in inspect_scorer(scorer).nodes}


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m"])
def test_a_name_that_no_layer_can_have_is_refused_in_one_line(name, tmp_path):
    model = keras.Sequential([keras.Input((LENGTH, 4)), keras.layers.Flatten(), keras.layers.Dense(1, name="last")])
    (tmp_path / "m.json").write_text(model.to_json().replace('"last"', json.dumps(name)))
    model.save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(ModelError, match=r"m\.json: a layer of class Dense has the name '.*'\. Rename it$"):
        load_model(tmp_path / "m.json", weights=tmp_path / "w.weights.h5")
