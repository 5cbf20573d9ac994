"""The options of a run, as the command line and the library give them. They are checked before Keras loads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from fastism_cli.errors import UsageError, brief
from fastism_cli.options.averages import AVERAGES, Averages, parse_averages
from fastism_cli.options.choices import (
    CENTERS,
    CHECKPOINT_SECONDS,
    COMPRESSIONS,
    DELTA_DTYPES,
    EDGES,
    ENGINES,
    FILE,
    LETTERS,
    MISSING_CONTIG,
    MOST_BASES,
    MOST_IN_A_CALL,
    MOST_LENGTH,
    MOST_SAMPLES,
    MOST_SECONDS,
    N_POLICIES,
    PRECISIONS,
    SAMPLES,
    SCALES,
    Kind,
    Reduce,
    Shard,
    kinds_of,
    parse_replacement,
    parse_shard,
    reduction_text,
    reductions_of,
    signed_number,
    split_named,
    whole_number,
)

# Options with a fixed set of values.
CHOICES: dict[str, Sequence[str]] = {
    "center": CENTERS,
    "edge": EDGES,
    "n_policy": N_POLICIES,
    "missing_contig": MISSING_CONTIG,
    "dtype": DELTA_DTYPES,
    "compression": COMPRESSIONS,
    "engine": ENGINES,
    "precision": PRECISIONS,
    "average": AVERAGES,
}
# Options that change neither the numbers nor the rows of the file.
NOT_OF_THE_RESULT = frozenset(
    {"overwrite", "check", "batch_size", "compression"} | {"shard", "resume", "checkpoint", "summary", "devices"}
)


@dataclass(frozen=True)
class RunOptions:
    """What a user can choose; every field is an option of ``fastism run`` with the same meaning.

    ``reduce`` may also hold functions, as that of :class:`fastism_cli.FastISM`; these are neither resumed nor run on
    several ``devices``.

    Raises
    ------
    UsageError
        If an option does not have such a value.
    """

    center: str = "auto"
    window: int | str | None = None
    offset: int = 0
    stranded: bool = False
    edge: str = "pad"
    n_policy: str = "skip"
    max_n: float = 1.0
    missing_contig: str = "error"
    limit: int | None = None
    inputs: Sequence[str] = ()
    targets: Sequence[str] = ()
    target_names: Sequence[str] = ()
    reduce: Reduce = ()
    scale: Sequence[str] = ()
    sequence_input: str | int | None = None
    tie: str | None = None
    codes: str | None = None
    length: int | None = None
    alphabet: str = "ACGT"
    weights: str | None = None
    signature: str | None = None
    custom_objects: Sequence[str] = ()
    allow_lambda: bool = False
    rules: Sequence[str] = ()
    engine: str = "auto"
    precision: str = "float32"
    batch_size: str | int = "auto"
    check: bool = True
    dtype: str = "float32"
    compression: str = "gzip"
    overwrite: bool = False
    tile: bool = False
    shard: str | None = None
    resume: bool = False
    checkpoint: float = CHECKPOINT_SECONDS
    summary: str | None = None
    devices: str | None = None
    replace_with: str | None = None
    width: int | None = None
    step: int | None = None
    samples: int = SAMPLES
    seed: int = 0
    rc: bool = False
    rc_pairs: Sequence[str] = ()
    shifts: str | None = None
    average: str = "scores"
    spread: bool = False
    within: int | None = None

    def __post_init__(self) -> None:
        self._make_plain()
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"{flag(name)} must be one of {', '.join(choices)}. Received: {getattr(self, name)!r}")
        for name, most in {"limit": MOST_BASES, "length": MOST_LENGTH}.items():
            _check_number(name, getattr(self, name), most)
        self._check_place()
        self._check_blocks()
        self._check_pairs()
        if self.batch_size != "auto":
            _check_number("batch_size", self.batch_size, MOST_IN_A_CALL)
        if not 0 <= self.max_n <= 1:
            raise UsageError(f"--max-n is a share from 0 to 1. Received: {self.max_n}")
        parse_shard(self.shard)
        self._check_reduce()
        _ = self.averages
        if self.resume and self.overwrite:
            raise UsageError("--resume continues a result and --overwrite replaces it: give one of the two.")
        if self.tile and self.center == "summit":
            raise UsageError("--tile covers whole intervals, --center summit one place of each: give one of the two.")
        if not 0 <= self.checkpoint <= MOST_SECONDS:
            raise UsageError(f"--checkpoint is a number of seconds up to {MOST_SECONDS:g}. Received: {self.checkpoint}")

    def _make_plain(self) -> None:
        """What the file will hold, whose readers ask for the exact types: truth values, lists of texts, the window."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "bool":
                object.__setattr__(self, field.name, _truth(field.name, value))
            elif field.type == "Sequence[str]" and isinstance(value, str):
                object.__setattr__(self, field.name, (value,))
            elif isinstance(value, os.PathLike):
                object.__setattr__(self, field.name, os.fspath(value))
        window = parse_window(self.window)
        if window is not None and window.first is None:
            object.__setattr__(self, "window", int(window.width))

    def _check_reduce(self) -> None:
        """Refuse a function where only its name is at hand."""
        own = next((reduction_text(kind) for _, kind in _each_kind(self.reduce) if callable(kind)), None)
        if own is not None and self.resume:
            raise UsageError(f"--resume: reduce is {own}, which a file does not hold. Start anew with --overwrite.")
        if own is not None and self.devices is not None:
            raise UsageError(f"--devices: reduce is {own}, which other processes do not have. Leave --devices out.")

    def _check_blocks(self) -> None:
        """What --replace-with, --width, --step and those of shuffles say."""
        for name, most in {"width": MOST_LENGTH, "step": MOST_LENGTH, "samples": MOST_SAMPLES}.items():
            _check_number(name, getattr(self, name), most)
        if not isinstance(self.seed, int) or not 0 <= self.seed <= MOST_IN_A_CALL:
            raise UsageError(f"--seed must be a whole number from 0 on. Received: {brief(repr(self.seed))}")
        if self.replace_with is None:
            if self.width is not None or self.step is not None:
                raise UsageError("--width and --step are of blocks: --replace-with says what is put into them.")
            return
        own = parse_replacement(self.replace_with, self.alphabet)
        if own.kind not in (LETTERS, FILE) and self.width is None:
            raise UsageError(f"--replace-with {brief(self.replace_with)}: give the width of the blocks with --width.")
        if None not in (own.width, self.width) and own.width != self.width:
            raise UsageError(
                f"--replace-with {brief(self.replace_with)} has {own.width} letters. Received: --width {self.width}"
            )

    def _check_pairs(self) -> None:
        """What --within says, the largest distance of pairs."""
        _check_number("within", self.within, MOST_LENGTH)
        if self.within is None:
            return
        for name in ("replace_with", "tile"):
            if getattr(self, name):
                raise UsageError(f"--within is of pairs of single letters: leave {flag(name)} out.")
        if not self.averages.is_plain:
            raise UsageError("--within is of one model as it is: leave --rc, --shifts and --average out.")
        window = parse_window(self.window)
        if window is not None and self.within >= window.width:
            raise UsageError(
                f"--within {self.within}: the window has {window.width} bases, of which none lie so far apart."
            )

    def _check_place(self) -> None:
        """What --window, --offset and --tile say of the bases that are substituted."""
        window = parse_window(self.window)
        if not isinstance(self.offset, int):
            raise UsageError(f"--offset must be a whole number. Received: {brief(repr(self.offset))}")
        if abs(self.offset) > MOST_BASES:
            raise UsageError(f"--offset must be at most {MOST_BASES}. Received: {_size_of(self.offset)}")
        if self.tile and (self.offset or (window and window.first is not None)):
            raise UsageError(
                "--tile covers whole intervals, --offset and --window FIRST:END a place beside the middle of each: "
                "give one of the two. --window WIDTH goes with --tile."
            )

    @property
    def averages(self) -> Averages:
        """What every score is the mean of, besides several models."""
        names = ("rc", "rc_pairs", "shifts", "average", "spread")
        return parse_averages(**{name: getattr(self, name) for name in names})

    @property
    def what_is_scored(self) -> str:
        """The word of the log for what is changed: substitutions, or blocks."""
        return "substitutions" if self.replace_with is None else "blocks"

    def config(self) -> str:
        """The options that decide what the file holds, as JSON with sorted keys."""
        chosen = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in NOT_OF_THE_RESULT}
        return json.dumps(chosen | {"reduce": reduce_texts(self.reduce)}, sort_keys=True, default=_plain)

    def scorer_options(self) -> dict[str, Any]:
        """Keyword arguments of :class:`fastism_cli.FastISM` that do not depend on the model."""
        names = ("length", "alphabet", "batch_size", "precision", "engine", "tie", "codes", "scale")
        of_blocks = ("replace_with", "width", "step", "samples", "seed")
        of_averages = ("rc", "rc_pairs", "shifts", "average", "spread")
        return {name: getattr(self, name) for name in (*names, *of_blocks, *of_averages)} | {
            "sequence_input": self.sequence_input,
            "n_policy": "score" if self.n_policy == "score" else "skip",
        }


