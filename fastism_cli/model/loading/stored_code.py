"""Find code in a model's configuration, and layers that cannot be loaded, before anything is built."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from fastism_cli.model.loading.config_entries import (
    Config,
    Context,
    builtin_class,
    function_name,
    is_bytecode,
    is_custom,
    is_layer_entry,
    objects_in,
    unknown_arguments,
)
from fastism_cli.model.loading.repair_config import HARD_SIGMOID, plain_config, registered_objects, repair_config

# Layers that run code of the file: Python bytecode, a pickled module, another file.
CODE_LAYERS = {"Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer", "ClassMethod", "InstanceMethod"}

# Layers of Keras 2 that Keras 3 lacks and tf_keras reads.
KERAS2_ONLY = {"LocallyConnected1D", "LocallyConnected2D", "ThresholdedReLU", "TFOpLambda", "SlicingOpLambda"}
KERAS2_ONLY |= {"InstanceProperty", "TensorFlowOpLayer", "RandomHeight", "RandomWidth", "DenseFeatures"}

# Modules of Keras for the parts of a model. Not keras.utils, keras.saving, ...: their functions read and write files.
MODEL_PARTS = "activations|constraints|dtype_policies|initializers|layers|losses|metrics|models|ops|quantizers|random"
KERAS_MODULE = re.compile(
    rf"(tf_)?keras(\.src)?(\.({MODEL_PARTS}|engine|mixed_precision|regularizers|optimizers)(\.\w+)*)?"
)
FUNCTION_MODULE = re.compile(r"(tf_)?keras(\.src)?\.(activations|constraints|initializers|ops|regularizers)(\.\w+)*")
KERAS_PACKAGES = {"keras_hub", "keras_nlp", "keras_cv"}

# TensorFlow functions that a TFOpLambda can name: arithmetic. Others write files, load libraries or call Python.
TENSOR_NAMESPACES = {"math", "nn", "linalg", "signal", "image", "bitwise", "random", "__operators__"}
TENSOR_FUNCTIONS = set(
    "abs add add_n argmax argmin argsort boolean_mask broadcast_to cast clip_by_norm clip_by_value concat constant "
    "convert_to_tensor cos cumsum divide einsum ensure_shape equal exp expand_dims eye fill floor gather gather_nd "
    "greater greater_equal identity less less_equal linspace logical_and logical_not logical_or matmul maximum minimum "
    "multiply negative norm not_equal one_hot ones ones_like pad pow range rank realdiv reduce_all reduce_any "
    "reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat reshape reverse roll round "
    "saturate_cast scalar_mul scatter_nd searchsorted sequence_mask shape sigmoid sign sin size slice sort split sqrt "
    "square squeeze stack stop_gradient strided_slice subtract tan tanh tensordot tile transpose truediv unstack where "
    "zeros zeros_like".split()
)

RUNS_CODE = "a {cls} layer runs code stored in the file; pass --allow-lambda if you trust it"
UNKNOWN_CLASS = "class {cls} is not known; pass --custom-objects FILE.py"
UNKNOWN_FUNCTION = "{argument} {name} is not known; pass --custom-objects FILE.py"
UNKNOWN_ARGUMENTS = "{cls} does not take {arguments}; a class of that name in --custom-objects FILE.py may"


class Entry(NamedTuple):
    """One ``{"class_name", "config"}`` of the configuration and the name of the layer that it belongs to."""

    layer: str
    entry: Config


def entries_in(config: Any, layer: str = "model") -> Iterator[Entry]:
    """Every entry, outer before inner; an entry without a name gets that of its layer."""
    for entry in objects_in(config):
        name = _name(entry) or layer
        yield Entry(name, entry)
        for inner in (entry["config"], entry.get("inbound_nodes"), entry.get("items")):
            yield from entries_in(inner, name)


def _name(entry: Config) -> str:
    config = entry["config"] if isinstance(entry["config"], dict) else {}
    name = config.get("name") or entry.get("name")
    return name if isinstance(name, str) else ""


def stored_code(config: Any, *, objects: Collection[str] = (), allow_lambda: bool = False) -> list[str]:
    """Code that a configuration would run or import if it were built: one line per layer, none if it is safe.

    Parameters
    ----------
    config : dict or list
        The configuration as stored, before any repair.
    objects : collection of str
        Names of objects that the user provides; their code is trusted.
    allow_lambda : bool
        The user trusts the code in the file: only imports from other packages are then reported.
    """
    lines = _code_by_layer(config, set(objects), allow_lambda)
    return [f"'{layer}': {line}" for layer, line in lines.items()]


def _code_by_layer(config: Any, objects: set[str], allow_lambda: bool) -> dict[str, str]:
    lines: dict[str, str] = {}
    for layer, entry in entries_in(config):
        line = _unsafe(entry, objects, allow_lambda)
        if line:
            lines.setdefault(layer, line)
    return lines


def _unsafe(entry: Config, objects: set[str], allow_lambda: bool) -> str:
    name = entry["class_name"]
    given = {name, entry.get("registered_name")} & objects
    if name == "function":
        return "" if function_name(entry) in objects else _unsafe_function(entry)
    if _runs_code(entry, objects):
        return "" if allow_lambda or given else RUNS_CODE.format(cls="Lambda" if name == "__lambda__" else name)
    return UNKNOWN_CLASS.format(cls=name) if _is_elsewhere(entry) and not given else ""


def _runs_code(entry: Config, objects: set[str]) -> bool:
    name, config = entry["class_name"], entry["config"]
    if name == "Lambda":
        stored = any(is_bytecode(config.get(part)) for part in ("function", "output_shape", "mask"))
        return stored or function_name(config.get("function")) not in objects
    if name == "TFOpLambda":
        return not is_tensor_function(str(config.get("function")))
    return name in CODE_LAYERS or name == "__lambda__"


def is_tensor_function(symbol: str) -> bool:
    """Whether a TensorFlow name, as a TFOpLambda stores it, is arithmetic on tensors."""
    symbol = symbol.removeprefix("compat.v1.")
    namespace, _, name = symbol.rpartition(".")
    return namespace.partition(".")[0] in TENSOR_NAMESPACES if namespace else name in TENSOR_FUNCTIONS


def _unsafe_function(entry: Config) -> str:
    name, module = str(entry["config"]), entry.get("module") or "builtins"
    if module == "builtins" and _is_activation(name):
        return ""
    if FUNCTION_MODULE.fullmatch(module):
        return ""
    return UNKNOWN_FUNCTION.format(argument="function", name=name)


def _is_activation(name: str) -> bool:
    import keras

    return callable(getattr(keras.activations, name, None)) and name not in ("get", "serialize", "deserialize")


def _is_elsewhere(entry: Config) -> bool:
    """Whether building the entry would import a module outside Keras."""
    module = entry.get("module")
    if not module or module in ("builtins",):
        return False
    return not KERAS_MODULE.fullmatch(module) and module.partition(".")[0] not in KERAS_PACKAGES


# --- layers that cannot be loaded ------------------------------------------------------------------------------------


def describe_problems(
    config: Config,
    *,
    keras2: bool = True,
    objects: Mapping[str, object] | None = None,
    allow_lambda: bool = False,
) -> list[str]:
    """Why a model cannot be loaded: ``'name': what, and the flag that helps``, one line per layer.

    Parameters
    ----------
    config : dict
        The configuration as stored.
    keras2 : bool
        Whether Keras 1 or 2 wrote it.
    objects : mapping, optional
        The user's classes and functions by name.
    """
    lines = _code_by_layer(config, set(objects or ()), allow_lambda)
    context = Context({**registered_objects(), **(objects or {})}, keras2)
    for layer, entry in entries_in(_repaired(config, context)):
        line = _problem(entry, context) if is_layer_entry(entry) and isinstance(entry["config"], dict) else ""
        if line:
            lines.setdefault(layer, line)
    order = [layer for layer, _ in entries_in(config)]
    found = sorted(lines, key=lambda layer: order.index(layer) if layer in order else len(order))
    return [f"'{layer}': {lines[layer]}" for layer in found]


def _repaired(config: Config, context: Context) -> Config:
    try:
        return repair_config(config, keras2=context.keras2, objects=context.objects)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return plain_config(config, context.objects)  # cannot be repaired, but the classes can be looked up


def _problem(entry: Config, context: Context) -> str:
    cls = entry["class_name"]
    if _is_unknown_class(entry, context):
        return UNKNOWN_CLASS.format(cls=cls)
    for argument in ("activation", "recurrent_activation"):
        name = function_name(entry["config"].get(argument))
        if name and builtin_class(entry, context) and not _is_known_function(name, context):
            return UNKNOWN_FUNCTION.format(argument=argument, name=name)
    refused = unknown_arguments(entry, context) if entry.get("module") else {}  # else it was not repaired
    arguments = ", ".join(f"{name}={value!r}" for name, value in refused.items())
    return UNKNOWN_ARGUMENTS.format(cls=cls, arguments=arguments) if refused else ""


def _is_unknown_class(entry: Config, context: Context) -> bool:
    if {entry["class_name"], entry.get("registered_name")} & set(context.objects):
        return False
    if is_custom(entry, context):
        return True
    without_module = entry.get("module") is None
    return without_module and builtin_class(entry, context) is None and not _is_known_part(entry)


def _is_known_part(entry: Config) -> bool:
    import keras

    name = entry["class_name"]
    parts = (keras.initializers, keras.regularizers, keras.constraints)
    return name in KERAS2_ONLY or name in CODE_LAYERS or any(hasattr(part, name) for part in parts)


def _is_known_function(name: str, context: Context) -> bool:
    return name in context.objects or name == HARD_SIGMOID or _is_activation(name)
