"""How the package is laid out, which imports follow, and that asking for help loads neither Keras nor TensorFlow.

Each rule is a function of a package's folder that returns what breaks it, so that it can be tried on a made-up package.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Set
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

import fastism_cli
from fastism_cli.cli import COMMANDS

PACKAGE = Path(fastism_cli.__file__).parent

# What each package may import, besides the modules of the root: "cli -> run" and so on.
MAY_IMPORT = {
    "options": "",
    "genome": "options",
    "scores": "options genome",
    "model": "options genome",
    "results": "options genome scores",
    "rules": "model",
    "engine": "options genome scores model rules",
    "export": "options genome scores results",
    "report": "options genome scores results",
    "run": "options genome scores model engine results",
    "cli": "options scores run engine export report results",
}
ROOT = {"__init__", "__main__", "errors", "version", "optional"}
MAX_FILES = 159

# These must load without Keras: they run before it, or for --help.
WITHOUT_KERAS = (
    "run.request",
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


# --- a package as files and imports ----------------------------------------------------------------------------------


class Import(NamedTuple):
    """A module of the package that a file imports, and the name that is taken from it (None: the module itself)."""

    module: str
    name: str | None


def files_of(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def module_of(path: Path, package: Path) -> str:
    """``.../fastism_cli/genome/bed.py -> genome.bed``; a package by itself is its folder, the whole one ``""``."""
    return ".".join(path.relative_to(package).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


@cache
def parsed(text: str) -> ast.Module:
    return ast.parse(text)


def modules_of(package: Path) -> dict[str, ast.Module]:
    """The programs of a package by module."""
    return {module_of(path, package): parsed(path.read_text()) for path in files_of(package)}


def package_of(module: str) -> str | None:
    """The package of a module; None for one of the root."""
    return module.split(".")[0] if module and module not in ROOT else None


def imports_of(tree: ast.Module, package: Path, modules: Set[str]) -> set[Import]:
    """What a program imports of its own package, at its top or inside of a function."""
    found: set[tuple[str, str | None]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"imports are absolute, line {node.lineno}"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = whole.removeprefix(f"{package.name}.") in modules
                found.add((whole, None) if is_module else (str(node.module), alias.name))
    inside = {(module, name) for module, name in found if module.split(".")[0] == package.name}
    return {Import(module.removeprefix(package.name).removeprefix("."), name) for module, name in inside}


def all_imports(package: Path) -> dict[str, set[Import]]:
    modules = modules_of(package)
    return {module: imports_of(tree, package, modules.keys()) for module, tree in modules.items()}


def names_defined_in(tree: ast.Module) -> set[str]:
    """Names that a program defines at its top, conditions and loops included, but for those that it imports."""
    found: set[str] = set()

    def enter(statements: list[ast.stmt]) -> None:
        for node in statements:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(x.id for target in targets for x in ast.walk(target) if isinstance(x, ast.Name))
            else:
                for block in ("body", "orelse", "finalbody"):
                    enter(getattr(node, block, []))
                for handler in getattr(node, "handlers", []):
                    enter(handler.body)

    enter(tree.body)
    return found


def circle_of(graph: Mapping[str, Set[str]]) -> list[str] | None:
    """The nodes of one circle, its first node once more at its end; None where there is none."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        found = next((c for other in sorted(graph.get(node, set())) if (c := walk(other, [*path, node]))), None)
        done.add(node)
        return found

    return next((circle for node in sorted(graph) if (circle := walk(node, []))), None)


# --- the rules -------------------------------------------------------------------------------------------------------


def modules_at_the_root(package: Path) -> Iterator[str]:
    for path in package.glob("*.py"):
        if path.stem not in ROOT:
            yield f"{path.name} lies at the root of the package"
    for folder in package.iterdir():
        if folder.is_dir() and folder.name not in MAY_IMPORT and any(folder.rglob("*.py")):
            yield f"{folder.name}/ is no package of the table"


def imports_against_the_table(package: Path) -> Iterator[str]:
    for module, imports in all_imports(package).items():
        own = package_of(module)
        if own is None:
            continue
        for imported in sorted({found.module for found in imports}):
            if package_of(imported) not in {own, *MAY_IMPORT.get(own, "").split(), None}:
                yield f"{module} imports {imported}"


def imports_through_another_module(package: Path) -> Iterator[str]:
    """Names that a module takes from one that does not define them; what ``__init__`` re-exports is for users."""
    defined = {module: names_defined_in(tree) for module, tree in modules_of(package).items()}
    for module, imports in all_imports(package).items():
        for imported, name in sorted(imports, key=str):
            if name is not None and name not in defined.get(imported, {name}):
                yield f"{module} takes {name} from {imported or package.name}, which does not define it"


