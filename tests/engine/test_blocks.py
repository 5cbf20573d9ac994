"""Replaced blocks: against plain Keras in float64, content by content, and on every toy model."""

from itertools import cycle

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from fastism_cli import FastISM
from fastism_cli.engine.plan import Step
from fastism_cli.engine.planner import make_plan, period_of
from fastism_cli.engine.verify import verify
from fastism_cli.errors import SequenceError, UsageError, VerifyError
from fastism_cli.model import backend
from fastism_cli.model.precision import with_dtype
from fastism_cli.rules.conv import Conv
from fastism_cli.rules.frames import Blocks
from tests.helpers.sequences import random_one_hot
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo import FACTS, MODELS, ONE_EACH, randomise
from tests.models.zoo.blocks import conv, dna

pytestmark = pytest.mark.one_in(2)

LENGTH = 60
WIDTHS = (1, 2, 7, 50, 10**6)  # the last: the whole sequence
STEPS = (1, 3, 10**6)  # the last: the width
CONTENTS = ("N", "background:0.3,0.2,0.2,0.3", "letters", "shuffle", "reverse-complement", "array")
FREQUENCIES = np.array([0.3, 0.2, 0.2, 0.3], "float32")
MOST_BLOCKS = 14  # of a toy model that are scored: both ends and the middle


def pooled(length: int = LENGTH) -> keras.Model:
    """inp -> C -> MXP(3) -> C -> F -> D"""
    inp = dna(length)
    x = layers.MaxPooling1D(3)(conv(inp, 5, 7, activation="relu"))
    return randomise(keras.Model(inp, layers.Dense(2, name="y")(layers.Flatten()(conv(x, 4, 3)))), seed=4)


def predict(model: keras.Model, one_hot: np.ndarray) -> np.ndarray:
    """By plain Keras in float64."""
    return np.asarray(with_dtype(model, "float64")(np.asarray(one_hot, "float64")))


def replaced(one_hot: np.ndarray, start: int, rows: np.ndarray) -> np.ndarray:
    new = one_hot.copy()
    new[:, start : start + rows.shape[-2]] = rows
    return new


def assert_deltas(result, model, one_hot, changed) -> None:
    """``changed``: for each block and content, the sequences with it, one or more of which the mean counts."""
    reference = predict(model, one_hot)
    wanted = [[np.mean([predict(model, x) for x in xs], 0) - reference for xs in contents] for contents in changed]
    expected = np.moveaxis(np.array(wanted), (0, 1), (2, 3))  # (n, T, blocks, contents)
    # A delta is a difference of two predictions, and has their error, however small it is itself.
    largest = max(np.abs(expected).max(), np.abs(reference).max(), 1)
    np.testing.assert_allclose(result.delta["y"], expected, atol=1e-6 * largest, rtol=0)
    assert np.abs(expected).max() > 1e-2


@pytest.fixture
def one_hot(rng) -> np.ndarray:
    """Two sequences, the second with N in it."""
    return np.concatenate([random_one_hot(rng, 1, LENGTH), random_one_hot(rng, 1, LENGTH, n_fraction=0.2)])


# --- what is put into a block -----------------------------------------------------------------------------------------


