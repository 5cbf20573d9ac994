"""Recognise a model file by its content, without Keras, so that a wrong path fails at once."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from fastism_cli.errors import ModelError
from fastism_cli.model.loading.config_entries import Config

KERAS_ZIP, KERAS_FOLDER, HDF5, JSON, SAVED_MODEL = "keras", "keras folder", "hdf5", "json", "SavedModel"
LEGACY, STRUCTURED = "legacy", "structured"  # weights by layer name; weights by position in the model (.weights.h5)

WEIGHTS_IN_FOLDER = "model.weights.h5"

WANTED = "give a .keras or .h5 file, a SavedModel folder, or an architecture .json with --weights"
MAGIC_OF_OTHERS = {
    b">": "looks like FASTA",
    b"\x1f\x8b": "is gzip-compressed: unpack it first",
    b"\x80\x02": "is a Python pickle, which is never read",
    b"\x80\x04": "is a Python pickle, which is never read",
    b"\x93NUMPY": "is a NumPy array",
}


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights: its ``kind`` is LEGACY or STRUCTURED; ``backend`` wrote it ("" if it does not say)."""

    path: Path
    kind: str
    backend: str = ""


@dataclass(frozen=True)
class ModelFile:
    """A model on disk. ``config`` is None only for a SavedModel, as only tf_keras can list its layers."""

    path: Path
    kind: str
    config: Config | None = None
    keras_version: str = ""
    weights: WeightsFile | None = None

    @property
    def is_keras2(self) -> bool:
        """Whether Keras 2 or earlier wrote the configuration. Some names mean something else in Keras 3."""
        if self.keras_version:
            return int(self.keras_version.partition(".")[0]) < 3
        return '"batch_shape"' not in json.dumps(self.config)

    @property
    def has_own_weights(self) -> bool:
        """Whether architecture and weights come from the same file."""
        own = (self.path, self.path / WEIGHTS_IN_FOLDER)
        return self.kind == SAVED_MODEL or (self.weights is not None and self.weights.path in own)


def read_model_file(path: str | Path, weights: str | Path | None = None) -> ModelFile:
    """Recognise ``path`` by its content and read the configuration of the model, without importing Keras.

    Parameters
    ----------
    path : str or Path
        A ``.keras`` zip (or the folder it unpacks to), an HDF5 file, a SavedModel folder or an architecture ``.json``.
    weights : str or Path, optional
        Weights that replace those of ``path``; required when ``path`` is a ``.json``.

    Raises
    ------
    ModelError
        The path is missing, unreadable, damaged, not a model, or only half of one. Says which and what to give.
    """
    path = Path(path)
    found = _read(path)
    if weights is not None:
        return ModelFile(path, found.kind, _needs_config(found), found.keras_version, read_weights_file(Path(weights)))
    if found.kind == JSON:
        raise ModelError(f"{path} holds an architecture only: give its weights with --weights FILE.h5")
    return found


def _read(path: Path) -> ModelFile:
    if _is_dir(path):
        return _read_folder(path)
    head = _head(path)
    if head.startswith(b"PK"):
        return _read_zip(path)
    if _is_hdf5(path):
        return _read_hdf5(path)
    if head.lstrip()[:1] in (b"{", b'"'):
        return _read_json(path)
    raise ModelError(f"{path} {_looks_like(head)}; {WANTED}")


def _needs_config(found: ModelFile) -> Config:
    if found.config is None:
        raise ModelError(f"{found.path} is a SavedModel folder, which has its own weights: leave --weights out")
    return found.config


def _is_dir(path: Path) -> bool:
    if path.with_name(f"{path.name}.index").exists():
        raise ModelError(f"{path} is a TensorFlow checkpoint: save the weights with model.save_weights('weights.h5')")
    if not path.exists():
        raise ModelError(f"{path}: no such file or folder")
    return path.is_dir()


def _head(path: Path, size: int = 64) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(size)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


def _looks_like(head: bytes) -> str:
    if not head:
        return "is empty"
    known = (text for magic, text in MAGIC_OF_OTHERS.items() if head.startswith(magic))
    return next(known, "is not a Keras model")


# --- the formats ------------------------------------------------------------------------------------------------------


