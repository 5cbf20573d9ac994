"""Random models for hypothesis: a plain description of a small graph, and the Keras model built from it.

A failing draw prints as Python: paste the ``Stack(...)`` into a test to keep it.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
from hypothesis import strategies as st
from keras import layers

from tests.composites import COMPOSITES
from tests.zoo import randomise

LONGEST = 96  # positions that a tensor may have after it was lengthened
WIDEST = 12  # channels of any tensor; at least 2, because Keras warns of a softmax over one
PRODUCTS = 2  # Multiply nodes in a stack; more let the values explode
ACTIVATIONS = ["relu", "tanh", "elu", "gelu", "softplus", "sigmoid", "leaky_relu", "softmax"]
MERGES = ["Add", "Concatenate", "Multiply", "Maximum", "Average", "Minimum", "Subtract"]


@dataclass(frozen=True)
class Node:
    """A layer (or a composite) called on tensors by number: 0 is the sequence, ``i`` is the output of node ``i``."""

    layer: str
    inputs: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    same_as: int | None = None  # the node whose layer this one calls again


@dataclass(frozen=True)
class Stack:
    """A model: nodes in topological order, numbered from 1, and heads as (kind, tensor)."""

    length: int
    nodes: tuple[Node, ...]
    heads: tuple[tuple[str, int], ...]
    seed: int = 0


class Shape(NamedTuple):
    length: int
    channels: int


HEADS = {
    "flatten_dense": lambda x: layers.Dense(2)(layers.Flatten()(x)),
    "average_dense": lambda x: layers.Dense(2)(layers.GlobalAveragePooling1D()(x)),
    "max_dense": lambda x: layers.Dense(2)(layers.GlobalMaxPooling1D()(x)),
    "positional": lambda x: layers.Conv1D(2, 3, padding="same")(x),
}


def build(stack: Stack) -> keras.Model:
    """Build the model, with weights drawn from ``stack.seed``."""
    tensors = node_tensors(stack)
    outputs = [HEADS[kind](tensors[index]) for kind, index in stack.heads]
    return randomise(keras.Model(tensors[0], outputs if len(outputs) > 1 else outputs[0]), stack.seed)


def node_tensors(stack: Stack) -> list[keras.KerasTensor]:
    """The symbolic tensors of a stack by number, the sequence first."""
    tensors, called = [keras.Input((stack.length, 4), name="dna")], [None]
    for node in stack.nodes:
        if node.layer in COMPOSITES:
            tensors.append(COMPOSITES[node.layer](**node.options)(*(tensors[index] for index in node.inputs)))
            called.append(None)
            continue
        fresh = node.same_as is None
        layer = getattr(layers, node.layer)(**node.options) if fresh else called[node.same_as]
        inputs = [tensors[index] for index in node.inputs]
        tensors.append(layer(inputs if len(inputs) > 1 else inputs[0]))
        called.append(layer)
    return tensors


def window_length(length: int, span: int, strides: int, padding: str) -> int:
    """Positions that a convolution or pooling leaves."""
    return (length - span) // strides + 1 if padding == "valid" else -(-length // strides)


def _window(draw, shape: Shape, paddings: list[str]) -> tuple[dict[str, Any], int]:
    """Options of a convolution that fits into ``shape``, and the length it leaves."""
    padding = draw(st.sampled_from(paddings))
    fits = shape.length if padding == "valid" else LONGEST
    kernel_size = draw(st.integers(1, min(7, fits)))
    strides, dilation_rate = draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (3, 1), (1, 5), (5, 1)]))
    if (kernel_size - 1) * dilation_rate + 1 > fits:
        dilation_rate = 1
    options = {"kernel_size": kernel_size, "padding": padding, "strides": strides, "dilation_rate": dilation_rate}
    return options, window_length(shape.length, (kernel_size - 1) * dilation_rate + 1, strides, padding)


def _activation(draw) -> str | None:
    return draw(st.none() | st.sampled_from(ACTIVATIONS))


def _conv(draw, shape):
    options, length = _window(draw, shape, ["same", "valid", "causal"])
    groups = draw(st.sampled_from([1, 1, 1, 2])) if shape.channels % 2 == 0 else 1
    filters = draw(st.integers(2, 5)) if groups == 1 else draw(st.sampled_from([2, 4]))
    options |= {"groups": groups, "use_bias": draw(st.booleans()), "activation": _activation(draw)}
    return "Conv1D", {"filters": filters, **options}, Shape(length, filters)


def _depthwise(draw, shape):
    options, length = _window(draw, shape, ["same", "valid"])
    multiplier = draw(st.integers(1, 2)) if shape.channels <= WIDEST // 2 else 1
    return "DepthwiseConv1D", {**options, "depth_multiplier": multiplier}, Shape(length, shape.channels * multiplier)


def _separable(draw, shape):
    options, length = _window(draw, shape, ["same", "valid"])
    filters = draw(st.integers(2, 5))
    return "SeparableConv1D", {"filters": filters, **options, "activation": _activation(draw)}, Shape(length, filters)


def _transposed(draw, shape):
    kernel_size, filters = draw(st.integers(1, 5)), draw(st.integers(2, 5))
    strides = draw(st.sampled_from([1, 2, 3]))
    padding = draw(st.sampled_from(["same", "valid"]))
    rest = max(kernel_size - strides, 0) if padding == "valid" else 0
    options = {"filters": filters, "kernel_size": kernel_size, "strides": strides, "padding": padding}
    return "Conv1DTranspose", options, Shape(shape.length * strides + rest, filters)


def _pool(draw, shape):
    padding = draw(st.sampled_from(["valid", "same"]))
    size = draw(st.integers(1, min(5, shape.length) if padding == "valid" else 5))
    strides = draw(st.integers(1, 5))
    options = {"pool_size": size, "strides": strides, "padding": padding}
    name = draw(st.sampled_from(["MaxPooling1D", "AveragePooling1D"]))
    return name, options, Shape(window_length(shape.length, size, strides, padding), shape.channels)


def _pad(draw, shape):
    sides = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    return "ZeroPadding1D", {"padding": sides}, Shape(shape.length + sum(sides), shape.channels)


def _crop(draw, shape):
    total = draw(st.integers(0, min(8, shape.length - 1)))
    left = draw(st.integers(0, total))
    return "Cropping1D", {"cropping": (left, total - left)}, Shape(shape.length - total, shape.channels)


def _upsample(draw, shape):
    size = draw(st.integers(2, 3))
    return "UpSampling1D", {"size": size}, Shape(shape.length * size, shape.channels)


def _dense(draw, shape):
    units = draw(st.integers(2, 5))
    return "Dense", {"units": units, "activation": _activation(draw)}, Shape(shape.length, units)


POSITION_WISE = [
    ("Activation", {"activation": st.sampled_from(ACTIVATIONS)}),
    ("BatchNormalization", {"center": st.booleans(), "scale": st.booleans()}),
    ("ReLU", {"max_value": st.none() | st.just(0.7), "negative_slope": st.sampled_from([0.0, 0.2])}),
    ("PReLU", {"shared_axes": st.sampled_from([None, (1,), (1, 2)])}),
    ("LayerNormalization", {}),
    ("RMSNormalization", {}),
    ("UnitNormalization", {}),
    ("Masking", {"mask_value": st.sampled_from([0.0, 0.5])}),
    ("Dropout", {"rate": st.just(0.5)}),
    ("SpatialDropout1D", {"rate": st.just(0.5)}),
    ("Rescaling", {"scale": st.sampled_from([-1.0, 0.5]), "offset": st.sampled_from([0.0, -1.0])}),
]


def _position_wise(draw, shape):
    name, options = draw(st.sampled_from(POSITION_WISE))
    return name, draw(st.fixed_dictionaries(options)), shape


def _slice(draw, shape):
    start = draw(st.integers(0, min(6, shape.length - 1)))
    stop = draw(st.none() | st.integers(start + 1, shape.length))
    step = draw(st.sampled_from([1, 1, 2, 3]))
    options = {"start": start, "stop": stop, "step": step}
    if draw(st.booleans()):
        options = {"start": shape.length - 1 - start, "stop": None, "step": -step}
        stop = shape.length
    return "slice", options, Shape(-(-((stop or shape.length) - start) // step), shape.channels)


def _flip(draw, shape):
    return "flip", {"axis": draw(st.sampled_from([1, 2, (1, 2)]))}, shape


def _same_shape(draw, shape):
    names = ["affine", "gate", "centred", "channel_max", "flat_norm"]
    names += ["split_channels"] if shape.channels % 2 == 0 and shape.channels > 2 else []
    name = draw(st.sampled_from(names))
    options = {"affine": {"scale": 0.7, "shift": -0.2}, "split_channels": {"parts": 2}}.get(name, {})
    return name, options, shape


def _mixing(draw, shape):
    """What mixes all positions: the rest of the model is run as a whole."""
    name = draw(st.sampled_from(["squeeze_excite", "recurrent"]))
    return (name, {"units": 3}, Shape(shape.length, 3)) if name == "recurrent" else (name, {}, shape)


def _image(draw, shape):
    axis, size, padding = draw(st.integers(0, 1)), draw(st.integers(1, min(5, shape.length))), draw(_PADDINGS)
    options = {"axis": axis, "kernel_size": size, "padding": padding}
    kind = draw(st.sampled_from(["Conv2D", "DepthwiseConv2D", "SeparableConv2D", "MaxPooling2D", "AveragePooling2D"]))
    if kind in ("Conv2D", "SeparableConv2D"):
        shape = Shape(window_length(shape.length, size, 1, padding), 3)
        return "image", {"kind": kind, **options, "filters": 3, "activation": _activation(draw)}, shape
    strides = draw(st.integers(1, 3)) if kind.endswith("Pooling2D") else 1
    options |= {"strides": strides} if kind.endswith("Pooling2D") else {}
    length = window_length(shape.length, size, strides, padding)
    return "image", {"kind": kind, **options}, Shape(length, shape.channels)


def _columns(draw, shape):
    options = {"filters": 2, "kernel_size": draw(st.integers(1, 5)), "height": draw(st.integers(1, 3))}
    return "columns", options, Shape(shape.length, 2 * -(-shape.channels // 2))


def _channels_first(draw, shape):
    size, padding = draw(st.integers(1, min(5, shape.length))), draw(_PADDINGS)
    options = {"kernel_size": size, "padding": padding}
    return "channels_first", options, Shape(window_length(shape.length, size, 1, padding), 3)


def _matrix(draw, shape):
    units = draw(st.integers(2, 5))
    return draw(st.sampled_from(["time_distributed", "einsum"])), {"units": units}, Shape(shape.length, units)


def _mirrored(draw, shape):
    if shape.channels > WIDEST // 2:
        return _flip(draw, shape)
    return "both_strands", {}, Shape(shape.length, 2 * shape.channels)


_PADDINGS = st.sampled_from(["same", "valid"])
OLD = [_conv, _conv, _pool, _position_wise, _position_wise, _crop, _pad, _depthwise, _dense, _separable]
NEW = [_slice, _flip, _same_shape, _same_shape, _mixing, _image, _columns, _channels_first, _matrix, _mirrored]
DRAWERS = OLD + NEW
LENGTHENING = [_upsample, _transposed]


class _Sketch:
    """A stack while it is drawn: its nodes, and the shape of each tensor."""

    def __init__(self, draw, length: int):
        self.draw = draw
        self.nodes: list[Node] = []
        self.shapes = [Shape(length, 4)]
        self.products = 0

    @property
    def last(self) -> int:
        return len(self.nodes)

    def call(self, name, options, shape, *inputs: int, same_as: int | None = None) -> int:
        self.nodes.append(Node(name, inputs, options, same_as))
        self.shapes.append(shape)
        return self.last

    def layer(self) -> None:
        """A layer on the last tensor."""
        shape = self.shapes[self.last]
        drawers = DRAWERS + (LENGTHENING if shape.length * 3 + 4 <= LONGEST else [])
        drawer = self.draw(st.sampled_from(drawers))
        self.call(*drawer(self.draw, shape), self.last)

    def again(self) -> None:
        """A convolution of before, called on the last tensor, if there is one that fits it."""
        shape = self.shapes[self.last]
        fitting = [index for index, node in enumerate(self.nodes, 1) if self._fits(node, shape)]
        if not fitting:
            return self.layer()
        index = self.draw(st.sampled_from(fitting))
        options = self.nodes[index - 1].options
        span = (options["kernel_size"] - 1) * options["dilation_rate"] + 1
        length = window_length(shape.length, span, options["strides"], options["padding"])
        self.call("Conv1D", options, Shape(length, options["filters"]), self.last, same_as=index)

    def _fits(self, node: Node, shape: Shape) -> bool:
        if node.layer != "Conv1D" or node.same_as is not None:
            return False
        span = (node.options["kernel_size"] - 1) * node.options["dilation_rate"] + 1
        return self.shapes[node.inputs[0]].channels == shape.channels and span <= shape.length

    def merge(self) -> None:
        """The last tensor with one or two of any age, cropped and projected to agree."""
        arms = [self.last, *self.draw(st.lists(st.integers(0, self.last), min_size=1, max_size=2))]
        if len(arms) == 2 and self._fits_behind(*arms) and self.draw(st.booleans()):
            shapes = [self.shapes[arm] for arm in arms]
            shape = Shape(shapes[0].length + shapes[1].length, shapes[0].channels)
            self.call("end_to_end", {}, shape, *arms)
            return
        wide = sum(self.shapes[arm].channels for arm in arms) > WIDEST
        merges = [name for name in MERGES if self._allowed(name, len(arms), wide)]
        name = self.draw(st.sampled_from(merges))
        self.products += name == "Multiply"
        length = min(self.shapes[arm].length for arm in arms)
        arms = [self._cropped(arm, length) for arm in arms]
        if name == "Concatenate":
            channels = sum(self.shapes[arm].channels for arm in arms)
        else:
            channels = self.shapes[arms[0]].channels
            arms = [self._projected(arm, channels) for arm in arms]
        self.call(name, {}, Shape(length, channels), *self.draw(st.permutations(arms)))

    def _fits_behind(self, first: int, second: int) -> bool:
        a, b = self.shapes[first], self.shapes[second]
        return a.channels == b.channels and a.length + b.length <= LONGEST

    def _allowed(self, name: str, arms: int, wide: bool) -> bool:
        forbidden = {"Concatenate": wide, "Multiply": self.products >= PRODUCTS, "Subtract": arms > 2}
        return not forbidden.get(name, False)

    def _cropped(self, arm: int, length: int) -> int:
        shape = self.shapes[arm]
        if shape.length == length:
            return arm
        left = self.draw(st.integers(0, shape.length - length))
        sides = {"cropping": (left, shape.length - length - left)}
        return self.call("Cropping1D", sides, Shape(length, shape.channels), arm)

    def _projected(self, arm: int, channels: int) -> int:
        shape = self.shapes[arm]
        if shape.channels == channels:
            return arm
        return self.call("Conv1D", _pointwise(channels), Shape(shape.length, channels), arm)

    def heads(self) -> tuple[tuple[str, int], ...]:
        """One head on the last tensor, sometimes a second one on any tensor."""
        kinds = st.sampled_from(list(HEADS))
        first = (self.draw(kinds), self.last)
        if not self.draw(st.booleans()):
            return (first,)
        return first, (self.draw(kinds), self.draw(st.integers(0, self.last)))


def _pointwise(filters: int) -> dict[str, Any]:
    return {"filters": filters, "kernel_size": 1, "padding": "same", "strides": 1, "dilation_rate": 1, "groups": 1}


@st.composite
def stacks(draw, *, max_layers: int = 10, merges: bool = True) -> Stack:
    """Draw a stack of 2 to ``max_layers`` layers; ``merges=False`` draws plain chains.

    Croppings and pointwise convolutions that make the arms of a merge agree are not counted.
    """
    sketch = _Sketch(draw, draw(st.integers(8, 40)))
    steps = [sketch.layer] * 4 + ([sketch.again, sketch.merge, sketch.merge] if merges else [])
    sketch.layer()
    for _ in range(draw(st.integers(1, max_layers - 1))):
        draw(st.sampled_from(steps))()
    return Stack(sketch.shapes[0].length, tuple(sketch.nodes), sketch.heads(), draw(st.integers(0, 2**16)))


def chains(max_layers: int = 10) -> st.SearchStrategy[Stack]:
    """Draw stacks without branches: each layer reads the one before."""
    return stacks(max_layers=max_layers, merges=False)
