"""The architectures of the fastISM paper (Nair et al. 2022) and their relatives, with random weights as trained ones.

Every builder takes the Keras module to build with, so that a peer which needs Keras 2 gets the same model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Model = Any


def conv_block(k, x, filters: int, kernel_size: int, pool_size: int = 1):
    """Convolution, batch normalisation, ReLU, and a pooling where ``pool_size`` is above 1."""
    x = k.layers.Conv1D(filters, kernel_size, padding="same")(x)
    x = k.layers.BatchNormalization()(x)
    x = k.layers.ReLU()(x)
    return k.layers.MaxPooling1D(pool_size)(x) if pool_size > 1 else x


def dense_part(k, x, targets: int, units: int = 1000):
    """Two hidden layers on the flattened features, then the targets."""
    x = k.layers.Flatten()(x)
    for _ in range(2):
        x = k.layers.Dense(units)(x)
        x = k.layers.BatchNormalization()(x)
        x = k.layers.ReLU()(x)
    return k.layers.Dense(targets, activation="sigmoid", name="targets")(x)


def basset(length: int, targets: int = 1, kernel_size: int = 19, k=keras) -> Model:
    """inp -> 300x19 -> pool 3 -> 200x11 -> pool 4 -> 200x7 -> pool 4 -> 1000 -> 1000 -> targets"""
    x = inputs = k.Input((length, 4))
    for filters, size, pool_size in ((300, kernel_size, 3), (200, 11, 4), (200, 7, 4)):
        x = conv_block(k, x, filters, size, pool_size)
    return randomised(k.Model(inputs, dense_part(k, x, targets), name="basset"))


def factorized_basset(length: int, targets: int = 1, k=keras) -> Model:
    """Basset's wide kernels as stacks of narrow ones."""
    x = inputs = k.Input((length, 4))
    stacks = (
        (((48, 3), (64, 3), (100, 3), (150, 7), (300, 7)), 3),
        (((200, 7), (200, 3), (200, 3)), 4),
        (((200, 7),), 4),
    )
    for stack, pool_size in stacks:
        for i, (filters, kernel_size) in enumerate(stack):
            x = conv_block(k, x, filters, kernel_size, pool_size if i == len(stack) - 1 else 1)
    return randomised(k.Model(inputs, dense_part(k, x, targets), name="factorized_basset"))


def bpnet(length: int, k=keras) -> Model:
    """inp -> 64x25 -> nine dilated 64x3 with residual adds -> profile (length, 1) and count (1) heads"""
    inputs = k.Input((length, 4))
    x = k.layers.Conv1D(64, 25, padding="same", activation="relu")(inputs)
    for i in range(9):
        y = k.layers.Conv1D(64, 3, padding="same", activation="relu", dilation_rate=2**i)(x)
        x = k.layers.Add()([x, y])
    profile = k.layers.Conv1D(1, 25, padding="same", name="profile")(x)
    counts = k.layers.Dense(1, name="counts")(k.layers.GlobalAveragePooling1D()(x))
    return randomised(k.Model(inputs, [profile, counts], name="bpnet"))


def conv_stack(length: int, depth: int, k=keras) -> Model:
    """``depth`` convolutions 64x9, each with a pooling of 2, then a dense layer."""
    x = inputs = k.Input((length, 4))
    for _ in range(depth):
        x = conv_block(k, x, 64, 9, 2)
    return randomised(k.Model(inputs, dense_part(k, x, 1, units=64), name="conv_stack"))


def deepsea(length: int = 1000, targets: int = 919, k=keras) -> Model:
    """inp -> 320x8 -> pool 4 -> 480x8 -> pool 4 -> 960x8 -> 925 -> 919 targets (Zhou and Troyanskaya 2015)"""
    x = inputs = k.Input((length, 4))
    for filters, pool_size in ((320, 4), (480, 4), (960, 1)):
        x = k.layers.Conv1D(filters, 8, activation="relu")(x)
        x = k.layers.MaxPooling1D(pool_size)(x) if pool_size > 1 else x
    x = k.layers.Dense(925, activation="relu")(k.layers.Flatten()(x))
    return randomised(k.Model(inputs, k.layers.Dense(targets, activation="sigmoid", name="targets")(x), name="deepsea"))


