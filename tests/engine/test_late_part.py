"""The late part of a plan: pieces of a call, and that they change nothing but the time."""

from dataclasses import replace

import numpy as np
import pytest

from fastism_cli import FastISM
from fastism_cli.engine.late_part import Cuts
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
    cuts, whole = Cuts.of(batch, most), np.random.default_rng(0).normal(size=(*batch, 2))
    pieces = [whole[s : s + cuts.piece[0], p : p + cuts.piece[1]] for s, p in cuts.first]
    np.testing.assert_array_equal(np.asarray(cuts.joined(np.stack(pieces))), whole)


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of one position of one sequence."""
    choices = {kind: replace(each, late_working_set=1.0) for kind, each in device_choices.CHOICES.items()}
    monkeypatch.setattr(device_choices, "CHOICES", choices)


NAMES = ("transformer_block_middle", "multi_head_attention-cross", "attention-dot", "custom_last")


@pytest.fixture(params=NAMES)
def scores(request, rng):
    """A model, sequences, and their scores in one piece."""
    model = MODELS[request.param]()
    one_hot = random_one_hot(rng, 3, model.input_shape[1])
    return model, one_hot, FastISM(model, engine="fast", batch_size=45, reduce="none")(one_hot)


def test_scores_do_not_depend_on_the_pieces(scores, small_pieces):
    model, one_hot, whole = scores
    found = FastISM(model, engine="fast", batch_size=45, reduce="none")(one_hot)
    for head, delta in whole.delta.items():
        np.testing.assert_allclose(found.delta[head], delta, rtol=0, atol=1e-6 * np.abs(whole.reference[head]).max())
