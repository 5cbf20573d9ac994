"""Assign stored weights to a built model: in HDF5 by layer name, in newer files by position in the model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from fastism_cli.errors import ModelError
from fastism_cli.model.loading.config_entries import Config, plain_name
from fastism_cli.model.loading.file_kinds import LEGACY, WeightsFile, open_hdf5, weights_group

# Layers with kernels that Theano mirrors (convolution); all other backends, and Keras 3, do not (correlation).
MIRRORED_BY_THEANO = {"Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "ConvLSTM2D"}


class WeightGroup(NamedTuple):
    """Variables that are next to each other in the file, and their layer."""

    layer: Any
    variables: list[Any]


def load_weights(model: Any, config: Config, weights: WeightsFile) -> None:
    """Assign stored weights to a model that was built from ``config``.

    Raises
    ------
    ModelError
        Layers or shapes of the file and of the model differ. Says which.
    """
    if weights.kind != LEGACY:
        with under_name(weights.path, structured_suffix(weights.path)) as path:
            model.load_weights(path)
        return
    with open_hdf5(weights.path) as file:
        stored = read_layers(weights_group(file))
        targets = layers_with_weights(model, config)
        for name, arrays in match_names(stored, targets, weights.path):
            _assign(name, arrays, targets[name], weights)


def copy_weights(source: Any, target: Any, config: Config) -> None:
    """Assign the weights of a model of tf_keras to its twin in Keras 3, built from ``config``."""
    stored = layers_with_weights(source, config)
    for name, groups in layers_with_weights(target, config).items():
        arrays = [variable.numpy() for group in stored[name] for variable in group.variables]
        _assign(name, arrays, groups, WeightsFile(Path(source.name), LEGACY))


def copy_layer(source: Any, target: Any, entry: Config) -> None:
    """Assign the weights of one layer of tf_keras to its equal in Keras 3, built from ``entry``."""
    stored, wanted = (list(chain.from_iterable(stored_order(layer, entry))) for layer in (source, target))
    arrays = [variable.numpy() for group in stored for variable in group.variables]
    _assign(str(target.name), arrays, wanted, WeightsFile(Path(str(source.name)), LEGACY))


def structured_suffix(path: Path) -> str:
    """The ending by which Keras recognises a ``.keras`` zip or HDF5 weights."""
    return ".weights.h5" if h5py.is_hdf5(path) else ".keras"


@contextmanager
def under_name(path: Path, suffix: str) -> Iterator[Path]:
    """The same file under a name with the ending that Keras expects."""
    if path.is_dir() or path.name.endswith(suffix):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"model{suffix}"
        link.symlink_to(path.resolve())
        yield link


def read_layers(group: h5py.Group) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer that has any, in file order, under the name that the layer has in Keras 3."""
    layers = {plain_name(name): _inside(group, name) for name in _names(group, "layer_names")}
    arrays = {name: [_array(layer, key) for key in _names(layer, "weight_names")] for name, layer in layers.items()}
    return {name: values for name, values in arrays.items() if values}


