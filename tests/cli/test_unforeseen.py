"""What nobody foresaw, in every command: errors of Python, files that cannot be read, names and locales of any kind."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import keras
import pytest
from click.testing import CliRunner, Result

from fastism_cli import cli
from fastism_cli.cli import COMMANDS, main
from tests.helpers.result_files import RECORDS, write_result
from tests.results.test_intact import few_files

LENGTH = 20

# A call of every command on the files of `files`; what it reads, and where the work is done.
CALLS: dict[str, list[str]] = {
    "run": ["--model", "m.keras", "--bed", "r.bed", "--fasta", "g.fa", "--output", "o.h5"],
    "pairs": ["--model", "m.keras", "--bed", "r.bed", "--fasta", "g.fa", "--within", "3", "--output", "o.h5"],
    "merge": ["s.ism.h5", "--output", "o.h5"],
    "info": ["r.ism.h5"],
    "export": ["r.ism.h5", "--format", "tsv", "--output", "o.tsv"],
    "plot": ["r.ism.h5", "--top", "1", "--target", "count", "--output", "o.png"],
    "report": ["r.ism.h5", "--output", "o.html"],
    "top": ["r.ism.h5", "--output", "o.top.tsv"],
    "variants": ["--model", "m.keras", "--vcf", "v.vcf", "--fasta", "g.fa", "--output", "o.vcf"],
    "inspect": ["m.keras"],
    "verify": ["--model", "m.keras", "--bed", "r.bed", "--fasta", "g.fa"],
}
# Options that name more files, on a model of two files.
MORE = [
    "run",
    "--model",
    "m.json",
    "--weights",
    "w.weights.h5",
    "--custom-objects",
    "own.py",
    "--target-names",
    "n.txt",
]
MORE += ["--bed", "r.bed", "--fasta", "g.fa", "--output", "o.h5"]
MORE_INPUTS = ("m.json", "w.weights.h5", "own.py", "n.txt")
INPUTS = ("m.keras", "r.bed", "g.fa", "v.vcf", "r.ism.h5", "s.ism.h5")
WORK = {
    "run": "fastism_cli.run.worker_processes.score_on_devices",
    "pairs": "fastism_cli.run.worker_processes.score_on_devices",
    "merge": "fastism_cli.results.merge_shards.merge_shards",
    "info": "fastism_cli.results.contents.contents_of",
    "export": "fastism_cli.export.export_scores.export_scores",
    "plot": "fastism_cli.report.plot_regions.plot_regions",
    "report": "fastism_cli.report.write_report.write_report",
    "top": "fastism_cli.export.tables.write_top",
    "variants": "fastism_cli.run.variants.score_variants.score_variants",
    "inspect": "fastism_cli.run.inspect_and_verify.inspect_model",
    "verify": "fastism_cli.run.inspect_and_verify.verify_model",
}


def make_files(folder: Path) -> None:
    """A genome, a BED, a VCF, a model, a result and a shard: small, and right."""
    (folder / "g.fa").write_text(">chr1\n" + "ACGTTGCAAC" * 20 + "\n")
    (folder / "r.bed").write_text("chr1\t50\t70\tpéak\n", encoding="utf-8")
    (folder / "v.vcf").write_text(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchr1\t61\t.\tA\tC\t.\t.\t.\n"
    )
    dna = keras.Input((LENGTH, 4), name="dna")
    model = keras.Model(dna, keras.layers.Dense(1)(keras.layers.Flatten()(dna)))
    model.save(folder / "m.keras")
    model.save_weights(folder / "w.weights.h5")
    (folder / "m.json").write_text(model.to_json())
    (folder / "own.py").write_text("def offered():\n    pass\n")
    (folder / "n.txt").write_text("target\n")
    write_result(folder / "r.ism.h5")
    whole = {"n_total": len(RECORDS), "row_start": 0, "row_stop": len(RECORDS), "shard_index": 0, "num_shards": 1}
    write_result(folder / "s.ism.h5", config_sha256=64 * "c", **whole)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_files(folder)
    return folder


@pytest.fixture
def files(made, tmp_path, monkeypatch) -> Path:
    """The working directory, with a copy of each file."""
    for name in (*INPUTS, *MORE_INPUTS):
        shutil.copy(made / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def forget_own_code() -> None:
    """So that ``own.py`` is run again, as in another process."""
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def call(command: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, [command, *(arguments or CALLS[command])])


def assert_one_line(result: Result, *named: str) -> None:
    """An error, and nothing of Python's; log lines may stand before it."""
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and result.stderr.splitlines()[-1] == errors[0] and "Traceback" not in result.stderr
    assert all(name in errors[0] for name in named), errors


