"""bigWig: the importance of each base, for genome browsers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from fastism_cli.export.importance import importance_runs, known_stretches
from fastism_cli.export.request import ExportJob
from fastism_cli.optional import require


def write(job: ExportJob) -> None:
    """One file for each target, all contigs of the FASTA in its header."""
    library = require("pyBigWig", wanted_by="--format bigwig", extra="export")
    contigs = [(name, size) for name, size in job.frame.scores.file.genome_sizes.items() if size]
    with ExitStack() as stack:
        files = [stack.enter_context(_opened(library, paths[0], contigs)) for paths in job.paths]
        for run in importance_runs(job):
            for file, values in zip(files, run.values, strict=True):
                for offset, known in known_stretches(values):
                    file.addEntries(run.chrom, run.start + offset, values=known, span=1, step=1)


def _opened(library: Any, path: str, contigs: list[tuple[str, int]]) -> Any:
    file = library.open(path, "w")
    file.addHeader(contigs)
    return file
