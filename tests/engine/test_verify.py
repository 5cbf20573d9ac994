"""The check of the engine: it passes what is right, and nothing else."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastism_cli.cli.verify import text
from fastism_cli.engine.fastism import FastISM
from fastism_cli.engine.judge import largest, largest_error, sample_positions
from fastism_cli.engine.verify import engine_error, verify
from fastism_cli.errors import ModelError, UsageError, VerifyError
from fastism_cli.model.precision import GraphInFloat64
from fastism_cli.options.run_options import RunOptions
from fastism_cli.run.inspect_and_verify import inspect_model, verify_model
from tests.helpers.small_run import LENGTH, logarithm, pair, plain, variable

# A tensor of bfloat16 becomes an array by numpy.array(tensor), which numpy 2 warns of.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.one_in(2),
]


@pytest.fixture(scope="module")
def scorer() -> FastISM:
    return FastISM(plain())


@pytest.fixture
def one_hot(rng) -> np.ndarray:
    """Two sequences; the first has an N at its second position and at its last."""
    rows = np.eye(4, dtype="float32")[rng.integers(0, 4, (2, LENGTH))]
    rows[0, [1, LENGTH - 1]] = 0
    return rows


def wrong(change):
    """FastISM's call with its deltas changed."""
    right = FastISM.score_codes

    def call(self, codes, others=None, **wanted):
        result = right(self, codes, others, **wanted)
        return replace(result, delta={name: change(x.copy()) for name, x in result.delta.items()})

    return call


def test_a_right_engine_passes(scorer, one_hot):
    report = verify(scorer, one_hot)
    (head,) = report.heads
    assert report.passed and (report.judge, report.note, report.engine) == ("float64", "", "fast")
    assert (report.sequences, report.substitutions) == (2, 2 * 8 * 3)
    assert head.name == "out" and 0 < head.fast_error < 1e-6 < head.tolerance
    assert 0 < head.naive_error < 1e-6 < head.largest_delta < head.largest_value
    assert report.line.startswith("check ok: 48 substitutions against plain Keras in float64: largest error ")
    report.require()


def test_positions_that_hold_an_n_are_left_out(scorer, one_hot):
    assert verify(scorer, one_hot[:1], positions=[0, 1, 2, LENGTH - 1]).substitutions == 2 * 3
    assert verify(scorer, one_hot[:1] * 0).substitutions == 0


def test_fewer_substitutions_of_a_costly_model_are_compared(scorer, one_hot):
    each = scorer.prepared.plan.full_multiply_adds
    counts = [verify(scorer, one_hot[1:], multiply_adds=n * each).substitutions for n in (0, 10, 1000)]
    assert counts == [4, 10, 8 * 3]


@pytest.mark.parametrize("multiply_adds", [None, 1.0])
@pytest.mark.parametrize("position", [0, -1])
def test_an_error_at_an_end_alone_is_found(scorer, one_hot, monkeypatch, position, multiply_adds):
    def change(delta):
        delta[..., position, :] += 1e-4 * np.abs(delta).max()
        return delta

    monkeypatch.setattr(FastISM, "score_codes", wrong(change))
    report = verify(scorer, one_hot[1:], multiply_adds=multiply_adds)
    assert not report.passed
    with pytest.raises(VerifyError, match=r"the fast engine disagrees with plain Keras in float64:\n  head 'out': off"):
        report.require()


def test_a_nan_that_plain_keras_does_not_have_is_found(scorer, one_hot, monkeypatch):
    monkeypatch.setattr(FastISM, "score_codes", wrong(lambda delta: delta * np.nan))
    (head,) = verify(scorer, one_hot[1:]).heads
    assert head.fast_error == np.inf and not head.passed


@pytest.mark.filterwarnings("ignore:invalid value encountered in log:RuntimeWarning")
def test_a_nan_that_plain_keras_has_too_is_no_error(one_hot):
    report = verify(FastISM(logarithm()), one_hot[1:])
    assert report.passed and report.substitutions == 24 == report.heads[0].not_finite
    said = "head 'out': NaN or infinity in plain Keras for 24 deltas"
    assert report.line.endswith(f"; {said}") and text(report)[-1] == said


@pytest.mark.parametrize(
    "value, words",
    [
        (0.0, ["head 'out': every delta of the check is 0. Does it depend on the sequence?"]),
        (
            np.nan,
            [
                "head 'out': no delta of the check is a number other than 0",
                "NaN or infinity in weights of the model: out/kernel. Was it saved after its training failed?",
            ],
        ),
    ],
)
def test_a_check_that_no_delta_can_fail_is_told(value, words, caplog):
    model = plain()
    kernel, bias = model.get_layer("out").get_weights()
    model.get_layer("out").set_weights([np.full_like(kernel, value), bias])
    assert verify_model(model, sequences=1, positions=3).passed
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == words


