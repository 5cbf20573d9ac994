"""Stream the scores of a finished result file: rows by status, targets by name, columns as bases of the genome.

Everything that comes after a run (export, pictures, reports) reads the file through here, so that strand, window and N
have one meaning::

    with open_scores("peaks.ism.h5") as scores:
        for block in scores.blocks(scores.rows_with(Status.OK)):
            on_genome = block.on_genome()
            on_genome.importance()  # (n, K, W): column j of row i is base on_genome.start[i] + j of the + strand
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastism_cli.alphabet import DNA, RNA
from fastism_cli.errors import UsageError
from fastism_cli.io.chunks import ChunkReader, decoding_threads
from fastism_cli.io.hdf5 import HeadLayout, IsmFile, read_result
from fastism_cli.io.schema import Status

Array = npt.NDArray[Any]

BLOCK_BYTES = 1 << 23  # of deltas; whole chunks, so that none is decompressed twice
BLOCKS_AHEAD = 2  # that are decompressed while another is worked on
COMPLEMENT = np.array([3, 2, 1, 0, 4], np.uint8)  # code of the complement of each code of ACGTN


class Track(NamedTuple):
    """One target of one head: what a picture, a bigWig or a column of a table shows.

    Attributes
    ----------
    head : str
        As in the model.
    unit : int
        Which of the head's values, counted over all of its axes.
    name : str
        Of the target; with its position (``3@17``: target 3, position 17) in a head that kept its positions.
    label : str
        ``head`` where the head has one target, else ``head/name``. No two tracks of a file share one.
    """

    head: str
    unit: int
    name: str
    label: str


@dataclass(frozen=True)
class GenomeBlock:
    """Some regions on the + strand: column ``j`` of row ``i`` is base ``start[i] + j`` of its contig.

    Attributes
    ----------
    rows : int64 (n,)
        Rows of the file.
    start : int64 (n,)
        First base of the window; negative where it begins before the contig.
    seq : uint8 (n, W)
        0 to 3 = ACGT, 4 = N or outside of the contig.
    delta : float32 (n, K, W, 4)
        In ACGT order; NaN where not computed.
    """

    rows: Array
    start: Array
    seq: Array
    delta: Array

    def hypothetical(self) -> Array:
        """Delta minus its mean over the four bases, float32 (n, K, W, 4): see :func:`hypothetical`."""
        return hypothetical(self.seq, self.delta)

    def importance(self) -> Array:
        """Hypothetical importance of the base that is there, float32 (n, K, W): see :func:`importance`."""
        return importance(self.seq, self.delta)


@dataclass(frozen=True)
class ScoreBlock:
    """Some regions as the model saw them.

    Attributes
    ----------
    rows : int64 (n,)
        Rows of the file, ascending.
    reverse : bool (n,)
        Which of them the model saw as their reverse complement.
    input_start : int64 (n,)
        First base of the input on the + strand.
    window : int
        How many bases in the middle were substituted.
    seq : uint8 (n, L)
        0 to 3 = ACGT, 4 = N or outside of the contig.
    delta : float32 (n, K, L, 4)
        In ACGT order, for the K tracks that were asked for; NaN where not computed.
    """

    rows: Array
    reverse: Array
    input_start: Array
    window: int
    seq: Array
    delta: Array

    def on_genome(self) -> GenomeBlock:
        """The substituted window alone, on the + strand."""
        length = self.seq.shape[1]
        first = window_offset(length, self.window)
        seq, delta = self.seq, self.delta
        if self.reverse.any():
            seq, delta = seq.copy(), delta.copy()
            seq[self.reverse] = COMPLEMENT[seq[self.reverse, ::-1]]
            for row in np.flatnonzero(self.reverse):
                delta[row] = delta[row, :, ::-1, ::-1].copy()  # T G C A read backwards is A C G T
        columns = slice(first, first + self.window)
        return GenomeBlock(self.rows, self.input_start + first, seq[:, columns], delta[:, :, columns])


def window_offset(length: int, window: int) -> int:
    """First substituted base, counted from the first base of the input: the same on both strands."""
    return length // 2 - window // 2


def hypothetical(seq: Array, delta: Array) -> Array:
    """How much the prediction would owe to each base if it were there: delta minus its mean over the four bases.

    Parameters
    ----------
    seq : uint8 (n, L)
    delta : float32 (n, K, L, 4)

    Returns
    -------
    float32 (n, K, L, 4)
        NaN where delta was not computed, and at an N.
    """
    centred = delta - _mean(delta)[..., None]
    centred[np.broadcast_to((seq > 3)[:, None], centred.shape[:-1])] = np.nan
    return centred


def importance(seq: Array, delta: Array) -> Array:
    """The hypothetical importance of the base that is there, float32 (n, K, L).

    The delta of that base is 0, so it is minus the mean: positive where substitutions lower the prediction. NaN where
    delta was not computed, and at an N, which is no base.
    """
    values = -_mean(delta)
    values[np.broadcast_to((seq > 3)[:, None], values.shape)] = np.nan
    return values


def _mean(delta: Array) -> Array:
    """Over the last axis; several times faster than numpy's for an axis of four."""
    total = delta[..., 0] + delta[..., 1]
    for letter in range(2, delta.shape[-1]):
        total += delta[..., letter]
    total /= delta.shape[-1]
    return np.asarray(total)


