"""``python -m tests.slow.fuzz --seconds 3600``: random models against plain Keras in float64, while there is time.

Prints how many models were tried, after every seed, and every one that fails as the ``Stack(...)`` that builds it
again. Seed S of one run is seed S of any other. A model that takes longer than ``--model-seconds`` is reported and
counted as wrong, and the next one follows.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import UnsatisfiedAssumption

from fastism_cli import FastISM
from fastism_cli.cli.inspect import text
from fastism_cli.engine.inspection import inspect_scorer
from tests.helpers.truth import errors_of, inputs_of, rounding_error
from tests.helpers.uncompiled import uncompiled
from tests.models.stacks import Stack, build_if_keras_runs_it, stacks

BATCH = 20
# Substitutions a call: single positions up to all at once, also such as do not divide them.
BATCH_SIZES = (6, 30, 97, 300, 2000)
# From here on there are few calls, for which tracing takes longer than to compute operation by operation.
FEW_CALLS = 300
INSPECTED_EVERY = 4  # one model in so many goes through ``fastism inspect`` too
MODEL_SECONDS = 300.0  # for one model; most take less than a second


def failure_of(stack: Stack) -> str | None:
    """What is wrong with the engine's scores of this model, if anything."""
    model = build_if_keras_runs_it(stack)
    inputs = inputs_of(model, np.random.default_rng(stack.seed))
    batch_size = BATCH_SIZES[stack.seed % len(BATCH_SIZES)]
    if stack.seed % INSPECTED_EVERY == 0:
        text(inspect_scorer(FastISM(model, reduce="none")))
    with uncompiled(graphs=batch_size < FEW_CALLS):
        errors = errors_of(model, inputs, every=True, batch_size=batch_size)
        if errors.fast <= errors.allowed or errors.fast <= 3 * rounding_error(model, inputs):
            return None
    return str(errors)


class TooLong(BaseException):
    """A model takes too long. Neither Keras nor Hypothesis catches it, as they do with exceptions."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise :class:`TooLong` if the block takes longer, as soon as Python has its turn again."""

    def stop(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fault_of(stack: Stack, seconds: float) -> str | None:
    """What is wrong with the scores, an error, or that the model takes too long."""
    try:
        with at_most(seconds):
            return failure_of(stack)
    except TooLong:
        return f"takes longer than {seconds:g} s"
    except UnsatisfiedAssumption:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def search(first: int, seconds: float, model_seconds: float = MODEL_SECONDS) -> tuple[int, list[str]]:
    """Models tried, and the failing ones."""
    tried, failures, stop = 0, list[str](), time.monotonic() + seconds

    def check(stack: Stack) -> None:
        nonlocal tried
        if time.monotonic() > stop:
            return
        tried += 1
        wrong = fault_of(stack, model_seconds)
        if wrong:
            failures.append(f"{stack!r}\n    {wrong[:500]}")
            print(failures[-1], flush=True)

    number = first
    while time.monotonic() < stop:
        options = settings(
            max_examples=BATCH,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        seed(number)(options(given(stacks(max_layers=25 if number % 4 == 0 else 10))(check)))()
        keras.backend.clear_session()
        print(f"seed {number}: {tried} models so far, {len(failures)} of them wrong", flush=True)
        number += 1
    return tried, failures


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model-seconds", type=float, default=MODEL_SECONDS, help="for one model")
    given_ = parser.parse_args(arguments)
    print(f"random models from seed {given_.seed} on: `make fuzz FUZZ_SEED={given_.seed}` draws the same", flush=True)
    tried, failures = search(given_.seed, given_.seconds, given_.model_seconds)
    print(f"{tried} random models, {len(failures)} of them wrong (seed {given_.seed}, {given_.seconds:.0f} s)")
    return 1 if failures or not tried else 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
