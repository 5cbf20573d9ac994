"""Layers whose class is a subclass of Keras' own, as layers of that class: for rules, which go by the exact class.

A subclass that only sets itself up in another way, by its ``__init__``, ``build`` or ``get_config``, computes what its
Keras class does. That is read from the names: the subclass defines none that the ``call`` of the Keras class reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import CodeType, FunctionType
from typing import Any

import keras

# What a subclass can define without a difference to what a built layer computes.
SETTING_UP = frozenset(
    "__init__ build get_config from_config get_build_config build_from_config compute_output_shape "
    "compute_output_spec count_params add_weight save_own_variables load_own_variables save_assets load_assets "
    "__module__ __qualname__ __doc__ __annotations__ __annotate__ __annotate_func__ __annotations_cache__ "
    "__firstlineno__ __static_attributes__ __orig_bases__ __parameters__ __abstractmethods__ _abc_impl __repr__ "
    "__str__ __dict__ __weakref__ _tf_module_ignored_properties _obj_type".split()
)
# Attributes that hold the layers inside of a layer.
INNER = ("layer", "forward_layer", "backward_layer", "cell", "cells")
# What each layer has of its own: methods that Keras wraps, and the places where it is called.
OF_THE_OBJECT = frozenset({"build", "quantize", "_inbound_nodes", "_outbound_nodes"})


def as_keras_layer(layer: Any) -> Any:
    """The layer itself, or one of the Keras class whose ``call`` it has, with the same weights and settings.

    So are the layers inside of a wrapper such as Bidirectional, and the cells of a recurrent layer.
    """
    if not isinstance(layer, keras.Layer) or isinstance(layer, keras.Model):
        return layer
    base = keras_class(type(layer))
    if base is None or not _computes_as(layer, base, but_for=frozenset()):
        return layer
    inner = {name: _inside(vars(layer)[name]) for name in INNER if name in vars(layer)}
    if type(layer) is base and all(vars(layer)[name] is value for name, value in inner.items()):
        return layer
    return _copy_of_class(layer, base, inner)


def as_its_base(layer: Any, base: type) -> Any | None:
    """What ``super().call(...)`` inside the ``call`` of a subclass runs, as a layer of the Keras class ``base``.

    None if the subclass has more that the ``call`` of ``base`` reads. It has the settings of this moment: a ``call``
    can change them before it calls that of its base, and back afterwards.
    """
    return _copy_of_class(layer, base, {}) if _computes_as(layer, base, but_for=frozenset({"call"})) else None


def with_inner(layer: Any, inner: dict[str, Any]) -> Any:
    """A layer of one of Keras' own classes, with the same weights and settings, but with these attributes."""
    return _copy_of_class(layer, type(layer), inner)


def keras_class(cls: type) -> type | None:
    """The first class of ``keras.layers`` among a class and its bases; None for one that has no ``call`` of Keras."""
    found = next((base for base in cls.__mro__ if _is_of_keras(base)), None)
    return found if found is not None and getattr(keras.layers, found.__name__, None) is found else None


def name_of(activation: Any) -> str:
    """The name of a function, or of the class of another callable."""
    return getattr(activation, "__name__", None) or type(activation).__name__


def is_keras_function(activation: Any) -> bool:
    """Whether this is one of Keras' own activation functions, by identity and not by name."""
    return getattr(keras.activations, name_of(activation), None) is activation


def _is_of_keras(cls: type) -> bool:
    return (cls.__module__ + ".").startswith("keras.")


def _inside(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return as_keras_layer(value)
    found = [as_keras_layer(item) for item in value]
    return value if all(a is b for a, b in zip(found, value, strict=True)) else found


def _computes_as(layer: Any, base: type, *, but_for: frozenset[str]) -> bool:
    """Whether nothing that the subclass or the object defines is read by the ``call`` of ``base``."""
    if base in (keras.layers.Layer, keras.layers.Lambda):
        return False
    own = {name for cls in type(layer).__mro__ if cls not in base.__mro__ for name in vars(cls)}
    replaced = {name for name in vars(layer) if callable(getattr(base, name, None))} - OF_THE_OBJECT
    read = _names_read(base)
    return all(name not in read and _is_harmless(name, base) for name in (own | replaced) - but_for)


def _is_harmless(name: str, base: type) -> bool:
    if name.startswith("__") and name.endswith("__"):
        return name in SETTING_UP
    return name in SETTING_UP or not hasattr(base, name)


@cache
def _names_read(base: type) -> frozenset[str]:
    """All names and words in the code that the ``call`` of a Keras class can reach through its own methods."""
    found: set[str] = set()
    waiting = ["call"]
    done: set[str] = set()
    while waiting:
        name = waiting.pop()
        done.add(name)
        for code in _code_of(base, name):
            words = set(_words(code))
            found |= words
            waiting += [word for word in words - done if hasattr(base, word)]
    return frozenset(found - {"__init__", "__class__"})


def _code_of(base: type, name: str) -> Iterator[CodeType]:
    """The code of a method or property, as each class among the bases that are Keras' own defines it."""
    for cls in base.__mro__:
        value = vars(cls).get(name) if _is_of_keras(cls) else None
        value = getattr(value, "__wrapped__", value)
        value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if isinstance(value, FunctionType):
            yield value.__code__


def _words(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, CodeType):
            yield from _words(constant)


def _copy_of_class(layer: Any, base: Any, inner: dict[str, Any]) -> Any:
    copy = base.__new__(base)
    keras.Layer.__init__(copy, name=layer.name)  # what Keras keeps of the arguments of ``call`` is that of ``base``
    settings = {name: value for name, value in vars(layer).items() if _is_setting(name)}
    vars(copy).update({**settings, **inner})
    return copy


def _is_setting(name: str) -> bool:
    return name not in OF_THE_OBJECT and not name.lstrip("_").startswith("call_")
