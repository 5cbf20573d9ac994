"""``fastism top``."""

from __future__ import annotations

from typing import Any

import click

from fastism_cli.cli.click_options import Real, Strict, Whole, logging_options, result_argument, targets_option
from fastism_cli.options.choices import LINE_FOR, MOST_DELTA, OVERLAPS


@click.command(cls=Strict, short_help="List the strongest substitutions of a result.")
@result_argument
@click.option("-n", "--n", "n", type=Whole(1), default=50, show_default=True, help="Lines of each target.")
@click.option(
    "--min-delta", type=Real(0, MOST_DELTA), default=0.0, show_default=True, help="Least magnitude of a delta."
)
@click.option(
    "--by",
    type=click.Choice(LINE_FOR),
    default="substitution",
    show_default=True,
    help="A line for each substitution, or for the strongest of a base, or of all within 11 bases; of blocks, "
    "of all that overlap.",
)
@click.option(
    "--overlap",
    type=click.Choice(OVERLAPS),
    help="The delta where regions overlap: max is that of the largest magnitude, first that of the first region.  "
    "[default: mean]",
)
@targets_option
@click.option(
    "-o", "--output", default="-", metavar="OUT", help="TSV, or Parquet if it ends in .parquet.  [default: stdout]"
)
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@logging_options
def top(file: str, output: str, **options: Any) -> None:
    """List the strongest substitutions of FILE, a result of "fastism run", for each target.

    A table of chrom, pos (from 1), ref, alt, target, delta, reference, region, the strongest first: the largest delta,
    negative or positive. Letters are those of the + strand. "reference" is the prediction without the substitution,
    "region" the name of the record, or its place. A substitution that several regions hold has one line.

    Of blocks (--replace-with): chrom, start and end as in BED, the number of the content, target, delta, reference,
    region. A block has a line for each region that holds it; --by site has the strongest of all that overlap it.
    """
    from fastism_cli.export.tables import write_top

    write_top(file, output, **options)
