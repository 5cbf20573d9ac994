"""The late part of a plan: pieces of a call, and that they change nothing but the time."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from fastism_cli import FastISM
from fastism_cli.engine.stage import Cuts
from fastism_cli.model import device_choices
from tests.helpers.sequences import random_one_hot
from tests.models.zoo import MODELS


@pytest.mark.parametrize("most", [1, 3, 7, 20, 1000])
@pytest.mark.parametrize("batch", [(1, 7, 3), (4, 5, 3), (3, 1, 3), (1, 1, 1), (5, 11, 2)])
def test_pieces_cover_a_batch(batch, most):
    cuts = Cuts.of(batch, most)
    seen = np.zeros(batch[:2], int)
    for s, p in cuts.first:
        assert 0 <= s <= batch[0] - cuts.piece[0] and 0 <= p <= batch[1] - cuts.piece[1]
        seen[s : s + cuts.piece[0], p : p + cuts.piece[1]] += 1
    assert seen.min() > 0
    assert np.prod(cuts.piece) <= max(most, batch[2])


@pytest.mark.parametrize("batch", [(1, 7, 3), (4, 5, 3), (5, 11, 2)])
@pytest.mark.parametrize("most", [1, 7, 20, 1000])
def test_results_of_pieces_are_put_in_their_places(batch, most):
    cuts, whole = Cuts.of(batch, most), np.random.default_rng(0).normal(size=(*batch, 2)).astype("float32")
    pieces = [whole[s : s + cuts.piece[0], p : p + cuts.piece[1]] for s, p in cuts.first]
    np.testing.assert_array_equal(np.asarray(cuts.joined(np.stack(pieces))), whole)


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of one position of one sequence."""
    small = {"late_working_set": 1.0, "max_working_set": 1.0}
    choices = {kind: replace(each, **small) for kind, each in device_choices.CHOICES.items()}
    monkeypatch.setattr(device_choices, "CHOICES", choices)


NAMES = ("transformer_block_middle", "multi_head_attention-cross", "attention-dot", "custom_last")


@pytest.fixture(params=NAMES)
def scores(request, rng):
    """A model, sequences, and their scores in one piece."""
    model = MODELS[request.param]()
    one_hot = random_one_hot(rng, 3, model.input_shape[1])
    return model, one_hot, FastISM(model, engine="fast", batch_size=45, reduce="none")(one_hot)


@pytest.mark.one_in(36)
def test_scores_do_not_depend_on_the_pieces(scores, small_pieces):
    model, one_hot, whole = scores
    found = FastISM(model, engine="fast", batch_size=45, reduce="none")(one_hot)
    for head, delta in whole.delta.items():
        np.testing.assert_allclose(found.delta[head], delta, rtol=0, atol=1e-6 * np.abs(whole.reference[head]).max())


def test_a_piece_reads_no_more_of_its_weights_than_of_its_tensors():
    """inp -> BiLSTM -> (200 x 64) -> Dense(2000) -> y: a matrix of 102 MB, and 59 kB a substitution"""
    x = layers.Bidirectional(layers.LSTM(32, return_sequences=True))(inp := keras.Input((200, 4)))
    model = keras.Model(inp, layers.Dense(2, name="y")(layers.Dense(2000)(layers.Flatten()(x))))
    plan = FastISM(model, engine="fast").prepared.plan
    late = plan.late_substitutions
    assert 12_800 * 2000 / (12_800 + 2000) - 1 <= late <= 12_800 * 2000 / 2000
    assert late * plan.late_working_set * 4 <= device_choices.CHOICES["cpu"].max_working_set


@pytest.mark.parametrize(
    "layer",
    [layers.MultiHeadAttention(2, 8, use_gate=True), layers.GroupQueryAttention(8, 4, 2)],
    ids=["multi_head", "grouped"],
)
def test_attention_is_late_from_its_pairs_on(layer):
    """inp -> C -> attention -> GAP -> y: the normalisation and all projections have windows of 5 of 200 positions"""
    x = layers.Conv1D(16, 5, padding="same")(inp := keras.Input((200, 4)))
    x = layers.LayerNormalization()(x)
    model = keras.Model(inp, layers.GlobalAveragePooling1D()(layer(x, x)))
    plan = FastISM(model).prepared.plan
    early = {step.node.name: step.output.frame.width for step in plan.steps if step.rule is not None}
    names = ["query", "key", "value"] + ["gate"] * isinstance(layer, layers.MultiHeadAttention)
    assert {name: early[f"{layer.name}:{name}"] for name in names} == dict.fromkeys(names, 5)
    mixing = plan.late_steps[0]
    weights = layer._output_dense.kernel
    heads, dim = weights.shape[:2]
    assert mixing.full_multiply_adds == heads * 200 * 200 * 2 * dim + 200 * np.prod(weights.shape)


def test_a_model_that_is_late_from_its_beginning_is_left_to_forward_passes():
    """inp -> attention -> D -> D -> GAP -> y"""
    inp = keras.Input((100, 4))
    x = layers.MultiHeadAttention(4, 8, output_shape=32)(inp, inp)
    for _ in range(3):
        x = layers.Dense(64, activation="relu")(x)
    scorer = FastISM(keras.Model(inp, layers.GlobalAveragePooling1D()(x)))
    assert scorer.engine == "naive"
    assert scorer.prepared.plan.predicted_speedup < 1.2
