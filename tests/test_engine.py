"""Delta propagation against plain Keras in float64, on every toy model."""

import numpy as np
import pytest

from fastism_cli.model import backend
from tests.truth import errors_of, inputs_of
from tests.zoo import FACTS, MODELS, ONE_EACH

# One model in so many runs with its stages compiled by XLA; the others run the same steps uncompiled, which is quicker
# to set up and cannot change which numbers are computed.
COMPILED_EVERY = 8


def ids():
    """One variant of every toy model; the rest of the variants are marked to run in ``make test-all``."""
    return [pytest.param(name, marks=() if name in ONE_EACH else pytest.mark.exhaustive) for name in MODELS]


@pytest.mark.parametrize("name", ids())
def test_engine_equals_plain_keras(name, monkeypatch):
    if list(MODELS).index(name) % COMPILED_EVERY:
        monkeypatch.setattr(backend, "stage", lambda function: function)
    model = MODELS[name]()
    sequence = FACTS[name].sequence_input
    inputs = inputs_of(model, np.random.default_rng(0), sequence=sequence)
    errors = errors_of(model, inputs, sequence=sequence)
    assert errors.fast <= errors.allowed, errors