def test_every_command_is_tried():
    assert set(CALLS) == set(WORK) == set(COMMANDS)


@pytest.mark.parametrize("command", CALLS)
def test_an_error_that_nobody_foresaw_is_one_line_with_the_files(command, files, monkeypatch):
    def fail(*arguments: Any, **options: Any) -> None:
        del arguments, options  # the command is the innermost call that has all files in hand
        raise KeyError("odd\nand long " + 2000 * "x")

    monkeypatch.setattr(WORK[command], fail)
    result = call(command)
    assert result.exit_code == 1
    assert_one_line(result, "KeyError: ", *(name for name in CALLS[command] if name in INPUTS), "run again with -v")
    assert len(result.stderr) < 1000


READERS = {
    "run": ("fastism_cli.genome.bed.BedSource.__init__", "r.bed"),
    "info": ("fastism_cli.results.hdf5_files.check_result", "r.ism.h5"),
    "merge": ("fastism_cli.results.hdf5_files.check_result", "s.ism.h5"),
    "variants": ("fastism_cli.genome.vcf_files.VariantSource.__init__", "v.vcf"),
    "inspect": ("fastism_cli.model.loading.load.rungs", "m.keras"),
}


@pytest.mark.parametrize("command", READERS)
def test_the_file_in_hand_is_named_alone(command, files, monkeypatch):
    """Where a reader fails, with the file in a variable, the other files of the command are not blamed."""

    def fail(*arguments: Any, **options: Any) -> None:
        path = next(str(getattr(x, "path", x)) for x in arguments if str(getattr(x, "path", x)).endswith(name))
        raise ZeroDivisionError(f"{len(path)} letters")

    reader, name = READERS[command]
    monkeypatch.setattr(reader, fail)
    result = call(command)
    assert result.exit_code == 1
    assert_one_line(result, f"Error: {name}: ZeroDivisionError: {len(name)} letters (run again")


@pytest.mark.parametrize("command", ["info", "export", "top", "inspect", "merge"])
def test_a_name_with_a_line_end_is_told_on_one_line(command, files):
    arguments = ["odd\nname\x1b.h5" if part in INPUTS else part for part in CALLS[command]]
    result = call(command, *arguments)
    assert result.exit_code == 2
    assert_one_line(result, "odd\\nname\\x1b.h5")
    assert result.stderr.count("\n") == 1


LONG = 253 * "x"  # a name that a folder holds, but not with the ending


@pytest.mark.parametrize("command", [name for name in CALLS if any(part.startswith("o.") for part in CALLS[name])])
def test_a_name_that_is_too_long_is_refused_at_once(command, files):
    before = set(os.listdir())
    for name in (LONG, 60 * LONG):
        arguments = [name + part if part.startswith("o.") else part for part in CALLS[command]]
        result = call(command, *arguments)
        assert result.exit_code == 2, result.output
        assert "no file can have so long a name. Choose a shorter one." in result.stderr.splitlines()[-1]
        assert (
            len(result.stderr) < 400 and "Traceback" not in result.stderr and set(os.listdir()) - {"g.fa.fai"} == before
        )


# --- files that cannot be read ---------------------------------------------------------------------------------------


CAPABILITIES_VERSION, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 0x20080522, 1 << 1, 1 << 2  # linux/capability.h


