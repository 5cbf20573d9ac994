"""Write the report: one page with everything in it, within a given size."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import zip_longest
from string import Template
from typing import Any

import numpy as np

from fastism_cli.errors import counted
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.genome.input_files import as_utf8
from fastism_cli.options.choices import REPORT_MEGABYTES, REPORT_REGIONS, REPORT_TARGETS
from fastism_cli.report.survey import BINS, LOWEST, STEPS, Survey, checks, survey
from fastism_cli.results.outputs import check_written
from fastism_cli.results.schema import MODEL_STRAND, STRAND, Status
from fastism_cli.results.scores import Scores, open_scores
from fastism_cli.results.staging import write_whole
from fastism_cli.scores.region import SITE, RegionScores, ranked
from fastism_cli.scores.tracks import Array, Track, choose_tracks

# --- the numbers and the text of the page ----------------------------------------------------------------------------

COARSE = 8  # bars in a factor of ten
DECADES = 6  # shown below the largest delta; smaller ones are counted in the first bar
CHECKSUMS = {"Model": "model_sha256", "BED": "bed_sha256", "FASTA": "fasta_sha256"}

# Names of assemblies in names of files, and what UCSC and IGV call them where that is another name.
ASSEMBLY = re.compile(
    r"(?<![a-z0-9])"
    r"(hg\d\d|hs1|mm\d{1,2}|rn\d|danRer\d{1,2}|dm\d|ce\d{1,2}|sacCer\d|galGal\d|susScr\d{1,2}|GRC[hm]\d\d|CHM13)"
    r"(?![0-9])",
    re.IGNORECASE,
)
OTHER_NAMES = {"grch38": "hg38", "grch37": "hg19", "grcm39": "mm39", "grcm38": "mm10", "chm13": "hs1"}


def contents(scores: Scores, found: Survey, rows: Sequence[int], drawn: Sequence[int]) -> dict[str, Any]:
    """Everything that the page shows.

    Parameters
    ----------
    found : Survey
        Of the tracks to show.
    rows : sequence of int
        Of the table, ascending.
    drawn : sequence of int
        Those of them whose pictures are in the page.
    """
    map_of = {row: i for i, row in enumerate(drawn)}
    row_of = {row: i for i, row in enumerate(rows)}
    return {
        "title": os.path.basename(scores.path),
        "letters": scores.letters,
        "complement": _complement(scores.letters),
        "contigs": list(scores.file.genome_sizes),
        "genome": assembly(str(scores.file.attrs.get("fasta_path") or "")),
        "summary": _summary(scores),
        "command": _command(scores),
        "checks": [list(check) for check in checks(scores, found)],
        "rows": _rows(scores, found, np.array(rows, np.int64), map_of),
        "left_out": scores.n_rows - len(rows),
        "tracks": [_track(scores, found, k, np.array(rows, np.int64), map_of) for k in range(len(found.tracks))],
        "maps": _maps(scores, drawn, found.tracks, row_of),
    }


def _complement(letters: str) -> dict[str, str]:
    """Each letter, and N, to that of the other strand."""
    alphabet = Alphabet(letters)
    codes = range(alphabet.size + 1)
    return {alphabet.decode([code]): alphabet.decode(alphabet.reverse_complement([code])) for code in codes}


def assembly(path: str) -> str:
    """``GRCh38.primary.fa.gz -> hg38``: what browsers call the genome of a FASTA, by its name; "" if unknown."""
    found = ASSEMBLY.search(os.path.basename(path))
    return OTHER_NAMES.get(found[1].lower(), found[1]) if found else ""


def _summary(scores: Scores) -> list[tuple[str, str]]:
    attrs = scores.file.attrs
    heads = ", ".join(f"{head.name} ({_shape(head.shape)}{_reduced(head.reduce)})" for head in scores.file.heads)
    shard = f", shard {attrs['shard_index']}/{attrs['num_shards']}" if int(attrs.get("num_shards") or 1) > 1 else ""
    facts = [
        ("Model", os.path.basename(str(attrs.get("model_path") or "")) or "given as an object"),
        ("Mean of", scores.file.averaged.text if scores.file.averaged else ""),
        ("Regions", f"{scores.n_rows:,} of {os.path.basename(str(attrs.get('bed_path') or '')) or 'a BED'}{shard}"),
        ("Genome", os.path.basename(str(attrs.get("fasta_path") or ""))),
        ("Heads", heads),
        ("Input", f"{scores.length:,} bases, {_window(scores)} substituted"),
        ("Strand", "that of each record" if attrs.get("stranded") else "+"),
        ("Engine", " ".join(str(attrs.get(name) or "") for name in ("engine", "precision")).strip()),
        ("Device", " ".join(str(attrs.get(name) or "") for name in ("backend", "device")).strip()),
        ("Made by", f"fastism {attrs.get('fastism_version', '')}, {attrs.get('created', '')}"),
        *((f"{what} SHA-256", str(attrs.get(name) or "")) for what, name in CHECKSUMS.items()),
    ]
    return [(name, value) for name, value in facts if value]


def _window(scores: Scores) -> str:
    if scores.window == scores.length:
        return "all"
    place = scores.substituted.place
    return f"{scores.window:,} {place}" if place else f"the middle {scores.window:,}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(f"{size:,}" for size in shape)


def _reduced(reduce: str) -> str:
    return "" if reduce == "none" else f", {reduce} over positions"


def _command(scores: Scores) -> str:
    """The command and every option, for people."""
    attrs = scores.file.attrs
    config = json.loads(attrs.get("config") or "{}")
    given = "\n".join(f"{name}: {value}" for name, value in config.items() if value not in (None, [], {}))
    return f"{attrs.get('command') or 'called from Python'}\n\n{given}".strip()


def _rows(scores: Scores, found: Survey, rows: Array, map_of: dict[int, int]) -> dict[str, list[Any]]:
    columns = {name: values[rows] for name, values in scores.regions.items()}
    is_scored = columns["status"] == Status.OK
    unknown = found.unknown[rows]
    return {
        "name": columns["name"].tolist(),
        "chrom": columns["chrom"].tolist(),
        "start": columns["start"].tolist(),
        "end": columns["end"].tolist(),
        "strand": columns[STRAND].tolist(),
        "model_strand": columns[MODEL_STRAND].tolist(),
        "status": [Status(int(status)).label for status in columns["status"]],
        "unknown": [int(n) if ok else None for n, ok in zip(unknown, is_scored, strict=True)],
        "padded": columns["n_padded"].tolist(),
        "map": [map_of.get(int(row)) for row in rows],
    }


def _track(scores: Scores, found: Survey, k: int, rows: Array, map_of: dict[int, int]) -> dict[str, Any]:
    order = [int(row) for row in ranked(found.site[:, k]) if int(row) in map_of]
    return {
        "label": found.tracks[k].label,
        "spread": spread(found.up[k], found.down[k], int(found.still[k])),
        "order": [map_of[row] for row in order],
        "scores": {
            "prediction": _numbers(found.prediction[rows, k]),
            "delta": _numbers(found.delta[rows, k]),
            "at": [int(at) if at >= 0 else None for at in found.delta_at[rows, k]],
            "change": list(_changes(scores.letters, found.ref[rows, k], found.alt[rows, k])),
            "site": _numbers(found.site[rows, k]),
            "site_at": [int(at) if at >= 0 else None for at in found.site_at[rows, k]],
        },
    }


def _numbers(values: Array) -> list[float | None]:
    """Six significant digits; None where there is no number, for JSON has no NaN."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]


