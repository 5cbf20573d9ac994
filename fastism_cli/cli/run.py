"""``fastism run``."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from fastism_cli.cli.click_options import (
    Command,
    Grouped,
    Real,
    Signed,
    Whole,
    WidthOrPlace,
    batch_option,
    block_options,
    choice_option,
    default_of,
    fasta_option,
    input_option,
    loading_options,
    logging_options,
    mean_options,
    missing_contig_option,
    models_option,
    placing_options,
    precision_option,
    target_names_option,
    together,
)
from fastism_cli.cli.messages import LOGGER
from fastism_cli.options.choices import MOST_SECONDS, parse_shard
from fastism_cli.options.run_options import RunOptions
from fastism_cli.results.schema import Status
from fastism_cli.results.stdout import stdout_for_results

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastism_cli.run.summary import RunSummary

bed_option = click.option(
    "-b",
    "--bed",
    metavar="BED",
    help='Regions: BED or narrowPeak, can be gzipped; "-" is stdin.  [default: every record of FASTA that fits]',
)

what_options = together(
    click.option(
        "--window",
        type=WidthOrPlace(),
        help="Substitute only so many bases, in the middle of the input; or those from FIRST to before END, counted "
        "from the middle one along the strand of the record: -50:150.  [default: all of it]",
    ),
    click.option(
        "--offset",
        type=Signed(),
        default=default_of("offset"),
        show_default=True,
        help="Move the middle of the input by so many bases, to the 3' end of the record's strand.",
    ),
    choice_option(
        "n_policy", "For bases that are N: leave them unscored (NaN), substitute all letters, or refuse the regions."
    ),
    click.option(
        "--max-n",
        type=Real(0, 1, is_share=True),
        default=default_of("max_n"),
        show_default=True,
        help="Score only inputs with at most this share of N.",
    ),
    missing_contig_option,
    click.option("--limit", type=Whole(1), help="Score only the first records."),
    click.option(
        "--targets",
        multiple=True,
        metavar="[HEAD=]0,3-5",
        help="Targets to store, numbered from 0; HEAD=all is every target of a head. Repeatable.",
    ),
    target_names_option,
)

tile_option = click.option(
    "--tile", is_flag=True, help="Cover intervals of any length with several inputs: every base is scored once."
)

spread_option = click.option(
    "--spread", is_flag=True, help="Store the standard deviation over the models too, as /delta_sd beside /delta."
)

how_options = together(
    choice_option(
        "engine",
        "Use delta propagation (fast) or plain forward passes (naive); auto takes the one with the smaller estimate.",
    ),
    batch_option,
    click.option(
        "--devices", metavar="all|0,1", help="Run a worker process on each of these GPUs.  [default: one process]"
    ),
    precision_option,
    click.option(
        "--check/--no-check",
        default=True,
        show_default=True,
        help="First compare the engine with plain Keras on one region, and stop if it is wrong.",
    ),
)


def output_option(kind: str) -> Callable[[Command], Command]:
    """-o of a command whose results are named after their kind."""
    default = f"<BED or FASTA stem>.{kind}.h5 in this folder"
    return click.option("-o", "--output", metavar="FILE", help=f"HDF5 file to write.  [default: {default}]")


output_options = together(
    choice_option(
        "dtype", "Type of the stored deltas. Values beyond the range of float16 are clipped, counted and reported."
    ),
    choice_option("compression", "Compression of the result: gzip is smaller, lzf is faster."),
    click.option("--overwrite", is_flag=True, help="Replace the output if it exists."),
    click.option(
        "--shard",
        metavar="I/K",
        help="Score only part I of K, counted from 0; fastism merge joins the parts.",
    ),
    click.option(
        "--resume",
        is_flag=True,
        help="Continue an interrupted run; do nothing if the result is complete.",
    ),
    click.option(
        "--checkpoint",
        type=Real(0, MOST_SECONDS),
        default=default_of("checkpoint"),
        show_default=True,
        metavar="SECONDS",
        help="How often rows are saved, so that a killed run can be resumed.",
    ),
    click.option(
        "--summary",
        metavar="FILE",
        help="Also write a JSON file of counts, rates, memory and the time of each step.",
    ),
    click.option(
        "--dry-run",
        is_flag=True,
        help="Check all inputs, load the model, print what would be done, and stop.",
    ),
)


EXAMPLES = """\b
Examples:
  fastism run --model model.h5 --bed peaks.narrowPeak --fasta hg38.fa
  fastism run --model promoters.h5 --bed genes.bed --fasta hg38.fa --stranded --window -200:50 --targets 0
