"""bedGraph: the importance of each base as text; neighbours of one value share a line."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from fastism_cli.export.importance import Array, importance_runs, known_stretches
from fastism_cli.export.request import ExportJob
from fastism_cli.export.text_files import FLOAT, open_text


def write(job: ExportJob) -> None:
    """One file for each target, sorted by contig and position."""
    with ExitStack() as stack:
        files = [stack.enter_context(open_text(paths[0])) for paths in job.paths]
        for run in importance_runs(job):
            for file, values in zip(files, run.values, strict=True):
                for offset, known in known_stretches(values):
                    file.write(_lines(run.chrom, run.start + offset, known))


def _lines(chrom: str, start: int, values: Array) -> str:
    edges = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [len(values)]])
    places = (start + edges).tolist()
    line = f"{chrom}\t%d\t%d\t{FLOAT}\n"
    return "".join(line % row for row in zip(places[:-1], places[1:], values[edges[:-1]].tolist(), strict=True))
