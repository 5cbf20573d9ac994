"""Layers and models of one's own are opened where what they do can be read, and left alone where it cannot."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers, ops

from fastism_cli import FastISM
from fastism_cli.engine.inspection import Inspection, inspect_scorer
from fastism_cli.engine.open_layers import OPERATORS, with_layers_opened
from fastism_cli.model.backend import BACKEND
from fastism_cli.model.keras_graph import layer_graph
from fastism_cli.rules import table
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo import custom
from tests.models.zoo.blocks import conv, dna
from tests.models.zoo.registry import randomise

LENGTH = 36


class Residual(layers.Layer):
    """A block as people write it: layers inside of a layer inside of a layer, and an argument for training."""

    def __init__(self, **options):
        super().__init__(**options)
        self.gated, self.norm, self.drop = custom.GatedUnit(5), layers.BatchNormalization(), layers.Dropout(0.5)

    def build(self, shape):
        self.gated.build(shape)
        self.norm.build(shape)

    def call(self, x, training=None):
        return x + self.drop(self.norm(self.gated(x), training=training), training=training)


class Twice(layers.Layer):
    """Returns what it is given, and the same result two times."""

    def call(self, x):
        y = ops.tanh(x)
        return x, y, y


class WeightFirst(layers.Layer):
    """The weight on the left of every operator."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")
        self.shift = self.add_weight(shape=(1, 1), name="shift")

    def call(self, x):
        return self.shift - (self.shift + (self.scale * x)) / 2.0


class OwnWeights(layers.Layer):
    """One of ``OPERATIONS``, with weights of the layer's own."""

    def __init__(self, operation, **options):
        super().__init__(**options)
        self.operation = operation

    def build(self, shape):
        _, *shapes = OPERATIONS[self.operation]
        self.kernels = [self.add_weight(shape=s, name=f"kernel_{i}") for i, s in enumerate(shapes)]

    def call(self, x):
        return OPERATIONS[self.operation][0](x, *self.kernels)

    def get_config(self):
        return {**super().get_config(), "operation": self.operation}


