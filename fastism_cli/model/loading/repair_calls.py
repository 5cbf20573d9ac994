"""Rewrite the calls in a Keras 2 graph in the form of Keras 3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from fastism_cli.model.loading.config_entries import Config, Context, plain_name


def rewire(layer: Config, context: Context) -> None:
    """Rewrite the calls in a functional model: arguments by name, nested models without the node of their own input."""
    if "input_layers" not in _config(layer) or not _is_keras2_graph(layer["config"]):
        return
    graph = layer["config"]
    shifts = {inner["name"]: own_nodes(inner, graph) for inner in graph["layers"] if _is_model(inner)}
    models = {inner["name"] for inner in graph["layers"] if "input_layers" in _config(inner)}
    for inner in graph["layers"]:
        inner["inbound_nodes"] = [_call(node, shifts) for node in inner.get("inbound_nodes", ())]
    for ends in ("input_layers", "output_layers"):
        graph[ends] = _unwrapped([_end(tensor, shifts, models) for tensor in _tensors(graph[ends])])


def _is_keras2_graph(graph: Config) -> bool:
    nodes = [node for inner in graph["layers"] for node in inner.get("inbound_nodes", ())]
    return all(isinstance(node, list) for node in nodes)


def _is_model(layer: Config) -> bool:
    return layer["class_name"] == "Sequential" or "layers" in _config(layer)


def _config(layer: Config) -> Config:
    return layer["config"] if isinstance(layer["config"], dict) else {}


def own_nodes(model: Config, graph: Config) -> int:
    """How many nodes a nested model has besides its calls: one in Keras 2 (its own input), or none if it had no input.

    The file does not say, but calls are numbered from there: of ``n`` calls the last is ``n`` or ``n - 1``.
    """
    calls = [inner.get("inbound_nodes") for inner in graph["layers"]]
    used = {tensor[1] for tensor in _tensors([calls, graph["output_layers"]]) if tensor[0] == model["name"]}
    return 0 if 0 in used else 1


def _tensors(value: Any) -> list[list[Any]]:
    """Every ``[layer, node, tensor]`` in a nested value, with what follows it."""
    if _is_tensor(value):
        return [value, *(_tensors(value[3]) if len(value) > 3 else [])]
    if isinstance(value, (list, dict)):
        return [
            tensor for inner in (value.values() if isinstance(value, dict) else value) for tensor in _tensors(inner)
        ]
    return []


def _is_tensor(value: Any) -> bool:
    if not isinstance(value, list) or len(value) not in (3, 4) or not isinstance(value[0], str):
        return False
    return isinstance(value[1], int) and isinstance(value[2], int)


def _call(node: list[Any], shifts: Mapping[str, int]) -> Config:
    tensors = (
        [node] if _is_tensor(node) else node
    )  # for a layer that wraps a TensorFlow function, there is no list around it
    inputs = [_reference(tensor, shifts) for tensor in tensors]
    stored = tensors[0][3] if tensors and len(tensors[0]) > 3 else {}
    keywords = {name: _argument(value, shifts) for name, value in stored.items()}
    return {"args": [inputs[0] if len(inputs) == 1 else inputs], "kwargs": keywords}


def _argument(value: Any, shifts: Mapping[str, int]) -> Any:
    if _is_tensor(value):
        return _reference(value, shifts)
    return [_argument(item, shifts) for item in value] if isinstance(value, list) else value


def _reference(tensor: list[Any], shifts: Mapping[str, int]) -> Config:
    name, node, index = tensor[:3]
    history = [plain_name(name), node - shifts.get(name, 0), index]
    return {"class_name": "__keras_tensor__", "config": {"shape": [], "dtype": "float32", "keras_history": history}}


def _end(tensor: list[Any], shifts: Mapping[str, int], models: set[str]) -> list[Any]:
    # Keras 3 numbers the calls of a nested functional model from 1 here, and only here.
    name, node, index = tensor[:3]
    return [plain_name(name), node - shifts.get(name, 0) + (name in models), index]


def _unwrapped(tensors: list[Any]) -> Any:
    """One input or output is a tensor, not a list of one: predictions are then an array as they were in Keras 2."""
    return tensors[0] if len(tensors) == 1 else tensors


def waiting_layers(graph: Config) -> list[str]:
    """Layers of a Keras 2 graph that are called on what is never computed: a circle, or a call that is not there.

    tf_keras tries such a call again without end.
    """
    calls = {layer["name"]: list(layer.get("inbound_nodes") or ()) for layer in graph["layers"]}
    inputs = {layer["name"] for layer in graph["layers"] if layer["class_name"] == "InputLayer"}
    first = {layer["name"]: _first_call(layer, graph) for layer in graph["layers"] if _is_model(layer)}
    done: Counter[str] = Counter()

    def is_there(name: str, node: Any) -> bool:
        start = first.get(name, 0)
        return name in inputs or name not in calls or node in range(start, start + done[name])

    went_on = True
    while went_on:
        went_on = False
        for name, nodes in calls.items():
            while done[name] < len(nodes) and all(is_there(*read) for read in _inputs_of(nodes[done[name]])):
                done[name] += 1
                went_on = True
    return [name for name, nodes in calls.items() if done[name] < len(nodes)]


def _first_call(model: Config, graph: Config) -> int:
    """The number of the first call of a nested model, as tf_keras counts."""
    inner = model["config"]["layers"] if isinstance(model["config"], dict) else model["config"]
    return 1 if inner and inner[0]["class_name"] == "InputLayer" else own_nodes(model, graph)


def _inputs_of(call: Any) -> Iterator[tuple[str, Any]]:
    """Layer and node of every ``[layer, node, tensor]`` that a stored call reads, be they numbers or not."""
    if isinstance(call, list) and len(call) in (3, 4) and isinstance(call[0], str):
        yield call[0], call[1]
        yield from _inputs_of(call[3:])
    elif isinstance(call, (list, dict)):
        for inner in call.values() if isinstance(call, dict) else call:
            yield from _inputs_of(inner)