def _changes(letters: str, ref: Array, alt: Array) -> Iterator[str | None]:
    known = letters + "N"
    for r, a in zip(ref, alt, strict=True):
        yield f"{known[r]}>{known[a]}" if r >= 0 else None


def _maps(
    scores: Scores, drawn: Sequence[int], tracks: Sequence[Track], row_of: dict[int, int]
) -> list[dict[str, Any]]:
    """The regions to draw, in the order of ``drawn``; read in the order of the file."""
    maps = {row: _map(regions, row_of[row]) for row, regions in scores.load_regions(sorted(drawn), tracks)}
    return [maps[row] for row in drawn]


def _map(regions: Sequence[RegionScores], index: int) -> dict[str, Any]:
    """One region for all tracks; the sequence is the same for all."""
    first = regions[0]
    known = np.array(list(first.letters + "N"))
    return {
        "row": index,
        "chrom": first.chrom,
        "start": first.start,
        "seq": "".join(known[first.seq]),
        "delta": [pack_delta(region.seq, region.delta) for region in regions],
    }


# --- how deltas are distributed --------------------------------------------------------------------------------------


def spread(up: Array, down: Array, still: int) -> dict[str, Any]:
    """Bars of equal steps of log10 |delta|, those that raise and those that lower the prediction.

    Parameters
    ----------
    up, down : int64 (BINS,)
        As counted by :func:`fastism_cli.report.survey.survey`.
    still : int
        How many deltas are exactly 0.

    Returns
    -------
    dict
        ``from`` and ``step`` of the bars in powers of ten, their counts ``up`` and ``down``, and ``text``.
    """
    merged = [counts.reshape(-1, STEPS // COARSE).sum(1) for counts in (up, down)]
    used = np.flatnonzero(merged[0] + merged[1])
    if not len(used):
        return {"from": 0, "step": 1 / COARSE, "up": [], "down": [], "text": _nothing(still)}
    stop = int(used[-1]) + 1
    first = max(int(used[0]), stop - DECADES * COARSE)
    bars = [_lumped(counts, first, stop) for counts in merged]
    return {
        "from": LOWEST + first / COARSE,
        "step": 1 / COARSE,
        "up": bars[0],
        "down": bars[1],
        "text": _words(up, down, still) + (" The first bar holds all smaller ones too." if used[0] < first else ""),
    }


def _lumped(counts: Array, first: int, stop: int) -> list[int]:
    return [int(counts[: first + 1].sum()), *counts[first + 1 : stop].tolist()]


def _nothing(still: int) -> str:
    return f"{still:,} deltas, all of them 0." if still else "No deltas."


def _words(up: Array, down: Array, still: int) -> str:
    """Quantiles to within a bin, which is 7 %."""
    n_up, n_down = int(up.sum()), int(down.sum())
    zeros = f", {still:,} change nothing" if still else ""
    return (
        f"Deltas of all regions by their size: {n_up:,} raise the prediction, {n_down:,} lower it{zeros}. "
        f"{_sizes(*(_quantile(up + down, still, share) for share in (0.5, 0.99)))}."
    )


def _sizes(median: str, most: str) -> str:
    if most == "0":
        return "99 in 100 or more are 0"
    half = "Half or more are 0" if median == "0" else f"Half are below about {median}"
    return f"{half}, 99 in 100 below {most}"


def _quantile(counts: Array, still: int, share: float) -> str:
    reached = still + np.cumsum(counts)
    index = int(np.searchsorted(reached, share * reached[-1]))
    if still >= share * reached[-1]:
        return "0"
    return f"{10 ** (LOWEST + min(index + 1, BINS) / STEPS):.2g}"


# --- deltas as text --------------------------------------------------------------------------------------------------


def pack_delta(seq: Array, delta: Array) -> str:
    """The deltas of all substitutions, column by column in the order of the letters, as floats of 24 bits.

    The reference base is left out, for its delta is 0; a column that holds an N has all letters. A float of 24 bits is
    the upper three bytes of a float32, least significant first: 16 significant bits, so that a number is off by at most
    2 ** -16 of itself.

    Parameters
    ----------
    seq : uint8 (W,)
    delta : float32 (W, letters)
    """
    is_reference = seq[:, None] == np.arange(delta.shape[1])
    return base64.b64encode(_upper_bytes(delta[~is_reference])).decode()


def _upper_bytes(values: Array) -> bytes:
    bits = np.where(np.isnan(values), np.float32(np.nan), values).astype("<f4").view("<u4")
    rounded = bits + np.uint32(0x80)  # half of the lowest byte, which is cut off
    return rounded.view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()


def packed_sizes(bases: Array, unknown: Array, letters: int, tracks: int) -> Array:
    """Bytes of each region in the page: its letters and the deltas of all tracks.

    Parameters
    ----------
    bases, unknown : int64 (n,)
        Columns of each region, and how many of them hold an N.
    """
    substitutions = bases * (letters - 1) + unknown
    return bases + 4 * tracks * substitutions  # base64 has 4 letters for 3 bytes


# --- the file --------------------------------------------------------------------------------------------------------

MAP_BYTES = 150  # of a picture beside its letters and deltas
TABLE_SHARE = 0.5  # of the page, at most: the rest is for pictures


@dataclass(frozen=True)
class ReportSummary:
    """Contents of the page: ``regions`` in its table, ``pictures`` of them, for ``tracks`` out of ``all_tracks``."""

    output: str
    bytes: int
    regions: int
    all_regions: int
    pictures: int
    wanted_pictures: int
    tracks: int
    all_tracks: int

    def lines(self) -> list[str]:
        """For the log: contents of the page, and the parts that were left out."""
        size = f"{self.bytes / 1e6:.2f} MB"
        lines = [f"{counted(self.regions, 'region')}, {self.pictures:,} of them drawn -> {self.output} ({size})"]
        if self.tracks < self.all_tracks:
            lines.append(f"{self.tracks:,} of {self.all_tracks:,} targets are shown; choose others with --targets")
        if self.pictures < self.wanted_pictures:
            missing = self.wanted_pictures - self.pictures
            lines.append(f"not drawn, as the page would pass --max-size: {missing:,} more of the strongest regions")
        if self.regions < self.all_regions:
            lines.append(f"the weakest {self.all_regions - self.regions:,} regions are left out of the table")
        return lines


def write_report(
    path: str | os.PathLike[str],
    output: str,
    *,
    targets: Sequence[str] = (),
    top: int = REPORT_REGIONS,
    max_size: float = REPORT_MEGABYTES,
    overwrite: bool = False,
) -> ReportSummary:
    """Write a self-contained HTML page about a result file.

    Parameters
    ----------
    path : str or path-like
        A finished result file.
    output : str
        The page to write.
    targets : sequence of str
        ``[HEAD=]LIST`` as in ``fastism export``. Default: all, of which the first 12 are shown.
    top : int
        How many regions to draw: the strongest of the first target, of the second, ..., then the second strongest.
    max_size : float
        Megabytes of the page. The pictures of the weakest regions are left out, and at last rows of the table; one
        region is always drawn.

    Raises
    ------
    UsageError
        If the file is no finished result, has no such target, holds scores of blocks, or the page exists.
    """
    with open_scores(path) as scores:
        check_written(output, scores.protected, overwrite=overwrite)
        scores.require_letters("the report", "fastism plot, top, or export --format tsv, parquet, bigwig or bedgraph")
        scores.require_bases()
        tracks = choose_tracks(scores, targets)
        shown = tracks if targets else tracks[:REPORT_TARGETS]
        scores.warn_if_unscored()
        found = survey(scores, shown)
        order = _strongest_first(found)
        rows = _fitting_rows(scores, order, len(shown), max_size)
        size = max_size * 1e6 - EMPTY_BYTES - len(rows) * _row_bytes(scores, len(shown))
        drawn = _fitting_maps(scores, found, order[:top], size)
        text = as_utf8(render(os.path.basename(scores.path), contents(scores, found, rows, drawn)))
        counts = (len(rows), scores.n_rows, len(drawn), min(top, len(order)), len(shown), len(tracks))
    write_whole(output, text, overwrite=overwrite)
    return ReportSummary(output, len(text.encode()), *counts)


# --- what fits -------------------------------------------------------------------------------------------------------


def _strongest_first(found: Survey) -> list[int]:
    """Rows: the strongest of each target, then the second strongest of each, ..."""
    by_track = [ranked(found.site[:, k]).tolist() for k in range(len(found.tracks))]
    return list(dict.fromkeys(row for rank in zip_longest(*by_track) for row in rank if row is not None))


def _row_bytes(scores: Scores, tracks: int) -> int:
    """A generous estimate of a row of the table."""
    names = sum(map(len, scores.regions["name"])) / max(scores.n_rows, 1)
    return int(100 + 2 * names + 60 * tracks)


def _fitting_rows(scores: Scores, order: Sequence[int], tracks: int, max_size: float) -> list[int]:
    """Rows of the table in the order of the file: all, or the strongest."""
    most = int(TABLE_SHARE * max_size * 1e6 / _row_bytes(scores, tracks))
    if scores.n_rows <= most:
        return list(range(scores.n_rows))
    return sorted(order[: max(most, 1)])


def _fitting_maps(scores: Scores, found: Survey, order: Sequence[int], size: float) -> list[int]:
    """The first rows whose pictures fit; at least one."""
    columns = scores.regions
    rows = np.array(order, np.int64)
    bases, unknown = (columns["end"] - columns["start"])[rows], found.unknown[rows]
    sizes = packed_sizes(bases, unknown, len(scores.letters), len(found.tracks)) + MAP_BYTES
    fitting = int(np.searchsorted(np.cumsum(sizes), size, side="right"))
    return list(order[: max(fitting, 1)])


# --- the page --------------------------------------------------------------------------------------------------------

SCRIPTS = (
    "data.js",
    "summary.js",
    "table.js",
    "brush.js",
    "paint.js",
    "view.js",
    "compare.js",
    "save.js",
    "links.js",
    "main.js",
)
EMPTY_BYTES = 75_000  # of a page without regions, generously: a test compares


def render(title: str, data: dict[str, Any]) -> str:
    """The whole page as text.

    Parameters
    ----------
    title : str
        Of the browser's tab.
    data : dict
        For ``JSON``: numbers, text, lists, dicts; no NaN.
    """
    return Template(_part("report.html")).substitute(
        title=html.escape(title),
        style=_part("report.css"),
        script="\n".join(_part(name) for name in SCRIPTS),
        site=SITE,
        data=_embedded(data),
    )


def _part(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element, also if the name of a region tries to."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
