"""Conv2D, Conv3D, DepthwiseConv, SeparableConv and ConvTranspose of all ranks, and Conv1D in 'channels_first'.

One of the spatial axes holds the positions. The array has the full tensor but for this axis, of which it has the frame
alone. The convolution is 'valid' on it; what the layer pads along the other axes is added here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

from keras import ops

from fastism_cli.model.graph import Node
from fastism_cli.rules.base import Call, Decline, Facts, Form, Rule, State, Window
from fastism_cli.rules.frames import Frame, changed_outputs, dilated_span, needed_inputs, pad_amounts
from fastism_cli.rules.layer_calls import first_spatial, from_keras, to_keras, without, without_activation


class Spatial(Rule):
    """Geometry of a layer that slides over one, two or three axes, one of which holds the positions."""

    form = Form.DELTA
    linear = True
    fused = False
    leaks = True
    any_axis = True
    condition = "if the positions lie along an axis that it slides over"

    def sizes(self, layer: Any) -> tuple[int, ...]:
        """Elements from the first to the last that an output reads, by spatial axis."""
        return tuple(dilated_span(k, d) for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True))

    def along(self, facts: Facts) -> int:
        """Which of the layer's spatial axes holds the positions."""
        number = facts.window.axis - first_spatial(facts.layer)
        if not 0 <= number < len(self.sizes(facts.layer)) or facts.window.flat is not None:
            raise Decline("takes the positions for channels")
        return number

    def pads(self, facts: Facts) -> list[tuple[int, int]]:
        """What the layer pads before and after every spatial axis."""
        layer, first = facts.layer, first_spatial(facts.layer)
        given = zip(self.sizes(layer), layer.strides, facts.shapes[0][first:], strict=False)
        return [pad_amounts(layer.padding, span=span, stride=stride, n_in=n) for span, stride, n in given]

    def geometry(self, facts: Facts) -> dict[str, int]:
        """Span, stride and padding along the positions."""
        i = self.along(facts)
        span, stride, pads = self.sizes(facts.layer)[i], facts.layer.strides[i], self.pads(facts)[i]
        return {"span": span, "stride": stride, "pad_left": pads[0]}

    def propagate(self, facts: Facts) -> State:
        window = facts.window
        n_out = facts.shape[window.axis]
        frame = changed_outputs(window.frame, n_out=n_out, **self.geometry(facts))
        channels = without(facts.shape, window.axis)
        return replace(window, frame=frame, channels=channels)

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        assert isinstance(output, Window)
        n_in = facts.window.frame.length
        return (needed_inputs(output.frame, n_in=n_in, **self.geometry(facts)),)

    def pads_beside_positions(self, facts: Facts) -> list[tuple[int, int]]:
        """What has to be padded to the frame: nothing along the positions, and what the layer pads elsewhere."""
        i = self.along(facts)
        return [(0, 0) if j == i else pads for j, pads in enumerate(self.pads(facts))]

    @staticmethod
    def channels_last(x: Any, facts: Facts) -> Any:
        """(S, P, A, width, *channels) -> (S * P * A, *spatial, channels), the frame in the place of the positions."""
        x = to_keras(x, facts.window.axis)
        return x if facts.layer.data_format == "channels_last" else ops.moveaxis(x, 1, -1)

    @staticmethod
    def as_window(y: Any, like: Any, facts: Facts) -> Any:
        """The reverse of :meth:`channels_last`."""
        y = y if facts.layer.data_format == "channels_last" else ops.moveaxis(y, -1, 1)
        return from_keras(y, like, facts.window.axis)

    def padded(self, x: Any, facts: Facts, value: Any = 0) -> Any:
        """(batch, *spatial, channels) with what the layer pads around the axes that hold no positions."""
        pads = self.pads_beside_positions(facts)
        if not any(map(any, pads)):
            return x
        return ops.pad(x, [(0, 0), *pads, (0, 0)], constant_values=value)


