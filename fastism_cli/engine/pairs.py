"""Pairs of substitutions: the letters of every two positions that lie close together, changed at once.

The distances are dealt out to a few engines, so that the windows of near positions are narrow. What two letters change
together, less what each changes alone, is their interaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from fastism_cli.engine.batching import Batching, BatchLoop, Task
from fastism_cli.engine.changes import Change, Changes, Sequences
from fastism_cli.engine.forward import ForwardPasses
from fastism_cli.engine.inputs_and_scores import Inputs, MutagenesisResult, alternates
from fastism_cli.engine.prepare import Prepared, choose_engine
from fastism_cli.errors import UsageError
from fastism_cli.genome.alphabet import Codes
from fastism_cli.options.averages import Pass
from fastism_cli.rules.frames import Blocks
from fastism_cli.rules.window_rows import MAX_STRETCHES


@dataclass(frozen=True)
class PairSubstitutions:
    """Every two other letters at pairs of positions; those that begin at one position have ``distances``.

    ``n_policy`` as in :class:`fastism_cli.engine.fastism.FastISM`.
    """

    letters: int
    n_policy: str
    distances: tuple[int, ...]

    @property
    def width(self) -> int:
        return self.distances[0] + 1

    @property
    def alternates(self) -> int:
        return (self.letters - 1) ** 2

    @property
    def columns(self) -> int:
        return self.letters**2

    def blocks(self, starts: np.ndarray, length: int) -> Blocks:
        firsts = starts // len(self.distances)
        return Blocks(self.width, range(int(firsts.min()), int(firsts.max()) + 1), self.distances)

    def seen_in(self, shown: Pass, length: int) -> PairSubstitutions:
        return self

    def of_chunk(self, sequences: Sequences, blocks: Blocks, first: int, size: int) -> Iterator[Change]:
        last = sequences.codes.shape[1] - 1
        ends = [np.minimum(places(first, size), last) for places in (blocks.starts_from, blocks.seconds_from)]
        of_ends = [list(self._letters_for(sequences.codes[:, at])) for at in ends]
        for one, other in product(*of_ends):
            slots = one[..., :, None] * self.letters + other[..., None, :]
            yield Change(np.stack([one, other], axis=-1), slots.reshape(*slots.shape[:2], -1))

    def _letters_for(self, codes: Codes) -> Iterator[np.ndarray]:
        """int32 (S, P, letters - 1); a second time, with the last letter, if an N is scored."""
        yield from alternates(codes, 0, codes.shape[1], self.letters, self.n_policy)

    def settled(self, values: np.ndarray, change: Change) -> np.ndarray:
        return values

    def spans(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = len(self.distances)
        firsts = places // n
        return firsts, firsts + np.array(self.distances)[places % n] + 1

    def begin(self, delta: Mapping[str, np.ndarray], codes: Codes, places: np.ndarray) -> None:
        pass

    def end(self, delta: Mapping[str, np.ndarray], rows: slice, codes: Codes, places: np.ndarray) -> None:
        pass


def dealt_out(within: int, most: int = MAX_STRETCHES) -> list[tuple[int, ...]]:
    """The distances from 1 to ``within`` in groups of at most ``most``, each from its widest on.

    ``5, most 3 -> [(3, 2, 1), (5, 4)]``
    """
    count = -(-within // most)
    edges = [within * i // count for i in range(count + 1)]
    return [tuple(range(stop, start, -1)) for start, stop in pairwise(edges)]


@dataclass(frozen=True)
class PairGroup:
    """What scores the pairs of some distances."""

    prepared: Prepared
    changes: Changes
    batching: Batching
    loop: BatchLoop
    distances: tuple[int, ...]

    def delta(
        self, inputs: Inputs, firsts: np.ndarray, which: np.ndarray, advance: Callable[[int], object]
    ) -> dict[str, np.ndarray]:
        """What both letters change together, (n, *shape, m, letters ** 2) by head.

        Parameters
        ----------
        firsts, which : int (m,)
            The first position of each pair, and the number of its distance.
        """
        n, length = inputs.codes.shape
        heads = self.prepared.heads
        places = firsts * len(self.distances) + which
        columns = self.changes.columns
        delta = {h.name: np.full((n, *h.shape, len(places), columns), np.nan, "float32") for h in heads}
        reference = {h.name: np.empty((n, *h.shape), "float32") for h in heads}
        result = MutagenesisResult(reference, delta, inputs.codes[:, firsts], places, self.prepared.alphabet)
        task = Task(inputs, places, self.changes.blocks(places, length), result, self.changes, advance=advance)
        list(self.loop.scored([task]))
        return delta


class PairScorer:
    """Score every two positions at most ``within`` apart.

    Attributes
    ----------
    engine, engine_reason : str
        "fast" or "naive", and why.
    groups : list of PairGroup
    """

    def __init__(
        self,
        prepared: Prepared,
        forward: ForwardPasses,
        *,
        within: int,
        engine: str,
        batch_size: str | int,
        n_policy: str,
    ) -> None:
        length, letters = prepared.input_length, prepared.alphabet.size
        if not 1 <= within < length:
            raise UsageError(f"within must be from 1 to {length - 1}, less than the input has. Received: {within}")
        self.within, self.letters = within, letters
        kinds = [PairSubstitutions(letters, n_policy, distances) for distances in dealt_out(within)]
        ready = []
        for kind in kinds:
            blocks = Blocks(kind.width, range(length - kind.width + 1), kind.distances)
            ready.append(prepared.for_blocks(blocks, kind.alternates, engine))
        self.engine, self.engine_reason = choose_engine(ready[-1], engine)
        self.groups = [self._group(p, forward, kind, batch_size) for p, kind in zip(ready, kinds, strict=True)]

    def _group(
        self, prepared: Prepared, forward: ForwardPasses, changes: PairSubstitutions, batch_size: str | int
    ) -> PairGroup:
        batching = Batching(prepared, forward, changes, self.engine, batch_size)
        loop = BatchLoop(prepared, forward, batching)
        return PairGroup(prepared, changes, batching, loop, changes.distances)

    def count(self, window: range) -> int:
        """How many pairs of positions there are in a window."""
        return sum(max(len(window) - distance, 0) for distance in range(1, self.within + 1))

    def sequences_per_call(self, window: range) -> int:
        """How many sequences one call holds when it scores the pairs of a window."""
        group = self.groups[0]
        at, which = group_pairs(group.distances, len(window))
        places = (at + window.start) * len(group.distances) + which
        engine, _ = group.batching.engine_for(places, 2**31, group.batching.substitutions)
        return engine.batch[0]

    def interactions(
        self,
        inputs: Inputs,
        singles: Mapping[str, np.ndarray],
        window: range,
        advance: Callable[[int], object] = lambda pairs: None,
    ) -> dict[str, np.ndarray]:
        """The interactions of all pairs in a window, float32 (n, *shape, P, within, letters, letters) by head.

        NaN where a pair passes the end of the window, and at an N that is not scored.

        Parameters
        ----------
        singles : dict of float32 (n, *shape, P, letters)
            What single letters of the window change.
        """
        n, count = len(inputs.codes), len(window)
        inner = (count, self.within, self.letters, self.letters)
        found = {name: np.full((*x.shape[:-2], *inner), np.nan, "float32") for name, x in singles.items()}
        own = inputs.codes[:, window.start : window.stop, None] == np.arange(self.letters)
        for group in self.groups if n else ():
            at, which = group_pairs(group.distances, count)
            if not len(at):
                continue
            apart = np.array(group.distances)[which]
            delta = group.delta(inputs, at + window.start, which, advance)
            for name, values in found.items():
                values[..., at, apart - 1, :, :] = interaction(delta[name], singles[name], own, at, at + apart)
        return found


def group_pairs(distances: tuple[int, ...], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first of ``count`` positions, and the number of the distance, of each pair that ends before the last."""
    at, which = np.divmod(np.arange(count * len(distances)), len(distances))
    inside = at + np.array(distances)[which] < count
    return at[inside], which[inside]


def interaction(both: np.ndarray, single: np.ndarray, own: np.ndarray, at: np.ndarray, to: np.ndarray) -> np.ndarray:
    """delta(both) - delta(one) - delta(other): exactly 0 where a letter is that of the sequence itself.

    Parameters
    ----------
    both : float32 (n, *shape, m, letters ** 2)
        What two letters change together; not read where a letter is that of the sequence.
    single : float32 (n, *shape, P, letters)
    own : bool (n, P, letters)
        The letters of the sequences.
    at, to : int (m,)
        Both positions of each pair.

    Returns
    -------
    float32 (n, *shape, m, letters, letters)
    """
    n, letters = len(both), single.shape[-1]
    one, other = single[..., at, :, None], single[..., to, None, :]
    is_own = own[:, at, :, None] | own[:, to, None, :]
    is_own = is_own.reshape(n, *(1,) * (both.ndim - 3), *is_own.shape[1:])
    together = both.reshape(*both.shape[:-1], letters, letters)
    alone = one + other
    found: np.ndarray = np.where(is_own, 0 * alone, together - alone)
    return found