@pytest.mark.one_in(36)
@pytest.mark.parametrize("engine", ["fast", "naive"])
@pytest.mark.parametrize(
    ("replace_with", "rows"),
    [
        ("N", [np.zeros((5, 4))]),
        (0, [np.zeros((5, 4))]),
        (0.5, [np.full((5, 4), 0.5)]),
        ("background", [np.full((5, 4), 0.25)]),
        ("background:0.3,0.2,0.2,0.3", [np.tile(FREQUENCIES, (5, 1))]),
        ("TGaNC", [np.eye(5, 4)[[3, 2, 0, 4, 1]]]),
        ([0, 1, 0, 0], [np.eye(4)[[1] * 5]]),
        (np.eye(4)[[0, 1, 2, 3, 0]], [np.eye(4)[[0, 1, 2, 3, 0]]]),
        (np.arange(40).reshape(2, 5, 4) / 20, list(np.arange(40).reshape(2, 5, 4) / 20)),
    ],
    ids=["N", "zero", "number", "quarters", "frequencies", "motif", "letter", "rows", "several"],
)
def test_fixed_contents(engine, replace_with, rows, one_hot):
    model = pooled()
    result = FastISM(model, engine=engine, batch_size=12, replace_with=replace_with, width=5, step=3)(one_hot)
    starts = range(0, LENGTH - 4, 3)
    assert_deltas(result, model, one_hot, [[[replaced(one_hot, s, np.float32(x))] for x in rows] for s in starts])


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_the_reverse_complement_of_a_block(engine, one_hot):
    model = pooled()
    result = FastISM(model, engine=engine, batch_size=12, replace_with="reverse-complement", width=6, step=4)(one_hot)
    turned = [replaced(one_hot, s, one_hot[:, s : s + 6][:, ::-1, ::-1]) for s in range(0, LENGTH - 5, 4)]
    assert_deltas(result, model, one_hot, [[[x]] for x in turned])


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_shuffles_of_a_block_are_averaged(engine, one_hot):
    model = pooled()
    scorer = FastISM(model, engine=engine, batch_size=12, replace_with="shuffle", width=7, step=6, samples=3, seed=5)
    changed = []
    for start in range(0, LENGTH - 6, 6):
        orders = [scorer.changes.sequences(x, start) for x in one_hot]  # one (samples, L, letters) for each sequence
        for row, samples in zip(one_hot, orders, strict=True):
            assert samples.shape == (3, LENGTH, 4)
            for shuffled in samples:
                block = slice(start, start + 7)
                assert sorted(map(tuple, shuffled[block])) == sorted(map(tuple, row[block]))
                np.testing.assert_array_equal(np.delete(shuffled, block, 0), np.delete(row, block, 0))
        changed.append([list(np.stack(orders, axis=1))])
    assert len({x.tobytes() for (xs,) in changed for x in xs}) == 3 * len(changed)
    assert_deltas(scorer(one_hot), model, one_hot, changed)


@pytest.mark.one_in(36)
def test_shuffles_depend_on_the_seed_and_on_the_place_of_the_block_alone(one_hot):
    options = {"engine": "fast", "replace_with": "shuffle", "width": 7, "samples": 3}
    whole = FastISM(pooled(), step=1, seed=1, batch_size=9, **options)(one_hot).delta["y"]
    few = FastISM(pooled(), step=5, seed=1, batch_size=90, **options)(one_hot[1:]).delta["y"]
    other = FastISM(pooled(), step=5, seed=2, **options)(one_hot[1:]).delta["y"]
    np.testing.assert_allclose(whole[1:, :, ::5], few, atol=4e-6)
    assert (np.abs(other - few) > 1e-4).mean() > 0.8


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_what_is_there_already_has_a_delta_of_exactly_zero(engine, one_hot):
    one_hot[:, 20:25] = np.eye(5, 4)[[3, 2, 0, 4, 1]]
    scorer = FastISM(pooled(), engine=engine, replace_with="TGANC", step=1)
    delta = scorer(one_hot).delta["y"]
    np.testing.assert_array_equal(np.unique(np.nonzero((delta == 0).all((0, 1, 3)))[0]), [20])
    same = np.repeat(np.eye(4)[[2]], LENGTH, 0)[None]
    for content in ("shuffle", [0, 0, 1, 0]):
        assert not FastISM(pooled(), engine=engine, replace_with=content, width=4)(same).delta["y"].any()


