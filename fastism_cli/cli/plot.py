"""``fastism plot``."""

from __future__ import annotations

from typing import Any

import click

from fastism_cli.cli.click_options import Strict, Whole, WordOrWhole, logging_options, result_argument
from fastism_cli.cli.messages import LOGGER
from fastism_cli.options.choices import MOST_BASES, PICTURE_BASES, PICTURE_FORMATS, PICTURE_STRANDS


@click.command(cls=Strict, short_help="Draw the logo and heat map of regions.")
@result_argument
@click.option(
    "--region",
    metavar="CHROM:START-END",
    help="These bases, counted from 1, with the last one, as in samtools and IGV.",
)
@click.option("--name", "names", multiple=True, metavar="NAME", help="The region of this name. Repeatable.")
@click.option("--top", type=Whole(1), help="The regions with the strongest sites.")
@click.option(
    "--target",
    "--targets",
    "targets",
    multiple=True,
    metavar="[HEAD=]NAME",
    help="Target to draw.  [default: the only one]",
)
@click.option(
    "--bases",
    type=WordOrWhole("all", None, MOST_BASES),
    default=PICTURE_BASES,
    show_default=True,
    help="Bases shown of a longer region, around its strongest site; --region shows all that it names.",
)
@click.option(
    "--strand",
    type=click.Choice(PICTURE_STRANDS),
    default="+",
    show_default=True,
    help="Strand to draw from left to right; region is that of its record.",
)
@click.option(
    "-o", "--output", metavar="FILE|FOLDER/", help="Picture, or folder for one a region; a PDF holds any number."
)
@click.option("--format", type=click.Choice(PICTURE_FORMATS), help="Format of pictures in a folder.  [default: png]")
@click.option("--overwrite", is_flag=True, help="Replace pictures that exist.")
@logging_options
def plot(file: str, output: str | None, format: str | None, overwrite: bool, **options: Any) -> None:
    """Draw regions of FILE, a result of "fastism run".

    A sequence logo of importance (minus the mean delta of the bases at each position) over a heat map of the deltas,
    with positions of the genome. A site is the largest sum of importance over 11 bases in a row.

    Without -o, one region goes to FILE's stem and its name as PNG, several to one PDF with a page for each.
    """
    from fastism_cli.report.plot_regions import PlotOptions, plot_regions

    written = plot_regions(file, PlotOptions(**options), output, format=format, overwrite=overwrite)
    LOGGER.info(f"-> {written[0]}" if len(written) == 1 else f"{len(written)} pictures -> {written[0]} ...")
