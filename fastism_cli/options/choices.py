"""Values that options can have, their defaults, and how they are written: ``--shard I/K``, ``[HEAD=]VALUE``, sizes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from fastism_cli.errors import UsageError, brief

CENTERS = ("auto", "midpoint", "summit")
EDGES = ("pad", "skip", "error")
SCORED_N_POLICIES = ("skip", "score")  # of the engine; "error" is handled when regions are read
N_POLICIES = (*SCORED_N_POLICIES, "error")
MISSING_CONTIG = ("error", "skip")
ENGINES = ("auto", "fast", "naive")
PRECISIONS = ("float32", "tf32", "bfloat16", "float64")
DELTA_DTYPES = ("float32", "float16")
COMPRESSIONS = ("gzip", "lzf", "none")
REDUCTIONS = ("none", "sum", "mean", "max", "center:W", "logsumexp", "profile", "l2", "jsd")
SCALES = ("logit", "log2")
CHECKPOINT_SECONDS = 30.0
SAMPLES = 20  # shuffles of a block
MOST_SAMPLES = 100_000

OVERLAPS = ("mean", "max", "first")  # one number for a base that several regions cover
LINE_FOR = ("substitution", "base", "site")
MOST_DELTA = 1e30
EXPORT_COMPRESSIONS = ("none", "gzip")

PICTURE_FORMATS = ("png", "svg", "pdf")
PICTURE_STRANDS = ("+", "-", "region")
PICTURE_BASES = 120  # shown of a longer region: letters stay readable on a page
REPORT_REGIONS = 100  # that are drawn
REPORT_TARGETS = 12  # that are shown of a file with more
REPORT_MEGABYTES = 5.0

# The largest numbers that options take: no contig is longer, and no call of a model holds more.
MOST_BASES = 2**32 - 1
MOST_IN_A_CALL = 2**31 - 1
MOST_TARGETS = 10**6  # of one head
MOST_SECONDS = 1e9
MOST_MEGABYTES = 1e6
MOST_TOLERANCE = 1e30
MOST_LENGTH = 10**7  # of a model's input: ten times that of the largest published one
MOST_SEQUENCES = 1_000  # that verify compares


def whole_number(text: str, *, least: int = 0, most: int) -> int | None:
    """``"12" -> 12``; None if it is not written in digits alone, or not in the range.

    Python refuses to read thousands of digits, and takes digits of other scripts and underscores: none of these is a
    number here.
    """
    if not (text.isascii() and text.isdigit() and len(text.lstrip("0")) <= len(str(most))):
        return None
    return number if least <= (number := int(text.lstrip("0") or "0")) <= most else None


def signed_number(text: str, *, most: int) -> int | None:
    """``"-12" -> -12``, ``"+3" -> 3``; None if it is not written so, or its magnitude is more than ``most``."""
    number = whole_number(text[1:] if text[:1] in ("-", "+") else text, most=most)
    return -number if number is not None and text.startswith("-") else number


Function = Callable[[Any], Any]  # a reduction of the user's: from predictions (n, *shape) to (n, targets)
Kind = str | Function
Reduce = Kind | Sequence[Kind] | Mapping[str | None, Kind | Sequence[Kind]]


def reductions_of(head: str | None, given: Iterable[Kind]) -> tuple[Kind, ...]:
    """``["sum,jsd", "max", f] -> ("sum", "jsd", "max", f)``, each once.

    Raises
    ------
    UsageError
        If a reduction is not known.
    """
    kinds = [kind for one in given for kind in (one.split(",") if isinstance(one, str) else [one])]
    for kind in kinds:
        check_reduction(head, kind)
    return tuple(dict.fromkeys(kinds))


def check_reduction(head: str | None, kind: Kind) -> None:
    """Raise :class:`UsageError` if there is no such reduction, or ``center:W`` has no number of positions."""
    if callable(kind):
        return
    name, colon, width = str(kind).partition(":")
    is_center = name == "center" and whole_number(width, least=1, most=MOST_BASES) is not None
    if not (is_center if colon or name == "center" else kind in REDUCTIONS):
        what = kind if head is None else f"{head}={kind}"
        raise UsageError(f"--reduce {brief(what)}: not known. Choose one of: {', '.join(REDUCTIONS)}.")


def kinds_of(given: Kind | Sequence[Kind]) -> list[Kind]:
    """One reduction, or several, as a list."""
    return list(given) if isinstance(given, (list, tuple)) else [cast(Kind, given)]


def name_of_function(function: Function) -> str:
    """What a function of the user's is called in results and messages; ``lambda`` for one without a name."""
    inner = getattr(function, "func", function)  # of functools.partial
    name = getattr(inner, "__name__", None) or getattr(inner, "name", None) or type(inner).__name__
    return str(name).replace("<lambda>", "lambda")


