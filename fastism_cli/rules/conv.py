"""Conv1D in 'channels_last': linear in the delta, computed by matrix products.

A convolution of stride 1 multiplies every changed row with the whole kernel at once and adds the products where they
overlap (GEMM + fold): ``width * kernel_size`` products of channels instead of the ``(width + span - 1) * kernel_size``
that it takes to recompute the output window, as fastISM does (Nair et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, reduce
from math import prod
from typing import Any

import keras
from keras import ops

from fastism_cli.model import backend
from fastism_cli.model.device_choices import device_choices, stage
from fastism_cli.model.graph import Node
from fastism_cli.rules.base import Call, Facts, Form, Rule, State, Window
from fastism_cli.rules.frames import Frame, changed_outputs, dilated_span, needed_inputs, pad_amounts
from fastism_cli.rules.layer_calls import merge_batch, split_batch, without_activation
from fastism_cli.rules.window_rows import Piece, Strip, count_slices, overlapped, rows, shift

# --- Conv1D ----------------------------------------------------------------------------------------------------------

MAX_NARROW = 8  # channels: the letters of a sequence, and few more
# Multiply-adds in the time that it takes to write and add up one product on a processor. Basset's first layer (19 taps,
# 300 filters), one sequence, all its blocks, both ways: width 2, 59 ms and 63; 5, 64 and 66; 10, 86 and 68; width 50,
# step 10, 38 and 18.
PRODUCT_COST = 12
# The same to write and read an element of a sum of rows. What takes fewer products, the time of 3 taps of 64, 128, 256
# and 512 channels, dilations 2 to 256, against all products: 1.0 to 1.1, 0.90, 0.80, 0.76.
SUM_COST = 90


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

    def prepare(self, facts: Facts) -> dict[str, Any]:
        """The taps in reverse as one matrix (C_in, kernel_size * C_out), also sums of them; or a band of them."""
        if not can_fold(facts.layer):
            return {}
        kernel = reversed_taps(facts.layer)
        if beside := self.side_by_side(facts):
            return {band_of(beside): beside.band_of(kernel)}
        matrices = {"matrix": as_matrix(kernel)}
        tiling = self.tiling(facts)
        if tiling is not None:
            matrices[sums_of(tiling)] = keras.tree.map_structure(as_matrix, tiling.taps_of(kernel))
        return matrices

    def tiling(self, facts: Facts) -> Tiling | None:
        """How rows and taps are added up for fewer products, in a stage that cuts windows; None: it does not pay."""
        layer = facts.layer
        if not (self.folds(facts) and sums_are_precise(layer.compute_dtype)):
            return None
        tiling = best_tiling(facts.window.frame.width, layer.kernel_size[0], layer.dilation_rate[0])
        return tiling if tiling is not None and tiling_pays(tiling, *layer.kernel.shape[1:]) else None

    def side_by_side(self, facts: Facts) -> SideBySide | None:
        """How rows are multiplied several at once for fewer terms; None: it does not pay, or tiles do."""
        layer = facts.layer
        if not self.folds(facts) or self.tiling(facts) is not None:
            return None
        of_window = (facts.window.frame.width, layer.kernel_size[0], layer.dilation_rate[0])
        return best_side_by_side(*of_window, *layer.kernel.shape[1:])

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
        """Every row times the kernel: (S, P, A, rows, taps, filters); or several such, of sums of rows and of taps.

        Where rows lie side by side, those of :meth:`SideBySide.product`.
        """
        layer = call.layer
        if not self.folds(call.facts):
            return self.delta(call, *inputs)
        (x,) = inputs
        if beside := self.side_by_side(call.facts):
            rows_of = call.stage(beside.rows_of) if beside.n_rows else beside.rows_of
            return beside.product(rows_of(x), call.params[band_of(beside)])
        tiling = self.tiling(call.facts)
        if not call.cuts or tiling is None:
            return rows_times(x, call.params["matrix"], layer.filters)
        matrices = {"left over": call.params["matrix"], **call.params[sums_of(tiling)]}
        by_product = call.stage(tiling.rows_of)(x)
        return {name: rows_times(rows, matrices[name], layer.filters) for name, rows in by_product.items()}

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
        fold = fold_by_pieces if call.cuts else fold_padded
        tiling, beside = self.tiling(call.facts), self.side_by_side(call.facts)
        if isinstance(product, Mapping):
            assert tiling is not None
            strip = tiling.fold(product)
        elif beside:
            strip = beside.fold(product, fold)
        else:
            strip = fold(product, call.layer.dilation_rate[0])
        return call.move(strip, replace(natural.frame, width=strip.width), call.frame)

    def change_everywhere(self, node: Node, delta: Any) -> Any | None:
        """By products of rows side by side, where few filters take Keras as long as many."""
        layer = node.layer
        channels, filters = layer.kernel.shape[1:]
        is_linear = node.role == "linear" or self.split(node) is None
        is_quicker = can_fold(layer) and filters < device_choices().fewest_filters
        if not (is_linear and is_quicker and sums_are_precise(layer.compute_dtype)):
            return None
        length, taps, dilation = delta.shape[1], layer.kernel_size[0], layer.dilation_rate[0]
        beside = best_side_by_side(length, taps, dilation, channels, filters)
        if beside is None:
            return None
        pads = pad_amounts(layer.padding, span=self.span(layer), stride=1, n_in=length)
        products = beside.product(stage(beside.rows_of)(delta[:, None, None]), beside.band_of(reversed_taps(layer)))

        def folded(products: Any) -> Any:
            strip = beside.fold(products, fold_padded)
            (piece,) = strip.moved(pads[0] + 1 - self.span(layer), length + sum(pads) + 1 - self.span(layer)).pieces
            return piece.array[:, 0, 0]

        return stage(folded)(products)

    def is_product(self, facts: Facts) -> bool:
        return not self.folds(facts)

    def summed_slices(self, facts: Facts, output: Window) -> int:
        layer = facts.layer
        if not self.folds(facts):
            return 0
        tiling = self.tiling(facts)
        if tiling is not None:
            return tiling.n_slices
        rows, taps, dilation = facts.window.frame.width, layer.kernel_size[0], layer.dilation_rate[0]
        if beside := self.side_by_side(facts):
            rows, taps, dilation = beside.blocks, beside.reach, 1
        return count_slices([(tap * dilation, tap * dilation + rows) for tap in range(taps)])

    def multiply_adds(self, facts: Facts, output: State) -> int:
        assert isinstance(output, Window)
        if self.folds(facts):
            return int(self.n_products(facts) * prod(facts.layer.kernel.shape[1:]))
        return int(output.frame.width * prod(facts.layer.kernel.shape))

    def n_products(self, facts: Facts) -> int:
        """Of a row with a tap, or of their sums; without the zeros between rows side by side."""
        tiling = self.tiling(facts)
        return int(facts.window.frame.width * facts.layer.kernel_size[0]) if tiling is None else tiling.n_products

    def scratch(self, facts: Facts) -> int:
        if not self.folds(facts):
            return 0
        channels, filters = facts.layer.kernel.shape[1:]
        if beside := self.side_by_side(facts):
            return int(beside.n_rows * channels + beside.n_elements * filters)
        tiling = self.tiling(facts)
        sums = 0 if tiling is None else tiling.n_rows * channels
        return int(sums + self.n_products(facts) * filters)


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


def sums_are_precise(dtype: Any) -> bool:
    """Whether numbers of this type can be added up without harm, which 16 bits cannot, and faster than multiplied."""
    is_precise = str(dtype) in ("float32", "float64")
    return is_precise and (device_choices().sums_in_tf32 or not backend.multiplies_in_tf32())


def tiling_pays(tiling: Tiling, channels: int, filters: int) -> bool:
    """Whether the products that are saved take longer than the sums of rows, written and read."""
    saved = tiling.width * tiling.taps - tiling.n_products
    return channels > MAX_NARROW and saved * channels * filters > SUM_COST * (
        tiling.n_rows * channels - saved * filters
    )


def sums_of(tiling: Tiling) -> str:
    """The name of a kernel's sums of taps among what is prepared."""
    return f"sums of taps {tiling.spacing} apart"


