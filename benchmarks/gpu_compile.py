"""Compile a benchmark's model for a GPU that is not there: the reference pass, a chunk, or naive.

XLA needs a description of the device, and no driver. What comes out is the optimised HLO of the program that such a GPU
would run, and the memory that it would take. Needs JAX with its CUDA plugin.
"""

from __future__ import annotations

import os

os.environ.update(KERAS_BACKEND="jax", JAX_PLATFORMS="cpu")

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np
from jax.experimental import topologies

from benchmarks.models import MODELS, REDUCE, chrombpnet
from fastism_cli import FastISM
from fastism_cli.engine.fast import FastEngine
from fastism_cli.model import backend

SEQUENCES = 1000  # of a run: a call holds as many of them as fit
WHAT = ("reference", "chunk", "naive")


@dataclass(frozen=True)
class Compiled:
    """A program that XLA compiled.

    Attributes
    ----------
    sequences, positions, alternates : int
        Batch axes of a call.
    calls : int
        How many such calls score ``sequences`` sequences.
    multiply_adds : int
        That the plan counts for one substitution; for naive, those of a forward pass.
    temporary, arguments, outputs : int
        Bytes.
    """

    model: str
    length: int
    precision: str
    what: str
    sequences: int
    positions: int
    alternates: int
    calls: int
    multiply_adds: int
    planned_bytes: int
    temporary: int
    arguments: int
    outputs: int
    trace_seconds: float
    compile_seconds: float
    xla_flags: str


def compile_for(device: str, name: str, length: int, precision: str, what: str, batch: str) -> tuple[Compiled, str]:
    """Compile one program for the device that ``device`` describes; returns what is known of it, and its HLO text."""
    backend.device_kind = lambda: "gpu"
    model = {**MODELS, "chrombpnet": chrombpnet}[name](length)
    engine = "naive" if what == "naive" else "fast"
    size: Any = batch if batch == "auto" else int(batch)
    scorer = FastISM(model, engine=engine, precision=precision, reduce=REDUCE.get(name), batch_size=size)
    substitutions = scorer.batching.substitutions
    made, calls = scorer.batching.engine_for(np.arange(scorer.input_length), SEQUENCES, substitutions)
    topology = topologies.get_topology_desc(platform="cuda", target_config=device, topology="1x1x1")
    place = jax.sharding.SingleDeviceSharding(topology.devices[0])

    def there(tree: Any) -> Any:
        """The shapes of arrays, on that device."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)

    with backend.matrix_precision(precision):
        function, arguments = _program(scorer, made, what)
        began = time.perf_counter()
        lowered = function.jitted.trace(*there([function.values, *arguments])).lower(lowering_platforms=("cuda",))
        traced = time.perf_counter()
        compiled = lowered.compile()
        done = time.perf_counter()
    memory = compiled.memory_analysis()
    plan = scorer.prepared.plan
    return Compiled(
        model=name,
        length=length,
        precision=precision,
        what=what,
        sequences=made.batch[0],
        positions=made.batch[1],
        alternates=made.batch[2],
        calls=len(calls),
        multiply_adds=plan.full_multiply_adds if what == "naive" else plan.multiply_adds,
        planned_bytes=scorer.batching.planned_bytes(made.batch),
        temporary=memory.temp_size_in_bytes,
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        trace_seconds=traced - began,
        compile_seconds=done - traced,
        xla_flags=os.environ.get("XLA_FLAGS", ""),
    ), compiled.as_text()


def _program(scorer: FastISM, made: Any, what: str) -> tuple[Any, list[Any]]:
    """A compiled function of the engine, and shapes of its arguments."""
    dtype = jax.numpy.bfloat16 if scorer.precision == "bfloat16" else np.dtype("float32")
    inputs = [jax.ShapeDtypeStruct((made.batch[0], *shape), dtype) for shape in scorer.input_shapes]
    values = made.reference_pass.values
    if what == "reference":
        return made.reference_pass, [inputs]
    outputs, kept = jax.eval_shape(made.reference_pass.jitted, values, inputs)
    number, starts, bases = (jax.ShapeDtypeStruct(shape, "int32") for shape in ((), made.batch[1:2], made.batch))
    if isinstance(made, FastEngine):
        return next(iter(made.chunks.values())), [kept, made.constants, made.params, number, bases]
    return made.chunk, [inputs, kept, outputs, starts, bases]


@click.command()
@click.argument("device", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("model")
@click.argument("length", type=int)
@click.argument("precision")
@click.argument("what", type=click.Choice(WHAT))
@click.option("--batch", default="auto", help="Substitutions in a call.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="FILE.json; FILE.hlo.")
def main(device: Path, model: str, length: int, precision: str, what: str, batch: str, output: Path) -> None:
    """Compile one program and write what is known of it, and its HLO beside it."""
    compiled, text = compile_for(device.read_text(), model, length, precision, what, batch)
    output.write_text(json.dumps(asdict(compiled)))
    output.with_suffix(".hlo").write_text(text)


if __name__ == "__main__":
    main()
