"""Recognise a model file by its content, without Keras, so that a wrong path fails at once."""

from __future__ import annotations

import json
import os
import re
import stat
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py

from fastism_cli.errors import ModelError
from fastism_cli.genome.input_files import COMPRESSED
from fastism_cli.model.loading.config_entries import Config
from fastism_cli.model.loading.safe_files import check_archive, check_hdf5

KERAS_ZIP, KERAS_FOLDER, HDF5, JSON, SAVED_MODEL = "keras", "keras folder", "hdf5", "json", "SavedModel"
LEGACY, STRUCTURED = "legacy", "structured"  # weights by layer name; weights by position in the model (.weights.h5)

WEIGHTS_IN_FOLDER = "model.weights.h5"
WEIGHTS_NAMES = {WEIGHTS_IN_FOLDER, "model.weights.npz"}  # in a .keras zip or folder

JSON_LIMIT = 64 << 20  # bytes; the largest architectures have a few MB
DEPTH_LIMIT = 150  # lists and mappings inside each other; a nested model adds about five

WANTED = "give a .keras or .h5 file, a SavedModel folder, or an architecture .json with --weights"
MAGIC_OF_OTHERS = {
    b">": "looks like FASTA",
    b"\x1f\x8b": "is gzip-compressed: unpack it first",
    b"\x80\x02": "is a Python pickle, which is never read",
    b"\x80\x04": "is a Python pickle, which is never read",
    b"\x93NUMPY": "is a NumPy array",
    b"<": "looks like a web page or XML",
    b"%PDF": "is a PDF",
    b"GGUF": "is a GGUF file",
    **COMPRESSED,
}


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights: its ``kind`` is LEGACY or STRUCTURED; ``backend`` wrote it ("" if it does not say)."""

    path: Path
    kind: str
    backend: str = ""


@dataclass(frozen=True)
class ModelFile:
    """A model on disk. ``config`` is None only for a SavedModel, as only tf_keras can list its layers.

    ``signature`` is the graph of a SavedModel that the user asks for.
    """

    path: Path
    kind: str
    config: Config | None = None
    keras_version: str = ""
    weights: WeightsFile | None = None
    signature: str | None = None

    @property
    def is_keras2(self) -> bool:
        """Whether Keras 2 or earlier wrote the configuration. Some names mean something else in Keras 3."""
        if self.keras_version:  # digits and points
            return int(self.keras_version.partition(".")[0]) < 3
        return '"batch_shape"' not in json.dumps(self.config)

    @property
    def has_own_weights(self) -> bool:
        """Whether architecture and weights come from the same file."""
        own = (self.path, self.path / WEIGHTS_IN_FOLDER)
        return self.kind == SAVED_MODEL or (self.weights is not None and self.weights.path in own)


def read_model_file(path: str | Path, weights: str | Path | None = None, signature: str | None = None) -> ModelFile:
    """Recognise ``path`` by its content and read the configuration of the model, without importing Keras.

    Parameters
    ----------
    path : str or Path
        A ``.keras`` zip (or the folder it unpacks to), an HDF5 file, a SavedModel folder or an architecture ``.json``.
    weights : str or Path, optional
        Weights that replace those of ``path``; required when ``path`` is a ``.json``.
    signature : str, optional
        Name of the graph to use, of a SavedModel.

    Raises
    ------
    ModelError
        The path is missing, unreadable, damaged, not a model, or only half of one. Says which and what to give.
    """
    found = _read(_named(path, "model"))
    path = found.path
    if signature is not None and found.kind != SAVED_MODEL:
        raise ModelError(f"{path} has no signatures, which only SavedModel folders have: leave --signature out")
    if weights is not None:
        given = read_weights_file(_named(weights, "weights"))
        return ModelFile(path, found.kind, _needs_config(found), found.keras_version, given)
    if found.kind == JSON:
        raise ModelError(f"{path} holds an architecture only: give its weights with --weights FILE.h5")
    _require_weights(found)
    return replace(found, signature=signature)


def _require_weights(found: ModelFile) -> None:
    """Raise :class:`ModelError` if weights are missing in a ``.keras`` zip or folder."""
    if found.kind not in (KERAS_ZIP, KERAS_FOLDER):
        return
    members = os.listdir(found.path) if found.kind == KERAS_FOLDER else _members(found.path)
    if not WEIGHTS_NAMES.intersection(members):
        raise ModelError(
            f"{found.path} is incomplete: it has no {WEIGHTS_IN_FOLDER}. Save or copy it again, or give the weights "
            "with --weights FILE.h5"
        )


def _members(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _named(path: str | Path, what: str) -> Path:
    if not os.fspath(path).strip() or "\0" in os.fspath(path):
        raise ModelError(f"--{what} {os.fspath(path)!r} names no file; {WANTED}")
    return Path(path)


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
    raise ModelError(f"{path} {_looks_like(head, path)}; {WANTED}")


def _needs_config(found: ModelFile) -> Config:
    if found.config is None:
        raise ModelError(f"{found.path} is a SavedModel folder, which has its own weights: leave --weights out")
    return found.config


def _is_dir(path: Path) -> bool:
    """Whether it is a folder. Raises if it is neither a folder nor a regular file: a pipe or a device may never end."""
    try:
        if path.name and path.with_name(f"{path.name}.index").exists():
            raise ModelError(
                f"{path} is a TensorFlow checkpoint: save the weights with model.save_weights('weights.h5')"
            )
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise ModelError(f"{path} is no regular file but a pipe, a socket or a device; {WANTED}")
    return stat.S_ISDIR(mode)


def _head(path: Path, size: int = 64) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(size)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


def _looks_like(head: bytes, path: Path) -> str:
    if not head:
        return "is empty"
    known = (text for magic, text in MAGIC_OF_OTHERS.items() if head.startswith(magic))
    return next(known, _without_magic(head, path))


def _without_magic(head: bytes, path: Path) -> str:
    if head[4:8] == b"TFL3":
        return "is a TensorFlow Lite model, which lacks the layers: give the Keras model that it was made from"
    if path.suffix.lower() == ".onnx" or b"onnx" in head or b"pytorch" in head:
        return "looks like an ONNX model: only Keras models can be read"
    if head[8:9] == b"{" and head[:1] not in b"{":
        return "looks like safetensors: only Keras models can be read"
    return "is not a Keras model but text" if _is_text(head) else "is not a Keras model"


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n" for byte in head) and 127 not in head and max(head) < 128


# --- the formats ------------------------------------------------------------------------------------------------------


def _read_folder(path: Path) -> ModelFile:
    if _has(path / "saved_model.pb"):
        return ModelFile(path, SAVED_MODEL)
    if _has(path / "config.json"):
        config, version = _parse(path / "config.json", _text_of(path / "config.json"))
        weights = path / WEIGHTS_IN_FOLDER
        if _has(weights):
            check_hdf5(weights)
        return ModelFile(path, KERAS_FOLDER, config, version, WeightsFile(weights, STRUCTURED))
    raise ModelError(f"{path} is a folder without saved_model.pb or config.json; {WANTED}")


def _has(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


def _text_of(path: Path) -> bytes:
    return _head(path, JSON_LIMIT + 1)


def _read_zip(path: Path) -> ModelFile:
    check_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if "config.json" not in archive.namelist():
                raise ModelError(f"{path} is {_other_archive(archive)}; {WANTED}")
            config, _ = _parse(path, _member(archive, "config.json"))
            version = _version_in(archive)
    except ModelError:
        raise
    except Exception as error:  # a damaged archive can make zipfile raise anything
        raise ModelError(f"{path} is damaged or incomplete: {error}") from error
    return ModelFile(path, KERAS_ZIP, config, version, WeightsFile(path, STRUCTURED))


def _other_archive(archive: zipfile.ZipFile) -> str:
    if any(name.endswith("/data.pkl") for name in archive.namelist()):
        return "a PyTorch file: only Keras models can be read"
    return "a zip archive without a Keras model in it"


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        return file.read(JSON_LIMIT + 1)


def _version_in(archive: zipfile.ZipFile) -> str:
    """What metadata.json says of the version of Keras; "" if there is none, or it is no such thing."""
    try:
        metadata = json.loads(_member(archive, "metadata.json"))
    except (KeyError, ValueError, RecursionError):
        return ""
    return _version(metadata.get("keras_version")) if isinstance(metadata, dict) else ""


def _version(value: Any) -> str:
    """The version of Keras, such as "2.4.3-tf"; "" for anything that is no version."""
    text = _text(value) if isinstance(value, (str, bytes)) else ""
    return text if re.match(r"\d{1,9}(\.|$)", text, re.ASCII) else ""


def _read_hdf5(path: Path) -> ModelFile:
    with open_hdf5(path) as file:
        stored = file.attrs.get("model_config")
        if not isinstance(stored, (str, bytes)) or not stored:
            raise ModelError(f"{path} {_hdf5_without_config(file)}")
        config, version = _parse(path, stored)
        version = _version(file.attrs.get("keras_version")) or version
    return ModelFile(path, HDF5, config, version, read_weights_file(path))


def _hdf5_without_config(file: h5py.File) -> str:
    if _weights_kind(file) is None:
        return f"is an HDF5 file without a Keras model in it; {WANTED}"
    return "holds weights only: give the architecture .json with --model and the weights with --weights"


def _read_json(path: Path) -> ModelFile:
    config, version = _parse(path, _text_of(path))
    return ModelFile(path, JSON, config, version)


def _parse(path: Path, text: str | bytes) -> tuple[Config, str]:
    """The configuration and the Keras version that wrote it ("" when it does not say)."""
    config = json_of(text, path)
    if isinstance(config, str):  # json.dump(model.to_json()) encodes twice
        config = json_of(config, path)
    if not isinstance(config, dict) or "class_name" not in config or "config" not in config:
        raise ModelError(f"{path} holds no Keras model (no class_name and config); {WANTED}")
    version = _version(config.pop("keras_version", ""))
    config.pop("backend", None)
    return config, version


def json_of(text: str | bytes, path: Path) -> Any:
    """Parse the JSON of a model file.

    Raises
    ------
    ModelError
        It is no JSON, larger than ``JSON_LIMIT``, or nested more deeply than ``DEPTH_LIMIT``. Names ``path``.
    """
    if len(text) > JSON_LIMIT:
        raise ModelError(f"{path} holds a model architecture of more than {JSON_LIMIT >> 20} MiB, which is not read")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ModelError(_too_deep(path)) from None
    except ValueError as error:
        raise ModelError(f"{path} is not readable JSON, as a model architecture must be: {error}") from error
    layer = [value]
    for _ in range(DEPTH_LIMIT):
        layer = [inner for outer in layer for inner in _inside(outer)]
    if layer:
        raise ModelError(_too_deep(path))
    return value


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _too_deep(path: Path) -> str:
    return f"{path} holds JSON with more than {DEPTH_LIMIT} lists and mappings inside each other, which is not read"


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
        found = _read_zip(path)
        _require_weights(found)
        return WeightsFile(found.path, STRUCTURED)
    if not _is_hdf5(path):
        raise ModelError(f"{path} {_looks_like(_head(path), path)}; give weights as .h5 or .keras")
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
    """Open for reading, without a lock, which some read-only and network disks refuse. Checks the whole file first."""
    check_hdf5(path)
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        raise ModelError(f"{path} is damaged or incomplete: {error}") from error


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
