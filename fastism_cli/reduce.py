"""Positional heads to one number per target, on the device.

Formulas, for a head of shape (L_out, T) and one target ``y[0..L_out)``:

======  =========================
sum     ``sum_i y[i]``
mean    ``sum_i y[i] / L_out``
======  =========================

All axes but the last are reduced; a head of shape (T,), when it is named, is reduced along its only axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from fastism_cli.errors import UsageError

REDUCTIONS: dict[str, Callable[..., Any]] = {"sum": ops.sum, "mean": ops.mean}
LINEAR = frozenset({"sum", "mean"})


class Reduction:
    """A reduction of one head, called like a layer on (batch, *head shape); returns (batch, T)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.name = kind

    def __call__(self, x: Any) -> Any:
        axes = tuple(range(1, len(x.shape) - 1)) or (1,)
        return REDUCTIONS[self.kind](x, axis=axes, keepdims=len(x.shape) == 2)


def parse_reduce(values: str | dict[str, str] | None, heads: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Which reduction each head gets.

    Parameters
    ----------
    values : str, dict or None
        One reduction for all positional heads, or ``{head: reduction}``; "none" keeps a head whole.
    heads : dict of head name to shape without the batch axis

    Raises
    ------
    UsageError
        If a reduction or a head is not known.
    """
    if values is None:
        return {}
    if isinstance(values, str):
        values = {name: values for name, shape in heads.items() if len(shape) > 1}
        if not values:
            return {}
    for name, kind in values.items():
        if name not in heads:
            raise UsageError(f"--reduce: the model has no head {name!r}. Its heads: {', '.join(heads)}.")
        if kind not in REDUCTIONS and kind != "none":
            raise UsageError(f"--reduce {name}={kind}: not known. Choose one of: none, {', '.join(REDUCTIONS)}.")
    return dict(values)