def _inside(group: h5py.Group, name: str) -> Any:
    """A member of a group. Raises if it is missing or a link to another file."""
    path = group.file.filename
    if name not in group:
        raise ModelError(f"{path} is damaged or incomplete: {group.name}/{name} is missing")
    if group[name].file != group.file:
        raise ModelError(f"{path}: {group.name}/{name} lies in another file, which is not followed")
    return group[name]


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names, which Keras splits over ``NAME0``, ``NAME1``, ... when it is long."""
    numbered = takewhile(lambda name: name in group.attrs, (f"{attribute}{part}" for part in count()))
    keys = [attribute] if attribute in group.attrs else list(numbered)
    parts = (group.attrs[key] for key in keys)
    return [name.decode() if isinstance(name, bytes) else str(name) for name in chain.from_iterable(parts)]


def _array(group: h5py.Group, name: str) -> np.ndarray:
    dataset = _inside(group, name)
    if dataset.external or dataset.is_virtual:
        raise ModelError(f"{group.file.filename}: {dataset.name} lies in another file, which is not followed")
    return np.asarray(dataset)


def layers_with_weights(model: Any, config: Config) -> dict[str, list[WeightGroup]]:
    """The weights of each layer that has any, in the order of the configuration."""
    layers = _by_name(model)
    entries = {_name(entry): entry for entry in _entries(config)}
    names = [name for name in entries if name in layers] + [name for name in layers if name not in entries]
    groups = {name: [*chain.from_iterable(stored_order(layers[name], entries.get(name)))] for name in names}
    return {name: kept for name, found in groups.items() if (kept := [group for group in found if group.variables])}


def _by_name(model: Any) -> dict[str, Any]:
    return {plain_name(layer.name): layer for layer in model.layers}


def stored_order(layer: Any, entry: Config | None) -> tuple[list[WeightGroup], list[WeightGroup]]:
    """Trainable weights, then the others; inside a nested model in the order of its configuration, not of Keras 3."""
    inner = [stored_order(*pair) for pair in _inner_layers(layer, entry)]
    if not inner:
        return [WeightGroup(layer, list(layer.trainable_weights))], [
            WeightGroup(layer, list(layer.non_trainable_weights))
        ]
    trainable = [*chain.from_iterable(first for first, _ in inner)]
    return trainable, [*chain.from_iterable(others for _, others in inner)]


def _inner_layers(layer: Any, entry: Config | None) -> list[tuple[Any, Config | None]]:
    if type(layer).__name__ == "Bidirectional":
        return [(layer.forward_layer, None), (layer.backward_layer, None)]
    if type(layer).__name__ == "TimeDistributed":
        return [(layer.layer, entry["config"].get("layer") if entry else None)]
    if entry is None or not hasattr(layer, "layers"):
        return []
    layers = _by_name(layer)
    return [(layers[_name(inner)], inner) for inner in _entries(entry) if _name(inner) in layers]


def _entries(model: Config) -> list[Config]:
    """The layers in the configuration of a model; the list that a Sequential of Keras <= 2.1 is, too."""
    found = model["config"] if isinstance(model["config"], list) else model["config"].get("layers")
    return found if isinstance(found, list) else []


def _name(entry: Config) -> str:
    config = entry["config"] if isinstance(entry["config"], dict) else {}
    return plain_name(str(config.get("name") or entry.get("name")))


def match_names(
    stored: Mapping[str, list[np.ndarray]], targets: Mapping[str, list[WeightGroup]], path: Path
) -> list[tuple[str, list[np.ndarray]]]:
    """Pair the layers of a file with those of a model: by name, or by order when the names differ.

    Keras goes by order, but that can swap two layers of equal shape unnoticed, so names come first. If a model was
    built again, its names have other numbers; then only the order is left.
    """
    if set(stored) == set(targets):
        return list(stored.items())
    if len(stored) == len(targets):
        return list(zip(targets, stored.values(), strict=True))
    missing, extra = sorted(set(targets) - set(stored)), sorted(set(stored) - set(targets))
    raise ModelError(
        f"{path} does not hold the weights of this model: {len(stored)} layers, the model has {len(targets)}"
        f" (not in the file: {_few(missing)}; not in the model: {_few(extra)})"
    )


def _few(names: list[str], limit: int = 5) -> str:
    shown = ", ".join(names[:limit]) or "none"
    return f"{shown}, ..." if len(names) > limit else shown


def _assign(name: str, arrays: list[np.ndarray], groups: list[WeightGroup], weights: WeightsFile) -> None:
    wanted = sum(len(group.variables) for group in groups)
    if wanted != len(arrays):
        raise ModelError(f"layer '{name}' has {wanted} weights, {weights.path} holds {len(arrays)} for it")
    for group in groups:
        own, arrays = arrays[: len(group.variables)], arrays[len(group.variables) :]
        for variable, array in zip(group.variables, convert(group.layer, own, weights.backend), strict=True):
            _check_shape(name, variable, array, weights.path)
            variable.assign(array)


def _check_shape(name: str, variable: Any, array: np.ndarray, path: Path) -> None:
    if tuple(variable.shape) != array.shape:
        raise ModelError(f"layer '{name}': {path} holds a weight of shape {array.shape}, not {tuple(variable.shape)}")


# --- weights as other programs store them -----------------------------------------------------------------------------


def convert(layer: Any, arrays: list[np.ndarray], backend: str) -> list[np.ndarray]:
    """The arrays of one layer in the form of Keras 3: Theano's kernels mirrored back, cuDNN's gates transposed."""
    cls = type(layer).__name__
    if backend == "theano" and cls in MIRRORED_BY_THEANO:
        return [mirrored(array) if array.ndim > 2 else array for array in arrays]
    if cls in ("LSTM", "GRU") and len(arrays) == 3:
        return FROM_CUDNN[cls](*arrays)
    return arrays


def mirrored(kernel: np.ndarray) -> np.ndarray:
    """A kernel, shape (*space, in, out), reversed along every axis of space."""
    return np.flip(kernel, axis=tuple(range(kernel.ndim - 2)))


def lstm_from_cudnn(kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
    """CuDNNLSTM keeps two biases, of input and of recurrence: 8 x units, where LSTM has their sum, 4 x units."""
    if bias.shape != (8 * len(recurrent),):
        return [kernel, recurrent, bias]
    return [*_gates_from_cudnn(kernel, recurrent, 4), bias.reshape(2, -1).sum(axis=0)]


def gru_from_cudnn(kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
    """CuDNNGRU keeps its two biases flat, 6 x units, where GRU(reset_after=True) has shape (2, 3 x units)."""
    if bias.shape != (6 * len(recurrent),):
        return [kernel, recurrent, bias]
    return [*_gates_from_cudnn(kernel, recurrent, 3), bias.reshape(2, -1)]


def _gates_from_cudnn(kernel: np.ndarray, recurrent: np.ndarray, gates: int) -> tuple[np.ndarray, np.ndarray]:
    # cuDNN stores each gate's input kernel in Fortran order and each recurrent kernel transposed.
    inputs = [gate.T.reshape(gate.shape, order="F") for gate in np.hsplit(kernel, gates)]
    return np.hstack(inputs), np.hstack([gate.T for gate in np.hsplit(recurrent, gates)])


FROM_CUDNN: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], list[np.ndarray]]] = {
    "LSTM": lstm_from_cudnn,
    "GRU": gru_from_cudnn,
}
