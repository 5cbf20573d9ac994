"""What layers are thought to cost: counted by hand, and what `inspect` predicts with it."""

import keras
import pytest
from keras import layers

from fastism_cli import FastISM
from fastism_cli.engine.plan import weighted_multiply_adds, work_inside


def built(layer, *shapes):
    """A layer with its weights."""
    layer(*(keras.Input(shape) for shape in shapes))
    return layer


def test_attention_is_counted_with_all_pairs_of_positions():
    attention = built(layers.MultiHeadAttention(3, key_dim=5, value_dim=7), (20, 8), (20, 8))
    projections = 20 * (2 * 8 * 3 * 5 + 8 * 3 * 7 + 3 * 7 * 8)
    biases = 20 * (2 * 3 * 5 + 3 * 7)  # of two axes, as matrices have
    pairs = 3 * 20 * 20 * (5 + 7)
    assert weighted_multiply_adds(attention, [(20, 8), (20, 8)], (20, 8)) == projections + biases + pairs


def test_grouped_attention_has_its_pairs_too():
    attention = built(layers.GroupQueryAttention(5, 4, 2, use_bias=False), (20, 8), (20, 8))
    projections = 20 * (2 * 8 * 4 * 5 + 2 * 8 * 2 * 5)  # query and output of four heads, key and value of two
    assert weighted_multiply_adds(attention, [(20, 8), (20, 8)], (20, 8)) == projections + 4 * 20 * 20 * 2 * 5


@pytest.mark.parametrize(
    ("layer", "slow"),
    [(layers.LSTM(6), True), (layers.Bidirectional(layers.GRU(6)), True), (layers.Dense(6), False)],
    ids=["lstm", "bidirectional", "dense"],
)
def test_a_recurrence_takes_longer_than_its_multiply_adds(layer, slow):
    work = weighted_multiply_adds(built(layer, (20, 8)), [(20, 8)], (20, 6))
    assert (work_inside(layer, [(20, 8)], work) > 4 * work) == slow


def test_a_layer_of_a_user_may_call_anything_by_those_names():
    class Odd(layers.Dense):
        num_heads, key_dim, value_dim = "three", None, [4]

    assert weighted_multiply_adds(built(Odd(6), (20, 8)), [(20, 8)], (20, 6)) == 20 * 8 * 6


def test_the_estimate_knows_that_the_late_layers_are_slow():
    inputs = keras.Input((200, 4))
    x = layers.MaxPooling1D(8)(layers.Conv1D(64, 15, activation="relu", padding="same")(inputs))
    plans = [
        FastISM(keras.Model(inputs, layers.Dense(1)(late(x))), engine="fast").prepared.plan
        for late in (layers.LSTM(32), layers.Flatten())
    ]
    assert plans[0].predicted_speedup < 0.5 * plans[0].limit
    assert plans[1].predicted_speedup > 2 * plans[0].predicted_speedup
