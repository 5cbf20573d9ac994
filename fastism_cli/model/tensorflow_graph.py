"""Read a function that is written with TensorFlow as operations of Keras.

TensorFlow traces the function once; the graph that comes of it is read operation by operation
(https://www.tensorflow.org/guide/intro_to_graphs). So it does not matter by which name the function calls TensorFlow:
``tf.nn``, ``tf.math``, ``tf.keras.backend``, operators, or NumPy for its constants. What depends on weights and
constants alone is computed while it is read. A call of a Keras layer stays a call of that layer.

The number of sequences is not known in such a graph. What is computed from it, such as ``tf.shape(x)``, is computed for
two numbers, and so it shows what depends on it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import RLock, get_ident
from typing import Any, NamedTuple

import keras
import numpy as np

from fastism_cli.model.graph import Input
from fastism_cli.model.tensorflow_arithmetic import ELEMENTS, WINDOWS
from fastism_cli.model.tensorflow_axes import AXES
from fastism_cli.model.tensorflow_values import (
    BATCHES,
    Made,
    NotFollowedError,
    OfBatch,
    constant_of,
    is_symbol,
    is_symbolic,
    operand_of,
    settled,
)

# What each operation of a TensorFlow graph is in Keras, by the name that TensorFlow has for it.
OPERATIONS = {**ELEMENTS, **AXES, **WINDOWS}
MAX_ROUNDS = 256  # of a loop that is written out
MARK = "fastism_layer"


class _LayerCall(NamedTuple):
    """A call of a Keras layer, with an :class:`Input` for each tensor."""

    layer: Any
    args: Any
    kwargs: Any
    tensors: int


def as_keras_operations(function: Callable[..., Any], symbols: Sequence[Any], *, constants: bool = False) -> list[Any]:
    """The outputs of a function as symbols of Keras, made of others by layers and by ``keras.ops``.

    Parameters
    ----------
    function : callable
        Of as many tensors of TensorFlow as there are ``symbols``; returns tensors in any structure.
    symbols : sequence of keras.KerasTensor
        Shapes (None, ...).
    constants : bool
        Return an output that depends on no input as an array, such as a flag that is only set in training.

    Raises
    ------
    NotFollowedError
        If the function uses an operation that has no equal in Keras, or mixes sequences.
    """
    import tensorflow as tf

    specs = [tf.TensorSpec(x.shape, x.dtype) for x in symbols]
    calls: list[_LayerCall] = []

    def flat(*tensors: Any) -> list[Any]:
        return [tf.convert_to_tensor(y) for y in keras.tree.flatten(function(*tensors))]

    with _layers_marked(calls):
        graph = tf.function(flat, autograph=False).get_concrete_function(*specs).graph
    captured = {inner.name: outer for outer, inner in graph.captures}
    given = [captured.get(x.name) for x in graph.inputs]
    given = [next(rest) if x is None else x for rest in [iter(symbols)] for x in given]
    outputs = _Reading(calls).outputs(graph, given)
    if constants:
        outputs = [y if is_symbolic(y) else constant_of(y) for y in outputs]
    for y in outputs:
        if constants and isinstance(y, np.ndarray):
            continue
        if not is_symbol(y) or len(y.shape) == 0 or y.shape[0] is not None:
            raise NotFollowedError("its output is not one for each sequence")
    return outputs


_CALL_LOCK = RLock()


@contextmanager
def _layers_marked(calls: list[_LayerCall]) -> Iterator[None]:
    """Mark what Keras layers are given and return in the graph that this thread traces.

    Why by changing the class: a layer is called from the code of another, and Keras has no place to step in. Other
    threads see no difference; the lock keeps two threads from taking each other's method for that of Keras.
    """
    cls: Any = keras.Layer
    thread, inside = get_ident(), [False]

    def marked(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if get_ident() != thread or inside[0]:
                return original(self, *args, **kwargs)
            inside[0] = True
            try:
                outputs = original(self, *args, **kwargs)
            finally:
                inside[0] = False
            return _marked(calls, self, args, kwargs, outputs)

        return call

    with _CALL_LOCK:
        before = cls.__call__
        try:
            cls.__call__ = marked(before)
            yield
        finally:
            cls.__call__ = before


def _marked(calls: list[_LayerCall], layer: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """The outputs of a layer behind an operation that has its inputs too, and whose name says which call it is."""
    import tensorflow as tf

    tensors: list[Any] = []

    def place(x: Any) -> Any:
        if not tf.is_symbolic_tensor(x):
            return x
        tensors.append(x)
        return Input(len(tensors) - 1)

    given = keras.tree.map_structure(place, (args, {k: v for k, v in kwargs.items() if k != "training"}))
    found = keras.tree.flatten(outputs)
    if not tensors or not all(map(tf.is_symbolic_tensor, found)):
        return outputs
    calls.append(_LayerCall(layer, given[0], given[1], len(tensors)))
    both = tf.raw_ops.IdentityN(input=[*tensors, *found], name=f"{MARK}_{len(calls) - 1}")
    return keras.tree.pack_sequence_as(outputs, both[len(tensors) :])


class _Reading:
    """Goes through a graph. Values are tensors of TensorFlow, `OfBatch`, symbols of Keras, `Rows` and `Apart`."""

    def __init__(self, calls: Sequence[_LayerCall]) -> None:
        self.calls = calls
        self.made = Made()

    def outputs(self, graph: Any, given: Sequence[Any]) -> list[Any]:
        """The outputs of a graph whose inputs are ``given``."""
        values = {x.name: value for x, value in zip(graph.inputs, given, strict=True)}
        needed = self._needed(graph, values)
        for op in graph.get_operations():
            if op.type.startswith("Assign"):
                raise NotFollowedError("it changes weights while it computes")
            if op.name in needed:
                found = self._computed(op, [values[x.name] for x in self._inputs(op)], graph)
                values.update(zip((y.name for y in op.outputs), found, strict=True))
        return [values[y.name] for y in graph.outputs]

    def _needed(self, graph: Any, values: dict[str, Any]) -> set[str]:
        waiting, needed = [y for y in graph.outputs if y.name not in values], set[str]()
        while waiting:
            op = waiting.pop().op
            if op.name not in needed:
                needed.add(op.name)
                waiting += [x for x in self._inputs(op) if x.name not in values]
        return needed

    def _inputs(self, op: Any) -> list[Any]:
        call = self._call_of(op)
        return list(op.inputs)[: call.tensors] if call is not None else list(op.inputs)

    def _call_of(self, op: Any) -> _LayerCall | None:
        found = re.search(rf"(?:^|/){MARK}_(\d+)(?:_\d+)?$", op.name) if op.type == "IdentityN" else None
        return self.calls[int(found[1])] if found else None

    def _computed(self, op: Any, values: list[Any], graph: Any) -> list[Any]:
        call = self._call_of(op)
        if call is not None:
            return self._called(call, values, len(op.outputs))
        if op.type in CONTROL:
            return CONTROL[op.type](self, op, values, graph)
        if (op.op_def.is_stateful and op.type not in {*READS, *OPERATIONS}) or op.type == "Placeholder":
            raise NotFollowedError(f"it uses TensorFlow's {op.type}")
        if not any(map(is_symbolic, values)):
            return _evaluated(op, values)
        if op.type not in OPERATIONS:
            raise NotFollowedError(f"it uses TensorFlow's {op.type}")
        found = OPERATIONS[op.type](self.made, op, values)
        return found if isinstance(found, list) else [found]

    def _called(self, call: _LayerCall, values: list[Any], n_outputs: int) -> list[Any]:
        given = [x if is_symbol(x) else operand_of(x) for x in values]
        args, kwargs = keras.tree.map_structure(
            lambda x: given[x.number] if isinstance(x, Input) else x, (call.args, call.kwargs)
        )
        found = [*values, *keras.tree.flatten(call.layer(*args, **kwargs))]
        if len(found) != n_outputs:
            raise NotFollowedError(f"it uses {type(call.layer).__name__}, which returns something else for symbols")
        return found


# --- what depends on no input -----------------------------------------------------------------------------------------

READS = ("ReadVariableOp", "VarHandleOp", "ResourceGather", "ResourceGatherNd")


def _evaluated(op: Any, values: Sequence[Any]) -> list[Any]:
    if not any(isinstance(x, OfBatch) for x in values):
        return _run(op, values)
    each = [_run(op, [x.values[i] if isinstance(x, OfBatch) else x for x in values]) for i in range(len(BATCHES))]
    return [settled(found) for found in zip(*each, strict=True)]


def _run(op: Any, values: Sequence[Any]) -> list[Any]:
    """The outputs of one operation of TensorFlow, for tensors."""
    import tensorflow as tf

    if op.type == "Const":
        return [tf.constant(tf.make_ndarray(op.get_attr("value")))]
    function = getattr(tf.raw_ops, op.type)
    given, rest = {}, list(values)
    for argument in op.op_def.input_arg:
        count = _how_many(op, argument)
        given[argument.name] = rest[0] if count is None else rest[:count]
        del rest[: 1 if count is None else count]
    inferred = {name for a in op.op_def.input_arg for name in (a.type_attr, a.number_attr, a.type_list_attr) if name}
    given |= {a.name: op.get_attr(a.name) for a in op.op_def.attr if a.name not in inferred}
    found = function(**_as_python_calls_them(given, function))
    if not op.outputs:
        return []
    return list(found) if isinstance(found, (list, tuple)) else [found]


def _as_python_calls_them(given: dict[str, Any], function: Any) -> dict[str, Any]:
    """The arguments of an operation by the names in Python: ``axis`` is "dim" or "reduction_indices" in some graphs."""
    names = [name for name in inspect.signature(function).parameters if name != "name"]
    others = (name for name in names if name not in given)
    return {name if name in names else next(others, name): value for name, value in given.items()}


def _how_many(op: Any, argument: Any) -> int | None:
    """The length of an argument that is a list of tensors; None for one tensor."""
    if argument.number_attr:
        return int(op.get_attr(argument.number_attr))
    return len(op.get_attr(argument.type_list_attr)) if argument.type_list_attr else None


# --- functions that are called, branches, loops -----------------------------------------------------------------------


def _inside(graph: Any, function: Any) -> Any:
    name = function if isinstance(function, str) else function.name
    return graph._get_function(name).graph


def _call(reading: _Reading, op: Any, values: list[Any], graph: Any) -> list[Any]:
    return reading.outputs(_inside(graph, op.get_attr("f")), values)


def _branch(reading: _Reading, op: Any, values: list[Any], graph: Any) -> list[Any]:
    chosen = "then_branch" if bool(constant_of(values[0])) else "else_branch"
    return reading.outputs(_inside(graph, op.get_attr(chosen)), values[1:])


def _case(reading: _Reading, op: Any, values: list[Any], graph: Any) -> list[Any]:
    branches = op.get_attr("branches")
    index = int(constant_of(values[0]))
    return reading.outputs(_inside(graph, branches[index if 0 <= index < len(branches) else -1]), values[1:])


def _loop(reading: _Reading, op: Any, values: list[Any], graph: Any) -> list[Any]:
    goes_on, body = (_inside(graph, op.get_attr(name)) for name in ("cond", "body"))
    for _ in range(MAX_ROUNDS):
        if not bool(constant_of(reading.outputs(goes_on, values)[0])):
            return values
        values = reading.outputs(body, values)
    raise NotFollowedError(f"it uses a loop of more than {MAX_ROUNDS} rounds")


CONTROL: dict[str, Callable[[_Reading, Any, list[Any], Any], list[Any]]] = {
    "PartitionedCall": _call,
    "StatefulPartitionedCall": _call,
    "If": _branch,
    "StatelessIf": _branch,
    "Case": _case,
    "StatelessCase": _case,
    "While": _loop,
    "StatelessWhile": _loop,
}
