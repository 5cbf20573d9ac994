"""Every option of every command, found in click's tree, with values that mean nothing: one line, exit 2, at once."""

import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from fastism_cli.cli import COMMANDS, main
from fastism_cli.cli.click_options import (
    Limits,
    NameOrIndex,
    Real,
    Signed,
    Size,
    Strict,
    Whole,
    WidthOrPlace,
    WordOrWhole,
)
from fastism_cli.errors import UsageError
from fastism_cli.options.choices import MOST_BASES
from fastism_cli.options.run_options import RunOptions
from tests.helpers.result_files import write_result

pytestmark = pytest.mark.usefixtures("logging_as_before")

NINES = 5000 * "9"
NOT_NUMBERS = ("nan", "-nan", "inf", "-inf", "-1", "1e400", NINES, f"-{NINES}", f"0.{NINES}e{NINES}", "\u0663", "x")
NUMBERS = (Whole, Real, WordOrWhole)
# Options that are text in which numbers stand, and values of them that are refused without a model.
WITH_NUMBERS = {
    "--shard": (
        "1/" + NINES,
        NINES + "/2",
        "nan/2",
        "0/-1",
        "0/1e9",
        "1/1000000000000000000000000000000",
        "2/2",
        "\u0661/2",
    ),
    "--targets": ("0-99999999999", NINES, "0-" + NINES, "5-1", "1e400-", "0,0", f"{NINES}-{NINES}"),
    "--codes": ("A=" + NINES, "A=nan,C=1", "A=99999999999999999999", "A=-1", "A=1,A=2"),
    "--reduce": ("center:" + NINES, "center:1000000000000000000000000000000", "center:0", "center:nan", "center:-1"),
    "--devices": (",", "0,,1"),
    "--window": ("0", "-1", NINES, f"-{NINES}:5", "5:5", "6:5", "nan", "1.5", "-5:", ":5", "1:2:3", "\u0663"),
    "--offset": (NINES, f"-{NINES}", "nan", "1.5", "--5", "\u0663", "99999999999"),
    "--tie": ("a", "a,a", NINES),
    "--width": ("0", "-1in", NINES, f"{NINES}mm", "nan", "1e9mm", "3pt", "\u0663in"),
    "--ylim": ("1", "2:1", f"{NINES}:1", "nan:1", "0:inf", "0:\u0663"),
    "--shifts": ("x", "0,0", "1,,2", NINES, f"-{NINES}", "nan", "1.5", "--1", "\u0663", "99999999999"),
    "--rc-pairs": ("0", "0:0", "0:1,1:2", "a:b", "0:nan", "0:-1", f"0:{NINES}", "0:1:2"),
}

OF_PICTURES = ("--width", "--ylim")


def fastism(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fastism")


def commands() -> dict[str, click.Command]:
    context = click.Context(main)
    return {name: main.get_command(context, name) for name in COMMANDS}


def options() -> Iterator[tuple[str, click.Option]]:
    return ((name, param) for name, command in commands().items() for param in command.params if is_option(param))


def is_option(param: click.Parameter) -> bool:
    return isinstance(param, click.Option) and not param.is_eager


def takes_one_value(option: click.Option) -> bool:
    return not (option.is_flag or option.multiple or option.count)


def call(name: str, *more: str) -> Result:
    """A command with a name that does not exist in place of everything that it must be given, and ``more``."""
    given = []
    for param in commands()[name].params:
        value = param.type.choices[0] if isinstance(param.type, click.Choice) else "nothing"
        value = "2" if isinstance(param.type, NUMBERS) else value
        if isinstance(param, click.Argument):
            given.append(value)
        elif param.required and not set(param.opts) & set(more):
            given += [param.opts[-1], value]
    return fastism(name, *given, *more)


def refused_in_a_line(result: Result, *, words: str = "") -> None:
    assert result.exit_code == 2, result.output
    assert not isinstance(result.exception, Exception), result.exception
    assert words in result.stderr and "Traceback" not in result.stderr and "Error: " in result.stderr
    assert max(map(len, result.stderr.splitlines())) < 600


@pytest.fixture(scope="module")
def result_path(tmp_path_factory) -> Path:
    return write_result(tmp_path_factory.mktemp("result") / "r.ism.h5")


def test_every_command_has_the_strict_class():
    assert {name for name, command in commands().items() if not isinstance(command, Strict)} == set()


def test_every_number_has_a_type_that_knows_its_limits():
    known = (
        *NUMBERS,
        Signed,
        WidthOrPlace,
        NameOrIndex,
        Size,
        Limits,
        click.Choice,
        click.types.StringParamType,
        click.types.BoolParamType,
    )
    assert [f"{name} {option.opts[-1]}" for name, option in options() if not isinstance(option.type, known)] == []
    assert sum(isinstance(option.type, NUMBERS) for _, option in options()) >= 14


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=[value[:8] for value in NOT_NUMBERS])
def test_what_is_no_number_is_refused(value):
    started = time.monotonic()
    for name, option in options():
        if isinstance(option.type, NUMBERS):
            refused_in_a_line(call(name, f"{option.opts[-1]}={value}"), words=option.opts[-1])
    assert time.monotonic() - started < 20


