"""The scores of a block of variants: single bases by the engine, everything else by forward passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fastism_cli import backend
from fastism_cli.alphabet import Codes
from fastism_cli.batches import fill_up, sequences_per_call
from fastism_cli.variant_blocks import VariantBlock, VariantJob

# Input bases of one call: its reference pass keeps the activations of all of them.
CALL_BASES = {"cpu": 64_000, "gpu": 2_000_000}


def most_sequences(length: int) -> int:
    """How many sequences of this length one call takes."""
    return max(CALL_BASES[backend.device_kind()] // length, 1)


def scored(job: VariantJob, block: VariantBlock) -> tuple[np.ndarray, list[np.ndarray]]:
    """References (windows, K), and deltas (alleles, K) of each record, NaN where there is no score."""
    n_tracks = len(job.labels)
    reference = np.full((len(block.sequences), n_tracks), np.nan, np.float32)
    deltas = [np.full((len(variant.alts), n_tracks), np.nan, np.float32) for variant in block.variants]
    by_engine = sorted({allele.window for allele in block.substituted})
    if by_engine:
        reference[by_engine], scores = _by_engine(job, block, by_engine)
        at = {window: i for i, window in enumerate(by_engine)}
        for a in block.substituted:
            column = a.column - job.windows.columns.start
            deltas[a.record][a.number] = scores[at[a.window], :, column, a.letter]
    rest = sorted({allele.window for allele in block.rewritten} - set(by_engine))
    if rest:
        reference[rest] = _predicted(job, [block.sequences[i] for i in rest], [block.records[i] for i in rest])
    if block.rewritten:
        records = [block.records[a.window] for a in block.rewritten]
        values = _predicted(job, [a.codes for a in block.rewritten], records)
        for a, value in zip(block.rewritten, values, strict=True):
            deltas[a.record][a.number] = value - reference[a.window]
    return reference, deltas


def _inputs(job: VariantJob, sequences: Sequence[Codes], records: Sequence[int]) -> dict[str, np.ndarray]:
    one_hot = job.letters.one_hot(np.stack(sequences))
    return {**job.others.rows(records), job.scorer.input_names[job.scorer.sequence_index]: one_hot}


def _by_engine(job: VariantJob, block: VariantBlock, windows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """References (n, K) and deltas (n, K, columns, letters) of the columns where a variant can be."""
    n, columns = len(windows), job.windows.columns
    inputs = _inputs(job, [block.sequences[i] for i in windows], [block.records[i] for i in windows])
    result = job.scorer(fill_up(inputs, sequences_per_call(job.scorer, columns)), positions=columns)
    deltas = [result.delta[o.name][:n] for o in job.outputs]
    flat = [delta.reshape(n, -1, *delta.shape[-2:]) for delta in deltas]
    return _joined(job, result.reference, n), np.concatenate(flat, axis=1)


def _predicted(job: VariantJob, sequences: Sequence[Codes], records: Sequence[int]) -> np.ndarray:
    """Forward passes: predictions (n, K)."""
    step = most_sequences(job.windows.length)
    parts = []
    for first in range(0, len(sequences), step):
        some = slice(first, first + step)
        result = job.scorer(_inputs(job, sequences[some], records[some]), positions=())
        parts.append(_joined(job, result.reference, len(sequences[some])))
    return np.concatenate(parts)


def _joined(job: VariantJob, values: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """The chosen targets of all heads, (n, K)."""
    return np.concatenate([values[o.name][:n].reshape(n, -1) for o in job.outputs], axis=1)
