"""Pairs of substitutions: against plain Keras in float64 pair by pair, and on every toy model."""

from itertools import cycle

import keras
import numpy as np
import pytest
from keras import layers

from fastism_cli import FastISM
from fastism_cli.engine.pairs import PairSubstitutions, dealt_out
from fastism_cli.engine.plan import Plan
from fastism_cli.errors import OutputError, UsageError
from fastism_cli.model.precision import with_dtype
from fastism_cli.rules.base import Window
from fastism_cli.rules.frames import Blocks
from fastism_cli.rules.several_windows import SumOfLetters
from fastism_cli.scores.importance import strongest_of
from tests.helpers.sequences import random_one_hot
from tests.helpers.truth import Errors, inputs_of, largest
from tests.models.zoo import FACTS, MODELS, ONE_EACH, randomise
from tests.models.zoo.blocks import conv, dna

pytestmark = pytest.mark.one_in(2)

LENGTH = 40


def pooled(length: int = LENGTH) -> keras.Model:
    """inp -> C -> MXP(3) -> C -> F -> D"""
    inp = dna(length)
    x = layers.MaxPooling1D(3)(conv(inp, 5, 7, activation="relu"))
    return randomise(keras.Model(inp, layers.Dense(2, name="y")(layers.Flatten()(conv(x, 4, 3)))), seed=4)


@pytest.fixture
def one_hot(rng) -> np.ndarray:
    """Two sequences, the second with N in it."""
    return np.concatenate([random_one_hot(rng, 1, LENGTH), random_one_hot(rng, 1, LENGTH, n_fraction=0.2)])


# --- the definition ---------------------------------------------------------------------------------------------------


def definition(predict, one_hot: np.ndarray, within: int, window: range, n_policy: str = "skip") -> np.ndarray:
    """f(both) - f(one) - f(other) + f(neither) for every two letters, one prediction each, (n, T, P, D, 4, 4)."""
    found = []
    for row in one_hot:
        asked, sequences = [], [row]
        for i, first in enumerate(window):
            for d in range(1, within + 1):
                if first + d in window and (n_policy == "score" or (row[first].any() and row[first + d].any())):
                    asked.append((i, d - 1))
                    for x in range(4):
                        for y in range(4):
                            for letters in ({first: x, first + d: y}, {first: x}, {first + d: y}):
                                new = row.copy()
                                for position, letter in letters.items():
                                    new[position] = np.eye(4)[letter]
                                sequences.append(new)
        values = predict(np.stack(sequences))
        terms = values[1:].reshape(len(asked), 4, 4, 3, -1)
        result = np.full((values.shape[-1], len(window), within, 4, 4), np.nan)
        for (i, d), (_, both) in zip(asked, enumerate(terms), strict=True):
            result[:, i, d] = np.moveaxis(both[..., 0, :] - both[..., 1, :] - both[..., 2, :] + values[0], -1, 0)
        found.append(result)
    return np.stack(found)


def in_float64(model: keras.Model):
    precise = with_dtype(model, "float64")
    return lambda x: np.concatenate([np.asarray(precise(part.astype("float64"))) for part in np.array_split(x, 9)])


@pytest.mark.one_in(24)
@pytest.mark.parametrize("engine", ["fast", "naive"])
@pytest.mark.parametrize(
    ("within", "window", "n_policy"),
    [(3, range(0, 9), "skip"), (3, range(31, 40), "skip"), (8, range(12, 21), "skip"), (2, range(20, 30), "score")],
)
def test_interactions_are_those_of_the_definition(engine, within, window, n_policy, one_hot):
    model = pooled()
    scorer = FastISM(model, engine=engine, batch_size=50, n_policy=n_policy)
    result = scorer.pairs(one_hot, within=within, window=window)
    expected = definition(in_float64(model), one_hot, within, window, n_policy)
    found = result.interaction["y"]
    assert found.shape == expected.shape and found.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    largest_delta = np.nanmax(np.abs(result.delta["y"]))
    np.testing.assert_allclose(found, expected, atol=4e-6 * largest_delta, rtol=0)
    assert np.nanmax(np.abs(expected)) > 1e-2