"""


@click.command(cls=Grouped, short_help="Score every substitution in the regions of a BED.", epilog=EXAMPLES)
@models_option
@bed_option
@fasta_option
@placing_options
@what_options
@tile_option
@block_options
@mean_options
@spread_option
@input_option
@loading_options
@how_options
@output_option("ism")
@output_options
@logging_options
@click.pass_context
def run(
    ctx: click.Context,
    model: tuple[str, ...],
    bed: str | None,
    fasta: str,
    output: str | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Score every substitution in the regions of BED.

    For each record of BED, the model's input is centred on it, and every base is replaced by the three others. The
    result is an HDF5 file: for every target, the prediction with the substitution minus the prediction without it.
    Records that cannot be scored keep their row in the file, and its "status" says why.

    Of several --model with the same inputs and heads, such as the folds of a cross-validation, the mean is scored.

    Without --bed, every record of FASTA is scored from its first base on. Shorter records are padded with N (see
    --edge); longer records are not scored.

    Exit codes: 0 done; 1 the run or some regions failed, or no region has scores; 2 wrong input.
    """
    score(ctx, model, bed, fasta, output, dry_run, **options)


def score(
    ctx: click.Context,
    model: str | tuple[str, ...],
    bed: str | None,
    fasta: str,
    output: str | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Do what "fastism run" and "fastism pairs" ask for, and report it."""
    from fastism_cli.cli.progress import shown_progress
    from fastism_cli.run.score_regions import plan_run
    from fastism_cli.run.worker_processes import score_on_devices

    chosen, command = RunOptions(**options), shlex.join(["fastism", *sys.argv[1:]])
    if dry_run:
        with stdout_for_results():
            plan = plan_run(model, bed, fasta, output, chosen)
        for line in plan.lines():
            click.echo(line, err=True)
        for line in plan.warnings:
            LOGGER.warning(line)
        if plan.unscored:
            click.echo(f"regions that will not be scored: {plan.unscored}", err=True)
        end_without_scores(ctx, plan.statuses, bed, fasta, is_part=chosen.shard is not None)
        return
    with stdout_for_results(), shown_progress() as progress:
        summary = score_on_devices(model, bed, fasta, output, chosen, command=command, progress=progress)
    report(ctx, summary)
    end_without_scores(ctx, summary.statuses, bed, fasta, is_part=chosen.shard is not None)
    if step := next_step(summary, chosen, first_of_several(summary.output) if chosen.within is not None else ""):
        LOGGER.info(step)


def end_without_scores(
    ctx: click.Context, statuses: Mapping[Status, int], bed: str | None, fasta: str, *, is_part: bool
) -> None:
    """Exit with code 1 if no region has scores; a shard of which this holds may be one of many that do."""
    from fastism_cli.run.summary import nothing_scored_line

    if not statuses and not is_part:
        LOGGER.warning(f"{bed or fasta} holds no region: there is nothing to score")
    line = nothing_scored_line(statuses, bed, fasta)
    if line and is_part:
        LOGGER.warning(line)
    elif line:
        click.echo(f"Error: {line}", err=True)
        ctx.exit(1)


def report(ctx: click.Context, summary: RunSummary) -> None:
    """Log the last line and what was not scored; exit with code 1 if regions failed."""
    LOGGER.info(summary.line)
    if summary.clipped_line:
        LOGGER.warning(summary.clipped_line)
    if summary.unscored:
        LOGGER.info(f"regions not scored: {summary.unscored} (see regions/status)")
    if summary.failed:
        click.echo(f"Error: {summary.failed_line}", err=True)
        ctx.exit(1)


def first_of_several(path: str) -> str:
    """The first target of a result that has several, of which a picture of pairs shows one; else nothing."""
    from fastism_cli.results.scores import open_scores

    with open_scores(path) as scores:
        return scores.targets[0] if len(scores.targets) > 1 else ""


def next_step(summary: RunSummary, chosen: RunOptions, target: str = "") -> str:
    """The command to go on with; empty if there are no scores to look at."""
    shards = parse_shard(chosen.shard).count
    if shards > 1:
        return f"next: fastism merge, when all {shards} shards are there"
    if not summary.statuses.get(Status.OK):
        return ""
    if chosen.within is not None:
        of_target = f" --target {shlex.quote(target)}" if target else ""
        return f"next: fastism plot {shlex.quote(summary.output)} --pairs --top 5{of_target}"
    if chosen.replace_with is not None:  # the report is of single letters
        return f"next: fastism top {shlex.quote(summary.output)}"
    return f"next: fastism report {shlex.quote(summary.output)}"
