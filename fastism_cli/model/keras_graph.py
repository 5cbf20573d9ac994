"""Read a Keras model as a :class:`LayerGraph`, and call it. Keras' internals are read here (and in config_entries.py).

Nested models are opened: a node is always one call of one layer, or of one ``keras.ops`` operation. A shared layer is
one layer in several nodes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial, wraps
from threading import RLock
from types import FunctionType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet, ref

import keras
from keras.src.models.functional import Functional
from keras.src.ops.numpy import Flip

from fastism_cli.errors import FastISMError, ModelError, UsageError
from fastism_cli.model import backend
from fastism_cli.model.graph import Arguments, Input, LayerGraph, Node, Port, Shape, Tensor
from fastism_cli.model.loading.config_entries import written_name


def function_of(model: Any) -> Any | None:
    """The Keras function (a graph of nodes) inside a model, or None for a subclassed model that hides its calls."""
    if isinstance(model, keras.Sequential) and type(model).call is keras.Sequential.call:
        return model._functional
    if isinstance(model, Functional) and type(model).call is Functional.call:
        return model
    return None


def is_tf_keras(model: Any) -> bool:
    """Whether this is a functional or Sequential model of tf_keras. Only that package can call it."""
    return of_tf_keras(model) and bool(model.inputs)


def of_tf_keras(model: Any) -> bool:
    """Whether this is any model of tf_keras."""
    return any(cls.__module__.startswith("tf_keras.") for cls in type(model).__mro__)


def input_names(model: Any) -> list[str]:
    """Names of the inputs, in the model's order."""
    return [
        written_name(name) for name in (model.input_names if is_tf_keras(model) else [x.name for x in model.inputs])
    ]


def input_shapes(model: Any) -> list[tuple[int | None, ...]]:
    """Shapes of the inputs without the batch axis; None where the length is variable."""
    return [tuple(x.shape[1:]) for x in model.inputs]


def all_layers(model: Any) -> list[Any]:
    """Every layer at any depth: of nested models, of wrappers such as Bidirectional, cells of recurrent ones."""
    return list(model._flatten_layers()) if isinstance(model, keras.Layer) else []


def every_layer(model: Any) -> list[Any]:
    """As :func:`all_layers`, also of a model of tf_keras, and with layers that were borrowed from one."""
    layers = list(model._flatten_layers()) if of_tf_keras(model) else all_layers(model)
    borrowed = [layer.borrowed for layer in layers if getattr(layer, "borrowed", None) is not None]
    return layers + [inner for layer in borrowed for inner in every_layer(layer)]


def quantisation(layer: Any) -> str | None:
    """How a layer, or one inside of it, is quantised: "int8", "int4", "float8", ...; None if it is not."""
    return next((mode for inner in all_layers(layer) if (mode := _quantisation_of(inner))), None)


def _quantisation_of(layer: Any) -> str | None:
    policy = getattr(layer, "dtype_policy", None)
    return getattr(layer, "quantization_mode", None) or getattr(policy, "quantization_mode", None)


def quantised_layers(model: Any) -> list[str]:
    """Names of the quantised layers of a model, at any depth."""
    return [layer.name for layer in all_layers(model) if layer is not model and _quantisation_of(layer)]


def has_own_call(layer: Any) -> bool:
    """Whether the ``call`` of this object was replaced, so that its class does not say what it computes."""
    return "call" in getattr(layer, "__dict__", {})


def kept_as_graphs(layer: Any) -> list[str]:
    """Names of the layers inside whose class was not known, so that a SavedModel's graph takes its place."""
    return [x.name for x in every_layer(layer) if type(x).__module__.startswith("tf_keras.src.saving")]


def has_variable_length(model: Any) -> bool:
    """Whether an input of the model has an axis that is None. False for a model that hides its inputs."""
    return any(None in shape for shape in input_shapes(model)) if getattr(model, "inputs", None) else False


def output_names(model: Any) -> list[str]:
    """Names of the heads: the keys of a model that gives a dict, else as ``model.output_names`` gives them.

    They are made distinct if one layer gives several.
    """
    function = function_of(model)
    names = list(function.output_names) if function is not None else list(getattr(model, "output_names", None) or [])
    given = getattr(function, "_outputs_struct", None)
    if isinstance(given, dict) and len(given) == len(names):
        names = [str(key) for key in keras.tree.flatten({key: key for key in given})]
    names = [written_name(name) for name in names]
    if not names:
        names = [f"output_{i}" for i, _ in enumerate(keras.tree.flatten(getattr(model, "outputs", None) or [None]))]
    return [name if names.count(name) == 1 else f"{name}_{names[:i].count(name)}" for i, name in enumerate(names)]


