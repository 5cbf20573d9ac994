"""Every command line on every page: its options exist and fit together; those in ``sh`` blocks are run in order.

A command line is a line of a block of code whose first word is a program. What stands in ``sh`` blocks has all its
files: it is run as it stands, on a few peaks of the example.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import fastism_cli
from fastism_cli.cli import main
from fastism_cli.options.run_options import RunOptions

ROOT = Path(fastism_cli.__file__).parent.parent
FOLDERS = ("docs", "examples", "packaging")
FOUND = [*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))]
PAGES = sorted(str(path.relative_to(ROOT)) for path in FOUND)
# Programs of others: what they are given cannot be known here.
OTHERS = (
    "bcftools modisco samtools sbatch snakemake nextflow export printf eval python nf-test docker apptainer git"
).split()
PROGRAMS = ("fastism", "make", "pip", *OTHERS)
# What stands for "..." in a command that shows some options alone.
LEFT_OUT = {
    "run": ["--model", "m.h5", "--bed", "p.bed", "--fasta", "g.fa"],
    "verify": ["--model", "m.h5"],
    "variants": ["--model", "m.h5", "--vcf", "v.vcf", "--fasta", "g.fa"],
    "plot": ["r.ism.h5"],
}
PEAKS = 4


# --- the blocks of a page ---------------------------------------------------------------------------------------------


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """The blocks of code of a page: the language of a fenced one, "" for one that is indented; its lines."""
    language, lines = None, []
    for line in [*text.splitlines(), ""]:
        fence = re.match(r" *```(\w*)", line)
        if fence and language is None:
            yield "", lines
            language, lines = fence[1] or "text", []
        elif fence:
            yield str(language), lines
            language, lines = None, []
        elif language is not None or line.startswith("    "):
            lines.append(line.strip())
        elif lines:
            yield "", lines
            lines = []


def commands(lines: list[str]) -> list[str]:
    """The command lines of a block, without the prompt, those that go on in the next line as one."""
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    found = [line.strip().removeprefix("$ ") for line in joined]
    return [line for line in found if (words := words_of(line)) and words[0] in PROGRAMS]


def words_of(line: str) -> list[str]:
    """The words of the first command of a line, up to a pipe, without variables that are set for it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # prose or a drawing, with one quote
        return []
    end = next((i for i, word in enumerate(words) if word[0] in "|;&<>" and word.strip("|;&<>") == ""), len(words))
    start = next((i for i, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), end)
    return words[start:end]


def commands_of(page: str) -> list[str]:
    return [line for _, lines in blocks((ROOT / page).read_text(encoding="utf-8")) for line in commands(lines)]


# --- a command that is only looked at ---------------------------------------------------------------------------------


def check(line: str) -> None:
    """Raise an error unless a command can be one.

    Raises
    ------
    click.UsageError, fastism_cli.FastISMError, AssertionError
    """
    program, *words = words_of(line)
    if program == "fastism":
        check_fastism(words)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert [word for word in words if "=" not in word and word not in targets] == [], line
    elif program == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"]
        asked = [extra for word in words for part in re.findall(r"\[(.*?)\]", word) for extra in part.split(",")]
        assert [extra for extra in asked if extra not in extras] == [], line
    elif program == "python" and not words[0].startswith("-"):
        assert (ROOT / words[0]).exists(), line


def check_fastism(words: list[str]) -> None:
    """Give words to the parser of their command, and its values to the class that holds them."""
    if words[0].startswith("-"):
        assert words[0] in ("--version", "--help"), words
        return
    name, *given = words
    with click.Context(main, info_name="fastism", auto_envvar_prefix=None) as context:
        command = main.get_command(context, name)
        assert command is not None, f"there is no command {name}"
        if "..." in given:
            given = [*LEFT_OUT[name], *(word for word in given if word != "...")]
        params = command.make_context(name, given, parent=context).params
    if name in ("run", "verify", "inspect", "variants"):
        known = {field.name for field in fields(RunOptions)}
        RunOptions(**{key: value for key, value in params.items() if key in known})


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one(page):
    for line in commands_of(page):
        try:
            check(line)
        except (click.UsageError, fastism_cli.FastISMError) as error:
            pytest.fail(f"{page}: {line}\n{error}")


def test_there_are_commands_on_the_pages():
    assert len(commands_of("README.md")) >= 5
    assert sum(len(commands_of(page)) for page in PAGES) >= 70


WRONG = (
    "fastism runs --model m",
    "fastism run --model m.h5 --bed b.bed",
    "fastism run ... --sclae logit",
    "fastism run ... --engine fastest",
    "fastism run ... --window 5:1",
    "fastism export r.h5 --format bigwigs",
    "make dmeo",
    "pip install '.[plots]'",
    "python examples/shows.py",
)


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_is_seen(line):
    assert commands(["$ " + line]) == [line]
    with pytest.raises((click.UsageError, fastism_cli.FastISMError, AssertionError)):
        check(line)


def test_blocks_of_a_page():
    indented = "    $ fastism info x \\\n        --json | less\n"
    page = f"text\n\n{indented}\n```sh\nfastism top y\n```\n\n    a drawing: it's\n"
    assert [(language, commands(lines)) for language, lines in blocks(page) if lines] == [
        ("", ["fastism info x --json | less"]),
        ("sh", ["fastism top y"]),
        ("", []),
    ]
    assert words_of("KERAS_BACKEND=jax fastism run x > y") == ["fastism", "run", "x"]


# --- commands that are run --------------------------------------------------------------------------------------------


def to_run(page: str) -> list[str]:
    """The lines of the ``sh`` blocks of a page."""
    found = blocks((ROOT / page).read_text(encoding="utf-8"))
    return [line for language, lines in found if language == "sh" for line in lines if line]


RUN = [page for page in PAGES if to_run(page)]


@pytest.fixture
def example(tmp_path, monkeypatch) -> Path:
    """A folder with the example, and a few of its peaks."""
    (tmp_path / "examples").mkdir()
    for name in ("demo.keras", "demo.fa", "demo.vcf"):
        shutil.copy(ROOT / "examples" / name, tmp_path / "examples")
    peaks = (ROOT / "examples" / "demo.bed").read_text().splitlines(keepends=True)
    (tmp_path / "examples" / "demo.bed").write_text("".join(peaks[:PEAKS]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("page", [pytest.param(page, marks=pytest.mark.one_in(24)) for page in RUN])
def test_the_commands_of_a_page_run(page, example, capfd):
    for line in to_run(page):
        before = set(example.iterdir())
        program, *words = words_of(line)
        assert program == "fastism", line
        result = CliRunner().invoke(main, words, prog_name="fastism")
        assert result.exit_code == 0, f"{page}: {line}\n{result.output}"
        said = result.stdout or capfd.readouterr().out
        assert said or set(example.iterdir()) - before, f"{line} gives nothing"


def test_some_pages_are_run():
    assert {"README.md", "docs/index.md", "docs/how-to/vcf.md"} <= set(RUN)
