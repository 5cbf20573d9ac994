"""``fastism variants``."""

from __future__ import annotations

from typing import Any

import click

from fastism_cli.cli.click_options import (
    batch_option,
    fasta_option,
    input_option,
    loading_options,
    logging_options,
    missing_contig_option,
    model_option,
    precision_option,
    target_names_option,
)
from fastism_cli.cli.messages import LOGGER
from fastism_cli.options.run_options import RunOptions


@click.command(short_help="Score the variants of a VCF.")
@model_option
@click.option("--vcf", "vcf_path", required=True, metavar="VCF", help='Plain, compressed or BCF; "-" is stdin.')
@fasta_option
@click.option(
    "-o", "--output", metavar="FILE", help="VCF, .vcf.gz or .vcf; a .tsv lies beside it.  [default: <stem>.ism.vcf.gz]"
)
@click.option(
    "--share",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="BASES",
    help="Variants in the same stretch of BASES see one window, predicted once, centred on the stretch.",
)
@missing_contig_option
@click.option("--targets", multiple=True, metavar="[HEAD=]0,3-5", help="Targets to write, numbered from 0. Repeatable.")
@target_names_option
@input_option
@loading_options
@batch_option
@precision_option
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Compare with plain Keras on the first window, and write nothing if the numbers differ.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@logging_options
@click.pass_context
def variants(
    ctx: click.Context, model: str, vcf_path: str, fasta: str, output: str | None, share: int, **options: Any
) -> None:
    """Score the variants of VCF: prediction on each alternate allele minus prediction on the reference.

    The variant's first base is at the middle of the model's input (position length // 2), on the + strand. Single
    bases are scored by the engine, insertions and deletions by forward passes: the bases before them stay
    where they are, and those after them move, so that the window keeps its length.

    Writes the VCF with ISM_DELTA (one value for each allele), ISM_REF and ISM_STATUS in INFO, and a table. Symbolic
    alleles, and records whose REF is not what the FASTA holds, are kept unscored and counted. Contigs are matched with
    and without "chr".
    """
    from fastism_cli.run.variants.score_variants import score_variants

    report = score_variants(model, vcf_path, fasta, output, RunOptions(**options), share=share)
    for line in report.lines:
        LOGGER.info(line)
    if report.fault:
        click.echo(f"Error: {report.fault}", err=True)
        ctx.exit(1)
