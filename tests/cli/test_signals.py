"""A signal ends every command at once: nothing unfinished is left, and the exit code says which it was."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastism_cli.cli import main
from fastism_cli.results import merge_shards, scores
from fastism_cli.results.writer import ResultWriter
from tests.helpers.result_files import write_result
from tests.results.test_intact import shards

SIGNALS = {"SIGHUP": 129, "SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 143, "SIGUSR2": 143, "SIGXCPU": 143}
COMMANDS = {
    "export": ["export", "r.h5", "--format", "tsv", "-o", "out/o.tsv"],
    "report": ["report", "r.h5", "-o", "out/o.html"],
    "plot": ["plot", "r.h5", "--top", "2", "--target", "count", "-o", "out/pictures/"],
    "merge": ["merge", "s0.h5", "s1.h5", "-o", "out/o.h5"],
    "merge --virtual": ["merge", "s0.h5", "s1.h5", "-o", "out/o.h5", "--virtual"],
}
PLACES = {"merge": (ResultWriter, "finish"), "merge --virtual": (merge_shards, "_link")}


def stop_in(monkeypatch: pytest.MonkeyPatch, place: object, name: str, *signals: str) -> None:
    """Send signals to this process, after the function that is called ``name`` has done its work."""
    before = getattr(place, name)

    def stopped(*arguments, **options):
        found = None if name == "finish" else before(*arguments, **options)
        for one in signals:
            os.kill(os.getpid(), getattr(signal, one))
        return found

    monkeypatch.setattr(place, name, stopped)


@pytest.mark.parametrize(
    ("command", "name"), [*((command, "SIGHUP") for command in COMMANDS), *(("export", name) for name in SIGNALS)][1:]
)
def test_a_signal_leaves_nothing_unfinished(tmp_path, monkeypatch, command, name):
    monkeypatch.chdir(tmp_path)
    os.mkdir("out")
    write_result(Path("r.h5"))
    shards(Path(), 2)
    stop_in(monkeypatch, *PLACES.get(command, (scores, "stored_blocks")), name)
    found = CliRunner().invoke(main, COMMANDS[command])
    assert found.exit_code == SIGNALS[name], found.output
    assert found.stderr == ("Error: interrupted\n" if name == "SIGINT" else f"Error: stopped by {name}\n")
    assert os.listdir("out") == []


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
