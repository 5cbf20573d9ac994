"""``fastism run`` over very many regions: the engine busy, the memory flat. ``make bench-scale``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from itertools import cycle, islice
from pathlib import Path

import click

EXAMPLES = Path(__file__).parents[1] / "examples"
LEAST_BUSY = 0.90
MOST_GROWTH = 1.10  # of the memory in the second half of the run over that at the end of its first tenth


def resident(pid: int) -> int:
    """Resident memory in bytes; 0 once the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)


def watch(process: subprocess.Popen[bytes], samples: list[tuple[float, int]]) -> None:
    while process.poll() is None:
        samples.append((time.monotonic(), resident(process.pid)))
        time.sleep(1)


def growth(samples: list[tuple[float, int]], scoring: float) -> float:
    """Peak of the second half of scoring over the peak of its first tenth."""
    end = samples[-1][0]
    early = [n for at, n in samples if at <= end - 0.9 * scoring]
    late = [n for at, n in samples if at >= end - 0.5 * scoring]
    return max(late) / max(early)


@click.command()
@click.option("--regions", default=100_000, show_default=True)
@click.option("--model", default=str(EXAMPLES / "demo.keras"), show_default=True)
@click.option("--bed", default=str(EXAMPLES / "demo.bed"), show_default=True, help="Repeated as often as needed.")
@click.option("--fasta", default=str(EXAMPLES / "demo.fa"), show_default=True)
@click.option("--compression", default="gzip", show_default=True)
def main(regions: int, model: str, bed: str, fasta: str, compression: str) -> None:
    """Exit 1 if the engine is busy for less than 90 % of the time of scoring, or memory grows by over 10 %."""
    samples: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = Path(bed).read_text().splitlines(keepends=True)
        (folder / "many.bed").write_text("".join(islice(cycle(records), regions)))
        files = ["--model", model, "--fasta", fasta, "--bed", folder / "many.bed", "--output", folder / "o.h5"]
        options = ["--summary", folder / "s.json", "--compression", compression]
        command = [sys.executable, "-m", "fastism_cli", "run", *map(str, [*files, *options])]
        process = subprocess.Popen(command)
        watcher = threading.Thread(target=watch, args=(process, samples))
        watcher.start()
        watcher.join()
        if process.returncode:
            raise click.ClickException(f"fastism run ended with status {process.returncode}")
        told = json.loads((folder / "s.json").read_text())
    click.echo(json.dumps(told, indent=2))
    grown, busy = growth(samples, told["seconds"]), told["engine_busy"]
    click.echo(f"{told['regions']:,} regions, engine busy {busy:.1%} (at least {LEAST_BUSY:.0%})")
    click.echo(f"peak memory {told['peak_memory_bytes'] / 1e6:,.0f} MB, growth {grown:.3f} (at most {MOST_GROWTH})")
    if busy < LEAST_BUSY or grown > MOST_GROWTH:
        raise click.ClickException("the engine waits, or memory grows with the number of regions")


if __name__ == "__main__":
    main()
