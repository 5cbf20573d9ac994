"""The pieces that most toy models begin and end with."""

import keras
from keras import layers


def dna(length: int = 40) -> keras.KerasTensor:
    """A one-hot sequence input, (length, 4)."""
    return keras.Input((length, 4), name="dna")


def flat_dense(x: keras.KerasTensor, units: int = 2) -> keras.KerasTensor:
    """Flatten -> Dense: every position has its own weight, so a shift by one shows."""
    return layers.Dense(units)(layers.Flatten()(x))


def conv(x: keras.KerasTensor, filters: int = 5, kernel_size: int = 3, **options) -> keras.KerasTensor:
    """A convolution that keeps the length, unless told otherwise."""
    return layers.Conv1D(filters, kernel_size, **{"padding": "same", **options})(x)
