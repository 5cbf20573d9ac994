"""Time this engine against naive in-silico mutagenesis and other programs, interleaved in one process tree.

Every figure is a median over rounds; in a round each contestant runs once, one after the other, so that a machine
whose speed drifts favours nobody. Naive is compiled, at the best batch size of a search made on the same machine.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import numpy as np

from benchmarks.contestants import Peer, gradient_runners, predict_runner, seconds
from benchmarks.device import versions
from benchmarks.models import MODELS, PAPER, REDUCE, forget_gates, random_one_hot
from fastism_cli import FastISM, __version__
from fastism_cli.engine.plan import Plan
from fastism_cli.model import backend

NAIVE_BATCHES = {"cpu": (16, 32, 64, 128, 256, 512, 1024), "gpu": (256, 1024, 4096, 8192)}
PEER_BATCHES = {"fastism": (1, 16, 128), "tangermeme": (1, 8), "yuzu": (1,)}
PEER_ROUNDS = 3
PATIENCE = {"yuzu": 60.0}  # seconds for one answer, what it prepares included; five minutes for the others
# yuzu's preparation grows with the square of the length
LONGEST = {"yuzu": 1000}


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds of the engine and of naive for the same work, medians over rounds, and their ratio by round."""

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

    @staticmethod
    def figures(times: Sequence[tuple[float, float]], plan: Plan, *, batch: int, first_call: float) -> dict[str, Any]:
        """All fields, of the seconds (engine, naive) of each round."""
        ratios = [naive / fast for fast, naive in times]
        return {
            "fast_seconds": median(fast for fast, _ in times),
            "naive_seconds": median(naive for _, naive in times),
            "naive_batch": batch,
            "speedup": median(ratios),
            "speedup_low": min(ratios),
            "speedup_high": max(ratios),
            "limit": plan.limit,
            "predicted": plan.predicted_speedup,
            "efficiency": median(ratios) / plan.limit,
            "first_call_seconds": first_call,
        }


@dataclass(frozen=True, kw_only=True)
class Row(Speed):
    """All substitutions of one sequence, by one model at one length."""

    model: str
    length: int
    others: dict[str, Any] = field(default_factory=dict)


def naive_runner(model, x: np.ndarray, batch: int, reduce, share: int) -> Callable[[], object]:
    """Naive over ``share`` positions in the middle of the sequence, warmed up."""
    engine = FastISM(model, engine="naive", batch_size=batch, reduce=reduce)
    first = (x.shape[1] - share) // 2
    positions = range(first, first + share)
    engine(x, positions=positions)
    return lambda: engine(x, positions=positions)


