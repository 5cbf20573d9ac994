"""How much of a GPU's time the host would use: the real pipeline of `fastism run` around a device that only keeps time.

The stand-in takes the calls of the engine and answers when a device would be done: a call begins when the one before it
ends and when it was sent, and takes as many milliseconds as `make gpu-model` says. All else is real: the FASTA is read,
letters are sent, scores are put in their places, converted and written. Needs JAX and no GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np


@dataclass(frozen=True)
class Case:
    """A model on a device that takes ``milliseconds`` for a chunk, and the least share of the time that it is busy."""

    model: str
    length: int
    milliseconds: float
    least: float


CASES = (
    Case("basset", 1000, 8.7, 0.95),
    Case("basset", 1000, 3.4, 0.85),
    Case("basset", 1000, 1.8, 0.75),
    Case("bpnet", 1000, 3.2, 0.97),
    Case("bpnet", 1000, 0.93, 0.85),
    Case("basset", 200, 1.8, 0.60),
)
REFERENCE_SECONDS = 1e-4  # of a reference pass
DEVICE_SECONDS = 8.0  # a run is as long as the device needs for so much work
COMPRESSIONS = ("none", "lzf", "gzip")
NOT_COUNTED = 8  # calls


@dataclass(frozen=True)
class Measured:
    """A run on the stand-in.

    Attributes
    ----------
    busy : float
        Share of the time between its first call and its last answer in which the device computed.
    sequences_per_second : float
        Of the whole step, reading to writing.
    ideal : float
        Sequences a second of the device alone.
    """

    case: Case
    compression: str
    cores: int
    busy: float
    sequences_per_second: float
    ideal: float


# --- the stand-in -----------------------------------------------------------------------------------------------------


class StandIn:
    """A device that only keeps time, in seconds of :func:`time.perf_counter`.

    The first calls are not counted: they compile.
    """

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Count from now on."""
        self.calls, self.first, self.free, self.busy = 0, 0.0, 0.0, 0.0

    def run(self, seconds: float) -> float:
        """Add a call to the queue; returns when it will be done."""
        now = time.perf_counter()
        self.calls += 1
        if self.calls == NOT_COUNTED:
            self.first = now
        self.free = max(self.free, now) + seconds
        self.busy += seconds if self.calls >= NOT_COUNTED else 0.0
        return self.free


class Later:
    """An array that is there at a given time."""

    def __init__(self, array: np.ndarray, at: float) -> None:
        self.array, self.at, self.shape = array, at, array.shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        wait = self.at - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        return self.array


@contextmanager
def stand_in(seconds: float) -> Iterator[StandIn]:
    """Have every FastEngine send its calls to a stand-in, with all arguments, as it would to a GPU."""
    import jax
    import jax.numpy as jnp

    from fastism_cli.engine.fast import FastEngine
    from fastism_cli.model import backend

    device, begin = StandIn(), FastEngine.__init__

    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        reference_pass = self.reference_pass
        inputs = [
            jax.ShapeDtypeStruct((self.batch[0], *self.graph.tensors[port.tensor].shape), "float32")
            for port in self.graph.inputs
        ]
        heads, kept = jax.eval_shape(reference_pass.jitted, reference_pass.values, inputs)
        on_device = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), kept)
        rng = np.random.default_rng(0)
        references = [rng.normal(size=x.shape).astype("float32") for x in heads]
        deltas = [rng.normal(size=(*self.batch, *x.shape[1:])).astype("float32") for x in heads]
        nothing = jax.jit(lambda *args: jnp.zeros(()), keep_unused=True)

        class Sent:
            """The call of a compiled function: its arguments are sent, and the answers come later."""

            values = reference_pass.values

            def __init__(self, answers: Sequence[np.ndarray], seconds: float) -> None:
                self.answers, self.seconds = answers, seconds

            def __call__(self, *args: Any) -> list[Later]:
                nothing(self.values, *args)
                at = device.run(self.seconds)
                return [Later(x, at) for x in self.answers]

        refer, propagate = Sent(references, REFERENCE_SECONDS), Sent(deltas, seconds)
        self.reference_pass = lambda inputs: (refer(inputs), on_device)
        # no recurrence in these models: there are no frames that a change could leave
        self.chunks = dict.fromkeys(self.chunks, lambda *args: (propagate(*args), []))

    kind = backend.device_kind
    FastEngine.__init__, backend.device_kind = made, lambda: "gpu"  # type: ignore[method-assign]
    try:
        yield device
    finally:
        FastEngine.__init__, backend.device_kind = begin, kind  # type: ignore[method-assign]


