"""The graph as the engine runs it: activations apart from their layers, heads reduced, sums moved before kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras

from fastism_cli.graph import LayerGraph, Node, Port, Tensor
from fastism_cli.reduce import LINEAR, Reduction
from fastism_cli.rules import rule_of
from fastism_cli.rules.summed import SummedConvolution, can_be_summed
from fastism_cli.rules.wrappers import opened


def as_run(graph: LayerGraph, reduce: dict[str, str]) -> LayerGraph:
    """All of the rewriting, for heads that are reduced so."""
    return with_sums_first(with_reductions(with_parts(graph), reduce))


def with_parts(graph: LayerGraph) -> LayerGraph:
    """Every layer that has a built-in activation as two nodes: its linear part, then the activation."""
    nodes: list[Node] = []
    tensors: list[Tensor] = []
    for node in map(opened, graph.nodes):
        rule = rule_of(node)
        linear = rule.split(node) if rule is not None else None
        if linear is None:
            nodes.append(node)
            continue
        (output,) = node.outputs
        between = len(graph.tensors) + len(tensors)
        tensors.append(graph.tensors[output])
        activation = node.layer.activation
        nodes.append(replace(node, outputs=(between,), call=_unary(linear), role="linear"))
        nodes.append(replace(node, inputs=(between,), call=_unary(activation), role="activation"))
    return graph.extended(nodes, tensors, graph.outputs)


def with_reductions(graph: LayerGraph, reduce: dict[str, str]) -> LayerGraph:
    """The graph with the named heads reduced by nodes of their own."""
    nodes, tensors, outputs = list(graph.nodes), list[Tensor](), list[Port]()
    for port in graph.outputs:
        kind = reduce.get(port.name, "none")
        if kind == "none":
            outputs.append(port)
            continue
        layer = Reduction(kind)
        shape = graph.tensors[port.tensor].shape
        number = len(graph.tensors) + len(tensors)
        tensors.append(replace(graph.tensors[port.tensor], shape=(shape[-1] if len(shape) > 1 else 1,)))
        nodes.append(Node(len(nodes), f"{port.name}:{kind}", layer, (port.tensor,), (number,), _unary(layer)))
        outputs.append(Port(port.name, number))
    return graph.extended(nodes, tensors, outputs)


def _unary(function: Any) -> Any:
    return lambda arrays: [function(arrays[0])]


def with_sums_first(graph: LayerGraph) -> LayerGraph:
    """Every linear convolution that only a sum over its positions reads becomes one node with it."""
    makers = {t: node for node in graph.nodes for t in node.outputs}
    readers = graph.consumers()
    nodes, gone = list(graph.nodes), set()
    for node in graph.nodes:
        if not isinstance(node.layer, Reduction) or node.layer.kind not in LINEAR:
            continue
        maker = makers.get(node.inputs[0])
        if maker is None or len(readers[node.inputs[0]]) > 1 or not _is_linear_convolution(maker):
            continue
        n_in = graph.tensors[maker.inputs[0]].shape[0]
        if not can_be_summed(maker.layer, n_in):
            continue
        layer = SummedConvolution(maker.layer, node.layer, maker.call, n_in)
        nodes[node.index] = replace(node, layer=layer, inputs=maker.inputs, call=_unary(layer))
        gone.add(maker.index)
    return graph.extended([node for node in nodes if node.index not in gone], (), graph.outputs)


def _is_linear_convolution(node: Node) -> bool:
    if type(node.layer) is not keras.layers.Conv1D or node.role == "activation":
        return False
    return node.role == "linear" or node.layer.activation in (None, keras.activations.linear)
