"""Time blocks replaced with N against naive at its best batch, and the mean of five models against five engines.

Naive predicts the sequence with each block as a whole. There are as many sequences as make a thousand blocks or so. In
each round every contestant runs once, one after the other; a figure is a median over rounds. The limit is the
multiply-adds of a forward pass over those of a block. Some blocks of each case are compared with plain Keras in
float64.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import numpy as np

from benchmarks.bench import Speed, best_naive_batch, machine
from benchmarks.contestants import seconds
from benchmarks.models import MODELS, REDUCE, random_one_hot, randomised
from fastism_cli import FastISM
from fastism_cli.engine.verify import verify

FOLDS = 5
MOST_TIMES = 1.1  # what the mean of some models may take of the time of as many engines
ALL_BLOCKS = 1000  # of all sequences
NEAR_LIMIT = 0.75  # of the multiply-adds' limit


class Case(NamedTuple):
    """Blocks of a model, and how many times faster than naive they must be."""

    model: str
    width: int
    step: int
    least: float


CASES = (Case("basset", 10, 1, 20), Case("basset", 50, 10, 8), Case("bpnet", 20, 5, 3))


@dataclass(frozen=True, kw_only=True)
class BlocksRow(Speed):
    """All blocks of some sequences."""

    model: str
    length: int
    width: int
    step: int
    blocks: int
    sequences: int
    check: str

    @property
    def line(self) -> str:
        return (
            f"{self.model:8} {self.length:5} width {self.width:3} step {self.step:3} {self.sequences:2} x "
            f"{self.blocks:3} blocks {self.fast_seconds:8.4f} s, naive {self.naive_seconds:7.3f} s "
            f"(batch {self.naive_batch}): "
            f"{self.speedup:5.1f}x ({self.speedup_low:.1f} to {self.speedup_high:.1f}), limit {self.limit:.1f}x, "
            f"{self.efficiency:.2f} of it, predicted {self.predicted:.1f}x, first call {self.first_call_seconds:.1f} s"
            f"\n  {self.check}"
        )


@dataclass(frozen=True)
class FoldsRow:
    """Seconds for all substitutions of one sequence: by the mean of several models, and by an engine for each."""

    model: str
    length: int
    models: int
    mean_seconds: float
    engines_seconds: float
    times: float
    times_low: float
    times_high: float
    compiled: int
    compiled_of_one: int
    first_call_seconds: float
    first_call_of_one_seconds: float

    @property
    def line(self) -> str:
        return (
            f"{self.model:8} {self.length:5} mean of {self.models} models {self.mean_seconds:.4f} s, {self.models} "
            f"engines {self.engines_seconds:.4f} s: {self.times:.2f} times ({self.times_low:.2f} to "
            f"{self.times_high:.2f}); compiled {self.compiled}, of one model {self.compiled_of_one}; first call "
            f"{self.first_call_seconds:.1f} s, of one model {self.first_call_of_one_seconds:.1f} s"
        )


def time_blocks(case: Case, length: int, rounds: int, batches: Sequence[int] = ()) -> BlocksRow:
    """Paired rounds of the engine and of naive, which is timed on a share of the blocks in the middle."""
    model, n_blocks = MODELS[case.model](length), len(range(0, length - case.width + 1, case.step))
    x = random_one_hot(max(round(ALL_BLOCKS / n_blocks), 1), length)
    reduce = REDUCE.get(case.model)
    asked: dict[str, Any] = {"reduce": reduce, "replace_with": "N", "width": case.width, "step": case.step}
    fast = FastISM(model, engine="fast", **asked)
    first_call = seconds(lambda: fast(x))
    check = verify(fast, x[:1], per_sequence=6)
    check.require()
    batch = best_naive_batch(model, x[:1], reduce, batches)
    starts = [start for start, _ in fast.block_ranges]
    share = min(max(len(starts) // 10, batch), len(starts))
    first = (len(starts) - share) // 2
    naive = FastISM(model, engine="naive", batch_size=batch, **asked)
    run_naive = partial(naive, x, positions=starts[first : first + share])
    run_naive()
    times = [(seconds(lambda: fast(x)), seconds(run_naive) * len(starts) / share) for _ in range(rounds)]
    return BlocksRow(
        model=case.model,
        length=length,
        width=case.width,
        step=case.step,
        blocks=len(starts),
        sequences=len(x),
        check=check.line,
        **Speed.figures(times, fast.prepared.plan, batch=batch, first_call=first_call),
    )


def time_folds(name: str, length: int, rounds: int, folds: int = FOLDS) -> FoldsRow:
    """Paired rounds of the mean of models that differ in their weights, and of an engine for each of them."""
    models = [randomised(MODELS[name](length), seed=seed) for seed in range(folds)]
    x, options = random_one_hot(1, length), {"engine": "fast", "reduce": REDUCE.get(name)}
    engines, mean = [FastISM(model, **options) for model in models], FastISM(models, **options)
    first_call_of_one = seconds(lambda: engines[0](x))
    first_call = seconds(lambda: mean(x))
    all_engines: Callable[[], list[Any]] = lambda: [engine(x) for engine in engines]  # noqa: E731
    _require_the_mean(mean(x), all_engines())
    times = [(seconds(lambda: mean(x)), seconds(all_engines)) for _ in range(rounds)]
    ratios = sorted(m / e for m, e in times)
    return FoldsRow(
        name,
        length,
        folds,
        median(m for m, _ in times),
        median(e for _, e in times),
        median(ratios),
        ratios[0],
        ratios[-1],
        compiled(mean),
        compiled(engines[0]),
        first_call,
        first_call_of_one,
    )


def compiled(scorer: FastISM) -> int:
    """How many engines were compiled; models of one architecture share theirs."""
    return sum(len(engines) for engines in {id(x.batching): x.batching.engines for x in scorer.each_model()}.values())


def _require_the_mean(found: Any, singles: Sequence[Any]) -> None:
    for head, delta in found.delta.items():
        wanted = np.mean([one.delta[head] for one in singles], axis=0, dtype="float64")
        np.testing.assert_allclose(delta, wanted, rtol=1e-6, atol=1e-7 * np.nanmax(np.abs(wanted)))


def faults(rows: Sequence[BlocksRow], least: Sequence[float], folds: FoldsRow) -> list[str]:
    """What does not hold, in words."""
    found = [
        f"{row.model}, width {row.width}: {row.speedup:.1f}x, below {floor:g}x"
        for row, floor in zip(rows, least, strict=True)
        if row.speedup < floor
    ]
    found += [
        f"{row.model}, width {row.width}: {row.efficiency:.2f} of the limit, below {NEAR_LIMIT}"
        for row in rows
        if row.efficiency < NEAR_LIMIT
    ]
    if folds.times > MOST_TIMES:
        found.append(f"the mean of {folds.models} models: {folds.times:.2f} times as many engines, above {MOST_TIMES}")
    if folds.compiled != folds.compiled_of_one:
        found.append(
            f"the mean of {folds.models} models: {folds.compiled} engines compiled, not {folds.compiled_of_one}"
        )
    return found


@click.command()
@click.option("--length", default=1000, show_default=True)
@click.option("--rounds", default=7, show_default=True)
@click.option("--naive-batch", "batches", multiple=True, type=int, help="Try only these.  [default: as make bench]")
@click.option("--folds", default=FOLDS, show_default=True, help="Models whose mean is scored.")
@click.option("--json", "path", type=click.Path(dir_okay=False), help="Write the figures to this file.")
@click.option("--floors/--no-floors", default=True, show_default=True, help="Exit 1 if a figure misses its mark.")
def main(length: int, rounds: int, batches: tuple[int, ...], folds: int, path: str | None, floors: bool) -> None:
    """Speed of blocks, and of the mean of several models, in float32."""
    rows = []
    for case in CASES:
        rows.append(time_blocks(case, length, rounds, batches))
        click.echo(f"{rows[-1].line}; at least {case.least:g}x is wanted")
    of_folds = time_folds("basset", length, rounds, folds)
    click.echo(f"{of_folds.line}; at most {MOST_TIMES} times is wanted")
    if path:
        figures = {"machine": machine(), "rounds": rounds, "rows": [*map(asdict, rows)], "folds": asdict(of_folds)}
        Path(path).write_text(json.dumps(figures, indent=1) + "\n")
    missed = faults(rows, [case.least for case in CASES], of_folds)
    if floors and missed:
        raise click.ClickException("; ".join(missed))


if __name__ == "__main__":
    main()
