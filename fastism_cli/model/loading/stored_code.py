"""Find code in a model's configuration, and layers that cannot be loaded, before anything is built."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from fastism_cli.genome.input_files import printable
from fastism_cli.model.loading.config_entries import (
    Config,
    Context,
    arguments_from_kwargs,
    builtin_class,
    function_name,
    is_bytecode,
    is_custom,
    is_layer_entry,
    objects_in,
    unknown_arguments,
    written_name,
)
from fastism_cli.model.loading.repair_config import HARD_SIGMOID, plain_config, registered_objects, repair_config
from fastism_cli.model.loading.safe_files import OPERATIONS, PROPERTIES, is_function

# Layers that run code of the file: Python bytecode, a pickled module, another file, columns that read files.
CODE_LAYERS = {"Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer", "ClassMethod", "InstanceMethod"}
CODE_LAYERS |= {"DenseFeatures", "SequenceFeatures", "FeatureSpace"}

# Layers whose vocabulary can be the name of a file.
LOOKUP_LAYERS = {"StringLookup", "IntegerLookup", "TextVectorization", "IndexLookup"}

# Layers of Keras 2 that name one function, operation or property of TensorFlow.
FUNCTION_LAYERS = {"TFOpLambda", "SlicingOpLambda"}

# Layers of Keras 2 that Keras 3 lacks and tf_keras reads.
KERAS2_ONLY = {"LocallyConnected1D", "LocallyConnected2D", "ThresholdedReLU", "TFOpLambda", "SlicingOpLambda"}
KERAS2_ONLY |= {"InstanceProperty", "TensorFlowOpLayer", "RandomHeight", "RandomWidth", "DenseFeatures"}

# Modules of Keras for the parts of a model. Not keras.utils, keras.saving, ...: their functions read and write files.
MODEL_PARTS = "activations|constraints|dtype_policies|initializers|layers|losses|metrics|models|ops|quantizers|random"
KERAS_MODULE = re.compile(
    rf"(tf_)?keras(\.src)?(\.({MODEL_PARTS}|engine|mixed_precision|regularizers|optimizers)(\.\w+)*)?"
)
FUNCTION_MODULE = re.compile(r"(tf_)?keras(\.src)?\.(activations|constraints|initializers|ops|regularizers)(\.\w+)*")
KERAS_PACKAGES = re.compile(r"keras_(hub|nlp|cv)(\.src)?\.(layers|models)(\.\w+)*")

# Names in the modules of functions that are no functions on tensors.
NO_TENSOR_FUNCTIONS = {"get", "serialize", "deserialize", "serialize_keras_object", "deserialize_keras_object"}

RUNS_CODE = "a {cls} layer runs code stored in the file; pass --allow-lambda if you trust it"
RUNS_OPERATION = (
    "a {cls} layer runs {operation} of TensorFlow, which is no plain arithmetic; pass --allow-lambda if you trust it"
)
READS_FILE = "a {cls} layer reads another file, {name}; pass --allow-lambda if you trust it"
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
        parts = (value for key, value in entry.items() if key != "compile_config")  # which is never given to Keras
        for inner in parts:
            yield from entries_in(inner, name)


def _name(entry: Config) -> str:
    config = entry["config"] if isinstance(entry["config"], dict) else {}
    name = config.get("name") or entry.get("name")
    return name if isinstance(name, str) else ""


def stored_code(config: Any, *, objects: Collection[str] = (), allow_lambda: bool = False) -> dict[str, str]:
    """Code that a configuration would run or import if it were built: a line for each layer, none if it is safe.

    Parameters
    ----------
    config : dict or list
        The configuration as stored, before any repair.
    objects : collection of str
        Names of objects that the user provides; their code is trusted.
    allow_lambda : bool
        The user trusts the code in the file: only imports from other packages are then reported.
    """
    lines: dict[str, str] = {}
    for layer, entry in entries_in(config):
        line = _unsafe(entry, set(objects), allow_lambda)
        if line:
            lines.setdefault(layer, line)
    return lines


def listed(lines: Mapping[str, str]) -> list[str]:
    """``'name': what, and the flag that helps``: one line for all layers with the same fault."""
    layers: dict[str, list[str]] = {}
    for layer, line in lines.items():
        layers.setdefault(line, []).append(layer)
    return [printable(f"{_few(names)}: {line}") for line, names in layers.items()]


def _few(names: list[str]) -> str:
    if len(names) == 1:
        return f"'{names[0]}'"
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"{len(names)} layers ({shown}{', ...' if len(names) > 3 else ''})"


def _unsafe(entry: Config, objects: set[str], allow_lambda: bool) -> str:
    given = {entry["class_name"], str(entry.get("registered_name"))} & objects
    module, name = _place(entry)
    if name == "function":
        return "" if function_name(entry) in objects else _unsafe_function(entry)
    code = "" if given else _code(name, entry["config"], objects)
    if code:
        return "" if allow_lambda else code
    return "" if given or _is_of_keras(module, name) else UNKNOWN_CLASS.format(cls=entry["class_name"])


def _place(entry: Config) -> tuple[str, str]:
    """Module and class. Keras joins the two: ``layers.Lambda`` of ``keras`` is ``Lambda`` of ``keras.layers``."""
    module, _, name = f"{entry.get('module') or ''}.{entry['class_name']}".rpartition(".")
    return module.removeprefix("."), name


def _code(name: str, config: Any, objects: set[str]) -> str:
    """What code a layer runs that only the file, or something outside of it, defines; "" if none."""
    config = config if isinstance(config, dict) else {}
    if name == "Lambda":
        stored = any(is_bytecode(config.get(part)) for part in ("function", "output_shape", "mask"))
        return RUNS_CODE.format(cls=name) if stored or function_name(config.get("function")) not in objects else ""
    if name in LOOKUP_LAYERS and isinstance(config.get("vocabulary"), str):
        return READS_FILE.format(cls=name, name=config["vocabulary"])
    if name in CODE_LAYERS or name == "__lambda__":
        return RUNS_CODE.format(cls=name if name in CODE_LAYERS else "Lambda")
    operation = _operation_off_the_list(name, config)
    return RUNS_OPERATION.format(cls=name, operation=operation) if operation else _code_in_activation(config)


def _operation_off_the_list(name: str, config: Config) -> str:
    """The function, property or operation of TensorFlow that a layer names, if it is no arithmetic; else ""."""
    if name in FUNCTION_LAYERS:
        symbol = str(config.get("function") or "a function without a name")
        return "" if is_function(symbol) else symbol
    if name == "InstanceProperty":
        attribute = str(config.get("attr_name"))
        return "" if attribute in PROPERTIES else attribute
    if name == "TensorFlowOpLayer":
        operation, calls = _node(config.get("node_def"))
        return operation if operation not in OPERATIONS or calls else ""
    return ""


def _node(stored: Any) -> tuple[str, bool]:
    """The operation of a stored node, and whether it calls functions, which no Keras file holds."""
    from google.protobuf import json_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework.node_def_pb2 import NodeDef

    try:
        if isinstance(stored, str):
            node = NodeDef.FromString(stored.encode())
        else:
            node = json_format.ParseDict(stored, NodeDef())
    except (DecodeError, json_format.ParseError, AttributeError, TypeError, ValueError):
        return "an operation that cannot be read", True
    return node.op, any(value.HasField("func") or value.list.func for value in node.attr.values())


def _code_in_activation(config: Config) -> str:
    for argument, name in config.items():
        if argument.endswith("activation") and isinstance(name, str) and name in NO_TENSOR_FUNCTIONS:
            return UNKNOWN_FUNCTION.format(argument=argument, name=name)
    return ""


def _unsafe_function(entry: Config) -> str:
    name, module = str(entry["config"]), str(entry.get("module") or "builtins")
    if module == "builtins" and _is_activation(name):
        return ""
    if FUNCTION_MODULE.fullmatch(module) and name.rpartition(".")[2] not in NO_TENSOR_FUNCTIONS:
        return ""
    return UNKNOWN_FUNCTION.format(argument="function", name=name)


def _is_activation(name: str) -> bool:
    import keras

    return name not in NO_TENSOR_FUNCTIONS and callable(getattr(keras.activations, name, None))


def _is_of_keras(module: str, name: str) -> bool:
    """Whether building it imports nothing but Keras, and takes a class of a model's parts there."""
    if not module or module == "builtins":
        return True
    if KERAS_PACKAGES.fullmatch(module):
        return True
    return bool(KERAS_MODULE.fullmatch(module)) and not _is_function_of_keras(module, name)


