"""What a GPU would do with the engine, from XLA's own compilation for it: a model, and no measurement.

Each program (the reference pass, a chunk, naive) is compiled for a described device (`gpu_compile.py`). Its kernels
(`hlo.py`) take at least as long as the roofline says: the bytes at the memory's bandwidth, or the products at the rate
of large products, whichever is longer; and no kernel less than a few microseconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import click

from benchmarks.hlo import Kernel, Product, kernels

FIGURES = Path(__file__).parent / "gpu_model.json"
PAGE = Path(__file__).parent / "gpu_model.md"
CASES = [("basset", 1000), ("factorized_basset", 1000), ("bpnet", 1000), ("chrombpnet", 2114)]
PRECISIONS = ("float32", "tf32", "bfloat16")
NAIVE_BATCH = 2048
GENOME_WINDOWS = 3_100_000  # of 1,000 bases
MAX_TRANSPOSE = 1_000_000  # bytes
MORE_BYTES = 1.02  # a substitution may move so many times what was recorded
# The rate of a big kernel's arithmetic is not known without the card: a convolution of cuDNN reaches about this much.
CONVOLUTION_SHARE = 0.7
TILE = 64


@dataclass(frozen=True)
class Device:
    """A GPU's rates.

    Attributes
    ----------
    description : str
        The file with what XLA wants to know.
    bandwidth : float
        Bytes a second that a good kernel reaches.
    products : dict
        Operations (two for a multiply-add) a second of large matrix products, by precision.
    elementwise : float
        Operations a second outside of products.
    kernel : float
        Seconds that the shortest kernel takes.
    """

    name: str
    description: str
    bandwidth: float
    products: dict[str, float]
    elementwise: float
    kernel: float


H100 = Device(
    name="NVIDIA H100 SXM 80 GB",
    description="devices/h100_sxm.txtpb",
    bandwidth=0.9 * 3.35e12,
    products={"float32": 52e12, "tf32": 300e12, "bfloat16": 600e12},
    elementwise=33.5e12,
    kernel=3e-6,
)


@dataclass(frozen=True)
class Modelled:
    """A program on the device, a call each.

    Attributes
    ----------
    seconds : float
        At the least.
    bound : dict
        Seconds by what bounds them: "memory", "products", "arithmetic", "start" (of short kernels).
    transposed : int
        Bytes of kernels that only lay numbers out anew.
    largest_transpose : int
        Bytes of the largest of them.
    """

    program: dict[str, Any]
    kernels: int
    kinds: dict[str, int]
    bytes: int
    multiply_adds: int
    seconds: float
    bound: dict[str, float]
    transposed: int
    largest_transpose: int
    stages: dict[str, float]

    @property
    def substitutions(self) -> int:
        return self.program["sequences"] * self.program["positions"] * self.program["alternates"]

    def share(self, why: str) -> float:
        """The share of the time that this bounds."""
        return self.bound.get(why, 0.0) / self.seconds

    @property
    def seconds_each(self) -> float:
        """For one substitution."""
        return self.seconds / self.substitutions


def modelled(program: dict[str, Any], found: Sequence[Kernel], device: Device) -> Modelled:
    """The roofline of a program's kernels."""
    bound: dict[str, float] = {}
    kinds: dict[str, int] = {}
    stages: dict[str, float] = {}
    for kernel in found:
        why, seconds = roofline(kernel, device, program["precision"])
        bound[why] = bound.get(why, 0.0) + kernel.times * seconds
        kinds[kernel.kind] = kinds.get(kernel.kind, 0) + kernel.times
        stage = stage_of(kernel.scope)
        stages[stage] = stages.get(stage, 0.0) + kernel.times * seconds
    moved = [k for k in found if k.kind == "transpose"]
    return Modelled(
        program=program,
        kernels=sum(k.times for k in found),
        kinds=kinds,
        bytes=sum(k.times * k.bytes for k in found),
        multiply_adds=sum(k.times * k.multiply_adds for k in found),
        seconds=sum(bound.values()),
        bound=bound,
        transposed=sum(k.times * k.bytes for k in moved),
        largest_transpose=max((k.written for k in moved), default=0),
        stages=stages,
    )


