"""``fastism inspect``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fastism_cli.cli.click_options import Strict, block_options, loading_options, logging_options
from fastism_cli.cli.messages import aligned, human
from fastism_cli.options.run_options import RunOptions
from fastism_cli.results.stdout import stdout_for_results

if TYPE_CHECKING:
    from fastism_cli.engine.inspection import Inspection, NodeReport

HEADER = ("node", "class", "output", "rule", "window", "multiply-adds", "of a forward pass")


@click.command(cls=Strict, short_help="Show what the engine does with a model.")
@click.argument("model")
@loading_options
@block_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
@logging_options
def inspect(model: str, as_json: bool, **options: Any) -> None:
    """Show what the engine does with each node of MODEL, and how much faster than forward passes it is.

    For each node, the table has its rule, the window that one substitution can change, and the multiply-adds of one
    substitution, or one block of --replace-with. No sequence is needed. Positional heads are summed unless --reduce
    says otherwise.

    The rule of a node is "fast" (only the window is computed), "whole" (the layer is called on its whole input, because
    all of it can change), "opaque" (the same, although the input changes in a window alone), or "unchanged" (it does
    not depend on the sequence). Below the table is why nodes are opaque, what to change, and what it would save.
    """
    from fastism_cli.run.inspect_and_verify import inspect_model

    chosen = RunOptions(**options)
    with stdout_for_results():
        found = inspect_model(model, chosen)
    click.echo(json.dumps(asdict(found), indent=2) if as_json else "\n".join(text(found)))


def text(found: Inspection) -> list[str]:
    """The lines of the table, and the totals."""
    rows = [_row(node) for node in found.nodes]
    total = ("total", "", "", "", "", human(found.multiply_adds), human(found.full_multiply_adds))
    inputs = ", ".join(f"{name} {shape}" for name, shape in found.inputs.items())
    heads = ", ".join(f"{name} {shape}{_reduced(found, name)}" for name, shape in found.heads.items())
    return [
        f"model {found.name}: inputs {inputs}; sequence in {found.sequence_input}; heads {heads}",
        "",
        *aligned([HEADER, *rows, total], right=(4, 5, 6)),
        "",
        *_reasons(found),
        f"{_counts(found)}; multiply-adds of one {found.change}",
        f"limit {found.limit:.1f}x fewer multiply-adds; estimated saving in time {found.speedup:.1f}x",
        f"engine auto: {found.engine} ({found.reason})",
    ]


def _row(node: NodeReport) -> tuple[str, ...]:
    is_changed = node.state != "unchanged"
    window = f"{node.width:,}/{node.length:,}" if node.width is not None else "all" if is_changed else "-"
    work = (human(node.multiply_adds), human(node.full_multiply_adds)) if is_changed else ("-", "-")
    return (node.name, node.class_name, str(node.output), node.state, window, *work)


def _reasons(found: Inspection) -> list[str]:
    """Why nodes are computed on all positions, and the estimate with each as if it were fast, by reasons."""
    opaque = [node for node in found.nodes if node.reason and node.state == "opaque"]
    behind = [node for node in found.nodes if node.reason and node.state == "whole"]
    lines = []
    if opaque:
        lines += [f"opaque, so that all positions are computed from there on (estimate now {found.speedup:.1f}x):"]
        lines += _by_reason(opaque)
    if behind:
        lines += ["whole, and not only for what is opaque before it:" if opaque else "whole, because:"]
        lines += _by_reason(behind)
    if len(opaque + behind) > 1 and opaque and found.speedup_if_all_fast is not None:
        lines.append(f"  with all of them fast: {found.speedup_if_all_fast:.1f}x")
    return [*lines, ""] if lines else []


def _by_reason(nodes: Sequence[NodeReport]) -> list[str]:
    lines = []
    for reason in dict.fromkeys(node.reason for node in nodes):
        alike = [f"{_named(node)}{_gain(node.speedup_if_fast)}" for node in nodes if node.reason == reason]
        lines += [f"  {reason}", *(f"    {line}" for line in alike)]
    return lines


def _named(node: NodeReport) -> str:
    return node.name if node.class_name.lower() == node.name.lower() else f"{node.name} ({node.class_name})"


def _gain(speedup: float | None) -> str:
    return f"; with it fast: {speedup:.1f}x" if speedup is not None else ""


def _reduced(found: Inspection, head: str) -> str:
    return f" by {found.reduce[head]}" if head in found.reduce else ""


def _counts(found: Inspection) -> str:
    states = ("fast", "opaque", "whole", "unchanged")
    return ", ".join(f"{found.count(state)} {state}" for state in states if found.count(state)) or "no nodes"