class Scores:
    """An open result file. Made by :func:`open_scores`; leaving its context closes it.

    Attributes
    ----------
    path : str
    file : IsmFile
        For attributes, statuses and whatever else is not a score.
    """

    def __init__(self, file: IsmFile) -> None:
        self.path = file.path
        self.file = file
        self._kept_sequences = (0, np.empty((0, 0), np.uint8))

    def __enter__(self) -> Scores:
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()

    # -- what is there --

    @property
    def n_rows(self) -> int:
        """Records of the BED (of its shard)."""
        return int(self.file.seq.shape[0])

    @property
    def length(self) -> int:
        """Bases of the model's input."""
        return int(self.file.seq.shape[1])

    @cached_property
    def window(self) -> int:
        """How many bases in the middle of each input were substituted."""
        return int(json.loads(self.file.attrs.get("config") or "{}").get("window") or self.length)

    @cached_property
    def tracks(self) -> tuple[Track, ...]:
        """Every target of every head, in the order of the file."""
        return tuple(track for head in self.file.heads for track in head_tracks(head))

    def tracks_of(self, head: str) -> tuple[Track, ...]:
        """The targets of one head."""
        return tuple(track for track in self.tracks if track.head == head)

    @cached_property
    def regions(self) -> dict[str, Array]:
        """Columns of ``/regions``, each (N,); chrom, name and strand hold str."""
        columns = self.file.regions
        return columns | {"strand": columns["strand"].astype(str).astype(object)}

    @cached_property
    def reverse(self) -> Array:
        """Which rows the model saw as their reverse complement, bool (N,)."""
        return np.asarray(self.regions["strand"] == "-", dtype=bool)

    @property
    def window_start(self) -> Array:
        """First base of each row's window on the + strand, int64 (N,); not clipped to the contig."""
        return self.regions["input_start"] + window_offset(self.length, self.window)

    def rows_with(self, *statuses: Status) -> Array:
        """Rows of one of these statuses, int64, ascending."""
        return np.flatnonzero(np.isin(self.regions["status"], [int(status) for status in statuses]))

    def rows_named(self, name: str) -> Array:
        """Rows with this name in the BED, int64, ascending."""
        return np.flatnonzero(self.regions["name"] == name)

    def rows_over(self, chrom: str, start: int, end: int) -> Array:
        """Rows whose window shares a base with ``[start, end)`` of a contig, int64, ascending."""
        columns = self.regions
        return np.flatnonzero((columns["chrom"] == chrom) & (columns["start"] < end) & (columns["end"] > start))

    # -- scores --

    def blocks(self, rows: Array | None = None, tracks: Sequence[Track] | None = None) -> Iterator[ScoreBlock]:
        """Scores of some rows and tracks, a few chunks of the file at a time.

        Parameters
        ----------
        rows : int (n,), optional
            Ascending, without repeats. Default: those with the status OK.
        tracks : sequence of Track, optional
            They may be of several heads, in any order. Default: all.
        """
        rows = self.rows_with(Status.OK) if rows is None else np.asarray(rows, dtype=np.int64)
        chosen = self.tracks if tracks is None else tuple(tracks)
        step = self._rows_at_once(chosen)
        # cut at multiples of the step, where chunks begin
        pieces = [piece for piece in np.split(rows, np.flatnonzero(np.diff(rows // step)) + 1) if len(piece)]
        with decoding_threads() as threads:
            ahead: deque[Callable[[], ScoreBlock]] = deque()
            for piece in pieces:
                ahead.append(self._start_block(piece, chosen, threads))
                if len(ahead) > BLOCKS_AHEAD:
                    yield ahead.popleft()()
            while ahead:
                yield ahead.popleft()()

    def reference(self, rows: Array, tracks: Sequence[Track]) -> Array:
        """Predictions on the reference, float32 (n, K)."""
        columns = [self._flat(self.file.reference(track.head), track, rows) for track in tracks]
        return np.stack(columns, axis=1) if columns else np.empty((len(rows), 0), np.float32)

    def _flat(self, dataset: Any, track: Track, rows: Array) -> Array:
        at = np.unravel_index(track.unit, dataset.shape[1:])
        return np.asarray(dataset[(slice(None), *map(int, at))][rows])

    def _rows_at_once(self, tracks: Sequence[Track]) -> int:
        """Whole chunks of every head that is read, in bounded memory."""
        heads = {track.head for track in tracks}
        row_bytes = 4 * self.length * len(self.letters) * max(len(tracks), 1)
        chunks = [(self.file.delta(head).chunks or (1,))[0] for head in heads]
        step = max(chunks, default=1)
        return int(max(BLOCK_BYTES // row_bytes // step, 1) * step)

    def _start_block(self, rows: Array, tracks: Sequence[Track], threads: Executor) -> Callable[[], ScoreBlock]:
        """Begin to read a block; the function that is returned waits for its end."""
        start, stop = int(rows[0]), int(rows[-1]) + 1
        seq = self._sequences(start, stop)[rows - start]
        heads = {track.head: [i for i, other in enumerate(tracks) if other.head == track.head] for track in tracks}
        parts = [
            (columns, self._start_delta(head, [tracks[i].unit for i in columns], slice(start, stop), threads))
            for head, columns in heads.items()
        ]

        def finish() -> ScoreBlock:
            delta = _joined([(columns, wait()) for columns, wait in parts], len(tracks), (stop - start, *self._inner))
            delta = delta if len(rows) == stop - start else delta[rows - start]
            reverse, input_start = self.reverse[rows], self.regions["input_start"][rows]
            return ScoreBlock(rows, reverse, input_start, self.window, seq, delta[..., self._order])

        return finish

    def _sequences(self, start: int, stop: int) -> Array:
        """Codes of consecutive rows; whole chunks are read and kept, for they hold more rows than those of delta."""
        first, kept = self._kept_sequences
        if start < first or stop > first + len(kept):
            step = (self.file.seq.chunks or (1,))[0]
            first = start // step * step
            kept = self._codes[self.file.seq[first : -(-stop // step) * step]]
            self._kept_sequences = first, kept
        return kept[start - first : stop - first]

    @property
    def _inner(self) -> tuple[int, int]:
        return (self.length, len(self.letters))

    def _start_delta(self, head: str, units: Sequence[int], rows: slice, threads: Executor) -> Callable[[], Array]:
        """Begin to read float32 (n, units, L, 4), letters in the order of the file."""
        dataset = self.file.delta(head)
        if dataset.ndim == 4:
            return ChunkReader(dataset, threads).start(rows.start, rows.stop, units)
        whole = dataset[rows]  # positions were kept
        flat = whole.reshape(len(whole), prod(whole.shape[1:-2]), *whole.shape[-2:])
        return lambda: np.asarray(flat[:, units], np.float32)

    # -- letters --

    @cached_property
    def letters(self) -> str:
        """Letters in the order of the last axis of a block's delta: ``ACGT`` for DNA, in whatever order it was run."""
        letters = self.file.alphabet.letters
        return next((known.letters for known in (DNA, RNA) if set(known.letters) == set(letters)), letters)

    def require_bases(self) -> None:
        """Refuse a file whose letters are not bases.

        Raises
        ------
        UsageError
        """
        if self.letters not in (DNA.letters, RNA.letters):
            raise UsageError(f"{self.path} was run with the alphabet {self.letters}; only ACGT lies on a genome.")

    @cached_property
    def _order(self) -> Any:
        """Index of the last axis of the file that gives ``letters``."""
        stored = self.file.alphabet.letters
        return slice(None) if stored == self.letters else [stored.index(letter) for letter in self.letters]

    @cached_property
    def _codes(self) -> Array:
        """Code in ``letters`` of each code of the file."""
        stored = self.file.alphabet.letters
        return np.array([*(self.letters.index(letter) for letter in stored), len(stored)], np.uint8)


def open_scores(path: str | os.PathLike[str]) -> Scores:
    """Open a finished result file.

    Raises
    ------
    UsageError
        If it is no result file, one of another version, or an unfinished one.
    """
    return Scores(read_result(path))


def _joined(parts: Sequence[tuple[Sequence[int], Array]], n_tracks: int, shape: tuple[int, int, int]) -> Array:
    """Deltas of several heads as one array (n, K, L, 4), each at its columns."""
    if len(parts) == 1 and list(parts[0][0]) == list(range(n_tracks)):
        return parts[0][1]
    joined = np.empty((shape[0], n_tracks, *shape[1:]), np.float32)
    for columns, delta in parts:
        joined[:, columns] = delta
    return joined


def head_tracks(head: HeadLayout) -> list[Track]:
    """The targets of a head, labelled."""
    names = _names(head)
    if len(names) == 1:
        return [Track(head.name, 0, names[0], head.name)]
    return [Track(head.name, unit, name, f"{head.name}/{name}") for unit, name in enumerate(names)]


def _names(head: HeadLayout) -> list[str]:
    """A name for each value of a head; numbered where the user's repeat."""
    positions = range(prod(head.shape[:-1]))
    names = [f"{name}@{at}" if len(head.shape) > 1 else name for at in positions for name in head.target_names]
    if len(set(names)) < len(names):
        return [f"{name}#{unit}" for unit, name in enumerate(names)]
    return names
