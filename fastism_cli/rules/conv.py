"""Conv1D in 'channels_last', and its sum over the positions: linear in the delta, computed by matrix products.

A convolution of stride 1 multiplies every changed row with the whole kernel at once and adds the products where they
overlap (GEMM + fold): ``width * kernel_size`` products of channels instead of the ``(width + span - 1) * kernel_size``
that it takes to recompute the output window, as fastISM does (Nair et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from keras import ops

from fastism_cli.model import backend
from fastism_cli.model.device_choices import device_choices
from fastism_cli.model.graph import Node
from fastism_cli.model.reductions import Mean, Reduction
from fastism_cli.rules.base import EVERYWHERE, Call, Facts, Form, Rule, Splits, State, Window
from fastism_cli.rules.frames import Frame, changed_outputs, dilated_span, needed_inputs, pad_amounts
from fastism_cli.rules.layer_calls import merge_batch, split_batch, without_activation
from fastism_cli.rules.window_rows import Piece, Strip, rows_at, shift, sum_rows

# --- fewer products over a narrow window -----------------------------------------------------------------------------

# To add up the products of every row with every tap is to multiply two polynomials, rows and taps, whose coefficients
# are matrices. With even and odd coefficients apart, ``x = e(z^2) + z o(z^2)`` and ``w = f(z^2) + z g(z^2)``::
#
#     x w  =  e f + z^2 o g  +  z ((e + o) (f + g) - e f - o g)
#
# Three products of half the size take the place of four (Karatsuba and Ofman 1962): 63 products of a row with a tap for
# 7 rows and 11 taps instead of 77, at the price of the sums. All sums of a small delta are small, so that the error is
# that of a few more roundings of it.

MIN_SAVING = 0.12  # share of the products that must be saved to pay for the sums
MIN_CHANNELS = 64  # with fewer, a product takes as long to read and write as to compute
MAX_PRODUCTS = 200  # rows times taps: more would make too many pieces


def count_even_odd(n: int) -> tuple[int, int]:
    """How many of ``n`` are even, and how many odd."""
    return n - n // 2, n // 2


def n_products(rows: int, taps: int) -> int:
    """How many products of a row with a tap Karatsuba's method takes."""
    (even_rows, odd_rows), (even_taps, odd_taps) = count_even_odd(rows), count_even_odd(taps)
    return 2 * even_rows * even_taps + odd_rows * odd_taps


def saves_enough(rows: int, taps: int) -> bool:
    return n_products(rows, taps) <= (1 - MIN_SAVING) * rows * taps and rows * taps <= MAX_PRODUCTS


def is_large_kernel(channels: int, taps: int, filters: int) -> bool:
    """Whether the method can be worth it for a kernel, however many rows it meets."""
    return taps > 2 and min(channels, filters) >= MIN_CHANNELS


def halving_pays(dtype: Any) -> bool:
    """Whether numbers of this type can be added up without harm, which 16 bits cannot, and faster than multiplied."""
    is_precise = str(dtype) in ("float32", "float64")
    return is_precise and (device_choices().halves_tf32 or not backend.multiplies_in_tf32())


def even_odd_both(x: Any, axis: int) -> tuple[Any, Any, Any]:
    """Even entries of an axis, odd ones, and their sum."""
    every_other = [slice(None)] * axis
    even, odd = x[(*every_other, slice(0, None, 2))], x[(*every_other, slice(1, None, 2))]
    short = even.shape[axis] - odd.shape[axis]
    return even, odd, even + ops.pad(odd, [(0, short if i == axis else 0) for i in range(len(x.shape))])


def fold_even_odd(products: Sequence[Any]) -> Strip:
    """Add up the products of even, odd and both (S, P, A, rows, taps, filters) to the sum of all products."""
    even, odd, both = (diagonal_sums(y) for y in products)
    length = sum(y.shape[3] + y.shape[4] for y in products[:2]) - 1
    odd_at = dict(enumerate(odd))
    pieces = []
    for j in range(length):
        i = j // 2
        before = odd_at.get(i - 1) if j % 2 == 0 else odd_at.get(i)
        if j % 2 == 0:
            row = even[i] if before is None else before if i == len(even) else even[i] + before
        else:
            row = both[i] - even[i] if before is None else both[i] - even[i] - before
        pieces.append(Piece(j, j + 1, row))
    return Strip(tuple(pieces))


def diagonal_sums(y: Any) -> list[Any]:
    """Entry ``j``: sum over the taps ``k`` of row ``j - k``; arrays (S, P, A, 1, filters)."""
    rows, taps = y.shape[3:5]
    terms = [
        [y[:, :, :, j - k : j - k + 1, k] for k in range(taps) if 0 <= j - k < rows] for j in range(rows + taps - 1)
    ]
    return [reduce(ops.add, present) for present in terms]


# --- Conv1D ----------------------------------------------------------------------------------------------------------

