"""``python -m tests.slow.field .venv-field``: published models, built by their own packages, loaded as their users do.

For each: what ``fastism inspect`` says, and the engine against plain Keras in float64 at both ends and in the middle.
With ``--measure`` also the speed beside the estimate, for which nothing else must run. A package that cannot be had, or
a model that it cannot build here, is told. Exits with 1 if a model cannot be loaded, is scored wrong, or has a lower
limit than its recipe asks for, and if none can be scored although a package is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from tests.slow.field import models as module_of_recipes
from tests.slow.field.models import RECIPES, Recipe
from tests.slow.field.packages import PACKAGES, fetch, search_path
from tests.slow.field.page import write_page

MODEL_SECONDS = 1200  # for one model, built or scored
Found = dict[str, Any]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, help="Recipes to try, as they are printed.  [default: all]")
@click.option("--first", default=0, show_default=True, help="Number of the recipe to begin with.")
@click.option("--seconds", default=3600.0, show_default=True, help="After these, no further model is begun.")
@click.option("--small", is_flag=True, help="Leave out models that can take ten minutes.")
@click.option("--measure", is_flag=True, help="Time the engine and naive.")
@click.option("--figures", type=click.Path(path_type=Path), help="Keep what was measured here, with that of before.")
@click.option("--page", type=click.Path(path_type=Path), help="Write the table of these figures to this page.")
def main(
    folder: Path,
    only: Sequence[str],
    first: int,
    seconds: float,
    small: bool,
    measure: bool,
    figures: Path | None,
    page: Path | None,
) -> None:
    """Fetch the packages into FOLDER, build their models there, and score them."""
    until, start = time.monotonic() + seconds, first % len(RECIPES)
    absent, models = fetch(folder), folder / f"models-{recipes_sum():08x}"
    models.mkdir(exist_ok=True)
    found: dict[str, Found] = {}
    known: dict[str, Found] = json.loads(figures.read_text()) if figures is not None and figures.exists() else {}
    for recipe in [*RECIPES[start:], *RECIPES[:start]]:
        if (only and recipe.key not in only) or (small and recipe.is_large) or time.monotonic() > until:
            continue
        found[recipe.key] = absence(recipe, absent) or tried(recipe, folder, models, measure)
        click.echo(line(recipe, found[recipe.key]))
        known[recipe.key] = {"recipe": recipe.what, **found[recipe.key]}
        if figures is not None:
            figures.write_text(json.dumps(known, indent=1) + "\n")
    wrong = [key for key, result in found.items() if result.get("wrong")]
    left = len(RECIPES) - len(found)
    click.echo(f"{sum('limit' in x for x in found.values())} models scored, {len(wrong)} wrong, {left} not begun")
    if page is not None:
        write_page(page, {r.key: known[r.key] for r in RECIPES if known.get(r.key, {}).get("recipe") == r.what})
    if wrong:
        raise click.ClickException(f"wrong: {', '.join(wrong)}")
    if len(absent) < len(PACKAGES) and not any("limit" in result for result in found.values()):
        raise click.ClickException("no model could be scored")


def recipes_sum() -> int:
    """A number that changes with the recipes: models of other recipes are not taken for theirs."""
    return zlib.crc32(Path(module_of_recipes.__file__).read_bytes())


def absence(recipe: Recipe, absent: dict[str, str]) -> Found:
    """That the package cannot be had; {} if it is there."""
    fault = absent.get(recipe.package)
    return {"absent": f"{recipe.package} cannot be had: {fault}"} if fault else {}


def tried(recipe: Recipe, folder: Path, models: Path, measure: bool) -> Found:
    """What was found of one model: figures; "absent" if it cannot be built, "wrong" if its scores fail."""
    for each in needed(recipe):
        if not (models / each.file).exists():
            built = called(["build", each.key, str(models)], folder, keras2=each.keras2)
            if "fault" in built:
                return {"absent": f"{each.key} cannot be built here: {built['fault']}"}
    options = ["--measure"] if measure else []
    result = called(["score", recipe.key, str(models), *options], folder, keras2=False)
    if "fault" in result:
        return {"wrong": result["fault"]}
    if not result["passed"]:
        return {**result, "wrong": "the engine disagrees with plain Keras, or no head changes"}
    if result["limit"] < recipe.limit:
        return {**result, "wrong": f"limit {result['limit']:.1f}, expected {recipe.limit}"}
    return result


def needed(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe, after those whose files it reads."""
    if recipe.needs:
        yield from needed(next(r for r in RECIPES if r.package == recipe.package and r.name == recipe.needs))
    yield recipe


def called(arguments: Sequence[str], folder: Path, *, keras2: bool) -> Found:
    """What the child prints as JSON; {} if it prints nothing; its last line as "fault" if it fails."""
    surroundings = {**os.environ, "PYTHONPATH": search_path(folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
    surroundings |= {"TF_USE_LEGACY_KERAS": "1"} if keras2 else {}
    command = [sys.executable, "-m", "tests.slow.field.child", *arguments]
    try:
        child = subprocess.run(
            command, env=surroundings, capture_output=True, text=True, timeout=MODEL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"fault": f"takes longer than {MODEL_SECONDS} s"}
    said = (child.stderr if child.returncode else child.stdout).strip().splitlines() or [f"exit {child.returncode}"]
    if child.returncode:
        return {"fault": said[-1]}
    found: Found = json.loads(said[-1]) if said[-1].startswith("{") else {}
    return found


def line(recipe: Recipe, found: Found) -> str:
    if "limit" not in found:
        return f"{recipe.key:28} {found.get('wrong') or found['absent']}"
    speed = f", measured {found['speedup']:.1f}x" if "speedup" in found else ""
    return (
        f"{recipe.key:28} limit {found['limit']:.1f}, estimate {found['estimate']:.1f}x{speed}; error "
        f"{found['error']:.1e}, plain Keras {found['naive_error']:.1e}, largest delta {found['largest_delta']:.1e}; "
        f"{found['load_seconds']:.0f} + {found['check_seconds']:.0f} s of processor time"
        f"{'  WRONG: ' + found['wrong'] if 'wrong' in found else ''}"
    )


if __name__ == "__main__":
    main()