def _truth(name: str, value: Any) -> bool:
    if isinstance(value, str) or value not in (0, 1):
        raise UsageError(f"{name} is True or False. Received: {brief(repr(value))}")
    return bool(value)


def _plain(value: Any) -> Any:
    """What JSON does not know, such as numbers of numpy, as what it does."""
    return value.tolist() if hasattr(value, "tolist") else list(value)


def _check_number(name: str, value: Any, most: int) -> None:
    if value is None or (isinstance(value, int) and 1 <= value <= most):
        return
    if isinstance(value, int):
        fault = "must be at least 1" if value < 1 else f"must be at most {most}"
        raise UsageError(f"{flag(name)} {fault}. Received: {value if abs(value) <= most else _size_of(value)}")
    raise UsageError(f"{flag(name)} must be a whole number. Received: {brief(repr(value))}")


def _size_of(number: int) -> str:
    """For a message: Python writes no number of thousands of digits."""
    return f"a number of {number.bit_length():,} bits"


def flag(name: str) -> str:
    """The command-line option of a field: ``max_n -> --max-n``."""
    return f"--{name.replace('_', '-')}"


def parse_reduce(reduce: Reduce) -> dict[str | None, tuple[Kind, ...]]:
    """``["a=sum,jsd", "a=max"] -> {"a": ("sum", "jsd", "max")}``; None stands for all positional heads not named.

    Functions stand by themselves, or in a mapping by the name of their head.

    Raises
    ------
    UsageError
        If a reduction is not known.
    """
    given: dict[str | None, list[Kind]] = {}
    for head, kind in _each_kind(reduce):
        ((name, value),) = split_named([kind]) if isinstance(kind, str) else [(None, kind)]
        given.setdefault(head if name is None else name, []).append(value)
    return {head: reductions_of(head, kinds) for head, kinds in given.items()}


