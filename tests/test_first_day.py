"""The first-time user's job: the commands of docs/how-to/first-day.md, on files of that kind, or on real ones.

With ``FASTISM_REAL=FOLDER`` model, peaks and genome are ``tal1.h5``, ``tss.narrowPeak`` and ``hg38_chr1_0_1Mb.fa.gz``
of that folder; VCF and GTF are made to fit.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers

from fastism_cli.cli import main
from fastism_cli.genome.fasta import open_fasta
from fastism_cli.results.scores import open_scores
from tests.test_pages import commands_of, words_of

pytestmark = [pytest.mark.usefixtures("logging_as_before"), pytest.mark.one_in(36)]

PAGE = "docs/how-to/first-day.md"
MOST_COMMANDS = 7
LENGTH = 500
REAL = os.environ.get("FASTISM_REAL", "")


class Files(NamedTuple):
    """What the user has; ``targets`` of the model."""

    model: str
    peaks: str
    fasta: str
    targets: int


# --- files of that kind -----------------------------------------------------------------------------------------------


def made(folder: Path) -> Files:
    """A model of two targets, a genome of two contigs, and peaks: one at an end, one of N, one on the other strand."""
    rng = np.random.default_rng(3)
    keras.utils.set_random_seed(3)
    inp = keras.Input((LENGTH, 4))
    x = layers.MaxPooling1D(4)(layers.Conv1D(8, 11, activation="relu")(inp))
    model = keras.Model(inp, layers.Dense(2, activation="sigmoid", name="open")(layers.Flatten()(x)))
    model.save(folder / "made.keras")
    sequence = "".join(rng.choice(list("ACGT"), 4000))
    sequence = sequence[:3000] + 600 * "N" + sequence[3600:]
    (folder / "made.fa").write_text(f">chr1\n{sequence}\n>chr2\n{sequence[:900]}\n")
    lines = ["chr1\t300\t700\ta\t0\t+\t0\t-1\t-1\t150", "chr1\t1500\t1900\tb\t0\t-\t0\t-1\t-1\t210"]
    lines += ["1\t3100\t3500\tn\t0\t.\t0\t-1\t-1\t200", "chr2\t10\t90\tstart\t0\t.\t0\t-1\t-1\t20"]
    lines += ["chr2\t300\t600\tc\t0\t+\t0\t-1\t-1\t150"]
    (folder / "made.narrowPeak").write_text("\n".join(lines) + "\n")
    return Files(str(folder / "made.keras"), str(folder / "made.narrowPeak"), str(folder / "made.fa"), 2)


def real(folder: Path) -> Files:
    source = Path(REAL)
    fasta = shutil.copy(source / "hg38_chr1_0_1Mb.fa.gz", folder)
    return Files(str(source / "tal1.h5"), str(source / "tss.narrowPeak"), str(fasta), 1)


def peaks_of(files: Files) -> list[tuple[str, int, int, int]]:
    """chrom, start, end, summit of each peak."""
    rows = [line.split("\t") for line in Path(files.peaks).read_text().splitlines()]
    return [(row[0], int(row[1]), int(row[2]), int(row[1]) + int(row[9])) for row in rows]


def write_vcf(path: Path, files: Files) -> int:
    """One variant at the summit of each peak whose base there is known; how many there are."""
    lines, places = [], set()
    with open_fasta(files.fasta) as genome:
        for chrom, _, _, summit in sorted(peaks_of(files)):
            letter = "ACGTN"[int(genome.codes(chrom, summit, summit + 1)[0])] if chrom.startswith("chr") else "N"
            if letter != "N" and (chrom, summit) not in places:
                places.add((chrom, summit))
                lines.append(f"{chrom}\t{summit + 1}\t.\t{letter}\t{'A' if letter != 'A' else 'C'}\t.\t.\t.")
    path.write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "\n".join(lines) + "\n")
    return len(lines)


def write_gtf(path: Path, files: Files) -> None:
    """A gene of two exons over each peak."""
    lines = []
    for i, (chrom, start, end, _) in enumerate(peaks_of(files)):
        name = f'gene_id "g{i}"; transcript_id "t{i}"; gene_name "GENE{i}";'
        third = (end - start) // 3
        exons = [(start, start + third), (end - third, end)]
        spans = {"gene": [(start, end)], "transcript": [(start, end)], "exon": exons}
        lines += [
            f"{chrom}\tmade\t{kind}\t{first + 1}\t{stop}\t.\t+\t.\t{name}"
            for kind, found in spans.items()
            for first, stop in found
        ]
    path.write_text("\n".join(lines) + "\n")


# --- the job ----------------------------------------------------------------------------------------------------------


def as_named(line: str, files: Files) -> str:
    """A command of the page with the user's files in it."""
    result = Path(files.peaks).name.removesuffix(".narrowPeak") + ".ism.h5"
    names = {"model.h5": files.model, "peaks.narrowPeak": files.peaks, "hg38.fa": files.fasta, "peaks.ism.h5": result}
    line = re.sub("|".join(map(re.escape, names)), lambda found: names[found[0]], line)
    return line if files.targets > 1 else line.replace(" --target 1", "")


