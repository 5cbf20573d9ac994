"""Every rung of the ladder on a file that really has the fault, and the guard against code in files.

`tf_keras` is Keras 2: it writes files as Keras 2.15 did, and editing the configuration makes them older. What the model
that wrote a file predicts is what the loaded one must predict.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np
import pytest
import tf_keras
from tf_keras import layers as k2

from fastism_cli.errors import ModelError
from fastism_cli.graph import output_names
from fastism_cli.io.model_config import all_entries
from fastism_cli.io.model_repair import HARMLESS, LAYER_REPAIRS, RENAMED, repair_config
from fastism_cli.io.model_scan import is_tensor_function
from fastism_cli.io.models import describe_problems, load_model, read_model_file

REAL = Path(__file__).parents[2] / "shared" / "real"
LENGTH = 24
SMALL_BACKEND = next((backend for backend, needs in {"jax": "jax", "numpy": "scipy"}.items() if find_spec(needs)), None)

pytestmark = [
    # Keras, when it writes a model and when it predicts with numpy 2
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
]


@pytest.fixture(autouse=True)
def _fresh_names() -> None:
    tf_keras.backend.reset_uids()


# --- making files -----------------------------------------------------------------------------------------------------


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


# --- faults of older files --------------------------------------------------------------------------------------------


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


def no_modules(config: dict[str, Any]) -> None:
    for entry in all_entries(config["config"]):
        entry.pop("module", None)
        entry.pop("registered_name", None)


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


def unchanged(config: dict[str, Any]) -> None:
    """As tf_keras writes it today."""


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


def test_every_repair_is_exercised() -> None:
    """Each row of the table changes the configuration of some model above, or of a Lambda layer."""
    configs = [Aged(lambda: sequential(k2.Lambda(abs)), unchanged, ""), *AGED.values()]
    idle = {repair.cure.__name__ for repair in LAYER_REPAIRS}
    for build, age, _ in configs:
        config = json.loads(build().to_json())
        age(config)
        idle -= _repairs_that_act(config)
    assert idle == set()


def _repairs_that_act(config: dict[str, Any]) -> set[str]:
    from fastism_cli.io import model_repair

    acting = set()

    def watched(repair: Any) -> Any:
        def cure(layer: dict[str, Any], context: Any) -> None:
            before = json.dumps(layer)
            repair.cure(layer, context)
            if json.dumps(layer) != before:
                acting.add(repair.cure.__name__)

        return repair._replace(cure=cure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_repair, "LAYER_REPAIRS", tuple(watched(repair) for repair in LAYER_REPAIRS))
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


# --- formats ----------------------------------------------------------------------------------------------------------


def keras3_model() -> Any:
    layers = keras.layers
    inputs = x = keras.Input((LENGTH, 4))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(layers.Conv1D(5, 3, activation="hard_sigmoid")(x))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def unpacked(path: Path) -> Path:
    folder = path.with_suffix("")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def save_pair(model: Any, folder: Path, weights: str) -> tuple[Path, Path]:
    (folder / "m.json").write_text(model.to_json())
    (model.save if weights.endswith(".keras") else model.save_weights)(folder / weights)
    return folder / "m.json", folder / weights


FORMATS: dict[str, Callable[[Any, Path], tuple[Path, ...]]] = {
    ".h5": lambda model, folder: (saved(model, folder / "m.h5"),),
    ".hdf5": lambda model, folder: (saved(model, folder / "m.h5").rename(folder / "m.hdf5"),),
    "HDF5 named .keras": lambda model, folder: (saved(model, folder / "m.h5").rename(folder / "m.keras"),),
    "HDF5 without ending": lambda model, folder: (saved(model, folder / "m.h5").rename(folder / "model"),),
    ".keras": lambda model, folder: (saved(model, folder / "m.keras"),),
    "zip named .h5": lambda model, folder: (saved(model, folder / "m.keras").rename(folder / "m.h5"),),
    "unpacked .keras": lambda model, folder: (unpacked(saved(model, folder / "m.keras")),),
    ".json and .weights.h5": lambda model, folder: save_pair(model, folder, "w.weights.h5"),
    ".json and .keras": lambda model, folder: save_pair(model, folder, "w.keras"),
}


@pytest.mark.parametrize("writer", ["keras 2", "keras 3"])
@pytest.mark.parametrize("name", FORMATS)
def test_format_is_found_by_content(name: str, writer: str, tmp_path: Path) -> None:
    model = conv_block() if writer == "keras 2" else keras3_model()
    path, *weights = FORMATS[name](model, tmp_path)
    loaded = load_model(path, weights=weights[0] if weights else None)
    assert isinstance(loaded, keras.Model)
    assert_same(loaded, model)


def test_json_and_legacy_weights_of_every_kind(tmp_path: Path) -> None:
    model = conv_block()
    (tmp_path / "m.json").write_text(json.dumps(model.to_json()))  # encoded twice, as json.dump(model.to_json()) does
    model.save_weights(tmp_path / "w.h5")
    for weights in (tmp_path / "w.h5", saved(model, tmp_path / "m.h5")):
        assert_same(load_model(tmp_path / "m.json", weights=weights), model)


def test_weights_replace_those_of_a_whole_model(tmp_path: Path) -> None:
    old, new = conv_block(), conv_block()
    new.layers[0].set_weights([weight * 2 for weight in new.layers[0].get_weights()])
    path = saved(old, tmp_path / "m.h5")
    new.save_weights(tmp_path / "new.h5")
    assert_same(load_model(path, weights=tmp_path / "new.h5"), new)


def test_saved_model_folder_becomes_a_keras_3_model(tmp_path: Path) -> None:
    model = nested()
    model.save(tmp_path / "m", save_format="tf")
    loaded = load_model(tmp_path / "m")
    assert isinstance(loaded, keras.Model)
    assert_same(loaded, model)


class Tripled(k2.Layer):
    def call(self, x: Any) -> Any:
        return x * 3


def kept_from_tensorflow(model: Any) -> list[str]:
    """Names of the layers that have no equal in Keras 3."""
    from fastism_cli.io.model_lift import Borrowed

    assert isinstance(model, keras.Model)
    return [layer.name for layer in model.layers if isinstance(layer, Borrowed)]


def test_saved_model_with_an_unknown_class_is_opaque_there_alone(tmp_path: Path) -> None:
    model = sequential(k2.Conv1D(3, 3), Tripled(name="tripled"), k2.Conv1D(2, 3), k2.Flatten())
    model.save(tmp_path / "m", save_format="tf")
    loaded = load_model(tmp_path / "m")
    assert kept_from_tensorflow(loaded) == ["tripled"]
    assert_same(loaded, model)


def test_a_class_for_keras_3_does_not_stand_in_the_way_of_a_saved_model(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("import keras\n\nclass Tripled(keras.layers.Layer):\n    def call(self, x):\n        return x * 3\n")
    model = sequential(k2.Conv1D(3, 3), Tripled(name="tripled"), k2.Flatten())
    model.save(tmp_path / "m", save_format="tf")
    assert_same(load_model(tmp_path / "m", custom_objects=[str(own)]), model)


def test_saved_model_of_a_subclass_is_one_node(tmp_path: Path) -> None:
    class Hidden(tf_keras.Model):
        def __init__(self) -> None:
            super().__init__(name="hidden")
            self.conv, self.flat = k2.Conv1D(3, 3), k2.Flatten()

        def call(self, x: Any) -> Any:
            return self.flat(self.conv(x))

    model = Hidden()
    inputs = np.eye(4, dtype="float32")[np.random.default_rng(3).integers(0, 4, (3, LENGTH))]
    wanted = model.predict(inputs, verbose=0)
    model.save(tmp_path / "m", save_format="tf")
    loaded = load_model(tmp_path / "m")
    assert kept_from_tensorflow(loaded) == ["hidden"]
    np.testing.assert_allclose(predictions(loaded, [inputs])[0], wanted, rtol=1e-5)


def locally_connected() -> Any:
    return sequential(k2.LocallyConnected1D(3, 4), k2.ThresholdedReLU(0.3), k2.Flatten(), k2.Dense(2))


def tensorflow_functions() -> Any:
    inputs = x = k2.Input((LENGTH, 4))
    x = k2.Conv1D(4, 3)(x)
    x = x[:, ::-1] * 2.0 + x
    return with_random_weights(tf_keras.Model(inputs, k2.Dense(2)(k2.Flatten()(x))))


def many_functions() -> Any:
    """Functions of TensorFlow as people write them into a model: by operators, by name, with constants."""
    import tensorflow as tf

    inputs = x = k2.Input((LENGTH, 4))
    y = k2.Conv1D(4, 3, padding="same", name="shared")(x)
    x = tf.concat([tf.nn.relu(y), tf.exp(-tf.abs(x)), y[:, ::-1, ::-1]], axis=-1)
    x = tf.reshape(tf.transpose(x, [0, 2, 1]), [-1, 12, LENGTH])
    x = tf.linalg.matmul(x, x, transpose_b=True)
    x = tf.math.log(1.0 + tf.square(x)) / 2.0 - tf.reduce_mean(x, axis=1, keepdims=True)
    x = tf.pad(tf.clip_by_value(x, -5.0, 5.0), [[0, 0], [1, 1], [0, 0]])
    return with_random_weights(tf_keras.Model(inputs, k2.Dense(2)(tf.reduce_max(x, axis=1))))


def function_without_an_equal() -> Any:
    import tensorflow as tf

    inputs = x = k2.Input((LENGTH, 4))
    x = tf.math.cumsum(k2.Conv1D(4, 3)(x), axis=1)
    return with_random_weights(tf_keras.Model(inputs, k2.Dense(2)(k2.Flatten()(x))))


def shared_and_nested() -> Any:
    """inner (with a function) is called twice, shared three times."""
    inside = k2.Input((LENGTH, 4))
    inner = tf_keras.Model(inside, k2.Dense(4)(inside) * 2.0, name="inner")
    inputs, shared = k2.Input((LENGTH, 4)), k2.Dense(4)
    x = k2.Concatenate()([inner(shared(inputs)), shared(inner(shared(inputs)))])
    return with_random_weights(tf_keras.Model(inputs, [k2.Flatten(name="b")(x), k2.GlobalMaxPooling1D(name="a")(x)]))


WITHOUT_EQUAL = {function_without_an_equal: ["tf.math.cumsum"]}


@pytest.mark.parametrize(
    "build", [locally_connected, tensorflow_functions, many_functions, function_without_an_equal, shared_and_nested]
)
@pytest.mark.parametrize("ending", [".h5", ".keras", "folder"])
def test_what_keras_3_does_not_have(build: Callable[[], Any], ending: str, tmp_path: Path) -> None:
    """Layers and functions of Keras 2 become a model of Keras 3, but for those that have no equal there."""
    model = build()
    loaded = load_model(save_as(model, tmp_path, ending))
    assert kept_from_tensorflow(loaded) == WITHOUT_EQUAL.get(build, [])
    assert output_names(loaded) == model.output_names
    assert_same(loaded, model)


def test_a_twin_that_predicts_something_else_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastism_cli.io import tf_operations

    model = function_without_an_equal()
    monkeypatch.setitem(tf_operations.OTHERS, "cumsum", lambda x, axis: x)
    loaded = load_model(saved(model, tmp_path / "m.h5"))
    assert isinstance(loaded, tf_keras.Model)
    assert_same(loaded, model)


def test_inner_compiled_model_with_own_loss(tmp_path: Path) -> None:
    def own_loss(wanted: Any, found: Any) -> Any:
        return wanted - found

    inner = keras.Sequential([keras.Input((LENGTH, 4)), keras.layers.Dense(3)])
    inner.compile("adam", own_loss)
    model = keras.Sequential([keras.Input((LENGTH, 4)), inner, keras.layers.Flatten()])
    assert_same(load_model(saved(model, tmp_path / "m.keras")), model)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real models are not beside this checkout")
@pytest.mark.parametrize("name", ["tal1.h5", "mpra_dragonn.h5", "xpresso_human.h5"])
def test_real_models(name: str) -> None:
    reference = tf_keras.models.load_model(REAL / name, compile=False)
    loaded = load_model(REAL / name)
    assert isinstance(loaded, keras.Model)
    assert_same(loaded, reference)


@pytest.mark.skipif(SMALL_BACKEND is None, reason="neither jax nor the numpy backend of Keras (scipy) is installed")
def test_reads_without_tensorflow(tmp_path: Path) -> None:
    paths = [str(saved(conv_block(), tmp_path / "old.h5")), str(saved(keras3_model(), tmp_path / "new.keras"))]
    script = f"""
        import sys
        sys.modules["tensorflow"] = sys.modules["tf_keras"] = None
        from fastism_cli.io.models import load_model
        for path in {paths!r}:
            print(load_model(path).count_params())
    """
    run = _python(script, KERAS_BACKEND=str(SMALL_BACKEND))
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.split()) == 2


def test_looking_at_a_file_imports_no_keras(tmp_path: Path) -> None:
    path = saved(conv_block(), tmp_path / "m.h5")
    script = f"""
        import sys
        from fastism_cli.io.model_files import read_model_file
        assert read_model_file({str(path)!r}).kind == "hdf5"
        assert not {{"keras", "tensorflow"}} & set(sys.modules)
    """
    run = _python(script)
    assert run.returncode == 0, run.stderr


def _python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    search = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(search), **environment}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, env=variables, check=False)


def test_the_terminal_stays_clean(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = saved(nested(), tmp_path / "m.h5")
    folder = tmp_path / "folder"
    conv_block().save(folder, save_format="tf")
    capfd.readouterr()
    load_model(path)
    load_model(folder)
    assert capfd.readouterr() == ("", "")


# --- code in files ----------------------------------------------------------------------------------------------------


def with_lambda(trace: Path) -> Any:
    def leave_a_trace(x: Any, path: str = str(trace)) -> Any:
        open(path, "a").close()
        return x * 2

    code = FunctionType(leave_a_trace.__code__, {"open": open}, "<lambda>", leave_a_trace.__defaults__)
    model = sequential(k2.Conv1D(3, 3), k2.Lambda(code, name="logcounts"), k2.Flatten())
    trace.unlink()
    return model


def save_as(model: Any, folder: Path, ending: str) -> Path:
    if ending == "folder":
        model.save(folder / "m", save_format="tf")
        return folder / "m"
    return saved(model, folder / f"m{ending}")


REFUSED_LAMBDA = (
    "1 layer cannot be loaded from {path}:\n"
    "  'logcounts': a Lambda layer runs code stored in the file; pass --allow-lambda if you trust it"
)


@pytest.mark.parametrize("ending", [".h5", ".keras", "folder"])
def test_lambda_runs_only_when_allowed(ending: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    model = with_lambda(trace)
    path = save_as(model, tmp_path, ending)
    trace.unlink(missing_ok=True)
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert str(caught.value) == REFUSED_LAMBDA.format(path=path)
    assert not trace.exists()
    assert_same(load_model(path, allow_lambda=True), model)
    assert trace.exists()


def test_own_function_replaces_the_code_of_a_lambda(tmp_path: Path) -> None:
    trace, own = tmp_path / "trace", tmp_path / "own.py"
    model = with_lambda(trace)
    own.write_text("def logcounts(x):\n    return x + x\n")
    for path in (saved(model, tmp_path / "m.h5"), saved(model, tmp_path / "m.keras")):
        trace.unlink(missing_ok=True)
        loaded = load_model(path, custom_objects=[str(own)])
        assert isinstance(loaded, keras.Model)
        predictions(loaded, one_hot(loaded))
        assert not trace.exists()
        assert_same(loaded, model)


def test_lambda_of_keras_3(tmp_path: Path) -> None:
    double = keras.layers.Lambda(lambda x: x * 2, name="logcounts")
    model = keras.Sequential([keras.Input((LENGTH, 4)), double])
    for name in ("m.keras", "m.h5"):
        path = saved(model, tmp_path / name)
        with pytest.raises(ModelError) as caught:
            load_model(path)
        assert str(caught.value) == REFUSED_LAMBDA.format(path=path)
        assert_same(load_model(path, allow_lambda=True), model)


def in_module(module: str, name: str) -> Callable[[dict[str, Any]], None]:
    def edit(config: dict[str, Any]) -> None:
        layer = config["config"]["layers"][1]
        layer.update(module=module, class_name=name, registered_name=name)

    return edit


def with_activation(module: str, name: str) -> Callable[[dict[str, Any]], None]:
    def edit(config: dict[str, Any]) -> None:
        function = {"module": module, "class_name": "function", "config": name, "registered_name": name}
        config["config"]["layers"][1]["config"]["activation"] = function

    return edit


FOREIGN = {
    "class": (in_module("bystander", "Layer"), "class Layer is not known; pass --custom-objects FILE.py"),
    "function": (with_activation("bystander", "run"), "function run is not known; pass --custom-objects FILE.py"),
    "builtin": (with_activation("builtins", "exec"), "function exec is not known; pass --custom-objects FILE.py"),
    "download": (with_activation("keras.utils", "get_file"), "function get_file is not known"),
    "load": (with_activation("keras.models", "load_model"), "function load_model is not known"),
}


@pytest.mark.parametrize("allow_lambda", [False, True])
@pytest.mark.parametrize("writer", [keras, tf_keras], ids=["keras 3", "keras 2"])
@pytest.mark.parametrize("what", FOREIGN)
def test_nothing_is_imported_from_elsewhere(
    what: str, writer: Any, allow_lambda: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, message = FOREIGN[what]
    (tmp_path / "bystander.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = writer.Sequential([writer.Input((LENGTH, 4)), writer.layers.Dense(3, name="head")])
    path = edit_zip(saved(model, tmp_path / "m.keras"), edit)
    with pytest.raises(ModelError, match=message):
        load_model(path, allow_lambda=allow_lambda)
    assert "bystander" not in sys.modules


def test_tensorflow_function_that_loads_a_library_is_code(tmp_path: Path) -> None:
    path = saved(tensorflow_functions(), tmp_path / "m.h5")

    def load_library(config: dict[str, Any]) -> None:
        for layer in layer_configs(config):
            if layer.get("function") == "math.multiply":
                layer["function"] = "load_op_library"

    edit_config(path, load_library)
    with pytest.raises(ModelError, match="a TFOpLambda layer runs code stored in the file"):
        load_model(path)


@pytest.mark.parametrize("symbol", ["math.add", "__operators__.add", "nn.relu", "reverse", "compat.v1.transpose"])
def test_arithmetic_is_allowed(symbol: str) -> None:
    assert is_tensor_function(symbol)


@pytest.mark.parametrize("symbol", ["py_function", "load_library", "io.write_file", "raw_ops.WriteFile", "print", ""])
def test_what_is_not_arithmetic_is_code(symbol: str) -> None:
    assert not is_tensor_function(symbol)


# --- custom objects ---------------------------------------------------------------------------------------------------

OWN_LAYER = """
import keras
from keras.layers import Dense

