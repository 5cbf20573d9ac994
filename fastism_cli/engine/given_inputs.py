"""What a model is given: sequences as text, letter codes or one-hot rows, and the arrays of its other inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastism_cli.errors import SequenceError, UsageError
from fastism_cli.genome.alphabet import Alphabet, Codes

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