def test_a_number_above_its_most_is_refused():
    for name, option in options():
        if isinstance(option.type, NUMBERS) and option.opts[-1] != "--max-n":
            for beyond in (option.type.most * 10, 99999999999999999999 * MOST_BASES * 10**12):
                refused_in_a_line(call(name, f"{option.opts[-1]}={beyond:.0f}"), words=option.opts[-1])


@pytest.mark.parametrize("flag", WITH_NUMBERS)
def test_numbers_inside_of_text_are_refused(flag):
    found = 0
    for name, option in options():
        reads_first = name in ("export", "plot", "report", "top") and flag not in OF_PICTURES  # the result
        if flag in option.opts and not reads_first:
            for value in WITH_NUMBERS[flag]:
                refused_in_a_line(call(name, f"{flag}={value}"), words=flag)
                found += 1
    assert found


@pytest.mark.parametrize("value", ["0-99999999999", NINES, f"0-{NINES}", "5-1", "-1"])
@pytest.mark.parametrize("command", ["export --format=tsv -o out.tsv", "plot --top=1", "report"])
def test_targets_that_a_result_lacks_are_refused(result_path, tmp_path, monkeypatch, command, value):
    monkeypatch.chdir(tmp_path)
    name, *rest = command.split()
    refused_in_a_line(fastism(name, result_path, *rest, f"--targets=profile/sum={value}"), words="--target")


@pytest.mark.parametrize("name", ["window", "limit", "length", "batch_size"])
def test_the_library_refuses_them_too(name):
    for value in (0, -1, 10**30, 10**5000, -(10**5000), 1.5, float("nan")):
        with pytest.raises(UsageError, match=f"^{name} must be "):
            RunOptions(**{name: value})
    for bad in ({"max_n": float("nan")}, {"checkpoint": float("inf")}, {"checkpoint": float("nan")}, {"max_n": 1.1}):
        with pytest.raises(UsageError, match="Received: "):
            RunOptions(**bad)


def test_no_value_is_empty():
    for name, option in options():
        if not option.is_flag:
            refused_in_a_line(call(name, option.opts[-1], ""), words=option.opts[-1])
    for name in ("info", "inspect", "export", "plot", "report", "merge"):
        refused_in_a_line(
            fastism(name, "", *(["-o", "x"] if name == "merge" else ["--format=tsv"] * (name == "export")))
        )


def test_no_value_holds_a_nul():
    for name, option in options():
        if not option.is_flag:
            refused_in_a_line(call(name, option.opts[-1], "a\0b"), words="NUL")


def test_an_option_of_one_value_is_not_given_twice():
    tried = 0
    for name, option in options():
        flag = option.opts[-1]
        if takes_one_value(option):
            value = option.type.choices[0] if isinstance(option.type, click.Choice) else "3"
            result = call(name, flag, value, flag, value)
            refused_in_a_line(result, words=f"{'/'.join(option.opts)} is given 2 times, and takes one value")
            tried += 1
        elif option.secondary_opts:
            refused_in_a_line(call(name, option.opts[0], option.secondary_opts[0]), words="is given 2 times")
    assert tried > 60


@pytest.mark.parametrize("short, long", [("-b", "--bed"), ("-f", "--fasta"), ("-o", "--output")])
def test_short_and_long_are_one_option(short, long):
    refused_in_a_line(call("run", short, "x", f"{long}=y"), words=f"{short}/{long} is given 2 times")


@pytest.mark.parametrize("command", ["pairs", "verify"])
def test_one_model_is_scored_by_commands_without_means(command):
    refused_in_a_line(call(command, "-m", "x", "--model=y"), words="-m/--model is given 2 times, and takes one value")


@pytest.mark.parametrize("command", ["run", "variants"])
def test_a_model_of_a_mean_is_given_once(command):
    refused_in_a_line(call(command, "-m", "x", "--model=x"), words="--model x is given twice")


def test_flags_and_repeatable_options_may_come_again():
    result = call("run", "--overwrite", "--overwrite", "--input", "a=zeros", "--input", "b=ones")
    assert "is given" not in result.stderr and "nothing" in result.stderr
    assert fastism("run", "--limit", 3, "--limit", 3, "--help").exit_code == 0