def band_of(beside: SideBySide) -> str:
    """The name of a kernel's band among what is prepared."""
    return f"band of {beside.together} rows"


def reversed_taps(layer: Any) -> Any:
    """The kernel (channels, taps, filters), the last tap first."""
    return ops.transpose(ops.flip(ops.convert_to_tensor(layer.kernel), axis=0), (1, 0, 2))


def as_matrix(kernel: Any) -> Any:
    """(channels, taps, filters) -> (channels, taps * filters)"""
    return ops.reshape(kernel, (kernel.shape[0], -1))


def rows_times(x: Any, matrix: Any, filters: int) -> Any:
    """Rows (S, P, A, rows, channels) times (channels, taps * filters): (S, P, A, rows, taps, filters)."""
    products = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), matrix)
    return ops.reshape(products, (*x.shape[:4], -1, filters))


def fold_by_pieces(y: Any, dilation: int) -> Strip:
    """Add up products (S, P, A, rows, taps, filters) where they belong, a piece for each set of taps.

    Of a single row they are the output as they lie.
    """
    rows = y.shape[3]
    if rows == 1 and dilation == 1:
        return Strip.of(y[:, :, :, 0])
    return overlapped(Piece(k * dilation, k * dilation + rows, x) for k, x in enumerate(ops.unstack(y, axis=4)))