# --- which blocks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "step", "starts"),
    [(7, 3, range(0, 54, 3)), (7, None, range(0, 54, 7)), (60, 1, [0]), (50, 50, [0]), (1, 1, range(60))],
)
def test_blocks_lie_in_the_sequence_as_a_whole(width, step, starts):
    scorer = FastISM(pooled(), replace_with="N", width=width, step=step)
    assert scorer.block_ranges == tuple((start, start + width) for start in starts)


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_ranges_of_any_widths_in_any_order(engine, one_hot):
    model = pooled()
    ranges = [(50, 60), (0, 3), (11, 14), (0, 60), (50, 60), (57, 60), (12, 22), (29, 30)]
    scorer = FastISM(model, engine=engine, batch_size=2, replace_with=[0.1, 0.2, 0.3, 0.4], ranges=ranges)
    rows = np.float32([0.1, 0.2, 0.3, 0.4])
    changed = [[[replaced(one_hot, a, np.tile(rows, (b - a, 1)))]] for a, b in ranges]
    assert_deltas(scorer(one_hot), model, one_hot, changed)
    assert scorer.block_ranges == tuple(ranges)


@pytest.mark.one_in(36)
def test_chosen_blocks_in_their_order(one_hot):
    scorer = FastISM(pooled(), engine="fast", replace_with="N", width=5, step=2, batch_size=7)
    whole = scorer(one_hot).delta["y"]
    wanted = [54, 0, 20, 0, 8]
    np.testing.assert_allclose(scorer(one_hot, positions=wanted).delta["y"], whole[:, :, [27, 0, 10, 0, 4]], atol=4e-6)
    beside = scorer(one_hot, positions=[3, 9, 22]).delta["y"]
    alone = FastISM(pooled(), replace_with="N", ranges=[(3, 8), (9, 14), (22, 27)])(one_hot).delta["y"]
    np.testing.assert_allclose(beside, alone, atol=4e-6)


def test_blocks_of_a_window_begin_with_it(one_hot):
    scorer = FastISM(pooled(), engine="fast", replace_with="N", width=5, step=4)
    codes = np.where(one_hot.any(-1), one_hot.argmax(-1), 4).astype("uint8")
    window = range(11, 41)
    starts = [11, 15, 19, 23, 27, 31, 35]
    assert scorer.starts_in(window).tolist() == starts
    expected = scorer(one_hot, positions=starts).delta["y"]
    np.testing.assert_allclose(scorer.score_codes(codes, window=window).delta["y"], expected, atol=4e-6)
    batches = [(codes, {}), (codes[::-1], {}), (codes[:1], {})]
    streamed = [x.delta["y"] for x in scorer.score_stream(batches, window=window)]
    for found, wanted in zip(streamed, [expected, expected[::-1], expected[:1]], strict=True):
        np.testing.assert_allclose(found, wanted, atol=4e-6)


@pytest.mark.one_in(36)
def test_blocks_that_no_output_sees_are_not_computed(one_hot):
    inp = dna(LENGTH)
    x = layers.Flatten()(layers.Cropping1D((20, 20))(conv(inp, 4, 3)))
    model = randomise(keras.Model(inp, layers.Dense(2, name="y")(x)), seed=1)
    scorer = FastISM(model, engine="fast", replace_with="N", width=4, step=1, batch_size=6)
    delta = scorer(one_hot).delta["y"]
    changed = [[[replaced(one_hot, s, np.zeros((4, 4)))]] for s in range(LENGTH - 3)]
    assert_deltas(type("", (), {"delta": {"y": delta}}), model, one_hot, changed)
    assert not delta[:, :, :16].any() and not delta[:, :, 41:].any() and delta[:, :, 16:41].all()
    assert {call.start for _, calls in scorer.batching.engines.values() for call in calls} <= set(range(16, 41))


# --- where the sequence is held ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_tied_inputs_change_together(engine, one_hot):
    forward, reverse = keras.Input((LENGTH, 4), name="forward"), keras.Input((LENGTH, 4), name="reverse")
    sides = [layers.Flatten()(conv(forward, 5, 7)), layers.Flatten()(conv(reverse, 3, 5))]
    y = layers.Dense(2, name="y")(layers.Concatenate()(sides))
    model = randomise(keras.Model([forward, reverse], y), seed=1)
    scorer = FastISM(model, tie="forward,reverse:rc", engine=engine, batch_size=9, replace_with="TGAC", step=3)
    both = with_dtype(model, "float64")

    def predicted(x: np.ndarray) -> np.ndarray:
        return np.asarray(both([x.astype("float64"), x[:, ::-1, ::-1].astype("float64")]))

    motif = np.eye(4)[[3, 2, 0, 1]]
    expected = [predicted(replaced(one_hot, s, motif)) - predicted(one_hot) for s in range(0, LENGTH - 3, 3)]
    np.testing.assert_allclose(scorer(one_hot).delta["y"][..., 0], np.moveaxis(expected, 0, 2), atol=4e-6)


