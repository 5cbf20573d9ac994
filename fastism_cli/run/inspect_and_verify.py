"""The two companions of a run: what a model will cost, and whether the engine is right on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism_cli.errors import UsageError
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.genome.fasta_records import RecordSource
from fastism_cli.genome.placement import Geometry
from fastism_cli.model.loading.source import ModelSource
from fastism_cli.options.problems import Problems
from fastism_cli.options.run_options import RunOptions
from fastism_cli.run.checks import ModelChoices, RegionInputs, check_choices, open_regions
from fastism_cli.run.job import load_scorer
from fastism_cli.run.other_inputs import OtherInputs, fit_inputs
from fastism_cli.run.region_reader import Block, Reader

if TYPE_CHECKING:
    from fastism_cli.engine.fastism import FastISM
    from fastism_cli.engine.inspection import Inspection
    from fastism_cli.engine.verify import VerifyReport

N_SHARE = 0.01


def inspect_model(model: Any, options: RunOptions | None = None) -> Inspection:
    """What the engine does with a model, node by node.

    Parameters
    ----------
    model : path or keras.Model
    options : RunOptions, optional
        Positional heads are summed unless ``reduce`` says otherwise.
    """
    options = options or RunOptions()
    chosen = options if options.reduce else replace(options, reduce=("sum",))
    source = ModelSource.of(model, chosen)
    scorer = load_scorer(source, _choices(source, chosen), chosen)
    from fastism_cli.engine.inspection import inspect_scorer

    return inspect_scorer(scorer)


def _choices(model: ModelSource, options: RunOptions) -> ModelChoices:
    problems = Problems()
    choices = check_choices(problems, model, options)
    problems.raise_if_any()
    return choices


def verify_model(
    model: Any,
    options: RunOptions | None = None,
    *,
    bed: str | None = None,
    fasta: str | None = None,
    sequences: int = 2,
    positions: int = 30,
    tolerance: float | None = None,
) -> VerifyReport:
    """Compare the engine with plain Keras on the first regions of a BED, or on random sequences with some N.

    Parameters
    ----------
    sequences, positions : int
        How many sequences, and positions of each.
    tolerance : float, optional
        Largest error allowed, in output units.
    options : RunOptions, optional
        Inputs that it does not give get random numbers.
    """
    chosen = options or RunOptions()
    source = ModelSource.of(model, chosen)
    with ExitStack() as stack:
        problems = Problems()
        choices = check_choices(problems, source, chosen)
        regions = problems.check(_regions, stack, bed, fasta, chosen)
        problems.raise_if_any()
        scorer = load_scorer(source, choices, chosen, regions)
        codes, rows, count = _sequences(scorer, regions, chosen, sequences)
        others = _others(scorer, choices, count).rows(rows)
        from fastism_cli.engine.verify import verify

        one_hot = scorer.alphabet.one_hot(codes)
        return verify(scorer, one_hot, others, per_sequence=positions, tolerance=tolerance)


def _regions(stack: ExitStack, bed: str | None, fasta: str | None, options: RunOptions) -> RegionInputs | None:
    if bed is None and fasta is None:
        return None
    if fasta is None:
        raise UsageError("--bed needs --fasta: give both, or --fasta alone for its records, or neither.")
    problems = Problems()
    regions = open_regions(problems, stack, bed, fasta, options)
    problems.raise_if_any()
    return regions


def _sequences(
    scorer: FastISM, regions: RegionInputs | None, options: RunOptions, n: int
) -> tuple[np.ndarray, list[int], int]:
    """Codes (n, L), the BED row of each, and how many rows there are."""
    length = scorer.input_length
    if regions is None:
        share = N_SHARE if scorer.prepared.views.knows_unknown else 0.0
        return _random_codes(scorer.alphabet, n, length, share), list(range(n)), n
    whole = isinstance(regions.bed, RecordSource)
    geometry = Geometry(length, length, options.center, options.stranded, from_start=whole)
    max_n = 1.0 if scorer.prepared.views.knows_unknown else 0.0
    reader = Reader(regions.bed, regions.genome, geometry, scorer.alphabet, edge=options.edge, max_n=max_n)
    blocks = list(islice(_to_score(reader), n))
    if not blocks:
        raise UsageError(f"{regions.bed.name} has no region that can be scored.")
    rows = [block.rows[0].bed_row for block in blocks]
    return np.concatenate([block.codes for block in blocks]), rows, regions.n_regions


def _to_score(reader: Reader) -> Iterator[Block]:
    return (block for block in reader.blocks(to_score=1, most_rows=1) if len(block.to_score))


def _random_codes(alphabet: Alphabet, n: int, length: int, n_share: float) -> np.ndarray:
    """Random letters, a few of them N but not at the ends."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, alphabet.size, (n, length)).astype(np.uint8)
    is_n = rng.random((n, length)) < n_share
    is_n[:, [0, -1]] = False
    return np.where(is_n, alphabet.unknown, codes).astype(np.uint8)


def _others(scorer: FastISM, choices: ModelChoices, n_regions: int) -> OtherInputs:
    rng, shapes = np.random.default_rng(1), scorer.other_shapes
    random = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    return fit_inputs({**random, **choices.inputs}, shapes, n_regions)
