"""Tables with a line for each substitution, or for the strongest: text, Parquet, VCF.

Their columns are chrom, pos (from 1), ref, alt, target, delta; letters are those of the + strand. Of blocks: chrom,
start and end as in BED, number of the content, target, delta.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastism_cli.errors import UsageError, cell
from fastism_cli.export.along_genome import Stretch, along_genome, delta_and_letters
from fastism_cli.export.exported_regions import Choice, ExportedRegions, ExportJob
from fastism_cli.export.formats import FLOAT, open_text, scratch_folder
from fastism_cli.genome import vcf_files
from fastism_cli.optional import require
from fastism_cli.options.choices import LINE_FOR, OVERLAPS
from fastism_cli.results.outputs import check_new_file, check_stream, require_name
from fastism_cli.results.score_blocks import LETTERS, GenomeSubstitutions
from fastism_cli.results.scores import Scores, open_scores
from fastism_cli.results.staging import is_stream, open_stream, staged
from fastism_cli.scores.region import SITE
from fastism_cli.scores.tracks import Array, Track, choose_tracks

# --- the strongest substitutions -------------------------------------------------------------------------------------

# A line of a region that overlaps no other is read and forgotten, and so are lines that are weaker than those which are
# kept: memory does not grow with the number of regions. Those that overlap are put in order in a temporary file.

KEPT_AT_ONCE = 1 << 17  # lines, before the weaker ones are dropped


def chosen_substitutions(
    regions: ExportedRegions, tracks: tuple[Track, ...], choice: Choice, folder: str | None
) -> Iterator[GenomeSubstitutions]:
    """The lines of a table, some at a time.

    Parameters
    ----------
    folder : str or None
        Where a nameless temporary file may be made, of the size of the deltas of the regions that overlap.
    """
    strong = (_strong(found, choice.min_delta) for found in _each_once(regions, tracks, choice, folder))
    if choice.n is None:
        yield from strong
        return
    kept = _Strongest(choice.n * _lines_of(regions)[choice.by])
    for found in strong:
        kept.add(found)
    yield _apart(kept.found(), choice, regions.scores)


def _lines_of(regions: ExportedRegions) -> dict[str, int]:
    """How many changes one line can stand for: itself, those of its base, those of all that are nearer than a site.

    Blocks that overlap are one site; they have lines of every region.
    """
    blocks = regions.scores.file.blocks
    if blocks is None:
        letters = len(regions.scores.letters)  # an N has them all
        return dict(zip(LINE_FOR, (1, letters, letters * (2 * SITE - 1)), strict=True))
    # those that hold the first base of a block, and those that hold its last one and begin behind the first
    starts = -(-blocks.width // blocks.step) + -(-(blocks.width - 1) // blocks.step)
    near = starts * blocks.contents * _deepest(regions)
    return dict(zip(LINE_FOR, (1, near, near), strict=True))


def _deepest(regions: ExportedRegions) -> int:
    """How many windows hold one base, at most."""
    places = regions.whole()
    order, number = _along(places.chrom, places.start)
    if not len(order):
        return 1
    starts = places.start[order] - places.start.min()
    starts += number[order] * (starts.max() + regions.window)  # contigs one behind the other
    before = np.searchsorted(starts, starts - regions.window, side="right")
    return int((np.arange(len(starts)) - before).max()) + 1


def _strong(found: GenomeSubstitutions, least: float) -> GenomeSubstitutions:
    return found.taken(np.abs(found.delta) >= least) if least else found


# --- where regions overlap -------------------------------------------------------------------------------------------


def _each_once(
    regions: ExportedRegions, tracks: tuple[Track, ...], choice: Choice, folder: str | None
) -> Iterator[GenomeSubstitutions]:
    """Every substitution of the genome once, along the genome if all are wanted; of blocks all lines of all regions."""
    places = regions.whole()
    if regions.scores.places is not None:  # a block has a line for each region that holds it
        yield from regions.scores.substitutions(places.rows, tracks)
        return
    overlapping = _overlapping(places.chrom, places.start, regions.window)
    if choice.n is None:
        overlapping[:] = True
    yield from regions.scores.substitutions(places.rows[~overlapping], tracks)
    if overlapping.any():
        yield from _merged(replace(regions, rows=places.rows[overlapping]), tracks, choice.overlap, folder)


def _overlapping(chrom: Array, start: Array, window: int) -> Array:
    """Which windows share a base with another, bool (n,)."""
    order, number = _along(chrom, start)
    near = (np.diff(number[order]) == 0) & (np.diff(start[order]) < window)
    found = np.zeros(len(start), bool)
    found[order[1:]] |= near
    found[order[:-1]] |= near
    return found


def _along(chrom: Array, start: Array) -> tuple[Array, Array]:
    """The order of windows by contig and start, and a number for the contig of each, int64 (n,)."""
    number = np.unique(chrom, return_inverse=True)[1] if len(chrom) else np.empty(0, np.int64)
    return np.lexsort((start, number)), number


def _merged(
    regions: ExportedRegions, tracks: tuple[Track, ...], overlap: str, folder: str | None
) -> Iterator[GenomeSubstitutions]:
    rows = regions.whole().rows
    reference = regions.scores.predictions(rows, tracks)
    number = {name: i for i, name in enumerate(regions.scores.file.genome_sizes)}
    for stretch in along_genome(regions, tracks, delta_and_letters, folder):
        covering = np.array(stretch.segment.covering)
        yield _of_stretch(stretch, number[stretch.segment.chrom], rows[covering], reference[covering], overlap)


def _of_stretch(stretch: Stretch, chrom: int, rows: Array, reference: Array, overlap: str) -> GenomeSubstitutions:
    """The substitutions of bases that the same regions cover.

    Parameters
    ----------
    rows : int64 (R,)
    reference : float32 (R, K)
    """
    delta, codes = stretch.values[:, :-1], stretch.values[0, -1, :, 0].astype(np.int64)
    known = np.isfinite(delta)
    sizes = np.where(known, np.abs(delta), -1)
    chosen = sizes.argmax(axis=0) if overlap == "max" else known.argmax(axis=0)
    target, base, alt = np.nonzero(known.any(axis=0) & (np.arange(4) != codes[:, None]))
    region = chosen[target, base, alt]
    if overlap == "mean":
        counts = known.sum(axis=0)[target, base, alt]
        of_delta = np.where(known, delta, 0).sum(axis=0, dtype=np.float64)[target, base, alt]
        of_reference = (known * reference[:, :, None, None].astype(np.float64)).sum(axis=0)[target, base, alt]
        values, predictions = ((total / counts).astype(np.float32) for total in (of_delta, of_reference))
    else:
        values, predictions = delta[region, target, base, alt], reference[region, target]
    return GenomeSubstitutions(
        chrom=np.full(len(base), chrom),
        pos=stretch.segment.start + base + 1,
        end=stretch.segment.start + base + 1,
        ref=codes[base],
        alt=alt,
        target=target,
        delta=values,
        reference=predictions,
        row=rows[region],
    )


# --- the strongest ---------------------------------------------------------------------------------------------------


def _from_strongest(found: GenomeSubstitutions) -> Array:
    """Their order: by target, then from the largest magnitude on; equal ones along the genome."""
    return np.lexsort((found.alt, found.pos, found.chrom, -np.abs(found.delta), found.target))


def _rank(target: Array) -> Array:
    """How many of the same target stand before each, int64 (m,); targets are ascending."""
    starts = np.flatnonzero(np.diff(target, prepend=-1))
    sizes = np.diff(np.append(starts, len(target)))
    return np.arange(len(target)) - np.repeat(starts, sizes)


class _Strongest:
    """The ``n`` strongest of each target among all that were added."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._pieces = [GenomeSubstitutions.nothing()]
        self._waiting = 0

    def add(self, found: GenomeSubstitutions) -> None:
        self._pieces.append(found)
        self._waiting += len(found)
        if self._waiting > KEPT_AT_ONCE:
            self._pieces, self._waiting = [self.found()], 0

    def found(self) -> GenomeSubstitutions:
        whole = GenomeSubstitutions.joined(self._pieces)
        whole = whole.taken(_from_strongest(whole))
        return whole.taken(_rank(whole.target) < self._n)


