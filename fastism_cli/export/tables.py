"""Tables with a line for each substitution, as text or Parquet: chrom, pos (from 1), ref, alt, target, delta.

Letters are those of the + strand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastism_cli.export.exported_regions import ExportJob
from fastism_cli.export.output_files import FLOAT, open_text
from fastism_cli.optional import require
from fastism_cli.results.score_blocks import GenomeBlock
from fastism_cli.scores.tracks import Array
from fastism_cli.scores.written_names import cell

LETTERS = ("A", "C", "G", "T", "N")
COLUMNS = ("chrom", "pos", "ref", "alt", "target", "delta")
REGION_COLUMNS = ("row", "name")


def write_tsv(job: ExportJob) -> None:
    """TSV: one file for all targets, with a header."""
    names, columns = names_of(job), columns_of(job)
    line = "\t".join({"pos": "%d", "row": "%d", "delta": FLOAT}.get(column, "%s") for column in columns) + "\n"
    with open_text(job.paths[0][0]) as file:
        file.write("\t".join(columns) + "\n")
        for found in substitutions(job):
            values = [_listed(getattr(found, column), getattr(names, column, None)) for column in columns]
            file.write("".join(map(line.__mod__, zip(*values, strict=True))))


def _listed(values: Any, names: Any) -> list[Any]:
    return values.tolist() if names is None else np.array(names, dtype=object)[values].tolist()


def write_parquet(job: ExportJob) -> None:
    """Parquet: one file for all targets; a row group for each block of regions."""
    pa = require("pyarrow", wanted_by="--format parquet", extra="export")
    parquet = require("pyarrow.parquet", wanted_by="--format parquet", extra="export")
    names, columns = names_of(job), columns_of(job)
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


# --- the lines -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Substitutions:
    """Columns of equal length; chrom, ref, alt, target and name are indices into the lists of the same name.

    Attributes
    ----------
    chrom, pos, ref, alt, target, delta : (n,)
        ``pos`` counts from 1, as in VCF; letters are those of the + strand.
    row, name : (n,)
        Row of the BED, from 0, and its name.
    """

    chrom: Array
    pos: Array
    ref: Array
    alt: Array
    target: Array
    delta: Array
    row: Array
    name: Array


@dataclass(frozen=True)
class Names:
    """What the indices of :class:`Substitutions` stand for."""

    chrom: list[str]
    target: list[str]
    name: list[str]
    ref: tuple[str, ...] = LETTERS
    alt: tuple[str, ...] = LETTERS


def columns_of(job: ExportJob) -> list[str]:
    return [*COLUMNS, *(REGION_COLUMNS if job.region_columns else ())]


def names_of(job: ExportJob) -> Names:
    scores = job.regions.scores
    labels, names = [track.label for track in job.tracks], scores.regions["name"].tolist()
    return Names(list(scores.file.genome_sizes), [*map(cell, labels)], [*map(cell, names)])


def substitutions(job: ExportJob) -> Iterator[Substitutions]:
    """Substitutions with a score: regions in the order of the file; in each target by target, position, letter."""
    regions = job.regions
    rank = {name: i for i, name in enumerate(regions.scores.file.genome_sizes)}
    chrom_of = np.array([rank.get(chrom, -1) for chrom in regions.scores.regions["chrom"]], np.int64)
    sizes = np.array(list(regions.scores.file.genome_sizes.values()), np.int64)
    bed_row = regions.scores.regions["bed_row"]
    for block in regions.blocks(job.tracks):
        yield _columns(block, chrom_of, sizes, bed_row)


def _columns(block: GenomeBlock, chrom_of: Array, sizes: Array, bed_row: Array) -> Substitutions:
    window = block.seq.shape[1]
    places = block.start[:, None] + np.arange(window)
    chrom = chrom_of[block.rows]
    on_contig = (places >= 0) & (places < sizes[chrom][:, None])
    is_other = np.arange(4) != block.seq[..., None]
    wanted = np.isfinite(block.delta) & (on_contig[..., None] & is_other)[:, None]
    i, target, column, alt = np.nonzero(wanted)
    return Substitutions(
        chrom=chrom[i],
        pos=places[i, column] + 1,
        ref=block.seq[i, column],
        alt=alt,
        target=target,
        delta=block.delta[wanted],
        row=bed_row[block.rows[i]],
        name=block.rows[i],
    )
