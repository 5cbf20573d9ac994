"""Scores that are means: over both strands, over moved inputs, over several models.

The model that is scored is the mean of what several models say of one sequence, shown in several ways. A substitution
changes its prediction by the mean of the deltas. A base that a moved input does not hold changes nothing there.

Every model and every way to show the sequence is scored by itself, as in a run of its own; the deltas are put back at
their bases and letters, and added up in float64. Profiles can be averaged before they are reduced: then the heads are
scored as they are, and the mean is reduced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import tee
from math import prod
from typing import NamedTuple, Protocol

import numpy as np

from fastism_cli.engine.batching import Scorer, Task
from fastism_cli.engine.forward import ForwardPasses
from fastism_cli.engine.inputs_and_scores import Inputs, MutagenesisResult
from fastism_cli.engine.prepare import Prepared
from fastism_cli.errors import UsageError
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.model import backend
from fastism_cli.model.heads import Head
from fastism_cli.options.averages import Averages, Pass

# Passes whose positions differ are computed in calls of the same shape if that adds no more than this share of them.
MORE_POSITIONS = 0.1
WHOLE_BYTES = 256e6  # of heads that are averaged before they are reduced: more sequences are scored in turn


@dataclass
class Job:
    """Sequences to score.

    Attributes
    ----------
    inputs : Inputs
        Whose sequences have the bases around the input that moved ones show, (n, before + L + after).
    wanted : int (p,)
        The positions of the input, or where blocks begin in it.
    advance : callable
        Told of how many changed positions there are scores now.
    """

    inputs: Inputs
    wanted: np.ndarray
    advance: Callable[[int], object] = lambda positions: None


class Places(NamedTuple):
    """Where a pass shows the positions of a job.

    Attributes
    ----------
    asked : int (q,)
        The positions that are scored in it.
    at : int (r,)
        Which of these are those of the job that it shows, in their order.
    inside : bool (p,)
        Which positions of the job it shows; r of them.
    """

    asked: np.ndarray
    at: np.ndarray
    inside: np.ndarray


@dataclass(frozen=True)
class Scores:
    """Predictions (n, *shape) and deltas (n, *shape, positions, columns) by head, in float64."""

    reference: dict[str, np.ndarray]
    delta: dict[str, np.ndarray]


@dataclass
class Mean:
    """Mean of scores that come one after the other, and what the deviation of their deltas needs, in float64."""

    count: int = 0
    reference: dict[str, np.ndarray] = field(default_factory=dict)
    delta: dict[str, np.ndarray] = field(default_factory=dict)
    squares: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, scores: Scores, *, spread: bool = False) -> None:
        """Take one more; with ``spread``, for :attr:`deviation` too."""
        self.count += 1
        for name, x in scores.reference.items():
            self.reference[name] = self._moved(self.reference.get(name), x)
        for name, x in scores.delta.items():
            before = self.delta.get(name)
            self.delta[name] = self._moved(before, x)
            if spread:
                from_means = np.zeros_like(x) if before is None else (x - before) * (x - self.delta[name])
                self.squares[name] = self.squares.get(name, 0.0) + from_means

    def _moved(self, before: np.ndarray | None, x: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # a model may give an infinity: the mean is then NaN
            return x.astype("float64") if before is None else before + (x - before) / self.count

    @property
    def scores(self) -> Scores:
        return Scores(self.reference, self.delta)

    @property
    def deviation(self) -> dict[str, np.ndarray]:
        """The standard deviation of the deltas of all that came."""
        return {name: np.sqrt(x / self.count) for name, x in self.squares.items()}


class Member(Protocol):
    """One model of a mean: the engine of this model alone, which has the weights of one of an architecture."""

    forward: ForwardPasses
    scorers: list[Scorer]

    @property
    def prepared(self) -> Prepared: ...

    @property
    def alphabet(self) -> Alphabet: ...

    @property
    def replaces_blocks(self) -> bool: ...

    @property
    def input_length(self) -> int: ...

    @property
    def input_names(self) -> list[str]: ...

    @property
    def sequence_index(self) -> int: ...

    def task(self, k: int, inputs: Inputs, wanted: np.ndarray, shown: Pass) -> Task:
        """The work of scorer ``k``, as :meth:`fastism_cli.engine.fastism.FastISM.task` gives it."""

    def use_weights(self) -> None:
        """Put this model's weights into the variables that models of one architecture share."""


