"""Rules of one's own: in the library, and on the command line."""

import importlib.util
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers

from fastism_cli import FastISM
from fastism_cli.cli import main
from fastism_cli.engine.inspection import inspect_scorer
from fastism_cli.errors import ModelError, RuleError
from fastism_cli.model.loading.config_entries import load_rules
from fastism_cli.rules import EVERYWHERE, Rule, register_rule, table
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo import custom
from tests.models.zoo.blocks import conv, dna
from tests.models.zoo.registry import randomise

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "attention_pooling.py")


@pytest.fixture(autouse=True)
def own_table(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(table, "RULES", dict(table.RULES))
    monkeypatch.setattr(table, "NAMED", {})


def pooling_model(layer_class, scale: float = 1.0) -> keras.Model:
    """inp -> C -> relu -> MXP2 -> AttentionPooling -> D -> y"""
    inp = dna(40)
    x = layers.MaxPooling1D(2)(conv(inp, 5, 5, activation="relu"))
    model = randomise(keras.Model(inp, layers.Dense(2)(layer_class(name="pool")(x))), seed=2)
    model.get_layer("pool").kernel.assign(scale * model.get_layer("pool").kernel)
    return model


def states(model) -> dict[str, str]:
    return {node.class_name: node.state for node in inspect_scorer(FastISM(model, engine="fast")).nodes}


def example_layer():
    spec = importlib.util.spec_from_file_location("attention_pooling_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.AttentionPooling


@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["even", "peaked"])
def test_the_example_is_exact_and_fast(scale):
    model = pooling_model(example_layer(), scale)
    assert states(model)["AttentionPooling"] == "fast"
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


def test_the_command_line_runs_the_rules(tmp_path):
    path = tmp_path / "m.keras"
    pooling_model(example_layer()).save(path)
    for cls in [cls for cls in table.RULES if cls.__name__ == "AttentionPooling"]:
        del table.RULES[cls]
    result = CliRunner().invoke(main, ["inspect", str(path), "--json", "--custom-objects", EXAMPLE, "--rules", EXAMPLE])
    assert result.exit_code == 0, result.output
    found = {node["class_name"]: node["state"] for node in json.loads(result.stdout)["nodes"]}
    assert found["AttentionPooling"] == "fast"


def test_a_rule_by_the_name_of_the_class():
    model = pooling_model(custom.AttentionPooling)
    assert "AttentionPooling" not in states(model)  # opened
    example_layer()
    register_rule("AttentionPooling", next(r for c, r in table.RULES.items() if c.__name__ == "AttentionPooling"))
    assert states(model)["AttentionPooling"] == "fast"
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


def test_a_class_like_one_of_keras():
    inp = dna(40)
    model = randomise(keras.Model(inp, conv(custom.UnchangedConv1D(4, 3, activation="relu")(inp), 2)), seed=1)
    model = keras.Model(inp, layers.GlobalMaxPooling1D()(model(inp)))
    assert states(model)["Conv1D"] == "fast"  # it computes what its Keras class does
    register_rule(custom.UnchangedConv1D, like=layers.Conv1D)
    assert states(model)["UnchangedConv1D"] == "fast"
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


class Nothing(Rule):
    def propagate(self, facts):
        return EVERYWHERE


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "takes a rule or like=CLASS"),
        ({"rule": Nothing(), "like": layers.Conv1D}, "takes a rule or like=CLASS"),
        ({"like": layers.LSTM}, "LSTM has no rule; choose one of: "),
        ({"rule": Nothing}, "must be an object of a subclass of Rule"),
    ],
)
def test_what_is_no_rule_is_refused(given, message):
    with pytest.raises(RuleError, match=message):
        register_rule(custom.MirrorMix, **given)


def test_a_file_of_rules_that_fails_names_the_line(tmp_path):
    path = tmp_path / "rules.py"
    path.write_text("import keras\n\nundefined\n")
    with pytest.raises(ModelError, match=r"rules .*rules\.py does not import: line 3: NameError"):
        load_rules([str(path)])
    with pytest.raises(ModelError, match=r"rules .*none\.py: no such file"):
        load_rules([str(tmp_path / "none.py")])
