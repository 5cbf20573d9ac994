"""The command line: what it says, where it says it, and how it exits. Nothing is left behind by a refusal."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import click
import keras
import numpy as np
import pytest
from click.testing import CliRunner, Result

from fastism_cli import cli
from fastism_cli.cli import COMMANDS, main
from fastism_cli.cli.messages import Terminated, aligned, human
from fastism_cli.errors import UsageError
from fastism_cli.results.ism_file import read_result
from fastism_cli.results.schema import Status
from fastism_cli.run import start_backend
from fastism_cli.run.summary import nothing_scored_line
from tests.helpers.small_run import RECORDS, Folder, make_folder

pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    made = make_folder(tmp_path_factory.mktemp("small"))
    keras.Sequential([keras.Input((30, 5)), keras.layers.Flatten(), keras.layers.Dense(1)]).save(
        made.path / "five.keras"
    )
    keras.Sequential([keras.Input((7,)), keras.layers.Dense(1)]).save(made.path / "table.keras")
    (made.path / "text.h5").write_text("this is no model")
    (made.path / "old.h5").write_bytes(b"an older result")
    (made.path / "gzip.fa.gz").write_bytes(gzip.compress(b">chrA\nACGT\n"))
    (made.path / "objects.npy").write_bytes(b"no array")
    return made


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fastism(*arguments: object, **options) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fastism", **options)


def run(folder: Folder, *more: object, model: str = "plain", bed: str | None = None, **options) -> Result:
    """The command ``run``; ``more`` may name another model, BED or FASTA."""
    path = folder.models.get(model, str(folder.path / model))
    inputs = {"-m": path, "-b": bed or folder.bed, "-f": folder.fasta}
    given = [part for flag, value in inputs.items() if flag not in more for part in (flag, value)]
    return fastism("run", *given, *more, **options)


# --- run --------------------------------------------------------------------------------------------------------------


def test_a_run_writes_the_default_output_and_says_what_it_did(folder, here):
    result = run(folder)
    assert result.exit_code == 0 and result.stdout == ""
    assert [path.name for path in here.iterdir()] == ["peaks.ism.h5"]
    lines = [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in result.stderr.splitlines()]
    assert lines[0] == f"model {folder.models['plain']}: input 'dna' of 40 bases, heads: out (3)"
    assert lines[1].startswith("engine fast: estimated ") and lines[1].endswith(" substitutions a call")
    assert lines[2] == "6 regions, 40 bases of each substituted -> peaks.ism.h5 (up to 11.8 kB)"
    assert lines.pop(3).startswith("Warning: 3 of 6 records are on the - strand; ")
    assert lines[3].startswith("Warning: 3 of 6 intervals of ") and lines[3].endswith(
        "Use --tile to cover all of them."
    )
    assert lines.pop(4) == "compiling the engine and comparing it with plain Keras"
    assert lines[4].startswith("check ok: 24 substitutions against plain Keras in float64: largest error ")
    assert re.fullmatch(r"start-up [\d.]+ s: import [\d.]+, load and plan [\d.]+, compile and check [\d.]+", lines[5])
    assert re.fullmatch(r"6 regions, 498 substitutions -> peaks.ism.h5 \([\d,]+ substitutions/s\)", lines[6])
    assert lines[7:] == [
        "regions not scored: 1 with too many N (see regions/status)",
        "next: fastism report peaks.ism.h5",
    ]
    assert "\r" not in result.stderr


def test_quiet_says_nothing(folder, here):
    result = run(folder, "-q", "-o", "o.h5", "--no-check", bed=folder.bed_of("short.bed", RECORDS[3]))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    with read_result(here / "o.h5") as written:
        assert written.complete and written.attrs["command"].startswith("fastism")


def test_stdin(folder, here):
    result = run(folder, bed="-", input=Path(folder.bed).read_text())
    assert result.exit_code == 0 and (here / "stdin.ism.h5").exists()


@pytest.mark.parametrize("command", [["run", "-b", "-"], ["verify", "-b", "-"], ["variants", "--vcf", "-"]], ids=str)
@pytest.mark.parametrize("stdin, words", [(None, "which is closed"), ("terminal", "which is a terminal")])
def test_stdin_that_cannot_be_read_is_told(folder, here, capsys, monkeypatch, command, stdin, words):
    terminal = SimpleNamespace(closed=False, isatty=lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal if stdin else None)
    with pytest.raises(SystemExit) as ended:
        main([*command, "-m", folder.models["plain"], "-f", folder.fasta], prog_name="fastism")
    said = capsys.readouterr().err
    assert ended.value.code == 2 and words in said and "Traceback" not in said and list(here.iterdir()) == []


def test_names_that_are_not_utf8_are_names(folder, here):
    names = [os.fsdecode(name) for name in (b"m\xff.keras", b"b\xff.bed", b"g\xff.fa", b"o\xff.h5")]
    for name, source in zip(names, (folder.models["plain"], folder.bed, folder.fasta), strict=False):
        Path(name).write_bytes(Path(source).read_bytes())
    model, bed, fasta, output = names
    result = fastism("run", "-m", model, "-b", bed, "-f", fasta, "-o", output, "--no-check", "--limit", 1)
    assert result.exit_code == 0, result.stderr
    assert fastism("info", output).exit_code == 0
    with read_result(output) as written:
        assert written.attrs["bed_path"] == "b\\xff.bed"


@pytest.mark.parametrize("path", ["/", "."])
def test_a_folder_without_a_model_is_refused_before_anything_looks_into_it(here, path):
    result = fastism("run", "-m", path, "-b", "gone.bed", "-f", "gone.fa")
    assert result.exit_code == 2 and f"{path} is a folder without saved_model.pb" in result.stderr


def test_every_option_is_an_environment_variable(folder, here):
    result = run(folder, "--no-check", env={"FASTISM_RUN_LIMIT": "2", "FASTISM_RUN_OUTPUT": "by_env.h5"})
    assert result.exit_code == 0
    with read_result(here / "by_env.h5") as written:
        assert len(written.seq) == 2


def test_values_of_one_option_are_lines_of_its_variable(folder, here):
    shutil.copy(folder.models["plain"], here / "my model.keras")
    env = {"FASTISM_RUN_MODEL": "my model.keras\ngone a.keras\ngone b.keras\n"}
    result = fastism("run", "-b", folder.bed, "-f", folder.fasta, "--dry-run", env=env)
    gone = [f"  gone {letter}.keras: no such file or folder" for letter in "ab"]
    assert result.exit_code == 2 and result.stderr.splitlines() == ["Error: 2 problems:", *gone]


def test_overwrite_replaces_a_result(folder, here):
    assert [run(folder, *more, "--no-check").exit_code for more in ([], [], ["--overwrite"])] == [0, 2, 0]


def test_a_dry_run_does_everything_but_write(folder, here):
    result = run(folder, "--dry-run", "--limit", 3)
    assert result.exit_code == 0 and result.stdout == "" and list(here.iterdir()) == []
    assert "3 regions, 40 bases of each substituted -> peaks.ism.h5 (up to 5.92 kB)" in result.stderr


def test_failed_regions_are_told_and_exit_1(folder, here):
    result = run(folder, model="log")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "Error: 5 regions failed: the model gave NaN or infinity there (status 5 in peaks.ism.h5)"
    )
    with read_result(here / "peaks.ism.h5") as written:
        assert written.complete


UNSCORED = {
    "missing contigs": (["chrX 1 2", "chrY 1 2"], "2 on a missing contig. It looks like the BED of another genome"),
    "past the ends": (
        ["chrA 9000 9010", "chrB 900 910"],
        "2 past the end of their contig, or longer than the input. It",
    ),
    "only N": (["chrA 200 240", "chrA 205 235"], "2 with too many N. It looks like a masked FASTA, or like another"),
    "mixed": (
        ["chrX 1 2", "chrA 200 240", "chrX 1 9"],
        "2 on a missing contig, 1 with too many N. It looks like the BE",
    ),
}


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry-run"])
@pytest.mark.parametrize("case", UNSCORED)
def test_a_run_without_any_score_exits_1_and_says_what_it_looks_like(folder, here, case, dry):
    records, words = UNSCORED[case]
    bed = folder.bed_of("unscored.bed", *records)
    result = run(folder, "--missing-contig", "skip", "--no-check", *dry, bed=bed)
    last = result.stderr.splitlines()[-1]
    assert result.exit_code == 1 and last.startswith(f"Error: none of the {len(records)} regions of {bed} has scores: ")
    assert words in last and folder.fasta in last


def test_records_without_any_score_are_compared_with_no_bed():
    assert nothing_scored_line({Status.EDGE: 3}, None, "g.fa") == (
        "none of the 3 records of g.fa has scores: 3 past the end of their contig, or longer than the input. "
        "--edge pad scores records that are shorter than the input; --bed names regions of longer ones."
    )


def test_a_shard_without_any_score_is_a_warning(folder, here):
    bed = folder.bed_of("half.bed", "chrA 200 240", "chrA 30 71")
    result = run(folder, "--no-check", "--shard", "0/2", bed=bed)
    assert result.exit_code == 0 and "Warning: none of the 1 regions of " in result.stderr


def test_a_dry_run_counts_what_will_not_be_scored(folder, here):
    result = run(folder, "--dry-run", "--missing-contig", "skip", bed=folder.bed_of("two.bed", *RECORDS, "chrX 1 2"))
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-1] == "regions that will not be scored: 1 on a missing contig, 1 with too many N"
    assert "records are on the - strand" in result.stderr and "are longer than the model's input" in result.stderr


def test_an_empty_bed_is_no_error(folder, here):
    result = run(folder, bed=folder.bed_of("empty.bed"))
    assert "Warning: " in result.stderr and "empty.bed holds no region: there is nothing to score" in result.stderr
    assert result.exit_code == 0 and "0 regions, 0 substitutions -> empty.ism.h5" in result.stderr


# --- bad input: one clear message, exit 2, nothing left ---------------------------------------------------------------

REFUSED = {
    "model is missing": (["-m", "gone.h5"], "gone.h5: no such file or folder"),
    "model is none": (["-m", "{}/text.h5"], "{}/text.h5 is not a Keras model but text; give a .keras or .h5 file"),
    "weights are missing": (["--weights", "gone.h5"], "gone.h5: no such file or folder"),
    "custom objects are missing": (["--custom-objects", "gone.py"], "--custom-objects gone.py: no such file"),
    "BED is missing": (["-b", "gone.bed"], "gone.bed does not exist"),
    "BED is not BED": (["-b", "{}/not.bed"], "{}/not.bed line 2: start 'twenty' is not a whole number"),
    "start after end": (["-b", "{}/after.bed"], "{}/after.bed line 1: start 30 is after end 20"),
    "FASTA is missing": (["-f", "gone.fa"], "gone.fa does not exist"),
    "FASTA is none": (["-f", "{}/text.h5"], "{}/text.h5 does not begin with '>'. Is it a FASTA file?"),
    "contigs are missing": (
        ["-b", "{}/contigs.bed"],
        "2 contigs of {}/contigs.bed are not in {}/genome.fa:\n  line 1: contig 'chrX'\n  line 3: contig 'chrY'",
    ),
    "record passes the end": (
        ["-b", "{}/past.bed", "--edge", "error"],
        "{}/past.bed line 1: chrB:41-70 passes the end of chrB (60 in {}/genome.fa). Use --edge pad or --edge skip.",
    ),
    "input passes the ends": (
        ["--edge", "error"],
        "2 regions of {}/peaks.bed pass an end of their contig. Use --edge pad or --edge skip.\n"
        "  line 3: the input chrA:-14-25 passes the start of chrA\n"
        "  line 4: the input chrB:36-75 passes the end of chrB (60 in {}/genome.fa)",
    ),
    "N is refused": (
        ["--n-policy", "error", "--limit", "3"],
        "{}/peaks.bed line 2: 4 N in the input chrA:101-140. Use --n-policy skip or score.",
    ),
    "no summit": (
        ["--center", "summit", "--limit", "1"],
        "{}/peaks.bed line 1: no summit (column 10 of narrowPeak). Use --center auto or midpoint.",
    ),
    "no sequence input": (
        ["-m", "{}/table.keras"],
        "No input of the model can hold a sequence of shape (length, 4): ",
    ),
    "another alphabet": (["-m", "{}/five.keras"], "No input of the model can hold a sequence of shape (length, 4): "),
    "alphabet of five": (["--alphabet", "ACGTN"], "No input of the model can hold a sequence of shape (length, 5): "),
    "an alphabet's name": (["--alphabet", "protein"], "names the letters in the order of the channels; it is PROTEIN."),
    "no alphabet": (["--alphabet", "AAC"], "An alphabet is distinct letters A-Z, such as ACGT. Received: 'AAC'"),
    "no complement": (
        ["--alphabet", "ACGH", "--stranded"],
        "Only ACGT and ACGU have a reverse complement, not the alphabet ACGH. Run it unstranded.",
    ),
    "variable length": (["-m", "{}/variable.keras"], "--length"),
    "output exists": (
        ["-o", "{}/old.h5"],
        "{}/old.h5 exists. Replace it with --overwrite, or choose another --output.",
    ),
    "output is an input": (
        ["-o", "{}/peaks.bed", "--overwrite"],
        "{}/peaks.bed is an input of this run. Choose another --output.",
    ),
    "output is empty": (["-o", ""], "--output is empty. Name a file to write."),
    "summary folder is missing": (["--summary", "gone/s.json"], "gone/s.json: folder gone does not exist."),
    "output folder is missing": (["-o", "gone/o.h5"], "gone/o.h5: folder gone does not exist."),
    "window too long": (
        ["--window", "41"],
        "--window must be from 1 to the length of the model's input, 40. Received: --window 41",
    ),
    "window passes the input": (
        ["--window", "-5:21", "--offset", "-3"],
        "--window -5:21 passes an end of the model's input of 40: of records on the + strand it holds -20:20.",
    ),
    "no window": (
        ["--window", "9:x"],
        "Invalid value for '--window': must be a number of bases from 1 on, or FIRST:END",
    ),
    "no offset": (["--offset", "x"], "Invalid value for '--offset': 'x' is not a whole number from "),
    "target too high": (["--targets", "3"], "--targets: head 'out' has 3 targets, numbered from 0. Received: 3"),
    "targets are no list": (["--targets", "a..b"], "--targets a..b: 'a..b' is neither a number nor a range."),
    "target names are missing": (
        ["--target-names", "gone.txt"],
        "--target-names: gone.txt cannot be read: No such file",
    ),
    "no such head": (["--reduce", "top=sum"], "--reduce: the model has no head 'top'. Its heads: out."),
    "no such reduction": (
        ["--reduce", "median"],
        "--reduce median: not known. Choose one of: none, sum",
    ),
    "positional head": (
        ["-m", "{}/pair.keras", "--input", "features=ones"],
        "head 'profile' has shape (40, 2): kept whole, one region takes 51.2 kB and 100,000 regions 5.12 GB",
    ),
    "other input is missing": (
        ["-m", "{}/pair.keras", "--reduce", "sum"],
        "The model has an input beside the sequence: 'features' (2,). "
        "Give each its values: --input NAME=zeros|ones|FILE.npy.",
    ),
    "no such input": (["--input", "x=ones"], "--input x: the model has no such input beside the sequence."),
    "input file is missing": (
        ["--input", "x=gone.npy"],
        "--input x: gone.npy cannot be read: No such file or directory",
    ),
    "input file is no array": (
        ["--input", "x={}/objects.npy"],
        "--input x: {}/objects.npy is no array, or an empty one. Write an array of numbers with numpy.save.",
    ),
    "input without a value": (["--input", "x"], "--input must be NAME=zeros, NAME=ones or NAME=FILE.npy. Received: x"),
    "unknown choice": (["--center", "left"], "Invalid value for '--center': 'left' is not one of 'auto', 'midpoint'"),
    "no batch size": (["--batch-size", "0"], "'0' is neither auto nor a whole number from 1 on."),
    "unknown option": (["--fast"], "No such option"),
}


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.replace(" ", "-"))
def test_bad_input(folder, here, case):
    folder.bed_of("not.bed", "chrA 1 2", "chrA twenty 30")
    folder.bed_of("after.bed", "chrA 30 20")
    folder.bed_of("contigs.bed", "chrX 1 2", "chrA 1 2", "chrY 1 2")
    folder.bed_of("past.bed", "chrB 40 70")
    arguments, message = REFUSED[case]
    files = sorted(folder.path.iterdir())
    result = run(folder, *(argument.replace("{}", str(folder.path)) for argument in arguments))
    assert result.exit_code == 2, result.output
    error = result.stderr[result.stderr.index("Error: ") :]
    assert message.replace("{}", str(folder.path)) in error, error
    assert result.stdout == "" and "Traceback" not in result.stderr
    assert list(here.iterdir()) == [] and sorted(folder.path.iterdir()) == files
    assert (folder.path / "old.h5").read_bytes() == b"an older result"


@pytest.mark.parametrize("command", ["run", "variants"])
@pytest.mark.parametrize("option", ["--model", "--bed", "--fasta", "--target-names", "--input"])
def test_a_name_that_no_file_can_have_is_one_line(here, option, command):
    """Looking at it fails, as with a file in a folder that cannot be entered."""
    regions, other = ("--vcf", "--bed") if command == "variants" else ("--bed", "--vcf")
    given = {"--model": "gone.h5", regions: "gone.bed", "--fasta": "gone.fa"}
    option = regions if option == other else option
    name = 300 * "A"
    given[option] = f"x={name}" if option == "--input" else name
    result = fastism(command, *(part for pair in given.items() for part in pair))
    assert result.exit_code == 2 and "Traceback" not in result.stderr, result.stderr
    assert re.search(f"{name}(:| cannot| does not)", result.stderr), result.stderr


@pytest.mark.parametrize(
    "case", ["FASTA is missing", "contigs are missing", "input file is missing", "summary folder is missing"]
)
def test_what_needs_no_model_is_found_before_keras_is_loaded(folder, here, case, monkeypatch):
    def too_late(**options: object) -> None:
        raise AssertionError("Keras was loaded")

    monkeypatch.setattr("fastism_cli.run.job.import_backend", too_late)
    folder.bed_of("contigs.bed", "chrX 1 2", "chrA 1 2", "chrY 1 2")
    result = run(folder, *(argument.replace("{}", str(folder.path)) for argument in REFUSED[case][0]))
    assert result.exit_code == 2 and "Keras was loaded" not in result.output


def test_all_problems_are_told_together(folder, here):
    result = run(folder, "-m", "gone.h5", "-f", "gone.fa", "--targets", "1-0", "--input", "x")
    assert result.stderr == (
        "Error: 4 problems:\n"
        "  gone.h5: no such file or folder\n"
        "  --input must be NAME=zeros, NAME=ones or NAME=FILE.npy. Received: x\n"
        "  --targets 1-0: 1-0 ends before it starts.\n"
        "  gone.fa does not exist\n"
    )


def test_only_the_first_of_many_regions_are_shown(folder, here):
    bed = folder.bed_of("many.bed", *(50 * [RECORDS[2]]))
    result = run(folder, "--edge", "error", bed=bed)
    lines = result.stderr.splitlines()
    assert lines[0].startswith("Error: 50 regions of ") and len(lines) == 22 and lines[-1] == "  ... and 30 more"


def test_a_missing_option_is_one_line(folder):
    result = fastism("run", "-m", "x")
    assert result.exit_code == 2
    assert result.stderr == "Error: Missing option '-f' / '--fasta'. See fastism run --help.\n"


def test_an_unknown_command_is_one_line():
    result = fastism("score")
    assert result.exit_code == 2 and result.stderr == "Error: No such command 'score'. See fastism --help.\n"


# --- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "Error: interrupted\n"),
        (Terminated("SIGTERM"), 143, "Error: stopped by SIGTERM\n"),
        (Terminated("SIGHUP"), 129, "Error: stopped by SIGHUP\n"),
        (MemoryError(), 1, "Error: out of memory."),
        (SystemExit(0), 1, "Error: {}: SystemExit: 0 (run again with -v for the traceback)\n"),
        (
            NameError(
                "Exception encountered when calling Lambda.call().\n\n\x1b[1mname 'tf' is not defined\x1b[0m\n\nx"
            ),
            1,
            "Error: {}: NameError: Exception encountered when calling Lambda.call(). name 'tf' is not defined "
            "(run again with -v for the traceback)\n",
        ),
        (ZeroDivisionError("a\nb"), 1, "Error: {}: ZeroDivisionError: a (run again with -v for the traceback)\n"),
    ],
    ids=["interrupt", "terminate", "hang_up", "memory", "exit", "in_a_layer", "bug"],
)
def test_how_other_ends_are_told(folder, monkeypatch, error, code, message):
    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("fastism_cli.run.inspect_and_verify.inspect_model", fail)
    result = fastism("inspect", folder.models["plain"])
    told = message.format(folder.models["plain"])
    assert result.exit_code == code and result.stderr.startswith(told) and "Traceback" not in result.stderr


def test_verbose_shows_the_traceback():
    result = fastism("inspect", "gone.h5", "-v")
    assert result.exit_code == 2 and "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("Error: gone.h5: no such file or folder\n")


def start(folder: Folder, *more: str, cwd: Path) -> subprocess.Popen:
    arguments = ["run", "-m", folder.models["plain"], "-f", folder.fasta, "-o", "o.h5", *more]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment["PYTHONPATH"] = str(Path(cli.__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-m", "fastism_cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment,
    )


@pytest.mark.one_in(48)
@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.exhaustive),
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.exhaustive),
    ],
)
def test_a_signal_keeps_the_rows_so_far(folder, here, number, code):
    bed = folder.bed_of("long.bed", *(50_000 * [RECORDS[0]]))
    process = start(folder, "-b", bed, "--no-check", "--checkpoint", "0", cwd=here)
    wait_for(lambda: (here / "o.h5.partial.journal").exists(), process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == code, stderr
    kept, error = stderr.splitlines()[-2:]
    assert re.search(r"of 50,000 regions are kept in o\.h5\.partial: run again with --resume to continue", kept)
    assert stdout == "" and error.startswith("Error: ")
    assert sorted(path.name for path in here.iterdir()) == ["o.h5.partial", "o.h5.partial.journal"]


def wait_for(condition, process: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while not condition() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert condition(), process.communicate()[1] if process.poll() is not None else "it takes too long"


@pytest.mark.one_in(48)
def test_a_real_process_says_only_its_own_lines(folder, here):
    process = start(folder, "-b", folder.bed, cwd=here)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0 and stdout == ""
    lines = stderr.splitlines()
    assert "loading TensorFlow ..." in lines[0]
    assert len(lines) == 12 and all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines), stderr


# --- inspect and verify ----------------------------------------------------------------------------------------------


def test_inspect_shows_a_table(folder):
    result = fastism("inspect", folder.models["plain"])
    assert result.exit_code == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].endswith(": inputs dna (40, 4); sequence in dna; heads out (3,)")
    header, *rows = lines[2 : lines.index("", 2)]
    assert header.split("  ")[0] == "node" and header.endswith("of a forward pass")
    assert [row.split()[1] for row in rows[:-1]] == ["Conv1D", "Conv1D:", "MaxPooling1D", "Flatten", "Dense"]
    assert {len(line) for line in (header, *rows)} == {len(header)}
    assert rows[-1].split()[0] == "total" and rows[-1].endswith("5.16k")
    assert lines[-1].startswith("engine auto: fast (estimated ")


def test_inspect_json(folder):
    result = fastism("inspect", folder.models["pair"], "--json")
    found = json.loads(result.stdout)
    assert found["heads"] == {"profile": [40, 2], "count": [1]} and found["reduce"] == {"profile": "sum"}
    assert sum(node["multiply_adds"] for node in found["nodes"]) == found["multiply_adds"]


def test_verify_prints_both_errors(folder):
    result = fastism("verify", "-m", folder.models["plain"], "--sequences", 1, "--positions", 9)
    assert result.exit_code == 0 and result.stderr == ""
    first, header, row = result.stdout.splitlines()
    assert first == "fast engine, 27 substitutions in 1 sequences, against plain Keras in float64"
    assert "engine's error" in header and "plain Keras' error" in header
    assert row.startswith("out ") and row.endswith(" ok")


def test_verify_on_regions(folder):
    result = fastism("verify", "-m", folder.models["pair"], "--reduce", "mean", "-b", folder.bed, "-f", folder.fasta)
    assert result.exit_code == 0 and [line.split()[0] for line in result.stdout.splitlines()[2:]] == [
        "profile",
        "count",
    ]


def test_verify_above_the_tolerance_exits_1(folder):
    result = fastism("verify", "-m", folder.models["plain"], "--tolerance", 0)
    assert result.exit_code == 1 and result.stdout.rstrip().endswith("WRONG")
    assert result.stderr.startswith(
        "Error: the fast engine disagrees with plain Keras in float64:\n  head 'out': off by"
    )


def test_a_run_refuses_an_engine_that_is_wrong(folder, here, monkeypatch):
    monkeypatch.setattr("fastism_cli.engine.verify._tolerance", lambda judge, check: -1.0)
    result = run(folder)
    assert result.exit_code == 1 and "Error: the fast engine disagrees with plain Keras" in result.stderr
    assert list(here.iterdir()) == []


# --- the parts --------------------------------------------------------------------------------------------------------


def test_every_command_has_help():
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert isinstance(command, click.Command) and command.help and command.short_help
        assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option))


def test_version():
    assert re.fullmatch(r"fastism, version \d+\.\d+\.\d+\S*\n", fastism("--version").stdout)


@pytest.mark.parametrize("option", ["HELP", "VERSION"])
def test_no_environment_variable_asks_for_help_or_the_version(here, option):
    """A command would do nothing, and exit with code 0."""
    for name in COMMANDS:
        env = {f"FASTISM_{option}": "1", f"FASTISM_{name.upper()}_{option}": "1"}
        result = fastism(name, env=env)
        assert result.exit_code == 2 and not result.stdout, (name, result.output)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (7_590_000, "7.59M"), (1234, "1.23k"), (2e12, "2T")]
)
def test_numbers_for_people(number, text):
    assert human(number) == text


def test_columns_are_aligned():
    assert aligned([("a", "b"), ("long", "1")], right={1}) == ["a     b", "long  1"]
    assert aligned([("a", "bbb", "c"), ("aa", "1", "")], right={1}) == ["a   bbb  c", "aa    1"]


def test_what_libraries_say_while_they_load_is_shown_only_if_they_fail(capfd):
    with start_backend.held_back_stderr():
        os.write(2, b"chatter\n")
    with pytest.raises(ImportError), start_backend.held_back_stderr():
        os.write(2, b"the reason\n")
        raise ImportError("broken")
    with start_backend.held_back_stderr(show=True):
        os.write(2, b"verbose\n")
    assert capfd.readouterr().err == "the reason\nverbose\n"


@pytest.mark.parametrize(
    "chosen, installed, cure",
    [
        ("torch", ["tensorflow"], r"Choose another that is installed: KERAS_BACKEND=tensorflow$"),
        ("torch", ["tensorflow", "jax"], r"installed: KERAS_BACKEND=tensorflow or KERAS_BACKEND=jax$"),
        ("tensorflow", ["tensorflow"], r"Install tensorflow or jax\.$"),
    ],
)
def test_a_backend_that_is_advised_is_installed(chosen, installed, cure, monkeypatch):
    def broken(**wanted):
        raise ImportError("broken")

    monkeypatch.setenv("KERAS_BACKEND", chosen)
    monkeypatch.setattr(start_backend, "held_back_stderr", broken)
    monkeypatch.setattr(start_backend, "find_spec", lambda name: name in installed or None)
    with pytest.raises(UsageError, match=rf"the backend '{chosen}' \(broken\)\. .*{cure}"):
        start_backend.import_backend(verbose=False)


def test_a_closed_stderr_is_no_reason_to_fail(monkeypatch):
    def closed(descriptor: int) -> int:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(start_backend.os, "dup", closed)
    with start_backend.held_back_stderr():
        assert np.ones(1).sum() == 1
