"""Write the narrowPeak beside every export: where its rows are on the genome."""

from __future__ import annotations

import numpy as np

from fastism_cli.export.exported_regions import ExportedRegions, Places
from fastism_cli.results.schema import STRAND
from fastism_cli.scores.written_names import cell

NO_VALUE = -1  # of p and q: ENCODE's value for unknown


def write_peaks(path: str, regions: ExportedRegions) -> int:
    """One line a row, in their order: the window of even width, its summit in the middle, clipped to the contig.

    The strand is that of the record, whatever the model saw.

    Returns
    -------
    int
        How many names hold tabs or line ends, which are written as blanks.
    """
    n_cut = 0
    with open(path, "w", encoding="utf-8") as file:
        for piece in regions.pieces():
            file.write(_lines(piece, regions.even_window))
            n_cut += sum(cell(name) != name for name in piece.column("name"))
    return n_cut


def _lines(places: Places, width: int) -> str:
    starts = np.maximum(places.start, 0)
    ends = np.minimum(places.start + width, places.contig_size)
    middles = places.start + width // 2
    summits = np.clip(middles, starts, np.maximum(ends - 1, starts)) - starts
    names, strands = places.column("name"), places.column(STRAND)
    columns = (places.chrom, starts.tolist(), ends.tolist(), names, strands, summits.tolist())
    return "".join(
        f"{chrom}\t{start}\t{end}\t{cell(name) or '.'}\t0\t{sign}\t0\t{NO_VALUE}\t{NO_VALUE}\t{summit}\n"
        for chrom, start, end, name, sign, summit in zip(*columns, strict=True)
    )
