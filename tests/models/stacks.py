"""Random models for hypothesis: a plain description of a small graph, and the Keras model built from it.

A failing draw prints as Python: paste the ``Stack(...)`` into a test to keep it.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from keras import layers, ops

from tests.models.composites import COMPOSITES, PAIRS, RECURRENT
from tests.models.own_code import FUNCTIONS, SUBCLASSES
from tests.models.zoo import randomise

LONGEST = 96  # positions that a tensor may have after it was lengthened
WIDEST = 12  # channels of any tensor; at least 2, because Keras warns of a softmax over one
PRODUCTS = 2  # Multiply nodes in a stack; more let the values explode
ACTIVATIONS = ["relu", "tanh", "elu", "gelu", "softplus", "sigmoid", "leaky_relu", "softmax"]
MERGES = ["Add", "Concatenate", "Multiply", "Maximum", "Average", "Minimum", "Subtract"]


@dataclass(frozen=True)
class Node:
    """A layer (or a composite) called on tensors by number.

    0 is the sequence, ``i`` is the output of node ``i``, and negative ones are the model's other inputs.
    """

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


# The other inputs, by number: a vector, and a track as long as the sequence.
VECTOR, TRACK = -1, -2


def global_pool(name: str, axes: int):
    """A global pooling of the tensor as an image or a volume."""
    return lambda x: getattr(layers, name)()(layers.Reshape((x.shape[1], *(1,) * (axes - 1), x.shape[2]))(x))


HEADS = {
    "image_average": lambda x: layers.Dense(2)(global_pool("GlobalAveragePooling2D", 2)(x)),
    "image_max": lambda x: layers.Dense(2)(global_pool("GlobalMaxPooling2D", 2)(x)),
    "volume_average": lambda x: layers.Dense(2)(global_pool("GlobalAveragePooling3D", 3)(x)),
    "volume_max": lambda x: layers.Dense(2)(global_pool("GlobalMaxPooling3D", 3)(x)),
    "flatten_dense": lambda x: layers.Dense(2)(layers.Flatten()(x)),
    "average_dense": lambda x: layers.Dense(2)(layers.GlobalAveragePooling1D()(x)),
    "max_dense": lambda x: layers.Dense(2)(layers.GlobalMaxPooling1D()(x)),
    "attention_pooled_dense": lambda x: layers.Dense(2)(
        ops.sum(x * ops.softmax(layers.Dense(x.shape[-1])(x), axis=1), axis=1)
    ),
    "dot_pooled": lambda x: layers.Flatten()(layers.Dot(axes=1)([layers.Softmax(axis=1)(layers.Dense(2)(x)), x])),
    "variance_dense": lambda x: layers.Dense(2)(ops.concatenate(ops.moments(x, axes=1), axis=-1)),
    "logsumexp_dense": lambda x: layers.Dense(2)(ops.logsumexp(x, axis=1)),
    "positional": lambda x: layers.Conv1D(2, 3, padding="same")(x),
}


def build(stack: Stack) -> keras.Model:
    """Build the model, with weights drawn from ``stack.seed``."""
    tensors = node_tensors(stack)
    outputs = [HEADS[kind](tensors[index]) for kind, index in stack.heads]
    inputs = [tensors[number] for number in (0, VECTOR, TRACK) if number in tensors]
    given = inputs if len(inputs) > 1 else inputs[0]
    return randomise(keras.Model(given, outputs if len(outputs) > 1 else outputs[0]), stack.seed)


def build_if_keras_runs_it(stack: Stack) -> keras.Model:
    """The same for a test with random stacks, which goes on to another one where plain Keras raises an error.

    ``Softmax`` does behind a recurrence that was given a mask: it takes no mask of (batch, length).
    """
    model = build(stack)
    try:
        model({x.name: np.zeros((1, *x.shape[1:]), "float32") for x in model.inputs}, training=False)
    except ValueError as error:
        assume("calling Softmax.call()" not in str(error))
        raise
    return model


def node_tensors(stack: Stack) -> dict[int, keras.KerasTensor]:
    """The symbolic tensors of a stack by number."""
    tensors, called = {0: keras.Input((stack.length, 4), name="dna")}, {}
    read = {index for node in stack.nodes for index in node.inputs}
    if VECTOR in read:
        tensors[VECTOR] = keras.Input((5,), name="vector")
    if TRACK in read:
        tensors[TRACK] = keras.Input((stack.length, 3), name="track")
    for number, node in enumerate(stack.nodes, start=1):
        inputs = [tensors[index] for index in node.inputs]
        if node.layer in COMPOSITES:
            tensors[number] = COMPOSITES[node.layer](**node.options)(*inputs)
            continue
        fresh = node.same_as is None
        called[number] = getattr(layers, node.layer)(**node.options) if fresh else called[node.same_as]
        tensors[number] = called[number](inputs if len(inputs) > 1 else inputs[0])
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
    if draw(st.booleans()):
        return "repeated", {"repeats": size}, Shape(shape.length * size, shape.channels)
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
    ("LeakyReLU", {"negative_slope": st.sampled_from([0.0, 0.3])}),
    ("ELU", {"alpha": st.sampled_from([0.5, 1.0])}),
    ("Softmax", {}),
    ("Normalization", {"axis": st.none(), "mean": st.just(0.3), "variance": st.just(2.0), "invert": st.booleans()}),
    ("GaussianDropout", {"rate": st.just(0.5)}),
    ("AlphaDropout", {"rate": st.just(0.5)}),
    ("GaussianNoise", {"stddev": st.just(0.5)}),
    ("ActivityRegularization", {"l1": st.just(0.1)}),
    ("Identity", {}),
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


# Functions of keras.ops that are smooth on (1, 3), and on (-0.9, 0.9).
POSITIVE = "log log10 log1p log2 sqrt rsqrt reciprocal arccosh cbrt"
SMOOTH = (
    "abs absolute arccos arcsin arcsinh arctan arctanh cos cosh deg2rad exp expm1 negative rad2deg sin sinc sinh "
    "square tan tanh erf erfc erfinv relu relu6 sigmoid sparse_sigmoid softplus softsign soft_shrink sparse_plus silu "
    "squareplus stop_gradient copy "
    "log_sigmoid leaky_relu hard_sigmoid hard_silu elu selu gelu celu tanh_shrink hard_tanh"
)
TWO = (
    "add subtract multiply divide true_divide divide_no_nan power maximum minimum fmax fmin arctan2 hypot logaddexp "
    "logaddexp2"
)
OVER_CHANNELS = "max amax min amin mean sum std var prod logsumexp norm"
ALONG_CHANNELS = "softmax log_softmax sparsemax normalize"


def _words(text: str) -> list[str]:
    """Those that this version of Keras has."""
    return [name for name in text.split() if hasattr(ops, name)]


PIECEWISE = ["where", "select", "mask", "by_position", "sort", "top_k", "median", "cumsum", "take"]

SAME_SHAPE = [
    ("affine", {"scale": st.just(0.7), "shift": st.just(-0.2)}),
    ("gate", {}),
    ("centred", {}),
    ("channel_max", {}),
    ("flat_norm", {}),
    ("one_by_one", {"name": st.sampled_from(_words(POSITIVE)), "positive": st.just(True)}),
    ("one_by_one", {"name": st.sampled_from(_words(SMOOTH)), "positive": st.just(False)}),
    ("over_channels", {"name": st.sampled_from(_words(OVER_CHANNELS))}),
    ("along_channels", {"name": st.sampled_from(_words(ALONG_CHANNELS))}),
    ("swapped", {"how": st.sampled_from(["swapaxes", "moveaxis", "transpose"])}),
    ("squeezed", {}),
    ("without_channels", {}),
    ("with_positions", {}),
    ("stacked", {}),
    (
        "nested",
        {
            "filters": st.integers(2, 5),
            "how": st.sampled_from(list(PAIRS)),
            "depth": st.integers(1, 3),
            "outputs": st.sampled_from(["one", "list", "dict"]),
        },
    ),
]


def _same_shape(draw, shape):
    if shape.channels % 2 == 0 and shape.channels > 2 and draw(st.integers(0, len(SAME_SHAPE))) == 0:
        if draw(st.booleans()):
            return "half_gated", {}, Shape(shape.length, shape.channels // 2)
        return "split_channels", {"parts": 2}, shape
    name, options = draw(st.sampled_from(SAME_SHAPE))
    return name, draw(st.fixed_dictionaries(options)), shape


def _mixing(draw, shape):
    """What mixes all positions, or carries a change on: the rest of the model may be run as a whole."""
    name = draw(st.sampled_from(["squeeze_excite", "recurrent", "over_positions"]))
    if name == "recurrent":
        kind, mask = draw(st.sampled_from(sorted(RECURRENT))), draw(st.sampled_from([None, None, "made", "given"]))
        return name, {"units": 3, "kind": kind, "mask": mask}, Shape(shape.length, 3)
    if name == "over_positions":
        return name, {"how": draw(st.sampled_from(["each", "all"]))}, shape
    return name, {}, shape


# Layers of images and volumes; TensorFlow has no pooling of volumes in float64 on a CPU.
SLIDING = ["Conv2D", "Conv3D", "DepthwiseConv2D", "SeparableConv2D", "MaxPooling2D", "AveragePooling2D"]
RESIZING = ["ZeroPadding2D", "ZeroPadding3D", "Cropping2D", "Cropping3D"]
GROWING = ["UpSampling2D", "UpSampling3D", "Conv2DTranspose", "Conv3DTranspose"]
IDLE = ["SpatialDropout2D", "SpatialDropout3D", "RandomFlip"]


def _axes(draw, kind: str) -> dict[str, int]:
    axes = 3 if kind.endswith("3D") or kind.startswith("Conv3D") else 2
    return {"kind": kind, "axes": axes, "axis": draw(st.integers(0, axes - 1))}


def _image(draw, shape):
    options = _axes(draw, draw(st.sampled_from(SLIDING)))
    size, padding = draw(st.integers(1, min(5, shape.length))), draw(_PADDINGS)
    if options["kind"].endswith("Pooling2D"):
        strides = draw(st.integers(1, 3))
        along = {"pool_size": size, "strides": strides}
        length = window_length(shape.length, size, strides, padding)
        return "image", {**options, "along": along, "padding": padding}, Shape(length, shape.channels)
    options |= {"along": {"kernel_size": size}, "padding": padding, "activation": _activation(draw)}
    length = window_length(shape.length, size, 1, padding)
    if options["kind"] == "DepthwiseConv2D":
        return "image", options, Shape(length, shape.channels)
    return "image", {**options, "filters": 3}, Shape(length, 3)


def _image_resized(draw, shape):
    options = _axes(draw, draw(st.sampled_from(RESIZING + IDLE)))
    if options["kind"] in IDLE:
        given = {"mode": "horizontal"} if options["kind"] == "RandomFlip" else {"rate": 0.5}
        return "image", {**options, **given, "along": {}}, shape
    name, (before, after) = "padding", draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    if options["kind"].startswith("Cropping"):
        name, before = "cropping", min(before, (shape.length - 1) // 2)
        after = -min(after, (shape.length - 1) // 2)
        return "image", {**options, "along": {name: (before, -after)}}, Shape(shape.length - before + after, shape[1])
    return "image", {**options, "along": {name: (before, after)}}, Shape(shape.length + before + after, shape[1])


def _image_grown(draw, shape):
    options, size = _axes(draw, draw(st.sampled_from(GROWING))), draw(st.integers(2, 3))
    if options["kind"].startswith("UpSampling"):
        return "image", {**options, "along": {"size": size}}, Shape(shape.length * size, shape.channels)
    along = {"kernel_size": draw(st.integers(1, 4)), "strides": size}
    options |= {"along": along, "filters": 3, "padding": "same"}
    return "image", options, Shape(shape.length * size, 3)


def _spectral(draw, shape):
    filters = draw(st.integers(2, 5))
    return draw(st.sampled_from(["spectral", "ones_own"])), {"filters": filters}, Shape(shape.length, filters)


def _own_code(draw, shape):
    """A function of one's own, by itself or as an activation, or a subclass of a layer."""
    kind, units = draw(st.sampled_from(["function", "function", "activation", "subclass"])), draw(st.integers(2, 5))
    if kind == "subclass":
        return (
            "subclass",
            {"kind": draw(st.sampled_from(list(SUBCLASSES))), "filters": units},
            shape._replace(channels=units),
        )
    function = {"function": draw(st.sampled_from(list(FUNCTIONS)))}
    if kind == "function":
        return "own_function", {**function, "how": draw(st.sampled_from(["activation", "lambda", "layer"]))}, shape
    layer = draw(st.sampled_from(["Dense", "SeparableConv1D"] + ["Conv1D"] * (shape.length > 2)))
    length = shape.length - 2 * (layer == "Conv1D")
    return "own_activation", {**function, "layer": layer, "size": units}, Shape(length, units)


