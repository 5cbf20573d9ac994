"""Replace custom layers, subclassed models and Lambdas by the Keras layers and operations that their ``call`` uses.

The ``call`` is run once with symbolic tensors. If it only calls layers and operations of Keras, these become nodes of
the graph, for which there are rules. The nodes are compared with the layer itself on random numbers; if they differ, or
cannot be compared, the layer stays one node.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock
from typing import Any

import keras

from fastism_cli.engine.simpler_operations import has_simpler_form, that_runs
from fastism_cli.model import backend
from fastism_cli.model.agreement import agree, random_inputs
from fastism_cli.model.graph import Input, LayerGraph, Node, Tensor
from fastism_cli.model.keras_graph import at_inference, layer_graph
from fastism_cli.rules.table import rule_of

OPERATORS = ("__add__", "__sub__", "__mul__", "__truediv__", "__matmul__", "__pow__")
_OPERATORS_LOCK = RLock()
NOT_OPENED = ("keras.", "tf_keras.", "fastism_cli.")


def with_layers_opened(graph: LayerGraph) -> LayerGraph:
    """The graph in which such layers, at any depth, are replaced by the nodes inside them."""
    nodes: list[Node] = []
    tensors: list[Tensor] = []
    for node in graph.nodes:
        inside = _inside(node, graph) if _may_be_opened(node) else None
        if inside is None:
            nodes.append(node)
        else:
            nodes += _spliced(node, with_layers_opened(inside), len(graph.tensors), tensors)
    return graph.extended(nodes, tensors, graph.outputs)


def _may_be_opened(node: Node) -> bool:
    cls = type(node.layer)
    if cls is not keras.layers.Lambda and (cls.__module__ + ".").startswith(NOT_OPENED):
        return False
    is_readable = isinstance(node.layer, keras.Layer) and not node.layer.dtype_policy.quantization_mode
    return is_readable and node.role == "layer" and rule_of(node) is None


def _inside(node: Node, graph: LayerGraph) -> LayerGraph | None:
    """The nodes inside a layer, as a graph; None if they cannot be read or compute something else."""
    given = [graph.tensors[t] for t in node.inputs]
    try:
        # Keras has warned when the model was made
        with warnings.catch_warnings(action="ignore"), backend.matrix_precision("float32"):
            random = random_inputs([(tensor.shape, tensor.dtype) for tensor in given])
            arrays = [keras.ops.convert_to_tensor(x, dtype=t.dtype) for x, t in zip(random, given, strict=True)]
            wanted = node.call(
                arrays
            )  # first, as a layer may keep tensors of its first call: they must not be symbolic
            inside = that_runs(layer_graph(_traced(node, given)))
            found = inside.run(arrays)
        values = [found[port.tensor] for port in inside.outputs]
        is_right = agree(wanted, values) and not inside.keeps_masks
    except Exception:  # custom code may raise anything
        return None
    return inside if is_right and not any(_is_product_without_a_rule(node, inside) for node in inside.nodes) else None


def _traced(node: Node, given: Sequence[Tensor]) -> keras.Model:
    symbols = [keras.Input(tensor.shape, dtype=tensor.dtype) for tensor in given]
    args, kwargs = keras.tree.map_structure(lambda x: symbols[x.number] if isinstance(x, Input) else x, node.arguments)
    if "training" in inspect.signature(node.layer.call).parameters:
        kwargs = {**kwargs, "training": False}
    with _weights_give_way(), at_inference(node.layer):
        return keras.Model(symbols, keras.tree.flatten(node.layer.call(*args, **kwargs)))


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
    same = keras.layers.Identity(name=node.name)
    return nodes + [
        Node(0, node.name, same, (number[inner],), (output,), lambda arrays: [arrays[0]]) for inner, output in again
    ]
