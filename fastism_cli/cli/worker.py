"""A worker process of ``fastism run --devices``: it reads its task from stdin. Not a command for users."""

from __future__ import annotations

import json
import os
import sys

import click

from fastism_cli.cli.messages import GIVEN, LEVEL_VARIABLE, exit_code_of_errors, start_logging
from fastism_cli.cli.progress import Lines


@click.command()
@click.pass_context
def main(ctx: click.Context) -> None:
    """Score the rows of one device."""
    level = os.environ.get(LEVEL_VARIABLE, "")
    start_logging(quiet=level == "quiet", verbose=level == "verbose")
    with exit_code_of_errors(ctx):
        from fastism_cli.run.worker_processes import score_spec

        spec = json.load(sys.stdin)
        ctx.meta[GIVEN] = {**spec}
        summary = score_spec(spec, Lines())
        click.echo(summary.line, err=True)


if __name__ == "__main__":
    main()