def test_what_it_returns_beside_the_interactions(one_hot):
    scorer = FastISM(pooled(), engine="fast")
    result, single = scorer.pairs(one_hot, within=4, window=range(5, 15)), scorer(one_hot, positions=range(5, 15))
    np.testing.assert_array_equal(result.delta["y"], single.delta["y"])
    np.testing.assert_array_equal(result.reference["y"], single.reference["y"])
    assert (result.positions.tolist(), result.within) == (list(range(5, 15)), 4)
    np.testing.assert_array_equal(result.importance("y/1"), single.importance("y/1"))


def test_letters_of_the_sequence_have_no_interaction(one_hot):
    found = FastISM(pooled(), engine="fast").pairs(one_hot[0], within=5).interaction["y"][0]
    own = one_hot[0].argmax(-1)
    for i in range(LENGTH - 5):
        for d in range(1, 6):
            assert not found[:, i, d - 1, own[i]].any() and not found[:, i, d - 1, :, own[i + d]].any()
    assert np.isnan(found[:, -1]).all() and not np.isnan(found[:, : LENGTH - 5]).any()


def test_codes_and_one_hot_give_the_same(one_hot):
    scorer, window = FastISM(pooled(), engine="fast"), range(10, 22)
    codes = np.where(one_hot.any(-1), one_hot.argmax(-1), 4).astype("uint8")
    by_codes, by_rows = (
        scorer.score_pairs(codes, within=3, window=window),
        scorer.pairs(one_hot, within=3, window=window),
    )
    np.testing.assert_array_equal(by_codes.interaction["y"], by_rows.interaction["y"])
    np.testing.assert_array_equal(by_codes.delta["y"][..., 10:22, :], by_rows.delta["y"])
    assert np.isnan(by_codes.delta["y"][..., :10, :]).all()


@pytest.mark.one_in(24)
@pytest.mark.parametrize("batch_size", [9, 70, 10**6])
def test_the_size_of_a_call_changes_nothing(batch_size, one_hot):
    few = (
        FastISM(pooled(), engine="fast", batch_size=batch_size)
        .pairs(one_hot, within=17, window=range(3, 27))
        .interaction["y"]
    )
    many = FastISM(pooled(), engine="fast").pairs(one_hot, within=17, window=range(3, 27)).interaction["y"]
    np.testing.assert_allclose(few, many, atol=1e-6)


# --- where the sequence is held ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_tied_inputs_change_together(engine, one_hot):
    forward, reverse = keras.Input((LENGTH, 4), name="forward"), keras.Input((LENGTH, 4), name="reverse")
    sides = [layers.Flatten()(conv(forward, 5, 7, activation="relu")), layers.Flatten()(conv(reverse, 3, 5))]
    y = layers.Dense(2, name="y")(layers.Activation("tanh")(layers.Dense(3)(layers.Concatenate()(sides))))
    model = randomise(keras.Model([forward, reverse], y), seed=1)
    both = with_dtype(model, "float64")
    window = range(14, 24)
    found = FastISM(model, tie="forward,reverse:rc", engine=engine).pairs(one_hot[:1], within=9, window=window)
    expected = definition(
        lambda x: np.asarray(both([x.astype("float64"), x[:, ::-1, ::-1].astype("float64")])), one_hot[:1], 9, window
    )
    np.testing.assert_allclose(found.interaction["y"], expected, atol=1e-5)


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_integers(engine, one_hot):
    ids = keras.Input((LENGTH,), dtype="int32", name="ids")
    x = layers.Conv1D(4, 5, activation="relu")(layers.Embedding(5, 6)(ids))
    model = randomise(keras.Model(ids, layers.Dense(2, name="y")(layers.GlobalMaxPooling1D()(x))), seed=2)
    precise, window = with_dtype(model, "float64"), range(8, 16)
    found = FastISM(model, engine=engine).pairs(
        np.where(one_hot.any(-1), one_hot.argmax(-1), 4), within=5, window=window
    )
    expected = definition(lambda x: np.asarray(precise(np.where(x.any(-1), x.argmax(-1), 4))), one_hot, 5, window)
    np.testing.assert_allclose(found.interaction["y"], expected, atol=1e-5)


