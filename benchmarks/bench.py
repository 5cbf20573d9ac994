"""Time this engine against naive in-silico mutagenesis, interleaved in one process.

Every figure is a median over rounds; in a round each contestant runs once, one after the other, so that a machine
whose speed drifts favours nobody. Naive is compiled, at the best batch size of a search made on the same machine.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import numpy as np

from benchmarks.models import MODELS, random_one_hot
from fastism_cli import FastISM, __version__, backend

NAIVE_BATCHES = {"cpu": (16, 32, 64, 128, 256, 512), "gpu": (256, 1024, 4096, 8192)}
REDUCE = {"bpnet": {"profile": "sum"}}


@dataclass(frozen=True)
class Row:
    """One model at one length: seconds for all substitutions of one sequence, and the ratio by round."""

    model: str
    length: int
    fast_seconds: float
    naive_seconds: float
    naive_batch: int
    speedup: float
    speedup_low: float
    speedup_high: float
    limit: float
    predicted: float
    efficiency: float
    first_call_seconds: float


def seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def naive_runner(model, x: np.ndarray, batch: int, reduce, share: int) -> Callable[[], object]:
    """Naive over ``share`` positions in the middle of the sequence, warmed up."""
    engine = FastISM(model, engine="naive", batch_size=batch, reduce=reduce)
    first = (x.shape[1] - share) // 2
    positions = range(first, first + share)
    engine(x, positions=positions)
    return lambda: engine(x, positions=positions)


def best_naive_batch(model, x: np.ndarray, reduce) -> int:
    """The batch size with the least time a substitution, each timed twice on about 90 substitutions or one batch."""
    per_substitution = {}
    for batch in NAIVE_BATCHES[backend.device_kind()]:
        share = min(max(30, batch // 3), x.shape[1])
        run = naive_runner(model, x, batch, reduce, share)
        per_substitution[batch] = min(seconds(run) for _ in range(3)) / share
    return min(per_substitution, key=per_substitution.__getitem__)


def time_model(name: str, length: int, rounds: int, batch_size: str | int) -> Row:
    model, x = MODELS[name](length), random_one_hot(1, length)
    reduce = REDUCE.get(name)
    fast = FastISM(model, engine="fast", reduce=reduce, batch_size=batch_size)
    first_call = seconds(lambda: fast(x))
    batch = best_naive_batch(model, x, reduce)
    share = min(max(length // 10, batch // 3), length)
    naive = naive_runner(model, x, batch, reduce, share)
    times = [(seconds(lambda: fast(x)), seconds(naive) * length / share) for _ in range(rounds)]
    ratios = [n / f for f, n in times]
    limit = fast.plan.limit
    return Row(
        model=name,
        length=length,
        fast_seconds=median(f for f, _ in times),
        naive_seconds=median(n for _, n in times),
        naive_batch=batch,
        speedup=median(ratios),
        speedup_low=min(ratios),
        speedup_high=max(ratios),
        limit=limit,
        predicted=fast.plan.predicted_speedup,
        efficiency=median(ratios) / limit,
        first_call_seconds=first_call,
    )


def machine() -> dict[str, object]:
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "device": backend.device_kind(),
        "python": platform.python_version(),
        "fastism": __version__,
        **backend.versions(),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


HEADER = (
    f"{'model':18} {'L':>5} {'fast s':>8} {'naive s':>8} {'batch':>5} {'speedup':>8} {'range':>13} "
    f"{'limit':>6} {'of it':>5}"
)


def line(row: Row) -> str:
    return (
        f"{row.model:18} {row.length:5} {row.fast_seconds:8.3f} {row.naive_seconds:8.2f} {row.naive_batch:5} "
        f"{row.speedup:7.1f}x {row.speedup_low:5.1f} - {row.speedup_high:5.1f} {row.limit:6.1f} {row.efficiency:5.2f}"
    )


@click.command()
@click.option("--model", "names", multiple=True, type=click.Choice(list(MODELS)), help="Default: all.")
@click.option("--length", "lengths", multiple=True, type=int, default=(1000, 2000), show_default=True)
@click.option("--rounds", default=7, show_default=True)
@click.option("--batch-size", default="auto", show_default=True)
@click.option("--json", "path", type=click.Path(dir_okay=False), help="Write the figures to this file.")
def main(names: tuple[str, ...], lengths: tuple[int, ...], rounds: int, batch_size: str, path: str | None) -> None:
    """Speed of one sequence at a time, float32, against compiled naive at its best batch."""
    click.echo(HEADER)
    size = batch_size if batch_size == "auto" else int(batch_size)
    rows = []
    for name in names or MODELS:
        for length in lengths:
            rows.append(time_model(name, length, rounds, size))
            click.echo(line(rows[-1]))
    if path:
        figures = {"machine": machine(), "rounds": rounds, "rows": [asdict(row) for row in rows]}
        Path(path).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
