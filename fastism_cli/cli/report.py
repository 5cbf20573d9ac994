"""``fastism report``."""

from __future__ import annotations

from typing import Any

import click

from fastism_cli.cli.click_options import Real, Strict, Whole, logging_options, result_argument
from fastism_cli.cli.messages import LOGGER
from fastism_cli.options.choices import MOST_MEGABYTES, REPORT_MEGABYTES, REPORT_REGIONS, REPORT_TARGETS


@click.command(cls=Strict, short_help="Write a page to look at a result in a browser.")
@result_argument
@click.option("-o", "--output", default="report.html", show_default=True, metavar="HTML", help="Page to write.")
@click.option(
    "--targets",
    multiple=True,
    metavar="[HEAD=]LIST",
    help="Targets by name, number or range.  "
    f"[default: all, of which the first {REPORT_TARGETS} are shown] Repeatable.",
)
@click.option(
    "--top",
    type=Whole(0),
    default=REPORT_REGIONS,
    show_default=True,
    help="Regions to draw: those with the strongest sites.",
)
@click.option(
    "--max-size",
    type=Real(0.1, MOST_MEGABYTES),
    default=REPORT_MEGABYTES,
    show_default=True,
    metavar="MB",
    help="Size of the page: fewer regions are drawn if all would not fit.",
)
@click.option("--overwrite", is_flag=True, help="Replace the page if it exists.")
@logging_options
def report(file: str, output: str, **options: Any) -> None:
    """Write one HTML page about FILE, a result of "fastism run".

    It opens from disk without a network: how the run was made, quality checks, a table of all regions to sort and
    search, and logo and heat map of the strongest ones to zoom and hover.
    """
    from fastism_cli.report.write_report import write_report

    for line in write_report(file, output, **options).lines():
        LOGGER.info(line)
