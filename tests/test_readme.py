"""What the README and the files beside it say of the package."""

import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

from click.testing import CliRunner

import fastism_cli
from fastism_cli.cli import COMMANDS, main
from fastism_cli.export.formats import FORMATS
from fastism_cli.run import start_backend
from tests.helpers.small_run import make_folder

ROOT = Path(fastism_cli.__file__).parent.parent


MOST_LINES = 150


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_public_name_is_in_the_page_on_the_library():
    table = page("docs/reference/library.md").split("<!-- names: begin -->")[1].split("<!-- names: end -->")[0]
    names = re.findall(r"^\| `(\w+)` \| \S.*\|$", table, flags=re.MULTILINE)
    assert sorted(names) == sorted(fastism_cli.__all__)


def test_every_command_and_format_has_its_line():
    text = page("README.md")
    assert [name for name in COMMANDS if not re.search(rf"^\| `fastism {name}[ `]", text, flags=re.MULTILINE)] == []
    table = page("docs/how-to/other-tools.md").split("| `--format` | holds |")[1].split("\n\n")[0]
    kinds = [kind for row in table.splitlines()[2:] for kind in re.findall(r"`([\w-]+)`", row.split("|")[1])]
    assert sorted(kinds) == sorted(FORMATS)


def test_the_readme_is_short():
    assert len(page("README.md").splitlines()) <= MOST_LINES


def test_the_version_is_the_same_everywhere():
    citation = page("CITATION.cff")
    assert re.search(r"^version: (\S+)$", citation, flags=re.MULTILINE)[1] == fastism_cli.__version__


def test_types_are_packaged():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert (ROOT / "fastism_cli" / "py.typed").exists()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["fastism_cli"]


def test_the_workflow_runs_all_of_ci():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace("test-rest", "test-all")  # which holds it
    targets = re.findall(r"\bmake ([a-z][a-z-]*)", run)
    assert targets and [name for name in targets if not re.search(rf"(make|-) {name}\b", workflow)] == []


# --- the log of a real run --------------------------------------------------------------------------------------------

NUMBER = r"[\d,.]*\d(?:e[-+]?\d+)?"


def pattern_of(line: str, names: dict[str, str]) -> str:
    """A line of the README with the names of another run, any numbers, and any unit of bytes."""
    for name, other in names.items():
        line = line.replace(name, other)
    parts = [re.escape(part) for part in re.split(NUMBER, line)]
    return re.sub(r"[kMG]?B\\\)$", r"[kMG]?B\\)", NUMBER.join(parts))


def test_the_log_of_a_real_run_is_what_a_run_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start_backend, "sys", SimpleNamespace(modules={}))  # as if Keras were not loaded yet
    folder, output = make_folder(tmp_path), "o.ism.h5"
    Path(f"{folder.fasta}.fai").unlink()
    block = page("README.md").split("$ fastism run")[1].split("```")[0]
    given, *lines = block.strip().splitlines()
    assert given.split()[-3:] == ["--input", "halflife=zeros", "--stranded"]
    options = ["--input", "features=zeros", "--stranded", "--targets", "count=all", "-o", output]
    files = ["--model", folder.models["pair"], "--bed", folder.bed, "--fasta", folder.fasta]
    said = CliRunner().invoke(main, ["run", *files, *options]).stderr.splitlines()
    names = {"hg38_chr1.fa.gz": folder.fasta, "xpresso_human.h5": folder.models["pair"], "tss.ism.h5": output}
    names |= {"'promoter'": "'dna'", "dense_3": "count"}
    assert len(lines) == 11
    for line in lines:
        wanted = pattern_of(line, names)
        assert any(re.fullmatch(wanted, one) for one in said), (wanted, said)
