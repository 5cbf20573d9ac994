"""Replace custom layers, Lambdas, own activations and reductions by the Keras layers and operations that they use.

The ``call`` is run once with symbolic tensors. If it only calls layers and operations of Keras, these become nodes of
the graph, for which there are rules. If it calls TensorFlow, the graph that TensorFlow makes of it is read
(:mod:`fastism_cli.model.tensorflow_graph`). The nodes are compared with the layer itself on random numbers; if they
differ, or cannot be compared, the layer stays one node.

What a layer gives at inference whatever its input is, such as the flag of an augmentation, is a constant: the layers
that are given it are opened for that constant.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock
from typing import Any, NamedTuple

import keras
import numpy as np

from fastism_cli.engine.rewrite import opened
from fastism_cli.engine.simpler_operations import has_simpler_form, that_runs
from fastism_cli.model import backend
from fastism_cli.model.adapt import (
    agree,
    as_its_base,
    as_keras_layer,
    is_keras_function,
    keras_class,
    name_of,
    random_inputs,
)
from fastism_cli.model.graph import Input, LayerGraph, Node, Port, Tensor
from fastism_cli.model.heads import Head
from fastism_cli.model.keras_graph import all_layers, at_inference, layer_graph, operation_class
from fastism_cli.model.loading.keras2_layers import LEGACY_LAYERS
from fastism_cli.model.reductions import OwnReduction
from fastism_cli.model.tensorflow_graph import as_keras_operations
from fastism_cli.model.tensorflow_values import NotFollowedError
from fastism_cli.rules.table import rule_of

OPERATORS = ("__add__", "__sub__", "__mul__", "__truediv__", "__matmul__", "__pow__")
_OPERATORS_LOCK = RLock()
NOT_OPENED = ("keras.", "tf_keras.", "fastism_cli.")
# The random numbers of each sequence that a layer and its nodes are compared on are normal, times one of these.
MAGNITUDES = (1.0, 1e-3, 30.0)
# Of small numbers, 1 + x has the rounding of 1. An exponential of large ones makes the rounding larger: a softmax over
# products of them was 1e-5 off. How many times the usual rounding is let pass.
COMPARED = ((slice(0, 2), 1.0), (slice(2, 3), 30.0))


def with_layers_opened(graph: LayerGraph) -> LayerGraph:
    """The graph in which such layers, at any depth, are replaced by the nodes inside them."""
    nodes: list[Node] = []
    tensors: list[Tensor] = []
    known: dict[int, Any] = {}
    for given in graph.nodes:
        settled = _decided(_for_constants(given, known), graph)
        if not settled.inputs and given.inputs:
            known |= zip(given.outputs, settled.call([]), strict=True)
            continue
        for node in _with_activation_apart(_of_keras_class(opened(settled)), graph, tensors):
            inside = _inside(node, graph, tensors) if _may_be_opened(node) else node
            if isinstance(inside, Node):
                nodes.append(inside)
            else:
                known |= {node.outputs[i]: constant for i, constant in inside.constants.items()}
                changing = tuple(t for i, t in enumerate(node.outputs) if i not in inside.constants)
                whole = with_layers_opened(inside.graph)
                nodes += _spliced(replace(node, outputs=changing), whole, len(graph.tensors), tensors)
    return graph.extended(nodes, tensors, graph.outputs)


class _Inside(NamedTuple):
    """The nodes inside a layer, and its outputs, by number, that are the same whatever its inputs are."""

    graph: LayerGraph
    constants: dict[int, Any]


def _for_constants(node: Node, known: Mapping[int, Any]) -> Node:
    """The node with the constants among its inputs as arguments of its call."""
    if not any(t in known for t in node.inputs):
        return node
    kept = [i for i, t in enumerate(node.inputs) if t not in known]

    def argument(x: Any) -> Any:
        if not isinstance(x, Input):
            return x
        tensor = node.inputs[x.number]
        return known[tensor] if tensor in known else Input(kept.index(x.number))

    def call(arrays: Sequence[Any], *layer: Any) -> list[Any]:
        given = dict(zip(kept, arrays, strict=True))
        return node.call([given[i] if i in given else known[t] for i, t in enumerate(node.inputs)], *layer)

    arguments = keras.tree.map_structure(argument, node.arguments)
    return replace(node, inputs=tuple(node.inputs[i] for i in kept), call=call, arguments=arguments)


def _decided(node: Node, graph: LayerGraph) -> Node:
    """The node as one that hands a tensor on, if it chooses between tensors by a constant flag."""
    if type(node.layer) is not operation_class("where"):
        return node
    flag, *choices = [*node.arguments[0], *node.arguments[1].values()]
    if isinstance(flag, Input) or np.size(flag) != 1 or not all(isinstance(x, Input) for x in choices):
        return node
    chosen = node.inputs[choices[0 if np.all(flag) else 1].number]
    (output,) = node.outputs
    if graph.tensors[chosen] != graph.tensors[output]:
        return node
    return replace(_handing_on(node.name, chosen, output), index=node.index)


def _handing_on(name: str, tensor: int, output: int) -> Node:
    return Node(0, name, keras.layers.Identity(name=name), (tensor,), (output,), lambda arrays: [arrays[0]])


def _of_keras_class(node: Node) -> Node:
    """The node with its layer, and those inside of it, as ones of Keras' own classes, if they compute what these do.

    A class of the user's that was given a rule keeps it.
    """
    is_of_keras = type(node.layer).__module__.startswith("keras.")
    return replace(node, layer=as_keras_layer(node.layer)) if is_of_keras or rule_of(node) is None else node


def _with_activation_apart(node: Node, graph: LayerGraph, tensors: list[Tensor]) -> list[Node]:
    """The layer without its activation, and the activation, if that is a function or a layer of one's own."""
    activation = getattr(node.layer, "activation", None)
    rule = rule_of(node)
    linear = rule.split(node) if rule is not None and node.role == "layer" else None
    if linear is None or is_keras_function(activation):
        return [node]
    (output,) = node.outputs
    between = len(graph.tensors) + len(tensors)
    tensors.append(graph.tensors[output])
    layer = activation if isinstance(activation, keras.Layer) else keras.layers.Activation(activation, name=node.name)
    first = replace(node, outputs=(between,), call=lambda arrays: [linear(arrays[0])], role="linear")
    return [first, _called_on(layer, node, between, output)]