def test_an_infinity_of_plain_keras_alone_lets_no_other_error_pass():
    inf, nan = np.inf, np.nan
    naive, exact = np.array([1.0, inf, nan, 3.0]), np.array([1.0, 2.0, nan, 3.0])
    assert engine_error(np.array([1.0, inf, nan, 3.5]), naive, exact) == 0.5
    assert engine_error(np.array([1.0, 2.5, nan, 3.0]), naive, exact) == 0.5
    assert engine_error(np.array([1.0, 2.0, nan, nan]), naive, exact) == inf
    assert engine_error(np.array([1.0, 2.0, 5.0, 3.0]), naive, exact) == inf
    assert engine_error(np.array([1.0]), np.array([1.0]), np.array([nan])) == 0


def test_an_error_is_found_beside_an_overflow(one_hot, monkeypatch):
    """inp -> F -> D (large weights at the first base) -> exp: one letter is infinite in float32, not in float64"""
    inputs = keras.Input((LENGTH, 4), name="dna")
    dense = keras.layers.Dense(1, activation="exponential")
    model = keras.Model(inputs, dense(keras.layers.Flatten()(inputs)))
    kernel = np.linspace(-0.01, 0.01, 4 * LENGTH).reshape(LENGTH, 4)
    kernel[0] = 80
    kernel[0, (one_hot[1, 0].argmax() + 1) % 4] = 95
    dense.set_weights([kernel.reshape(-1, 1), np.zeros(1)])
    scorer = FastISM(model)
    report = verify(scorer, one_hot[1:])
    assert report.passed and report.heads[0].not_finite > 0 and report.heads[0].tolerance < np.inf
    monkeypatch.setattr(FastISM, "score_codes", wrong(lambda delta: 3 * delta))
    assert not verify(scorer, one_hot[1:]).passed


def test_a_tolerance_of_ones_own(scorer, one_hot):
    assert not verify(scorer, one_hot, tolerance=0.0).passed
    assert verify(scorer, one_hot, tolerance=1e-3).heads[0].tolerance == 1e-3


def test_several_heads_and_inputs(one_hot, rng):
    scorer = FastISM(pair(), reduce={"profile": "none"})
    report = verify(scorer, one_hot, {"features": rng.normal(size=(2, 2))})
    assert report.passed and [head.name for head in report.heads] == ["profile", "count"]
    with pytest.raises(UsageError, match=r"an input beside the sequence: 'features' \(2,\)"):
        verify(scorer, one_hot)


@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_other_precisions(one_hot, precision):
    report = verify(FastISM(plain(), precision=precision), one_hot)
    assert report.passed and report.judge == "float64"


