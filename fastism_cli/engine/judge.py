"""What the engine is compared with: scores of some changes by plain Keras, in float64 if the model runs in that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from fastism_cli.engine.changes import Replacements
from fastism_cli.engine.fastism import FastISM
from fastism_cli.engine.inputs_and_scores import MutagenesisResult, fill_up, letters_of
from fastism_cli.errors import ModelError
from fastism_cli.genome.alphabet import Codes
from fastism_cli.model import backend
from fastism_cli.model.keras_graph import quantised_layers
from fastism_cli.model.precision import GraphInFloat64, with_dtype

NAIVE_BATCH = 8  # substituted sequences in one forward pass
PAIRS_CHECKED = 24  # at most, of a sequence

Arrays = Mapping[str, np.ndarray]
Heads = list[np.ndarray]  # one array (rows, units) for each head, float64
Substitution = tuple[int, int]  # position, letter; or where a block begins, and which of its contents
Pair = tuple[Substitution, Substitution]  # both letters, at their positions


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
    most : int or None
        How many substitutions of a sequence are compared at most.
    """

    def __init__(self, scorer: FastISM, most: int | None = None) -> None:
        self.scorer, self.most = scorer, most
        self.note = self._why = ""
        self._model: Any = None
        try:
            self._model = with_dtype(scorer.model, "float64")
        except ModelError as error:
            self._use_graph(error.message)

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
        if self.blocks is None:
            substitutions = self._substitutions(inputs, positions, columns)
        else:
            substitutions = self._block_changes(self.blocks, positions, columns)
        values, naive = self._values_and_deltas(self.scorer.model, inputs, substitutions)
        exact = self._exact(inputs, substitutions, values)
        return Sample(exact or naive, naive, self._engine(inputs, substitutions, columns), values)

    def sample_of_pairs(self, inputs: Arrays, within: int, columns: range) -> Sample:
        """What two letters change together, for pairs of ``columns`` that hold a letter, of near and far positions."""
        pairs = self._pairs(letters_of(inputs[self._sequence])[0], within, columns)
        values, naive = self._values_and_deltas(self.scorer.model, inputs, pairs)
        exact = self._exact(inputs, pairs, values)
        return Sample(exact or naive, naive, self._engine_of_pairs(inputs, pairs, within, columns), values)

    def _pairs(self, codes: Codes, within: int, columns: range) -> list[Pair]:
        letters, found = self.scorer.alphabet.size, list[Pair]()
        count = min(PAIRS_CHECKED, self.most or PAIRS_CHECKED)
        known = [p for p in columns if codes[p] < letters]
        for i, first in enumerate(spread(known, count)):
            distance = 1 + i * 7 % within  # 7: every distance in turn, most orders of them
            if first + distance in columns and codes[first + distance] < letters:
                ends = (first, first + distance)
                one, other = (int((codes[p] + 1 + (i + k) % (letters - 1)) % letters) for k, p in enumerate(ends))
                found.append(((ends[0], one), (ends[1], other)))
        return found

    @property
    def _sequence(self) -> str:
        return self.scorer.input_names[self.scorer.sequence_index]

    @property
    def blocks(self) -> Replacements | None:
        """What is put into blocks; None if single letters are substituted."""
        changes = self.scorer.changes
        return changes if isinstance(changes, Replacements) else None

    def _block_changes(
        self, blocks: Replacements, positions: Sequence[int] | int, columns: range
    ) -> list[Substitution]:
        """All contents of some blocks."""
        starts = self.scorer.starts_in(columns).tolist() if isinstance(positions, int) else list(positions)
        count = positions if isinstance(positions, int) else len(starts)
        if self.most is not None:
            count = min(count, max(self.most // blocks.alternates, 1))
        return [(start, i) for start in spread(starts, count) for i in range(blocks.alternates)]

    def _substitutions(self, inputs: Arrays, positions: Sequence[int] | int, columns: range) -> list[Substitution]:
        """Substitutions at the positions that hold a letter."""
        codes, letters = letters_of(inputs[self._sequence])[0], self.scorer.alphabet.size
        if isinstance(positions, int):
            positions = sample_positions(codes, columns, letters=letters, count=positions)
        found = [(p, x) for p in positions if codes[p] < letters for x in range(letters) if x != codes[p]]
        if self.most is None or len(found) <= self.most:
            return found
        return [found[i * (len(found) - 1) // (self.most - 1)] for i in range(self.most)]

    def _exact(self, inputs: Arrays, substitutions: Sequence[Any], values: Heads) -> Heads | None:
        """The deltas in float64, or None if the model does not run in float64."""
        while self.is_precise:
            try:
                precise, deltas = self._values_and_deltas(self._model, inputs, substitutions)
            except Exception as error:  # a custom layer can fail in any way on a type that it does not expect
                self._use_graph(f"the model does not run in float64: {_cause(error)}")
                continue
            if all(agree(a, b) for a, b in zip(precise, values, strict=True)):
                return deltas
            self._use_graph("rebuilt in float64, the model predicts something else")
        return None

    def _use_graph(self, why: str) -> None:
        """Take the graph of the model in the place of its code; if that is what failed, there is no float64."""
        self._why = self._why or why.splitlines()[0]
        try:
            if isinstance(self._model, GraphInFloat64) or quantised_layers(self.scorer.model):
                raise ModelError(why)
            self._model = GraphInFloat64(self.scorer.model)
        except ModelError:
            self._model, self.note = None, self._why

    def _values_and_deltas(self, model: Any, inputs: Arrays, substitutions: Sequence[Any]) -> tuple[Heads, Heads]:
        """Predictions, and substituted - reference, each substituted sequence through the whole model."""
        reference = self._predict(model, inputs)
        values = self._reduced(reference, reference)
        batches = [substitutions[i : i + NAIVE_BATCH] for i in range(0, len(substitutions), NAIVE_BATCH)]
        rows = [self._reduced(self._predict(model, self._substituted(inputs, batch)), reference) for batch in batches]
        deltas = [np.concatenate([row[i] for row in rows] or [x[:0]]) - x for i, x in enumerate(values)]
        return values, [self._settled(x) for x in deltas]

    def _settled(self, deltas: np.ndarray) -> np.ndarray:
        """The scores (scores, units) of the changes (changes, units): means over the contents that are averaged."""
        if self.blocks is None or not self.blocks.content.is_averaged:
            return deltas
        means: np.ndarray = deltas.reshape(-1, self.blocks.alternates, deltas.shape[-1]).mean(1)
        return means

    def _substituted(self, inputs: Arrays, substitutions: Sequence[Any]) -> Arrays:
        """Repeat the inputs once for each substitution, and make it."""
        batch = {name: np.repeat(x, len(substitutions), axis=0) for name, x in inputs.items()}
        if self.blocks is not None:
            (one_hot,) = inputs[self._sequence]
            batch[self._sequence] = np.stack([self.blocks.sequences(one_hot, p)[i] for p, i in substitutions])
            return batch
        for row, change in zip(batch[self._sequence], substitutions, strict=True):
            for position, letter in _letters(change):
                row[position] = 0
                row[position, letter] = 1
        return batch

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
        ends = scorer.starts_in(columns)[[0, -1]].tolist()
        wanted = sorted({*(position for position, _ in substitutions), *ends})
        result = self._scored(inputs, scorer.sequences_per_call(columns), wanted)
        slots = scorer.changes.columns
        # of contents that are averaged there is one score
        scores = [(wanted.index(position), slot) for position, slot in substitutions if slot < slots]
        at, slot_of = zip(*scores, strict=True) if scores else ((), ())
        deltas = (result.delta[head.name][0].reshape(-1, len(wanted), slots) for head in scorer.heads)
        return [x[:, list(at), list(slot_of)].T.astype("float64") for x in deltas]

    def _engine_of_pairs(self, inputs: Arrays, pairs: Sequence[Pair], within: int, columns: range) -> Heads:
        """The engine's deltas of pairs: their interactions, and what each letter changes alone."""
        n = self.scorer.pair_scorer(within).sequences_per_call(columns)
        codes = fill_up(letters_of(inputs[self._sequence]), n)
        others = {name: fill_up(x, n) for name, x in inputs.items() if name != self._sequence}
        result = self.scorer.score_pairs(codes, others, within=within, window=columns)
        found = []
        for head in self.scorer.heads:
            single = result.delta[head.name][0].reshape(-1, *result.delta[head.name].shape[-2:])
            both = result.interaction[head.name][0].reshape(-1, *result.interaction[head.name].shape[-4:])
            found.append(
                [
                    both[:, p - columns.start, q - p - 1, x, y] + single[:, p, x] + single[:, q, y]
                    for (p, x), (q, y) in pairs
                ]
            )
        return [np.array(x, "float64").reshape(len(pairs), -1) for x in found]

    def _scored(self, inputs: Arrays, sequences: int, positions: Sequence[int]) -> MutagenesisResult:
        """Score the sequence by the engine, repeated to fill one call, and as letter codes, as a run does."""
        filled = {name: fill_up(x, sequences) for name, x in inputs.items()}
        one_hot = filled[self._sequence]
        codes = letters_of(one_hot)
        if one_hot[codes == self.scorer.alphabet.size].any():  # an N that is no row of zeros
            return self.scorer(filled, positions=positions)
        others = {name: x for name, x in filled.items() if name != self._sequence}
        return self.scorer.score_codes(codes, others, positions=positions)


def _cause(error: Exception) -> str:
    """What is wrong in one line, without what Keras writes around it."""
    found = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception encountered")]
    return f"{type(error).__name__}: {found[0].strip()}" if found else type(error).__name__


def _letters(change: Substitution | Pair) -> Sequence[Substitution]:
    """The substitutions that are made at once."""
    return change if isinstance(change[0], tuple) else [change]


def sample_positions(codes: Codes, columns: range, *, letters: int, count: int) -> list[int]:
    """Choose ``count`` positions of ``columns`` that hold a letter: a third at each end and in the middle."""
    return spread([position for position in columns if codes[position] < letters], count)


def spread(known: list[int], count: int) -> list[int]:
    """``count`` of these, in order: a third at each end and in the middle."""
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


def agree(precise: np.ndarray, plain: np.ndarray) -> bool:
    """Whether two predictions differ by no more than rounding. True if ``plain`` is not finite: not checked here."""
    if precise.shape != plain.shape:
        return False
    if not np.isfinite(plain).all():
        return True
    # wider than model/adapt.py: float64 against bfloat16 or tf32, of which one rounding is up to 0.8 % of a value
    return largest_error(precise, plain) <= 1e-4 + 0.02 * largest(plain)
