"""Which targets an export is of, and what its files are called."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from fastism_cli.errors import UsageError
from fastism_cli.export.formats import Format
from fastism_cli.headed import split_named
from fastism_cli.io.results import Scores
from fastism_cli.io.tracks import Track

MOST_FILES = 100  # all are open at the same time


def choose_tracks(scores: Scores, values: Sequence[str], *, option: str = "--targets") -> tuple[Track, ...]:
    """``--targets [HEAD=]LIST``: names as ``fastism info`` shows them, or numbers from 0, or ranges of either.

    A name that looks like a number is a name: unit 7 of a file that holds the units 5 and 7 is called ``7``.

    Parameters
    ----------
    option : str
        What messages call it.

    Raises
    ------
    UsageError
        If there is no such head or target.
    """
    chosen = [track for head, text in split_named(values) for track in _listed(scores, head, text, option)]
    return tuple(dict.fromkeys(chosen)) or scores.tracks


def _listed(scores: Scores, head: str | None, text: str, option: str) -> list[Track]:
    heads = [layout.name for layout in scores.file.heads]
    if head is None and text in heads:  # --targets HEAD
        head, text = text, "all"
    if head is None and len(heads) > 1:
        if not (text[:1].isdigit() or text in {track.name for track in scores.tracks}):
            raise UsageError(f"{option}: {scores.path} has no head or target {text!r}. Its heads: {', '.join(heads)}.")
        raise UsageError(f"{option} {text}: {scores.path} has several heads. Write HEAD={text}: {', '.join(heads)}.")
    if head is not None and head not in heads:
        raise UsageError(f"{option}: {scores.path} has no head {head!r}. Its heads: {', '.join(heads)}.")
    tracks = scores.tracks_of(head or heads[0])
    if text == "all":
        return list(tracks)
    by_name = {track.name: track for track in tracks}
    if text in by_name:
        return [by_name[text]]
    return [track for item in text.split(",") for track in _item(item.strip(), by_name, f"{option}: {scores.path}")]


def _item(item: str, by_name: dict[str, Track], where: str) -> list[Track]:
    """A name, a number, or a range of numbers, both ends included."""
    if item in by_name:
        return [by_name[item]]
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", item)
    numbers = range(int(found[1]), int(found[2] or found[1]) + 1) if found else range(0)
    if found and found[2] and all(str(number) in by_name for number in numbers):
        tracks = [by_name[str(number)] for number in numbers]
    else:
        tracks = [track for track in by_name.values() if track.unit in numbers]
    if not numbers or len(tracks) < len(numbers):
        shown = ", ".join([*by_name][:10]) + (", ..." if len(by_name) > 10 else "")
        raise UsageError(f"{where} has no target {item!r}. Those of this head: {shown}.")
    return tracks


def default_output(path: str, kind: Format) -> str:
    """``folder/peaks.ism.h5 -> peaks.bw``, in the current folder."""
    stem = os.path.basename(path)
    for suffix in (".h5", ".hdf5", ".ism"):
        stem = stem.removesuffix(suffix)
    return stem + (kind.parts[0] if len(kind.parts) == 1 else ".npz")


def file_names(output: str, kind: Format, tracks: Sequence[Track]) -> list[tuple[str, ...]]:
    """Names of the parts of each file set: one set for each target if the format holds one, else a single set.

    Examples
    --------
    >>> file_names("out.bw", bigwig, [track]), file_names("out.bw", bigwig, [a, b])
    ([("out.bw",)], [("out.a.bw",), ("out.b.bw",)])
    """
    stem, ending = split_ending(output)
    endings = [ending] if len(kind.parts) == 1 else list(kind.parts)
    if not kind.per_target or len(tracks) == 1:
        return [tuple(stem + ending for ending in endings)]
    if len(tracks) > MOST_FILES:
        raise UsageError(
            f"an export of {len(tracks):,} targets would be {len(tracks):,} files; at most {MOST_FILES} are written. "
            "Choose some with --targets."
        )
    labels = unique([re.sub(r"[^\w.+-]+", "_", track.label) for track in tracks])
    return [tuple(f"{stem}.{label}{ending}" for ending in endings) for label in labels]


def unique(labels: Sequence[str]) -> list[str]:
    """Labels, numbered where they repeat (letter case aside, as on some file systems)."""
    lower = [label.lower() for label in labels]
    return [f"{label}_{i}" if lower.count(label.lower()) > 1 else label for i, label in enumerate(labels)]


def split_ending(output: str) -> tuple[str, str]:
    """``a/out.vcf.gz -> a/out, .vcf.gz``; a two-part ending such as ``.modisco.h5`` stays together."""
    folder, name = os.path.split(output)
    known = (r"\.(?:\w+\.(?:gz|bgz)|(?:modisco|chrombpnet|basenji)\.(?:h5|hdf5)|\w+)$",)
    found = re.search(known[0], name[1:])
    cut = len(name) if found is None else found.start() + 1
    return os.path.join(folder, name[:cut]), name[cut:]
