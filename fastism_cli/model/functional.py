"""Make of whatever model is given one whose calls can be followed."""

from __future__ import annotations

from typing import Any

import keras

from fastism_cli.errors import ModelError, UsageError
from fastism_cli.model.keras_graph import function_of, input_names, input_shapes, is_tf_keras, of_tf_keras


def functional(model: Any, length: int | None) -> Any:
    """A model whose calls can be followed: of tf_keras the twin in Keras 3, of a subclass a model of one layer."""
    if of_tf_keras(model):
        from fastism_cli.model.loading.load import lifted

        model = lifted(model, {}, allow_lambda=True)
    if is_tf_keras(model):
        return model
    if not isinstance(model, keras.Model):
        raise ModelError(f"model must be a Keras model or the path of one. Received: {type(model).__name__}")
    if function_of(model) is not None:
        return model
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    shape = next(iter(shapes.values()), None) if len(shapes) == 1 else None
    if not isinstance(shape, (list, tuple)) or (length is None and None in shape[1:]):
        raise ModelError(
            f"Model {model.name!r} is a subclass of keras.Model ({type(model).__name__}) that hides its inputs. "
            "Wrap it: x = keras.Input((length, 4)); model = keras.Model(x, model(x))"
        )
    x = keras.Input([length if n is None else n for n in shape[1:]])
    return keras.Model(x, model(x), name=model.name)


def require_length_fits(model: Any, length: int | None) -> None:
    """Raise :class:`UsageError` if a length is given to a model that has one of its own."""
    shapes = input_shapes(model)
    if length is not None and not any(None in shape for shape in shapes):
        if not any(length in shape for shape in shapes):
            listing = "; ".join(f"{name!r} {shape}" for name, shape in zip(input_names(model), shapes, strict=True))
            raise UsageError(f"--length {length}: the model's inputs have lengths of their own: {listing}.")
