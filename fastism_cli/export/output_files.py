"""The files of an export: their names, and how text is opened."""

from __future__ import annotations

import gzip
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import IO, cast

from fastism_cli.errors import UsageError
from fastism_cli.export.formats import Format
from fastism_cli.options.run_options import RESULT_ENDINGS, stem_of
from fastism_cli.results.staging import is_stream, open_stream
from fastism_cli.scores.tracks import Track
from fastism_cli.scores.written_names import part_of_name

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
    labels = unique([part_of_name(track.label, "_") for track in tracks])
    return [tuple(f"{stem}.{label}{ending}" for ending in endings) for label in labels]


def unique(labels: Sequence[str]) -> list[str]:
    """Labels, numbered where they repeat (letter case aside, as on some file systems), until all differ."""
    found = list(labels)
    while repeated := {name for name, n in Counter(label.lower() for label in found).items() if n > 1}:
        found = [f"{label}_{i}" if label.lower() in repeated else label for i, label in enumerate(found)]
    return found


def split_ending(output: str) -> tuple[str, str]:
    """``a/out.vcf.gz -> a/out, .vcf.gz``; a two-part ending such as ``.modisco.h5`` stays together."""
    folder, name = os.path.split(output)
    known = (r"\.(?:\w+\.(?:gz|bgz)|(?:modisco|chrombpnet|basenji)\.(?:h5|hdf5)|\w+)$",)
    found = re.search(known[0], name[1:])
    cut = len(name) if found is None else found.start() + 1
    return os.path.join(folder, name[:cut]), name[cut:]


@contextmanager
def open_text(path: str) -> Iterator[IO[str]]:
    """Open for writing; a name that ends in .gz is compressed, a stream never is."""
    if is_stream(path):
        with open_stream(path) as stream:
            text = TextIOWrapper(stream, encoding="utf-8", write_through=True)
            yield text
            text.detach()
        return
    with _opened(path) as file:
        yield file


def scratch_folder(path: str) -> str | None:
    """Where a temporary file may lie for an output: beside it, or for a stream in the usual place."""
    return None if is_stream(path) else os.path.dirname(path)


def _opened(path: str) -> IO[str]:
    if path.endswith((".gz", ".bgz")):
        return cast(IO[str], gzip.open(path, "wt", compresslevel=1, encoding="utf-8"))
    return open(path, "w", encoding="utf-8")
