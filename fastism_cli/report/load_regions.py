"""Read the scores of regions out of a result file, for pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fastism_cli.results.schema import MODEL_STRAND, STRAND
from fastism_cli.results.score_blocks import GenomeBlock
from fastism_cli.results.scores import Scores
from fastism_cli.scores.region import RegionScores
from fastism_cli.scores.tracks import Track


def load_region(scores: Scores, row: int, track: Track) -> RegionScores:
    """One row of the file for one track: see :func:`load_regions`."""
    return next(load_regions(scores, [row], [track]))[1][0]


def load_regions(
    scores: Scores, rows: Sequence[int], tracks: Sequence[Track]
) -> Iterator[tuple[int, list[RegionScores]]]:
    """Scored rows, ascending, each for all tracks: the substituted part on the + strand, as far as on its contig."""
    for block in scores.blocks(np.array(rows, np.int64), tracks):
        predictions = scores.reference(block.rows, tracks)
        on_genome = block.on_genome()
        for i, row in enumerate(on_genome.rows.tolist()):
            yield row, [_region(scores, on_genome, i, k, predictions[i, k]) for k in range(len(tracks))]


def _region(scores: Scores, block: GenomeBlock, i: int, k: int, prediction: float) -> RegionScores:
    """Row ``i`` of a block for its track ``k``."""
    columns = {name: values[block.rows[i]] for name, values in scores.regions.items()}
    first = int(columns["start"] - block.start[i])
    stop = first + int(columns["end"] - columns["start"])
    place = (columns["chrom"], int(columns["start"]), columns["name"], columns[STRAND], columns[MODEL_STRAND])
    return RegionScores(
        *place, scores.letters, block.seq[i, first:stop], block.delta[i, k, first:stop], float(prediction)
    )
