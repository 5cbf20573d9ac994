"""Convolutions and dense layers along the channels: linear in the delta, computed by matrix products.

A convolution of stride 1 multiplies every changed row with the whole kernel at once and adds the products where they
overlap (GEMM + fold): ``width * kernel_size`` products of channels instead of the ``(width + span - 1) * kernel_size``
of recomputing the output window, as fastISM does (Nair et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import keras
import numpy as np
from keras import ops

from fastism_cli.graph import Node
from fastism_cli.rules.base import Call, Facts, Form, Rule, State, Window, merge_batch, split_batch
from fastism_cli.rules.place import MOST_RUNS, by_offset, place_by_rows, shift
from fastism_cli.windows import Frame, changed_outputs, dilated_span, needed_inputs, offsets, pad_amounts, runs


def strip_activation(layer: Any, linear: Callable[[Any], Any]) -> Callable[[Any], Any] | None:
    """``linear``, unless the layer has no activation to be split from."""
    return None if layer.activation in (None, keras.activations.linear) else linear


class Convolution(Rule):
    """What Conv1D and its relatives share: geometry, and the layer without its activation."""

    form = Form.DELTA
    fused = False
    leaks = True

    def span(self, layer: Any) -> int:
        return dilated_span(layer.kernel_size[0], layer.dilation_rate[0])

    def pads(self, facts: Facts) -> tuple[int, int]:
        layer = facts.layer
        n_in = facts.shapes[0][0]
        return pad_amounts(layer.padding, span=self.span(layer), stride=layer.strides[0], n_in=n_in)

    def propagate(self, facts: Facts) -> State:
        window, layer = facts.window, facts.layer
        frame = changed_outputs(
            window.frame,
            span=self.span(layer),
            stride=layer.strides[0],
            pad_left=self.pads(facts)[0],
            n_out=facts.shape[0],
        )
        return Window(frame, facts.shape[1:])

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        if self.folds(facts.layer):
            return (None,)
        assert isinstance(output, Window)
        return (self.frame_read(facts, output),)

    def frame_read(self, facts: Facts, output: Window) -> Frame:
        layer = facts.layer
        return needed_inputs(
            output.frame,
            span=self.span(layer),
            stride=layer.strides[0],
            pad_left=self.pads(facts)[0],
            n_in=facts.shapes[0][0],
        )

    def folds(self, layer: Any) -> bool:
        """Whether the layer is computed by GEMM + fold, rather than by an ordinary convolution of the frame."""
        return False

    def split(self, node: Node) -> Callable[[Any], Any] | None:
        layer = node.layer

        def linear(x: Any) -> Any:
            y = self.convolve(layer, x, layer.padding)
            return y + layer.bias if layer.use_bias else y

        return strip_activation(layer, linear)

    def convolve(self, layer: Any, x: Any, padding: str) -> Any:
        """The layer's convolution of ``x`` (batch, length, channels), no bias and no activation."""
        raise NotImplementedError

    def delta(self, call: Call, *inputs: Any) -> Any:
        """An ordinary 'valid' convolution of the frame that the outputs read."""
        (x,) = inputs
        return split_batch(self.convolve(call.layer, merge_batch(x), "valid"), x)


def pad_causal(layer: Any, x: Any, padding: str) -> tuple[Any, str]:
    """Keras.ops knows no 'causal': its zeros are put in here."""
    if padding != "causal":
        return x, padding
    left = dilated_span(layer.kernel_size[0], layer.dilation_rate[0]) - 1
    return ops.pad(x, [(0, 0), (left, 0), (0, 0)]), "valid"


class Conv(Convolution):
    """Conv1D, with strides, dilation and groups."""

    def folds(self, layer: Any) -> bool:
        return layer.strides[0] == 1 and layer.groups == 1

    def prepare(self, node: Node) -> dict[str, Any]:
        """The kernel with its taps reversed, as one matrix (C_in, kernel_size * C_out)."""
        if not self.folds(node.layer):
            return {}
        kernel = ops.flip(ops.convert_to_tensor(node.layer.kernel), axis=0)
        return {"matrix": ops.reshape(ops.transpose(kernel, (1, 0, 2)), (kernel.shape[1], -1))}

    def convolve(self, layer: Any, x: Any, padding: str) -> Any:
        x, padding = pad_causal(layer, x, padding)
        return ops.conv(
            x,
            layer.kernel,
            strides=layer.strides[0],
            padding=padding,
            dilation_rate=layer.dilation_rate[0],
            data_format=layer.data_format,
        )

    def delta(self, call: Call, *inputs: Any) -> Any:
        layer = call.layer
        if not self.folds(layer):
            return super().delta(call, *inputs)
        (x,) = inputs
        taps, dilation = layer.kernel_size[0], layer.dilation_rate[0]
        natural = self.propagate(call.facts)
        assert isinstance(natural, Window)
        products = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), call.params["matrix"])
        shape = (*x.shape[:4], taps, layer.filters)
        return fold(products, shape, dilation, offsets(natural.frame, call.frame), call.frame.width, call.stage)

    def multiply_adds(self, facts: Facts, output: State) -> int:
        assert isinstance(output, Window)
        rows = facts.window.frame.width if self.folds(facts.layer) else output.frame.width
        return rows * prod(facts.layer.kernel.shape)

    def scratch(self, facts: Facts) -> int:
        layer = facts.layer
        return facts.window.frame.width * layer.kernel_size[0] * layer.filters if self.folds(layer) else 0


def fold(products: Any, shape: tuple[int, ...], dilation: int, shifts: tuple[int, ...], width: int, stage: Any) -> Any:
    """Add the products of each tap where they belong, in the frame that the output is wanted in.

    Parameters
    ----------
    products : array, (S * P * A * rows, taps * filters)
        Row ``i``, tap ``k`` belongs to output position ``i + k * dilation``.
    shape : (S, P, A, rows, taps, filters)
    shifts : P ints
        Where the outputs begin in their frame of ``width`` rows.

    Notes
    -----
    The sum is a stage of its own: fused into what follows, XLA would redo it for every reader.
    """
    rows, taps = shape[3], shape[4]

    def add_up(y: Any, offset: int, width: int = width) -> Any:
        if dilation == 1 and rows <= taps:
            return sum(shift(y[:, :, :, i], offset + i, width, axis=3) for i in range(rows))
        return sum(shift(y[:, :, :, :, k], offset + k * dilation, width, axis=3) for k in range(taps))

    if len(runs(shifts)) <= MOST_RUNS:
        return stage(lambda y: by_offset(ops.reshape(y, shape), shifts, add_up))(products)
    natural = rows + (taps - 1) * dilation
    y = stage(lambda y: add_up(ops.reshape(y, shape), 0, natural))(products)
    return place_by_rows(y, ops.convert_to_tensor(np.asarray(shifts, "int32")), width)
