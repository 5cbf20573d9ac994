"""``--targets`` and ``--target-names``: which units of which heads are stored, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fastism_cli.errors import UsageError
from fastism_cli.headed import split_named
from fastism_cli.io.hdf5 import HeadLayout

Units = tuple[int, ...]


class ScoredHead(Protocol):
    """What is needed of a head: ``shape`` without the batch axis, units last."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def reduce(self) -> str: ...


@dataclass(frozen=True)
class Output:
    """A head as it is stored. ``units`` None: all of them."""

    layout: HeadLayout
    units: Units | None

    @property
    def name(self) -> str:
        return self.layout.name

    def take(self, values: np.ndarray, *, axis: int) -> np.ndarray:
        """The chosen units along ``axis``, in the order in which they were asked for."""
        return values if self.units is None else np.take(values, self.units, axis=axis)


def parse_targets(values: Sequence[str]) -> dict[str | None, Units | None]:
    """``["0,3-5"] -> {None: (0, 3, 4, 5)}``, ``["a=all", "b=1"] -> {"a": None, "b": (1,)}``.

    Raises
    ------
    UsageError
        If it is not a list of numbers and ranges (both ends included), or a unit comes twice.
    """
    chosen: dict[str | None, Units | None] = {}
    for head, text in split_named(values):
        if head in chosen:
            raise UsageError(
                f"--targets names {'all heads' if head is None else repr(head)} twice. Join them by commas."
            )
        chosen[head] = None if text == "all" else _units(text)
    if None in chosen and len(chosen) > 1:
        raise UsageError("--targets: give either one list for the only head, or HEAD=LIST for each head to keep.")
    return chosen


def _units(text: str) -> Units:
    units = tuple(unit for item in text.split(",") for unit in _range(item.strip(), text))
    repeated = sorted({unit for unit in units if units.count(unit) > 1}) if len(set(units)) < len(units) else []
    if repeated:
        raise UsageError(f"--targets {text}: {', '.join(map(str, repeated[:5]))} comes twice.")
    return units


def _range(item: str, text: str) -> range:
    first, _, last = item.partition("-")
    ends = [first, last] if "-" in item else [first, first]
    if not all(end.isascii() and end.isdigit() for end in ends):
        raise UsageError(
            f"--targets {text}: {item!r} is neither a number nor a range. Write 0,3-5, HEAD=0,3-5 or HEAD=all."
        )
    start, stop = int(ends[0]), int(ends[1]) + 1
    if stop <= start:
        raise UsageError(f"--targets {text}: {item} ends before it starts.")
    return range(start, stop)


def read_target_names(values: Sequence[str]) -> dict[str | None, tuple[str, ...]]:
    """Names of all units of a head, from ``[HEAD=]FILE`` with one a line.

    Raises
    ------
    UsageError
        If a file cannot be read.
    """
    return {head: _lines(path) for head, path in split_named(values)}


def _lines(path: str) -> tuple[str, ...]:
    try:
        with open(path, encoding="utf-8") as file:
            return tuple(file.read().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text (UTF-8)"
        raise UsageError(f"--target-names: {path} cannot be read: {reason}") from error


def choose_outputs(
    heads: Sequence[ScoredHead],
    targets: Mapping[str | None, Units | None],
    names: Mapping[str | None, Sequence[str]],
) -> tuple[Output, ...]:
    """The heads that are stored, in the order of the model: with ``targets``, only those named there.

    Raises
    ------
    UsageError
        If a head or a unit does not exist, or there are more or fewer names than units.
    """
    chosen = _by_head("--targets", heads, targets)
    named = _by_head("--target-names", heads, names)
    kept = [head for head in heads if not targets or head.name in chosen]
    return tuple(_output(head, chosen.get(head.name), named.get(head.name)) for head in kept)


def _by_head(option: str, heads: Sequence[ScoredHead], given: Mapping[str | None, Sequence | None]) -> dict:
    """``given`` with the None of a model of one head replaced by its name."""
    known = [head.name for head in heads]
    if None in given and len(known) > 1:
        raise UsageError(
            f"{option}: the model has several heads. Name one: {', '.join(f'{name}=...' for name in known)}."
        )
    for name in given:
        if name is not None and name not in known:
            raise UsageError(f"{option}: the model has no head {name!r}. Its heads: {', '.join(known)}.")
    return {known[0] if name is None else name: values for name, values in given.items()}


def _output(head: ScoredHead, units: Units | None, names: Sequence[str] | None) -> Output:
    size = head.shape[-1]
    if units and max(units) >= size:
        raise UsageError(f"--targets: head {head.name!r} has {size} targets, numbered from 0. Received: {max(units)}")
    if names is not None and len(names) != size:
        raise UsageError(f"--target-names: head {head.name!r} has {size} targets. Received: {len(names)} names")
    names = tuple(map(str, range(size))) if names is None else tuple(names)
    kept = tuple(range(size)) if units is None else units
    layout = HeadLayout(head.name, (*head.shape[:-1], len(kept)), tuple(names[i] for i in kept), head.reduce)
    return Output(layout, units)