def private_names_of_other_files(package: Path) -> Iterator[str]:
    modules = modules_of(package)
    for module, tree in modules.items():
        for imported, name in sorted(imports_of(tree, package, modules.keys()), key=str):
            if any(_is_private(part) for part in [*imported.split("."), name or ""]):
                yield f"{module} imports {name or imported} of {imported}"
        aliases = _module_aliases(tree, package, modules.keys())
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and _is_private(node.attr):
                if node.value.id in aliases:
                    yield f"{module} uses {aliases[node.value.id]}.{node.attr}"


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _module_aliases(tree: ast.Module, package: Path, modules: Set[str]) -> dict[str, str]:
    """Names by which a program knows other modules of the package."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == package.name:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}".removeprefix(f"{package.name}.")
                if whole in modules:
                    found[alias.asname or alias.name] = whole
    return found


def circles_of_files(package: Path) -> Iterator[str]:
    graph = {module: {found.module for found in imports} - {module} for module, imports in all_imports(package).items()}
    if circle := circle_of(graph):
        yield " -> ".join(circle)


def circles_of_packages(package: Path) -> Iterator[str]:
    graph: dict[str, set[str]] = defaultdict(set)
    for module, imports in all_imports(package).items():
        if own := package_of(module):
            graph[own] |= {other for found in imports if (other := package_of(found.module)) and other != own}
    if circle := circle_of(graph):
        yield " -> ".join(circle)


def file_names_twice(package: Path) -> Iterator[str]:
    """But for ``__init__``, and for commands, which are named as what they call."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in files_of(package):
        where = path.relative_to(package)
        if where.stem != "__init__" and where.parts[0] != "cli":
            found[where.name].append(str(where))
    for paths in found.values():
        if len(paths) > 1:
            yield f"{' and '.join(paths)} have one name"


RULES: dict[str, Callable[[Path], Iterator[str]]] = {
    rule.__name__: rule
    for rule in (
        modules_at_the_root,
        imports_against_the_table,
        imports_through_another_module,
        private_names_of_other_files,
        circles_of_files,
        circles_of_packages,
        file_names_twice,
    )
}


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(rule):
    assert sorted(RULES[rule](PACKAGE)) == []


def test_the_table_has_no_circle():
    assert circle_of({package: set(others.split()) for package, others in MAY_IMPORT.items()}) is None


def test_there_are_few_enough_files():
    assert len(files_of(PACKAGE)) <= MAX_FILES


# --- the rules on made-up packages -----------------------------------------------------------------------------------

WELL = {
    "__init__.py": "",
    "errors.py": "class Wrong(Exception): ...",
    "options/choices.py": "from fastism_cli.errors import Wrong\nENGINES = ('fast',)\n_OWN = 1",
    "genome/bed.py": "from fastism_cli.options import choices\nchoices.ENGINES",
    "cli/bed.py": "def f():\n    from fastism_cli.options.choices import ENGINES",
}
BROKEN = {
    "a sixth module at the root": (
        {"helpers.py": ""},
        {"modules_at_the_root": "helpers.py lies at the root of the package"},
    ),
    "a twelfth package": ({"look/page.py": ""}, {"modules_at_the_root": "look/ is no package of the table"}),
    "an import against the table": (
        {"genome/fasta.py": "def f():\n    import fastism_cli.cli.bed"},
        {"imports_against_the_table": "genome.fasta imports cli.bed"},
    ),
    "a circle of two packages": (
        {"options/parse.py": "from fastism_cli.genome import bed"},
        {
            "imports_against_the_table": "options.parse imports genome.bed",
            "circles_of_packages": "options -> genome -> options",
        },
    ),
    "a circle of two files": (
        {
            "genome/a.py": "from fastism_cli.genome.b import B\nA = 1",
            "genome/b.py": "B = 1\ndef f():\n    from fastism_cli.genome.a import A",
        },
        {"circles_of_files": "genome.a -> genome.b -> genome.a"},
    ),
    "a name through another module": (
        {"genome/fasta.py": "from fastism_cli.options.choices import Wrong"},
        {"imports_through_another_module": "genome.fasta takes Wrong from options.choices, which does not define it"},
    ),
    "a name that the package re-exports": (
        {"__init__.py": "from fastism_cli.errors import Wrong", "genome/fasta.py": "from fastism_cli import Wrong"},
        {"imports_through_another_module": "genome.fasta takes Wrong from fastism_cli, which does not define it"},
    ),
    "a private name": (
        {"genome/fasta.py": "from fastism_cli.options.choices import _OWN"},
        {"private_names_of_other_files": "genome.fasta imports _OWN of options.choices"},
    ),
    "a private attribute": (
        {"genome/fasta.py": "from fastism_cli.options import choices as c\nprint(c._OWN)"},
        {"private_names_of_other_files": "genome.fasta uses options.choices._OWN"},
    ),
    "a doubled file name": (
        {"results/bed.py": ""},
        {"file_names_twice": "genome/bed.py and results/bed.py have one name"},
    ),
}


def made_up(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / "fastism_cli" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "fastism_cli"


def breaches(package: Path) -> dict[str, list[str]]:
    found = {name: list(rule(package)) for name, rule in RULES.items()}
    return {name: problems for name, problems in found.items() if problems}


def test_a_package_that_keeps_all_rules(tmp_path):
    assert breaches(made_up(tmp_path, WELL)) == {}


@pytest.mark.parametrize("case", BROKEN)
def test_a_package_that_breaks_a_rule(case, tmp_path):
    files, expected = BROKEN[case]
    assert breaches(made_up(tmp_path, WELL | files)) == {rule: [problem] for rule, problem in expected.items()}


def test_a_circle_is_named_from_its_first_node():
    chain = [*"abcdca"]
    graph: dict[str, set[str]] = defaultdict(set)
    for one, other in pairwise(chain[:5]):
        graph[one].add(other)
    assert circle_of(graph) == ["c", "d", "c"]
    assert circle_of({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


# --- what is loaded --------------------------------------------------------------------------------------------------


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
def test_help_loads_nothing(arguments):
    result = python(HELP, *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(("Usage: ", "fastism, version "))


def test_what_runs_before_keras_does_not_load_it():
    modules = ", ".join(f"fastism_cli.{name}" for name in WITHOUT_KERAS)
    result = python(f"import sys, {modules}\nassert not {{'keras', 'tensorflow', 'tf_keras'}} & set(sys.modules)")
    assert result.returncode == 0, result.stderr