# --- a run ------------------------------------------------------------------------------------------------------------


def measure(case: Case, compression: str, folder: Path) -> Measured:
    """Score regions of a random genome on the stand-in."""
    os.environ.update(KERAS_BACKEND="jax", JAX_PLATFORMS="cpu", FASTISM_CACHE="off")
    from benchmarks.models import MODELS, REDUCE
    from fastism_cli import FastISM
    from fastism_cli.options.run_options import RunOptions
    from fastism_cli.run.score_regions import score_regions

    reduce = REDUCE.get(case.model)
    model = MODELS[case.model](case.length)
    with stand_in(case.milliseconds / 1e3) as device:
        scorer = FastISM(model, engine="fast", reduce=reduce)
        engine, calls = scorer.batching.engine_for(np.arange(case.length), 10**6, scorer.batching.substitutions)
        each = (REFERENCE_SECONDS + len(calls) * case.milliseconds / 1e3) / engine.batch[0]
        n = max(int(DEVICE_SECONDS / each), 3 * engine.batch[0])
        genome, bed = random_genome(folder, case.length, n)
        options = RunOptions(
            check=False,
            compression=compression,
            overwrite=True,
            engine="fast",
            reduce=[f"{head}={how}" for head, how in (reduce or {}).items()],
        )
        device.start()
        summary = score_regions(model, str(bed), str(genome), str(folder / "o.h5"), options)
        busy = device.busy / (device.free - device.first)
    return Measured(case, compression, cores(), busy, n / summary.seconds, 1 / each)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def random_genome(folder: Path, length: int, n: int) -> tuple[Path, Path]:
    """A FASTA of one contig, and a BED of ``n`` regions in it."""
    rng = np.random.default_rng(0)
    letters = np.frombuffer(b"ACGT", "S1")[rng.integers(0, 4, 2_000_000)].tobytes().decode()
    genome, bed = folder / "genome.fa", folder / "regions.bed"
    genome.write_text(">chr1\n" + "\n".join(letters[i : i + 60] for i in range(0, len(letters), 60)) + "\n")
    starts = rng.integers(length, len(letters) - 2 * length, n)
    bed.write_text("".join(f"chr1\t{start}\t{start + length}\n" for start in starts))
    return genome, bed


# --- the command ------------------------------------------------------------------------------------------------------

HEADER = (
    f"{'model':18} {'L':>5} {'ms':>6} {'written':>8} {'cores':>5} {'busy':>6} {'least':>6} {'seq/s':>8} {'device':>8}"
)


def line(row: dict[str, Any]) -> str:
    case = row["case"]
    least = f"{case['least']:6.0%}" if row["compression"] == "none" else f"{'-':>6}"
    return (
        f"{case['model']:18} {case['length']:5} {case['milliseconds']:6.2f} {row['compression']:>8} {row['cores']:5} "
        f"{row['busy']:6.1%} {least} {row['sequences_per_second']:8.1f} {row['ideal']:8.1f}"
    )


@click.command()
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
@click.option("--case", "number", type=int, hidden=True, help="Measure this case alone and print it as JSON.")
@click.option("--compression", default="none", hidden=True)
def main(path: Path | None, number: int | None, compression: str) -> None:
    """How busy a GPU would be, and what rates compression allows."""
    if number is not None:
        with tempfile.TemporaryDirectory() as folder:
            click.echo(json.dumps(asdict(measure(CASES[number], compression, Path(folder)))))
        return
    rows, idle = [], []
    click.echo(HEADER)
    for number, case in enumerate(CASES):
        for compression in COMPRESSIONS if number == 0 else ("none",):
            command = [sys.executable, "-m", "benchmarks.host", "--case", str(number), "--compression", compression]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            click.echo(line(rows[-1]))
            if compression == "none" and rows[-1]["busy"] < case.least:
                idle.append(f"{case.model} {case.length} at {case.milliseconds} ms: {rows[-1]['busy']:.1%}")
    if path:
        path.write_text(json.dumps(rows, indent=1) + "\n")
    if idle:
        raise click.ClickException("the device waits for the host: " + "; ".join(idle))


if __name__ == "__main__":
    main()
