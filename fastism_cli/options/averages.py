"""What a score is the mean of: both strands, moved inputs, several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from typing import NamedTuple

from fastism_cli.errors import UsageError, brief
from fastism_cli.options.choices import MOST_LENGTH, MOST_TARGETS, signed_number, split_named, whole_number

AVERAGES = ("scores", "outputs")  # what is averaged: after the reduction of a head, or before
Pairs = tuple[tuple[int, int], ...]  # of targets that the other strand exchanges


class Pass(NamedTuple):
    """One way to show a sequence to a model: moved by ``shift`` bases, and then perhaps as its reverse complement."""

    shift: int = 0
    reverse: bool = False


@dataclass(frozen=True)
class Averages:
    """What every score is the mean of.

    Attributes
    ----------
    rc : bool
        Whether the model is shown the reverse complement of each sequence too.
    pairs : mapping of head name to pairs of targets
        Targets that stand for the two strands: the reverse complement exchanges them. None is the only head.
    shifts : tuple of int
        By how many bases the input is moved along the sequence; a positive number moves it to the 3' end.
    average : "scores" or "outputs"
        Whether heads are averaged after their reduction, or before.
    spread : bool
        Whether the standard deviation over models is scored too.
    """

    rc: bool = False
    pairs: Mapping[str | None, Pairs] = field(default_factory=dict)
    shifts: tuple[int, ...] = (0,)
    average: str = "scores"
    spread: bool = False

    @property
    def passes(self) -> tuple[Pass, ...]:
        """All ways to show a sequence to one model."""
        strands = (False, True) if self.rc else (False,)
        return tuple(Pass(shift, reverse) for shift in self.shifts for reverse in strands)

    @property
    def is_plain(self) -> bool:
        """Whether a sequence is shown once, as it is."""
        return self.passes == (Pass(),)

    def text(self, models: int) -> str:
        """``5 models, both strands, shifts -1, 0, 1``: what the mean is over, if it is of so many models."""
        strands = "both strands" if self.rc else ""
        moved = f"shifts {', '.join(map(str, self.shifts))}" if self.shifts != (0,) else ""
        found = ", ".join(filter(None, [f"{models} models" if models > 1 else "", strands, moved]))
        return found + (", before heads are reduced" if self.average == "outputs" else "")

    @property
    def before(self) -> int:
        """How many bases before the input are read."""
        return max(-min(self.shifts), 0)

    @property
    def after(self) -> int:
        """How many bases behind the input are read."""
        return max(*self.shifts, 0)


def parse_averages(
    *, rc: bool, rc_pairs: str | Sequence[str], shifts: str | Sequence[int] | None, average: str, spread: bool
) -> Averages:
    """Read the options of averages, as the command line and the library give them.

    Raises
    ------
    UsageError
        If one is not understood, or pairs are given and no reverse complement.
    """
    if average not in AVERAGES:
        raise UsageError(f"--average must be one of {', '.join(AVERAGES)}. Received: {brief(repr(average))}")
    pairs = parse_pairs([rc_pairs] if isinstance(rc_pairs, str) else rc_pairs)
    if pairs and not rc:
        raise UsageError("--rc-pairs says which targets the reverse complement exchanges: give --rc too.")
    return Averages(rc, pairs, parse_shifts(shifts), average, spread)


def parse_shifts(given: str | Sequence[int] | None) -> tuple[int, ...]:
    """``"-1,0,1" -> (-1, 0, 1)``; None is the input where it is, (0,).

    Raises
    ------
    UsageError
        If these are not whole numbers, each once.
    """
    if given is None:
        return (0,)
    if isinstance(given, str):
        found = [signed_number(text, most=MOST_LENGTH) for text in given.split(",")]
    else:
        found = [_whole(value) for value in given]
    shifts = tuple(shift for shift in found if shift is not None)
    if not shifts or len(shifts) < len(found) or len(set(shifts)) < len(shifts):
        raise UsageError(
            f"--shifts must be whole numbers, each once: -1,0,1, up to {MOST_LENGTH}. Received: {brief(repr(given))}"
        )
    return shifts


def _whole(value: object) -> int | None:
    try:
        number = index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
    return number if abs(number) <= MOST_LENGTH else None


def parse_pairs(values: Sequence[str]) -> dict[str | None, Pairs]:
    """``["profile=0:1,2:3"] -> {"profile": ((0, 1), (2, 3))}``; None is the only head.

    Raises
    ------
    UsageError
        If it is not that, or a target is in two pairs.
    """
    found: dict[str | None, Pairs] = {}
    for head, text in split_named(values):
        pairs = tuple(_pair(item) for item in text.split(","))
        targets = [target for pair in pairs if pair for target in pair]
        if None in pairs or len(set(targets)) < len(targets) or head in found:
            raise UsageError(
                "--rc-pairs must be pairs of target numbers, each target once: 0:1,2:3 or HEAD=0:1,2:3. "
                f"Received: {brief(text)}"
            )
        found[head] = tuple(pair for pair in pairs if pair)
    return found


def _pair(text: str) -> tuple[int, int] | None:
    first, _, second = text.partition(":")
    numbers = [whole_number(number.strip(), most=MOST_TARGETS - 1) for number in (first, second)]
    return None if None in numbers else (numbers[0], numbers[1])  # type: ignore[return-value]
