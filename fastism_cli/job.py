"""From options to a run that is ready to go: inputs checked, model loaded, everything of the right shape."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from fastism_cli.checks import ModelChoices, RunInputs, check_run
from fastism_cli.inputs import OtherInputs, fit_inputs
from fastism_cli.io.hdf5 import Layout
from fastism_cli.outputs import check_space, size_text
from fastism_cli.provenance import run_attributes
from fastism_cli.quiet import import_backend
from fastism_cli.reader import Reader
from fastism_cli.regions import Geometry
from fastism_cli.run_options import RunOptions, default_output
from fastism_cli.targets import Output, choose_outputs

if TYPE_CHECKING:
    from fastism_cli.ism import FastISM

logger = logging.getLogger(__name__)

BLOCK_SUBSTITUTIONS = 30_000  # a second or so of work: progress is told, and the other steps get on, once a block
BLOCK_BYTES = 16e6  # of deltas; about five blocks exist at a time


@dataclass(frozen=True)
class RunPlan:
    """What a run will do."""

    model: str
    input_name: str
    input_length: int
    window: int
    heads: tuple[Output, ...]
    engine: str
    reason: str
    batch: int
    regions: int
    output: str
    output_bytes: int

    def lines(self) -> list[str]:
        """For the log: model, heads, engine and why, batch, size of the result."""
        heads = ", ".join(f"{head.name} {_shape_text(head)}" for head in self.heads)
        return [
            f"model {self.model}: input {self.input_name!r} of {self.input_length:,} bases, heads: {heads}",
            f"engine {self.engine}: {self.reason}; {self.batch:,} substitutions a call",
            f"{self.regions:,} regions, {self.window:,} bases of each substituted -> {self.output} "
            f"(up to {size_text(self.output_bytes)})",
        ]


@dataclass(frozen=True)
class Job:
    """A run that is ready to go."""

    options: RunOptions
    inputs: RunInputs
    scorer: FastISM
    reader: Reader
    others: OtherInputs
    outputs: tuple[Output, ...]
    attributes: Mapping[str, Any]
    sequences: int  # that one call of the engine holds

    @property
    def geometry(self) -> Geometry:
        return self.reader.geometry

    @property
    def layout(self) -> Layout:
        heads = tuple(output.layout for output in self.outputs)
        letters, o = self.reader.alphabet.letters, self.options
        return Layout(self.inputs.n_rows, self.geometry.length, heads, letters, o.dtype, o.compression)

    @property
    def output_bytes(self) -> int:
        """Upper estimate of the file's size: what is not computed compresses to nothing."""
        layout = self.layout
        refs = sum(4 * prod(layout.ref_shape(head)) for head in layout.heads)
        window = 1.0 if layout.compression == "none" else self.geometry.window / self.geometry.length
        return int(layout.delta_bytes * window) + prod(layout.seq_shape) + refs

    @property
    def block_rows(self) -> int:
        """Rows to score at a time: whole calls of the engine, in bounded memory."""
        letters = self.reader.alphabet.size
        heads = sum(prod(head.shape) for head in self.scorer.heads)
        by_bytes = BLOCK_BYTES // (4 * heads * self.geometry.length * letters)
        by_work = BLOCK_SUBSTITUTIONS // (self.geometry.window * (letters - 1))
        rows = int(max(min(by_bytes, by_work), 1))
        return -(-rows // self.sequences) * self.sequences

    def plan(self, model: Any) -> RunPlan:
        scorer = self.scorer
        name = os.fspath(model) if isinstance(model, (str, os.PathLike)) else scorer.model.name
        return RunPlan(
            name,
            scorer.input_names[scorer.sequence_index],
            self.geometry.length,
            self.geometry.window,
            self.outputs,
            scorer.engine,
            scorer.engine_reason,
            scorer._batch(),
            self.inputs.n_rows,
            self.inputs.output,
            self.output_bytes,
        )


def _shape_text(head: Output) -> str:
    kept = f"({', '.join(map(str, head.layout.shape))})"
    return kept if head.layout.reduce == "none" else f"{kept} by {head.layout.reduce}"


@contextmanager
def prepared(model: Any, bed: str, fasta: str, output: str | None, options: RunOptions) -> Iterator[Job]:
    with ExitStack() as stack:
        inputs = check_run(stack, model, bed, fasta, output or default_output(bed), options)
        scorer = load_scorer(model, inputs.choices, options)
        job = _job(model, fasta, inputs, scorer, options)
        job.reader.check()
        check_space(inputs.output, job.output_bytes)
        yield job


def load_scorer(model: Any, choices: ModelChoices, options: RunOptions) -> FastISM:
    """Load a model and make its engine: the first thing that needs Keras."""
    import_backend(verbose=logger.isEnabledFor(logging.DEBUG))
    from fastism_cli.io.models import load_model
    from fastism_cli.ism import FastISM

    if isinstance(model, (str, os.PathLike)):
        own, trusted = options.custom_objects, options.allow_lambda
        model = load_model(os.fspath(model), weights=options.weights, custom_objects=own, allow_lambda=trusted)
    return FastISM(model, reduce=reductions(model, choices.reduce), **options.scorer_options())


def reductions(model: Any, asked: Mapping[str | None, str]) -> str | dict[str, str] | None:
    """``--reduce`` as :class:`FastISM` takes it."""
    from fastism_cli.graph import output_names

    named = {name: kind for name, kind in asked.items() if name is not None}
    if None not in asked:
        return named or None
    if not named:
        return asked[None]
    positional = [n for n, y in zip(output_names(model), model.outputs, strict=True) if len(y.shape) > 2]
    return {name: asked[None] for name in positional} | named


def _job(model: Any, fasta: str, inputs: RunInputs, scorer: FastISM, options: RunOptions) -> Job:
    from fastism_cli.batches import other_shapes, sequences_per_call

    geometry = Geometry(scorer.input_length, options.window or scorer.input_length, options.center, options.stranded)
    choices = inputs.choices
    policies = {name: getattr(options, name) for name in ("limit", "edge", "n_policy", "max_n")}
    return Job(
        options,
        inputs,
        scorer,
        Reader(inputs.bed, inputs.genome, geometry, choices.alphabet, **policies),
        fit_inputs(choices.inputs, other_shapes(scorer), inputs.regions.n_regions),
        choose_outputs(scorer.heads, choices.targets, choices.target_names),
        _attributes(model, fasta, inputs, scorer, options),
        sequences_per_call(scorer, geometry.all_columns),
    )


def _attributes(model: Any, fasta: str, inputs: RunInputs, scorer: FastISM, options: RunOptions) -> dict[str, Any]:
    from fastism_cli import backend

    return run_attributes(model, options, inputs.bed.sha256) | {
        "backend": backend.BACKEND,
        "device": backend.device_kind(),
        "fasta_path": fasta,
        "bed_path": inputs.bed.name,
        "n_total": inputs.n_rows,
        "row_start": 0,
        "row_stop": inputs.n_rows,
        "shard_index": 0,
        "num_shards": 1,
        "input_length": scorer.input_length,
        "engine": scorer.engine,
    }
