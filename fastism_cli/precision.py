"""The same model in another floating-point type."""

from __future__ import annotations

from typing import Any

import keras

from fastism_cli.errors import ModelError

DTYPES = {"float32": "float32", "tf32": "float32", "bfloat16": "bfloat16", "float64": "float64"}
_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64", "mixed_float16", "mixed_bfloat16"})


def with_dtype(model: Any, dtype: str) -> Any:
    """The model with every layer computing and storing in ``dtype``; itself if it does so already.

    Raises
    ------
    ModelError
        If the model cannot be built again from its configuration.
    """
    if {variable.dtype for variable in model.variables} <= {dtype} and _policies(model) <= {dtype}:
        return model
    try:
        config = _recast(keras.saving.serialize_keras_object(model), dtype)
        config.pop("compile_config", None)
        with keras.saving.CustomObjectScope(_classes(model)):
            clone = keras.saving.deserialize_keras_object(config, safe_mode=False)
        clone.set_weights(model.get_weights())
    except (TypeError, ValueError, AttributeError, NotImplementedError, KeyError) as error:
        raise ModelError(f"Model {model.name!r} cannot be computed in {dtype}: {error}") from error
    return clone


def _operations(model: Any) -> list[Any]:
    found = []
    for operation in getattr(model, "operations", None) or getattr(model, "layers", []):
        found.append(operation)
        found.extend(_operations(operation) if isinstance(operation, keras.Model) else [])
    return found


def _policies(model: Any) -> set[str]:
    policies = (getattr(operation, "dtype_policy", None) for operation in _operations(model))
    names = {policy.name for policy in policies if policy is not None}
    return names & _FLOATS


def _classes(model: Any) -> dict[str, type]:
    """The classes of the model's own layers, so that unregistered ones are found again."""
    return {type(o).__name__: type(o) for o in _operations(model) if not type(o).__module__.startswith("keras.")}


def _recast(config: Any, dtype: str) -> Any:
    """A copy of a configuration in which every float type is ``dtype``."""
    if isinstance(config, dict):
        policy = config.get("class_name") == "DTypePolicy"
        return {
            key: dtype if (key == "dtype" or (policy and key == "name")) and _is_float(value) else _recast(value, dtype)
            for key, value in ((k, _policy_config(k, v, dtype) if policy else v) for k, v in config.items())
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_recast(item, dtype) for item in config)
    return config


def _policy_config(key: str, value: Any, dtype: str) -> Any:
    return {**value, "name": dtype} if key == "config" and _is_float(value.get("name")) else value


def _is_float(value: Any) -> bool:
    return isinstance(value, str) and value in _FLOATS
