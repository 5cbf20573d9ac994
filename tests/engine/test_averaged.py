"""Means over strands, shifts and models: against plain Keras in float64, and against the mean of single engines."""

from collections.abc import Sequence
from itertools import product

import keras
import numpy as np
import pytest
from keras import layers

from fastism_cli import FastISM
from fastism_cli.engine.verify import verify
from fastism_cli.errors import SequenceError, UsageError
from fastism_cli.model import backend
from fastism_cli.model.precision import with_dtype
from tests.helpers.sequences import random_one_hot
from tests.models.zoo import randomise

pytestmark = pytest.mark.one_in(2)

LENGTH = 32
PAIRS = {"profile": [1, 0], "signal": [2, 1, 0, 3]}


def folded(seed: int, *, filters: int = 5) -> keras.Model:
    """inp -> C -> profile (32, 2); MXP(C) -> F -> D -> signal (4)"""
    inp = keras.Input((LENGTH, 4), name="dna")
    x = layers.Conv1D(filters, 5, padding="same", activation="relu")(inp)
    profile = layers.Conv1D(2, 4, padding="same", name="profile")(x)
    signal = layers.Dense(4, name="signal")(layers.Flatten()(layers.MaxPooling1D(4)(x)))
    return randomise(keras.Model(inp, [profile, signal]), seed=seed)


MODELS = [folded(seed) for seed in (1, 2, 3)]


def wide_codes(rng: np.random.Generator, before: int, after: int, n: int = 2) -> np.ndarray:
    """Letters of sequences with what lies around the input, 4 for N: the second has some N, one at the first base."""
    codes = rng.integers(0, 4, (n, before + LENGTH + after))
    codes[1, [before, before + 7]] = 4
    return codes.astype("uint8")


# --- the truth --------------------------------------------------------------------------------------------------------


def mean_outputs(models, wide: np.ndarray, shifts: Sequence[int], rc: bool, pairs) -> list[dict[str, np.ndarray]]:
    """What every model says of every way to show sequences (n, wide): whole heads on the + strand, in float64."""
    before, found = max(-min(shifts), 0), []
    for model, shift in product(models, shifts):
        exact = with_dtype(model, "float64")
        one_hot = np.eye(5, 4)[wide[:, before + shift :][:, :LENGTH]]
        profile, signal = (np.asarray(y) for y in exact(one_hot))
        found.append({"profile": profile, "signal": signal})
        if rc:
            profile, signal = (np.asarray(y) for y in exact(one_hot[:, ::-1, ::-1]))
            profile = profile[:, ::-1]
            profile = profile[..., pairs["profile"]] if "profile" in pairs else profile
            found.append({"profile": profile, "signal": signal[..., pairs["signal"]] if "signal" in pairs else signal})
    return found


