"""A table as text: chrom, pos (from 1), ref, alt, target, delta, on the + strand."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastism_cli.export.request import ExportJob
from fastism_cli.export.substitutions import names_of, substitutions
from fastism_cli.export.text_files import FLOAT, open_text

COLUMNS = ("chrom", "pos", "ref", "alt", "target", "delta")
REGION_COLUMNS = ("row", "name")


def write(job: ExportJob) -> None:
    """One file for all targets, with a header."""
    names, columns = names_of(job), [*COLUMNS, *(REGION_COLUMNS if job.region_columns else ())]
    line = "\t".join({"pos": "%d", "row": "%d", "delta": FLOAT}.get(column, "%s") for column in columns) + "\n"
    with open_text(job.paths[0][0]) as file:
        file.write("\t".join(columns) + "\n")
        for found in substitutions(job):
            values = [_listed(getattr(found, column), getattr(names, column, None)) for column in columns]
            file.write("".join(map(line.__mod__, zip(*values, strict=True))))


def _listed(values: Any, names: Any) -> list[Any]:
    return values.tolist() if names is None else np.array(names, dtype=object)[values].tolist()
