"""``fastism pairs``."""

from __future__ import annotations

from typing import Any

import click

from fastism_cli.cli.click_options import (
    Grouped,
    Whole,
    fasta_option,
    input_option,
    loading_options,
    logging_options,
    model_option,
    placing_options,
)
from fastism_cli.cli.run import bed_option, how_options, output_option, output_options, score, what_options
from fastism_cli.options.choices import MOST_LENGTH


@click.command(cls=Grouped, short_help="Score pairs of substitutions that lie close together.")
@model_option
@bed_option
@fasta_option
@click.option(
    "--within",
    type=Whole(1, MOST_LENGTH),
    required=True,
    metavar="D",
    help="Score every two bases of the window that lie at most so far apart.",
)
@placing_options
@what_options
@input_option
@loading_options
@how_options
@output_option("pairs")
@output_options
@logging_options
@click.pass_context
def pairs(ctx: click.Context, **options: Any) -> None:
    """Score every two substitutions at most D bases apart, in the regions of BED.

    The interaction of two letters is what both change together, less what each of them changes alone: delta(both) -
    delta(one) - delta(other). The result is a file as that of "fastism run", with the scores of single letters, and in
    /pairs/HEAD the interactions, (regions, targets, first base, distance - 1, letter, letter). Commands that read
    results take the single letters of it; "fastism plot --pairs" draws the strongest interaction of each two bases.

    For W bases these are about 9 x W x D predictions of a region. --window 100 --within 20 asks for 16,110, and stores
    128 kB for each target.

    Exit codes: 0 done; 1 the run or some regions failed, or no region has scores; 2 wrong input.
    """
    score(ctx, **options)
