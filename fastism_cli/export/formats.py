"""The formats of ``fastism export``: a table of facts. Importing it loads no library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from fastism_cli.genome.vcf_output import index_names

if TYPE_CHECKING:
    from fastism_cli.export.exported_regions import ExportJob


@dataclass(frozen=True)
class Format:
    """One consumer's format.

    Attributes
    ----------
    module : str
        In ``fastism_cli.export``: where the function that writes it is, see :func:`writer_of`.
    endings : tuple of str
        End of the name of each file: one for most formats, two for modisco-npz.
    per_target : bool
        Whether each target gets separate files.
    holds : "regions" or "bases"
        Arrays with a row for each region, whose windows must all have the same even width and lie on their contig; or
        all bases that have scores.
    library : str
        Distribution that the extra ``export`` installs for it; "" for none.
    is_text : bool
        Whether it can be written to stdout.
    indexes : callable
        The names of the indexes that may lie beside a file.
    of_blocks : bool
        Whether it holds scores of blocks too; the others need those of single letters.
    """

    module: str
    endings: tuple[str, ...]
    per_target: bool
    holds: str
    library: str = ""
    is_text: bool = False
    indexes: Callable[[str], list[str]] = lambda path: []
    of_blocks: bool = False


FORMATS = {
    "modisco-npz": Format("attribution_arrays", (".ohe.npz", ".shap.npz"), per_target=True, holds="regions"),
    "modisco-h5": Format("attribution_arrays", (".modisco.h5",), per_target=True, holds="regions"),
    "chrombpnet-h5": Format("attribution_arrays", (".chrombpnet.h5",), per_target=True, holds="regions"),
    "basenji-h5": Format("attribution_arrays", (".basenji.h5",), per_target=False, holds="regions"),
    "bigwig": Format("base_tracks", (".bw",), per_target=True, holds="bases", library="pyBigWig", of_blocks=True),
    "bedgraph": Format("base_tracks", (".bedgraph",), per_target=True, holds="bases", is_text=True, of_blocks=True),
    "tsv": Format("tables", (".tsv",), per_target=False, holds="bases", is_text=True, of_blocks=True),
    "parquet": Format("tables", (".parquet",), per_target=False, holds="bases", library="pyarrow", of_blocks=True),
    "vcf": Format(
        "vcf",
        (".vcf.gz",),
        per_target=False,
        holds="bases",
        library="pysam",
        is_text=True,
        indexes=index_names,
    ),
}


def writer_of(kind: str) -> Callable[[ExportJob], None]:
    """The function that writes a format: ``base_tracks.write_bigwig`` for ``bigwig``."""
    module = import_module(f"fastism_cli.export.{FORMATS[kind].module}")
    writer: Callable[[ExportJob], None] = getattr(module, f"write_{kind.replace('-', '_')}")
    return writer
