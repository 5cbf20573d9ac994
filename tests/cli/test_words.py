"""What commands say: help in groups, the last line of a run, rates without compiling, completion in shells."""

import re
import shlex

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from fastism_cli import FastISM
from fastism_cli.cli import COMMANDS, main
from fastism_cli.cli.click_options import GROUPS, OTHERS, Grouped, grouped
from fastism_cli.cli.run import next_step
from fastism_cli.options.run_options import RunOptions
from fastism_cli.results.schema import Status
from fastism_cli.run.summary import RunSummary, steady_rate
from tests.models.zoo import MODELS

pytestmark = pytest.mark.usefixtures("logging_as_before")

WITH_GROUPS = [name for name in COMMANDS if isinstance(main.get_command(click.Context(main), name), Grouped)]


def fastism(*arguments: object, **options) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fastism", **options)


def params_of(name: str) -> list[click.Parameter]:
    context = click.Context(main)
    command = main.get_command(context, name)
    return command.get_params(click.Context(command, parent=context))


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_GROUPS)
def test_every_option_is_in_a_group(name):
    groups = grouped(params_of(name))
    assert [param.opts[-1] for param in groups.pop(OTHERS)] == ["--help"]
    assert sum(map(len, groups.values())) == len(params_of(name)) - 1


def test_the_table_names_each_option_once():
    names = " ".join(GROUPS.values()).split()
    assert len(names) == len(set(names))
    assert set(names) <= {param.name for name in WITH_GROUPS for param in params_of(name)}


def test_the_help_of_run_shows_its_groups():
    titles = re.findall(r"^(\w+):$", fastism("run", "--help").stdout, flags=re.MULTILINE)
    assert titles == [*GROUPS, OTHERS]


def test_the_examples_of_the_help_are_commands():
    context = click.Context(main)
    command = main.get_command(context, "run")
    lines = re.findall(r"^ +fastism (run .*)$", fastism("run", "--help").stdout, flags=re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        given = command.make_context("run", shlex.split(line)[1:], parent=context).params
        assert given["model"][0].endswith(".h5") and RunOptions(window=given["window"], targets=given["targets"])


# --- the end of a run -------------------------------------------------------------------------------------------------

OK = {Status.OK: 3}


@pytest.mark.parametrize(
    ("statuses", "options", "line"),
    [
        (OK, {}, "next: fastism report 'my peaks.ism.h5'"),
        (OK, {"replace_with": "N", "width": 5}, "next: fastism top 'my peaks.ism.h5'"),
        (OK, {"shard": "2/5"}, "next: fastism merge, when all 5 shards are there"),
        (OK, {"shard": "0/1"}, "next: fastism report 'my peaks.ism.h5'"),
        ({Status.TOO_MANY_N: 3}, {}, ""),
    ],
)
def test_a_run_says_what_comes_next(statuses, options, line):
    assert next_step(RunSummary("my peaks.ism.h5", 3, 90, 1.0, statuses), RunOptions(**options)) == line


@pytest.mark.parametrize(
    ("substitutions", "seconds", "first_calls", "rate"),
    [
        (100, 2.0, (0.0, 0), 50),  # nothing was compiled
        (100, 12.0, (10.0, 20), 40),
        (10, 4.0, (3.0, 20), 2.5),  # one call: the whole time
        (0, 0.0, (0.0, 0), 0),
    ],
)
def test_rates_leave_out_compiling(substitutions, seconds, first_calls, rate):
    assert steady_rate(substitutions, seconds, first_calls) == rate


def test_first_calls_are_counted_once():
    engine, rng = FastISM(MODELS["two_conv_pools_dense"](), batch_size=48), np.random.default_rng(0)
    sequences = np.eye(4, dtype="float32")[rng.integers(0, 4, (2, engine.input_length))]
    first = engine.batching.first_calls
    assert (first.seconds, first.substitutions) == (0.0, 0)
    engine(sequences)
    seconds, substitutions = first.seconds, first.substitutions
    assert seconds > 0 and 0 < substitutions
    engine(sequences)
    assert (first.seconds, first.substitutions) == (seconds, substitutions)


# --- completion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell):
    result = fastism(env={"_FASTISM_COMPLETE": f"{shell}_source"})
    assert result.exit_code == 0 and "_FASTISM_COMPLETE" in result.stdout and "fastism" in result.stdout


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("fastism re", ["plain,report"]),
        ("fastism run --eng", ["plain,--engine"]),
        ("fastism run --engine na", ["plain,naive"]),
        ("fastism run --bed pea", ["file,pea"]),
        ("fastism info pea", ["file,pea"]),
    ],
)
def test_words_are_completed(words, found):
    number = len(words.split()) - 1
    result = fastism(env={"_FASTISM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number)})
    assert result.stdout.split() == found
