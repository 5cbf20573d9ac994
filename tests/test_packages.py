"""What packaging/ says of the package is what pyproject.toml says, as far as that can be told without their tools."""

import re
import tomllib
from pathlib import Path

import pytest

import fastism_cli

ROOT = Path(fastism_cli.__file__).parent.parent
PACKAGING = ROOT / "packaging"
MODULES = ROOT / "examples" / "nextflow" / "modules" / "local" / "fastism"


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def rendered() -> str:
    """The recipe for Bioconda with its variables filled in."""
    text = (PACKAGING / "bioconda" / "meta.yaml").read_text(encoding="utf-8")
    values = dict(re.findall(r'{% set (\w+) = "(.+?)" %}', text))
    return re.sub(r"{{ (\w+) }}", lambda found: values.get(found[1], found[0]), text)


def listed(text: str, *keys: str) -> list[str]:
    """The items of a list in YAML, below these keys, each indented by two more."""
    lines, depth = text.splitlines(), 0
    for key in keys:
        lines = lines[lines.index(f"{'  ' * depth}{key}:") + 1 :]
        depth += 1
    prefix = f"{'  ' * depth}- "
    end = next((i for i, line in enumerate(lines) if not line.startswith(prefix)), len(lines))
    return [line.removeprefix(prefix) for line in lines[:end]]


def spaced(requirement: str) -> str:
    """``numpy>=2.0 -> numpy >=2.0``"""
    return re.sub(r"(?<=[\w-])(?=[<>=])", " ", requirement, count=1)


def test_the_recipe_asks_for_what_the_project_asks_for():
    recipe, known = rendered(), project()["project"]
    python = f"python {known['requires-python']}"
    assert listed(recipe, "requirements", "run") == [python, *map(spaced, known["dependencies"])]
    builds = project()["build-system"]["requires"]
    assert listed(recipe, "requirements", "host") == [python, "pip", *map(spaced, builds)]
    assert listed(recipe, "build", "entry_points") == [f"{name} = {what}" for name, what in known["scripts"].items()]


def test_the_recipe_has_the_name_and_version():
    package = rendered().split("\npackage:\n")[1].split("\n\n")[0]
    assert package.split() == ["name:", project()["project"]["name"], "version:", fastism_cli.__version__]
    assert project()["project"]["description"] in rendered()


def test_the_wrapper_asks_for_this_version():
    text = (PACKAGING / "snakemake-wrapper" / "run" / "environment.yaml").read_text(encoding="utf-8")
    assert listed(text, "dependencies") == [f"fastism-cli ={fastism_cli.__version__}"]


@pytest.mark.parametrize("file", ["Dockerfile", "apptainer/fastism.def"])
def test_images_install_extras_and_files_that_exist(file):
    text = (PACKAGING / file).read_text(encoding="utf-8")
    (extras,) = re.findall(r"\[([\w,]+)\]['\"]", text)
    assert set(extras.split(",")) <= set(project()["project"]["optional-dependencies"])
    copied = re.findall(r"^    (\S+) /source/(\S+)$", text, flags=re.MULTILINE)
    assert all(source == name and (ROOT / source).exists() for source, name in copied)
    if file.endswith(".def"):  # all that a build of the package reads
        read = {project()["project"]["readme"], *project()["project"]["license-files"], "pyproject.toml", "fastism_cli"}
        assert {source for source, _ in copied} == read


@pytest.mark.parametrize("name", ["run", "merge"])
def test_a_module_for_nextflow_is_complete(name):
    folder, process = MODULES / name, f"FASTISM_{name.upper()}"
    code, test = ((folder / file).read_text(encoding="utf-8") for file in ("main.nf", "tests/main.nf.test"))
    assert re.search(rf"^process {process} {{$", code, flags=re.MULTILINE) and "\n    stub:\n" in code
    assert f'process "{process}"' in test and 'options "-stub"' in test
    assert (folder / "environment.yml").exists()
    meta = (folder / "meta.yml").read_text(encoding="utf-8")
    emitted = set(re.findall(r"emit: (\w+)", code))
    assert emitted == set(
        re.findall(r"^  (\w+):$", meta.split("\noutput:\n")[1].split("\ntopics:")[0], flags=re.MULTILINE)
    )
    assert "edamontology.org/format_3590" in meta  # HDF5
