"""Results to look at: regions of both strands, N, the end of a contig, hostile names; every score is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastism_cli.results.layout import HeadLayout, Layout
from fastism_cli.results.schema import Status
from fastism_cli.results.writer import ResultWriter
from tests.helpers.result_files import edited

LETTERS = "ACGT"
COMPLEMENT = [3, 2, 1, 0, 4]
LENGTH = 300
HEADS = (HeadLayout("out", (2,), ("K562", "HepG2")), HeadLayout("count", (1,)))
LABELS = ["out/K562", "out/HepG2", "count"]
HOSTILE = ["</script><script>window.hostile=1</script>", '"><img src=x onerror=window.hostile=1>', "$a\u2028b_{$ & <b>"]
SITE_AT = 140  # where every region has something strong: columns [140, 150) of the + strand


class Truth(NamedTuple):
    """What the file holds, on the + strand: seq (n, L), delta (n, 3, L, 4), reference (n, 3), start (n,)."""

    seq: np.ndarray
    delta: np.ndarray
    reference: np.ndarray
    start: np.ndarray
    names: list[str]

    def importance(self, row: int, track: int) -> np.ndarray:
        """(L,), NaN at an N."""
        return np.where(self.seq[row] == 4, np.nan, -self.delta[row, track].mean(-1))


def names_of(n: int) -> list[str]:
    return [*HOSTILE, *(f"peak_{i}" for i in range(len(HOSTILE), n))]


def truth_of(n: int) -> Truth:
    """Region 0 lies at the start of its contig, with 20 bases outside; region 1 has three N."""
    rng = np.random.default_rng(1)
    seq = rng.integers(0, 4, (n, LENGTH)).astype(np.uint8)
    size = 10.0 ** rng.uniform(-4, 1, (n, 3, 1, 1))
    delta = (size * rng.normal(size=(n, 3, LENGTH, 4)) * 0.1).astype(np.float32)
    delta[:, :, SITE_AT : SITE_AT + 10] -= (3 * size).astype(np.float32)
    seq[0, :20] = 4
    seq[1, 7:10] = 4
    delta[np.broadcast_to((seq == 4)[:, None], delta.shape[:-1])] = np.nan
    row, column = np.nonzero(seq < 4)
    delta[row, :, column, seq[row, column]] = 0
    start = np.arange(n) * 1000 + 50
    start[0] = -20
    return Truth(seq, delta, rng.normal(size=(n, 3)).astype(np.float32), start, names_of(n))


def write_look(path: Path, n: int = 6, *, unscored: int = 1, factor: float = 1.0, **attributes: Any) -> Truth:
    """Write ``n`` scored regions, odd rows on the - strand, and then some with too many N; deltas times ``factor``."""
    truth = truth_of(n)
    truth.delta[:] *= np.float32(factor)
    layout = Layout(n + unscored, LENGTH, HEADS)
    known = {
        "config": '{"window": null}',
        "stranded": True,
        "model_path": "m.keras",
        "command": "fastism run -m m.keras",
    }
    with ResultWriter(path, layout, attributes=known | attributes, genome_sizes={"chr1": 10_000_000}) as writer:
        for row in range(n):
            _write_scored(writer, truth, row)
        for row in range(n, n + unscored):
            start = row * 1000
            regions = _columns(start, start, start + LENGTH, "+", f"lost_{row}", row, Status.TOO_MANY_N, 0)
            writer.write_rows(row, regions=regions, seq=np.full((1, LENGTH), 4))
    return truth


def _write_scored(writer: ResultWriter, truth: Truth, row: int) -> None:
    seq, delta, start = truth.seq[row], truth.delta[row], int(truth.start[row])
    strand = "+-"[row % 2]
    if strand == "-":
        seq, delta = np.array(COMPLEMENT, np.uint8)[seq[::-1]], delta[:, ::-1, COMPLEMENT[:4]]
    outside = max(-start, 0)
    regions = _columns(start, max(start, 0), start + LENGTH, strand, truth.names[row], row, Status.OK, outside)
    reference = {"out": truth.reference[row : row + 1, :2], "count": truth.reference[row : row + 1, 2:]}
    writer.write_rows(
        row,
        regions=regions,
        seq=seq[None],
        reference=reference,
        delta={"out": delta[None, :2], "count": delta[None, 2:]},
    )


def _columns(
    input_start: int, start: int, end: int, strand: str, name: str, row: int, status: Status, padded: int
) -> dict[str, list[Any]]:
    values = ("chr1", start, end, input_start, strand, name, row, status, padded)
    columns = ("chrom", "start", "end", "input_start", "strand", "name", "bed_row", "status", "n_padded")
    return {column: [value] for column, value in zip(columns, values, strict=True)}


def spoil(path: Path, row: int) -> None:
    """Make a delta of a scored row NaN, and one of a reference base other than 0."""
    with edited(path) as file:
        codes, delta = file["seq"][row], file["delta/out"]
        known = np.flatnonzero(codes < 4)
        values = delta[row]
        values[0, known[0], (codes[known[0]] + 1) % 4] = np.nan
        values[0, known[1], codes[known[1]]] = 0.5
        delta[row] = values


TILE, TILES, TILED_AT = 100, 4, 1000  # bases of a tile, how many, and where the first begins


def write_tiled(path: Path, *, says_window: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Write one record in tiles; returns seq (n,) and delta (n, 4) of all of it on the + strand.

    The strongest site lies over the border of tiles 1 and 2. Tile 3 has no scores. Where the file does not say the
    window, the tiles are the middle halves of shorter inputs.
    """
    rng = np.random.default_rng(3)
    seq = rng.integers(0, 4, TILE * TILES).astype(np.uint8)
    delta = rng.normal(size=(len(seq), 4)).astype(np.float32) * np.float32(0.1)
    delta[2 * TILE - 4 : 2 * TILE + 4] -= 2
    delta[np.arange(len(seq)), seq] = 0
    length = LENGTH if says_window else 2 * TILE
    asked = {"tile": True, "window": TILE if says_window else None}
    config = {"config": json.dumps(asked), "stranded": False}
    layout = Layout(TILES, length, (HeadLayout("out", (1,)),))
    with ResultWriter(path, layout, attributes=config, genome_sizes={"chr1": 10_000}) as writer:
        for i in range(TILES):
            _write_tile(writer, i, length, seq, delta)
    delta[3 * TILE :] = np.nan
    return seq, delta


def _write_tile(writer: ResultWriter, i: int, length: int, seq: np.ndarray, delta: np.ndarray) -> None:
    start, margin, is_scored = TILED_AT + i * TILE, (length - TILE) // 2, i < TILES - 1
    status = Status.OK if is_scored else Status.TOO_MANY_N
    regions = _columns(start - margin, start, start + TILE, "+", "long", 0, status, 0)
    codes, values = np.full(length, 4, np.uint8), np.full((length, 4), np.nan, np.float32)
    middle, own = slice(margin, margin + TILE), slice(i * TILE, (i + 1) * TILE)
    codes[middle], values[middle] = seq[own], delta[own]
    scores = {"reference": {"out": [[i + 0.5]]}, "delta": {"out": values[None, None]}} if is_scored else {}
    writer.write_rows(i, regions=regions, seq=codes[None], **scores)
