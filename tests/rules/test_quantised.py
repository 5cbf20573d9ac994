"""Layers that compute something else than their class: quantised ones, and those whose ``call`` was replaced."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from fastism_cli.engine.fastism import FastISM
from fastism_cli.engine.inspection import inspect_scorer
from fastism_cli.engine.verify import verify
from fastism_cli.errors import UsageError
from tests.helpers.model_files import FILE_WARNINGS

pytestmark = [
    *FILE_WARNINGS,
    pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method"),
    pytest.mark.one_in(2),
]

LENGTH = 20
POSITIONS = [0, 9, LENGTH - 1]


def one_hot() -> np.ndarray:
    x = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (2, LENGTH))]
    x[1, 8] = 0  # an N
    return x


def model(cls: Any = keras.layers.Dense) -> Any:
    """x -> C -> dense at every position -> flatten -> dense -> y."""
    keras.utils.set_random_seed(5)
    x = inputs = keras.Input((LENGTH, 4), name="seq")
    x = keras.layers.Conv1D(8, 5, padding="same", activation="relu")(x)
    x = keras.layers.Flatten()(cls(8, activation="relu", name="per_position")(x))
    return keras.Model(inputs, keras.layers.Dense(1, name="out")(cls(16, activation="relu", name="wide")(x)))


def quantised(mode: str) -> Any:
    if mode == "int8 of bfloat16":
        built = model()
        half = keras.models.clone_model(built, clone_function=in_half)
        half.set_weights(built.get_weights())
        half.quantize("int8")
        return half
    built = model()
    built.quantize(mode)
    return built


def in_half(layer: Any) -> Any:
    return type(layer).from_config({**layer.get_config(), "dtype": "mixed_bfloat16"})


def plain_deltas(predict: Any, x: np.ndarray) -> np.ndarray:
    """Substituted - reference by one call for each substitution, (n, positions, letters)."""
    found = np.zeros((len(x), len(POSITIONS), 4))
    for n, row in enumerate(x):
        for i, position in enumerate(POSITIONS):
            for letter in range(4):
                changed = row.copy()
                changed[position] = np.eye(4)[letter]
                found[n, i, letter] = float(predict(changed[None])[0, 0]) - float(predict(row[None])[0, 0])
    return found


@pytest.mark.one_in(48)
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
@pytest.mark.parametrize("engine", ["auto", "fast"])
def test_deltas_are_those_of_plain_keras(mode, engine):
    net = quantised(mode)
    scorer = FastISM(net, engine=engine)
    assert scorer.engine == ("fast" if engine == "fast" else "naive")
    wanted = plain_deltas(net, one_hot())
    found = scorer(one_hot(), positions=POSITIONS).delta["out"][:, 0]
    largest = np.abs(wanted).max()
    # in the fast engine, the last bit of a sum can decide to which integer it is rounded
    np.testing.assert_allclose(found, wanted, rtol=0, atol=largest * (1e-5 if engine == "auto" else 2.0**-7))
    assert verify(scorer, one_hot(), positions=POSITIONS).passed


@pytest.mark.one_in(24)
def test_auto_says_why_and_inspect_says_which(tmp_path):
    quantised("int8").save(tmp_path / "m.keras")
    scorer = FastISM(tmp_path / "m.keras")
    assert "quantised" in scorer.engine_reason
    nodes = {node.name: node for node in inspect_scorer(scorer).nodes if "Dense" in node.class_name}
    assert nodes["per_position"].state == "opaque"
    assert "quantised: every output may change" in nodes["per_position"].reason
    report = verify(scorer, one_hot()[:1], positions=POSITIONS)
    assert report.judge == "float32" and "quantised (layers: 'per_position', 'wide', 'out')" in report.line


def test_layers_around_a_quantised_one_count_as_such():
    inner = keras.layers.Dense(3, name="inner")
    inputs = keras.Input((LENGTH, 4))
    net = keras.Model(inputs, keras.layers.TimeDistributed(inner)(inputs))
    inner.quantize("int8")
    (node,) = inspect_scorer(FastISM(net, reduce="sum", engine="fast")).nodes[:1]
    assert "quantised" in node.reason


@pytest.mark.one_in(36)
@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float64"])
def test_other_precisions_are_refused_in_one_line(precision):
    with pytest.raises(UsageError, match=rf"precision {precision}: the model is quantised .*float32 only") as error:
        FastISM(quantised("int8"), precision=precision)
    assert "\n" not in str(error.value)


def test_what_was_quantised_from_half_precision_runs_in_float32():
    scorer = FastISM(quantised("int8 of bfloat16"))
    assert {layer.compute_dtype for layer in scorer.model.layers} == {"float32"}
    assert scorer(one_hot(), positions=[3]).reference["out"].dtype == "float32"


def test_lora_is_like_any_layer():
    net = model()
    for name in ("per_position", "wide"):
        net.get_layer(name).enable_lora(3)
        net.get_layer(name).lora_kernel_b.assign(keras.random.normal(net.get_layer(name).lora_kernel_b.shape, seed=1))
    report = verify(FastISM(net, engine="fast"), one_hot(), positions=POSITIONS)
    assert report.passed and report.judge == "float64"


@pytest.mark.parametrize("replaced", ["in the class", "in the object"])
def test_a_call_of_its_own_is_not_taken_for_that_of_dense(replaced):
    def shifted(layer: Any, x: Any) -> Any:
        return keras.ops.flip(keras.layers.Dense.call(layer, x), 1) + 1.0

    class Shifted(keras.layers.Dense):
        def call(self, x: Any) -> Any:
            return shifted(self, x)

    net = model(Shifted if replaced == "in the class" else keras.layers.Dense)
    if replaced == "in the object":
        layer = net.get_layer("per_position")
        layer.call = lambda x, training=None: shifted(layer, x)
    wanted = plain_deltas(net, one_hot())
    found = FastISM(net, engine="fast")(one_hot(), positions=POSITIONS).delta["out"][:, 0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))
