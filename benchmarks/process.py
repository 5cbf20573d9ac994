"""The whole command against its engine: ``fastism run`` over 200 regions of Basset, cold and with a compile cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import numpy as np

from benchmarks.models import basset

LENGTH = 1000
MOST_OVER = 1.15  # wall time over the engine's time plus start-up
MOST_START_UP = 20.0  # seconds


def write_inputs(folder: Path, regions: int) -> list[str]:
    """Model, genome and BED as files; returns the options that name them."""
    basset(LENGTH).save(folder / "basset.keras")
    letters = np.random.default_rng(0).integers(0, 4, (regions + 1) * LENGTH)
    (folder / "genome.fa").write_text(">chr1\n" + "".join(np.array(list("ACGT"))[letters]) + "\n")
    starts = [i * LENGTH for i in range(regions)]
    (folder / "peaks.bed").write_text("".join(f"chr1\t{start}\t{start + LENGTH}\n" for start in starts))
    names = {"--model": "basset.keras", "--fasta": "genome.fa", "--bed": "peaks.bed", "--output": "out.h5"}
    return [part for option, name in names.items() for part in (option, str(folder / name))]


def run(folder: Path, files: list[str]) -> dict[str, Any]:
    """The summary of one run, with its wall time as "wall"."""
    command = [sys.executable, "-m", "fastism_cli", "run", *files, "--summary", str(folder / "s.json")]
    began = time.perf_counter()
    subprocess.run(
        [*command, "--overwrite", "--quiet"], check=True, env={**os.environ, "FASTISM_CACHE": str(folder / "cache")}
    )
    return {**json.loads((folder / "s.json").read_text()), "wall": time.perf_counter() - began}


@click.command()
@click.option("--regions", default=200, show_default=True)
def main(regions: int) -> None:
    """Exit 1 if a run takes over 1.15 of engine plus start-up, or over 20 s to start."""
    late = False
    with tempfile.TemporaryDirectory() as name:
        files = write_inputs(Path(name), regions)
        for state in ("nothing compiled before", "compiled by the run before"):
            told = run(Path(name), files)
            engine, start_up = told["seconds_by_step"]["engine"], told["start_up_seconds"]
            over = told["wall"] / (engine + start_up)
            click.echo(
                f"{regions} regions, {state}: {told['wall']:.1f} s = {over:.3f} x (engine {engine:.1f} s + start-up "
                f"{start_up:.1f} s); {engine / regions * 1e3:.0f} ms a region"
            )
            late |= over > MOST_OVER or start_up > MOST_START_UP
    if late:
        raise click.ClickException(f"over {MOST_OVER} of engine plus start-up, or over {MOST_START_UP:.0f} s to start")


if __name__ == "__main__":
    main()
