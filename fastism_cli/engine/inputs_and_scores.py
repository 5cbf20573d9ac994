"""What a model is given, as text, letter codes or one-hot rows, and its scores in memory, which the library returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastism_cli.errors import SequenceError, UsageError
from fastism_cli.genome.alphabet import Alphabet, Codes
from fastism_cli.scores.importance import (
    BlockPlaces,
    PairMap,
    Substituted,
    pair_map,
    replaced,
    scored,
    strongest_of,
    substituted,
)
from fastism_cli.scores.labelled import LabelledScores, Loaded, units_of
from fastism_cli.scores.region import RegionBlocks, RegionScores
from fastism_cli.scores.tracks import Array, Track, head_tracks

if TYPE_CHECKING:
    from fastism_cli.engine.prepare import Prepared

HOW = "--input NAME=zeros|ones|FILE.npy"


class OtherInput(NamedTuple):
    """An input that is not the sequence.

    Attributes
    ----------
    shape : tuple of int
        Without the batch axis.
    dtype : str
    integers : int or None
        If an Embedding reads it: how many integers that knows, from 0 on.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    integers: int | None = None


class Inputs(NamedTuple):
    """Sequences to score, and the arrays for the model's inputs.

    Attributes
    ----------
    codes : uint8 (n, L)
        The letters of each sequence; ``alphabet.size`` is an N.
    arrays : list of array (n, ...)
        One for each input. That of the sequence is ``codes`` itself, or one-hot rows (n, L, letters) if an N is not a
        row of zeros.
    """

    codes: Codes
    arrays: list[np.ndarray]


class GivenInputs:
    """Check what a user gives for the inputs of a model, and find the letters of its sequences.

    Parameters
    ----------
    prepared : Prepared
    context : (int, int)
        How many positions before the input, and behind it, a sequence may have beside those of the input.

    Raises
    ------
    SequenceError
        From every method: if an array has another shape than its input, or a row is neither one-hot nor an N.
    """

    def __init__(self, prepared: Prepared, context: tuple[int, int]) -> None:
        self.views, self.alphabet = prepared.views, prepared.alphabet
        self.names, self.shapes = prepared.input_names, prepared.input_shapes
        self.at, self.length = prepared.sequence_index, prepared.input_length
        self.context = context

    def of(self, given: Any) -> Inputs:
        """Check the arrays that a user gave, and find the letters of the sequences."""
        in_order = list(self._in_order(given))
        if is_text(in_order[self.at]):
            in_order[self.at] = codes_of_text(in_order[self.at], self.alphabet, self.length, self._shown_length)
            return self._of_arrays(self._with_first_axis(in_order))
        arrays = self._with_first_axis(in_order)
        arrays[self.at] = self._with_context(self.views.one_hot(arrays[self.at], self.names[self.at]), 0)
        self._require_shapes(arrays)
        codes = letters_of(arrays[self.at])
        shows_n = bool(arrays[self.at][codes == self.alphabet.size].any())
        self._require_known(codes, shows_n=shows_n)
        if not shows_n:
            arrays[self.at] = codes
        return Inputs(codes, arrays)

    def of_codes(self, codes: Codes, others: Mapping[str, np.ndarray] | None) -> Inputs:
        given = {**(others or {}), self.names[self.at]: codes}
        return self._of_arrays([np.asarray(x) for x in self._in_order(given)])

    def _of_arrays(self, arrays: list[np.ndarray]) -> Inputs:
        """Arrays of which that of the sequence holds letter codes (n, L)."""
        codes: Codes = self._with_context(arrays[self.at], self.alphabet.unknown)
        arrays = [codes if i == self.at else x for i, x in enumerate(arrays)]
        self._require_shapes(arrays, as_codes=True)
        self._require_known(codes, shows_n=False)
        return Inputs(codes, arrays)

    @property
    def _shown_length(self) -> int:
        """How many positions of a sequence are read."""
        return self.length + sum(self.context)

    def _with_context(self, x: np.ndarray, unknown: int) -> np.ndarray:
        """Sequences (n, L, ...) with N around them, where moved inputs show more; as they are if they have that."""
        if x.ndim < 2 or x.shape[1] != self.length or not sum(self.context):
            return x
        return np.pad(x, [(0, 0), self.context, *[(0, 0)] * (x.ndim - 2)], constant_values=unknown)

    def _with_first_axis(self, given: Sequence[Any]) -> list[np.ndarray]:
        """The arrays of one sequence that came without the axis of sequences, with it."""
        arrays = [np.asarray(x) for x in given]
        wide = (self._shown_length, *self.shapes[self.at][1:])
        return [
            x[None] if x.shape in (shape, wide if i == self.at else shape) else x
            for i, (x, shape) in enumerate(zip(arrays, self.shapes, strict=True))
        ]

    def _in_order(self, given: Any) -> Sequence[Any]:
        """One array for each input of the model."""
        if isinstance(given, Mapping):
            missing = [name for name in self.names if name not in given]
            if missing:
                raise SequenceError(f"The model's inputs {missing} are not given. Received: {sorted(given)}")
            given = [given[name] for name in self.names]
        is_list = isinstance(given, (list, tuple)) and not is_text(given)
        arrays: Sequence[Any] = given if is_list else [given]
        if len(arrays) != len(self.names):
            raise SequenceError(
                f"The model has {len(self.names)} inputs ({', '.join(self.names)}). Received: {len(arrays)}"
            )
        return arrays

    def _require_shapes(self, arrays: Sequence[np.ndarray], *, as_codes: bool = False) -> None:
        n = len(arrays[self.at]) if arrays[self.at].ndim else 0
        for i, (name, shape, x) in enumerate(zip(self.names, self.shapes, arrays, strict=True)):
            wanted = (self._shown_length, *(() if as_codes else shape[1:])) if i == self.at else shape
            if x.shape != (n, *wanted):
                raise SequenceError(
                    f"Input {name!r} must have shape ({n}, {', '.join(map(str, wanted))}). Received: {x.shape}"
                )

    def _require_known(self, codes: Codes, *, shows_n: bool) -> None:
        """Raise :class:`SequenceError` for an N that the model's input of integers cannot hold."""
        if not self.views.is_coded or not (codes == self.alphabet.size).any():
            return
        if not self.views.knows_unknown:
            raise SequenceError(
                "A sequence holds an N, for which the model has no integer. Leave it out (--max-n 0 of a run), or name "
                "the integer of N with --codes."
            )
        if shows_n:
            raise SequenceError("An N must be a row of zeros where the model takes integers.")


