"""Random sequences, and whatever else a toy model wants to be called with."""

from typing import Any

import keras
import numpy as np


def random_one_hot(rng: np.random.Generator, n: int, length: int, n_fraction: float = 0.0) -> np.ndarray:
    """Draw float32 (n, length, 4) one-hot sequences; a share ``n_fraction`` of rows is N: four zeros."""
    one_hot = np.eye(4, dtype="float32")[rng.integers(0, 4, (n, length))]
    one_hot[rng.random((n, length)) < n_fraction] = 0.0
    return one_hot


def sequence_input(model: keras.Model, name: str | None = None) -> keras.KerasTensor:
    """The model's input of shape (length, 4); ``name`` decides where there are several."""
    candidates = [tensor for tensor in model.inputs if len(tensor.shape) == 3 and tensor.shape[-1] == 4]
    if name is not None:
        candidates = [tensor for tensor in candidates if tensor.name == name]
    if len(candidates) != 1:
        received = [(tensor.name, tensor.shape) for tensor in model.inputs]
        raise ValueError(f"One sequence input is wanted. Received: name={name!r}, inputs={received}")
    return candidates[0]


def extra_inputs(
    model: keras.Model, n: int, rng: np.random.Generator, *, sequence: str | None = None
) -> dict[str, np.ndarray]:
    """Draw the inputs that are not the sequence: name -> standard normal float32 (n, ...)."""
    chosen = sequence_input(model, sequence).name
    others = [tensor for tensor in model.inputs if tensor.name != chosen]
    return {tensor.name: rng.normal(size=(n, *tensor.shape[1:])).astype("float32") for tensor in others}


def call_inputs(
    model: keras.Model, one_hot: np.ndarray, extra: dict[str, np.ndarray], *, sequence: str | None = None
) -> Any:
    """Arrange the arrays as ``model(...)`` wants them: bare, in a list, or in a dict, as it was built.

    Keras warns when a model built on ``[inp]`` is called with a bare array.
    """
    arrays = {sequence_input(model, sequence).name: one_hot, **extra}
    # a Sequential has no ``input`` before it is called
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(lambda tensor: arrays[tensor.name], structure)
