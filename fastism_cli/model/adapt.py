"""Other forms of a model or a layer, such as the engine can read, and whether two forms agree.

Any model becomes one whose calls can be read, and whose sequence has shape (length, letters). A subclassed model
becomes a functional model of one layer. A model whose sequence lies in an image, (L, 1, 4), (1, L, 4), (4, L, 1), (L,
4, 1), or has its letters first, (4, L), gets layers in front that take (L, 4). One with a head of True and False, or
of one number without an axis of targets, gets layers behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from types import CodeType, FunctionType
from typing import Any

import keras
import numpy as np

from fastism_cli.errors import ModelError, UsageError
from fastism_cli.model import backend
from fastism_cli.model.keras_graph import (
    function_of,
    input_names,
    input_shapes,
    is_tf_keras,
    output_names,
    pack_inputs,
)
from fastism_cli.model.loading.config_entries import plain_name

# --- subclasses of Keras' own layers ---------------------------------------------------------------------------------

# A subclass that only sets itself up in another way, by its ``__init__``, ``build`` or ``get_config``, computes what
# its Keras class does. That is read from the names: the subclass defines none that the ``call`` of the Keras class
# reads.

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


# --- whether two forms agree -----------------------------------------------------------------------------------------

# Two forms that compute the same add up the same numbers in another order. A sum of n terms of similar size then
# differs by about sqrt(n) roundings of its largest partial sum, which is about as large as the largest output. 64
# roundings are a sum of 4,096 terms, such as a dense layer or a convolution has; in float32 they are 7.6e-6. Errors in
# the meaning of a layer (another epsilon, another activation, weights that are swapped) are larger by far.
ROUNDINGS = 64
# Types of 16 bits keep sums in float32 and round only the results: fewer of their coarse roundings add up.
MAX_TOLERANCE = 0.1


def tolerance(values: np.ndarray) -> float:
    """The difference that rounding can explain, in the units of ``values``: relative to the largest of them."""
    name = values.dtype.name
    epsilon = 2.0**-7 if name == "bfloat16" else float(np.finfo(values.dtype).eps) if values.dtype.kind == "f" else 0.0
    # float64 is taken for float32: a layer may hold constants of float32
    relative = min(ROUNDINGS * max(epsilon, float(np.finfo("float32").eps)), MAX_TOLERANCE)
    return relative * float(np.abs(values.astype("float64")).max(initial=1e-30))


def agree(wanted: Sequence[Any], found: Sequence[Any], *, nan_is_nan: bool = False, times: float = 1.0) -> bool:
    """Whether two lists of arrays have the same shapes and, up to ``times`` the usual rounding, the same values.

    Arrays of the backend or of NumPy. A NaN agrees with nothing; with ``nan_is_nan`` it agrees with another, as long as
    half of the values are numbers.
    """
    pairs = [(_as_numpy(x), _as_numpy(y)) for x, y in zip(wanted, found, strict=True)]
    return all(
        x.shape == y.shape
        and _close(x.astype("float64"), y.astype("float64"), times * tolerance(x[np.isfinite(x)]), nan_is_nan)
        for x, y in pairs
    )


def _close(wanted: np.ndarray, found: np.ndarray, most: float, nan_is_nan: bool) -> bool:
    if not nan_is_nan:
        return np.allclose(wanted, found, rtol=0, atol=most)
    numbers = np.isfinite(wanted)
    same = np.array_equal(wanted[~numbers], found[~numbers], equal_nan=True) and numbers.mean() >= 0.5
    return same and np.allclose(wanted[numbers], found[numbers], rtol=0, atol=most)


def _as_numpy(x: Any) -> np.ndarray:
    return x if isinstance(x, np.ndarray) else backend.to_numpy(x)


def random_inputs(
    tensors: Sequence[tuple[Sequence[int], str]], *, one_hot: bool = False, n: int = 2
) -> list[np.ndarray]:
    """Random arrays for inputs of these shapes (without batch axis) and types, ``n`` rows each.

    Normal numbers for floats, 0 and 1 for all others. With ``one_hot``, as a model that reads sequences expects it:
    one-hot rows along the last axis, or 0 and 1 where there is one axis.
    """
    rng = np.random.default_rng(0)
    return [_random(rng, (n, *shape), dtype, one_hot) for shape, dtype in tensors]


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, one_hot: bool) -> np.ndarray:
    if one_hot and len(shape) > 2:
        return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])].astype(_numpy_type(dtype))
    if one_hot or "float" not in dtype:
        return rng.integers(0, 2, shape).astype(_numpy_type(dtype))
    return rng.normal(size=shape).astype(_numpy_type(dtype))


def _numpy_type(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else dtype  # NumPy has no bfloat16; the backend casts


# --- models whose calls can be read ----------------------------------------------------------------------------------

Axis = int | None


def as_functional(model: Any, length: int | None) -> Any:
    """The model itself if it is functional or Sequential; a functional model of one layer if it is a subclass.

    A functional model of tf_keras is returned as it is: its graph is one node.

    Raises
    ------
    ModelError
        If it is no model, or does not say the shape of its input.
    """
    if is_tf_keras(model):
        return model
    if not isinstance(model, keras.Model):
        raise ModelError(f"model must be a Keras model or the path of one. Received: {type(model).__name__}")
    if function_of(model) is not None:
        return model
    if not model.built and not model.weights:
        raise ModelError(
            f"Model {model.name!r} was never called and has no weights: call it on a sequence, then save it"
        )
    hidden = ModelError(
        f"Model {model.name!r} is a subclass of keras.Model ({type(model).__name__}) that hides its inputs. "
        "Wrap it: x = keras.Input((length, 4)); model = keras.Model(x, model(x))"
    )
    given = _built_with(model, length)
    if not given:
        raise hidden
    try:
        outputs = model(*given.values()) if len(given) == 1 else model(**given)
    except Exception as error:  # the code of a model may raise anything
        raise hidden from error
    inputs = next(iter(given.values())) if len(given) == 1 else given
    return keras.Model(inputs, outputs, name=model.name)


# Types in which the difference of any two predictions is a number of the same type.
SUBTRACTED = ("bfloat16", "float16", "float32", "float64", "int32", "int64")


def with_targets(model: Any) -> Any:
    """The model itself, or one whose heads are numbers that can be subtracted, of one target or more.

    A head of True and False, or of small or unsigned integers, becomes float32. A head of one number for each sequence
    becomes one of one target.
    """
    function = function_of(model)
    if function is None or all(y.dtype in SUBTRACTED and len(y.shape) > 1 for y in function.outputs):
        return model
    symbols = [keras.Input(x.shape[1:], name=x.name, dtype=x.dtype) for x in function.inputs]
    outputs = keras.tree.flatten(model(pack_inputs(model, symbols)))
    pairs = zip(output_names(model), map(_of_targets, outputs), strict=True)
    named = [keras.layers.Identity(name=plain_name(name))(y) for name, y in pairs]
    return keras.Model(symbols, named if len(named) > 1 else named[0], name=model.name)


def _of_targets(head: Any) -> Any:
    numbers = head if head.dtype in SUBTRACTED else keras.ops.cast(head, "float32")
    return numbers if len(numbers.shape) > 1 else keras.ops.expand_dims(numbers, -1)


def _built_with(model: Any, length: int | None) -> dict[str, Any]:
    """Symbols for the arguments that a model was built with, each a tensor or any nesting; empty if it does not say."""
    shapes = getattr(model, "_build_shapes_dict", None)
    if not shapes:
        return {}
    names = [key.removesuffix("_shape") for key in shapes] if len(shapes) > 1 else ["input"]
    found = {name: _symbols(struct, length, name) for name, struct in zip(names, shapes.values(), strict=True)}
    return found if None not in keras.tree.flatten(found) else {}


def _symbols(struct: Any, length: int | None, name: str) -> Any:
    """Inputs of the shapes in a nesting, named by the keys of dicts; None where a shape is not known."""
    if isinstance(struct, dict):
        return {key: _symbols(inner, length, str(key)) for key, inner in struct.items()}
    if not isinstance(struct, (list, tuple)):
        return None
    if any(isinstance(inner, (dict, list, tuple)) for inner in struct):
        return [_symbols(inner, length, f"{name}_{i}") for i, inner in enumerate(struct)]
    shape = [length if n is None else n for n in struct[1:]]
    return keras.Input(shape, name=name) if None not in shape else None


def require_length_fits(model: Any, length: int | None) -> None:
    """Raise :class:`UsageError` if a length is given to a model whose length is fixed to another."""
    shapes = input_shapes(model)
    if length is not None and not any(None in shape for shape in shapes):
        if not any(length in shape for shape in shapes):
            listing = "; ".join(f"{name!r} {shape}" for name, shape in zip(input_names(model), shapes, strict=True))
            raise UsageError(f"--length {length}: the lengths of the model's inputs are fixed: {listing}.")


def require_any_batch(model: Any) -> None:
    """Raise :class:`ModelError` if a model built for batches of one size does not give a row for each sequence."""
    function = function_of(model)
    sizes = {x.shape[0] for x in function.inputs} - {None} if function is not None else set()
    if function is None or not sizes:
        return
    symbols = [keras.KerasTensor((None, *x.shape[1:]), x.dtype) for x in function.inputs]
    outputs = keras.tree.flatten(function.compute_output_spec(pack_inputs(model, symbols)))
    if any(y.shape[:1] != (None,) for y in outputs):
        raise ModelError(
            f"Model {model.name!r} is built for batches of {min(sizes)}, and a layer or operation in it holds this "
            "number, such as in the shape of a reshape: write -1 there, and save the model again."
        )


def as_sequence_model(model: Any, n_letters: int, chosen: str | int | None) -> Any:
    """The model itself, or one that takes (L, letters) and reshapes it to what the model takes.

    Parameters
    ----------
    n_letters : int
        Size of the alphabet.
    chosen : str or int, optional
        Name or index of the input that holds the sequence. Without it, an input of shape (L, letters) is taken for it
        and nothing is reshaped.
    """
    if is_tf_keras(model) or function_of(model) is None:
        return model
    names, shapes = input_names(model), input_shapes(model)
    plain = [i for i, shape in enumerate(shapes) if len(shape) == 2 and shape[1] == n_letters]
    number = names.index(chosen) if chosen in names else chosen
    fitting = [i for i, shape in enumerate(shapes) if position_axis(shape, n_letters) is not None]
    if number is None:
        number = fitting[0] if len(fitting) == 1 and not plain else None
    if number not in fitting or number in plain:
        return model
    return _reshaped(model, int(number), n_letters)


def position_axis(shape: Sequence[Axis], n_letters: int) -> int | None:
    """The axis of positions, if one axis holds the letters, one the positions, and all others are of length 1."""
    held = [i for i, n in enumerate(shape) if n == n_letters]
    long = [i for i, n in enumerate(shape) if n not in (1, n_letters)]
    return long[0] if len(held) == 1 and len(long) == 1 and len(shape) > 1 else None


def _reshaped(model: Any, number: int, n_letters: int) -> Any:
    """The model behind layers that make of (L, letters) what its input ``number`` takes."""
    shapes = input_shapes(model)
    symbols = [keras.Input(shape, name=x.name, dtype=x.dtype) for shape, x in zip(shapes, model.inputs, strict=True)]
    shape = shapes[number]
    axis = position_axis(shape, n_letters)
    assert axis is not None
    symbols[number] = keras.Input(
        (shape[axis], n_letters), name=model.inputs[number].name, dtype=model.inputs[number].dtype
    )
    x = symbols[number]
    if shape.index(n_letters) < axis:
        x = keras.layers.Permute((2, 1))(x)
    x = keras.layers.Reshape([-1 if n is None else n for n in shape])(x) if len(shape) > 2 else x
    given = [x if i == number else symbol for i, symbol in enumerate(symbols)]
    outputs = keras.tree.flatten(model(pack_inputs(model, given)))
    named = [
        keras.layers.Identity(name=plain_name(name))(y) for name, y in zip(output_names(model), outputs, strict=True)
    ]
    return keras.Model(symbols, named if len(named) > 1 else named[0], name=model.name)
