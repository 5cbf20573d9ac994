"""A signal ends every command at once: nothing unfinished is left, and the exit code says which it was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fastism_cli.cli import main
from fastism_cli.results import merge_shards, scores
from fastism_cli.results.crash_safe_file import read_checkpoint
from fastism_cli.results.ism_file import read_result
from fastism_cli.results.writer import ResultWriter
from fastism_cli.run import score_regions
from fastism_cli.run.job import Job
from fastism_cli.run.variants import score_variants
from tests.helpers.result_files import write_result
from tests.helpers.small_run import RECORDS, Folder, make_folder
from tests.results.test_intact import shards
from tests.run.test_score_variants import substitution, write_vcf

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.usefixtures("logging_as_before"),
]

SIGNALS = {"SIGHUP": 129, "SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 143, "SIGUSR2": 143, "SIGXCPU": 143}
COMMANDS = {
    "export": ["export", "r.h5", "--format", "tsv", "-o", "out/o.tsv"],
    "report": ["report", "r.h5", "-o", "out/o.html"],
    "top": ["top", "r.h5", "-o", "out/o.tsv"],
    "plot": ["plot", "r.h5", "--top", "2", "--target", "count", "-o", "out/pictures/"],
    "merge": ["merge", "s0.h5", "s1.h5", "-o", "out/o.h5"],
    "merge --virtual": ["merge", "s0.h5", "s1.h5", "-o", "out/o.h5", "--virtual"],
}
PLACES = {"merge": (ResultWriter, "finish"), "merge --virtual": (merge_shards, "_link")}


@pytest.fixture(autouse=True)
def no_signal_ignored():
    """These tests run as from a terminal: under nohup, or behind ``&``, some signals are ignored from the start."""
    before = {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS}
    for name in SIGNALS:
        signal.signal(getattr(signal, name), signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


def stop_in(monkeypatch: pytest.MonkeyPatch, place: object, name: str, *signals: str) -> None:
    """Send signals to this process, after the function that is called ``name`` has done its work."""
    before = getattr(place, name)

    def stopped(*arguments, **options):
        found = None if name == "finish" else before(*arguments, **options)
        for one in signals:
            os.kill(os.getpid(), getattr(signal, one))
        return found

    monkeypatch.setattr(place, name, stopped)


@pytest.mark.one_in(48)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_leaves_nothing_unfinished(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    os.mkdir("out")
    write_result(Path("r.h5"))
    shards(Path(), 2)
    for name in SIGNALS:
        with monkeypatch.context() as patches:
            stop_in(patches, *PLACES.get(command, (scores, "stored_blocks")), name)
            assert_stopped(CliRunner().invoke(main, COMMANDS[command]), name)
        assert os.listdir("out") == [], name


def assert_stopped(found: Result, name: str) -> None:
    assert found.exit_code == SIGNALS[name], (name, found.output, found.exception)
    last = found.stderr.splitlines()[-1]
    assert last == ("Error: interrupted" if name == "SIGINT" else f"Error: stopped by {name}")


# --- with a model ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    return make_folder(tmp_path_factory.mktemp("small"))


def call(command: str, folder: Folder, *more: str) -> list[str]:
    return [command, "-m", folder.models["plain"], "-f", folder.fasta, "--no-check", *more]


def test_a_signal_leaves_no_half_of_a_vcf(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vcf = write_vcf(tmp_path / "in.vcf", [substitution("chrA", position) for position in range(20, 60)])
    for name in SIGNALS:
        with monkeypatch.context() as patches:
            stop_in(patches, score_variants, "_score_block", name)
            assert_stopped(CliRunner().invoke(main, call("variants", folder, "--vcf", vcf, "-o", "o.vcf.gz")), name)
        assert os.listdir() == ["in.vcf"], name


def arrays(path: str) -> list[np.ndarray]:
    with read_result(path) as result:
        return [result.seq[:], result.reference()[:], result.delta()[:], *result.regions.values()]


@pytest.mark.one_in(36)
def test_each_signal_keeps_the_rows_and_resume_goes_on(folder, tmp_path, monkeypatch):
    """One run, stopped by every signal, each after a few more rows: those that were begun are finished."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Job, "block_rows", 1)
    asked = call("run", folder, "-b", folder.bed_of("often.bed", *(6 * RECORDS)), "-o")
    assert CliRunner().invoke(main, [*asked, "whole.h5"]).exit_code == 0
    done = []
    for name in [name for name in SIGNALS if name != "SIGUSR2"]:
        with monkeypatch.context() as patches:
            stop_in(patches, score_regions, "write_block", name)
            found = CliRunner().invoke(main, [*asked, "o.h5", "--resume", "--checkpoint", "0"])
        assert_stopped(found, name)
        assert sorted(os.listdir()) == ["o.h5.partial", "o.h5.partial.journal", "whole.h5"], name
        done.append(read_checkpoint("o.h5.partial.journal").rows)
    assert done == sorted(set(done)) and done[0] > 0
    assert CliRunner().invoke(main, [*asked, "o.h5", "--resume"]).exit_code == 0
    for found, wanted in zip(arrays("o.h5"), arrays("whole.h5"), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert sorted(os.listdir()) == ["o.h5", "whole.h5"]


@pytest.mark.one_in(48)
@pytest.mark.parametrize(
    ("name", "to_all"),
    [("SIGTERM", False), *(pytest.param(*x, marks=pytest.mark.exhaustive) for x in
        [("SIGINT", True), ("SIGHUP", True), ("SIGUSR1", False), ("SIGXCPU", False)])],
)  # fmt: skip
def test_a_signal_to_several_devices_keeps_the_rows_of_each(folder, tmp_path, name, to_all):
    """A terminal sends it to all processes, a scheduler to the first."""
    bed = folder.bed_of("long.bed", *(50_000 * [RECORDS[0]]))
    asked = call("run", folder, "-b", bed, "-o", "o.h5", "--devices", "cpu,cpu", "--checkpoint", "0.2")
    process = subprocess.Popen(
        [sys.executable, "-m", "fastism_cli", *asked],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    parts = [tmp_path / f"o.h5.part-{i}-of-2.partial" for i in range(2)]
    until = time.monotonic() + 300
    while not all(Path(f"{part}.journal").exists() for part in parts) and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    (os.killpg if to_all else os.kill)(process.pid, getattr(signal, name))
    said = process.communicate(timeout=200)[1]
    assert process.returncode == SIGNALS[name], said
    assert said.splitlines()[-1] == ("Error: interrupted" if name == "SIGINT" else f"Error: stopped by {name}")
    assert "Traceback" not in said
    assert sorted(tmp_path.iterdir()) == sorted([*parts, *(Path(f"{part}.journal") for part in parts)])
    assert all(read_checkpoint(f"{part}.journal").rows > 0 for part in parts)


# --- manners ---------------------------------------------------------------------------------------------------------


def test_a_second_signal_does_not_interrupt_the_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("out")
    write_result(Path("r.h5"))
    stop_in(monkeypatch, scores, "stored_blocks", "SIGHUP")
    stop_in(monkeypatch, os, "rmdir", "SIGTERM")
    assert CliRunner().invoke(main, COMMANDS["export"]).exit_code == 129
    assert os.listdir("out") == []


def test_a_signal_that_is_ignored_at_the_start_stays_so(tmp_path, monkeypatch):
    """As under nohup."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("out")
    write_result(Path("r.h5"))
    stop_in(monkeypatch, scores, "stored_blocks", "SIGHUP")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert CliRunner().invoke(main, COMMANDS["export"]).exit_code == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert "o.tsv" in os.listdir("out")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full disk to write to")
@pytest.mark.parametrize("command", [["info", "r.h5"], ["--help"]])
def test_a_full_disk_behind_stdout_is_one_line(tmp_path, command):
    write_result(tmp_path / "r.h5")
    arguments = [sys.executable, "-m", "fastism_cli", *command]
    with open("/dev/full", "w") as full:
        found = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert (found.returncode, found.stderr) == (1, "Error: stdout cannot be written: No space left on device\n")
