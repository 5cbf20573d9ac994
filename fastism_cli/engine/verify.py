"""Compare the engine, and plain Keras in the same precision, with plain Keras in float64, and report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from keras import ops

from fastism_cli.engine.fastism import FastISM
from fastism_cli.engine.inputs_and_scores import check_all_given
from fastism_cli.engine.judge import Arrays, Judge, Sample, agree, largest, largest_error
from fastism_cli.errors import ModelError, VerifyError
from fastism_cli.model import backend
from fastism_cli.model.keras_graph import kept_as_graphs, layer_graph, quantised_layers
from fastism_cli.model.loading.config_entries import written_name

ABSOLUTE, RELATIVE = 1e-6, 1e-5  # error that a right float32 engine can have; the second times the largest delta
TIMES_NAIVE = 3  # times the error of plain Keras that the engine can have
COARSER = {"float32": 1.0, "float64": 1.0, "tf32": 2.0**13, "bfloat16": 2.0**16}  # rounding error, in that of float32
QUANTISED = 2.0**-7  # a step of int8, in the largest value
LEAST_SUBSTITUTIONS = 4  # that are compared in a sequence, however much a forward pass takes


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
    not_finite : int
        Deltas for which plain Keras gives NaN or infinity, in this precision or in float64. Plain Keras has no error
        there, and neither has the engine where it gives no finite number either.
    """

    name: str
    largest_delta: float
    largest_value: float
    fast_error: float
    naive_error: float
    tolerance: float
    not_finite: int = 0

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
    kind : str
        What was compared: "substitutions", "blocks", or "pairs".
    """

    engine: str
    judge: str
    note: str
    sequences: int
    substitutions: int
    heads: tuple[HeadCheck, ...]
    kind: str = "substitutions"

    @property
    def passed(self) -> bool:
        return all(head.passed for head in self.heads)

    @property
    def line(self) -> str:
        """The line of the log: both errors of the worst head."""
        worst = max(self.heads, key=lambda head: head.fast_error / max(head.tolerance, 1e-300))
        judge = self.judge if not self.note else f"{self.judge} ({self.note})"
        word = "ok" if self.passed else "failed"
        return "; ".join(
            [
                f"check {word}: {self.substitutions} {self.kind} against plain Keras in {judge}: largest error "
                f"{worst.fast_error:.1e}, plain Keras {worst.naive_error:.1e}, largest delta {worst.largest_delta:.1e}",
                *self.not_finite,
            ]
        )

    @property
    def not_finite(self) -> list[str]:
        """For each head of which plain Keras gives NaN or infinity: how often."""
        return [
            f"head {head.name!r}: NaN or infinity in plain Keras for {head.not_finite:,} deltas"
            for head in self.heads
            if head.not_finite
        ]

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
    multiply_adds: float | None = None,
) -> VerifyReport:
    """Compare the engine with plain Keras on some substitutions.

    Parameters
    ----------
    model : FastISM, keras.Model or path
        An engine, or a model to make one of with the default options. Of an engine for the mean of several models, each
        model is compared by itself.
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
    multiply_adds : float, optional
        Compare fewer substitutions of each sequence, from the first to the last position, if their forward passes in
        one precision have more multiply-adds.

    Returns
    -------
    VerifyReport
        Of several models: for each head, that of the model with the largest error in its tolerance.

    Raises
    ------
    UsageError
        If an input of the model has no values.
    SequenceError
        If a row of ``one_hot`` is neither one-hot nor an N, or an array has a wrong shape.
    ModelError
        If the model draws random numbers, or a prediction depends on the other sequences of its batch.
    """
    scorer = model if isinstance(model, FastISM) else FastISM(model)
    others = other_inputs or {}
    check_all_given(others, scorer.other_shapes, sequence=scorer.sequence_text)
    within = scorer.columns_shown(columns or range(scorer.input_length))
    wanted = per_sequence if positions is None else positions
    return _worst(
        [_verified(one, one_hot, others, wanted, within, tolerance, multiply_adds) for one in scorer.each_model()]
    )


def _worst(reports: Sequence[VerifyReport]) -> VerifyReport:
    """One report of several models: of each head, the check that is the nearest to its tolerance, or beyond."""
    by_name = [{head.name: head for head in report.heads} for report in reports]
    heads = tuple(
        max((heads[name] for heads in by_name), key=lambda head: head.fast_error / max(head.tolerance, 1e-300))
        for name in by_name[0]
    )
    least = next((report for report in reports if report.note), reports[0])
    return replace(least, substitutions=sum(report.substitutions for report in reports), heads=heads)


def _verified(
    scorer: FastISM,
    one_hot: np.ndarray,
    others: Arrays,
    wanted: Sequence[int] | int,
    columns: range,
    tolerance: float | None,
    multiply_adds: float | None,
) -> VerifyReport:
    """Compare the engine of one model, whose weights are in use."""
    if len(one_hot):
        require_steady(scorer, _inputs(scorer, one_hot, others, 0))
    judge = Judge(scorer, most=_affordable(scorer, multiply_adds))
    rows = [_inputs(scorer, one_hot, others, i) for i in range(len(one_hot))]
    samples = [judge.sample(row, wanted, columns) for row in rows]
    heads = tuple(_head_check(judge, i, samples, tolerance) for i in range(len(scorer.heads)))
    substitutions = sum(len(sample.naive[0]) for sample in samples)
    kind = "blocks" if scorer.replaces_blocks else "substitutions"
    return VerifyReport(scorer.engine, judge.precision, judge.note, len(samples), substitutions, heads, kind)


def verify_pairs(
    scorer: FastISM,
    one_hot: np.ndarray,
    other_inputs: Arrays,
    *,
    within: int,
    columns: range,
    multiply_adds: float | None = None,
) -> VerifyReport:
    """Compare what two letters change together with plain Keras, for some pairs of every sequence.

    Parameters
    ----------
    one_hot, other_inputs, multiply_adds : as in :func:`verify`
    within : int
        The largest distance.
    columns : range
        Where both positions lie.
    """
    judge = Judge(scorer, most=_affordable(scorer, multiply_adds))
    rows = [_inputs(scorer, one_hot, other_inputs, i) for i in range(len(one_hot))]
    samples = [judge.sample_of_pairs(row, within, columns) for row in rows]
    heads = tuple(_head_check(judge, i, samples, None) for i in range(len(scorer.heads)))
    pairs = sum(len(sample.naive[0]) for sample in samples)
    engine = scorer.pair_scorer(within).engine
    return VerifyReport(engine, judge.precision, judge.note, len(samples), pairs, heads, kind="pairs")


def _affordable(scorer: FastISM, multiply_adds: float | None) -> int | None:
    """How many substitutions of a sequence have so many multiply-adds in forward passes; None: as many as there are."""
    if multiply_adds is None:
        return None
    return max(LEAST_SUBSTITUTIONS, int(multiply_adds / max(scorer.prepared.plan.full_multiply_adds, 1)))


def _inputs(scorer: FastISM, one_hot: np.ndarray, others: Arrays, i: int) -> dict[str, np.ndarray]:
    """All inputs of sequence ``i``, in the order of the model, with a batch axis of 1."""
    arrays = {**others, scorer.input_names[scorer.sequence_index]: one_hot}
    return {name: np.asarray(arrays[name])[i : i + 1] for name in scorer.input_names}


def _head_check(judge: Judge, i: int, samples: Sequence[Sample], tolerance: float | None) -> HeadCheck:
    check = HeadCheck(
        name=judge.scorer.heads[i].name,
        largest_delta=max((largest(_both_finite(s.naive[i], s.exact[i])[1]) for s in samples), default=0.0),
        largest_value=max((largest(s.values[i]) for s in samples), default=0.0),
        fast_error=max((engine_error(s.fast[i], s.naive[i], s.exact[i]) for s in samples), default=0.0),
        naive_error=max((largest_error(*_both_finite(s.naive[i], s.exact[i])) for s in samples), default=0.0),
        tolerance=0.0,
        not_finite=sum(s.naive[i].size - len(_both_finite(s.naive[i], s.exact[i])[0]) for s in samples),
    )
    return replace(check, tolerance=_tolerance(judge, check) if tolerance is None else tolerance)


def _tolerance(judge: Judge, check: HeadCheck) -> float:
    coarser = COARSER[judge.scorer.precision]
    floor = ABSOLUTE + RELATIVE * coarser * check.largest_delta
    if judge.is_precise:
        return max(TIMES_NAIVE * check.naive_error, floor)
    if judge.scorer.engine == "fast" and quantised_layers(judge.scorer.model):
        floor += QUANTISED * check.largest_delta  # the last bit of a sum can decide to which integer it is rounded
    # the judge has rounded two values of this size itself
    return floor + 16 * coarser * float(np.finfo("float32").eps) * check.largest_value


# --- one sequence, one prediction -------------------------------------------------------------------------------------


def require_steady(scorer: FastISM, inputs: Arrays) -> None:
    """Raise :class:`ModelError` unless a sequence has the same prediction in every call and beside every other one.

    Names the layer that is at fault. ``inputs`` has one sequence, ``(1, ...)`` for each input.
    """
    pair = [ops.concatenate([x, ops.flip(x, 1) if x.ndim > 1 else x]) for x in scorer.forward.tensors(_as_list(inputs))]
    with backend.matrix_precision(scorer.precision):
        if _unsteadiness(scorer.forward.predict, pair) is None:
            return
        raise ModelError(_unsteady_layer(scorer, scorer.prepared.views.expand(pair)))


def _as_list(inputs: Arrays) -> list[np.ndarray]:
    return [np.asarray(x) for x in inputs.values()]


def _unsteadiness(function: Callable[[list[Any]], Sequence[Any]], pair: list[Any]) -> str | None:
    """How the first of two rows depends on more than its inputs, in words; None if it does not."""
    first, again = ([np.asarray(backend.to_numpy(y), "float64") for y in function(pair)] for _ in range(2))
    if not all(agree(y, x) for x, y in zip(first, again, strict=True)):
        return "gives other values at each call: it draws random numbers"
    alone = [np.asarray(backend.to_numpy(y), "float64") for y in function([x[:1] for x in pair])]
    if not all(agree(y, x[:1]) for x, y in zip(first, alone, strict=True)):
        return "gives a sequence other values beside other sequences: it uses the statistics of the batch"
    return None


def _unsteady_layer(scorer: FastISM, arrays: Sequence[Any]) -> str:
    """The message about the first layer of the model at fault."""
    graph = layer_graph(scorer.model, length=scorer.input_length)
    values = graph.run(arrays)
    for node in graph.nodes:
        given = [values[t] for t in node.inputs]
        fault = _unsteadiness(node.call, given)
        if fault is not None:
            inside = backend.training_operations(node.call, given)
            place = f", in {inside[0]}" if inside else ""
            graphs = ", ".join(f"'{name}'" for name in kept_as_graphs(node.layer))
            kept = f" (kept as graphs: {graphs})" if graphs else ""
            return (
                f"layer '{written_name(node.name)}' ({node.class_name}) {fault}{place}{kept}. Mutagenesis needs a "
                "model at inference: save it without training=True"
            )
    return f"model '{scorer.model.name}' predicts other values at each call, or beside other sequences"


def engine_error(fast: np.ndarray, naive: np.ndarray, exact: np.ndarray) -> float:
    """The :func:`largest_error` of the engine, which may be not finite where plain Keras is not."""
    finite, known = (np.isfinite(x) for x in (fast, exact))
    is_undefined = ~np.isfinite(naive)
    if (finite & is_undefined & ~known).any():
        return float("inf")
    compared = known & (finite | ~is_undefined)
    return largest_error(fast[compared], exact[compared])


def _both_finite(found: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    both = np.isfinite(found) & np.isfinite(exact)
    return found[both], exact[both]
