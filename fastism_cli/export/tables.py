"""Tables with a line for each substitution, as text or Parquet: chrom, pos (from 1), ref, alt, target, delta.

Letters are those of the + strand. Of blocks: chrom, start and end as in BED, number of the content, target, delta.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastism_cli.export.exported_regions import ExportJob
from fastism_cli.export.output_files import FLOAT, open_text, scratch_folder
from fastism_cli.export.strongest import chosen_substitutions
from fastism_cli.optional import require
from fastism_cli.results.genome_substitutions import LETTERS, GenomeSubstitutions
from fastism_cli.scores.tracks import Array
from fastism_cli.scores.written_names import cell

COLUMNS = ("chrom", "pos", "ref", "alt", "target", "delta")
BLOCK_COLUMNS = ("chrom", "start", "end", "content", "target", "delta")
WHOLE = ("pos", "start", "end", "content", "row")
REGION_COLUMNS = ("row", "name")


def write_tsv(job: ExportJob) -> None:
    """TSV: one file for all targets, with a header."""
    cells, columns = cells_of(job), columns_of(job)
    forms = {**dict.fromkeys(WHOLE, "%d"), "delta": FLOAT}
    line = "\t".join(forms.get(column, "%s") for column in columns) + "\n"
    with open_text(job.paths[0][0]) as file:
        file.write("\t".join(columns) + "\n")
        for found in substitutions(job):
            values = [_listed(_numbers(found, column), cells.get(column)) for column in columns]
            file.write("".join(map(line.__mod__, zip(*values, strict=True))))


def _listed(values: Array, cells: Sequence[Any] | None) -> list[Any]:
    return values.tolist() if cells is None else np.array(cells, dtype=object)[values].tolist()


def write_parquet(job: ExportJob) -> None:
    """Parquet: one file for all targets; a row group for each block of regions."""
    pa = require("pyarrow", wanted_by="--format parquet", extra="export")
    parquet = require("pyarrow.parquet", wanted_by="--format parquet", extra="export")
    cells, columns = cells_of(job), columns_of(job)
    kinds = {**dict.fromkeys(WHOLE, pa.int64()), "delta": pa.float32()}
    schema = pa.schema([(column, kinds.get(column, pa.string())) for column in columns])
    with parquet.ParquetWriter(job.paths[0][0], schema) as writer:
        for found in substitutions(job):
            arrays = [
                _array(pa, _numbers(found, column), cells.get(column), schema.field(column).type) for column in columns
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _array(pa: Any, values: Array, cells: Sequence[Any] | None, kind: Any) -> Any:
    if cells is None:
        return pa.array(values, kind)
    return pa.DictionaryArray.from_arrays(pa.array(values.astype("int32")), pa.array(cells, kind)).cast(kind)


# --- the lines -------------------------------------------------------------------------------------------------------


def columns_of(job: ExportJob) -> list[str]:
    columns = COLUMNS if job.regions.scores.places is None else BLOCK_COLUMNS
    return [*columns, *(REGION_COLUMNS if job.region_columns else ())]


def cells_of(job: ExportJob) -> dict[str, Sequence[Any]]:
    """What the numbers of some columns stand for; those of ``row`` and ``name`` are rows of the file."""
    scores = job.regions.scores
    cells: dict[str, Sequence[Any]] = {
        "chrom": list(scores.file.genome_sizes),
        "ref": LETTERS,
        "alt": LETTERS,
        "target": [cell(track.label) for track in job.tracks],
    }
    if job.region_columns:
        cells |= {"row": scores.regions["bed_row"].tolist(), "name": [*map(cell, scores.regions["name"].tolist())]}
    return cells


def _numbers(found: GenomeSubstitutions, column: str) -> Array:
    return np.asarray(getattr(found, "row" if column in REGION_COLUMNS else column))


def substitutions(job: ExportJob) -> Iterator[GenomeSubstitutions]:
    """Changes with a score: of all regions, by region, target, position and letter, or block and content; or those that
    were chosen."""
    if job.choice is not None:
        yield from chosen_substitutions(job.regions, job.tracks, job.choice, scratch_folder(job.paths[0][0]))
        return
    for places in job.regions.pieces():
        yield from job.regions.scores.substitutions(places.rows, job.tracks)