def embedded(rows: int) -> keras.Model:
    """ids -> Embedding -> C -> GMP -> D"""
    ids = keras.Input((LENGTH,), dtype="int32", name="ids")
    x = layers.Conv1D(4, 5, activation="relu")(layers.Embedding(rows, 6)(ids))
    return randomise(keras.Model(ids, layers.Dense(2, name="y")(layers.GlobalMaxPooling1D()(x))), seed=2)


@pytest.mark.parametrize("engine", ["fast", "naive"])
@pytest.mark.parametrize("content", ["TGACN", "N", "reverse-complement", "shuffle"])
def test_integers(engine, content, rng):
    model, ids = embedded(5), rng.integers(0, 5, (2, LENGTH))
    scorer = FastISM(model, engine=engine, batch_size=9, replace_with=content, width=5, step=4, samples=1)
    found, reference = scorer(ids).delta["y"][..., 0], np.asarray(model(ids))
    for i, start in enumerate(range(0, LENGTH - 4, 4)):
        rows = [scorer.changes.sequences(np.eye(5, 4)[row], start)[0] for row in ids]
        new = np.array([np.where(x.any(-1), x.argmax(-1), 4) for x in rows])
        if content == "TGACN":
            assert (new[:, start : start + 5] == [3, 2, 0, 1, 4]).all()
        np.testing.assert_allclose(found[:, :, i], np.asarray(model(new)) - reference, atol=4e-6)


def test_what_a_model_of_integers_cannot_read_is_refused():
    for content in ("background", 0.5, np.eye(4)[[0, 1]] / 2):
        with pytest.raises(UsageError, match="takes integers, and there is one for each letter alone"):
            FastISM(embedded(5), replace_with=content, ranges=[(0, 2)])
    with pytest.raises(UsageError, match=r"has no integer for N\. Name it with codes"):
        FastISM(embedded(4), replace_with="ANT")


# --- all models -------------------------------------------------------------------------------------------------------


def blocks_of(length: int, width: int, step: int) -> list[int]:
    """Where some blocks begin: at both ends and in the middle."""
    starts = list(range(0, length - width + 1, step))
    if len(starts) <= MOST_BLOCKS:
        return starts
    third, middle = MOST_BLOCKS // 3, len(starts) // 2
    return sorted({*starts[:third], *starts[middle : middle + third], *starts[-third:]})


def content_named(kind: str, width: int, rng: np.random.Generator):
    if kind == "letters":
        return "".join(rng.choice(list("ACGTN"), width)) if width > 1 else "G"
    return rng.normal(size=(2, width, 4)).astype("float32") if kind == "array" else kind


def assert_exact(name: str, width: int, step: int, kind: str, batch_size: int | str = "auto") -> None:
    model, sequence, rng = MODELS[name](), FACTS[name].sequence_input, np.random.default_rng(0)
    inputs = inputs_of(model, rng, sequence=sequence)
    length = next(x.shape[1] for n, x in inputs.items() if sequence in (None, n) and x.shape[2:] == (4,))
    width = min(width, length)
    step = min(step, width)
    errors = errors_of(
        model,
        inputs,
        sequence=sequence,
        positions=blocks_of(length, width, step),
        batch_size=batch_size,
        replace_with=content_named(kind, width, rng),
        width=width,
        step=step,
        samples=2,
    )
    assert errors.fast <= errors.allowed, (width, step, kind, errors)


