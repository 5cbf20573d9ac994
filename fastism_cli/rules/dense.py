"""Dense: along the channels of every position, or on a flattened window by its changed rows of the kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import keras
from keras import ops

from fastism_cli.graph import Node
from fastism_cli.rules.base import EVERYWHERE, Call, Decline, Extra, Facts, Form, Rule, State, Window, along_positions
from fastism_cli.rules.conv import strip_activation
from fastism_cli.rules.table import define
from fastism_cli.windows import Frame, common_start


class Dense(Rule):
    """``y = x @ kernel``. A flattened window multiplies only the rows of the kernel that its hull covers."""

    form = Form.DELTA
    fused = False
    pulls = False
    fills = False
    any_axis = True
    condition = "if it does not sum over the positions, or works on a flattened tensor"

    def propagate(self, facts: Facts) -> State:
        window = facts.window
        if window.flat is not None:
            return EVERYWHERE
        if window.axis == window.rank - 1:
            raise Decline("sums over the positions")
        return replace(window, channels=(*window.channels[:-1], facts.shape[-1]))

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        return (None,) if isinstance(output, Window) else (common_start(facts.window.frame),)

    def constants(self, facts: Facts) -> dict[str, Any]:
        window = facts.window
        if window.flat is None:
            return {}
        kernel = ops.convert_to_tensor(facts.layer.kernel)
        rows = along_positions(kernel, window)
        return {"rows": ops.reshape(rows, (window.frame.length, prod(window.channels), kernel.shape[1]))}

    def extras(self, facts: Facts, output: State) -> dict[str, Extra]:
        return {} if isinstance(output, Window) else {"rows": Extra("rows", facts.window.frame)}

    def split(self, node: Node) -> Callable[[Any], Any] | None:
        layer = node.layer

        def linear(x: Any) -> Any:
            y = ops.matmul(x, layer.kernel)
            return y + layer.bias if layer.use_bias else y

        return strip_activation(layer, linear)

    def delta(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        if isinstance(call.output, Window):
            return ops.matmul(x, call.layer.kernel)
        rows = call.extras["rows"]
        products = ops.matmul(
            ops.reshape(x, (prod(x.shape[:3]), prod(x.shape[3:]))),
            ops.reshape(rows, (prod(x.shape[3:]), rows.shape[-1])),
        )
        return ops.reshape(products, (*x.shape[:3], rows.shape[-1]))

    def multiply_adds(self, facts: Facts, output: State) -> int:
        window, units = facts.window, facts.layer.kernel.shape[1]
        return window.size * units


define(Dense(), keras.layers.Dense)
