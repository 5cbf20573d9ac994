"""The library call: shapes, names, options, invariants, and what it refuses."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

from fastism_cli import FastISM
from fastism_cli.engine.plan import Plan
from fastism_cli.errors import ModelError, SequenceError, UsageError
from fastism_cli.model import backend
from fastism_cli.rules.base import Window
from tests.helpers.sequences import random_one_hot
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo import randomise

pytestmark = pytest.mark.one_in(2)


def small(length: int = 60, heads: int = 1) -> keras.Model:
    """inp -> C -> P -> C -> F -> D(3) [-> and D(1)]"""
    x = inputs = keras.Input((length, 4), name="sequence")
    x = layers.Conv1D(6, 5, padding="same", activation="relu")(x)
    x = layers.MaxPooling1D(3)(x)
    x = layers.Conv1D(5, 3, activation="relu")(x)
    x = layers.Flatten()(x)
    outputs = [layers.Dense(3, name="first")(x), layers.Dense(1, name="second")(x)][:heads]
    return randomise(keras.Model(inputs, outputs if heads > 1 else outputs[0]), seed=1)


def positional(length: int = 40) -> keras.Model:
    """inp -> C -> (40, 2)"""
    inputs = keras.Input((length, 4))
    return randomise(keras.Model(inputs, layers.Conv1D(2, 7, padding="same", name="profile")(inputs)), seed=2)


def predicted(model: keras.Model, one_hot: np.ndarray, position: int, letter: int) -> np.ndarray:
    """The definition, written out for one substitution: prediction after minus prediction before."""
    mutated = one_hot.copy()
    mutated[:, position] = np.eye(4)[letter]
    return np.asarray(model(mutated)) - np.asarray(model(one_hot))


def test_every_entry_is_the_difference_of_two_predictions(rng):
    model, one_hot = small(), random_one_hot(rng, 2, 60)
    result = FastISM(model)(one_hot)
    assert result.delta["first"].shape == (2, 3, 60, 4) and result.delta["first"].dtype == np.float32
    np.testing.assert_allclose(result.reference["first"], np.asarray(model(one_hot)), rtol=1e-5, atol=1e-6)
    for position in (0, 1, 29, 30, 58, 59):
        for letter in range(4):
            expected = predicted(model, one_hot, position, letter)
            np.testing.assert_allclose(result.delta["first"][:, :, position, letter], expected, atol=2e-6)


def test_reference_letter_is_exactly_zero_and_n_is_nan(rng):
    one_hot = random_one_hot(rng, 2, 60)
    one_hot[0, 7] = 0
    one_hot[1, 59] = 0.25
    delta = FastISM(small())(one_hot).delta["first"]
    at_reference = np.where(one_hot[:, None] == 1, delta, 0)
    assert (at_reference == 0).all()
    where_nan = np.isnan(delta).all(axis=(1, 3))
    assert where_nan.sum() == 2 and where_nan[0, 7] and where_nan[1, 59]


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_scored_ns_get_all_four_letters(rng, engine):
    model, one_hot = small(), random_one_hot(rng, 1, 60)
    one_hot[0, 30] = 0
    delta = FastISM(model, n_policy="score", engine=engine)(one_hot).delta["first"]
    assert not np.isnan(delta).any()
    for letter in range(4):
        np.testing.assert_allclose(delta[:, :, 30, letter], predicted(model, one_hot, 30, letter), atol=2e-6)


@pytest.mark.one_in(36)
def test_positions_come_in_the_order_asked_for(rng):
    engine, one_hot = FastISM(small(30), batch_size=20), random_one_hot(rng, 3, 30)
    whole = engine(one_hot).delta["first"]
    asked = [29, 3, 3, 0, 16]
    np.testing.assert_allclose(engine(one_hot, positions=asked).delta["first"], whole[:, :, asked], atol=1e-6)
    assert engine(one_hot, positions=[]).delta["first"].shape == (3, 3, 0, 4)


@pytest.mark.parametrize("window", [range(12, 29), range(0), range(40)])
def test_a_window_keeps_the_length_of_the_sequence(rng, window):
    engine, codes = FastISM(positional(), reduce="none", batch_size=20), rng.integers(0, 5, (3, 40)).astype("uint8")
    found = engine.score_codes(codes, window=window)
    expected = engine.score_codes(codes, positions=window)
    assert found.delta["profile"].shape == (3, 40, 2, 40, 4)
    np.testing.assert_array_equal(found.delta["profile"][..., window, :], expected.delta["profile"])
    outside = np.setdiff1d(np.arange(40), window)
    assert np.isnan(found.delta["profile"][..., outside, :]).all()
    np.testing.assert_array_equal(found.reference["profile"], expected.reference["profile"])


@pytest.mark.one_in(48)
@pytest.mark.parametrize("engine", ["fast", "naive"])
@pytest.mark.parametrize("batch_size", [1, 7, 50, 181, 1000, "auto"])
def test_result_does_not_depend_on_the_batch_size(rng, engine, batch_size):
    one_hot = random_one_hot(rng, 2 if batch_size in (1, 7) else 5, 30)
    expected = FastISM(small(30), engine="naive", batch_size=90)(one_hot)
    result = FastISM(small(30), engine=engine, batch_size=batch_size)(one_hot)
    np.testing.assert_allclose(result.delta["first"], expected.delta["first"], atol=1e-6)
    np.testing.assert_allclose(result.reference["first"], expected.reference["first"], atol=1e-6)


def test_result_does_not_depend_on_the_order_of_sequences(rng):
    engine, one_hot = FastISM(small(), batch_size=400), random_one_hot(rng, 5, 60)
    order = [3, 0, 4, 1, 2]
    np.testing.assert_allclose(engine(one_hot[order]).delta["first"], engine(one_hot).delta["first"][order], atol=1e-6)


@pytest.mark.one_in(36)
@pytest.mark.compiled
@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_a_sequence_alone_is_predicted_as_among_others(rng, engine):
    """Keras' add on TensorFlow takes (1, 8, 1) for a bias of 8 channels, if it knows of the 1."""
    inputs = keras.Input((8, 4))
    x = layers.Conv1D(8, 3, padding="same")(inputs)
    x = layers.Conv1D(8, 3, padding="same")(x + keras.ops.max(x, axis=-1, keepdims=True))
    model = randomise(keras.Model(inputs, layers.GlobalAveragePooling1D()(x)), seed=3)
    one_hot = random_one_hot(rng, 3, 8)
    expected, scorer = model.predict(one_hot, verbose=0), FastISM(model, engine=engine)
    for i in range(3):
        alone = scorer(one_hot[i : i + 1]).reference
        np.testing.assert_allclose(next(iter(alone.values())), expected[i : i + 1], rtol=1e-5, atol=1e-6)
    errors = errors_of(model, inputs_of(model, rng))
    assert errors.fast <= errors.allowed, errors


