"""Write the narrowPeak beside every export: where its rows are on the genome."""

from __future__ import annotations

from fastism_cli.export.exported_regions import ExportedRegions, Places
from fastism_cli.results.schema import STRAND
from fastism_cli.scores.written_names import cell

NO_VALUE = -1  # of p and q: ENCODE's value for unknown


def write_peaks(path: str, regions: ExportedRegions) -> None:
    """One line a row, in their order: the window of even width, its summit in the middle.

    All rows lie on their contig: the regions are limited to those.

    The strand is that of the record, whatever the model saw. Tabs and line ends in names are written as blanks.
    """
    with open(path, "w", encoding="utf-8") as file:
        for piece in regions.pieces():
            file.write(_lines(piece, regions.peak_width))


def _lines(places: Places, width: int) -> str:
    names, strands = places.column("name"), places.column(STRAND)
    columns = (places.chrom, places.start.tolist(), names, strands)
    return "".join(
        f"{chrom}\t{start}\t{start + width}\t{cell(name) or '.'}\t0\t{sign}\t0\t{NO_VALUE}\t{NO_VALUE}\t{width // 2}\n"
        for chrom, start, name, sign in zip(*columns, strict=True)
    )
