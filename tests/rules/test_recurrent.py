"""Recurrent layers: every kind, every way to call it, and weights that forget soon, late, or never."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from fastism_cli import FastISM
from fastism_cli.engine import fast, recurrences
from fastism_cli.engine.inspection import inspect_scorer
from fastism_cli.rules.base import EVERYWHERE, Window
from fastism_cli.rules.recurrent import Recurrence
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo import randomise
from tests.models.zoo.blocks import conv, dna


def clipped(x):
    """An activation of one's own."""
    return ops.clip(x, -0.8, 0.9)


def of_one_vector(x):
    """An activation of one's own that mixes the units."""
    return x / (1.0 + ops.sum(ops.abs(x), axis=-1, keepdims=True))


def all_of(outputs):
    flat = keras.tree.flatten(outputs)
    return layers.Concatenate()([x if len(x.shape) == 2 else layers.Flatten()(x) for x in flat])


KINDS = {
    "lstm": lambda x: layers.LSTM(3)(x),
    "lstm_sequences": lambda x: layers.LSTM(3, return_sequences=True)(x),
    "lstm_backwards": lambda x: layers.LSTM(3, go_backwards=True, return_sequences=True)(x),
    "lstm_no_bias": lambda x: layers.LSTM(3, use_bias=False, recurrent_dropout=0.3, dropout=0.2)(x),
    "lstm_own": lambda x: layers.LSTM(3, of_one_vector, recurrent_activation="hard_sigmoid", implementation=1)(x),
    "gru": lambda x: layers.GRU(3, return_sequences=True)(x),
    "gru_reset_first": lambda x: layers.GRU(3, reset_after=False, go_backwards=True)(x),
    "gru_no_bias": lambda x: layers.GRU(3, use_bias=False, unroll=True, activation=clipped)(x),
    "gru_no_bias_reset_first": lambda x: layers.GRU(3, use_bias=False, reset_after=False, return_sequences=True)(x),
    "simple": lambda x: layers.SimpleRNN(3, activation="relu", return_sequences=True)(x),
    "one_cell": lambda x: layers.RNN(layers.GRUCell(3), return_sequences=True)(x),
    "stack": lambda x: layers.RNN([layers.LSTMCell(2), layers.GRUCell(3)], go_backwards=True)(x),
    "stack_states": lambda x: all_of(layers.RNN([layers.LSTMCell(2), layers.SimpleRNNCell(3)], return_state=True)(x)),
    "states": lambda x: all_of(layers.LSTM(3, return_sequences=True, return_state=True)(x)),
    "both": lambda x: layers.Bidirectional(layers.LSTM(2, return_sequences=True))(x),
    "both_sum": lambda x: layers.Bidirectional(layers.GRU(2), merge_mode="sum")(x),
    "both_mul": lambda x: layers.Bidirectional(layers.GRU(2, return_sequences=True), merge_mode="mul")(x),
    "both_ave": lambda x: layers.Bidirectional(layers.SimpleRNN(2), merge_mode="ave")(x),
    "both_apart": lambda x: all_of(layers.Bidirectional(layers.LSTM(2, return_sequences=True), merge_mode=None)(x)),
    "both_turned": lambda x: layers.Bidirectional(
        layers.LSTM(2, return_sequences=True, go_backwards=True), backward_layer=layers.GRU(2, return_sequences=True)
    )(x),
    "both_states": lambda x: all_of(layers.Bidirectional(layers.LSTM(2, return_state=True))(x)),
}


def model_of(kind, length: int = 12, seed: int = 1) -> keras.Model:
    """inp -> C -> relu -> the recurrent layer -> D -> y"""
    inp = dna(length)
    return randomise(keras.Model(inp, layers.Dense(2)(kind(conv(inp, 4, 3, activation="relu")))), seed)


def recurrences_of(scorer: FastISM):
    return [step for step in scorer.prepared.plan.steps if isinstance(step.node.layer, Recurrence)]


@pytest.mark.one_in(48)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_equals_plain_keras(kind):
    model = model_of(KINDS[kind])
    assert all(step.reason is None for step in FastISM(model, engine="fast", reduce="none").prepared.plan.steps)
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors
    assert errors.largest > 1e-3


@pytest.mark.one_in(48)
@pytest.mark.parametrize("changing", [0, 1, 2])
def test_states_may_be_given(changing):
    """Those that the sequence changes are followed by Keras, or in a direction of their own."""
    inp, vector = dna(12), keras.Input((4,), name="vector")
    x = conv(inp, 4, 3, activation="relu")
    pooled = layers.GlobalAveragePooling1D()(x)
    given = [pooled if changing > i else layers.ReLU()(vector) for i in range(2)]
    y = layers.Bidirectional(layers.GRU(4))(x, initial_state=given)
    model = randomise(keras.Model([inp, vector], layers.Dense(2)(y)), 1)
    found = recurrences_of(FastISM(model, engine="fast"))
    assert [step.rule is not None for step in found] == {0: [True, True], 1: [False, True], 2: []}[changing]
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


@keras.saving.register_keras_serializable("tests")
class OtherCell(layers.SimpleRNNCell):
    def call(self, sequence, states, training=False):
        output, states = super().call(sequence, states)
        return 2 * output, states


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.RNN(OtherCell(3)),
        lambda: layers.RNN([layers.GRUCell(2), OtherCell(3)]),
        lambda: layers.Bidirectional(layers.RNN(OtherCell(3))),
    ],
    ids=["subclass", "in a stack", "bidirectional"],
)
def test_cells_of_ones_own_are_run_by_keras(layer):
    model = model_of(lambda x: layer()(x))
    assert recurrences_of(FastISM(model, engine="fast")) == []
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