def roofline(kernel: Kernel, device: Device, precision: str) -> tuple[str, float]:
    """What bounds a kernel, and its seconds at the least."""
    rate = device.products[precision]
    is_convolution = kernel.kind == "convolution"
    share = CONVOLUTION_SHARE if is_convolution else 1.0
    times = {
        "start": device.kernel,
        "memory": kernel.bytes / device.bandwidth,
        "products": sum(
            2 * (product.multiply_adds if is_convolution else in_tiles(product)) for product in kernel.products
        )
        / (rate * share),
        "arithmetic": kernel.operations / device.elementwise,
    }
    why = max(times, key=times.__getitem__)
    return why, times[why]


def in_tiles(product: Product) -> int:
    """Multiply-adds of a product whose rows and columns are filled up to whole tiles."""
    return product.batch * TILE * ceil(product.m / TILE) * TILE * ceil(product.n / TILE) * product.k


def stage_of(scope: str) -> str:
    """The stage that the engine named, without what JAX puts before and after."""
    return next((part for part in scope.split("/") if part.startswith("stage ")), "other")


# --- all programs -----------------------------------------------------------------------------------------------------


def compile_all(
    cases: Sequence[tuple[str, int]], precisions: Sequence[str], device: Device, folder: Path, jobs: int
) -> Iterator[Modelled]:
    """Compile the programs, some at a time, each in a process of its own."""
    wanted = [
        (name, length, precision, what) for name, length in cases for precision in precisions for what in PROGRAMS
    ]
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda case: compile_one(*case, device=device, folder=folder), wanted)


PROGRAMS = ("reference", "chunk", "naive")


