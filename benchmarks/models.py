"""The architectures of the fastISM paper (Nair et al. 2022), with random weights of realistic statistics."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers

Model = keras.Model


def conv_block(x, filters: int, kernel_size: int, pool_size: int = 1):
    """Convolution, batch normalisation, ReLU, and a pooling where ``pool_size`` is above 1."""
    x = layers.Conv1D(filters, kernel_size, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    return layers.MaxPooling1D(pool_size)(x) if pool_size > 1 else x


def dense_part(x, targets: int):
    """Two hidden layers of 1000 units on the flattened features, then the targets."""
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dense(1000)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    return layers.Dense(targets, activation="sigmoid", name="targets")(x)


def basset(length: int, targets: int = 1) -> Model:
    """inp -> 300x19 -> pool 3 -> 200x11 -> pool 4 -> 200x7 -> pool 4 -> 1000 -> 1000 -> targets"""
    x = inputs = keras.Input((length, 4))
    for filters, kernel_size, pool_size in ((300, 19, 3), (200, 11, 4), (200, 7, 4)):
        x = conv_block(x, filters, kernel_size, pool_size)
    return randomised(keras.Model(inputs, dense_part(x, targets), name="basset"))


def factorized_basset(length: int, targets: int = 1) -> Model:
    """Basset's wide kernels as stacks of narrow ones."""
    x = inputs = keras.Input((length, 4))
    stacks = (
        (((48, 3), (64, 3), (100, 3), (150, 7), (300, 7)), 3),
        (((200, 7), (200, 3), (200, 3)), 4),
        (((200, 7),), 4),
    )
    for stack, pool_size in stacks:
        for i, (filters, kernel_size) in enumerate(stack):
            x = conv_block(x, filters, kernel_size, pool_size if i == len(stack) - 1 else 1)
    return randomised(keras.Model(inputs, dense_part(x, targets), name="factorized_basset"))


def bpnet(length: int) -> Model:
    """inp -> 64x25 -> nine dilated 64x3 with residual adds -> profile (length, 1) and count (1) heads"""
    inputs = keras.Input((length, 4))
    x = layers.Conv1D(64, 25, padding="same", activation="relu")(inputs)
    for i in range(9):
        y = layers.Conv1D(64, 3, padding="same", activation="relu", dilation_rate=2**i)(x)
        x = layers.Add()([x, y])
    profile = layers.Conv1D(1, 25, padding="same", name="profile")(x)
    counts = layers.Dense(1, name="counts")(layers.GlobalAveragePooling1D()(x))
    return randomised(keras.Model(inputs, [profile, counts], name="bpnet"))


MODELS: dict[str, Callable[[int], Model]] = {
    "basset": basset,
    "factorized_basset": factorized_basset,
    "bpnet": bpnet,
}


def randomised(model: Model, seed: int = 0) -> Model:
    """Weights as a trained model has them: He-scaled kernels, small biases, unequal normalisation statistics."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        layer.set_weights([random_like(w.path.rsplit("/", 1)[-1], w.shape, rng) for w in layer.weights])
    return model


def random_like(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if name == "kernel":
        return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
    if name in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape)
    return rng.normal(0, 0.1, shape)


def random_one_hot(n: int, length: int, seed: int = 0) -> np.ndarray:
    """float32 (n, length, 4)"""
    rng = np.random.default_rng(seed)
    return np.eye(4, dtype="float32")[rng.integers(0, 4, (n, length))]