def _called_on(layer: Any, node: Node, tensor: int, output: int) -> Node:
    def call(arrays: Sequence[Any], operation: Any = layer) -> list[Any]:
        return [operation(arrays[0])]

    return Node(node.index, node.name, layer, (tensor,), (output,), call, arguments=((Input(0),), {}))


def _may_be_opened(node: Node) -> bool:
    layer = node.layer
    if not isinstance(layer, keras.Layer) or layer.dtype_policy.quantization_mode or node.role != "layer":
        return False
    if type(layer) is keras.layers.Activation:
        return not is_keras_function(layer.activation)
    is_open = type(layer) in (keras.layers.Lambda, *LEGACY_LAYERS.values())
    if not is_open and (type(layer).__module__ + ".").startswith(NOT_OPENED):
        return False
    return rule_of(node) is None


def _inside(node: Node, graph: LayerGraph, tensors: Sequence[Tensor]) -> _Inside | Node:
    """The nodes inside a layer; the node itself if they cannot be read or compute something else."""
    every = (*graph.tensors, *tensors)
    given = [every[t] for t in node.inputs]
    heads = {port.tensor for port in graph.outputs}
    why_not: list[str] = []
    try:
        # Keras has warned when the model was made
        with warnings.catch_warnings(action="ignore"), backend.matrix_precision("float32"):
            arrays = _random_arrays(given)
            # first, as a layer may keep tensors of its first call: they must not be symbolic
            wanted = node.call(arrays)
            for follow in _ways_to_follow():
                try:
                    symbols, outputs = follow(node, given)
                    constants = {i: keras.ops.convert_to_tensor(y) for i, y in enumerate(outputs) if not _is_symbol(y)}
                    changing = [i for i in range(len(outputs)) if i not in constants]
                    with _names_apart(node.layer):
                        model = keras.Model(symbols, [outputs[i] for i in changing])
                    inside = that_runs(layer_graph(model))
                    fault = _fault(inside, arrays, [wanted[i] for i in changing])
                    if fault is None and heads.isdisjoint(node.outputs[i] for i in constants):
                        return _Inside(inside, constants)
                    why_not.append(fault or "")
                except NotFollowedError as error:
                    why_not.append(str(error))
                except Exception:  # custom code may raise anything
                    continue
    except Exception:
        return node
    return replace(node, reason=_sentence(node.layer, why_not[-1])) if why_not and why_not[-1] else node


def _sentence(layer: Any, why_not: str) -> str:
    if type(layer) is keras.layers.Activation:
        return f"activation {name_of(layer.activation)!r} cannot be followed: {why_not}; write it with keras.ops"
    own = "its function" if type(layer) is keras.layers.Lambda else f"{type(layer).__name__} is a custom layer that"
    advice = "write it with Keras layers and keras.ops, or give it a rule with --rules FILE.py"
    return f"{own} cannot be followed: {why_not}; {advice}"


