"""Find the positions of the sequence that reach an output: the others have a delta of 0 and are not computed.

Integers only. A block of positions is judged by its first and its last: starts move one way along a block, so that the
positions between reach nothing outside of the hull of both.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from fastism_cli.engine.planner import Propagation
from fastism_cli.model.graph import LayerGraph
from fastism_cli.rules.base import Facts, Rule, State, Unchanged, Window


def live_positions(graph: LayerGraph, input_tensor: int) -> range:
    """The shortest range of positions outside of which no substitution changes an output.

    ::

        positions  . . . . . . . .      a Cropping1D((2, 1)) before the output
        live           [ . . . . )      ->  range(2, 7)
    """
    length = graph.tensors[input_tensor].shape[0]

    def is_live(first: int, stop: int) -> bool:
        return reaches_output(graph, input_tensor, (first, stop - 1))

    def is_live_backwards(first: int, stop: int) -> bool:
        return is_live(length - stop, length - first)

    first = first_live(is_live, 0, length)
    if first == length:
        return range(0)
    return range(first, length - first_live(is_live_backwards, 0, length))


def first_live(is_live: Callable[[int, int], bool], first: int, stop: int) -> int:
    """The first position of ``[first, stop)`` that is not in a dead block, or ``stop``."""
    if not is_live(first, stop):
        return stop
    if stop - first == 1:
        return first
    middle = (first + stop) // 2
    found = first_live(is_live, first, middle)
    return found if found < middle else first_live(is_live, middle, stop)


def reaches_output(graph: LayerGraph, input_tensor: int, ends: tuple[int, int]) -> bool:
    """Whether a change between two positions can reach an output. True if it is not known."""
    found = Propagation(graph, input_tensor, ends, Fraction(1))
    live = {input_tensor}
    for node in graph.nodes:
        if not any(t in live for t in node.inputs):
            continue
        facts, rule = found.facts(node, found.changed), found.rules.get(node.index)
        live.update(t for t in node.outputs if _is_changed(found.changed[t], rule, facts))
    return any(port.tensor in live for port in graph.outputs)


def _is_changed(output: State, rule: Rule | None, facts: Facts) -> bool:
    if isinstance(output, Window):
        return _low(output) < output.frame.length and _high(output) > 0
    if rule is None:
        return not isinstance(output, Unchanged)
    wanted = rule.demand(facts, output)
    return any(
        not isinstance(state, Window)
        or frame is None
        or frame.step != 0
        or (_low(state) < max(frame.stops) and _high(state) > min(frame.starts))
        for state, frame in zip(facts.states, wanted, strict=True)
    )


def _low(window: Window) -> int:
    return min(window.frame.starts)


def _high(window: Window) -> int:
    return max(window.frame.stops)
