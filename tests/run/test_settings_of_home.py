"""A result depends on the command line and its inputs: Keras does not see what lies in the user's home."""

from __future__ import annotations

import json
import logging
import os
import runpy
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tf_keras

from fastism_cli.errors import UsageError
from fastism_cli.model.loading.load import load_model
from fastism_cli.run import start_backend
from tests.helpers.model_files import FILE_WARNINGS

pytestmark = FILE_WARNINGS

CONFIG = Path(keras.__file__).parent / "src" / "backend" / "config.py"
FILES = {
    "channels first": {"image_data_format": "channels_first"},
    "half": {"floatx": "float16"},
    "double, epsilon": {"floatx": "float64", "epsilon": 0.1},
    "theano": {"backend": "theano"},
    "a floatx that does not exist": {"floatx": "float7"},
    "a list": [1],
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of its own; environment variables are as they were, afterwards."""
    for name in ("KERAS_BACKEND", "KERAS_HOME", *start_backend.IGNORED_VARIABLES):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("said", FILES.values(), ids=FILES)
@pytest.mark.parametrize("by_variable", [False, True])
def test_keras_does_not_read_the_file_of_the_user(said, by_variable, home, monkeypatch):
    folder = home / ("elsewhere" if by_variable else ".keras")
    folder.mkdir()
    (folder / "keras.json").write_text(json.dumps(said))
    if by_variable:
        monkeypatch.setenv("KERAS_HOME", str(folder))
    monkeypatch.setenv("KERAS_MAX_EPOCHS", "many")
    start_backend.ignore_settings_of_home()
    found = runpy.run_path(str(CONFIG))  # what Keras does when it is imported
    assert found["_config_path"] == os.path.join(os.devnull, "keras.json")
    usual = {name: found[f"_{name.upper()}"] for name in start_backend.USUAL_SETTINGS}
    assert usual == start_backend.USUAL_SETTINGS
    assert json.loads((folder / "keras.json").read_text()) == said


def test_no_file_is_made_in_the_home(home):
    start_backend.ignore_settings_of_home()
    runpy.run_path(str(CONFIG))
    assert list(home.iterdir()) == []


def test_what_is_not_read_is_said(home, caplog):
    (home / ".keras").mkdir()
    (home / ".keras" / "keras.json").write_text('{"backend": "theano", "floatx": "float32", "epsilon": 1e-07}')
    caplog.set_level(logging.INFO)
    start_backend.ignore_settings_of_home()
    start_backend.ignore_settings_of_home()
    (line,) = caplog.messages
    assert line.startswith(f"{home}/.keras/keras.json is not read (it says backend 'theano')")


def test_a_backend_that_does_not_exist_is_one_line(home, monkeypatch):
    def refuse():
        raise ValueError("Unable to import backend : theano\nmore")

    monkeypatch.setenv("KERAS_BACKEND", "theano")
    monkeypatch.setattr("fastism_cli.model.backend.device_kind", refuse)
    monkeypatch.setattr(start_backend, "use_compile_cache", lambda: None)
    with pytest.raises(UsageError, match=r"backend 'theano' \(Unable to import backend : theano\). Choose another"):
        start_backend.import_backend()


def as_keras_2_0(model, path: Path) -> Path:
    """An HDF5 file of early Keras 2, which left out what was the default."""
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            for key in ("data_format", "keepdims", "groups", "dtype"):
                layer["config"].pop(key, None)
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.0.8"
    return path


def pooled():
    """x -> C -> max pool -> average pool -> flatten, and their global average -> y."""
    x = inputs = tf_keras.Input((24, 4))
    x = tf_keras.layers.Conv1D(6, 5, padding="same", activation="relu")(x)
    x = tf_keras.layers.AveragePooling1D(2)(tf_keras.layers.MaxPooling1D(2)(x))
    both = [tf_keras.layers.GlobalAveragePooling1D()(x), tf_keras.layers.Flatten()(x)]
    return tf_keras.Model(inputs, tf_keras.layers.Dense(1)(tf_keras.layers.Concatenate()(both)))


def test_defaults_of_the_process_do_not_change_a_file(tmp_path):
    model = pooled()
    path = as_keras_2_0(model, tmp_path / "old.h5")
    before = keras.config.floatx(), keras.config.epsilon()
    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float16")
    try:
        loaded = load_model(path)
        assert keras.config.image_data_format() == "channels_first" and keras.config.floatx() == "float16"
    finally:
        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx(before[0])
    assert {variable.dtype for variable in loaded.variables} == {"float32"}
    x = np.random.default_rng(0).normal(size=(3, 24, 4)).astype("float32")
    np.testing.assert_allclose(loaded(x), model(x), rtol=0, atol=1e-6)
    assert (keras.config.floatx(), keras.config.epsilon()) == before
