"""The library: in-silico saturation mutagenesis of one model."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from keras import ops

from fastism_cli.engine.fast import FastEngine
from fastism_cli.engine.live_positions import live_positions
from fastism_cli.engine.naive import NaiveEngine
from fastism_cli.engine.open_layers import with_layers_opened
from fastism_cli.engine.plan import Plan
from fastism_cli.engine.planner import make_plan, period_of
from fastism_cli.engine.rewrite import as_run
from fastism_cli.engine.score_arrays import (
    alternates,
    blank,
    column_of,
    empty_delta,
    letters_of,
    one_ahead,
    repeat_duplicates,
    scatter,
)
from fastism_cli.engine.split_windows import with_parts_apart
from fastism_cli.errors import ResourceError, SequenceError, UsageError
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.model import backend
from fastism_cli.model.functional import functional, require_length_fits
from fastism_cli.model.heads import Head, Reduce, Units, choose_heads
from fastism_cli.model.image_layouts import as_sequence_model
from fastism_cli.model.keras_graph import call_model, input_names, layer_graph, output_names
from fastism_cli.model.precision import dtype_of, with_dtype
from fastism_cli.model.reductions import Select
from fastism_cli.model.sequence_inputs import find_views, with_views
from fastism_cli.options.choices import ENGINES, PRECISIONS, SCORED_N_POLICIES
from fastism_cli.options.run_options import parse_codes, parse_tie
from fastism_cli.rules.frames import ChunkCall, cover

# Bytes that the largest stage of one call may fill. On two cores a whole sequence of 1,000 at once was as fast as any
# smaller chunk for three architectures, and 20,000 substitutions up to twice as fast as 4,000 for small models.
WORKING_SET = {"cpu": 400e6, "gpu": 2e9}
MOST_SUBSTITUTIONS = {"cpu": 20_000, "gpu": 60_000}
NAIVE_BATCHES = {"cpu": (32, 128, 512), "gpu": (512, 2048, 8192)}


class MutagenesisResult(NamedTuple):
    """Scores of a batch of sequences.

    Attributes
    ----------
    reference : dict of head name to float32 array, (n, T)
        Predictions on the sequences as they are, in the model's output units.
    delta : dict of head name to float32 array, (n, T, L, letters)
        Substituted minus reference; exactly 0 at the reference letter, NaN where not computed.
        A head kept whole has its own axes in the place of T.
    """

    reference: dict[str, np.ndarray]
    delta: dict[str, np.ndarray]


class Engine(Protocol):
    """What the fast and the naive engine have in common."""

    batch: tuple[int, int, int]

    def reference(self, inputs: Sequence[Any]) -> tuple[list[Any], Any]: ...

    def deltas(self, call: ChunkCall, kept: Any, bases: np.ndarray) -> list[Any]: ...


class FastISM:
    """Score every single-letter substitution of sequences with a Keras model (Nair et al. 2022).

    Parameters
    ----------
    model : keras.Model or path
        A built model, or a file that :func:`fastism_cli.model.loading.load.load_model` reads.
    sequence_input : str or int, optional
        Name or index of the input to substitute in. Default: the only one of shape (length, letters), or of shape
        (length,) that an Embedding reads.
    tie : str, optional
        ``"NAME1,NAME2"``: inputs that hold the same sequence; ``NAME2:rc`` holds its reverse complement. Arrays are
        given for the first (or ``sequence_input``) alone.
    codes : str, optional
        ``"A=1,C=2,G=3,T=4,N=0"``: the integers of the letters in an input that holds integers. Default: the letters'
        places in ``alphabet``, from 0, and N after them.
    length : int, optional
        Length of the sequence, for a model whose input length is variable.
    alphabet : str
        Letters in the order of the model's channels.
    reduce : str, list of str, or dict of head name to either, optional
        How a positional head becomes one number a target: see :mod:`fastism_cli.model.reductions`. Several, in a list
        or joined by commas, give heads ``NAME.REDUCTION``. "none" keeps the head whole. A positional head (shape
        (L_out, T)) must be given one.
    targets : dict of head name to tuple of int, optional
        Score these heads alone, with these of their targets (None: all), chosen on the device.
    batch_size : "auto" or int
        Substituted sequences in one call of the compiled engine.
    precision : "float32", "tf32", "bfloat16" or "float64"
        What the model is computed in.
    engine : "auto", "fast" or "naive"
        Delta propagation, plain forward passes, or whichever is estimated to be faster.
    n_policy : "skip" or "score"
        Whether positions without a reference letter (N) are left NaN, or get all letters substituted.

    Raises
    ------
    ModelError
        If no input of the model can hold a sequence. Lists every input and why.
    UsageError
        If an option does not fit the model, such as a positional head without ``reduce``.
    """

    def __init__(
        self,
        model: Any,
        *,
        sequence_input: str | int | None = None,
        tie: str | None = None,
        codes: str | None = None,
        length: int | None = None,
        alphabet: str = "ACGT",
        reduce: Reduce = None,
        targets: Mapping[str | None, Units | None] | None = None,
        batch_size: str | int = "auto",
        precision: str = "float32",
        engine: str = "auto",
        n_policy: str = "skip",
    ) -> None:
        require_one_of("engine", engine, ENGINES)
        require_one_of("n_policy", n_policy, SCORED_N_POLICIES)
        require_one_of("precision", precision, PRECISIONS)
        if batch_size != "auto" and not (isinstance(batch_size, int) and batch_size > 0):
            raise UsageError(f"batch_size must be 'auto' or a positive int. Received: batch_size={batch_size!r}")
        if isinstance(model, (str, Path)):
            from fastism_cli.model.loading.load import load_model

            model = load_model(model)
        self.alphabet = Alphabet(alphabet)
        self.precision, self.n_policy, self.batch_size = precision, n_policy, batch_size
        tied, integers = parse_tie(tie), parse_codes(codes)
        model = functional(model, length)
        holders: Sequence[str | int | None] = [view.name for view in tied] or [sequence_input]
        for holder in holders:
            model = as_sequence_model(model, self.alphabet.size, holder)
        require_length_fits(model, length)
        self.model = with_dtype(model, dtype_of(precision))
        graph = with_layers_opened(layer_graph(self.model, length=length))
        graph = graph.renamed(input_names(model), output_names(model))
        self.views = find_views(graph, self.alphabet, chosen=sequence_input, tied=tied, codes=integers)
        graph = with_views(graph, self.views, dtype_of(precision))
        self.sequence_index = self.views.sequence_index
        self.input_names = [port.name for port in graph.inputs]
        self.input_shapes = [graph.tensors[port.tensor].shape for port in graph.inputs]
        self.input_dtypes = [graph.tensors[port.tensor].dtype for port in graph.inputs]
        self.input_length = self.input_shapes[self.sequence_index][0]
        shapes = {port.name: graph.tensors[port.tensor].shape for port in graph.outputs}
        self.heads = choose_heads(shapes, reduce, targets, substitutions=self.input_length * self.alphabet.size)
        self.input_tensor = graph.inputs[self.sequence_index].tensor
        self.graph = with_parts_apart(as_run(graph, self.heads), self.input_tensor)
        self.period = period_of(self.graph, self.input_tensor)
        self.plan = self._whole_plan()
        self.engine, self.engine_reason = self._choose(engine, graph.keeps_masks)
        self._engines: dict[tuple[Any, ...], tuple[Engine, list[ChunkCall]]] = {}

    # -- set-up --

    def _whole_plan(self) -> Plan:
        """The plan of a chunk in the middle of the sequence: what `inspect` shows and the estimates rest on."""
        size = min(self.period, self.input_length, 256)
        start = (self.input_length - size) // 2
        return make_plan(self.graph, self.input_tensor, size=size, phase=start % self.period, period=self.period)

    def _choose(self, engine: str, keeps_masks: bool) -> tuple[str, str]:
        if keeps_masks:
            return "naive", "a layer passes a mask on, which only the whole model carries rightly"
        if engine != "auto":
            return engine, "as asked"
        gain = self.plan.predicted_speedup
        if gain < 1.2:
            return "naive", f"delta propagation would save nothing (estimate {gain:.2f}x)"
        return "fast", f"estimate {gain:.1f}x over forward passes"

    # -- scoring --

    def __call__(self, inputs: Any, *, positions: Iterable[int] | None = None) -> MutagenesisResult:
        """Score every substitution of each sequence.

        Parameters
        ----------
        inputs : array (n, L, letters), or a list or dict with the model's other inputs too
            Rows are one-hot; an N is a row of equal numbers (zeros, say).
        positions : iterable of int, optional
            Score only these; the length axis of ``delta`` has one entry for each, in this order.

        Returns
        -------
        MutagenesisResult

        Raises
        ------
        SequenceError
            If an array has another shape than the model's input, or a row is neither one-hot nor an N.
        """
        arrays = self._arrays(inputs)
        one_hot = arrays[self.sequence_index]
        codes = letters_of(one_hot)
        self._require_known(one_hot, codes)
        wanted = self._positions(positions)
        reference = {h.name: np.empty((len(codes), *h.shape), "float32") for h in self.heads}
        delta = {h.name: empty_delta(h.shape, codes[:, wanted], self.alphabet.size) for h in self.heads}
        if len(codes) and len(wanted):
            with backend.matrix_precision(self.precision):
                self._score(arrays, codes, wanted, reference, delta)
        elif len(codes):
            with backend.matrix_precision(self.precision):
                self._reference_only(arrays, reference)
        return MutagenesisResult(reference, delta)

    def _arrays(self, inputs: Any) -> list[np.ndarray]:
        if isinstance(inputs, Mapping):
            missing = [name for name in self.input_names if name not in inputs]
            if missing:
                raise SequenceError(f"The model's inputs {missing} are not given. Received: {sorted(inputs)}")
            inputs = [inputs[name] for name in self.input_names]
        if not isinstance(inputs, (list, tuple)):
            inputs = [inputs]
        if len(inputs) != len(self.input_names):
            raise SequenceError(
                f"The model has {len(self.input_names)} inputs ({', '.join(self.input_names)}). Received: {len(inputs)}"
            )
        arrays = [np.asarray(x) for x in inputs]
        arrays[self.sequence_index] = self.views.one_hot(
            arrays[self.sequence_index], self.input_names[self.sequence_index]
        )
        n = len(arrays[self.sequence_index]) if arrays[self.sequence_index].ndim else 0
        for name, shape, x in zip(self.input_names, self.input_shapes, arrays, strict=True):
            if x.shape != (n, *shape):
                raise SequenceError(
                    f"Input {name!r} must have shape ({n}, {', '.join(map(str, shape))}). Received: {x.shape}"
                )
        return arrays

    def _require_known(self, one_hot: np.ndarray, codes: np.ndarray) -> None:
        """Raise :class:`SequenceError` for an N that an input of integers has nothing to show for."""
        is_n = codes == self.alphabet.size
        if not self.views.is_coded or not is_n.any():
            return
        if not self.views.knows_unknown:
            raise SequenceError(
                "A sequence holds an N, for which the model has no integer. Leave it out (--max-n 0), or name the "
                "integer of N with --codes."
            )
        if one_hot[is_n].any():
            raise SequenceError("An N must be a row of zeros where the model takes integers.")

    def _positions(self, positions: Iterable[int] | None) -> np.ndarray:
        if positions is None:
            return np.arange(self.input_length)
        wanted = np.asarray(list(positions), dtype=int)
        if wanted.size and not (0 <= wanted.min() and wanted.max() < self.input_length):
            raise UsageError(
                f"positions must lie in [0, {self.input_length}). Received: {wanted.min()} to {wanted.max()}"
            )
        return wanted

    def _score(self, arrays: Any, codes: np.ndarray, wanted: np.ndarray, reference: Any, delta: Any) -> None:
        n, done = len(codes), 0
        for values in delta.values():
            values[..., self._dead(wanted), :] = 0
        while done < n:
            size = self._batch()
            engine, calls = self._engine(wanted, n - done, size)
            rows = slice(done, min(done + engine.batch[0], n))
            try:
                self._score_batch(engine, calls, arrays, codes, rows, wanted, reference, delta)
            except Exception as error:
                if not backend.is_out_of_memory(error):
                    raise
                self._halve(size, error)
                continue
            done = rows.stop

    def _score_batch(
        self,
        engine: Engine,
        calls: Any,
        arrays: Any,
        codes: np.ndarray,
        rows: slice,
        wanted: Any,
        reference: Any,
        delta: Any,
    ) -> None:
        """Score the sequences of one batch, filled up by repeating the last one."""
        sequences, size, _ = engine.batch
        take = np.minimum(np.arange(rows.start, rows.start + sequences), rows.stop - 1)
        batch = self._tensors([x[take] for x in arrays])
        outputs, kept = engine.reference(batch)
        count = rows.stop - rows.start
        for head, output in zip(self.heads, outputs, strict=True):
            reference[head.name][rows] = np.reshape(backend.to_numpy(output), (sequences, *head.shape))[:count]
        columns = column_of(wanted, self.input_length)

        def started() -> Iterator[tuple[np.ndarray, np.ndarray, list[Any]]]:
            """Columns of ``delta``, letters, and scores that may still be on their way, of each call."""
            for call in calls:
                if not (columns[call.start : call.start + size] >= 0).any():
                    continue
                at = np.append(columns, -1)[np.minimum(call.start + np.arange(size), self.input_length)]
                for bases in alternates(codes[take], call.start, size, self.alphabet.size, self.n_policy):
                    yield at, bases, engine.deltas(call, kept, bases)

        for at, bases, deltas in one_ahead(started()):
            for head, values in zip(self.heads, deltas, strict=True):
                scatter(delta[head.name][rows], backend.to_numpy(values), at, bases[:count])
        repeat_duplicates(delta, rows, wanted, columns)
        if self.n_policy == "skip":
            blank(delta, rows, codes[rows][:, wanted] >= self.alphabet.size)

    def _tensors(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        return [self._tensor(x, dtype) for x, dtype in zip(arrays, self.input_dtypes, strict=True)]

    def _tensor(self, x: np.ndarray, dtype: str) -> Any:
        return ops.convert_to_tensor(x.astype(dtype if "int" in dtype or "bool" in dtype else dtype_of(self.precision)))

    def compare(self, inputs: Any, reference: Any) -> dict[str, np.ndarray]:
        """What the heads of other sequences are, less those of ``reference``, by forward passes.

        Parameters
        ----------
        inputs, reference : as of a call, of the same number of sequences
            Each sequence is compared with that in its place; they may differ in any way.

        Returns
        -------
        dict of head name to float32 array (n, *shape)
        """
        both = [self._arrays(x) for x in (inputs, reference)]
        for arrays in both:
            one_hot = arrays[self.sequence_index]
            self._require_known(one_hot, letters_of(one_hot))
        with backend.matrix_precision(self.precision):
            whole, before = (self._predict(self._tensors(arrays)) for arrays in both)
            pairs = zip(self.reduced(whole, before), self.reduced(before, before), strict=True)
            deltas = [backend.to_numpy(new) - backend.to_numpy(old) for new, old in pairs]
        return {head.name: np.reshape(delta, (-1, *head.shape)) for head, delta in zip(self.heads, deltas, strict=True)}

    def _reference_only(self, arrays: Any, reference: Any) -> None:
        whole = self._predict(self._tensors(arrays))
        outputs = self.reduced(whole, whole)
        for head, output in zip(self.heads, outputs, strict=True):
            reference[head.name][:] = np.reshape(backend.to_numpy(output), (-1, *head.shape))

    def predict(self, model: Any, arrays: Sequence[Any]) -> list[Any]:
        """Plain Keras on the inputs that are scored: for each head its chosen targets, not reduced.

        ``model`` is ``self.model``, or the same in another precision.
        """
        outputs = call_model(model, self.views.expand(arrays))
        return [_targets_of(head, outputs[head.source]) for head in self.heads]

    def reduced(self, whole: Sequence[Any], reference: Sequence[Any]) -> list[Any]:
        """Heads as they are scored, from what :meth:`predict` gives for them and for their references."""
        reductions = (head.reduction for head in self.heads)
        return [r(y, x) if r else y for r, y, x in zip(reductions, whole, reference, strict=True)]

    def _predict(self, arrays: Sequence[Any]) -> list[Any]:
        return self.predict(self.model, arrays)

    # -- batches --

    def _batch(self) -> int:
        """Substitutions in one call."""
        if isinstance(self.batch_size, int):
            return self.batch_size
        kind = backend.device_kind()
        if self.engine == "naive":
            return self._naive_batch
        return int(max(24, min(MOST_SUBSTITUTIONS[kind], WORKING_SET[kind] / (4 * self.plan.working_set))))

    @cached_property
    def _naive_batch(self) -> int:
        """The batch of forward passes with the least time a sequence, tried on blank sequences."""
        others = self.alphabet.size - 1
        blank = [np.zeros((1, *shape), "float32") for shape in self.input_shapes]
        seconds: dict[int, float] = {}
        for batch in NAIVE_BATCHES[backend.device_kind()]:
            if seconds and batch > self.input_length * others:
                break
            try:
                seconds[batch] = self._time_naive(blank, max(batch // others, 1)) / batch
            except Exception as error:
                if not (seconds and backend.is_out_of_memory(error)):
                    raise
                break
        return min(seconds, key=seconds.__getitem__)

    def _time_naive(self, blank: Sequence[np.ndarray], positions: int) -> float:
        """Seconds of one call over so many positions of a single sequence, after a call to compile."""
        others = self.alphabet.size - 1
        shape = {"size": positions, "sequences": 1, "alternates": others, "variables": self.model.variables}
        engine = NaiveEngine(self._predict, self.reduced, self.sequence_index, **shape)
        _, kept = engine.reference(self._tensors(blank))
        bases = np.zeros((1, positions, others), "int32")
        for _ in range(2):
            began = time.perf_counter()
            [backend.to_numpy(x) for x in engine.deltas(ChunkCall(0, 0, 0), kept, bases)]
            spent = time.perf_counter() - began
        return spent

    @cached_property
    def live(self) -> range:
        """The positions that can change an output: the fast engine computes no others."""
        return live_positions(self.graph, self.input_tensor)

    def _dead(self, positions: np.ndarray) -> np.ndarray:
        """Which of these positions no output sees, bool. Forward passes take none on trust."""
        if self.engine == "naive":
            return np.zeros(len(positions), bool)
        return (positions < self.live.start) | (positions >= self.live.stop)

    def _halve(self, size: int, error: BaseException) -> None:
        smallest = self.alphabet.size - 1
        if size <= smallest:
            raise ResourceError(
                f"Out of memory with {size} substitutions in one call; the model does not fit the device."
            ) from error
        self.batch_size = max(size // 2, smallest)
        self._engines.clear()

    def _engine(self, wanted: np.ndarray, sequences: int, substitutions: int) -> tuple[Engine, list[ChunkCall]]:
        """The compiled engine for chunks over these positions; made once for each batch shape."""
        live = wanted[~self._dead(wanted)]
        first, stop = (int(live.min()), int(live.max()) + 1) if len(live) else (int(wanted[0]), int(wanted[0]) + 1)
        others = self.alphabet.size - 1
        size = max(substitutions // others, 1)
        period = self.period if self.engine == "fast" else 1
        size, calls = cover(first, stop, size=size, period=period)
        together = max(min(substitutions // (others * size), sequences), 1)
        key = (first, stop, size, together)
        if key not in self._engines:
            shape = {"size": size, "sequences": together, "alternates": others, "variables": self.model.variables}
            engine: Engine
            if self.engine == "fast":
                engine = FastEngine(self.graph, self.input_tensor, calls, period=period, **shape)
            else:
                engine = NaiveEngine(self._predict, self.reduced, self.sequence_index, **shape)
            self._engines[key] = engine, calls
        return self._engines[key]


def require_one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} must be one of {', '.join(allowed)}. Received: {name}={value!r}")


def _targets_of(head: Head, output: Any) -> Any:
    is_whole = head.units is None or head.is_reduced_flat
    return output if is_whole else Select(head.units or ())(output)


__all__ = ["FastISM", "Head", "MutagenesisResult"]
