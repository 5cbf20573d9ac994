"""``fastism merge``."""

from __future__ import annotations

import shlex
import sys

import click

from fastism_cli.cli.click_options import Strict, logging_options
from fastism_cli.cli.messages import LOGGER
from fastism_cli.errors import counted


@click.command(cls=Strict, short_help="Join the shards of a run into one file.")
@click.argument("shards", nargs=-1, required=True, metavar="SHARD...")
@click.option("-o", "--output", required=True, metavar="FILE", help="Result.")
@click.option("--virtual", is_flag=True, help="Write no copy but an index that reads from the shards, which must stay.")
@click.option("--overwrite", is_flag=True, help="Replace the result if it exists.")
@logging_options
def merge(shards: tuple[str, ...], output: str, virtual: bool, overwrite: bool) -> None:
    """Join the files that "fastism run --shard I/K" wrote, in any order.

    All must be complete, of one configuration, and cover every row once; if some are missing, they are named as SLURM
    takes them: --array=3,7. The result is what one run would have written.

    Exit codes: 0 done, 1 the disk failed, 2 shards do not fit or are missing.
    """
    from fastism_cli.results.merge_shards import merge_shards

    command = shlex.join(["fastism", *sys.argv[1:]])
    rows = merge_shards(shards, output, virtual=virtual, overwrite=overwrite, command=command)
    LOGGER.info(f"{counted(rows, 'region')} of {counted(len(shards), 'shard')} -> {output}")
