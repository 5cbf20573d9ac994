"""`fastism variants` over strands, shifts and models: against plain Keras on the genome, and runs one by one."""

from itertools import product

import keras
import numpy as np
import pytest

from fastism_cli.run.variants.variant_block import VariantWindows
from tests.helpers.small_run import LENGTH, plain, predicted
from tests.models.zoo import randomise
from tests.run.test_score_variants import alleles_of, bases, records, substitution, table_of, variants, write_vcf

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


def mean_truth(models, alleles, shifts=SHIFTS) -> np.ndarray:
    """Predictions (alleles, 2, targets) on both sequences of each (record, alternate, start of the input).

    Means over models, inputs that are read elsewhere, and strands.
    """
    pairs = [alleles_of(record, alt, start + shift) for record, alt, start in alleles for shift in shifts]
    codes = np.concatenate(pairs)
    turned = np.array([3, 2, 1, 0, 4])[codes[:, ::-1]]
    found = [[predicted(model, codes)[0], predicted(model, turned)[0][:, SWAP]] for model in models]
    shape = (len(models), 2, len(alleles), len(shifts), 2, -1)
    return np.array(found, "float64").reshape(shape).mean((0, 1, 3))


@pytest.mark.one_in(36)
@pytest.mark.parametrize("share", [1, 8])
def test_strands_shifts_and_models_are_those_of_plain_keras(folder, folds, tmp_path, share):
    """Moved inputs show the genome around the input; insertions and deletions move what is behind them there too."""
    vcf, out = write_vcf(tmp_path / "v.vcf", records()), tmp_path / "o.vcf"
    result = variants(folder, vcf, "-m", folds[1], *WAYS, "--share", share, "-o", out, model="fold1")
    assert result.exit_code == 0, result.stderr
    text = "2 models, both strands, shifts -3, 0, 2"
    assert f"scores are the mean of {text}" in result.stderr
    assert f'minus prediction on REF (mean of {text}): out/0"' in out.read_text()
    models, windows = [keras.models.load_model(path) for path in folds], VariantWindows(LENGTH, share)
    alleles = [(record, alt, windows.start(record[1])) for record in records() for alt in record[3].split(",")]
    expected = mean_truth(models, alleles)
    lines = table_of(tmp_path / "o.tsv")
    found = np.array([[float(line[name]) for name in ("reference", "delta")] for line in lines])
    found = found.reshape(len(alleles), 3, 2)
    np.testing.assert_allclose(found[..., 0], expected[:, 0], rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(found[..., 1], expected[:, 1] - expected[:, 0], rtol=1e-4, atol=3e-6)
    assert np.abs(mean_truth(models, alleles, (0,)) - expected).max() > 1e-2


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


@pytest.mark.one_in(24)
def test_the_largest_delta_around_is_that_of_the_mean(folder, folds, tmp_path):
    record = substitution("chrA", 53)
    vcf, out = write_vcf(tmp_path / "v.vcf", [record]), tmp_path / "o.vcf"
    result = variants(folder, vcf, *WAYS, "--around", 3, "-o", out, model="fold1")
    assert result.exit_code == 0, result.stderr
    model, start = keras.models.load_model(folds[0]), record[1] - LENGTH // 2
    first, (line, *rest) = record[1] - 1, table_of(tmp_path / "o.tsv")
    reference = bases("chrA", first, first + 3)
    for side, own in (("around_ref", reference), ("around_alt", reference[0] + record[3] + reference[2])):
        changed = [own[:i] + letter + own[i + 1 :] for i, letter in product(range(3), "ACGT")]
        alleles = [(("chrA", first, reference, text), text, start) for text in [own, *changed]]
        values = mean_truth([model], alleles)[:, 1]
        found = [float(x[side]) for x in (line, *rest)]
        np.testing.assert_allclose(found, np.abs(values[1:] - values[0]).max(0), atol=3e-6)


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
