"""VCF against the text of its lines, against pysam, and against scores by the formula of a linear model."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pysam

from fastism_cli.options.run_options import RunOptions
from fastism_cli.run.variants import score_variants
from tests.slow.attack.genomes import UNDAMAGED, blocks, codes_of, still_read, unpacked
from tests.slow.attack.mutations import BYTES, TEXT, mutated
from tests.slow.attack.outcome import Kind, Outcome, read

LENGTH = 15
OWN = re.compile(rb"ISM_(DELTA|REF|STATUS)=")
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Prepared:
    """A genome, a linear model, its engine, and its weights (LENGTH, 4): a prediction is their sum over a sequence."""

    fasta: Path
    bases: dict[str, str]
    model: Any
    scorer: Any
    weights: np.ndarray


def prepare(folder: Path) -> Prepared:
    import keras

    from fastism_cli.engine.fastism import FastISM

    draw = Random(5)
    bases = {
        name: "".join(draw.choices("ACGTN", (9, 9, 9, 9, 1), k=size)) for name, size in (("chr1", 400), ("chr2", 90))
    }
    fasta = folder / "genome.fa"
    fasta.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in bases.items()))
    pysam.faidx(str(fasta))
    inputs = keras.Input((LENGTH, 4))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, name="y")(keras.layers.Flatten()(inputs)))
    weights = np.random.default_rng(1).normal(size=(LENGTH, 4)).astype("float32")
    model.layers[-1].set_weights([weights.reshape(-1, 1)])
    return Prepared(fasta, bases, model, FastISM(model, batch_size=64), weights)


# --- a VCF ------------------------------------------------------------------------------------------------------------

HEAD = """##fileformat=VCFv4.2
##source=made by hand, für "Tests"
##FILTER=<ID=PASS,Description="All filters passed">
##FILTER=<ID=q10,Description="Quality below 10">
##contig=<ID=chr1,length=400>
##contig=<ID=chr2,length=90>
##INFO=<ID=AO,Number=A,Type=Integer,Description="count, as some write it: 1e+06">
##INFO=<ID=RS,Number=1,Type=Integer,Description="number in dbSNP">
##INFO=<ID=PV,Number=1,Type=Float,Description="p; value">
##INFO=<ID=DB,Number=0,Type=Flag,Description="a flag">
##INFO=<ID=NOTE,Number=.,Type=String,Description="text">
##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">
##FORMAT=<ID=GP,Number=G,Type=Float,Description="probabilities">
"""
INFOS = (".", "AO=1e+06", "RS=2148352434", "PV=1.2e-48", "DB", "NOTE=a,b c", "AO=7;DB;PV=0.10", "PV=1E-5;NOTE=x%3By")
SAMPLES = ("0/1", "0|1:0.1,0.90,0", "./.", "1/1:.", ".")


def vcf_text(draw: Random, bases: dict[str, str]) -> bytes:
    """A sorted VCF with single bases, insertions, deletions, several alternates and symbols; with samples or not."""
    n_samples = draw.choice((0, 0, 1, 2))
    names = ["CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", "one", "two"]
    lines = ["#" + "\t".join(names[: 8 + (n_samples and 1 + n_samples)])]
    for chrom, sequence in bases.items():
        for start in sorted(draw.sample(range(len(sequence) - 4), draw.randrange(1, 6))):
            ref = sequence[start : start + draw.choice((1, 1, 1, 2, 3))]
            alts = draw.choice(("A", "C", "G", "T", "TG", "ACGT", "C,T", "A,<DEL>", "<NON_REF>", "*", "."))
            about = (draw.choice((".", "30", "30.0", "1e-3")), draw.choice((".", "PASS", "q10")), draw.choice(INFOS))
            cells = (chrom, start + 1, draw.choice((".", f"rs{start}")), ref, alts, *about)
            samples = ["GT:GP", *draw.choices(SAMPLES, k=n_samples)] if n_samples else []
            lines.append("\t".join(map(str, [*cells, *samples])))
    text = HEAD + "\n".join([*lines, ""])
    return text.encode(draw.choice(("utf-8", "utf-8", "latin-1")))


def lines_of(data: bytes) -> tuple[list[bytes], list[bytes]] | None:
    """Lines of the header and of the records, read as text; None for what is no VCF."""
    lines = [line.removesuffix(b"\r") for line in data.removesuffix(b"\n").split(b"\n")]
    header = [line for line in lines if line.startswith(b"#")]
    records = lines[len(header) :]
    if lines[: len(header)] != header or not header or not header[0].startswith(b"##fileformat=VCFv4"):
        return None
    names = header[-1].split(b"\t")
    if names[:8] != b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO".split(b"\t"):
        return None
    return (header, records) if all(is_record(line, len(names)) for line in records) else None


def is_record(line: bytes, n_columns: int) -> bool:
    columns = line.split(b"\t")
    return (
        len(columns) == n_columns
        and all(columns[:8])
        and re.fullmatch(rb"[0-9]{1,10}", columns[1]) is not None
        and re.fullmatch(rb"[A-Za-z]+", columns[3]) is not None
        and not set(line) & set(b"\0\r")
    )


# --- what must come out -----------------------------------------------------------------------------------------------


def wrong_text(header: list[bytes], records: list[bytes], found: bytes) -> str:
    """What was lost or changed of the lines; "" if nothing was."""
    out = found.split(b"\n")
    own = [line for line in out if line.startswith(b"#")]
    missing = [line for line in header if line not in own]
    if missing:
        return f"lines of the header are gone or changed: {missing[:3]}"
    lines = [line for line in out if line and not line.startswith(b"#")]
    if len(lines) != len(records):
        return f"{len(lines)} records in place of {len(records)}"
    for before, after in zip(records, lines, strict=True):
        if without_own(before) != without_own(after):
            return f"{before!r} became {after!r}"
    return ""


def without_own(line: bytes) -> list[bytes]:
    columns = line.split(b"\t")
    kept = b";".join(field for field in columns[7].split(b";") if not OWN.match(field))
    return [*columns[:7], kept or b".", *columns[8:]]


def wrong_scores(prepared: Prepared, records: list[bytes], table: str) -> str:
    """Compare every line of the table with the formula; "" if all is right."""
    lines = [
        dict(zip(table.split("\n")[0].split("\t"), line.split("\t"), strict=True))
        for line in table.split("\n")[1:]
        if line
    ]
    expected = [allele for record in records for allele in scores_of(prepared, record)]
    if len(lines) != len(expected):
        return f"{len(lines)} alleles in place of {len(expected)}"
    for line, (place, delta) in zip(lines, expected, strict=True):
        if f"{line['chrom']}:{line['pos']}" != place:
            return f"{line} is not at {place}"
        found = float(line["delta"]) if line["delta"] else None
        if (found is None) != (delta is None) or (
            found is not None and delta is not None and abs(found - delta) > TOLERANCE
        ):
            return f"{line}: the delta is {delta}"
    return ""


def scores_of(prepared: Prepared, record: bytes) -> Iterator[tuple[str, float | None]]:
    """Place and delta of each alternate allele of a record; None if it has no score."""
    chrom, pos, _, ref, alts = (column.decode("utf-8", "surrogateescape") for column in record.split(b"\t")[:5])
    for alt in alts.split(",") if alts != "." else ():
        yield f"{chrom}:{int(pos)}", delta_of(prepared, chrom, int(pos) - 1, ref, alt)


def delta_of(prepared: Prepared, chrom: str, at: int, ref: str, alt: str) -> float | None:
    name = next((name for name in (chrom, f"chr{chrom}") if name in prepared.bases), None)
    if name is None or not re.fullmatch("[ACGTUacgtu]+", alt):
        return None
    codes = codes_of(prepared.bases[name])
    if at < 0 or at + len(ref) > len(codes) or not np.array_equal(codes[at : at + len(ref)], codes_of(ref)):
        return None
    start = at - LENGTH // 2
    whole = np.concatenate([np.full(LENGTH, 4, "uint8"), codes, np.full(LENGTH, 4, "uint8")])
    changed = np.concatenate(
        [whole[: at + LENGTH], codes_of(alt), whole[at + LENGTH + len(ref) :], np.full(LENGTH, 4, "uint8")]
    )
    return predicted(prepared, changed[start + LENGTH :]) - predicted(prepared, whole[start + LENGTH :])


def predicted(prepared: Prepared, codes: np.ndarray) -> float:
    one_hot = np.eye(5, 4, dtype="float64")[codes[:LENGTH]]
    return float((one_hot * prepared.weights).sum())


def wrong_places(path: Path, records: list[bytes]) -> str:
    """Compare places and alleles with pysam's reading, where pysam reads the file."""
    try:
        with pysam.VariantFile(str(path)) as file:
            found = [(r.chrom, r.pos, r.ref, ",".join(r.alts or ".")) for r in file]
    except (OSError, ValueError, NotImplementedError):  # the last: of gzip that is not bgzip
        return ""
    ours = [tuple(column.decode("utf-8", "replace") for column in line.split(b"\t")[:5]) for line in records]
    known = [(chrom, int(pos), ref, alts) for chrom, pos, _, ref, alts in ours]
    same = len(found) == len(known) and all(a[:2] == b[:2] for a, b in zip(found, known, strict=True))
    return "" if same else f"pysam reads {found[:5]} where the text says {known[:5]}"


