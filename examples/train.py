"""Make the demo: a synthetic genome with planted motifs, its peaks, and a small Keras model that has learned them.

    python examples/train.py

Everything is simulated from one seed; nothing is downloaded. It writes, beside this script,

    demo.fa            three contigs: soft-masked stretches, one long run of N, one short run of N inside a peak
    demo.bed           60 peaks of 500 bp, each around one to three planted motifs
    demo_motifs.tsv    where the motifs were planted: the answer that examples/show.py checks against
    demo.keras         a Basset-like model, (500, 4) -> three logits, one head for each motif
"""

import os
import time
from collections.abc import Iterator
from functools import cached_property
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

INPUT_LENGTH = 500
CONTIGS = {"chr1": 96_020, "chr2": 78_413, "chr3": 61_777}
N_PEAKS = {"chr1": 24, "chr2": 20, "chr3": 16}
LINE_WIDTH = 60
N_BASE = 4  # bases are 0-3 = ACGT, 4 = N
EDGE_MARGIN = 12  # no motif this close to the end of a sequence; the run of N inside a peak lies here
WEAKEST = 0.25  # this share of a motif's instances, the weakest, is never planted

# Copies of each present motif in the first rounds of training, one copy from then on. With one copy from the start the
# signal is too faint: after a thousand steps the model still guesses.
EASY_ROUNDS = (6, 4, 3, 2)

# Base after base (rows: from, columns: to, ACGT) with the shortage of CpG that real genomes have.
BACKGROUND = np.array(
    [[0.33, 0.17, 0.24, 0.26], [0.34, 0.26, 0.05, 0.35], [0.28, 0.22, 0.26, 0.24], [0.21, 0.20, 0.25, 0.34]]
)

# Percent of A, C, G, T at each position, drawn by hand after the well-known consensus sequences.
PERCENT = {
    "ap1": """
        45  1  1 97  4  1  2 96 11
        17  1  2  1 46  2 95  1 38
        29  1 96  1 46  1  2  2 16
         9 97  1  1  4 96  1  1 35
    """,
    "gata": """
        28 62  1 97  1 96 86 17 47
        32  4  1  1  1  1  3 14 13
        24  4 97  1  1  2  8 60 29
        16 30  1  1 97  1  3  9 11
    """,
    "ctcf": """
        10 13 28  2  1 83  4 13 93  2 33  4  2  1  3 27  3 11 38
        33 14  4 96 97  3 67 43  2  1  3  3  1  1 91  3 82 34 26
        16 62 58  1  1  9 26  6  4 96 61 50 96 97  2 66 11 12 30
        41 11 10  1  1  5  3 38  1  1  3 43  1  1  4  4  4 43  6
    """,
}


class Motif:
    """A position weight matrix: draws instances of itself and finds itself on both strands."""

    def __init__(self, name: str, percent: str):
        self.name = name
        self.probability = np.array([line.split() for line in percent.split("\n") if line.strip()], float).T / 100
        self.width = len(self.probability)

    @cached_property
    def log_odds(self) -> np.ndarray:
        """Score of each base at each position, (width, 5); a match never holds an N."""
        return np.column_stack([np.log2(self.probability / 0.25), np.full(self.width, -100.0)]).astype("float32")

    @cached_property
    def threshold(self) -> float:
        """What counts as a match: the score that all but the weakest instances reach."""
        drawn = self._draw(20_000, np.random.default_rng(0))
        return float(np.quantile(_scores(drawn, self.log_odds), WEAKEST))

    def instance(self, rng: np.random.Generator) -> np.ndarray:
        """One instance, uint8 (width,), strong enough to be a match."""
        while True:
            drawn = self._draw(1, rng)
            if _scores(drawn, self.log_odds)[0, 0] >= self.threshold:
                return drawn[0]

    def matches(self, bases: np.ndarray) -> np.ndarray:
        """Whether a match on either strand starts there: bool (n, length - width + 1)."""
        reverse_complement = np.column_stack([self.log_odds[::-1, 3::-1], self.log_odds[:, N_BASE]])
        return np.maximum(_scores(bases, self.log_odds), _scores(bases, reverse_complement)) >= self.threshold

    def _draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return (rng.random((n, self.width, 1)) > self.probability.cumsum(axis=1)[:, :3]).sum(axis=2).astype("uint8")


MOTIFS = [Motif(name, percent) for name, percent in PERCENT.items()]


class Site(NamedTuple):
    """A planted motif, counted from the start of the array it was planted in."""

    start: int
    end: int
    motif: str
    strand: str


class Peak(NamedTuple):
    chrom: str
    start: int
    end: int
    name: str
    strand: str


def _scores(bases: np.ndarray, log_odds: np.ndarray) -> np.ndarray:
    n_starts = bases.shape[1] - len(log_odds) + 1
    return sum(row[bases[:, offset : offset + n_starts]] for offset, row in enumerate(log_odds))


