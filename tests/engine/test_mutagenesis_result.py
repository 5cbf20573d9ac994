"""A result in memory: text in, importance, frames and pictures out, and what it says of itself."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from fastism_cli import FastISM
from fastism_cli.errors import SequenceError, UsageError
from tests.helpers.sequences import random_one_hot
from tests.models.zoo import randomise

LENGTH = 24
TEXT = "ACGTNACGTTGCAACGTTGCATGC"


def two_heads() -> keras.Model:
    """inp -> C -> F -> D(2), D(1)"""
    inputs = keras.Input((LENGTH, 4), name="dna")
    x = layers.Flatten()(layers.Conv1D(5, 4, activation="relu")(inputs))
    outputs = [layers.Dense(2, name="marks")(x), layers.Dense(1, name="count")(x)]
    return randomise(keras.Model(inputs, outputs, name="small"), seed=4)


@pytest.fixture(scope="module")
def engine():
    return FastISM(two_heads())


def one_hot_of(text: str) -> np.ndarray:
    return np.array([[letter == base for base in "ACGT"] for letter in text], np.float32)


def test_a_sequence_may_be_text_or_come_alone(engine):
    expected = engine(one_hot_of(TEXT)[None])
    for given in (TEXT, TEXT.lower(), [TEXT], np.array([TEXT]), one_hot_of(TEXT), {"dna": TEXT}):
        found = engine(given)
        for head in engine(TEXT).heads:
            np.testing.assert_array_equal(found.delta[head], expected.delta[head])
            np.testing.assert_array_equal(found.reference[head], expected.reference[head])
    several = engine([TEXT, TEXT[::-1]])
    np.testing.assert_allclose(several.delta["marks"][1], engine(TEXT[::-1]).delta["marks"][0], atol=1e-6)


def test_text_stands_beside_other_inputs():
    sequence, features = keras.Input((LENGTH, 4), name="dna"), keras.Input((3,), name="features")
    x = layers.Concatenate()([layers.Flatten()(sequence), features])
    engine = FastISM(randomise(keras.Model([sequence, features], layers.Dense(1)(x)), seed=1))
    expected = engine([one_hot_of(TEXT)[None], np.ones((1, 3))]).reference
    for given in ([TEXT, np.ones(3)], {"dna": [TEXT], "features": np.ones((1, 3))}):
        found = engine(given).reference
        np.testing.assert_array_equal(*(next(iter(x.values())) for x in (found, expected)))


@pytest.mark.parametrize(
    ("text", "said"),
    [("ACGT", "Sequence 0 must have 24 letters.*Received: 4"), ([TEXT, TEXT[:-1] + " "], "Sequence 1, position 23")],
)
def test_text_that_is_no_sequence_is_refused(engine, text, said):
    with pytest.raises(SequenceError, match=said):
        engine(text)


def test_importance_is_minus_the_mean_of_the_deltas(engine, rng):
    one_hot = random_one_hot(rng, 3, LENGTH)
    one_hot[1, 7] = 0
    result = engine(one_hot)
    delta = result.delta["marks"][:, 1]
    expected = np.where(one_hot.sum(-1) == 1, -delta.sum(-1) / 4, np.nan)
    np.testing.assert_allclose(result.importance("marks/1"), expected, atol=1e-6)
    np.testing.assert_allclose(result.importance("marks=1", rows=[2, 0]), expected[[2, 0]], atol=1e-6)
    np.testing.assert_allclose(result.hypothetical("marks/1"), delta - delta.mean(-1, keepdims=True), atol=1e-6)
    with pytest.raises(UsageError, match=r"target: .*has 3.*marks/0, marks/1, count"):
        result.importance()
    with pytest.raises(UsageError, match=r"rows: .*0 to 2.*Received: 3"):
        result.importance("count", rows=3)


def test_a_frame_has_a_line_for_each_substitution(engine):
    result = engine([TEXT, TEXT[::-1]], positions=[3, 4, 20])
    frame = result.to_frame()
    assert list(frame) == ["sequence", "position", "ref", "alt", "target", "delta", "reference"]
    assert len(frame) == 3 * 3 * (2 + 3)  # targets, letters, positions without the N of the first
    lines = {(s, p, r, a, t): (d, y) for s, p, r, a, t, d, y in frame.itertuples(index=False)}
    for (sequence, position, ref, alt, target), (delta, reference) in lines.items():
        assert [TEXT, TEXT[::-1]][sequence][position] == ref != alt
        head, _, unit = target.partition("/")
        column = [3, 4, 20].index(position)
        assert delta == result.delta[head][sequence, int(unit or 0), column, "ACGT".index(alt)]
        assert reference == result.reference[head][sequence, int(unit or 0)]
    assert set(result.to_frame("count", rows=1)["target"]) == {"count"}


def test_labelled_arrays(engine):
    pytest.importorskip("xarray")
    result = engine([TEXT, TEXT[::-1]])
    found = result.to_xarray()
    assert found.delta.dims == ("row", "target", "position", "letter")
    chosen = found.delta.sel(row=1, target="marks/1", position=5, letter="G")
    assert float(chosen) == result.delta["marks"][1, 1, 5, 2]
    np.testing.assert_array_equal(found.importance.sel(target="count"), result.importance("count"))
    assert found["seq"].values[0].tobytes().decode() == TEXT


def test_a_picture(engine):
    result = engine(TEXT)
    figure = result.plot("marks/1", bases=10)
    words = " ".join(text.get_text() for text in figure.texts)
    assert "marks/1: prediction" in words and "sequence 0:1-24" in words
    with pytest.raises(UsageError, match="only those in a row can be drawn"):
        engine(TEXT, positions=[2, 5]).plot("count")


def test_they_say_what_they_are(engine):
    assert repr(engine).startswith("<FastISM of 'small': input 'dna' (24, 4), heads: marks (2,), count (1,), engine ")
    assert repr(engine(TEXT)) == (
        "<MutagenesisResult of a result in memory: 1 x 24 letters of ACGT, heads: marks (2), count (1)>"
    )
    assert list(engine(TEXT).heads) == ["marks", "count"]
    assert engine(TEXT).targets == ("marks/0", "marks/1", "count")


def test_progress_ends_at_all_positions(engine, capsys):
    engine([TEXT, TEXT], progress=True)
    assert "48/48" in capsys.readouterr().err
    engine([TEXT, TEXT])
    assert capsys.readouterr().err == ""


QUIETLY = """
from fastism_cli import FastISM
import keras
inputs = keras.Input((8, 4))
engine = FastISM(keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(inputs))))
for text in ("ACGTACGT", ["ACGTACGT"] * 2, ["ACGTACGT"] * 7):
    engine(text)
