"""Say what the engine will do with each node of a model, and what it saves: numbers from the plan, no sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastism_cli.engine.fastism import FastISM
from fastism_cli.engine.plan import Step
from fastism_cli.model.graph import REFERENCE, Node, Shape
from fastism_cli.model.loading.config_entries import written_name
from fastism_cli.rules.base import Window
from fastism_cli.rules.several_windows import FurtherWindow, MaximumOverWindows, SumOfWindows

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
        Why the node is opaque.
    width, length : int or None
        Positions of the output that can change, and all of them; None if the output has no positions.
    multiply_adds, full_multiply_adds : int
        For one substitution, by the engine and by a forward pass.
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

    def count(self, state: str) -> int:
        """How many nodes have this state."""
        return sum(node.state == state for node in self.nodes)


def inspect_scorer(scorer: FastISM) -> Inspection:
    """Describe the plan of a model."""
    plan = scorer.prepared.plan
    steps = {step.node.index: step for step in plan.steps}
    return Inspection(
        name=scorer.model.name,
        inputs=dict(zip(scorer.input_names, scorer.input_shapes, strict=True)),
        sequence_input=scorer.input_names[scorer.sequence_index],
        heads={head.name: head.full_shape for head in scorer.heads},
        reduce={head.name: head.reduce for head in scorer.heads if head.reduce != "none"},
        nodes=tuple(
            _node_report(scorer, node, steps.get(node.index))
            for node in scorer.prepared.graph.nodes
            if node.role != REFERENCE  # added for a rule, not a node of the model
        ),
        multiply_adds=plan.multiply_adds,
        full_multiply_adds=plan.full_multiply_adds,
        limit=plan.limit,
        speedup=plan.predicted_speedup,
        engine=scorer.engine,
        reason=scorer.engine_reason,
    )


def _node_report(scorer: FastISM, node: Node, step: Step | None) -> NodeReport:
    output = scorer.prepared.graph.tensors[node.outputs[0]].shape
    if step is None:
        return NodeReport(written_name(node.name), _class_text(node), output, UNCHANGED, None, None, None, 0, 0)
    frame = step.output.frame if isinstance(step.output, Window) else None
    return NodeReport(
        written_name(node.name),
        _class_text(node),
        output,
        _state(step),
        step.reason,
        frame.width if frame else None,
        frame.length if frame else None,
        step.multiply_adds,
        step.full_multiply_adds,
    )


def _state(step: Step) -> str:
    if step.rule is not None:
        return FAST
    return OPAQUE if step.reason else WHOLE


def _class_text(node: Node) -> str:
    """The class of the model's layer, with its activation if that is a node of its own."""
    if isinstance(node.layer, SumOfWindows):
        return "sum of windows"
    if isinstance(node.layer, (FurtherWindow, MaximumOverWindows)):
        node = node.layer.node
    if node.role != "activation":
        return node.class_name
    activation: Any = getattr(node.layer, "activation", None)
    return f"{node.class_name}: {getattr(activation, '__name__', type(activation).__name__)}"
