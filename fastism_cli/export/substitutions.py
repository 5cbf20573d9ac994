"""Every substitution as a line of a table: what TSV and Parquet hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastism_cli.export.request import ExportJob
from fastism_cli.results.score_blocks import GenomeBlock

Array = npt.NDArray[Any]

LETTERS = ("A", "C", "G", "T", "N")


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


def names_of(job: ExportJob) -> Names:
    scores = job.frame.scores
    return Names(list(scores.file.genome_sizes), [track.label for track in job.tracks], scores.regions["name"].tolist())


def substitutions(job: ExportJob) -> Iterator[Substitutions]:
    """Substitutions with a score: regions in the order of the file; in each target by target, position, letter."""
    frame = job.frame
    rank = {name: i for i, name in enumerate(frame.scores.file.genome_sizes)}
    chrom_of = np.array([rank.get(chrom, -1) for chrom in frame.scores.regions["chrom"]], np.int64)
    sizes = np.array(list(frame.scores.file.genome_sizes.values()), np.int64)
    bed_row = frame.scores.regions["bed_row"]
    for block in frame.blocks(job.tracks):
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
