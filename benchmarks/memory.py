"""Peak memory of the whole ``fastism run`` process for few and for many regions: it must not grow with the BED."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path

import click

EXAMPLES = Path(__file__).parents[1] / "examples"
MOST_GROWTH = 1.10
RUNS = 2  # of each: the peak of the same run differs by 10 %, with what its threads hold at a time


def peak_bytes(regions: int, folder: Path) -> int:
    """Peak resident memory of one run over the first ``regions`` records of the example, repeated as needed."""
    records = (EXAMPLES / "demo.bed").read_text().splitlines(keepends=True)
    bed = folder / f"{regions}.bed"
    bed.write_text("".join(islice(cycle(records), regions)))
    command = [sys.executable, "-m", "fastism_cli", "run", "--quiet", "--overwrite"]
    files = ["--model", EXAMPLES / "demo.keras", "--fasta", EXAMPLES / "demo.fa", "--bed", bed, "-o", f"{bed}.h5"]
    process = subprocess.Popen([*command, *map(str, files)])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise click.ClickException(f"fastism run over {regions} regions ended with status {status}")
    return usage.ru_maxrss * 1024


@click.command()
@click.option("--few", default=100, show_default=True, help="Enough to fill what a run holds at a time.")
@click.option("--many", default=1000, show_default=True)
def main(few: int, many: int) -> None:
    """Exit 1 if the run over many regions always needs over 10 % more memory than the run over few."""
    with tempfile.TemporaryDirectory() as folder:
        found = [[peak_bytes(regions, Path(folder)) for regions in (few, many)] for _ in range(RUNS)]
    peaks = [max(first for first, _ in found), min(last for _, last in found)]
    growth = peaks[1] / peaks[0]
    for regions, peak in zip((few, many), peaks, strict=True):
        click.echo(f"{regions:6,} regions: {peak / 1e6:,.0f} MB")
    click.echo(f"growth: {growth:.3f} (at most {MOST_GROWTH})")
    if growth > MOST_GROWTH:
        raise click.ClickException("memory grows with the number of regions")


if __name__ == "__main__":
    main()
