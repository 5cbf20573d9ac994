"""Time all pairs of substitutions within a distance against naive's best rate, and compare 300 of them with float64.

Naive predicts each pair of letters as a sequence of its own. Its rate is that of the forward passes over single
substitutions at the best batch size of a search on the same machine: it needs nothing else for a pair. In each round
both run once, one after the other.
"""

from __future__ import annotations

import os
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import keras
import numpy as np

from benchmarks.bench import NAIVE_BATCHES, best_naive_batch, naive_runner
from benchmarks.contestants import seconds
from fastism_cli import FastISM
from fastism_cli.genome.bed import BedSource
from fastism_cli.genome.fasta import open_fasta
from fastism_cli.genome.placement import centre_of
from fastism_cli.model import backend
from fastism_cli.model.loading.load import load_model
from fastism_cli.model.precision import with_dtype

SAMPLED = 300
TIMES_NAIVE = 3  # times the error of plain Keras that the engine can have
LETTERS = 4


def sequences(bed: str, fasta: str, length: int, most: int) -> np.ndarray:
    """One-hot sequences (n, L, 4) around the middles of the first regions whose input holds no N."""
    found: list[np.ndarray] = []
    with BedSource(bed) as source, open_fasta(fasta) as genome:
        for region in source.regions():
            start = centre_of(region, "auto") - length // 2
            codes = genome.codes(region.chrom, start, start + length)
            if (codes < LETTERS).all() and len(found) < most:
                found.append(np.eye(LETTERS, dtype="float32")[codes])
    if not found:
        raise click.ClickException(f"{bed} has no region without N.")
    return np.stack(found)


def sampled_pairs(one_hot: np.ndarray, window: range, within: int) -> list[tuple[int, int, int, int]]:
    """First position, distance, and both letters of some pairs, none of them a letter of the sequence."""
    rng, own = np.random.default_rng(0), one_hot.argmax(-1)
    pairs = []
    for _ in range(SAMPLED):
        distance = int(rng.integers(1, within + 1))
        first = int(rng.integers(window.start, window.stop - distance))
        x, y = (int((own[p] + rng.integers(1, LETTERS)) % LETTERS) for p in (first, first + distance))
        pairs.append((first, distance, x, y))
    return pairs


def by_keras(
    model: Any, head: int, one_hot: np.ndarray, pairs: list[tuple[int, int, int, int]], dtype: str
) -> np.ndarray:
    """The interactions of the pairs by plain Keras, (pairs, T)."""
    letters = np.eye(LETTERS)
    rows = np.repeat(one_hot[None], 1 + 3 * len(pairs), axis=0)
    for i, (first, distance, x, y) in enumerate(pairs):
        for k, changed in enumerate(({first: x, first + distance: y}, {first: x}, {first + distance: y})):
            for position, letter in changed.items():
                rows[1 + 3 * i + k, position] = letters[letter]
    parts = np.array_split(rows.astype(dtype), -(-len(rows) // 64))
    values = np.concatenate([np.asarray(keras.tree.flatten(model(part))[head]) for part in parts]).reshape(
        len(rows), -1
    )
    both, one, other = np.moveaxis(values[1:].reshape(len(pairs), 3, -1), 1, 0)
    return both - one - other + values[0]


def errors(scorer: FastISM, model: Any, x: np.ndarray, within: int, window: range) -> tuple[float, float, float]:
    """Largest errors of the engine and of plain Keras in float32, and the largest interaction, of sampled pairs."""
    pairs = sampled_pairs(x[0], window, within)
    head = scorer.heads[0].source
    exact = by_keras(with_dtype(model, "float64"), head, x[0], pairs, "float64")
    plain = by_keras(with_dtype(model, "float32"), head, x[0], pairs, "float32")
    (found,) = scorer.pairs(x, within=within, window=window).interaction.values()
    values = found[0].reshape(-1, *found.shape[-4:])
    fast = np.array([values[:, first - window.start, d - 1, a, b] for first, d, a, b in pairs])
    return (*(float(np.abs(y - exact).max()) for y in (fast, plain)), float(np.abs(exact).max()))


@click.command()
@click.option("--model", "path", default="examples/demo.keras", show_default=True)
@click.option("--fasta", default="examples/demo.fa", show_default=True)
@click.option("--bed", default="examples/demo.bed", show_default=True)
@click.option("--within", default=20, show_default=True, help="Largest distance.")
@click.option("--window", default=100, show_default=True, help="Bases in the middle of the input.")
@click.option("--regions", default=8, show_default=True, help="Sequences that are scored together.")
@click.option("--rounds", default=9, show_default=True)
@click.option("--least", default=0.0, help="Exit 1 if the ratio is below this.")
def main(path: str, fasta: str, bed: str, within: int, window: int, regions: int, rounds: int, least: float) -> None:
    """Print how many times faster all pairs are than at naive's best rate, and whether 300 pairs are right.

    Of a model with several heads, the first one is scored.
    """
    model = load_model(path)
    scorer = FastISM(model, engine="fast", targets={FastISM(model).heads[0].name: None})
    if scorer.other_inputs:
        raise click.ClickException("the comparison takes a model of one input.")
    length = scorer.input_length
    x = sequences(bed, fasta, length, regions)
    inside = range((length - window) // 2, (length - window) // 2 + window)
    predictions = len(x) * (LETTERS - 1) ** 2 * scorer.pair_scorer(within).count(inside)
    first_call = seconds(lambda: scorer.pairs(x, within=within, window=inside))
    batch = best_naive_batch(model, x[:1], None, NAIVE_BATCHES[backend.device_kind()])
    share = min(length, max(length // 2, batch // 3))
    naive = naive_runner(model, x[:1], batch, None, share)
    times = []
    for _ in range(rounds):
        fast = seconds(lambda: scorer.pairs(x, within=within, window=inside))
        times.append((fast, seconds(naive) / (share * (LETTERS - 1)) * predictions))
    ratios = sorted(n / f for f, n in times)
    engine_error, plain_error, largest = errors(scorer, model, x, within, inside)
    equal = engine_error <= max(TIMES_NAIVE * plain_error, 1e-6 + 1e-5 * largest)
    click.echo(
        f"{os.path.basename(path)}: {len(x)} x {predictions // len(x):,} pairs of letters within {within} of {window} "
        f"bases (L {length})\n"
        f"pairs {median(f for f, _ in times):.4f} s, naive {median(n for _, n in times):.3f} s at batch {batch}: "
        f"{median(ratios):.1f}x ({ratios[0]:.1f} to {ratios[-1]:.1f}, {rounds} rounds); first call {first_call:.1f} s\n"
        f"{SAMPLED} pairs against float64: largest error {engine_error:.1e}, plain Keras {plain_error:.1e}, largest "
        f"interaction {largest:.1e}: {'equal' if equal else 'NOT EQUAL'}"
    )
    if not equal or median(ratios) < least:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
