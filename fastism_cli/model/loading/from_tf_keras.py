"""Build a model of tf_keras again in Keras 3, call by call, so that the engine can read it.

Each layer becomes its equal in Keras 3, with its weights; a TensorFlow function becomes a ``keras.ops`` operation. A
layer without an equal, such as one of the user's own or one whose class is not known, is read as the graph that
TensorFlow makes of it (:mod:`fastism_cli.model.tensorflow_graph`). Outputs that are the same at inference whatever the
input, such as the flag of an augmentation, are constants of the layers that read them. A layer that cannot be read is
called inside a layer of Keras 3 (:class:`Borrowed`): that node is opaque, the others are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from fastism_cli.errors import ModelError, log_of
from fastism_cli.model import backend
from fastism_cli.model.adapt import agree, random_inputs
from fastism_cli.model.keras_graph import at_inference
from fastism_cli.model.loading.assign_weights import copy_layer
from fastism_cli.model.loading.config_entries import Config, plain_name
from fastism_cli.model.loading.keras2_layers import find_operation
from fastism_cli.model.loading.repair_config import plain_config
from fastism_cli.model.tensorflow_graph import as_keras_operations

logger = log_of(__name__)

# Makes a layer of Keras 3 from the configuration of a layer of tf_keras.
Build = Callable[[Config], Any]
Call = Callable[..., Any]

OF_FUNCTIONS = ("TFOpLambda", "SlicingOpLambda")  # classes of tf_keras for functions in a model's graph
LENGTHS_TO_TRY = (64, 1024, 8192)  # for inputs of variable length


class Borrowed(keras.layers.Layer):
    """A layer or a function of TensorFlow inside a model of Keras 3, computed in the type that it was saved in."""

    def __init__(self, function: Call, name: str, borrowed: Any = None) -> None:
        super().__init__(name=name, trainable=False)
        self._run = function
        self.__dict__["borrowed"] = borrowed  # the layer or model of tf_keras; Keras need not look into it

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(*args, **kwargs)

    @property
    def class_text(self) -> str:
        """The class of the layer, or the function of TensorFlow, as its author called it."""
        if self.borrowed is None:
            return "graph for serving"
        cls = type(self.borrowed).__name__
        return f"tf.{self.borrowed.get_config()['function']}" if cls in OF_FUNCTIONS else cls

    @property
    def why_opaque(self) -> str:
        """Why TensorFlow runs it as a whole, and what to do about it."""
        if self.borrowed is None:
            return "the file holds a graph without layers: save the model itself, as .keras or .h5"
        if type(self.borrowed).__module__.startswith("tf_keras.src.saving"):
            return "the file does not hold its class, only its graph: give the class with --custom-objects FILE.py"
        if type(self.borrowed).__name__ in OF_FUNCTIONS:
            return "a function of TensorFlow without a known equal in keras.ops: write it with keras.ops"
        what = "model" if isinstance(self.borrowed, tf_keras.Model) else "layer"
        return f"a {what} of Keras 2, whose code Keras 3 cannot follow: write its class with keras.layers and keras.ops"

    def get_config(self) -> Config:
        raise NotImplementedError(f"layer {self.name!r} is kept as TensorFlow saved it")


def lift(model: Any, build: Build) -> keras.Model:
    """Build the Keras 3 twin of a model of tf_keras.

    A subclassed model, which hides its calls, becomes the operations of its graph, or a single node.

    Raises
    ------
    ModelError
        If the model does not say the shape of its input.
    """
    lifted = _Lift(build)
    if getattr(model, "_nodes_by_depth", None):
        return lifted.model(model)
    specs = _input_specs(model)
    inputs = [keras.Input(spec.shape[1:], dtype=spec.dtype.name, name=name) for name, spec in specs]
    call = _at_inference(model)
    outputs = followed_or_borrowed(call, plain_name(model.name), model, (inputs if len(inputs) > 1 else inputs[0],), {})
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs)


def followed_or_borrowed(function: Call, name: str, borrowed: Any, args: Any, kwargs: Any) -> Any:
    """What a function of TensorFlow gives for these arguments: symbols for tensors that depend on those among them.

    Symbols of Keras' own operations if the function can be read, else the outputs of a layer that calls it. Constants
    among the arguments, and among the outputs, are arrays.
    """
    symbols = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
    number = {id(x): i for i, x in enumerate(symbols)}

    def of_tensors(*tensors: Any) -> Any:
        filled = keras.tree.map_structure(lambda x: tensors[number[id(x)]] if id(x) in number else x, (args, kwargs))
        return function(*filled[0], **filled[1])

    if not symbols:
        return function(*args, **kwargs)
    found = _followed(of_tensors, symbols, name, borrowed)
    return Borrowed(of_tensors, name, borrowed)(*symbols) if found is None else found


def _followed(function: Call, symbols: Sequence[Any], name: str, borrowed: Any) -> list[Any] | None:
    """The outputs of a function, made by a nested model of Keras' operations; None if it cannot be read, or differs.

    The model remembers the layer that it stands for, which knows what was saved with ``training=True``.
    """
    inputs = [keras.Input(x.shape[1:], dtype=x.dtype) for x in symbols]
    try:
        outputs = as_keras_operations(function, inputs, constants=True)
        places = [i for i, y in enumerate(outputs) if isinstance(y, keras.KerasTensor)]
        inner = keras.Model(inputs, [outputs[i] for i in places], name=name)
        if not _gives_the_same(function, inner, places):
            return None
        inner.__dict__["borrowed"] = borrowed
        made = keras.tree.flatten(inner(list(symbols)))
    except Exception as error:  # the code of a layer may raise anything
        logger.debug("%s is not read as operations of Keras: %s", name, error)
        return None
    for i, y in zip(places, made, strict=True):
        outputs[i] = y
    return outputs


def _gives_the_same(function: Call, inner: keras.Model, places: Sequence[int]) -> bool:
    """Whether the operations give the outputs at ``places`` as the function does, on random numbers."""
    shapes = [[LENGTHS_TO_TRY[0] if n is None else n for n in x.shape[1:]] for x in inner.inputs]
    arrays = random_inputs([(shape, x.dtype) for shape, x in zip(shapes, inner.inputs, strict=True)])
    with backend.matrix_precision("float32"):
        wanted = tf.nest.flatten(
            function(*(tf.constant(x, dtype=s.dtype) for x, s in zip(arrays, inner.inputs, strict=True)))
        )
        found = keras.tree.flatten(inner(arrays))
    return agree([np.asarray(wanted[i]) for i in places], found)


def _input_specs(model: Any) -> list[tuple[str, Any]]:
    saved = model.save_spec()
    specs = [spec for spec in tf.nest.flatten(saved[0]) if spec is not None] if saved else []  # training=None, a mask
    if not specs or any(spec.shape.rank is None for spec in specs):
        raise ModelError(f"model {model.name!r} does not say the shape of its input: save it after calling it once")
    return [(f"input_{number}" if len(specs) > 1 else "input", spec) for number, spec in enumerate(specs)]


def same_predictions(model: Any, twin: Any) -> bool:
    """Whether two models predict the same for random one-hot inputs; False if that cannot be found out."""
    rows = model.inputs[0].shape[0] or 2  # a stateful layer takes the number of rows that it was built for, no other
    for length in LENGTHS_TO_TRY:
        try:
            inputs = random_inputs([_input_kind(x, length) for x in model.inputs], one_hot=True)
            inputs = [np.resize(x, (rows, *x.shape[1:])) for x in inputs]
            with backend.matrix_precision("float32"):
                return agree(_predictions(model, inputs), _predictions(twin, inputs))
        except Exception:  # a length that the model cannot have
            continue
    return False


def _input_kind(symbol: Any, length: int) -> tuple[list[int], str]:
    """Shape without batch axis, and type, of an input; ``length`` replaces variable axes."""
    return [length if n is None else n for n in symbol.shape[1:]], symbol.dtype.name


def _predictions(model: Any, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    with at_inference(model):
        found = model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)
    return [np.asarray(y) for y in tf.nest.flatten(found)]


def _at_inference(layer: Any) -> Call:
    takes_training = bool(getattr(layer, "_expects_training_arg", False))

    def call(*args: Any, **kwargs: Any) -> Any:
        given = {name: value for name, value in kwargs.items() if name != "training"}
        with at_inference(layer):
            return layer(*args, **given, **({"training": False} if takes_training else {}))

    return call


class _Lift:
    """Builds one twin for each layer, also for a layer that is called several times."""

    def __init__(self, build: Build) -> None:
        self.build = build
        self.twins: dict[int, Call] = {}
        self.names: set[str] = set()

    def model(self, model: Any) -> keras.Model:
        symbols = {id(x): keras.Input(x.shape[1:], dtype=x.dtype.name, name=x.name) for x in model.inputs}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input:
                    self._call(node, symbols)
        inputs, outputs = ([symbols[id(x)] for x in tensors] for tensors in (model.inputs, model.outputs))
        one_each = (tensors if len(tensors) > 1 else tensors[0] for tensors in (inputs, outputs))
        twin = keras.Model(*one_each, name=self._name(model.name))
        twin.output_names = [plain_name(name) for name in model.output_names]
        return twin

    def _call(self, node: Any, symbols: dict[int, Any]) -> None:
        args, kwargs = tf.nest.map_structure(lambda x: symbols.get(id(x), x), (node.call_args, node.call_kwargs))
        given = {n: value for n, value in kwargs.items() if value is not None and n != "name"}
        if not given.get("training"):  # True stays in the graph, which says so; it is run with False
            given.pop("training", None)
        outputs = keras.tree.flatten(self._twin(node.layer)(*args, **given))
        symbols.update(zip(map(id, tf.nest.flatten(node.outputs)), outputs, strict=True))

    def _twin(self, layer: Any) -> Call:
        if id(layer) not in self.twins:
            self.twins[id(layer)] = self._equal(layer)
        return self.twins[id(layer)]

    def _equal(self, layer: Any) -> Call:
        if getattr(layer, "_nodes_by_depth", None):
            return self.model(layer)
        if type(layer).__name__ in OF_FUNCTIONS:
            return self._first_that_works(find_operation(layer.get_config()["function"]), layer)
        return self._first_that_works(self._rebuilt(layer), layer)

    def _first_that_works(self, equal: Call | None, layer: Any) -> Call:
        """A call of ``equal``, or of the layer itself if there is no equal or it refuses the arguments."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if equal is not None:
                try:
                    return equal(*args, **kwargs)
                except Exception:  # arguments of one Keras can make the other raise anything
                    pass
            return followed_or_borrowed(_at_inference(layer), self._name(layer.name), layer, args, kwargs)

        return call

    def _rebuilt(self, layer: Any) -> Call | None:
        """The layer of Keras 3 with the same configuration and weights; None for a class that is not of tf_keras."""
        module = type(layer).__module__
        if not module.startswith("tf_keras.") or module.startswith("tf_keras.src.saving"):
            return None  # a layer that was restored as a graph: its class can have the name of another class
        try:
            stored = json.dumps(tf_keras.saving.serialize_keras_object(layer), default=str)
            entry = plain_config(json.loads(stored), {})
            entry["config"]["name"] = self._name(layer.name)
            twin = self.build(entry)
        except Exception:
            return None
        copied: list[bool] = []

        def call(*args: Any, **kwargs: Any) -> Any:
            outputs = twin(*args, **kwargs)
            if not copied:
                copy_layer(layer, twin, entry)
                copied.append(True)
            return outputs

        return call

    def _name(self, name: str) -> str:
        """A name that no other layer has and that is valid in Keras 3."""
        plain, number = plain_name(name), 0
        free = plain
        while free in self.names:
            number += 1
            free = f"{plain}_{number}"
        self.names.add(free)
        return free