def _is_function_of_keras(module: str, name: str) -> bool:
    """Whether the place holds a function, such as ``load_model``. A file can have a function called like a layer."""
    import keras

    found: Any = keras
    for part in (*module.split(".")[1:], name):
        found = getattr(found, part, None)
    return found is not None and not isinstance(found, type)


# --- layers that cannot be loaded ------------------------------------------------------------------------------------


def describe_problems(
    config: Config,
    *,
    keras2: bool = True,
    objects: Mapping[str, object] | None = None,
    allow_lambda: bool = False,
) -> list[str]:
    """Why a model cannot be loaded: ``'name': what, and the flag that helps``, one line for each fault."""
    return listed(problems(config, keras2=keras2, objects=objects, allow_lambda=allow_lambda))


def problems(
    config: Config,
    *,
    keras2: bool = True,
    objects: Mapping[str, object] | None = None,
    allow_lambda: bool = False,
) -> dict[str, str]:
    """What is wrong with each layer that cannot be loaded, and the flag that helps.

    Parameters
    ----------
    config : dict
        The configuration as stored.
    keras2 : bool
        Whether Keras 1 or 2 wrote it.
    objects : mapping, optional
        The user's classes and functions by name.
    """
    context = Context({**registered_objects(), **(objects or {})}, keras2)
    lines = stored_code(config, objects=context.objects, allow_lambda=allow_lambda)
    for layer, entry in entries_in(_repaired(config, context)):
        line = _problem(entry, context) if is_layer_entry(entry) and isinstance(entry["config"], dict) else ""
        if line:
            lines.setdefault(written_name(layer), line)
    order = [layer for layer, _ in entries_in(config)]
    found = sorted(lines, key=lambda layer: order.index(layer) if layer in order else len(order))
    return {layer: lines[layer] for layer in found}


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
    taken = arguments_from_kwargs(builtin_class(entry, context))
    refused = {name: value for name, value in refused.items() if name not in taken}
    arguments = ", ".join(f"{name}={value!r}" for name, value in refused.items())
    return UNKNOWN_ARGUMENTS.format(cls=cls, arguments=arguments) if refused else ""


def _is_unknown_class(entry: Config, context: Context) -> bool:
    if {entry["class_name"], str(entry.get("registered_name"))} & set(context.objects):
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