def _each_kind(reduce: Reduce) -> Iterator[tuple[str | None, Kind]]:
    """Each reduction as it was given, and the head that a mapping gives it for."""
    for head, kinds in reduce.items() if isinstance(reduce, Mapping) else [(None, reduce)]:
        yield from ((head, kind) for kind in kinds_of(kinds))


def reduce_texts(reduce: Reduce) -> list[str]:
    """The same as the command line would take it, and functions by their names: what a file holds of them."""
    if isinstance(reduce, (list, tuple)) and all(isinstance(kind, str) for kind in reduce):
        return list(reduce)
    given = parse_reduce(reduce)
    texts = {head: ",".join(map(reduction_text, kinds)) for head, kinds in given.items()}
    return [text if head is None else f"{head}={text}" for head, text in texts.items()]


class Scale(NamedTuple):
    """What a head is scored on: its logits, before the last sigmoid or softmax; or ``log2(y + added)``."""

    kind: str
    added: float = 1.0

    @property
    def text(self) -> str:
        """``logit``, or ``log2(y + 1)``."""
        return self.kind if self.kind == "logit" else f"log2(y + {self.added:g})"


def parse_scale(values: str | Sequence[str]) -> dict[str | None, Scale]:
    """``["a=logit", "log2:0.5"] -> {"a": Scale("logit"), None: Scale("log2", 0.5)}``; None is all other heads.

    Raises
    ------
    UsageError
        If a scale is not known, or a head is given two.
    """
    given: dict[str | None, Scale] = {}
    for head, text in split_named([values] if isinstance(values, str) else values):
        kind, colon, added = text.partition(":")
        number = _positive(added) if colon else 1.0
        if kind not in SCALES or number is None or (colon and kind != "log2"):
            raise UsageError(f"--scale {brief(text)}: not known. Choose logit, log2, or log2:C with C above 0.")
        if head in given:
            raise UsageError(f"--scale is given twice for {'all heads' if head is None else repr(head)}.")
        given[head] = Scale(kind, number)
    return given


def _positive(text: str) -> float | None:
    try:
        number = float(text) if text.isascii() and "_" not in text and len(text) < 40 else 0.0
    except ValueError:
        return None
    return number if 0 < number < 1e30 else None


class Window(NamedTuple):
    """The bases of an input that are substituted.

    Attributes
    ----------
    width : int
        How many.
    first : int or None
        The first of them, counted from the base in the middle (0) along the strand of the record; None if they are the
        middle of the input, which has the same bases on both strands.
    """

    width: int
    first: int | None = None

    @property
    def place(self) -> str:
        """``from -50 to 149 of the middle``; empty for the middle itself."""
        return "" if self.first is None else f"from {self.first:,} to {self.first + self.width - 1:,} of the middle"