def fold_padded(y: Any, dilation: int) -> Strip:
    """The same sum in one piece, every term padded with zeros: for kernels that would make too many pieces."""
    rows, taps = y.shape[3], y.shape[4]
    natural = rows + (taps - 1) * dilation
    if dilation == 1 and rows <= taps:
        return Strip.of(_sum_of([shift(x, i, natural, axis=3) for i, x in enumerate(ops.unstack(y, axis=3))]))
    return Strip.of(_sum_of([shift(x, k * dilation, natural, axis=3) for k, x in enumerate(ops.unstack(y, axis=4))]))


def _sum_of(terms: list[Any]) -> Any:
    return reduce(ops.add, terms) if terms else None


# --- fewer products of rows with taps ---------------------------------------------------------------------------------

# To add up the products of every row with every tap is to multiply two polynomials, rows and taps, whose coefficients
# are matrices. Rows are taken in pairs and taps in threes, both the same distance apart. By the values of the
# polynomials at 0, 1, -1 and infinity, four products take the place of six (Toom 1963, Cook 1966; transposed, the
# method of Lavin and Gray 2016)::
#
#     (a + b z) (f + g z + h z^2)
#
#     low         a f                        z^0   low
#     sum         (a + b) (f + g + h) / 2    z^1   sum - difference - high
#     difference  (a - b) (f - g + h) / 2    z^2   sum + difference - low
#     high        b h                        z^3   high
#
# Of two taps that are left over, three products take the place of four (Karatsuba and Ofman 1962)::
#
#     low         a f                        z^0   low
#     sum         (a + b) (f + g)            z^1   sum - low - high
#     high        b g                        z^2   high
#
# A tap or a row that is left over has ordinary products. All sums of a small delta are small, so that the error is that
# of a few more roundings of it.

# Products of a pair of rows with a group of one, two or three taps.
OF_PAIR = {1: 2, 2: 3, 3: 4}
# A group has these products from so many taps on.
FROM_TAPS = {"low": 1, "high": 1, "sum": 2, "difference": 3}
MIN_SAVING = 0.12  # share of the products that must be saved to pay for the sums
MAX_SLICES = 240  # with more to add up, a stage takes too long to compile


