"""``python -m tests.slow.field.child``: one model in a process of its own, built by its package or scored by fastism.

The package and Keras of the recipe are this process's own; scoring starts as a command does.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from tests.slow.field.models import RECIPES, Recipe

SEQUENCES, N_SHARE = 2, 0.01
NAIVE_BATCHES = (8, 32, 128, 512)
# Seconds: a batch that takes longer is the last that is tried; a measured part of the positions takes about so long.
LONGEST_BATCH, MEASURED_SECONDS = 20.0, 15.0
ROUNDS = 3


@click.group()
def main() -> None:
    """Build a model, or score one."""


def recipe_of(name: str) -> Recipe:
    found = next((recipe for recipe in RECIPES if recipe.key == name), None)
    if found is None:
        raise click.BadParameter(f"{name}: no such recipe")
    return found


@main.command()
@click.argument("key")
@click.argument("folder", type=click.Path(path_type=Path))
def build(key: str, folder: Path) -> None:
    """Write the model KEY into FOLDER."""
    recipe_of(key).build(folder)


@main.command()
@click.argument("key")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--positions", default=9, show_default=True, help="Checked in each sequence, both ends among them.")
@click.option("--measure", is_flag=True, help="Time the engine and naive: nothing else must run.")
def score(key: str, folder: Path, positions: int, measure: bool) -> None:
    """Print what fastism makes of the model KEY in FOLDER, as JSON."""
    from fastism_cli.run.start_backend import import_backend

    began = time.process_time()
    import_backend()
    recipe = recipe_of(key)
    scorer = loaded(str(folder / recipe.file), recipe.options)
    found = {**limits(scorer), "load_seconds": round(time.process_time() - began, 1), **errors(scorer, positions)}
    found["check_seconds"] = round(time.process_time() - began - found["load_seconds"], 1)
    if measure:
        found.update(speeds(scorer))
    click.echo(json.dumps(found))


def loaded(path: str, options: tuple[str, ...]) -> Any:
    """The engine as ``fastism verify`` makes it from these words of the command line."""
    from fastism_cli.cli.verify import verify as command
    from fastism_cli.errors import Problems
    from fastism_cli.model.loading.load import ModelSource
    from fastism_cli.options.run_options import RunOptions
    from fastism_cli.run.job import load_scorer
    from fastism_cli.run.request import check_choices

    given = command.make_context("verify", ["--model", path, *options]).params
    names = RunOptions.__dataclass_fields__
    chosen = RunOptions(**{name: value for name, value in given.items() if name in names})
    source, problems = ModelSource.of(given["model"], chosen), Problems()
    choices = check_choices(problems, source, chosen)
    problems.raise_if_any()
    return load_scorer(source, choices, chosen)


def limits(scorer: Any) -> dict[str, Any]:
    """What ``fastism inspect`` says."""
    from fastism_cli.engine.inspection import OPAQUE, inspect_scorer
    from fastism_cli.engine.prepare import choose_engine

    found = inspect_scorer(scorer)
    opaque = sorted({f"{node.class_name} ({node.reason})" for node in found.nodes if node.state == OPAQUE})
    auto = choose_engine(scorer.prepared, "auto").name
    return {
        "length": scorer.input_length,
        "limit": found.limit,
        "estimate": found.speedup,
        "auto": auto,
        "opaque": opaque,
    }


def errors(scorer: Any, positions: int) -> dict[str, Any]:
    """The engine and plain Keras against plain Keras in float64."""
    from fastism_cli.engine.verify import verify

    report = verify(scorer, sequences(scorer, SEQUENCES), per_sequence=positions)
    heads = [asdict(head) for head in report.heads]
    worst = max(report.heads, key=lambda head: head.fast_error / head.tolerance)
    return {
        "judge": report.judge,
        "substitutions": report.substitutions,
        "passed": report.passed and all(head["largest_delta"] > 0 for head in heads),
        "error": worst.fast_error,
        "naive_error": worst.naive_error,
        "largest_delta": worst.largest_delta,
        "heads": heads,
    }


def sequences(scorer: Any, n: int) -> np.ndarray:
    """Random one-hot sequences, float32 (n, L, 4), with a few N, but not at the ends."""
    from tests.helpers.sequences import random_one_hot

    rng = np.random.default_rng(0)
    x = random_one_hot(rng, n, scorer.input_length, n_fraction=N_SHARE)
    x[:, [0, -1]] = random_one_hot(rng, n, 2)
    return x


# --- speed ------------------------------------------------------------------------------------------------------------


def speeds(scorer: Any) -> dict[str, Any]:
    """Seconds for all substitutions of one sequence, by the engine and by naive at its best batch, in paired rounds.

    Both are timed on positions in the middle, as many as take some seconds.
    """
    x = sequences(scorer, 1)
    batch, naive_each = best_naive_batch(scorer, x)
    naive = with_engine(scorer, "naive", batch)
    few = part(scorer, scorer.batching.substitutions // 3)
    timed(scorer, x, few)
    wanted = part(scorer, len(few) * max(1, int(MEASURED_SECONDS / timed(scorer, x, few))))
    share = part(scorer, max(batch // 3, int(MEASURED_SECONDS / naive_each)))
    timed(scorer, x, wanted)
    timed(naive, x, share)
    rounds = [(timed(scorer, x, wanted) / len(wanted), timed(naive, x, share) / len(share)) for _ in range(ROUNDS)]
    ratios = sorted(n / f for f, n in rounds)
    return {
        "fast_seconds": median(f for f, _ in rounds) * scorer.input_length,
        "naive_seconds": median(n for _, n in rounds) * scorer.input_length,
        "naive_batch": batch,
        "positions": [len(wanted), len(share)],
        "speedup": median(ratios),
        "speedup_range": [ratios[0], ratios[-1]],
    }


def best_naive_batch(scorer: Any, x: np.ndarray) -> tuple[int, float]:
    """The batch size with the least time a position, and that time; larger ones than take long are not tried."""
    each: dict[int, float] = {}
    for batch in NAIVE_BATCHES:
        naive, positions = with_engine(scorer, "naive", batch), part(scorer, max(batch // 3, 1))
        timed(naive, x, positions)
        spent = timed(naive, x, positions)
        each[batch] = spent / len(positions)
        if spent > LONGEST_BATCH:
            break
    best = min(each, key=each.__getitem__)
    return best, each[best]


def with_engine(scorer: Any, engine: str, batch_size: int) -> Any:
    """The same prepared model with another engine."""
    return scorer.of_model(scorer.prepared, engine=engine, batch_size=batch_size)


def timed(scorer: Any, x: np.ndarray, positions: range) -> float:
    began = time.perf_counter()
    scorer(x, positions=positions)
    return time.perf_counter() - began


def part(scorer: Any, n: int) -> range:
    """``n`` positions in the middle, or all."""
    n = min(n, scorer.input_length)
    first = (scorer.input_length - n) // 2
    return range(first, first + n)


if __name__ == "__main__":
    main()
