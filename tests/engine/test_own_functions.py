"""Functions of one's own, and layers, wherever Keras takes an activation; subclasses of Keras' layers."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

from fastism_cli import FastISM, register_rule
from fastism_cli.engine.inspection import inspect_scorer
from fastism_cli.model.adapt import as_keras_layer
from fastism_cli.model.backend import BACKEND
from fastism_cli.rules import table
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo.blocks import conv, dna
from tests.models.zoo.registry import randomise

pytestmark = pytest.mark.one_in(2)

LENGTH = 30
registered = keras.saving.register_keras_serializable(package="own_functions")


@registered
def quick_gelu(x):
    return ops.sigmoid(1.702 * x) * x


def sloped(x, slope):
    return ops.maximum(x, slope * x)


class Scaled:
    """A callable object, and a bound method."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * ops.tanh(x)

    def softly(self, x):
        return ops.softplus(self.factor * x)


def over_channels(x):
    return x - ops.max(x, axis=-1, keepdims=True)


ACTIVATIONS = {
    "function": quick_gelu,
    "lambda": lambda x: keras.activations.gelu(x, approximate=True),
    "partial": functools.partial(sloped, slope=0.2),
    "method": Scaled(0.5).softly,
    "object": Scaled(0.7),
    "layer": layers.LeakyReLU(0.1),
    "over_channels": over_channels,
    "identity": lambda x: x,
}


def between(*calls) -> keras.Model:
    """inp -> C -> calls -> C -> F -> D"""
    inp = dna(LENGTH)
    x = conv(inp, 6, 5)
    for call in calls:
        x = call(x)
    return randomise(keras.Model(inp, layers.Dense(2)(layers.Flatten()(conv(x, 3, 3)))), seed=1)


def seen(model):
    return inspect_scorer(FastISM(model, engine="fast"))


def opaque(found) -> list[str]:
    return [f"{node.class_name}: {node.reason}" for node in found.nodes if node.state == "opaque"]


def assert_exact(model) -> None:
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


def assert_as_fast(model, plain) -> None:
    """No opaque node, and at least 0.9 of the limit that the plain form has."""
    found = seen(model)
    assert opaque(found) == []
    assert found.limit >= 0.9 * seen(plain).limit
    assert_exact(model)


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_of_ones_own(name):
    function = ACTIVATIONS[name]
    assert_as_fast(
        between(layers.Activation(function), layers.Conv1D(4, 3, padding="same", activation=function)),
        between(layers.Activation("gelu"), layers.Conv1D(4, 3, padding="same", activation="gelu")),
    )


WITH_ACTIVATION = {
    "Conv1D": lambda f: layers.Conv1D(5, 3, activation=f),
    "DepthwiseConv1D": lambda f: layers.DepthwiseConv1D(3, padding="same", activation=f),
    "SeparableConv1D": lambda f: layers.SeparableConv1D(5, 3, activation=f),
    "Conv1DTranspose": lambda f: layers.Conv1DTranspose(5, 3, strides=2, activation=f),
    "Dense": lambda f: layers.Dense(5, activation=f),
    "EinsumDense": lambda f: layers.EinsumDense("abc,cd->abd", (LENGTH, 5), activation=f),
    "SpectralNormalization": lambda f: layers.SpectralNormalization(layers.Conv1D(5, 3, activation=f)),
    "TimeDistributed": lambda f: layers.TimeDistributed(layers.Dense(5, activation=f)),
    "Conv2D": lambda f: (
        lambda x: layers.Reshape((LENGTH, 5))(
            layers.Conv2D(5, (3, 1), padding="same", activation=f)(layers.Reshape((LENGTH, 1, 6))(x))
        )
    ),
}


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", WITH_ACTIVATION)
def test_every_layer_that_has_an_activation(name):
    build = WITH_ACTIVATION[name]
    assert_as_fast(between(build(quick_gelu)), between(build("gelu")))


class ByName(layers.Layer):
    """As most layers of others have it: ``self.activation = keras.activations.get(name)``."""

    def __init__(self, activation, **options):
        super().__init__(**options)
        self.activation = keras.activations.get(activation)

    def call(self, x):
        return self.activation(x)


