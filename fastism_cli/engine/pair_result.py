"""What :meth:`fastism_cli.FastISM.pairs` returns: interactions of pairs of letters, and the scores of single ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fastism_cli.engine.mutagenesis_result import MutagenesisResult
from fastism_cli.scores.interactions import PairMap, pair_map, strongest_of
from fastism_cli.scores.tracks import Array, Track


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
