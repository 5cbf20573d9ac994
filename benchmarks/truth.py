"""Plain Keras in float64 on the CPU, in a process of its own: what the GPU benchmark measures its errors against.

The processor judges, so that the device is not its own witness; a process of its own, because float64 on JAX is
switched on for a whole process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from fastism_cli.run.start_backend import CPU, environment

PLACES = 4  # positions, spread over the sequence: three substitutions each


def positions_of(length: int) -> list[int]:
    """Both ends and two between them."""
    return [i * (length - 1) // (PLACES - 1) for i in range(PLACES)]


class Truth:
    """Starts the process and hands out what it has found: deltas by head, (n, T, PLACES, 4)."""

    def __init__(self, folder: Path, cases: list[tuple[str, int]]) -> None:
        self.folder = folder
        named = [f"{name}:{length}" for name, length in cases]
        command = [sys.executable, "-m", "benchmarks.truth", str(folder), *named]
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            command, env={**os.environ, **environment(CPU)}, stdout=self.log, stderr=subprocess.STDOUT
        )

    def deltas(self, name: str, length: int, *, seconds: float) -> dict[str, np.ndarray] | None:
        """None if the process has failed, or does not have them within ``seconds``."""
        path, until = path_of(self.folder, name, length), time.monotonic() + seconds
        while not path.exists() and self.process.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        if not path.exists():
            return None
        with np.load(path) as found:
            return dict(found)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


def build(name: str, length: int) -> Any:
    """One of the benchmark's models; ``conv_stack`` is the small one that tries the script."""
    from benchmarks.models import MODELS, conv_stack

    return conv_stack(length, depth=2) if name == "conv_stack" else MODELS[name](length)


def path_of(folder: Path, name: str, length: int) -> Path:
    return folder / f"{name}_{length}.npz"


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.argument("cases", nargs=-1)
def main(folder: Path, cases: tuple[str, ...]) -> None:
    """Write FOLDER/NAME_LENGTH.npz for each NAME:LENGTH of CASES."""
    from benchmarks.models import REDUCE, random_one_hot
    from fastism_cli import FastISM

    for name, length in ((case.split(":")[0], int(case.split(":")[1])) for case in cases):
        options = {"engine": "naive", "precision": "float64", "reduce": REDUCE.get(name)}
        scorer = FastISM(build(name, length), batch_size=3 * PLACES, **options)
        found = scorer(random_one_hot(1, length), positions=positions_of(length)).delta
        whole = path_of(folder, name, length)
        part = whole.with_suffix(".part.npz")
        np.savez(part, **found)
        part.rename(whole)  # whole or not at all: the other process looks for it


if __name__ == "__main__":
    main()
