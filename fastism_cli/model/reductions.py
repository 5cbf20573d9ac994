"""Reduce a positional head to one number per target, on the device.

Formulas for one target of a head that keeps positions, ``y[0..n)``; ``r`` is that target on the reference sequence:

===========  ================================================================================================
sum          ``sum_i y[i]``
mean         ``sum_i y[i] / n``
max          ``max_i y[i]``
center:W     ``sum_i y[i]`` over the W positions from ``(n - W) // 2`` on, of every position axis
logsumexp    ``log sum_i exp y[i]``
profile      ``sum_i softmax(z)[i] * z[i]`` with ``z[i] = y[i] - sum_j y[j] / n``
l2           ``sqrt(sum_i (y[i] - r[i]) ** 2)``
jsd          ``sum_i (p[i] * log(p[i] / m[i]) + q[i] * log(q[i] / m[i])) / 2`` with ``p = softmax(r)``,
             ``q = softmax(y)``, ``m = (p + q) / 2``; natural logarithm, from 0 to ``log 2``
===========  ================================================================================================

A delta is always ``R(substituted) - R(reference)``. ``l2`` and ``jsd`` compare with the reference, so that they are 0
for the reference itself and their delta is the norm, or the divergence, of the change. ``profile`` is the score that
chrombpnet explains, where the gradient is stopped at the softmax; here each sequence is scored with the softmax
of its own logits, and nothing is held fixed.

All axes but the last are positions; a head of shape (T,), when it is named, has its only axis reduced.

The library also takes a function of the user's, from predictions (n, *head shape) to (n, targets).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops
from keras.backend import standardize_dtype

from fastism_cli.errors import UsageError, brief
from fastism_cli.model import backend
from fastism_cli.model.adapt import random_inputs
from fastism_cli.model.graph import Shape
from fastism_cli.options.choices import Function, reduction_text

TRIED_SEQUENCES = 3


class Reduction:
    """A reduction of one head, called like a layer on (batch, *head shape); returns (batch, T).

    Attributes
    ----------
    kind : str
        As ``--reduce`` names it.
    compares : bool
        Whether it is called with the head on the reference, of the same shape, as a second array.
    """

    kind = ""
    compares = False

    @property
    def name(self) -> str:
        return self.kind

    def check(self, head: str, shape: Shape) -> None:
        """Raise :class:`UsageError` if a head of this shape cannot be reduced in this way."""

    def __call__(self, x: Any, reference: Any = None) -> Any:
        raise NotImplementedError


class OverPositions(Reduction):
    """A reduction that is a function of (batch, positions, T) and keeps the middle axis as 1."""

    def __init__(self, kind: str, function: Callable[[Any], Any]) -> None:
        self.kind, self.function = kind, function

    def __call__(self, x: Any, reference: Any = None) -> Any:
        return ops.squeeze(self.function(as_positions(x)), 1)


class Sum(OverPositions):
    def __init__(self) -> None:
        super().__init__("sum", lambda x: ops.sum(x, axis=1, keepdims=True))


class Mean(OverPositions):
    def __init__(self) -> None:
        super().__init__("mean", lambda x: ops.mean(x, axis=1, keepdims=True))


class Max(OverPositions):
    keepdims, data_format = False, "channels_last"  # like GlobalMaxPooling1D, whose rule it shares

    def __init__(self) -> None:
        super().__init__("max", lambda x: ops.max(x, axis=1, keepdims=True))


class LogSumExp(OverPositions):
    def __init__(self) -> None:
        super().__init__("logsumexp", lambda x: ops.logsumexp(x, axis=1, keepdims=True))


class Profile(OverPositions):
    """The weighted sum of mean-normalised logits that chrombpnet explains."""

    def __init__(self) -> None:
        super().__init__("profile", self._weighted)

    @staticmethod
    def _weighted(x: Any) -> Any:
        centred = x - ops.mean(x, axis=1, keepdims=True)
        return ops.sum(ops.softmax(centred, axis=1) * centred, axis=1, keepdims=True)


class Center(Reduction):
    """Sum over the ``width`` positions in the middle of every position axis."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.kind = f"center:{width}"

    def check(self, head: str, shape: Shape) -> None:
        shortest = min(position_axes(shape))
        if self.width > shortest:
            raise UsageError(f"--reduce {head}={self.kind}: the head has {shortest} positions, shape {shape}.")

    def span(self, n: int) -> tuple[int, int]:
        """First position and end of the middle of ``n``."""
        first = (n - self.width) // 2
        return first, first + self.width

    def __call__(self, x: Any, reference: Any = None) -> Any:
        for axis, n in enumerate(position_axes(x.shape[1:]), start=1):
            x = ops.take(x, list(range(*self.span(n))), axis=axis)
        return ops.sum(as_positions(x), axis=1)


class L2(Reduction):
    """Euclidean norm of the difference from the reference."""

    kind, compares = "l2", True

    def __call__(self, x: Any, reference: Any = None) -> Any:
        return ops.sqrt(ops.sum(ops.square(as_positions(x - reference)), axis=1))


