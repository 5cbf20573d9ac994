"""What stands in the place of the reference: every other letter at each position, or new content in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastism_cli.engine.block_contents import Content, Fixed, Seen, content_of, width_for
from fastism_cli.engine.inputs_and_scores import alternates, blank, set_reference_letters
from fastism_cli.errors import UsageError
from fastism_cli.genome.alphabet import Alphabet, Codes
from fastism_cli.model.sequence_inputs import Views
from fastism_cli.options.averages import Pass
from fastism_cli.rules.frames import Blocks, every_position


class Change(NamedTuple):
    """What is put into a chunk of blocks in one call.

    Attributes
    ----------
    new : int32 (S, P, A), or float32 (S or 1, P or 1, A, width, letters)
        Letters, or the rows of the block.
    slots : int (S or 1, P, A)
        Where each score goes in the last axis of the result.
    same : bool (S, P, A), optional
        Which blocks hold this already: their delta is exactly 0.
    """

    new: np.ndarray
    slots: np.ndarray
    same: np.ndarray | None = None


class Sequences(NamedTuple):
    """Sequences of one call.

    Attributes
    ----------
    codes : uint8 (S, L)
    shown : uint8 (S, L) or float (S, L, letters)
        What the engine is given: the codes, or rows where an N is not a row of zeros.
    """

    codes: Codes
    shown: np.ndarray


class Changes(Protocol):
    """One kind of change, for blocks of one width.

    Attributes
    ----------
    width : int
        Of a block.
    alternates : int
        How many changes of a block are computed.
    columns : int
        The last axis of the result.
    """

    @property
    def width(self) -> int: ...

    @property
    def alternates(self) -> int: ...

    @property
    def columns(self) -> int: ...

    def blocks(self, starts: np.ndarray, length: int) -> Blocks:
        """The blocks that are computed for those that begin at ``starts``."""

    def seen_in(self, shown: Pass, length: int) -> Changes:
        """The same change of an input of this length, in the way that a pass shows it."""

    def of_chunk(self, sequences: Sequences, blocks: Blocks, first: int, size: int) -> Iterable[Change]:
        """What is put into ``size`` blocks from number ``first`` on."""

    def settled(self, values: np.ndarray, change: Change) -> np.ndarray:
        """The scores (S, P, slots, ...) of values (S, P, A, ...) that the engine has computed."""

    def spans(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first position that is changed, and that after the last, of the blocks at these places."""

    def begin(self, delta: Mapping[str, np.ndarray], codes: Codes, places: np.ndarray) -> None:
        """Enter what is known before, of sequences ``codes`` (n, L): ``delta`` (n, *shape, places, columns)."""

    def end(self, delta: Mapping[str, np.ndarray], rows: slice, codes: Codes, places: np.ndarray) -> None:
        """Take out of some rows what must not be scored; ``codes`` are those of the rows."""


