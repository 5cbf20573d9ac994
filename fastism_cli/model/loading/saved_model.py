"""Read a SavedModel folder: configurations of Keras objects, and graphs of TensorFlow operations."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fastism_cli.errors import ModelError, log_of
from fastism_cli.genome.input_files import printable
from fastism_cli.model.loading.config_entries import Config
from fastism_cli.model.loading.file_kinds import json_of
from fastism_cli.model.loading.safe_files import OPERATIONS, SAVER_OPERATIONS

logger = log_of(__name__)

DEFAULT_SIGNATURE = "serving_default"  # as Keras and TensorFlow call it


def saved_configs(folder: Path) -> list[Config]:
    """The configuration of every Keras object in a SavedModel folder; none in a graph for serving."""
    from tf_keras.protobuf import saved_metadata_pb2

    metadata = folder / "keras_metadata.pb"
    if metadata.is_file():
        nodes = _parsed(saved_metadata_pb2.SavedMetadata, metadata).nodes
        return _decoded((node.metadata for node in nodes), metadata)
    # TensorFlow 2.0 to 2.4 kept the configurations inside the graph.
    saved = _saved_model(folder)
    nodes = (node for graph in saved.meta_graphs for node in graph.object_graph_def.nodes)
    return _decoded((node.user_object.metadata for node in nodes), folder / "saved_model.pb")


def _parsed(message: Any, path: Path) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return message.FromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise ModelError(f"{path} is damaged or incomplete: {error}") from error


def _decoded(texts: Iterable[str], path: Path) -> list[Config]:
    return [json_of(text, path) for text in texts if text.lstrip().startswith("{")]


def _saved_model(folder: Path) -> Any:
    """The parsed file, read as TensorFlow will read it (there are three names for it). Nothing of it runs."""
    from google.protobuf.message import DecodeError
    from tensorflow.python.saved_model.loader_impl import parse_saved_model

    try:
        return parse_saved_model(str(folder))
    except (DecodeError, OSError, ValueError, ImportError) as error:
        line = " ".join(str(error).split())
        raise ModelError(f"{folder / 'saved_model.pb'} is damaged or incomplete: {line}") from error


# --- operations that are not on the list ------------------------------------------------------------------------------


def operations_off_the_list(folder: Path) -> list[str]:
    """Operations of a SavedModel's graphs and functions that are no arithmetic: ``ReadFile ('node' in 'function')``."""
    found = (line for meta in _saved_model(folder).meta_graphs for line in _off_the_list(meta))
    return list(dict.fromkeys(found))


def _off_the_list(meta: Any) -> Iterator[str]:
    library = {function.signature.name: function.node_def for function in meta.graph_def.library.function}
    savers = _functions_of_saver(meta)
    in_use = _used_outside_of_saver(meta)
    for node in meta.graph_def.node:
        of_saver = node.op in SAVER_OPERATIONS or not savers.isdisjoint(_called(node))
        allowed = node.name not in in_use if of_saver else _is_allowed(node, library)
        if not allowed:
            yield f"{node.op} ('{node.name}' in the main graph)"
    called = set(meta.object_graph_def.concrete_functions)
    for name, nodes in library.items():
        alone = name in savers and name not in called
        for node in nodes:
            if not (_is_allowed(node, library) or (alone and node.op in SAVER_OPERATIONS)) or _called(node) & savers:
                yield f"{node.op} ('{node.name}' in function '{name}')"


def _is_allowed(node: Any, library: Collection[str]) -> bool:
    """An operation of the list, or a call of a function of the file, which is looked at by itself."""
    from tensorflow.python.framework import op_def_registry

    return node.op in OPERATIONS or (node.op in library and op_def_registry.get(node.op) is None)


def _called(node: Any) -> set[str]:
    """Names of the functions that a node calls: by its attributes, or as its operation."""
    values = node.attr.values()
    return {node.op, *(value.func.name for value in values), *(f.name for value in values for f in value.list.func)}


def _saver_nodes(meta: Any) -> set[str]:
    saver = meta.saver_def
    return {name.partition(":")[0] for name in (saver.save_tensor_name, saver.restore_op_name) if name}


def _functions_of_saver(meta: Any) -> set[str]:
    """Functions that write and read the variables: those that the two nodes of the saver call."""
    saver = _saver_nodes(meta)
    nodes = [node for node in meta.graph_def.node if node.name in saver]
    return {value.func.name for node in nodes for value in node.attr.values() if value.func.name}


def _used_outside_of_saver(meta: Any) -> set[str]:
    """Nodes of the main graph that something needs besides saving and restoring variables."""
    inputs = {node.name: [_node_of(name) for name in node.input] for node in meta.graph_def.node}
    of_saver = _ancestors(_saver_nodes(meta), inputs)
    ends = (info for signature in meta.signature_def.values() for info in signature.outputs.values())
    return _ancestors({name for name in inputs if name not in of_saver} | {_node_of(end.name) for end in ends}, inputs)


