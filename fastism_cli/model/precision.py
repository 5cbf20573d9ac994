"""Build a model again in another floating-point type."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import keras

from fastism_cli.errors import ModelError, UsageError
from fastism_cli.model import backend
from fastism_cli.model.adapt import is_keras_function
from fastism_cli.model.graph import LayerGraph, Port
from fastism_cli.model.keras_graph import all_layers, call_model, is_tf_keras, layer_graph, quantised_layers
from fastism_cli.model.loading.config_entries import usual_names

_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64", "mixed_float16", "mixed_bfloat16"})


def dtype_of(precision: str) -> str:
    """The floating-point type of a ``--precision``. For tf32 it is float32; the device rounds it."""
    return "float32" if precision == "tf32" else precision


def require_precision(model: Any, precision: str) -> None:
    """Raise :class:`UsageError` for a ``--precision`` that means nothing for the model."""
    if precision != "float32" and (names := quantised_layers(model)):
        raise UsageError(f"--precision {precision}: {_quantised_text(names)}. Leave --precision out.")


def _quantised_text(names: Sequence[str]) -> str:
    few = ", ".join(f"'{name}'" for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return f"the model is quantised (layers: {few}) and can be computed in float32 only"


def with_dtype(model: Any, dtype: str) -> Any:
    """The model with all layers computing and storing in ``dtype``; the model itself if they do so already.

    Raises
    ------
    ModelError
        If the model cannot be built again from its configuration.
    """
    if is_tf_keras(model):
        if dtype != "float32":
            raise ModelError(f"Model {model.name!r} is one of tf_keras: it can be computed in float32 only.")
        return model
    if dtype != "float32" and (names := quantised_layers(model)):
        raise ModelError(_quantised_text(names))
    if {variable.dtype for variable in model.variables} & _FLOATS <= {dtype} and _policies(model) <= {dtype}:
        return model
    if dtype == "float64":
        backend.allow_float64()
    for build in (_from_config, _call_by_call):
        try:
            with _default_policy(dtype), usual_names():
                return build(model, dtype)
        except (TypeError, ValueError, AttributeError, NotImplementedError, KeyError) as error:
            reason = error
    raise ModelError(f"Model {model.name!r} cannot be computed in {dtype}: {reason}") from reason


@contextmanager
def _default_policy(dtype: str) -> Iterator[None]:
    """Let layers that custom layers create have ``dtype``, unless they say another."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def usual_defaults() -> Iterator[None]:
    """Let layers that do not say ``data_format``, ``dtype`` or ``epsilon`` have the defaults of Keras in the block.

    A program can have set others, or have them from the user's ``keras.json``; they would change what a file of
    Keras 2.0 means.
    """
    before = (keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format())
    _set_defaults("float32", 1e-7, "channels_last")
    try:
        with _default_policy("float32"):
            yield
    finally:
        _set_defaults(*before)


def _set_defaults(floatx: str, epsilon: float, data_format: str) -> None:
    """Set them in Keras 3, and in tf_keras where it is loaded."""
    keras.config.set_floatx(floatx)
    keras.config.set_epsilon(epsilon)
    keras.config.set_image_data_format(data_format)
    tf_keras = sys.modules.get("tf_keras")
    if tf_keras is not None:
        tf_keras.backend.set_floatx(floatx)
        tf_keras.backend.set_epsilon(epsilon)
        tf_keras.backend.set_image_data_format(data_format)


def _from_config(model: Any, dtype: str) -> Any:
    """Build the whole model from its own configuration."""
    with _own_activations(model) as given_to:
        config = _recast(keras.saving.serialize_keras_object(model), dtype)
    config.pop("compile_config", None)
    with keras.saving.CustomObjectScope(_classes(model)):
        clone = keras.saving.deserialize_keras_object(config, safe_mode=False)
    given_to(clone)
    clone.set_weights(model.get_weights())
    _share_functions(_lambdas(model), _lambdas(clone))
    return clone


