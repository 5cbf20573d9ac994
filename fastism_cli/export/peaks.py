"""The narrowPeak that lies beside every export: where its rows are on the genome."""

from __future__ import annotations

import numpy as np

from fastism_cli.export.frame import Frame

NO_VALUE = -1  # of p, q: as ENCODE writes what is not known


def write_peaks(path: str, frame: Frame, *, strand: str = "+") -> None:
    """One line a row, in their order: the window of even width, its summit in the middle, clipped to the contig.

    Parameters
    ----------
    strand : "+" or "model"
        Of the arrays beside it: all on the + strand, or as the model saw them.
    """
    starts = np.maximum(frame.start, 0)
    ends = np.minimum(frame.start + frame.even_window, frame.contig_size)
    middles = frame.start + frame.even_window // 2
    summits = np.clip(middles, starts, np.maximum(ends - 1, starts)) - starts
    strands = frame.scores.regions["strand"][frame.rows] if strand == "model" else ["+"] * len(starts)
    names = frame.scores.regions["name"][frame.rows]
    with open(path, "w", encoding="utf-8") as file:
        for chrom, start, end, name, sign, summit in zip(
            frame.chrom, starts, ends, names, strands, summits, strict=True
        ):
            columns = (chrom, start, end, name or ".", 0, sign, 0, NO_VALUE, NO_VALUE, summit)
            file.write("\t".join(map(str, columns)) + "\n")
