"""The formats of ``fastism export``: a table of facts. Importing it loads no library."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Format:
    """One consumer's format.

    Attributes
    ----------
    module : str
        In ``fastism_cli.export``; it has a function ``write(job)``.
    parts : tuple of str
        What follows the stem in the name of each file: most formats have one part, modisco-npz has two.
    per_target : bool
        Whether each target gets files of its own.
    holds : "regions" or "bases"
        Arrays with a row for each region, whose windows must all be of one, even width and lie on their contig; or
        whatever bases have scores.
    library : str
        Distribution that the extra ``export`` installs for it; "" for none.
    """

    module: str
    parts: tuple[str, ...]
    per_target: bool
    holds: str
    library: str = ""

    def load(self) -> Any:
        """The module that writes it."""
        return import_module(f"fastism_cli.export.{self.module}")


FORMATS = {
    "modisco-npz": Format("modisco_npz", (".ohe.npz", ".shap.npz"), per_target=True, holds="regions"),
    "modisco-h5": Format("modisco_h5", (".modisco.h5",), per_target=True, holds="regions"),
    "chrombpnet-h5": Format("chrombpnet_h5", (".chrombpnet.h5",), per_target=True, holds="regions"),
    "basenji-h5": Format("basenji_h5", (".basenji.h5",), per_target=False, holds="regions"),
    "bigwig": Format("bigwig", (".bw",), per_target=True, holds="bases", library="pyBigWig"),
    "bedgraph": Format("bedgraph", (".bedgraph",), per_target=True, holds="bases"),
    "tsv": Format("tsv", (".tsv",), per_target=False, holds="bases"),
    "parquet": Format("parquet", (".parquet",), per_target=False, holds="bases", library="pyarrow"),
    "vcf": Format("vcf", (".vcf.gz",), per_target=False, holds="bases", library="pysam"),
}
OVERLAPS = ("mean", "max", "first")
COMPRESSIONS = ("none", "gzip")