class Averaged:
    """Score sequences as the mean of several models and several ways to show them.

    Parameters
    ----------
    members : sequence of Member
        Each scores one model by itself; those of one architecture share what is compiled.
    averages : Averages

    Raises
    ------
    UsageError
        If positions of a head would be averaged that are of different bases.
    SequenceError
        If the reverse complement is wanted, and the letters have none.
    """

    def __init__(self, members: Sequence[Member], averages: Averages) -> None:
        self.members, self.averages = members, averages
        self.first = members[0]
        self.length = self.first.input_length
        self.heads = self.first.prepared.scored
        self._places: dict[tuple[int, bytes], list[Places]] = {}
        if averages.rc:
            _ = self.first.alphabet.complements
        if averages.shifts != (0,):
            self._refuse_positions()

    def _refuse_positions(self) -> None:
        for head in self.heads:
            is_positional = len(head.full_shape) > 1 or head.is_reduced_flat
            if is_positional and (self.is_whole or head.reduce == "none"):
                cure = "--average scores" if self.is_whole else f"--reduce {head.source_name}=sum, or another"
                raise UsageError(
                    f"--shifts: head {head.source_name!r} keeps positions, shape {head.full_shape}, and position i of "
                    f"a moved input is of another base: their mean has no meaning. Use {cure}."
                )

    @property
    def is_whole(self) -> bool:
        """Whether heads are averaged before they are reduced."""
        return self.averages.average == "outputs"

    # -- where a pass shows what --

    def places(self, k: int, wanted: np.ndarray) -> list[Places]:
        """Where each pass shows the changes of scorer ``k`` at these positions.

        Raises
        ------
        UsageError
            If a moved input holds a part of a block.
        """
        key = k, wanted.tobytes()
        if key not in self._places:
            self._places[key] = self._found_places(self.first.scorers[k].changes.width, wanted)
        return self._places[key]

    def _found_places(self, width: int, wanted: np.ndarray) -> list[Places]:
        starts = [_places_in(way, wanted, width, self.length) for way in self.averages.passes]
        inside = [(at >= 0) & (at <= self.length - width) for at in starts]
        if any((~seen & (at > -width) & (at < self.length)).any() for at, seen in zip(starts, inside, strict=True)):
            raise UsageError(
                f"--shifts: a moved input ends inside of a block of {width} positions. Leave out the blocks at the "
                "ends of the input, by --window or ranges."
            )
        seen_at = [at[seen] for at, seen in zip(starts, inside, strict=True)]
        asked = [np.unique(at) for at in seen_at]
        together = np.unique(np.concatenate(asked))
        if width == 1 and len(together) <= (1 + MORE_POSITIONS) * max(map(len, asked)):
            asked = [together] * len(asked)
        found = zip(asked, seen_at, inside, strict=True)
        return [Places(these, np.searchsorted(these, at), seen) for these, at, seen in found]

    def shown(self, inputs: Inputs, member: Member, way: Pass) -> Inputs:
        """The inputs of a model as a pass shows them."""
        first, at = self.averages.before + way.shift, self.first.sequence_index
        codes, rows = (x[:, first : first + self.length] for x in (inputs.codes, inputs.arrays[at]))
        if way.reverse:
            alphabet = self.first.alphabet
            codes = alphabet.reverse_complement(codes)
            rows = codes if rows.ndim == 2 else rows[:, ::-1][..., alphabet.complements]
        given = [*inputs.arrays[:at], rows, *inputs.arrays[at + 1 :]]
        arrays = dict(zip(self.first.input_names, given, strict=True))
        return Inputs(codes, [arrays[name] for name in member.input_names])

    # -- scoring --

    def scored(self, k: int, jobs: Iterable[Job]) -> Iterator[MutagenesisResult]:
        """Score jobs by scorer ``k``; yields a result for each, in their order."""
        if not self.is_whole:
            yield from self._scored(k, jobs)
            return
        for job in jobs:
            yield joined(list(self._scored(k, self._in_turn(k, job))))

    def sequences_at_once(self, k: int, positions: int) -> int:
        """How many sequences are scored at a time where whole heads are averaged."""
        scores = positions * self.first.scorers[k].changes.columns
        return max(int(WHOLE_BYTES / max(self.row_bytes(scores), 1)), 1)

    def row_bytes(self, scores: int) -> int:
        """Bytes of the arrays of one sequence, of so many scores a target, that are held while they are added up."""
        numbers = scores * sum(prod(head.shape) for head in self.first.prepared.heads)
        return (4 + 3 * 8) * numbers  # what the engine gives, and in float64: that, the sum, and the next sum

    def _in_turn(self, k: int, job: Job) -> Iterator[Job]:
        """A job cut into some sequences each."""
        step = self.sequences_at_once(k, len(job.wanted))
        for first in range(0, max(len(job.inputs.codes), 1), step):
            rows = slice(first, first + step)
            inputs = Inputs(job.inputs.codes[rows], [x[rows] for x in job.inputs.arrays])
            yield Job(inputs, job.wanted, job.advance)

    def _scored(self, k: int, jobs: Iterable[Job]) -> Iterator[MutagenesisResult]:
        groups = self._groups
        *copies, source = tee(jobs, len(groups) + 1)
        streams = [
            group[0].scorers[k].loop.scored(self._tasks(group, k, copy))
            for group, copy in zip(groups, copies, strict=True)
        ]
        for job in source:
            yield self._mean(k, job, [(len(group), stream) for group, stream in zip(groups, streams, strict=True)])

    @cached_property
    def _groups(self) -> list[list[Member]]:
        """The models that share a compiled engine, together."""
        groups: dict[int, list[Member]] = {}
        for member in self.members:
            groups.setdefault(id(member.scorers[0].loop), []).append(member)
        return list(groups.values())

    def _tasks(self, group: Sequence[Member], k: int, jobs: Iterable[Job]) -> Iterator[Task]:
        """For each job, those of each model, and of each way to show it the sequence."""
        for job in jobs:
            for member in group:
                for way, places in zip(self.averages.passes, self.places(k, job.wanted), strict=True):
                    task = member.task(k, self.shown(job.inputs, member, way), places.asked, way)
                    task.advance = job.advance
                    yield task

    def _mean(self, k: int, job: Job, streams: Iterable[tuple[int, Iterator[Task]]]) -> MutagenesisResult:
        """The result of a job, of the tasks that come next: of each stream, those of so many models."""
        total, of_models = Mean(), Mean()
        for count, tasks in streams:
            for _ in range(count):
                scores = self._of_model(k, job, tasks)
                total.add(scores)
                if self.averages.spread:
                    of_models.add(self._as_scored(scores), spread=True)
        return self._result(k, job, self._as_scored(total.scores), of_models.deviation)

    def _of_model(self, k: int, job: Job, tasks: Iterator[Task]) -> Scores:
        mean = Mean()
        for way, places in zip(self.averages.passes, self.places(k, job.wanted), strict=True):
            result = next(tasks).result
            delta = {name: _spread_out(x, places) for name, x in result.delta.items()}
            mean.add(self._turned(Scores(result.reference, delta), way))
        return mean.scores

    def _result(self, k: int, job: Job, scores: Scores, deviation: Mapping[str, np.ndarray]) -> MutagenesisResult:
        changes = self.first.scorers[k].changes
        codes = job.inputs.codes[:, self.averages.before :]
        seq = codes[:, : self.length] if self.first.replaces_blocks else codes[:, job.wanted]
        delta, spread = (_as_float32(x) for x in (scores.delta, deviation))
        for found in (delta, spread):
            changes.end(found, slice(None), codes, job.wanted)  # a base that no pass shows may be an N
        widths = np.full(len(job.wanted), changes.width) if self.first.replaces_blocks else None
        return MutagenesisResult(
            _as_float32(scores.reference), delta, seq, job.wanted, self.first.alphabet, widths, spread or None
        )

    def compare(self, inputs: Inputs, reference: Inputs) -> dict[str, np.ndarray]:
        """The mean of what :meth:`ForwardPasses.compare` gives, by head, float32 (n, *shape)."""
        total = Mean()
        for member in self.members:
            member.use_weights()
            mean = Mean()
            for way in self.averages.passes:
                new, old = (self.shown(x, member, way).arrays for x in (inputs, reference))
                changed = {name: x[..., None, None] for name, x in member.forward.compare(new, old).items()}
                mean.add(self._turned(Scores(member.forward.heads(old), changed), way, letters=False))
            total.add(mean.scores)
        found = self._as_scored(total.scores).delta
        return {name: x[..., 0, 0] for name, x in _as_float32(found).items()}

    # -- heads --

    def _turned(self, scores: Scores, way: Pass, *, letters: bool = True) -> Scores:
        """The scores of a pass for the strand of the input: positions of heads, strands of targets, and letters."""
        if not way.reverse:
            return scores
        reference, delta = dict[str, np.ndarray](), dict[str, np.ndarray]()
        complements = self.first.alphabet.complements
        for head in self.first.prepared.heads:
            x = scores.delta[head.name]
            x = x[..., complements] if letters and not self.first.replaces_blocks else x
            delta[head.name] = self._on_other_strand(head, x)
            reference[head.name] = self._on_other_strand(head, scores.reference[head.name])
        return Scores(reference, delta)

    def _on_other_strand(self, head: Head, x: np.ndarray) -> np.ndarray:
        """An array (n, *shape of the head, ...) with its positions reversed, and targets exchanged."""
        rank = len(head.shape)
        is_flat = any(one.is_reduced_flat for one in self.heads if self.is_whole and one.source == head.source)
        x = np.flip(x, tuple(range(1, rank + is_flat)))
        partners = self.first.prepared.partners.get(head.source_name)
        if not partners or is_flat:
            return x
        units = head.units or tuple(range(head.shape[-1]))
        number = {unit: i for i, unit in enumerate(units)}
        return np.take(x, [number[partners.get(unit, unit)] for unit in units], axis=rank)

    def _as_scored(self, scores: Scores) -> Scores:
        """The heads that are asked for: with fewer targets, and reduced, if heads are averaged whole."""
        reference, delta = dict[str, np.ndarray](), dict[str, np.ndarray]()
        for head in self.heads:
            name = head.source_name if self.is_whole else head.name
            reference[head.name], delta[head.name] = self._of_head(head, scores.reference[name], scores.delta[name])
        return Scores(reference, delta)

    def _of_head(self, head: Head, reference: np.ndarray, delta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if head.chosen_first is not None:
            axis, first = reference.ndim - 1, range(len(head.chosen_first))  # their partners come after them
            reference, delta = (np.take(x, first, axis=axis) for x in (reference, delta))
        if not self.is_whole or (head.reduction is None and head.scale is None):
            return reference, delta
        return _reduced(head, reference, delta)


def _places_in(way: Pass, starts: np.ndarray, width: int, length: int) -> np.ndarray:
    """Where blocks ``[start, start + width)`` of the input begin in a pass: below 0 or past the end, if outside.

    ::

        input                . . X . . .      length 6, start 2, width 1
        shift 1              . X . . . .      the input begins one base later: 1
        shift 1, reversed    . . . . X .      4
    """
    moved: np.ndarray = starts - way.shift
    return length - width - moved if way.reverse else moved


def _spread_out(x: np.ndarray, places: Places) -> np.ndarray:
    """Deltas (n, *shape, q, columns) at the positions of a job, float64 (n, *shape, p, columns)."""
    found = np.zeros((*x.shape[:-2], len(places.inside), x.shape[-1]))
    found[..., places.inside, :] = x[..., places.at, :]
    return found


def _reduced(head: Head, reference: np.ndarray, delta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reduce and scale a mean, from predictions (n, *shape) and deltas (n, *shape, p, columns) of the whole head."""
    rank = reference.ndim - 1
    changes = np.moveaxis(delta, (-2, -1), (1, 2))
    old = np.broadcast_to(reference[:, None, None], changes.shape)
    scored = _in_float64(head, reference, reference)
    shape = scored.shape[1:]
    flat = (-1, *reference.shape[1:])
    found = _in_float64(head, (old + changes).reshape(flat), old.reshape(flat)).reshape(*changes.shape[:3], *shape)
    found = found - scored[:, None, None]
    found[(changes == 0).all(tuple(range(3, 3 + rank)))] = 0
    return scored, np.moveaxis(found, (1, 2), (-2, -1))


def _in_float64(head: Head, y: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return np.asarray(backend.to_numpy(head.score(y, reference)), "float64").reshape(len(y), *head.shape)


def _as_float32(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(x, "float32") for name, x in arrays.items()}


def joined(parts: Sequence[MutagenesisResult]) -> MutagenesisResult:
    """One result of several whose sequences follow each other."""

    def rows(arrays: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        given = list(arrays)
        return {name: np.concatenate([x[name] for x in given]) for name in given[0]}

    spread = rows(part.spread or {} for part in parts)
    return replace(
        parts[0],
        reference=rows(part.reference for part in parts),
        delta=rows(part.delta for part in parts),
        seq=np.concatenate([part.seq for part in parts]),
        spread=spread or None,
    )