class Gate(keras.layers.Layer):
    """Multiplies what it gets by a layer of its own, which is not told a type: people write it so."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = keras.layers.Dense(5, activation="sigmoid")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return x * self.dense(x)


def test_layers_inside_of_layers_become_float64(one_hot):
    inputs = keras.Input((LENGTH, 4))
    x = keras.layers.Flatten()(Gate()(keras.layers.Conv1D(5, 3)(inputs)))
    report = verify(keras.Model(inputs, keras.layers.Dense(1)(x)), one_hot)
    assert report.passed and report.judge == "float64"
    assert keras.config.dtype_policy().name == "float32"


class OfFloat32(keras.layers.Layer):
    """As code of others says: a type by its name, in a constant, a cast, a loop."""

    def call(self, x):
        import tensorflow as tf

        scale = tf.constant(1.702, tf.float32)
        steps = tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y + 0.1 * tf.tanh(y)), [tf.constant(0), x])
        return tf.cast(steps[1], tf.float32) * tf.nn.sigmoid(scale * x)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="code of TensorFlow")
@pytest.mark.parametrize("off", [1.0, 1.001])
def test_code_that_names_float32_is_judged_by_its_graph_in_float64(off, one_hot, monkeypatch):
    inputs = keras.Input((LENGTH, 4))
    x = keras.layers.Flatten()(OfFloat32()(keras.layers.Conv1D(5, 3)(inputs)))
    model = keras.Model(inputs, [keras.layers.Dense(1, name=name)(x) for name in "ab"])
    if off != 1:
        monkeypatch.setattr(FastISM, "score_codes", wrong(lambda delta: delta * np.float32(off)))
    report = verify(model, one_hot)
    assert report.judge == "float64" and not report.note
    assert all(0 < head.naive_error < 1e-6 for head in report.heads)
    assert report.passed == (off == 1.0)


def refuse(*model_and_type):
    raise ModelError("Model 'm' cannot be computed in float64: no config\nand more")


def test_a_model_without_float64_is_judged_by_itself(scorer, one_hot, monkeypatch):
    monkeypatch.setattr("fastism_cli.engine.judge.with_dtype", refuse)
    monkeypatch.setattr(GraphInFloat64, "__init__", refuse)
    report = verify(scorer, one_hot)
    assert report.passed and report.judge == "float32" and report.heads[0].naive_error == 0
    assert report.note == "Model 'm' cannot be computed in float64: no config"
    monkeypatch.setattr(FastISM, "score_codes", wrong(lambda delta: delta * np.float32(1.001)))
    assert not verify(scorer, one_hot).passed


def test_a_float64_that_is_another_model_is_not_believed(scorer, one_hot, monkeypatch):
    monkeypatch.setattr("fastism_cli.engine.judge.with_dtype", lambda model, dtype: plain())
    monkeypatch.setattr(GraphInFloat64, "__init__", refuse)
    report = verify(scorer, one_hot)
    assert report.passed and report.note == "rebuilt in float64, the model predicts something else"


def test_a_check_compiles_what_the_run_needs_and_nothing_else(one_hot):
    scorer = FastISM(plain())
    columns = range(5, 25)
    verify(scorer, one_hot[:1], columns=columns)
    engines = list(scorer.batching.engines)
    scorer(np.repeat(one_hot[1:], 3 * engines[0][-1], axis=0), positions=columns)
    assert len(engines) == 1 and list(scorer.batching.engines) == engines


@given(st.integers(1, 80), st.integers(3, 20), st.data())
def test_sampled_positions(length, count, data):
    codes = np.array(data.draw(st.lists(st.integers(0, 4), min_size=length, max_size=length)))
    columns = range(data.draw(st.integers(0, length - 1)), length)
    known = [position for position in columns if codes[position] < 4]
    positions = sample_positions(codes, columns, letters=4, count=count)
    assert len(positions) == min(count, len(known)) and positions == sorted(set(positions))
    assert set(positions) <= set(known)
    assert not known or (positions[0], positions[-1]) == (known[0], known[-1])


def test_largest_errors():
    nan, inf = np.nan, np.inf
    assert largest_error(np.array([1.0, nan]), np.array([1.5, inf])) == 0.5
    assert largest_error(np.array([nan]), np.array([1.0])) == inf
    assert largest_error(np.empty(0), np.empty(0)) == 0
    assert largest(np.array([-2.0, nan, inf])) == 2


# --- the two companions ----------------------------------------------------------------------------------------------


def test_random_sequences_have_some_n_but_known_ends():
    report = verify_model(pair(), RunOptions(reduce=["sum"]), sequences=1, positions=12)
    assert report.passed and (report.sequences, report.substitutions) == (1, 36)


def test_half_of_the_regions_is_refused():
    with pytest.raises(UsageError, match="bed needs fasta"):
        verify_model(plain(), bed="peaks.bed")


def test_inspection_counts_the_work():
    found = inspect_model(plain())
    conv = next(node for node in found.nodes if node.class_name == "Conv1D")
    assert (conv.state, conv.width, conv.length) == ("fast", 6, LENGTH)  # five, in the frame that the pooling reads
    assert (conv.multiply_adds, conv.full_multiply_adds) == (5 * 4 * 6, LENGTH * 5 * 4 * 6)
    assert found.full_multiply_adds == LENGTH * 5 * 4 * 6 + 20 * 6 * 3
    assert found.limit == found.full_multiply_adds / found.multiply_adds
    assert found.inputs == {"dna": (LENGTH, 4)} and found.heads == {"out": (3,)}


def test_inspection_tells_what_is_not_changed_and_sums_positional_heads():
    found = inspect_model(pair())
    assert found.reduce == {"profile": "sum"} and found.heads == {"profile": (LENGTH, 2), "count": (1,)}
    assert [node.reason for node in found.nodes if node.state == "opaque"] == []


def test_inspection_of_an_unknown_layer_says_why():
    import keras

    inp = keras.Input((LENGTH, 4))
    x = keras.layers.GroupNormalization(groups=3)(keras.layers.Conv1D(3, 3)(inp))
    (norm,) = [n for n in inspect_model(keras.Model(inp, keras.layers.GRU(1)(x))).nodes if n.state == "opaque"]
    assert norm.class_name == "GroupNormalization" and "the mean over all positions" in (norm.reason or "")


def test_a_variable_length_needs_the_option():
    with pytest.raises(ModelError, match="length"):
        inspect_model(variable())
    assert inspect_model(variable(), RunOptions(length=30)).inputs == {"dna": (30, 4)}
