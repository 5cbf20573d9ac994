"""Score a block of variants: single bases by the engine, all other alleles by forward passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fastism_cli.engine.inputs_and_scores import fill_up
from fastism_cli.genome.alphabet import Codes
from fastism_cli.model import backend
from fastism_cli.run.variants.variant_block import Allele, VariantBlock, VariantJob

# Input bases of one call. Its reference pass keeps the activations of all of them.
CALL_BASES = {"cpu": 64_000, "gpu": 2_000_000}


def max_sequences(length: int) -> int:
    """How many sequences of this length one call takes."""
    return max(CALL_BASES[backend.device_kind()] // length, 1)


def scored(job: VariantJob, block: VariantBlock) -> tuple[np.ndarray, list[np.ndarray]]:
    """Score a block.

    Returns
    -------
    reference : float32 (windows, K)
        Predictions on the windows, in the model's output units; NaN for a window that no allele uses.
    deltas : list of float32 (alleles, K)
        For each record, alternate minus reference; NaN for an allele that is not scored.
    """
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
    for a, delta in zip(block.rewritten, _by_passes(job, block, reference), strict=True):
        deltas[a.record][a.number] = delta
    return reference, deltas


def _by_passes(job: VariantJob, block: VariantBlock, reference: np.ndarray) -> np.ndarray:
    """Deltas (alleles, K) of the alleles that the engine does not score.

    A reduction that compares with the reference gets the reference of the allele's window, and compares position by
    position. Behind an insertion or a deletion it compares bases that have moved, as chrombpnet's variant scorer does.
    """
    alleles = block.rewritten
    windows, codes = [a.window for a in alleles], [a.codes for a in alleles]
    records = [block.records[window] for window in windows]
    if not any(head.reduction is not None and head.reduction.compares for head in job.scorer.heads):
        return _predicted(job, codes, records) - reference[windows]

    def compared(some: slice) -> Mapping[str, np.ndarray]:
        before = np.stack([block.sequences[window] for window in windows[some]])
        return job.scorer.compare_codes(np.stack(codes[some]), before, job.others.rows(records[some]))

    return _by_steps(job, len(alleles), compared)


def _by_engine(job: VariantJob, block: VariantBlock, windows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """References (n, K) and deltas (n, K, columns, letters) of the columns where a variant can be."""
    records = [block.records[i] for i in windows]
    return _substituted(job, [block.sequences[i] for i in windows], records, job.windows.columns)


def _substituted(
    job: VariantJob, sequences: Sequence[Codes], records: Sequence[int], columns: range
) -> tuple[np.ndarray, np.ndarray]:
    """References (n, K) and deltas (n, K, columns, letters) of all substitutions in some columns."""
    n, together = len(sequences), job.scorer.sequences_per_call(columns)
    codes = fill_up(np.stack(sequences), together)
    others = job.others.rows(records)
    others = {name: fill_up(x, together) for name, x in others.items()}
    result = job.scorer.score_codes(codes, others, positions=columns)
    deltas = [result.delta[o.name][:n] for o in job.outputs]
    flat = [delta.reshape(n, -1, *delta.shape[-2:]) for delta in deltas]
    return _joined(job, result.reference, n), np.concatenate(flat, axis=1)


def _predicted(job: VariantJob, sequences: Sequence[Codes], records: Sequence[int]) -> np.ndarray:
    """Predictions (n, K) by forward passes."""

    def predicted(some: slice) -> Mapping[str, np.ndarray]:
        others = job.others.rows(records[some])
        return job.scorer.score_codes(np.stack(sequences[some]), others, positions=()).reference

    return _by_steps(job, len(sequences), predicted)


def _by_steps(job: VariantJob, n: int, values: Callable[[slice], Mapping[str, np.ndarray]]) -> np.ndarray:
    """Compute ``values`` (n, K) for some sequences at a time."""
    step = max_sequences(job.windows.length)
    parts = [np.empty((0, len(job.labels)), np.float32)]
    for first in range(0, n, step):
        stop = min(first + step, n)
        parts.append(_joined(job, values(slice(first, stop)), stop - first))
    return np.concatenate(parts)


def _joined(job: VariantJob, values: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """The chosen targets of all heads, (n, K)."""
    return np.concatenate([values[o.name][:n].reshape(n, -1) for o in job.outputs], axis=1)


# --- beside the delta -------------------------------------------------------------------------------------------------


class Around(NamedTuple):
    """A sequence whose substitutions are scored around alleles.

    Attributes
    ----------
    record : int
        The record whose other inputs it gets, counted in the VCF.
    alleles : list of Allele
    side : int
        0 for the sequence of REF, 1 for that of ALT.
    """

    codes: Codes
    record: int
    alleles: list[Allele]
    side: int


def fold_changes(reference: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """log2 of the prediction on ALT over that on REF, float32 (alleles, K); NaN unless both are above 0.

    Parameters
    ----------
    reference : float32 (K,)
    delta : float32 (alleles, K)
    """
    alternate = reference + delta
    are_positive = (reference > 0) & (alternate > 0)
    ratio = np.divide(delta, reference, out=np.full(delta.shape, np.nan, np.float32), where=are_positive)
    return (np.log1p(ratio.astype("float64")) / np.log(2)).astype(np.float32)


def largest_around(job: VariantJob, block: VariantBlock) -> list[np.ndarray]:
    """The largest |delta| of all substitutions of the bases around each allele.

    Returns
    -------
    list of float32 (alleles, K, 2)
        For each record: in the sequence of REF, and in that of ALT; NaN for an allele that is not scored.
    """
    found = [np.full((len(variant.alts), len(job.labels), 2), np.nan, np.float32) for variant in block.variants]
    wanted, step = _around(job, block), max_sequences(job.windows.length)
    for first in range(0, len(wanted), step):
        some = wanted[first : first + step]
        _, deltas = _substituted(job, [x.codes for x in some], [x.record for x in some], job.around)
        sizes = np.fmax.reduce(np.abs(deltas), axis=3, initial=0)
        for x, size in zip(some, sizes, strict=True):
            for allele in x.alleles:
                position = block.variants[allele.record].position
                columns = job.around_column(position - job.windows.start(position))
                inside = slice(columns.start - job.around.start, columns.stop - job.around.start)
                found[allele.record][allele.number, :, x.side] = size[:, inside].max(1, initial=0)
    return found


def _around(job: VariantJob, block: VariantBlock) -> list[Around]:
    """Every sequence of REF and of ALT that is scored."""
    alleles = [*block.substituted, *block.rewritten]
    by_window = {window: [a for a in alleles if a.window == window] for window in {a.window for a in alleles}}
    before = [Around(block.sequences[window], block.records[window], own, 0) for window, own in by_window.items()]
    return before + [Around(_alternate(job, block, a), block.records[a.window], [a], 1) for a in alleles]


def _alternate(job: VariantJob, block: VariantBlock, allele: Allele) -> Codes:
    if len(allele.codes):
        return allele.codes
    codes = block.sequences[allele.window].copy()
    job.windows.of_input(codes)[allele.column] = allele.letter
    return codes
