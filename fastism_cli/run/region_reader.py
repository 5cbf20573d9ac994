"""Read blocks of consecutive records with their sequences: the first of the three overlapping steps of a run."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from fastism_cli.errors import RegionError, SequenceError, refuse_regions
from fastism_cli.genome.alphabet import Alphabet, Codes
from fastism_cli.genome.bed import BedSource, Region
from fastism_cli.genome.fasta import Genome, RecordSource, where
from fastism_cli.genome.placement import Geometry, Placement, span_text
from fastism_cli.results.schema import REGION_COLUMNS, Status

PAST_END, EDGE_HINT = "pass an end of their contig", "Use --edge pad or --edge skip."
N_HINT = "Use --n-policy skip or score."


class Row(NamedTuple):
    """One row of the result: the columns of ``/regions``.

    ``strand`` is that of the record, ``model_strand`` the one that the model sees. ``status`` is PENDING until the row
    is scored.
    """

    chrom: str
    start: int
    end: int
    input_start: int
    strand: str
    model_strand: str
    name: str
    bed_row: int
    status: Status
    n_padded: int


class RecordCounts(NamedTuple):
    """How many records a run reads; of them, how many are longer than the model's input, and on the - strand."""

    records: int
    longer: int
    minus: int


@dataclass(frozen=True)
class Block:
    """Consecutive rows.

    Attributes
    ----------
    rows : tuple of Row
    codes : uint8 (n, L)
        The sequences as the model sees them.
    row_start : int
        Number of the first row among the rows that are read.
    around : uint8 (n, before + L + after), optional
        The sequences with the bases around the input that moved inputs show; None if none is moved.
    """

    rows: tuple[Row, ...]
    codes: Codes
    row_start: int
    around: Codes | None = None

    @property
    def shown(self) -> Codes:
        """What the engine is given: the sequences with all that it shows the model."""
        return self.codes if self.around is None else self.around

    @property
    def to_score(self) -> np.ndarray:
        """Indices of the rows to score, int (m,)."""
        return np.array([i for i, row in enumerate(self.rows) if row.status == Status.PENDING], dtype=int)

    @property
    def is_reverse(self) -> np.ndarray:
        """Which rows are reverse complements, bool (n,)."""
        return np.array([row.model_strand == "-" for row in self.rows])

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The columns of ``/regions``, each (n,)."""
        values = zip(*self.rows, strict=True)
        return {
            name: np.array(column, dtype=_NUMPY.get(name)) for name, column in zip(Row._fields, values, strict=True)
        }

    def with_statuses(self, statuses: Sequence[Status]) -> Block:
        """The same block with these statuses of its rows."""
        rows = tuple(row._replace(status=status) for row, status in zip(self.rows, statuses, strict=True))
        return replace(self, rows=rows)


_NUMPY: Mapping[str, Any] = {name: object if dtype == "text" else dtype for name, dtype in REGION_COLUMNS.items()}


@dataclass(frozen=True)
class Reader:
    """Turn the records of a BED into rows with sequences.

    Attributes
    ----------
    limit : int or None
        How many records are read, from the first on.
    first, stop : int
        The rows ``[first, stop)`` of these records are read.
    edge : "pad", "skip" or "error"
        What to do with an input that passes an end of its contig: score it with N there (``n_padded`` says how many),
        or leave it unscored (status 2). An input without any base of its contig, and a record of a FASTA that is
        longer than the input, are never scored (status 2).
    n_policy : "skip", "score" or "error"
        Only "score" scores an input without a known base in its window.
    max_n : float
        Largest share of N in an input that is scored; with more, the status is 4.
    """

    bed: BedSource | RecordSource
    genome: Genome
    geometry: Geometry
    alphabet: Alphabet
    limit: int | None = None
    first: int = 0
    stop: int = sys.maxsize
    edge: str = "pad"
    n_policy: str = "skip"
    max_n: float = 1.0

    def regions(self) -> Iterator[Region]:
        """The records, up to ``limit``."""
        return islice(self.bed.regions(), self.limit)

    def rows(self) -> Iterator[tuple[Row, Codes]]:
        """Every row with its sequence, uint8 (before + L + after,), which is all N if it is not read."""
        for record, region, place in islice(self._numbered(), self.first, self.stop):
            yield self._row(record, region, place)

    def _numbered(self) -> Iterator[tuple[int, Region, Placement]]:
        """For every row: number of the record, the record, and where it puts the model."""
        for number, region in enumerate(self.regions()):
            for place in self.geometry.places(region, self.genome.sizes.get(region.chrom)):
                yield number, region, place

    def n_rows(self) -> int:
        """Count the rows, in one pass over the records."""
        return sum(1 for _ in self._numbered())

    def count_records(self) -> RecordCounts:
        """Count the records, in one pass over them."""
        n = longer = minus = 0
        for region in self.regions():
            n += 1
            longer += region.end - region.start > self.geometry.length
            minus += region.strand == "-"
        return RecordCounts(n, longer, minus)

    def to_score(self) -> Iterator[Block]:
        """The rows to score, each in a block of its own."""
        return (block for block in self.blocks(to_score=1, max_rows=1) if len(block.to_score))

    def blocks(self, *, to_score: int, max_rows: int) -> Generator[Block, None, None]:
        """Cut the rows into blocks: each ends after ``to_score`` rows to score, or after ``max_rows`` in all."""
        rows: list[tuple[Row, Codes]] = []
        start = scored = 0
        for row, codes in self.rows():
            rows.append((row, codes))
            scored += row.status == Status.PENDING
            if scored == to_score or len(rows) == max_rows:
                yield self._block(rows, start)
                start, rows, scored = start + len(rows), [], 0
        if rows:
            yield self._block(rows, start)

    def _block(self, rows: Sequence[tuple[Row, Codes]], start: int) -> Block:
        return block_of(rows, start, self.geometry.around())

    def _row(self, number: int, region: Region, place: Placement) -> tuple[Row, Codes]:
        reverse = self.geometry.reverses(region)
        status, codes = self._sequence(region, place, reverse=reverse)
        strands = (region.strand, "-" if reverse else "+")
        names = (region.chrom, place.start, place.end, place.input_start, *strands, region.name)
        return Row(*names, number, status, place.n_padded), codes

    def _sequence(self, region: Region, place: Placement, *, reverse: bool) -> tuple[Status, Codes]:
        length, (before, after) = self.geometry.length, self.geometry.around(reverse=reverse)
        if region.chrom not in self.genome.sizes:
            return Status.MISSING_CONTIG, self._unknown(before + length + after)
        padded = self._most_padded(region, place)
        if self.geometry.cuts(region) or padded == length or (padded and self.edge == "skip"):
            return Status.EDGE, self._unknown(before + length + after)
        first, stop = place.input_start - before, place.input_start + length + after
        codes = self.genome.codes(region.chrom, first, stop, self.alphabet)
        codes = self.alphabet.reverse_complement(codes) if reverse else codes
        columns = self.geometry.columns(reverse=reverse, minus=region.strand == "-")
        return (Status.TOO_MANY_N if self._has_too_many_n(codes, columns) else Status.PENDING), codes

    def _unknown(self, length: int) -> Codes:
        return np.full(length, self.alphabet.unknown, dtype=np.uint8)

    def _most_padded(self, region: Region, place: Placement) -> int:
        size, reverse = self.genome.sizes[region.chrom], self.geometry.reverses(region)
        return self.geometry.most_padded(place.input_start, size, reverse=reverse)

    def _has_too_many_n(self, codes: Codes, columns: range) -> bool:
        before, length = self.geometry.around()[0], self.geometry.length
        is_n = codes == self.alphabet.unknown
        if self.n_policy != "score" and is_n[before + columns.start : before + columns.stop].all():
            return True
        inputs = [is_n[before + shift :][:length] for shift in self.geometry.shifts]
        return any(bool(one.all() or one.mean() > self.max_n) for one in inputs)

    # -- records that are refused before anything is scored --

    def check(self) -> None:
        """Go over the records once, and refuse those that ``--edge error`` and ``--n-policy error`` do not allow.

        Raises
        ------
        RegionError, SequenceError
            Lists the first 20.
        """
        self._require_one_that_fits()
        if self.edge == "error":
            problems = (f"{where(r)}: {self._past_end(r, p)}" for r, p in self._placed() if self._does_not_fit(r, p))
            refuse_regions(problems, RegionError, bed=self.bed.name, fault=PAST_END, hint=EDGE_HINT)
        if self.n_policy == "error":
            problems = (f"{where(r)}: {n} N in the input {span_text(r.chrom, *ends)}" for r, ends, n in self._with_n())
            fault = f"hold N in {self.genome.path}"
            refuse_regions(problems, SequenceError, bed=self.bed.name, fault=fault, hint=N_HINT)

    def _require_one_that_fits(self) -> None:
        sizes = {region.end for region in self.regions()} if self.geometry.from_start else set()
        if sizes and min(sizes) > self.geometry.length:
            raise RegionError(
                f"No record of {self.bed.name} fits into the model's input of {self.geometry.length}: the shortest has "
                f"{min(sizes)} letters. Name the regions to score with --bed."
            )

    def _placed(self) -> Iterator[tuple[Region, Placement]]:
        for _, region, place in self._numbered():
            if region.chrom in self.genome.sizes:
                yield region, place

    def _does_not_fit(self, region: Region, place: Placement) -> bool:
        return self._most_padded(region, place) > 0 or self.geometry.cuts(region)

    def _past_end(self, region: Region, place: Placement) -> str:
        if self.geometry.from_start:
            return f"{region.end} letters, where the model takes {self.geometry.length}"
        size = self.genome.sizes[region.chrom]
        before, after = self.geometry.around(reverse=self.geometry.reverses(region))
        ends = (place.input_start - before, place.input_start + self.geometry.length + after)
        return (
            f"the input {span_text(region.chrom, *ends)} passes {_passed(region.chrom, *ends, size, self.genome.path)}"
        )

    def _with_n(self) -> Iterator[tuple[Region, tuple[int, int], int]]:
        """Records whose input holds an N of the contig: region, part of the input on the contig, number of N.

        N that pad an input are left to ``edge``.
        """
        for region, place in self._placed():
            before, after = self.geometry.around(reverse=self.geometry.reverses(region))
            first = max(place.input_start - before, 0)
            stop = min(place.input_start + self.geometry.length + after, self.genome.sizes[region.chrom])
            skipped = self.edge == "skip" and self._most_padded(region, place)
            if first < stop and not (self.geometry.cuts(region) or skipped):
                codes = self.genome.codes(region.chrom, first, stop, self.alphabet)
                count = int((codes == self.alphabet.unknown).sum())
                if count:
                    yield region, (first, stop), count


def block_of(rows: Sequence[tuple[Row, Codes]], row_start: int, around: tuple[int, int] = (0, 0)) -> Block:
    """Put rows and their sequences into a block; of each sequence, so many bases lie before and behind the input."""
    codes = np.stack([codes for _, codes in rows])
    inside = codes[:, around[0] : codes.shape[1] - around[1]]
    return Block(tuple(row for row, _ in rows), inside, row_start, codes if sum(around) else None)


def check_records(bed: BedSource | RecordSource, genome: Genome, *, limit: int | None, edge: str, center: str) -> None:
    """Refuse records past the end of their contig, or without a summit, before the model's length is known.

    Raises
    ------
    RegionError
        Lists the first 20.
    """
    if edge == "error":
        problems = (f"{where(r)}: {_too_long(r, genome)}" for r in _past_end(bed, genome, limit))
        refuse_regions(problems, RegionError, bed=bed.name, fault=PAST_END, hint=EDGE_HINT)
    if center == "summit":
        without = (r for r in islice(bed.regions(), limit) if r.summit is None)
        problems = (f"{where(r)}: no summit (column 10 of narrowPeak)" for r in without)
        hint = "Use --center auto or midpoint."
        refuse_regions(problems, RegionError, bed=bed.name, fault="have no summit", hint=hint)


def _past_end(bed: BedSource | RecordSource, genome: Genome, limit: int | None) -> Iterator[Region]:
    regions = islice(bed.regions(), limit)
    return (r for r in regions if r.chrom in genome.sizes and r.end > genome.sizes[r.chrom])


def _too_long(r: Region, genome: Genome) -> str:
    return f"{span_text(*r[:3])} passes {_passed(*r[:3], genome.sizes[r.chrom], genome.path)}"


def _passed(chrom: str, start: int, end: int, size: int, fasta: str) -> str:
    return f"the end of {chrom} ({size} in {fasta})" if end > size else f"the start of {chrom}"
