"""Shapes and types of a result file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod

import numpy as np

from fastism_cli.errors import MAX_LONG_LETTERS, OutputError, brief
from fastism_cli.options.averages import Averages, parse_averages
from fastism_cli.options.choices import COMPRESSIONS, DELTA_DTYPES
from fastism_cli.results import schema
from fastism_cli.scores.tracks import Track, head_tracks


@dataclass(frozen=True)
class HeadLayout:
    """One head of the model, as it is stored.

    Attributes
    ----------
    name : str
        As in the model; see :func:`fastism_cli.results.schema.head_key` for its name in the file.
    shape : tuple of int
        Of one row of ``/ref``: ``(T,)``, or ``(positions, T)`` of a positional head that is kept whole.
    target_names : tuple of str
        One for each unit of the last axis; default ``"0", "1", ...``.
    reduce : str
        How positions became one number.
    """

    name: str
    shape: tuple[int, ...]
    target_names: tuple[str, ...] = ()
    reduce: str = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "target_names", self.target_names or tuple(map(str, range(self.shape[-1]))))
        if len(self.target_names) != self.shape[-1]:
            raise OutputError(
                f"head {self.name!r} has {self.shape[-1]} targets. Received: {len(self.target_names)} names for them"
            )

    @property
    def key(self) -> str:
        """Name of its datasets."""
        return schema.head_key(self.name)

    @property
    def tracks(self) -> list[Track]:
        """Its targets, labelled."""
        return head_tracks(self.name, self.shape, self.target_names)


def _require_whole(least: int, *numbers: object) -> None:
    wrong = [number for number in numbers if type(number) is not int or number < least]
    if wrong:
        raise TypeError(f"places and counts are whole numbers from {least} on. Received: {wrong[0]!r:.40}")


@dataclass(frozen=True)
class ReplacedBlocks:
    """The blocks of a file: ``[first + i * step, first + i * step + width)`` of the input, for ``i`` below ``count``.

    Attributes
    ----------
    contents : int
        How many scores each block has.
    replace_with : str
        What was put into it, as it was asked for.
    """

    first: int
    step: int
    width: int
    count: int
    contents: int
    replace_with: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> ReplacedBlocks:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        TypeError, ValueError
            If it did not.
        """
        found = cls(**json.loads(text))
        _require_whole(0, found.first)
        _require_whole(1, found.step, found.width, found.count, found.contents)
        if type(found.replace_with) is not str:
            raise TypeError(f"replace_with is a text. Received: {found.replace_with!r}")
        return found

    @property
    def starts(self) -> np.ndarray:
        """The first position of each, int64 (P,)."""
        return self.first + self.step * np.arange(self.count)

    @property
    def end(self) -> int:
        """The position after the last block."""
        return self.first + max(self.count - 1, 0) * self.step + self.width

    @property
    def text(self) -> str:
        """``91 blocks of 10 bases, one every 10, replaced with N``"""
        return (
            f"{self.count:,} blocks of {self.width:,} bases, one every {self.step:,}, replaced with "
            f"{brief(self.replace_with, MAX_LONG_LETTERS)}"
        )


@dataclass(frozen=True)
class ModelFile:
    """One model of a mean: its path as given, empty for one given as an object, and the SHA-256 of its files."""

    path: str
    sha256: str


@dataclass(frozen=True)
class MeanOf:
    """What every score of a file is the mean of.

    Attributes
    ----------
    models : tuple of ModelFile
    rc, rc_pairs, shifts, average, spread
        As they were asked for.
    """

    models: tuple[ModelFile, ...]
    rc: bool
    rc_pairs: tuple[str, ...]
    shifts: tuple[int, ...]
    average: str
    spread: bool

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> MeanOf:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        TypeError, ValueError, KeyError
            If it did not.
        """
        given = json.loads(text)
        models = tuple(ModelFile(**{name: str(value) for name, value in model.items()}) for model in given["models"])
        lists = {name: tuple(given[name]) for name in ("rc_pairs", "shifts")}
        found = cls(**{**given, **lists, "models": models})
        _ = found.averages
        if not (type(found.rc) is type(found.spread) is bool):
            raise TypeError(f"rc and spread are truth values. Received: {found.rc!r} and {found.spread!r}")
        return found

    @property
    def averages(self) -> Averages:
        return parse_averages(
            rc=self.rc, rc_pairs=self.rc_pairs, shifts=self.shifts, average=self.average, spread=self.spread
        )

    @property
    def text(self) -> str:
        """``5 models, both strands; the reverse complement exchanges 0:1``"""
        exchanged = brief(", ".join(self.rc_pairs), MAX_LONG_LETTERS)
        pairs = f"; the reverse complement exchanges {exchanged}" if exchanged else ""
        return f"{self.averages.text(len(self.models))}{pairs}"


@dataclass(frozen=True)
class PairsLayout:
    """The pairs of a file: of every two of ``count`` positions from ``first`` on that lie at most ``within`` apart."""

    first: int
    count: int
    within: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> PairsLayout:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        TypeError, ValueError
            If it did not.
        """
        found = cls(**json.loads(text))
        _require_whole(0, found.first)
        _require_whole(1, found.count, found.within)
        return found

    @property
    def number(self) -> int:
        """How many pairs of positions there are."""
        return sum(max(self.count - distance, 0) for distance in range(1, self.within + 1))

    @property
    def text(self) -> str:
        """``1,790 pairs of 100 bases, at most 20 apart``"""
        return f"{self.number:,} pairs of {self.count:,} bases, at most {self.within:,} apart"