def _read_folder(path: Path) -> ModelFile:
    if (path / "saved_model.pb").is_file():
        return ModelFile(path, SAVED_MODEL)
    if (path / "config.json").is_file():
        config, version = _parse(path / "config.json", (path / "config.json").read_bytes())
        return ModelFile(path, KERAS_FOLDER, config, version, WeightsFile(path / WEIGHTS_IN_FOLDER, STRUCTURED))
    raise ModelError(f"{path} is a folder without saved_model.pb or config.json; {WANTED}")


def _read_zip(path: Path) -> ModelFile:
    try:
        with zipfile.ZipFile(path) as archive:
            if "config.json" not in archive.namelist():
                raise ModelError(f"{path} is a zip archive without a Keras model in it; {WANTED}")
            config, _ = _parse(path, archive.read("config.json"))
            metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in archive.namelist() else {}
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} is damaged or incomplete: {error}") from error
    return ModelFile(path, KERAS_ZIP, config, metadata.get("keras_version", ""), WeightsFile(path, STRUCTURED))


def _read_hdf5(path: Path) -> ModelFile:
    with open_hdf5(path) as file:
        stored = _text(file.attrs.get("model_config"))
        if not stored:
            raise ModelError(f"{path} {_hdf5_without_config(file)}")
        config, version = _parse(path, stored)
        version = _text(file.attrs.get("keras_version")) or version
    return ModelFile(path, HDF5, config, version, read_weights_file(path))


def _hdf5_without_config(file: h5py.File) -> str:
    if _weights_kind(file) is None:
        return f"is an HDF5 file without a Keras model in it; {WANTED}"
    return "holds weights only: give the architecture .json with --model and the weights with --weights"


def _read_json(path: Path) -> ModelFile:
    config, version = _parse(path, path.read_bytes())
    return ModelFile(path, JSON, config, version)


def _parse(path: Path, text: str | bytes) -> tuple[Config, str]:
    """The configuration and the Keras version that wrote it ("" when it does not say)."""
    try:
        config = json.loads(text)
        if isinstance(config, str):  # json.dump(model.to_json()) encodes twice
            config = json.loads(config)
    except ValueError as error:
        raise ModelError(f"{path} is not readable JSON, as a model architecture must be: {error}") from error
    if not isinstance(config, dict) or "class_name" not in config or "config" not in config:
        raise ModelError(f"{path} holds no Keras model (no class_name and config); {WANTED}")
    version = config.pop("keras_version", "")
    config.pop("backend", None)
    return config, version


# --- weights ----------------------------------------------------------------------------------------------------------


def read_weights_file(path: Path) -> WeightsFile:
    """Recognise a file of weights: HDF5 of either kind, or a ``.keras`` zip.

    Raises
    ------
    ModelError
        It is missing, damaged, or holds no Keras weights.
    """
    if _is_dir(path):
        raise ModelError(f"{path} is a folder: give the weights as one .h5 file")
    if _head(path).startswith(b"PK"):
        return WeightsFile(_read_zip(path).path, STRUCTURED)
    if not _is_hdf5(path):
        raise ModelError(f"{path} {_looks_like(_head(path))}; give weights as .h5 or .keras")
    with open_hdf5(path) as file:
        kind = _weights_kind(file)
        if kind is None:
            raise ModelError(f"{path} holds no Keras weights")
        return WeightsFile(path, kind, _text(weights_group(file).attrs.get("backend")))


def weights_group(file: h5py.File) -> h5py.Group:
    """The group that lists the layers: the root of a weights file, ``model_weights`` of a whole model."""
    return file["model_weights"] if "model_weights" in file else file


def _weights_kind(file: h5py.File) -> str | None:
    attributes = weights_group(file).attrs
    if "layer_names" in attributes or "layer_names0" in attributes:
        return LEGACY
    structured = {"layers", "_layer_checkpoint_dependencies", "vars"} & set(file)
    return STRUCTURED if structured else None


def _is_hdf5(path: Path) -> bool:
    return bool(h5py.is_hdf5(path)) or _head(path).startswith(b"\x89HDF")  # the second also for truncated files


def open_hdf5(path: Path) -> h5py.File:
    """Open for reading, without a lock, which some read-only and network disks refuse."""
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise ModelError(f"{path} is damaged or incomplete: {error}") from error


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
