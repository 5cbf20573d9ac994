"""Files written by hand as Keras 2.0 to 2.15 wrote them, one for each age of the format: HDF5 and JSON, nothing else.

The model is Conv1D, BatchNormalization, Bidirectional(LSTM), TimeDistributed(Dense), Flatten, Dense. What it must
predict is what the same layers of Keras 3 predict with the same weights, with the `hard_sigmoid` of Keras 2.
"""

import json
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers, ops

from fastism_cli import FastISM
from fastism_cli.engine.verify import verify
from fastism_cli.model.loading.load import load_model

LENGTH, FILTERS, UNITS, DENSE = 20, 5, 3, 4
SHAPE = [None, LENGTH, 4]
# Keras version as the file says it, and which of the features below its files have.
AGES = {
    "2.0.5": set(),
    "2.1.6": {"data_format", "return_state"},
    "2.2.4": {"data_format", "return_state", "sequential_dict"},
    "2.2.4-tf": {"data_format", "return_state", "sequential_dict", "policy", "time_major", "batch_norm_v1"},
    "2.4.0": {"data_format", "return_state", "sequential_dict", "input_layer", "time_major", "functional", "groups"},
    "2.11.0": {"data_format", "return_state", "sequential_dict", "input_layer", "time_major", "functional", "groups"},
    "2.15.0": {
        *("data_format", "return_state", "sequential_dict", "input_layer", "time_major", "functional", "groups"),
        "modules",
    },
}

Entry = dict[str, Any]


def initializer(name: str, **config: Any) -> Entry:
    return {"class_name": name, "config": config}


def with_weights(*names: str) -> Entry:
    """What every layer with these weights says of how they began."""
    uniform = initializer("VarianceScaling", scale=1.0, mode="fan_avg", distribution="uniform", seed=None)
    return {f"{name}_initializer": uniform for name in names} | {
        f"{name}_{what}": None for name in names for what in ("regularizer", "constraint")
    }


def entry(class_name: str, age: set[str], **config: Any) -> Entry:
    common: Entry = {"trainable": True}
    if "policy" in age:
        common["dtype"] = {"class_name": "Policy", "config": {"name": "float32"}}
    elif "groups" in age:
        common["dtype"] = "float32"
    found = {"class_name": class_name, "config": {**common, **config}}
    if "modules" in age:
        found |= {"module": "keras.layers", "registered_name": None, "build_config": {"input_shape": SHAPE}}
    return found


def entries(age: set[str]) -> list[Entry]:
    """The layers after the input, as files of this age hold them."""
    conv = with_weights("kernel", "bias") | {"activation": "relu", "use_bias": True, "activity_regularizer": None}
    conv |= {"data_format": "channels_last"} if "data_format" in age else {}
    conv |= {"groups": 1} if "groups" in age else {}
    window = {"kernel_size": [3], "strides": [1], "padding": "valid", "dilation_rate": [1]}
    norm = {f"{name}_{what}": None for name in ("beta", "gamma") for what in ("regularizer", "constraint")}
    norm |= {"beta_initializer": initializer("Zeros"), "moving_mean_initializer": initializer("Zeros")}
    axis: Any = [2] if "batch_norm_v1" in age else -1
    lstm = with_weights("kernel", "recurrent", "bias") | {"go_backwards": False, "stateful": False, "unroll": False}
    lstm |= {"implementation": 1 if "return_state" in age else 0, "unit_forget_bias": True, "dropout": 0.0}
    lstm |= {"return_state": False} if "return_state" in age else {}
    lstm |= {"time_major": False} if "time_major" in age else {}
    lstm |= {"activation": "tanh", "recurrent_activation": "hard_sigmoid", "use_bias": True, "recurrent_dropout": 0.0}
    dense = with_weights("kernel", "bias") | {"use_bias": True, "activity_regularizer": None}
    inner = entry("LSTM", age, name="lstm_1", units=UNITS, return_sequences=True, **lstm)
    each = entry("Dense", age, name="dense_1", units=DENSE, activation="linear", **dense)
    flat = {"data_format": "channels_last"} if "sequential_dict" in age else {}
    norm_class = "BatchNormalizationV1" if "batch_norm_v1" in age else "BatchNormalization"
    return [
        entry("Conv1D", age, name="conv1d_1", filters=FILTERS, **window, **conv),
        entry(norm_class, age, name="bn", axis=axis, momentum=0.99, epsilon=0.001, center=True, scale=True, **norm),
        entry("Bidirectional", age, name="bidirectional_1", merge_mode="concat", layer=inner),
        entry("TimeDistributed", age, name="time_distributed_1", layer=each),
        entry("Flatten", age, name="flatten_1", **flat),
        entry("Dense", age, name="dense_2", units=2, activation="sigmoid", **dense),
    ]


def input_layer(age: set[str]) -> Entry:
    config = {"batch_input_shape": SHAPE, "dtype": "float32", "sparse": False, "name": "input_1"}
    return {"class_name": "InputLayer", "config": config | ({"ragged": False} if "functional" in age else {})}


def sequential(age: set[str]) -> Entry:
    found = entries(age)
    if "input_layer" in age:
        found = [input_layer(age), *found]
    else:
        found[0]["config"] |= {"batch_input_shape": SHAPE, "dtype": "float32"}
    return {"class_name": "Sequential", "config": {"name": "s", "layers": found} if "sequential_dict" in age else found}


