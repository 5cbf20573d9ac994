"""``--input``, ``--targets`` and ``--target-names``, and how they fit a model."""

import numpy as np
import pytest

from fastism_cli.errors import UsageError
from fastism_cli.model.heads import choose_heads
from fastism_cli.run.inputs_and_targets import fit_inputs, parse_targets, read_inputs, stored_heads


def test_values_of_other_inputs(tmp_path):
    np.save(tmp_path / "same.npy", [1.0, 2.0])
    np.save(tmp_path / "rows.npy", np.arange(6.0).reshape(3, 2))
    given = read_inputs([f"a={tmp_path}/same.npy", f"b={tmp_path}/rows.npy", "c=ones"])
    rows = fit_inputs(given, {"a": (2,), "b": (2,), "c": (1, 2)}, 3).rows([2, 0])
    np.testing.assert_array_equal(rows["a"], [[1, 2], [1, 2]])
    np.testing.assert_array_equal(rows["b"], [[4, 5], [0, 1]])
    np.testing.assert_array_equal(rows["c"], np.ones((2, 1, 2)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"The model has an input beside the sequence: 'a' \(2,\). Give each its values: --input NAME=zeros"),
        ({"a": 0.0, "b": 1.0}, r"--input b: the model has no such input beside the sequence. Those it has: 'a' \(2,\)"),
        ({"a": np.zeros((4, 2))}, r"shape \(2,\).*or \(3, 2\) \(a row for each of the 3 regions\). Received: \(4, 2\)"),
    ],
)
def test_inputs_that_do_not_fit(given, message):
    with pytest.raises(UsageError, match=message):
        fit_inputs(given, {"a": (2,)}, 3)


def test_target_lists():
    assert parse_targets(["0,3-5"]) == {None: (0, 3, 4, 5)}
    assert parse_targets(["a=1", "b=all"]) == {"a": (1,), "b": None}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["x"], "'x' is neither a number nor a range"),
        (["1,,2"], "'' is neither a number nor a range"),
        (["5-3"], "5-3 ends before it starts"),
        (["0-4,2"], "2 comes twice"),
        (["a=1", "a=2"], "--targets names 'a' twice"),
        (["1", "a=2"], "either one list for the only head, or HEAD=LIST"),
    ],
)
def test_wrong_target_lists(values, message):
    with pytest.raises(UsageError, match=message):
        parse_targets(values)


@pytest.mark.parametrize(
    ("targets", "names", "message"),
    [
        ({None: (0,)}, {}, "--targets: the model has several heads. Name one: a=..., b=..."),
        ({"c": (0,)}, {}, "--targets: the model has no head 'c'. Its heads: a, b."),
        ({"a": (2,)}, {}, "--targets: head 'a' has 2 targets, numbered from 0. Received: 2"),
        ({}, {"b": ["x"]}, "--target-names: head 'b' has 3 targets. Received: 1 names"),
    ],
)
def test_targets_that_the_model_does_not_have(targets, names, message):
    with pytest.raises(UsageError, match=message):
        stored_heads(choose_heads({"a": (2,), "b": (3,)}, None, targets, substitutions=4), names)
