"""Write recurrent layers as nodes of one direction and one cell each, and try out how long a change lives in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial
from math import ceil
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from fastism_cli.engine.planner import Propagation, period_of
from fastism_cli.engine.rewrite import pruned
from fastism_cli.engine.simpler_operations import operation_node
from fastism_cli.model import backend
from fastism_cli.model.adapt import random_inputs
from fastism_cli.model.graph import REFERENCE, Arguments, Input, LayerGraph, Node, Tensor
from fastism_cli.model.keras_graph import all_layers, has_own_call, quantisation
from fastism_cli.rules.base import Window
from fastism_cli.rules.frames import Blocks, Frame
from fastism_cli.rules.recurrent import Carry, Recurrence, States, kept_of
from fastism_cli.rules.recurrent_cells import CELLS, steps_of
from fastism_cli.rules.window_rows import rows_at

ONE_DIRECTION = (layers.LSTM, layers.GRU, layers.SimpleRNN, layers.RNN)
RECURRENT_LAYERS = (*ONE_DIRECTION, layers.Bidirectional)
MERGES: dict[str, Callable[[str], Any]] = {
    "concat": lambda name: layers.Concatenate(axis=-1, name=name),
    "sum": lambda name: layers.Add(name=name),
    "ave": lambda name: layers.Average(name=name),
    "mul": lambda name: layers.Multiply(name=name),
}
# Substitutions of a trial, in TRIED_SEQUENCES random sequences; and how much wider than the longest life of them a
# window is.
TRIED_SEQUENCES, TRIED_POSITIONS = 2, 32
WIDER, POSITIONS_MORE = 1.3, 8
PLANNED_POSITIONS = 256

# How many positions behind its window a change lives at most, by Recurrence.place.
Lives = Mapping[tuple[int, ...], int]


def with_recurrences_apart(
    graph: LayerGraph, input_tensor: int, lives: Lives | None = None, *, width: int = 1
) -> LayerGraph:
    """The graph in which recurrent layers that a window reaches are nodes of one direction and one cell.

    The others, of which all the input changes, stay as they are: Keras runs them.

    Parameters
    ----------
    graph : LayerGraph
        As :func:`fastism_cli.engine.rewrite.rewritten` left it.
    lives : mapping, optional
        From :func:`tried`. Without it, a change is taken to reach the end of the sequence.
    width : int
        Of the blocks that are changed.
    """
    candidates = {node.index for node in graph.nodes if _is_readable(node, graph)}
    if not candidates:
        return graph
    written = _written(graph, candidates, lives or {})
    found = _propagated(written, input_tensor, width)
    reached = {
        node.layer.place[0]
        for node in written.nodes
        if isinstance(node.layer, Recurrence) and found.rules.get(node.index) is not None
    }
    return written if reached == candidates else _written(graph, reached, lives or {})


def _propagated(graph: LayerGraph, input_tensor: int, width: int) -> Propagation:
    length = graph.tensors[input_tensor].shape[0]
    period = period_of(graph, input_tensor, Blocks(width, range(length)))
    return Propagation(graph, input_tensor, range(min(period, length, PLANNED_POSITIONS)), Fraction(period), width)


# --- which layers -----------------------------------------------------------------------------------------------------


def _is_readable(node: Node, graph: LayerGraph) -> bool:
    """Whether a node is a recurrent layer of Keras over its own cells, called without a mask."""
    layer: Any = node.layer
    is_both = type(layer) is layers.Bidirectional
    ones = [layer.forward_layer, layer.backward_layer] if is_both else [layer]
    if node.role != "layer" or not all(type(one) in ONE_DIRECTION for one in ones) or _initial(node) is None:
        return False
    if any(map(has_own_call, all_layers(layer))) or quantisation(layer):
        return False
    cells = [cell for one in ones for cell in _cells(one)]
    if not all(type(cell) in CELLS for cell in cells):
        return False
    if is_both and (layer.merge_mode not in (*MERGES, None) or len({one.return_sequences for one in ones}) > 1):
        return False
    n_states = sum(steps_of(cell).n_states for cell in cells)
    x = graph.tensors[node.inputs[0]]
    types = {one.compute_dtype for one in (layer, *ones, *cells)} | {str(w.dtype) for w in layer.weights}
    return len(x.shape) == 2 and types == {x.dtype} and len(_initial(node) or []) in (0, n_states)


def _cells(layer: Any) -> list[Any]:
    """The cells, from the input to the output."""
    cell = layer.cell
    return list(cell.cells) if type(cell) is layers.StackedRNNCells else [cell]


def _initial(node: Node) -> list[int] | None:
    """The numbers of the inputs that are initial states; None if the call is another than is known here."""
    args, kwargs = node.arguments
    given = dict(zip(("sequences", "initial_state", "mask", "training"), args, strict=False)) | kwargs
    initial = keras.tree.flatten(given.get("initial_state")) if given.get("initial_state") is not None else []
    if not isinstance(given.get("sequences"), Input) or given["sequences"].number != 0 or given.get("mask") is not None:
        return None
    if not all(isinstance(state, Input) for state in initial) or len(initial) != len(node.inputs) - 1:
        return None
    return [state.number for state in initial]


# --- the new nodes ----------------------------------------------------------------------------------------------------


def _written(graph: LayerGraph, chosen: set[int], lives: Lives) -> LayerGraph:
    writer = _Writer(graph, lives)
    for node in graph.nodes:
        if node.index in chosen:
            writer.write(node)
        else:
            writer.nodes.append(node)
    return pruned(graph.extended(writer.nodes, writer.tensors, graph.outputs))


@dataclass(frozen=True)
class _Direction:
    """A layer of one direction: the node itself, or one of the two in Bidirectional.

    Attributes
    ----------
    number : int
        Which of the two.
    flips : bool
        Whether its output at all positions is the wrong way round.
    initial : tuple of int
        Tensors with the initial states of all cells.
    output : int
        The tensor of its output.
    states : tuple of int
        The tensors of its last states, if it returns them.
    """

    node: Node
    layer: Any
    number: int
    flips: bool
    initial: tuple[int, ...]
    output: int
    states: tuple[int, ...]

    @property
    def name(self) -> str:
        if self.layer is self.node.layer:
            return self.node.name
        return f"{self.node.name}: {'backward' if self.number else 'forward'}"

    @property
    def class_name(self) -> str:
        return type(self.layer).__name__


class _Writer:
    """Collects the nodes of the new graph. Old tensors keep their numbers."""

    def __init__(self, graph: LayerGraph, lives: Lives) -> None:
        self.graph, self.lives = graph, lives
        self.nodes: list[Node] = []
        self.tensors: list[Tensor] = []

    def write(self, node: Node) -> None:
        """Enter the nodes that replace this one."""
        layer: Any = node.layer
        initial = tuple(node.inputs[i] for i in _initial(node) or [])
        if type(layer) is not layers.Bidirectional:
            output, *states = node.outputs
            flips = layer.go_backwards and layer.return_sequences
            self._enter_direction(_Direction(node, layer, 0, flips, initial, output, tuple(states)))
            return
        outputs, states = list(node.outputs), []
        n_outputs = 2 if layer.merge_mode is None else 1
        outputs, states = outputs[:n_outputs], outputs[n_outputs:]
        # the output of the second layer is turned round, so that it lies as that of the first
        ones = [(layer.forward_layer, True), (layer.backward_layer, False)]
        made = []
        for i, (one, is_first) in enumerate(ones):
            made.append(outputs[i] if n_outputs == 2 else self._tensor(node, self._shape(node, one)))
            flips = one.return_sequences and one.go_backwards == is_first
            own = [tuple(half(tensors, i)) for tensors in (initial, states)]
            self._enter_direction(_Direction(node, one, i, flips, own[0], made[i], own[1]))
        if n_outputs == 1:
            self.nodes.append(_merged(node, made, outputs[0]))

    def _enter_direction(self, way: _Direction) -> None:
        """Every cell of a stack reads the outputs of the one before."""
        node, x, cells, first = way.node, way.node.inputs[0], _cells(way.layer), 0
        backwards, sequences = way.layer.go_backwards, way.layer.return_sequences
        for i, cell in enumerate(cells):
            n, is_last = steps_of(cell).n_states, i == len(cells) - 1
            own, wanted = way.initial[first : first + n], way.states[first : first + n]
            first += n
            name = way.name if len(cells) == 1 else f"{way.name}, cell {i + 1}"
            place = (node.index, way.number, i)
            read = Recurrence(name, way.class_name, cell, backwards, "", place, self.lives.get(place))
            shape = (*self.graph.tensors[node.inputs[0]].shape[:1], int(cell.units))
            states = self._tensor(node, (shape[0], n * shape[1]))
            of_states = States(name, cell, backwards)
            self.nodes.append(Node(0, name, of_states, (x, *own), (states,), of_states, REFERENCE))
            inputs = (x, states, *own)
            if is_last and not sequences and not wanted:
                self._enter(node, replace(read, gives="last"), inputs, way.output)
            if wanted:
                last = self._tensor(node, (n * shape[1],))
                self._enter(node, replace(read, gives="states"), inputs, last)
                given = [*enumerate(wanted), *([(0, way.output)] if is_last and not sequences else [])]
                self.nodes += [_item(node, last, k, shape[1], tensor) for k, tensor in given]
            if not is_last or sequences:
                x = self._tensor(node, shape) if not is_last or way.flips else way.output
                self._enter(node, replace(read, gives="sequence"), inputs, x)
        if way.flips:
            self.nodes.append(operation_node(node, "flip", (x,), way.output, axis=1))

    def _enter(self, node: Node, layer: Recurrence, inputs: tuple[int, ...], output: int) -> None:
        self.nodes.append(Node(0, layer.name, layer, inputs, (output,), layer, on_reference=layer.on_reference))

    def _shape(self, node: Node, layer: Any) -> tuple[int, ...]:
        """The shape of the output of one of the layers in Bidirectional."""
        units = int(_cells(layer)[-1].units)
        return (self.graph.tensors[node.inputs[0]].shape[0], units) if layer.return_sequences else (units,)

    def _tensor(self, node: Node, shape: tuple[int, ...]) -> int:
        self.tensors.append(Tensor(shape, self.graph.tensors[node.outputs[0]].dtype))
        return len(self.graph.tensors) + len(self.tensors) - 1


def half(tensors: Sequence[int], number: int) -> Sequence[int]:
    """The first or the second half."""
    middle = len(tensors) // 2
    return tensors[middle:] if number else tensors[:middle]


def _item(node: Node, last: int, number: int, units: int, output: int) -> Node:
    """One of the states that lie side by side."""
    key = (slice(None), slice(number * units, (number + 1) * units))
    return operation_node(node, "getitem", (last,), output, given=(key,))


def _merged(node: Node, directions: Sequence[int], output: int) -> Node:
    layer: Any = node.layer
    merge = MERGES[layer.merge_mode](node.name)
    arguments: Arguments = (([Input(0), Input(1)],), {})

    def call(arrays: Sequence[Any]) -> list[Any]:
        return [merge(list(arrays))]

    return Node(0, node.name, merge, tuple(directions), (output,), call, arguments=arguments)


# --- the trial --------------------------------------------------------------------------------------------------------


def tried(graph: LayerGraph, input_tensor: int, variables: Sequence[Any], *, width: int = 1) -> Lives:
    """How many positions behind its window a change lives in each recurrence, by random changes.

    In random sequences, all letters of blocks from the first to the last are replaced. The longest life is taken, and a
    margin: a chunk of more changes in which one lives longer is computed once more, with the change followed to the
    end.

    Parameters
    ----------
    graph : LayerGraph
        As :func:`fastism_cli.engine.rewrite.rewritten` left it.
    width : int
        Of the blocks.
    """
    lives: dict[tuple[int, ...], int] = {}
    trial, is_tried = _Trial(graph, input_tensor, variables, width), set[tuple[int, ...]]()
    while True:
        # a recurrence may have a window, and be worth a trial, only because those before it are known to have one
        written = with_recurrences_apart(graph, input_tensor, lives, width=width)
        found = (node for node in written.nodes if isinstance(node.layer, Recurrence))
        node = next((node for node in found if node.layer.place not in is_tried), None)
        if node is None:
            return lives
        is_tried.add(node.layer.place)
        longest = trial.longest(written, node)
        if longest is not None:
            lives[node.layer.place] = ceil(WIDER * longest) + POSITIONS_MORE


class _Trial:
    """Random sequences, and the same with the letters of one block replaced, through the model."""

    def __init__(self, graph: LayerGraph, input_tensor: int, variables: Sequence[Any], width: int) -> None:
        self.graph, self.input_tensor, self.variables, self.width = graph, input_tensor, variables, width
        rng = np.random.default_rng(0)
        length, letters = graph.tensors[input_tensor].shape
        self.positions = np.unique(np.linspace(0, length - width, TRIED_POSITIONS).astype("int32"))
        codes = rng.integers(0, letters, (TRIED_SEQUENCES, length))
        new = np.repeat(codes[:, None], len(self.positions), axis=1)
        at = np.arange(len(self.positions))
        block = self.positions[:, None] + np.arange(width)
        new[:, at[:, None], block] += rng.integers(1, max(letters, 2), (*new.shape[:2], width))
        self.codes = codes, new.reshape(-1, length) % letters
        self.others = {
            port.tensor: random_inputs([(graph.tensors[port.tensor].shape, graph.tensors[port.tensor].dtype)])[0]
            for port in graph.inputs
            if port.tensor != input_tensor
        }

    @cached_property
    def values(self) -> list[dict[int, Any]]:
        """Every tensor of the model, on the sequences and on those with a block replaced."""
        return self.run(self.graph)

    def run(self, graph: LayerGraph) -> list[dict[int, Any]]:
        letters = self.graph.tensors[self.input_tensor].shape[1]
        found = []
        for codes in self.codes:
            inputs = [
                np.eye(letters)[codes]
                if port.tensor == self.input_tensor
                else np.resize(self.others[port.tensor], (len(codes), *graph.tensors[port.tensor].shape))
                for port in graph.inputs
            ]
            types = [graph.tensors[port.tensor].dtype for port in graph.inputs]
            tensors = [ops.convert_to_tensor(x, dtype=dtype) for x, dtype in zip(inputs, types, strict=True)]
            found.append(graph.run(tensors))
        return found

    def longest(self, written: LayerGraph, node: Node) -> int | None:
        """Positions behind its window in which a change lives, at most; None if it has no window here."""
        tensor, _, *initial = node.inputs
        places = self.positions.tolist()
        state = Propagation(written, self.input_tensor, places, Fraction(1), self.width).changed[tensor]
        if not isinstance(state, Window):
            return None
        old, new = self.values if tensor < len(self.graph.tensors) else self.run(written)
        given = [old[t] for t in initial]
        life = backend.compiled(partial(_life, node.layer, state.frame), self.variables)
        return int(backend.to_numpy(life(old[tensor], new[tensor], *given)))


def _life(layer: Recurrence, frame: Frame, old: Any, new: Any, *initial: Any) -> Any:
    """Steps behind the frames until no change is above rounding: inputs (S, L, channels) and (S * P, L, channels)."""
    states = States(layer.name, layer.cell, layer.backwards)([old, *initial])[0]
    kept = kept_of(layer, old, states, *initial)
    positions, sequences = len(frame.starts), old.shape[0]
    change = ops.reshape(new, (sequences, positions, 1, *new.shape[1:])) - old[:, None, None]
    first = np.asarray(frame.starts, "int32")
    rows = rows_at(change, ops.convert_to_tensor(first[:, None] + np.arange(frame.width, dtype="int32")))
    carry = Carry(layer, kept, frame.length, lambda function: function)
    return carry.on(rows, ops.convert_to_tensor(first), frame.length, rows=False).behind