@pytest.mark.one_in(36)
@pytest.mark.compiled
@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_no_prediction_depends_on_how_many_there_are(rng, engine):
    """Keras' add on TensorFlow takes (n, 1) for a bias of n channels: here n are the substitutions of a call."""
    inputs = keras.Input((20, 4))
    x = layers.GlobalMaxPooling1D()(layers.Conv1D(8, 3, activation="relu")(inputs))
    x = layers.Dense(12)(keras.ops.cumsum(layers.Dense(12)(x) + layers.Dense(1)(x), axis=-1))
    model = randomise(keras.Model(inputs, layers.Add()([x, layers.Dense(1)(keras.ops.cumsum(x, axis=-1))])), seed=3)
    one_hot, results = random_one_hot(rng, 1, 20), []
    for n in (6, 12, 24):
        scorer = FastISM(model, engine=engine, batch_size=n, reduce="none")
        results.append(scorer(one_hot).delta)
    for result in results[1:]:
        for head, delta in result.items():
            np.testing.assert_allclose(delta, results[0][head], rtol=1e-4, atol=1e-5)
    errors = errors_of(model, inputs_of(model, rng), batch_size=12)
    assert errors.fast <= errors.allowed, errors


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_positions_may_pass_as_a_batch(rng, engine):
    """As models do that were written before Dense took more than two axes."""
    inputs = keras.Input((20, 4))
    x = keras.ops.reshape(layers.Conv1D(8, 3, padding="same", activation="relu")(inputs), (-1, 8))
    x = keras.ops.reshape(layers.Dense(5, activation="relu")(x), (-1, 20, 5))
    outputs = layers.GlobalMaxPooling1D()(layers.Conv1D(3, 3)(x))
    model = randomise(keras.Model(inputs, outputs), seed=3)
    errors = errors_of(model, inputs_of(model, rng))
    assert errors.fast <= errors.allowed, errors
    one_hot = random_one_hot(rng, 2, 20)
    found = FastISM(model, engine=engine)(one_hot).reference
    np.testing.assert_allclose(next(iter(found.values())), model.predict(one_hot, verbose=0), rtol=1e-5, atol=1e-6)


