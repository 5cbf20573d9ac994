"""Options that several commands share, in groups: each is a decorator."""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import nan
from typing import Any

import click
from click.shell_completion import CompletionItem

from fastism_cli.cli.messages import GIVEN, start_logging
from fastism_cli.errors import UsageError, brief
from fastism_cli.options.choices import (
    MOST_BASES,
    MOST_IN_A_CALL,
    MOST_LENGTH,
    MOST_SAMPLES,
    parse_limits,
    parse_size,
    signed_number,
    whole_number,
)
from fastism_cli.options.run_options import CHOICES, RunOptions, flag, parse_window

Command = Callable[..., Any]
MOST_DIGITS = 40  # that a number is written in


class Text(click.types.StringParamType):
    """Text, which shells complete as the name of a file: most texts are one."""

    def split_envvar_value(self, rv: str) -> list[str]:
        """Values of one option in its environment variable, one on each line: the name of a file can hold blanks."""
        return rv.splitlines()

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


class HelpIfAsked(click.Command):
    """A command whose --help only the command line gives: FASTISM_HELP=1 would end every command with exit code 0."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.allow_from_autoenv = False
        return option


class Strict(HelpIfAsked):
    """A command that takes no option twice, unless its values add up, and no empty value.

    Click lets the last value win, so that a second ``--model`` would replace the first without a word. A flag may be
    repeated; a flag and its opposite may not be combined.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for param in self.params:
            if param.type is click.STRING:
                param.type = Text()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for argument in args:
            if "\0" in argument:
                raise click.UsageError(f"{brief(argument)} holds a NUL character, which no value has.", ctx)
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        repeated = [param for param in dict.fromkeys(order) if order.count(param) > 1 and _holds_one(param)]
        if repeated and not any(param.is_eager for param in order):
            flags = "/".join([*repeated[0].opts, *repeated[0].secondary_opts])
            times = order.count(repeated[0])
            raise click.UsageError(f"{flags} is given {times} times, and takes one value. Give it once.", ctx)
        rest = super().parse_args(ctx, args)
        self._refuse_empty(ctx)
        ctx.meta[GIVEN] = ctx.params
        return rest

    def _refuse_empty(self, ctx: click.Context) -> None:
        for param in self.params:
            value = ctx.params.get(str(param.name))
            if value == "" or (isinstance(value, tuple) and "" in value):
                name = param.make_metavar(ctx) if isinstance(param, click.Argument) else param.opts[-1]
                cure = "Name a file to write." if param.name == "output" else "Give a value, or leave it out."
                raise click.UsageError(f"{name} is empty. {cure}", ctx)


def _holds_one(param: click.Parameter) -> bool:
    if not isinstance(param, click.Option) or param.multiple or param.count:
        return False
    return bool(param.secondary_opts) or not param.is_flag


class Whole(click.IntRange):
    """A whole number of a range; the most is for safety and not shown by --help."""

    def __init__(self, least: int, most: int = MOST_BASES) -> None:
        super().__init__(min=least)
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and not _is_plain_number(value):
            self.fail(f"{brief(value)!r} is not a whole number from {self.min} to {self.most}.", param, ctx)
        number: int = super().convert(value, param, ctx)
        if number > self.most:
            self.fail(f"{number} is too large: the most is {self.most}.", param, ctx)
        return number


class Real(click.FloatRange):
    """A finite number of a range."""

    def __init__(self, least: float, most: float, *, is_share: bool = False) -> None:
        super().__init__(min=least, max=most if is_share else None)
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number: float = super().convert(value, param, ctx) if _is_plain_number(str(value)) else nan
        if not number <= self.most:
            self.fail(f"{brief(value)!r} is not a number from {self.min:g} to {self.most:g}.", param, ctx)
        return number


def _is_plain_number(text: str) -> bool:
    """Whether Python reads it as people do: not thousands of digits, digits of other scripts, or underscores."""
    return text.isascii() and "_" not in text and len(text) <= MOST_DIGITS


class Signed(click.ParamType):
    """A whole number, also a negative one, of as many bases as a contig may have."""

    name = "int"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = signed_number(value, most=MOST_BASES) if isinstance(value, str) else value
        if number is None:
            self.fail(f"{brief(value)!r} is not a whole number from {-MOST_BASES} to {MOST_BASES}.", param, ctx)
        return number


class WidthOrPlace(click.ParamType):
    """A number of bases, or FIRST:END."""

    name = "WIDTH|FIRST:END"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            window = parse_window(value)
        except UsageError as error:
            self.fail(error.message.removeprefix("--window "), param, ctx)
        return value if window is None or window.first is not None else window.width


class WordOrWhole(click.ParamType):
    """A word, or a whole number from 1 on.

    Parameters
    ----------
    word : str
    means : object
        What the command is given for the word.
    """

    def __init__(self, word: str, means: Any, most: int) -> None:
        self.word, self.means, self.most = word, means, most
        self.name = f"{word}|int"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == self.word or value == self.means:
            return self.means
        number = whole_number(value, least=1, most=self.most) if isinstance(value, str) else value
        if number is None:
            limit = f", up to {self.most}" if value.strip("0").isdigit() else ""
            self.fail(f"{brief(value)!r} is neither {self.word} nor a whole number from 1 on{limit}.", param, ctx)
        return number


