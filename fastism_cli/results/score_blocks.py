"""Scores of some regions in memory: as the model saw them, on the genome, and as importance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastism_cli.genome.alphabet import DNA
from fastism_cli.results.schema import MODEL_STRAND, STRAND
from fastism_cli.scores.importance import hypothetical, importance
from fastism_cli.scores.region import RegionScores
from fastism_cli.scores.tracks import Array


@dataclass(frozen=True)
class GenomeBlock:
    """Some regions on the + strand: column ``j`` of row ``i`` is base ``start[i] + j`` of its contig.

    Attributes
    ----------
    rows : int64 (n,)
        Rows of the file.
    reverse : bool (n,)
        Which of them the model saw as their reverse complement.
    start : int64 (n,)
        First base of the window; negative where it begins before the contig.
    seq : uint8 (n, W)
        0 to 3 = ACGT, 4 = N or outside of the contig.
    delta : float32 (n, K, W, 4)
        In ACGT order; NaN where not computed.
    """

    rows: Array
    reverse: Array
    start: Array
    seq: Array
    delta: Array

    def hypothetical(self) -> Array:
        """Delta minus its mean over the four bases, float32 (n, K, W, 4): see :func:`hypothetical`."""
        return hypothetical(self.seq, self.delta)

    def importance(self) -> Array:
        """Hypothetical importance of the base that is there, float32 (n, K, W): see :func:`importance`."""
        return importance(self.seq, self.delta)

    def region(self, i: int, k: int, columns: Mapping[str, Any], letters: str, prediction: float) -> RegionScores:
        """Row ``i`` for track ``k``, as far as it is on its contig.

        Parameters
        ----------
        columns : mapping of str to value
            The row's ``/regions``.
        """
        first = int(columns["start"] - self.start[i])
        stop = first + int(columns["end"] - columns["start"])
        place = (columns["chrom"], int(columns["start"]), columns["name"], columns[STRAND], columns[MODEL_STRAND])
        return RegionScores(*place, letters, self.seq[i, first:stop], self.delta[i, k, first:stop], float(prediction))


@dataclass(frozen=True)
class ScoreBlock:
    """Some regions as the model saw them.

    Attributes
    ----------
    rows : int64 (n,)
        Rows of the file, ascending.
    reverse : bool (n,)
        Which of them the model saw as their reverse complement.
    input_start : int64 (n,)
        First base of the input on the + strand.
    first : int (n,)
        First substituted base, counted from ``input_start``.
    window : int
        How many bases were substituted.
    seq : uint8 (n, L)
        0 to 3 = ACGT, 4 = N or outside of the contig.
    delta : float32 (n, K, L, 4)
        In ACGT order, for the K tracks that were asked for; NaN where not computed.
    """

    rows: Array
    reverse: Array
    input_start: Array
    first: Array
    window: int
    seq: Array
    delta: Array

    def on_genome(self) -> GenomeBlock:
        """The substituted window alone, on the + strand."""
        seq, delta = self.seq, self.delta
        if self.reverse.any():
            seq, delta = seq.copy(), delta.copy()
            seq[self.reverse] = DNA.reverse_complement(seq[self.reverse])  # RNA has the same codes
            flat = delta.reshape(*delta.shape[:2], -1)
            flat[self.reverse] = flat[self.reverse, :, ::-1]  # T G C A read backwards is A C G T
        start = self.input_start + self.first
        if len(np.unique(self.first)) < 2:
            columns = slice(int(self.first[0]), int(self.first[0]) + self.window) if len(self.first) else slice(0)
            return GenomeBlock(self.rows, self.reverse, start, seq[:, columns], delta[:, :, columns])
        at = self.first[:, None] + np.arange(self.window)
        row = np.arange(len(at))[:, None]
        return GenomeBlock(self.rows, self.reverse, start, seq[row, at], np.moveaxis(delta[row, :, at], 2, 1))
