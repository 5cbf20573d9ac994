"""Every rung of the ladder: what the model that wrote a file predicts is what the loaded one must predict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras
from tf_keras import layers as k2

from fastism_cli.errors import ModelError
from fastism_cli.model.adapt import as_functional
from fastism_cli.model.keras_graph import output_names
from fastism_cli.model.loading import from_tf_keras
from fastism_cli.model.loading.load import ModelSource, in_keras3, load_model
from tests.helpers.model_files import (
    FILE_WARNINGS,
    LENGTH,
    REAL,
    SMALL_BACKEND,
    assert_same,
    conv_block,
    kept_from_tensorflow,
    keras3_model,
    nested,
    predictions,
    save_as,
    saved,
    sequential,
    tensorflow_functions,
    with_random_weights,
)
from tests.helpers.model_files import fresh_names as fresh_names  # used by every test here

pytestmark = [*FILE_WARNINGS, pytest.mark.one_in(2)]


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


@pytest.mark.one_in(48)
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


@pytest.mark.one_in(36)
def test_saved_model_folder_becomes_a_keras_3_model(tmp_path: Path) -> None:
    model = nested()
    model.save(tmp_path / "m", save_format="tf")
    loaded = load_model(tmp_path / "m")
    assert isinstance(loaded, keras.Model)
    assert_same(loaded, model)


class Tripled(k2.Layer):
    def call(self, x: Any) -> Any:
        return x * 3


class Bessel(k2.Layer):
    """What keras.ops does not have."""

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.math.bessel_i0e(x)


def test_saved_model_with_unknown_classes_is_opaque_where_its_graph_cannot_be_read(tmp_path: Path) -> None:
    own = [Tripled(name="tripled"), Bessel(name="bessel")]
    model = sequential(k2.Conv1D(3, 3), *own, k2.Conv1D(2, 3), k2.Flatten())
    model.save(tmp_path / "m", save_format="tf")
    loaded = load_model(tmp_path / "m")
    assert kept_from_tensorflow(loaded) == ["bessel"]
    assert_same(loaded, model)


def test_a_class_for_keras_3_does_not_stand_in_the_way_of_a_saved_model(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("import keras\n\nclass Tripled(keras.layers.Layer):\n    def call(self, x):\n        return x * 3\n")
    model = sequential(k2.Conv1D(3, 3), Tripled(name="tripled"), k2.Flatten())
    model.save(tmp_path / "m", save_format="tf")
    assert_same(load_model(tmp_path / "m", custom_objects=[str(own)]), model)


OWN_LAYER = """
{imports}

class Gate(layers.Layer):
    def build(self, shape):
        self.inner = {keras}.layers.Conv1D(shape[-1], 1, activation="sigmoid")
        self.inner.build(shape)

    def call(self, x):
        return x * self.inner(x)