@dataclass(frozen=True)
class Layout:
    """Shapes and types of a result file.

    Attributes
    ----------
    n_rows : int
        Records of the BED, or of its shard.
    length : int
        Bases of each row that ``/seq`` and ``/delta`` hold.
    heads : tuple of HeadLayout
    alphabet : str
        Letters, in the order of the last axis of ``/delta``.
    delta_dtype : str
        ``"float32"`` or ``"float16"``.
    compression : str
        ``"gzip"``, ``"lzf"`` or ``"none"``.
    blocks : ReplacedBlocks, optional
        What was replaced; None: single letters.
    has_spread : bool
        Whether there is a standard deviation of each delta, over several models.
    pairs : PairsLayout, optional
        Which pairs have interactions; None: no /pairs.

    Raises
    ------
    OutputError
        If a value is not one of those above, or two heads would have one name.
    """

    n_rows: int
    length: int
    heads: tuple[HeadLayout, ...]
    alphabet: str = "ACGT"
    delta_dtype: str = "float32"
    compression: str = "gzip"
    blocks: ReplacedBlocks | None = None
    has_spread: bool = False
    pairs: PairsLayout | None = None

    def __post_init__(self) -> None:
        _check_choice("delta_dtype", self.delta_dtype, DELTA_DTYPES)
        _check_choice("compression", self.compression, COMPRESSIONS)
        keys = [head.key for head in self.heads]
        same = [head.name for head in self.heads if keys.count(head.key) > 1]
        if same:
            raise OutputError(
                f"the heads {', '.join(map(repr, same))} would have the same name in a file: "
                "score each in a run of its own, --targets HEAD=all"
            )

    @property
    def delta_bytes(self) -> int:
        """Size of all deltas, and of their deviations, before compression."""
        values = len(self.delta_groups) * sum(prod(self.delta_shape(head)) for head in self.heads)
        return values * np.dtype(self.delta_dtype).itemsize

    @property
    def delta_groups(self) -> tuple[str, ...]:
        """Names of the groups whose datasets have the shape of deltas."""
        return (schema.DELTA, schema.DELTA_SD) if self.has_spread else (schema.DELTA,)

    @property
    def pairs_bytes(self) -> int:
        """Size of all interactions before compression."""
        values = sum(prod(self.pairs_shape(head)) for head in self.heads) if self.pairs else 0
        return values * np.dtype(self.delta_dtype).itemsize

    @property
    def seq_shape(self) -> tuple[int, int]:
        """(N, L)."""
        return (self.n_rows, self.length)

    def ref_shape(self, head: HeadLayout) -> tuple[int, ...]:
        """(N, T)."""
        return (self.n_rows, *head.shape)

    def delta_shape(self, head: HeadLayout) -> tuple[int, ...]:
        """(N, T, L, 4); of blocks (N, T, P, A)."""
        inner = (self.length, len(self.alphabet)) if self.blocks is None else (self.blocks.count, self.blocks.contents)
        return (self.n_rows, *head.shape, *inner)

    def pairs_shape(self, head: HeadLayout) -> tuple[int, ...]:
        """(N, T, P, D, 4, 4)."""
        assert self.pairs is not None
        letters = len(self.alphabet)
        return (self.n_rows, *head.shape, self.pairs.count, self.pairs.within, letters, letters)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise OutputError(f"{name} must be one of {', '.join(choices)}. Received: {name}={value!r}")
