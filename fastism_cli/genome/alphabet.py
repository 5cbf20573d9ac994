"""Letters of a sequence as small integers: encode, one-hot, decode, reverse-complement."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fastism_cli.errors import SequenceError

Codes = npt.NDArray[np.uint8]

_COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A", "U": "A"}


@dataclass(frozen=True)
class Alphabet:
    """The letters that a model knows, in the order of its input channels.

    Letter ``i`` has code ``i``. Everything else, IUPAC ambiguity codes included, has the code ``unknown`` (an N).
    Case is ignored. An alphabet of T reads U as T, and one of U reads T as U.

    Parameters
    ----------
    letters : str
        Distinct ASCII letters, for instance ``"ACGT"``.

    Raises
    ------
    SequenceError
        If ``letters`` is empty, repeats a letter, or holds something that is not an ASCII letter.
    """

    letters: str = "ACGT"

    def __post_init__(self) -> None:
        letters = self.letters.upper()
        if not (letters.isascii() and letters.isalpha()) or len(set(letters)) < len(letters):
            raise SequenceError(f"An alphabet is distinct letters A-Z, such as ACGT. Received: {self.letters!r}")
        object.__setattr__(self, "letters", letters)

    @property
    def size(self) -> int:
        """Number of letters."""
        return len(self.letters)

    @property
    def unknown(self) -> int:
        """The code of a letter outside the alphabet, such as N."""
        return self.size

    @property
    def unknown_letter(self) -> str:
        """The letter that ``decode`` writes for ``unknown``: N, or X if N is in the alphabet (amino acids)."""
        return "X" if "N" in self.letters else "N"

    def encode(self, sequence: str | bytes) -> Codes:
        """Code of each letter, uint8 (length,)."""
        raw = sequence.encode("ascii", "replace") if isinstance(sequence, str) else sequence
        return self._code_of_byte[np.frombuffer(raw, dtype=np.uint8)]

    def one_hot(self, codes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Codes (..., length) as float32 (..., length, size); ``unknown`` is a row of zeros."""
        rows: npt.NDArray[np.float32] = np.eye(self.size + 1, self.size, dtype=np.float32)
        return rows.take(self._checked(codes), axis=0)

    def decode(self, codes: npt.ArrayLike) -> str:
        """Codes (length,) as upper-case letters."""
        byte_of_code = np.frombuffer((self.letters + self.unknown_letter).encode(), dtype=np.uint8)
        return bytes(byte_of_code[self._checked(codes)]).decode()

    def reverse_complement(self, codes: npt.ArrayLike) -> Codes:
        """The other strand of codes (..., length), read in its own direction; ``unknown`` stays ``unknown``.

        Raises
        ------
        SequenceError
            If the letters are not those of DNA or RNA.
        """
        return self._complement.take(self._checked(codes)[..., ::-1])

    @property
    def complements(self) -> tuple[int, ...]:
        """The code of each letter's complement.

        Raises
        ------
        SequenceError
            If the letters are not those of DNA or RNA.
        """
        return tuple(int(code) for code in self._complement[: self.size])

    def _checked(self, codes: npt.ArrayLike) -> npt.NDArray[np.integer[Any]]:
        codes = np.asarray(codes)
        if codes.size == 0:
            return codes.astype(np.uint8)
        if not np.issubdtype(codes.dtype, np.integer) or codes.min() < 0 or codes.max() > self.unknown:
            raise SequenceError(
                f"Codes of {self.letters} are integers from 0 to {self.unknown}. "
                f"Received: {codes.dtype} from {codes.min()} to {codes.max()}"
            )
        return codes

    @cached_property
    def _code_of_byte(self) -> Codes:
        table = np.full(256, self.unknown, dtype=np.uint8)
        for code, letter in enumerate(self.letters):
            for alias in {letter, self._alias(letter)}:
                table[ord(alias)] = table[ord(alias.lower())] = code
        return table

    def _alias(self, letter: str) -> str:
        """U for the T of DNA and T for the U of RNA; no alias elsewhere (U is also an amino acid)."""
        nucleotides = {"A", "C", "G", letter}
        is_alone = letter in "TU" and nucleotides <= set(self.letters) <= nucleotides | {"N"}
        return {"T": "U", "U": "T"}[letter] if is_alone else letter

    @property
    def has_complement(self) -> bool:
        """Whether the letters are those of DNA or RNA."""
        return set(self.letters) in ({*"ACGT"}, {*"ACGU"})

    @cached_property
    def _complement(self) -> Codes:
        if not self.has_complement:
            raise SequenceError(
                f"Only ACGT and ACGU have a reverse complement, not the alphabet {self.letters}. Run it unstranded."
            )
        partners = [_COMPLEMENT[letter] for letter in self.letters]
        return np.append(self.encode("".join(partners)), np.uint8(self.unknown))


DNA = Alphabet("ACGT")
RNA = Alphabet("ACGU")
