"""Write docs/models-tried.md from what :mod:`tests.slow.field` found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.slow.field.models import RECIPES, Recipe
from tests.slow.field.packages import PACKAGES

INTRODUCTION = """# Models tried

Published architectures, built by their own packages with random weights and saved as their users save them. `make
bench-field` builds them, measures, and writes this page; `make test-field` checks them. Packages: {packages}.

* *Limit*: multiply-adds of a forward pass, divided by those of the engine. *Estimate* and *measured*: the speedup over
  compiled plain Keras at its best batch, by `fastism inspect` and by the clock, medians of paired rounds.
* *Error*: of the engine and of plain Keras in float32, against plain Keras in float64, at both ends and in the middle
  of two sequences with N in them, for the head with the largest share of its tolerance; beside the largest delta.
* *Start*: processor time to load and plan the model, and to compile and check it.
"""
HEADER = (
    "| model | as built | bases | limit | estimate | measured | error | plain Keras | largest delta | start |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)
NONE = "-"


def write_page(path: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    """The page for these models; one that was not tried is left out."""
    recipes = [recipe for recipe in RECIPES if recipe.key in found]
    packages = ", ".join(f"`{package.requirement}`" for package in PACKAGES)
    parts = [
        INTRODUCTION.format(packages=packages),
        "\n".join([HEADER, *(row(recipe, found[recipe.key]) for recipe in recipes)]),
        "\n## Command lines\n",
        "Where an option is needed, the package is installed beside `fastism-cli`.\n",
        "\n".join(["```", *(command(recipe) for recipe in recipes), "```"]),
        "\n## What Keras computes as a whole\n",
        "\n".join(list(opaque(recipes, found)) or ["Nothing: every node has a rule."]),
    ]
    path.write_text("\n".join(parts) + "\n")


def row(recipe: Recipe, found: Mapping[str, Any]) -> str:
    cells = [f"{recipe.package} {recipe.name}", recipe.what]
    if "limit" not in found:
        return "| " + " | ".join([*cells, found.get("wrong") or found["absent"], *[""] * 7]) + " |"
    cells += [f"{found['length']:,}", f"{found['limit']:.1f}", f"{found['estimate']:.1f}"]
    cells.append(f"{found['speedup']:.1f}" if "speedup" in found else NONE)
    cells += [f"{found[name]:.1e}" for name in ("error", "naive_error", "largest_delta")]
    cells.append(f"{found['load_seconds']:.0f} + {found['check_seconds']:.0f} s")
    return "| " + " | ".join(cells) + " |"


def command(recipe: Recipe) -> str:
    return " ".join(["fastism run --model", recipe.file, *recipe.options, "--bed peaks.bed --fasta hg38.fa"])


def opaque(recipes: list[Recipe], found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for recipe in recipes:
        if nodes := found[recipe.key].get("opaque"):
            yield f"* {recipe.package} {recipe.name}: {'; '.join(nodes)}"
