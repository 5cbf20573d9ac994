"""Options that several commands share, in groups: each is a decorator."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from fastism_cli.cli.messages import start_logging
from fastism_cli.options.run_options import CHOICES, RunOptions, flag

Command = Callable[..., Any]


class AutoOrInt(click.ParamType):
    """``auto`` or a whole number from 1 on."""

    name = "auto|int"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto" or isinstance(value, int):
            return value
        if not (value.isascii() and value.isdigit()) or int(value) < 1:
            self.fail(f"{value!r} is neither auto nor a whole number from 1 on.", param, ctx)
        return int(value)


class NameOrIndex(click.ParamType):
    """The name of an input, or its number from 0."""

    name = "name|index"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator of several options, shown by --help in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def default_of(name: str) -> Any:
    """The default of a field of :class:`RunOptions`."""
    return getattr(RunOptions, name)


def choice_option(name: str, help: str, **changed: Any) -> Callable[[Command], Command]:
    """An option whose values and default are those of a field of :class:`RunOptions`."""
    return click.option(
        flag(name),
        **{"type": click.Choice(CHOICES[name]), "default": default_of(name), "show_default": True} | changed,
        help=help,
    )


def logging_options(command: Command) -> Command:
    """-q and -v, which take effect before the command begins."""

    @click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors on stderr.")
    @click.option("-v", "--verbose", is_flag=True, help="Also messages of the libraries, and tracebacks.")
    @functools.wraps(command)
    def with_logging(*args: Any, quiet: bool, verbose: bool, **kwargs: Any) -> Any:
        start_logging(quiet=quiet, verbose=verbose)
        return command(*args, **kwargs)

    return with_logging


loading_options = together(
    click.option("--weights", metavar="FILE", help="Weights of an architecture .json."),
    click.option(
        "--custom-objects",
        multiple=True,
        metavar="FILE.py|MODULE[:NAME]",
        help="Custom layers and functions. Repeatable.",
    ),
    click.option(
        "--rules", multiple=True, metavar="FILE.py", help="Rules for custom layers; the file is run. Repeatable."
    ),
    click.option("--allow-lambda", is_flag=True, help="Run the code that Lambda layers store in the model file."),
    click.option(
        "--sequence-input",
        type=NameOrIndex(),
        help="Input that holds the sequence.  [default: the only one of shape (L, 4), or of integers]",
    ),
    click.option(
        "--tie",
        metavar="NAME1,NAME2[:rc]",
        help="Inputs that hold the same sequence, or with :rc its reverse complement.",
    ),
    click.option(
        "--codes",
        metavar="A=1,C=2,...",
        help="Integer of each letter, and of N, for an input of integers.  [default: 0, 1, ... and N after them]",
    ),
    click.option(
        "--length",
        type=click.IntRange(min=1),
        help="Length of a variable-length input.  [default: that of the records, if all have the same]",
    ),
    click.option(
        "--alphabet",
        default=default_of("alphabet"),
        show_default=True,
        help="Letters in the order of the model's channels.",
    ),
    click.option(
        "--reduce",
        multiple=True,
        metavar="[HEAD=]KIND[,KIND]",
        help="Reduce positional heads over their positions: sum, mean, max, center:W, logsumexp, profile, l2 or jsd; "
        "none keeps them whole. Repeatable.",
    ),
)

model_option = click.option(
    "-m",
    "--model",
    required=True,
    metavar="MODEL",
    help="Keras model: .keras, .h5, SavedModel folder, or .json with --weights.",
)

fasta_option = click.option(
    "-f", "--fasta", required=True, metavar="FASTA", help="Genome, plain or compressed by bgzip."
)

missing_contig_option = choice_option(
    "missing_contig", "Records on contigs that the FASTA lacks: refused, or kept unscored."
)

target_names_option = click.option(
    "--target-names", multiple=True, metavar="[HEAD=]FILE", help="Names of all targets of a head, one a line."
)

result_argument = click.argument("file", metavar="FILE")  # a result of fastism run

input_option = click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=zeros|ones|FILE.npy",
    help="Values of another input of the model: one row for all regions, or a row for each. Repeatable.",
)

precision_option = choice_option("precision", "Type of the numbers that the model computes with.")

batch_option = click.option(
    "--batch-size",
    type=AutoOrInt(),
    default=default_of("batch_size"),
    show_default=True,
    help="Substituted sequences in one call.",
)

placing_options = together(
    choice_option("center", "Middle of the input; auto is the summit of a narrowPeak, else the midpoint."),
    click.option(
        "--stranded/--ignore-strand",
        default=False,
        show_default=True,
        help='Show the model the reverse complement of "-" records.',
    ),
    choice_option("edge", "Inputs that pass an end of their contig: scored with N there, kept unscored, or refused."),
)
