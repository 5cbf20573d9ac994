"""`make test-field`, in small: what is fetched and stands in, what is told, and the page. No network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import tests.slow.field.__main__ as command
from tests.slow.field.__main__ import absence, called, line, needed, tried
from tests.slow.field.models import RECIPES
from tests.slow.field.packages import PACKAGES, fetch, search_path
from tests.slow.field.page import HEADER, write_page

FIGURES = {
    "length": 2114,
    "limit": 12.7,
    "estimate": 12.6,
    "speedup": 11.0,
    "error": 1e-6,
    "naive_error": 2e-6,
    "largest_delta": 0.5,
    "load_seconds": 6,
    "check_seconds": 20,
    "passed": True,
    "opaque": ["LSTM (every position depends on those before it)"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where each package is unpacked already, with one module that its stand-in must lead to."""
    for package in PACKAGES:
        for module, where in package.stand_ins.items():
            if where:
                inside = tmp_path / package.requirement / where
                inside.mkdir(parents=True, exist_ok=True)
                (inside / "found.py").write_text(f"name = {module!r}\n")
                (inside / "__init__.py").write_text("raise ImportError('a genome reader')\n")
    assert fetch(tmp_path) == {}
    return tmp_path


def test_stand_ins_lead_to_the_modules_and_not_to_the_rest(folder: Path) -> None:
    modules = [module for package in PACKAGES for module, where in package.stand_ins.items() if where]
    code = "import loguru, tensorflow_probability; from loguru import logger; assert logger is None\n"
    code += "\n".join(f"import {module}.found; print({module}.found.name)" for module in modules)
    surroundings = {**os.environ, "PYTHONPATH": search_path(folder)}
    found = subprocess.run([sys.executable, "-c", code], env=surroundings, capture_output=True, text=True, check=False)
    assert found.stdout.split() == modules, found.stderr


def test_each_recipe_has_its_name_and_comes_after_what_it_needs() -> None:
    keys = [recipe.key for recipe in RECIPES]
    assert len(set(keys)) == len(keys) == len({recipe.file for recipe in RECIPES})
    assert {recipe.package for recipe in RECIPES} == {package.name for package in PACKAGES}
    saved_model = next(recipe for recipe in RECIPES if recipe.name == "SavedModel")
    assert [recipe.name for recipe in needed(saved_model)] == ["bias", "chrombpnet", "SavedModel"]
    assert all(list(needed(recipe))[-1] is recipe for recipe in RECIPES)


def test_what_cannot_be_had_or_built_is_told_and_not_wrong(folder: Path) -> None:
    (recipe, *_) = RECIPES
    assert absence(recipe, {"crested": "no network"}) == {"absent": "crested cannot be had: no network"}
    assert absence(recipe, {}) == {}
    found = tried(recipe, folder, folder, measure=False)  # no module of the made-up package builds it
    assert list(found) == ["absent"] and "crested-deeptopic_cnn cannot be built here: " in found["absent"]
    assert line(recipe, found).startswith("crested-deeptopic_cnn ") and found["absent"] in line(recipe, found)


def test_a_child_that_fails_says_why(folder: Path) -> None:
    assert "no_such_recipe" in called(["build", "no_such_recipe", str(folder)], folder, keras2=False)["fault"]


def test_the_page_has_a_row_and_a_command_for_each(tmp_path: Path) -> None:
    tried_ones = RECIPES[:3]
    results = [FIGURES, {"absent": "crested cannot be had: no network"}, {**FIGURES, "wrong": "limit 1.0"}]
    write_page(tmp_path / "page.md", {recipe.key: x for recipe, x in zip(tried_ones, results, strict=True)})
    lines = (tmp_path / "page.md").read_text().splitlines()
    cells = HEADER.splitlines()[0].count("|")
    rows = [text for text in lines if text.startswith("| crested ")]
    assert len(rows) == 3 and all(row.count("|") == cells for row in rows)
    assert "| 12.7 | 12.6 | 11.0 | 1.0e-06 |" in rows[0] and "no network" in rows[1]
    commands = [text for text in lines if text.startswith("fastism run --model ")]
    assert [text.split()[3] for text in commands] == [recipe.file for recipe in tried_ones]
    assert sum(text.startswith("* crested ") and "LSTM" in text for text in lines) == 2


def test_the_page_keeps_what_earlier_runs_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "fetch", lambda folder: {})
    monkeypatch.setattr(command, "tried", lambda *arguments: FIGURES)
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    options = ["--figures", str(figures), "--page", str(page)]
    for name in ("crested-deeptopic_cnn", "bpreveal-solo"):
        result = CliRunner().invoke(command.main, [str(tmp_path), "--only", name, *options])
        assert result.exit_code == 0, result.output
    rows = [text for text in page.read_text().splitlines() if text.startswith(("| crested", "| bpreveal"))]
    assert len(rows) == 2
    figures.write_text(figures.read_text().replace("32 filters", "48 filters"))  # another model than the recipe's
    CliRunner().invoke(command.main, [str(tmp_path), "--only", "crested-legnet", *options])
    assert "| bpreveal" not in page.read_text() and "| crested legnet |" in page.read_text()


def test_large_models_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "fetch", lambda folder: {})
    monkeypatch.setattr(command, "tried", lambda *_: {"absent": "not tried"})
    every, small = (
        CliRunner().invoke(command.main, [str(tmp_path), *options]).output for options in ((), ("--small",))
    )
    large = [recipe.key for recipe in RECIPES if recipe.is_large]
    assert large
    assert all(key in every and key not in small for key in large)
    assert f"0 wrong, {len(large)} not begun" in small
