"""``fastism plot``."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from fastism_cli.cli.click_options import Limits, Real, Size, Strict, Whole, WordOrWhole, logging_options, together
from fastism_cli.cli.messages import LOGGER
from fastism_cli.cli.progress import shown_pictures
from fastism_cli.options.choices import (
    FEWEST_IN_A_ROW,
    LEAST_DPI,
    LEAST_POINTS,
    MOST_BASES,
    MOST_DPI,
    MOST_POINTS,
    NO_TITLE,
    PICTURE_BASES,
    PICTURE_FORMATS,
    PICTURE_STRANDS,
    FigureOptions,
)

region_options = together(
    click.option(
        "--region",
        metavar="CHROM:START-END",
        help="These bases, counted from 1, with the last one, as in samtools and IGV.",
    ),
    click.option("--name", "names", multiple=True, metavar="NAME", help="The region of this name. Repeatable."),
    click.option("--top", type=Whole(1), help="The regions with the strongest sites of the first target."),
    click.option(
        "--target",
        "--targets",
        "targets",
        multiple=True,
        metavar="[HEAD=]LIST",
        help="Targets to draw, one below the other.  [default: the only one] Repeatable.",
    ),
    click.option(
        "--bases",
        type=WordOrWhole("all", None, MOST_BASES),
        default=PICTURE_BASES,
        show_default=True,
        help="Bases shown of a longer region, around its strongest site; --region shows all that it names.",
    ),
    click.option(
        "--strand",
        type=click.Choice(PICTURE_STRANDS),
        default="+",
        show_default=True,
        help="Strand to draw from left to right; region is that of its record.",
    ),
    click.option(
        "--track",
        "tracks",
        multiple=True,
        metavar="[LABEL=]FILE",
        help="BED, GTF or bigWig to show below: names, genes with exons and strand, or a curve. Repeatable.",
    ),
    click.option(
        "--highlight",
        "highlights",
        multiple=True,
        metavar="CHROM:START-END|BED",
        help="Bases to shade. Repeatable.",
    ),
    click.option(
        "--pairs",
        is_flag=True,
        help='Also draw the strongest interaction of each two bases, of a result of "fastism pairs".',
    ),
)

look_options = together(
    click.option("--width", type=Size(), help="Such as 89mm, 183mm or 7in.  [default: as wide as needed]"),
    click.option("--height", type=Size(), help="Such as 60mm.  [default: as tall as needed]"),
    click.option("--wrap", type=Whole(FEWEST_IN_A_ROW), metavar="BASES", help="Bases of a row: more go into several."),
    click.option("--ylim", type=Limits(), help="Ends of the axis of importance.  [default: what is drawn]"),
    click.option("--own-y", is_flag=True, help="An axis and colours of its own for each logo, not one for all."),
    click.option(
        "--heat-map/--no-heat-map", default=None, help="Deltas of all substitutions below each logo.  [default: of one]"
    ),
    click.option(
        "--title", metavar="TEXT", help=f'In the place of name, place and prediction; "{NO_TITLE}" leaves it out.'
    ),
    click.option(
        "--label",
        "labels",
        multiple=True,
        metavar="TEXT",
        help="What each RESULT is called. Repeatable.",
    ),
    click.option(
        "--font-size",
        type=Real(LEAST_POINTS, MOST_POINTS),
        default=FigureOptions.font_size,
        show_default=True,
        metavar="POINTS",
        help="Of letters; none is smaller than 5.",
    ),
    click.option(
        "--dpi",
        type=Whole(LEAST_DPI, MOST_DPI),
        default=FigureOptions.dpi,
        show_default=True,
        help="Pixels of an inch of a PNG.",
    ),
)


@click.command(cls=Strict, short_help="Draw the logo and heat map of regions.")
@click.argument("files", metavar="RESULT...", nargs=-1, required=True)
@region_options
@look_options
@click.option(
    "-o", "--output", metavar="FILE|FOLDER/", help="Picture, or folder for one a region; a PDF holds any number."
)
@click.option("--format", type=click.Choice(PICTURE_FORMATS), help="Format of pictures in a folder.  [default: png]")
@click.option("--overwrite", is_flag=True, help="Replace pictures that exist.")
@logging_options
def plot(files: tuple[str, ...], output: str | None, format: str | None, overwrite: bool, **options: Any) -> None:
    """Draw regions of RESULT, a file of "fastism run".

    A sequence logo of importance (minus the mean delta of the bases at each position) over a heat map of the deltas,
    with positions of the genome. Several targets, and several results (models, alleles, before and after), are drawn
    one below the other on one axis. A site is the largest sum of importance over 11 bases in a row. Tiles of one
    record are drawn as one. Of blocks (--replace-with), the delta of each is drawn as a bar under the letters.

    Without -o, one region goes to the first RESULT's stem and its name as PNG, several to one PDF with a page for each.
    """
    from fastism_cli.report.picture_contents import PlotOptions
    from fastism_cli.report.plot_regions import plot_regions

    look = FigureOptions(**{field.name: options.pop(field.name) for field in fields(FigureOptions)})
    with shown_pictures() as tick:
        written = plot_regions(
            files, PlotOptions(**options, figure=look), output, format=format, overwrite=overwrite, tick=tick
        )
    LOGGER.info(f"-> {written[0]}" if len(written) == 1 else f"{len(written)} pictures -> {written[0]} ...")
