"""Is it right? The engine, and plain Keras in the same precision, against plain Keras in float64."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import ops

from fastism_cli import backend
from fastism_cli.alphabet import Codes
from fastism_cli.batches import fill_up, sequences_per_call
from fastism_cli.errors import ModelError, VerifyError
from fastism_cli.graph import call_model
from fastism_cli.ism import FastISM, letters_of
from fastism_cli.precision import with_dtype
from fastism_cli.reduce import Reduction

logger = logging.getLogger(__name__)

ABSOLUTE, RELATIVE = 1e-6, 1e-5  # of a right float32 engine; the second of the largest delta
TIMES_NAIVE = 3  # how much worse than plain Keras the engine may be
COARSER = {"float32": 1.0, "float64": 1.0, "tf32": 2.0**13, "bfloat16": 2.0**16}  # steps of float32 in one step
NAIVE_BATCH = 8

Arrays = Mapping[str, np.ndarray]
Predict = Callable[[Arrays], list[np.ndarray]]


@dataclass(frozen=True)
class HeadCheck:
    """Largest differences of one head, in the model's output units.

    Attributes
    ----------
    largest_delta, largest_value : float
        Of the sampled substitutions, and of the predictions themselves.
    fast_error, naive_error : float
        Of the engine and of plain Keras in the same precision, against the judge.
    tolerance : float
        What ``fast_error`` may be.
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
    judge : str
        What the errors are measured against: "float64", or the precision of the run where the model has no float64.
    note : str
        Why it is not float64.
    substitutions : int
        How many were compared.
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
    tolerance: float | None = None,
    columns: range | None = None,
    **options: Any,
) -> VerifyReport:
    """Compare the engine with plain Keras on some substitutions.

    Parameters
    ----------
    model : FastISM, keras.Model or path
        An engine that is ready, or what :class:`FastISM` takes with ``options``.
    one_hot : float32 (n, L, letters)
    other_inputs : mapping of input name to array (n, ...), optional
    positions : sequence of int, optional
        Default: a few at both ends and in the middle. Those that hold an N are left out.
    tolerance : float, optional
        In output units, in place of three times plain Keras' own error or 1e-6 + 1e-5 of the largest delta.
    columns : range, optional
        The positions that the engine is to be compiled for, so that a run can go on with it.

    Returns
    -------
    VerifyReport
    """
    scorer = model if isinstance(model, FastISM) else FastISM(model, **options)
    columns = columns or range(scorer.input_length)
    judge = Judge(scorer)
    samples = [
        judge.sample(_inputs(scorer, row, other_inputs or {}, i), positions, columns)
        for i, row in enumerate(np.asarray(one_hot)[:, None])
    ]
    return judge.report(samples, tolerance)