class SpatialConv(Spatial):
    """A convolution; ``convolve`` does it for the layer's class."""

    def __init__(self, convolve: Callable[[Any, Any, str, str], Any]) -> None:
        self.convolve = convolve

    def split(self, node: Node) -> Callable[[Any], Any] | None:
        layer = node.layer

        def linear(x: Any) -> Any:
            y = self.convolve_all(layer, x)
            if not layer.use_bias:
                return y
            # as the layer adds it: on TensorFlow ops.add takes the last axis for the channels if it is as long as they
            ones = (1,) * len(layer.kernel_size)
            shape = (1, *ones, -1) if layer.data_format == "channels_last" else (1, -1, *ones)
            return ops.add(y, ops.reshape(layer.bias, shape))

        return without_activation(layer, linear)

    def convolve_all(self, layer: Any, x: Any) -> Any:
        """The convolution of the full tensor, as Keras calls it."""
        if layer.padding != "causal":
            return self.convolve(layer, x, layer.padding, layer.data_format)
        left = (dilated_span(layer.kernel_size[0], layer.dilation_rate[0]) - 1, 0)
        pads = [left, (0, 0)] if layer.data_format == "channels_last" else [(0, 0), left]
        return self.convolve(layer, ops.pad(x, [(0, 0), *pads]), "valid", layer.data_format)

    def delta(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        y = self.padded(self.channels_last(x, call.facts), call.facts)
        return self.as_window(self.convolve(call.layer, y, "valid", "channels_last"), x, call.facts)

    def multiply_adds(self, facts: Facts, output: State) -> int:
        assert isinstance(output, Window)
        weights = [w.shape for w in facts.layer.weights if len(w.shape) > 1]
        first, spatial = first_spatial(facts.layer), len(facts.layer.kernel_size)
        others = prod(facts.shape[first : first + spatial]) // max(output.frame.length, 1)
        return int(output.frame.width * others * sum(prod(shape) for shape in weights))


def settings(layer: Any, padding: str, data_format: str) -> dict[str, Any]:
    strides, dilation_rate = tuple(layer.strides), tuple(layer.dilation_rate)
    return {"strides": strides, "padding": padding, "dilation_rate": dilation_rate, "data_format": data_format}


def convolve(layer: Any, x: Any, padding: str, data_format: str) -> Any:
    return ops.conv(x, layer.kernel, **settings(layer, padding, data_format))


def convolve_depthwise(layer: Any, x: Any, padding: str, data_format: str) -> Any:
    return ops.depthwise_conv(x, layer.kernel, **settings(layer, padding, data_format))


def convolve_separable(layer: Any, x: Any, padding: str, data_format: str) -> Any:
    kernels = layer.depthwise_kernel, layer.pointwise_kernel
    return ops.separable_conv(x, *kernels, **settings(layer, padding, data_format))


class TransposedConv(SpatialConv):
    """Input position ``i`` and tap ``k`` add to output ``i * stride + k * dilation - cropped``."""

    fills = False
    pulls = False
    condition = "if output_padding is not set"

    def __init__(self) -> None:
        super().__init__(convolve_transposed)

    def cropped(self, facts: Facts) -> list[int]:
        """How many outputs are cut off before the first, by spatial axis."""
        layer, first = facts.layer, first_spatial(facts.layer)
        spatial = range(first, first + len(layer.kernel_size))
        if layer.padding == "valid":
            return [0 for _ in spatial]
        sizes = [(facts.shapes[0][i], facts.shape[i]) for i in spatial]
        full = [(n - 1) * s + span - m for (n, m), s, span in zip(sizes, layer.strides, self.sizes(layer), strict=True)]
        return [max(surplus, 0) // 2 for surplus in full]

    def propagate(self, facts: Facts) -> State:
        i, window, layer = self.along(facts), facts.window, facts.layer
        if getattr(layer, "output_padding", None) is not None:
            raise Decline("output_padding moves the outputs differently on each backend")
        stride, span = layer.strides[i], self.sizes(layer)[i]
        starts = tuple(start * stride - self.cropped(facts)[i] for start in window.frame.starts)
        width = (window.frame.width - 1) * stride + span
        frame = Frame(starts, width, window.frame.step * stride, facts.shape[window.axis])
        return replace(window, frame=frame, channels=without(facts.shape, window.axis))

    def demand(self, facts: Facts, output: State) -> tuple[Frame | None, ...]:
        return (None,)

    def convolve_all(self, layer: Any, x: Any) -> Any:
        options = settings(layer, layer.padding, layer.data_format)
        return ops.conv_transpose(x, layer.kernel, output_padding=layer.output_padding, **options)

    def delta(self, call: Call, *inputs: Any) -> Any:
        (x,) = inputs
        facts = call.facts
        y = self.convolve(call.layer, self.channels_last(x, facts), "valid", "channels_last")
        first, i = first_spatial(facts.layer), self.along(facts)
        for j, before in enumerate(self.cropped(facts)):
            before, size = (0, call.frame.width) if j == i else (before, facts.shape[first + j])
            y = y[(slice(None),) * (1 + j) + (slice(before, before + size),)]
        return self.as_window(y, x, facts)

    def multiply_adds(self, facts: Facts, output: State) -> int:
        first, spatial = first_spatial(facts.layer), len(facts.layer.kernel_size)
        others = prod(facts.shapes[0][first : first + spatial]) // max(facts.window.frame.length, 1)
        return int(facts.window.frame.width * others * prod(facts.layer.kernel.shape))


def convolve_transposed(layer: Any, x: Any, padding: str, data_format: str) -> Any:
    return ops.conv_transpose(x, layer.kernel, **settings(layer, padding, data_format))