def _ancestors(nodes: set[str], inputs: Mapping[str, list[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(nodes)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(inputs.get(name, ()))
    return seen


def _node_of(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def served(folder: Path, signature: str | None = None) -> Any:
    """A Keras 3 model with one opaque node, which calls a graph that a SavedModel serves.

    Its inputs and heads have the names of the signature. A graph that takes a fixed number of sequences is called once
    for so many.

    Parameters
    ----------
    signature : str, optional
        Name of the graph. Default: ``serving_default``, or the only one.

    Raises
    ------
    ModelError
        If it serves nothing, not that graph, or several of which none is the default, or its inputs or outputs are no
        arrays with one row for each sequence.
    """
    import keras
    import tensorflow as tf

    from fastism_cli.model.loading.from_tf_keras import followed_or_borrowed

    loaded = tf.saved_model.load(str(folder))
    call = _signature(loaded.signatures, signature, folder)
    specs, heads = call.structured_input_signature[1], sorted(call.structured_outputs)
    for name, spec in (*specs.items(), *call.structured_outputs.items()):
        _require_rows(name, spec, folder)
    size = _batch_size(specs, folder)
    inputs = [keras.Input(spec.shape[1:], dtype=spec.dtype.name, name=name) for name, spec in specs.items()]

    def run(*arrays: Any, owner: Any = loaded) -> list[Any]:  # keeps its variables alive
        given = {name: tf.cast(x, specs[name].dtype) for name, x in zip(specs, arrays, strict=True)}
        found = call(**given) if size is None else _in_batches(call, given, size)
        return [found[head] for head in heads]

    outputs = keras.tree.flatten(followed_or_borrowed(run, "saved_model", None, inputs, {}))
    model = keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs if len(outputs) > 1 else outputs[0])
    model.output_names = heads
    return model


def _signature(signatures: Mapping[str, Any], wanted: str | None, folder: Path) -> Any:
    """The graph to serve: the one that is wanted, else the default, else the only one."""
    names = ", ".join(repr(printable(name)) for name in sorted(signatures))
    if wanted is not None and wanted in signatures:
        return signatures[wanted]
    if wanted is None and DEFAULT_SIGNATURE in signatures:
        if len(signatures) > 1:
            logger.info("%s serves %d graphs: %s. %r is used", folder, len(signatures), names, DEFAULT_SIGNATURE)
        return signatures[DEFAULT_SIGNATURE]
    if wanted is None and len(signatures) == 1:
        return next(iter(signatures.values()))
    if not signatures:
        raise ModelError(
            f"{folder} has no layers and serves no graph (no signature): "
            "save it with tf.saved_model.save(model, folder, signatures=function)"
        )
    if wanted is not None:
        raise ModelError(f"{folder} has no signature {wanted!r}. It has: {names}")
    raise ModelError(f"{folder} serves {len(signatures)} graphs: {names}. Choose one with --signature NAME")


def _require_rows(name: str, spec: Any, folder: Path) -> None:
    """Raise unless an input or output is an array of numbers whose first axis is that of the sequences."""
    is_number = spec.dtype.is_floating or spec.dtype.is_integer or spec.dtype.is_bool
    if spec.shape.rank and is_number:
        return
    raise ModelError(
        f"{folder}: {name!r} of its graph is {spec.dtype.name} of shape {spec.shape}, not numbers with one row for "
        "each sequence"
    )


def _batch_size(specs: Mapping[str, Any], folder: Path) -> int | None:
    """How many sequences the graph takes at a time; None for any number."""
    sizes = {spec.shape[0] for spec in specs.values()} - {None}
    if len(sizes) > 1:
        listing = ", ".join(f"{name!r} {spec.shape}" for name, spec in specs.items())
        raise ModelError(f"{folder}: the inputs of its graph have different numbers of rows: {listing}")
    return next(iter(sizes), None)


def _in_batches(call: Any, given: Mapping[str, Any], size: int) -> Mapping[str, Any]:
    """Call a graph that takes ``size`` rows for any number of rows; the last row fills up the last call."""
    import tensorflow as tf

    n = tf.shape(next(iter(given.values())))[0]
    calls = (n + size - 1) // size
    rows = tf.minimum(tf.range(calls * size), n - 1)
    chunks = {x: tf.reshape(tf.gather(y, rows), (calls, size, *y.shape[1:])) for x, y in given.items()}
    specs = {head: tf.TensorSpec(y.shape, y.dtype) for head, y in call.structured_outputs.items()}
    found = tf.map_fn(lambda chunk: call(**chunk), chunks, fn_output_signature=specs, parallel_iterations=1)
    return {head: tf.reshape(y, (calls * size, *y.shape[2:]))[:n] for head, y in found.items()}
