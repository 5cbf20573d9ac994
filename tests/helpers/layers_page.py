"""``python -m tests.helpers.layers_page`` writes docs/layers.md: every class of ``keras.layers`` in one line."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from keras import layers

from fastism_cli.engine.recurrences import RECURRENT_LAYERS
from fastism_cli.engine.rewrite import OPENED
from fastism_cli.engine.simpler_operations import SIMPLER
from fastism_cli.model.graph import Node
from fastism_cli.model.keras_graph import operation_class
from fastism_cli.rules.base import Rule
from fastism_cli.rules.pool import ADAPTIVE
from fastism_cli.rules.recurrent import Recurrence
from fastism_cli.rules.recurrent_cells import CELLS
from fastism_cli.rules.table import REASONS, RULES, Choice
from tests.models.every_layer import BETWEEN, LEFT_OUT, class_names, errors_with

PAGE = Path(__file__).parents[2] / "docs" / "layers.md"

HEAD = """\
# Layers

Written by `make docs` from the rule table; the tests check that it is up to date.

*Fast*: a rule computes the changed positions alone. *Opaque*: Keras runs the layer itself on all positions, which is
as exact, and saves nothing from there on. A layer is also run as a whole where all of its input may change. A rule
may decline for a reason that depends on the model; `fastism inspect MODEL` names it.

The error is the largest of all deltas of a small model that has the layer between two convolutions, in float32,
against plain Keras in float64; beside it that of plain Keras in float32.

| class | | error | of plain Keras |
|---|---|---|---|
"""
REST = """
## Operations

The functions of `keras.ops` on symbolic tensors, and operators such as `x + 1` or `x[:, 5:-5]`, that have a rule:

"""
OUT = """
## Not between convolutions

| class | why |
|---|---|
"""


def page(errors: Mapping[str, str]) -> str:
    """The text of the page; ``errors`` has "error | of plain Keras" or one word for both, by class."""
    names = class_names()
    rows = [_row(name, names[name], errors.get(name, "")) for name in sorted(BETWEEN, key=str.lower)]
    out = [f"| {name} | {LEFT_OUT[name]} |" for name in sorted(LEFT_OUT, key=str.lower)]
    operations = sorted(
        {cls.__name__ for cls in RULES if cls.__module__.startswith("keras.src.ops")}
        | {cls.__name__ for cls in map(operation_class, SIMPLER) if cls is not None}
    )
    return HEAD + "\n".join(rows) + "\n" + REST + ", ".join(operations) + ".\n" + OUT + "\n".join(out) + "\n"


def _row(name: str, others: list[str], error: str) -> str:
    title = f"{name} ({', '.join(others)})" if others else name
    state = state_of(name)
    if not state.startswith("fast"):
        return f"| {title} | {state} | | |"
    return f"| {title} | {state} | {error if '|' in error else f'{error} | {error}'} |"


def state_of(name: str) -> str:
    """ "fast", "fast if ...", or "opaque: ..."."""
    cls = getattr(layers, name)
    if cls in OPENED:
        return "fast if the layer inside is"
    if cls is layers.Lambda:
        return "fast if its function consists of Keras layers and keras.ops that are"
    if cls in ADAPTIVE:
        return "fast if output_size divides the length of its input"
    if cls in RECURRENT_LAYERS:
        return f"fast {_condition(RULES[Recurrence], name)}"
    if cls in CELLS or cls is layers.StackedRNNCells:
        return "fast in the layer around it"
    if cls in RULES:
        return f"fast {_condition(RULES[cls], name)}".strip()
    return f"opaque: {REASONS[cls]}"


def _condition(choice: Choice, name: str) -> str:
    """When the rule holds; where a function chooses it, that of the rule for the layer between the convolutions."""
    rule = choice if isinstance(choice, Rule) else choice(Node(0, name, BETWEEN[name](), (), (), lambda arrays: arrays))
    return rule.condition


def measured() -> dict[str, str]:
    """Errors of all classes that are fast."""
    found = {}
    for name in (name for name in BETWEEN if state_of(name).startswith("fast")):
        errors = errors_with(name)
        found[name] = f"{_text(errors.fast)} | {_text(errors.naive)}"
    return found


def _text(error: float) -> str:
    return f"{error:.1e}" if error else "exact"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(measured()))
