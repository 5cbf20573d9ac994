"""GTF against a parser of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

from fastism_cli.genome.gtf import Gene, read_genes
from tests.slow.attack.genomes import UNDAMAGED, still_read
from tests.slow.attack.mutations import TEXT, mutated
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
    for line in data.split(b"\n"):
        if line.startswith(b"#") or not line.strip():
            continue
        cells = line.rstrip(b"\r").split(b"\t")
        if len(cells) != 9:
            return None
        if cells[0] == b"chr1" and not _add(genes, *(cell.decode("utf-8", "replace") for cell in cells[2:])):
            return None
    return sorted((name, strand, *(tuple(sorted(x)) for x in bases)) for name, strand, *bases in genes.values())


def _add(genes: dict[str, tuple[str, str, set[int], set[int]]], *cells: str) -> bool:
    kind, first, last, _, strand, _, attributes = cells
    known = dict(re.findall(r'(gene_id|gene_name) +"?([^";]*)"?', attributes))
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


def kinds() -> Iterator[Kind]:
    yield Kind("GTF", lambda folder: None, attempt_gtf)
