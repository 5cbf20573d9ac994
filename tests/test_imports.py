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

# From the bottom up: a module may import what stands on a lower line. Anything else is a cycle in the making.
LAYERS = [
    {"version", "errors", "steps"},
    {"devices", "compile_cache"},
    {"alphabet", "windows", "problems", "overlap", "inputs", "headed", "shards", "backend", "costs"},
    {"graph", "io", "reduce"},
    {"quiet", "functional", "simpler", "precision", "regions", "merging", "alleles", "outputs"},
    {"reader", "variant_files"},
    {"run_options"},
    {"views", "heads", "targets", "layouts"},
    {"rules"},
    {"plan", "rewrite", "opening"},
    {"planner"},
    {"parts"},
    {"stage"},
    {"engine", "naive", "scores", "trimming"},
    {"ism", "provenance", "summary"},
    {"batches", "inspection", "checks"},
    {"judge"},
    {"verify"},
    {"job"},
    {"blocks", "variant_blocks"},
    {"pipeline", "companions", "export", "contents", "variant_scores"},
    {"variants", "workers", "look"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Where one may import from the package as a whole, or from itself.
FREE = {"fastism_cli", "__init__"}
# These must load without Keras: they run before it, or for --help.
WITHOUT_KERAS = (
    "checks",
    "cli",
    "companions",
    "contents",
    "export.run",
    "io.bed",
    "io.fasta",
    "io.hdf5",
    "io.models",
    "io.results",
    "job",
    "look.plots",
    "look.report",
    "merging",
    "pipeline",
    "quiet",
    "variants",
    "workers",
)


def part_of(module: str) -> str:
    """``fastism_cli.io.bed -> io``"""
    return [*module.split("."), "__init__"][1]


def imports_of(path: Path) -> set[str]:
    """Parts of the package that a file imports, anywhere in it, but for type checkers alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "fastism_cli"
                else {node.module}
            )
    return {part_of(name) for name in found if name.split(".")[0] == "fastism_cli"}


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of_file(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    part = part_of_file(path)
    if part in FREE:
        return
    assert part in LEVEL, f"{part} is new: give it a place in LAYERS"
    for imported in imports_of(path) - {part} - FREE:
        assert LEVEL[imported] < LEVEL[part], f"{path.name} imports {imported}, which stands above it"


def test_the_table_names_no_module_that_is_gone():
    assert {part_of_file(path) for path in files()} - FREE == set(LEVEL)


def test_the_test_sees_an_import_inside_a_function(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from fastism_cli import backend\n    import fastism_cli.io.bed\n")
    assert imports_of(file) == {"backend", "io"}


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
