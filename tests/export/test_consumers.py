"""Exports in the hands of the tools that they are for: `make test-consumers`. What is not installed is skipped by name.

FASTISM_CONSUMERS names the folder of programs of an environment of its own, which holds modisco-lite and DuckDB.
"""

import os
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from fastism_cli.export.export_scores import export_scores
from fastism_cli.genome.fasta import open_fasta
from tests.export.test_export_scores import true_substitutions
from tests.helpers.result_files import LENGTH, RECORDS, write_result

pytestmark = pytest.mark.consumers

EXAMPLES = Path(__file__).parents[2] / "examples"
MOTIF = "TGACTCA"  # AP-1, which the head ap1 of the demo model has learned
REVERSE = "TGAGTCA"
N_PEAKS, WIDTH = 240, 500


def program(name: str) -> str:
    """Path of a consumer, wherever it is installed."""
    found = shutil.which(name, path=os.environ.get("FASTISM_CONSUMERS")) or shutil.which(name)
    if found is None:
        pytest.skip(f"not run: {name} is not installed")
    return found


def call(*arguments: object) -> str:
    result = subprocess.run([str(x) for x in arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


# --- TF-MoDISco -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Path, list[tuple[int, int]]]:
    """Scores of the demo model on both strands of peaks with one AP-1 site each, and where the sites are."""
    folder = tmp_path_factory.mktemp("planted")
    rng = np.random.default_rng(3)
    genome = rng.choice(list("ACGT"), (N_PEAKS + 2) * WIDTH, p=[0.3, 0.2, 0.2, 0.3])
    sites, lines = [], []
    for peak in range(N_PEAKS):
        start = (peak + 1) * WIDTH
        site = start + int(rng.integers(120, 370))
        genome[site : site + len(MOTIF)] = list(MOTIF if rng.random() < 0.5 else REVERSE)
        sites.append((site, site + len(MOTIF)))
        lines.append(f"chr1\t{start}\t{start + WIDTH}\tpeak_{peak}\t0\t{'+-'[peak % 2]}\n")
    order = rng.permutation(N_PEAKS)
    (folder / "g.fa").write_text(">chr1\n" + "".join(genome) + "\n")
    (folder / "p.bed").write_text("".join(lines[i] for i in order))
    files = ("--bed", folder / "p.bed", "--fasta", folder / "g.fa", "--output", folder / "p.ism.h5")
    model = EXAMPLES / "demo.keras"
    call("fastism", "run", "--model", model, *files, "--stranded", "--targets", "ap1=0")
    return folder / "p.ism.h5", [sites[i] for i in order]


@pytest.mark.parametrize("kind", ["modisco-h5", "modisco-npz"])
def test_modisco_finds_the_planted_motif_and_maps_it_back(planted, tmp_path, kind):
    modisco = program("modisco")
    result, sites = planted
    call("fastism", "export", result, "--format", kind, "-o", tmp_path / "x.h5")
    inputs = {
        "modisco-h5": ["-i", tmp_path / "x.h5"],
        "modisco-npz": ["-s", tmp_path / "x.ohe.npz", "-a", tmp_path / "x.shap.npz"],
    }
    call(modisco, "motifs", *inputs[kind], "-n", 2000, "-w", 400, "-o", tmp_path / "motifs.h5")
    with h5py.File(tmp_path / "motifs.h5") as file:
        pattern = file["pos_patterns/pattern_0/sequence"][:]
        n_seqlets = int(file["pos_patterns/pattern_0/seqlets/n_seqlets"][0])
    consensus = "".join("ACGT"[i] for i in pattern.argmax(1))
    assert (MOTIF in consensus or REVERSE in consensus) and n_seqlets > N_PEAKS / 2

    bed = tmp_path / "seqlets.bed"
    call(
        modisco,
        "seqlet-bed",
        "-i",
        tmp_path / "motifs.h5",
        "-p",
        tmp_path / "x.regions.narrowPeak",
        "-c",
        "*",
        "-o",
        bed,
        "-q",
    )
    rows = [line.split("\t") for line in bed.read_text().splitlines() if "pattern_0." in line]
    assert len(rows) == n_seqlets
    with open_fasta(str(result.parent / "g.fa")) as genome:
        found = [holds_motif(genome, int(row[1]) - 1, int(row[2])) for row in rows]  # modisco adds 1 to each start
    assert np.mean(found) > 0.8  # by chance one in hundreds; some near-matches are seqlets too
    covered = [any(int(row[1]) - 1 <= start and stop <= int(row[2]) for row in rows) for start, stop in sites]
    assert np.mean(covered) > 0.5


def test_the_way_from_bed_to_motifs(tmp_path):
    modisco = Path(program("modisco"))
    page = (EXAMPLES.parent / "docs" / "how-to" / "motifs.md").read_text()
    commands = [line.strip() for line in page.splitlines() if line.startswith("    ")]
    assert len(commands) == 4
    (tmp_path / "examples").mkdir()
    for name in ("demo.keras", "demo.bed", "demo.fa"):
        shutil.copy(EXAMPLES / name, tmp_path / "examples")
    path = os.pathsep.join([str(modisco.parent), os.environ["PATH"]])
    for command in commands:
        subprocess.run(command, shell=True, cwd=tmp_path, env=os.environ | {"PATH": path}, check=True)
    with h5py.File(tmp_path / "motifs.h5") as file:
        assert list(file) == ["pos_patterns"]
        pattern = file["pos_patterns/pattern_0/sequence"][:]
        n_seqlets = int(file["pos_patterns/pattern_0/seqlets/n_seqlets"][0])
    consensus = "".join("ACGT"[i] for i in pattern.argmax(1))
    assert any(core in consensus for core in ("GGTGGC", "GCCACC")) and n_seqlets > 30  # of 37 planted sites
    assert (tmp_path / "demo.plots.pdf").stat().st_size > 100_000


def holds_motif(genome, start: int, stop: int) -> bool:
    text = "".join("ACGTN"[code] for code in genome.codes("chr1", start, stop))
    return MOTIF in text or REVERSE in text


# --- tables and variants ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """Regions on both strands, overlapping, equal, and in no order."""
    folder = tmp_path_factory.mktemp("tables")
    source = str(write_result(folder / "r.ism.h5"))
    for kind, name in {"tsv": "o.tsv", "parquet": "o.parquet", "vcf": "o.vcf.gz"}.items():
        export_scores(source, str(folder / name), kind=kind)
    return folder


def truth() -> pd.DataFrame:
    columns = ["chrom", "pos", "ref", "alt", "target", "delta", "row"]
    frame = pd.DataFrame(true_substitutions(LENGTH, [0, 1, 2, 3]), columns=columns)
    return frame.astype({"delta": "float32"})


def test_pandas_reads_the_tables(exported):
    expected = truth().drop(columns="row")
    table = pd.read_csv(exported / "o.tsv", sep="\t", keep_default_na=False, dtype={"delta": "float32"})
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_parquet(exported / "o.parquet"), expected, check_dtype=False)


def test_duckdb_reads_the_parquet(exported):
    python = program("python")
    query = (
        f"select count(*), sum(delta::double), min(pos), max(pos), count(distinct target) from '{exported}/o.parquet'"
    )
    code = f"import duckdb; print(*duckdb.sql({query!r}).fetchall()[0])"
    if subprocess.run([python, "-c", "import duckdb"], capture_output=True, check=False).returncode:
        pytest.skip("not run: DuckDB is not installed")
    count, total, least, largest, targets = call(python, "-c", code).split()
    expected = truth()
    assert (int(count), int(least), int(largest)) == (len(expected), expected.pos.min(), expected.pos.max())
    assert int(targets) == 4 and np.isclose(float(total), expected.delta.astype(float).sum())


def test_bcftools_reads_the_vcf(exported):
    bcftools = program("bcftools")
    path = exported / "o.vcf.gz"
    keys = [f"DELTA_{label}" for label in ("profile_sum_a", "profile_sum_b", "profile_sum_c", "count")]
    form = "\\t".join(["%CHROM", "%POS", "%REF", "%ALT", "%INFO/ROW", *(f"%INFO/{key}" for key in keys)]) + "\\n"
    lines = [line.split("\t") for line in call(bcftools, "query", "-f", form, path).splitlines()]
    expected = truth().pivot(index=["chrom", "pos", "ref", "alt", "row"], columns="target", values="delta")
    assert len(lines) == len(expected)
    for line in lines:
        values = expected.loc[(line[0], int(line[1]), line[2], line[3], int(line[4]))]
        wanted = [values[label] for label in ("profile/sum/a", "profile/sum/b", "profile/sum/c", "count")]
        np.testing.assert_allclose(np.array(line[5:], float), wanted, rtol=1e-5)
    inside = call(bcftools, "view", "-H", "-r", "chrA:20-22", path).splitlines()  # by its index
    assert len(inside) == int(((truth().chrom == "chrA") & truth().pos.between(20, 22)).sum() / 4)


def test_bcftools_reads_scored_variants(tmp_path):
    bcftools = program("bcftools")
    fasta = EXAMPLES / "demo.fa"
    with open_fasta(str(fasta)) as genome:
        ref = "ACGT"[genome.codes("chr1", 2482, 2483)[0]]
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    alts = ",".join(letter for letter in "ACGT" if letter != ref)
    lines += [f"chr1\t2483\t.\t{ref}\t{alts}\t.\t.\t.", f"chr1\t2483\t.\t{ref}\t{ref}AC\t.\t.\t."]
    (tmp_path / "v.vcf").write_text("\n".join([*lines, ""]))
    files = ("--vcf", tmp_path / "v.vcf", "--fasta", fasta, "-o", tmp_path / "o.vcf.gz")
    call("fastism", "variants", "--model", EXAMPLES / "demo.keras", *files)
    found = call(bcftools, "query", "-f", "%INFO/ISM_DELTA_ctcf\\t%INFO/ISM_REF_ctcf\\n", tmp_path / "o.vcf.gz")
    first, second = (line.split("\t") for line in found.splitlines())
    assert len(first[0].split(",")) == 3 and len(second[0].split(",")) == 1 and first[1] == second[1]


def test_the_rows_cover_what_they_should():
    starts = [(record.chrom, record.input_start) for record in RECORDS]
    assert {record.strand for record in RECORDS} == {"+", "-"}
    assert len(set(starts)) < len(starts) and starts != sorted(starts)
