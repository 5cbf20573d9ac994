"""Forward passes: predict with plain Keras, the naive engine, and whether models can be scored together.

The naive engine defines what is right, and it is the fallback of the fast engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from math import prod
from typing import Any

import keras
import numpy as np
from keras import ops

from fastism_cli.engine.fast import as_rows
from fastism_cli.engine.prepare import Prepared
from fastism_cli.errors import UsageError
from fastism_cli.model import backend
from fastism_cli.model.adapt import agree, random_inputs
from fastism_cli.model.graph import WeightSets
from fastism_cli.model.heads import Head
from fastism_cli.model.keras_graph import call_model
from fastism_cli.model.precision import GraphInFloat64, dtype_of
from fastism_cli.model.reductions import Select
from fastism_cli.rules.frames import Blocks, ChunkCall
from fastism_cli.rules.window_rows import rows_at


class ForwardPasses:
    """Predictions of a prepared model by plain Keras."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared

    def tensors(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        """Copy the inputs to the device, in the order of ``prepared.input_names``.

        Letter codes (n, L) of the sequence become one-hot there, (n, L, letters); an N is a row of zeros.
        """
        return [self._tensor(i, x) for i, x in enumerate(arrays)]

    def _tensor(self, index: int, x: np.ndarray) -> Any:
        dtype = self.prepared.input_dtypes[index]
        floats = dtype_of(self.prepared.precision)
        if index == self.prepared.sequence_index and x.ndim == 2:
            return self._one_hot(backend.as_argument(x, "int32"))
        return ops.convert_to_tensor(x.astype(dtype if "int" in dtype or "bool" in dtype else floats))

    @cached_property
    def _one_hot(self) -> Callable[[Any], Any]:
        """From letter codes, int32 (n, L)."""
        size, floats = self.prepared.alphabet.size, dtype_of(self.prepared.precision)
        return backend.compiled(lambda codes: ops.one_hot(codes, size, dtype=floats))

    def predict(self, inputs: Sequence[Any], model: Any = None) -> list[Any]:
        """Predict the chosen targets of each head, not reduced, for input tensors (n, ...).

        ``model`` can be the same model in another precision.
        """
        prepared = self.prepared
        given = prepared.views.expand(inputs)
        in_graph = isinstance(model, GraphInFloat64)
        outputs = model(given) if in_graph else call_model(prepared.model if model is None else model, given)
        return [_targets_of(head, outputs[head.source]) for head in prepared.heads]

    def reduced(self, predictions: Sequence[Any], reference: Sequence[Any]) -> list[Any]:
        """Reduce and scale the heads, from what :meth:`predict` gives for sequences and for their references."""
        given = zip(self.prepared.heads, predictions, reference, strict=True)
        return [head.score(y, old) for head, y, old in given]

    def heads(self, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Predict every head, reduced, (n, *shape); each sequence is its own reference."""
        with backend.matrix_precision(self.prepared.precision):
            predictions = self.predict(self.tensors(arrays))
            return self._by_name([backend.to_numpy(y) for y in self.reduced(predictions, predictions)])

    def compare(self, arrays: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Predict every head, reduced, (n, *shape), and subtract that of the references."""
        with backend.matrix_precision(self.prepared.precision):
            new, old = (self.predict(self.tensors(x)) for x in (arrays, reference))
            pairs = zip(self.reduced(new, old), self.reduced(old, old), strict=True)
            return self._by_name([backend.to_numpy(y) - backend.to_numpy(x) for y, x in pairs])

    def _by_name(self, values: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        heads = self.prepared.heads
        return {head.name: np.reshape(x, (-1, *head.shape)) for head, x in zip(heads, values, strict=True)}


def _targets_of(head: Head, output: Any) -> Any:
    return output if head.chosen_first is None else Select(head.chosen_first)(output)


class NaiveEngine:
    """In-silico mutagenesis by forward passes, with the same calls as the fast engine.

    Parameters
    ----------
    predict : callable
        From a list of input arrays (batch, ...) to the list of heads, not reduced.
    reduce : callable
        From such a list, and that of the reference sequences, to the list of heads that are scored.
    sequence_input : int
        Index of the input that is changed.
    blocks : Blocks
        What is replaced in it.
    size, sequences, alternates : int
        Blocks, sequences and alternates of every call: their product is the batch of a forward pass.
    weights : WeightSets
        All weights of the model; calls take what is in use when the reference is computed.

    Attributes
    ----------
    reference_pass, chunk : callable
        The compiled functions.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Any]], list[Any]],
        reduce: Callable[[Sequence[Any], Sequence[Any]], list[Any]],
        sequence_input: int,
        blocks: Blocks,
        *,
        size: int,
        sequences: int,
        alternates: int,
        weights: WeightSets,
    ) -> None:
        self.sequence_input, self.blocks = sequence_input, blocks
        self.batch = (sequences, size, alternates)
        self._predict, self._reduce, self.weights = predict, reduce, weights
        self.reference_pass = backend.compiled(self._reference_pass, weights.variables)
        self.chunk = backend.compiled(self._deltas, weights.variables)

    def reference(self, inputs: Sequence[Any]) -> tuple[list[Any], Any]:
        """Predictions of all heads (S, *shape), and the arrays that the chunks need."""
        outputs, full = self.reference_pass(list(inputs))
        return outputs, (list(inputs), full, outputs, self.weights.current)

    def deltas(self, call: ChunkCall, kept: Any, new: np.ndarray) -> list[Any]:
        """Deltas of all heads for one chunk, (S, P, A, *head shape), blocks in natural order."""
        inputs, full, outputs, weights = kept
        self.weights.use(weights)
        places = [self.blocks.starts_from(call.start, self.batch[1])]
        if self.blocks.distances:
            places.append(self.blocks.seconds_from(call.start, self.batch[1]))
        arrays = [backend.as_argument(places, "int32"), backend.as_argument(new, str(new.dtype))]
        heads: list[Any] = self.chunk(inputs, full, outputs, *arrays)
        return heads

    def _reference_pass(self, inputs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        full = self._predict(inputs)
        return self._reduce(full, full), full

    def _deltas(
        self, inputs: Sequence[Any], full: Sequence[Any], outputs: Sequence[Any], places: Any, new: Any
    ) -> list[Any]:
        batch = [self._repeated(x) for x in inputs]
        replaced = self._with_letters if self.blocks.distances else self._replaced
        batch[self.sequence_input] = replaced(inputs[self.sequence_input], places, new)
        heads = self._reduce(self._predict(batch), [self._repeated(y) for y in full])
        return [
            ops.reshape(new, (*self.batch, *new.shape[1:])) - ops.reshape(old, (self.batch[0], 1, 1, *old.shape[1:]))
            for new, old in zip(heads, outputs, strict=True)
        ]

    def _repeated(self, x: Any) -> Any:
        shape = tuple(x.shape[1:])
        x = ops.broadcast_to(ops.reshape(x, (self.batch[0], 1, 1, *shape)), (*self.batch, *shape))
        return ops.reshape(x, (prod(self.batch), *shape))

    def _with_letters(self, x: Any, places: Any, new: Any) -> Any:
        """(S * P * A, L, letters): ``x`` (S, L, letters) with a letter replaced at both positions of each pair."""
        sequences, (length, letters) = self.batch[0], x.shape[1:]
        full = ops.reshape(x, (sequences, 1, 1, 1, length, letters))
        for i in (0, 1):
            here = ops.reshape(places[i][:, None] == np.arange(length, dtype="int32"), (1, -1, 1, 1, length, 1))
            rows = as_rows(new[..., i], x)  # (S, P, n, 1, letters)
            full = ops.where(here, ops.expand_dims(rows, 3 - i), full)
        return ops.reshape(full, (prod(self.batch), length, letters))

    def _replaced(self, x: Any, places: Any, new: Any) -> Any:
        """(S * P * A, L, letters): ``x`` (S, L, letters) with one block replaced in each copy."""
        length, letters = x.shape[1:]
        width = self.blocks.width
        at = np.arange(length, dtype="int32")[None, :] - places[0][:, None]
        here = ops.reshape(ops.logical_and(at >= 0, at < width), (1, self.batch[1], 1, length, 1))
        rows = as_rows(new, x)
        if width > 1:
            rows = rows_at(ops.broadcast_to(rows, (*self.batch, width, letters)), at)
        full = ops.where(here, rows, ops.reshape(x, (self.batch[0], 1, 1, length, letters)))
        return ops.reshape(full, (prod(self.batch), length, letters))


# --- models that are scored together ---------------------------------------------------------------------------------

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
