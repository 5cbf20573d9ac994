"""Every message of an error: the command names options, and the library the arguments of the same meaning."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import fastism_cli
from fastism_cli.cli import main
from fastism_cli.cli.messages import start_logging
from fastism_cli.errors import ARGUMENTS, OPTION, SWITCHES, FastISMError, UsageError, counted, log_of, with_arguments
from fastism_cli.options.choices import FigureOptions
from fastism_cli.scores.labelled import LabelledScores

PACKAGE = Path(fastism_cli.__file__).parent

# In messages of what only commands do: export, plot, report, merge, top.
OF_COMMANDS = {"by", "format", "highlight", "label", "max-size", "min-delta", "name", "output", "overlap", "pairs"} | {
    "region",
    "target",
    "top",
    "virtual",
}


def texts(tree: ast.AST) -> Iterator[ast.Constant]:
    """The texts of a module, docstrings aside."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


def options_in_messages() -> dict[str, list[str]]:
    """Each option that a text outside of ``cli`` names, and where."""
    found: dict[str, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE)
        if name.parts[0] == "cli":
            continue
        for text in texts(ast.parse(file.read_text())):
            for option, _ in OPTION.findall(text.value):
                found.setdefault(option, []).append(f"{name}:{text.lineno}")
    return found


def options_of_commands() -> list[tuple[str, click.Parameter]]:
    context = click.Context(main)
    commands = [main.get_command(context, name) for name in main.list_commands(context)]
    return [(opt.removeprefix("--"), param) for command in commands for param in command.params
            for opt in (*param.opts, *param.secondary_opts) if opt.startswith("--")]  # fmt: skip


def arguments_of_the_library() -> set[str]:
    """Of all public functions, classes and methods."""
    public = [
        getattr(fastism_cli, name)
        for name in fastism_cli.__all__
        if name not in ("plot", "__version__", "FastISMError")
    ]
    classes = [*(one for one in public if inspect.isclass(one)), LabelledScores, FigureOptions]
    methods = [method for one in classes for _, method in inspect.getmembers(one, inspect.isfunction)]
    return {name for one in (*public, FigureOptions, *methods) for name in inspect.signature(one).parameters}


def test_every_option_in_a_message_is_an_argument_of_the_library_too():
    found, arguments = options_in_messages(), arguments_of_the_library()
    assert {"max-n", "batch-size", "codes", "reduce", "shifts"} <= set(found)
    known = options_of_commands()
    assert set(found) <= {option for option, _ in known}, "an option that no command has"
    lacking = {option for option in found if with_arguments(f"--{option}").removesuffix("=True") not in arguments}
    assert lacking <= OF_COMMANDS, {option: found[option] for option in lacking - OF_COMMANDS}
    assert OF_COMMANDS & set(found) == OF_COMMANDS
    assert set(ARGUMENTS) <= set(found)
    assert {option for option, param in known if option in found and getattr(param, "is_flag", False)} == SWITCHES


@pytest.mark.parametrize(
    ("message", "argument"),
    [
        ("--max-n is a share", "max_n is a share"),
        ("give it (--rules FILE.py), or --n-policy skip.", 'give it (rules FILE.py), or n_policy="skip".'),
        ("--input a: x.npy", "inputs a: x.npy"),
        ("pass '--rc', not --edge padded", "pass 'rc=True', not edge padded"),
        (
            "made otherwise: --rc: True and False; --shifts: -1,0 and 1",
            "made otherwise: rc: True and False; shifts: -1,0 and 1",
        ),
        # what is no option of ours
        ("run --array=3,7", "run --array=3,7"),
        ("a--b/c --d_e ./--x y.--z", "a--b/c --d_e ./--x y.--z"),
        ("-o and - and --", "-o and - and --"),
    ],
)
def test_options_as_arguments(message, argument):
    error = UsageError(message)
    assert (error.message, str(error), f"{error}") == (message, argument, argument)
    assert with_arguments(argument) == argument


def test_lines_of_the_log_have_the_words_of_the_one_who_reads_them(caplog, capsys, logging_as_before):
    """Those of the command only where a command has started."""
    log = log_of("fastism_cli.run.some_module")
    log.warning("all of %s: go on with --resume", "my --rc.bed")
    log.warning("100 % of it: go on with --resume")
    assert [record.getMessage() for record in caplog.records] == [
        "all of my --rc.bed: go on with resume=True", "100 % of it: go on with resume=True"
    ]  # fmt: skip
    capsys.readouterr()  # a command may have started in a test before this one
    start_logging(quiet=False, verbose=False)
    log.warning("%s: go on with --resume", "my.bed")
    log.warning("100 % of it: go on with --resume")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("Warning: my.bed: go on with --resume")
    assert second.endswith("Warning: 100 % of it: go on with --resume")


def test_every_module_takes_its_log_from_one_place():
    for file in sorted(PACKAGE.rglob("*.py")):
        names = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
        kept = file.relative_to(PACKAGE).as_posix() in ("errors.py", "cli/messages.py", "model/quiet.py")
        assert kept or "getLogger" not in names, file


def test_an_error_without_a_text():
    assert str(FastISMError()) == FastISMError().message == ""


def test_one_is_singular():
    assert [counted(n, "region") for n in (0, 1, 2000)] == ["0 regions", "1 region", "2,000 regions"]
