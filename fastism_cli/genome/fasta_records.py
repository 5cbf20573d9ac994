"""Use the records of a FASTA in place of a BED: each from its start to its end, on the + strand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property

from fastism_cli.genome.bed import BedSummary, Region
from fastism_cli.genome.fasta import Genome

NO_LINE = 0


class RecordSource:
    """One region for each record of a FASTA, in the order of the file, as :class:`BedSource` gives those of a BED.

    Attributes
    ----------
    name : str
        Its name in messages: the path of the FASTA.
    path : None
        There is no BED.
    """

    path: str | None = None

    def __init__(self, genome: Genome) -> None:
        self.name = genome.path
        self._sizes = genome.sizes

    def regions(self) -> Iterator[Region]:
        """Every record. ``line`` is 0, as there is no BED."""
        return (Region(name, 0, size, name, ".", None, NO_LINE) for name, size in self._sizes.items())

    @cached_property
    def summary(self) -> BedSummary:
        """The summary of a BED with these records."""
        return BedSummary(len(self._sizes), self.sha256, dict.fromkeys(self._sizes, NO_LINE))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the names and lengths of the records, one line ``NAME<tab>LENGTH`` each."""
        lines = "".join(f"{name}\t{size}\n" for name, size in self._sizes.items())
        return hashlib.sha256(lines.encode()).hexdigest()


def where(region: Region) -> str:
    """A region in messages: its line in the BED, or its name in the FASTA."""
    return f"record {region.chrom}" if region.line == NO_LINE else f"line {region.line}"
