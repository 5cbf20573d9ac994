"""Reference scores from plain Keras, in float64 if the model can be rebuilt in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from fastism_cli.engine.fastism import FastISM, MutagenesisResult
from fastism_cli.engine.score_arrays import fill_up, letters_of
from fastism_cli.errors import ModelError
from fastism_cli.genome.alphabet import Codes
from fastism_cli.model import backend
from fastism_cli.model.precision import with_dtype

NAIVE_BATCH = 8

Arrays = Mapping[str, np.ndarray]
Heads = list[np.ndarray]  # one array (rows, units) for each head, float64
Substitution = tuple[int, int]  # position, letter


@dataclass(frozen=True)
class Sample:
    """Scores of some substitutions in one sequence, of all heads.

    Attributes
    ----------
    exact, naive, fast : list of float64 (substitutions, units)
        Deltas by the judge, by plain Keras in the chosen precision, and by the engine.
    values : list of float64 (1, units)
        Predictions on the sequence itself.
    """

    exact: Heads
    naive: Heads
    fast: Heads
    values: Heads


class Judge:
    """Compute scores by plain Keras in float64, or in the model's own precision if it cannot be rebuilt in float64.

    Attributes
    ----------
    precision : str
        The precision of these scores.
    note : str
        Why it is not float64; empty if it is.
    """

    def __init__(self, scorer: FastISM) -> None:
        self.scorer = scorer
        self.note = ""
        try:
            self._model = with_dtype(scorer.model, "float64")
        except ModelError as error:
            self._give_up(str(error))

    @property
    def is_precise(self) -> bool:
        return not self.note

    @property
    def precision(self) -> str:
        return "float64" if self.is_precise else self.scorer.precision

    def sample(self, inputs: Arrays, positions: Sequence[int] | int, columns: range) -> Sample:
        """Deltas of all substitutions at some positions of one sequence.

        Parameters
        ----------
        inputs : mapping of input name to array (1, ...)
        positions : sequence of int, or int
            Which positions, or how many of ``columns``.
        columns : range
            The positions that the engine is compiled for.
        """
        substitutions = self._substitutions(inputs, positions, columns)
        values = self._scores(self.scorer.model, inputs)
        naive = self._deltas(self.scorer.model, inputs, substitutions)
        exact = self._exact(inputs, substitutions, values)
        return Sample(exact or naive, naive, self._engine(inputs, substitutions, columns), values)

    @property
    def _sequence(self) -> str:
        return self.scorer.input_names[self.scorer.sequence_index]

    def _substitutions(self, inputs: Arrays, positions: Sequence[int] | int, columns: range) -> list[Substitution]:
        """Substitutions at the positions that hold a letter."""
        codes, letters = letters_of(inputs[self._sequence])[0], self.scorer.alphabet.size
        if isinstance(positions, int):
            positions = sample_positions(codes, columns, letters=letters, count=positions)
        return [(p, x) for p in positions if codes[p] < letters for x in range(letters) if x != codes[p]]

    def _exact(self, inputs: Arrays, substitutions: Sequence[Substitution], values: Heads) -> Heads | None:
        """The deltas in float64, or None if the model does not run in float64."""
        if not self.is_precise:
            return None
        try:
            precise = self._scores(self._model, inputs)
            deltas = self._deltas(self._model, inputs, substitutions)
        except Exception as error:  # a custom layer can fail in any way on a type that it does not expect
            self._give_up(f"the model does not run in float64: {type(error).__name__}")
            return None
        if all(_agree(a, b) for a, b in zip(precise, values, strict=True)):
            return deltas
        self._give_up("rebuilt in float64, the model predicts something else")
        return None

    def _give_up(self, why: str) -> None:
        self._model, self.note = None, why.splitlines()[0]

    def _deltas(self, model: Any, inputs: Arrays, substitutions: Sequence[Substitution]) -> Heads:
        """Substituted - reference, each substituted sequence through the whole model."""
        reference = self._predict(model, inputs)
        values = self._reduced(reference, reference)
        batches = [substitutions[i : i + NAIVE_BATCH] for i in range(0, len(substitutions), NAIVE_BATCH)]
        rows = [self._reduced(self._predict(model, self._substituted(inputs, batch)), reference) for batch in batches]
        return [np.concatenate([row[i] for row in rows] or [x[:0]]) - x for i, x in enumerate(values)]

    def _substituted(self, inputs: Arrays, substitutions: Sequence[Substitution]) -> Arrays:
        """Repeat the inputs once for each substitution, and make it."""
        batch = {name: np.repeat(x, len(substitutions), axis=0) for name, x in inputs.items()}
        for row, (position, letter) in zip(batch[self._sequence], substitutions, strict=True):
            row[position] = 0
            row[position, letter] = 1
        return batch

    def _scores(self, model: Any, inputs: Arrays) -> Heads:
        """Predict by plain Keras; each sequence is its own reference."""
        predictions = self._predict(model, inputs)
        return self._reduced(predictions, predictions)

    def _predict(self, model: Any, inputs: Arrays) -> list[Any]:
        """Predict by plain Keras, without the reductions of the heads."""
        is_precise = model is not self.scorer.model or self.scorer.precision == "float64"
        arrays = [self._tensor(name, x, "float64" if is_precise else "float32") for name, x in inputs.items()]
        with backend.matrix_precision(self.scorer.precision):
            return self.scorer.forward.predict(arrays, model)

    def _reduced(self, predictions: Sequence[Any], reference: Sequence[Any]) -> Heads:
        """Reduce the heads; ``reference`` has one row, or as many as ``predictions``."""
        with backend.matrix_precision(self.scorer.precision):
            reduced = self.scorer.forward.reduced(predictions, reference)
        return [np.asarray(backend.to_numpy(y), "float64").reshape(len(y), -1) for y in reduced]

    def _tensor(self, name: str, x: np.ndarray, floats: str) -> Any:
        dtype = self.scorer.prepared.input_dtypes[self.scorer.input_names.index(name)]
        return ops.convert_to_tensor(x.astype(dtype if "int" in dtype or "bool" in dtype else floats))

    def _engine(self, inputs: Arrays, substitutions: Sequence[Substitution], columns: range) -> Heads:
        """The engine's deltas, in calls of the shape that a run makes, so that nothing is compiled twice."""
        scorer = self.scorer
        wanted = sorted({*(position for position, _ in substitutions), columns.start, columns.stop - 1})
        result = self._scored(inputs, scorer.sequences_per_call(columns), wanted)
        at = [wanted.index(position) for position, _ in substitutions]
        letters = [letter for _, letter in substitutions]
        deltas = (result.delta[head.name][0].reshape(-1, len(wanted), scorer.alphabet.size) for head in scorer.heads)
        return [x[:, at, letters].T.astype("float64") for x in deltas]

    def _scored(self, inputs: Arrays, sequences: int, positions: Sequence[int]) -> MutagenesisResult:
        """Score the sequence by the engine, repeated to fill one call, and as letter codes, as a run does."""
        filled = {name: fill_up(x, sequences) for name, x in inputs.items()}
        one_hot = filled[self._sequence]
        codes = letters_of(one_hot)
        if one_hot[codes == self.scorer.alphabet.size].any():  # an N that is no row of zeros
            return self.scorer(filled, positions=positions)
        others = {name: x for name, x in filled.items() if name != self._sequence}
        return self.scorer.score_codes(codes, others, positions=positions)


def sample_positions(codes: Codes, columns: range, *, letters: int, count: int) -> list[int]:
    """Choose ``count`` positions of ``columns`` that hold a letter: a third at each end and in the middle."""
    known = [position for position in columns if codes[position] < letters]
    if len(known) <= count:
        return known
    side = max(count // 3, 1)
    middle = (len(known) - (count - 2 * side)) // 2
    return known[:side] + known[middle : middle + count - 2 * side] + known[-side:]


def largest_error(found: np.ndarray, exact: np.ndarray) -> float:
    """Largest absolute difference of finite values; infinite if only one of the two arrays is finite somewhere."""
    both = np.isfinite(found) & np.isfinite(exact)
    if (np.isfinite(found) != np.isfinite(exact)).any():
        return float("inf")
    return float(np.abs(found[both] - exact[both]).max(initial=0))


def largest(values: np.ndarray) -> float:
    """Largest absolute value of the finite ones; 0 if there are none."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0))


def _agree(precise: np.ndarray, plain: np.ndarray) -> bool:
    """Whether two predictions differ by no more than rounding. True if ``plain`` is not finite: not checked here."""
    if not np.isfinite(plain).all():
        return True
    return largest_error(precise, plain) <= 1e-4 + 0.02 * largest(plain)
