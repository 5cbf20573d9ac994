"""Every reduction of a positional head against its formula in NumPy, through both engines."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from fastism_cli import FastISM
from fastism_cli.engine.verify import verify
from fastism_cli.errors import ModelError, OutputError, UsageError
from fastism_cli.model.heads import choose_heads, require_batch_axis
from fastism_cli.model.reductions import SIMPLE, Jsd, Select
from fastism_cli.options.choices import REDUCTIONS
from fastism_cli.options.run_options import parse_reduce
from fastism_cli.scores.labelled import check_memory
from tests.helpers.sequences import random_one_hot
from tests.helpers.truth import errors_of
from tests.models.zoo import randomise

LENGTH = 40


def profile_and_count() -> keras.Model:
    """inp -> C -> C -> profile (34, 3);  GAP(C) -> D -> count (2)"""
    inputs = keras.Input((LENGTH, 4), name="dna")
    x = layers.Conv1D(6, 5, padding="same", activation="relu")(inputs)
    profile = layers.Conv1D(3, 7, name="profile")(x)
    count = layers.Dense(2, name="count")(layers.GlobalAveragePooling1D()(x))
    return randomise(keras.Model(inputs, [profile, count]), seed=3)


def flat_profile() -> keras.Model:
    """inp -> C -> Flatten -> logits (36,), as chrombpnet has them"""
    inputs = keras.Input((LENGTH, 4), name="dna")
    x = layers.Conv1D(4, 3, padding="same", activation="relu")(inputs)
    return randomise(keras.Model(inputs, layers.Flatten(name="logits")(layers.Conv1D(1, 5)(x))), seed=4)


def after_lstm() -> keras.Model:
    """inp -> C -> LSTM -> profile (40, 2): every position changes"""
    inputs = keras.Input((LENGTH, 4), name="dna")
    x = layers.LSTM(3, return_sequences=True)(layers.Conv1D(4, 5, padding="same")(inputs))
    return randomise(keras.Model(inputs, layers.Dense(2, name="profile")(x)), seed=5)


def two_axes() -> keras.Model:
    """inp -> C -> Reshape -> map (40, 3, 2)"""
    inputs = keras.Input((LENGTH, 4), name="dna")
    x = layers.Conv1D(6, 5, padding="same")(inputs)
    return randomise(keras.Model(inputs, layers.Reshape((LENGTH, 3, 2), name="map")(x)), seed=6)


# --- the formulas, in float64, on axis 1 of (n, positions, T, ...) ----------------------------------------------------


def softmax(y):
    powers = np.exp(y - y.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def middle(y, width):
    first = (y.shape[1] - width) // 2
    return y[:, first : first + width]


def weighted(y):
    centred = y - y.mean(axis=1, keepdims=True)
    return (softmax(centred) * centred).sum(axis=1)


def jensen_shannon(p, q):
    m = (p + q) / 2
    return ((p * np.log(p / m) + q * np.log(q / m)) / 2).sum(axis=1)


FORMULAS = {
    "sum": lambda y, r: y.sum(axis=1),
    "mean": lambda y, r: y.mean(axis=1),
    "max": lambda y, r: y.max(axis=1),
    "center:11": lambda y, r: middle(y, 11).sum(axis=1),
    "center:6": lambda y, r: middle(y, 6).sum(axis=1),
    "logsumexp": lambda y, r: np.log(np.exp(y).sum(axis=1)),
    "profile": lambda y, r: weighted(y),
    "l2": lambda y, r: np.sqrt(((y - r) ** 2).sum(axis=1)),
    "jsd": lambda y, r: jensen_shannon(softmax(r), softmax(y)),
}


def expected(model, one_hot, head, kind):
    """Reference (n, T) and delta (n, T, L, 4), from the whole head in float64."""
    whole = FastISM(model, reduce="none", engine="naive", precision="float64")(one_hot)
    reference = whole.reference[head].astype("float64")[..., None, None]
    substituted = whole.delta[head].astype("float64") + reference
    if substituted.ndim == 4:  # a flat head: its only axis is reduced, T is 1
        reference, substituted = reference[:, :, None], substituted[:, :, None]
    formula = FORMULAS[kind]
    before = formula(reference, reference)
    return before[..., 0, 0], formula(substituted, reference) - before


def test_every_reduction_has_a_formula():
    assert {kind.partition(":")[0] for kind in FORMULAS} == {*SIMPLE, "center"}


@pytest.mark.one_in(36)
@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_all_reductions_at_once_are_those_of_numpy(rng, engine):
    model, one_hot = profile_and_count(), random_one_hot(rng, 2, LENGTH)
    result = FastISM(model, reduce={"profile": [*FORMULAS]}, engine=engine)(one_hot)
    assert list(result.delta) == [*(f"profile.{kind}" for kind in FORMULAS), "count"]
    for kind in FORMULAS:
        reference, delta = expected(model, one_hot, "profile", kind)
        scale = np.abs(reference).max() + np.abs(delta).max()
        np.testing.assert_allclose(result.reference[f"profile.{kind}"], reference, atol=1e-6 * scale)
        np.testing.assert_allclose(result.delta[f"profile.{kind}"], delta, atol=1e-6 * scale)


@pytest.mark.one_in(48)
@pytest.mark.parametrize("kind", FORMULAS)
def test_the_error_is_that_of_plain_keras(rng, kind):
    model, one_hot = profile_and_count(), random_one_hot(rng, 2, LENGTH, n_fraction=0.05)
    errors = errors_of(model, {"dna": one_hot}, reduce={"profile": kind})
    assert errors.fast <= errors.allowed, errors


@pytest.mark.one_in(48)
@pytest.mark.parametrize("engine", ["fast", "naive"])
@pytest.mark.parametrize("build", [flat_profile, pytest.param(after_lstm, marks=pytest.mark.compiled)])
def test_flat_heads_and_heads_that_change_everywhere(rng, build, engine):
    model, one_hot = build(), random_one_hot(rng, 1, LENGTH)
    head = model.output_names[0]
    result = FastISM(model, reduce={head: list(FORMULAS)}, engine=engine)(one_hot)
    for kind in FORMULAS:
        reference, delta = expected(model, one_hot, head, kind)
        scale = np.abs(reference).max() + np.abs(delta).max()
        assert result.delta[f"{head}.{kind}"].shape == delta.shape
        np.testing.assert_allclose(result.delta[f"{head}.{kind}"], delta, atol=1e-6 * max(scale, 1))


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_all_axes_but_the_last_are_positions(rng, engine):
    model, one_hot = two_axes(), random_one_hot(rng, 1, LENGTH)
    whole = FastISM(model, reduce="none", engine="naive")(one_hot).delta["map"]
    result = FastISM(model, reduce=["sum", "l2", "center:1"], engine=engine)(one_hot).delta
    np.testing.assert_allclose(result["map.sum"], whole.sum(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(result["map.l2"], np.sqrt((whole**2).sum(axis=(1, 2))), atol=1e-5)
    np.testing.assert_allclose(result["map.center:1"], whole[:, 19, 1], atol=1e-5)


@pytest.mark.parametrize("kind", ["sum", "mean"])
def test_a_convolution_is_reduced_and_kept_whole(rng, kind):
    inputs = keras.Input((LENGTH, 4), name="dna")
    model = keras.Model(inputs, layers.Conv1D(2, 5, name="y")(inputs))
    found = FastISM(model, reduce=[kind, "none"], engine="fast")(random_one_hot(rng, 1, LENGTH)).delta
    wanted = getattr(found["y.none"], kind)(axis=1)
    np.testing.assert_allclose(found[f"y.{kind}"], wanted, atol=1e-6)


def test_a_convolution_that_is_two_heads_is_reduced_in_one(rng):
    inputs = keras.Input((LENGTH, 4), name="dna")
    y = layers.Conv1D(2, 5)(inputs)
    scorer = FastISM(keras.Model(inputs, {"a": y, "b": y}), reduce={"a": "sum", "b": "none"}, engine="fast")
    found = scorer(random_one_hot(rng, 1, LENGTH)).delta
    np.testing.assert_allclose(found["a"], found["b"].sum(axis=1), atol=1e-6)


def test_divergence_of_profiles_that_hardly_differ():
    """The definition in float32 is off by more than the result; the formula that is used is not."""
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(1, 1000, 1))
    other = logits + 1e-4 * rng.normal(size=logits.shape)
    exact = jensen_shannon(softmax(logits), softmax(other))
    p, q = (softmax(x).astype("float32") for x in (logits, other))
    found = np.asarray(Jsd()(other.astype("float32"), logits.astype("float32")))
    assert abs(found / exact - 1).max() < 0.01 < abs(jensen_shannon(p, q) / exact - 1).max()


def test_divergence_of_profiles_that_share_nothing():
    logits = np.zeros((1, 10, 1), "float32")
    logits[0, 0] = 300
    np.testing.assert_allclose(np.asarray(Jsd()(logits[:, ::-1], logits)), np.log(2), rtol=1e-5)


def test_what_needs_the_window_alone_is_fast():
    kinds = ["sum", "mean", "max", "center:5", "l2", "logsumexp", "jsd", "profile"]
    plan = FastISM(profile_and_count(), reduce={"profile": kinds}).prepared.plan
    opaque = {step.node.name: step.reason for step in plan.steps if step.reason}
    assert set(opaque) == {"profile:logsumexp", "profile:jsd", "profile:profile"}
    assert all("in full, on the device" in reason for reason in opaque.values())


def test_one_reduction_keeps_the_name_of_the_head(rng):
    result = FastISM(profile_and_count(), reduce="l2")(random_one_hot(rng, 1, LENGTH))
    assert list(result.delta) == ["profile", "count"]
    assert (result.reference["profile"] == 0).all() and result.delta["profile"].min() == 0


def test_targets_are_chosen_on_the_device(rng):
    model, one_hot = profile_and_count(), random_one_hot(rng, 1, LENGTH)
    whole = FastISM(model, reduce=["sum", "jsd"])(one_hot)
    for engine in ("fast", "naive"):
        chosen = FastISM(model, reduce=["sum", "jsd"], targets={"profile": (2, 0)}, engine=engine)
        assert any(isinstance(node.layer, Select) for node in chosen.prepared.graph.nodes)
        assert not any(node.name in ("count", "global_average_pooling1d") for node in chosen.prepared.graph.nodes)
        result = chosen(one_hot)
        assert list(result.delta) == ["profile.sum", "profile.jsd"]
        for name, delta in result.delta.items():
            assert delta.shape == (1, 2, LENGTH, 4)
            np.testing.assert_allclose(delta, whole.delta[name][:, [2, 0]], atol=1e-5)


@pytest.mark.one_in(24)
def test_reductions_pass_verification(rng):
    report = verify(FastISM(profile_and_count(), reduce={"profile": list(FORMULAS)}), random_one_hot(rng, 1, LENGTH))
    assert report.passed and report.judge == "float64" and len(report.heads) == len(FORMULAS) + 1


def test_reductions_of_a_head_that_the_sequence_does_not_reach(rng):
    sequence, other = keras.Input((20, 4), name="dna"), keras.Input((6, 2), name="other")
    blind = layers.Conv1D(2, 3, name="blind")(other)
    model = keras.Model([sequence, other], [blind, layers.Dense(1)(layers.Flatten()(sequence))])
    one_hot, rest = random_one_hot(rng, 1, 20), np.ones((1, 6, 2), "float32")
    result = FastISM(model, reduce=["max", "jsd", "profile"], engine="fast")({"dna": one_hot, "other": rest})
    assert all((result.delta[f"blind.{kind}"] == 0).all() for kind in ("max", "jsd", "profile"))


# --- options ----------------------------------------------------------------------------------------------------------


def test_lists_of_reductions():
    assert parse_reduce(["a=sum,jsd", "a=max", "center:7"]) == {"a": ("sum", "jsd", "max"), None: ("center:7",)}


@pytest.mark.parametrize("kind", ["median", "center", "center:0", "center:x", "sum:3", "", "center:W"])
def test_what_is_no_reduction(kind):
    with pytest.raises(UsageError, match=r"not known. Choose one of: none, sum, .*center:W"):
        parse_reduce([f"a={kind}"])


def test_a_center_wider_than_the_head():
    with pytest.raises(UsageError, match=r"reduce p=center:9: the head has 8 positions, shape \(8, 2\)"):
        choose_heads({"p": (8, 2)}, "center:9", None, substitutions=4)


def test_named_heads_come_before_the_rest():
    heads = choose_heads({"p": (8, 2), "q": (9, 1), "n": (3,)}, {None: "sum", "q": "l2,max"}, None, substitutions=4)
    assert [(head.name, head.reduce, head.shape) for head in heads] == [
        ("p", "sum", (2,)),
        ("q.l2", "l2", (1,)),
        ("q.max", "max", (1,)),
        ("n", "none", (3,)),
    ]


def test_every_reduction_is_in_the_documentation():
    page = (Path(__file__).parents[2] / "docs" / "heads.md").read_text()
    assert [kind for kind in REDUCTIONS if f"| `{kind}` |" not in page] == []


def test_a_head_kept_whole_needs_memory():
    check_memory(1000, 1000)
    check_memory(1000, None)
    with pytest.raises(OutputError, match=r"take 3.4 TB in memory; this machine has 64 GB. Reduce heads"):
        check_memory(3_400_000_000_000, 64_000_000_000)


def test_every_reduction_that_may_be_asked_for_is_there():
    assert set(REDUCTIONS) == {"none", "center:W", *SIMPLE}


@pytest.mark.parametrize(
    "head, shape",
    [
        (lambda x: keras.ops.sum(x), r"\(\)"),
        (lambda x: keras.ops.mean(x, axis=0), r"\(40, 4\)"),
        (lambda x: keras.ops.transpose(x), r"\(4, 40, None\)"),
    ],
)
def test_a_head_of_a_whole_batch_is_refused(head, shape):
    inputs = keras.Input((LENGTH, 4), name="dna")
    flat, mixed = layers.Flatten(name="flat")(inputs), layers.Identity(name="mixed")(head(inputs))
    with pytest.raises(ModelError, match=f"Output 'mixed' has shape {shape}, .*: it mixes the sequences of a batch"):
        require_batch_axis(keras.Model(inputs, [flat, mixed]))
    require_batch_axis(keras.Model(inputs, [flat, inputs[:, 0, 0]]))
    fixed = keras.Input(batch_shape=(8, LENGTH, 4))
    require_batch_axis(keras.Model(fixed, layers.Flatten()(fixed)))


def test_a_head_of_one_number_is_refused_by_the_library():
    inputs = keras.Input((LENGTH, 4), name="dna")
    with pytest.raises(ModelError, match=r"Output 'sum.*' has shape \(\), .*: it mixes the sequences"):
        FastISM(keras.Model(inputs, keras.ops.sum(inputs)))
