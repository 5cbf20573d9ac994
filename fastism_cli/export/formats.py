"""The formats of ``fastism export``, a table of facts, and the names of its files. Importing it loads no library."""

from __future__ import annotations

import gzip
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from io import TextIOWrapper
from typing import IO, TYPE_CHECKING, cast

from fastism_cli.errors import UsageError, part_of_name
from fastism_cli.genome.vcf_files import index_names
from fastism_cli.options.run_options import RESULT_ENDINGS, stem_of
from fastism_cli.results.staging import is_stream, open_stream

if TYPE_CHECKING:
    from fastism_cli.export.exported_regions import ExportJob
    from fastism_cli.scores.tracks import Track


@dataclass(frozen=True)
class Format:
    """One consumer's format.

    Attributes
    ----------
    module : str
        In ``fastism_cli.export``: where the function that writes it is, see :func:`writer_of`.
    endings : tuple of str
        End of the name of each file: one for most formats, two for modisco-npz.
    per_target : bool
        Whether each target gets separate files.
    holds : "regions" or "bases"
        Arrays with a row for each region, whose windows must all have the same even width and lie on their contig; or
        all bases that have scores.
    library : str
        Distribution that the extra ``export`` installs for it; "" for none.
    is_text : bool
        Whether it can be written to stdout.
    indexes : callable
        The names of the indexes that may lie beside a file.
    of_blocks : bool
        Whether it holds scores of blocks too; the others need those of single letters.
    """

    module: str
    endings: tuple[str, ...]
    per_target: bool
    holds: str
    library: str = ""
    is_text: bool = False
    indexes: Callable[[str], list[str]] = lambda path: []
    of_blocks: bool = False


FORMATS = {
    "modisco-npz": Format("attribution_arrays", (".ohe.npz", ".shap.npz"), per_target=True, holds="regions"),
    "modisco-h5": Format("attribution_arrays", (".modisco.h5",), per_target=True, holds="regions"),
    "chrombpnet-h5": Format("attribution_arrays", (".chrombpnet.h5",), per_target=True, holds="regions"),
    "basenji-h5": Format("attribution_arrays", (".basenji.h5",), per_target=False, holds="regions"),
    "bigwig": Format("along_genome", (".bw",), per_target=True, holds="bases", library="pyBigWig", of_blocks=True),
    "bedgraph": Format("along_genome", (".bedgraph",), per_target=True, holds="bases", is_text=True, of_blocks=True),
    "tsv": Format("tables", (".tsv",), per_target=False, holds="bases", is_text=True, of_blocks=True),
    "parquet": Format("tables", (".parquet",), per_target=False, holds="bases", library="pyarrow", of_blocks=True),
    "vcf": Format(
        "tables",
        (".vcf.gz",),
        per_target=False,
        holds="bases",
        library="pysam",
        is_text=True,
        indexes=index_names,
    ),
}


def writer_of(kind: str) -> Callable[[ExportJob], None]:
    """The function that writes a format: ``along_genome.write_bigwig`` for ``bigwig``."""
    module = import_module(f"fastism_cli.export.{FORMATS[kind].module}")
    writer: Callable[[ExportJob], None] = getattr(module, f"write_{kind.replace('-', '_')}")
    return writer


# --- the files of an export ------------------------------------------------------------------------------------------

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
