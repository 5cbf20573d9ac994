"""Whole runs on the records of a FASTA, and on models whose inputs are tied, of integers, or of variable length."""

import hashlib

import keras
import numpy as np
import pytest
from keras import layers

from fastism_cli import FastISM
from fastism_cli.engine.verify import verify
from fastism_cli.errors import RegionError, UsageError
from fastism_cli.options.run_options import RunOptions
from fastism_cli.results.ism_file import read_result
from fastism_cli.run.score_regions import plan_run, score_regions
from tests.models.zoo import randomise

pytestmark = pytest.mark.one_in(2)

PROTEIN = "ACDEFGHIKLMNPQRSTVWY"
LENGTH = 24


def protein(length: int | None = LENGTH) -> keras.Model:
    """inp (length, 20) -> C -> GMP -> D"""
    inputs = keras.Input((length, 20), name="residues")
    x = layers.GlobalMaxPooling1D()(layers.Conv1D(6, 5, activation="relu")(inputs))
    return randomise(keras.Model(inputs, layers.Dense(2, name="out")(x)), seed=1)


def rna() -> keras.Model:
    """ids -> Embedding -> C -> profile (24, 2)"""
    ids = keras.Input((LENGTH,), name="ids")
    x = layers.Embedding(5, 4)(ids)
    return randomise(keras.Model(ids, layers.Conv1D(2, 3, padding="same", name="profile")(x)), seed=2)


def write_fasta(path, records: dict[str, str]) -> str:
    path.write_text("".join(f">{name} of something\n{sequence}\n" for name, sequence in records.items()))
    return str(path)


def drawn(letters: str, length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list(letters), length))