def test_heads_have_the_names_that_keras_gives_them(rng):
    result = FastISM(small(heads=2))(random_one_hot(rng, 1, 60))
    assert list(result.delta) == ["first", "second"]
    assert result.delta["second"].shape == (1, 1, 60, 4)
    flat = layers.Flatten()(inputs := keras.Input((20, 4)))
    a, b = layers.Dense(2)(flat), layers.Dense(3)(flat)
    keyed = FastISM(keras.Model(inputs, {"z": a, "counts": b, "again": a}))(random_one_hot(rng, 1, 20))
    assert {name: delta.shape[1] for name, delta in keyed.delta.items()} == {"again": 2, "counts": 3, "z": 2}
    np.testing.assert_array_equal(keyed.delta["again"], keyed.delta["z"])
    sequential = keras.Sequential([keras.Input((20, 4)), layers.Flatten(), layers.Dense(2, name="out")])
    assert list(FastISM(sequential)(random_one_hot(rng, 1, 20)).delta) == ["out"]


def test_a_positional_head_is_refused_with_its_size():
    with pytest.raises(UsageError, match=r"head 'profile' has shape \(40, 2\).*100,000 regions 5.12 GB. .*reduce"):
        FastISM(positional())


@pytest.mark.parametrize("kind", ["sum", "mean"])
@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_reductions_are_those_of_numpy(rng, kind, engine):
    model, one_hot = positional(), random_one_hot(rng, 2, 40)
    whole = FastISM(model, reduce="none", engine="naive")(one_hot)
    assert whole.delta["profile"].shape == (2, 40, 2, 40, 4)
    result = FastISM(model, reduce=kind, engine=engine)(one_hot)
    np.testing.assert_allclose(result.delta["profile"], getattr(whole.delta["profile"], kind)(axis=1), atol=2e-5)
    np.testing.assert_allclose(
        result.reference["profile"], getattr(whole.reference["profile"], kind)(axis=1), atol=2e-5
    )


def test_a_flat_head_is_reduced_only_by_name(rng):
    one_hot = random_one_hot(rng, 1, 60)
    whole = FastISM(small(heads=2), reduce="sum")(one_hot)
    assert whole.delta["first"].shape == (1, 3, 60, 4)
    named = FastISM(small(heads=2), reduce={"first": "sum"})(one_hot)
    np.testing.assert_allclose(named.delta["first"][:, 0], whole.delta["first"].sum(axis=1), atol=1e-5)


def test_other_inputs_as_list_and_as_dict(rng):
    sequence, features = keras.Input((30, 4), name="sequence"), keras.Input((6,), name="features")
    x = layers.Flatten()(layers.Conv1D(4, 3)(sequence))
    model = keras.Model([sequence, features], layers.Dense(2)(layers.Concatenate()([x, features])))
    one_hot, extra = random_one_hot(rng, 2, 30), rng.normal(size=(2, 6)).astype("float32")
    engine = FastISM(model)
    (as_list,), (as_dict,) = (
        engine(inputs).delta.values() for inputs in ([one_hot, extra], {"features": extra, "sequence": one_hot})
    )
    np.testing.assert_array_equal(as_list, as_dict)
    with pytest.raises(SequenceError, match=r"\['features'\] are not given"):
        engine({"sequence": one_hot})
    with pytest.raises(SequenceError, match=r"Input 'features' must have shape \(2, 6\). Received: \(2, 5\)"):
        engine([one_hot, extra[:, :5]])


def test_variable_length_needs_a_length(rng):
    inputs = keras.Input((None, 4))
    y = layers.Dense(1)(layers.GlobalMaxPooling1D()(layers.Conv1D(5, 3)(inputs)))
    model = keras.Model(inputs, y)
    with pytest.raises(ModelError, match=r"has a variable length.*length"):
        FastISM(model)
    errors = errors_of(model, {model.inputs[0].name: random_one_hot(rng, 2, 33)}, length=33)
    assert errors.fast <= errors.allowed