def sample_positions(codes: Codes, columns: range, *, letters: int, count: int = 8) -> list[int]:
    """A few positions of ``columns`` that hold a letter: a third each at the start, in the middle and at the end."""
    known = [position for position in columns if codes[position] < letters]
    if len(known) <= count:
        return known
    side = -(-count // 3)
    middle = (len(known) - (count - 2 * side)) // 2
    return known[:side] + known[middle : middle + count - 2 * side] + known[-side:]


def _inputs(scorer: FastISM, row: np.ndarray, others: Arrays, i: int) -> dict[str, np.ndarray]:
    """All inputs of sequence ``i``, by name, with a batch axis of 1."""
    arrays = {name: np.asarray(x)[i : i + 1] for name, x in others.items()}
    arrays[scorer.input_names[scorer.sequence_index]] = row
    return {name: arrays[name] for name in scorer.input_names if name in arrays}


@dataclass(frozen=True)
class Sample:
    """Deltas of one sequence by head: (substitutions, units) of the judge, plain Keras and the engine."""

    exact: list[np.ndarray]
    naive: list[np.ndarray]
    fast: list[np.ndarray]
    values: list[np.ndarray]


class Judge:
    """The model in float64, where it can be had and agrees with itself."""

    def __init__(self, scorer: FastISM) -> None:
        self.scorer = scorer
        self.precise, self.note = _in_float64(scorer.model)

    @property
    def name(self) -> str:
        return "float64" if self.precise is not None else self.scorer.precision

    def sample(self, inputs: dict[str, np.ndarray], positions: Sequence[int] | None, columns: range) -> Sample:
        scorer = self.scorer
        codes = letters_of(inputs[scorer.input_names[scorer.sequence_index]])[0]
        letters = scorer.alphabet.size
        positions = sample_positions(codes, columns, letters=letters) if positions is None else positions
        positions = [position for position in positions if codes[position] < letters]
        places = [(p, letter) for p in positions for letter in range(letters) if letter != codes[p]]
        substituted = [self._substituted(inputs, *place) for place in places]
        naive, _ = _deltas(lambda x: predict(scorer, scorer.model, x), inputs, substituted)
        exact, values = self._exact(inputs, substituted)
        return Sample(exact or naive, naive, _engine_deltas(scorer, inputs, places, columns), values)

    def _substituted(self, inputs: dict[str, np.ndarray], position: int, letter: int) -> dict[str, np.ndarray]:
        name = self.scorer.input_names[self.scorer.sequence_index]
        sequence = inputs[name].copy()
        sequence[0, position] = 0
        sequence[0, position, letter] = 1
        return {**inputs, name: sequence}

    def _exact(self, inputs: dict[str, np.ndarray], substituted: list) -> tuple[list[np.ndarray] | None, list[np.ndarray]]:
        """Deltas and reference values of the judge; no deltas if there is no float64."""
        plain = predict(self.scorer, self.scorer.model, inputs)
        if self.precise is None:
            return None, plain
        try:
            deltas, values = _deltas(lambda x: predict(self.scorer, self.precise, x), inputs, substituted)
        except Exception as error:  # a custom layer may do anything with a type that it does not expect
            self._give_up(f"it does not run in float64 ({type(error).__name__})")
            return None, plain
        if not all(_agree(a, b) for a, b in zip(values, plain, strict=True)):
            self._give_up("rebuilt in float64 it predicts something else")
            return None, plain
        return deltas, values

    def _give_up(self, why: str) -> None:
        self.precise, self.note = None, why

    def report(self, samples: Sequence[Sample], tolerance: float | None) -> VerifyReport:
        heads = tuple(self._head(i, samples, tolerance) for i in range(len(self.scorer.heads)))
        substitutions = sum(len(sample.naive[0]) for sample in samples)
        return VerifyReport(self.scorer.engine, self.name, self.note, len(samples), substitutions, heads)

    def _head(self, i: int, samples: Sequence[Sample], tolerance: float | None) -> HeadCheck:
        checks = [_compared(s.exact[i], s.naive[i], s.fast[i], s.values[i]) for s in samples]
        delta, value, fast, naive = (max((float(c[j]) for c in checks), default=0.0) for j in range(4))
        head = HeadCheck(self.scorer.heads[i].name, delta, value, fast, naive, 0.0)
        return replace(head, tolerance=self._tolerance(head) if tolerance is None else tolerance)

    def _tolerance(self, head: HeadCheck) -> float:
        coarser = COARSER[self.scorer.precision]
        floor = ABSOLUTE + RELATIVE * coarser * head.largest_delta
        if self.precise is not None:
            return max(TIMES_NAIVE * head.naive_error, floor)
        # the judge itself has rounded two values of this size
        return floor + 16 * coarser * float(np.finfo("float32").eps) * head.largest_value


def _in_float64(model: Any) -> tuple[Any | None, str]:
    try:
        return with_dtype(model, "float64"), ""
    except ModelError as error:
        return None, str(error)


def predict(scorer: FastISM, model: Any, inputs: Arrays) -> list[np.ndarray]:
    """Plain Keras, heads reduced: (n, units) of each head in float64."""
    dtypes = dict(zip(scorer.input_names, scorer.input_dtypes, strict=True))
    floats = "float64" if model is not scorer.model or scorer.precision == "float64" else "float32"
    arrays = [x.astype(dtypes[name] if "int" in dtypes[name] or "bool" in dtypes[name] else floats) for name, x in inputs.items()]
    with backend.matrix_precision(scorer.precision):
        outputs = call_model(model, [ops.convert_to_tensor(x) for x in arrays])
        reduced = [y if h.reduce == "none" else Reduction(h.reduce)(y) for h, y in zip(scorer.heads, outputs, strict=True)]
    return [np.asarray(backend.to_numpy(y), "float64").reshape(len(y), -1) for y in reduced]


def _deltas(predict: Predict, reference: Arrays, substituted: Sequence[Arrays]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Substituted - reference of each head (substitutions, units), and the reference (1, units)."""
    values = predict(reference)
    batches = [substituted[i : i + NAIVE_BATCH] for i in range(0, len(substituted), NAIVE_BATCH)]
    rows = [predict({name: np.concatenate([s[name] for s in batch]) for name in reference}) for batch in batches]
    return [np.concatenate([row[i] for row in rows] or [x[:0]]) - x for i, x in enumerate(values)], values


def _engine_deltas(scorer: FastISM, inputs: Arrays, places: Sequence[tuple[int, int]], columns: range) -> list[np.ndarray]:
    """The engine's deltas of each head (substitutions, units), in calls of the shape that a run makes."""
    wanted = sorted({*(position for position, _ in places), columns.start, columns.stop - 1})
    result = scorer(fill_up(dict(inputs), sequences_per_call(scorer, columns)), positions=wanted)
    at = [wanted.index(position) for position, _ in places]
    letters = [letter for _, letter in places]
    flat = (result.delta[h.name][0].reshape(-1, len(wanted), scorer.alphabet.size) for h in scorer.heads)
    return [x[:, at, letters].T.astype("float64") for x in flat]


def _compared(exact: np.ndarray, naive: np.ndarray, fast: np.ndarray, values: np.ndarray) -> tuple[float, ...]:
    """Largest delta, largest value, error of the engine, error of plain Keras."""
    finite = np.abs(exact[np.isfinite(exact)])
    largest = np.abs(values[np.isfinite(values)])
    return finite.max(initial=0), largest.max(initial=0), _error(fast, exact), _error(naive, exact)


def _error(found: np.ndarray, exact: np.ndarray) -> float:
    """Largest difference; infinite if one has a number where the other has none, 0 if neither has."""
    both = np.isfinite(found) & np.isfinite(exact)
    neither = ~np.isfinite(found) & ~np.isfinite(exact)
    difference = np.where(both, np.abs(np.where(both, found, 0) - np.where(both, exact, 0)), np.where(neither, 0, np.inf))
    return float(difference.max(initial=0))


def _agree(precise: np.ndarray, plain: np.ndarray) -> bool:
    """Whether two predictions differ by no more than rounding can explain."""
    return bool(np.allclose(precise, plain, rtol=0.02, atol=1e-4 + 0.02 * np.abs(plain).max(initial=0), equal_nan=True))