# Each model with one width, step and content, all in turn.
TURNS = list(zip(ONE_EACH, cycle(WIDTHS), cycle(STEPS), cycle((*CONTENTS, "N")), strict=False))


@pytest.mark.one_in(64)
@pytest.mark.parametrize(("name", "width", "step", "kind"), TURNS)
def test_engine_equals_plain_keras(name, width, step, kind):
    assert_exact(name, width, step, kind)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ONE_EACH[::48])
def test_engine_equals_plain_keras_for_all_blocks(name, width, kind):
    for step in STEPS:
        assert_exact(name, width, step, kind)


@pytest.mark.one_in(36)
@pytest.mark.compiled
@pytest.mark.parametrize(
    ("name", "width", "step", "kind"),
    [
        ("conv_pools_dense-one", 7, 3, "N"),
        ("residual", 50, 1, "letters"),
        ("flatten_then-dropout", 10**6, 1, "shuffle"),
        ("bpnet-5_layers", 20, 5, "background:0.3,0.2,0.2,0.3"),
    ],
)
def test_compiled_engine_equals_plain_keras(name, width, step, kind):
    assert_exact(name, width, step, kind, batch_size=30)


DRAWN = ("conv_pools_dense-one", "residual", "norm_between-batch", "attention-dot", "beside_the_mirror_image-add")


@pytest.mark.one_in(36)
@settings(max_examples=15)
@given(
    name=st.sampled_from(DRAWN),
    width=st.integers(1, 70),
    step=st.integers(1, 70),
    kind=st.sampled_from(CONTENTS),
    batch_size=st.sampled_from(["auto", 5, 30]),
)
def test_drawn_blocks_equal_plain_keras(name, width, step, kind, batch_size):
    assert_exact(name, width, step, kind, batch_size)


# --- the check --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["N", "shuffle", np.arange(40).reshape(2, 5, 4) / 40])
def test_the_check_compares_blocks(content, one_hot, monkeypatch):
    scorer = FastISM(pooled(), engine="fast", replace_with=content, width=5, step=1, samples=3)
    report = verify(scorer, one_hot, per_sequence=6)
    assert report.passed and report.substitutions == 2 * 6 * (2 if isinstance(content, np.ndarray) else 1)
    assert report.heads[0].largest_delta > 0.01
    right = FastISM.score_codes

    def wrong(self, *args, **options):
        found = right(self, *args, **options)
        found.delta["y"][..., -1, :] *= 1.001
        return found

    monkeypatch.setattr(FastISM, "score_codes", wrong)
    with pytest.raises(VerifyError):
        verify(scorer, one_hot, per_sequence=6).require()