def parse_window(value: Any) -> Window | None:
    """``200 -> Window(200)``, ``"-50:150" -> Window(200, -50)``; None is the whole input.

    Raises
    ------
    UsageError
        If it is neither a width from 1 on, nor FIRST:END with END after FIRST.
    """
    if value is None or isinstance(value, int):
        _check_number("window", value, MOST_BASES)
        return None if value is None else Window(value)
    first, colon, end = str(value).partition(":")
    width = whole_number(first, least=1, most=MOST_BASES) if not colon else None
    ends = [signed_number(text, most=MOST_BASES) for text in (first, end)]
    if width is not None:
        return Window(width)
    if not colon or ends[0] is None or ends[1] is None or ends[0] >= ends[1]:
        raise UsageError(
            "--window must be a number of bases from 1 on, or FIRST:END from the base in the middle, as in -50:150. "
            f"Received: {brief(repr(value))}"
        )
    return Window(ends[1] - ends[0], ends[0])


def substituted_window(value: Any, length: int, *, tile: bool) -> Window:
    """The bases of an input that are substituted: without ``--window``, the middle half of a tile, else all.

    Raises
    ------
    UsageError
        If ``value`` is no window: see :func:`parse_window`.
    """
    return parse_window(value) or Window(max(length // 2, 1) if tile else length)


class Tied(NamedTuple):
    """An input that holds the sequence, or its reverse complement."""

    name: str
    reverse: bool


def parse_tie(text: str | None) -> tuple[Tied, ...]:
    """``"a,b:rc" -> (Tied("a", False), Tied("b", True))``

    Raises
    ------
    UsageError
        If it is not a list of two or more names.
    """
    if text is None:
        return ()
    tied = tuple(Tied(name.removesuffix(":rc"), name.endswith(":rc")) for name in text.split(","))
    if len({tie.name for tie in tied}) < max(len(tied), 2) or not all(tie.name for tie in tied):
        raise UsageError(
            f"--tie must be two names or more, each once: NAME1,NAME2 or NAME1,NAME2:rc. Received: {brief(text)}"
        )
    return tied


def parse_codes(text: str | None) -> dict[str, int] | None:
    """``"A=1,C=2,N=0" -> {"A": 1, "C": 2, "N": 0}``

    Raises
    ------
    UsageError
        If it is not that, or a letter or a number comes twice.
    """
    if text is None:
        return None
    pairs = [item.partition("=") for item in text.upper().split(",")]
    numbers = [whole_number(code, most=MOST_IN_A_CALL) for _, _, code in pairs]
    codes = {letter: code for (letter, _, _), code in zip(pairs, numbers, strict=True) if letter and code is not None}
    if not all(letter for letter, _, _ in pairs) or None in numbers:
        raise UsageError(f"--codes must be LETTER=NUMBER,... as in A=1,C=2,G=3,T=4,N=0. Received: {brief(text)}")
    if len(codes) < len(pairs) or len(set(codes.values())) < len(codes):
        raise UsageError(f"--codes: every letter and every number may come once. Received: {brief(text)}")
    return codes


def default_output(bed: str | None, fasta: str, shard: Shard = Shard(), kind: str = "ism") -> str:  # noqa: B008  (frozen)
    """``folder/peaks.bed.gz -> peaks.ism.h5`` or ``peaks.shard-3-of-8.ism.h5``, in the current folder.

    Named after the FASTA if there is no BED. ``kind`` is "ism", or "pairs".
    """
    return f"{os.path.splitext(stem_of(bed or fasta, COMPRESSED_ENDINGS))[0]}{shard.suffix}.{kind}.h5"


COMPRESSED_ENDINGS = (".gz", ".bgz")
VCF_ENDINGS = (*COMPRESSED_ENDINGS, ".vcf", ".bcf")
RESULT_ENDINGS = (".h5", ".hdf5", ".ism", ".pairs")


def stem_of(path: str | os.PathLike[str], endings: Sequence[str]) -> str:
    """``folder/calls.vcf.gz -> calls``: what an output in the current folder is named after; ``stdin`` for ``-``.

    Parameters
    ----------
    endings : sequence of str
        Removed if they are there, one after the other.
    """
    name = "stdin" if path == "-" else os.path.basename(path)
    for ending in endings:
        name = name.removesuffix(ending)
    return name