def background(n: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Random bases with the dinucleotides of ``BACKGROUND`` and without any motif, uint8 (n, length)."""
    cumulative = BACKGROUND.cumsum(axis=1)[:, :3]
    uniform = rng.random((n, length, 1))
    bases = np.empty((n, length), "uint8")
    bases[:, 0] = rng.integers(0, 4, n)
    for position in range(1, length):
        bases[:, position] = (uniform[:, position] > cumulative[bases[:, position - 1]]).sum(axis=1)
    return scrub(bases, rng)


def scrub(bases: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Overwrite chance matches with random bases until none is left: a motif is then only where it was planted."""
    todo = np.arange(len(bases))
    while len(todo):
        current, dirty = bases[todo], np.zeros(len(todo), bool)
        for motif in MOTIFS:
            rows, starts = np.nonzero(motif.matches(current))
            within = starts[:, None] + np.arange(motif.width)
            current[rows[:, None], within] = rng.integers(0, 4, within.shape)
            dirty[rows] = True
        bases[todo] = current
        todo = todo[dirty]
    return bases


def plant(bases: np.ndarray, present: np.ndarray, rng: np.random.Generator, *, copies: int = 1) -> list[Site]:
    """Write the motifs that are ``present`` into ``bases`` (length,), none over another, each on a random strand."""
    planted = MOTIFS * copies
    slots = np.linspace(EDGE_MARGIN, len(bases) - EDGE_MARGIN, len(planted) + 1).astype(int)
    sites = []
    for motif, is_present, slot in zip(planted, np.tile(present, copies), rng.permutation(len(planted)), strict=True):
        if not is_present:
            continue
        start = int(rng.integers(slots[slot], slots[slot + 1] - motif.width + 1))
        strand = str(rng.choice(["+", "-"]))
        instance = motif.instance(rng)
        bases[start : start + motif.width] = instance if strand == "+" else 3 - instance[::-1]
        sites.append(Site(start, start + motif.width, motif.name, strand))
    return sites


# ---- the genome


def simulate_genome(rng: np.random.Generator) -> tuple[dict[str, np.ndarray], list[Peak], list[tuple[str, Site]]]:
    """Contigs, peaks and planted sites; the sites count from the start of their contig."""
    genome, peaks, sites = {}, [], []
    for chrom, length in CONTIGS.items():
        rows = background(-(-length // INPUT_LENGTH), INPUT_LENGTH, rng)
        genome[chrom] = scrub(rows.reshape(1, -1)[:, :length], rng)[0]
        for start in peak_starts(length, N_PEAKS[chrom], rng):
            end = start + INPUT_LENGTH
            for site in plant(genome[chrom][start:end], some_motifs(rng), rng):
                sites.append((chrom, site._replace(start=start + site.start, end=start + site.end)))
            peaks.append(Peak(chrom, start, end, f"peak_{len(peaks) + 1:02d}", str(rng.choice(["+", "-"]))))
    genome["chr2"][:300] = N_BASE  # like the unsequenced end of a chromosome; peaks start further in
    first_of_chr3 = next(peak for peak in peaks if peak.chrom == "chr3")
    genome["chr3"][first_of_chr3.start : first_of_chr3.start + EDGE_MARGIN] = N_BASE
    return genome, peaks, sorted(sites)


def peak_starts(length: int, n_peaks: int, rng: np.random.Generator) -> list[int]:
    """One peak in each of ``n_peaks`` equal stretches, so that no two overlap."""
    stretch = length // n_peaks
    return [n * stretch + int(rng.integers(400, stretch - INPUT_LENGTH)) for n in range(n_peaks)]


def some_motifs(rng: np.random.Generator) -> np.ndarray:
    """Which motifs a peak holds, bool (n_motifs,): at least one."""
    while True:
        present = rng.random(len(MOTIFS)) < 0.5
        if present.any():
            return present


def fasta_lines(genome: dict[str, np.ndarray], rng: np.random.Generator) -> Iterator[str]:
    """FASTA with about a third of the bases in lower case, as a repeat masker leaves it."""
    for chrom, bases in genome.items():
        letters = np.frombuffer(b"ACGTN", "uint8")[bases]
        for start in rng.choice(len(letters), len(letters) // 1000, replace=False):
            masked = letters[start : start + int(rng.integers(100, 800))]
            masked |= 0x20  # ASCII lower case
        sequence = letters.tobytes().decode()
        yield f">{chrom}"
        yield from (sequence[start : start + LINE_WIDTH] for start in range(0, len(sequence), LINE_WIDTH))


def write_genome(folder: Path, rng: np.random.Generator) -> None:
    genome, peaks, sites = simulate_genome(rng)
    tables = {
        "demo.fa": fasta_lines(genome, rng),
        "demo.bed": (f"{p.chrom}\t{p.start}\t{p.end}\t{p.name}\t0\t{p.strand}" for p in peaks),
        "demo_motifs.tsv": [
            "chrom\tstart\tend\tmotif\tstrand",
            *(f"{chrom}\t{s.start}\t{s.end}\t{s.motif}\t{s.strand}" for chrom, s in sites),
        ],
    }
    for name, lines in tables.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), newline="\n")
    click.echo(f"{len(genome)} contigs, {len(peaks)} peaks, {len(sites)} planted motifs -> {folder}")


# ---- the model


def simulate_examples(n: int, rng: np.random.Generator, *, copies: int = 1) -> tuple[np.ndarray, list[np.ndarray]]:
    """One-hot sequences (n, 500, 4) and, for each motif, whether it is in the sequence (n, 1)."""
    bases = background(n, INPUT_LENGTH, rng)
    for row in np.flatnonzero(rng.random(n) < 0.05):
        start = int(rng.integers(INPUT_LENGTH))
        bases[row, start : start + 20] = N_BASE
    present = rng.random((n, len(MOTIFS))) < 0.5
    for row in range(n):
        plant(bases[row], present[row], rng, copies=copies)
    one_hot = np.eye(N_BASE + 1, 4, dtype="float32")[bases]  # an N is a row of zeros
    return one_hot, [column[:, None].astype("float32") for column in present.T]


def build_model():
    """inp -> [Conv1D BatchNormalization ReLU MaxPooling1D] x 2 -> Flatten -> Dense -> three heads

    The heads are logits: a sigmoid would be flat where the model is sure, and there every delta would be nearly 0.
    """
    from keras import Input, Model, layers

    inp = x = Input((INPUT_LENGTH, 4), name="sequence")
    for filters, kernel_size, pool_size in [(48, 15, 4), (48, 7, 25)]:
        x = layers.Conv1D(filters, kernel_size, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
        x = layers.MaxPooling1D(pool_size)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(64, activation="relu")(layers.Dropout(0.2)(x))
    return Model(inp, [layers.Dense(1, name=motif.name)(x) for motif in MOTIFS], name="demo")


def train(model, rounds: int, n_examples: int, rng: np.random.Generator) -> None:
    """Fit on fresh sequences each round: a sequence seen once cannot be learned by heart."""
    import keras

    batch_size = 32
    rate = keras.optimizers.schedules.CosineDecay(4e-3, rounds * -(-n_examples // batch_size))
    model.compile(keras.optimizers.Adam(rate), [keras.losses.BinaryCrossentropy(from_logits=True) for _ in MOTIFS])
    for n, copies in zip(range(1, rounds + 1), chain(EASY_ROUNDS, repeat(1)), strict=False):
        one_hot, labels = simulate_examples(n_examples, rng, copies=copies)
        history = model.fit(one_hot, labels, batch_size=batch_size, verbose=0).history
        click.echo(f"round {n}/{rounds}, {copies} of each motif: loss {history['loss'][-1]:.3f}")


def auroc(score: np.ndarray, label: np.ndarray) -> float:
    """The chance that a sequence with the motif scores above one without it."""
    rank = np.empty(len(score))
    rank[np.argsort(score)] = np.arange(1, len(score) + 1)
    n_with = int(label.sum())
    return float((rank[label > 0].sum() - n_with * (n_with + 1) / 2) / (n_with * (len(label) - n_with)))


def prepare_keras(seed: int) -> None:
    import keras

    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


@click.command(context_settings={"show_default": True})
@click.option("--seed", default=1, help="Everything random follows from it.")
@click.option("--rounds", default=14, type=click.IntRange(min=1), help="Rounds of training.")
@click.option("--examples", default=6000, type=click.IntRange(min=1), help="Fresh sequences in each round.")
@click.option("--out", default=Path(__file__).parent, type=click.Path(file_okay=False, path_type=Path), help="Folder.")
def main(seed: int, rounds: int, examples: int, out: Path) -> None:
    """Simulate the demo genome and train the demo model."""
    genome_rng, train_rng, test_rng = np.random.default_rng(seed).spawn(3)
    out.mkdir(parents=True, exist_ok=True)
    write_genome(out, genome_rng)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    prepare_keras(seed)
    import keras

    began = time.perf_counter()
    model = build_model()
    train(model, rounds, examples, train_rng)
    click.echo(f"{model.count_params():,} parameters, trained in {time.perf_counter() - began:.0f} s")

    one_hot, labels = simulate_examples(4000, test_rng)
    for motif, logit, label in zip(MOTIFS, model.predict(one_hot, verbose=0), labels, strict=True):
        click.echo(f"held-out AUROC {motif.name}: {auroc(logit[:, 0], label[:, 0]):.4f}")
    keras.Model(model.inputs, model.outputs, name="demo").save(out / "demo.keras")  # without the optimizer's state


if __name__ == "__main__":
    main()