def fastism(line: str) -> None:
    result = CliRunner().invoke(main, words_of(line)[1:], prog_name="fastism")
    assert result.exit_code == 0, f"{line}\n{result.output}"


@pytest.mark.parametrize("files", [made, real], ids=["made", "real"])
def test_seven_commands(files, tmp_path, monkeypatch, capfd):
    if files is real and not REAL:
        pytest.skip("FASTISM_REAL names no folder with the real files")
    monkeypatch.chdir(tmp_path)
    given = files(tmp_path)
    n_variants = write_vcf(tmp_path / "my.vcf", given)
    write_gtf(tmp_path / "genes.gtf", given)
    lines = commands_of(PAGE)
    assert len(lines) <= MOST_COMMANDS
    run, bigwig, top, variants, arrays, motifs, plot = (as_named(line, given) for line in lines)

    fastism(run)
    (result,) = tmp_path.glob("*.ism.h5")
    with open_scores(str(result)) as scores:
        tracks, n_scored = scores.tracks, int((scores.regions["status"] == 1).sum())
        assert len(tracks) == given.targets and n_scored >= len(peaks_of(given)) - 2  # but those of N
    fastism(bigwig)
    assert len(list(tmp_path.glob("*.bw"))) == given.targets
    capfd.readouterr()
    fastism(top)
    table = list(csv.DictReader(StringIO(capfd.readouterr().out), delimiter="\t"))
    assert len(table) == 10 * given.targets
    strengths = [abs(float(row["delta"])) for row in table[:10]]
    assert strengths == sorted(strengths, reverse=True) and strengths[-1] > 0
    fastism(variants)
    text = (tmp_path / "my.ism.tsv").read_text()
    scored = list(csv.DictReader(StringIO(text), delimiter="\t"))
    assert len(scored) == n_variants * given.targets and {row["status"] for row in scored} == {"ok"}
    fastism(arrays)
    finds_motifs(motifs, tmp_path)
    fastism(plot)
    (picture,) = tmp_path.glob("*.png")
    assert picture.stat().st_size > 20_000


def finds_motifs(line: str, folder: Path) -> None:
    """Give modisco its arrays, where it is installed; anywhere, they are what it reads."""
    with h5py.File(folder / words_of(line)[3]) as file:
        shapes = {name: file[name].shape for name in file}
    assert len(set(shapes.values())) == 1 and all(shape[-1] == 4 or 4 in shape for shape in shapes.values())
    program = shutil.which("modisco", path=os.environ.get("FASTISM_CONSUMERS") or None)
    if program:
        subprocess.run([program, *words_of(line)[1:]], cwd=folder, check=True)
        assert (folder / words_of(line)[-1]).exists()
