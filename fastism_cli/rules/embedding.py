"""Embedding, and the integers that it reads, made of one-hot rows."""

from __future__ import annotations

from typing import Any

from fastism_cli.rules.base import Call, Decline, Facts, Form, Rule, State, Window
from fastism_cli.rules.window_arrays import merge_batch, split_batch


class ToIntegers(Rule):
    """One-hot rows to the integer of each position's letter."""

    form = Form.VALUE

    def propagate(self, facts: Facts) -> State:
        return Window(facts.window.frame, facts.window.channels[:-1])

    def value(self, call: Call, *inputs: Any) -> Any:
        return call.facts.node.call(inputs)[0]  # as floating-point numbers: see engine/whole_numbers.py


class Lookup(Rule):
    """A row of weights for each integer."""

    form = Form.VALUE

    def propagate(self, facts: Facts) -> State:
        if facts.window.flat is not None:
            raise Decline("reads a flattened tensor")
        return Window(facts.window.frame, (*facts.window.channels, facts.layer.output_dim))

    def value(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        return split_batch(call.layer(merge_batch(x)), x)
