"""Time and peak memory of ``fastism export --format modisco-h5``, in processes of their own.

    python -m benchmarks.export

Reading is that of h5py, all deltas once, chunk by chunk. Both are timed in turns; the processes' start is part of both.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fastism_cli.io.hdf5 import HeadLayout, Layout, ResultWriter

LENGTH, ROUNDS = 1000, 5
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


def export(path: Path) -> list[str]:
    out = path.with_suffix(".modisco.h5")
    start = [sys.executable, "-m", "fastism_cli", "export", str(path), "--format", "modisco-h5", "-q"]
    return [*start, "--overwrite", "-o", str(out)]


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
        paths = {n: Path(folder, f"{n}.ism.h5") for n in (1_000, 10_000)}
        for n, path in paths.items():
            write_result(path, n)
        read = [sys.executable, "-c", READ, str(paths[10_000])]
        rounds = [(seconds(read), seconds(export(paths[10_000]))) for _ in range(ROUNDS)]
        reading, exporting = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f"10,000 regions x {LENGTH} bases: read {reading:.2f} s, export to modisco-h5 {exporting:.2f} s (medians)"
        )
        for n, path in paths.items():
            print(f"peak memory for {n:,} regions: {peak_megabytes(export(path)):.0f} MB")


if __name__ == "__main__":
    main()