@contextmanager
def without_rights_of_root() -> Iterator[None]:
    """Without the two capabilities by which root reads every file."""
    libc, header = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION, 0)
    before, after = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == libc.capget(header, after) == 0
    after[0] &= ~(CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH)
    assert libc.capset(header, after) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


UNREADABLE: dict[str, Callable[[Path], None]] = {
    "mode 000": lambda path: path.chmod(0),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "/dev/null": lambda path: (path.unlink(), path.symlink_to("/dev/null")),
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("gone")),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
}


@pytest.mark.one_in(48)
@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_file_that_cannot_be_read_is_one_line_in_every_command(kind, files):
    calls = [*([command, *arguments] for command, arguments in CALLS.items()), MORE]
    assert CliRunner().invoke(main, [*MORE, "--dry-run"]).exit_code == 0
    for command, *arguments in calls:
        for name in (name for name in arguments if name in (*INPUTS, *MORE_INPUTS)):
            kept = files / name
            intact = kept.read_bytes()
            UNREADABLE[kind](kept)
            forget_own_code()
            with without_rights_of_root():
                result = call(command, *arguments)
            if command in ("run", "pairs", "merge") and result.exit_code == 0:
                (files / "o.h5").unlink()
            if kind in ("/dev/null", "empty") and name == "r.bed" and command in ("run", "pairs"):
                assert result.exit_code == 0 and "r.bed holds no region" in result.stderr
            else:
                assert result.exit_code in (1, 2), (command, name, result.stderr)
                assert_one_line(result, name)
                assert "run again with -v" not in result.stderr, (command, name, result.stderr)
            with suppress(OSError):
                kept.rmdir()
            kept.unlink(missing_ok=True)
            kept.write_bytes(intact)


# --- few open files ---------------------------------------------------------------------------------------------------


@pytest.mark.one_in(24)
@pytest.mark.parametrize("count", range(12))
@pytest.mark.parametrize("command", ["info", "export", "report"])
def test_few_open_files_are_enough_or_are_told(command, count, files):
    """Cleaning up needs none: no folder is left."""
    assert call(command).exit_code == 0  # and all modules are loaded
    for path in files.glob("o.*"):
        path.unlink()
    before = set(os.listdir())
    with few_files(count):
        result = call(command)
    if result.exit_code:
        assert_one_line(result, "open")
        assert "run again with -v" not in result.stderr and set(os.listdir()) == before
    assert not list(files.glob(".fastism-*"))


# --- what a user's own code prints -----------------------------------------------------------------------------------

PRINTS = """
import os
import sys

def offered():
    pass


print("from Python")
os.system("echo from another program")
os.write(1, b"from the system\\n")
sys.__stdout__.write("from the first stdout\\n")
"""


@pytest.mark.parametrize("option", ["--custom-objects", "--rules"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "m.keras", "--json"],
        ["run", *CALLS["run"], "--no-check", "--summary", "-"],
        ["run", *CALLS["run"], "--no-check", "--summary", "/dev/stdout", "--overwrite"],
    ],
    ids=["inspect", "run", "run to /dev/stdout"],
)
def test_what_own_code_prints_does_not_get_into_json(arguments, option, files, capfd):
    (files / "own.py").write_text(PRINTS)
    forget_own_code()
    with pytest.raises(SystemExit) as ended:
        main([*arguments, option, "own.py"])
    found = capfd.readouterr()
    assert ended.value.code == 0 and isinstance(json.loads(found.out), dict), found.err
    assert found.err.count("from ") >= 4


def test_every_command_that_runs_own_code_keeps_stdout_for_results(files, capfd, monkeypatch):
    """Also what a layer prints when it is called, and what native code does."""
    commands = {name for name in COMMANDS if any(param.name == "custom_objects" for param in command_of(name).params)}
    assert commands == {"run", "pairs", "variants", "inspect", "verify"}

    def noisy(*arguments: Any, **options: Any) -> None:
        print("from Python")
        os.write(1, b"from the system\n")
        raise click.exceptions.Exit(0)

    for command in sorted(commands):
        monkeypatch.setattr(WORK[command], noisy)
        with pytest.raises(SystemExit):
            main([command, *CALLS[command]])
        found = capfd.readouterr()
        assert found.out == "" and found.err.count("from ") == 2, command


