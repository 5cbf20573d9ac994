"""Model files of every format against the undamaged model, or against plain Keras' reading of the same damaged file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from fastism_cli.model.loading.load import ModelSource
from tests.slow.attack.genomes import UNDAMAGED, still_read
from tests.slow.attack.mutations import BYTES, edit_hdf5, mutated, mutated_json, zero_all
from tests.slow.attack.outcome import Kind, Outcome, read

LENGTH, VARIABLE = 24, 30  # of the input; of an input whose length is variable
MAX_INPUT = 10**6  # values: a damaged shape can ask for any number

Files = dict[str, bytes]  # by path inside the folder
Values = list[np.ndarray]


# --- undamaged models -------------------------------------------------------------------------------------------------


def small_model(keras: Any) -> Any:
    """inp -> C -> B -> P -> (crop, C) -> Add -> F -> D, in either Keras."""
    layers = keras.layers
    inputs = x = keras.Input((LENGTH, 4), name="sequence")
    x = layers.Conv1D(5, 5, activation="relu", name="motifs")(x)
    x = layers.MaxPooling1D(2)(layers.BatchNormalization(name="norm")(x))
    x = layers.Add()([layers.Cropping1D(1)(x), layers.Conv1D(5, 3, name="wide")(x)])
    model = keras.Model(inputs, layers.Dense(2, activation="sigmoid", name="out")(layers.Flatten()(x)))
    draw = np.random.default_rng(7)
    for weight in model.weights:
        low, high = (0.5, 1.0) if len(weight.shape) == 1 else (-0.4, 0.4)  # variances are not negative
        weight.assign(draw.uniform(low, high, weight.shape))
    return model


def keras3() -> Any:
    import keras

    return keras


def keras2() -> Any:
    import tf_keras

    return tf_keras


def save_json(model: Any, folder: Path) -> None:
    (folder / "model.json").write_text(model.to_json())
    model.save_weights(folder / "model.weights.h5")


def save_graph(model: Any, folder: Path) -> None:
    model.save(folder / "model", save_format="tf")


def save_as(name: str) -> Callable[[Any, Path], None]:
    return lambda model, folder: model.save(folder / name)


def prepare(folder: Path, *, keras: Callable[[], Any], save: Callable[[Any, Path], None]) -> tuple[Files, Values]:
    model = small_model(keras())
    save(model, folder)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return files, predictions(model, inputs_of(model))


# --- predictions ------------------------------------------------------------------------------------------------------


def inputs_of(model: Any) -> Values:
    """One-hot rows for each input; ValueError if a damaged shape asks for too many."""
    draw, found = np.random.default_rng(3), []
    for tensor in model.inputs:
        shape = (2, *(VARIABLE if size is None else int(size) for size in tensor.shape[1:]))
        if np.prod(shape, dtype=float) > MAX_INPUT:
            raise ValueError(f"an input of shape {shape}")
        found.append(np.eye(shape[-1], dtype="float32")[draw.integers(0, shape[-1], shape[:-1])])
    return found


def predictions(model: Any, inputs: Values) -> Values:
    found = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    found = list(found.values()) if isinstance(found, dict) else found
    return [np.asarray(item, "float32") for item in (found if isinstance(found, (list, tuple)) else [found])]


def equal(a: Values, b: Values) -> bool:
    return len(a) == len(b) and all(
        x.shape == y.shape and np.allclose(x, y, rtol=1e-5, atol=1e-6, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


def plain_readings(path: Path, weights: Path | None) -> Iterator[Any]:
    """The same file in the hands of Keras 3 and of Keras 2, as far as they read it.

    Also without what only training uses: a damaged constraint makes Keras refuse a model that computes as before.
    """
    for readable in (path, without_training(path)):
        for keras in (keras3(), keras2()):
            try:
                if weights is None:
                    yield keras.models.load_model(readable, compile=False)
                else:
                    model = keras.models.model_from_json(readable.read_text())
                    model.load_weights(weights)
                    yield model
            except Exception:  # what a damaged file makes Keras raise
                continue


TRAINING = ("_constraint", "_regularizer", "_initializer")


def without_training(path: Path) -> Path:
    """A copy of a damaged file without constraints, regularizers and initializers; the path if it has no JSON."""
    copy = path.with_name(f"untrained-{path.name}")
    try:
        if path.suffix == ".json":
            copy.write_bytes(_untrained(path.read_bytes()))
        elif path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as other:
                for name in archive.namelist():
                    content = archive.read(name)
                    other.writestr(name, _untrained(content) if name == "config.json" else content)
        elif path.suffix == ".h5":
            copy.write_bytes(path.read_bytes())
            with h5py.File(copy, "r+") as file:
                config = file.attrs["model_config"]
                file.attrs["model_config"] = _untrained(config if isinstance(config, bytes) else config.encode())
    except Exception:  # it is damaged
        return path
    return copy if copy.exists() else path


def _untrained(text: bytes) -> bytes:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: None if name.endswith(TRAINING) else value for name, value in items}

    return json.dumps(json.loads(text, object_pairs_hook=pairs)).encode()


# --- damage -----------------------------------------------------------------------------------------------------------


def attempt(prepared: tuple[Files, Values], draw: Random, folder: Path) -> Outcome:
    """Damage one file of a model, or a part inside of it, and load the model as all commands do."""
    original, expected = prepared
    files = dict(original)
    name = draw.choice(sorted(files))
    if draw.random() >= UNDAMAGED:
        files[name] = damaged(draw, files[name], folder)
    for inside, data in files.items():
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        (folder / inside).write_bytes(data)
    path, weights = parts(folder)
    source = ModelSource(str(path), weights=str(weights) if weights else None)

    def loaded() -> Any:
        source.check()
        return source.load()

    outcome = read(
        loaded, [part.name for part in (path, weights) if part], lambda model: wrong(model, expected, path, weights)
    )
    forget()
    return still_read(outcome, files == original)


def parts(folder: Path) -> tuple[Path, Path | None]:
    """The model, and its weights if they are a file of their own."""
    if (folder / "model.json").exists():
        return folder / "model.json", folder / "model.weights.h5"
    return next(path for path in folder.iterdir() if path.name.startswith("model")), None


def wrong(model: Any, expected: Values, path: Path, weights: Path | None) -> str:
    """What differs from the undamaged model and from plain Keras; "" where either agrees, or cannot predict."""
    try:
        inputs = inputs_of(model)
        found = predictions(model, inputs)
    except Exception as error:  # a damaged model may load and not predict: in plain Keras, too
        return _cannot_predict(error, path, weights)
    if equal(found, expected):
        return ""
    others = [values for other in plain_readings(path, weights) if (values := _values(other, inputs))]
    if any(equal(found, values) for values in others):
        return ""
    return f"other predictions than the undamaged model, and than {len(others)} readings of plain Keras"


def _cannot_predict(error: Exception, path: Path, weights: Path | None) -> str:
    for other in plain_readings(path, weights):
        try:
            predictions(other, inputs_of(other))
        except Exception:  # as ours
            return ""
        return f"loads, but predicting ends in {type(error).__name__}: {error}"[:300]
    return f"no plain Keras loads it; here it loads, but predicting ends in {type(error).__name__}: {error}"[:300]


def _values(model: Any, inputs: Values) -> Values:
    try:
        return predictions(model, inputs)
    except Exception:  # no reading, then
        return []


def damaged(draw: Random, data: bytes, folder: Path) -> bytes:
    """Bytes anywhere; or, inside of a format, values of its JSON, parts of its HDF5, members of its archive."""
    if draw.random() < 0.4:
        return mutated(draw, data, (*BYTES, zero_all))
    if data.startswith(b"PK"):
        return damaged_zip(draw, data, folder)
    if data.startswith(b"\x89HDF"):
        return damaged_hdf5(draw, data, folder)
    if data.startswith(b"{"):
        return mutated_json(draw, data)
    return mutated(draw, data, BYTES)


def damaged_zip(draw: Random, data: bytes, folder: Path) -> bytes:
    """A whole archive again, with one member damaged, lost, or given twice."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name, action = draw.choice(sorted(members)), draw.random()
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for member, content in members.items():
            if member != name:
                archive.writestr(member, content)
            elif action > 0.1:
                archive.writestr(member, damaged(draw, content, folder))
    return found.getvalue()


def damaged_hdf5(draw: Random, data: bytes, folder: Path) -> bytes:
    path = folder / "damaged.h5"
    path.write_bytes(data)
    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config")
    if config is not None and draw.random() < 0.5:
        with h5py.File(path, "r+") as file:
            text = config if isinstance(config, bytes) else config.encode()
            file.attrs["model_config"] = np.bytes_(mutated_json(draw, text)[:60_000])
    else:
        edit_hdf5(draw, path)
    found = path.read_bytes()
    path.unlink()
    return found


def forget() -> None:
    """Free what Keras keeps of every model."""
    keras3().backend.clear_session()
    keras2().backend.clear_session()


def kinds() -> Iterator[Kind]:
    for name, keras, save, share in (
        ("keras", keras3, save_as("model.keras"), 3.0),
        ("h5", keras3, save_as("model.h5"), 2.0),
        ("h5-keras2", keras2, save_as("model.h5"), 2.0),
        ("json", keras2, save_json, 2.0),
        ("SavedModel", keras2, save_graph, 2.0),
    ):
        yield Kind(name, partial(prepare, keras=keras, save=save), attempt, share=share, needs_keras=True)
