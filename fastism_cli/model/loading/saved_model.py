"""Read a SavedModel folder: configurations of Keras objects, and graphs of TensorFlow operations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fastism_cli.errors import ModelError
from fastism_cli.model.loading.config_entries import Config

# Operations that reach out of the graph: to files, to Python, to libraries. Those that save and restore the variables
# are in every SavedModel and are not listed.
REACHING_OUT = frozenset(
    "ReadFile WriteFile MatchingFiles PrintV2 PyFunc PyFuncStateless EagerPyFunc LoadLibrary OneShotIterator "
    "TextLineDataset TFRecordDataset FixedLengthRecordDataset WholeFileReader WholeFileReaderV2 DebugIdentity "
    "WriteSummary WriteGraphSummary SummaryWriter CreateSummaryFileWriter CreateSummaryDbWriter XlaLaunch RpcCall "
    "RpcServerStart RpcClient SaveDatasetV2 LoadDataset".split()
)


def saved_configs(folder: Path) -> list[Config]:
    """The configuration of every Keras object in a SavedModel folder; none in a graph for serving."""
    from tf_keras.protobuf import saved_metadata_pb2

    metadata = folder / "keras_metadata.pb"
    if metadata.is_file():
        nodes = saved_metadata_pb2.SavedMetadata.FromString(metadata.read_bytes()).nodes
        return _decoded(node.metadata for node in nodes)
    # TensorFlow 2.0 to 2.4 kept the configurations inside the graph.
    saved = _saved_model(folder)
    nodes = (node for graph in saved.meta_graphs for node in graph.object_graph_def.nodes)
    return _decoded(node.user_object.metadata for node in nodes)


def _decoded(texts: Iterable[str]) -> list[Config]:
    return [json.loads(text) for text in texts if text.lstrip().startswith("{")]


def _saved_model(folder: Path) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    try:
        return saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise ModelError(f"{path} is damaged or incomplete: {error}") from error


def operations_reaching_out(folder: Path) -> list[str]:
    """Names of the operations in a SavedModel's graphs that read or write files, or call Python."""
    return sorted({name for name in _operations(_saved_model(folder)) if name in REACHING_OUT})


def _operations(saved: Any) -> Iterator[str]:
    for graph in (meta.graph_def for meta in saved.meta_graphs):
        yield from (node.op for node in graph.node)
        for function in graph.library.function:
            yield from (node.op for node in function.node_def)


def served(folder: Path) -> Any:
    """A Keras 3 model with one opaque node, which calls the graph that a SavedModel serves.

    Raises
    ------
    ModelError
        If it serves nothing, or several things.
    """
    import keras
    import tensorflow as tf

    from fastism_cli.model.loading.from_tf_keras import Borrowed

    loaded = tf.saved_model.load(str(folder))
    signatures = loaded.signatures
    call = signatures.get("serving_default") or (next(iter(signatures.values())) if len(signatures) == 1 else None)
    if call is None:
        names = ", ".join(signatures) or "none"
        raise ModelError(f"{folder} has no layers and no single graph for serving (signatures: {names})")
    specs = call.structured_input_signature[1]
    inputs = [keras.Input(spec.shape[1:], dtype=spec.dtype.name, name=name) for name, spec in specs.items()]
    heads = sorted(call.structured_outputs)

    def run(*arrays: Any, owner: Any = loaded) -> list[Any]:  # keeps its variables alive
        found = call(**dict(zip(specs, arrays, strict=True)))
        return [found[head] for head in heads]

    outputs = Borrowed(run, "saved_model")(*inputs)
    named = [keras.layers.Identity(name=head)(y) for head, y in zip(heads, outputs, strict=True)]
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], named if len(named) > 1 else named[0])
