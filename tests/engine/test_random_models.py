"""Random stacks and small graphs against plain Keras in float64. A failing draw prints the model."""

import ast
import re
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings

from fastism_cli.rules.table import AUGMENTATIONS, RULES
from tests.helpers.truth import errors_of, inputs_of, rounding_error
from tests.models.stacks import Stack, build_if_keras_runs_it, stacks
from tests.slow import fuzz

pytestmark = pytest.mark.one_in(2)

# Shrinking a model that takes a second to try would take longer than reading it.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
# XLA compiles all of a model on JAX, for seconds: few there.
EXAMPLES = 8
# One model in so many is scored by chunks of a few positions, which takes longer; `make fuzz` draws their size.
IN_CHUNKS_EVERY = 8
STEADY = settings(deadline=None, derandomize=True, phases=PHASES, suppress_health_check=list(HealthCheck))

# A drawn layer may come behind Masking without knowing of masks.
behind_a_mask = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")


def assert_exact(stack: Stack) -> None:
    model = build_if_keras_runs_it(stack)
    note(repr(stack))
    inputs = inputs_of(model, np.random.default_rng(stack.seed))
    errors = errors_of(model, inputs, batch_size="auto" if stack.seed % IN_CHUNKS_EVERY else 30)
    if errors.fast > errors.allowed:
        assert errors.fast <= 3 * rounding_error(model, inputs), errors


@behind_a_mask
@settings(STEADY, max_examples=EXAMPLES)
@given(stacks())
def test_random_stack_equals_plain_keras(stack: Stack) -> None:
    assert_exact(stack)


@pytest.mark.exhaustive
@behind_a_mask
@settings(STEADY, max_examples=40)
@given(stacks())
def test_more_random_stacks_equal_plain_keras(stack: Stack) -> None:
    assert_exact(stack)


@pytest.mark.parametrize("wrong", [None, "off by 1"])
def test_the_search_says_how_many_are_wrong(wrong, monkeypatch, capsys):
    monkeypatch.setattr(fuzz, "failure_of", lambda stack: wrong)
    monkeypatch.setattr(fuzz, "time", SimpleNamespace(monotonic=count().__next__))  # a model takes a second
    assert fuzz.main(["--seconds", "5", "--seed", "3"]) == (1 if wrong else 0)
    first, *_, last = capsys.readouterr().out.splitlines()
    tried, found = map(int, re.match(r"(\d+) random models, (\d+) of them wrong \(seed 3,", last).groups())
    assert "FUZZ_SEED=3" in first
    assert tried > 0 and found == (tried if wrong else 0)


def test_a_search_that_tries_nothing_fails():
    assert fuzz.main(["--seconds", "0"]) == 1


ALONE = """
        All Any Argmax Argmin Argsort Average BitwiseAnd BitwiseInvert
        BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor BroadcastTo CountNonzero Cumprod
        Digitize Equal FloorDivide Fmod FullLike Gcd Greater GreaterEqual
        Heaviside I0 Isclose Isfinite Isinf Isnan Isneginf Isposinf
        Isreal Lcm Ldexp LeftShift Less LessEqual LogicalAnd LogicalOr
        LogicalXor Mod Nanargmax Nanargmin Nancumprod Nancumsum Nanmax Nanmean
        Nanmin Nanprod Nanstd Nansum Nanvar Nextafter NotEqual OneHot
        OnesLike Percentile Ptp Quantile Real RightShift SaturateCast Signbit
        TakeAlongAxis Tensordot Trapezoid ZerosLike
"""
# Classes with a rule that no random model holds, and why.
NOT_DRAWN = {
    "AveragePooling3D": "TensorFlow has none in float64 on a CPU",
    "MaxPooling3D": "TensorFlow has none in float64 on a CPU",
    "Embedding": "reads whole numbers: tests/model/test_sequence_inputs.py",
    **dict.fromkeys(AUGMENTATIONS.split(), "RandomFlip stands for all that do nothing at inference"),
    # operations, by the names of their classes
    "Exp2": "Keras' own fails in float64 on TensorFlow",
    "Fabs": "is Absolute by another name",
    **dict.fromkeys(
        ["Ceil", "Floor", "HardShrink", "Round", "Sign", "Threshold", "Trunc"],
        "jumps: a rounding error before it changes the judge's scores as well",
    ),
    **dict.fromkeys(
        ["Cast", "Clip", "Glu", "LayerNorm", "NanToNum", "RMSNorm"],
        "has arguments of its own: tests/models/zoo/symbolic.py",
    ),
    **dict.fromkeys(ALONE.split(), "jumps, or is rare: each by itself in tests/rules/test_every_operation.py"),
}


def names_in(path: Path) -> set[str]:
    """Names, attributes, and words of strings in a program, but for comments and docstrings."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            found |= set(re.findall(r"\w+", node.value))
    return found


def test_comments_and_docstrings_draw_nothing(tmp_path):
    (tmp_path / "x.py").write_text(
        '"""Dense"""\ndef f():\n    """Conv1D"""\n    # Add\n    return layers.ReLU("tanh elu")\n'
    )
    assert names_in(tmp_path / "x.py") == {"layers", "ReLU", "tanh", "elu"}


def test_every_class_with_a_rule_is_drawn():
    """By name in what draws the models."""
    folder = Path(__file__).parents[1] / "models"
    found = names_in(folder / "stacks.py") | names_in(folder / "composites.py")
    words = found | {word.replace("_", "") for word in found if word.islower()}
    classes = {cls.__name__ for cls in RULES if getattr(keras.layers, cls.__name__, None) is cls}
    operations = {cls.__name__ for cls in RULES if cls.__module__.startswith("keras.src.ops")} - {"GetItem"}
    assert classes - words - set(NOT_DRAWN) == set()
    assert {name for name in operations if name.lower() not in words} - set(NOT_DRAWN) == set()