def compile_one(name: str, length: int, precision: str, what: str, *, device: Device, folder: Path) -> Modelled:
    """Compile one program in a process of its own.

    Raises
    ------
    click.ClickException
        If it does not compile.
    """
    output = folder / f"{name}_{length}_{precision}_{what}.json"
    batch = str(NAIVE_BATCH) if what == "naive" else "auto"
    description = Path(__file__).parent / device.description
    command = [sys.executable, "-m", "benchmarks.gpu_compile", str(description), name, str(length), precision, what]
    done = subprocess.run([*command, "--batch", batch, "--output", str(output)], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise click.ClickException(f"{name} {length} {precision} {what} does not compile: {last[:300]}")
    return modelled(json.loads(output.read_text()), kernels(output.with_suffix(".hlo").read_text()), device)


# --- the table --------------------------------------------------------------------------------------------------------

HEADER = (
    f"{'model':18} {'L':>5} {'precision':9} {'substitutions':>13} {'kernels':>7} {'GB':>6} {'transposed':>10} "
    f"{'ms':>6} {'memory':>6} {'products':>8} {'peak GB':>7} {'planned':>7} {'seq/s':>7} {'speedup':>7}"
)


@dataclass(frozen=True)
class Row:
    """A model in one precision: a chunk with its share of the reference pass, against naive on the same device."""

    model: str
    length: int
    precision: str
    reference: Modelled
    chunk: Modelled
    naive: Modelled

    @property
    def sequences_per_second(self) -> float:
        """Reference pass and all chunks."""
        seconds = self.reference.seconds + self.chunk.program["calls"] * self.chunk.seconds
        return self.chunk.program["sequences"] / seconds

    @property
    def speedup(self) -> float:
        """Over naive, of the chunk alone: a substitution each."""
        return self.naive.seconds_each / self.chunk.seconds_each

    @property
    def peak(self) -> int:
        """Bytes that a chunk needs beside its arguments."""
        return self.chunk.program["temporary"] + self.chunk.program["outputs"]

    def line(self) -> str:
        chunk = self.chunk
        return (
            f"{self.model:18} {self.length:5} {self.precision:9} {chunk.substitutions:13,} {chunk.kernels:7} "
            f"{chunk.bytes / 1e9:6.2f} {chunk.transposed / 1e9:10.3f} {1e3 * chunk.seconds:6.2f} "
            f"{chunk.share('memory'):6.0%} {chunk.share('products'):8.0%} "
            f"{self.peak / 1e9:7.2f} {chunk.program['planned_bytes'] / 1e9:7.2f} "
            f"{self.sequences_per_second:7.1f} {self.speedup:6.1f}x"
        )

    def record(self) -> dict[str, Any]:
        return {
            **{name: asdict(getattr(self, name)) for name in PROGRAMS},
            "sequences_per_second": self.sequences_per_second,
            "speedup": self.speedup,
            "bytes_a_substitution": self.chunk.bytes / self.chunk.substitutions,
        }


def faults(row: Row, recorded: dict[str, Any]) -> list[str]:
    """What does not hold of a row, against what was recorded before."""
    name = f"{row.model} {row.length} {row.precision}"
    found = []
    if row.chunk.largest_transpose > MAX_TRANSPOSE:
        found.append(f"{name}: a transpose of {row.chunk.largest_transpose / 1e6:.1f} MB")
    if row.peak > row.chunk.program["planned_bytes"]:
        found.append(f"{name}: {row.peak / 1e9:.2f} GB at the peak, above the planned size of a call")
    before = recorded.get(name, {}).get("bytes_a_substitution")
    each = row.chunk.bytes / row.chunk.substitutions
    if before and each > MORE_BYTES * before:
        found.append(f"{name}: {each:,.0f} bytes for a substitution, {before:,.0f} before")
    return found


@click.command()
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), default=FIGURES, show_default=True)
@click.option("--only", multiple=True, help="Only this model (several times).")
@click.option("--precision", "precisions", multiple=True, type=click.Choice(PRECISIONS))
@click.option("--stages", is_flag=True, help="The seconds of every stage too.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Leave the HLO texts in this folder.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True)
def main(
    path: Path, only: tuple[str, ...], precisions: tuple[str, ...], stages: bool, keep: Path | None, jobs: int
) -> None:
    """Compile the benchmark's models for an H100 that is not there, and say how long they would take on it."""
    cases = [case for case in CASES if not only or case[0] in only]
    recorded = json.loads(FIGURES.read_text())["rows"] if FIGURES.exists() else {}
    click.echo(f"{H100.name}: modelled from XLA's compilation, not measured")
    click.echo(HEADER)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        found = compile_all(cases, precisions or PRECISIONS, H100, folder, jobs)
        for reference, chunk, naive in zip(found, found, found, strict=True):
            program = chunk.program
            rows.append(Row(program["model"], program["length"], program["precision"], reference, chunk, naive))
            click.echo(rows[-1].line())
            for stage, seconds in chunk.stages.items() if stages else ():
                click.echo(f"    {1e6 * seconds:9.1f} us  {stage}")
    wrong = [fault for row in rows for fault in faults(row, recorded)]
    figures = {f"{row.model} {row.length} {row.precision}": row.record() for row in rows}
    path.write_text(json.dumps({"device": asdict(H100), "rows": {**recorded, **figures}}, indent=1) + "\n")
    if path == FIGURES:
        PAGE.write_text(page(rows))
    if wrong:
        raise click.ClickException("; ".join(wrong))


PAGE_HEAD = """# What an H100 would do with the engine: a model, no measurement

XLA compiled each program for an {name} without one, under JAX's default flags (`make gpu-model`). Kernels, bytes and
memory are those of the compiled program. The milliseconds are a roofline: a kernel takes its bytes at {bandwidth:.2f}
TB/s or its products at {products}, whichever is longer, and at least {kernel:.0f} us. A real card may be slower. The
speedup is over naive forward passes of {naive} sequences, modelled alike.

| model | L | precision | kernels of a chunk | GB | ms | bound by memory | by products | sequences/s | speedup |
|---|---|---|---|---|---|---|---|---|---|
"""


def page(rows: Sequence[Row]) -> str:
    """The table in Markdown, with what it is."""
    rates = ", ".join(f"{rate / 1e12:.0f} TFLOP/s in {precision}" for precision, rate in H100.products.items())
    text = PAGE_HEAD.format(
        name=H100.name, bandwidth=H100.bandwidth / 1e12, products=rates, kernel=1e6 * H100.kernel, naive=NAIVE_BATCH
    )
    basset = [row for row in rows if row.model == "basset"]
    hours = [f"{GENOME_WINDOWS / r.sequences_per_second / 3600:.2f} h in {r.precision}" for r in basset]
    genome = f"A human genome, {GENOME_WINDOWS:,} windows of 1 kb of Basset on one such card: {', '.join(hours)}."
    return text + "".join(map(page_line, rows)) + (f"\n{genome}\n" if hours else "")


def page_line(row: Row) -> str:
    chunk = row.chunk
    return (
        f"| {row.model} | {row.length} | {row.precision} | {chunk.kernels} | {chunk.bytes / 1e9:.2f} "
        f"| {1e3 * chunk.seconds:.2f} | {chunk.share('memory'):.0%} | {chunk.share('products'):.0%} "
        f"| {row.sequences_per_second:.0f} | {row.speedup:.1f}x |\n"
    )


if __name__ == "__main__":
    main()