def command_of(name: str) -> Any:
    return main.get_command(None, name)


def test_prints_go_nowhere_where_both_are_closed():
    """A command of a daemon, without stdout or stderr, still does its work."""
    code = "from fastism_cli.results.stdout import stdout_for_results as s\nwith s(): print('x')\nopen('done', 'w')"
    arguments = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    shell = " ".join(f"'{argument}'" if " " not in argument else f'"{argument}"' for argument in arguments)
    for closed in (">&-", ">&- 2>&-", "2>&-"):
        assert subprocess.run(f"{shell} {closed}", shell=True, env=environment, cwd="/tmp").returncode == 0, closed


@pytest.mark.parametrize(
    "call, fault",
    [
        ("plot r.h5 --top 1 --target count -o o.png 2>&-", ""),
        ("plot r.h5 --top 1 --target count -o o.png <&- >&- 2>&-", ""),
        ("export r.h5 -t tsv -o - >&-", "Error: --output - cannot be written: it is closed\n"),
        ("export r.h5 -t tsv -o - <&- >&-", "Error: --output - cannot be written: it is closed\n"),
    ],
)
def test_no_file_is_taken_for_a_closed_stream(call, fault, tmp_path):
    """A file that is opened gets the lowest free number: that of a closed stdin, stdout or stderr."""
    write_result(tmp_path / "r.h5")
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    command = f"'{sys.executable}' -m fastism_cli {call}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (1 if fault else 0, fault, "")
    assert (tmp_path / "o.png").exists() == (not fault)


# --- names and locales -----------------------------------------------------------------------------------------------

DRIVER = """
import io, os, sys
from contextlib import redirect_stderr
from fastism_cli.cli import main
for line in open(0, "rb").read().splitlines():
    arguments = [os.fsdecode(part) for part in line.split(b"\\t")]
    try:
        main(arguments, standalone_mode=True)
    except SystemExit as ended:
        print("CODE", ended.code, flush=True)
"""


@pytest.mark.one_in(48)
@pytest.mark.parametrize("stem", ["péak ß 日本", os.fsdecode(b"p\xff\xfek")], ids=["not ASCII", "not UTF-8"])
@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "C.UTF-8"}], ids=["C", "UTF-8"])
def test_names_of_any_letters_in_any_locale(stem, locale, made, tmp_path):
    """All commands in one process: each ends well, and each of their outputs is there."""
    renamed = {name: stem + name for name in INPUTS}
    for name in INPUTS:
        shutil.copy(made / name, tmp_path / renamed[name])
    calls = {name: [renamed.get(part, part) for part in CALLS[name]] for name in COMMANDS}
    outputs = [part for arguments in calls.values() for part in arguments if part.startswith("o.")]
    lines = [
        [name, *(stem + part if part in outputs else part for part in arguments), *(["--overwrite"] if outputs else [])]
        for name, arguments in calls.items()
    ]
    for line in lines:
        if line[0] in ("info", "inspect", "verify"):
            line.remove("--overwrite")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    environment |= {**locale, "PYTHONPATH": str(Path(cli.__file__).parents[2]), "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=b"\n".join(b"\t".join(os.fsencode(part) for part in line) for line in lines),
        capture_output=True,
        env=environment,
        cwd=tmp_path,
    )
    said = done.stderr.decode(errors="backslashreplace")
    codes = [line for line in done.stdout.decode(errors="backslashreplace").splitlines() if line.startswith("CODE")]
    assert codes == ["CODE 0"] * len(COMMANDS), said
    assert "Traceback" not in said and all((tmp_path / (stem + name)).exists() for name in outputs)