@dataclass(frozen=True)
class Substitutions:
    """Every other letter at each position. ``n_policy`` as in :class:`fastism_cli.engine.fastism.FastISM`."""

    letters: int
    n_policy: str
    width = 1

    @property
    def alternates(self) -> int:
        return self.letters - 1

    @property
    def columns(self) -> int:
        return self.letters

    def blocks(self, starts: np.ndarray, length: int) -> Blocks:
        return every_position(length)

    def seen_in(self, shown: Pass, length: int) -> Substitutions:
        return self  # which puts every letter everywhere

    def of_chunk(self, sequences: Sequences, blocks: Blocks, first: int, size: int) -> Iterator[Change]:
        for bases in alternates(sequences.codes, first, size, self.letters, self.n_policy):
            yield Change(bases, bases)

    def settled(self, values: np.ndarray, change: Change) -> np.ndarray:
        return values

    def spans(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return places, places + 1

    def begin(self, delta: Mapping[str, np.ndarray], codes: Codes, places: np.ndarray) -> None:
        for values in delta.values():
            set_reference_letters(values, codes[:, places])

    def end(self, delta: Mapping[str, np.ndarray], rows: slice, codes: Codes, places: np.ndarray) -> None:
        if self.n_policy == "skip":
            blank(delta, rows, codes[:, places] >= self.letters)


@dataclass(frozen=True)
class Replacements:
    """New content in blocks of one width. Blocks that hold an N are scored as all others.

    Attributes
    ----------
    content : Content
    alphabet : Alphabet
    width : int
    step : int, optional
        From one block to the next, if they lie regularly.
    """

    content: Content
    alphabet: Alphabet
    width: int
    step: int | None = None

    @property
    def alternates(self) -> int:
        return self.content.count

    @property
    def columns(self) -> int:
        return 1 if self.content.is_averaged else self.content.count

    def blocks(self, starts: np.ndarray, length: int) -> Blocks:
        """Those at ``starts``, and those between them: a run and its check then need the same compiled calls."""
        if self.step is not None and len(starts) and not ((starts - starts.min()) % self.step).any():
            return Blocks(self.width, range(int(starts.min()), int(starts.max()) + 1, self.step))
        return Blocks.of(starts, self.width)

    def seen_in(self, shown: Pass, length: int) -> Replacements:
        if shown == Pass():
            return self
        partners = self.alphabet.complements if shown.reverse else tuple(range(self.alphabet.size))
        return replace(self, content=Seen(self.content, shown, length, self.width, partners))

    def of_chunk(self, sequences: Sequences, blocks: Blocks, first: int, size: int) -> Iterator[Change]:
        starts = np.array(blocks.starts_from(first, size))
        at = np.minimum(starts[:, None] + np.arange(self.width), sequences.codes.shape[1] - 1)
        is_coded = sequences.shown.ndim == 2
        shown = sequences.shown[:, at]
        here = (self.alphabet.one_hot(shown) if is_coded else shown.astype("float32"))[:, :, None]
        new = self.content.rows(here, starts)
        slots = np.broadcast_to(np.arange(self.columns), (1, size, self.columns))
        yield Change(new, slots, (new == here).all((3, 4)))

    def sequences(self, one_hot: np.ndarray, start: int) -> np.ndarray:
        """All changed sequences of one block, float32 (alternates, L, letters), of one sequence (L, letters)."""
        stop = start + self.width
        here = one_hot[None, None, None, start:stop].astype("float32")
        changed = np.repeat(one_hot[None], self.alternates, axis=0)
        changed[:, start:stop] = self.content.rows(here, np.array([start]))[0, 0]
        return changed

    def settled(self, values: np.ndarray, change: Change) -> np.ndarray:
        assert change.same is not None
        same = change.same.reshape(*change.same.shape, *(1,) * (values.ndim - 3))
        values = np.where(same, np.zeros((), values.dtype), values)
        return values.mean(axis=2, keepdims=True, dtype="float64") if self.content.is_averaged else values

    def spans(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return places, places + self.width

    def begin(self, delta: Mapping[str, np.ndarray], codes: Codes, places: np.ndarray) -> None:
        pass

    def end(self, delta: Mapping[str, np.ndarray], rows: slice, codes: Codes, places: np.ndarray) -> None:
        pass


# --- from what a user gives ------------------------------------------------------------------------------------------


class Replacing(NamedTuple):
    """What a user wants to put into blocks.

    Attributes
    ----------
    replace_with, samples, seed
        As :class:`fastism_cli.engine.fastism.FastISM` takes them.
    views : Views
        How the model reads sequences.
    """

    replace_with: Any
    samples: int
    seed: int
    views: Views

    def ranges(
        self, length: int, width: int | None, step: int | None, ranges: Sequence[tuple[int, int]] | None
    ) -> tuple[tuple[int, int], ...]:
        """The blocks ``[start, end)``: those given, or all of one width that lie in the sequence as a whole.

        Raises
        ------
        UsageError
            If there is no such block.
        """
        if ranges is not None:
            if width is not None or step is not None:
                raise UsageError("Give ranges, or width and step: not both.")
            return _checked_ranges(ranges, length)
        wide = self.width(width)
        if step is not None and step < 1:
            raise UsageError(f"step must be at least 1. Received: step={step}")
        if not 1 <= wide <= length:
            raise UsageError(
                f"A block must have from 1 to {length} positions, the length of the model's input. Received: {wide}"
            )
        return tuple((start, start + wide) for start in range(0, length - wide + 1, step or wide))

    def width(self, asked: int | None) -> int:
        """The width of all blocks.

        Raises
        ------
        UsageError
            If it is not given, or another than that of the replacement.
        """
        return width_for(self.replace_with, self.views.alphabet, asked)

    def by_width(
        self, ranges: Sequence[tuple[int, int]], step: int | None
    ) -> list[tuple[Replacements, np.ndarray, np.ndarray]]:
        """For each width, the widest first: what is replaced, where blocks begin, and their places in ``ranges``."""
        starts, widths = np.array([start for start, _ in ranges]), np.array([end - start for start, end in ranges])
        alphabet, found = self.views.alphabet, []
        for width in sorted(set(widths.tolist()), reverse=True):
            content = content_of(self.replace_with, alphabet, width, samples=self.samples, seed=self.seed)
            require_readable(content, self.views)
            (at,) = np.nonzero(widths == width)
            found.append((Replacements(content, alphabet, width, step), starts[at], at))
        return found


def _checked_ranges(ranges: Sequence[tuple[int, int]], length: int) -> tuple[tuple[int, int], ...]:
    try:
        found = tuple((index(start), index(end)) for start, end in ranges)
    except (TypeError, ValueError) as error:
        raise UsageError(f"ranges must be pairs of whole numbers (start, end). Received: {ranges!r:.80}") from error
    wrong = [one for one in found if not 0 <= one[0] < one[1] <= length]
    if wrong or not found:
        what = f"Received: {wrong[0]}" if wrong else "There are none."
        raise UsageError(f"ranges must be (start, end) with 0 <= start < end <= {length}. {what}")
    return found


def require_readable(content: Content, views: Views) -> None:
    """Raise :class:`UsageError` if the model takes integers and there is none for a row of the content."""
    if not views.is_coded or not isinstance(content, Fixed):
        return
    is_letter = (content.values.max(-1) == 1) & ((content.values != 0).sum(-1) == 1)
    is_unknown = (content.values == 0).all(-1)
    if not (is_letter | is_unknown).all():
        raise UsageError("replace_with: the model takes integers, and there is one for each letter alone.")
    if is_unknown.any() and not views.knows_unknown:
        raise UsageError("replace_with: the model has no integer for N. Name it with --codes.")


def refuse_without_replacement(**given: Any) -> None:
    """Raise :class:`UsageError` if an option of blocks is given and no replacement."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise UsageError(f"{', '.join(names)}: of blocks, for which replace_with says what is put into them.")