MAX_NARROW = 8  # channels: the letters of a sequence, and few more
# Multiply-adds in the time that it takes to write and add up one product on a processor. Basset's first layer (19 taps,
# 300 filters), one sequence, all its blocks, both ways: width 2, 59 ms and 63; 5, 64 and 66; 10, 86 and 68; width 50,
# step 10, 38 and 18.
PRODUCT_COST = 12


class Convolution(Rule):
    """Geometry of a convolution along one axis, and the layer without its activation."""

    form = Form.DELTA
    linear = True
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
        if self.folds(facts):
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

    def folds(self, facts: Facts) -> bool:
        """Whether the layer is computed by GEMM + fold, and not by an ordinary convolution of the frame."""
        return False

    def split(self, node: Node) -> Callable[[Any], Any] | None:
        layer = node.layer

        def linear(x: Any) -> Any:
            y = self.convolve(layer, x, layer.padding)
            return y + layer.bias if layer.use_bias else y

        return without_activation(layer, linear)

    def convolve(self, layer: Any, x: Any, padding: str) -> Any:
        """The layer's convolution of ``x`` (batch, length, channels), no bias and no activation."""
        raise NotImplementedError

    def delta(self, call: Call, *inputs: Any) -> Any:
        """An ordinary 'valid' convolution of the frame that the outputs read."""
        (x,) = inputs
        return split_batch(self.convolve(call.layer, merge_batch(x), "valid"), x)


def pad_causal(layer: Any, x: Any, padding: str) -> tuple[Any, str]:
    """Pad with the zeros of 'causal', which ``keras.ops`` does not know."""
    if padding != "causal":
        return x, padding
    left = dilated_span(layer.kernel_size[0], layer.dilation_rate[0]) - 1
    return ops.pad(x, [(0, 0), (left, 0), (0, 0)]), "valid"


class Conv(Convolution):
    """Conv1D, with strides, dilation and groups."""

    condition = "if the positions lie along an axis that it slides over"

    def folds(self, facts: Facts) -> bool:
        return can_fold(facts.layer) and not frame_pays(facts)

    def prepare(self, node: Node) -> dict[str, Any]:
        """The kernel with its taps reversed, as one matrix (C_in, kernel_size * C_out); also its even and odd taps."""
        if not can_fold(node.layer):
            return {}
        kernel = ops.transpose(ops.flip(ops.convert_to_tensor(node.layer.kernel), axis=0), (1, 0, 2))
        matrices = {"matrix": ops.reshape(kernel, (kernel.shape[0], -1))}
        if node.layer.dilation_rate[0] == 1 and is_large_kernel(*kernel.shape):
            matrices["even_odd"] = [ops.reshape(taps, (kernel.shape[0], -1)) for taps in even_odd_both(kernel, axis=1)]
        return matrices

    def uses_karatsuba(self, facts: Facts) -> bool:
        """Whether the products are those of even and odd rows, in a stage that cuts windows."""
        channels, filters = facts.layer.kernel.shape[1:]
        taps, dilation, rows = facts.layer.kernel_size[0], facts.layer.dilation_rate[0], facts.window.frame.width
        is_large = is_large_kernel(channels, taps, filters) and halving_pays(facts.layer.compute_dtype)
        return dilation == 1 and is_large and saves_enough(rows, taps)

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

    def product(self, call: Call, *inputs: Any) -> Any:
        """Every row times the kernel: (S, P, A, rows, taps, filters); or three such, of even and odd rows and taps."""
        layer = call.layer
        if not self.folds(call.facts):
            return self.delta(call, *inputs)
        (x,) = inputs
        if not (call.cuts and self.uses_karatsuba(call.facts)):
            return rows_times(x, call.params["matrix"], layer.filters)
        inputs = call.stage(partial(even_odd_both, axis=3))(x)
        matrices = call.params["even_odd"]
        return [rows_times(rows, matrix, layer.filters) for rows, matrix in zip(inputs, matrices, strict=True)]

    def is_narrow(self, facts: Facts) -> bool:
        return self.folds(facts) and facts.layer.kernel.shape[1] <= MAX_NARROW

    def narrow_product(self, call: Call, *inputs: Any) -> Any:
        """The same products, a channel at a time."""
        (x,) = inputs
        matrix = call.params["matrix"]
        kernel = ops.reshape(matrix, (matrix.shape[0], -1, call.layer.filters))
        return _sum_of([ops.multiply(x[..., c, None, None], kernel[c]) for c in range(matrix.shape[0])])

    def finish(self, call: Call, product: Any) -> Any:
        """Add the products up, in the frame of the output."""
        if not self.folds(call.facts):
            return product
        natural = self.propagate(call.facts)
        assert isinstance(natural, Window)
        if isinstance(product, (list, tuple)):
            strip = fold_even_odd(product)
        else:
            fold = fold_by_pieces if call.cuts else fold_padded
            strip = fold(product, call.layer.dilation_rate[0])
        return call.move(strip, replace(natural.frame, width=strip.width), call.frame)

    def is_product(self, facts: Facts) -> bool:
        return not self.folds(facts)

    def summed_slices(self, facts: Facts, output: Window) -> int:
        layer = facts.layer
        if not self.folds(facts):
            return 0
        taps, rows = layer.kernel_size[0], facts.window.frame.width
        if self.uses_karatsuba(facts):
            return int(n_products(rows, taps) + 2 * (rows + taps))
        return sum(len(present) for _, _, present in tap_pieces(rows, taps, layer.dilation_rate[0]))

    def multiply_adds(self, facts: Facts, output: State) -> int:
        assert isinstance(output, Window)
        rows = facts.window.frame.width if self.folds(facts) else output.frame.width
        return int(rows * prod(facts.layer.kernel.shape))

    def scratch(self, facts: Facts) -> int:
        layer = facts.layer
        return facts.window.frame.width * layer.kernel_size[0] * layer.filters if self.folds(facts) else 0


