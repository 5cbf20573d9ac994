"""``fastism verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fastism_cli.cli.click_options import (
    batch_option,
    choice_option,
    input_option,
    loading_options,
    logging_options,
    model_option,
    placing_options,
    precision_option,
)
from fastism_cli.cli.text_table import aligned
from fastism_cli.options.run_options import RunOptions

if TYPE_CHECKING:
    from fastism_cli.engine.verify import VerifyReport

HEADER = ("head", "largest delta", "engine's error", "plain Keras' error", "tolerance", "")


@click.command(short_help="Compare the engine with plain Keras in float64.")
@model_option
@click.option("-b", "--bed", metavar="BED", help="Take the sequences from here.  [default: random ones]")
@click.option("-f", "--fasta", metavar="FASTA", help="Genome of --bed; its records without --bed.")
@placing_options
@input_option
@loading_options
@click.option("--sequences", type=click.IntRange(min=1), default=2, show_default=True, help="How many sequences.")
@click.option(
    "--positions", type=click.IntRange(min=3), default=30, show_default=True, help="Positions of each, ends included."
)
@click.option("--tolerance", type=click.FloatRange(min=0), help="Largest error allowed, in the model's units.")
@choice_option("engine", "Which to verify.", default="fast")
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
    """Compare the engine, and plain Keras in the same precision, with plain Keras in float64.

    By default, the engine's error may be three times that of plain Keras, or 1e-6 plus 1e-5 of the largest delta.
    Exit code 1 if it is larger.
    """
    from fastism_cli.run.inspect_and_verify import verify_model

    report = verify_model(
        model,
        RunOptions(**options),
        bed=bed,
        fasta=fasta,
        sequences=sequences,
        positions=positions,
        tolerance=tolerance,
    )
    click.echo("\n".join(text(report)))
    report.require()


def text(report: VerifyReport) -> list[str]:
    """Both errors of every head."""
    rows = [
        (
            head.name,
            *(f"{x:.3g}" for x in (head.largest_delta, head.fast_error, head.naive_error, head.tolerance)),
            "ok" if head.passed else "WRONG",
        )
        for head in report.heads
    ]
    judge = f"plain Keras in {report.judge}" + (f" ({report.note})" if report.note else "")
    what = f"{report.substitutions:,} substitutions in {report.sequences} sequences"
    return [f"{report.engine} engine, {what}, against {judge}", *aligned([HEADER, *rows], right=range(1, 5))]