"""
IMPORTS = {
    "tensorflow.keras": ("import tensorflow as tf\nfrom tensorflow.keras import layers", "tf.keras"),
    "from tensorflow": ("from tensorflow import keras\nlayers = keras.layers", "keras"),
    "keras": ("import keras\nfrom keras import layers", "keras"),
}


@pytest.mark.parametrize("written", IMPORTS)
def test_a_layer_of_ones_own_beside_functions_of_tensorflow(written: str, tmp_path: Path) -> None:
    """tf_keras alone has the functions, and calls no layer of Keras 3: it is given the class with its own."""
    import tensorflow as tf

    space: dict[str, Any] = {}
    exec(OWN_LAYER.format(imports="import tf_keras\nfrom tf_keras import layers", keras="tf_keras"), space)
    inputs = tf_keras.Input((LENGTH, 4))
    x = space["Gate"](name="gate")(tf.squeeze(tf.expand_dims(k2.Conv1D(3, 3)(inputs), 1), 1))
    model = with_random_weights(tf_keras.Model(inputs, k2.Dense(2)(k2.Flatten()(x))))
    model.save(tmp_path / "m.h5")
    own = tmp_path / f"{written.replace(' ', '_').replace('.', '_')}.py"
    imports, name = IMPORTS[written]
    own.write_text(OWN_LAYER.format(imports=imports, keras=name))
    loaded = load_model(tmp_path / "m.h5", custom_objects=[str(own)])
    assert isinstance(loaded, keras.Model) and kept_from_tensorflow(loaded) == []
    assert_same(loaded, model)
    assert tf_keras not in (sys.modules["keras"], sys.modules.get("tensorflow.keras"))
    assert tf.keras.layers.Layer is keras.layers.Layer


def test_a_subclass_for_keras_3_does_not_take_the_place_of_a_saved_model(tmp_path: Path) -> None:
    """Its weights are not in it before it is called."""
    text = "class Hidden({keras}.Model):\n    def call(self, x):\n        return x[:, 0] * 2.0\n"
    text += "    def get_config(self):\n        return {{}}\n"
    space: dict[str, Any] = {}
    exec("import tf_keras\n" + text.format(keras="tf_keras"), space)
    model = space["Hidden"](name="hidden")
    inputs = np.eye(4, dtype="float32")[np.random.default_rng(3).integers(0, 4, (3, LENGTH))]
    wanted = model.predict(inputs, verbose=0)
    model.save(tmp_path / "m", save_format="tf")
    own = tmp_path / "own.py"
    own.write_text("import keras\n" + text.format(keras="keras"))
    loaded = load_model(tmp_path / "m", custom_objects=[str(own)])
    np.testing.assert_allclose(predictions(loaded, [inputs])[0], wanted, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_a_model_that_was_never_called(tmp_path: Path) -> None:
    keras.Sequential([keras.layers.Dense(1)]).save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="was never called and has no weights"):
        as_functional(load_model(tmp_path / "m.keras"), None)


def test_saved_model_of_a_subclass_is_read(tmp_path: Path) -> None:
    class Hidden(tf_keras.Model):
        def __init__(self) -> None:
            super().__init__(name="hidden")
            self.conv, self.flat = k2.Conv1D(3, 3), k2.Flatten()

        def call(self, x: Any, training: Any = None) -> Any:
            return self.flat(self.conv(x))

    model = Hidden()
    inputs = np.eye(4, dtype="float32")[np.random.default_rng(3).integers(0, 4, (3, LENGTH))]
    wanted = model.predict(inputs, verbose=0)
    model.save(tmp_path / "m", save_format="tf")
    loaded = load_model(tmp_path / "m")
    assert isinstance(loaded, keras.Model) and kept_from_tensorflow(loaded) == []
    np.testing.assert_allclose(predictions(loaded, [inputs])[0], wanted, rtol=1e-5)


def locally_connected() -> Any:
    return sequential(k2.LocallyConnected1D(3, 4), k2.ThresholdedReLU(0.3), k2.Flatten(), k2.Dense(2))


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


def functions_of_pieces() -> Any:
    """Gates of halves, norms, pooling by a function, thresholds."""
    import tensorflow as tf

    inputs = x = k2.Input((LENGTH, 4))
    a, b = tf.split(k2.Conv1D(8, 3, padding="same")(x), 2, axis=-1)
    c, d, _ = tf.split(tf.nn.gelu(a) * tf.nn.silu(b), [1, 2, 1], axis=-1)
    x = tf.stack([*tf.unstack(d, axis=-1), tf.squeeze(c, -1)], axis=-1)
    x = tf.math.l2_normalize(tf.math.squared_difference(x, 0.3 * x[:, ::-1]), axis=-1) + tf.norm(
        x, axis=-1, keepdims=True
    )
    x = tf.nn.avg_pool1d(tf.nn.max_pool1d(x, 2, 1, "SAME"), 2, 2, "VALID")
    x = tf.where(x > 0.2, x, 0.1 * tf.nn.selu(x)) - tf.math.reduce_std(x, axis=-1, keepdims=True)
    x = x + tf.roll(x, 1, axis=1)
    return with_random_weights(tf_keras.Model(inputs, k2.Dense(2)(tf.reduce_max(x, axis=1))))


def function_without_an_equal() -> Any:
    import tensorflow as tf

    inputs = x = k2.Input((LENGTH, 4))
    x = tf.math.bessel_i0e(k2.Conv1D(4, 3)(x))
    return with_random_weights(tf_keras.Model(inputs, k2.Dense(2)(k2.Flatten()(x))))


def shared_and_nested() -> Any:
    """inner (with a function) is called twice, shared three times."""
    inside = k2.Input((LENGTH, 4))
    inner = tf_keras.Model(inside, k2.Dense(4)(inside) * 2.0, name="inner")
    inputs, shared = k2.Input((LENGTH, 4)), k2.Dense(4)
    x = k2.Concatenate()([inner(shared(inputs)), shared(inner(shared(inputs)))])
    return with_random_weights(tf_keras.Model(inputs, [k2.Flatten(name="b")(x), k2.GlobalMaxPooling1D(name="a")(x)]))


WITHOUT_EQUAL = {function_without_an_equal: ["tf.math.bessel_i0e"]}


@pytest.mark.one_in(48)
@pytest.mark.parametrize(
    "build",
    [
        locally_connected,
        tensorflow_functions,
        many_functions,
        functions_of_pieces,
        function_without_an_equal,
        shared_and_nested,
    ],
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
    from fastism_cli.model.loading import keras2_layers

    model = function_without_an_equal()
    monkeypatch.setitem(keras2_layers.OTHERS, "bessel_i0e", lambda x: x)
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
        from fastism_cli.model.loading.load import load_model
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
        from fastism_cli.model.loading.file_kinds import read_model_file
        assert read_model_file({str(path)!r}).kind == "hdf5"
        assert not {{"keras", "tensorflow"}} & set(sys.modules)
    """
    run = _python(script)
    assert run.returncode == 0, run.stderr


def _python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    search = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
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


def test_a_twin_of_a_model_in_memory_is_looked_for_once(monkeypatch) -> None:
    """For each of the two ways to build it; a model without a twin is remembered."""
    asked: list[Any] = []
    monkeypatch.setattr(from_tf_keras, "same_predictions", lambda model, twin: asked.append(twin))
    model = sequential(k2.Conv1D(3, 3), k2.Flatten())
    assert in_keras3(model) is model and len(asked) == 2
    assert ModelSource.of(model).load() is model and len(asked) == 2
    monkeypatch.undo()
    twin = in_keras3(sequential(k2.Conv1D(3, 3), k2.Flatten()))
    assert isinstance(twin, keras.Model) and in_keras3(twin) is twin