@contextmanager
def _own_activations(model: Any) -> Iterator[Callable[[Any], None]]:
    """Take activations that are functions of the user's out of a model for a block: no configuration holds them all.

    Yields a function that gives them to a clone.
    """
    own = [
        (number, name, function)
        for number, layer in enumerate(all_layers(model))
        for name in ("activation", "recurrent_activation")
        if callable(function := vars(layer).get(name)) and not isinstance(function, keras.Layer)
        if not is_keras_function(function)
    ]

    def give(other: Any, functions: Sequence[Any]) -> None:
        layers = all_layers(other)
        for (number, name, _), function in zip(own, functions, strict=True):
            vars(layers[number])[name] = function

    give(model, [keras.activations.linear] * len(own))
    try:
        yield lambda clone: give(clone, [function for _, _, function in own])
    finally:
        give(model, [function for _, _, function in own])


def _lambdas(model: Any) -> dict[str, Any]:
    """The Lambda layers of a model by name, without those that share a name."""
    found = [layer for layer in all_layers(model) if type(layer) is keras.layers.Lambda]
    names = Counter(layer.name for layer in found)
    return {layer.name: layer for layer in found if names[layer.name] == 1}


def _share_functions(own: Mapping[str, Any], clones: Mapping[str, Any]) -> None:
    """Give clones of Lambda layers the functions of the originals: a configuration lacks what their code refers to."""
    for name in own.keys() & clones.keys():
        clones[name].function, clones[name].mask = own[name].function, own[name].mask


def _call_by_call(model: Any, dtype: str) -> Any:
    """Build every layer again and repeat all calls. Needed if a model and a model inside it share a layer."""
    graph = layer_graph(model)
    clones: dict[int, Any] = {}
    symbols = {
        port.tensor: keras.Input(
            graph.tensors[port.tensor].shape, name=port.name, dtype=_recast_dtype(graph, port, dtype)
        )
        for port in graph.inputs
    }
    for node in graph.nodes:
        if id(node.layer) not in clones:
            clones[id(node.layer)] = _clone(node.layer, dtype, name=f"{node.name}__{len(clones)}")
        outputs = node.call([symbols[t] for t in node.inputs], clones[id(node.layer)])
        symbols.update(zip(node.outputs, outputs, strict=True))
    for node in graph.nodes:
        if isinstance(node.layer, keras.Layer):
            clones[id(node.layer)].set_weights(node.layer.get_weights())
    inputs = [symbols[port.tensor] for port in graph.inputs]
    return keras.Model(inputs, [symbols[port.tensor] for port in graph.outputs], name=model.name)


def _clone(operation: Any, dtype: str, *, name: str) -> Any:
    if not isinstance(operation, keras.Layer):
        return operation
    if type(operation) is keras.layers.Lambda:  # its function is at hand, and a configuration holds less
        given = {key: getattr(operation, key) for key in ("function", "mask", "arguments")}
        return keras.layers.Lambda(**given, output_shape=operation._output_shape, name=name, dtype=dtype)
    with _own_activations(operation) as given_to:
        config = {**_recast(operation.get_config(), dtype), "name": name}
    with keras.saving.CustomObjectScope(_classes(operation)):
        clone = type(operation).from_config(config)
    given_to(clone)
    return clone


def _recast_dtype(graph: LayerGraph, port: Port, dtype: str) -> str:
    given = graph.tensors[port.tensor].dtype
    return dtype if _is_float(given) else given


def _operations(model: Any) -> list[Any]:
    found = []
    for operation in getattr(model, "operations", None) or getattr(model, "layers", []):
        found.append(operation)
        found.extend(_operations(operation) if isinstance(operation, keras.Model) else [])
    return found