def letters_of(one_hot: np.ndarray) -> np.ndarray:
    """Letter codes, uint8 (n, L), of one-hot rows (n, L, letters). An N, a row of equal numbers, is ``letters``.

    Raises
    ------
    SequenceError
        If a row is neither one-hot nor an N. Names the row.
    """
    size = one_hot.shape[-1]
    is_letter = (one_hot.max(-1) == 1) & ((one_hot != 0).sum(-1) == 1)
    is_n = (one_hot == one_hot[..., :1]).all(-1) & ~is_letter
    if not (is_letter | is_n).all():
        sequence, position = (int(i[0]) for i in np.nonzero(~(is_letter | is_n)))
        row = one_hot[sequence, position].tolist()
        raise SequenceError(f"Sequence {sequence}, position {position} is neither one-hot nor an N. Received: {row}")
    codes: np.ndarray = np.where(is_letter, one_hot.argmax(-1), size).astype("uint8")
    return codes


def is_text(given: Any) -> bool:
    """Whether it is a sequence as text, or a list of them."""
    if isinstance(given, np.ndarray):
        return bool(given.dtype.kind == "U")
    return isinstance(given, str) or (
        isinstance(given, (list, tuple)) and bool(given) and all(isinstance(x, str) for x in given)
    )


def codes_of_text(given: str | Sequence[str], alphabet: Alphabet, length: int, wide: int = 0) -> Codes:
    """Letter codes, uint8 (n, L), of one text or several; all may be ``wide`` instead.

    Raises
    ------
    SequenceError
        If a text has another length, or holds what is no letter. Names the sequence.
    """
    texts = [given] if isinstance(given, str) else [str(text) for text in np.atleast_1d(given)]
    length = wide if all(len(text) == wide for text in texts) else length
    for i, text in enumerate(texts):
        if len(text) != length:
            raise SequenceError(f"Sequence {i} must have {length:,} letters, as the input has. Received: {len(text):,}")
        if not (text.isascii() and text.isalpha()):
            at = next(k for k, letter in enumerate(text) if not (letter.isascii() and letter.isalpha()))
            raise SequenceError(f"Sequence {i}, position {at} is no letter. Received: {text[at]!r}")
    return np.stack([alphabet.encode(text) for text in texts])


def check_all_given(given: Mapping[str, object], wanted: Mapping[str, tuple[int, ...]], *, sequence: str = "") -> None:
    """Raise :class:`UsageError` if an input that is not the sequence has no values.

    ``sequence`` is the name and the shape of the input that holds the sequence, for the message.
    """
    missing = {name: shape for name, shape in wanted.items() if name not in given}
    if missing:
        listing = ", ".join(f"{name!r} {shape}" for name, shape in missing.items())
        noun = "an input" if len(missing) == 1 else f"{len(missing)} inputs"
        where = f" The sequence is in {sequence}." if sequence else ""
        raise UsageError(f"The model has {noun} beside the sequence: {listing}. Give each its values: {HOW}.{where}")


