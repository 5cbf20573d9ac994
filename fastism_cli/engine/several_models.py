"""Models that are scored together: whether they take and give the same, and which can share what is compiled."""

from __future__ import annotations

import json
from typing import Any

import keras

from fastism_cli.engine.forward import ForwardPasses
from fastism_cli.engine.prepare import Prepared
from fastism_cli.errors import UsageError
from fastism_cli.model import backend
from fastism_cli.model.agreement import agree, random_inputs

# Of the settings of a layer: what its numbers do not depend on once it has its weights.
NO_MATTER = ("name", "seed", "trainable")
NO_MATTER_ENDINGS = ("_initializer", "_regularizer", "_constraint")


def require_same_ports(first: Prepared, other: Prepared) -> None:
    """Refuse a model whose inputs or heads have other shapes.

    Raises
    ------
    UsageError
        Lists both.
    """
    for what, ours, theirs in (
        ("inputs", _inputs(first), _inputs(other)),
        ("heads", _heads(first), _heads(other)),
    ):
        if ours != theirs:
            listed = [", ".join(f"{name} {shape}" for name, shape in ports.items()) for ports in (theirs, ours)]
            raise UsageError(
                f"its {what} are {listed[0]}, those of the first model {listed[1]}. Scores are averaged over models of "
                f"the same {what}."
            )
    if first.input_names[first.sequence_index] != other.input_names[other.sequence_index]:
        raise UsageError(
            f"its sequence is in {other.input_names[other.sequence_index]!r}, that of the first model in "
            f"{first.input_names[first.sequence_index]!r}. Name the input with --sequence-input."
        )


def _inputs(prepared: Prepared) -> dict[str, Any]:
    return dict(sorted(zip(prepared.input_names, prepared.input_shapes, strict=True)))


def _heads(prepared: Prepared) -> dict[str, Any]:
    return dict(sorted((head.source_name, head.full_shape) for head in prepared.heads))


def number_of_shared_weights(first: Prepared, other: Prepared) -> int | None:
    """Let the engine of one model compute another one too, if only their weights differ.

    The graphs are compared, and then the values of all tensors on random sequences: a model that holds numbers outside
    of its weights does not share.

    Returns
    -------
    int or None
        The number of the other model's weights among those of the first; None if the architectures differ.
    """
    if _architecture(first) != _architecture(other):
        return None
    number = first.weights.add(other.model.variables)
    first.weights.use(number)
    try:
        with backend.matrix_precision(first.precision):
            if _computes_the_same(first, other):
                return number
    finally:
        first.weights.use(0)
    first.weights.drop_last()
    return None


def _computes_the_same(first: Prepared, other: Prepared) -> bool:
    kinds = zip(first.input_shapes, first.input_dtypes, strict=True)
    arrays = ForwardPasses(first).tensors(random_inputs([*kinds], one_hot=True))
    ours, theirs = (prepared.joined.run(arrays) for prepared in (first, other))
    # the graph with windows apart is what the engine computes
    engine = first.graph.run(arrays)
    outputs = [
        (theirs[b.tensor], engine[a.tensor]) for a, b in zip(first.graph.outputs, other.joined.outputs, strict=True)
    ]
    pairs = [*((theirs[tensor], ours[tensor]) for tensor in theirs), *outputs]
    return agree([x for x, _ in pairs], [y for _, y in pairs])


def _architecture(prepared: Prepared) -> Any:
    """What is equal for models that differ only in their weights; names do not count."""
    graph = prepared.joined
    nodes = [(node.class_name, node.role, node.inputs, node.outputs, _settings(node.layer)) for node in graph.nodes]
    weights = [(tuple(variable.shape), str(variable.dtype)) for variable in prepared.model.variables]
    ports = [[port.tensor for port in ports] for ports in (graph.inputs, graph.outputs)]
    return nodes, graph.tensors, ports, weights, [head.name for head in prepared.heads]


def _settings(layer: Any) -> str:
    if not isinstance(layer, keras.Layer):
        return ""
    try:
        config = layer.get_config()
    except NotImplementedError:
        return ""
    return json.dumps(_that_matter(config), sort_keys=True, default=lambda x: type(x).__name__)


def _that_matter(config: Any) -> Any:
    if isinstance(config, dict):
        names = (name for name in config if not (name in NO_MATTER or str(name).endswith(NO_MATTER_ENDINGS)))
        return {str(name): _that_matter(config[name]) for name in names}
    return [_that_matter(x) for x in config] if isinstance(config, (list, tuple)) else config