def test_a_subclassed_model_is_opaque_but_exact(rng):
    @keras.saving.register_keras_serializable("tests")
    class Hidden(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.conv, self.out = layers.Conv1D(3, 5), layers.Dense(1)

        def call(self, x):
            return self.out(layers.Flatten()(self.conv(x)))

    model = Hidden()
    one_hot = random_one_hot(rng, 1, 20)
    model(one_hot)
    result = FastISM(model, length=20)(one_hot)
    (delta,) = result.delta.values()
    np.testing.assert_allclose(delta[..., 4, 1], predicted(model, one_hot, 4, 1), atol=2e-6)


def test_a_length_that_a_layer_cannot_take_is_told():
    inp = keras.Input((None, 4))
    model = keras.Model(inp, layers.GlobalMaxPooling1D()(layers.Conv1D(4, 3, name="motifs")(inp)))
    with pytest.raises(UsageError, match=r"^length 2: the model has no outputs for it: Computed output size would be "):
        FastISM(model, length=2)
    assert FastISM(model, length=3).input_length == 3


@pytest.mark.parametrize(
    "options, message",
    [
        ({"engine": "quick"}, "engine must be one of auto, fast, naive. Received: engine='quick'"),
        ({"batch_size": 0}, "batch_size must be 'auto' or a positive int. Received: batch_size=0"),
        ({"precision": "half"}, "precision must be one of"),
        ({"reduce": {"nothing": "sum"}}, "the model has no head 'nothing'. Its heads: first"),
        ({"reduce": {"first": "median"}}, "reduce first=median: not known. Choose one of: none, sum, mean"),
        ({"sequence_input": "dna"}, "The model has no input 'dna'. Its inputs: 'sequence'"),
        ({"alphabet": "ACDEFGHIKLMNPQRSTVWY"}, r"No input of the model can hold a sequence of shape \(length, 20\)"),
    ],
)
def test_a_wrong_option_is_explained(options, message):
    with pytest.raises((UsageError, ModelError), match=message):
        FastISM(small(), **options)


def test_a_row_that_is_no_letter_is_found(rng):
    one_hot = random_one_hot(rng, 2, 60)
    one_hot[1, 8] = [0.5, 0.5, 0, 0]
    with pytest.raises(SequenceError, match="Sequence 1, position 8 is neither one-hot nor an N"):
        FastISM(small())(one_hot)


def test_a_window_that_is_one_too_narrow_is_caught(rng, monkeypatch):
    """A test of the tests: were a rule to forget one changed position, the comparison above would fail."""
    from fastism_cli.rules import conv

    honest = conv.changed_outputs

    def narrow(*args, **options):
        frame = honest(*args, **options)
        return type(frame)(frame.starts, max(frame.width - 1, 1), frame.step, frame.length)

    model = small()
    monkeypatch.setattr(conv, "changed_outputs", narrow)
    errors = errors_of(model, inputs_of(model, rng))
    assert errors.fast > 100 * errors.allowed


def test_a_deep_narrow_model_stays_in_windows():
    plan: Plan = FastISM(small(300)).prepared.plan
    kept = [state for state in plan.states if isinstance(state, Window)]
    assert len(kept) >= 6 and all(state.frame.width <= 9 for state in kept)
    assert plan.limit > 20


@pytest.mark.one_in(24)
def test_out_of_memory_halves_the_batch_and_goes_on(rng, monkeypatch):
    from fastism_cli.engine.fast import FastEngine

    honest = FastEngine.deltas

    def hungry(self, call, kept, bases):
        if bases.size > 40:
            raise MemoryError("no room")
        return honest(self, call, kept, bases)

    one_hot = random_one_hot(rng, 2, 60)
    expected = FastISM(small())(one_hot).delta["first"]
    monkeypatch.setattr(FastEngine, "deltas", hungry)
    engine = FastISM(small(), batch_size=200, engine="fast")
    np.testing.assert_allclose(engine(one_hot).delta["first"], expected, atol=1e-6)
    assert engine.batching.batch_size <= 50


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf_keras needs TensorFlow")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_a_model_of_tf_keras(rng, engine):
    """inp, extra -> C -> TensorFlow function -> LocallyConnected1D -> F -> concatenate -> D"""
    tf_keras = pytest.importorskip("tf_keras")
    import tensorflow as tf

    sequence, extra = tf_keras.Input((20, 4), name="dna"), tf_keras.Input((2,), name="extra")
    x = tf.math.bessel_i0e(tf_keras.layers.Conv1D(3, 3)(sequence))
    x = tf_keras.layers.Flatten()(tf_keras.layers.LocallyConnected1D(3, 5)(x * 2.0))
    x = tf_keras.layers.Concatenate()([x, extra])
    model = tf_keras.Model([sequence, extra], tf_keras.layers.Dense(2, name="out")(x))
    one_hot, others = random_one_hot(rng, 2, 20), np.ones((2, 2), "float32")
    scorer = FastISM(model, engine=engine)
    assert scorer.input_names == ["dna", "extra"]
    opaque = {step.node.class_name for step in scorer.prepared.plan.steps if step.reason}
    assert opaque == {"Borrowed"}, "the convolution before it is followed"
    delta = scorer({"dna": one_hot, "extra": others}).delta["out"]
    mutated = one_hot.copy()
    mutated[:, 7] = np.eye(4)[2]
    expected = np.asarray(model([mutated, others])) - np.asarray(model([one_hot, others]))
    np.testing.assert_allclose(delta[:, :, 7, 2], expected, atol=2e-6)
    with pytest.raises(ModelError, match="is kept as TensorFlow saved it"):
        FastISM(model, precision="float64")


@pytest.mark.parametrize("kind", ["sum", "mean"])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": "same"},
        {"padding": "valid"},
        {"padding": "causal", "dilation_rate": 2},
        {"padding": "same", "strides": 3, "name": "strided"},
        {"padding": "same", "activation": "relu"},
    ],
    ids=str,
)
def test_a_reduced_convolution_is_summed_first(rng, kind, options):
    """inp -> C -> C(2 filters, head): without activation and strides, the sum is moved before the kernel"""
    x = keras.Input((60, 4))
    y = keras.layers.Conv1D(2, 9, bias_initializer="normal", **options)(keras.layers.Conv1D(6, 5, activation="relu")(x))
    model = keras.Model(x, y)
    (head,) = model.output_names
    classes = [type(node.layer).__name__ for node in FastISM(model, reduce=kind).prepared.graph.nodes]
    assert ("SummedConvolution" in classes) == ("activation" not in options and "strides" not in options)
    errors = errors_of(model, inputs_of(model, rng), reduce={head: kind})
    assert errors.fast <= errors.allowed, errors


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf_keras needs TensorFlow")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_model_of_tf_keras_whose_layers_all_have_equals(rng):
    """inp -> C -> + its own mirror image -> F -> D, in float64 too"""
    tf_keras = pytest.importorskip("tf_keras")
    inputs = tf_keras.Input((20, 4), name="dna")
    x = tf_keras.layers.Conv1D(3, 3, activation="relu")(inputs)
    x = tf_keras.layers.Flatten()(x + x[:, ::-1] * 0.5)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(2, name="out")(x))
    errors = errors_of(model, {"dna": random_one_hot(rng, 2, 20)})
    assert errors.fast <= errors.allowed


