"""Does ``--engine auto`` ever lose to naive? Timed on models that leave delta propagation little or nothing to save."""

from __future__ import annotations

import os
from collections.abc import Callable
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import keras
import numpy as np
from keras import layers

from benchmarks.bench import best_naive_batch, naive_runner
from benchmarks.contestants import seconds
from benchmarks.models import MODELS, random_one_hot, randomised
from fastism_cli import FastISM

WORST = 0.9


def recurrent(length: int):
    """inp -> LSTM -> D"""
    inputs = keras.Input((length, 4))
    return keras.Model(inputs, layers.Dense(1)(layers.LSTM(16)(inputs)))


def danq(length: int):
    """inp -> C -> P -> BiLSTM -> F -> D"""
    inputs = keras.Input((length, 4))
    x = layers.MaxPooling1D(13)(layers.Conv1D(80, 26, activation="relu")(inputs))
    x = layers.Flatten()(layers.Bidirectional(layers.LSTM(40, return_sequences=True))(x))
    return keras.Model(inputs, layers.Dense(1)(layers.Dense(100, activation="relu")(x)))


def attention(length: int):
    """inp -> C -> P -> [attention + residual] -> GAP -> D"""
    inputs = keras.Input((length, 4))
    x = layers.MaxPooling1D(8)(layers.Conv1D(64, 15, padding="same", activation="gelu")(inputs))
    x = layers.Add()([x, layers.MultiHeadAttention(4, 16)(x, x)])
    return keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))


def dense_only(length: int):
    """inp -> F -> D -> D"""
    inputs = keras.Input((length, 4))
    return keras.Model(inputs, layers.Dense(1)(layers.Dense(64, activation="relu")(layers.Flatten()(inputs))))


def wide_from_the_start(length: int):
    """inp -> C (as wide as the input) -> C -> GAP -> D"""
    inputs = keras.Input((length, 4))
    x = layers.Conv1D(32, length - 1, padding="same", activation="relu")(inputs)
    x = layers.Conv1D(32, 9, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))


def squeeze_excite(length: int):
    """inp -> C -> x * gate(GAP(x)) -> C -> P -> F -> D"""
    inputs = keras.Input((length, 4))
    x = layers.Conv1D(64, 15, padding="same", activation="relu")(inputs)
    gate = layers.Dense(64, activation="sigmoid")(layers.GlobalAveragePooling1D(keepdims=True)(x))
    x = layers.Conv1D(64, 7, padding="same", activation="relu")(layers.Multiply()([x, gate]))
    return keras.Model(inputs, layers.Dense(1)(layers.Flatten()(layers.MaxPooling1D(10)(x))))


def tiny(length: int):
    """inp -> C -> GMP -> D"""
    inputs = keras.Input((length, 4))
    return keras.Model(inputs, layers.Dense(1)(layers.GlobalMaxPooling1D()(layers.Conv1D(4, 5)(inputs))))


CASES: dict[str, Callable[[int], keras.Model]] = {
    **{f.__name__: f for f in (recurrent, danq, attention, dense_only, wide_from_the_start, squeeze_excite, tiny)},
    "basset": MODELS["basset"],
}


@click.command()
@click.option("--length", default=300, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(length: int, rounds: int) -> None:
    """Exit 1 if auto is slower than 0.9 of naive on any of the models."""
    lost = []
    for name, build in CASES.items():
        model, x = randomised(build(length)), random_one_hot(1, length)
        auto = FastISM(model)
        auto(x)
        naive = naive_runner(model, x, best_naive_batch(model, x, None), None, length)
        ratio = median(seconds(naive) / seconds(lambda a=auto, b=x: a(b)) for _ in range(rounds))
        click.echo(f"{name:20} auto chose {auto.engine:6} ({auto.engine_reason}): {ratio:6.2f}x naive")
        lost += [name] if ratio < WORST or not np.isfinite(ratio) else []
    if lost:
        raise click.ClickException(f"auto is slower than {WORST} of naive on: {', '.join(lost)}")


if __name__ == "__main__":
    main()