def _padded(draw, shape):
    before, after = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    if shape.length > 4 and draw(st.booleans()):
        options = {"before": before, "after": after, "mode": draw(st.sampled_from(["reflect", "symmetric"]))}
        return "mirrored_pad", options, Shape(shape.length + before + after, shape.channels)
    return "padded", {"before": before, "after": after}, Shape(shape.length + before + after, shape.channels)


def _columns(draw, shape):
    options = {"filters": 2, "kernel_size": draw(st.integers(1, 5)), "height": draw(st.integers(1, 3))}
    return "columns", options, Shape(shape.length, 2 * -(-shape.channels // 2))


def _channels_first(draw, shape):
    size, padding = draw(st.integers(1, min(5, shape.length))), draw(_PADDINGS)
    options = {"kernel_size": size, "padding": padding}
    return "channels_first", options, Shape(window_length(shape.length, size, 1, padding), 3)


def _matrix(draw, shape):
    units = draw(st.integers(2, 5))
    name = draw(st.sampled_from(["time_distributed", "einsum", "projected", "weights_by_position"]))
    how = {"how": draw(st.sampled_from(["matmul", "dot", "einsum"]))} if name == "projected" else {}
    return name, {"units": units, **how}, Shape(shape.length, units)


def _mirrored(draw, shape):
    if shape.channels > WIDEST // 2:
        return _flip(draw, shape)
    return "both_strands", {}, Shape(shape.length, 2 * shape.channels)


def _regrouped(draw, shape):
    sizes = [size for size in (2, 3, 4) if shape.length % size == 0 and shape.length > size]
    if sizes and draw(st.booleans()):
        return "attention_pooled", {"size": (size := draw(st.sampled_from(sizes)))}, Shape(shape[0] // size, shape[1])
    if sizes and shape.channels * sizes[0] <= WIDEST:
        return "patches", {"size": sizes[0]}, Shape(shape.length // sizes[0], shape.channels * sizes[0])
    if shape.channels % 2 == 0 and shape.length * 2 <= LONGEST:
        return "interleaved", {"size": 2}, Shape(shape.length * 2, shape.channels // 2)
    return _same_shape(draw, shape)


_PADDINGS = st.sampled_from(["same", "valid"])
OLD = [_conv, _conv, _pool, _position_wise, _position_wise, _crop, _pad, _depthwise, _dense, _separable]
NEW = [_slice, _flip, _same_shape, _same_shape, _same_shape, _mixing, _columns, _channels_first, _matrix, _mirrored]
NEW += [_image, _image, _image_resized, _spectral, _padded, _regrouped, _own_code, _own_code]
DRAWERS = OLD + NEW
LENGTHENING = [_upsample, _transposed, _image_grown]


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

    def other_input(self) -> None:
        """The last tensor, and another input of the model."""
        shape = self.shapes[self.last]
        if shape.length == self.shapes[0].length and shape.channels + 2 <= WIDEST and self.draw(st.booleans()):
            self.call("beside", {}, Shape(shape.length, shape.channels + 2), self.last, TRACK)
        else:
            self.call("conditioned", {}, shape, self.last, VECTOR)

    def operation(self) -> None:
        """A function of the last tensor and of another one."""
        shape = self.shapes[self.last]
        others = [i for i, other in enumerate(self.shapes) if other == shape]
        name = self.draw(st.sampled_from(_words(TWO)))
        self.call("two_by_two", {"name": name}, shape, self.last, self.draw(st.sampled_from(others)))

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
    others = [sketch.again, sketch.merge, sketch.merge, draw(st.sampled_from([sketch.operation, sketch.other_input]))]
    steps = [sketch.layer] * 5 + (others if merges else [])
    sketch.layer()
    for _ in range(draw(st.integers(1, max_layers - 1))):
        draw(st.sampled_from(steps))()
    return Stack(sketch.shapes[0].length, tuple(sketch.nodes), sketch.heads(), draw(st.integers(0, 2**16)))


def chains(max_layers: int = 10) -> st.SearchStrategy[Stack]:
    """Draw stacks without branches: each layer reads the one before."""
    return stacks(max_layers=max_layers, merges=False)
