"""Make of any model one whose calls can be read, and whose sequence has shape (length, letters).

A subclassed model becomes a functional model of one layer. A model whose sequence lies in an image, (L, 1, 4),
(1, L, 4), (4, L, 1), (L, 4, 1), or has its letters first, (4, L), gets layers in front that take (L, 4). One with a
head of True and False, or of one number without an axis of targets, gets layers behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from fastism_cli.errors import ModelError, UsageError
from fastism_cli.model.keras_graph import (
    function_of,
    input_names,
    input_shapes,
    is_tf_keras,
    output_names,
    pack_inputs,
)
from fastism_cli.model.loading.config_entries import plain_name

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
    shapes = getattr(model, "_build_shapes_dict", None) or {}
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