def functional(age: set[str]) -> Entry:
    chain = [input_layer(age), *entries(age)]
    names = [item["config"]["name"] for item in chain]
    wired = [
        {**item, "name": name, "inbound_nodes": [[[before, 0, 0, {}]]] if before else []}
        for item, name, before in zip(chain, names, [None, *names], strict=False)
    ]
    ends = {"input_layers": [["input_1", 0, 0]], "output_layers": [["dense_2", 0, 0]]}
    class_name = "Functional" if "functional" in age else "Model"
    return {"class_name": class_name, "config": {"name": "model_1", "layers": wired, **ends}}


def weights() -> dict[str, dict[str, np.ndarray]]:
    """The arrays of each layer under the names that Keras gave them, in the order of the file."""
    rng = np.random.default_rng(5)

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.4, shape).astype("float32")

    def lstm(side: str) -> dict[str, np.ndarray]:
        shapes = {"kernel": (FILTERS, 4 * UNITS), "recurrent_kernel": (UNITS, 4 * UNITS), "bias": (4 * UNITS,)}
        return {f"bidirectional_1/{side}_lstm_1/{name}:0": drawn(*shape) for name, shape in shapes.items()}

    flat = (LENGTH - 2) * DENSE
    return {
        "conv1d_1": {"conv1d_1/kernel:0": drawn(3, 4, FILTERS), "conv1d_1/bias:0": drawn(FILTERS)},
        "bn": {
            f"bn/{name}:0": abs(drawn(FILTERS)) + 0.5 for name in ("gamma", "beta", "moving_mean", "moving_variance")
        },
        "bidirectional_1": lstm("forward") | lstm("backward"),
        "time_distributed_1": {f"time_distributed_1/{n}:0": drawn(*s) for n, s in (("kernel", (6, 4)), ("bias", (4,)))},
        "flatten_1": {},
        "dense_2": {"dense_2/kernel:0": drawn(flat, 2), "dense_2/bias:0": drawn(2)},
    }


def write_weights(group: h5py.Group, version: str) -> None:
    group.attrs["layer_names"] = [name.encode() for name in weights()]
    group.attrs["backend"] = b"tensorflow"
    group.attrs["keras_version"] = version.encode()
    for layer, arrays in weights().items():
        inner = group.create_group(layer)
        inner.attrs["weight_names"] = [name.encode() for name in arrays]
        for name, array in arrays.items():
            inner[name] = array


def hdf5_file(folder: Path, config: Entry, version: str) -> list[Path]:
    with h5py.File(folder / "m.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        file.attrs["keras_version"] = version.encode()
        file.attrs["backend"] = b"tensorflow"
        file.attrs["training_config"] = b'{"loss": "a_loss_of_ours", "metrics": ["mcc"], "optimizer_config": {}}'
        write_weights(file.create_group("model_weights"), version)
    return [folder / "m.h5"]


def json_and_weights(folder: Path, config: Entry, version: str) -> list[Path]:
    (folder / "m.json").write_text(json.dumps({**config, "keras_version": version, "backend": "tensorflow"}))
    with h5py.File(folder / "w.h5", "w") as file:
        write_weights(file, version)
    return [folder / "m.json", folder / "w.h5"]


@keras.saving.register_keras_serializable("tests")
def clipped_line(x):
    """What `hard_sigmoid` was."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def same_in_keras_3() -> keras.Model:
    """inp -> C -> BN -> Bidirectional(LSTM) -> TimeDistributed(D) -> F -> D"""

    lstm = layers.LSTM(UNITS, return_sequences=True, recurrent_activation=clipped_line)
    model = keras.Sequential(
        [
            keras.Input((LENGTH, 4)),
            layers.Conv1D(FILTERS, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Bidirectional(lstm),
            layers.TimeDistributed(layers.Dense(DENSE)),
            layers.Flatten(),
            layers.Dense(2, activation="sigmoid"),
        ]
    )
    for layer, arrays in zip(model.layers, weights().values(), strict=True):
        layer.set_weights(list(arrays.values()))
    return model


@pytest.mark.one_in(48)
@pytest.mark.parametrize("write", [hdf5_file, json_and_weights])
@pytest.mark.parametrize("graph", [sequential, functional])
@pytest.mark.parametrize("version", AGES)
def test_files_of_every_age(version, graph, write, tmp_path):
    path, *pair = write(tmp_path, graph(AGES[version]), version)
    loaded = load_model(path, weights=pair[0] if pair else None)
    assert isinstance(loaded, keras.Model)
    one_hot = np.eye(4, dtype="float32")[np.random.default_rng(1).integers(0, 4, (3, LENGTH))]
    np.testing.assert_allclose(np.asarray(loaded(one_hot)), np.asarray(same_in_keras_3()(one_hot)), rtol=1e-5)


@pytest.mark.one_in(48)
def test_an_old_file_is_fast(tmp_path):
    (path,) = hdf5_file(tmp_path, functional(AGES["2.0.5"]), "2.0.5")
    model = load_model(path)
    scorer = FastISM(model, engine="fast")
    assert [step.node.class_name for step in scorer.prepared.plan.steps if step.reason] == []
    report = verify(scorer, np.eye(4, dtype="float32")[np.random.default_rng(1).integers(0, 4, (1, LENGTH))])
    assert report.passed and report.judge == "float64"