def in_blocks(x):
    """The size of the batch is asked for."""
    batch, length, channels = ops.shape(x)
    y = ops.reshape(x, (batch, length // 2, 2, channels))
    return ops.reshape(y * ops.softmax(y, axis=-2), (batch, length, channels))


OPERATIONS = {
    "conv": (lambda x, w: ops.conv(x, w, padding="same"), (5, 5, 4)),
    "standardised_conv": (lambda x, w: ops.conv(x, (w - ops.mean(w)) / (ops.std(w) + 0.1), padding="same"), (5, 5, 4)),
    "depthwise_conv": (lambda x, w: ops.depthwise_conv(x, w, strides=2), (4, 5, 2)),
    "separable_conv": (lambda x, w, v: ops.separable_conv(x, w, v, padding="same"), (5, 5, 1), (1, 5, 6)),
    "conv_transpose": (lambda x, w: ops.conv_transpose(x, w, strides=2, padding="same"), (4, 3, 5)),
    "batch_normalization": (lambda x, m, v: ops.batch_normalization(x, m, v * v + 1, axis=-1), (5,), (5,)),
    "tensordot": (lambda x, w: ops.tensordot(x, w, axes=[[2], [0]]), (5, 4)),
    "einsum": (lambda x, w: ops.einsum("blc,lcd->bld", x, w), (LENGTH, 5, 3)),
    "shape": (in_blocks,),
    "broadcast": (lambda x, w: w + ops.broadcast_to(ops.max(x, axis=-1, keepdims=True), ops.shape(x)), (5,)),
    "slice": (lambda x: ops.slice(x, (0, 3, 1), (ops.shape(x)[0], 20, 3)),),
    "comparison": (lambda x, w: ops.where(x > w, x, 0.1 * x), (5,)),
    "take": (lambda x, w: ops.take(x, [3, 3, 0], axis=-1) * w, (3,)),
}


class Branches(keras.Model):
    """A model by its call, with a dict of heads."""

    def __init__(self):
        super().__init__()
        self.first, self.block, self.dense = layers.Conv1D(5, 5, padding="same"), Residual(), layers.Dense(2)

    def call(self, x, training=False):
        x = self.block(ops.relu(self.first(x)), training=training)
        return {"counts": self.dense(ops.mean(x, axis=1)), "largest": ops.max(x, axis=(1, 2), keepdims=True)[:, 0]}


OPENED = {
    "layers": lambda x: custom.GatedUnit(4)(x),
    "layers_of_layers": lambda x: Residual()(x),
    "model": lambda x: custom.ConvPair(4)(x),
    "weights": lambda x: custom.PositionScale()(x),
    "weights_first": lambda x: WeightFirst()(x),
    "two_windows": lambda x: custom.MirrorMix()(x),
    "argument": lambda x: custom.ScaleBy()(x, factor=0.5),
    "two_results": lambda x: ops.multiply(*custom.SplitHalves()(conv(x, 6))),
    "what_it_is_given": lambda x: layers.Concatenate()(Twice()(x)),
    "base_call": lambda x: custom.SquaredConv1D(4, 3)(x),
    "subclass": lambda x: custom.UnchangedConv1D(4, 3)(x),
    "lambda": lambda x: layers.Lambda(lambda t: t[:, ::-1, ::-1])(x),
    "lambda_with_arguments": lambda x: layers.Lambda(lambda t, by: ops.relu(t) * by, arguments={"by": 2.0})(x),
}


def between(call) -> keras.Model:
    """inp -> C -> call -> C -> F -> D"""
    inp = dna(LENGTH)
    x = conv(call(conv(inp, 5, 5)), 3, 3)
    return randomise(keras.Model(inp, layers.Dense(2)(layers.Flatten()(x))), seed=1)


def seen(model) -> Inspection:
    return inspect_scorer(FastISM(model, engine="fast"))


def assert_exact(model) -> None:
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", OPENED)
def test_what_consists_of_keras_is_fast(name):
    model = between(OPENED[name])
    found = seen(model)
    assert found.count("opaque") == 0 and found.limit > 1.5
    own = set(
        "GatedUnit Residual ConvPair PositionScale MirrorMix ScaleBy SplitHalves Twice WeightFirst Lambda "
        "SquaredConv1D UnchangedConv1D".split()
    )
    assert not own & {node.class_name for node in found.nodes}
    assert_exact(model)


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_with_weights_of_the_layer_are_fast(name):
    model = between(OwnWeights(name))
    found = seen(model)
    assert found.count("opaque") == 0 and found.limit > 1.5
    assert "OwnWeights" not in {node.class_name for node in found.nodes}
    assert_exact(model)


def test_a_whole_model_by_its_call(rng):
    model = Branches()
    model(np.zeros((1, LENGTH, 4), "float32"))
    randomise(model, seed=2)
    scorers = [FastISM(model, engine=engine) for engine in ("fast", "naive")]
    assert inspect_scorer(scorers[0]).count("opaque") == 0
    one_hot = np.eye(4, dtype="float32")[rng.integers(0, 4, (2, LENGTH))]
    fast, naive = (scorer(one_hot) for scorer in scorers)
    assert sorted(fast.delta) == ["counts", "largest"]
    for head in fast.delta:
        np.testing.assert_allclose(fast.delta[head], naive.delta[head], atol=2e-6)


class Differs(layers.Layer):
    """Does something else with symbols of Keras."""

    def call(self, x):
        return ops.exp(x) if isinstance(x, keras.KerasTensor) else ops.tanh(x)

    def compute_output_shape(self, shape):
        return shape


class OfTheBackend(layers.Layer):
    """Calls what has no equal in Keras: a loop of TensorFlow over the sequences, or a function of JAX."""

    def call(self, x):
        if BACKEND == "tensorflow":
            import tensorflow as tf

            return tf.map_fn(tf.tanh, x)
        import jax

        return jax.vmap(jax.numpy.tanh)(x)

    def compute_output_shape(self, shape):
        return shape


class Keeps(layers.Layer):
    """Keeps what it made at its first call."""

    kept = None

    def call(self, x):
        self.kept = ops.ones_like(x[:1]) * 0.5 if self.kept is None else self.kept
        return x * self.kept

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def test_what_cannot_be_read_stays_one_node():
    model = between(OfTheBackend(name="own"))
    assert [node.name for node in seen(model).nodes if node.state == "opaque"] == ["own"]
    assert_exact(model)


def test_a_layer_that_does_something_else_with_symbols_is_exact():
    model = between(Differs(name="own"))
    assert "Exp" not in {node.class_name for node in seen(model).nodes}
    assert_exact(model)


def test_a_layer_that_keeps_its_first_result_is_not_harmed():
    model = between(Keeps())
    assert_exact(model)


def test_a_rule_is_preferred(monkeypatch):
    """A class that has a rule is not opened."""
    model = between(OPENED["layers"])
    monkeypatch.setattr(table, "NAMED", {"GatedUnit": table.RULES[layers.LayerNormalization]})
    assert "GatedUnit" in [node.class_name for node in seen(model).nodes]


class Recurrent(layers.Layer):
    """An LSTM inside of a layer that knows nothing of masks: Keras hands it the mask all the same."""

    def __init__(self, **options):
        super().__init__(**options)
        self.supports_masking = True
        self.lstm = layers.LSTM(3)

    def build(self, shape):
        self.lstm.build(shape)

    def call(self, x):
        return self.lstm(x)


@pytest.mark.one_in(36)
def test_a_mask_that_a_layer_inside_reads_is_not_lost(rng):
    inp = dna(LENGTH)
    model = randomise(keras.Model(inp, Recurrent(name="own")(layers.Masking()(inp))), seed=1)
    one_hot = np.eye(4, dtype="float32")[rng.integers(0, 4, (2, LENGTH))]
    one_hot[:, 30:] = 0
    scorer = FastISM(model)
    assert scorer.engine == "naive" and "mask" in scorer.engine_reason
    np.testing.assert_allclose(scorer(one_hot).reference["own"], model.predict(one_hot, verbose=0), atol=1e-6)


class Calling(layers.Layer):
    """Gives what a layer inside of it gives, with the mask that this may have."""

    def __init__(self, inner, **options):
        super().__init__(**options)
        self.inner = inner

    def call(self, x):
        return self.inner(x)


# What makes the mask, and what stands before the layer that reads it: the mask comes from inside, or passes through.
MASKS_OF_LAYERS = {
    "made": lambda x: Calling(layers.Masking())(x),
    "made_deeper": lambda x: Calling(Calling(layers.Masking()))(x),
    "handed_on": lambda x: Calling(layers.Dropout(0.1))(layers.Masking()(x)),
}


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
@pytest.mark.parametrize("name", MASKS_OF_LAYERS)
def test_a_mask_that_leaves_a_layer_is_not_lost(name):
    inp = dna(LENGTH)
    assert layer_graph(keras.Model(inp, layers.LSTM(3)(MASKS_OF_LAYERS[name](inp)))).keeps_masks


def test_the_operators_of_weights_are_afterwards_those_of_keras():
    """Also where the call of a layer raises, and where two threads open layers at once."""

    class Raises(layers.Layer):
        def call(self, x):
            raise RuntimeError("while it is traced")

        def compute_output_shape(self, shape):
            return shape

    def own():
        return {name: vars(keras.Variable).get(name) for name in OPERATORS}

    before = own()
    graphs = [layer_graph(keras.Model(x, layer(x))) for x, layer in ((dna(8), WeightFirst()), (dna(8), Raises()))]
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(with_layers_opened, graphs * 3))
    assert own() == before
    assert [len(graph.nodes) > 1 for graph in opened] == [True, False] * 3
