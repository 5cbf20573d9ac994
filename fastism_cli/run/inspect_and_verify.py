"""Look at a model without scoring regions: what the engine does with it, and whether it computes the right numbers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fastism_cli.engine.inputs_and_scores import OtherInput
from fastism_cli.errors import MAX_LONG_LETTERS, Problems, UsageError, brief, log_of
from fastism_cli.genome.alphabet import Alphabet, Codes
from fastism_cli.genome.fasta import RecordSource
from fastism_cli.genome.placement import Geometry
from fastism_cli.model.loading.load import ModelSource
from fastism_cli.options.run_options import RunOptions
from fastism_cli.run.inputs_and_targets import OtherInputs, fit_inputs
from fastism_cli.run.job import load_scorer
from fastism_cli.run.region_reader import Reader
from fastism_cli.run.request import ModelChoices, RegionInputs, check_choices, open_regions

if TYPE_CHECKING:
    from fastism_cli.engine.fastism import FastISM
    from fastism_cli.engine.inspection import Inspection
    from fastism_cli.engine.verify import VerifyReport

logger = log_of(__name__)

N_SHARE = 0.01  # of the letters of a random sequence
CHECKED_POSITIONS = 8  # of the one sequence that is checked before a command writes scores
CHECK_MULTIPLY_ADDS = 60e9  # about: seconds on two cores, twice as many in float64


def inspect_model(model: Any, options: RunOptions | None = None) -> Inspection:
    """Say what the engine does with a model, node by node.

    Parameters
    ----------
    model : path or keras.Model
    options : RunOptions, optional
        Positional heads are summed unless ``reduce`` says otherwise.

    Returns
    -------
    Inspection

    Raises
    ------
    ModelError
        If the model cannot be loaded, or none of its inputs can hold a sequence.
    UsageError
        If an option does not fit the model.
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
    model : path or keras.Model
    options : RunOptions, optional
        Inputs of the model that ``inputs`` does not give are filled with random numbers.
    bed, fasta : str, optional
        Where the sequences come from: regions of the BED, or without it the records of the FASTA. Random sequences
        if neither is given.
    sequences, positions : int
        How many sequences are compared, and how many positions of each.
    tolerance : float, optional
        Largest error allowed, in the model's output units.

    Returns
    -------
    VerifyReport
        Call its ``require`` to raise an error if a head failed.

    Raises
    ------
    UsageError
        Lists all that is wrong with the inputs.
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
        return _verify_codes(scorer, codes, others, per_sequence=positions, tolerance=tolerance)


def check_engine(scorer: FastISM, codes: Codes, others: Mapping[str, np.ndarray], columns: range) -> VerifyReport:
    """Compare the engine with plain Keras before a command writes its scores, and log both errors.

    Parameters
    ----------
    codes : uint8 (n, L)
    others : mapping of input name to array (n, ...)
    columns : range
        The positions that will be scored. The engine is compiled for them, and the command goes on with it.

    Raises
    ------
    VerifyError
        If the engine is wrong.
    """
    logger.info("compiling the engine and comparing it with plain Keras")
    report = _verify_codes(
        scorer, codes, others, per_sequence=CHECKED_POSITIONS, columns=columns, multiply_adds=CHECK_MULTIPLY_ADDS
    )
    report.require()
    logger.info(report.line)
    return report


def check_pairs(
    scorer: FastISM, codes: Codes, others: Mapping[str, np.ndarray], *, within: int, columns: range
) -> VerifyReport:
    """Do the same for pairs of letters at most ``within`` apart."""
    from fastism_cli.engine.verify import verify_pairs

    one_hot = scorer.alphabet.one_hot(codes)
    report = verify_pairs(scorer, one_hot, others, within=within, columns=columns, multiply_adds=CHECK_MULTIPLY_ADDS)
    report.require()
    logger.info(report.line)
    return report