def kept(y: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return y


def summed(y: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return y.sum(1)


def divergence(y: np.ndarray, reference: np.ndarray) -> np.ndarray:
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (reference, y))
    m = (p + q) / 2
    return (p * np.log(p / m) + q * np.log(q / m)).sum(1) / 2


REDUCED = {"none": kept, "sum": summed, "jsd": divergence}


def true_scores(models, wide, *, shifts=(0,), rc=False, pairs=None, reduce="sum", before_reduction=False):
    """Predictions and deltas (n, ..., L, 4) of the mean, from the prediction of every changed sequence."""
    n, first = len(wide), max(-min(shifts), 0)
    changed = np.repeat(wide[:, None], LENGTH * 4, axis=1)
    for k, (position, letter) in enumerate(product(range(LENGTH), range(4))):
        changed[:, k, first + position] = letter
    every = np.concatenate([wide[:, None], changed], axis=1).reshape(-1, wide.shape[1])
    outputs = mean_outputs(models, every, shifts, rc, pairs or {})
    outputs = [{name: y.reshape(n, -1, *y.shape[1:]) for name, y in one.items()} for one in outputs]

    def reduced(profile: np.ndarray) -> np.ndarray:
        return np.stack([REDUCED[reduce](profile[:, k], profile[:, 0]) for k in range(profile.shape[1])], axis=1)

    if before_reduction:
        profile = reduced(np.mean([one["profile"] for one in outputs], axis=0))
    else:
        profile = np.mean([reduced(one["profile"]) for one in outputs], axis=0)
    heads = {"profile": profile, "signal": np.mean([one["signal"] for one in outputs], axis=0)}
    found = {}
    for name, y in heads.items():
        delta = np.moveaxis((y[:, 1:] - y[:, :1]).reshape(n, LENGTH, 4, *y.shape[2:]), (1, 2), (-2, -1))
        is_n = wide[:, first : first + LENGTH] == 4
        for row in range(n):
            delta[row][..., is_n[row], :] = np.nan
        found[name] = y[:, 0], delta
    return found


WAYS = {
    "rc": {"rc": True},
    "rc-pairs": {"rc": True, "pairs": PAIRS},
    "shifts": {"shifts": (-1, 0, 3)},
    "one-shift": {"shifts": (2,)},
    "both": {"rc": True, "pairs": PAIRS, "shifts": (-2, 0)},
    "models": {"models": MODELS},
    "all": {"models": MODELS[:2], "rc": True, "pairs": PAIRS, "shifts": (0, 1)},
    "whole-heads": {"rc": True, "pairs": PAIRS, "reduce": "none"},
    "jsd": {"models": MODELS[:2], "rc": True, "reduce": "jsd"},
    "outputs": {"models": MODELS[:2], "rc": True, "pairs": PAIRS, "reduce": "jsd", "before_reduction": True},
    "whole-outputs": {"models": MODELS[:2], "rc": True, "reduce": "none", "before_reduction": True},
}
RC_PAIRS = ["profile=0:1", "signal=0:2"]


def engine_of(way, **more) -> FastISM:
    options = {"reduce": {"profile": way.get("reduce", "sum")}, "rc": way.get("rc", False), "shifts": way.get("shifts")}
    options |= {"rc_pairs": RC_PAIRS} if "pairs" in way else {}
    options |= {"average": "outputs"} if way.get("before_reduction") else {}
    return FastISM(way.get("models", MODELS[:1]), **{"engine": "fast", **options, **more})


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", WAYS)
def test_scores_are_those_of_the_mean_prediction(rng, name):
    way = WAYS[name]
    engine = engine_of(way)
    wide = wide_codes(rng, *engine.context)
    result = engine.score_codes(wide)
    truth = true_scores(**{"models": MODELS[:1], **way}, wide=wide)
    for head, (reference, delta) in truth.items():
        np.testing.assert_allclose(result.reference[head], reference, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(result.delta[head], delta, rtol=0, atol=4e-6 * np.nanmax(np.abs(delta)))
        assert np.nanmax(np.abs(delta)) > 1e-4
    first = engine.context[0]
    np.testing.assert_array_equal(result.seq, wide[:, first : first + LENGTH])


# --- single engines ---------------------------------------------------------------------------------------------------


def single_scores(model, wide, shift, before, *, reverse, **options):
    """The scores of one model on one way to show the sequence, as they come, and put back by hand."""
    codes = wide[:, before + shift :][:, :LENGTH]
    shown = np.array([3, 2, 1, 0, 4], "uint8")[codes[:, ::-1]] if reverse else codes
    result = FastISM(model, engine="fast", **options).score_codes(shown)
    delta = {}
    for name, x in result.delta.items():
        x = x[..., ::-1, ::-1] if reverse else x
        moved = np.zeros_like(x)
        for position in range(LENGTH):
            if 0 <= position - shift < LENGTH:
                moved[..., position, :] = x[..., position - shift, :]
        delta[name] = moved
    return delta


@pytest.mark.one_in(48)
@pytest.mark.parametrize("shifts", [(0,), (-1, 0, 1)])
def test_a_mean_is_that_of_single_engines_to_two_units_in_the_last_place(rng, shifts):
    options = {"reduce": {"profile": "sum"}}
    engine = FastISM(MODELS, engine="fast", rc=True, shifts=shifts, spread=True, **options)
    wide = wide_codes(rng, *engine.context)
    wide[wide == 4] = 0
    result = engine.score_codes(wide)
    of_models: dict[str, list] = {"profile": [], "signal": []}
    for model in MODELS:
        passes = [
            single_scores(model, wide, shift, engine.context[0], reverse=reverse, **options)
            for shift in shifts
            for reverse in (False, True)
        ]
        for name, found in of_models.items():
            found.append(np.mean([one[name].astype("float64") for one in passes], axis=0))
    for name, found in of_models.items():
        mean = np.mean(found, axis=0).astype("float32")
        assert (np.abs(result.delta[name] - mean) <= 2 * np.spacing(np.abs(mean))).all()
        np.testing.assert_allclose(result.spread[name], np.std(found, axis=0), rtol=1e-5, atol=1e-7)
        assert result.spread[name].max() > 1e-3


def test_a_base_that_no_pass_shows_changes_nothing_and_an_n_is_never_scored(rng):
    engine = FastISM(MODELS[0], engine="fast", shifts=(3,), reduce="sum", targets={"signal": None})
    codes = wide_codes(rng, *engine.context)
    delta = engine.score_codes(codes).delta["signal"]
    assert np.isnan(delta[1, :, [0, 7]]).all()
    assert (delta[0, :, :3] == 0).all() and (delta[1, :, 1:3] == 0).all() and delta[0, :, 3].any()


@pytest.mark.one_in(48)
def test_positions_targets_and_a_window_are_those_of_the_whole(rng):
    way = {"rc": True, "pairs": PAIRS, "models": MODELS[:2]}
    wide = wide_codes(rng, 0, 0)
    whole = engine_of(way).score_codes(wide)
    some = engine_of(way).score_codes(wide, positions=[20, 3, 3])
    np.testing.assert_allclose(some.delta["signal"], whole.delta["signal"][..., [20, 3, 3], :], atol=1e-6)
    window = engine_of(way).score_codes(wide, window=range(4, 9))
    np.testing.assert_allclose(window.delta["signal"][..., 4:9, :], whole.delta["signal"][..., 4:9, :], atol=1e-6)
    assert np.isnan(window.delta["signal"][..., 9:, :]).all() and window.delta["signal"].shape[2] == LENGTH
    for more in ({}, {"average": "outputs"}):
        chosen = engine_of(way, targets={"profile": (1,), "signal": (2, 3)}, **more)
        assert [head.shape for head in chosen.heads] == [(1,), (2,)]
        found = chosen.score_codes(wide)
        for head, units in {"profile": [1], "signal": [2, 3]}.items():
            np.testing.assert_allclose(found.delta[head], whole.delta[head][:, units], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(found.reference[head], whole.reference[head][:, units], rtol=1e-4, atol=1e-5)


@pytest.mark.one_in(24)
def test_sequences_come_with_or_without_what_lies_around_them(rng):
    engine = FastISM(MODELS[0], engine="fast", shifts="-2,0,1", reduce="sum")
    assert engine.context == (2, 1)
    wide = wide_codes(rng, 2, 1)
    wide[:, :2] = wide[:, -1:] = 4
    texts = ["".join("ACGTN"[code] for code in row) for row in wide]
    given = [np.eye(5, 4, dtype="float32")[wide], np.eye(5, 4, dtype="float32")[wide[:, 2:-1]], texts]
    given += [[text[2:-1] for text in texts]]
    expected = engine.score_codes(wide)
    for inputs in given:
        np.testing.assert_array_equal(engine(inputs).delta["signal"], expected.delta["signal"])
    with pytest.raises(SequenceError, match="must have"):
        engine(given[0][:, 1:])


@pytest.mark.one_in(48)
def test_comparing_sequences_is_a_mean_too(rng):
    wide = wide_codes(rng, 0, 0)
    changed = wide.copy()
    changed[0, 5], changed[1, 20:23] = (wide[0, 5] + 1) % 4, 1
    for way in (WAYS["rc-pairs"], WAYS["models"], WAYS["outputs"]):
        engine = engine_of(way)
        found = engine.compare_codes(changed, wide)
        options = {"shifts": (0,), "rc": way.get("rc", False), "pairs": way.get("pairs", {})}
        both = [mean_outputs(way.get("models", MODELS[:1]), x, **options) for x in (changed, wide)]
        signal = [np.mean([one["signal"] for one in outputs], axis=0) for outputs in both]
        np.testing.assert_allclose(found["signal"], signal[0] - signal[1], atol=1e-5)
        if way.get("before_reduction"):
            profiles = [np.mean([one["profile"] for one in outputs], axis=0) for outputs in both]
            np.testing.assert_allclose(found["profile"], divergence(*profiles), atol=1e-6)


# --- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.one_in(48)
@pytest.mark.parametrize("replace_with", ["TGaNC", "background:0.4,0.3,0.2,0.1", "shuffle", "reverse-complement"])
def test_blocks_are_the_same_blocks_on_both_strands(rng, replace_with):
    """The mean prediction of a sequence with the block replaced: shuffles are the same orders of the same bases."""
    options = {"replace_with": replace_with, "width": 5, "samples": 3, "reduce": "sum"}
    engine = FastISM(MODELS[:2], engine="fast", rc=True, rc_pairs=RC_PAIRS, **options)
    codes = wide_codes(rng, 0, 0)
    found = engine.score_codes(codes)
    changes, one_hot = engine.changes, np.eye(5, 4)[codes]
    for row, (block, start) in product(range(2), enumerate(found.positions)):
        new = changes.sequences(one_hot[row].astype("float32"), int(start)).astype("float64")
        signals = []
        for rows in (new, one_hot[row : row + 1]):
            of_models = [with_dtype(model, "float64") for model in MODELS[:2]]
            forward = [np.asarray(model(rows)[1]) for model in of_models]
            reverse = [np.asarray(model(rows[:, ::-1, ::-1])[1])[:, PAIRS["signal"]] for model in of_models]
            signals.append(np.mean([*forward, *reverse], axis=(0, 1)))
        np.testing.assert_allclose(found.delta["signal"][row, :, block, 0], signals[0] - signals[1], atol=2e-5)


def test_blocks_that_a_moved_input_cuts_are_refused(rng):
    engine = FastISM(MODELS[0], shifts="0,2", reduce="sum", replace_with="N", width=4)
    with pytest.raises(UsageError, match="ends inside of a block of 4 positions"):
        engine.score_codes(wide_codes(rng, 0, 2))
    inner = FastISM(MODELS[0], engine="fast", shifts="0,2", reduce="sum", replace_with="N", ranges=[(8, 12), (2, 4)])
    found = inner.score_codes(wide_codes(rng, 0, 2)).delta["signal"]
    assert found.shape[2:] == (2, 1) and np.isfinite(found).all()


# --- what is shared ---------------------------------------------------------------------------------------------------


def compilations(function) -> int:
    if backend.BACKEND == "jax":
        return function.jitted._cache_size()
    return function.experimental_get_tracing_count()


@pytest.mark.compiled
@pytest.mark.parametrize("engine", ["fast", pytest.param("naive", marks=pytest.mark.one_in(48))])
def test_models_of_one_architecture_are_compiled_once(rng, engine):
    scorer = FastISM(MODELS, engine=engine, rc=True, shifts="-1,0,1", reduce="sum")
    scorer.score_codes(wide_codes(rng, 1, 1))
    scorer.score_codes(wide_codes(rng, 1, 1))
    ((compiled, calls),) = scorer.batching.engines.values()
    chunks = list(compiled.chunks.values()) if engine == "fast" else [compiled.chunk]
    assert [compilations(f) for f in (*chunks, compiled.reference_pass)] == [1] * (len(chunks) + 1)
    assert len({id(member.batching) for member in scorer.averaged.members}) == 1
    assert len({call.phase for call in calls}) == len(chunks)


@pytest.mark.one_in(24)
def test_the_models_of_a_user_keep_their_weights(rng):
    before = [[np.array(w) for w in model.get_weights()] for model in MODELS]
    scorer = FastISM(MODELS, engine="fast", reduce="sum")
    codes = wide_codes(rng, 0, 0)
    scorer.score_codes(codes)
    scorer.compare_codes(codes, codes[::-1].copy())
    next(scorer.score_stream([(codes, {})] * 2, window=range(3, 9)))
    verify(scorer, np.eye(5, 4, dtype="float32")[codes[:1]])
    for model, weights in zip(MODELS, before, strict=True):
        for found, known in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(found, known)


@pytest.mark.one_in(48)
def test_models_of_other_architectures_have_an_engine_of_their_own(rng):
    models = [MODELS[0], folded(4, filters=3), MODELS[1], folded(5, filters=3)]
    scorer = FastISM(models, engine="fast", reduce="sum", rc=True)
    assert len({id(member.batching) for member in scorer.averaged.members}) == 2
    wide = wide_codes(rng, 0, 0)
    truth = true_scores(models, wide, rc=True)
    for head, (_, delta) in truth.items():
        found = scorer.score_codes(wide).delta[head]
        np.testing.assert_allclose(found, delta, rtol=0, atol=4e-6 * np.nanmax(np.abs(delta)))


def test_numbers_outside_of_the_weights_are_not_shared(rng):
    def normalised(mean: float) -> keras.Model:
        """inp -> Normalization (its mean is no weight) -> C -> GAP"""
        inp = keras.Input((LENGTH, 4))
        x = layers.Normalization(mean=[mean] * 4, variance=[1.0] * 4)(inp)
        x = layers.Conv1D(3, 3, activation="relu", padding="same")(x)
        return randomise(keras.Model(inp, layers.GlobalAveragePooling1D(name="y")(x)), seed=7)

    models = [normalised(0.0), normalised(0.4)]
    scorer = FastISM(models, engine="fast")
    assert len({id(member.batching) for member in scorer.averaged.members}) == 2
    codes = wide_codes(rng, 0, 0)
    single = [FastISM(model, engine="fast").score_codes(codes).delta["y"] for model in models]
    assert np.nanmax(np.abs(single[0] - single[1])) > 1e-4
    np.testing.assert_allclose(scorer.score_codes(codes).delta["y"], np.mean(single, axis=0), atol=1e-7)


def test_heads_are_found_by_name_and_by_the_number_that_keras_gives(rng):
    def two_heads(first: str, second: str, seed: int) -> keras.Model:
        inp = keras.Input((LENGTH, 4), name=f"input_{seed}")
        x = layers.GlobalAveragePooling1D()(layers.Conv1D(3, 3, activation="relu")(inp))
        return randomise(keras.Model(inp, [layers.Dense(1, name=first)(x), layers.Dense(1, name=second)(x)]), seed=seed)

    codes = wide_codes(rng, 0, 0)
    for names, expected in ((("dense_4", "dense_5"), (0, 1)), (("dense_2", "dense_1"), (1, 0))):
        models = [two_heads("dense_1", "dense_2", 1), two_heads(*names, 2)]
        found = FastISM(models, engine="fast", scale="dense_1=log2:100").score_codes(codes).delta
        single = [FastISM(model, engine="fast").score_codes(codes) for model in models]
        deltas = [list(result.delta.values()) for result in single]
        second = np.mean([deltas[0][1], deltas[1][expected[1]]], axis=0)
        np.testing.assert_allclose(found["dense_2"], second, atol=1e-6)


@pytest.mark.one_in(48)
def test_each_model_is_verified(rng):
    models = [folded(1), folded(2)]
    scorer = FastISM(models, engine="fast", reduce="sum", rc=True)
    one_hot = random_one_hot(rng, 1, LENGTH)
    report, single = verify(scorer, one_hot), verify(FastISM(models[0], engine="fast", reduce="sum"), one_hot)
    assert report.passed and report.substitutions == 2 * single.substitutions
    engine = next(iter(scorer.batching.engines.values()))[0]
    params, _ = engine.arrays_of_weights(1)
    for arrays in params.values():
        for name in list(arrays):
            if name == "matrix":
                arrays[name] = arrays[name] * 1.01
    assert not verify(scorer, one_hot).passed


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (MODELS[:1], {"rc_pairs": "0:1"}, "give rc=True too"),
        (MODELS[:1], {"rc": True, "rc_pairs": "0:1"}, "the model has several heads"),
        (MODELS[:1], {"rc": True, "rc_pairs": "profile=0:2"}, "head 'profile' has 2 targets"),
        (MODELS[:1], {"rc": True, "rc_pairs": "other=0:1"}, "no head 'other'"),
        (MODELS[:1], {"rc": True, "rc_pairs": "profile=0:0"}, "each target once"),
        (MODELS[:1], {"rc": True, "rc_pairs": "profile=0-1"}, "rc_pairs must be pairs"),
        (MODELS[:1], {"shifts": "0,0"}, "shifts must be whole numbers, each once"),
        (MODELS[:1], {"shifts": (0.5,)}, "shifts must be whole numbers"),
        (MODELS[:1], {"shifts": ()}, "shifts must be whole numbers"),
        (MODELS[:1], {"average": "weights"}, "average must be one of scores, outputs"),
        (MODELS[:1], {"spread": True}, "deviation over several models"),
        (MODELS[:1], {"shifts": "0,1", "reduce": "none"}, "position i of a moved input is of another base"),
        (MODELS[:1], {"shifts": "0,1", "average": "outputs"}, r"Use average=\"scores\""),
        (MODELS[:1], {"rc": True, "alphabet": "ACGN"}, "have a reverse complement"),
        ([], {}, "There is no model"),
    ],
)
def test_what_cannot_be_meant_is_refused(models, options, message):
    with pytest.raises(UsageError, match=message):
        FastISM(models, **{"reduce": "sum", **options})


def test_models_that_take_or_give_something_else_are_refused():
    def other(length: int = LENGTH, units: int = 4, name: str = "signal") -> keras.Model:
        inp = keras.Input((length, 4), name="dna")
        x = layers.GlobalAveragePooling1D()(layers.Conv1D(3, 3)(inp))
        return keras.Model(inp, layers.Dense(units, name=name)(x), name="other")

    for model, message in (
        (other(length=40), r"other: its inputs are dna \(40, 4\), those of the first model dna \(32, 4\)"),
        (other(units=2), r"other: its heads are signal \(2,\), those of the first model signal \(4,\)"),
        (other(name="rate"), "other: its heads are rate, those of the first model signal"),
    ):
        with pytest.raises(UsageError, match=message):
            FastISM([other(), model])
