"""Reductions of a positional head that are linear: the rest of the head is never touched."""

from __future__ import annotations

from math import prod
from typing import Any

from keras import ops

from fastism_cli.reduce import LINEAR, Reduction
from fastism_cli.rules.base import EVERYWHERE, Call, Decline, Facts, Form, Rule, Splits, State
from fastism_cli.rules.table import define


class LinearReduction(Rule):
    form = Form.DELTA
    splits = Splits.STRIPS

    def propagate(self, facts: Facts) -> State:
        if facts.layer.kind not in LINEAR:
            raise Decline(f"{facts.layer.kind!r} needs the whole head")
        return EVERYWHERE

    def delta(self, call: Call, *inputs: Any) -> Any:
        (strip,) = inputs
        shape = call.facts.shapes[0]
        rank = len(strip.known.shape)
        axes = tuple(range(3, rank)) if len(shape) == 1 else tuple(range(3, rank - 1))
        total = strip.total(lambda x: ops.sum(x, axis=axes), ops.add)
        total = ops.expand_dims(total, -1) if len(shape) == 1 else total
        return total / (prod(shape[:-1]) if len(shape) > 1 else shape[0]) if call.layer.kind == "mean" else total


define(LinearReduction(), Reduction)