NAMES = [
    name
    for name in dir(keras.activations)
    if name.islower() and callable(getattr(keras.activations, name))
    if name not in ("deserialize", "get", "serialize", "threshold")
]


# With JAX, these functions of Keras take no symbols: a layer that calls them stays opaque.
WITHOUT_SYMBOLS = ("hard_silu", "hard_swish", "mish", "sparsemax") if BACKEND == "jax" else ()


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", sorted(set(NAMES) - set(WITHOUT_SYMBOLS)))
def test_every_activation_by_its_name_inside_a_layer(name):
    model = keras.Model(inp := dna(LENGTH), conv(ByName(name)(conv(inp, 6)), 2))
    found = inspect_scorer(FastISM(model, engine="fast", reduce="sum"))
    assert [node.reason for node in found.nodes if node.state == "opaque"] == []


@registered
class Capped(layers.Layer):
    def call(self, x):
        return keras.activations.relu(x, negative_slope=0.2, max_value=0.5, threshold=0.1)


def test_relu_with_a_slope_and_a_ceiling_inside_a_layer(rng):
    model = randomise(keras.Model(inp := dna(LENGTH), layers.Flatten()(conv(Capped()(conv(inp, 6)), 2))), seed=1)
    errors = errors_of(model, inputs_of(model, rng))
    assert errors.fast <= errors.allowed


@registered
class Prototypes(layers.Layer):
    """Squared distances of every position from five points."""

    def build(self, shape):
        self.points = self.add_weight(shape=(5, shape[-1]), initializer="random_normal", name="points")

    def call(self, x):
        return ops.sum(ops.square(x[:, :, None] - self.points), axis=-1)


@registered
class Windows(layers.Layer):
    """Five positions side by side, every second one."""

    def call(self, x):
        windows = ops.take(x, np.arange(0, LENGTH - 4, 2)[:, None] + np.arange(5), axis=1)
        return ops.reshape(windows, (-1, windows.shape[1], 5 * x.shape[-1]))


@registered
class OfTensorFlow(layers.Layer):
    """A variable that Keras does not know of."""

    def __init__(self, **options):
        import tensorflow as tf

        super().__init__(**options)
        self.gain = tf.Variable(np.linspace(0.1, 1, 6), dtype=self.compute_dtype)

    def call(self, x):
        return x * self.gain


@pytest.mark.parametrize("cls", [Prototypes, Windows, OfTensorFlow])
def test_constants_that_widen_a_tensor_windows_and_variables_of_tensorflow(cls, rng):
    if cls is OfTensorFlow and BACKEND != "tensorflow":
        pytest.skip("a layer of TensorFlow")
    model = randomise(keras.Model(inp := dna(LENGTH), layers.Flatten()(conv(cls()(conv(inp, 6)), 2))), seed=1)
    found = inspect_scorer(FastISM(model, engine="fast"))
    assert [node.reason for node in found.nodes if node.state == "opaque"] == []
    errors = errors_of(model, inputs_of(model, rng))
    assert errors.fast <= errors.allowed


@registered
class InSixteenBits(layers.Layer):
    def call(self, x):
        return ops.cast(ops.softmax(ops.cast(x, "float16")), "float32")


def test_sixteen_bits_in_between_are_left_to_keras():
    """Fused, the window would be rounded in other places."""
    model = keras.Model(inp := dna(LENGTH), layers.Flatten()(conv(InSixteenBits()(conv(inp, 6)), 2)))
    found = inspect_scorer(FastISM(model, engine="fast"))
    assert [node.class_name for node in found.nodes if node.state == "opaque"] == ["InSixteenBits"]


