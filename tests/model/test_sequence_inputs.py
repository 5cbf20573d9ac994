"""Models in which several inputs, or one of integers, hold the sequence: against predictions, letter by letter."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from fastism_cli import FastISM
from fastism_cli.engine.verify import verify
from fastism_cli.errors import FastISMError, ModelError, SequenceError, UsageError
from fastism_cli.options.run_options import parse_codes, parse_tie
from fastism_cli.run.inspect_and_verify import verify_model
from tests.helpers.truth import errors_of, inputs_of
from tests.models.zoo import randomise

pytestmark = pytest.mark.one_in(2)

PROTEIN = "ACDEFGHIKLMNPQRSTVWY"


def two_strands(length: int = 40) -> keras.Model:
    """forward, reverse -> C -> F -> D each, averaged; features are added"""
    forward, reverse = keras.Input((length, 4), name="forward"), keras.Input((length, 4), name="reverse")
    features = keras.Input((2,), name="features")
    conv, dense = layers.Conv1D(5, 7, activation="relu"), layers.Dense(2)
    sides = [dense(layers.Flatten()(conv(x))) for x in (forward, reverse)]
    y = layers.Add(name="out")([layers.Average()(sides), features])
    return randomise(keras.Model([forward, reverse, features], y), seed=1)


def embedded(rows: int, *, dtype: str = "int32", length: int | None = 30) -> keras.Model:
    """ids -> Embedding -> C -> GMP -> D"""
    ids = keras.Input((length,), dtype=dtype, name="ids")
    x = layers.Conv1D(4, 5, activation="relu")(layers.Embedding(rows, 6)(ids))
    return randomise(keras.Model(ids, layers.Dense(2, name="out")(layers.GlobalMaxPooling1D()(x))), seed=2)


def one_hot_and_ids() -> keras.Model:
    """dna -> C;  ids -> Embedding -> C;  added -> F -> D"""
    dna, ids = keras.Input((30, 4), name="dna"), keras.Input((30,), name="ids")
    x = layers.Add()([layers.Conv1D(4, 5)(dna), layers.Conv1D(4, 5)(layers.Embedding(5, 3)(ids))])
    return randomise(keras.Model([dna, ids], layers.Dense(1)(layers.Flatten()(x))), seed=3)


def rows_of(codes: np.ndarray) -> np.ndarray:
    return np.eye(5, 4, dtype="float32")[codes]


def complement(codes: np.ndarray) -> np.ndarray:
    return np.array([3, 2, 1, 0, 4])[codes[:, ::-1]]


def assert_exact(engine, inputs, codes, predict):
    """All letters at both ends and in the middle: ``predict`` makes the model's own inputs from codes (n, L)."""
    (delta,) = engine(inputs).delta.values()
    reference = np.asarray(predict(codes))
    length, letters = delta.shape[-2:]
    for position in (0, 1, length // 2, length - 2, length - 1):
        known = codes[:, position] < letters
        for letter in range(letters):
            substituted = codes.copy()
            substituted[:, position] = letter
            wanted = np.asarray(predict(substituted)) - reference
            np.testing.assert_allclose(delta[known, :, position, letter], wanted[known], atol=2e-6)
        assert np.isnan(delta[~known, :, position]).all()


def random_codes(rng, n, length, letters=4):
    return rng.integers(0, letters, (n, length))


@pytest.mark.parametrize("rows, codes, is_told", [(16, None, False), (69, None, True), (69, "A=7,C=8,G=9,T=10", False)])
def test_an_embedding_of_more_than_letters_is_told(rows, codes, is_told, caplog):
    FastISM(embedded(rows), codes=codes)
    assert ("its Embedding knows 69 integers, of which ACGT are taken to be 0 to 3. If" in caplog.text) == is_told


# --- tied inputs ------------------------------------------------------------------------------------------------------


@pytest.mark.one_in(48)
@pytest.mark.parametrize("engine", ["fast", "naive"])
@pytest.mark.parametrize("tie", ["forward,reverse", "forward,reverse:rc", "forward:rc,reverse"])
def test_tied_inputs_change_together(rng, engine, tie):
    model, codes = two_strands(), random_codes(rng, 2, 40)
    codes[1, 20] = 4  # an N, in the middle of one
    features = rng.normal(size=(2, 2)).astype("float32")
    shown = {name.partition(":")[0]: complement if name.endswith(":rc") else lambda x: x for name in tie.split(",")}

    def predict(x):
        return model([rows_of(shown["forward"](x)), rows_of(shown["reverse"](x)), features])

    scorer = FastISM(model, tie=tie, engine=engine, batch_size=60)
    assert scorer.input_names == ["forward", "features"]
    assert_exact(scorer, {"forward": rows_of(codes), "features": features}, codes, predict)


def test_sequence_input_says_which_of_the_tied_is_given(rng):
    scorer = FastISM(two_strands(), tie="forward:rc,reverse", sequence_input="reverse")
    assert scorer.input_names == ["reverse", "features"] and scorer.sequence_index == 0


def test_tied_inputs_pass_verification(rng):
    report = verify(
        FastISM(two_strands(), tie="forward,reverse:rc"),
        rows_of(random_codes(rng, 2, 40)),
        {"features": np.ones((2, 2))},
    )
    assert report.passed and report.judge == "float64"


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_one_hot_and_integers_tied(rng, engine):
    model, codes = one_hot_and_ids(), random_codes(rng, 2, 30)
    codes[0, 15] = 4
    scorer = FastISM(model, tie="dna,ids:rc", engine=engine, batch_size=60)
    assert_exact(scorer, rows_of(codes), codes, lambda x: model([rows_of(x), complement(x).astype("float32")]))


# --- integers ---------------------------------------------------------------------------------------------------------


@pytest.mark.one_in(48)
@pytest.mark.parametrize("engine", ["fast", "naive"])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_integers_in_the_order_of_the_alphabet(rng, engine, dtype):
    model, codes = embedded(5, dtype=dtype), random_codes(rng, 2, 30)
    codes[0, 15] = 4
    scorer = FastISM(model, engine=engine, batch_size=60)
    for inputs in (codes, rows_of(codes)):
        assert_exact(scorer, inputs, codes, lambda x: model(x.astype(dtype)))


@pytest.mark.parametrize("engine", ["fast", "naive"])
def test_integers_of_the_users_own(rng, engine):
    model, codes = embedded(5), random_codes(rng, 2, 30)
    codes[0, 15] = 4
    own = np.array([1, 2, 3, 4, 0])
    scorer = FastISM(model, codes="A=1,C=2,G=3,T=4,N=0", engine=engine, batch_size=60)
    assert_exact(scorer, own[codes], codes, lambda x: model(own[x]))


def test_integers_stay_in_windows():
    plan = FastISM(embedded(5), engine="fast").prepared.plan
    assert [step.node.class_name for step in plan.steps if step.reason] == []


def test_scored_ns_of_integers(rng):
    model, codes = embedded(5), random_codes(rng, 1, 30)
    codes[0, 15] = 4
    delta = FastISM(model, n_policy="score", engine="fast")(codes).delta["out"]
    for letter in range(4):
        substituted = codes.copy()
        substituted[0, 15] = letter
        wanted = np.asarray(model(substituted)) - np.asarray(model(codes))
        np.testing.assert_allclose(delta[:, :, 15, letter], wanted, atol=2e-6)


def test_a_model_without_an_integer_for_n(rng):
    model, codes = embedded(4), random_codes(rng, 2, 30)
    scorer = FastISM(model, batch_size=60)
    assert_exact(scorer, codes, codes, lambda x: model(x))
    codes[0, 3] = 4
    with pytest.raises(SequenceError, match="holds 4, which is the code of no letter"):
        scorer(codes)
    with pytest.raises(SequenceError, match="holds an N, for which the model has no integer"):
        scorer(rows_of(codes))


def test_protein_of_variable_length(rng):
    model, codes = embedded(21, length=None), random_codes(rng, 1, 25, letters=20)
    scorer = FastISM(model, alphabet=PROTEIN, length=25)
    assert_exact(scorer, codes, codes, lambda x: model(x))


def test_integers_that_no_embedding_reads(rng):
    """ids -> one-hot -> C -> GMP: only when the input is named, and opaque where no rule is known."""
    ids = keras.Input((30,), dtype="int32", name="ids")
    x = layers.Conv1D(4, 5)(keras.ops.one_hot(ids, 5))
    model = randomise(keras.Model(ids, layers.GlobalMaxPooling1D()(x)), seed=4)
    codes = random_codes(rng, 1, 30)
    with pytest.raises(
        ModelError, match=r"No input of the model can hold a sequence.* name their input with sequence_input"
    ):
        FastISM(model)
    for engine in ("fast", "naive"):
        scorer = FastISM(model, sequence_input="ids", engine=engine, batch_size=30)
        assert_exact(scorer, codes, codes, lambda x: model(x))


def beside_signals(x):
    """letters and two signals, as in FactorNet"""
    y = keras.Input((40, 2), name="signals")
    return [x, y], layers.Concatenate()([x, y])


SHARED = {"signals": ((40, 6), beside_signals), "one row": ((160,), lambda x: (x, layers.Flatten()(x)))}


@pytest.mark.parametrize("name", SHARED)
def test_letters_that_share_an_input_are_told_how_to_be_given_their_own(name, rng):
    """Wrapped as the message says, the model is fast and exact."""
    shape, wrap = SHARED[name]
    shared = keras.Input(shape)
    x = layers.Reshape((40, -1))(shared)
    inner = keras.Model(shared, layers.Dense(2)(layers.GlobalMaxPooling1D()(layers.Conv1D(5, 7, activation="relu")(x))))
    with pytest.raises(ModelError, match=r"x = keras.Input\(\(length, 4\)\).*keras.Model\(.*model\(keras.layers.[CF]"):
        FastISM(inner)
    inputs, joined = wrap(keras.Input((40, 4), name="dna"))
    model = randomise(keras.Model(inputs, inner(joined)), seed=1)
    assert FastISM(model, engine="fast").prepared.plan.limit > 2
    errors = errors_of(model, inputs_of(model, rng))
    assert errors.fast <= errors.allowed


SCALED = {
    "rescaled": layers.Rescaling(0.25, offset=-0.5),
    "multiplied": lambda x: x * 0.5,
    "divided": lambda x: x / 4,
    "standardised": layers.Normalization(axis=None, mean=2.0, variance=1.5),
}


@pytest.mark.parametrize("name", SCALED)
def test_integers_that_are_scaled(name, rng):
    """ids -> scaled, beside their Embedding -> C -> GMP"""
    ids = keras.Input((30,), dtype="int32", name="ids")
    x = layers.Concatenate()([layers.Embedding(5, 2)(ids), ops.expand_dims(SCALED[name](ids), -1)])
    model = randomise(keras.Model(ids, layers.GlobalMaxPooling1D()(layers.Conv1D(4, 5)(x))), seed=4)
    codes = random_codes(rng, 1, 30)
    scorer = FastISM(model, sequence_input="ids", engine="fast", batch_size=30)
    assert_exact(scorer, codes, codes, lambda x: model(x))


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED = {
    "unnamed": ({}, ModelError, "2 inputs of the model can hold .* Choose one with sequence_input, or tie"),
    "unknown": ({"tie": "forward,backward"}, ModelError, "tie: the model has no input 'backward'"),
    "not a sequence": ({"tie": "forward,features"}, ModelError, r"'features' has shape \(2,\)|the same length"),
    "not tied": ({"tie": "forward,reverse", "sequence_input": "features"}, UsageError, "not one of those that tie"),
    "one-hot": ({"sequence_input": "forward", "codes": "A=1,C=2,G=3,T=4"}, UsageError, "'forward' is one-hot"),
    "length": (
        {"tie": "forward,reverse", "length": 50},
        UsageError,
        "length 50: the lengths of the model's inputs are fixed",
    ),
    "protein": ({"tie": "forward,reverse:rc", "alphabet": "ACDE"}, FastISMError, "have a reverse complement"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_the_model(case):
    options, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        FastISM(two_strands(), **options)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ("A=1,C=2,G=3,T=5", "its Embedding knows 5 integers, and the letters have up to 5"),
        ("A=1,C=2,G=3", "letter T of the alphabet ACGT has no integer"),
        ("A=1,C=2,G=3,T=4,X=0", "X is neither a letter of ACGT nor N"),
    ],
)
def test_integers_that_do_not_fit(codes, message):
    with pytest.raises((ModelError, UsageError), match=message):
        FastISM(embedded(5), codes=codes)


@pytest.mark.parametrize("text", ["A", "A=1,C", "A=x", "A=1,A=2", "A=1,C=1", ""])
def test_what_is_no_list_of_integers(text):
    with pytest.raises(UsageError, match="codes"):
        parse_codes(text)


@pytest.mark.parametrize("text", ["a", "a,a", "a,", "a,a:rc", ""])
def test_what_is_no_pair_of_names(text):
    with pytest.raises(UsageError, match="tie must be two names or more, each once"):
        parse_tie(text)


def looked_up(kind: str) -> keras.Model:
    """ids -> (cast or reshape) -> Embedding of 5 rows, or one_hot of 4 classes -> F -> D"""
    ids = keras.Input((30,), name="ids", dtype="int32")
    ways = {
        "cast": lambda x: layers.Embedding(5, 3)(ops.cast(x, "int64")),
        "reshaped": lambda x: layers.Reshape((30, 3))(layers.Embedding(5, 3)(layers.Reshape((6, 5))(x))),
        "one_hot": lambda x: ops.one_hot(ops.cast(x, "int64"), 4),
    }
    return randomise(keras.Model(ids, layers.Dense(1)(layers.Flatten()(ways[kind](ids)))), seed=4)


@pytest.mark.parametrize(
    ("kind", "codes", "message"),
    [
        ("cast", "A=1,C=2,G=3,T=5,N=0", r"Input 'ids': its Embedding knows 5 integers, and the letters have up to 5"),
        ("reshaped", "A=1,C=2,G=3,T=9,N=0", r"'ids': its Embedding knows 5 integers, and the letters have up to 9"),
        ("one_hot", "A=1,C=2,G=3,T=4", r"Input 'ids': its one_hot knows 4 integers, and the letters have up to 4"),
        ("cast", "A=0,C=1,G=2,T=3,N=5", r"codes: N is 5, and the Embedding of input 'ids' knows 5 integers, 0 to 4"),
    ],
)
def test_codes_that_the_model_does_not_know_are_refused_with_both_numbers(kind, codes, message):
    with pytest.raises(UsageError, match=message):
        FastISM(looked_up(kind), sequence_input="ids", codes=codes)


def test_one_hot_makes_an_n_of_what_it_does_not_know(rng):
    model, codes = looked_up("one_hot"), random_codes(rng, 2, 30)
    codes[0, 15] = 4
    scorer = FastISM(model, sequence_input="ids", codes="A=3,C=2,G=1,T=0,N=7", batch_size=60)
    own = np.array([3, 2, 1, 0, 7])
    assert_exact(scorer, own[codes], codes, lambda x: model(own[x]))


def test_verify_fills_other_inputs_with_what_they_can_hold(tmp_path):
    dna, cell = keras.Input((20, 4), name="dna"), keras.Input((1,), dtype="int32", name="cell")
    which, flag = layers.Flatten()(layers.Embedding(3, 4)(cell)), keras.Input((2,), dtype="bool", name="flag")
    x = [layers.Flatten()(layers.Conv1D(4, 5)(dna)), which, ops.cast(flag, "float32")]
    model = randomise(keras.Model([dna, cell, flag], layers.Dense(1)(layers.Concatenate()(x))), seed=5)
    assert {name: port[1:] for name, port in FastISM(model).other_inputs.items()} == {
        "cell": ("int32", 3),
        "flag": ("bool", None),
    }
    assert verify_model(model).passed
