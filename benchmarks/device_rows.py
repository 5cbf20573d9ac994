"""One row of the GPU benchmark: a model at one length and precision; and what rate the device multiplies at."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from keras import ops

from benchmarks.contestants import seconds
from benchmarks.device import device_memory, device_name, versions
from benchmarks.models import REDUCE, random_one_hot
from benchmarks.truth import build, positions_of
from fastism_cli import FastISM
from fastism_cli.model import backend
from fastism_cli.model.precision import dtype_of

PRECISIONS = ("float32", "tf32", "bfloat16")
NAIVE_BATCHES = (512, 2048, 8192)
GENOME_WINDOWS = 3_100_000  # of 1,000 bases: a human genome, each base in one of them


@dataclass(frozen=True)
class DeviceRow:
    """Speed and error of one model at one length and precision.

    Attributes
    ----------
    sequences_per_second : float
        Every substitution of so many sequences, host and transfers included; median of the rounds.
    multiply_adds_per_second, of_rate : float
        Of the engine's plan, and their share of what the device does in a large matrix product of this precision.
    speedup, speedup_low, speedup_high : float
        Over compiled naive at its best batch on the same device: median, least and largest of the rounds.
    error, naive_error, largest_delta : float or None
        Largest over some positions, against plain Keras in float64 on the CPU; None if that was not to be had.
    genome_hours : float or None
        Computed from the rate, for windows of 1,000 bases.
    """

    model: str
    length: int
    precision: str
    sequences_per_second: float
    rate_low: float
    rate_high: float
    multiply_adds_per_second: float
    of_rate: float
    naive_sequences_per_second: float
    speedup: float
    speedup_low: float
    speedup_high: float
    limit: float
    batch: int
    naive_batch: int
    sequences: int
    error: float | None
    naive_error: float | None
    largest_delta: float | None
    genome_hours: float | None


# --- the device -------------------------------------------------------------------------------------------------------


def device() -> dict[str, Any]:
    """What is measured, and with what."""
    return {
        "kind": backend.device_kind(),
        "name": device_name(),
        "memory_bytes": device_memory(),
        "backend": backend.BACKEND,
        **versions(),
    }


def matrix_rate(precision: str, size: int, repeats: int = 5) -> float:
    """Multiply-adds a second of a square matrix product of random numbers; the best of ``repeats``."""
    rng = np.random.default_rng(0)
    a, b = (
        ops.convert_to_tensor(rng.standard_normal((size, size), "float32"), dtype=dtype_of(precision)) for _ in range(2)
    )
    with backend.matrix_precision(precision):
        product = backend.compiled(ops.matmul)
        several = 10

        def run() -> None:
            for _ in range(several):
                y = product(a, b)
            backend.to_numpy(y[:1, :1])  # which waits for all of them

        run()
        return several * size**3 / min(seconds(run) for _ in range(repeats))


# --- a row ------------------------------------------------------------------------------------------------------------


def search(name: str, length: int, *, quick: bool = False) -> tuple[FastISM, FastISM]:
    """The engine and naive in float32, each at the best of a few batch sizes and compiled; ``quick`` tries one size."""
    model = build(name, length)
    auto = engine_of(model, "fast", "auto", "float32").batching.substitutions
    sizes = [3 * length] if quick else [auto, 4 * auto, max(auto // 4, 3)]
    fast = [engine_of(model, "fast", size, "float32") for size in sizes]
    sizes = sorted({min(size, 3 * length) for size in NAIVE_BATCHES})[: 1 if quick else None]
    naive = [engine_of(model, "naive", size, "float32") for size in sizes]
    return fastest(fast), fastest(naive)


def fastest(engines: Sequence[FastISM]) -> FastISM:
    """The quickest to score one sequence; there is no choice among one."""
    return engines[0] if len(engines) == 1 else max(engines, key=timed_rate)


def timed_rate(engine: FastISM) -> float:
    """Sequences a second, from the better of two calls after one to compile; 0 if it does not fit the memory."""
    asked = engine.batching.batch_size
    engine_seconds(engine)
    return 1 / min(engine_seconds(engine) for _ in range(2)) if engine.batching.batch_size == asked else 0.0


def engine_seconds(engine: FastISM) -> float:
    """Seconds for all substitutions of one sequence: the engine on two batches, naive on a share of one sequence."""
    length = engine.input_length
    if engine.engine == "naive":
        x, positions = random_one_hot(1, length), share_of(engine)
        return seconds(lambda: engine(x, positions=positions)) * length / len(positions)
    x = random_one_hot(sequences_for(int(engine.batching.batch_size), length), length)
    return seconds(lambda: engine(x)) / len(x)


def engine_of(model: Any, engine: str, batch: int | str, precision: str) -> FastISM:
    return FastISM(model, engine=engine, batch_size=batch, precision=precision, reduce=REDUCE.get(model.name))


def sequences_for(batch: int, length: int) -> int:
    """Two calls' worth of sequences."""
    return 2 * max(batch // (3 * length), 1)


def share_of(naive: FastISM) -> range:
    """Positions in the middle that naive is timed on: one batch, and at least a tenth of the sequence."""
    length = naive.input_length
    count = min(max(int(naive.batching.batch_size) // 3, length // 10), length)
    first = (length - count) // 2
    return range(first, first + count)


def recast(engine: FastISM, name: str, length: int, precision: str) -> FastISM:
    """The same in another precision, at the same batch size."""
    if precision == engine.precision:
        return engine
    return engine_of(build(name, length), engine.engine, engine.batching.batch_size, precision)


def measure(
    fast: FastISM,
    naive: FastISM,
    *,
    rate: float,
    rounds: int,
    truth: Callable[[], dict[str, np.ndarray] | None],
) -> DeviceRow:
    """Time the engine and naive in turns, and compare both with ``truth``.

    Parameters
    ----------
    rate : float
        Multiply-adds a second that the device does in this precision.
    """
    length = fast.input_length
    for engine in (fast, naive):
        engine_seconds(engine)  # compiles, where the search has not
    times = [(engine_seconds(fast), engine_seconds(naive)) for _ in range(rounds)]
    ratios = [theirs / mine for mine, theirs in times]
    per_second = 1 / median(mine for mine, _ in times)
    return DeviceRow(
        model=fast.model.name,
        length=length,
        precision=fast.precision,
        sequences_per_second=per_second,
        rate_low=1 / max(mine for mine, _ in times),
        rate_high=1 / min(mine for mine, _ in times),
        multiply_adds_per_second=per_second * 3 * length * fast.prepared.plan.multiply_adds,
        of_rate=per_second * 3 * length * fast.prepared.plan.multiply_adds / rate,
        naive_sequences_per_second=1 / median(theirs for _, theirs in times),
        speedup=median(ratios),
        speedup_low=min(ratios),
        speedup_high=max(ratios),
        limit=fast.prepared.plan.limit,
        batch=int(fast.batching.batch_size),
        naive_batch=int(naive.batching.batch_size),
        sequences=sequences_for(int(fast.batching.batch_size), length),
        genome_hours=GENOME_WINDOWS / per_second / 3600 if length == 1000 else None,
        **errors(fast, naive, truth()),
    )


def errors(fast: FastISM, naive: FastISM, truth: dict[str, np.ndarray] | None) -> dict[str, Any]:
    """Largest errors over the positions that ``truth`` has, and its largest delta."""
    if truth is None:
        return dict.fromkeys(("error", "naive_error", "largest_delta"))
    x, positions = random_one_hot(1, fast.input_length), positions_of(fast.input_length)
    return {
        "error": largest_difference(whole(fast, x, positions), truth),
        "naive_error": largest_difference(naive(x, positions=positions).delta, truth),
        "largest_delta": max(float(np.abs(exact).max()) for exact in truth.values()),
    }


def whole(fast: FastISM, x: np.ndarray, positions: Sequence[int]) -> dict[str, np.ndarray]:
    """Deltas at some positions from a call over all of them, which is compiled already."""
    batch = np.repeat(x, sequences_for(int(fast.batching.batch_size), fast.input_length), axis=0)
    return {head: delta[:1, ..., positions, :] for head, delta in fast(batch).delta.items()}


def largest_difference(found: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(found[head] - exact[head]).max()) for head in exact)
