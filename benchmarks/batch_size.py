"""Does ``--batch-size auto`` find a size within 10 % of the best fixed one? Timed on models of very different size."""

from __future__ import annotations

import os
from functools import partial
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click

from benchmarks.auto import danq, tiny
from benchmarks.contestants import seconds
from benchmarks.models import REDUCE, basset, bpnet, conv_stack, factorized_basset, random_one_hot, randomised
from fastism_cli import FastISM

SIZES = (750, 3000, 6000, 12000, 24000, 48000)
WORST = 1.10
SEQUENCES = 16
CASES = {
    "basset": lambda: basset(1000),
    "factorized_basset": lambda: factorized_basset(1000),
    "bpnet": lambda: bpnet(1000),
    "conv_stack": lambda: conv_stack(500, 3),
    "danq": lambda: randomised(danq(300)),
    "tiny": lambda: randomised(tiny(200)),
}


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--model", "names", multiple=True, type=click.Choice(list(CASES)), help="Default: all.")
def main(rounds: int, names: tuple[str, ...]) -> None:
    """Exit 1 if auto takes over 1.1 of the time of the best fixed size; several sequences in one call."""
    lost = []
    for name in names or CASES:
        model = CASES[name]()
        length = model.inputs[0].shape[1]
        x = random_one_hot(max(SEQUENCES * 300 // length, 2), length)
        options = {"engine": "fast", "reduce": REDUCE.get(model.name)}
        engines = {size: FastISM(model, batch_size=size, **options) for size in ("auto", *SIZES)}
        for engine in engines.values():
            engine(x)
        rounds_of = [{size: seconds(partial(e, x)) for size, e in engines.items()} for _ in range(rounds)]
        ratios = {size: median(times["auto"] / times[size] for times in rounds_of) for size in SIZES}
        listing = ", ".join(f"{size}: {ratio:.2f}" for size, ratio in ratios.items())
        click.echo(
            f"{name:18} auto = {engines['auto'].batching.substitutions:6}; its time over a fixed size's: {listing}"
        )
        lost += [name] if max(ratios.values()) > WORST else []
    if lost:
        raise click.ClickException(f"auto is over {WORST} of the best fixed size on: {', '.join(lost)}")


if __name__ == "__main__":
    main()
