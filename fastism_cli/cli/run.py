"""``fastism run``."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from fastism_cli.cli.click_options import (
    batch_option,
    choice_option,
    default_of,
    fasta_option,
    input_option,
    loading_options,
    logging_options,
    missing_contig_option,
    model_option,
    placing_options,
    precision_option,
    target_names_option,
    together,
)
from fastism_cli.cli.messages import LOGGER
from fastism_cli.options.run_options import RunOptions

if TYPE_CHECKING:
    from fastism_cli.run.summary import RunSummary

what_options = together(
    click.option("--window", type=click.IntRange(min=1), help="Bases to substitute, centred.  [default: the input]"),
    choice_option("n_policy", "Positions that hold an N: left NaN, all letters substituted, or refused."),
    click.option(
        "--max-n",
        type=click.FloatRange(0, 1),
        default=default_of("max_n"),
        show_default=True,
        help="Largest share of N in an input that is scored.",
    ),
    missing_contig_option,
    click.option("--tile", is_flag=True, help="Cover intervals of any length: every base scored once, with context."),
    click.option("--limit", type=click.IntRange(min=1), help="Only the first records."),
    click.option(
        "--targets",
        multiple=True,
        metavar="[HEAD=]0,3-5",
        help="Targets to store, numbered from 0; HEAD=all for a whole head. Repeatable.",
    ),
    target_names_option,
)

how_options = together(
    choice_option("engine", "Delta propagation, forward passes, or whichever is estimated to be faster."),
    batch_option,
    click.option(
        "--devices", metavar="all|0,1", help="One worker process on each of these GPUs.  [default: one process]"
    ),
    precision_option,
    click.option(
        "--check/--no-check",
        default=True,
        show_default=True,
        help="Compare with plain Keras on the first region, and write nothing if the numbers differ.",
    ),
)

output_options = together(
    click.option(
        "-o", "--output", metavar="FILE", help="Result.  [default: <BED or FASTA stem>.ism.h5 in this folder]"
    ),
    choice_option(
        "dtype", "Type of the stored deltas. Values beyond the float16 range are clipped, counted and reported."
    ),
    choice_option("compression", "Of the result: gzip makes it smallest, none is fastest."),
    click.option("--overwrite", is_flag=True, help="Replace the result if it exists."),
    click.option("--shard", metavar="I/K", help="Only the I-th of K ranges of the rows, from 0; see fastism merge."),
    click.option("--resume", is_flag=True, help="Continue what an interrupted run left; do nothing if it is complete."),
    click.option(
        "--checkpoint",
        type=click.FloatRange(min=0),
        default=default_of("checkpoint"),
        show_default=True,
        metavar="SECONDS",
        help="Time between checkpoints: the rows of a checkpoint survive a kill.",
    ),
    click.option("--summary", metavar="FILE", help="Rates, counts, memory and time by step, as JSON."),
    click.option("--dry-run", is_flag=True, help="Check everything, load the model, say what would be done, and stop."),
)


@click.command(short_help="Score every substitution in the regions of a BED.")
@model_option
@click.option(
    "-b",
    "--bed",
    metavar="BED",
    help='BED or narrowPeak, gzipped or not; "-" is stdin.  [default: every record of FASTA that fits]',
)
@fasta_option
@placing_options
@what_options
@input_option
@loading_options
@how_options
@output_options
@logging_options
@click.pass_context
def run(
    ctx: click.Context, model: str, bed: str | None, fasta: str, output: str | None, dry_run: bool, **options: Any
) -> None:
    """Score every substitution in the regions of BED.

    For each record, the sequence of the model's input length that is centred on it, with every base replaced by the
    three others: HDF5 of substituted - reference for every target. Records that cannot be scored keep their row, and
    "status" says why.

    Without --bed, every record of FASTA is scored from its first letter on: shorter ones are followed by N (--edge),
    longer ones are not scored.

    Exit codes: 0 done, 1 some regions failed or the run did, 2 wrong input.
    """
    from fastism_cli.cli.progress import shown_progress
    from fastism_cli.run.score_regions import plan_run
    from fastism_cli.run.worker_processes import score_on_devices

    chosen, command = RunOptions(**options), shlex.join(["fastism", *sys.argv[1:]])
    if dry_run:
        for line in plan_run(model, bed, fasta, output, chosen).lines():
            click.echo(line, err=True)
        return
    with shown_progress() as progress:
        summary = score_on_devices(model, bed, fasta, output, chosen, command=command, progress=progress)
    report(ctx, summary)


def report(ctx: click.Context, summary: RunSummary) -> None:
    """Log the last line and which regions were not scored; exit code 1 if regions failed."""
    LOGGER.info(summary.line)
    if summary.clipped_line:
        LOGGER.warning(summary.clipped_line)
    if summary.unscored:
        LOGGER.info(f"regions not scored: {summary.unscored} (see regions/status)")
    if summary.failed:
        click.echo(f"Error: {summary.failed_line}", err=True)
        ctx.exit(1)
