"""The zoo itself: its models build, and their heads depend on the sequence, or are known not to."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.helpers.sequences import call_inputs, extra_inputs, random_one_hot, sequence_input
from tests.models.stacks import Stack, build, chains, node_tensors, stacks
from tests.models.zoo import FACTS, MODELS, ONE_EACH
from tests.models.zoo.registry import toy

# What the tests are made of, which the tests of the engine would show to be wrong: `make test-all` runs this.
pytestmark = pytest.mark.exhaustive

QUICK = settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def heads(model: keras.Model, one_hot, extra, sequence=None) -> list[np.ndarray]:
    """The outputs in flat order, as arrays."""
    outputs = model(call_inputs(model, one_hot, extra, sequence=sequence))
    return [keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(outputs)]


def reference_and_substitutions(rng, length: int) -> np.ndarray:
    """A random sequence, then the sequence with one other base at each position: (1 + length, length, 4)."""
    reference = random_one_hot(rng, 1, length)
    substituted = np.repeat(reference, length, axis=0)
    positions = np.arange(length)
    substituted[positions, positions] = np.roll(substituted[positions, positions], 1, axis=-1)
    return np.concatenate([reference, substituted])


@pytest.mark.parametrize("model_id", MODELS)
def test_builds_and_depends_on_the_sequence(model_id):
    rng = np.random.default_rng(0)
    model, facts = MODELS[model_id](), FACTS[model_id]
    length = sequence_input(model, facts.sequence_input).shape[1]
    one_hot = reference_and_substitutions(rng, length)
    extra = extra_inputs(model, 1, rng, sequence=facts.sequence_input)
    assert set(extra) == set(facts.extra_inputs)
    extra = {name: np.repeat(values, len(one_hot), axis=0) for name, values in extra.items()}

    for index, head in enumerate(heads(model, one_hot, extra, facts.sequence_input)):
        assert np.isfinite(head).all()
        assert np.abs(head).max() < 1000
        largest = np.abs(head[1:] - head[:1]).max()
        assert (largest == 0) if index in facts.blind_heads else (largest > 1e-4), f"head {index}: {largest}"


@pytest.mark.parametrize("model_id", ["basset-even", "norm_between-batch", "multi_head_attention-self"])
def test_weights_are_the_same_each_time(model_id):
    first, second = MODELS[model_id]().get_weights(), MODELS[model_id]().get_weights()
    assert first
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a).min() > 0


def test_every_builder_draws_its_graph():
    undrawn = [model_id for model_id, build in MODELS.items() if "->" not in (build.__doc__ or "")]
    assert undrawn == []


def test_every_family_is_imported():
    folder = Path(__file__).parent / "zoo"
    families = {path.stem for path in folder.glob("*.py") if re.search(r"^@toys?\b", path.read_text(), re.MULTILINE)}
    assert families == {facts.family for facts in FACTS.values()}


def test_one_each_has_one_variant_of_every_builder():
    assert set(ONE_EACH) <= set(MODELS)
    assert len({model_id.partition("-")[0] for model_id in MODELS}) == len(ONE_EACH)
    assert "activation-relu" in ONE_EACH


def test_an_id_is_taken_once():
    def basenji():
        """inp -> y"""

    with pytest.raises(ValueError, match=r"Two toy models have one id\. Received: 'basenji'"):
        toy(basenji)


def test_two_inputs_of_a_sequences_shape_need_a_name():
    model = MODELS["two_sequences_added-last"]()
    with pytest.raises(ValueError, match="One sequence input is wanted"):
        sequence_input(model)
    assert sequence_input(model, "dna").name == "dna"


def test_random_one_hot():
    rng = np.random.default_rng(1)
    one_hot = random_one_hot(rng, 5, 400, n_fraction=0.25)
    assert one_hot.shape == (5, 400, 4)
    assert one_hot.dtype == np.float32
    assert set(one_hot.sum(axis=-1).ravel()) == {0.0, 1.0}
    assert 0.2 < (one_hot.sum(axis=-1) == 0).mean() < 0.3
    assert random_one_hot(rng, 2, 50).sum(axis=-1).min() == 1


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask attached")
@QUICK
@given(stacks())
def test_every_stack_builds_and_stays_finite(stack: Stack):
    model = build(stack)
    rng = np.random.default_rng(stack.seed)
    one_hot = random_one_hot(rng, 2, stack.length, n_fraction=0.1)
    for head in heads(model, one_hot, extra_inputs(model, 2, rng, sequence="dna")):
        assert np.isfinite(head).all()
        assert np.abs(head).max() < 1e4


@QUICK
@given(stacks(max_layers=8))
def test_no_tensor_of_a_stack_is_empty(stack: Stack):
    assert all(min(tensor.shape[1:]) >= 1 for tensor in node_tensors(stack).values())


@QUICK
@given(chains(max_layers=4))
def test_chains_have_no_branches(stack: Stack):
    assert 2 <= len(stack.nodes) <= 4
    assert [node.inputs for node in stack.nodes] == [(index,) for index in range(len(stack.nodes))]
    assert all(node.same_as is None for node in stack.nodes)
