"""Positions that no output sees are not computed, and their delta is exactly 0."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from fastism_cli import FastISM
from fastism_cli.engine.planner import first_live
from tests.helpers.sequences import random_one_hot
from tests.models.zoo.blocks import conv, dna
from tests.models.zoo.registry import randomise

LENGTH = 40


def cropped(x):
    return layers.Flatten()(layers.Cropping1D((9, 12))(conv(x, 4, 3)))


def strided(x):
    """The last two positions fill no window of 4."""
    return layers.Flatten()(layers.MaxPooling1D(4)(layers.Conv1D(4, 3)(x[:, :36])))


def one_position(x):
    return conv(x, 4, 5)[:, 10]


def two_places(x):
    return ops.concatenate([conv(x, 4, 3)[:, 4], conv(x, 4, 3)[:, 30]], axis=-1)


def mirrored(x):
    return layers.Flatten()(layers.Cropping1D((0, 30))(ops.flip(conv(x, 4, 3), axis=1)))


# what lies between input and head, and the positions that the head sees
CASES = {
    "cropped": (cropped, range(8, 29)),
    "strided": (strided, range(0, 34)),
    "one_position": (one_position, range(8, 13)),
    "two_places": (two_places, range(3, 32)),
    "mirrored": (mirrored, range(29, 40)),
    "all": (lambda x: layers.GlobalAveragePooling1D()(conv(x, 4, 3)), range(0, 40)),
    "recurrent": (lambda x: layers.GRU(3)(x), range(0, 40)),
}


@pytest.mark.one_in(64)
@pytest.mark.parametrize("name", CASES)
def test_only_live_positions_are_computed(name, rng):
    between, live = CASES[name]
    inp = dna(LENGTH)
    model = randomise(keras.Model(inp, layers.Dense(2, name="y")(between(inp))), seed=1)
    fast = FastISM(model, engine="fast", batch_size=15)
    assert fast.prepared.live == live
    one_hot = random_one_hot(rng, 2, LENGTH, n_fraction=0.1)
    result = fast(one_hot)
    truth = FastISM(model, engine="naive", precision="float64", batch_size=120)(one_hot)
    np.testing.assert_allclose(result.delta["y"], truth.delta["y"], atol=1e-6)
    dead = [p for p in range(LENGTH) if p not in live]
    assert np.nan_to_num(result.delta["y"][:, :, dead]).max(initial=0) == 0
    computed = {
        p for _, calls in fast.batching.engines.values() for call in calls for p in range(call.start, call.start + 5)
    }
    assert not computed or min(computed) >= live.start


def test_a_window_that_no_output_sees_costs_no_call(rng):
    inp = dna(LENGTH)
    model = randomise(keras.Model(inp, layers.Dense(2, name="y")(cropped(inp))), seed=1)
    result = FastISM(model, engine="fast", batch_size=15)(random_one_hot(rng, 1, LENGTH), positions=[0, 1, 39])
    assert result.delta["y"].shape == (1, 2, 3, 4)
    assert (result.delta["y"] == 0).all()


def test_first_live_by_brute_force():
    for bits in range(2**7):
        live = [p for p in range(7) if bits >> p & 1]
        found = first_live(lambda a, b, live=live: any(a <= p < b for p in live), 0, 7)
        assert found == min(live, default=7)