def _verify_codes(
    scorer: FastISM,
    codes: Codes,
    others: Mapping[str, np.ndarray],
    *,
    per_sequence: int,
    tolerance: float | None = None,
    columns: range | None = None,
    multiply_adds: float | None = None,
) -> VerifyReport:
    """Call :func:`fastism_cli.engine.verify.verify` with letter codes (n, L), and warn of what a right engine hides."""
    from fastism_cli.engine.verify import verify

    report = verify(
        scorer,
        scorer.alphabet.one_hot(codes),
        others,
        per_sequence=per_sequence,
        tolerance=tolerance,
        columns=columns,
        multiply_adds=multiply_adds,
    )
    _warn_of_heads(scorer, report)
    return report


def _warn_of_heads(scorer: FastISM, report: VerifyReport) -> None:
    """Warn of heads whose deltas are all 0, NaN or infinite, and of weights that are not numbers."""
    if not report.substitutions:
        return
    still = [head.name for head in report.heads if not head.largest_delta and not head.not_finite]
    unknown = [head.name for head in report.heads if not head.largest_delta and head.not_finite]
    if still:
        logger.warning("%s: every delta of the check is 0. Does it depend on the sequence?", _heads_text(still))
    if unknown:
        logger.warning("%s: no delta of the check is a number other than 0", _heads_text(unknown))
    weights = _weights_without_numbers(scorer.model) if report.not_finite else []
    if weights:
        names = brief(", ".join(weights), MAX_LONG_LETTERS)
        logger.warning("NaN or infinity in weights of the model: %s. Was it saved after its training failed?", names)


def _heads_text(names: list[str]) -> str:
    noun = "head" if len(names) == 1 else "heads"
    return f"{noun} {brief(', '.join(map(repr, names)), MAX_LONG_LETTERS)}"


def _weights_without_numbers(model: Any) -> list[str]:
    """Names of the weights that hold NaN or infinity."""
    from fastism_cli.model import backend

    floats = [x for x in model.variables if "float" in str(x.dtype)]
    # tf_keras has names alone
    return [getattr(x, "path", x.name) for x in floats if not np.isfinite(backend.to_numpy(x)).all()]


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
    """Letter codes (n, L), the number of the record of each, and how many records there are."""
    length = scorer.input_length
    if regions is None:
        share = N_SHARE if scorer.prepared.views.knows_unknown else 0.0
        return _random_codes(scorer.alphabet, n, length, share), list(range(n)), n
    from_start = isinstance(regions.bed, RecordSource)
    geometry = Geometry(length, length, options.center, options.stranded, from_start=from_start)
    max_n = 1.0 if scorer.prepared.views.knows_unknown else 0.0
    reader = Reader(regions.bed, regions.genome, geometry, scorer.alphabet, edge=options.edge, max_n=max_n)
    blocks = list(islice(reader.to_score(), n))
    if not blocks:
        raise UsageError(f"{regions.bed.name} has no region that can be scored.")
    rows = [block.rows[0].bed_row for block in blocks]
    return np.concatenate([block.codes for block in blocks]), rows, regions.n_regions


def _random_codes(alphabet: Alphabet, n: int, length: int, n_share: float) -> np.ndarray:
    """Random letter codes (n, length); a few are N, but not at the ends."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, alphabet.size, (n, length)).astype(np.uint8)
    is_n = rng.random((n, length)) < n_share
    is_n[:, [0, -1]] = False
    return np.where(is_n, alphabet.unknown, codes).astype(np.uint8)


def _others(scorer: FastISM, choices: ModelChoices, n_regions: int) -> OtherInputs:
    """The other inputs: as given, or else random numbers."""
    rng, wanted = np.random.default_rng(1), scorer.other_inputs
    random = {name: _random_values(rng, port) for name, port in wanted.items()}
    return fit_inputs({**random, **choices.inputs}, wanted, n_regions)


def _random_values(rng: np.random.Generator, port: OtherInput) -> np.ndarray:
    if port.integers is not None or "int" in port.dtype or port.dtype == "bool":
        return rng.integers(0, port.integers or 2, port.shape)
    return rng.normal(size=port.shape).astype("float32")