def layer_graph(model: Any, *, length: int | None = None) -> LayerGraph:
    """Read a Keras model as a :class:`LayerGraph`.

    Parameters
    ----------
    model : keras.Model
        Sequential, functional or nested. A subclassed model becomes a single node, and so does one that puts the
        sequences of a batch along another axis than the first.
    length : int, optional
        Replaces a variable length (an axis that is None) of the inputs.

    Raises
    ------
    ModelError
        If an input's length is variable and no ``length`` was given.
    UsageError
        If a layer cannot take that length.
    """
    if is_tf_keras(model):
        return _single_node(model, length)
    function = function_of(model)
    if function is None:
        raise ModelError(
            f"Model {model.name!r} is a subclass of keras.Model ({type(model).__name__}) whose graph cannot be read. "
            "Wrap it: x = keras.Input((length, 4)); keras.Model(x, model(x))"
        )
    names = input_names(function)
    _require_length(model, length)
    builder = _Builder(length)
    inputs = [builder.add_tensor(x, variable=None in x.shape[1:]) for x in function.inputs]
    try:
        with _told_of_length(length):
            outputs = builder.add_function(function, inputs)
    except BatchMovedError as error:
        return _single_node(model, length, reason=str(error))
    return LayerGraph(
        nodes=tuple(builder.nodes),
        tensors=tuple(Tensor(tuple(x.shape[1:]), str(x.dtype)) for x in builder.symbols),
        inputs=tuple(Port(n, t) for n, t in zip(names, inputs, strict=True)),
        outputs=tuple(Port(n, t) for n, t in zip(output_names(model), outputs, strict=True)),
        keeps_masks=builder.keeps_masks,
    )


@contextmanager
def _told_of_length(length: int | None) -> Iterator[None]:
    """Report a length that a layer of the model cannot take, such as one that is shorter than a kernel."""
    try:
        yield
    except ValueError as error:  # of Keras, which an error of this program may be too
        if length is None or isinstance(error, FastISMError):
            raise
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"--length {length}: the model has no outputs for it: {said}") from error


def _require_length(model: Any, length: int | None) -> None:
    for name, shape in zip(input_names(model), input_shapes(model), strict=True):
        if None in shape and length is None:
            raise ModelError(f"Input {name!r} has a variable length, shape {shape}. Give it with --length.")


def _single_node(model: Any, length: int | None, *, reason: str = "") -> LayerGraph:
    """The graph of a model that is not opened: one node, which calls it."""
    _require_length(model, length)
    inputs = [tuple(n if n is not None else length or 0 for n in shape) for shape in input_shapes(model)]
    with at_inference(model):
        outputs = [tuple(y.shape[1:]) for y in keras.tree.flatten(model(_zeros(model, inputs), training=False))]
    dtypes = [_type_of(x) for x in (*model.inputs, *model.outputs)]
    tensors = tuple(Tensor(*pair) for pair in zip((*inputs, *outputs), dtypes, strict=True))
    first, last = tuple(range(len(inputs))), tuple(range(len(inputs), len(tensors)))
    node = Node(0, model.name, model, first, last, lambda arrays: call_model(model, arrays), reason=reason)
    ports = [
        tuple(Port(n, t) for n, t in zip(*pair, strict=True))
        for pair in ((input_names(model), first), (output_names(model), last))
    ]
    return LayerGraph((node,), tensors, ports[0], ports[1], keeps_masks=False)


def _zeros(model: Any, shapes: Sequence[Shape]) -> Any:
    arrays = [keras.ops.zeros((1, *shape), _type_of(x)) for shape, x in zip(shapes, model.inputs, strict=True)]
    return pack_inputs(model, arrays)


def _type_of(tensor: Any) -> str:
    """The name of its type; tf_keras keeps types of TensorFlow."""
    return str(getattr(tensor.dtype, "name", tensor.dtype))


class BatchMovedError(ModelError):
    """The first axis of a tensor is not that of the batch."""


