"""Functions of the user's that reduce heads, as nodes of the graph: opened like custom layers, or run by Keras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from fastism_cli.engine.open_layers import with_layers_opened
from fastism_cli.model.graph import Input, LayerGraph, Node, Port, Tensor
from fastism_cli.model.heads import Head
from fastism_cli.model.reductions import OwnReduction


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
        nodes.append(_node(port, head.own, source, made))
        ports.append(Port(port, made))
    return with_layers_opened(graph.extended(nodes, tensors, ports))


def _node(name: str, own: OwnReduction, tensor: int, output: int) -> Node:
    def call(arrays: Sequence[Any], operation: Callable[[Any], Any] = own) -> list[Any]:
        return [operation(arrays[0])]

    layer = keras.layers.Lambda(_as_function(own), name=name.replace("/", "_"))
    return Node(0, name, layer, (tensor,), (output,), call, arguments=((Input(0),), {}))


def _as_function(own: OwnReduction) -> Callable[[Any], Any]:
    """A Lambda asks for one, to see its arguments and its name."""

    def reduced(x: Any) -> Any:
        return own(x)

    return reduced