class Size(click.ParamType):
    """A length, in inches."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_size(value) if isinstance(value, str) else value
        except UsageError as error:
            self.fail(error.message, param, ctx)


class Limits(click.ParamType):
    """Two numbers, LOW:HIGH."""

    name = "LOW:HIGH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_limits(value) if isinstance(value, str) else value
        except UsageError as error:
            self.fail(error.message, param, ctx)


class NameOrIndex(click.ParamType):
    """The name of an input, or its number from 0."""

    name = "name|index"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = whole_number(value, most=MOST_IN_A_CALL) if isinstance(value, str) else None
        return value if number is None else number


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
        "--signature",
        metavar="NAME",
        help="Graph of a SavedModel folder.  [default: its layers; if it lists none, serving_default or the only one]",
    ),
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
        type=Whole(1, MOST_LENGTH),
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
    click.option(
        "--scale",
        multiple=True,
        metavar="[HEAD=]logit|log2[:C]",
        help="Score a head before its last sigmoid or softmax, or log2(y + C) of the reduced head; C is 1 if it is not "
        "given. Repeatable.",
    ),
)

MODEL_FILES = "Keras model: .keras, .h5, SavedModel folder, or .json with --weights."

model_option = click.option("-m", "--model", required=True, metavar="MODEL", help=MODEL_FILES)

models_option = click.option(
    "-m",
    "--model",
    required=True,
    multiple=True,
    metavar="MODEL",
    help=f"{MODEL_FILES} Repeatable: the mean of several is scored.",
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

targets_option = click.option(
    "--targets",
    multiple=True,
    metavar="[HEAD=]LIST",
    help='Targets by name, number or range, as "fastism info" lists them.  [default: all] Repeatable.',
)

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
    type=WordOrWhole("auto", "auto", MOST_IN_A_CALL),
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

block_options = together(
    click.option(
        "--replace-with",
        metavar="CONTENT",
        help="Replace whole blocks instead of single letters, with N, background[:0.3,0.2,0.2,0.3], a sequence such as "
        "TGACTCA, FILE.npy (width x letters, or several), shuffle, or reverse-complement.",
    ),
    click.option("--width", type=Whole(1), help="How wide the blocks are.  [default: as --replace-with]"),
    click.option("--step", type=Whole(1), help="From one block to the next.  [default: the width]"),
    click.option(
        "--samples",
        type=Whole(1, MOST_SAMPLES),
        default=default_of("samples"),
        show_default=True,
        help="Of --replace-with shuffle: the mean of so many shuffles is the score.",
    ),
    click.option(
        "--seed", type=Whole(0), default=default_of("seed"), show_default=True, help="Of --replace-with shuffle."
    ),
)

mean_options = together(
    click.option("--rc", is_flag=True, help="Score the mean of each sequence and its reverse complement."),
    click.option(
        "--rc-pairs",
        multiple=True,
        metavar="[HEAD=]0:1,2:3",
        help="Targets that stand for the two strands: the reverse complement exchanges them. Repeatable.",
    ),
    click.option(
        "--shifts",
        metavar="-1,0,1",
        help="Score the mean of inputs that are moved by so many bases, to the 3' end of what the model sees.",
    ),
    choice_option(
        "average",
        "Of several models, strands and shifts: average the scores, or what the heads give before --reduce and log2.",
    ),
)


# --- the groups of --help --------------------------------------------------------------------------------------------

# The parameters of each group, by name; a group has those that the command has. A new option of ``fastism run`` joins
# one of them.
GROUPS = {
    "Input": "model bed vcf_path fasta limit missing_contig ref_mismatch inputs",
    "Sequence": "center offset stranded edge max_n tile share",
    "Changes": "window within n_policy replace_with width step samples seed",
    "Model": "weights signature custom_objects rules allow_lambda sequence_input tie codes length alphabet",
    "Scores": "targets target_names reduce scale fold_change around rc rc_pairs shifts average spread",
    "Compute": "engine batch_size devices precision check",
    "Output": "output dtype compression overwrite shard resume checkpoint summary dry_run",
    "Messages": "quiet verbose",
}
OTHERS = "Other"  # what the table does not name, such as --help


class Grouped(Strict):
    """A strict command with many options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, params in grouped(self.get_params(ctx)).items():
            records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def grouped(params: list[click.Parameter]) -> dict[str, list[click.Parameter]]:
    """Parameters by the title of their group, in the order of the table; those that it does not name come last."""
    by_name = {str(param.name): param for param in params}
    groups = {}
    for title, names in GROUPS.items():
        groups[title] = [by_name.pop(name) for name in names.split() if name in by_name]
    return groups | {OTHERS: list(by_name.values())}
