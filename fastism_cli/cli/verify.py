"""``fastism verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fastism_cli.cli.click_options import (
    Real,
    Strict,
    Whole,
    batch_option,
    block_options,
    choice_option,
    input_option,
    loading_options,
    logging_options,
    model_option,
    placing_options,
    precision_option,
)
from fastism_cli.cli.messages import aligned
from fastism_cli.options.choices import MOST_SEQUENCES, MOST_TOLERANCE
from fastism_cli.options.run_options import RunOptions
from fastism_cli.results.stdout import stdout_for_results

if TYPE_CHECKING:
    from fastism_cli.engine.verify import VerifyReport

HEADER = ("head", "largest delta", "engine's error", "plain Keras' error", "tolerance", "")


@click.command(cls=Strict, short_help="Compare the engine with plain Keras in float64.")
@model_option
@click.option(
    "-b",
    "--bed",
    metavar="BED",
    help="Compare on the first regions of this file.  [default: random sequences]",
)
@click.option(
    "-f",
    "--fasta",
    metavar="FASTA",
    help="Genome of --bed. Without --bed, compare on its records.",
)
@placing_options
@input_option
@loading_options
@block_options
@click.option(
    "--sequences",
    type=Whole(1, MOST_SEQUENCES),
    default=2,
    show_default=True,
    help="How many sequences to compare.",
)
@click.option(
    "--positions",
    type=Whole(3),
    default=30,
    show_default=True,
    help="How many positions of each sequence to compare: a third at each end, a third in the middle.",
)
@click.option(
    "--tolerance",
    type=Real(0, MOST_TOLERANCE),
    help="Largest error that passes, in the model's output units.  [default: see above]",
)
@choice_option("engine", "The engine to verify.", default="fast")
@batch_option
@precision_option
@logging_options
@click.pass_context
def verify(
    ctx: click.Context,
    model: str,
    bed: str | None,
    fasta: str | None,
    sequences: int,
    positions: int,
    tolerance: float | None,
    **options: Any,
) -> None:
    """Check that the engine computes the right numbers for MODEL.

    Some substitutions, or blocks of --replace-with, are scored by the engine, by plain Keras, and by plain Keras in
    float64. The first two are compared with the third. The engine passes if its error is at most three times that of
    plain Keras, or at most 1e-6 plus 1e-5 of the largest delta.

    Exit codes: 0 all heads pass; 1 a head fails; 2 wrong input.
    """
    from fastism_cli.run.inspect_and_verify import verify_model

    chosen = RunOptions(**options)
    with stdout_for_results():
        report = verify_model(
            model, chosen, bed=bed, fasta=fasta, sequences=sequences, positions=positions, tolerance=tolerance
        )
    click.echo("\n".join(text(report)))
    report.require()


def text(report: VerifyReport) -> list[str]:
    """A table of the errors of every head."""
    rows = [
        (
            head.name,
            *(f"{x:.3g}" for x in (head.largest_delta, head.fast_error, head.naive_error, head.tolerance)),
            "ok" if head.passed else "WRONG",
        )
        for head in report.heads
    ]
    judge = f"plain Keras in {report.judge}" + (f" ({report.note})" if report.note else "")
    what = f"{report.substitutions:,} {report.kind} in {report.sequences} sequences"
    table = aligned([HEADER, *rows], right=range(1, 5))
    return [f"{report.engine} engine, {what}, against {judge}", *table, *report.not_finite]