def can_fold(layer: Any) -> bool:
    """Whether GEMM + fold can compute the layer, if it pays or not."""
    return bool(layer.strides[0] == 1 and layer.groups == 1)


def frame_pays(facts: Facts) -> bool:
    """Whether an ordinary convolution of the frame takes less time than products that are written and added up.

    It does for wide blocks of letters, of which there are many products that took few multiply-adds each. Layers behind
    read windows that a frame would make wider.
    """
    layer, rows = facts.layer, facts.window.frame.width
    channels = layer.kernel.shape[1]
    if not facts.reads_blocks or channels > MAX_NARROW or device_choices().inlines_narrow_products:
        return False
    return bool(
        rows * (channels + PRODUCT_COST)
        > (rows + dilated_span(layer.kernel_size[0], layer.dilation_rate[0]) - 1) * channels
    )


def rows_times(x: Any, matrix: Any, filters: int) -> Any:
    """Rows (S, P, A, rows, channels) times (channels, taps * filters): (S, P, A, rows, taps, filters)."""
    products = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), matrix)
    return ops.reshape(products, (*x.shape[:4], -1, filters))


def tap_pieces(rows: int, taps: int, dilation: int) -> list[tuple[int, int, list[int]]]:
    """Stretches of output rows to which the same taps contribute, as ``(first, stop, taps)``.

    Input row ``i`` contributes by tap ``k`` to output row ``i + k * dilation``::

        rows 2, taps 3     a a b . .        ->  (0, 1, [0]), (1, 2, [0, 1]), (2, 3, [1, 2]), (3, 4, [2])
                           . a b b .
    """
    edges = sorted({k * dilation + end for k in range(taps) for end in (0, rows)})
    return [
        (first, stop, [k for k in range(taps) if k * dilation <= first and stop <= k * dilation + rows])
        for first, stop in pairwise(edges)
    ]


def fold_by_pieces(y: Any, dilation: int) -> Strip:
    """Add up products (S, P, A, rows, taps, filters) where they belong, a piece for each set of taps.

    Of a single row they are the output as they lie.
    """
    rows, taps = y.shape[3], y.shape[4]
    if rows == 1 and dilation == 1:
        return Strip.of(y[:, :, :, 0])
    pieces = tap_pieces(rows, taps, dilation)
    edges = [0, *(stop for _, stop, _ in pieces)]
    terms: dict[int, list[Any]] = {first: [] for first, _, _ in pieces}
    for k, x in enumerate(ops.unstack(y, axis=4)):
        of_tap = Piece(k * dilation, k * dilation + rows, x)
        for piece in of_tap.apart([edge for edge in edges if of_tap.first <= edge <= of_tap.stop]):
            terms[piece.first].append(piece.array)
    return Strip(tuple(Piece(first, stop, _sum_of(terms[first])) for first, stop, _ in pieces))


def fold_padded(y: Any, dilation: int) -> Strip:
    """The same sum in one piece, every term padded with zeros: for kernels that would make too many pieces."""
    rows, taps = y.shape[3], y.shape[4]
    natural = rows + (taps - 1) * dilation
    if dilation == 1 and rows <= taps:
        return Strip.of(_sum_of([shift(x, i, natural, axis=3) for i, x in enumerate(ops.unstack(y, axis=3))]))
    return Strip.of(_sum_of([shift(x, k * dilation, natural, axis=3) for k, x in enumerate(ops.unstack(y, axis=4))]))


def _sum_of(terms: list[Any]) -> Any:
    return reduce(ops.add, terms) if terms else None


# --- Conv1D whose outputs are summed over the positions --------------------------------------------------------------

# A profile head reduced by its sum or mean is linear in the input of its convolution. An input position that is a
# kernel's span away from both ends reaches an output by every tap, so all such rows can be added up before they are
# multiplied. The few rows at the ends lack some taps, for which they are corrected. No output is ever made.


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