class _Builder:
    """Collects nodes and symbolic tensors on its way through a model and the models inside it."""

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.nodes: list[Node] = []
        self.symbols: list[Any] = []
        self.masked: set[int] = set()  # tensors that may have a mask of Keras beside them when the model runs
        self.keeps_masks = False

    def add_tensor(self, symbol: Any, *, variable: bool = False) -> int:
        if variable:
            shape = tuple(symbol.shape[:1]) + tuple(self.length if n is None else n for n in symbol.shape[1:])
            symbol = keras.KerasTensor(shape, dtype=symbol.dtype)
        self.symbols.append(symbol)
        return len(self.symbols) - 1

    def add_function(self, function: Any, inputs: Sequence[int]) -> list[int]:
        """Add the nodes of a function whose inputs are tensors of the graph; returns its output tensors."""
        number_of = {id(x): t for x, t in zip(function.inputs, inputs, strict=True)}
        for node in _calls(function):
            if any(id(x) not in number_of for x in node.input_tensors):
                continue
            tensors = [number_of[id(x)] for x in node.input_tensors]
            number_of.update(zip(map(id, node.outputs), self.add_call(node, tensors), strict=True))
        return [number_of[id(x)] for x in function.outputs]

    def add_call(self, node: Any, inputs: list[int]) -> list[int]:
        nested = function_of(node.operation)
        given = None if nested is None else self._given(node, nested, inputs)
        if given is not None:
            return self.add_function(nested, given)
        outputs = [self.add_tensor(x) for x in self._specify(node, inputs)]
        self._follow_masks(node, inputs, outputs)
        operation = node.operation
        made = Node(
            len(self.nodes),
            operation.name,
            operation,
            tuple(inputs),
            tuple(outputs),
            _caller(node),
            arguments=_arguments(node),
        )
        self.nodes.append(_without_mask(made) if _ignores_mask(operation) else made)
        return outputs

    def _follow_masks(self, node: Any, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Note which tensors may have a mask, and whether a layer reads one.

        The symbols of Keras do not tell: what a nested model or a custom layer gives has a mask only when it runs.
        """
        is_masked = any(t in self.masked or _has_mask(x) for t, x in zip(inputs, node.input_tensors, strict=True))
        self.keeps_masks |= is_masked and any(map(_takes_mask, all_layers(node.operation)))
        if any(map(_has_mask, node.outputs)) or _gives_mask(node, is_masked):
            self.masked.update(outputs)

    def _given(self, node: Any, nested: Any, inputs: list[int]) -> list[int] | None:
        """The tensors that the call of a nested model gives its inputs; None if it gives other things, or a mask."""
        places = _given_inputs(_arguments(node), nested)
        if places is None:
            return None
        pairs = [(inputs[place.number], symbol) for place, symbol in zip(places, nested.inputs, strict=True)]
        ranks = [len(self.symbols[t].shape) - len(symbol.shape) for t, symbol in pairs]
        if not all(map(_can_be_given, (self.symbols[t] for t, _ in pairs), (symbol for _, symbol in pairs))):
            return None
        return [self._as_declared(t, symbol, rank) for (t, symbol), rank in zip(pairs, ranks, strict=True)]

    def _as_declared(self, tensor: int, symbol: Any, ranks: int) -> int:
        """A tensor in the type and with the axes that an input of a nested model declares, as Keras makes it."""
        if ranks:
            tensor = self._add_operation("squeeze" if ranks > 0 else "expanddims", tensor, axis=-1)
        same_type = self.symbols[tensor].dtype == symbol.dtype
        return tensor if same_type else self._add_operation("cast", tensor, dtype=symbol.dtype)

    def _add_operation(self, name: str, tensor: int, **options: Any) -> int:
        cls: Any = operation_class(name)
        operation = cls(**options)
        output = self.add_tensor(operation.compute_output_spec(self.symbols[tensor]))
        if tensor in self.masked:
            self.masked.add(output)
        arguments: Arguments = ((Input(0),), {})
        node = Node(
            len(self.nodes), operation.name, operation, (tensor,), (output,), _unary(operation), arguments=arguments
        )
        self.nodes.append(node)
        return output

    def _specify(self, node: Any, inputs: list[int]) -> list[Any]:
        """The node's output symbols, computed again if the shapes differ from those that it was built with."""
        same = all(
            tuple(x.shape[1:]) == tuple(self.symbols[t].shape[1:])
            for x, t in zip(node.input_tensors, inputs, strict=True)
        )
        if same and not any(None in x.shape[1:] for x in node.outputs):
            return list(node.outputs)
        symbols = {id(x): self.symbols[t] for x, t in zip(node.input_tensors, inputs, strict=True)}
        args, kwargs = node.arguments.fill_in(symbols)
        found = list(keras.tree.flatten(node.operation.compute_output_spec(*args, **kwargs)))
        return found if not any(None in x.shape[1:] for x in found) else self._tried_out(node, inputs)

    def _tried_out(self, node: Any, inputs: list[int]) -> list[Any]:
        """The output symbols of a layer that does not say its shape, such as EinsumDense, from a call on zeros."""
        _require_batch_first(node)
        zeros = [keras.ops.zeros((1, *self.symbols[t].shape[1:]), self.symbols[t].dtype) for t in inputs]
        return [
            keras.KerasTensor((None, *y.shape[1:]), dtype=x.dtype)
            for x, y in zip(node.outputs, _caller(node)(zeros), strict=True)
        ]


def _require_batch_first(node: Any) -> None:
    """Raise :class:`BatchMovedError` if the first axis of an output has another length than that of the inputs."""
    first = {x.shape[0] for x in node.input_tensors if len(x.shape)}
    if first and not first.issuperset(x.shape[0] for x in node.outputs if len(x.shape)):
        raise BatchMovedError(f"{node.operation.name!r} moves the sequences of a batch away from the first axis")


# Operations that may hand on the very array that they are given, with its mask: a cast to the type that it has.
HANDING_ON = frozenset(
    "broadcastto cast clip concatenate copy flip getitem moveaxis nantonum pad ravel real repeat reshape roll round "
    "saturatecast slice squeeze stopgradient swapaxes tile transpose where".split()
)


def _has_mask(symbol: Any) -> bool:
    return getattr(symbol, "_keras_mask", None) is not None


def _takes_mask(layer: Any) -> bool:
    """Whether a layer uses a mask: as an argument of its call, or read off the arrays that it is given."""
    if _ignores_mask(layer):
        return False
    is_argument = any(name == "mask" or name.endswith("_mask") for name in inspect.signature(layer.call).parameters)
    return is_argument or isinstance(layer, keras.layers.Multiply) or _names_mask(layer)


def _names_mask(layer: Any) -> bool:
    """Whether the code of the call names the mask that Keras lays beside an array, as that of an own layer can."""
    code = getattr(inspect.unwrap(type(layer).call), "__code__", None)
    names = () if code is None else (*code.co_names, *code.co_consts)  # getattr is given the name as a constant
    return "_keras_mask" in names or "get_keras_mask" in names


def _ignores_mask(operation: Any) -> bool:
    """Whether it takes a mask for training only."""
    return getattr(type(operation), "call", None) is keras.layers.BatchNormalization.call


def _without_mask(node: Node) -> Node:
    """The call of a layer on its first input alone."""

    def call(arrays: Sequence[Any], operation: Any = node.layer) -> list[Any]:
        with at_inference(operation):
            return [operation(arrays[0], training=False)]

    return replace(node, inputs=node.inputs[:1], call=call, arguments=((Input(0),), {}))


def _gives_mask(node: Any, is_masked: bool) -> bool:
    """Whether what a call gives may have a mask beside it, as the input has one or not."""
    operation = node.operation
    if not isinstance(operation, keras.Layer):
        return is_masked and type(operation).__name__.lower() in HANDING_ON
    # a mask that the layer itself makes is beside its symbol; one of a layer inside of it is not
    if any(_makes_mask(layer) for layer in all_layers(operation) if layer is not operation):
        return True
    return is_masked and (operation.supports_masking or not _is_of_keras(operation) or _may_hand_on(node))


def _makes_mask(layer: Any) -> bool:
    """Whether a layer makes a mask of a tensor that has none; of a layer of the user's any is thought to."""
    if not layer.supports_masking:  # Keras asks it for none
        return False
    own = not _is_of_keras(layer) and type(layer).compute_mask is not keras.Layer.compute_mask
    return own or isinstance(layer, keras.layers.Masking) or bool(getattr(layer, "mask_zero", False))


def _is_of_keras(layer: Any) -> bool:
    return type(layer).__module__.startswith("keras.")


def _may_hand_on(node: Any) -> bool:
    """Whether a layer may give the very tensor that it is given."""
    shapes = {tuple(x.shape) for x in (*node.input_tensors, *node.outputs)}
    return len(shapes) == 1 and not node.operation.weights


def flip_operation(*, axis: int) -> Any:
    """The operation that ``keras.ops.flip`` puts into a graph."""
    return Flip(axis=axis)


def _unary(operation: Any) -> Callable[..., list[Any]]:
    return lambda arrays, called=operation: [called(arrays[0])]


def _given_inputs(arguments: Arguments, nested: Any) -> list[Input] | None:
    """What a call gives each input of a nested model, as ``Functional.call`` pairs them: by place, or by name.

    None if it gives anything but tensors of the graph, a mask, or arguments for the layers inside.
    """
    args, kwargs = arguments
    named = {"inputs": args[0], **kwargs} if args else dict(kwargs)
    given = named.pop("inputs", None)
    named.pop("training", None)  # models run at inference
    if len(args) > 1 or any(x is not None for x in keras.tree.flatten(list(named.values()))):
        return None
    struct = nested._inputs_struct
    if isinstance(given, dict) and not isinstance(struct, dict):
        given = [given.get(symbol.name) for symbol in keras.tree.flatten(struct)]
    flat = keras.tree.flatten(given)[: len(nested.inputs)]  # Keras leaves out what comes after the last
    return flat if len(flat) == len(nested.inputs) and all(isinstance(x, Input) for x in flat) else None


def _array_of_tensorflow(argument: Any) -> Any:
    """The numbers of a variable of TensorFlow, of which Keras does not know; anything else as it is."""
    return argument.numpy() if hasattr(argument, "read_value") else argument


def _can_be_given(tensor: Any, symbol: Any) -> bool:
    """Whether a tensor fits an input of a nested model, with a last axis of length 1 more or less."""
    shape, expected = tuple(tensor.shape[1:]), tuple(symbol.shape[1:])
    if len(shape) == len(expected) + 1 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == len(expected) - 1 and expected[-1] == 1:
        shape = (*shape, 1)
    return len(shape) == len(expected) and all(b is None or a == b for a, b in zip(shape, expected, strict=True))


def _calls(function: Any) -> Iterator[Any]:
    """The function's nodes in the order in which Keras runs them, without inputs."""
    for depth in sorted(function._nodes_by_depth, reverse=True):
        yield from (node for node in function._nodes_by_depth[depth] if node.operation and not node.is_input)


def _arguments(node: Any) -> Arguments:
    """The arguments of a call, with an :class:`Input` in place of each tensor."""
    filled = node.arguments.fill_in({id(x): Input(i) for i, x in enumerate(node.input_tensors)})
    arguments: Arguments = keras.tree.map_structure(_array_of_tensorflow, filled)
    return arguments


def operation_class(name: str) -> type | None:
    """The class behind ``keras.ops``' functions, by its name in lower case; None if this Keras has none."""
    return _operation_classes().get(name)


@cache
def _operation_classes() -> dict[str, type]:
    from keras.src.ops import core, linalg, math, nn, numpy, operation

    found = (value for module in (numpy, nn, math, linalg, core) for value in vars(module).values())
    return {
        cls.__name__.lower(): cls for cls in found if isinstance(cls, type) and issubclass(cls, operation.Operation)
    }


def _caller(node: Any) -> Callable[..., list[Any]]:
    """A function that calls the node as Keras does at inference: ``training=False`` if the layer takes it."""
    context = getattr(node.operation, "_call_context_args", None) or ()
    extra = {"training": False} if "training" in context else {}

    def call(arrays: Sequence[Any], operation: Any = node.operation) -> list[Any]:
        args, kwargs = node.arguments.fill_in({id(x): a for x, a in zip(node.input_tensors, arrays, strict=True)})
        with at_inference(operation):
            return list(keras.tree.flatten(operation(*args, **{**kwargs, **extra})))

    return call


@contextmanager
def at_inference(model: Any) -> Iterator[None]:
    """Run a model or a layer at inference, whatever it was saved with: every sequence by itself, nothing random.

    Stateful recurrent layers run as stateless ones, and every layer is called with ``training=False``, even where the
    code of another layer passes ``training=True`` on.
    """
    layers = every_layer(model)
    stateful = [layer for layer in layers if getattr(layer, "stateful", False)]
    for layer in stateful:
        layer.stateful = False
    try:
        with _without_training({cls for layer in layers for cls in type(layer).__mro__}):
            yield
    finally:
        for layer in stateful:
            layer.stateful = True


_CALLS_LOCK = RLock()
# Layers that were called with training=True inside of `at_inference`.
_SAVED_IN_TRAINING: WeakSet[Any] = WeakSet()


@contextmanager
def _without_training(classes: Collection[type]) -> Iterator[None]:
    """Let ``call`` of these classes have ``training=False`` until the block ends.

    Why by changing the classes: a layer can call ``super().call(x, training=True)``, which no object can step into. The
    lock keeps two threads from taking each other's methods for those of the class.
    """
    with _CALLS_LOCK:
        methods = {cls: vars(cls)["call"] for cls in classes if _takes_training(vars(cls).get("call"))}
        try:
            for cls, method in methods.items():
                setattr(cls, "call", _called_at_inference(method))  # noqa: B010 - mypy: a method is not assigned to
            yield
        finally:
            for cls, method in methods.items():
                setattr(cls, "call", method)  # noqa: B010


def _takes_training(method: Any) -> bool:
    return isinstance(method, FunctionType) and "training" in inspect.signature(method).parameters


def _called_at_inference(method: Callable[..., Any]) -> Callable[..., Any]:
    place = list(inspect.signature(method).parameters).index("training")

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = args[place] if len(args) > place else kwargs.get("training")
        if _is_true(given):
            _SAVED_IN_TRAINING.add(args[0])
        if len(args) > place:
            args = (*args[:place], False, *args[place + 1 :])
        else:
            kwargs = {**kwargs, "training": False}
        return method(*args, **kwargs)

    return call


def _is_true(value: Any) -> bool:
    """Whether a ``training`` argument is True or 1, and no tensor."""
    return isinstance(value, (bool, int)) and bool(value)


def saved_in_training(model: Any) -> list[str]:
    """Names of the layers that a model calls with ``training=True``, in the order of the model.

    Those that the code of other layers calls are found once that code has run inside :func:`at_inference`.
    """
    called = [layer.name for layer in every_layer(model) if layer in _SAVED_IN_TRAINING]
    return [written_name(name) for name in dict.fromkeys([*_graph_calls_in_training(function_of(model)), *called])]


def _graph_calls_in_training(function: Any) -> Iterator[str]:
    for node in _calls(function) if function is not None else ():
        if _is_true(node.arguments.kwargs.get("training")):
            yield node.operation.name
        yield from _graph_calls_in_training(function_of(node.operation))


# Traced calls of each model by the shapes of its inputs. Tracing takes as long as a prediction.
_PREDICTIONS: WeakKeyDictionary[Any, dict[Any, Callable[[Sequence[Any]], list[Any]]]] = WeakKeyDictionary()


class Producer(NamedTuple):
    """What a symbolic tensor is an output of: the operation, the tensors of that call, and which output it is."""

    operation: Any
    inputs: list[Any]
    number: int


def producer_of(tensor: Any) -> Producer:
    """The call that makes a symbolic tensor."""
    history = tensor._keras_history
    node = history.operation._inbound_nodes[history.node_index]
    return Producer(history.operation, list(node.input_tensors), history.tensor_index)


def call_model(model: Any, arrays: Sequence[Any]) -> list[Any]:
    """Predictions of the model for these input arrays, given in the order of its inputs: one array per head."""
    known = _PREDICTIONS.setdefault(model, {})
    key = tuple((tuple(x.shape[1:]), str(x.dtype)) for x in arrays)
    if key not in known:
        known[key] = backend.of_any_batch(partial(_predictions, ref(model)), arrays)
    return known[key](arrays)


def _predictions(model: Callable[[], Any], arrays: Sequence[Any]) -> list[Any]:
    called = model()
    with at_inference(called):
        return list(keras.tree.flatten(called(pack_inputs(called, arrays), training=False)))


def pack_inputs(model: Any, tensors: Sequence[Any]) -> Any:
    """Tensors in the order of the model's inputs, as its call takes them: one, a list, a dict or any nesting."""
    function = function_of(model)
    if function is not None:
        return keras.tree.pack_sequence_as(function._inputs_struct, list(tensors))
    return list(tensors) if len(tensors) > 1 else tensors[0]
