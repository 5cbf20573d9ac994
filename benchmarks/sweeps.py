"""How the time depends on the model: targets, kernel size, depth, length; and models of other kinds.

Written to ``sweeps.json``, from which ``make bench-report`` draws the table and the plots.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from benchmarks.bench import machine, time_model
from benchmarks.models import basset, bpnet, chrombpnet, conv_stack, deepsea, factorized_basset, random_one_hot

HERE = Path(__file__).parent
NAIVE_BATCHES = (32, 128, 512)
NAIVE_VALUES = 3e7  # of the first layer's output that a batch of naive may hold: longer sequences, smaller batches
LENGTHS = (250, 500, 1000, 2000, 4000, 8000)

# Name of the sweep, of its variable, and (value, how to build, length).
Sweep = tuple[str, str, list[tuple[Any, Callable[[], Any], int]]]


def sweeps() -> Iterator[Sweep]:
    yield "targets", "targets", [(n, partial(basset, 1000, targets=n), 1000) for n in (1, 10, 100, 1000)]
    yield "kernel_size", "kernel_size", [(n, partial(basset, 1000, kernel_size=n), 1000) for n in (5, 11, 19, 35, 50)]
    yield "depth", "convolutions", [(n, partial(conv_stack, 1000, n), 1000) for n in range(1, 7)]
    for build in (basset, factorized_basset, bpnet):
        yield build.__name__, "length", [(n, partial(build, n), n) for n in LENGTHS]
    yield "others", "model", [("deepsea", deepsea, 1000), ("chrombpnet", chrombpnet, 2114)]


def naive_batches(model: Any, length: int) -> list[int]:
    """Batch sizes that naive is searched among: those whose activations fit into memory easily."""
    channels = max(layer.output.shape[-1] for layer in model.layers)
    most = NAIVE_VALUES / (length * min(channels, 512))
    return [batch for batch in NAIVE_BATCHES if batch <= most] or [16]


def timed(value: Any, build: Callable[[], Any], length: int, rounds: int) -> dict[str, Any]:
    model, x = build(), random_one_hot(1, length)
    batches = naive_batches(model, length)
    row = time_model(model, x, rounds, batches=batches, share=max(30, max(batches) // 3))
    return {"value": value, "length": length, **row}


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--only", "names", multiple=True, help="Names of sweeps. Default: all.")
@click.option("--json", "path", default=str(HERE / "sweeps.json"), show_default=True)
def main(rounds: int, names: tuple[str, ...], path: str) -> None:
    """Naive is timed on a few positions and scaled up: its time is the same at each."""
    began, found = time.perf_counter(), {}
    for name, variable, cases in sweeps():
        if names and name not in names:
            continue
        rows = []
        for case in cases:
            rows.append(timed(*case, rounds))
            click.echo(
                f"{name:18} {variable} {case[0]!s:>10}  fastism {rows[-1]['fast_seconds']:8.3f} s  naive "
                f"{rows[-1]['naive_seconds']:9.2f} s  {rows[-1]['speedup']:6.1f}x of {rows[-1]['limit']:6.1f}x"
            )
            found[name] = {"variable": variable, "rows": rows}
            figures = {"machine": machine(), "rounds": rounds, "sweeps": found}
            Path(path).write_text(json.dumps(figures, indent=1) + "\n")
    click.echo(f"{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
