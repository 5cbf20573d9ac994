"""Read the configuration of a model (JSON): its entries, and the class of Keras or of the user that each names."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Config = dict[str, Any]

EVERY_LAYER_TAKES = {"name", "dtype", "trainable", "activity_regularizer", "autocast"}
MODEL_MODULES = {
    "Sequential": "keras.src.models.sequential",
    "Functional": "keras.src.models.functional",
}


@dataclass(frozen=True)
class Context:
    """Facts that repairs need besides the layer: the user's objects by name, and whether Keras 2 wrote the file."""

    objects: Mapping[str, object] = field(default_factory=dict)
    keras2: bool = True


def objects_in(value: Any) -> Iterator[Config]:
    """The nearest ``{"class_name", "config"}`` entries inside a value, outermost only."""
    if isinstance(value, dict) and isinstance(value.get("class_name"), str) and "config" in value:
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from objects_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from objects_in(inner)


def all_entries(value: Any) -> Iterator[Config]:
    """Every entry at any depth, outer before inner."""
    for entry in objects_in(value):
        yield entry
        for inner in (entry["config"], entry.get("inbound_nodes")):
            yield from all_entries(inner)


def numbers_in(value: Any) -> Iterator[float]:
    """Every number inside of lists and mappings."""
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(inner)


def is_layer_entry(entry: Config) -> bool:
    """Whether an entry can be a layer, and is no stored function, tensor or tuple."""
    stored_value = entry["class_name"] == "function" or entry["class_name"].startswith("__")
    return not stored_value and isinstance(entry["config"], (dict, list))


def decode(value: Any) -> Any:
    """Undo the wrappings of earlier JSON encoders: tuples, tensor shapes, arrays.

    Nothing that could be an entry is dropped: Keras reads the configuration as it was.
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") in ("__tuple__", "TensorShape") and set(value) == {"class_name", "items"}:
        return [decode(item) for item in value["items"]]
    if set(value) == {"type", "value"} and isinstance(value["type"], str):
        return decode(value["value"])
    return {key: decode(item) for key, item in value.items()}


def function_name(value: Any) -> str:
    """The name of a stored function: a bare string in Keras 2, an entry of class "function" in Keras 3."""
    if isinstance(value, dict):
        value = value.get("config") if value.get("class_name") == "function" else None
    return value if isinstance(value, str) else ""


def named_function(name: str) -> Config:
    return {"module": None, "class_name": "function", "config": name, "registered_name": name}


def is_bytecode(value: Any) -> bool:
    """Whether a stored value is a Python function: marshalled code, defaults and closure."""
    if isinstance(value, dict):
        return value.get("class_name") == "__lambda__"
    return isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)


def known_names(entry: Config) -> tuple[Any, ...]:
    """Names under which the user can have given the class of an entry, the longest first."""
    return entry.get("registered_name"), entry["class_name"], entry["class_name"].rpartition(">")[2]


# In the place of a slash, which Keras 3 refuses in the name of a layer: no other name of Keras 2 has this character.
SLASH = ">"
# What a scope in a graph of TensorFlow cannot hold. Keras says so only when it runs the graph: files have such names.
_OUTSIDE = re.compile(r"[^A-Za-z0-9_.>-]")
_NUMBER = re.compile(r">\.([0-9a-f]{1,6})\.")  # of another letter
_BEGIN = "."  # before a number, with which no scope may begin


def plain_name(name: str) -> str:
    """The name of a layer as Keras 3 and TensorFlow take it, and no two names become one.

    A plain name stays as it is. :func:`written_name` is the way back.

    Examples
    --------
    >>> plain_name("conv_1"), plain_name("block1/conv"), plain_name("a b"), plain_name("_x")
    ('conv_1', 'block1>conv', 'a>.20.b', '.>.5f.x')
    """
    name = _OUTSIDE.sub(lambda found: _numbered(found[0]), name.replace("/", SLASH))
    if not name or name[0].isalnum() or name.startswith(_BEGIN):
        return name
    return _BEGIN + (name if _NUMBER.match(name) else _numbered(name[0].replace(SLASH, "/")) + name[1:])


def _numbered(letter: str) -> str:
    return f"{SLASH}.{ord(letter):x}."


def written_name(name: str) -> str:
    """The name that the layer has in its file."""
    if name.startswith(_BEGIN) and _NUMBER.match(name, 1):
        name = name.removeprefix(_BEGIN)
    return _NUMBER.sub(lambda found: chr(min(int(found[1], 16), sys.maxunicode)), name).replace(SLASH, "/")


def is_custom(layer: Config, context: Context) -> bool:
    """Whether the class is the user's: it is outside Keras, or has no module and the name of an object of the user."""
    if is_foreign(layer):
        return True
    names = {layer.get("registered_name"), None if layer.get("module") else layer["class_name"]}
    return bool(names & set(context.objects))


def is_foreign(layer: Config) -> bool:
    """Whether the class is outside Keras according to the file."""
    package = (layer.get("module") or "keras").partition(".")[0]
    return package not in ("keras", "tf_keras", "tensorflow", "builtins") or ">" in layer["class_name"]


def builtin_class(layer: Config, context: Context) -> type | None:
    """The class of ``keras.layers`` (or the model class) that an entry means; None for anything else."""
    import keras

    if is_custom(layer, context):
        return None
    if layer["class_name"] in MODEL_MODULES:
        return keras.Sequential if layer["class_name"] == "Sequential" else keras.Model
    found = getattr(keras.layers, layer["class_name"], None)
    return found if inspect.isclass(found) and _is_of_layers(layer) else None


def _is_of_layers(layer: Config) -> bool:
    """Keras 3 also stores operations: `keras.src.ops.numpy` has an `Add` too."""
    module = layer.get("module") or "keras.layers"
    return ".layers" in module or not module.startswith("keras")


def accepted_arguments(cls: type) -> set[str]:
    """Every argument that a class of Keras takes, including those of its base classes."""
    accepted: set[str] = set()
    for base in (base for base in cls.__mro__ if "__init__" in vars(base)):
        parameters = inspect.signature(vars(base)["__init__"]).parameters
        accepted |= set(parameters)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return accepted - {"self"}
    return accepted | EVERY_LAYER_TAKES


def arguments_from_kwargs(cls: type | None) -> set[str]:
    """Arguments that a class takes out of ``**kwargs`` by name, such as ``rms_scaling`` of LayerNormalization."""
    code = getattr(vars(cls or object).get("__init__"), "__code__", None)
    return {value for value in code.co_consts if isinstance(value, str)} if code else set()


def unknown_arguments(layer: Config, context: Context) -> Config:
    """Arguments of a repaired entry that its Keras class will refuse."""
    cls = builtin_class(layer, context)
    if cls is None or layer["class_name"] in MODEL_MODULES:
        return {}
    accepted = accepted_arguments(cls)
    return {name: value for name, value in layer["config"].items() if name not in accepted}
