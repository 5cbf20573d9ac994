"""Slashes in the names of layers, inputs and heads of Keras 2: the names stay, and no two become one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tf_keras
from tf_keras import layers as k2

from fastism_cli.engine.fastism import FastISM
from fastism_cli.engine.inspection import inspect_scorer
from fastism_cli.errors import OutputError
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


@pytest.mark.one_in(18)
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
