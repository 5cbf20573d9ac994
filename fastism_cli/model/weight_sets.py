"""The weights of several models of one architecture, for a program that is compiled once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops


class WeightSets:
    """What the variables of a model hold: its own values, or those of another model of the same architecture.

    Whatever is compiled reads the variables when it is called, so it computes the model whose set is in use.

    Attributes
    ----------
    variables : list of Keras variables
    current : int
        The number of the set in use; 0 is that of the model itself.
    """

    def __init__(self, variables: Sequence[Any]) -> None:
        self.variables = list(variables)
        self.current = 0
        self._sets: list[list[Any]] = []

    def add(self, variables: Sequence[Any]) -> int:
        """Keep the values of another model's variables, of the same shapes in the same order; returns their number."""
        if not self._sets:
            self._sets.append(_values(self.variables))
        self._sets.append(_values(variables))
        return len(self._sets) - 1

    def drop_last(self) -> None:
        """Forget the set that was added last, which is not in use."""
        self._sets.pop()

    def use(self, number: int) -> None:
        """Put the values of a set into the variables."""
        if number == self.current:
            return
        for variable, value in zip(self.variables, self._sets[number], strict=True):
            variable.assign(value)
        self.current = number


def _values(variables: Sequence[Any]) -> list[Any]:
    return [ops.copy(variable) for variable in variables]