def chrombpnet(length: int = 2114, out: int = 1000, filters: int = 512, k=keras) -> Model:
    """inp -> 512x21 valid -> eight dilated 512x3 valid with cropped residual adds -> profile (1000, 1), counts (1)"""
    inputs = k.Input((length, 4))
    x = k.layers.Conv1D(filters, 21, activation="relu")(inputs)
    for i in range(1, 9):
        y = k.layers.Conv1D(filters, 3, activation="relu", dilation_rate=2**i)(x)
        x = k.layers.Add()([y, k.layers.Cropping1D(2**i)(x)])
    profile = k.layers.Conv1D(1, 75)(x)
    crop = (profile.shape[1] - out) // 2
    profile = k.layers.Cropping1D(crop, name="profile")(profile)
    counts = k.layers.Dense(1, name="counts")(k.layers.GlobalAveragePooling1D()(x))
    return randomised(k.Model(inputs, [profile, counts], name="chrombpnet"))


def danq(length: int, targets: int = 919, forget_bias: float = 1.0, k=keras) -> Model:
    """inp -> 320x26 -> pool 13 -> both directions of LSTM 320 -> 925 -> 919 targets (Quang and Xie 2016)"""
    inputs = k.Input((length, 4))
    x = k.layers.Conv1D(320, 26, activation="relu")(inputs)
    x = k.layers.MaxPooling1D(13)(x)
    x = k.layers.Bidirectional(k.layers.LSTM(320, return_sequences=True))(x)
    x = k.layers.Dense(925, activation="relu")(k.layers.Flatten()(x))
    outputs = k.layers.Dense(targets, activation="sigmoid", name="targets")(x)
    return with_forget_bias(randomised(k.Model(inputs, outputs, name="danq")), forget_bias)


def lstm(length: int, forget_bias: float = 1.0, k=keras) -> Model:
    """inp -> LSTM 32 -> LSTM 32 (last) -> 1 target"""
    inputs = k.Input((length, 4))
    x = k.layers.LSTM(32)(k.layers.LSTM(32, return_sequences=True)(inputs))
    outputs = k.layers.Dense(1, activation="sigmoid", name="targets")(x)
    return with_forget_bias(randomised(k.Model(inputs, outputs, name="lstm")), forget_bias)


PAPER: dict[str, Callable[..., Model]] = {"basset": basset, "factorized_basset": factorized_basset, "bpnet": bpnet}
MODELS = {**PAPER, "danq": danq, "lstm": lstm}
REDUCE = {"bpnet": {"profile": "sum"}, "chrombpnet": {"profile": "sum"}}


def randomised(model: Model, seed: int = 0) -> Model:
    """Weights as a trained model has them: He-scaled kernels, small biases, unequal normalisation statistics."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        names = [getattr(w, "path", w.name).rsplit("/", 1)[-1].split(":")[0] for w in layer.weights]
        layer.set_weights([random_like(n, tuple(w.shape), rng) for n, w in zip(names, layer.weights, strict=True)])
    return model


def random_like(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if name == "recurrent_kernel":
        squares = [np.linalg.qr(rng.normal(size=(shape[0], shape[0])))[0] for _ in range(shape[1] // shape[0])]
        return np.hstack(squares)
    if name == "kernel":
        return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
    if name in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape)
    return rng.normal(0, 0.1, shape)


def directions(layer: Any) -> list[Any]:
    """The LSTM layers in a layer: itself, both of a Bidirectional, or none."""
    both = [getattr(layer, name, None) for name in ("forward_layer", "backward_layer")]
    return [x for x in [layer, *both] if hasattr(x, "cell")]


def with_forget_bias(model: Model, bias: float) -> Model:
    """Biases of LSTM cells as Keras begins with (0, forget gates 1), or with another one for the forget gates."""
    for cell in (x.cell for layer in model.layers for x in directions(layer)):
        of_input, of_states, biases = cell.get_weights()
        biases[:] = 0
        biases[cell.units : 2 * cell.units] = bias
        cell.set_weights([of_input, of_states, biases])
    return model


def forget_gates(model: Model, x: np.ndarray) -> list[np.ndarray]:
    """The forget gates of each LSTM cell on sequences (n, L, 4): (positions, n, units), as the cell goes through."""
    found = []
    for layer in model.layers:
        given = np.asarray(keras.Model(model.inputs, layer.input)(x)) if directions(layer) else None
        for at, each in enumerate(directions(layer)):
            found.append(_gates(each.cell.get_weights(), given[:, ::-1] if at else given))
    return found


def _gates(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    of_input, of_states, bias = weights
    h = c = np.zeros((len(x), of_states.shape[0]))
    gates = []
    for t in range(x.shape[1]):
        i, f, new, o = np.split(x[:, t] @ of_input + h @ of_states + bias, 4, axis=-1)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(new)
        h = o * np.tanh(c)
        gates.append(f)
    return np.stack(gates)


def random_one_hot(n: int, length: int, seed: int = 0, letters: int = 4) -> np.ndarray:
    """float32 (n, length, letters)"""
    rng = np.random.default_rng(seed)
    return np.eye(letters, dtype="float32")[rng.integers(0, letters, (n, length))]