def _apart(found: GenomeSubstitutions, choice: Choice, scores: Scores) -> GenomeSubstitutions:
    """The strongest ``n`` of each target, one for each substitution, base or site."""
    site = SITE if scores.places is None else int(scores.places.widths.max(initial=1))
    least = {"substitution": 0, "base": 1, "site": site}[choice.by]
    taken: dict[tuple[int, int], set[int]] = {}
    counts: dict[int, int] = {}
    kept = []
    columns = (x.tolist() for x in (found.target, found.chrom, found.pos))
    for i, (target, chrom, pos) in enumerate(zip(*columns, strict=True)):
        others = taken.setdefault((target, chrom), set())
        if counts.get(target, 0) < (choice.n or 0) and others.isdisjoint(range(pos - least + 1, pos + least)):
            others.add(pos)
            counts[target] = counts.get(target, 0) + 1
            kept.append(i)
    return found.taken(np.array(kept, np.int64))


# --- tables of all ---------------------------------------------------------------------------------------------------

COLUMNS = ("chrom", "pos", "ref", "alt", "target", "delta")
BLOCK_COLUMNS = ("chrom", "start", "end", "content", "target", "delta")
WHOLE = ("pos", "start", "end", "content", "row")
REGION_COLUMNS = ("row", "name")


