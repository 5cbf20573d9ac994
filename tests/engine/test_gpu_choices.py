"""What the engine does on a GPU alone, done on the processor: the same scores."""

import numpy as np
import pytest

from fastism_cli import FastISM
from fastism_cli.model import backend, device_choices
from tests.engine.test_fast import COMPILED, assert_exact
from tests.models.zoo import MODELS, ONE_EACH


@pytest.fixture(autouse=True)
def gpu_choices(monkeypatch):
    monkeypatch.setattr(backend, "device_kind", lambda: "gpu")


@pytest.mark.one_in(48)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in COMPILED else pytest.mark.exhaustive) for name in ONE_EACH]
)
def test_engine_equals_plain_keras(name):
    assert_exact(name, 30)


@pytest.mark.one_in(48)
@pytest.mark.compiled
@pytest.mark.parametrize("name", ["conv_pools_dense-one", "bpnet-5_layers", "merge_of_phases-add", "residual"])
def test_compiled_engine_equals_plain_keras(name):
    assert_exact(name, 30)


def test_calls_hold_a_multiple_of_eight_positions():
    scorer = FastISM(MODELS["bpnet-5_layers"](), engine="fast", batch_size=30, reduce="sum")
    engine, calls = scorer.batching.engine_for(np.arange(scorer.input_length), 1, 30)
    assert engine.batch[1] % 8 == 0 and {call.start % engine.batch[1] for call in calls} == {0}


def test_the_product_of_the_first_layer_can_be_part_of_its_stage():
    scorer = FastISM(MODELS["conv_pools_dense-one"](), engine="fast")
    first = scorer.prepared.plan.stages[0]
    assert first.has_product and first.steps[0].rule.is_narrow(first.steps[0].facts)


def test_one_place_knows_what_pays_on_a_gpu(monkeypatch):
    assert device_choices.device_choices() is device_choices.CHOICES["gpu"]
    monkeypatch.setattr(backend, "device_kind", lambda: "cpu")
    assert device_choices.device_choices() is device_choices.CHOICES["cpu"]


def test_a_call_fits_what_the_device_has_free(monkeypatch):
    def batching():
        return FastISM(MODELS["conv_pools_dense-one"](), engine="fast").batching

    usual = batching().substitutions
    monkeypatch.setattr(backend, "free_memory", lambda: batching().planned_bytes((1, 100, 3)))
    assert batching().substitutions == 240 < usual  # four fifths of 300
