"""A full disk ends every command that writes in one line and exit code 1; what was there before stays as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastism_cli.cli import main
from fastism_cli.export.formats import FORMATS
from fastism_cli.results.ism_file import read_result
from tests.export.test_output_rule import WRITES, contents
from tests.helpers.result_files import write_result
from tests.helpers.small_run import Folder, make_folder
from tests.results.test_intact import shards
from tests.results.test_ism_file import files_of_at_most
from tests.run.test_score_variants import substitution, write_vcf

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.usefixtures("logging_as_before"),
]

EXPORT = ["export", "r.h5", "--targets", "count"]
SCORED = ["-m", "m.keras", "-f", "g.fa", "--no-check"]
CALLS = {
    **{
        f"export {name}": [*EXPORT, "-t", name, "-o", f"out/o{form.endings[0] if len(form.endings) == 1 else '.npz'}"]
        for name, form in FORMATS.items()
    },
    "export packed": [*EXPORT, "-t", "modisco-h5", "--compression", "gzip", "-o", "out/o.h5"],
    "export text vcf": [*EXPORT, "-t", "vcf", "-o", "out/o.vcf"],
    **{f"plot {ending}": ["plot", "r.h5", "--target", "count", "--name", "plus", "-o", f"out/p.{ending}"]
       for ending in ("png", "svg", "pdf")},
    "top": ["top", "r.h5", "-o", "out/o.tsv"],
    "plot several": ["plot", "r.h5", "--target", "count", "--top", "2", "-o", "out/p/"],
    "report": ["report", "r.h5", "-o", "out/o.html"],
    "merge": ["merge", "s0.h5", "s1.h5", "-o", "out/o.h5"],
    "merge index": ["merge", "s0.h5", "s1.h5", "--virtual", "-o", "out/o.h5"],
    "run": ["run", *SCORED, "-b", "p.bed", "-o", "out/o.h5"],
    "pairs": ["pairs", *SCORED, "-b", "p.bed", "--within", "3", "--window", "9", "-o", "out/o.h5"],
    "run summary": ["run", *SCORED, "-b", "p.bed", "-o", "o.h5", "--summary", "out/s.json"],
    "variants": ["variants", *SCORED, "--vcf", "in.vcf", "-o", "out/o.vcf.gz"],
    "variants text": ["variants", *SCORED, "--vcf", "in.vcf", "-o", "out/o.vcf"],
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Folder:
    return make_folder(tmp_path_factory.mktemp("small"))


@pytest.fixture
def here(small, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, source in {"m.keras": small.models["plain"], "g.fa": small.fasta, "p.bed": small.bed}.items():
        Path(name).symlink_to(source)
    write_vcf(Path("in.vcf"), [substitution("chrA", position) for position in range(20, 60)])
    write_result(Path("r.h5"))
    shards(tmp_path, 2)
    os.makedirs("out/p")
    return tmp_path


def fastism(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="fastism")


def test_every_output_has_a_full_disk():
    assert {command for command, _ in WRITES} == {name.split()[0] for name in CALLS}
    assert {option for _, option in WRITES} == {"output", "summary"}


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", CALLS)
def test_a_full_disk_is_one_line_and_changes_nothing(here, name):
    first = fastism(*CALLS[name])
    assert first.exit_code == 0, first.output
    before = contents(here / "out")
    largest = max(map(len, before.values()))
    for n_bytes in (0, largest // 2, largest - 1):
        with files_of_at_most(n_bytes):
            result = fastism(*CALLS[name], "--overwrite")
        told = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert result.exit_code == 1 and len(told) == 1, (n_bytes, result.output, result.exception)
        assert result.stderr.splitlines()[-1] == told[0]
        assert "cannot be written" in told[0], told
        assert contents(here / "out") == before, n_bytes
        assert not list(here.rglob("*.partial*")) and not list(here.rglob(".fastism-*"))


def test_a_summary_that_cannot_be_written_leaves_a_whole_result(here):
    result = fastism(*CALLS["run"], "--summary", "/dev/full")
    assert result.exit_code == 1
    assert result.stderr.endswith("Error: --summary /dev/full cannot be written: No space left on device\n")
    with read_result("out/o.h5") as written:
        assert written.complete


@pytest.mark.one_in(36)
@pytest.mark.parametrize("name", [name for name in CALLS if name.startswith("export") and "h5" in name])
def test_the_process_ends_without_a_crash(here, name):
    """HDF5 crashes at the exit of a process that has a file which it could not write."""
    script = "import resource, sys; from fastism_cli.cli import main; "
    script += "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); main(sys.argv[1:], prog_name='fastism')"
    found = subprocess.run(
        [sys.executable, "-c", script, *CALLS[name]], stderr=subprocess.PIPE, text=True, check=False
    )  # fmt: skip
    assert found.returncode == 1 and found.stderr.count("\n") == 1, found.stderr
    assert os.listdir("out") == ["p"]


# --- a reader that goes away -----------------------------------------------------------------------------------------


@pytest.mark.one_in(48)
@pytest.mark.parametrize(
    "command",
    [
        ["info", "r.h5"],
        ["info", "r.h5", "--json"],
        ["--help"],
        [*EXPORT, "-t", "tsv", "-o", "-"],
        [*EXPORT, "-t", "vcf", "-o", "/dev/stdout"],
        ["report", "r.h5", "-o", "-"],
    ],
    ids=" ".join,
)
def test_a_reader_that_stops_reading_is_no_traceback(here, command):
    """``fastism info r.h5 | head -1``"""
    receive, send = os.pipe()
    os.close(receive)
    found = subprocess.run(
        [sys.executable, "-m", "fastism_cli", *command], stdout=send, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(send)
    assert (found.returncode, found.stderr) == (1, "")
