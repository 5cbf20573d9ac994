"""Random stacks and small graphs against plain Keras in float64. A failing draw prints the model."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings

from fastism_cli.model import backend
from fastism_cli.rules.table import AUGMENTATIONS, RULES
from tests.stacks import Stack, build, stacks
from tests.truth import errors_of, inputs_of, rounding_error

# Shrinking a model that takes a second to try would take longer than reading it.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
# XLA compiles all of a model on JAX, for seconds: a dozen there.
EXAMPLES = 12 if backend.BACKEND == "jax" else 40


# A drawn layer may come behind Masking without knowing of masks.
@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
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


# Classes with a rule that no random model holds, and why.
NOT_DRAWN = {
    "AveragePooling3D": "TensorFlow has none in float64 on a CPU",
    "MaxPooling3D": "TensorFlow has none in float64 on a CPU",
    "Embedding": "reads whole numbers: tests/test_views.py",
    **dict.fromkeys(AUGMENTATIONS.split(), "RandomFlip stands for all that do nothing at inference"),
    # operations, by the names of their classes
    "Exp2": "Keras' own fails in float64 on TensorFlow",
    "Fabs": "is Absolute by another name",
    **dict.fromkeys(
        ["Ceil", "Floor", "HardShrink", "Round", "Sign", "Threshold", "Trunc"],
        "jumps: a rounding error before it changes the judge's scores as well",
    ),
    **dict.fromkeys(
        ["Cast", "Clip", "Glu", "LayerNorm", "NanToNum", "RMSNorm"], "has arguments of its own: tests/zoo/symbolic.py"
    ),
}


def test_every_class_with_a_rule_is_drawn():
    """By name in what draws the models."""
    folder = Path(__file__).parent
    text = (folder / "stacks.py").read_text() + (folder / "composites.py").read_text()
    words = set(re.findall(r"\w+", text)) | {word.replace("_", "") for word in re.findall(r"[a-z0-9_]+", text)}
    classes = {cls.__name__ for cls in RULES if getattr(keras.layers, cls.__name__, None) is cls}
    operations = {cls.__name__ for cls in RULES if cls.__module__.startswith("keras.src.ops")} - {"GetItem"}
    assert classes - words - set(NOT_DRAWN) == set()
    assert {name for name in operations if name.lower() not in words} - set(NOT_DRAWN) == set()
