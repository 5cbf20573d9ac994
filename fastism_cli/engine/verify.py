"""Compare the engine, and plain Keras in the same precision, with plain Keras in float64."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fastism_cli.engine.fastism import FastISM
from fastism_cli.engine.judge import Arrays, Judge, Sample, largest, largest_error
from fastism_cli.engine.score_arrays import check_all_given
from fastism_cli.errors import VerifyError

ABSOLUTE, RELATIVE = 1e-6, 1e-5  # error that a right float32 engine can have; the second times the largest delta
TIMES_NAIVE = 3  # times the error of plain Keras that the engine can have
COARSER = {"float32": 1.0, "float64": 1.0, "tf32": 2.0**13, "bfloat16": 2.0**16}  # rounding error, in that of float32


@dataclass(frozen=True)
class HeadCheck:
    """Largest errors of one head, in the model's output units.

    Attributes
    ----------
    largest_delta, largest_value : float
        Largest absolute delta of the substitutions that were compared, and largest absolute prediction.
    fast_error, naive_error : float
        Largest error of the engine, and of plain Keras in the same precision.
    tolerance : float
        The largest ``fast_error`` that passes.
    """

    name: str
    largest_delta: float
    largest_value: float
    fast_error: float
    naive_error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.fast_error <= self.tolerance


@dataclass(frozen=True)
class VerifyReport:
    """What :func:`verify` found.

    Attributes
    ----------
    engine : str
        "fast" or "naive".
    judge : str
        The precision of plain Keras that the errors are measured against: "float64", or that of the engine if the
        model cannot be rebuilt in float64.
    note : str
        Why it is not float64; empty if it is.
    sequences, substitutions : int
        How many were compared.
    heads : tuple of HeadCheck
    """

    engine: str
    judge: str
    note: str
    sequences: int
    substitutions: int
    heads: tuple[HeadCheck, ...]

    @property
    def passed(self) -> bool:
        return all(head.passed for head in self.heads)

    @property
    def line(self) -> str:
        """The line of the log: both errors of the worst head."""
        worst = max(self.heads, key=lambda head: head.fast_error / max(head.tolerance, 1e-300))
        judge = self.judge if not self.note else f"{self.judge} ({self.note})"
        return (
            f"checked {self.substitutions} substitutions against plain Keras in {judge}: largest error "
            f"{worst.fast_error:.1e}, plain Keras {worst.naive_error:.1e}, largest delta {worst.largest_delta:.1e}"
        )

    def to_json(self) -> str:
        """The whole report as JSON, which the result file keeps."""
        return json.dumps(asdict(self))

    def require(self) -> None:
        """Raise :class:`VerifyError` unless all heads passed."""
        failed = [
            f"head {head.name!r}: off by {head.fast_error:.2g} (tolerance {head.tolerance:.2g}; "
            f"plain Keras {head.naive_error:.2g}; largest delta {head.largest_delta:.2g})"
            for head in self.heads
            if not head.passed
        ]
        if failed:
            raise VerifyError(
                "\n  ".join([f"the {self.engine} engine disagrees with plain Keras in {self.judge}:", *failed])
            )


def verify(
    model: Any,
    one_hot: np.ndarray,
    other_inputs: Arrays | None = None,
    positions: Sequence[int] | None = None,
    *,
    per_sequence: int = 8,
    tolerance: float | None = None,
    columns: range | None = None,
) -> VerifyReport:
    """Compare the engine with plain Keras on some substitutions.

    Parameters
    ----------
    model : FastISM, keras.Model or path
        An engine, or a model to make one of with the default options.
    one_hot : float32 (n, L, letters)
    other_inputs : mapping of input name to array (n, ...), optional
    positions : sequence of int, optional
        The positions to compare, the same in all sequences. Those that hold an N are left out.
    per_sequence : int
        How many positions of each sequence, at both ends and in the middle, if there are no ``positions``.
    tolerance : float, optional
        Largest error that passes, in output units. Default: three times the error of plain Keras, or 1e-6 plus 1e-5
        of the largest delta if that is more.
    columns : range, optional
        The positions that the engine is compiled for, so that a run can go on with it.

    Returns
    -------
    VerifyReport

    Raises
    ------
    UsageError
        If an input of the model has no values.
    SequenceError
        If a row of ``one_hot`` is neither one-hot nor an N, or an array has a wrong shape.
    """
    scorer = model if isinstance(model, FastISM) else FastISM(model)
    others = other_inputs or {}
    check_all_given(others, scorer.other_shapes)
    judge = Judge(scorer)
    rows = [_inputs(scorer, one_hot, others, i) for i in range(len(one_hot))]
    wanted = per_sequence if positions is None else positions
    samples = [judge.sample(row, wanted, columns or range(scorer.input_length)) for row in rows]
    heads = tuple(_head_check(judge, i, samples, tolerance) for i in range(len(scorer.heads)))
    substitutions = sum(len(sample.naive[0]) for sample in samples)
    return VerifyReport(scorer.engine, judge.precision, judge.note, len(samples), substitutions, heads)


def _inputs(scorer: FastISM, one_hot: np.ndarray, others: Arrays, i: int) -> dict[str, np.ndarray]:
    """All inputs of sequence ``i``, in the order of the model, with a batch axis of 1."""
    arrays = {**others, scorer.input_names[scorer.sequence_index]: one_hot}
    return {name: np.asarray(arrays[name])[i : i + 1] for name in scorer.input_names}


def _head_check(judge: Judge, i: int, samples: Sequence[Sample], tolerance: float | None) -> HeadCheck:
    check = HeadCheck(
        name=judge.scorer.heads[i].name,
        largest_delta=max((largest(s.exact[i]) for s in samples), default=0.0),
        largest_value=max((largest(s.values[i]) for s in samples), default=0.0),
        fast_error=max((largest_error(s.fast[i], s.exact[i]) for s in samples), default=0.0),
        naive_error=max((largest_error(s.naive[i], s.exact[i]) for s in samples), default=0.0),
        tolerance=0.0,
    )
    return replace(check, tolerance=_tolerance(judge, check) if tolerance is None else tolerance)


def _tolerance(judge: Judge, check: HeadCheck) -> float:
    coarser = COARSER[judge.scorer.precision]
    floor = ABSOLUTE + RELATIVE * coarser * check.largest_delta
    if judge.is_precise:
        return max(TIMES_NAIVE * check.naive_error, floor)
    # the judge has rounded two values of this size itself
    return floor + 16 * coarser * float(np.finfo("float32").eps) * check.largest_value
