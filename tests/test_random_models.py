"""Random stacks and small graphs against plain Keras in float64. A failing draw prints the model."""

import numpy as np
from hypothesis import HealthCheck, Phase, given, note, settings

from fastism_cli import backend
from tests.stacks import Stack, build, stacks
from tests.truth import errors_of, inputs_of, rounding_error

# Shrinking a model that takes a second to try would take longer than reading it.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
# XLA compiles all of a model on JAX, for seconds: a dozen there.
EXAMPLES = 12 if backend.BACKEND == "jax" else 40


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, phases=PHASES, suppress_health_check=list(HealthCheck)
)
@given(stacks())
def test_random_stack_equals_plain_keras(stack: Stack) -> None:
    compiled_stage, backend.stage = backend.stage, lambda function: function
    try:
        model = build(stack)
        note(repr(stack))
        inputs = inputs_of(model, np.random.default_rng(stack.seed))
        errors = errors_of(model, inputs)
    finally:
        backend.stage = compiled_stage
    if errors.fast > errors.allowed:
        assert errors.fast <= 3 * rounding_error(model, inputs), errors
