"""What the library returns: the scores of some sequences in memory, and the interactions of pairs of letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fastism_cli.errors import UsageError
from fastism_cli.genome.alphabet import Alphabet, Codes
from fastism_cli.scores.block_places import BlockPlaces, scored
from fastism_cli.scores.interactions import PairMap, pair_map, strongest_of
from fastism_cli.scores.labelled import LabelledScores, Loaded, units_of
from fastism_cli.scores.region import RegionBlocks, RegionScores
from fastism_cli.scores.substitutions import Substituted, replaced, substituted
from fastism_cli.scores.tracks import Array, Track, head_tracks


@dataclass(frozen=True, repr=False, eq=False)
class MutagenesisResult(LabelledScores):
    """Scores of a batch of sequences.

    Attributes
    ----------
    reference : dict of head name to float32 array, (n, T)
        Predictions on the sequences as they are, in the model's output units.
    delta : dict of head name to float32 array, (n, T, L, letters)
        Substituted minus reference, in the same units. Exactly 0 at the reference letter, NaN where not computed.
        A head that is not reduced has its own axes in the place of T. For blocks, (n, T, blocks, contents): replaced
        minus reference.
    seq : uint8 (n, L)
        The letters of the columns of ``delta``; ``alphabet.size`` is an N. For blocks, all letters of the sequences.
    positions : int64 (L,)
        The position in its sequence, from 0, of each column; of blocks, where they begin.
    alphabet : Alphabet
    widths : int64 (blocks,), optional
        How wide each block is; None for substitutions.
    spread : dict of head name to float32 array, optional
        Like ``delta``: its standard deviation over several models, if that was asked for.
    """

    reference: dict[str, np.ndarray]
    delta: dict[str, np.ndarray]
    seq: Codes
    positions: np.ndarray
    alphabet: Alphabet = field(default_factory=Alphabet)
    widths: np.ndarray | None = None
    spread: dict[str, np.ndarray] | None = None

    @property
    def source(self) -> str:
        return "a result in memory"

    @cached_property
    def tracks(self) -> tuple[Track, ...]:
        return tuple(track for head, x in self.delta.items() for track in head_tracks(head, x.shape[1:-2]))

    @property
    def places(self) -> BlockPlaces | None:
        return None if self.widths is None else BlockPlaces(self.positions, self.widths)

    @property
    def contents(self) -> int:
        return int(next(iter(self.delta.values())).shape[-1])

    @property
    def letters(self) -> str:
        return self.alphabet.letters

    @property
    def shape(self) -> tuple[int, int]:
        n, length = self.seq.shape
        return n, length

    def loaded(self, rows: Array, tracks: Sequence[Track]) -> Iterator[Loaded]:
        yield Loaded(rows, self.seq[rows], self._of_tracks(self.delta, rows, tracks, inner=2))

    def predictions(self, rows: Array, tracks: Sequence[Track]) -> Array:
        return self._of_tracks(self.reference, rows, tracks, inner=0)

    def _of_tracks(self, by_head: dict[str, np.ndarray], rows: Array, tracks: Sequence[Track], *, inner: int) -> Array:
        return np.concatenate([units_of(by_head[track.head][rows], [track], inner) for track in tracks], axis=1)

    def labels(self) -> dict[str, tuple[str, Array]]:
        return {} if self.places is not None else {"position": ("position", self.positions)}

    def lines(self, rows: Array, tracks: Sequence[Track]) -> Iterator[dict[str, Array]]:
        (scores,), reference = self.loaded(rows, tracks), self.predictions(rows, tracks)
        found = substituted(scores.seq, scores.delta) if self.places is None else replaced(scores.delta)
        yield {
            "sequence": rows[found.row],
            **self._changes(scores, found),
            "target": np.array([track.label for track in tracks], dtype=object)[found.track],
            "delta": found.delta,
            "reference": reference[found.row, found.track],
        }

    def _changes(self, scores: Loaded, found: Substituted) -> dict[str, Array]:
        """The columns of a table that say what is changed."""
        if self.places is not None:
            starts, stops = self.places.starts, self.places.stops
            return {"start": starts[found.column], "end": stops[found.column], "content": found.alt}
        letters = np.array([*self.letters, self.alphabet.unknown_letter], dtype=object)
        return {
            "position": self.positions[found.column],
            "ref": letters[scores.seq[found.row, found.column]],
            "alt": letters[found.alt],
        }

    def region(self, row: int, track: Track) -> RegionScores:
        if self.places is not None:
            return self._region_of_blocks(row, track, self.places)
        if not len(self.positions) or (np.diff(self.positions) != 1).any():
            raise UsageError(f"positions: only those in a row can be drawn. Received: {self.positions.tolist()[:10]}")
        (scores,) = self.loaded(np.array([row]), [track])
        prediction = float(self.predictions(np.array([row]), [track])[0, 0])
        first = int(self.positions[0])
        place = (f"sequence {row}", first, "", "+", "+")
        return RegionScores(*place, self.letters, scores.seq[0], scores.delta[0, 0], prediction)

    def _region_of_blocks(self, row: int, track: Track, places: BlockPlaces) -> RegionBlocks:
        (scores,) = self.loaded(np.array([row]), [track])
        prediction = float(self.predictions(np.array([row]), [track])[0, 0])
        place = (f"sequence {row}", 0, "", "+", "+")
        delta, shown = scored(scores.delta[0, 0], places)
        return RegionBlocks(*place, self.letters, scores.seq[0], delta, prediction, places=shown)


@dataclass(frozen=True, repr=False, eq=False)
class PairsResult(MutagenesisResult):
    """Scores of single letters, as in :class:`MutagenesisResult`, and of pairs of them.

    Attributes
    ----------
    interaction : dict of head name to float32 array, (n, T, P, D, letters, letters)
        delta(both letters) - delta(one) - delta(other): entry ``[..., i, d - 1, x, y]`` is of the letter ``x`` at
        position ``i`` and ``y`` at ``i + d``. Exactly 0 where one of them is that of the sequence; NaN at an N, and
        where ``i + d`` lies behind the last of ``positions``.
    """

    interaction: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def within(self) -> int:
        """The largest distance, D."""
        return int(next(iter(self.interaction.values())).shape[-3])

    def strongest(self, target: str | None = None) -> Array:
        """Of each two positions the interaction of the largest magnitude, with its sign, float32 (n, P, D)."""
        track = self._track(target)
        values = self.interaction[track.head]
        flat = values.reshape(len(values), -1, *values.shape[-4:])
        return strongest_of(flat[:, track.unit])

    def pairs_of(self, row: int, track: Track) -> PairMap:
        """The strongest interactions of one row by position, to draw them."""
        values = self.interaction[track.head][row]
        return pair_map(values.reshape(-1, *values.shape[-4:])[track.unit], self.positions)