class AttentionPooling1D(keras.layers.Layer):
    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.query = self.add_weight(shape=(input_shape[-1], 1), initializer="ones", name="query")

    def call(self, x):
        return keras.ops.sum(keras.ops.softmax(x @ self.query, axis=1) * x, axis=1) * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}

def cube(x):
    return x * x * x
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module in the working directory, which a console script does not search by itself."""
    name = f"own_{tmp_path.name}"
    path = tmp_path / f"{name}.py"
    path.write_text(OWN_LAYER)
    monkeypatch.chdir(tmp_path)
    yield path
    sys.modules.pop(name, None)


def own_model(module: Path) -> Any:
    space: dict[str, Any] = {"__name__": "written_elsewhere"}
    exec(compile(module.read_text(), str(module), "exec"), space)
    layers = keras.layers
    pooling = space["AttentionPooling1D"](2.0, name="attention_1")
    cubed = layers.Dense(3, activation=space["cube"], name="cubed")
    return keras.Sequential([keras.Input((LENGTH, 4)), layers.Conv1D(4, 3), pooling, cubed])


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("spec", ["{file}", "{module}", "{module}:AttentionPooling1D {module}:cube"])
def test_custom_objects(spec: str, ending: str, own_module: Path) -> None:
    model = own_model(own_module)
    path = saved(model, own_module.with_name(f"m{ending}"))
    specs = spec.format(file=own_module, module=own_module.stem).split()
    assert_same(load_model(path, custom_objects=specs), model)


def test_custom_layer_in_a_file_of_keras_2(own_module: Path) -> None:
    model = sequential(k2.Conv1D(4, 3), k2.Dense(1, use_bias=False, name="attention_1"))
    path = saved(model, own_module.with_name("m.h5"))

    def own_class(config: dict[str, Any]) -> None:
        entry = config["config"]["layers"][2]
        entry.update(class_name="Custom>AttentionPooling1D", config={"name": "attention_1", "factor": 2.0})
        entry["config"]["batch_input_shape"] = [None, LENGTH, 4]

    edit_config(path, own_class)
    loaded = load_model(path, custom_objects=[str(own_module)])
    scores = model.layers[0](one_hot(model)[0]).numpy()
    weights = np.exp(scores @ model.layers[1].kernel.numpy())
    wanted = 2 * np.sum(weights / weights.sum(axis=1, keepdims=True) * scores, axis=1)
    np.testing.assert_allclose(predictions(loaded, one_hot(loaded))[0], wanted, rtol=1e-5)


def test_a_user_class_may_have_the_name_of_a_layer(tmp_path: Path) -> None:
    model = sequential(k2.Dense(4), k2.Flatten())
    path = saved(model, tmp_path / "m.h5")
    edit_config(path, no_modules)
    edit_config(path, lambda config: config["config"]["layers"][2].update(class_name="Attention"))
    own = tmp_path / "own.py"
    own.write_text("import keras\n\nclass Attention(keras.layers.Flatten):\n    pass\n")
    assert_same(load_model(path, custom_objects=[str(own)]), model)


BAD_OBJECTS = {
    "missing.py": r"--custom-objects missing.py: no such file",
    "broken.py": r"--custom-objects broken.py does not import: line 2: NameError: name 'K' is not defined",
    "leaves.py": r"--custom-objects leaves.py does not import: line 1: SystemExit: 3",
    "empty.py": r"--custom-objects empty.py: defines no class and no function",
    "no_such_package.layers": r"no_such_package.layers does not import: ModuleNotFoundError: No module named",
    "json:Attention": r"--custom-objects json:Attention: json has no Attention",
}


@pytest.mark.parametrize("spec", BAD_OBJECTS)
def test_bad_custom_objects(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(conv_block(), tmp_path / "m.h5")
    (tmp_path / "broken.py").write_text("import keras\nx = K.sum\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "empty.py").write_text("import keras\nfrom keras.layers import Dense\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=BAD_OBJECTS[spec]):
        load_model(path, custom_objects=[spec])


# --- errors -----------------------------------------------------------------------------------------------------------


def test_the_error_names_each_layer_and_the_flag(own_module: Path) -> None:
    model = own_model(own_module)
    path = saved(model, own_module.with_name("m.h5"))
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert str(caught.value) == (
        f"2 layers cannot be loaded from {path}:\n"
        "  'attention_1': class AttentionPooling1D is not known; pass --custom-objects FILE.py\n"
        "  'cubed': function cube is not known; pass --custom-objects FILE.py"
    )


def test_problems_of_every_kind_are_listed() -> None:
    config = {
        "class_name": "Sequential",
        "config": [
            {"class_name": "Conv1D", "config": {"name": "c", "filters": 2, "kernel_size": 3, "activation": "cube"}},
            {"class_name": "AttentionPooling1D", "config": {"name": "attention_1"}},
            {"class_name": "Lambda", "config": {"name": "logcounts", "function": ["4wE=", None, None]}},
            {"class_name": "Dense", "config": {"name": "d", "units": 1, "sparsity": 0.5}},
        ],
    }
    assert describe_problems(config) == [
        "'c': activation cube is not known; pass --custom-objects FILE.py",
        "'attention_1': class AttentionPooling1D is not known; pass --custom-objects FILE.py",
        "'logcounts': a Lambda layer runs code stored in the file; pass --allow-lambda if you trust it",
        "'d': Dense does not take sparsity=0.5; a class of that name in --custom-objects FILE.py may",
    ]


def cut(path: Path, keep: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def weights_only(folder: Path, name: str) -> Path:
    conv_block().save_weights(folder / name)
    return folder / name


def other_hdf5(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["x"] = 1
    return path


def npz(path: Path) -> Path:
    np.savez(path, x=np.zeros(3))
    return path


def empty_folder(path: Path) -> Path:
    path.mkdir()
    return path


def keras1(path: Path) -> Path:
    saved(conv_block(), path)
    edit_config(path, unchanged, keras_version="1.2.2")
    return path


def checkpoint(path: Path) -> Path:
    written(path.with_name(f"{path.name}.index"), b"index")
    return path


WRONG = {
    "missing": (lambda folder: folder / "m.h5", "m.h5: no such file or folder"),
    "FASTA": (lambda folder: written(folder / "hg38.fa", b">chr1\nACGT\n"), "hg38.fa looks like FASTA; give a .keras"),
    "empty": (lambda folder: written(folder / "m.h5", b""), "m.h5 is empty"),
    "gzip": (lambda folder: written(folder / "m.h5.gz", b"\x1f\x8b\x08"), "is gzip-compressed: unpack it first"),
    "pickle": (lambda folder: written(folder / "m.pkl", b"\x80\x04\x95"), "is a Python pickle, which is never read"),
    "text": (lambda folder: written(folder / "m.yaml", b"class_name: Model"), "m.yaml is not a Keras model"),
    "half an HDF5": (lambda folder: cut(saved(conv_block(), folder / "m.h5"), 0.5), "m.h5 is damaged or incomplete"),
    "start of an HDF5": (lambda folder: cut(saved(conv_block(), folder / "m.h5"), 0.001), "is damaged or incomplete"),
    "half a zip": (
        lambda folder: cut(saved(conv_block(), folder / "m.keras"), 0.5),
        "is damaged or incomplete",
    ),
    "other zip": (lambda folder: npz(folder / "m.npz"), "is a zip archive without a Keras model in it"),
    "other HDF5": (lambda folder: other_hdf5(folder / "x.h5"), "is an HDF5 file without a Keras model in it"),
    "weights only": (lambda folder: weights_only(folder, "w.h5"), "holds weights only: give the architecture .json"),
    "new weights": (lambda folder: weights_only(folder, "w.weights.h5"), "w.weights.h5 holds weights only"),
    "json only": (lambda folder: written(folder / "m.json", conv_block().to_json().encode()), "with --weights FILE.h5"),
    "bad json": (lambda folder: written(folder / "m.json", b'{"class_name": '), "m.json is not readable JSON"),
    "other json": (lambda folder: written(folder / "m.json", b'{"a": 1}'), "m.json holds no Keras model"),
    "folder": (lambda folder: empty_folder(folder / "m"), "is a folder without saved_model.pb or config.json"),
    "Keras 1": (lambda folder: keras1(folder / "m.h5"), r"was saved by Keras 1\.2\.2: load and save it once"),
    "checkpoint": (lambda folder: checkpoint(folder / "m"), "is a TensorFlow checkpoint"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_a_model(what: str, tmp_path: Path) -> None:
    make, message = WRONG[what]
    path = make(tmp_path)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_serving_graph_is_one_node(tmp_path: Path) -> None:
    model = keras3_model()
    model.export(tmp_path / "m", verbose=False)
    loaded = load_model(tmp_path / "m")
    assert kept_from_tensorflow(loaded) == ["saved_model"]
    assert_same(loaded, model)


def test_graph_that_reads_a_file_runs_only_when_allowed(tmp_path: Path) -> None:
    import tensorflow as tf

    (tmp_path / "secret").write_text("x")

    class Reader(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, LENGTH, 4), tf.float32, name="dna")])
        def serve(self, x: Any) -> Any:
            size = tf.strings.length(tf.io.read_file(str(tmp_path / "secret")))
            return {"out": tf.reduce_sum(x, axis=[1, 2])[:, None] + tf.cast(size, tf.float32)}

    module = Reader()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.serve)
    with pytest.raises(ModelError, match=r"operations that reach out of the model \(ReadFile\); pass --allow-lambda"):
        load_model(tmp_path / "m")
    loaded = load_model(tmp_path / "m", allow_lambda=True)
    assert loaded.output_names == ["out"]
    np.testing.assert_allclose(predictions(loaded, [np.zeros((2, LENGTH, 4), "float32")])[0], [[1], [1]])


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(conv_block(), tmp_path / "m.h5")

    def denied(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ModelError, match=r"m\.h5 cannot be read: Permission denied"):
        read_model_file(path)


def test_weights_of_another_model(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(conv_block().to_json())
    sequential(k2.Dense(2, name="head")).save_weights(tmp_path / "other.h5")
    with pytest.raises(ModelError, match=r"1 layers, the model has 3 \(not in the file: .*; not in the model: head\)"):
        load_model(tmp_path / "m.json", weights=tmp_path / "other.h5")


def test_weights_of_another_shape(tmp_path: Path) -> None:
    path = saved(sequential(k2.Dense(2, name="head")), tmp_path / "m.h5")
    edit_config(path, lambda config: config["config"]["layers"][1]["config"].update(units=5))
    with pytest.raises(ModelError, match=r"layer 'head': .* holds a weight of shape \(4, 2\), not \(4, 5\)"):
        load_model(path)


def test_weights_in_another_file_are_not_followed(tmp_path: Path) -> None:
    path, other = saved(conv_block(), tmp_path / "m.h5"), saved(conv_block(), tmp_path / "other.h5")
    with h5py.File(path, "a") as file:
        del file["model_weights/conv1d"]
        file["model_weights/conv1d"] = h5py.ExternalLink(str(other), "model_weights/conv1d_1")
    with pytest.raises(ModelError, match="lies in another file, which is not followed"):
        load_model(path)


def test_saved_model_takes_no_weights(tmp_path: Path) -> None:
    conv_block().save(tmp_path / "m", save_format="tf")
    with pytest.raises(ModelError, match="brings its own weights: leave --weights out"):
        load_model(tmp_path / "m", weights=weights_only(tmp_path, "w.h5"))