# --- tries ------------------------------------------------------------------------------------------------------------


def attempt(prepared: Prepared, draw: Random, folder: Path) -> Outcome:
    """Damage a VCF, or its compressed bytes, and score it."""
    original = vcf_text(draw, prepared.bases)
    suffix, pack = draw.choice(
        ((".vcf", bytes), (".vcf.gz", lambda text: blocks(text, 900)), (".vcf.gz", gzip.compress))
    )
    is_whole = draw.random() < UNDAMAGED
    in_text = suffix == ".vcf" or draw.random() < 0.6
    text = mutated(draw, original, TEXT) if in_text and not is_whole else original
    data = pack(text) if in_text or is_whole else mutated(draw, pack(text), BYTES)
    path = folder / f"calls{suffix}"
    path.write_bytes(data)
    score_variants.load_scorer = lambda *_, **__: prepared.scorer

    def scored() -> tuple[bytes, str]:
        options = RunOptions(check=False, missing_contig="skip")
        score_variants.score_variants(prepared.model, str(path), str(prepared.fasta), str(folder / "out.vcf"), options)
        return (folder / "out.vcf").read_bytes(), (folder / "out.tsv").read_text("utf-8", "surrogateescape")

    def wrong(found: tuple[bytes, str]) -> str:
        lines = lines_of(unpacked(data) if suffix == ".vcf.gz" else data)
        if lines is None:
            return (
                ""
                if not wrong_text(*(lines_of(original) or ([], [])), found[0])
                else f"read, but it is no VCF: {text[-600:]!r}"
            )
        fault = (
            wrong_text(*lines, found[0]) or wrong_scores(prepared, lines[1], found[1]) or wrong_places(path, lines[1])
        )
        return fault

    return still_read(read(scored, [path.name], wrong), is_whole)


def kinds() -> Iterator[Kind]:
    yield Kind("VCF", prepare, attempt, share=4, needs_keras=True)
