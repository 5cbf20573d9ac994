"""The engine on a GPU: rates, errors and the speedup over naive on the same card, within a given time.

Needs Keras and the backend that ``KERAS_BACKEND`` names, and no TensorFlow under JAX. Rows come in the order of their
importance, and the file is written after each: whatever the time allowed is in it, and what is missing is named.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from fastism_cli.run.start_backend import CPU, environment

Case = tuple[str, int, str]

FLOAT32 = "float32"
ORDER: list[Case] = [
    ("basset", 1000, FLOAT32),
    ("basset", 1000, "tf32"),
    ("basset", 1000, "bfloat16"),
    ("factorized_basset", 1000, FLOAT32),
    ("bpnet", 1000, FLOAT32),
    ("basset", 2000, FLOAT32),
    ("factorized_basset", 2000, FLOAT32),
    ("bpnet", 2000, FLOAT32),
    *[
        (name, length, precision)
        for length in (1000, 2000)
        for name in ("factorized_basset", "bpnet", "basset")
        for precision in ("tf32", "bfloat16")
        if (name, length) != ("basset", 1000)
    ],
]
QUICK: list[Case] = [("conv_stack", 60, precision) for precision in (FLOAT32, "bfloat16")]
WAIT_FOR_TRUTH = 60.0  # seconds, for a process that began with this one

HEADER = (
    f"{'model':18} {'L':>5} {'precision':9} {'seq/s':>8} {'G madd/s':>9} {'of card':>7} {'speedup':>8} "
    f"{'range':>15} {'error':>8} {'naive':>8}  genome"
)


def line(row: dict[str, Any]) -> str:
    hours = "" if row["genome_hours"] is None else f"{row['genome_hours']:.2f} h"
    return (
        f"{row['model']:18} {row['length']:5} {row['precision']:9} {row['sequences_per_second']:8.1f} "
        f"{row['multiply_adds_per_second'] / 1e9:9.1f} {row['of_rate']:7.2f} {row['speedup']:7.1f}x "
        f"{row['speedup_low']:6.1f} - {row['speedup_high']:6.1f} {shown(row['error'])} "
        f"{shown(row['naive_error'])}  {hours}"
    )


def shown(error: float | None) -> str:
    return f"{'-':>8}" if error is None else f"{error:8.1e}"


@click.command()
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
@click.option("--minutes", default=9.0, show_default=True, help="Start no row that would end later than this.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--cpu", is_flag=True, help="On the processor, to try the script: its figures are not a GPU's.")
@click.option("--quick", is_flag=True, help="A small model and small matrices, to try the script.")
def main(path: Path | None, minutes: float, rounds: int, cpu: bool, quick: bool) -> None:
    """Speed and error on the card at hand, in float32, TF32 and bfloat16."""
    if cpu:
        os.environ.update(environment(CPU))
    from benchmarks.device_rows import device
    from fastism_cli.model import backend

    if not cpu and backend.device_kind() != "gpu":
        raise click.ClickException(f"{backend.BACKEND} sees no GPU here: nothing is measured (--cpu tries the script).")
    began = time.monotonic()
    figures: dict[str, Any] = {"device": device(), "rounds": rounds, "rates": {}, "rows": []}
    figures.update(failed=[], not_measured=[])
    click.echo(", ".join(f"{name} {value}" for name, value in figures["device"].items()))
    with tempfile.TemporaryDirectory() as folder:
        run(QUICK if quick else ORDER, figures, path, began + 60 * minutes, Path(folder))
    click.echo(f"{time.monotonic() - began:.0f} s in all")
    if figures["not_measured"]:
        click.echo("not measured, for want of time: " + ", ".join(figures["not_measured"]))


def run(order: list[Case], figures: dict[str, Any], path: Path | None, until: float, folder: Path) -> None:
    """Rates of the card, then row by row while there is time; a row that fails is named and stops no other."""
    from benchmarks.bench import save
    from benchmarks.truth import Truth

    truth = Truth(folder, list(dict.fromkeys((name, length) for name, length, _ in order)))
    pairs: dict[tuple[str, int], Any] = {}
    longest = 0.0
    try:
        figures["rates"] = rates(quick=order is QUICK)
        click.echo(HEADER)
        for number, case in enumerate(order):
            started = time.monotonic()
            if started + longest > until:
                figures["not_measured"] = [named(case) for case in order[number:]]
                break
            try:
                figures["rows"].append(row_of(case, figures, pairs, truth, quick=order is QUICK))
                click.echo(line(figures["rows"][-1]))
            except Exception as error:  # a card that nobody has tried may refuse anything
                why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                figures["failed"].append(f"{named(case)} ({why[:300]})")
                click.echo(f"failed: {figures['failed'][-1]}")
            longest = max(longest, time.monotonic() - started)
            if path:
                save(path, figures)
    finally:
        truth.close()
        if path:
            save(path, figures)


def row_of(case: Case, figures: dict[str, Any], pairs: dict[tuple[str, int], Any], truth: Any, *, quick: bool) -> Any:
    """Measure one case; ``pairs`` keeps the engines that the search in float32 has compiled, by model and length."""
    from benchmarks.device_rows import measure, recast, search

    name, length, precision = case
    if (name, length) not in pairs:
        pairs[name, length] = search(name, length, quick=quick)
    row = measure(
        *(recast(engine, name, length, precision) for engine in pairs[name, length]),
        rate=figures["rates"][precision],
        rounds=figures["rounds"],
        truth=partial(truth.deltas, name, length, seconds=WAIT_FOR_TRUTH),
    )
    return asdict(row)


def named(case: Case) -> str:
    return " ".join(map(str, case))


def rates(*, quick: bool) -> dict[str, float]:
    """Multiply-adds a second in a large matrix product, by precision."""
    from benchmarks.device_rows import PRECISIONS, matrix_rate
    from fastism_cli.model import backend

    size = 8192 if backend.device_kind() == "gpu" else 1024
    found = {}
    for precision in PRECISIONS:
        found[precision] = matrix_rate(precision, 128 if quick else size)
        click.echo(f"matrix products in {precision}: {found[precision] / 1e12:.2f} T multiply-adds/s")
    return found


if __name__ == "__main__":
    main()
