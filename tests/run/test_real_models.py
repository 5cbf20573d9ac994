"""The main job on published models and real sequence: every score against predictions of each mutated sequence.

The files are not part of the repository: ``FASTISM_REAL`` names their folder (default: ``../shared/real``). Without
them these tests are skipped.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fastism_cli.cli import main
from fastism_cli.model.loading.load import load_model
from fastism_cli.results.ism_file import read_result

REAL = Path(os.environ.get("FASTISM_REAL", Path(__file__).parents[3] / "shared" / "real"))
GENOME = REAL / "hg38_chr1_0_1Mb.fa.gz"

pytestmark = [
    pytest.mark.skipif(not GENOME.exists(), reason="the published models are not here (FASTISM_REAL)"),
    pytest.mark.compiled,
]

# On each model three regions: on both strands, and one that passes the contig's start or end.
REGIONS = {"tal1": (0, 1, 8), "mpra_dragonn": (0, 4, 8), "xpresso_human": (0, 1, 8)}
OTHER_INPUTS = {"xpresso_human": ["--input", "halflife=zeros"]}


def predictions(model, one_hot: np.ndarray, batch: int = 128) -> np.ndarray:
    """Plain Keras, float32, by batches; the other inputs zero."""
    others = [np.zeros((batch, *x.shape[1:]), "float32") for x in model.inputs[1:]]
    parts = []
    for start in range(0, len(one_hot), batch):
        part = one_hot[start : start + batch]
        full = np.concatenate([part, np.repeat(part[:1], batch - len(part), axis=0)])
        inputs = [full, *others] if others else full
        parts.append(np.asarray(model.predict_on_batch(inputs))[: len(part)])
    return np.concatenate(parts)


def mutated(codes: np.ndarray, positions: np.ndarray, letter: int) -> np.ndarray:
    """(positions, L, 4): the sequence with one position replaced in each copy; N is a row of zeros."""
    one_hot = np.eye(5, dtype="float32")[codes][:, :4]
    copies = np.repeat(one_hot[None], len(positions), axis=0)
    copies[np.arange(len(positions)), positions] = np.eye(4, dtype="float32")[letter]
    return copies


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", ["tal1", "mpra_dragonn", pytest.param("xpresso_human", marks=pytest.mark.exhaustive)])
def test_scores_are_those_of_plain_keras(name, tmp_path):
    output = tmp_path / "out.h5"
    arguments = ["--model", REAL / f"{name}.h5", "--bed", REAL / "tss.bed", "--fasta", GENOME, "--output", output]
    result = CliRunner().invoke(main, ["run", *map(str, arguments), *OTHER_INPUTS.get(name, [])])
    assert result.exit_code == 0, result.output
    model = load_model(REAL / f"{name}.h5")
    with read_result(output) as scores:
        (head,) = [layout.name for layout in scores.heads]
        for row in REGIONS[name]:
            codes, delta = np.asarray(scores.seq[row]), np.asarray(scores.delta(head)[row])
            compare(model, codes, delta, np.asarray(scores.reference(head)[row]))


def compare(model, codes: np.ndarray, delta: np.ndarray, reference: np.ndarray) -> None:
    """``delta`` (T, L, 4) at every position of the region, or every fifth of a long one and both its ends."""
    known = np.nonzero(codes < 4)[0]
    ends = np.r_[known[:50], known[-50:]]
    positions = known if len(known) <= 1000 or exhaustive() else np.unique(np.r_[ends, known[::37]])
    plain = predictions(model, np.eye(5, dtype="float32")[codes][None, :, :4])[0]
    np.testing.assert_allclose(reference, plain, rtol=1e-4, atol=1e-5)
    assert np.isnan(delta[:, codes == 4]).all()
    tolerance = 1e-6 + 1e-5 * np.nanmax(np.abs(delta))
    for letter in range(4):
        expected = (predictions(model, mutated(codes, positions, letter)).astype("float64") - plain).T
        other = codes[positions] != letter
        error = np.abs(delta[:, positions, letter] - expected)[:, other].max()
        assert error <= max(tolerance, float32_noise(plain)), (error, tolerance)
        assert (delta[:, positions, letter][:, ~other] == 0).all()


def exhaustive() -> bool:
    return bool(os.environ.get("FASTISM_EXHAUSTIVE"))


def float32_noise(plain: np.ndarray) -> float:
    """What two float32 predictions of this size may differ by from rounding alone: four units in the last place."""
    return 4 * float(np.spacing(np.abs(plain).max().astype("float32")))
