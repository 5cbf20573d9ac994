"""The engine against the definition: plain Keras predictions of every substituted sequence, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from fastism_cli.engine.fastism import FastISM
from tests.helpers.sequences import extra_inputs, random_one_hot

# Positions are scored at both ends and in the middle, so that every kind of edge is met.
SAMPLE = 24
# Substitutions in one forward pass: those of all sampled positions of three sequences fit.
WHOLE = 600


class Errors(NamedTuple):
    """Largest absolute errors over all heads, against naive in float64; the largest delta, and prediction.

    ``reference`` is naive's error on the sequences themselves.
    """

    fast: float
    naive: float
    reference: float
    largest: float
    predicted: float

    @property
    def allowed(self) -> float:
        """Three times naive's own float32 error; a few units in the last place where naive happens to be exact.

        A delta is a difference of two predictions, whose errors may cancel: a maximum over positions, where that of
        the reference and another of the same letters have the same error in every forward pass, is such a place.
        """
        return max(3 * self.naive, 3 * self.reference, 4e-7 * max(self.largest, self.predicted, 1.0))


def sampled(length: int) -> list[int]:
    """Both ends and the middle of a sequence, in order."""
    third = SAMPLE // 3
    middle = range(length // 2 - third // 2, length // 2 + third // 2)
    return sorted({p for p in (*range(third), *middle, *range(length - third, length)) if 0 <= p < length})


def inputs_of(
    model: Any, rng: np.random.Generator, *, sequence: str | None = None, n: int = 2
) -> dict[str, np.ndarray]:
    """One-hot sequences, the second with Ns in it, and random arrays for all other inputs."""
    shapes = {x.name: tuple(x.shape[1:]) for x in model.inputs}
    name = sequence or next(name for name, shape in shapes.items() if len(shape) == 2 and shape[1] == 4)
    length = shapes[name][0]
    one_hot = np.concatenate([random_one_hot(rng, n - 1, length), random_one_hot(rng, 1, length, n_fraction=0.1)])
    return {name: one_hot, **extra_inputs(model, n, rng, sequence=name)}


def errors_of(
    model: Any,
    inputs: dict[str, np.ndarray],
    *,
    sequence: str | None = None,
    truth: str = "float64",
    every: bool = False,
    positions: Sequence[int] | None = None,
    batch_size: int | str = "auto",
    **options: Any,
) -> Errors:
    """Score the sampled positions, every one, or those given, three times and compare; N must be NaN in all of them.

    ``batch_size`` is that of the fast engine; if it is small, so is naive's, because products of few rows are rounded
    differently.
    """
    options = {"sequence_input": sequence, "reduce": "none", **options}
    fast = FastISM(model, engine="fast", batch_size=batch_size, **options)
    if positions is None:
        positions = list(range(fast.input_length)) if every else sampled(fast.input_length)
    exact = FastISM(model, engine="naive", precision=truth, batch_size=WHOLE, **options)(inputs, positions=positions)
    few = isinstance(batch_size, int) and batch_size < WHOLE // 2
    naive = FastISM(model, engine="naive", batch_size=3 * SAMPLE if few else WHOLE, **options)(
        inputs, positions=positions
    )
    scores = fast(inputs, positions=positions)
    assert list(scores.delta) == list(exact.delta)
    worst = Errors(0.0, 0.0, 0.0, 0.0, 0.0)
    for head, expected in exact.delta.items():
        np.testing.assert_array_equal(np.isnan(scores.delta[head]), np.isnan(expected))
        predicted, own = exact.reference[head], largest(naive.reference[head] - exact.reference[head])
        np.testing.assert_allclose(scores.reference[head], predicted, rtol=2e-4, atol=max(2e-5, 3 * own))
        worst = Errors(
            max(worst.fast, largest(scores.delta[head] - expected)),
            max(worst.naive, largest(naive.delta[head] - expected)),
            max(worst.reference, own),
            max(worst.largest, largest(expected)),
            max(worst.predicted, largest(predicted)),
        )
    return worst


class Ones(keras.layers.Layer):
    """Multiplies a tensor with weights that are one."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.ones = self.add_weight(shape=shape[1:], initializer="ones")

    def call(self, x: Any) -> Any:
        return x * self.ones


def with_weighted_inputs(model: Any) -> Any:
    """The model behind a weight of one for each number of its inputs, of those that are no integers."""
    inputs = [keras.Input(x.shape[1:], dtype=x.dtype, name=x.name) for x in model.inputs]
    weighted = [Ones()(x) if "float" in x.dtype else x for x in inputs]
    return keras.Model(inputs, model(weighted if len(inputs) > 1 else weighted[0]))


def rounding_error(model: Any, inputs: dict[str, np.ndarray], *, sequence: str | None = None) -> float:
    """What rounding weights and inputs to float32 alone does to the scores: a yardstick for ill-conditioned models.

    They move by half a unit in the last place at random; the change is measured in float64. Equal letters then differ
    by their position, as they do where a maximum compares what was computed anew with what was not.
    """
    rng = np.random.default_rng(1)
    weighted = with_weighted_inputs(model)
    options = {
        "sequence_input": sequence,
        "reduce": "none",
        "engine": "naive",
        "precision": "float64",
        "batch_size": WHOLE,
    }
    exact = FastISM(weighted, **options)
    positions = sampled(exact.input_length)
    before = exact(inputs, positions=positions).delta
    moved = FastISM(weighted, **options)
    moved.model.set_weights([w * (1 + 6e-8 * rng.choice([-1, 1], w.shape)) for w in moved.model.get_weights()])
    after = moved(inputs, positions=positions).delta
    return max(largest(after[head] - before[head]) for head in before)


def largest(x: np.ndarray) -> float:
    """Largest magnitude, Ns left out."""
    return float(np.nanmax(np.abs(x), initial=0.0))