class Jsd(Reduction):
    """Jensen-Shannon divergence of the two softmaxed profiles."""

    kind, compares = "jsd", True

    def __call__(self, x: Any, reference: Any = None) -> Any:
        q, p = (ops.log_softmax(as_positions(y), axis=1) for y in (x, reference))
        return ops.sum(divergence(p, q), axis=1)


class OwnReduction(Reduction):
    """A function of the user's, from (batch, *head shape) to (batch, targets).

    Attributes
    ----------
    n_targets : int
        How many numbers it gives for each sequence.

    Raises
    ------
    UsageError
        If it does not run when it is compiled, gives another shape, or mixes the sequences of a call.
    """

    def __init__(self, head: str, function: Function, shape: Shape) -> None:
        self.function = function
        self.kind = reduction_text(function)
        self._where = f"--reduce: {self.kind} of head {head!r}, for predictions (n, {', '.join(map(str, shape))}),"
        found, alone = self._tried(shape)
        if found.ndim != 2 or len(found) != TRIED_SEQUENCES or not found.shape[1]:
            raise UsageError(f"{self._where} must give (n, targets). Received: {found.shape} for n {TRIED_SEQUENCES}")
        near = {"rtol": 1e-4, "atol": 1e-4 * float(np.abs(np.nan_to_num(found, posinf=0, neginf=0)).max())}
        if alone.shape != found.shape or not np.allclose(alone, found, equal_nan=True, **near):
            raise UsageError(f"{self._where} gives a sequence another score when others are in the same call.")
        self.n_targets = found.shape[1]

    def _tried(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        """What it gives for some random predictions together, when it is compiled, and for one after the other."""
        (x,) = random_inputs([(shape, "float32")], n=TRIED_SEQUENCES)
        try:
            together = backend.of_any_batch(backend.compiled(lambda arrays: self(arrays[0])), [x])
            found = backend.to_numpy(together([ops.convert_to_tensor(x)]))
            alone = [np.atleast_1d(backend.to_numpy(self(x[i : i + 1]))) for i in range(len(x))]
            return found, np.concatenate(alone)
        except Exception as error:  # code of the user's own may raise anything
            said = " ".join(str(error).split())
            raise UsageError(
                f"{self._where} does not run: {type(error).__name__}: {brief(said)}. Write it with keras.ops."
            ) from error

    def __call__(self, x: Any, reference: Any = None) -> Any:
        x = ops.convert_to_tensor(x) if isinstance(x, np.ndarray) else x
        found, dtype = self.function(x), standardize_dtype(x.dtype)
        return found if standardize_dtype(found.dtype) == dtype else ops.cast(found, dtype)


def divergence(log_p: Any, log_q: Any) -> Any:
    """Each position's share of the Jensen-Shannon divergence, never negative.

    With ``t = (log q - log p) / 2`` it is ``sqrt(p q) * (t sinh t - cosh t log cosh t)``: terms of the size of the
    result, where those of the definition are larger by ``1 / t`` and cancel. Where the two are far apart, nothing
    cancels and the definition is used.
    """
    t = (log_q - log_p) / 2
    near = ops.abs(t) < 1
    small = ops.where(near, t, ops.zeros_like(t))
    log_cosh = ops.log1p(2 * ops.square(ops.sinh(small / 2)))
    close = ops.exp((log_p + log_q) / 2) * (small * ops.sinh(small) - ops.cosh(small) * log_cosh)
    log_m = ops.logaddexp(log_p, log_q) - 0.6931471805599453
    apart = (ops.exp(log_p) * (log_p - log_m) + ops.exp(log_q) * (log_q - log_m)) / 2
    return ops.where(near, close, apart)


SIMPLE: dict[str, Callable[[], Reduction]] = {
    "sum": Sum,
    "mean": Mean,
    "max": Max,
    "logsumexp": LogSumExp,
    "l2": L2,
    "jsd": Jsd,
    "profile": Profile,
}


def make_reduction(kind: str) -> Reduction:
    """The reduction of this kind, which :func:`fastism_cli.options.choices.check_reduction` has checked."""
    if kind.startswith("center:"):
        return Center(int(kind.partition(":")[2]))
    return SIMPLE[kind]()


def position_axes(shape: Shape) -> Shape:
    """The axes that are reduced: all but the last, or the only one."""
    return tuple(shape[:-1]) or tuple(shape)


def as_positions(x: Any) -> Any:
    """(batch, *positions, T) -> (batch, n, T); (batch, n) -> (batch, n, 1)."""
    if len(x.shape) == 2:
        return ops.expand_dims(x, -1)
    return ops.reshape(x, (x.shape[0] or -1, _product(x.shape[1:-1]), x.shape[-1]))


def _product(sizes: Shape) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


class Log2:
    """``log2(y + added)``: a difference of two is a fold change. NaN where ``y`` is below ``-added``."""

    def __init__(self, added: float) -> None:
        self.added = added
        self.name = "log2"

    def __call__(self, x: Any) -> Any:
        return ops.log2(x + self.added)


class Select:
    """Some entries of the last axis, in this order: the targets that are stored, or another order of the letters."""

    def __init__(self, entries: tuple[int, ...]) -> None:
        self.entries = entries
        self.name = "select"

    def __call__(self, x: Any) -> Any:
        return ops.take(x, list(self.entries), axis=-1)