def test_one_letter_that_no_output_sees(one_hot):
    inp = dna(LENGTH)
    x = layers.Flatten()(layers.Cropping1D((12, 12))(conv(inp, 4, 3, activation="relu")))
    model = randomise(keras.Model(inp, layers.Dense(2, name="y")(x)), seed=1)
    window = range(6, 18)
    found = FastISM(model, engine="fast").pairs(one_hot, within=6, window=window).interaction["y"]
    np.testing.assert_allclose(found, definition(in_float64(model), one_hot, 6, window), atol=1e-5)


# --- all models -------------------------------------------------------------------------------------------------------

DISTANCES = (1, 3, 7, 20, 10**6)  # the last: as far apart as the sequence is long
PAIRS_FROM = 8  # positions of a window at one end, or in the middle


def pair_errors(name: str, within: int, place: float, batch_size: int | str = "auto", **options) -> Errors:
    """Errors of what two letters change together, over the pairs that begin in a short window."""
    model, sequence, rng = MODELS[name](), FACTS[name].sequence_input, np.random.default_rng(0)
    inputs = inputs_of(model, rng, sequence=sequence)
    length = next(x.shape[1] for n, x in inputs.items() if sequence in (None, n) and x.shape[2:] == (4,))
    within = min(within, length - 1)
    wide = min(length, within + PAIRS_FROM)
    first = int(place * (length - wide))
    found = {}
    for engine, precision, size in (
        ("fast", "float32", batch_size),
        ("naive", "float64", 600),
        ("naive", "float32", 600),
    ):
        scorer = FastISM(
            model,
            engine=engine,
            precision=precision,
            batch_size=size,
            sequence_input=sequence,
            reduce="none",
            **options,
        )
        assert scorer.pair_scorer(within).engine == ("naive" if scorer.prepared.graph.keeps_masks else engine)
        found[engine, precision] = scorer.pairs(inputs, within=within, window=range(first, first + wide))
    fast, exact, naive = found.values()
    worst = Errors(0.0, 0.0, 0.0, 0.0, 0.0)
    for head, expected in exact.interaction.items():
        np.testing.assert_array_equal(np.isnan(fast.interaction[head]), np.isnan(expected))
        worst = Errors(
            max(worst.fast, largest(fast.interaction[head] - expected)),
            max(worst.naive, largest(naive.interaction[head] - expected)),
            max(worst.reference, largest(naive.reference[head] - exact.reference[head])),
            max(worst.largest, largest(exact.delta[head])),
            max(worst.predicted, largest(exact.reference[head])),
        )
    return worst


# Each model with one distance at one place, all in turn.
TURNS = list(zip(ONE_EACH, cycle(DISTANCES), cycle((0.0, 0.5, 1.0, 0.3)), strict=False))


@pytest.mark.one_in(64)
@pytest.mark.parametrize(("name", "within", "place"), TURNS)
def test_engine_equals_plain_keras(name, within, place):
    errors = pair_errors(name, within, place)
    assert errors.fast <= errors.allowed, errors


@pytest.mark.one_in(48)
@pytest.mark.compiled
@pytest.mark.parametrize(
    ("name", "within", "place"),
    [
        ("conv_pools_dense-one", 7, 0.5),
        ("residual", 20, 0.0),
        ("flatten_then-dropout", 3, 1.0),
        ("bpnet-5_layers", 5, 0.5),
    ],
)
def test_compiled_engine_equals_plain_keras(name, within, place):
    errors = pair_errors(name, within, place, batch_size=300)
    assert errors.fast <= errors.allowed, errors


# --- how it is planned ------------------------------------------------------------------------------------------------


def sum_stage(plan: Plan):
    return next(stage for stage in plan.stages if isinstance(stage.steps[0].node.layer, SumOfLetters))


def test_linear_layers_are_computed_for_each_letter():
    group = FastISM(pooled(), engine="fast").pair_scorer(10).groups[0]
    plan = group.prepared.plan
    names = [step.node.name for step in plan.steps]
    assert names[:3] == ["conv1d", "conv1d: second letter", "both letters"] or "second letter" in names[1], names
    widths = [step.output.frame.width for step in plan.steps[:3] if isinstance(step.output, Window)]
    assert widths == [7, 7, 17]  # a kernel of 7; from the first letter to the second, 10 further