@registered
class NamedAlike(layers.Layer):
    """Two layers of one name."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.second = (layers.Conv1D(4, 3, padding="same", name="conv") for _ in range(2))

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], 4))

    def call(self, x):
        return self.second(self.first(x))


def test_layers_of_one_name():
    model = between(NamedAlike())
    assert opaque(seen(model)) == []
    assert_exact(model)
    (layer,) = (x for x in model.layers if type(x) is NamedAlike)
    assert [layer.first.name, layer.second.name] == ["conv", "conv"]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="calls TensorFlow")
def test_why_an_activation_is_opaque():
    import tensorflow as tf

    def spectrum(x):
        return tf.math.real(tf.signal.fft(tf.cast(x, tf.complex64)))

    inp = dna(LENGTH)
    x = layers.Conv1D(4, 3, activation=spectrum)(inp)
    (reason,) = opaque(seen(keras.Model(inp, layers.Dense(2)(layers.Flatten()(x)))))
    assert "activation 'spectrum' cannot be followed: it uses TensorFlow's FFT; write it with keras.ops" in reason


def over_positions(x):
    return x / (1 + ops.max(ops.abs(x), axis=1, keepdims=True))


def test_an_activation_that_mixes_positions_is_exact():
    model = between(layers.Conv1D(4, 3, activation=over_positions))
    assert "whole" in {node.state for node in seen(model).nodes}
    assert_exact(model)


LAMBDAS = {
    "arguments": lambda x: layers.Lambda(sloped, arguments={"slope": 0.3})(x),
    "output_shape": lambda x: layers.Lambda(lambda t: t[:, :, :4], output_shape=(LENGTH, 4))(x),
    "two_tensors": lambda x: layers.Lambda(lambda ts: ts[0] * ops.sigmoid(ts[1]))([x, x]),
    "own_function": lambda x: layers.Lambda(quick_gelu)(x),
}


@pytest.mark.parametrize("name", LAMBDAS)
def test_lambdas(name):
    model = between(LAMBDAS[name])
    assert opaque(seen(model)) == []
    assert_exact(model)


# --- subclasses -------------------------------------------------------------------------------------------------------


@registered
class SetUp(layers.Conv1D):
    """Sets itself up in its own way, and has a method more; its call is that of Conv1D."""

    def __init__(self, filters=4, **options):
        super().__init__(filters, 3, **{"padding": "same", **options})
        self.note = "mine"

    def build(self, shape):
        super().build(shape)
        self.seen = tuple(shape)

    def get_config(self):
        return {"filters": self.filters, "name": self.name, "dtype": self.dtype_policy.name}

    def length(self):
        return self.seen[1]


@registered
class Deeper(SetUp):
    pass


@registered
class AbsoluteKernel(layers.Conv1D):
    """Another kernel than its weights say."""

    @property
    def kernel(self):
        return ops.abs(self._kernel)


@registered
class OtherOperation(layers.Conv1D):
    def convolution_op(self, x, kernel):
        return super().convolution_op(x, kernel) * 2.0


@registered
class ThenReLU(layers.Conv1D):
    def call(self, x):
        return ops.relu(super().call(x))


@registered
class AlwaysFixed(layers.BatchNormalization):
    def call(self, x, training=None):
        return super().call(x, training=False)


@registered
class Standardised(layers.Conv1D):
    """Weight standardisation: the kernel is normalised before it is used (Qiao et al. 2019)."""

    def call(self, x):
        kernel, before = self.kernel, self._kernel
        mean = ops.mean(kernel, axis=(0, 1), keepdims=True)
        self._kernel = (kernel - mean) / (ops.std(kernel, axis=(0, 1), keepdims=True) + 1e-3)
        try:
            return super().call(x)
        finally:
            self._kernel = before


@registered
class Around(layers.Dense):
    """Calls itself between other layers, and a layer of its own."""

    def __init__(self, units=5, **options):
        super().__init__(units, **options)
        self.norm = layers.LayerNormalization()

    def build(self, shape):
        super().build(shape)
        self.norm.build((*shape[:-1], self.units))

    def call(self, x):
        return ops.tanh(self.norm(super().call(ops.elu(x))))


@registered
class Outer(ThenReLU):
    def call(self, x):
        return super().call(x) + 1.0


# name: the layer, and the plain form of it
SUBCLASSES = {
    "set_up": (lambda: [SetUp()], lambda: [layers.Conv1D(4, 3, padding="same")]),
    "deeper": (lambda: [Deeper(activation="relu")], lambda: [layers.Conv1D(4, 3, padding="same", activation="relu")]),
    "own_activation": (
        lambda: [SetUp(activation=quick_gelu)],
        lambda: [layers.Conv1D(4, 3, padding="same", activation="gelu")],
    ),
    "then_relu": (lambda: [ThenReLU(4, 3)], lambda: [layers.Conv1D(4, 3, activation="relu")]),
    "outer": (lambda: [Outer(4, 3)], lambda: [layers.Conv1D(4, 3, activation="relu")]),
    "norm": (lambda: [AlwaysFixed()], lambda: [layers.BatchNormalization()]),
    "standardised": (lambda: [Standardised(4, 3)], lambda: [layers.Conv1D(4, 3)]),
    "around": (
        lambda: [Around()],
        lambda: [layers.ELU(), layers.Dense(5), layers.LayerNormalization(), layers.Activation("tanh")],
    ),
    "inside_time_distributed": (
        lambda: [layers.TimeDistributed(Around())],
        lambda: [layers.TimeDistributed(layers.Dense(5, activation="tanh"))],
    ),
}


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", SUBCLASSES)
def test_subclasses(name):
    own, plain = (between(*build()) for build in SUBCLASSES[name])
    assert_as_fast(own, plain)


@pytest.mark.parametrize("build", [AbsoluteKernel, OtherOperation])
def test_a_subclass_that_changes_what_its_base_reads_is_exact(build):
    assert_exact(between(build(4, 3)))


@registered
class OwnLSTM(layers.LSTM):
    def get_config(self):
        return super().get_config()


@registered
class OwnCell(layers.GRUCell):
    pass


WRAPPED = {
    "Bidirectional": (lambda: layers.Bidirectional(OwnLSTM(3)), lambda x: [x.forward_layer, x.backward_layer]),
    "RNN": (lambda: layers.RNN([OwnCell(3), layers.LSTMCell(2)]), lambda x: x.cell.cells),
    "TimeDistributed": (lambda: layers.TimeDistributed(SetUp(4)), lambda x: [x.layer]),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_subclasses_inside_of_wrappers(name, rng):
    """As layers of Keras' own classes, which compute the same with the same weights."""
    build, inside = WRAPPED[name]
    layer = build()
    x = rng.normal(size=(2, 5, 6, 3)[: 4 if name == "TimeDistributed" else 3]).astype("float32")
    wanted = layer(x)
    found = as_keras_layer(layer)
    assert all(type(inner).__module__.startswith("keras.") for inner in inside(found))
    assert not all(type(inner).__module__.startswith("keras.") for inner in inside(layer))
    assert {id(w) for w in found.weights} == {id(w) for w in layer.weights}
    np.testing.assert_array_equal(found(x), wanted)


def test_what_computes_something_else_stays_what_it_is():
    replaced = SetUp()
    replaced.convolution_op = lambda x, kernel: x
    for layer in (AbsoluteKernel(4, 3), OtherOperation(4, 3), ThenReLU(4, 3), replaced, layers.Conv1D(4, 3)):
        assert as_keras_layer(layer) is layer


def test_a_rule_that_is_registered_is_preferred(monkeypatch):
    monkeypatch.setattr(table, "RULES", dict(table.RULES))
    register_rule(SetUp, like=layers.Conv1D)
    model = between(SetUp())
    assert "SetUp" in [node.class_name for node in seen(model).nodes]
    assert_exact(model)


def test_the_layers_of_the_model_are_left_as_they_were():
    model = between(ThenReLU(4, 3), SetUp(), layers.Activation(quick_gelu))
    before = [(type(layer), set(vars(layer))) for layer in model.layers]
    call = layers.Conv1D.call, layers.Layer.__call__
    seen(model)
    assert [(type(layer), set(vars(layer))) for layer in model.layers] == before
    assert (layers.Conv1D.call, layers.Layer.__call__) == call