def write_tsv(job: ExportJob) -> None:
    """TSV: one file for all targets, with a header."""
    cells, columns = cells_of(job), columns_of(job)
    forms = {**dict.fromkeys(WHOLE, "%d"), "delta": FLOAT}
    line = "\t".join(forms.get(column, "%s") for column in columns) + "\n"
    with open_text(job.paths[0][0]) as file:
        file.write("\t".join(columns) + "\n")
        for found in substitutions(job):
            values = [_listed(_numbers(found, column), cells.get(column)) for column in columns]
            file.write("".join(map(line.__mod__, zip(*values, strict=True))))


def _listed(values: Array, cells: Sequence[Any] | None) -> list[Any]:
    return values.tolist() if cells is None else np.array(cells, dtype=object)[values].tolist()


def write_parquet(job: ExportJob) -> None:
    """Parquet: one file for all targets; a row group for each block of regions."""
    pa = require("pyarrow", wanted_by="--format parquet", extra="export")
    parquet = require("pyarrow.parquet", wanted_by="--format parquet", extra="export")
    cells, columns = cells_of(job), columns_of(job)
    kinds = {**dict.fromkeys(WHOLE, pa.int64()), "delta": pa.float32()}
    schema = pa.schema([(column, kinds.get(column, pa.string())) for column in columns])
    with parquet.ParquetWriter(job.paths[0][0], schema) as writer:
        for found in substitutions(job):
            arrays = [
                _array(pa, _numbers(found, column), cells.get(column), schema.field(column).type) for column in columns
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _array(pa: Any, values: Array, cells: Sequence[Any] | None, kind: Any) -> Any:
    if cells is None:
        return pa.array(values, kind)
    return pa.DictionaryArray.from_arrays(pa.array(values.astype("int32")), pa.array(cells, kind)).cast(kind)


# --- the lines -------------------------------------------------------------------------------------------------------


def columns_of(job: ExportJob) -> list[str]:
    columns = COLUMNS if job.regions.scores.places is None else BLOCK_COLUMNS
    return [*columns, *(REGION_COLUMNS if job.region_columns else ())]


def cells_of(job: ExportJob) -> dict[str, Sequence[Any]]:
    """What the numbers of some columns stand for; those of ``row`` and ``name`` are rows of the file."""
    scores = job.regions.scores
    cells: dict[str, Sequence[Any]] = {
        "chrom": list(scores.file.genome_sizes),
        "ref": LETTERS,
        "alt": LETTERS,
        "target": [cell(track.label) for track in job.tracks],
    }
    if job.region_columns:
        cells |= {"row": scores.regions["bed_row"].tolist(), "name": [*map(cell, scores.regions["name"].tolist())]}
    return cells


def _numbers(found: GenomeSubstitutions, column: str) -> Array:
    return np.asarray(getattr(found, "row" if column in REGION_COLUMNS else column))


def substitutions(job: ExportJob) -> Iterator[GenomeSubstitutions]:
    """Changes with a score: of all regions, by region, target, position and letter, or block and content; or those that
    were chosen."""
    if job.choice is not None:
        yield from chosen_substitutions(job.regions, job.tracks, job.choice, scratch_folder(job.paths[0][0]))
        return
    for places in job.regions.pieces():
        yield from job.regions.scores.substitutions(places.rows, job.tracks)


# --- the table of fastism top ----------------------------------------------------------------------------------------

PARQUET = ".parquet"
Columns = dict[str, Array]


def write_top(
    path: str | os.PathLike[str],
    output: str = "-",
    *,
    n: int = 50,
    min_delta: float = 0.0,
    by: str = "substitution",
    overlap: str | None = None,
    targets: Sequence[str] = (),
    overwrite: bool = False,
) -> int:
    """Write the strongest substitutions of each target, the strongest first.

    Parameters
    ----------
    path : str or path-like
        A finished result of ``fastism run``.
    output : str
        TSV, or Parquet if the name ends in .parquet; ``-`` is stdout.
    n, min_delta, by, overlap
        See :class:`fastism_cli.export.exported_regions.Choice`; "mean" is the default of ``overlap``.
    targets : sequence of str
        ``[HEAD=]LIST``; default: all.

    Returns
    -------
    int
        How many lines it has.

    Raises
    ------
    UsageError
        If the file is no finished result, or an option has no such value.
    OutputError
        If the output exists and may not be replaced, or cannot be written.
    """
    for option, value, allowed in (("--by", by, LINE_FOR), ("--overlap", overlap or "mean", OVERLAPS)):
        if value not in allowed:
            raise UsageError(f"{option} must be one of {', '.join(allowed)}. Received: {value!r}")
    require_name(output, "--output")
    with open_scores(path) as scores:
        scores.require_bases()
        _check_blocks(scores, by, overlap)
        tracks = choose_tracks(scores, targets)
        if is_stream(output):
            check_stream(output, scores.protected, option="--output")
        else:
            check_new_file(output, scores.protected, overwrite=overwrite)
        scores.warn_if_unscored()
        choice = Choice(n, min_delta, by, overlap or "mean")
        (found,) = chosen_substitutions(ExportedRegions(scores), tracks, choice, scratch_folder(output))
        columns = scores.columns(found, tracks)
    _write(output, columns, overwrite)
    return len(found)


def _check_blocks(scores: Scores, by: str, overlap: str | None) -> None:
    """Refuse what has no meaning for blocks."""
    for option, value in (("--by base", by == "base"), ("--overlap", overlap is not None)):
        if value and scores.places is not None:
            raise UsageError(
                f"{option} is of single letters, and {scores.path} holds scores of blocks. A block has a line for each "
                "region that holds it; --by site has the strongest of all that overlap it."
            )


def _write(output: str, columns: Columns, overwrite: bool) -> None:
    if is_stream(output):
        _write_tsv(output, columns)
        return
    with staged(output, overwrite=overwrite) as staging:
        write = _write_parquet if output.endswith(PARQUET) else _write_tsv
        write(staging.path(output), columns)
        staging.move()


def _write_tsv(path: str, columns: Columns) -> None:
    formats = {**dict.fromkeys(WHOLE, "%d"), "delta": FLOAT, "reference": FLOAT}
    line = "\t".join(formats.get(name, "%s") for name in columns) + "\n"
    with open_text(path) as file:
        file.write("\t".join(columns) + "\n")
        file.writelines(map(line.__mod__, zip(*(values.tolist() for values in columns.values()), strict=True)))


def _write_parquet(path: str, columns: Columns) -> None:
    pa = require("pyarrow", wanted_by="a table in Parquet", extra="export")
    parquet = require("pyarrow.parquet", wanted_by="a table in Parquet", extra="export")
    kinds = {**dict.fromkeys(WHOLE, pa.int64()), "delta": pa.float32(), "reference": pa.float32()}
    arrays = {name: pa.array(values, kinds.get(name, pa.string())) for name, values in columns.items()}
    parquet.write_table(pa.table(arrays), path)


# --- VCF -------------------------------------------------------------------------------------------------------------

LETTERS_BY_CODE = np.array(LETTERS, dtype=object)


def write_vcf(job: ExportJob) -> None:
    """Every substitution as a record, delta in INFO; sorted, bgzipped, indexed: one file for all targets.

    A base that several regions cover has records for each region, with its row in INFO/ROW.
    """
    pysam = require("pysam", wanted_by="--format vcf", extra="export")
    file, path = job.regions.scores.file, job.paths[0][0]
    labels = [track.label for track in job.tracks]
    keys = vcf_files.info_keys("DELTA", labels)
    lines = [vcf_files.info_line("ROW", "1", "Integer", "Row of the BED, from 0")] + [
        vcf_files.info_line(key, "A", "Float", f"Prediction on ALT minus prediction on the reference: {label}")
        for key, label in zip(keys, labels, strict=True)
    ]
    with _opened(pysam, path) as output:
        output.write(vcf_files.header(file.genome_sizes, lines, reference=file.attrs.get("fasta_path", "")).encode())
        for text in _records(job, keys):
            output.write(text.encode())
    if not is_stream(path) and not path.endswith(".vcf"):
        vcf_files.index(pysam, path, file.genome_sizes)


def _opened(pysam: Any, path: str) -> Any:
    """Compressed by bgzip, but for a stream and a name that ends in .vcf."""
    if is_stream(path):
        return open_stream(path)
    return open(path, "wb") if path.endswith(".vcf") else pysam.BGZFile(path, "wb")


def _records(job: ExportJob, keys: list[str]) -> Iterator[str]:
    bed_row = job.regions.whole().column("bed_row")
    info = ";".join(["ROW=%d", *(f"{key}={FLOAT}" for key in keys)])
    for stretch in along_genome(job.regions, job.tracks, delta_and_letters, scratch_folder(job.paths[0][0])):
        yield _lines(stretch, bed_row, f"{stretch.segment.chrom}\t%d\t.\t%s\t%s\t.\t.\t{info}\n")


def _lines(stretch: Stretch, bed_row: Array, line: str) -> str:
    """By position, then region, then letter."""
    delta = stretch.values[:, :-1].transpose(2, 0, 3, 1)  # bases, regions, letters, K
    codes = stretch.values[0, -1, :, 0].astype(int)
    wanted = np.isfinite(delta).all(-1) & (np.arange(4) != codes[:, None, None])
    base, region, alt = np.nonzero(wanted)
    columns = [
        (stretch.segment.start + 1 + base).tolist(),
        LETTERS_BY_CODE[codes[base]].tolist(),
        LETTERS_BY_CODE[alt].tolist(),
        bed_row[np.array(stretch.segment.covering)[region]].tolist(),
        *delta[wanted].T.tolist(),
    ]
    return "".join(map(line.__mod__, zip(*columns, strict=True)))
