"""Model files to test with: `tf_keras` is Keras 2, and writes files as Keras 2.15 did; editing the configuration makes
them older."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tf_keras
from tf_keras import layers as k2

from fastism_cli.model.loading.config_entries import all_entries

REAL = Path(__file__).parents[3] / "shared" / "real"

LENGTH = 24

SMALL_BACKEND = next((backend for backend, needs in {"jax": "jax", "numpy": "scipy"}.items() if find_spec(needs)), None)

FILE_WARNINGS = [
    # Keras, when it writes a model and when it predicts with numpy 2
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
]


@pytest.fixture(autouse=True)
def fresh_names() -> None:
    tf_keras.backend.reset_uids()


def sequential(*layers: Any) -> Any:
    return with_random_weights(tf_keras.Sequential([k2.Input((LENGTH, 4)), *layers]))


def with_random_weights(model: Any) -> Any:
    rng = np.random.default_rng(7)
    for weight in model.weights:
        low, high = (0.5, 1.0) if len(weight.shape) == 1 else (-0.4, 0.4)  # variances are not negative
        weight.assign(rng.uniform(low, high, weight.shape))
    return model


def one_hot(model: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    shapes = [(3, *tensor.shape[1:]) for tensor in model.inputs]
    sequences = [np.eye(4, dtype="float32")[rng.integers(0, 4, shape[:-1])] for shape in shapes]
    return [
        sequence if sequence.shape == shape else rng.normal(size=shape).astype("float32")
        for sequence, shape in zip(sequences, shapes, strict=True)
    ]


def predictions(model: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    found = model(inputs if len(inputs) > 1 else inputs[0])
    return [np.asarray(item) for item in (found if isinstance(found, (list, tuple)) else [found])]


def assert_same(loaded: Any, written_by: Any) -> None:
    inputs = one_hot(written_by)
    found, wanted = predictions(loaded, inputs), predictions(written_by, inputs)
    assert len(found) == len(wanted)
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def saved(model: Any, path: Path) -> Path:
    model.save(path)
    return path


def edit_config(path: Path, edit: Callable[[dict[str, Any]], None], **attributes: str) -> None:
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        edit(config)
        file.attrs["model_config"] = json.dumps(config)
        file.attrs.update(attributes)
        file["model_weights"].attrs.update(attributes)


def edit_zip(path: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    edit(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, "config.json": json.dumps(config).encode()}.items():
            archive.writestr(name, content)
    return path


def layer_configs(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (entry["config"] for entry in all_entries(config["config"]) if isinstance(entry["config"], dict))


def no_modules(config: dict[str, Any]) -> None:
    for entry in all_entries(config["config"]):
        entry.pop("module", None)
        entry.pop("registered_name", None)


def conv_block() -> Any:
    return sequential(
        k2.Conv1D(6, 5, activation="relu"),
        k2.BatchNormalization(),
        k2.MaxPooling1D(3),
        k2.Flatten(),
        k2.Dense(2, activation="sigmoid"),
    )


def nested() -> Any:
    """a, b -> inner -> sequential -> Concatenate -> attention -> mean -> Dense; inner is called twice."""
    inside = x = k2.Input((LENGTH, 4))
    left = k2.BatchNormalization()(k2.Conv1D(4, 3, padding="same")(x))
    inner = tf_keras.Model(inside, k2.Add()([left, k2.Conv1D(4, 3, padding="same")(x)]), name="inner")
    shared = tf_keras.Sequential([k2.Dense(4), k2.BatchNormalization()], name="shared")
    a, b = k2.Input((LENGTH, 4)), k2.Input((LENGTH, 4))
    x = k2.Concatenate(axis=1)([shared(inner(a)), shared(inner(b))])
    x = k2.GlobalAveragePooling1D()(k2.MultiHeadAttention(2, 3)(x, x))
    return with_random_weights(tf_keras.Model([a, b], [k2.Dense(2)(x), shared(inner(a))]))


def unchanged(config: dict[str, Any]) -> None:
    """As tf_keras writes it today."""


def keras3_model() -> Any:
    layers = keras.layers
    inputs = x = keras.Input((LENGTH, 4))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(layers.Conv1D(5, 3, activation="hard_sigmoid")(x))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def kept_from_tensorflow(model: Any) -> list[str]:
    """Names of the layers that have no equal in Keras 3."""
    from fastism_cli.model.loading.from_tf_keras import Borrowed

    assert isinstance(model, keras.Model)
    return [layer.name for layer in model.layers if isinstance(layer, Borrowed)]


def tensorflow_functions() -> Any:
    inputs = x = k2.Input((LENGTH, 4))
    x = k2.Conv1D(4, 3)(x)
    x = x[:, ::-1] * 2.0 + x
    return with_random_weights(tf_keras.Model(inputs, k2.Dense(2)(k2.Flatten()(x))))


def save_as(model: Any, folder: Path, ending: str) -> Path:
    if ending == "folder":
        model.save(folder / "m", save_format="tf")
        return folder / "m"
    return saved(model, folder / f"m{ending}")
