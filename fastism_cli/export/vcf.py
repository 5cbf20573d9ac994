"""VCF: every substitution as a record, delta in INFO; sorted, bgzipped, indexed.

A base that several regions cover has records for each region, with its row in INFO/ROW.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastism_cli.export.along_genome import Stretch, along_genome, delta_and_letters
from fastism_cli.export.exported_regions import ExportJob
from fastism_cli.export.output_files import FLOAT, scratch_folder
from fastism_cli.genome import vcf_output
from fastism_cli.optional import require
from fastism_cli.results.staging import is_stream, open_stream
from fastism_cli.scores.tracks import Array

LETTERS = np.array(list("ACGTN"), dtype=object)


def write_vcf(job: ExportJob) -> None:
    """One file for all targets."""
    pysam = require("pysam", wanted_by="--format vcf", extra="export")
    file, path = job.regions.scores.file, job.paths[0][0]
    labels = [track.label for track in job.tracks]
    keys = vcf_output.info_keys("DELTA", labels)
    lines = [vcf_output.info_line("ROW", "1", "Integer", "Row of the BED, from 0")] + [
        vcf_output.info_line(key, "A", "Float", f"Prediction on ALT minus prediction on the reference: {label}")
        for key, label in zip(keys, labels, strict=True)
    ]
    with _opened(pysam, path) as output:
        output.write(vcf_output.header(file.genome_sizes, lines, reference=file.attrs.get("fasta_path", "")).encode())
        for text in _records(job, keys):
            output.write(text.encode())
    if not is_stream(path) and not path.endswith(".vcf"):
        vcf_output.index(pysam, path, file.genome_sizes)


def _opened(pysam: Any, path: str) -> Any:
    """Compressed by bgzip, but for a stream and a name that ends in .vcf."""
    if is_stream(path):
        return open_stream(path)
    return open(path, "wb") if path.endswith(".vcf") else pysam.BGZFile(path, "wb")


def _records(job: ExportJob, keys: list[str]) -> Iterator[str]:
    bed_row = job.regions.whole().column("bed_row")
    info = ";".join(["ROW=%d", *(f"{key}={FLOAT}" for key in keys)])
    for stretch in along_genome(job.regions, job.tracks, delta_and_letters, scratch_folder(job.paths[0][0])):
        yield _lines(stretch, bed_row, f"{stretch.segment.chrom}\t%d\t.\t%s\t%s\t.\t.\t{info}\n")


def _lines(stretch: Stretch, bed_row: Array, line: str) -> str:
    """By position, then region, then letter."""
    delta = stretch.values[:, :-1].transpose(2, 0, 3, 1)  # bases, regions, letters, K
    codes = stretch.values[0, -1, :, 0].astype(int)
    wanted = np.isfinite(delta).all(-1) & (np.arange(4) != codes[:, None, None])
    base, region, alt = np.nonzero(wanted)
    columns = [
        (stretch.segment.start + 1 + base).tolist(),
        LETTERS[codes[base]].tolist(),
        LETTERS[alt].tolist(),
        bed_row[np.array(stretch.segment.covering)[region]].tolist(),
        *delta[wanted].T.tolist(),
    ]
    return "".join(map(line.__mod__, zip(*columns, strict=True)))
