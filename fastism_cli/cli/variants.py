"""``fastism variants``."""

from __future__ import annotations

from typing import Any

import click

from fastism_cli.cli.click_options import (
    Grouped,
    Whole,
    batch_option,
    fasta_option,
    input_option,
    loading_options,
    logging_options,
    mean_options,
    missing_contig_option,
    models_option,
    precision_option,
    target_names_option,
)
from fastism_cli.cli.messages import LOGGER
from fastism_cli.options.choices import MOST_LENGTH
from fastism_cli.options.run_options import RunOptions
from fastism_cli.results.stdout import stdout_for_results


@click.command(cls=Grouped, short_help="Score the variants of a VCF.")
@models_option
@click.option(
    "--vcf",
    "vcf_path",
    required=True,
    metavar="VCF",
    help='Variants: VCF, plain or compressed, or BCF; "-" is stdin.',
)
@fasta_option
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="VCF to write, .vcf.gz or .vcf, with a .tsv beside it.  [default: <VCF stem>.ism.vcf.gz in this folder]",
)
@click.option(
    "--share",
    type=Whole(1),
    default=1,
    show_default=True,
    metavar="BASES",
    help="Predict one reference for all variants in a stretch of BASES, with the input centred on the stretch.",
)
@missing_contig_option
@click.option(
    "--ref-mismatch",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="If more than 5 % of the records (3 or more; or 20 % of one contig, 5 or more) have a REF that is not in the "
    "FASTA, as in a VCF of another genome: refused, or kept unscored.",
)
@click.option(
    "--fold-change",
    is_flag=True,
    help="Also write log2 of the prediction on ALT over that on REF, where both are above 0.",
)
@click.option(
    "--around",
    type=Whole(1, MOST_LENGTH),
    metavar="BASES",
    help="Also score all substitutions of so many bases around each allele, in the sequence of REF and in that of ALT; "
    "write the largest |delta| of both.",
)
@click.option("--targets", multiple=True, metavar="[HEAD=]0,3-5", help="Targets to write, numbered from 0. Repeatable.")
@target_names_option
@mean_options
@input_option
@loading_options
@batch_option
@precision_option
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="First compare the engine with plain Keras on one variant's sequence, and stop if it is wrong.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@logging_options
@click.pass_context
def variants(
    ctx: click.Context,
    model: tuple[str, ...],
    vcf_path: str,
    fasta: str,
    output: str | None,
    share: int,
    ref_mismatch: str,
    fold_change: bool,
    around: int | None,
    **options: Any,
) -> None:
    """Score the variants of VCF: prediction on each alternate allele minus prediction on the reference.

    The first base of the variant is at the middle of the model's input (position length // 2), on the + strand. For an
    insertion or a deletion, the bases before it stay where they are and the bases after it move, so that the input
    keeps its length.

    Of several --model with the same inputs and heads, of both strands (--rc) and of moved inputs (--shifts), the mean
    is scored. Moved inputs show the bases of FASTA around the input, in both alleles.

    The output is the VCF with ISM_DELTA (one value for each allele), ISM_REF and ISM_STATUS in INFO, and a table of the
    same scores; ISM_LFC with --fold-change, ISM_AROUND_REF and ISM_AROUND_ALT with --around. "--reduce HEAD=sum,jsd"
    has the divergence of profiles beside the difference of sums. All other columns and lines are kept as their text
    was. Symbolic alleles, and records whose REF differs from the FASTA, are kept without a score and counted. Contigs
    are matched with and without "chr", unless their lengths differ.

    Exit codes: 0 done; 1 the run or some alleles failed, no allele was scored, or the VCF is one of another genome;
    2 wrong input.
    """
    from fastism_cli.run.variants.score_variants import score_variants

    chosen = RunOptions(**options)
    with stdout_for_results():
        report = score_variants(
            model,
            vcf_path,
            fasta,
            output,
            chosen,
            share=share,
            ref_mismatch=ref_mismatch,
            fold_change=fold_change,
            around=around or 0,
        )
    for line in report.lines:
        LOGGER.info(line)
    if report.fault:
        click.echo(f"Error: {report.fault}", err=True)
        ctx.exit(1)
