"""The job that every cluster test runs: the example's peaks, repeated, and the one undisturbed run to compare with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def inputs(folder: Path, regions: int) -> dict[str, str]:
    """Write a BED of so many records; paths of model, BED and FASTA."""
    records = (EXAMPLES / "demo.bed").read_text().splitlines(keepends=True)
    (folder / "peaks.bed").write_text("".join(islice(cycle(records), regions)))
    fasta = shutil.copy(EXAMPLES / "demo.fa", folder / "demo.fa")
    return {"MODEL": str(EXAMPLES / "demo.keras"), "BED": str(folder / "peaks.bed"), "FASTA": str(fasta)}


def environment(**more: str) -> dict[str, str]:
    """Variables of a process that finds ``fastism`` where this Python is."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **more}


def whole_run(folder: Path, given: dict[str, str], *more: str) -> Path:
    output = folder / "whole.h5"
    files = ["--model", given["MODEL"], "--bed", given["BED"], "--fasta", given["FASTA"], "--output", str(output)]
    subprocess.run(["fastism", "run", "--quiet", *files, *more], env=environment(), check=True)
    return output


def not_run(what: str, why: str) -> None:
    """Say so, clearly, and end without failure."""
    print(f"NOT RUN: {what}: {why}")
    sys.exit(0)
