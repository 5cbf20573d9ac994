"""A model as a flat list of nodes over numbered tensors, and the weights of several models: plain data, no Keras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keras import ops

from fastism_cli.model import backend

Shape = tuple[int, ...]
# Role of a node whose output counts as unchanged: its layer is a ReferenceTensor.
REFERENCE = "reference"
# Role of a node that no forward pass has: it carries another window of a tensor (see engine/split_windows.py).
FURTHER_WINDOW = "further window"
# Role of a node that Keras runs, though its layer has a rule: `reason` says why.
OPAQUE = "opaque"
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Tensor:
    """One tensor of the model: ``shape`` has no batch axis."""

    shape: Shape
    dtype: str


@dataclass(frozen=True)
class Input:
    """The place of a node's input among the arguments of its call: ``inputs[number]``."""

    number: int


@dataclass(frozen=True)
class Node:
    """One call of one layer.

    ``call`` takes the arrays of ``inputs`` (tensor numbers, in order), and if wanted another layer to call with
    the same arguments; it returns the arrays of ``outputs``.
    ``role`` is "layer", "linear" / "activation" for the two halves of a layer that was split, or one of those above.
    ``arguments`` are the positional and the named ones of the call, with an :class:`Input` for every tensor.
    ``reason`` says why the layer was not opened, if that was tried.
    ``on_reference`` takes and returns the same as ``call``, and is the shorter way where all inputs are the reference.
    """

    index: int
    name: str
    layer: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    call: Callable[..., list[Any]]
    role: str = "layer"
    arguments: Arguments = ((), {})
    reason: str = ""
    on_reference: Callable[..., list[Any]] | None = None

    @property
    def class_name(self) -> str:
        return type(self.layer).__name__


class ReferenceTensor:
    """Layer of a node that hands its input on: to every reader the tensor is as it is on the reference."""

    name = "reference"

    def __call__(self, x: Any) -> Any:
        return x


@dataclass(frozen=True)
class Port:
    """A named input or output of the model."""

    name: str
    tensor: int


@dataclass(frozen=True)
class LayerGraph:
    """Nodes in topological order over numbered tensors."""

    nodes: tuple[Node, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    keeps_masks: bool

    def consumers(self) -> dict[int, list[int]]:
        """The nodes that read each tensor, once for every time that they read it."""
        readers: dict[int, list[int]] = {t: [] for t in range(len(self.tensors))}
        for node in self.nodes:
            for tensor in node.inputs:
                readers[tensor].append(node.index)
        return readers

    def run(self, inputs: Sequence[Any]) -> dict[int, Any]:
        """Every tensor of the model for these input arrays, in the order of ``self.inputs``."""
        return dict(backend.of_any_batch(self._run, inputs)(inputs))

    def _run(self, inputs: Sequence[Any]) -> dict[int, Any]:
        values = {port.tensor: value for port, value in zip(self.inputs, inputs, strict=True)}
        for node in self.nodes:
            call = node.on_reference or node.call
            values.update(zip(node.outputs, call([values[t] for t in node.inputs]), strict=True))
        return values

    def renamed(self, inputs: Sequence[str], outputs: Sequence[str]) -> LayerGraph:
        """The graph with other names for its inputs and outputs."""
        ports = [
            tuple(Port(name, port.tensor) for name, port in zip(names, old, strict=True))
            for names, old in ((inputs, self.inputs), (outputs, self.outputs))
        ]
        return replace(self, inputs=ports[0], outputs=ports[1])

    def extended(self, nodes: Sequence[Node], tensors: Sequence[Tensor], outputs: Sequence[Port]) -> LayerGraph:
        """The graph with other nodes (numbered again), more tensors and other outputs."""
        numbered = tuple(replace(node, index=i) for i, node in enumerate(nodes))
        return replace(self, nodes=numbered, tensors=(*self.tensors, *tensors), outputs=tuple(outputs))


# --- the weights of several models -----------------------------------------------------------------------------------


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
