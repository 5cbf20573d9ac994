"""Models whose sequence lies in an image, (L, 1, 4), (1, L, 4), (4, L, 1), (L, 4, 1), or with its letters first.

They are wrapped into a model that takes (L, letters), so that all that follows knows one layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from fastism_cli.model.keras_graph import function_of, input_names, input_shapes, is_tf_keras, output_names

Axis = int | None


def as_sequence_model(model: Any, letters: int, chosen: str | int | None) -> Any:
    """The model itself, or one that takes (L, letters) and hands it on in the model's own layout.

    Parameters
    ----------
    letters : int
        Size of the alphabet.
    chosen : str or int, optional
        Name or index of the input that holds the sequence; without it, an input of shape (L, letters) is one already.
    """
    if is_tf_keras(model) or function_of(model) is None:
        return model
    names, shapes = input_names(model), input_shapes(model)
    plain = [i for i, shape in enumerate(shapes) if len(shape) == 2 and shape[1] == letters]
    number = names.index(chosen) if chosen in names else chosen
    fitting = [i for i, shape in enumerate(shapes) if position_axis(shape, letters) is not None]
    if number is None:
        number = fitting[0] if len(fitting) == 1 and not plain else None
    if number not in fitting or number in plain:
        return model
    return _wrapped(model, int(number), letters)


def position_axis(shape: Sequence[Axis], letters: int) -> int | None:
    """The axis of positions, if one axis holds the letters, one the positions, and all others are of length 1."""
    held = [i for i, n in enumerate(shape) if n == letters]
    long = [i for i, n in enumerate(shape) if n not in (1, letters)]
    return long[0] if len(held) == 1 and len(long) == 1 and len(shape) > 1 else None


def _wrapped(model: Any, number: int, letters: int) -> Any:
    shapes = input_shapes(model)
    symbols = [keras.Input(shape, name=x.name, dtype=x.dtype) for shape, x in zip(shapes, model.inputs, strict=True)]
    shape = shapes[number]
    axis = position_axis(shape, letters)
    assert axis is not None
    symbols[number] = keras.Input(
        (shape[axis], letters), name=model.inputs[number].name, dtype=model.inputs[number].dtype
    )
    x = symbols[number]
    if shape.index(letters) < axis:
        x = keras.layers.Permute((2, 1))(x)
    x = keras.layers.Reshape([-1 if n is None else n for n in shape])(x) if len(shape) > 2 else x
    given = [x if i == number else symbol for i, symbol in enumerate(symbols)]
    function = function_of(model)
    assert function is not None
    outputs = keras.tree.flatten(model(keras.tree.pack_sequence_as(function._inputs_struct, given)))
    named = [keras.layers.Identity(name=name)(y) for name, y in zip(output_names(model), outputs, strict=True)]
    return keras.Model(symbols, named if len(named) > 1 else named[0], name=model.name)
