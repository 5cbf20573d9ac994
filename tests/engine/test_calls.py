"""Models inside models, and models by their call, are opened however they are called."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from fastism_cli import FastISM
from fastism_cli.engine.inspection import inspect_scorer
from fastism_cli.errors import ModelError
from fastism_cli.model.keras_graph import layer_graph
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo import MODELS
from tests.models.zoo.blocks import dna
from tests.models.zoo.registry import randomise

LENGTH = 36
# Keras says that a layer loses the mask, which nested models do not do.
behind_a_mask = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
CALLED = [name for name in MODELS if name.startswith(("nested_pair", "nested_call", "nested_another_rank"))]


def assert_opened(model) -> None:
    found = inspect_scorer(FastISM(model, engine="fast"))
    assert not {"Functional", "Sequential"} & {node.class_name for node in found.nodes}
    assert found.count("opaque") == 0, found.nodes


def assert_exact(model) -> None:
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


@pytest.mark.parametrize("name", CALLED)
def test_a_nested_model_is_opened(name):
    assert_opened(MODELS[name]())


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CALLED)
def test_a_nested_model_is_exact(name):
    assert_exact(MODELS[name]())


IMAGES = {
    "list": lambda inp: [inp],
    "tuple": lambda inp: (inp,),
    "dict": lambda inp: {"dna": inp},
    "lists": lambda inp: [[inp]],
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_in_a_nesting(name):
    """(1, L, 4) -> C2D -> C2D -> GAP2D -> D"""
    inp = keras.Input((1, LENGTH, 4), name="dna")
    x = layers.Conv2D(5, (1, 5), padding="same")(layers.Conv2D(5, (1, 5), padding="same", activation="relu")(inp))
    y = layers.Dense(2)(layers.GlobalAveragePooling2D()(x))
    assert_opened(randomise(keras.Model(IMAGES[name](inp), y), seed=1))


class ByCall(keras.Model):
    """C -> GAP -> D of its sequence, wherever that lies in what it is given."""

    def __init__(self, given, **options):
        super().__init__(**options)
        self.given = given
        self.first, self.second, self.dense = layers.Conv1D(5, 5), layers.Conv1D(4, 3), layers.Dense(3)

    def scored(self, x):
        return self.dense(ops.mean(self.second(ops.relu(self.first(x))), axis=1))

    def call(self, inputs):
        return self.scored(GIVEN[self.given][0](inputs))

    def get_config(self):
        return {**super().get_config(), "given": self.given}


class OfTwoArguments(ByCall):
    """The same, of two arguments, the second a vector."""

    def build(self, dna_shape, cell_shape):
        self.first.build(dna_shape)
        self.second.build((*dna_shape[:-1], 5))
        self.dense.build((None, 4))

    def call(self, dna, cell):
        return self.scored(dna) + ops.mean(cell, axis=-1, keepdims=True)


ZEROS, CELL = np.zeros((1, LENGTH, 4), "float32"), np.zeros((1, 3), "float32")
GIVEN = {
    "one": (lambda x: x, ZEROS, 1),
    "list": (lambda x: x[0], [ZEROS], 1),
    "list_of_two": (lambda x: x[1], [CELL, ZEROS], 2),
    "dict": (lambda x: x["dna"], {"dna": ZEROS, "cell": CELL}, 2),
    "struct": (lambda x: x["both"][0], {"both": (ZEROS, CELL)}, 2),
}


def by_call(name) -> keras.Model:
    model = ByCall(name)
    model(GIVEN[name][1])
    return randomise(model, seed=3)


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", GIVEN)
def test_a_model_by_its_call_takes_what_it_was_built_with(name, rng):
    model, (_, _, n_inputs) = by_call(name), GIVEN[name]
    one_hot = np.eye(4, dtype="float32")[rng.integers(0, 4, (2, LENGTH))]
    scorers = [FastISM(model, engine=engine, precision=p) for engine, p in (("fast", "float32"), ("naive", "float64"))]
    assert len(scorers[0].input_names) == n_inputs
    assert inspect_scorer(scorers[0]).count("opaque") == 0
    sequence = scorers[0].input_names[scorers[0].sequence_index]
    given = {name: CELL.repeat(2, axis=0) for name in scorers[0].input_names} | {sequence: one_hot}
    fast, exact = (scorer(given if n_inputs > 1 else one_hot) for scorer in scorers)
    for head in fast.delta:
        np.testing.assert_allclose(fast.delta[head], exact.delta[head], atol=1e-6)
    if name == "dict":
        assert sequence == "dna"


@pytest.mark.compiled  # operation by operation, Keras' sum of (2, 2) and (2, 1) is another on TensorFlow
def test_a_model_of_two_arguments():
    model = OfTwoArguments(None)
    model(ZEROS, CELL)
    scorer = FastISM(model, engine="fast")
    assert sorted(scorer.input_names) == ["cell", "dna"]
    assert inspect_scorer(scorer).count("opaque") == 0


def test_a_model_that_does_not_say_its_second_argument():
    """Keras keeps the shape of the first argument alone, if there is no build."""

    class Hidden(OfTwoArguments):
        def build(self, shape):
            super().build(shape, None)

    model = Hidden(None)
    model(ZEROS, CELL)
    with pytest.raises(ModelError, match="hides its inputs"):
        FastISM(model)


@pytest.mark.one_in(36)
@behind_a_mask
def test_a_mask_from_outside_is_not_lost(rng):
    """inp -> Masking -> [LSTM, called with a list] -> D: the nested model is given the mask by Keras"""
    inp, inner = dna(LENGTH), keras.Input((LENGTH, 4))
    y = keras.Model([inner], layers.LSTM(3)(inner))([layers.Masking()(inp)])
    model = randomise(keras.Model(inp, layers.Dense(1, name="y")(y)), seed=2)
    one_hot = np.eye(4, dtype="float32")[rng.integers(0, 4, (2, LENGTH))]
    one_hot[:, 20:] = 0
    scorer = FastISM(model)
    assert scorer.engine == "naive" and "mask" in scorer.engine_reason
    np.testing.assert_allclose(scorer(one_hot).reference["y"], model.predict(one_hot, verbose=0), atol=1e-6)


def nested(*inner, dtype="float32", shape=(LENGTH, 4)):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *inner])


class HandsOn(layers.Layer):
    def __init__(self, supports_masking=True):
        super().__init__()
        self.supports_masking = supports_masking

    def call(self, x):
        return x * 2.0

    def compute_mask(self, inputs, mask=None):
        return mask


class Makes(HandsOn):
    def compute_mask(self, inputs, mask=None):
        return ops.any(ops.not_equal(inputs, 0.0), axis=-1)


class Around(layers.Layer):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


class ReadsBeside(layers.Layer):
    def __init__(self):
        super().__init__()
        self.supports_masking = True

    def call(self, x):
        mask = getattr(x, "_keras_mask", None)
        return x if mask is None else x + ops.cast(mask, x.dtype)[..., None]


# What reads a mask, which most symbols do not show: Keras hands it on when the model runs.
MASKED = {
    "out_of_a_model": lambda x: layers.LSTM(3)(nested(layers.Masking())(x)),
    "out_of_a_model_and_on": lambda x: layers.GlobalAveragePooling1D()(
        layers.Dense(3, activation="relu")(layers.Dropout(0.1)(nested(layers.Masking(), layers.Dense(2))(x)))
    ),
    "through_a_model": lambda x: layers.LSTM(3)(nested(layers.Dropout(0.1))(layers.Masking()(x), training=False)),
    "into_a_model_by_keyword": lambda x: nested(layers.LSTM(3))(layers.Masking()(x), training=False),
    "into_a_model_in_a_list": lambda x: nested(layers.LSTM(3))([layers.Masking()(x)]),
    "of_an_own_layer": lambda x: layers.LSTM(3)(HandsOn()(Makes()(x))),
    "inside_an_own_layer": lambda x: layers.LSTM(3)(Around(Makes())(x)),
    "cast_to_its_type": lambda x: layers.LSTM(3)(ops.cast(layers.Masking()(x), "float32")),
    "by_a_product": lambda x: layers.Flatten()(layers.Multiply()([layers.Masking()(x), x])),
    "by_attention": lambda x: layers.Flatten()(layers.MultiHeadAttention(1, 2)(*[layers.Masking()(x)] * 2)),
    "beside_the_array": lambda x: layers.Flatten()(ReadsBeside()(layers.Masking()(x))),
}


@behind_a_mask
@pytest.mark.parametrize("name", MASKED)
def test_a_mask_is_not_lost(name):
    inp = dna(LENGTH)
    assert layer_graph(keras.Model(inp, MASKED[name](inp))).keeps_masks


@behind_a_mask
def test_a_product_puts_ones_where_a_mask_is():
    """inp -> Masking -> [* D(track)] -> C -> F -> y: Keras' Multiply takes 1 for what is masked, not 0"""
    inp, track = dna(LENGTH), keras.Input((3,), name="track")
    x = layers.Multiply()([layers.Masking(0.0)(inp), ops.expand_dims(layers.Dense(4)(track), 1)])
    x = layers.Flatten()(layers.Conv1D(3, 3, activation="relu")(x))
    model = randomise(keras.Model([inp, track], layers.Dense(1, name="y")(x)), seed=2)
    inputs = inputs_of(model, np.random.default_rng(0))
    found = FastISM(model, engine="fast", n_policy="score")(inputs)
    unknown = int(np.flatnonzero(inputs["dna"][1].sum(axis=-1) == 0)[0])
    changed = inputs["dna"].copy()
    changed[1, unknown, 0] = 1.0
    delta = np.asarray(model({**inputs, "dna": changed})) - np.asarray(model(inputs))
    np.testing.assert_allclose(found.delta["y"][1, :, unknown, 0], delta[1], atol=1e-6)


