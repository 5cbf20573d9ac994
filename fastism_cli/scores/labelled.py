"""What scores in memory and those of a result file have in common: importance, frames and pictures by target."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastism_cli.errors import OutputError, UsageError, size_text
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.optional import require
from fastism_cli.options.choices import PICTURE_BASES, FigureOptions
from fastism_cli.scores.drawing.axes import require_libraries, style
from fastism_cli.scores.drawing.whole_figure import Contents, figure, panel_of
from fastism_cli.scores.importance import BlockPlaces, PairMap, base_importance, hypothetical, importance
from fastism_cli.scores.region import RegionScores
from fastism_cli.scores.tracks import Array, Track, choose_tracks

Rows = int | Iterable[int] | None
Targets = str | Sequence[str]


class Loaded(NamedTuple):
    """Scores of some rows, for some tracks.

    Attributes
    ----------
    rows : int64 (n,)
        Ascending.
    seq : uint8 (n, L)
        Codes of the letters; their number is an N.
    delta : float32 (n, K, L, letters)
        NaN where not computed. Of blocks (n, K, P, A).
    """

    rows: Array
    seq: Array
    delta: Array


class LabelledScores(ABC):
    """Scores of sequences by target, in memory or in a file.

    Row ``i`` of every array is sequence ``i``, or record ``i`` of the BED. Sequences and deltas are as the model saw
    them. A target is named as :attr:`targets` lists it, or as ``--targets`` of a command takes it; where there is only
    one, it may be left out.

    Beside what is here, each has ``delta`` (n, T, L, letters) and ``reference`` (n, T), by head. Where blocks were
    replaced, ``delta`` is (n, T, P, A) for P blocks and A contents.
    """

    # -- what there is --

    @property
    @abstractmethod
    def source(self) -> str:
        """Where the scores come from, in messages."""

    @property
    @abstractmethod
    def tracks(self) -> tuple[Track, ...]:
        """Every target of every head."""

    @property
    @abstractmethod
    def letters(self) -> str:
        """Letters, in the order of the last axis of what the methods here return."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """How many rows and columns there are."""

    @abstractmethod
    def loaded(self, rows: Array, tracks: Sequence[Track]) -> Iterator[Loaded]:
        """Those of some ascending rows that have scores, some at a time."""

    @abstractmethod
    def predictions(self, rows: Array, tracks: Sequence[Track]) -> Array:
        """Predictions on the sequences as they are, float32 (n, K)."""

    @abstractmethod
    def labels(self) -> dict[str, tuple[str, Array]]:
        """Names of rows and columns for labelled arrays: a name to its dimension ("row", "position") and values."""

    @abstractmethod
    def lines(self, rows: Array, tracks: Sequence[Track]) -> Iterator[dict[str, Array]]:
        """Columns of a table with a line for each substitution, some rows at a time."""

    @abstractmethod
    def region(self, row: int, track: Track) -> RegionScores:
        """One row, to draw it."""

    def pairs_of(self, row: int, track: Track) -> PairMap | None:
        """The strongest interactions of one row, to draw them; None where pairs were not scored."""
        return None

    @property
    def places(self) -> BlockPlaces | None:
        """Where blocks lie in each sequence; None where single letters were substituted."""
        return None

    @property
    def contents(self) -> int:
        """How many scores each block has: one for each content. Of positions, one for each letter."""
        return len(self.letters)

    @property
    def heads(self) -> tuple[str, ...]:
        """The names of the heads, in the order of the model."""
        return tuple(dict.fromkeys(track.head for track in self.tracks))

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets of all heads: ``HEAD``, or ``HEAD/NAME`` of a head that has several."""
        return tuple(track.label for track in self.tracks)

    def __repr__(self) -> str:
        n, length = self.shape
        counts = {head: sum(track.head == head for track in self.tracks) for head in self.heads}
        heads = ", ".join(f"{head} ({count})" for head, count in counts.items())
        blocks = "" if self.places is None else f"{len(self.places.starts):,} blocks in "
        return (
            f"<{type(self).__name__} of {self.source}: {n:,} x {blocks}{length:,} letters of {self.letters}, "
            f"heads: {heads}>"
        )

    # -- scores of one target --

    def importance(self, target: str | None = None, *, rows: Rows = None) -> Array:
        """The importance of each letter that is there: minus the mean of its position's deltas.

        Parameters
        ----------
        target : str, optional
        rows : int or iterable of int, optional
            Default: all.

        Returns
        -------
        float32 (n, L)
            Positive where substitutions lower the prediction; NaN at an N, and where nothing was computed. Where blocks
            were replaced: minus the mean of the deltas of all blocks that hold the position.
        """
        return self._by_row(target, rows, self.shape[1:], lambda found: self._importance(found)[:, 0])

    def _importance(self, found: Loaded) -> Array:
        """Of each letter that is there, float32 (n, K, L)."""
        if self.places is None:
            return importance(found.seq, found.delta)
        return base_importance(found.delta, self.places, self.shape[1])

    def hypothetical(self, target: str | None = None, *, rows: Rows = None) -> Array:
        """The importance that each letter would have: delta minus its mean over the letters.

        Parameters and NaN are those of :meth:`importance`.

        Returns
        -------
        float32 (n, L, letters)

        Raises
        ------
        UsageError
            If blocks were replaced, not letters.
        """
        if self.places is not None:
            raise UsageError(
                f"hypothetical: {self.source} holds scores of blocks, not of letters. Use importance or to_frame."
            )
        shape = (*self.shape[1:], len(self.letters))
        return self._by_row(target, rows, shape, lambda found: hypothetical(found.seq, found.delta)[:, 0])

    def _by_row(
        self, target: str | None, rows: Rows, shape: tuple[int, ...], values_of: Callable[[Loaded], Array]
    ) -> Array:
        ascending, order = np.unique(self._rows(rows), return_inverse=True)
        values = np.full((len(ascending), *shape), np.nan, np.float32)
        for found in self.loaded(ascending, [self._track(target)]):
            values[np.searchsorted(ascending, found.rows)] = values_of(found)
        return values[order]

    # -- frames --

    def to_frame(self, targets: Targets = (), *, rows: Rows = None) -> Any:
        """A pandas DataFrame with a line for each substitution, or each block and content, that has a score.

        Parameters
        ----------
        targets : str or sequence of str, optional
            Default: all.
        rows : int or iterable of int, optional
            Default: all.

        Returns
        -------
        pandas.DataFrame
            Of a file the columns of ``fastism top``: chrom, pos (from 1), ref, alt, target, delta, reference, region;
            letters are those of the + strand. In memory, ``sequence`` and ``position``, both from 0, are in the place
            of chrom and pos, and there is no region. Of blocks, ``start`` and ``end`` (from 0, the end excluded) and
            the number of the ``content`` are in the place of position, ref and alt.

        Raises
        ------
        UsageError
            If pandas is not installed, or there is no such target or row.
        """
        pandas = require("pandas", wanted_by="to_frame", extra="frames")
        pieces = [pandas.DataFrame(columns) for columns in self.lines(self._ascending(rows), self._tracks(targets))]
        return pandas.concat(pieces, ignore_index=True) if len(pieces) > 1 else pieces[0]

    def to_xarray(self, targets: Targets = (), *, rows: Rows = None) -> Any:
        """An xarray Dataset of delta, reference and importance, with names on all axes.

        Parameters
        ----------
        targets, rows
            As in :meth:`to_frame`.

        Returns
        -------
        xarray.Dataset
            ``delta`` (row, target, position, letter), ``reference`` (row, target), ``importance`` (row, target,
            position), and ``seq`` (row, position): the letters, as bytes. Of blocks, ``delta`` is (row, target, block,
            content), with ``block_start`` and ``block_width`` in the sequence as the model saw it.
        """
        xarray = require("xarray", wanted_by="to_xarray", extra="frames")
        rows, tracks = self._ascending(rows), self._tracks(targets)
        n, k, length = len(rows), len(tracks), self.shape[1]
        delta: Array = np.full((n, k, *self.inner_shape), np.nan, np.float32)
        scores, seq = np.full((n, k, length), np.nan, np.float32), np.full((n, length), b"N")
        for found in self.loaded(rows, tracks):
            at = np.searchsorted(rows, found.rows)
            delta[at], scores[at] = found.delta, self._importance(found)
            seq[at] = np.array([*self.letters, Alphabet(self.letters).unknown_letter], "S1")[found.seq]
        arrays = {
            "delta": (("row", "target", *self._inner_axes), delta),
            "reference": (("row", "target"), self.predictions(rows, tracks)),
            "importance": (("row", "target", "position"), scores),
            "seq": (("row", "position"), seq),
        }
        labels = {name: (axis, x[rows] if axis == "row" else x) for name, (axis, x) in self.labels().items()}
        axes = {"row": rows, "target": [track.label for track in tracks]}
        return xarray.Dataset(arrays, coords=labels | axes | self._inner_labels)

    @property
    def inner_shape(self) -> tuple[int, int]:
        """Of the last two axes of ``delta``: (L, letters), of blocks (P, A)."""
        if self.places is None:
            return self.shape[1], len(self.letters)
        return len(self.places.starts), self.contents

    @property
    def _inner_axes(self) -> tuple[str, str]:
        return ("position", "letter") if self.places is None else ("block", "content")

    @property
    def _inner_labels(self) -> dict[str, Any]:
        """Their labels."""
        if self.places is None:
            return {"letter": list(self.letters)}
        return {"block_start": ("block", self.places.starts), "block_width": ("block", self.places.widths)}

    # -- pictures --

    def plot(
        self,
        target: Targets | None = None,
        row: int = 0,
        *,
        bases: int | None = PICTURE_BASES,
        options: FigureOptions | None = None,
    ) -> Any:
        """Sequence logos of importance; of one target over a heat map of the deltas, and over interactions of pairs.

        Of blocks: the delta of each, under the letters.

        Parameters
        ----------
        target : str or sequence of str, optional
            Several are drawn one below the other, on one axis.
        row : int
        bases : int or None
            How many to show, around the strongest site of the first target; None shows all.
        options : FigureOptions, optional
            Width, limits, letters and so on.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        UsageError
            If matplotlib is not installed, or there is no such target, or no scores in the row.
        """
        require_libraries("plot")
        (row,) = self._ascending(row).tolist()
        tracks = [self._track(target)] if target is None or isinstance(target, str) else self._tracks(target)
        panels = [panel_of(self.region(row, track), track.label) for track in tracks]
        pairs = self.pairs_of(row, tracks[0]) if len(tracks) == 1 else None
        with style():
            view = panels[0].region.around_site(bases)
            return figure(Contents(panels, view, [pairs] if pairs is not None else []), options)

    # -- what the user asks for --

    def _tracks(self, targets: Targets) -> tuple[Track, ...]:
        return choose_tracks(self, [targets] if isinstance(targets, str) else list(targets), option="targets")

    def _track(self, target: str | None) -> Track:
        tracks = choose_tracks(self, () if target is None else [target], option="target")
        if len(tracks) != 1:
            raise UsageError(f"target: {self.source} has {len(tracks):,}. Name one: {', '.join(self.targets[:10])}")
        return tracks[0]

    def _rows(self, rows: Rows) -> Array:
        n = self.shape[0]
        wanted = np.arange(n) if rows is None else np.atleast_1d(np.asarray(rows, dtype=np.int64))
        if len(wanted) and not (0 <= wanted.min() and wanted.max() < n):
            raise UsageError(f"rows: {self.source} has the rows 0 to {n - 1:,}. Received: {rows}")
        return wanted

    def _ascending(self, rows: Rows) -> Array:
        return np.unique(self._rows(rows))


def units_of(values: Any, tracks: Sequence[Track], inner: int) -> Array:
    """The tracks of one head's array (n, *head shape, *inner axes), as (n, K, *inner axes).

    Parameters
    ----------
    inner : int
        How many axes stand behind those of the head.
    """
    end = values.ndim - inner
    flat = values.reshape(len(values), prod(values.shape[1:end]), *values.shape[end:])
    return np.asarray(flat[:, [track.unit for track in tracks]])


# --- whether scores fit into memory ----------------------------------------------------------------------------------

FEWER = "Reduce heads with positions (--reduce), or choose fewer --targets."


ONE_REGION = "The scores of one region take"


def check_memory(wanted: int, available: int | None, *, what: str = ONE_REGION, hint: str = FEWER) -> None:
    """Refuse scores that do not fit into memory: positional heads that are kept whole, or too many pairs.

    Raises
    ------
    OutputError
        Says both numbers.
    """
    if available is not None and wanted > available:
        raise OutputError(f"{what} {size_text(wanted)} in memory; this machine has {size_text(available)}. {hint}")


def memory_of_machine() -> int | None:
    """Bytes of physical memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
