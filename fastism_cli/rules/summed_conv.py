"""Conv1D whose outputs are summed over the positions (``--reduce sum``): rows are summed first, then meet the kernel.

A profile head reduced by its sum or mean is linear in the input of its convolution. An input position that is a
kernel's span away from both ends reaches an output by every tap, so all such rows can be added up before they are
multiplied. The few rows at the ends lack some taps, for which they are corrected. No output is ever made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from fastism_cli.model import backend
from fastism_cli.model.graph import Node
from fastism_cli.model.reductions import Mean, Reduction
from fastism_cli.rules.base import EVERYWHERE, Call, Facts, Form, Rule, Splits, State
from fastism_cli.rules.frames import dilated_span, pad_amounts
from fastism_cli.rules.move_rows import rows_at
from fastism_cli.rules.strips import sum_rows


class SummedConvolution:
    """A Conv1D without activation over ``n_in`` positions, then a :class:`Reduction`; called like a layer."""

    def __init__(self, layer: Any, reduction: Reduction, call: Any, n_in: int) -> None:
        self.layer, self.reduction, self.n_in = layer, reduction, n_in
        self.name = layer.name
        self._call = call

    @property
    def weights(self) -> Any:
        return self.layer.weights

    def __call__(self, x: Any) -> Any:
        (y,) = self._call([x])
        return self.reduction(y)


def can_be_summed(layer: Any, n_in: int) -> bool:
    plain = layer.groups == 1 and layer.strides[0] == 1 and layer.data_format == "channels_last"
    return bool(plain and n_in >= 2 * dilated_span(layer.kernel_size[0], layer.dilation_rate[0]))


def summed_taps(layer: Any, reduction: Reduction, n_in: int) -> np.ndarray:
    """The sum of taps by which each input position adds to the reduced head, float64 (n_in, channels, filters)."""
    kernel = np.asarray(backend.to_numpy(layer.kernel), "float64")
    dilation = layer.dilation_rate[0]
    span = dilated_span(len(kernel), dilation)
    pads = pad_amounts(layer.padding, span=span, stride=1, n_in=n_in)
    total = np.zeros((n_in, *kernel.shape[1:]))
    for tap, weights in enumerate(kernel):
        output = np.arange(n_in) + pads[0] - tap * dilation
        total[(output >= 0) & (output < n_in + sum(pads) - span + 1)] += weights
    if isinstance(reduction, Mean):
        total /= n_in + sum(pads) - span + 1
    return total


def end_rows(layer: Any, n_in: int) -> list[int]:
    """Input positions that do not reach an output by every tap."""
    n = dilated_span(layer.kernel_size[0], layer.dilation_rate[0]) - 1
    return [*range(n), *range(n_in - n, n_in)]


class SummedConvolutionRule(Rule):
    """Sum the rows, multiply once, and correct for the rows at the ends."""

    form = Form.DELTA
    linear = True
    splits = Splits.STRIPS

    def propagate(self, facts: Facts) -> State:
        return EVERYWHERE

    def prepare(self, node: Node) -> dict[str, Any]:
        """The sum of all taps (channels, filters), and differences from it at the ends (rows, channels, filters)."""
        summed: SummedConvolution = node.layer
        layer, n_in = summed.layer, summed.n_in
        taps = summed_taps(layer, summed.reduction, n_in)
        inside = taps[n_in // 2]
        arrays = {"inside": inside, "ends": taps[end_rows(layer, n_in)] - inside}
        return {name: ops.convert_to_tensor(x.astype(str(layer.compute_dtype))) for name, x in arrays.items()}

    def delta(self, call: Call, *inputs: Any) -> Any:
        (strip,) = inputs
        summed: SummedConvolution = call.layer
        total = strip.total(sum_rows, ops.add)
        result = weighted(total[:, :, :, None], call.params["inside"][None])
        ends = end_rows(summed.layer, summed.n_in)
        if not ends:
            return result
        frame = call.facts.window.frame
        window = strip.as_array(strip.any_array.shape, strip.any_array.dtype)
        at = np.asarray(ends, "int32")[None, :] - call.first(frame)[:, None]
        return result + weighted(rows_at(window, at), call.params["ends"])

    def multiply_adds(self, facts: Facts, output: State) -> int:
        layer = facts.layer.layer
        rows = 1 + len(end_rows(layer, facts.layer.n_in))
        return int(rows * facts.window.channels[0] * layer.filters)


def weighted(x: Any, weights: Any) -> Any:
    """(S, P, A, rows, channels) by (rows, channels, filters) -> (S, P, A, filters)"""
    elements = x.shape[3] * x.shape[4]
    flat = ops.matmul(ops.reshape(x, (-1, elements)), ops.reshape(weights, (elements, -1)))
    return ops.reshape(flat, (*x.shape[:3], weights.shape[-1]))