@pytest.mark.one_in(48)
@pytest.mark.compiled
def test_a_stateful_layer_begins_anew_with_every_sequence(rng):
    """As the same model without ``stateful``; and the batch that it was built for does not matter."""

    def model(**options):
        inp = keras.Input(batch_shape=(6, 20, 4))
        x = keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True, **options))(inp)
        return keras.Model(inp, keras.layers.Dense(1, name="y")(keras.layers.GRU(3, **options)(x)))

    stateful, plain = model(stateful=True), model()
    plain.set_weights([np.asarray(weight) for weight in stateful.trainable_weights])
    one_hot = random_one_hot(rng, 2, 20)
    scores = [FastISM(m, batch_size=30)(one_hot) for m in (stateful, plain, stateful)]
    np.testing.assert_array_equal(scores[0].delta["y"], scores[1].delta["y"])
    np.testing.assert_array_equal(scores[0].delta["y"], scores[2].delta["y"])
    assert stateful.layers[-2].stateful


@pytest.mark.skipif(backend.BACKEND != "tensorflow", reason="only TensorFlow counts what is traced")
@pytest.mark.compiled
def test_no_graph_warns_that_it_is_traced_often(monkeypatch):
    """TensorFlow compares functions by the line that they are written in, as those of several models are."""
    said = []
    monkeypatch.setattr(logging.getLogger("tensorflow"), "handle", said.append)
    x = np.ones((2, 3), "float32")
    for compiled in (backend.compiled, backend.stage, lambda function: backend.of_any_batch(function, [x])):
        for i in range(7):
            compiled(lambda arrays, i=i: arrays[0] + i)([x])
    assert said == []
