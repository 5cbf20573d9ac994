"""Every repair on a file that really has the fault: it predicts what the model that wrote it does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np
import pytest
import tf_keras
from tf_keras import layers as k2

from fastism_cli.errors import ModelError
from fastism_cli.model.loading.config_entries import all_entries
from fastism_cli.model.loading.load import load_model
from fastism_cli.model.loading.repair_config import HARMLESS, LAYER_REPAIRS, RENAMED, repair_config
from tests.helpers.model_files import (
    FILE_WARNINGS,
    assert_same,
    conv_block,
    edit_config,
    layer_configs,
    nested,
    no_modules,
    one_hot,
    predictions,
    saved,
    sequential,
    unchanged,
)
from tests.helpers.model_files import fresh_names as fresh_names  # used by every test here

pytestmark = FILE_WARNINGS


def as_list(config: dict[str, Any]) -> None:
    shape_on_first_layer(config)
    config["config"] = config["config"]["layers"]


def shape_on_first_layer(config: dict[str, Any]) -> None:
    first, second = config["config"]["layers"][:2]
    second["config"]["batch_input_shape"] = first["config"]["batch_input_shape"]
    config["config"]["layers"].remove(first)


def tf1_dtypes(config: dict[str, Any]) -> None:
    for layer in layer_configs(config):
        if "dtype" in layer:
            layer["dtype"] = {"class_name": "Policy", "config": {"name": "float32"}}


def tf1_batch_norm(config: dict[str, Any]) -> None:
    for entry in all_entries(config["config"]):
        if entry["class_name"] == "BatchNormalization":
            entry["class_name"] = "BatchNormalizationV1"
            entry["config"].update(axis=[2], fused=True, renorm=False, virtual_batch_size=None, adjustment=None)


def unknown_training(config: dict[str, Any]) -> None:
    for layer in layer_configs(config):
        if "kernel_initializer" in layer:
            layer["kernel_initializer"] = {"class_name": "GlorotOfOurLab", "config": {"gain": 2}}
            layer["kernel_regularizer"] = {"class_name": "L0", "config": {}}
            layer["kernel_constraint"] = {"class_name": "MotifNorm", "config": {}}


def no_reset_after(config: dict[str, Any]) -> None:
    for layer in layer_configs(config):
        layer.pop("reset_after", None)


def called_model(config: dict[str, Any]) -> None:
    config["class_name"] = "Model"
    no_modules(config)


def compiled_with_own_loss() -> Any:
    def multinomial_nll(wanted: Any, found: Any) -> Any:
        return wanted - found

    model = conv_block()
    model.compile("adam", loss=multinomial_nll)
    return model


class Aged(NamedTuple):
    """A model, what makes its file old, and what Keras 3 alone does with it: "refuses", "differs" or "reads"."""

    build: Callable[[], Any]
    age: Callable[[dict[str, Any]], None]
    alone: str


AGED = {
    "Keras 2.1 Sequential as a list": Aged(conv_block, as_list, "refuses"),
    "shape on the first layer": Aged(conv_block, shape_on_first_layer, "refuses"),
    "Keras 2.15": Aged(conv_block, unchanged, "reads"),
    "TF 1 dtype policy": Aged(conv_block, tf1_dtypes, "refuses"),
    "TF 1 batch normalisation": Aged(conv_block, tf1_batch_norm, "refuses"),
    "own initializer, regularizer, constraint": Aged(conv_block, unknown_training, "refuses"),
    "own loss": Aged(compiled_with_own_loss, unchanged, "reads"),
    "functional called Model": Aged(nested, called_model, "refuses"),
    "nested, shared, attention": Aged(nested, unchanged, "refuses"),
    "LSTM with time_major": Aged(lambda: sequential(k2.LSTM(5)), unchanged, "refuses"),
    "Bidirectional(LSTM)": Aged(lambda: sequential(k2.Bidirectional(k2.LSTM(5))), no_modules, "refuses"),
    "TimeDistributed(Dense)": Aged(lambda: sequential(k2.TimeDistributed(k2.Dense(3))), no_modules, "refuses"),
    "stacked RNN cells": Aged(lambda: sequential(k2.RNN([k2.LSTMCell(3), k2.GRUCell(2)])), no_modules, "refuses"),
    "separable convolution": Aged(
        lambda: sequential(k2.SeparableConv1D(5, 3), k2.DepthwiseConv1D(3), k2.Conv1DTranspose(3, 4)),
        unchanged,
        "refuses",
    ),
    "SpatialDropout1D": Aged(lambda: sequential(k2.SpatialDropout1D(0.2)), unchanged, "refuses"),
    "LeakyReLU(alpha)": Aged(lambda: sequential(k2.Dense(3), k2.LeakyReLU(0.2)), unchanged, "refuses"),
    "slash in a name": Aged(lambda: sequential(k2.Conv1D(3, 3, name="block/conv")), unchanged, "refuses"),
    "hard_sigmoid": Aged(
        lambda: sequential(k2.Dense(8, activation="hard_sigmoid"), k2.Activation("hard_sigmoid")), unchanged, "differs"
    ),
    "GRU without reset_after": Aged(
        lambda: sequential(k2.GRU(4, reset_after=False, use_bias=False)), no_reset_after, "refuses"
    ),
}


def what_keras_does(path: Path, model: Any) -> str:
    try:
        loaded = keras.saving.load_model(path, compile=False)
    except Exception:
        return "refuses"
    inputs = one_hot(model)
    pairs = zip(predictions(loaded, inputs), predictions(model, inputs), strict=True)
    return "reads" if all(np.allclose(got, want, rtol=1e-6, atol=1e-6) for got, want in pairs) else "differs"


@pytest.mark.one_in(48)
@pytest.mark.parametrize("fault", AGED)
def test_old_file_is_repaired(fault: str, tmp_path: Path) -> None:
    build, age, alone = AGED[fault]
    model = build()
    path = saved(model, tmp_path / "m.h5")
    edit_config(path, age)
    before = hashlib.sha256(path.read_bytes()).digest()

    loaded = load_model(path)

    assert isinstance(loaded, keras.Model)
    assert_same(loaded, model)
    assert what_keras_does(path, model) == alone
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_recurrent_hard_sigmoid_keeps_its_meaning(tmp_path: Path) -> None:
    """The default of every LSTM and GRU before TF 2, also inside a wrapper: Keras 3 has another of that name."""
    model = sequential(
        k2.Bidirectional(k2.LSTM(4, recurrent_activation="hard_sigmoid", return_sequences=True)),
        k2.GRU(3, recurrent_activation="hard_sigmoid", reset_after=False),
    )
    loaded = load_model(saved(model, tmp_path / "m.h5"))
    assert isinstance(loaded, keras.Model)
    assert_same(loaded, model)


@pytest.mark.parametrize(("cls", "gates", "options"), [("LSTM", 4, {}), ("GRU", 3, {"reset_after": True})])
def test_cudnn_layers_become_plain_ones(cls: str, gates: int, options: dict[str, Any], tmp_path: Path) -> None:
    from tf_keras.src.saving.legacy.hdf5_format import _convert_rnn_weights

    model = sequential(getattr(k2, cls)(5, name="rnn", **options))
    path = saved(model, tmp_path / "m.h5")
    cudnn = _convert_rnn_weights(type(f"CuDNN{cls}", (), {})(), model.get_layer("rnn").get_weights())
    with h5py.File(path, "a") as file:
        group = file["model_weights/rnn"]
        for name, array in zip(group.attrs["weight_names"], cudnn, strict=True):
            del group[name]
            group[name] = array
        assert array.shape == (2 * gates * 5,)

    def as_cudnn(config: dict[str, Any]) -> None:
        layer = config["config"]["layers"][1]
        layer["class_name"] = f"CuDNN{cls}"
        for name in ("activation", "recurrent_activation", "use_bias", "implementation", "reset_after", "dropout"):
            layer["config"].pop(name, None)

    edit_config(path, as_cudnn)
    assert_same(load_model(path), model)


def test_kernels_of_theano_are_mirrored(tmp_path: Path) -> None:
    model = conv_block()
    path = saved(model, tmp_path / "m.h5")
    edit_config(path, unchanged, backend="theano", keras_version="2.0.6")
    with h5py.File(path, "a") as file:
        kernel = file["model_weights/conv1d/conv1d/kernel:0"]
        kernel[...] = np.asarray(kernel)[::-1]
    assert_same(load_model(path), model)
    assert what_keras_does(path, model) == "differs"


def test_weights_go_by_name_not_by_order(tmp_path: Path) -> None:
    model = sequential(k2.Dense(4, name="first"), k2.Dense(4, name="second"))
    path = saved(model, tmp_path / "m.h5")
    with h5py.File(path, "a") as file:
        file["model_weights"].attrs["layer_names"] = [b"second", b"first"]
    assert_same(load_model(path), model)
    assert what_keras_does(path, model) == "differs"


def test_weights_of_a_model_built_anew_go_by_order(tmp_path: Path) -> None:
    model = sequential(k2.Conv1D(4, 3), k2.Dense(4))
    (tmp_path / "m.json").write_text(model.to_json())
    again = sequential(k2.Conv1D(4, 3), k2.Dense(4))
    assert [layer.name for layer in again.layers] != [layer.name for layer in model.layers]
    again.save_weights(tmp_path / "w.h5")
    assert_same(load_model(tmp_path / "m.json", weights=tmp_path / "w.h5"), again)


@pytest.mark.parametrize("trainable", [True, False])
def test_frozen_inner_model(trainable: bool, tmp_path: Path) -> None:
    inner = tf_keras.Sequential([k2.Conv1D(4, 3), k2.BatchNormalization(), k2.Dense(4), k2.BatchNormalization()])
    model = sequential(inner, k2.Dense(2))
    inner.trainable = trainable
    assert_same(load_model(saved(model, tmp_path / "m.h5")), model)


@pytest.mark.one_in(36)
def test_every_repair_is_exercised() -> None:
    """Each row of the table changes the configuration of some model above, or of a Lambda layer."""
    of_lambda = Aged(lambda: sequential(k2.Lambda(abs)), unchanged, "")
    configs = [of_lambda, Aged(lambda: sequential(k2.LSTM(3)), made_stateful, ""), *AGED.values()]
    idle = {repair.cure.__name__ for repair in LAYER_REPAIRS}
    for build, age, _ in configs:
        config = json.loads(build().to_json())
        age(config)
        idle -= _repairs_that_act(config)
    assert idle == set()


def made_stateful(config: dict[str, Any]) -> None:
    config["config"]["layers"][1]["config"]["stateful"] = True


def _repairs_that_act(config: dict[str, Any]) -> set[str]:
    from fastism_cli.model.loading import repair_config as repairs

    acting = set()

    def watched(repair: Any) -> Any:
        def cure(layer: dict[str, Any], context: Any) -> None:
            before = json.dumps(layer)
            repair.cure(layer, context)
            if json.dumps(layer) != before:
                acting.add(repair.cure.__name__)

        return repair._replace(cure=cure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repairs, "LAYER_REPAIRS", tuple(watched(repair) for repair in LAYER_REPAIRS))
        repair_config(config)
    return acting


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_only_harmless_values_are_dropped(name: str) -> None:
    def repaired(value: Any) -> dict[str, Any]:
        config = {"name": "d", "units": 2, name: value}
        return repair_config({"class_name": "Dense", "config": config})["config"]

    assert HARMLESS[name](None)
    if HARMLESS[name]("a value of some other kind"):
        assert repaired(3).get(name) is None or name in ("trainable", "lora_alpha", "seed")
    elif name not in ("lora_rank", "quantization_config"):
        assert repaired(3)[name] == 3


def test_an_unknown_argument_is_reported_and_not_dropped(tmp_path: Path) -> None:
    model = conv_block()
    path = saved(model, tmp_path / "m.h5")
    edit_config(path, lambda config: config["config"]["layers"][1]["config"].update(dilation_kind="mirror"))
    with pytest.raises(ModelError, match=r"'conv1d': Conv1D does not take dilation_kind='mirror'"):
        load_model(path)


def test_renamed_classes_exist() -> None:
    assert {name for name in RENAMED.values() if name != "Functional" and not hasattr(keras.layers, name)} == set()
