"""Delta propagation against plain Keras in float64, on every toy model."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from fastism_cli import FastISM
from fastism_cli.engine.fast import pad_with_edges, running_max
from fastism_cli.engine.inspection import inspect_scorer
from fastism_cli.model import backend
from tests.helpers.draw import ALWAYS
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo import FACTS, MODELS, ONE_EACH
from tests.models.zoo.blocks import conv, dna
from tests.models.zoo.registry import randomise

# One model in so many is scored by chunks of a few positions; the others, all positions in one chunk, take a seventh of
# the time. So are the compiled models, one random model in eight, and those of `make fuzz`.
IN_CHUNKS_EVERY = 8

# Sequences, where plain Keras is too exact on two by chance: behind an exponential, its error is 2e-5 on two, and on
# eight 5e-4, as that of the engine is.
WHERE_NAIVE_IS_LUCKY = 8

# As users run them, compiled by XLA: one model of each family, and the published architectures.
COMPILED = (
    "activation-relu",
    "conv_pools_dense-one",
    "conv_between-stride_over_span",
    "flatten_then-dropout",
    "shared_at_two_depths",
    "dense_heads-two",
    "merge_of_phases-add",
    "features_joined-raw",
    "nested_residual-once",
    "norm_between-batch",
    "attention-dot",
    "pool_hides_changes",
    "residual",
    "op_between-plus_number",
    "beside_the_mirror_image-add",
    "bpnet-5_layers",
)
COMPILED_FOR_LONG = (
    "basset-even",
    "factorized_basset-even",
    "chrombpnet",
    "deepsea",
    "danq",
    "spliceai",
    "basenji",
    "deepstarr",
    "enformer",
)


def ids():
    """One variant of every toy model, and those that find broken rules; the rest run in ``make test-all``."""
    found = {test.partition("[")[2].rstrip("]") for test in ALWAYS}
    quick = found.union(ONE_EACH)
    return [pytest.param(name, marks=() if name in quick else pytest.mark.exhaustive) for name in MODELS]


def assert_exact(name: str, batch_size: int | str) -> None:
    model = MODELS[name]()
    sequence = FACTS[name].sequence_input
    inputs = inputs_of(model, np.random.default_rng(0), sequence=sequence)
    errors = errors_of(model, inputs, sequence=sequence, batch_size=batch_size)
    if errors.fast > errors.allowed:
        more = inputs_of(model, np.random.default_rng(0), sequence=sequence, n=WHERE_NAIVE_IS_LUCKY)
        errors = errors_of(model, more, sequence=sequence, batch_size=batch_size)
    assert errors.fast <= errors.allowed, errors


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", ids())
def test_engine_equals_plain_keras(name):
    assert_exact(name, "auto" if list(MODELS).index(name) % IN_CHUNKS_EVERY else 30)


@pytest.mark.one_in(48)
@pytest.mark.compiled
@pytest.mark.parametrize(
    "name", [*COMPILED, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in COMPILED_FOR_LONG)]
)
def test_compiled_engine_equals_plain_keras(name):
    assert_exact(name, 30)


def test_a_model_of_each_family_is_compiled():
    families = {facts.family for facts in FACTS.values()}
    assert {FACTS[name].family for name in COMPILED} == families
    published = {name for name in ONE_EACH if FACTS[name].family == "examples"}
    assert published <= {*COMPILED, *COMPILED_FOR_LONG}


@pytest.mark.skipif(backend.BACKEND != "tensorflow", reason="arrays of JAX have all their axes")
def test_a_reference_of_open_batch_is_kept_with_its_batch():
    """A loop of TensorFlow, as in a recurrent layer, leaves the first axis open in a graph."""
    import tensorflow as tf

    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype("float32")
    open_batch = tf.function(
        lambda a: (backend.of_batch(a, 3), running_max(a, backwards=False), pad_with_edges(a, 2, 1))
    )
    known, largest, padded = open_batch.get_concrete_function(tf.TensorSpec((None, 5, 2)))(tf.constant(x))
    assert open_batch.get_concrete_function(tf.TensorSpec((None, 5, 2))).structured_outputs[0].shape[0] == 3
    np.testing.assert_array_equal(known, x)
    np.testing.assert_array_equal(largest[:, 1:], np.maximum.accumulate(x, axis=1))
    assert np.isneginf(largest[:, 0]).all()
    np.testing.assert_array_equal(padded, np.pad(x, [(0, 0), (2, 1), (0, 0)], mode="edge"))


def infinite(name, x, dna):
    """Logits that are infinite where a base is N, or where a number is negative."""
    logits, known = x[..., :1], ops.sum(dna, axis=-1, keepdims=True)
    return {
        "where": lambda: ops.where(known < 0.5, -np.inf, logits),
        "moving": lambda: ops.where(x > 0, x, -np.inf),
        "filled": lambda: ops.where(x > 0, x, ops.full_like(x, -np.inf)),
        "logarithm": lambda: logits + ops.log(known),
        "wide_logarithm": lambda: ops.log(known + 0.0 * logits),
    }[name]()


@pytest.mark.parametrize("name", ["where", "moving", "filled", "logarithm", "wide_logarithm"])
def test_infinite_numbers(name):
    """dna -> C -> C -> logits, infinite somewhere -> Softmax over the positions -> F -> D"""
    inp = dna(16)
    logits = infinite(name, conv(conv(inp, 4, 3, activation="relu"), 3, 3), inp)
    y = layers.Dense(1)(layers.Flatten()(layers.Softmax(axis=1)(logits)))
    model = randomise(keras.Model(inp, y), seed=1)
    inputs = inputs_of(model, np.random.default_rng(0))
    inputs[inp.name][:, 6:9] = 0
    errors = errors_of(model, inputs)
    assert errors.fast <= errors.allowed


def test_an_infinite_number_in_a_pooling_by_softmax_stays_in_its_stage():
    inp = dna(16)
    x = conv(inp, 4, 3)
    weights = ops.softmax(ops.where(x > 0, x, -np.inf), axis=1)
    model = keras.Model(inp, layers.Dense(1)(ops.sum(x * weights, axis=1)))
    assert inspect_scorer(FastISM(model, engine="fast")).count("opaque") == 0


def beside_its_mirror_image(head):
    """dna and its reverse complement in one batch of twice the size -> C -> F -> D -> the mean of both"""
    inp = dna(16)
    both = ops.concatenate([inp, ops.flip(inp, axis=(1, 2))], axis=0)
    y = layers.Dense(1)(layers.Flatten()(conv(conv(both, 3, 3, activation="relu"), 2, 3)))
    return randomise(keras.Model(inp, head(y)), seed=1)


# How the two halves of the batch are told apart.
HALVES = {
    "split": lambda y: ops.add(*ops.split(y, 2, axis=0)) / 2,
    "another_first_axis": lambda y: ops.mean(ops.reshape(y, (2, -1, 1)), axis=0),
}


@pytest.mark.parametrize("name", HALVES)
def test_a_batch_of_twice_the_size(name):
    model = beside_its_mirror_image(HALVES[name])
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed


OVER_POSITIONS = {
    "in one row": lambda x: layers.Dense(3, activation="gelu")(layers.Reshape((1, -1))(x)),
    "of each channel": lambda x: layers.Dense(3)(layers.Permute((2, 1))(x)),
    "of a grid": lambda x: layers.Dense(3, use_bias=False)(ops.transpose(ops.reshape(x, (-1, 40, 2, 3)), (0, 2, 3, 1))),
    "of a vector": lambda x: layers.Dense(3)(x[:, :, 0]),
    "of two vectors": lambda x: layers.Dense(3)(layers.Concatenate()([x[:, :, 0], x[:, :, 1]])),
    "of windows that meet": lambda x: layers.Dense(3)(layers.Permute((2, 1))(ops.concatenate([x, x[:, ::-1]], axis=1))),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", OVER_POSITIONS)
def test_a_dense_layer_over_positions_is_fast(name):
    inp = dna(40)
    model = keras.Model(inp, layers.Flatten()(OVER_POSITIONS[name](conv(inp, 6, 5, activation="relu"))))
    model = randomise(model, seed=1)
    assert inspect_scorer(FastISM(model, engine="fast")).count("opaque") == 0
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed


def test_positions_as_a_batch():
    """dna -> C -> (batch * positions, channels) -> D -> (batch, positions, channels) -> F -> D"""
    inp = dna(16)
    x = layers.Dense(3, activation="relu")(ops.reshape(conv(inp, 4, 3), (-1, 4)))
    model = keras.Model(inp, layers.Dense(1)(layers.Flatten()(ops.reshape(x, (-1, 16, 3)))))
    model = randomise(model, seed=1)
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed


@pytest.mark.parametrize("total", ("sum", "mean"))
def test_small_sums_over_channels_keep_their_digits(total, rng):
    """inp -> C -> relu -> x / sqrt(sum of x^2 over the channels) -> C -> D: the sum may fall from 1 to 1e-8."""
    inp = dna(40)
    x = ops.relu(conv(inp, 6, 7))
    norm = ops.sqrt(getattr(ops, total)(ops.square(x), axis=-1, keepdims=True) + 1e-9)
    model = randomise(keras.Model(inp, layers.Dense(2)(layers.Flatten()(conv(x / norm, 3)))), seed=1)
    errors = errors_of(model, inputs_of(model, rng), every=True)
    assert errors.fast <= errors.allowed