def test_the_check_compiles_nothing_that_the_run_does_not_use(one_hot):
    scorer = FastISM(pooled(), engine="fast", replace_with="N", width=5, step=3)
    verify(scorer, one_hot[:1], columns=range(10, 50))
    (made,) = scorer.batching.engines
    scorer.score_codes(np.zeros((3 * made[-1], LENGTH), "uint8"), window=range(10, 50))
    assert list(scorer.batching.engines) == [made]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replace_with": "N"}, "give the width of the blocks"),
        ({"replace_with": "N", "width": 61}, "A block must have from 1 to 60 positions"),
        ({"replace_with": "N", "width": 0}, "A block must have from 1 to 60 positions"),
        ({"replace_with": "N", "width": 5, "step": 0}, "step must be at least 1"),
        ({"replace_with": "TGACTCA", "width": 5}, "has a width of its own, 7. Received: width=5"),
        ({"replace_with": "N", "width": 5, "ranges": [(0, 5)]}, "Give ranges, or width and step: not both"),
        ({"replace_with": "N", "ranges": [(0, 5), (58, 61)]}, r"0 <= start < end <= 60. Received: \(58, 61\)"),
        ({"replace_with": "N", "ranges": []}, "There are none"),
        ({"replace_with": "N", "ranges": [3]}, "must be pairs of whole numbers"),
        ({"width": 5}, "width: of blocks, for which replace_with says what is put into them"),
        ({"replace_with": "mask", "width": 5}, "replace_with must be N, background"),
        ({"replace_with": "background:1,2", "width": 5}, "give 4 frequencies that add up to 1"),
        ({"replace_with": "absent.npy"}, "replace_with absent.npy cannot be read: No such file"),
        ({"replace_with": np.zeros((5, 3))}, r"an array must have shape \(4,\), \(width, 4\)"),
        ({"replace_with": np.full((5, 4), np.nan)}, "must hold finite numbers"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(UsageError, match=message):
        FastISM(pooled(), **options)


def test_only_dna_has_a_reverse_complement():
    model = keras.Sequential([keras.Input((9, 3)), layers.Flatten(), layers.Dense(1)])
    with pytest.raises(SequenceError, match="Only ACGT and ACGU have a reverse complement"):
        FastISM(model, alphabet="XYZ", replace_with="reverse-complement", width=2)


def test_positions_of_blocks_of_several_widths_are_refused(one_hot):
    scorer = FastISM(pooled(), replace_with="N", ranges=[(0, 5), (0, 6)])
    with pytest.raises(UsageError, match="several widths"):
        scorer(one_hot, positions=[0])
    with pytest.raises(UsageError, match="one width"):
        scorer.starts_in(range(0, 60))


def test_a_window_without_a_block_is_refused():
    scorer = FastISM(pooled(), replace_with="N", width=7)
    with pytest.raises(UsageError, match="No block of 7 positions lies in a window of 6"):
        scorer.starts_in(range(10, 16))


# --- integers ---------------------------------------------------------------------------------------------------------


def test_blocks_by_number():
    regular, others, one = Blocks.of([9, 3, 6, 3], 2), Blocks.of([9, 3, 4], 2), Blocks.of([5], 2)
    assert regular.starts == range(3, 10, 3) and regular.starts_from(1, 4) == (6, 9, 12, 15)
    assert others.starts == (3, 4, 9) and others.starts_from(1, 4) == (4, 9, 9, 9)
    assert one.starts == range(5, 6)
    for blocks in (regular, others):
        assert blocks.numbers_of(np.array(blocks.starts)).tolist() == [0, 1, 2]


def test_a_wider_first_window_is_all_that_a_block_changes():
    """Every frame of a block is as much wider as the block, in a plain convolution."""
    scorer = FastISM(pooled(), engine="fast", replace_with="N", width=6, step=1)
    graph, tensor = scorer.prepared.graph, scorer.prepared.input_tensor
    letter, block = (
        make_plan(graph, tensor, Blocks(width, range(9)), size=3, phase=0, period=3).states[tensor] for width in (1, 6)
    )
    assert (letter.frame.width, block.frame.width) == (1, 6)
    assert [period_of(graph, tensor, Blocks(6, range(0, 90, step))) for step in (1, 2, 3, 6)] == [3, 3, 1, 1]


def test_wide_blocks_of_letters_are_convolved_as_a_frame_and_nothing_else_is(monkeypatch):
    """The first layer of ``pooled`` has 7 taps and 4 letters: products are added up of up to 2 rows of it.

    The second reads 5 channels, as few, in windows that a frame would make wider.
    """

    def convolutions(model: keras.Model, **options: object) -> list[Step]:
        return [step for step in FastISM(model, **options).prepared.plan.steps if isinstance(step.rule, Conv)]

    def folds(steps: list[Step]) -> list[bool]:
        return [step.rule.folds(step.facts) for step in steps]

    model = pooled()
    by_width = {width: convolutions(model, replace_with="N", width=width) for width in (1, 2, 3, 20)}
    assert {width: folds(steps) for width, steps in by_width.items()} == {
        1: [True, True],
        2: [True, True],
        3: [False, True],
        20: [False, True],
    }
    inp = dna()
    assert folds(convolutions(keras.Model(inp, layers.GlobalMaxPooling1D()(conv(inp, 5, 3))))) == [True]
    monkeypatch.setattr(backend, "device_kind", lambda: "gpu")  # where no product is written
    assert folds(by_width[20]) == [True, True]
