"""Write scored variants: the VCF with added INFO fields, and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np

from fastism_cli.genome import vcf_files
from fastism_cli.genome.vcf_files import INFO_COLUMN, Variant
from fastism_cli.run.variants.variant_block import AlleleStatus

FLOAT = "%.9g"
COLUMNS = ("chrom", "pos", "id", "ref", "alt", "target", "reference", "delta", "status")
STATUS = "ISM_STATUS"


class ScoredVcf:
    """Write the VCF with ``ISM_DELTA`` for each allele, ``ISM_REF``, and ``ISM_STATUS`` if an allele has no score."""

    def __init__(self, file: Any, header: Sequence[str], contigs: Mapping[str, int], labels: Sequence[str]) -> None:
        self._file = file
        self._delta = vcf_files.info_keys("ISM_DELTA", labels)
        self._reference = vcf_files.info_keys("ISM_REF", labels)
        self._own = {*self._delta, *self._reference, STATUS}
        self._write_header(header, contigs, labels)

    def add(self, variant: Variant, reference: np.ndarray, delta: np.ndarray, statuses: Sequence[AlleleStatus]) -> None:
        """Write one record with its reference (K,) and delta (alleles, K); NaN where there is no score."""
        kept = [
            field
            for field in variant.columns[INFO_COLUMN].split(";")
            if field != "." and field.split("=")[0] not in self._own
        ]
        if variant.alts:
            for key, column in zip(self._delta, delta.T, strict=True):
                kept.append(f"{key}={','.join(map(number, column))}")
            kept += [f"{key}={number(x)}" for key, x in zip(self._reference, reference, strict=True) if np.isfinite(x)]
        if any(status != AlleleStatus.OK for status in statuses):
            kept.append(f"{STATUS}={','.join(statuses)}")
        columns = [*variant.columns[:INFO_COLUMN], ";".join(kept) or ".", *variant.columns[INFO_COLUMN + 1 :]]
        self._file.write(("\t".join(columns) + "\n").encode())

    def _write_header(self, header: Sequence[str], contigs: Mapping[str, int], labels: Sequence[str]) -> None:
        own = [f"##INFO=<ID={key}," for key in self._own]
        lines = [line for line in header[:-1] if not line.startswith(tuple(own))]
        named = [name for name in contigs if not any(line.startswith(f"##contig=<ID={name}") for line in lines)]
        lines += [f"##contig=<ID={name},length={contigs[name]}>" for name in named]
        for keys, size, what in (
            (self._delta, "A", "Prediction on ALT minus prediction on REF"),
            (self._reference, "1", "Prediction on REF"),
        ):
            lines += [
                vcf_files.info_line(key, size, "Float", f"{what}: {label}")
                for key, label in zip(keys, labels, strict=True)
            ]
        lines.append(vcf_files.info_line(STATUS, "A", "String", "Why an allele has no score; ok if it has"))
        self._file.write("\n".join([*lines, header[-1], ""]).encode())


class ScoredTable:
    """Write a line for each allele and target; ``pos`` counts from 1; cells without a score are empty."""

    def __init__(self, file: IO[str], labels: Sequence[str]) -> None:
        self._file, self._labels = file, labels
        file.write("\t".join(COLUMNS) + "\n")

    def add(self, variant: Variant, reference: np.ndarray, delta: np.ndarray, statuses: Sequence[AlleleStatus]) -> None:
        """Write the lines of one record."""
        place = (variant.chrom, str(variant.position + 1), variant.name, variant.ref)
        for alt, status, values in zip(variant.alts, statuses, delta, strict=True):
            for label, ref, value in zip(self._labels, reference, values, strict=True):
                cells = (*place, alt, label, number(ref, ""), number(value, ""), str(status))
                self._file.write("\t".join(cells) + "\n")


def number(value: float, missing: str = ".") -> str:
    """A float32 as text, with enough digits to read the same float32 back; ``missing`` if it is not finite."""
    return FLOAT % value if np.isfinite(value) else missing