# --- how long a change lives ------------------------------------------------------------------------------------------


def both(x):
    return layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)


def with_memory(model: keras.Model, *, forget_bias: float, recurrent: float = 1.0) -> keras.Model:
    """The biases of the forget gates, and the recurrent kernels times a number."""
    for layer in model._flatten_layers():
        if isinstance(layer, layers.LSTMCell):
            bias = keras.ops.convert_to_numpy(layer.bias)
            layer.bias.assign(np.concatenate([bias[:3], np.full(3, forget_bias), bias[6:]]))
            layer.recurrent_kernel.assign(layer.recurrent_kernel * recurrent)
    return model


@pytest.mark.one_in(64)
@pytest.mark.compiled
@pytest.mark.parametrize("forget_bias", [-2.0, 1.0, 5.0])
def test_short_and_long_memories_are_as_exact(forget_bias):
    """With 5, the cell keeps 0.993 of its state at each position, and adds up to a large one."""
    inp = dna(60)
    x = layers.Flatten()(conv(both(conv(inp, 5, 5, activation="relu")), 3, 3))
    model = with_memory(randomise(keras.Model(inp, layers.Dense(2)(x)), 1), forget_bias=forget_bias)
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


@pytest.mark.one_in(48)
@pytest.mark.parametrize("sequences", [False, True])
def test_a_change_that_never_dies_is_followed_to_the_end(sequences):
    def rotation(x):
        return layers.SimpleRNN(4, activation=None, return_sequences=sequences, name="rotation")(x)

    model = model_of(rotation, length=30)
    rnn = model.get_layer("rotation")
    rnn.cell.recurrent_kernel.assign(np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0])
    (step,) = recurrences_of(FastISM(model, engine="fast", reduce="none"))
    assert step.output == EVERYWHERE and step.node.layer.lives >= 27
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


def test_a_large_unit_does_not_hide_the_changes_of_another():
    """inp -> C -> SimpleRNN of a constant and of a unit that forgets 40 % at each position -> GAP -> D of that unit"""

    def two(x):
        return layers.SimpleRNN(2, activation=None, return_sequences=True, name="two")(x)

    inp = dna(40)
    model = keras.Model(inp, layers.Dense(1, name="last")(layers.GlobalAveragePooling1D()(two(conv(inp, 2, 3)))))
    model = randomise(model, 1)
    model.get_layer("two").set_weights([np.array([[0, 1], [0, 1]]), np.diag([0, 0.6]), np.array([1e6, 0])])
    model.get_layer("last").set_weights([np.array([[0], [1]]), np.zeros(1)])
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


def short_lived(length: int = 60) -> keras.Model:
    """inp -> C -> LSTM (sequences) -> LSTM backwards (sequences) -> C -> F -> D -> y, in which a change dies soon"""
    inp = dna(length)
    x = layers.LSTM(3, return_sequences=True)(conv(inp, 5, 3, activation="relu"))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
    model = randomise(keras.Model(inp, layers.Dense(2)(layers.Flatten()(conv(x, 3, 3)))), 1)
    return with_memory(model, forget_bias=-4.0, recurrent=0.05)


@pytest.mark.one_in(64)
def test_a_change_that_dies_leaves_a_window_again():
    model = short_lived()
    scorer = FastISM(model, engine="fast")
    assert [type(step.output) for step in recurrences_of(scorer)] == [Window] * 3
    assert [node.class_name for node in inspect_scorer(scorer).nodes][1:5] == ["Conv1D: relu", "LSTM", "LSTM", "LSTM"]
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


def engines_of(scorer: FastISM):
    return [engine for engine, _ in scorer.batching.engines.values()]


@pytest.mark.one_in(64)
def test_what_leaves_its_window_is_computed_everywhere(monkeypatch):
    """With a window that is much too narrow: in one position more than the input's, the change is still large."""
    monkeypatch.setattr(recurrences, "WIDER", 0.0)
    monkeypatch.setattr(recurrences, "POSITIONS_MORE", 1)
    model = model_of(lambda x: layers.SimpleRNN(3, return_sequences=True)(x))
    inputs = inputs_of(model, np.random.default_rng(0))
    errors = errors_of(model, inputs)
    assert errors.fast <= errors.allowed, errors
    scorer = FastISM(model, engine="fast", reduce="none")
    assert isinstance(recurrences_of(scorer)[0].output, Window)
    for _ in range(2):
        scorer(inputs)
    (engine,) = engines_of(scorer)
    assert engine.misfits == engine.calls_made > 0
    # after so many misfits, the chunks are not tried any more
    monkeypatch.setattr(fast, "MIN_CALLS", engine.calls_made)
    before = engine.calls_made
    scorer(inputs)
    assert engine.calls_made == before


@pytest.mark.one_in(48)
def test_a_bidirectional_layer_is_half_of_the_work_at_most():
    """However long a change lives: each direction begins at the window."""
    (first, second) = recurrences_of(FastISM(model_of(both, length=60), engine="fast", reduce="none"))
    assert first.multiply_adds + second.multiply_adds < 0.7 * (first.full_multiply_adds + second.full_multiply_adds)
