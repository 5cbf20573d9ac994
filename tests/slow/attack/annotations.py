"""Tracks: GTF and BED against parsers of their own, bigWig against pyBigWig."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyBigWig

from fastism_cli.genome.annotations import Gene, open_annotation, places_to_shade, read_genes
from tests.helpers.bigwig_files import Block, bigwig_bytes
from tests.slow.attack.genomes import UNDAMAGED, bed_rows, bed_texts, still_read
from tests.slow.attack.mutations import BYTES, TEXT, mutated
from tests.slow.attack.outcome import Kind, Outcome, read

Bases = tuple[int, ...]
Found = list[tuple[str, str, Bases, Bases]]  # name, strand, exons and coding bases, counted from 1


def gtf_text(draw: Random) -> bytes:
    """1 to 4 genes of 1 to 5 lines on two contigs."""
    lines = ["#!made"] if draw.random() < 0.5 else []
    for gene in range(draw.randrange(1, 5)):
        chrom, strand = draw.choice(("chr1", "chr2")), draw.choice("+-.")
        name = f' gene_name "TAL{gene}";' if draw.random() < 0.5 else ""
        for _ in range(draw.randrange(1, 6)):
            first = draw.randrange(1, 400)
            kind, last = draw.choice(("gene", "exon", "exon", "CDS")), first + draw.randrange(90)
            cells = (chrom, "x", kind, first, last, ".", strand, ".", f'gene_id "G{gene}";{name}')
            lines.append("\t".join(map(str, cells)))
    return "\n".join([*lines, ""]).encode()


def judged(data: bytes) -> Found | None:
    """The genes of chr1; None if a line is no GTF."""
    genes: dict[str, tuple[str, str, set[int], set[int]]] = {}
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if not line.strip() or re.match(rb"#|(track|browser)([ \r]|$)", line):
            continue
        cells = line.rstrip(b"\r").split(b"\t")
        if len(cells) != 9:
            return None
        if cells[0] == b"chr1" and not _add(genes, *(cell.decode("utf-8", "replace") for cell in cells[2:])):
            return None
    return sorted((name, strand, *(tuple(sorted(x)) for x in bases)) for name, strand, *bases in genes.values())


def _add(genes: dict[str, tuple[str, str, set[int], set[int]]], *cells: str) -> bool:
    kind, first, last, _, strand, _, attributes = cells
    if attributes.count('"') % 2 or attributes.lstrip().startswith('"'):
        return False
    known: dict[str, str] = {}
    for part in re.findall(r'(?:"[^"]*"|[^";])+', attributes):  # what lies between semicolons outside of quotes
        for name, quoted, plain in re.findall(r'([^\s;"]+)\s+(?:"([^"]*)"|([^\s;"]+))', part, re.ASCII):
            known.setdefault(name, quoted or plain)
    if "gene_id" not in known or not all(re.fullmatch("[0-9]{1,18}", text) for text in (first, last)):
        return False
    if not 1 <= int(first) <= int(last):
        return False
    shown = strand if strand in ("+", "-") else "."
    gene = genes.setdefault(known["gene_id"], (known.get("gene_name") or known["gene_id"], shown, set(), set()))
    bases = {"exon": gene[2], "CDS": gene[3]}.get(kind)
    if bases is not None:
        bases |= set(range(int(first), int(last) + 1)) if int(last) < 10**6 else {int(first), int(last)}
    return True


def as_judged(genes: list[Gene]) -> Found:
    def bases(stretches: tuple[tuple[int, int], ...]) -> Bases:
        return tuple(
            x + 1 for start, end in stretches for x in (range(start, end) if end < 10**6 else (start, end - 1))
        )

    return sorted((gene.name, gene.strand, bases(gene.exons), bases(gene.coding)) for gene in genes)


def attempt_gtf(_: None, draw: Random, folder: Path) -> Outcome:
    path, original = folder / "genes.gtf", gtf_text(draw)
    data = original if draw.random() < UNDAMAGED else mutated(draw, original, TEXT)
    path.write_bytes(data)
    expected = judged(data)

    def wrong(found: dict[str, list[Gene]]) -> str:
        genes = as_judged(found.get("chr1", []))
        if expected is None:
            return f"read as {genes}, but a line is no GTF: {data[:2000]!r}"
        has_long = any(gene.end >= 10**6 for gene in found.get("chr1", []))  # joined stretches are not compared
        return "" if genes == expected or has_long else f"{genes} are not {expected}: {data[:2000]!r}"

    return still_read(read(lambda: read_genes(str(path), {"chr1"}), ["genes.gtf"], wrong), data == original)


# --- BED, as a track and as places to shade ---------------------------------------------------------------------------

SPANS = (("chr1", 400, 2900), ("2", 0, 1500))


def attempt_bed(_: None, draw: Random, folder: Path) -> Outcome:
    """Damage a BED or narrowPeak, and look at what lies on two stretches, one by the other name of its contig."""
    path, original = folder / "places.bed", bed_texts(draw)
    data = original if draw.random() < UNDAMAGED else mutated(draw, original, TEXT)
    path.write_bytes(data)
    expected, before = on_spans(data), on_spans(original)

    def found() -> tuple[list[Any], list[Any]]:
        track = open_annotation(str(path), SPANS)
        return [list(track.within(*span).items) for span in SPANS], places_to_shade([str(path)], SPANS)

    def wrong(seen: tuple[list[Any], list[Any]]) -> str:
        known = before if expected is None else expected
        if known is None or seen[0] != [sorted(x[1:] for x in known[span]) for span in SPANS]:
            return f"{seen[0]} are not {known}: {data[:2000]!r}"
        shaded = sorted({x[:3] for span in SPANS for x in known[span]})
        return "" if sorted(set(seen[1])) == shaded else f"{seen[1]} are not {shaded}: {data[:2000]!r}"

    return still_read(read(found, [path.name], wrong), data == original)


def on_spans(data: bytes) -> dict[Any, list[Any]] | None:
    """Contig, start, end, name and strand of the records on each stretch; None if a line is no record."""
    rows = bed_rows(data)
    if rows is None:
        return None
    return {
        span: [row for row, _ in rows if row[0].removeprefix("chr") == span[0].removeprefix("chr") and on(row, span)]
        for span in SPANS
    }


def on(row: tuple[Any, ...], span: tuple[str, int, int]) -> bool:
    return bool(row[1] < span[2] and row[2] > span[1])


# --- bigWig -----------------------------------------------------------------------------------------------------------

NUMBERS_OF = {"chr1": 900, "chr2": 300, "3": 40}
LOOKED = (("chr1", -20, 950), ("chr2", 40, 210), ("chr3", 0, 40))
SECONDS = 5  # of processor time, for the library that judges


def blocks_of(draw: Random) -> list[Block]:
    """1 to 9 blocks of each kind."""
    found = []
    for contig, size in enumerate(NUMBERS_OF.values()):
        at = draw.randrange(9)
        while at + 30 < size and len(found) < 9:
            kind, n = draw.choice((1, 2, 3)), draw.randrange(1, 6)
            step, span = draw.randrange(4, 7), draw.randrange(1, 4)
            starts = [at + i * step for i in range(n)]
            ends = [start + (draw.randrange(1, 4) if kind == 1 else span) for start in starts]
            found.append(Block(contig, kind, starts, ends, [draw.randrange(-9, 9) / 4 for _ in starts]))
            at = ends[-1] + draw.choice((0, 0, 17, 200))
    return found


def attempt_bigwig(_: None, draw: Random, folder: Path) -> Outcome:
    """Damage a bigWig; pyBigWig reads the same file, in a process of its own."""
    path, blocks = folder / "curve.bw", blocks_of(draw)
    is_packed = draw.random() < 0.8
    original = bigwig_bytes(NUMBERS_OF, blocks, packed=is_packed, fan_out=draw.choice((2, 3, 9)))
    data = original if draw.random() < UNDAMAGED else mutated(draw, original, BYTES)
    path.write_bytes(data)
    expected = by_library(path, folder / "judged.npy")
    known = np.concatenate([numbers_of(blocks, span) for span in LOOKED])

    def values() -> np.ndarray:
        track = open_annotation(f"curve={path}", LOOKED)
        return np.concatenate([track.within(*span).signal.values for span in LOOKED])

    def wrong(found: np.ndarray) -> str:
        if np.array_equal(found, known, equal_nan=True):
            return ""
        if expected is None:
            return f"read as other numbers, and pyBigWig refuses it: {data!r}"
        is_judged = np.array_equal(found, expected, equal_nan=True)
        return "" if is_judged else f"{changes(found, expected)}: {data!r}"

    return still_read(read(values, [path.name], wrong), data == original)


def changes(found: np.ndarray, expected: np.ndarray) -> str:
    if found.shape != expected.shape:
        return f"{found.shape} values in place of {expected.shape}"
    at = np.flatnonzero(~((found == expected) | (np.isnan(found) & np.isnan(expected))))
    return f"value {at[0]} is {found[at[0]]} in place of {expected[at[0]]}"


def numbers_of(blocks: list[Block], span: tuple[str, int, int]) -> np.ndarray:
    """The numbers that were written on a stretch; NaN elsewhere."""
    found = np.full(span[2] - span[1], np.nan, "float32")
    names = [name.removeprefix("chr") for name in NUMBERS_OF]
    for block in blocks:
        if names[block.contig] == span[0].removeprefix("chr"):
            for start, end, value in zip(block.starts, block.ends, block.values, strict=True):
                found[max(start - span[1], 0) : max(end - span[1], 0)] = value
    return found


def by_library(path: Path, output: Path) -> np.ndarray | None:
    """What pyBigWig reads on all stretches; None if it refuses, crashes or does not end."""
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            np.save(output, np.concatenate([judged_stretch(str(path), *span) for span in LOOKED]))
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return np.load(output) if status == 0 else None


def judged_stretch(path: str, chrom: str, start: int, end: int) -> np.ndarray:
    found = np.full(end - start, np.nan, "float32")
    with pyBigWig.open(path) as file:
        sizes = file.chroms()
        name = next((name for name in (chrom, chrom.removeprefix("chr")) if name in sizes), None)
        if name is not None and start < sizes[name]:
            first, last = max(start, 0), min(end, sizes[name])
            found[first - start : last - start] = file.values(name, first, last, numpy=True)
    return found


def kinds() -> Iterator[Kind]:
    yield Kind("GTF", lambda folder: None, attempt_gtf)
    yield Kind("track", lambda folder: None, attempt_bed)
    yield Kind("bigWig", lambda folder: None, attempt_bigwig)