def _policies(model: Any) -> set[str]:
    policies = (getattr(operation, "dtype_policy", None) for operation in _operations(model))
    # the name of a quantised policy ends in the one that it began with: "int8_from_float32"
    names = {policy.name.rpartition("_from_")[2] for policy in policies if policy is not None}
    return names & _FLOATS


def _classes(model: Any) -> dict[str, Any]:
    """The classes and functions of custom layers, so that Keras finds those that are not registered."""
    operations = [*_operations(model), *all_layers(model)]
    classes = {type(o).__name__: type(o) for o in operations if not type(o).__module__.startswith("keras.")}
    functions = (value for o in operations for value in vars(o).values() if isinstance(value, FunctionType))
    return classes | {f.__name__: f for f in functions if not (f.__module__ or "").startswith("keras.")}


def _recast(config: Any, dtype: str) -> Any:
    """A copy of a configuration in which every float type is ``dtype``."""
    if isinstance(config, dict):
        policy = config.get("class_name") == "DTypePolicy"
        names = {"dtype", "source_name", "default_policy", *(["name"] if policy else [])}
        return {
            key: dtype if key in names and _is_float(value) else _recast(value, dtype)
            for key, value in ((k, _policy_config(k, v, dtype) if policy else v) for k, v in config.items())
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_recast(item, dtype) for item in config)
    return config


def _policy_config(key: str, value: Any, dtype: str) -> Any:
    return {**value, "name": dtype} if key == "config" and _is_float(value.get("name")) else value


def _is_float(value: Any) -> bool:
    return isinstance(value, str) and value in _FLOATS


# --- the graph of a model in float64 ----------------------------------------------------------------------------------


class GraphInFloat64:
    """What a model predicts if its graph has 64 bits wherever TensorFlow gave it 32.

    For models that cannot be built again in float64, because the code of a layer says float32: ``tf.constant(1.702)``.

    Raises
    ------
    ModelError
        If Keras does not run on TensorFlow.
    """

    def __init__(self, model: Any) -> None:
        if backend.BACKEND != "tensorflow":
            raise ModelError(f"graphs of {backend.BACKEND} cannot be computed in float64")
        self._model = model
        self._functions: dict[Any, Callable[..., Any]] = {}

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        """Predictions for arrays in the order of the model's inputs, float64: one array for each output."""
        key = tuple((tuple(x.shape[1:]), str(x.dtype)) for x in arrays)
        if key not in self._functions:
            self._functions[key] = _in_float64(lambda *x: call_model(self._model, x), arrays)
        return list(self._functions[key](*arrays))


def _in_float64(function: Callable[..., Any], arrays: Sequence[Any]) -> Callable[..., Any]:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    narrow = [tf.float32 if x.dtype == tf.float64 else x.dtype for x in arrays]
    specs = [tf.TensorSpec((None, *x.shape[1:]), dtype) for x, dtype in zip(arrays, narrow, strict=True)]
    traced = tf.function(function, autograph=False).get_concrete_function(*specs)
    frozen = convert_variables_to_constants_v2(traced, lower_control_flow=True)
    graph = frozen.graph.as_graph_def()
    for node in graph.node:
        for value in node.attr.values():
            _widen(value)
    wide = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    pruned: Callable[..., Any] = wide.prune([x.name for x in frozen.inputs], [y.name for y in frozen.outputs])
    return pruned


def _wide(number: int) -> int:
    """The number of a type in a graph; that of float64 for float32."""
    import tensorflow as tf

    return int(tf.float64.as_datatype_enum if number == tf.float32.as_datatype_enum else number)


def _widen(value: Any) -> None:
    """Let an attribute of an operation say float64 where it says float32."""
    import tensorflow as tf

    kind = value.WhichOneof("value")
    if kind == "type":
        value.type = _wide(value.type)
    elif kind == "list":
        value.list.type[:] = map(_wide, value.list.type)
    elif kind == "tensor" and value.tensor.dtype == tf.float32.as_datatype_enum:
        value.tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(value.tensor).astype("float64")))
