"""The files of an export: their names, and how text is opened."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Sequence
from typing import IO, cast

from fastism_cli.errors import UsageError
from fastism_cli.export.formats import Format
from fastism_cli.options.run_options import RESULT_ENDINGS, stem_of
from fastism_cli.results.layout import Track

MAX_FILES = 100  # all are open at the same time
FLOAT = "%.9g"  # every float32 comes back as it was


def default_output(path: str, kind: Format) -> str:
    """``folder/peaks.ism.h5 -> peaks.bw``, in the current folder."""
    return stem_of(path, RESULT_ENDINGS) + (kind.endings[0] if len(kind.endings) == 1 else ".npz")


def file_names(output: str, kind: Format, tracks: Sequence[Track]) -> list[tuple[str, ...]]:
    """Names of the files of each file set: one set for each target if the format holds one, else a single set.

    Examples
    --------
    >>> file_names("out.bw", bigwig, [track]), file_names("out.bw", bigwig, [a, b])
    ([("out.bw",)], [("out.a.bw",), ("out.b.bw",)])
    """
    stem, ending = split_ending(output)
    endings = [ending] if len(kind.endings) == 1 else list(kind.endings)
    if not kind.per_target or len(tracks) == 1:
        return [tuple(stem + ending for ending in endings)]
    if len(tracks) > MAX_FILES:
        raise UsageError(
            f"an export of {len(tracks):,} targets would be {len(tracks):,} files; at most {MAX_FILES} are written. "
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


def open_text(path: str) -> IO[str]:
    """Open for writing; a name that ends in .gz is compressed."""
    if path.endswith((".gz", ".bgz")):
        return cast(IO[str], gzip.open(path, "wt", compresslevel=1, encoding="utf-8"))
    return open(path, "w", encoding="utf-8")
