"""A model whose heads are taken before their last sigmoid or softmax: probabilities near 0 or 1 hide strong sites."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import keras

from fastism_cli.errors import UsageError
from fastism_cli.model.keras_graph import function_of, output_names, producer_of
from fastism_cli.model.loading.config_entries import plain_name

PROBABILITIES = ("sigmoid", "softmax")
# Layers whose activation is the last that they do.
ACTIVATED = (
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.SeparableConv1D,
    keras.layers.DepthwiseConv1D,
    keras.layers.Conv1DTranspose,
)
# Layers that leave the numbers as they are at inference: a sigmoid may come before them.
PASSING = (keras.layers.Identity, keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape)


def with_logits(model: Any, heads: Collection[str]) -> Any:
    """The same model, but for these heads: they end before their last sigmoid or softmax.

    Parameters
    ----------
    heads : collection of str
        As :func:`fastism_cli.model.keras_graph.output_names` calls them.

    Raises
    ------
    UsageError
        If a head has neither, or the model is no graph of Keras 3.
    """
    function = function_of(model)
    if function is None:
        raise UsageError("--scale logit: the model is no graph of Keras layers, so that its last sigmoid is not known.")
    names = output_names(model)
    outputs = [_logit(name, y) if name in heads else y for name, y in zip(names, function.outputs, strict=True)]
    inner = keras.Model(function.inputs, outputs)
    # a model around it, in which the heads can have their names: layers inside have them already
    symbols = [keras.Input(x.shape[1:], name=x.name, dtype=x.dtype) for x in function.inputs]
    pairs = zip(names, keras.tree.flatten(inner(symbols)), strict=True)
    named = [keras.layers.Identity(name=plain_name(name))(y) for name, y in pairs]
    return keras.Model(symbols, named if len(named) > 1 else named[0], name=model.name)


def _logit(head: str, tensor: Any) -> Any:
    found = before_activation(tensor)
    if found is None:
        made = producer_of(tensor)
        raise UsageError(
            f"--scale logit: head {head!r} ends in {type(made.operation).__name__} {made.operation.name!r}, which is "
            "neither a sigmoid nor a softmax. Name the heads that are probabilities: --scale HEAD=logit."
        )
    return found


def before_activation(tensor: Any) -> Any:
    """What the last sigmoid or softmax of a symbolic tensor is computed from; None if there is none."""
    made = producer_of(tensor)
    operation = made.operation
    nested = function_of(operation)
    if nested is not None:
        inner = before_activation(nested.outputs[made.number])
        return None if inner is None else keras.Model(nested.inputs, inner)(made.inputs)
    (first, *others) = made.inputs or [None]
    if first is None or others:
        return None
    if type(operation) in PASSING or _activation(operation) == "linear":
        inner = before_activation(first)
        return None if inner is None else _twin(operation, inner)
    if type(operation) is keras.layers.Activation or type(operation) not in ACTIVATED:
        return first if _activation(operation) in PROBABILITIES else None
    return _linear(operation, first) if _activation(operation) in PROBABILITIES else None


def _activation(operation: Any) -> str:
    """The activation that an operation ends in, by name; empty for one that is not of Keras."""
    kind = type(operation)
    if type(operation) in ACTIVATED:
        known = {keras.activations.linear: "linear", None: ""}
        known |= {getattr(keras.activations, name): name for name in PROBABILITIES}
        name = known.get(operation.activation, "")
        return "" if name == "linear" and kind is not keras.layers.Activation else name
    return kind.__name__.lower() if kind.__module__.startswith("keras.") and kind.__name__ in OPERATIONS else ""


OPERATIONS = ("Sigmoid", "Softmax")  # keras.ops.sigmoid and softmax, and the layer Softmax


def _linear(layer: Any, tensor: Any) -> Any:
    """A layer of the same weights and without its activation, called on a tensor."""
    return _twin(layer, tensor, activation="linear")


def _twin(layer: Any, tensor: Any, **changed: Any) -> Any:
    """A layer of the same weights and another name, called on a tensor."""
    twin = type(layer).from_config({**layer.get_config(), "name": f"{layer.name}_logits", **changed})
    found = twin(tensor)
    twin.set_weights(layer.get_weights())
    return found
