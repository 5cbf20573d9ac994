"""What a report says of a result, as plain numbers and text for the page."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastism_cli.report.histogram import spread
from fastism_cli.report.packing import pack_delta
from fastism_cli.report.quality import checks
from fastism_cli.report.region import Array, RegionScores, load_regions
from fastism_cli.report.strongest_sites import ranked
from fastism_cli.report.survey import Survey
from fastism_cli.results.layout import Track
from fastism_cli.results.schema import Status
from fastism_cli.results.scores import Scores


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
        "contigs": list(scores.file.genome_sizes),
        "summary": _summary(scores),
        "command": _command(scores),
        "checks": [list(check) for check in checks(scores, found)],
        "rows": _rows(scores, found, np.array(rows, np.int64), map_of),
        "left_out": scores.n_rows - len(rows),
        "tracks": [_track(scores, found, k, np.array(rows, np.int64), map_of) for k in range(len(found.tracks))],
        "maps": _maps(scores, drawn, found.tracks, row_of),
    }


def _summary(scores: Scores) -> list[tuple[str, str]]:
    attrs = scores.file.attrs
    heads = ", ".join(f"{head.name} ({_shape(head.shape)}{_reduced(head.reduce)})" for head in scores.file.heads)
    shard = f", shard {attrs['shard_index']} of {attrs['num_shards']}" if int(attrs.get("num_shards") or 1) > 1 else ""
    facts = [
        ("Model", os.path.basename(str(attrs.get("model_path") or "")) or "given as an object"),
        ("Regions", f"{scores.n_rows:,} of {os.path.basename(str(attrs.get('bed_path') or '')) or 'a BED'}{shard}"),
        ("Genome", os.path.basename(str(attrs.get("fasta_path") or ""))),
        ("Heads", heads),
        ("Input", f"{scores.length:,} bases, {_window(scores)} substituted"),
        ("Strand", "that of each record" if attrs.get("stranded") else "+"),
        ("Engine", " ".join(str(attrs.get(name) or "") for name in ("engine", "precision")).strip()),
        ("Device", " ".join(str(attrs.get(name) or "") for name in ("backend", "device")).strip()),
        ("Made by", f"fastism {attrs.get('fastism_version', '')}, {attrs.get('created', '')}"),
        ("Model SHA-256", str(attrs.get("model_sha256") or "")),
    ]
    return [(name, value) for name, value in facts if value]


def _window(scores: Scores) -> str:
    return "all" if scores.window == scores.length else f"the middle {scores.window:,}"


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
        "strand": columns["strand"].tolist(),
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
    maps = {row: _map(regions, row_of[row]) for row, regions in load_regions(scores, sorted(drawn), tracks)}
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