def _random_arrays(given: Sequence[Tensor]) -> list[Any]:
    random = random_inputs([(tensor.shape, tensor.dtype) for tensor in given], n=len(MAGNITUDES))
    scaled = [x * np.reshape(MAGNITUDES, (-1, *(1,) * (x.ndim - 1))) if x.dtype.kind == "f" else x for x in random]
    return [keras.ops.convert_to_tensor(x, dtype=t.dtype) for x, t in zip(scaled, given, strict=True)]


def _fault(inside: LayerGraph, arrays: Sequence[Any], wanted: Sequence[Any]) -> str | None:
    """Why the nodes cannot stand for the layer; None if they compute what it does, for numbers of each magnitude."""
    if inside.keeps_masks:
        return "a layer in it reads a mask"
    if any(tensor.dtype in ("float16", "bfloat16") for tensor in inside.tensors):
        return "it computes in 16 bits in between"
    if any(_is_product_without_a_rule(node, inside) for node in inside.nodes):
        return ""
    found = inside.run(arrays)
    values = [backend.to_numpy(found[port.tensor]) for port in inside.outputs]
    expected = [backend.to_numpy(y) for y in wanted]
    same = len(values) == len(expected) and all(
        agree([y[rows] for y in expected], [y[rows] for y in values], nan_is_nan=True, times=times)
        for rows, times in COMPARED
    )
    return None if same else "it computes something else with symbols than with numbers"


