"""Result files whose every score is known by a formula over row, base of the + strand and letter: for tests of readers.

The rows cover what a reader may get wrong: both strands, duplicates, overlaps, no order, N, windows that pass either
end of a contig, rows without scores between others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.results.intact import add_text_sums, is_text, note_datasets, note_text, seal
from fastism_cli.results.layout import HeadLayout, Layout
from fastism_cli.results.schema import Status
from fastism_cli.results.writer import ResultWriter

LETTERS = "ACGT"
COMPLEMENT = dict(zip("ACGTN", "TGCAN", strict=True))
LENGTH = 20


@contextmanager
def edited(path: Path) -> Iterator[h5py.File]:
    """Change a result as its writer might have written it: the checksums are those of the new contents."""
    with h5py.File(path, "r+") as file:
        yield file
        columns = [dataset for dataset in file["regions"].values() if is_text(dataset)]
        for dataset in (file["genome/chrom_names"], *(head["names"] for head in file["outputs"].values()), *columns):
            add_text_sums(dataset)
            note_text(dataset, 0, dataset[:])
        noted(file)
        seal(file)


def noted(file: h5py.File) -> None:
    """Let the sums of all numbers be those of the new ones."""
    file.flush()
    with open(file.filename, "rb", buffering=0) as raw:
        note_datasets(file, lambda at, size: os.pread(raw.fileno(), size, at))


class Record(NamedTuple):
    """A row: ``input_start`` is the first base of the model's input on the + strand."""

    chrom: str
    input_start: int
    strand: str
    name: str
    status: Status = Status.OK


RECORDS = (
    Record("chrB", 30, "+", "late"),
    Record("chrA", 10, "+", "plus"),
    Record("chrA", 18, "-", "minus"),
    Record("chrA", 10, "+", "plus_again"),
    Record("chrZ", 5, "+", "no_contig", Status.MISSING_CONTIG),
    Record("chrA", 10, "-", "plus_reversed"),
    Record("chrA", -6, "-", "before_start"),
    Record("chrB", 75, "+", "past_end"),
    Record("chrA", 95, "+", "all_n", Status.TOO_MANY_N),
    Record("chrA", 60, "+", ""),
)
HEADS = (HeadLayout("profile/sum", (3,), ("a", "b", "c")), HeadLayout("count", (1,)))


@cache
def contigs() -> dict[str, str]:
    """chrA 120 bases with N in [24, 26) and [90, 120); chrB 85 bases."""
    rng = np.random.default_rng(5)
    a, b = ("".join(rng.choice(list(LETTERS), n)) for n in (120, 85))
    return {"chrA": a[:24] + "NN" + a[26:90] + 30 * "N", "chrB": b}


def base(chrom: str, position: int) -> str:
    """Letter of the + strand; N outside of the contig."""
    sequence = contigs().get(chrom, "")
    return sequence[position] if 0 <= position < len(sequence) else "N"


def true_delta(row: int, position: int, alt: str, track: int) -> float:
    """The score that the file holds for ``alt`` at a base of the + strand; 0 at the reference."""
    if alt == base(RECORDS[row].chrom, position):
        return 0.0
    mixed = (row * 7919 + position * 104729 + LETTERS.index(alt) * 1299709 + track * 15485863) % 10007
    return float(np.float32(mixed / 5003.5 - 1))


def true_importance(row: int, position: int, track: int) -> float:
    """Minus the mean delta; NaN at an N."""
    if base(RECORDS[row].chrom, position) == "N":
        return float("nan")
    return -float(np.mean([true_delta(row, position, alt, track) for alt in LETTERS]))


def window_of(row: int, window: int | str) -> range:
    """The substituted bases of the + strand, not clipped to the contig; ``window`` is a width or FIRST:END."""
    middle = RECORDS[row].input_start + LENGTH // 2
    if isinstance(window, int):
        return range(middle - window // 2, middle - window // 2 + window)
    first, end = map(int, window.split(":"))
    return (
        range(middle + first, middle + end)
        if RECORDS[row].strand == "+"
        else range(middle - end + 1, middle - first + 1)
    )


def bases_seen(row: int) -> list[tuple[int, str]]:
    """Position and letter of each column, in the orientation that the model saw."""
    record = RECORDS[row]
    positions = range(record.input_start, record.input_start + LENGTH)
    forward = [(position, base(record.chrom, position)) for position in positions]
    if record.strand == "+":
        return forward
    return [(position, COMPLEMENT[letter]) for position, letter in reversed(forward)]


def write_result(
    path: Path, *, window: int | str = LENGTH, alphabet: str = LETTERS, dtype: str = "float32", **attributes: Any
) -> Path:
    """Write :data:`RECORDS` with the scores of :func:`true_delta`."""
    layout = Layout(len(RECORDS), LENGTH, HEADS, alphabet, delta_dtype=dtype)
    config = json.dumps({"window": window if window != LENGTH else None})
    known = {"config": config, "stranded": True, "input_length": LENGTH}
    sizes = {name: len(sequence) for name, sequence in contigs().items()}
    with ResultWriter(path, layout, attributes=known | attributes, genome_sizes=sizes) as writer:
        for row in range(len(RECORDS)):
            _write_row(writer, row, window, alphabet)
    return path


def _write_row(writer: ResultWriter, row: int, window: int | str, alphabet: str) -> None:
    record = RECORDS[row]
    inside = window_of(row, window)
    size = len(contigs().get(record.chrom, "")) or inside.stop
    ends = [min(max(end, 0), size) for end in (inside.start, inside.stop)]
    values = (record.chrom, *ends, record.input_start, record.strand, record.name, row, record.status)
    outside = sum(not 0 <= position < size for position, _ in bases_seen(row))
    regions = {name: [value] for name, value in zip(_COLUMNS, (*values, outside), strict=True)}
    is_ok = record.status == Status.OK
    seen = "".join(letter for _, letter in bases_seen(row)) if is_ok else LENGTH * "N"
    seq = Alphabet(alphabet).encode(seen)[None]
    if not is_ok:
        writer.write_rows(row, regions=regions, seq=seq)
        return
    delta = [_deltas(row, window, alphabet, track) for track in range(4)]
    blocks = {"profile/sum": np.array(delta[:3])[None], "count": np.array(delta[3:])[None]}
    reference = {"profile/sum": [[row, row + 0.25, row + 0.5]], "count": [[-row]]}
    writer.write_rows(row, regions=regions, seq=seq, reference=reference, delta=blocks)


_COLUMNS = ("chrom", "start", "end", "input_start", "strand", "name", "bed_row", "status", "n_padded")


def _deltas(row: int, window: int | str, alphabet: str, track: int) -> np.ndarray:
    """(L, 4) in the orientation and order of letters that the model saw."""
    reverse = RECORDS[row].strand == "-"
    delta = np.full((LENGTH, 4), np.nan, np.float32)
    for column, (position, letter) in enumerate(bases_seen(row)):
        if position in window_of(row, window) and letter != "N":
            for code, alt in enumerate(alphabet):
                delta[column, code] = true_delta(row, position, COMPLEMENT[alt] if reverse else alt, track)
    return delta
