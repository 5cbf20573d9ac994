"""Reductions of a positional head that are linear: the rest of the head is never touched."""

from __future__ import annotations

from math import prod
from typing import Any

from keras import ops

from fastism_cli.reduce import LINEAR, Reduction
from fastism_cli.rules.base import EVERYWHERE, Call, Decline, Facts, Form, Rule, State
from fastism_cli.rules.table import define


class LinearReduction(Rule):
    form = Form.DELTA

    def propagate(self, facts: Facts) -> State:
        if facts.layer.kind not in LINEAR:
            raise Decline(f"{facts.layer.kind!r} needs the whole head")
        return EVERYWHERE

    def delta(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        shape = call.facts.shapes[0]
        axes = tuple(range(3, len(x.shape))) if len(shape) == 1 else tuple(range(3, len(x.shape) - 1))
        total = ops.sum(x, axis=axes)
        total = ops.expand_dims(total, -1) if len(shape) == 1 else total
        return total / (prod(shape[:-1]) if len(shape) > 1 else shape[0]) if call.layer.kind == "mean" else total


define(LinearReduction(), Reduction)
