"""Kill one job with SIGKILL at random moments, again and again, resume it, and compare with an undisturbed run.

``make test-kill``; prints how many kills there were and where they hit.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

import click

from fastism_cli.results.ism_file import read_result
from tests.helpers.same_results import assert_same_results

EXAMPLES = Path(__file__).parents[2] / "examples"
IN_START = 0.2  # share of the kills that come before the first row
LONGEST = 0.8  # seconds of scoring before a kill


def command(folder: Path, output: Path, *more: str) -> list[str]:
    files = ["--model", EXAMPLES / "demo.keras", "--fasta", EXAMPLES / "demo.fa", "--bed", folder / "many.bed"]
    options = ["--quiet", "--no-check", "--output", output, *more]
    return [sys.executable, "-m", "fastism_cli", "run", *map(str, [*files, *options])]


def killed_after(folder: Path, output: Path, draw: random.Random) -> str | None:
    """Where a kill hit, or None if the run came to its end before."""
    process = subprocess.Popen(command(folder, output, "--resume", "--checkpoint", "0.1"))
    partial = Path(f"{output}.partial")
    before = stamp(partial)
    if draw.random() < IN_START:
        time.sleep(draw.uniform(0, 4))
    else:
        while process.poll() is None and stamp(partial) == before:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, LONGEST))
    if process.poll() is not None:
        if process.returncode:
            raise click.ClickException(f"a resumed run ended with status {process.returncode}")
        return None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return "while it wrote" if stamp(partial) != before else "before it wrote"


def stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size


def same(found: Path, expected: Path) -> int:
    """How many arrays of two results are equal; all must be."""
    read_result(found).close()  # complete, or this raises; HDF5 opens no file twice with different locking
    return assert_same_results(found, expected)


@click.command()
@click.option("--kills", default=30, show_default=True)
@click.option("--regions", default=2000, show_default=True, help="Records of the job: enough to outlive the kills.")
@click.option("--seed", default=0, show_default=True)
def main(kills: int, regions: int, seed: int) -> None:
    """Exit 1 if the resumed file differs from that of an undisturbed run."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = (EXAMPLES / "demo.bed").read_text().splitlines(keepends=True)
        (folder / "many.bed").write_text("".join(islice(cycle(records), regions)))
        hits: Counter[str] = Counter()
        while hits.total() < kills:
            hit = killed_after(folder, folder / "killed.h5", draw)
            if hit is None:
                raise click.ClickException(f"the job was done after {hits.total()} kills: give more --regions")
            hits[hit] += 1
        subprocess.run(command(folder, folder / "killed.h5", "--resume"), check=True)
        subprocess.run(command(folder, folder / "whole.h5"), check=True)
        arrays = same(folder / "killed.h5", folder / "whole.h5")
    where = ", ".join(f"{n} {word}" for word, n in sorted(hits.items()))
    click.echo(f"{hits.total()} SIGKILLs ({where}); {arrays} arrays of {regions:,} regions equal an undisturbed run")


if __name__ == "__main__":
    main()
