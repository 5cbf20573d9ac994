"""The command ``fastism``: a group whose commands are imported only when they are called."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from fastism_cli.cli.click_options import HelpIfAsked
from fastism_cli.cli.messages import exit_code_of_errors, open_closed_streams, told_if_stdout_fails
from fastism_cli.version import __version__

COMMANDS = ("run", "pairs", "merge", "info", "top", "export", "plot", "report", "variants", "inspect", "verify")


class LazyGroup(HelpIfAsked, click.Group):
    """Finds command NAME as ``fastism_cli.cli.NAME:NAME``, so that --help of one imports nothing of the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"fastism_cli.cli.{cmd_name}"), cmd_name)
        return command

    def main(self, *args: Any, **options: Any) -> Any:
        open_closed_streams()
        with told_if_stdout_fails():
            return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with exit_code_of_errors(ctx):
            return super().invoke(ctx)


@click.group(
    cls=LazyGroup,
    context_settings={"auto_envvar_prefix": "FASTISM", "help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="fastism", allow_from_autoenv=False)
def main() -> None:
    """Fast, exact in-silico saturation mutagenesis of Keras sequence models.

    Every option can also be given as an environment variable: --batch-size of "fastism run" is
    FASTISM_RUN_BATCH_SIZE.
    """


if __name__ == "__main__":
    sys.exit(main())