# --- arrays of letters and of scores ---------------------------------------------------------------------------------


def alternates(codes: np.ndarray, start: int, size: int, letters: int, n_policy: str) -> Iterable[np.ndarray]:
    """Letters to substitute in a chunk, int32 (S, size, letters - 1).

    If N are scored, a second array has the letter of each N that is left over.
    """
    chunk = codes[:, start : start + size]
    if chunk.shape[1] < size:
        chunk = np.pad(chunk, [(0, 0), (0, size - chunk.shape[1])], constant_values=0)
    others = other_letters(letters)
    yield others.take(chunk, axis=0)
    if n_policy == "score" and (chunk >= letters).any():
        rest = others.copy()
        rest[letters] = letters - 1
        yield rest.take(chunk, axis=0)


@cache
def other_letters(letters: int) -> np.ndarray:
    """The letters that can replace each letter, int32 (letters + 1, letters - 1); an N by all but the last."""
    others = np.arange(letters - 1, dtype="int32")
    table = (np.arange(letters, dtype="int32")[:, None] + 1 + others) % letters
    return np.concatenate([table, others[None]]).astype("int32")


def set_reference_letters(delta: np.ndarray, codes: np.ndarray) -> None:
    """Write 0 into ``delta`` (n, *head shape, positions, letters) at the sequences' own letters, (n, positions)."""
    known = codes < delta.shape[-1]
    if _is_single(delta):
        places = np.arange(codes.size) * delta.shape[-1] + codes.reshape(-1)
        delta.reshape(-1)[places if known.all() else places[known.reshape(-1)]] = 0
    else:
        row, column = np.nonzero(known)
        _flat(delta)[row, :, column, codes[row, column]] = 0


def column_of(wanted: np.ndarray, length: int) -> np.ndarray:
    """The column of the result for each position of the sequence: the first, if asked for twice; -1 if not at all."""
    columns = np.full(length, -1)
    columns[wanted[::-1]] = np.arange(len(wanted))[::-1]
    return columns


def scatter(delta: np.ndarray, values: np.ndarray, at: np.ndarray, bases: np.ndarray) -> None:
    """Write a chunk's values (S, P, A, *head shape) into ``delta`` (n, *head shape, positions, letters)."""
    n = len(delta)
    values = values.reshape(*values.shape[:3], -1)[:n]
    keep = at >= 0
    if not keep.all():
        at, bases, values = at[keep], bases[:, keep], values[:, keep]
    row, column = np.arange(n)[:, None, None], at[None, :, None]
    if _is_single(delta):
        delta.reshape(-1)[_places(delta, row, column, bases)] = values[..., 0]
    else:
        _flat(delta)[row, :, column, bases] = values


def _is_single(delta: np.ndarray) -> bool:
    """Whether there is one unit and no gap in memory: one number then says where a score goes, which is faster."""
    return prod(delta.shape[1:-2]) == 1 and bool(delta.flags.c_contiguous)


def _places(delta: np.ndarray, row: np.ndarray, column: np.ndarray, letter: np.ndarray) -> np.ndarray:
    length, letters = delta.shape[-2:]
    places: np.ndarray = (row * length + column) * letters + letter
    return places


def _flat(delta: np.ndarray) -> np.ndarray:
    """The same memory as (n, units, positions, letters)."""
    n, *shape, length, letters = delta.shape
    flat = delta.reshape(n, prod(shape), length, letters)
    assert not flat.size or np.may_share_memory(flat, delta)
    return flat


def blank(delta: Mapping[str, np.ndarray], rows: slice, where: np.ndarray) -> None:
    """Set the scores to NaN at some positions, bool (n, positions)."""
    if not where.any():  # which takes a tenth of the time
        return
    row, column = np.nonzero(where)
    for values in delta.values():
        values[rows][row, ..., column, :] = np.nan


def repeat_duplicates(delta: Mapping[str, np.ndarray], rows: slice, wanted: np.ndarray, columns: np.ndarray) -> None:
    """Copy the scores of positions that were asked for twice or more."""
    again = np.nonzero(columns[wanted] != np.arange(len(wanted)))[0]
    for values in delta.values():
        values[rows][..., again, :] = values[rows][..., columns[wanted[again]], :]


def fill_up(array: np.ndarray, multiple: int) -> np.ndarray:
    """Repeat the last row of an array (n, ...) until ``n`` is a multiple of ``multiple``.

    The last block of a run then has the shape of the others, so that nothing new is compiled for it.
    """
    n = len(array)
    return np.asarray(array)[np.minimum(np.arange(-(-n // multiple) * multiple), n - 1)]


# --- what the library returns ----------------------------------------------------------------------------------------


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
