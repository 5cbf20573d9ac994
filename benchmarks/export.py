"""Time and peak memory of ``fastism export --format modisco-h5``, in processes of their own.

    python -m benchmarks.export

Reading is a loop of h5py over the same arrays, chunk by chunk, as anybody would write it. Both are timed in turns; the
processes' start is part of both, and the file of the last export is removed before the next.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fastism_cli.results.layout import HeadLayout, Layout
from fastism_cli.results.writer import ResultWriter

LENGTH, ROUNDS = 1000, 7
SIZES = (1_000, 10_000, 100_000)
READ = """
import sys, h5py, numpy
with h5py.File(sys.argv[1]) as file:
    delta = file["delta/out"]
    for start in range(0, len(delta), delta.chunks[0]):
        delta[start : start + delta.chunks[0]]
    file["seq"][:]
"""
PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"


def write_result(path: Path, n: int) -> None:
    """``n`` regions on both strands with random scores of one target, compressed as `fastism run` does."""
    rng = np.random.default_rng(0)
    layout = Layout(n, LENGTH, (HeadLayout("out", (1,)),))
    with ResultWriter(path, layout, attributes={"config": "{}"}, genome_sizes={"chr1": 250_000_000}) as writer:
        for row in range(0, n, 100):
            start = rng.integers(0, 200_000_000, 100)
            seq = rng.integers(0, 4, (100, LENGTH)).astype(np.uint8)
            delta = rng.normal(0, 0.01, (100, 1, LENGTH, 4)).astype(np.float32)
            np.put_along_axis(delta, seq[:, None, :, None].astype(int), 0, axis=-1)
            regions = {
                "chrom": ["chr1"] * 100,
                "start": start,
                "end": start + LENGTH,
                "input_start": start,
                "strand": [b"+", b"-"] * 50,
                "name": [f"peak_{row + i}" for i in range(100)],
                "bed_row": np.arange(row, row + 100),
                "status": [1] * 100,
                "n_padded": [0] * 100,
            }
            reference = {"out": rng.normal(size=(100, 1))}
            writer.write_rows(row, regions=regions, seq=seq, reference=reference, delta={"out": delta})


def exported(path: Path) -> Path:
    return path.with_suffix(".modisco.h5")


def export(path: Path) -> list[str]:
    exported(path).unlink(missing_ok=True)
    start = [sys.executable, "-m", "fastism_cli", "export", str(path), "--format", "modisco-h5", "-q"]
    return [*start, "--overwrite", "-o", str(exported(path))]


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began


def peak_megabytes(command: list[str]) -> float:
    code = f"import subprocess, sys; subprocess.run(sys.argv[1:], check=True); {PEAK}"
    out = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    return int(out.stdout) / 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = {n: Path(folder, f"{n}.ism.h5") for n in SIZES}
        for n, path in paths.items():
            write_result(path, n)
        timed = paths[10_000]
        read = [sys.executable, "-c", READ, str(timed)]
        seconds(read), seconds(export(timed))  # the first ones fill the disk's cache
        rounds = [(seconds(read), seconds(export(timed))) for _ in range(ROUNDS)]
        reading, exporting = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratios = sorted(exporting / reading for reading, exporting in rounds)
        print(
            f"10,000 regions x {LENGTH} bases, medians of {ROUNDS}: read {reading:.2f} s, export to modisco-h5 "
            f"{exporting:.2f} s; {statistics.median(ratios):.2f} times as long ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
        for n, path in paths.items():
            print(f"peak memory for {n:,} regions: {peak_megabytes(export(path)):.0f} MB")
            exported(path).unlink()


if __name__ == "__main__":
    main()
