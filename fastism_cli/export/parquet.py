"""A table in Parquet: chrom, pos (from 1), ref, alt, target, delta, on the + strand."""

from __future__ import annotations

from typing import Any

from fastism_cli.export.request import ExportJob
from fastism_cli.export.substitutions import names_of, substitutions
from fastism_cli.export.tsv import COLUMNS, REGION_COLUMNS
from fastism_cli.optional import require


def write(job: ExportJob) -> None:
    """One file for all targets; a row group for each block of regions."""
    pa = require("pyarrow", wanted_by="--format parquet", extra="export")
    parquet = require("pyarrow.parquet", wanted_by="--format parquet", extra="export")
    names, columns = names_of(job), [*COLUMNS, *(REGION_COLUMNS if job.region_columns else ())]
    kinds = {"pos": pa.int64(), "row": pa.int64(), "delta": pa.float32()}
    schema = pa.schema([(column, kinds.get(column, pa.string())) for column in columns])
    with parquet.ParquetWriter(job.paths[0][0], schema) as writer:
        for found in substitutions(job):
            arrays = [_array(pa, getattr(found, column), getattr(names, column, None)) for column in columns]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _array(pa: Any, values: Any, names: Any) -> Any:
    if names is None:
        return pa.array(values)
    return pa.DictionaryArray.from_arrays(pa.array(values.astype("int32")), pa.array(names, pa.string())).cast(
        pa.string()
    )