def test_letters_are_computed_in_the_order_in_which_they_are_added():
    plan = FastISM(pooled()).pair_scorer(5).groups[0].prepared.plan
    stage = sum_stage(plan)
    assert stage.order != tuple(range(len(stage.order)))
    assert {plan.orders[t] for t in stage.steps[0].node.inputs} == {stage.order}


def test_pairs_share_what_one_letter_needs():
    pairs, single = (FastISM(pooled()).pair_scorer(5).groups[0].prepared.plan, FastISM(pooled()).prepared.plan)
    of_letters = [
        step.multiply_adds for step in pairs.steps if step.node.outputs[0] in sum_stage(pairs).steps[0].node.inputs
    ]
    assert of_letters == [single.steps[0].multiply_adds // 3] * 2


def test_stages_that_add_letters_have_few_stretches():
    for within in (3, 10, 20):
        for group in FastISM(pooled(), engine="fast").pair_scorer(within).groups:
            positions = list(range(30))
            blocks = Blocks(group.changes.width, range(len(positions)), group.distances)
            engine, _ = group.batching.engine_for(positions[0] * np.ones(1, int) + np.arange(blocks.count), 1, 10**6)
            for plan in engine.plans.values():
                assert 1 < len(sum_stage(plan).stretches) <= 16


def test_distances_in_groups():
    assert dealt_out(5, 3) == [(2, 1), (5, 4, 3)]
    assert dealt_out(3) == [(3, 2, 1)] and dealt_out(1) == [(1,)]
    assert [len(group) for group in dealt_out(20)] == [10, 10]
    assert sorted(d for group in dealt_out(50) for d in group) == list(range(1, 51))


def test_pairs_by_number():
    blocks = Blocks(3, range(5, 8), (2, 1))
    assert (blocks.count, blocks.repeats, blocks.step) == (6, 2, 0.5)
    assert blocks.starts_from(0, 5) == (5, 5, 6, 6, 7) and blocks.seconds_from(1, 4) == (6, 8, 7, 9)
    assert blocks.numbers_of(np.array([10, 11, 12, 15])).tolist() == [0, 1, 2, 5]
    changes = PairSubstitutions(4, "skip", (2, 1))
    starts, stops = changes.spans(np.array([10, 11, 13]))
    assert (starts.tolist(), stops.tolist()) == ([5, 5, 6], [8, 7, 8])


def test_the_strongest_of_all_letters():
    values = np.zeros((2, 4, 4), "float32")
    values[0, 1, 2], values[0, 3, 3], values[1] = -3, 2, np.nan
    np.testing.assert_array_equal(strongest_of(values), [-3, np.nan])


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_refusals(one_hot, monkeypatch):
    scorer = FastISM(pooled(), engine="fast")
    for within in (0, -1, LENGTH):
        with pytest.raises(UsageError, match=f"within must be from 1 to {LENGTH - 1}.*Received: {within}"):
            scorer.pairs(one_hot, within=within)
    with pytest.raises(UsageError, match="within must be a whole number"):
        scorer.pairs(one_hot, within=2.5)
    for window in (range(5, 5), range(0, LENGTH + 1), range(0, 9, 2)):
        with pytest.raises(UsageError, match="window must be a range of positions"):
            scorer.pairs(one_hot, within=2, window=window)
    with pytest.raises(UsageError, match="leave replace_with out"):
        FastISM(pooled(), replace_with="N", width=3).pairs(one_hot, within=2)
    monkeypatch.setattr("fastism_cli.engine.fastism.memory_of_machine", lambda: 10_000)
    with pytest.raises(OutputError, match=r"The interactions take 30.7 kB in memory; this machine has 10 kB"):
        scorer.pairs(one_hot, within=3)


def test_means_are_refused(one_hot):
    with pytest.raises(UsageError, match="Pairs are of one model as it is: leave rc, shifts and further models out"):
        FastISM(pooled(), rc=True).pairs(one_hot, within=2)
