"""`fastism variants` over strands, shifts and models: against plain Keras on the genome, and runs one by one."""

from itertools import product

import keras
import numpy as np
import pytest

from fastism_cli.run.variants.variant_block import VariantWindows
from tests.helpers.small_run import LENGTH, plain, predicted
from tests.models.zoo import randomise
from tests.run.test_score_variants import alleles_of, base, records, substitution, table_of, variants, write_vcf

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SHIFTS = (-3, 0, 2)
SWAP = [2, 1, 0]  # of --rc-pairs out=0:2
WAYS = ("--rc", "--rc-pairs", "out=0:2", "--shifts", ",".join(map(str, SHIFTS)))


@pytest.fixture(scope="module")
def folds(folder) -> list[str]:
    """Two models of one architecture."""
    paths = []
    for seed in (1, 2):
        paths.append(str(folder.path / f"fold{seed}.keras"))
        randomise(plain(), seed=seed).save(paths[-1])
        folder.models[f"fold{seed}"] = paths[-1]
    return paths


def mean_truth(models, record, alt: str, start: int, shifts=SHIFTS) -> np.ndarray:
    """Predictions (2, targets) on both alleles: means over models, inputs that are read elsewhere, and strands."""
    found = []
    for model, shift in product(models, shifts):
        pair = alleles_of(record, alt, start + shift)
        turned = np.array([3, 2, 1, 0, 4])[pair[:, ::-1]]
        found += [predicted(model, pair)[0], predicted(model, turned)[0][:, SWAP]]
    return np.mean(np.array(found, "float64"), axis=0)


@pytest.mark.one_in(6)
@pytest.mark.parametrize("share", [1, 8])
def test_strands_shifts_and_models_are_those_of_plain_keras(folder, folds, tmp_path, share):
    """Moved inputs show the genome around the input; insertions and deletions move what is behind them there too."""
    vcf, out = write_vcf(tmp_path / "v.vcf", records()), tmp_path / "o.vcf"
    result = variants(folder, vcf, "-m", folds[1], *WAYS, "--share", share, "-o", out, model="fold1")
    assert result.exit_code == 0, result.stderr
    text = "2 models, both strands, shifts -3, 0, 2"
    assert f"scores are the mean of {text}" in result.stderr
    assert f'minus prediction on REF (mean of {text}): out/0"' in out.read_text()
    models, lines = [keras.models.load_model(path) for path in folds], iter(table_of(tmp_path / "o.tsv"))
    without_context = []
    for record in records():
        start = VariantWindows(LENGTH, share).start(record[1])
        for alt in record[3].split(","):
            reference, alternate = mean_truth(models, record, alt, start)
            found = [next(lines) for _ in reference]
            np.testing.assert_allclose([float(x["reference"]) for x in found], reference, rtol=1e-5, atol=2e-6)
            np.testing.assert_allclose([float(x["delta"]) for x in found], alternate - reference, rtol=1e-4, atol=3e-6)
            without_context.append(np.abs(mean_truth(models, record, alt, start, (0,))[1] - alternate).max())
    assert next(lines, None) is None and max(without_context) > 1e-2


def test_the_mean_of_runs_one_by_one(folder, folds, tmp_path):
    vcf, out = write_vcf(tmp_path / "v.vcf", records()), tmp_path / "o.vcf"
    assert variants(folder, vcf, "-m", folds[1], "-o", out, "--no-check", model="fold1").exit_code == 0
    single = []
    for name in ("fold1", "fold2"):
        assert variants(folder, vcf, "-o", tmp_path / f"{name}.vcf", "--no-check", model=name).exit_code == 0
        single.append(table_of(tmp_path / f"{name}.tsv"))
    lines, (one, other) = table_of(tmp_path / "o.tsv"), single
    for column in ("reference", "delta"):
        found = np.float32([line[column] for line in lines])
        wanted = np.mean([[np.float32(x[column]) for x in y] for y in (one, other)], axis=0, dtype="float64")
        # a forward pass for each allele: the difference of two means has the rounding of both
        sizes = np.maximum(np.abs(wanted), [abs(float(x["reference"])) for x in lines])
        assert (np.abs(found - wanted) <= 2 * np.spacing(np.float32(sizes))).all()


def test_the_largest_delta_around_is_that_of_the_mean(folder, folds, tmp_path):
    record = substitution("chrA", 53)
    vcf, out = write_vcf(tmp_path / "v.vcf", [record]), tmp_path / "o.vcf"
    result = variants(folder, vcf, *WAYS, "--around", 3, "-o", out, model="fold1")
    assert result.exit_code == 0, result.stderr
    model, start = keras.models.load_model(folds[0]), record[1] - LENGTH // 2
    deltas = []
    for position, letter in product(range(record[1] - 1, record[1] + 2), "ACGT"):
        pair = mean_truth([model], ("chrA", position, base("chrA", position), letter), letter, start)
        deltas.append(np.abs(pair[1] - pair[0]))
    found = [float(line["around_ref"]) for line in table_of(tmp_path / "o.tsv")]
    np.testing.assert_allclose(found, np.max(deltas, axis=0), atol=3e-6)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("-m", "fold1.keras"), "is given twice"),
        (("-m", "no.keras"), "no.keras"),
        (("--rc-pairs", "0:1"), "give --rc too"),
        (("--shifts", "a"), "--shifts must be whole numbers"),
    ],
)
def test_refusals(folder, folds, tmp_path, more, message):
    vcf, out = write_vcf(tmp_path / "v.vcf", records()[:1]), tmp_path / "o.vcf"
    more = [folds[0] if text == "fold1.keras" else text for text in more]
    result = variants(folder, vcf, *more, "-o", out, model="fold1")
    assert result.exit_code == 2 and message in result.stderr and not out.exists(), result.output