@dataclass(frozen=True)
class Term:
    """Products of a group of taps with the rows of a block, for as many output rows from ``at`` on."""

    product: str
    group: int
    block: int
    at: int
    rows: int
    is_added: bool = True

    @property
    def span(self) -> tuple[int, int]:
        """Output rows."""
        return self.at, self.at + self.rows


@dataclass(frozen=True)
class Tiling:
    """The rows of a window in pairs, and the taps of a kernel in threes.

    ::

        width 11, distance 2      a a b b  a a b b  . . .      two blocks; three rows are left over
        width 7, distance 4       a a a . b b b                the beginning of a block; one row is left over

    Attributes
    ----------
    spacing : int
        The taps of a group are so many taps apart.
    """

    width: int
    taps: int
    dilation: int
    spacing: int

    @property
    def distance(self) -> int:
        """From one row of a pair to the other."""
        return self.spacing * self.dilation

    @property
    def blocks(self) -> int:
        """Of pairs: a single one can be incomplete."""
        return max(self.width // (2 * self.distance), 1)

    @property
    def pairs(self) -> int:
        """In each block."""
        return min(self.distance, self.width - self.distance)

    @property
    def left_over(self) -> tuple[int, int]:
        """Rows ``[first, stop)`` that are in no pair."""
        if self.pairs < self.distance:
            return self.pairs, self.distance
        return 2 * self.distance * self.blocks, self.width

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """One to three taps each."""
        firsts = [first + i for first in range(0, self.taps, 3 * self.spacing) for i in range(self.spacing)]
        chains = [(i, i + self.spacing, i + 2 * self.spacing) for i in firsts if i < self.taps]
        return tuple(tuple(tap for tap in chain if tap < self.taps) for chain in chains)

    @property
    def n_products(self) -> int:
        """Of a row with a tap."""
        first, stop = self.left_over
        return self.blocks * self.pairs * sum(OF_PAIR[len(g)] for g in self.groups) + (stop - first) * self.taps

    @property
    def n_rows(self) -> int:
        """Rows that are multiplied."""
        first, stop = self.left_over
        return self.blocks * self.pairs * len(FROM_TAPS) + stop - first

    @cached_property
    def n_slices(self) -> int:
        """Slices of products that :meth:`fold` adds up."""
        return count_slices([term.span for term in self.terms])

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """All that :meth:`fold` adds up."""
        first, stop = self.left_over
        alone = [Term("left over", tap, 0, first + tap * self.dilation, stop - first) for tap in range(self.taps)]
        of_pairs = (self._of_block(block, group) for block in range(self.blocks) for group in self.groups)
        return (*(term for terms in of_pairs for term in terms), *(alone if stop > first else []))

    def _of_block(self, block: int, group: tuple[int, ...]) -> list[Term]:
        at = block * 2 * self.distance + group[0] * self.dilation

        def term(product: str, power: int, is_added: bool = True) -> Term:
            number = self._groups_of(product).index(group)
            return Term(product, number, block, at + power * self.distance, self.pairs, is_added)

        ends = [term("low", 0), term("high", len(group))]
        if len(group) == 2:
            return [*ends, term("sum", 1), term("low", 1, False), term("high", 1, False)]
        if len(group) == 3:
            inside = [term("sum", 1), term("difference", 1, False), term("high", 1, False)]
            return [*ends, *inside, term("sum", 2), term("difference", 2), term("low", 2, False)]
        return ends

    def _groups_of(self, product: str) -> list[tuple[int, ...]]:
        return [group for group in self.groups if len(group) >= FROM_TAPS[product]]

    def rows_of(self, x: Any) -> dict[str, Any]:
        """The rows (S, P, A, n, channels) that are multiplied, of a window (S, P, A, width, channels)."""
        a, b = self._pairs_of(x)
        first, stop = self.left_over
        found = {"low": a, "high": b}
        if self._groups_of("sum"):
            found["sum"] = a + b
        if self._groups_of("difference"):
            found["difference"] = a - b
        return {**found, "left over": rows(x, first, stop)} if stop > first else found

    def _pairs_of(self, x: Any) -> tuple[Any, Any]:
        if self.pairs < self.distance:
            return rows(x, 0, self.pairs), rows(x, self.distance, self.width)
        halves = (*x.shape[:3], self.blocks, 2, self.distance, x.shape[4])
        blocks = ops.reshape(rows(x, 0, 2 * self.distance * self.blocks), halves)
        a, b = (ops.reshape(half, (*x.shape[:3], -1, x.shape[4])) for half in ops.unstack(blocks, axis=4))
        return a, b

    def taps_of(self, kernel: Any) -> dict[str, Any]:
        """What the rows are multiplied with (channels, groups, filters), of a kernel (channels, taps, filters)."""
        taps = ops.unstack(kernel, axis=1)
        found = {
            "low": [taps[group[0]] for group in self.groups],
            "high": [taps[group[-1]] for group in self.groups],
            "sum": [sum(taps[tap] for tap in g) / (2 if len(g) == 3 else 1) for g in self._groups_of("sum")],
            "difference": [(taps[f] - taps[g] + taps[h]) / 2 for f, g, h in self._groups_of("difference")],
        }
        return {product: ops.stack(arrays, axis=1) for product, arrays in found.items() if arrays}

    def fold(self, products: Mapping[str, Any]) -> Strip:
        """Add products (S, P, A, n, groups, filters) up to the sum of all rows with all taps."""
        parts = {product: [self._blocks_of(x) for x in ops.unstack(y, axis=4)] for product, y in products.items()}
        added: list[Piece] = []
        subtracted: list[Piece] = []
        for term in self.terms:
            piece = Piece(*term.span, parts[term.product][term.group][term.block])
            (added if term.is_added else subtracted).append(piece)
        return overlapped(added, subtracted)

    def _blocks_of(self, x: Any) -> list[Any]:
        """Products (S, P, A, n, filters) apart by blocks; those of rows that are left over, always fewer, together."""
        if x.shape[3] != self.blocks * self.pairs or self.blocks == 1:
            return [x]
        return backend.cut(x, [self.pairs] * self.blocks, axis=3)


@lru_cache(maxsize=1000)
def best_tiling(width: int, taps: int, dilation: int) -> Tiling | None:
    """That with the fewest products, and of nearly equal ones with the fewest slices; None if none saves enough."""
    spacings = range(1, min(-(-taps // 3), (width - 1) // dilation) + 1) if taps > 1 else ()
    found = [Tiling(width, taps, dilation, spacing) for spacing in spacings]
    few = [t for t in found if t.n_products <= (1 - MIN_SAVING) * width * taps and _is_short(t)]
    if not few:
        return None
    fewest = min(t.n_products for t in few)
    return min((t for t in few if t.n_products <= 1.02 * fewest), key=lambda t: t.n_slices)


def _is_short(tiling: Tiling) -> bool:
    return tiling.blocks * len(tiling.groups) <= MAX_SLICES and tiling.n_slices <= MAX_SLICES


# --- rows side by side ------------------------------------------------------------------------------------------------

# Products of a few channels take less time than to write them, and to add up one term for each tap. Rows that lie side
# by side are one longer row, and the kernel is a band, here of three rows and taps f, g, h::
#
#     f g h . . .
#     . f g h . .
#     . . f g h .
#
# It multiplies zeros too, but as many taps as rows lie side by side have one term together.

MAX_TOGETHER = 32  # rows
# Multiply-adds in the time that it takes to write and add up one product, or to copy an element. 16 windows, taps x
# channels x filters, the time of the best against that of all products: 25 x 64 x 1 0.66, x 4 0.83, x 8 0.93; 15 x 32 x
# 16 0.90, x 32 0.80; 75 x 64 x 1 0.64, x 2 0.85.
ELEMENT_COST = 40
MIN_GAIN = 0.1  # share of the time


@dataclass(frozen=True)
class SideBySide:
    """The rows of a window in blocks of ``together * dilation``, of which those that a tap is apart are one.

    Attributes
    ----------
    width : int
        Rows of the window; the last block is filled up with zeros.
    """

    width: int
    taps: int
    dilation: int
    together: int

    @property
    def block(self) -> int:
        """Rows of a block."""
        return self.together * self.dilation

    @property
    def blocks(self) -> int:
        return -(-self.width // self.block)

    @property
    def reach(self) -> int:
        """Blocks of the output that a block of the input changes."""
        return -(-(self.together + self.taps - 1) // self.together)

    @property
    def n_rows(self) -> int:
        """Rows that are written once more, in other places, to lie side by side."""
        moves = self.dilation > 1 or self.width % self.block > 0
        return self.blocks * self.block if moves else 0

    @property
    def n_elements(self) -> int:
        """Products of each filter that are written."""
        return self.blocks * self.block * self.reach

    def cost(self, channels: int, filters: int) -> int:
        """Multiply-adds, or as long."""
        products = self.n_elements * filters * (self.together * channels + ELEMENT_COST)
        return products + self.n_rows * channels * ELEMENT_COST

    def rows_of(self, x: Any) -> Any:
        """A window (S, P, A, width, channels) as (S, P, A, blocks, dilation, together * channels)."""
        channels = x.shape[4]
        x = shift(x, 0, self.blocks * self.block, axis=3)
        x = ops.reshape(x, (*x.shape[:3], self.blocks, self.together, self.dilation, channels))
        return ops.reshape(swapped(x), (*x.shape[:3], self.blocks, self.dilation, -1))

    def band_of(self, kernel: Any) -> Any:
        """(together * channels, reach * together * filters) of a kernel (channels, taps, filters)."""
        channels = kernel.shape[0]
        rows = [shift(kernel, i, self.reach * self.together, axis=1) for i in range(self.together)]
        return ops.reshape(ops.stack(rows), (self.together * channels, -1))

    def product(self, rows: Any, band: Any) -> Any:
        """Products (S, P, A, blocks, dilation, reach, together * filters)."""
        products = ops.matmul(ops.reshape(rows, (-1, rows.shape[5])), band)
        return ops.reshape(products, (*rows.shape[:5], self.reach, -1))

    def fold(self, products: Any, fold: Callable[[Any, int], Strip]) -> Strip:
        """Add products up to the sum of all rows with all taps; ``fold`` adds the terms of blocks."""
        of_blocks = fold(ops.reshape(swapped(products), (*products.shape[:4], self.reach, -1)), 1)
        pieces = (Piece(p.first * self.block, p.stop * self.block, self._in_order(p.array)) for p in of_blocks.pieces)
        return Strip(tuple(pieces)).moved(0, self.width + (self.taps - 1) * self.dilation)

    def _in_order(self, x: Any) -> Any:
        """Blocks (S, P, A, n, dilation * together * filters) as rows (S, P, A, n * block, filters)."""
        apart = ops.reshape(x, (*x.shape[:4], self.dilation, self.together, -1))
        return ops.reshape(swapped(apart), (*x.shape[:3], -1, apart.shape[6]))


def swapped(x: Any) -> Any:
    """(S, P, A, blocks, i, j, channels) -> (S, P, A, blocks, j, i, channels)"""
    return x if 1 in x.shape[4:6] else ops.transpose(x, (0, 1, 2, 3, 5, 4, 6))


@lru_cache(maxsize=1000)
def best_side_by_side(width: int, taps: int, dilation: int, channels: int, filters: int) -> SideBySide | None:
    """That which takes the least time; None if single rows take about as little."""
    if channels <= MAX_NARROW:
        return None
    found = [SideBySide(width, taps, dilation, together) for together in range(2, MAX_TOGETHER + 1)]
    best = min(found, key=lambda beside: beside.cost(channels, filters))
    single = width * taps * filters * (channels + ELEMENT_COST)
    return best if best.cost(channels, filters) < (1 - MIN_GAIN) * single else None