def test_a_mask_of_a_nested_embedding_is_not_lost(rng):
    """codes -> [Embedding, 0 is masked] -> D -> GAP -> D: the mean is over the bases that are no N"""
    inp = keras.Input((LENGTH,), dtype="int32")
    x = layers.Dense(3)(nested(layers.Embedding(5, 3, mask_zero=True), dtype="int32", shape=(LENGTH,))(inp))
    model = randomise(keras.Model(inp, layers.Dense(1, name="y")(layers.GlobalAveragePooling1D()(x))), seed=2)
    codes = rng.integers(1, 5, (2, LENGTH))
    codes[:, 20:] = 0
    scorer = FastISM(model, engine="fast", codes="A=1,C=2,G=3,T=4,N=0")
    one_hot = np.eye(5, dtype="float32")[codes][..., 1:]
    assert scorer.engine == "naive"
    np.testing.assert_allclose(scorer(one_hot).reference["y"], model(codes), atol=1e-6)


NOT_READ = {
    "lost_on_the_way": lambda x: layers.GlobalAveragePooling1D()(nested(layers.Masking())(x) * 2.0),
    "of_an_own_layer_without_one": lambda x: layers.LSTM(3)(HandsOn()(x)),
    "not_asked_for": lambda x: layers.LSTM(3)(Around(Makes(supports_masking=False))(x)),
    "nowhere_made": lambda x: layers.LSTM(3)(nested(layers.Dropout(0.1))(x)),
    "normalised": lambda x: layers.Flatten()(layers.BatchNormalization()(nested(layers.Masking())(x))),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_a_mask_that_nothing_reads_keeps_the_engine_fast(name):
    inp = dna(LENGTH)
    assert not layer_graph(keras.Model(inp, NOT_READ[name](inp))).keeps_masks


def test_batch_normalization_behind_a_mask_is_exact():
    """inp -> Masking -> BN -> C -> F -> D: Keras gives BN the mask, which it uses in training alone"""
    inp = dna(LENGTH)
    x = layers.Conv1D(3, 3, activation="relu")(layers.BatchNormalization()(nested(layers.Masking(0.0))(inp)))
    model = randomise(keras.Model(inp, layers.Dense(1)(layers.Flatten()(x))), seed=2)
    assert_opened(model)
    assert_exact(model)


class NormOfOwn(layers.BatchNormalization):
    pass


@behind_a_mask
@pytest.mark.parametrize("norm", [layers.BatchNormalization, NormOfOwn])
def test_batch_normalization_is_not_given_the_mask(norm):
    inp = dna(LENGTH)
    model = keras.Model(inp, layers.Flatten()(layers.Conv1D(2, 3)(norm()(layers.Masking()(inp)))))
    graph = layer_graph(model)
    assert not graph.keeps_masks
    assert all(len(node.inputs) == 1 for node in graph.nodes if isinstance(node.layer, norm))
