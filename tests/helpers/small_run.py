"""A genome of three short contigs, three small models and what plain Keras says of them: for tests of whole runs."""

from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from fastism_cli.genome.fasta import open_fasta

LENGTH = 40
LETTERS = "ACGT"


class Folder(NamedTuple):
    """Paths of what :func:`make_folder` wrote."""

    path: Path
    fasta: str
    bed: str
    models: dict[str, str]

    def bed_of(self, name: str, *lines: str) -> str:
        """Write a BED; columns are separated by spaces here, by tabs there."""
        path = self.path / name
        path.write_text("".join("\t".join(line.split()) + "\n" for line in lines))
        return str(path)


RECORDS = (
    "chrA 20 80 inside 0 +",
    "chrA 100 141 has_n 0 -",
    "chrA 0 10 at_start 0 -",
    "chrB 50 60 at_end 0 +",
    "chrA 200 240 all_n 0 .",
    "chrA 30 71 inside_too 0 -",
)
SCORED = (0, 1, 2, 3, 5)
ALL_N = 4


def contigs() -> dict[str, str]:
    """chrA 300 bases with N in [120, 124) and [190, 260); chrB 60 bases; chrC only A."""
    rng = np.random.default_rng(7)
    chr_a = "".join(rng.choice(list(LETTERS), 300))
    chr_a = chr_a[:120] + "NNnn" + chr_a[124:190] + 70 * "N" + chr_a[260:]
    return {"chrA": chr_a, "chrB": "".join(rng.choice(list("acgt"), 60)), "chrC": 100 * "A"}


def make_folder(path: Path) -> Folder:
    fasta = path / "genome.fa"
    fasta.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in contigs().items()))
    models = {}
    for name, build in MODELS.items():
        keras.utils.set_random_seed(len(name))
        models[name] = str(path / f"{name}.keras")
        build().save(models[name])
    open_fasta(fasta).close()  # so that its index is there before any run
    folder = Folder(path, str(fasta), "", models)
    return folder._replace(bed=folder.bed_of("peaks.bed", *RECORDS))


# --- models -----------------------------------------------------------------------------------------------------------


def plain() -> keras.Model:
    """inp -> C -> MXP -> D -> out (3 targets)"""
    layers = keras.layers
    inp = keras.Input((LENGTH, 4), name="dna")
    x = layers.Conv1D(6, 5, padding="same", activation="relu")(inp)
    x = layers.Flatten()(layers.MaxPooling1D(2)(x))
    return keras.Model(inp, layers.Dense(3, name="out")(x))


def pair() -> keras.Model:
    """inp -> C -> profile (40, 2); f, GAP(C) -> D -> count (1)"""
    layers = keras.layers
    inp, features = keras.Input((LENGTH, 4), name="dna"), keras.Input((2,), name="features")
    x = layers.Conv1D(5, 3, padding="same", activation="tanh")(inp)
    profile = layers.Conv1D(2, 3, padding="same", name="profile")(x)
    joined = layers.Concatenate()([layers.GlobalAveragePooling1D()(x), features])
    count = layers.Dense(1, name="count")(layers.Dense(4, activation="relu")(joined))
    return keras.Model([inp, features], [profile, count])


def variable() -> keras.Model:
    """inp (any length) -> C -> GMP -> out"""
    layers = keras.layers
    inp = keras.Input((None, 4), name="dna")
    x = layers.GlobalMaxPooling1D()(layers.Conv1D(4, 3, activation="relu")(inp))
    return keras.Model(inp, layers.Dense(1, name="out")(x))


def logarithm() -> keras.Model:
    """inp -> GAP -> D (share of A, less a half) -> log: a NaN wherever less than half of the bases are A"""
    layers = keras.layers
    inp = keras.Input((LENGTH, 4), name="dna")
    share = layers.Dense(1, name="share")(layers.GlobalAveragePooling1D()(inp))
    model = keras.Model(inp, layers.Activation("linear", name="out")(keras.ops.log(share)))
    model.get_layer("share").set_weights([np.array([[1.0], [0], [0], [0]]), np.array([-0.5])])
    return model


MODELS = {"plain": plain, "pair": pair, "variable": variable, "log": logarithm}


# --- the truth --------------------------------------------------------------------------------------------------------


def codes_of(chrom: str, start: int, end: int, *, reverse: bool = False) -> np.ndarray:
    """Letters [start, end) as 0-3, 4 for N and beyond the contig; by plain string operations."""
    sequence = contigs()[chrom].upper()
    padded = "".join(sequence[i] if 0 <= i < len(sequence) else "N" for i in range(start, end))
    codes = np.array([(LETTERS + "N").index(letter) for letter in padded])
    return np.array([3, 2, 1, 0, 4])[codes[::-1]] if reverse else codes


def predicted(model: keras.Model, codes: np.ndarray, others: dict[str, np.ndarray] | None = None) -> list[np.ndarray]:
    """Predictions of all heads for codes (n, L)."""
    inputs: Any = np.eye(5, 4, dtype="float32")[codes]
    if others:
        inputs = {"dna": inputs} | {name: np.repeat(x[None], len(codes), axis=0) for name, x in others.items()}
        inputs = [inputs[x.name] for x in model.inputs]
    return [np.asarray(y) for y in keras.tree.flatten(model(inputs, training=False))]


def true_delta(model: keras.Model, codes: np.ndarray, others: Any = None) -> list[np.ndarray]:
    """Substituted - reference for every head, (*shape, L, 4), NaN at an N: one mutated sequence at a time."""
    length = len(codes)
    places = [(p, letter) for p in range(length) for letter in range(4)]
    mutated = np.repeat(codes[None], len(places), axis=0)
    for row, (p, letter) in zip(mutated, places, strict=True):
        row[p] = letter
    references = predicted(model, codes[None], others)
    deltas = [y - ref for y, ref in zip(predicted(model, mutated, others), references, strict=True)]
    deltas = [np.moveaxis(d.reshape(length, 4, *d.shape[1:]), (0, 1), (-2, -1)) for d in deltas]
    for delta in deltas:
        delta[..., codes == 4, :] = np.nan
    return deltas
