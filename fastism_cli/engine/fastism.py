"""In-silico saturation mutagenesis of a model, or the mean of several: the public class."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from fastism_cli.engine.averaged import Averaged, Job
from fastism_cli.engine.batching import Batching, BatchLoop, Scorer, Task
from fastism_cli.engine.changes import Changes, Replacing, Substitutions, refuse_without_replacement
from fastism_cli.engine.forward import ForwardPasses, number_of_shared_weights, require_same_ports
from fastism_cli.engine.inputs_and_scores import GivenInputs, Inputs, MutagenesisResult, OtherInput, PairsResult
from fastism_cli.engine.pairs import PairScorer
from fastism_cli.engine.prepare import Prepared, choose_engine, prepare
from fastism_cli.errors import UsageError
from fastism_cli.genome.alphabet import Alphabet, Codes
from fastism_cli.model.graph import Shape
from fastism_cli.model.heads import Head
from fastism_cli.model.loading.load import ModelSource
from fastism_cli.model.quiet import quiet_libraries
from fastism_cli.model.sequence_inputs import integers_known
from fastism_cli.options.averages import Averages, Pass, parse_averages
from fastism_cli.options.choices import ENGINES, PRECISIONS, SAMPLES, SCORED_N_POLICIES, Reduce, Units
from fastism_cli.rules.frames import Blocks
from fastism_cli.scores.labelled import check_memory, memory_of_machine

FEWER_PAIRS = "Choose fewer sequences or targets, a smaller window, or a smaller distance."


class Asked(NamedTuple):
    """What a user asked for, besides the model and how it is read."""

    engine: str
    batch_size: str | int
    n_policy: str
    replace_with: Any
    width: int | None
    step: int | None
    ranges: Sequence[tuple[int, int]] | None
    samples: int
    seed: int


class FastISM:
    """Score every single-letter substitution of sequences with a Keras model (Nair et al. 2022), or blocks.

    Parameters
    ----------
    model : keras.Model or path, or a list of them
        A built model, or a file that :func:`fastism_cli.load_model` reads. Of several with the same inputs and heads,
        the mean is scored; those of one architecture share what is compiled.
    sequence_input : str or int, optional
        Name or index of the input to substitute in. Default: the only input of shape (length, letters), or of shape
        (length,) that an Embedding reads.
    tie : str, optional
        ``"NAME1,NAME2"``: inputs that hold the same sequence; ``NAME2:rc`` holds its reverse complement. Only the
        first of them (or ``sequence_input``) is given an array.
    codes : str, optional
        ``"A=1,C=2,G=3,T=4,N=0"``: the integers of the letters, in an input that holds integers. Default: 0, 1, ... in
        the order of ``alphabet``, and N after them.
    length : int, optional
        Length of the sequence, for a model whose input length is variable.
    alphabet : str
        Letters in the order of the model's channels.
    reduce : str, callable, list of them, or dict of head name to either, optional
        How a positional head (shape (L_out, T)) becomes one number for each target: see
        :mod:`fastism_cli.model.reductions`. Several, in a list or joined by commas, give heads ``NAME.REDUCTION``.
        "none" keeps all positions. A function takes predictions (n, *shape) and gives (n, targets); write it with
        ``keras.ops``. A positional head must be given one of these.
    targets : dict of head name to tuple of int, optional
        Score only these heads, and only these of their targets (None: all).
    batch_size : "auto" or int
        Substituted sequences in one call of the compiled engine.
    precision : "float32", "tf32", "bfloat16" or "float64"
        The number format of the computation.
    engine : "auto", "fast" or "naive"
        "fast" propagates deltas, "naive" makes plain forward passes, "auto" takes the one with the smaller estimate.
    n_policy : "skip" or "score"
        Positions that hold an N: "skip" leaves them NaN, "score" substitutes all letters. Blocks that hold an N are
        scored in any case.
    replace_with : str, number or array, optional
        Replace whole blocks instead of single letters. "N": what the model sees for an N, zeros. "background" or
        "background:0.3,0.2,0.2,0.3": frequencies of the letters. Letters: a motif as it is read. "shuffle": the
        block's own letters in ``samples`` random orders, of which the mean is scored. "reverse-complement". A number,
        or an array (letters,), (width, letters) or (A, width, letters) of A contents; a name of such a ``.npy`` file.
    width, step : int, optional
        Of the blocks: how wide they are, and from one start to the next. The blocks are those that lie in the sequence
        as a whole, from its first position on. Default: the replacement's own width, and a step of that width.
    ranges : sequence of (start, end), optional
        In place of ``width`` and ``step``: these blocks, of any widths, in any order.
    samples, seed : int
        Of "shuffle". All sequences are shuffled alike.
    scale : str or list of str
        ``"[HEAD=]logit"`` takes a head before its last sigmoid or softmax, ``"[HEAD=]log2[:C]"`` is ``log2(y + C)``
        of the reduced head (C is 1). Reference and delta are on that scale.
    rc : bool
        Score the mean of each sequence and its reverse complement. Positions of heads that keep them are turned back.
    rc_pairs : str or list of str
        ``"[HEAD=]0:1,2:3"``: targets that stand for the two strands, which the reverse complement exchanges.
    shifts : sequence of int, or str
        ``(-1, 0, 1)``: score the mean of inputs that begin so many positions later. Sequences may come with the
        positions around the input that these show, ``context`` of them before and behind; otherwise N are there.
    average : "scores" or "outputs"
        Whether the scores are averaged, or what the heads give before ``reduce`` and ``log2``.
    spread : bool
        Whether the result has the standard deviation of ``delta`` over the models (that of all, not of a sample).

    Raises
    ------
    ModelError
        If no input of the model can hold a sequence. Lists every input and the reason.
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
        reduce: Reduce | None = None,
        targets: Mapping[str | None, Units | None] | None = None,
        batch_size: str | int = "auto",
        precision: str = "float32",
        engine: str = "auto",
        n_policy: str = "skip",
        replace_with: Any = None,
        width: int | None = None,
        step: int | None = None,
        ranges: Sequence[tuple[int, int]] | None = None,
        samples: int = SAMPLES,
        seed: int = 0,
        scale: str | Sequence[str] = (),
        rc: bool = False,
        rc_pairs: str | Sequence[str] = (),
        shifts: str | Sequence[int] | None = None,
        average: str = "scores",
        spread: bool = False,
    ) -> None:
        require_one_of("engine", engine, ENGINES)
        require_one_of("n_policy", n_policy, SCORED_N_POLICIES)
        require_one_of("precision", precision, PRECISIONS)
        require_batch_size(batch_size)
        asked = parse_averages(rc=rc, rc_pairs=rc_pairs, shifts=shifts, average=average, spread=spread)
        models = list(model) if isinstance(model, (list, tuple)) else [model]
        if not models:
            raise UsageError("There is no model: give one, or several.")
        if spread and len(models) < 2:
            raise UsageError("--spread is the deviation over several models. Received: one model")
        is_mean = len(models) > 1 or not asked.is_plain
        self.averages = Averages()
        self.n_policy = n_policy
        self._asked = Asked(engine, batch_size, n_policy, replace_with, width, step, ranges, samples, seed)
        make = partial(
            prepare,
            alphabet=alphabet,
            precision=precision,
            sequence_input=sequence_input,
            tie=tie,
            codes=codes,
            length=length,
            reduce=reduce,
            targets=targets,
            scale=scale,
            averages=asked if is_mean else Averages(),
        )
        self.weights = 0
        self.averaged: Averaged | None = None
        self._members: list[FastISM] = []
        self._set_up(make(ModelSource.of(models[0]).load(), engine=engine))
        if is_mean:
            members = [copy(self)]
            for source in map(ModelSource.of, models[1:]):
                members.append(_member(members, source, make))
            self._members, self.averages, self.averaged = members, asked, Averaged(members, asked)

    def _set_up(self, prepared: Prepared) -> None:
        """Make the engines for a model."""
        _, batch_size, n_policy, replace_with, width, step, ranges, samples, seed = self._asked
        self.forward = ForwardPasses(prepared)
        self._pair_scorers: dict[int, PairScorer] = {}
        self.block_ranges: tuple[tuple[int, int], ...] = ()
        self.step: int | None = None
        if replace_with is None:
            refuse_without_replacement(width=width, step=step, ranges=ranges)
            changes = Substitutions(prepared.alphabet.size, n_policy)
            self.engine, self.engine_reason = choose_engine(prepared, self._asked.engine)
            self.scorers = [self._scorer(prepared, changes, batch_size)]
            return
        replacing = Replacing(replace_with, samples, seed, prepared.views)
        self.block_ranges = replacing.ranges(prepared.input_length, width, step, ranges)
        self.step = None if ranges is not None else step or replacing.width(width)
        found = replacing.by_width(self.block_ranges, self.step)
        engine = self._asked.engine
        ready = [(prepared.for_blocks(Blocks.of(s, c.width), c.alternates, engine), c, s, at) for c, s, at in found]
        self.engine, self.engine_reason = choose_engine(ready[0][0], engine)
        self.scorers = [self._scorer(p, c, batch_size, s, at) for p, c, s, at in ready]

    def with_weights(self, number: int) -> FastISM:
        """The same engine for another model of the architecture, by the number of its weights."""
        other = copy(self)
        other.weights = number
        return other

    def of_model(self, prepared: Prepared, **others: Any) -> FastISM:
        """An engine for another model, with the same options but for those in ``others``."""
        other = copy(self)
        other.weights, other._asked = 0, self._asked._replace(**others)
        other._set_up(prepared)
        return other

    def use_weights(self) -> None:
        """Put this model's weights into the variables that models of one architecture share."""
        self.prepared.weights.use(self.weights)

    def each_model(self) -> Iterator[FastISM]:
        """Each model by itself, without averages; its weights are in use until the next one comes."""
        with self._own_weights_after():
            for member in self._members or [self]:
                member.use_weights()
                yield member

    @contextmanager
    def _own_weights_after(self) -> Iterator[None]:
        """Give models that were loaded by the user their own weights back."""
        try:
            yield
        finally:
            for member in self.averaged.members if self.averaged else []:
                member.prepared.weights.use(0)

    def _scorer(
        self,
        prepared: Prepared,
        changes: Changes,
        batch_size: str | int,
        starts: np.ndarray | None = None,
        columns: np.ndarray | None = None,
    ) -> Scorer:
        batching = Batching(prepared, self.forward, changes, self.engine, batch_size)
        loop = BatchLoop(prepared, self.forward, batching)
        return Scorer(prepared, changes, batching, loop, starts, columns)

    # -- the model --

    @property
    def prepared(self) -> Prepared:
        """The model as it was set up, for the widest blocks if there are several."""
        return self.scorers[0].prepared

    @property
    def batching(self) -> Batching:
        """The calls of the engine, for the widest blocks if there are several."""
        return self.scorers[0].batching

    @property
    def changes(self) -> Changes:
        """What is put in the place of the reference."""
        return self.scorers[0].changes

    @property
    def replaces_blocks(self) -> bool:
        """Whether blocks are replaced, not single letters."""
        return bool(self.block_ranges)

    @property
    def model(self) -> Any:
        """The Keras model, in the chosen precision."""
        return self.prepared.model

    @property
    def precision(self) -> str:
        return self.prepared.precision

    @property
    def alphabet(self) -> Alphabet:
        return self.prepared.alphabet

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads that are scored."""
        return self.prepared.scored if self.averaged else self.prepared.heads

    @property
    def input_names(self) -> list[str]:
        """The inputs that need arrays, in the order of the model."""
        return self.prepared.input_names

    @property
    def input_shapes(self) -> list[Shape]:
        """The shape of each input without the batch axis."""
        return self.prepared.input_shapes

    @property
    def input_length(self) -> int:
        """How many positions the sequence has."""
        return self.prepared.input_length

    @property
    def sequence_index(self) -> int:
        """The index of the input that is the sequence."""
        return self.prepared.sequence_index

    @property
    def other_shapes(self) -> dict[str, Shape]:
        """The shapes of the inputs that are not the sequence, without the batch axis."""
        pairs = zip(self.input_names, self.input_shapes, strict=True)
        return {name: shape for i, (name, shape) in enumerate(pairs) if i != self.sequence_index}

    @property
    def other_inputs(self) -> dict[str, OtherInput]:
        """The same, with what their arrays may hold."""
        kinds, graph = dict(zip(self.input_names, self.prepared.input_dtypes, strict=True)), self.prepared.graph
        tensors = {port.name: port.tensor for port in graph.inputs}
        return {
            name: OtherInput(shape, kinds[name], integers_known(graph, tensors[name]))
            for name, shape in self.other_shapes.items()
        }

    @property
    def sequence_text(self) -> str:
        """Name and shape of the input that is the sequence: "'dna' (64, 4)"."""
        return f"{self.input_names[self.sequence_index]!r} {self.input_shapes[self.sequence_index]}"

    @property
    def times(self) -> int:
        """How many passes of how many models the mean is over: 1 if it is no mean."""
        return len(self.averaged.members) * len(self.averages.passes) if self.averaged else 1

    @property
    def context(self) -> tuple[int, int]:
        """How many positions before the input, and behind it, moved inputs show."""
        return self.averages.before, self.averages.after

    def starts_in(self, window: range) -> np.ndarray:
        """Where changes begin that lie in a window of the sequence as a whole, int (p,): its positions, or blocks.

        Blocks of one width and step begin with the window.

        Raises
        ------
        UsageError
            If no block lies in it, or blocks are of several widths.
        """
        if not self.replaces_blocks:
            return np.arange(window.start, window.stop)
        if len(self.scorers) > 1:
            raise UsageError("A window holds blocks of one width. Give ranges of one width, or no window.")
        width, starts = self.changes.width, [start for start, _ in self.block_ranges]
        if self.step is not None:
            starts = list(range(window.start, window.stop - width + 1, self.step))
        found = np.array([start for start in starts if window.start <= start <= window.stop - width], int)
        if not len(found):
            raise UsageError(f"No block of {width} positions lies in a window of {len(window)}.")
        return found

    def columns_shown(self, window: range) -> range:
        """The positions of inputs that are computed for a window: those of moved and turned inputs too, if together."""
        if not self.averaged or self.replaces_blocks:
            return window
        asked = self.averaged.places(0, self.starts_in(window))[0].asked
        return range(int(asked.min()), int(asked.max()) + 1) if len(asked) else window

    def sequences_per_call(self, columns: range) -> int:
        """How many sequences one call holds when it scores the positions ``columns``."""
        positions, most = self.starts_in(columns), 2**31
        if self.averaged:
            places = self.averaged.places(0, positions)
            positions = max((place.asked for place in places), key=len)
            if not len(positions):
                return 1
            most = self.averaged.sequences_at_once(0, len(positions)) if self.averaged.is_whole else most
        engine, _ = self.batching.engine_for(positions, most, self.batching.substitutions)
        return engine.batch[0]

    @property
    def _given(self) -> GivenInputs:
        return GivenInputs(self.prepared, self.context)

    # -- scoring --

    def __repr__(self) -> str:
        heads = ", ".join(_head_text(head) for head in self.heads)
        return (
            f"<FastISM of {self.model.name!r}: input {self.sequence_text}, heads: {heads}, "
            f"engine {self.engine} ({self.engine_reason}), {self.precision}{self._mean_text}>"
        )

    @property
    def _mean_text(self) -> str:
        return f", mean of {self.averages.text(len(self.averaged.members))}" if self.averaged else ""

    def __call__(
        self, inputs: Any, *, positions: Iterable[int] | None = None, progress: bool = False
    ) -> MutagenesisResult:
        """Score every substitution of each sequence.

        Parameters
        ----------
        inputs : array (n, L, letters), str, list of str, or a list or dict with the model's other inputs too
            Rows are one-hot; an N is a row of equal numbers (zeros, say). One sequence may come without its first axis,
            and a sequence as text: "ACGT...", whose other letters are N. With ``shifts``, L may be that of the input
            and its ``context`` together.
        positions : iterable of int, optional
            Score only these; the length axis of ``delta`` has one entry for each, in this order. For blocks of one
            width: where they begin.
        progress : bool
            Whether to show a bar.

        Returns
        -------
        MutagenesisResult
            For blocks, ``delta[head]`` is (n, T, blocks, contents), in the order of ``block_ranges``.

        Raises
        ------
        SequenceError
            If an array has another shape than the model's input, or a row is neither one-hot nor an N.
        """
        return self._result(self._given.of(inputs), positions, progress=progress)

    def score_codes(
        self,
        codes: Codes,
        others: Mapping[str, np.ndarray] | None = None,
        *,
        positions: Iterable[int] | None = None,
        window: range | None = None,
    ) -> MutagenesisResult:
        """Score every substitution of sequences given as letter codes.

        Parameters
        ----------
        codes : uint8 (n, L)
            Indices into the alphabet; ``alphabet.size`` is an N. They become one-hot on the device.
        others : mapping of input name to array (n, ...), optional
            The inputs that are not the sequence.
        positions : iterable of int, optional
            As in a call.
        window : range, optional
            In place of ``positions``: score only these. The length axis of ``delta`` still has all positions of the
            sequence, with NaN outside of the window; or the blocks of :meth:`starts_in`.

        Returns
        -------
        MutagenesisResult
        """
        if window is None:
            return self._result(self._given.of_codes(codes, others), positions)
        return next(self.score_stream([(codes, others or {})], window=window))

    def score_stream(
        self, batches: Iterable[tuple[Codes, Mapping[str, np.ndarray]]], *, window: range
    ) -> Iterator[MutagenesisResult]:
        """Score many batches of sequences; the device begins with the next one before the last one is read.

        Parameters
        ----------
        batches : iterable of (codes, others)
            As in :meth:`score_codes`; at most two are taken from it ahead of the result.
        window : range
            As in :meth:`score_codes`.

        Yields
        ------
        MutagenesisResult
            One for each batch, in their order.
        """
        if self.averaged:
            yield from self._stream_of_means(self.averaged, batches, window)
            return
        complete: deque[dict[str, np.ndarray]] = deque()
        scorer, wanted = self.scorers[0], self.starts_in(window)
        inside = slice(None) if self.replaces_blocks else slice(window.start, window.stop)

        def tasks() -> Iterator[Task]:
            for codes, others in batches:
                n_positions = len(wanted) if self.replaces_blocks else self.input_length
                complete.append(self._no_deltas(scorer, len(codes), n_positions))
                part = {name: x[..., inside, :] for name, x in complete[-1].items()}
                yield self.task(0, self._given.of_codes(codes, others), wanted, delta=part)

        for task in scorer.loop.scored(tasks()):
            yield self._whole(task, complete.popleft())

    def _stream_of_means(
        self, averaged: Averaged, batches: Iterable[tuple[Codes, Mapping[str, np.ndarray]]], window: range
    ) -> Iterator[MutagenesisResult]:
        wanted, given = self.starts_in(window), deque[Inputs]()

        def jobs() -> Iterator[Job]:
            for codes, others in batches:
                given.append(self._given.of_codes(codes, others))
                yield Job(given[-1], wanted)

        with self._own_weights_after():
            for result in averaged.scored(0, jobs()):
                inputs = given.popleft()
                yield result if self.replaces_blocks else self._at_all_positions(result, inputs, window)

    def _at_all_positions(self, result: MutagenesisResult, inputs: Inputs, window: range) -> MutagenesisResult:
        """A result for a window as one for all positions of the input, NaN outside of the window."""
        before, length = self.averages.before, self.input_length

        def wide(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            sides = (window.start, length - window.stop)
            return {name: _padded(x, sides) for name, x in arrays.items()}

        seq = inputs.codes[:, before : before + length]
        spread = wide(result.spread) if result.spread else None
        return replace(result, delta=wide(result.delta), spread=spread, seq=seq, positions=np.arange(length))

    def compare(self, inputs: Any, reference: Any) -> dict[str, np.ndarray]:
        """Predict sequences and their references by forward passes, and subtract.

        Parameters
        ----------
        inputs, reference : as in a call, both with n sequences
            Each sequence is compared with the reference in its place; the two can differ in any way.

        Returns
        -------
        dict of head name to float32 array (n, *shape)
        """
        return self._compared(self._given.of(inputs), self._given.of(reference))

    def compare_codes(
        self, codes: Codes, reference: Codes, others: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Do what :meth:`compare` does, for letter codes (n, L) with the same other inputs."""
        return self._compared(self._given.of_codes(codes, others), self._given.of_codes(reference, others))

    def _compared(self, inputs: Inputs, reference: Inputs) -> dict[str, np.ndarray]:
        if self.averaged:
            with self._own_weights_after():
                return self.averaged.compare(inputs, reference)
        self.use_weights()
        return self.forward.compare(inputs.arrays, reference.arrays)

    # -- pairs --

    def pair_scorer(self, within: int) -> PairScorer:
        """What scores pairs of positions at most ``within`` apart; its engines are made once.

        Raises
        ------
        UsageError
            If blocks are replaced, or the input has no two positions so far apart.
        """
        if self.replaces_blocks:
            raise UsageError("Pairs are of single letters: leave replace_with out.")
        if self.averaged:
            raise UsageError("Pairs are of one model as it is: leave rc, shifts and further models out.")
        if not isinstance(within, int):
            raise UsageError(f"within must be a whole number of positions. Received: {within!r:.80}")
        if within not in self._pair_scorers:
            self._pair_scorers[within] = PairScorer(
                self.prepared,
                self.forward,
                within=within,
                engine=self._asked.engine,
                batch_size=self._asked.batch_size,
                n_policy=self.n_policy,
            )
        return self._pair_scorers[within]

    def pairs(self, inputs: Any, *, within: int, window: range | None = None, progress: bool = False) -> PairsResult:
        """Score all letters of every two positions that lie at most ``within`` apart, and single letters.

        Parameters
        ----------
        inputs : as in a call
        within : int
            The largest distance, D.
        window : range, optional
            Score only pairs of which both positions lie in it.
        progress : bool
            Whether to show a bar.

        Returns
        -------
        PairsResult
            ``interaction[head]`` is (n, T, P, D, letters, letters), beside ``delta[head]`` (n, T, P, letters).

        Raises
        ------
        UsageError
            If ``within`` or ``window`` do not fit the input.
        OutputError
            If the result does not fit into memory. Says how large it would be.
        """
        scorer, given = self.pair_scorer(within), self._given.of(inputs)
        inside = self._window(window)
        wanted = len(given.codes) * self.pair_bytes(within, len(inside))
        check_memory(wanted, memory_of_machine(), what="The interactions take", hint=FEWER_PAIRS)
        self.use_weights()
        single = self._result(given, inside)
        total = len(given.codes) * scorer.count(inside)
        with quiet_libraries(), tqdm(total=total, unit=" pairs", disable=not progress) as bar:
            found = scorer.interactions(given, single.delta, inside, lambda n: bar.update(min(n, total - bar.n)))
        return _with_pairs(single, found)

    def pair_bytes(self, within: int, positions: int) -> int:
        """Bytes of the interactions of one sequence, of so many positions."""
        return 4 * sum(prod(head.shape) for head in self.heads) * positions * within * self.alphabet.size**2

    def score_pairs(
        self, codes: Codes, others: Mapping[str, np.ndarray] | None = None, *, within: int, window: range
    ) -> PairsResult:
        """Do what :meth:`pairs` does for letter codes; the single scores are those of :meth:`score_codes`."""
        single = self.score_codes(codes, others, window=window)
        part = {name: x[..., window.start : window.stop, :] for name, x in single.delta.items()}
        found = self.pair_scorer(within).interactions(self._given.of_codes(codes, others), part, window)
        return _with_pairs(single, found)

    def _window(self, window: range | None) -> range:
        if window is None:
            return range(self.input_length)
        if window.step != 1 or not 0 <= window.start < window.stop <= self.input_length:
            raise UsageError(f"window must be a range of positions from 0 to {self.input_length}. Received: {window}")
        return window

    def _positions(self, positions: Iterable[int]) -> np.ndarray:
        if len(self.scorers) > 1:
            raise UsageError("positions: these blocks are of several widths. Leave positions out.")
        wanted = np.asarray(list(positions), dtype=int)
        stop = self.input_length - self.changes.width + 1
        if wanted.size and not (0 <= wanted.min() and wanted.max() < stop):
            raise UsageError(f"positions must lie in [0, {stop}). Received: {wanted.min()} to {wanted.max()}")
        return wanted

    # -- tasks --

    def _no_deltas(self, scorer: Scorer, n: int, positions: int) -> dict[str, np.ndarray]:
        """NaN for every head, (n, *shape, positions, letters), or (n, *shape, blocks, contents)."""
        columns = scorer.changes.columns
        heads = self.prepared.heads
        return {h.name: np.full((n, *h.shape, positions, columns), np.nan, "float32") for h in heads}

    def _result(self, inputs: Inputs, positions: Iterable[int] | None, *, progress: bool = False) -> MutagenesisResult:
        wanted = [self._all_starts(s) for s in self.scorers] if positions is None else [self._positions(positions)]
        total = self.times * len(inputs.codes) * sum(map(len, wanted))
        bars = tqdm(total=total, unit=" positions", disable=not progress)
        with quiet_libraries(), self._own_weights_after(), bars as bar:

            def advance(positions: int) -> None:
                bar.update(min(positions, total - bar.n))

            parts = [self._part(k, Job(inputs, starts, advance)) for k, starts in enumerate(wanted)]
        return parts[0] if len(parts) == 1 else self._joined(parts)

    def _part(self, k: int, job: Job) -> MutagenesisResult:
        """The scores of the changes of one width."""
        if self.averaged:
            return next(self.averaged.scored(k, [job]))
        task = self.task(k, job.inputs, job.wanted)
        task.advance = job.advance
        list(self.scorers[k].loop.scored([task]))
        return task.result

    def _joined(self, parts: Sequence[MutagenesisResult]) -> MutagenesisResult:
        """One result of blocks of several widths, in the order in which they were given."""
        starts = np.array([start for start, _ in self.block_ranges])
        columns = np.concatenate([scorer.columns for scorer in self.scorers if scorer.columns is not None])
        order = np.argsort(columns)

        def in_order(arrays: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
            given = list(arrays)
            return {name: np.concatenate([x[name] for x in given], axis=-2)[..., order, :] for name in given[0]}

        return replace(
            parts[0],
            delta=in_order(part.delta for part in parts),
            positions=starts,
            widths=np.diff(self.block_ranges)[:, 0],
            spread=in_order(part.spread or {} for part in parts) or None,
        )

    def _all_starts(self, scorer: Scorer) -> np.ndarray:
        return np.arange(self.input_length) if scorer.starts is None else scorer.starts

    def _whole(self, task: Task, delta: dict[str, np.ndarray]) -> MutagenesisResult:
        """The result of a task whose arrays are a part of ``delta``, which has all positions."""
        if self.replaces_blocks:
            return task.result
        return replace(task.result, delta=delta, seq=task.inputs.codes, positions=np.arange(self.input_length))

    def task(
        self,
        k: int,
        inputs: Inputs,
        wanted: np.ndarray,
        shown: Pass = Pass(),  # noqa: B008  (a frozen value)
        delta: dict[str, np.ndarray] | None = None,
    ) -> Task:
        """The work of scorer ``k``: sequences of this model alone, which are shown by a pass.

        Parameters
        ----------
        wanted : int (p,)
            The positions of the inputs as they are shown.
        delta : dict of head name to array, optional
            The scores go into these, which are NaN (n, *shape, p, letters), or into new arrays.
        """
        scorer = self.scorers[k]
        changes = scorer.changes.seen_in(shown, self.input_length)
        delta = self._no_deltas(scorer, len(inputs.codes), len(wanted)) if delta is None else delta
        changes.begin(delta, inputs.codes, wanted)
        heads = self.prepared.heads
        reference = {h.name: np.empty((len(inputs.codes), *h.shape), "float32") for h in heads}
        widths = np.full(len(wanted), changes.width) if self.replaces_blocks else None
        seq = inputs.codes if self.replaces_blocks else inputs.codes[:, wanted]
        result = MutagenesisResult(reference, delta, seq, wanted, self.alphabet, widths)
        blocks = changes.blocks(wanted, self.input_length)
        return Task(inputs, wanted, blocks, result, changes, self.weights)


def _head_text(head: Head) -> str:
    """``profile (2,) by sum``: name, shape, and how it is reduced."""
    return f"{head.name} {head.shape}" + ("" if head.reduce == "none" else f" by {head.reduce}")


def _with_pairs(single: MutagenesisResult, interaction: dict[str, np.ndarray]) -> PairsResult:
    known = (single.reference, single.delta, single.seq, single.positions, single.alphabet)
    return PairsResult(*known, interaction=interaction)


def _padded(x: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """Deltas (n, *shape, p, letters) with so many positions of NaN before and behind."""
    return np.pad(x, [(0, 0)] * (x.ndim - 2) + [sides, (0, 0)], constant_values=np.nan)


def _member(members: Sequence[FastISM], source: ModelSource, make: Callable[..., Prepared]) -> FastISM:
    """A further model: as other weights of one of the engines that there are, or with an engine of its own."""
    first = members[0].prepared
    try:
        found = make(source.load(), engine="naive", like=first.names)
        require_same_ports(first, found)
    except UsageError as error:
        raise UsageError(f"{source.name}: {error.message}") from error
    for member in members:
        if member.weights == 0 and (number := number_of_shared_weights(member.prepared, found)) is not None:
            return member.with_weights(number)
    return members[0].of_model(make(source.load(), engine=members[0].engine, like=first.names))


def require_one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raise :class:`UsageError` unless ``value`` is allowed."""
    if value not in allowed:
        raise UsageError(f"{name} must be one of {', '.join(allowed)}. Received: {name}={value!r}")


def require_batch_size(value: Any) -> None:
    """Raise :class:`UsageError` unless it is "auto" or a positive int."""
    if value != "auto" and not (isinstance(value, int) and value > 0):
        raise UsageError(f"batch_size must be 'auto' or a positive int. Received: batch_size={value!r}")
