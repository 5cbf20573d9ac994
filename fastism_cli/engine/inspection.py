"""Say what the engine will do with each node of a model, and what it saves: numbers from the plan, no sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from fastism_cli.engine.fastism import FastISM
from fastism_cli.engine.plan import Plan, Step
from fastism_cli.engine.prepare import plan_of_the_middle
from fastism_cli.model.graph import REFERENCE, Node, Shape
from fastism_cli.model.loading.config_entries import written_name
from fastism_cli.rules.base import Everywhere, Window
from fastism_cli.rules.frames import Blocks
from fastism_cli.rules.opaque import AttentionOfProjections, Supposed
from fastism_cli.rules.recurrent import Recurrence
from fastism_cli.rules.several_windows import FurtherWindow, MaximumOverWindows, SumOfWindows

# Why all positions of a node change that is multiplied by a gate, or has another such input.
GATED = "one of its inputs depends on all positions, as a gate does, so that each of its own positions changes"
FAST, OPAQUE, WHOLE, UNCHANGED = "fast", "opaque", "whole", "unchanged"


@dataclass(frozen=True)
class NodeReport:
    """One node.

    Attributes
    ----------
    state : str
        "fast": computed by a rule, on a window or on all positions. "opaque": the layer itself is called on its whole
        input, for ``reason``. "whole": the same, because all of its input can change. "unchanged": its input does not
        depend on the sequence.
    reason : str or None
        Why the node is opaque, or would be if the nodes before it were fast; why all of its input can change, if a part
        of its input changes in a window alone.
    width, length : int or None
        Positions of the output that can change, and all of them; None if the output has no positions.
    multiply_adds, full_multiply_adds : int
        For one substitution, by the engine and by a forward pass.
    speedup_if_fast : float or None
        The model's estimate if this opaque node worked on a window; None if that cannot be supposed.
    """

    name: str
    class_name: str
    output: Shape
    state: str
    reason: str | None
    width: int | None
    length: int | None
    multiply_adds: int
    full_multiply_adds: int
    speedup_if_fast: float | None = None


@dataclass(frozen=True)
class Inspection:
    """A model as the engine sees it.

    Attributes
    ----------
    multiply_adds, full_multiply_adds : int
        For one substitution, by the engine and by a forward pass.
    limit : float
        The ratio of these two.
    speedup : float
        The estimated saving in time.
    engine, reason : str
        Which engine is used, and why.
    speedup_if_all_fast : float or None
        The estimate if all opaque nodes, and those that would then be opaque, worked on windows; None if there is none.
    change : str
        Of what the multiply-adds are: a "substitution", or a "block of 10 bases".
    """

    name: str
    inputs: dict[str, Shape]
    sequence_input: str
    heads: dict[str, Shape]
    reduce: dict[str, str]
    nodes: tuple[NodeReport, ...]
    multiply_adds: int
    full_multiply_adds: int
    limit: float
    speedup: float
    engine: str
    reason: str
    speedup_if_all_fast: float | None = None
    change: str = "substitution"

    def count(self, state: str) -> int:
        """How many nodes have this state."""
        return sum(node.state == state for node in self.nodes)


def inspect_scorer(scorer: FastISM) -> Inspection:
    """Describe the plan of a model."""
    plan = scorer.prepared.plan
    steps = {step.node.index: step for step in plan.steps}
    reasons, speedup_if_all_fast = _reasons_in_turn(scorer)
    return Inspection(
        name=scorer.model.name,
        inputs=dict(zip(scorer.input_names, scorer.input_shapes, strict=True)),
        sequence_input=scorer.input_names[scorer.sequence_index],
        heads={head.name: head.full_shape for head in scorer.heads},
        reduce={head.name: head.reduce for head in scorer.heads if head.reduce != "none"},
        nodes=tuple(
            _node_report(scorer, node, steps.get(node.index), reasons.get(node.index))
            for node in scorer.prepared.graph.nodes
            if node.role != REFERENCE  # added for a rule, not a node of the model
        ),
        multiply_adds=plan.multiply_adds,
        full_multiply_adds=plan.full_multiply_adds,
        limit=plan.limit,
        speedup=plan.predicted_speedup,
        engine=scorer.engine,
        reason=scorer.engine_reason,
        speedup_if_all_fast=speedup_if_all_fast if any(step.reason for step in plan.steps) else None,
        change=f"block of {scorer.changes.width:,} bases" if scorer.replaces_blocks else "substitution",
    )


def _all_blocks(scorer: FastISM) -> Blocks:
    """All that is changed: every position, or the blocks."""
    length = scorer.input_length
    return scorer.changes.blocks(scorer.starts_in(range(length)), length)


def _plan_if_fast(scorer: FastISM, steps: Sequence[Step]) -> Plan:
    """The plan if these nodes worked on windows."""
    supposed = {step.node.index: Supposed(step.node.layer, step.full_multiply_adds) for step in steps}
    graph, sequence = scorer.prepared.graph, scorer.prepared.input_tensor
    nodes = [replace(n, layer=supposed[n.index], role="layer") if n.index in supposed else n for n in graph.nodes]
    graph = graph.extended(nodes, (), graph.outputs)
    plan = plan_of_the_middle(graph, sequence, _all_blocks(scorer))
    return replace(plan, changes=scorer.prepared.plan.changes)


def _speedup_if_fast(scorer: FastISM, step: Step) -> float | None:
    """The estimate if this node worked on a window; None if its inputs have none that fit together."""
    plan = _plan_if_fast(scorer, [step])
    declined = any(other.rule is None and other.node.index == step.node.index for other in plan.steps)
    return None if declined else plan.predicted_speedup


def _reasons_in_turn(scorer: FastISM) -> tuple[dict[int, str | None], float]:
    """Why nodes are opaque, or would be if those before worked on windows, by number; the estimate if all of them did.

    Also why all positions of a node change that is given a window and something that changes everywhere.
    """
    found: dict[int, Step] = {}
    plan = scorer.prepared.plan
    while opaque := [step for step in plan.steps if step.reason and step.node.index not in found]:
        found |= {step.node.index: step for step in opaque}
        plan = _plan_if_fast(scorer, list(found.values()))
    gated = {step.node.index: GATED for step in plan.steps if _is_gated(step, plan)}
    return gated | {number: step.reason for number, step in found.items()}, plan.predicted_speedup


def _is_gated(step: Step, plan: Plan) -> bool:
    states = [plan.states[t] for t in step.node.inputs]
    is_mixed = any(isinstance(state, Window) for state in states) and any(isinstance(s, Everywhere) for s in states)
    return step.rule is None and is_mixed


def _node_report(scorer: FastISM, node: Node, step: Step | None, reason: str | None) -> NodeReport:
    output = scorer.prepared.graph.tensors[node.outputs[0]].shape
    if step is None:
        return NodeReport(written_name(node.name), _class_text(node), output, UNCHANGED, None, None, None, 0, 0)
    frame = step.output.frame if isinstance(step.output, Window) else None
    return NodeReport(
        written_name(node.name),
        _class_text(node),
        output,
        _state(step),
        reason,
        frame.width if frame else None,
        frame.length if frame else None,
        step.multiply_adds,
        step.full_multiply_adds,
        _speedup_if_fast(scorer, step) if step.reason else None,
    )


def _state(step: Step) -> str:
    if step.rule is not None:
        return FAST
    return OPAQUE if step.reason else WHOLE


def _class_text(node: Node) -> str:
    """The class of the model's layer as its author called it, with its activation if that is a node of its own."""
    if isinstance(node.layer, (keras.Layer, AttentionOfProjections)) and hasattr(node.layer, "class_text"):
        return str(node.layer.class_text)
    if isinstance(node.layer, SumOfWindows):
        return "sum of windows"
    if isinstance(node.layer, (FurtherWindow, MaximumOverWindows)):
        node = node.layer.node
    if isinstance(node.layer, Recurrence):
        return node.layer.class_name
    if node.role != "activation":
        return node.class_name
    activation: Any = getattr(node.layer, "activation", None)
    return f"{node.class_name}: {getattr(activation, '__name__', type(activation).__name__)}"