def _is_symbol(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


# Symbols, and what the call of a layer makes of them: symbols and constants.
_Followed = tuple[list[Any], list[Any]]


def _ways_to_follow() -> list[Callable[[Node, Sequence[Tensor]], _Followed]]:
    return [_traced, _traced_by_tensorflow] if backend.BACKEND == "tensorflow" else [_traced]


def _traced(node: Node, given: Sequence[Tensor]) -> _Followed:
    """What the ``call`` of a layer makes of symbols of Keras."""
    symbols = [keras.Input(tensor.shape, dtype=tensor.dtype) for tensor in given]
    with _weights_give_way(), _base_calls_followed(node.layer), at_inference(node.layer):
        return symbols, keras.tree.flatten(_call_of(node)(*symbols))


def _traced_by_tensorflow(node: Node, given: Sequence[Tensor]) -> _Followed:
    """What the ``call`` of a layer makes of tensors of TensorFlow."""
    symbols = [keras.Input(tensor.shape, dtype=tensor.dtype) for tensor in given]
    with _base_calls_followed(node.layer), at_inference(node.layer):
        return symbols, as_keras_operations(_call_of(node), symbols, constants=True)


def _call_of(node: Node) -> Callable[..., Any]:
    """The ``call`` of the layer as a function of the tensors alone."""
    args, kwargs = node.arguments
    if "training" in inspect.signature(node.layer.call).parameters:
        kwargs = {**kwargs, "training": False}

    def call(*tensors: Any) -> Any:
        filled = keras.tree.map_structure(lambda x: tensors[x.number] if isinstance(x, Input) else x, (args, kwargs))
        return node.layer.call(*filled[0], **filled[1])

    return call


@contextmanager
def _names_apart(layer: Any) -> Iterator[None]:
    """Let layers inside of a layer have different names for a block: a layer may call two that were named alike."""
    inside = [inner for inner in all_layers(layer) if inner is not layer]
    before = [inner.name for inner in inside]
    try:
        for number, inner in enumerate(inside):
            if inner.name in {other.name for other in inside[:number]} | {layer.name}:
                inner.name = f"{inner.name}__{number}"
        yield
    finally:
        for inner, name in zip(inside, before, strict=True):
            inner.name = name


_BASE_LOCK = RLock()


@contextmanager
def _base_calls_followed(layer: Any) -> Iterator[None]:
    """Let ``super().call(x)`` inside the ``call`` of a subclass of a Keras layer be a call of that Keras layer.

    Why by changing the class: no object can step into ``super()``. Other layers see no difference; the lock keeps two
    threads from taking each other's method for that of Keras.
    """
    base: Any = keras_class(type(layer))
    if base is None or vars(base).get("call") is None or type(layer) is base:
        yield
        return
    with _BASE_LOCK:
        before = vars(base)["call"]

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            plain = as_its_base(self, base) if self is layer else None
            return before(self, *args, **kwargs) if plain is None else plain(*args, **kwargs)

        call.__signature__ = inspect.signature(before)  # type: ignore[attr-defined]
        try:
            base.call = call
            yield
        finally:
            base.call = before


@contextmanager
def _weights_give_way() -> Iterator[None]:
    """``weight * symbol`` is left to the symbol, as ``symbol * weight`` is: a weight of Keras takes arrays alone.

    Why by changing the class: its operators call the backend directly, and Keras has no other place to step in. With
    arrays they do what they did before, so that another thread that computes meanwhile sees no difference. The lock
    keeps two threads from taking each other's operators for those of Keras.
    """
    cls: Any = keras.Variable

    def giving_way(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        return lambda self, other: NotImplemented if isinstance(other, keras.KerasTensor) else method(self, other)

    with _OPERATORS_LOCK:
        before = {name: vars(cls).get(name) for name in OPERATORS}  # None: inherited
        try:
            for name in OPERATORS:
                setattr(cls, name, giving_way(getattr(cls, name)))
            yield
        finally:
            for name, method in before.items():
                if method is not None:
                    setattr(cls, name, method)
                elif name in vars(cls):
                    delattr(cls, name)


def _as_array(argument: Any) -> Any:
    """A weight among the arguments of an operation, as an array: the rules treat it as a constant."""
    return backend.to_numpy(argument) if isinstance(argument, keras.Variable) else argument


def _is_product_without_a_rule(node: Node, graph: LayerGraph) -> bool:
    """Whether an operation without a rule has a matrix or a kernel, such as the convolution in a subclass of Conv1D.

    Left as a layer, it can get a rule by ``register_rule(..., like=...)``.
    """
    args, kwargs = node.arguments
    given = keras.tree.flatten((args, list(kwargs.values())))
    has_matrix = any(len(getattr(x, "shape", ())) > 1 for x in given if not isinstance(x, Input))
    has_rule = isinstance(node.layer, keras.Layer) or rule_of(node) is not None or has_simpler_form(node, graph)
    return has_matrix and not has_rule


def _spliced(node: Node, inside: LayerGraph, first: int, tensors: list[Tensor]) -> list[Node]:
    """The nodes inside, numbered as in the graph. Adds new tensors to ``tensors``, numbered from ``first``."""
    number = dict(zip((port.tensor for port in inside.inputs), node.inputs, strict=True))
    again = []  # outputs that are an input, or another output
    for port, output in zip(inside.outputs, node.outputs, strict=True):
        if port.tensor in number:
            again.append((port.tensor, output))
        else:
            number[port.tensor] = output
    for inner in range(len(inside.tensors)):
        if inner not in number:
            number[inner] = first + len(tensors)
            tensors.append(inside.tensors[inner])
    nodes = [
        replace(
            n,
            inputs=tuple(number[t] for t in n.inputs),
            outputs=tuple(number[t] for t in n.outputs),
            arguments=keras.tree.map_structure(_as_array, n.arguments),
        )
        for n in inside.nodes
    ]
    return nodes + [_handing_on(node.name, number[inner], output) for inner, output in again]


# --- functions of the user's that reduce heads -----------------------------------------------------------------------


def with_functions(graph: LayerGraph, heads: Sequence[Head]) -> LayerGraph:
    """The graph with what the functions of these heads give as further outputs, named as :attr:`Head.port`."""
    with_own = {head.port: head for head in heads if head.own is not None}
    if not with_own:
        return graph
    nodes, tensors, ports = list(graph.nodes), list[Tensor](), list(graph.outputs)
    for port, head in with_own.items():
        assert head.own is not None
        source, made = graph.outputs[head.source].tensor, len(graph.tensors) + len(tensors)
        tensors.append(Tensor((head.own.n_targets,), graph.tensors[source].dtype))
        nodes.append(_node_of_function(port, head.own, source, made))
        ports.append(Port(port, made))
    return with_layers_opened(graph.extended(nodes, tensors, ports))


def _node_of_function(name: str, own: OwnReduction, tensor: int, output: int) -> Node:
    def call(arrays: Sequence[Any], operation: Callable[[Any], Any] = own) -> list[Any]:
        return [operation(arrays[0])]

    layer = keras.layers.Lambda(_as_function(own), name=name.replace("/", "_"))
    return Node(0, name, layer, (tensor,), (output,), call, arguments=((Input(0),), {}))


def _as_function(own: OwnReduction) -> Callable[[Any], Any]:
    """A Lambda asks for one, to see its arguments and its name."""

    def reduced(x: Any) -> Any:
        return own(x)

    return reduced