"""


@pytest.mark.one_in(36)
def test_a_notebook_sees_nothing_of_tensorflow():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
    found = subprocess.run([sys.executable, "-c", QUIETLY], capture_output=True, text=True, env=environment, check=True)
    assert found.stdout + found.stderr == ""


@pytest.mark.parametrize(
    "options", [{"width": 5, "step": 2}, {"ranges": [(19, 24), (0, 3), (4, 4 + 12)]}], ids=["regular", "ranges"]
)
def test_blocks_in_memory(options):
    engine = FastISM(two_heads(), replace_with="N", **options)
    result = engine([TEXT, TEXT[::-1]])
    ranges = engine.block_ranges
    assert repr(result).startswith(f"<MutagenesisResult of a result in memory: 2 x {len(ranges)} blocks in 24 letters")
    frame = result.to_frame()
    assert list(frame) == ["sequence", "start", "end", "content", "target", "delta", "reference"]
    assert len(frame) == 2 * 3 * len(ranges)
    for line in frame.itertuples(index=False):
        head, _, unit = line.target.partition("/")
        assert line.content == 0
        assert line.delta == result.delta[head][line.sequence, int(unit or 0), ranges.index((line.start, line.end)), 0]
    importance = result.importance("marks/1")
    for row, base in np.ndindex(importance.shape):
        over = [result.delta["marks"][row, 1, i, 0] for i, (a, b) in enumerate(ranges) if a <= base < b]
        assert (
            importance[row, base] == pytest.approx(-np.mean(over), rel=1e-5)
            if over
            else np.isnan(importance[row, base])
        )
    figure = result.plot("count", row=1)
    assert len(figure.axes[0].patches) == len(ranges)
    with pytest.raises(UsageError, match="blocks, not of letters"):
        result.hypothetical("count")
