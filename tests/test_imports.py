"""Imports run one way, and asking for help loads neither Keras nor TensorFlow."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastism_cli
from fastism_cli.cli import COMMANDS

PACKAGE = Path(fastism_cli.__file__).parent

# What each package may import, besides the modules of the root: "cli -> run" and so on.
MAY_IMPORT = {
    "options": "",
    "genome": "options",
    "model": "options genome",
    "results": "options genome",
    "rules": "model",
    "engine": "options genome model rules",
    "export": "options genome results",
    "report": "options genome results",
    "run": "options genome model engine results",
    "cli": "options run engine export report results",
}
ROOT = {"", "errors", "version", "optional"}  # all may import them
# These must load without Keras: they run before it, or for --help.
WITHOUT_KERAS = (
    "run.checks",
    "cli",
    "run.inspect_and_verify",
    "results.contents",
    "export.export_scores",
    "genome.bed",
    "genome.fasta",
    "results.ism_file",
    "model.loading.load",
    "results.scores",
    "run.job",
    "report.plot_regions",
    "report.write_report",
    "results.merge_shards",
    "run.score_regions",
    "run.start_backend",
    "run.variants.score_variants",
    "run.worker_processes",
)


def module_of(path: Path) -> str:
    """``.../fastism_cli/genome/bed.py -> genome.bed``; the package itself is ``""``."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


MODULES = {module_of(path) for path in files()}


def package_of(module: str) -> str | None:
    """The package of a module; None for one of the root."""
    return None if module in ROOT else module.split(".")[0]


def imports_of(path: Path) -> set[tuple[str, str | None]]:
    """Modules that a file imports, anywhere in it, each with the name that is taken from it."""
    found: set[tuple[str, str | None]] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {(alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = whole.removeprefix("fastism_cli.") in MODULES
                found.add((whole, None) if is_module else (str(node.module), alias.name))
    inside = {(module, name) for module, name in found if module.split(".")[0] == "fastism_cli"}
    return {(module.removeprefix("fastism_cli").removeprefix("."), name) for module, name in inside}


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_table(path):
    own = package_of(module_of(path))
    if own is None or module_of(path) == "__main__":
        return
    for module, _ in imports_of(path):
        assert package_of(module) in {own, *MAY_IMPORT[own].split(), None}, f"{path.name} imports {module}"


def test_the_test_sees_an_import_inside_a_function(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from fastism_cli import cli\n    import fastism_cli.rules.base\n")
    assert imports_of(file) == {("cli", None), ("rules.base", None)}


def python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=PACKAGE.parent, check=False
    )


HELP = """
import sys
from fastism_cli.cli import main
main(sys.argv[1:], standalone_mode=False)
heavy = {"keras", "tensorflow", "tf_keras", "jax", "h5py", "numpy", "pybedtools"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=" ".join
)
def test_help_is_quick_and_loads_nothing(arguments):
    started = time.monotonic()
    result = python(HELP, *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(("Usage: ", "fastism "))
    assert time.monotonic() - started < 2


def test_what_runs_before_keras_does_not_load_it():
    modules = ", ".join(f"fastism_cli.{name}" for name in WITHOUT_KERAS)
    result = python(f"import sys, {modules}\nassert not {{'keras', 'tensorflow', 'tf_keras'}} & set(sys.modules)")
    assert result.returncode == 0, result.stderr
