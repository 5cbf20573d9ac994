"""The guard against code in model files, and the code that users name themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import ops
from keras.src.utils import python_utils
from tf_keras import layers as k2

from fastism_cli.engine.verify import verify
from fastism_cli.errors import ModelError
from fastism_cli.model.keras_graph import call_model
from fastism_cli.model.loading.config_entries import load_custom_objects
from fastism_cli.model.loading.load import load_model
from fastism_cli.model.loading.safe_files import is_function
from fastism_cli.model.precision import with_dtype
from tests.helpers.model_files import (
    FILE_WARNINGS,
    LENGTH,
    assert_same,
    conv_block,
    edit_config,
    edit_zip,
    layer_configs,
    no_modules,
    one_hot,
    predictions,
    save_as,
    saved,
    sequential,
    tensorflow_functions,
)
from tests.helpers.model_files import fresh_names as fresh_names  # used by every test here

pytestmark = FILE_WARNINGS


# --- code in files ----------------------------------------------------------------------------------------------------


def with_lambda(trace: Path) -> Any:
    def leave_a_trace(x: Any, path: str = str(trace)) -> Any:
        open(path, "a").close()
        return x * 2

    code = FunctionType(leave_a_trace.__code__, {"open": open}, "<lambda>", leave_a_trace.__defaults__)
    model = sequential(k2.Conv1D(3, 3), k2.Lambda(code, name="logcounts"), k2.Flatten())
    trace.unlink()
    return model


REFUSED_LAMBDA = (
    "1 layer cannot be loaded from {path}:\n"
    "  'logcounts': a Lambda layer runs code stored in the file; pass allow_lambda=True if you trust it"
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


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_lambda_finds_what_people_import(ending: str, tmp_path: Path) -> None:
    inputs = x = keras.Input((LENGTH, 4))
    x = keras.layers.Lambda(lambda x: ops.flip(x, axis=1) * np.float32(2))(x)
    x = keras.layers.Lambda(lambda x: keras.ops.tanh(tf.reverse(x, [2])), output_shape=(LENGTH, 4))(x)
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    model.save(path := tmp_path / f"m{ending}")
    before = dict(vars(python_utils))
    loaded = load_model(path, allow_lambda=True)
    assert dict(vars(python_utils)) == before
    assert_same(loaded, model)
    sequences = np.eye(4, dtype="float32")[np.random.default_rng(0).integers(0, 4, (1, LENGTH))]
    assert verify(loaded, sequences).judge == "float64"


FACTOR = 3.0


@pytest.mark.parametrize("options", [{}, {"output_shape": (LENGTH, 4)}], ids=["", "with_output_shape"])
def test_lambda_in_memory_keeps_what_it_refers_to_in_another_type(options) -> None:
    x = keras.Input((LENGTH, 4))
    model = keras.Model(x, keras.layers.Lambda(lambda x: x * FACTOR, **options)(x))
    ones = np.ones((1, LENGTH, 4))
    (found,) = call_model(with_dtype(model, "float64"), [keras.ops.convert_to_tensor(ones)])
    np.testing.assert_array_equal(np.asarray(found), FACTOR * ones)


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
    "class": (in_module("bystander", "Layer"), "class Layer is not known; pass custom_objects FILE.py"),
    "function": (with_activation("bystander", "run"), "function run is not known; pass custom_objects FILE.py"),
    "builtin": (with_activation("builtins", "exec"), "function exec is not known; pass custom_objects FILE.py"),
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
    with pytest.raises(ModelError, match="a TFOpLambda layer runs load_op_library of TensorFlow, which is no plain"):
        load_model(path)


@pytest.mark.parametrize("symbol", ["math.add", "__operators__.add", "nn.relu", "reverse", "compat.v1.transpose"])
def test_arithmetic_is_allowed(symbol: str) -> None:
    assert is_function(symbol)


@pytest.mark.parametrize("symbol", ["py_function", "load_library", "io.write_file", "raw_ops.WriteFile", "print", ""])
def test_what_is_not_arithmetic_is_code(symbol: str) -> None:
    assert not is_function(symbol)


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
    "missing.py": r"custom_objects missing.py: no such file",
    "broken.py": r"custom_objects broken.py does not import: line 2: NameError: name 'K' is not defined",
    "leaves.py": r"custom_objects leaves.py does not import: line 1: SystemExit: 3",
    "empty.py": r"custom_objects empty.py: defines no class and no function",
    "no_such_package.layers": r"no_such_package.layers does not import: ModuleNotFoundError: No module named",
    "json:Attention": r"custom_objects json:Attention: json has no Attention",
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


def test_a_package_that_registers_in_its_modules_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `crested.tl.zoo`: the package itself defines nothing of the model, or nothing at all."""
    package = tmp_path / "lab_zoo"
    (package / "utils").mkdir(parents=True)
    (package / "__init__.py").write_text("from . import utils\n")
    (package / "utils" / "__init__.py").write_text("from . import _layers\n")
    (package / "utils" / "_layers.py").write_text(
        "import keras\n\n\n@keras.saving.register_keras_serializable('lab_zoo')\n"
        "class Doubled(keras.layers.Layer):\n    def call(self, x):\n        return 2 * x\n\n\n"
        "@keras.saving.register_keras_serializable('lab_zoo')\ndef cube(x):\n    return x * x * x\n"
    )
    monkeypatch.chdir(tmp_path)
    registered = keras.saving.get_custom_objects()
    try:
        assert load_custom_objects(["lab_zoo"]) == {}
        layers = [registered["lab_zoo>Doubled"](), keras.layers.Activation(registered["lab_zoo>cube"])]
        model = keras.Sequential([keras.Input((LENGTH, 4)), keras.layers.Dense(3), *layers])
        model.save(tmp_path / "m.keras")
        loaded = load_model(tmp_path / "m.keras", custom_objects=["lab_zoo"])
        np.testing.assert_array_equal(loaded(one_hot(model)[0]), model(one_hot(model)[0]))
    finally:
        for name in ("lab_zoo>Doubled", "lab_zoo>cube"):
            registered.pop(name, None)


@pytest.mark.parametrize("running", ["jax", "tensorflow"])
def test_a_module_for_another_backend(running: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CREsted's attention, on JAX."""
    own = tmp_path / "own.py"
    own.write_text("raise NotImplementedError('This only supports TensorFlow and PyTorch, not jax.')\n")
    monkeypatch.setattr(keras.backend, "backend", lambda: running)
    with pytest.raises(ModelError, match="NotImplementedError: This only supports TensorFlow") as caught:
        load_custom_objects([str(own)])
    cure = " (Keras runs on jax: KERAS_BACKEND=tensorflow may help)"
    assert str(caught.value).endswith(cure) == (running == "jax") and "\n" not in str(caught.value)


# --- what the error says ----------------------------------------------------------------------------------------------


def test_the_error_names_each_layer_and_the_flag(own_module: Path) -> None:
    model = own_model(own_module)
    path = saved(model, own_module.with_name("m.h5"))
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert str(caught.value) == (
        f"2 layers cannot be loaded from {path}:\n"
        "  'attention_1': class AttentionPooling1D is not known; pass custom_objects FILE.py\n"
        "  'cubed': function cube is not known; pass custom_objects FILE.py"
    )
