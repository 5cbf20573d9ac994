"""What the library refuses is told in the names of its arguments; the command tells the same by its options."""

import re

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers

from fastism_cli import (
    FastISM,
    FastISMError,
    RunOptions,
    load_model,
    open_scores,
    score_regions,
    score_variants,
    verify,
)
from fastism_cli.cli import main
from fastism_cli.errors import OPTION
from tests.helpers.sequences import random_one_hot
from tests.helpers.small_run import LENGTH, make_folder, plain
from tests.models.zoo import randomise

OPTIONS = {
    "center": "top",
    "window": "a",
    "offset": "a",
    "edge": "cut",
    "n_policy": "keep",
    "max_n": 2,
    "missing_contig": "drop",
    "limit": 0,
    "length": 0,
    "engine": "quick",
    "precision": "int8",
    "batch_size": 0,
    "dtype": "int8",
    "compression": "zip",
    "shard": "3/2",
    "checkpoint": -1,
    "width": 0,
    "step": 0,
    "samples": 0,
    "seed": -1,
    "rc_pairs": ("0:0",),
    "shifts": "a",
    "average": "all",
    "within": 0,
    "replace_with": "N",
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_of_a_run(name):
    with pytest.raises(FastISMError) as found:
        RunOptions(**{name: OPTIONS[name]})
    assert re.search(rf"\b{name}\b", str(found.value)) and not OPTION.search(str(found.value))
    assert f"--{name.replace('_', '-')}" in found.value.message


@pytest.mark.parametrize(
    "options",
    [
        {"resume": True, "overwrite": True},
        {"tile": True, "center": "summit"},
        {"tile": True, "offset": 3},
        {"width": 3},
        {"replace_with": "ACG", "width": 4},
        {"within": 3, "rc": True},
        {"within": 3, "tile": True},
        {"within": 30, "window": 10},
        {"rc_pairs": ("0:1",)},
    ],
    ids=str,
)
def test_options_that_do_not_go_together(options):
    with pytest.raises(FastISMError) as found:
        RunOptions(**options)
    assert any(re.search(rf"\b{name}\b", str(found.value)) for name in options)
    assert OPTION.search(found.value.message) and not OPTION.search(str(found.value))


def profile() -> keras.Model:
    inputs = keras.Input((LENGTH, 4), name="dna")
    return randomise(keras.Model(inputs, layers.Conv1D(2, 5, name="profile")(inputs)), seed=1)


def coded() -> keras.Model:
    inputs = keras.Input((LENGTH,), name="dna", dtype="int32")
    x = layers.Flatten()(layers.Embedding(4, 3)(inputs))
    return randomise(keras.Model(inputs, layers.Dense(1, name="out")(x)), seed=1)


def variable() -> keras.Model:
    inputs = keras.Input((None, 4), name="dna")
    x = layers.GlobalAveragePooling1D()(layers.Conv1D(2, 3)(inputs))
    return keras.Model(inputs, layers.Dense(1, name="out")(x))


ENGINES = {
    "reduce": [lambda: FastISM(profile()), lambda: FastISM(profile(), reduce="sums")],
    "reduce ": [lambda: FastISM(profile(), reduce={"top": "sum"}), lambda: FastISM(profile(), reduce="center:99")],
    "targets": [lambda: FastISM(plain(), targets={"out": (7,)}), lambda: FastISM(plain(), targets={"top": None})],
    "scale": [lambda: FastISM(plain(), scale="log3"), lambda: FastISM(plain(), scale="top=log2")],
    "scale ": [lambda: FastISM(plain(), scale="logit")],
    "length": [lambda: FastISM(variable()), lambda: FastISM(plain(), length=50)],
    "codes": [lambda: FastISM(plain(), codes="A=1,C=2,G=3,T=4"), lambda: FastISM(coded(), codes="A=1")],
    "codes ": [lambda: FastISM(coded())(["N" * LENGTH])],
    "tie": [lambda: FastISM(plain(), tie="dna"), lambda: FastISM(plain(), tie="dna,other")],
    "rc_pairs": [lambda: FastISM(plain(), rc_pairs="0:1"), lambda: FastISM(plain(), rc=True, rc_pairs="0:9")],
    "spread": [lambda: FastISM(plain(), spread=True)],
    "shifts": [lambda: FastISM(plain(), shifts="x"), lambda: FastISM(profile(), shifts=(0, 1), reduce="none")],
    "average": [lambda: FastISM(plain(), average="all")],
    "width": [lambda: FastISM(plain(), replace_with="N")],
    "replace_with": [lambda: FastISM(plain(), replace_with="NOPE"), lambda: FastISM(plain(), width=3)],
    "engine": [lambda: FastISM(plain(), engine="quick")],
    "batch_size": [lambda: FastISM(plain(), batch_size=0)],
    "within": [lambda: FastISM(plain()).pairs("A" * LENGTH, within=LENGTH)],
    "positions": [lambda: FastISM(plain())("A" * LENGTH, positions=[LENGTH])],
    "targets ": [lambda: FastISM(plain())("A" * LENGTH).to_frame("top")],
    "target": [lambda: FastISM(plain())("A" * LENGTH).importance("top"), lambda: FastISM(plain())("A" * LENGTH).plot()],
}


@pytest.mark.parametrize("name", ENGINES)
def test_an_argument_of_the_engine(name):
    for call in ENGINES[name]:
        with pytest.raises(FastISMError) as found:
            call()
        assert re.search(rf"\b{name.strip()}\b", str(found.value)), str(found.value)
        assert not OPTION.search(str(found.value))


def test_what_functions_of_files_refuse(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = make_folder(tmp_path)
    model, bed, fasta = folder.models["plain"], folder.bed, folder.fasta
    done = str(tmp_path / "done.h5")
    score_regions(model, bed, fasta, done)
    lambdas = str(tmp_path / "lambda.keras")
    x = keras.Input((LENGTH, 4))
    keras.Model(x, layers.Flatten()(layers.Lambda(lambda y: y * 2)(x))).save(lambdas)
    calls = {
        "overwrite": lambda: score_regions(model, bed, fasta, done),
        "within": lambda: score_regions(model, bed, fasta, "o.h5", RunOptions(within=4, window=4)),
        "inputs": lambda: score_regions(model, bed, fasta, "o.h5", RunOptions(inputs=("a",))),
        "inputs ": lambda: score_regions(model, bed, fasta, "o.h5", RunOptions(inputs=("a=zeros",))),
        "targets": lambda: score_regions(model, bed, fasta, "o.h5", RunOptions(targets=("x",))),
        "target_names": lambda: score_regions(model, bed, fasta, "o.h5", RunOptions(target_names=("no.txt",))),
        "window": lambda: score_regions(model, bed, fasta, "o.h5", RunOptions(window=LENGTH + 1)),
        "center": lambda: score_regions(model, bed, fasta, "o.h5", RunOptions(center="summit")),
        "edge": lambda: score_regions(model, bed, fasta, "o.h5", RunOptions(edge="error")),
        "n_policy": lambda: score_regions(model, bed, fasta, "o.h5", RunOptions(n_policy="error")),
        "rules": lambda: score_regions(model, bed, fasta, "o.h5", RunOptions(rules=("no.py",))),
        "custom_objects": lambda: load_model(model, custom_objects=["no.py"]),
        "allow_lambda": lambda: load_model(lambdas),
        "weights": lambda: load_model(str(tmp_path), weights="no.h5"),
        "spread": lambda: score_regions(model, bed, fasta, "o.h5", RunOptions(spread=True)),
        "model": lambda: score_regions([model, model], bed, fasta, "o.h5"),
        "ref_mismatch": lambda: score_variants(model, str(tmp_path / "v.vcf"), fasta, ref_mismatch="x"),
    }
    for name, call in calls.items():
        with pytest.raises(FastISMError) as found:
            call()
        assert re.search(rf"\b{name.strip()}\b", str(found.value)), (name, str(found.value))
        assert not OPTION.search(str(found.value)), str(found.value)
    with open_scores(done) as scores, pytest.raises(FastISMError, match=r"^target: .* has no target 'x'\. Those"):
        scores.importance("x")
    with pytest.raises(FastISMError, match=r"^reduce: the model has no head 'x'"):
        verify(FastISM(plain(), reduce={"x": "sum"}), random_one_hot(rng, 1, LENGTH))


def test_the_command_names_its_options(tmp_path):
    folder = make_folder(tmp_path)
    files = ["--model", folder.models["plain"], "--bed", folder.bed, "--fasta", folder.fasta]
    output = ["-o", str(tmp_path / "o.h5")]
    for options, message in (
        (["--tile", "--center", "summit"], "--tile covers whole intervals, --center summit one place of each"),
        (["--rules", "no.py"], "--rules no.py: no such file"),
        (["--spread"], "--spread is the deviation over several models: give --model more than once."),
        (["--edge", "error"], "Use --edge pad or --edge skip."),
        (["--reduce", "out=sums", "--rules", "no.py"], "--reduce out=sums: not known"),
    ):
        found = CliRunner().invoke(main, ["run", *files, *output, *options])
        assert found.exit_code == 2 and message in found.stderr, found.stderr
    assert np.array_equal(sorted(p.name for p in tmp_path.glob("*.h5*")), [])
