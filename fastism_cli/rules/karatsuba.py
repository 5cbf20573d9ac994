"""Conv1D over a narrow window with fewer products: Karatsuba's method on even and odd rows.

To add up the products of every row with every tap is to multiply two polynomials, rows and taps, whose coefficients
are matrices. With even and odd coefficients apart, ``x = e(z^2) + z o(z^2)`` and ``w = f(z^2) + z g(z^2)``::

    x w  =  e f + z^2 o g  +  z ((e + o) (f + g) - e f - o g)

Three products of half the size take the place of four (Karatsuba and Ofman 1962): 63 products of a row with a tap for
7 rows and 11 taps instead of 77, at the price of the sums. All sums of a small delta are small, so that the error is
that of a few more roundings of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from keras import ops

from fastism_cli.model import backend
from fastism_cli.model.device_choices import device_choices
from fastism_cli.rules.strips import Piece, Strip

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
