"""The pictures of examples/figures: each command draws one, as the page there has it, with every text to be read."""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

import fastism_cli
from fastism_cli.cli import main
from fastism_cli.report import plot_regions
from tests.helpers.figure_text import faults_of

FOLDER = Path(fastism_cli.__file__).parents[1] / "examples" / "figures"


def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_figures", FOLDER / "draw.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KINDS = program().KINDS


def test_the_page_is_that_of_the_pictures():
    assert (FOLDER / "README.md").read_text() == program().page()
    assert {path.name for path in FOLDER.glob("*.png")} == set(KINDS)


@pytest.mark.one_in(36)
@pytest.mark.parametrize("name", KINDS)
def test_each_command_draws_its_picture(name, monkeypatch, tmp_path):
    monkeypatch.chdir(FOLDER)
    drawn: list[Figure] = []
    draw = plot_regions.figure
    monkeypatch.setattr(plot_regions, "figure", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    result = CliRunner().invoke(main, ["plot", *shlex.split(KINDS[name][1]), "-o", str(tmp_path / name)])
    assert result.exit_code == 0, result.output
    assert [faults_of(figure) for figure in drawn] == [[]]
    made, kept = (path.read_bytes()[16:24] for path in (tmp_path / name, FOLDER / name))
    assert made == kept, "as many pixels as the picture that is kept"
