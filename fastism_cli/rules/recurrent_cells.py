"""The cells of recurrent layers: LSTMCell, GRUCell, SimpleRNNCell, one position at a time.

Each cell is written twice: how its states follow from those before (:meth:`CellSteps.advance`), and how a change of its
states follows from one before and from a change of its input (:meth:`CellSteps.change`). A change is carried as a
difference, and so is seen to die: the difference of two states that were computed apart stays at their rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from fastism_cli.model.adapt import is_keras_function

# Half of the last bit of a number of each type, relative to the numbers of a state: what is smaller is rounding.
ROUNDING = {"float64": 2.0**-54, "float32": 2.0**-25, "float16": 2.0**-12, "bfloat16": 2.0**-9}

Stage = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class CellSteps:
    """Base of the three cells.

    Arrays of one position are (rows, units) in :meth:`advance`; of a change (S, P, A, units), beside numbers of the
    reference (S, P, 1, n). A cell has ``n_states`` states, the first of which is its output, and ``n_gates`` blocks of
    ``units`` columns in its kernels.
    """

    cell: Any
    n_states = 1
    n_gates = 1

    @property
    def units(self) -> int:
        return int(self.cell.units)

    @property
    def functions(self) -> list[Any]:
        """The activations."""
        return [self.cell.activation]

    def projected(self, x: Any) -> Any:
        """Inputs (..., channels) times the kernel, (..., n_gates * units)."""
        return times(x, self.cell.kernel)

    def with_bias(self, x: Any) -> Any:
        return x + self.cell.bias if self.cell.use_bias else x

    def advance(self, projected: Any, states: Sequence[Any]) -> list[Any]:
        """The states after a position, from its projected input and the states before it."""
        raise NotImplementedError

    def kept(self, projected: Any, before: Sequence[Any], after: Sequence[Any]) -> list[Any]:
        """What :meth:`change` needs of the reference: arrays (S, L, n).

        ``before`` and ``after`` are the states (S, L, units) on either side of each position.
        """
        raise NotImplementedError

    def values(self, kept: Any) -> list[Any]:
        """New values (not changes) that are carried on beside the changes, as they are before a position."""
        return []

    def recurrent(self, kept: Any, projected: Any, changes: Sequence[Any], stage: Stage) -> Any:
        """The change of the states times the recurrent kernel, (S, P, A, n_gates * units)."""
        return times(changes[0], self.cell.recurrent_kernel)

    def change(self, kept: Any, projected: Any, recurrent: Any, changes: Sequence[Any]) -> list[Any]:
        """How the states change after a position, from the change before it; behind them, the new values.

        ``projected`` is the change of the input, times the kernel; None where the input does not change.
        """
        raise NotImplementedError

    @property
    def stages(self) -> bool:
        """Whether the activations can be compiled: those of a user may be any code."""
        return all(map(is_keras_function, self.functions))


class LSTMSteps(CellSteps):
    """``c' = f * c + i * g``, ``h' = o * tanh(c')``.

    Kept: the sums in the gates, ``c``, ``c'``, the gates themselves, ``tanh(c')``.

    The new value of ``c`` is carried on beside its change. A cell that forgets slowly has a large ``c``, of which
    tanh hides the rounding. Where a change brings ``c`` near 0, ``c`` plus its change would show it.
    """

    n_states = 2
    n_gates = 4

    @property
    def functions(self) -> list[Any]:
        return [self.cell.activation, self.cell.recurrent_activation]

    def gates(self, z: Any) -> list[Any]:
        i, f, g, o = blocks(z, self.units, 4)
        act, gate = self.cell.activation, self.cell.recurrent_activation
        return [of_rows(gate, i), of_rows(gate, f), of_rows(act, g), of_rows(gate, o)]

    def advance(self, projected: Any, states: Sequence[Any]) -> list[Any]:
        h, c = states
        i, f, g, o = self.gates(self.with_bias(projected + times(h, self.cell.recurrent_kernel)))
        c = f * c + i * g
        return [o * self.cell.activation(c), c]

    def kept(self, projected: Any, before: Sequence[Any], after: Sequence[Any]) -> list[Any]:
        z = self.with_bias(projected + times(before[0], self.cell.recurrent_kernel))
        return [z, before[1], after[1], *self.gates(z), self.cell.activation(after[1])]

    def values(self, kept: Any) -> list[Any]:
        return [blocks(kept, self.units, 5)[4]]

    def change(self, kept: Any, projected: Any, recurrent: Any, changes: Sequence[Any]) -> list[Any]:
        parts = blocks(kept, self.units, 11)
        z, (c, after), gates, y = parts[:4], parts[4:6], parts[6:10], parts[10]
        moved = blocks(recurrent if projected is None else recurrent + projected, self.units, 4)
        act, gate = self.cell.activation, self.cell.recurrent_activation
        pairs = [moved_by(f, x, d, old=y) for f, x, d, y in zip((gate, gate, act, gate), z, moved, gates, strict=True)]
        (i, di), (f, df), (g, dg), (o, do) = pairs
        dc = (f + df) * changes[1] + df * c + (i + di) * dg + di * g
        new = (f + df) * changes[2] + (i + di) * (g + dg)
        y, dy = moved_by(act, after, dc, new, old=y)
        return [(o + do) * dy + do * y, dc, new]


class GRUSteps(CellSteps):
    """``h' = z * h + (1 - z) * g``, with a reset gate before or after the product of ``h`` and its kernel.

    Kept: the sums in ``z`` and ``r``, that in ``g``, ``h``, and ``z``, ``r``, ``g`` themselves; if the reset comes
    after it, the product too.
    """

    n_gates = 3

    @property
    def functions(self) -> list[Any]:
        return [self.cell.activation, self.cell.recurrent_activation]

    def gate(self, x: Any) -> Any:
        return of_rows(self.cell.recurrent_activation, x)

    def biases(self) -> tuple[Any, Any]:
        """Of the inputs and of the recurrence; 0 where there is none."""
        if not self.cell.use_bias:
            return 0.0, 0.0
        bias = ops.convert_to_tensor(self.cell.bias)
        return (bias[0], bias[1]) if self.cell.reset_after else (bias, 0.0)

    def sums(self, projected: Any, h: Any) -> tuple[Any, Any, Any]:
        """The sums in the gates ``z`` and ``r`` side by side, that in ``g``, and what the reset gate multiplies."""
        units, kernel = self.units, ops.convert_to_tensor(self.cell.recurrent_kernel)
        of_input, of_state = self.biases()
        projected = projected + of_input
        gates, rest = projected[..., : 2 * units], projected[..., 2 * units :]
        if self.cell.reset_after:
            product = times(h, kernel) + of_state
            gates, product = gates + product[..., : 2 * units], product[..., 2 * units :]
            reset = self.gate(gates[..., units:])
            return gates, rest + reset * product, product
        gates = gates + times(h, kernel[:, : 2 * units])
        reset = self.gate(gates[..., units:])
        return gates, rest + times(reset * h, kernel[:, 2 * units :]), h

    def advance(self, projected: Any, states: Sequence[Any]) -> list[Any]:
        (h,) = states
        gates, inner, _ = self.sums(projected, h)
        z = self.gate(gates[..., : self.units])
        return [z * h + (1 - z) * self.cell.activation(inner)]

    def kept(self, projected: Any, before: Sequence[Any], after: Sequence[Any]) -> list[Any]:
        gates, inner, product = self.sums(projected, before[0])
        values = [self.gate(gates), self.cell.activation(inner)]
        return [gates, inner, before[0], *values, *([product] if self.cell.reset_after else [])]

    def recurrent(self, kept: Any, projected: Any, changes: Sequence[Any], stage: Stage) -> Any:
        kernel = ops.convert_to_tensor(self.cell.recurrent_kernel)
        if self.cell.reset_after:
            return times(changes[0], kernel)
        gates = times(changes[0], kernel[:, : 2 * self.units])
        return gates, times(stage(self.reset_change)(kept, projected, gates, changes[0]), kernel[:, 2 * self.units :])

    def reset_change(self, kept: Any, projected: Any, gates: Any, dh: Any) -> Any:
        """The change of ``r * h``."""
        _, sum_r, _, h, _, r = blocks(kept, self.units, 6)
        moved = gates if projected is None else gates + projected[..., : 2 * self.units]
        r, dr = moved_by(self.cell.recurrent_activation, sum_r, moved[..., self.units :], old=r)
        return (r + dr) * dh + dr * h

    def change(self, kept: Any, projected: Any, recurrent: Any, changes: Sequence[Any]) -> list[Any]:
        units, (dh,) = self.units, changes
        sum_z, sum_r, inner, h, z, r, g, *product = blocks(kept, units, 8 if self.cell.reset_after else 7)
        if self.cell.reset_after:
            gates, of_state = recurrent[..., : 2 * units], recurrent[..., 2 * units :]
        else:
            gates, of_state = recurrent
        if projected is not None:
            gates = gates + projected[..., : 2 * units]
        z, dz = moved_by(self.cell.recurrent_activation, sum_z, gates[..., :units], old=z)
        if self.cell.reset_after:
            r, dr = moved_by(self.cell.recurrent_activation, sum_r, gates[..., units:], old=r)
            of_state = (r + dr) * of_state + dr * product[0]
        moved = of_state if projected is None else of_state + projected[..., 2 * units :]
        g, dg = moved_by(self.cell.activation, inner, moved, old=g)
        return [(z + dz) * dh + dz * (h - g) + (1 - z - dz) * dg]


class SimpleRNNSteps(CellSteps):
    """``h' = tanh(x @ kernel + bias + h @ recurrent_kernel)``. Kept: the sum, and ``h'``."""

    def with_bias(self, x: Any) -> Any:
        return x + self.cell.bias if self.cell.bias is not None else x

    def advance(self, projected: Any, states: Sequence[Any]) -> list[Any]:
        inner = self.with_bias(projected) + times(states[0], self.cell.recurrent_kernel)
        return [self.cell.activation(inner)]

    def kept(self, projected: Any, before: Sequence[Any], after: Sequence[Any]) -> list[Any]:
        return [self.with_bias(projected) + times(before[0], self.cell.recurrent_kernel), after[0]]

    def change(self, kept: Any, projected: Any, recurrent: Any, changes: Sequence[Any]) -> list[Any]:
        moved = recurrent if projected is None else recurrent + projected
        inner, y = blocks(kept, self.units, 2)
        return [moved_by(self.cell.activation, inner, moved, old=y)[1]]


CELLS: dict[type, type[CellSteps]] = {
    layers.LSTMCell: LSTMSteps,
    layers.GRUCell: GRUSteps,
    layers.SimpleRNNCell: SimpleRNNSteps,
}


def steps_of(cell: Any) -> CellSteps:
    return CELLS[type(cell)](cell)


def times(x: Any, kernel: Any) -> Any:
    """(..., n) times (n, m), as one product of matrices."""
    kernel = ops.convert_to_tensor(kernel)
    if len(x.shape) == 2:
        return ops.matmul(x, kernel)
    shape = ops.shape(x)
    return ops.reshape(ops.matmul(ops.reshape(x, (-1, x.shape[-1])), kernel), (*shape[:-1], kernel.shape[1]))


def blocks(x: Any, units: int, n: int) -> list[Any]:
    """The ``n`` blocks of ``units`` columns with which an array begins."""
    return [x[..., k * units : (k + 1) * units] for k in range(n)]


def moved_by(function: Callable[[Any], Any], x: Any, d: Any, new: Any = None, *, old: Any) -> tuple[Any, Any]:
    """``f(x)`` and ``f(x + d) - f(x)``; ``new`` is ``x + d`` where that is known better than by adding them.

    Where ``d`` is small, the difference of sigmoid and tanh is written without a difference of two rounded numbers, by
    their addition theorems and series of ``exp(d) - 1`` and of ``tanh(d)``: a state that forgets slowly would add
    those roundings up. ``old`` is ``f(x)`` as it was kept: it can differ in its last bit from what is computed here,
    so that a function without such a series is computed again.
    """
    is_sigmoid, is_tanh = function is keras.activations.sigmoid, function is keras.activations.tanh
    old = old if is_sigmoid or is_tanh else of_rows(function, x)
    direct = of_rows(function, x + d if new is None else new) - old
    if is_sigmoid:
        e = d * (1 + d / 2 * (1 + d / 3 * (1 + d / 4)))
        close = old * (1 - old) * e / (1 + old * e)
    elif is_tanh:
        e = d * (1 - d * d / 3 * (1 - 0.4 * d * d))
        close = (1 - old * old) * e / (1 + old * e)
    elif new is None:
        return old, direct
    else:
        close = of_rows(function, x + d) - old
    # below these, what the series leave out is less than a rounding
    limit = 2.0**-12 if keras.backend.standardize_dtype(d.dtype) == "float64" else 2.0**-5
    return old, ops.where(ops.abs(d) < limit, close, direct)


def of_rows(function: Callable[[Any], Any], x: Any) -> Any:
    """An activation of (..., units), which is given (rows, units) as Keras gives it."""
    return ops.reshape(function(ops.reshape(x, (-1, x.shape[-1]))), ops.shape(x))
