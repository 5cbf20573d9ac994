"""``fastism export``."""

from __future__ import annotations

from typing import Any

import click

from fastism_cli.cli.click_options import Real, Strict, Whole, logging_options, result_argument, targets_option
from fastism_cli.cli.messages import LOGGER
from fastism_cli.export.formats import FORMATS
from fastism_cli.options.choices import EXPORT_COMPRESSIONS, MOST_DELTA, OVERLAPS


@click.command(cls=Strict, short_help="Write a result in the format of another tool.")
@result_argument
@click.option("-t", "--format", "kind", type=click.Choice(list(FORMATS)), required=True, help="Format to write.")
@click.option(
    "-o", "--output", metavar="OUT", help='File to write; "-" is stdout.  [default: named after FILE, in this folder]'
)
@targets_option
@click.option(
    "--overlap",
    type=click.Choice(OVERLAPS),
    help="What stands where regions overlap.  [default: mean in bigwig and bedgraph; tables have every region's lines]",
)
@click.option("--top", type=Whole(1), help="tsv, parquet: only so many lines of each target, the strongest first.")
@click.option("--min-delta", type=Real(0, MOST_DELTA), help="tsv, parquet: the least magnitude of a delta.")
@click.option(
    "--compression",
    type=click.Choice(EXPORT_COMPRESSIONS),
    default="none",
    show_default=True,
    help="Compression of arrays: h5, npz.",
)
@click.option("--region-columns", is_flag=True, help="tsv, parquet: also the row of the BED and its name.")
@click.option(
    "--status", type=click.Choice(["ok"]), default="ok", show_default=True, help="Regions to write: those with scores."
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@logging_options
def export(file: str, output: str | None, status: str, **options: Any) -> None:
    """Write the scores of FILE, a result of "fastism run", in the format of another tool.

    Arrays and tables are on the + strand, also if the model saw the other one (basenji-h5: as the model saw them).
    Hypothetical importance is delta minus its mean over the four bases; the importance of a base is that of the
    letter that is there. An N is 0 in arrays and missing elsewhere. "pos" counts from 1, as in VCF.

    Beside every export lies OUT.regions.narrowPeak (OUT without its ending) with a line for each region, in the order
    of the arrays: the window, of even width, with the summit in its middle. Of an odd window, arrays and narrowPeak
    leave out the last base. It is the same beside every format: regions whose window passes an end of its contig are in
    none.

    bedgraph, tsv and vcf are written to stdout by "-o -", without the narrowPeak. A bedGraph is in the order of bytes
    of contig and start, which bedGraphToBigWig wants.

    With --top, --min-delta or --overlap, a table has each substitution once, as in "fastism top". A block has a line
    for each region that holds it.

    Formats that hold one target (modisco-npz, modisco-h5, chrombpnet-h5, bigwig, bedgraph) get a file for each target,
    with its name before the ending.

    Of blocks (--replace-with), bigwig and bedgraph have minus the mean delta of the blocks that hold a base, and tables
    a line for each block: chrom, start, end (as in BED), content, target, delta. The other formats need single letters.
    """
    from fastism_cli.export.export_scores import export_scores

    for line in export_scores(file, output, **options).lines():
        LOGGER.info(line)