def best_naive_batch(model, x: np.ndarray, reduce, batches: Sequence[int] = ()) -> int:
    """The batch size with the least time a substitution, each timed three times on at least 90 substitutions."""
    per_substitution = {}
    for batch in batches or NAIVE_BATCHES[backend.device_kind()]:
        share = min(max(30, batch // 3), x.shape[1])
        run = naive_runner(model, x, batch, reduce, share)
        per_substitution[batch] = min(seconds(run) for _ in range(3)) / share
    return min(per_substitution, key=per_substitution.__getitem__)


def time_model(
    model,
    x: np.ndarray,
    rounds: int,
    *,
    batch_size: str | int = "auto",
    batches: Sequence[int] = (),
    share: int | None = None,
    extras: Sequence[Any] = (),
) -> dict[str, Any]:
    """Paired rounds of the engine and naive; each of ``extras`` (name, runner, rounds) runs in the first rounds too.

    Naive is searched among ``batches`` and timed on ``share`` positions. What failed once is not run again.
    """
    reduce, length = REDUCE.get(model.name), x.shape[1]
    fast = FastISM(model, engine="fast", reduce=reduce, batch_size=batch_size)
    first_call = seconds(lambda: fast(x))
    batch = best_naive_batch(model, x, reduce, batches)
    share = min(share or max(length // 10, batch // 3), length)
    naive = naive_runner(model, x, batch, reduce, share)
    times, others = [], {name: [] for name, _, _ in extras}
    for number in range(rounds):
        times.append((seconds(lambda: fast(x)), seconds(naive) * length / share))
        for name, run, most in extras:
            if number < most and not any("failed" in answer for answer in others[name]):
                others[name].append(run())
    figures = Speed.figures(times, fast.prepared.plan, batch=batch, first_call=first_call)
    return {**figures, "others": {name: merged(answers) for name, answers in others.items()}}


def merged(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Answers of all rounds as one: the median of the seconds."""
    timed = [a["seconds"] for a in answers if "seconds" in a]
    return {**answers[-1], "seconds": median(timed)} if timed else answers[-1]


def extras_of(model, x: np.ndarray, peers: Sequence[Peer]) -> list[Any]:
    """The other contestants of a model: name, function that returns an answer, rounds that it runs in."""
    reduce = REDUCE.get(model.name)
    found: list[Any] = [("predict", predict_runner(model, x), 1)]
    found += [(name, run, PEER_ROUNDS) for name, run in gradient_runners(model, x, reduce).items()]
    for peer in (p for p in peers if x.shape[1] <= LONGEST.get(p.name, x.shape[1])):
        for batch in PEER_BATCHES[peer.name]:
            ask = peer.runner(model, x.shape[1], batch)
            found.append((f"{peer.name} ({batch})", ask, PEER_ROUNDS if batch < 100 else 1))
    return found


def machine() -> dict[str, object]:
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "device": backend.device_kind(),
        "python": platform.python_version(),
        "fastism": __version__,
        **versions(),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


HEADER = (
    f"{'model':18} {'L':>5} {'fast s':>8} {'naive s':>8} {'batch':>5} {'speedup':>8} {'range':>13} "
    f"{'limit':>6} {'of it':>5}  others, times slower than this engine"
)


def line(row: Row) -> str:
    others = ", ".join(f"{name} {_ratio(row, answer)}" for name, answer in row.others.items())
    return (
        f"{row.model:18} {row.length:5} {row.fast_seconds:8.3f} {row.naive_seconds:8.2f} {row.naive_batch:5} "
        f"{row.speedup:7.1f}x {row.speedup_low:5.1f} - {row.speedup_high:5.1f} {row.limit:6.1f} {row.efficiency:5.2f}"
        f"  {others}"
    )


def gates_text(cells: Sequence[np.ndarray]) -> str:
    """Of each LSTM cell: 5 %, 50 % and 95 % of its forget gates, on which the time that a change lives depends."""
    spread = [" ".join(f"{x:.2f}" for x in np.quantile(gates, (0.05, 0.5, 0.95))) for gates in cells]
    return f"  forget gates {' | '.join(spread)}" if spread else ""


def _ratio(row: Row, answer: dict[str, Any]) -> str:
    if "seconds" not in answer:
        return answer["failed"]
    error = f" (error {answer['error']:.1e})" if "error" in answer else ""
    return f"{answer['seconds'] / row.fast_seconds:.2g}x{error}"


@click.command()
@click.option("--model", "names", multiple=True, type=click.Choice(list(MODELS)), help="Default: those of the paper.")
@click.option("--length", "lengths", multiple=True, type=int, default=(1000, 2000), show_default=True)
@click.option("--rounds", default=7, show_default=True)
@click.option("--batch-size", default="auto", show_default=True)
@click.option("--peers", type=click.Path(exists=True), help="A Python that has the other programs (make peers).")
@click.option("--json", "path", type=click.Path(dir_okay=False), help="Write the figures to this file.")
def main(
    names: tuple[str, ...], lengths: tuple[int, ...], rounds: int, batch_size: str, peers: str | None, path: str | None
) -> None:
    """Speed of one sequence at a time, float32, against compiled naive at its best batch."""
    click.echo(HEADER)
    size = batch_size if batch_size == "auto" else int(batch_size)
    processes = [Peer(name, peers, PATIENCE.get(name, 300.0)) for name in PEER_BATCHES] if peers else []
    began, rows = time.perf_counter(), []
    for name in names or PAPER:
        for length in lengths:
            model, x = MODELS[name](length), random_one_hot(1, length)
            extras = extras_of(model, x, processes) if peers else []
            rows.append(Row(model=name, length=length, **time_model(model, x, rounds, batch_size=size, extras=extras)))
            click.echo(line(rows[-1]) + gates_text(forget_gates(model, x)))
            if path:
                save(Path(path), {"machine": machine(), "rounds": rounds, "rows": [asdict(row) for row in rows]})
    for peer in processes:
        peer.close()
    click.echo(f"{time.perf_counter() - began:.0f} s in all")


def save(path: Path, figures: dict[str, Any]) -> None:
    path.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