def reduction_text(kind: Kind) -> str:
    """A reduction as results and messages call it: ``sum``, or ``function NAME``."""
    return kind if isinstance(kind, str) else f"function {name_of_function(kind)}"


VARIABLE = "FASTISM_CACHE"  # a folder, or "off"


def cache_folder() -> Path | None:
    """``$FASTISM_CACHE``, or ``fastism`` in the user's cache folder; None if it is off or the user has no home."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return None if named.lower() in ("", "off", "0", "no") else Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "fastism" if os.path.isabs(base) else None


# --- options that may be for one head of the model: [HEAD=]VALUE -----------------------------------------------------

T = TypeVar("T")
Units = tuple[int, ...]  # numbers of the targets of a head, from 0


def split_named(values: Sequence[str]) -> list[tuple[str | None, str]]:
    """``["a=0,1", "2"] -> [("a", "0,1"), (None, "2")]``"""
    return [(value.partition("=")[0], value.partition("=")[2]) if "=" in value else (None, value) for value in values]


def parse_range(item: str) -> range | None:
    """``"3-5" -> range(3, 6)``, ``"4" -> range(4, 5)``; empty if it ends before it starts, None if it is neither.

    Numbers that no head can have are no numbers here.
    """
    first, dash, last = item.partition("-")
    start, end = (whole_number(text, most=MOST_TARGETS - 1) for text in (first, last if dash else first))
    return None if start is None or end is None else range(start, end + 1)


def by_head(option: str, known: Iterable[str], given: Mapping[str | None, T]) -> dict[str, T]:
    """``given`` with the None of a model of one head replaced by its name."""
    names = list(known)
    if None in given and len(names) > 1:
        raise UsageError(
            f"{option}: the model has several heads. Name one: {', '.join(f'{name}=...' for name in names)}."
        )
    if None in given and len(given) > 1:
        raise UsageError(f"{option}: give one value for the only head, with or without its name, {names[0]!r}.")
    for name in given:
        if name is not None and name not in names:
            raise UsageError(f"{option}: the model has no head {name!r}. Its heads: {', '.join(names)}.")
    return {names[0] if name is None else name: values for name, values in given.items()}


# --- one of K contiguous ranges of rows: --shard I/K -----------------------------------------------------------------


@dataclass(frozen=True)
class Shard:
    """Range ``index`` of ``count``, counted from 0.

    Raises
    ------
    UsageError
        If there is no such range.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"--shard I/K counts from 0: I is from 0 to K - 1. Received: --shard {self.index}/{self.count}"
            )

    def rows(self, n: int) -> range:
        """The rows of ``n`` that are in this range. Sizes of ranges differ by one at most, and can be 0.

        ::

            n 10, count 4    [0, 2) [2, 5) [5, 7) [7, 10)
        """
        return range(self.index * n // self.count, (self.index + 1) * n // self.count)

    @property
    def suffix(self) -> str:
        """``.shard-03-of-12``, padded with zeros, so that names sort as numbers do; empty for the only shard."""
        if self.count == 1:
            return ""
        width = len(str(self.count))
        return f".shard-{self.index:0{width}}-of-{self.count}"


def parse_shard(text: str | None) -> Shard:
    """``"3/12" -> Shard(3, 12)``; None is the only shard, 0/1.

    Raises
    ------
    UsageError
        If it is not two numbers.
    """
    if text is None:
        return Shard()
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    if not match:
        raise UsageError(f"--shard must be I/K, such as 0/10 for the first of ten. Received: {brief(text)}")
    return Shard(int(match[1]), int(match[2]))


def array_expression(numbers: Iterable[int]) -> str:
    """``[3, 7, 8, 9] -> "3,7-9"``, as SLURM's ``--array`` takes it."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


# --- what --replace-with puts into a block of the sequence, as it is written -----------------------------------------

UNKNOWN, BACKGROUND, SHUFFLE, REVERSE_COMPLEMENT = "N", "background", "shuffle", "reverse-complement"
LETTERS, FILE = "letters", "file"
ARRAY_ENDING = ".npy"
WAYS = f"{UNKNOWN}, {BACKGROUND}[:NUMBER,...], {SHUFFLE}, {REVERSE_COMPLEMENT}, a sequence of letters, or FILE.npy"


class Replacement(NamedTuple):
    """What a block is replaced with.

    Attributes
    ----------
    kind : str
        One of the constants of this module.
    text : str
        The letters of a sequence, or the name of a file.
    frequencies : tuple of float
        Of the letters, in the order of the alphabet; empty: all equal.
    """

    kind: str
    text: str = ""
    frequencies: tuple[float, ...] = ()

    @property
    def width(self) -> int | None:
        """The width that it has by itself; None if it can have any, or only the file knows."""
        return len(self.text) if self.kind == LETTERS else None


def names_file(text: str) -> bool:
    """Whether it is the name of a file."""
    return text.endswith(ARRAY_ENDING)


def parse_replacement(text: str, alphabet: str = "ACGT") -> Replacement:
    """``"background:0.3,0.2,0.2,0.3" -> Replacement("background", frequencies=(0.3, 0.2, 0.2, 0.3))``

    Raises
    ------
    UsageError
        If it is none of :data:`WAYS`.
    """
    word, colon, rest = text.partition(":")
    unknown = "X" if UNKNOWN in alphabet.upper() else UNKNOWN  # N is an amino acid
    if text == unknown:
        return Replacement(UNKNOWN)
    if text in (SHUFFLE, REVERSE_COMPLEMENT, BACKGROUND):
        return Replacement(text)
    if word == BACKGROUND and colon:
        return Replacement(BACKGROUND, frequencies=_frequencies(rest, len(alphabet)))
    if names_file(text):
        return Replacement(FILE, text)
    letters = text.upper()
    if letters and set(letters) <= {*alphabet.upper(), unknown}:
        return Replacement(LETTERS, letters)
    raise UsageError(
        f"--replace-with must be {WAYS}; the letters are {alphabet} and {unknown}. Received: {brief(text)}"
    )


def _frequencies(text: str, letters: int) -> tuple[float, ...]:
    """Numbers for all letters; they add up to 1."""
    try:
        found = tuple(float(number) for number in text.split(","))
    except ValueError:
        found = ()
    fits = len(found) == letters and all(isfinite(x) and x >= 0 for x in found)
    if not fits or abs(sum(found) - 1) > 1e-6:
        raise UsageError(
            f"--replace-with {BACKGROUND}: give {letters} frequencies that add up to 1, as in "
            f"{BACKGROUND}:0.3,0.2,0.2,0.3. Received: {brief(text)}"
        )
    return found


# --- how a picture looks ---------------------------------------------------------------------------------------------

INCHES = {"in": 1.0, "mm": 1 / 25.4, "cm": 1 / 2.54, "": 1.0}
LEAST_INCHES, MOST_INCHES = 0.5, 200.0
LEAST_POINTS, MOST_POINTS = 5.0, 72.0  # of a letter: journals refuse less than 5 points
LEAST_DPI, MOST_DPI = 30, 2400
FEWEST_IN_A_ROW = 10  # bases
NO_TITLE = "none"
_SIZE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{0,6})?)\s*(in|mm|cm|)", re.ASCII)
_NUMBER = r"[-+]?[0-9]{0,20}\.?[0-9]{1,20}(?:[eE][-+]?[0-9]{1,3})?"
_LIMITS = re.compile(rf"({_NUMBER}):({_NUMBER})", re.ASCII)


@dataclass(frozen=True)
class FigureOptions:
    """How a picture looks, whatever is drawn.

    Attributes
    ----------
    width, height : float or None
        Inches. Default: as the bases and the parts need.
    dpi : int
        Pixels of an inch of a PNG.
    font_size : float
        Points of the letters; none is smaller than 5.
    title : str or None
        In the place of name, place and prediction; ``none`` leaves it out.
    ylim : (float, float) or None
        Ends of the axis of importance. Default: what is drawn.
    own_y : bool
        Each part has its own axis of importance and its own colours, instead of one for all.
    wrap : int or None
        Bases of a row; what is longer goes into several. None draws one row.
    heat_map : bool or None
        Default: where one target of one result is drawn.
    labels : sequence of str
        What each result is called, where there are several. Default: the names of the files.

    Raises
    ------
    UsageError
        If a size is not one.
    """

    width: float | None = None
    height: float | None = None
    dpi: int = 150
    font_size: float = 8.0
    title: str | None = None
    ylim: tuple[float, float] | None = None
    own_y: bool = False
    wrap: int | None = None
    heat_map: bool | None = None
    labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, inches in (("width", self.width), ("height", self.height)):
            if inches is not None and not LEAST_INCHES <= inches <= MOST_INCHES:
                raise UsageError(f"{name} must be {LEAST_INCHES} to {MOST_INCHES:g} inches. Received: {inches}")
        if not LEAST_POINTS <= self.font_size <= MOST_POINTS:
            raise UsageError(
                f"font_size must be {LEAST_POINTS:g} to {MOST_POINTS:g} points. Received: {self.font_size}"
            )
        if self.wrap is not None and self.wrap < FEWEST_IN_A_ROW:
            raise UsageError(f"wrap must be at least {FEWEST_IN_A_ROW} bases. Received: {self.wrap}")
        if self.ylim is not None and not self.ylim[0] < self.ylim[1]:
            raise UsageError(f"ylim must be two numbers, the lower one first. Received: {self.ylim}")

    @property
    def small(self) -> float:
        """Points of numbers and names."""
        return max(LEAST_POINTS, 0.85 * self.font_size)


def parse_size(text: str) -> float:
    """``"89mm" -> 3.5039``: inches of a length in in, mm or cm; a number alone is inches.

    Raises
    ------
    UsageError
        If it is none, or not of 0.5 to 200 inches.
    """
    match = _SIZE.fullmatch(text.strip())
    inches = float(match[1]) * INCHES[match[2]] if match else 0.0
    if not LEAST_INCHES <= inches <= MOST_INCHES:
        raise UsageError(
            f"{brief(text)!r} is no length of {LEAST_INCHES} to {MOST_INCHES:g} inches, such as 89mm, 18.3cm or 7.2in."
        )
    return inches


def parse_limits(text: str) -> tuple[float, float]:
    """``"-1:2.5" -> (-1.0, 2.5)``.

    Raises
    ------
    UsageError
        If it is not LOW:HIGH, or the lower one is not below the other.
    """
    match = _LIMITS.fullmatch(text.strip())
    low, high = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
    if not (low < high and isfinite(high - low)):
        raise UsageError(f"{brief(text)!r} is not LOW:HIGH, two numbers such as -0.5:2.")
    return low, high
