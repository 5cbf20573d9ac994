"""What a format is asked to write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastism_cli.export.exported_regions import Frame
from fastism_cli.results.layout import Track


@dataclass(frozen=True)
class ExportJob:
    """One export.

    Attributes
    ----------
    frame : Frame
        Regions, in the order of the file.
    tracks : tuple of Track
    paths : sequence of tuple of str
        One set of files for each track if the format holds one target, else a single set.
    overlap : "mean", "max" or "first"
        What a base that several regions cover gets, in the formats that hold one value for each base.
    compression : "none" or "gzip"
        Of arrays.
    region_columns : bool
        Whether tables say which row each line is of.
    """

    frame: Frame
    tracks: tuple[Track, ...]
    paths: Sequence[tuple[str, ...]]
    overlap: str = "mean"
    compression: str = "none"
    region_columns: bool = False