def assert_scores(model, delta, sequence, letters, *, codes=None):
    """``delta`` (T, L, letters) against predictions of each substituted sequence, written out."""

    def predicted(text):
        order = np.array([(letters + "?").index(x if x in letters else "?") for x in text])
        rows = np.eye(len(letters) + 1, len(letters), dtype="float32")[order] if codes is None else codes[order]
        return np.asarray(model(rows[None]))[0]

    padded = sequence.ljust(delta.shape[1], "?")
    reference = predicted(padded)
    for position in (0, len(sequence) // 2, len(sequence) - 1):
        for i, letter in enumerate(letters):
            changed = predicted(padded[:position] + letter + padded[position + 1 :]) - reference
            wanted = changed if changed.ndim == 1 else changed.sum(axis=0)
            np.testing.assert_allclose(delta[:, position, i], wanted, atol=5e-6)
    assert np.isnan(delta[:, len(sequence) :]).all()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.one_in(36)
def test_every_record_of_a_fasta_is_scored(here):
    records = {f"sp|P{i}|X": drawn(PROTEIN, LENGTH, i) for i in range(5)}
    model = protein()
    summary = score_regions(
        model, None, write_fasta(here / "proteome.fa", records), options=RunOptions(alphabet=PROTEIN)
    )
    assert summary.output == "proteome.ism.h5" and summary.regions == 5
    assert summary.substitutions == 5 * LENGTH * 19
    with read_result("proteome.ism.h5") as result:
        assert result.regions["chrom"].tolist() == result.regions["name"].tolist() == list(records)
        assert result.attrs["bed_path"] == ""
        listing = "".join(f"{name}\t{LENGTH}\n" for name in records)
        assert result.attrs["bed_sha256"] == hashlib.sha256(listing.encode()).hexdigest()
        for delta, sequence in zip(result.delta()[:], records.values(), strict=True):
            assert_scores(model, delta, sequence, PROTEIN)


def test_records_that_are_too_short_or_too_long(here, caplog):
    records = {"fits": drawn(PROTEIN, LENGTH, 1), "short": drawn(PROTEIN, 15, 2), "long": drawn(PROTEIN, 40, 3)}
    fasta, model = write_fasta(here / "p.fa", records), protein()
    summary = score_regions(model, None, fasta, options=RunOptions(alphabet=PROTEIN))
    assert summary.unscored == "1 past the end of their contig, or longer than the input"
    assert f"1 of 3 records of {fasta} are longer than the model's input of {LENGTH} bases and are not" in caplog.text
    with read_result("p.ism.h5") as result:
        assert result.regions["status"].tolist() == [1, 1, 2]
        assert result.regions["n_padded"].tolist() == [0, LENGTH - 15, 0]
        assert result.regions["input_start"].tolist() == [0, 0, 0]
        assert_scores(model, result.delta()[1], records["short"], PROTEIN)
        assert np.isnan(result.delta()[2]).all()
    score_regions(model, None, fasta, "skipped.h5", RunOptions(alphabet=PROTEIN, edge="skip"))
    with read_result("skipped.h5") as result:
        assert result.regions["status"].tolist() == [1, 2, 2]
    with pytest.raises(RegionError, match=r"record short: 15 letters, where the model takes 24"):
        score_regions(model, None, fasta, "refused.h5", RunOptions(alphabet=PROTEIN, edge="error"))


def test_a_genome_without_a_bed_is_refused(here):
    fasta = write_fasta(here / "hg.fa", {"chr1": drawn("ACGT", 300, 1), "chr2": drawn("ACGT", 200, 2)})
    model = randomise(keras.Sequential([keras.Input((LENGTH, 4)), layers.Flatten(), layers.Dense(1)]), seed=1)
    with pytest.raises(RegionError, match=r"No record of .*hg.fa fits .* of 24: the shortest has 200 .* with bed"):
        score_regions(model, None, fasta)


@pytest.mark.parametrize("letters", ["ACGU", "ACGT"])
def test_rna_as_integers(here, letters):
    """U and T are one letter, whichever of them the file and the alphabet have."""
    sequence = drawn("ACGU", LENGTH, 5)
    model = rna()
    score_regions(
        model,
        None,
        write_fasta(here / "r.fa", {"t1": sequence}),
        options=RunOptions(alphabet=letters, reduce=["sum,l2"]),
    )
    with read_result("r.ism.h5") as result:
        assert [(head.name, head.reduce) for head in result.heads] == [("profile.sum", "sum"), ("profile.l2", "l2")]
        assert result.alphabet.letters == letters
        text = sequence.replace("U", letters[3])
        assert_scores(model, result.delta("profile.sum")[0], text, letters, codes=np.arange(5))


def test_regions_with_n_are_left_out_where_the_model_has_no_integer_for_it(here):
    ids = keras.Input((LENGTH,), name="ids")
    x = layers.Flatten()(layers.Embedding(4, 3)(ids))
    model = randomise(keras.Model(ids, layers.Dense(1)(x)), seed=3)
    records = {"a": drawn("ACGT", LENGTH, 1), "b": "N" + drawn("ACGT", LENGTH - 1, 2)}
    score_regions(model, None, write_fasta(here / "n.fa", records))
    with read_result("n.ism.h5") as result:
        assert result.regions["status"].tolist() == [1, 4]


# --- variable length --------------------------------------------------------------------------------------------------


def test_variable_length_is_that_of_the_records(here):
    model = protein(None)
    same = write_fasta(here / "same.fa", {"a": drawn(PROTEIN, 31, 1), "b": drawn(PROTEIN, 31, 2)})
    assert plan_run(model, None, same, options=RunOptions(alphabet=PROTEIN)).input_length == 31
    mixed = write_fasta(here / "mixed.fa", {"a": drawn(PROTEIN, 31, 1), "b": drawn(PROTEIN, 20, 2)})
    with pytest.raises(UsageError, match=r"the records of .*mixed.fa are from 20 to 31 long.*length"):
        plan_run(model, None, mixed, options=RunOptions(alphabet=PROTEIN))
    assert plan_run(model, None, mixed, options=RunOptions(alphabet=PROTEIN, length=26)).input_length == 26
    assert plan_run(model, None, mixed, options=RunOptions(alphabet=PROTEIN, limit=1)).input_length == 31


def test_variable_length_is_that_of_the_bed(here):
    inputs = keras.Input((None, 4))
    y = layers.Dense(1)(layers.GlobalMaxPooling1D()(layers.Conv1D(4, 3)(inputs)))
    model = randomise(keras.Model(inputs, y), seed=4)
    fasta = write_fasta(here / "g.fa", {"chr1": drawn("ACGT", 300, 1)})
    (here / "p.bed").write_text("chr1\t10\t50\nchr1\t100\t140\n")
    assert plan_run(model, "p.bed", fasta).input_length == 40
    summary = score_regions(model, "p.bed", fasta)
    assert summary.substitutions == 2 * 40 * 3
    with read_result("p.ism.h5") as result:
        assert result.regions["input_start"].tolist() == [10, 100]


def test_a_protein_model_passes_verification():
    one_hot = np.eye(20, dtype="float32")[np.random.default_rng(0).integers(0, 20, (1, LENGTH))]
    assert verify(FastISM(protein(), alphabet=PROTEIN), one_hot).passed
