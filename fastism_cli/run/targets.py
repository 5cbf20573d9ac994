"""``--targets`` and ``--target-names``: which targets of which heads are stored, and their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fastism_cli.errors import UsageError
from fastism_cli.options.per_head import Units, by_head, parse_range, split_named
from fastism_cli.results.layout import HeadLayout


class ScoredHead(Protocol):
    """The properties of a :class:`fastism_cli.model.heads.Head` that are used here; that class needs Keras."""

    @property
    def name(self) -> str: ...
    @property
    def source_name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def n_targets(self) -> int: ...
    @property
    def reduce(self) -> str: ...
    @property
    def units(self) -> Units | None: ...


def parse_targets(values: Sequence[str]) -> dict[str | None, Units | None]:
    """Parse ``--targets``.

    ``["0,3-5"]`` becomes ``{None: (0, 3, 4, 5)}``, and ``["a=all", "b=1"]`` becomes ``{"a": None, "b": (1,)}``.

    Raises
    ------
    UsageError
        If a value is not a list of numbers and ranges (both ends included), or a target comes twice.
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
    units = parse_range(item)
    if units is None:
        raise UsageError(
            f"--targets {text}: {item!r} is neither a number nor a range. Write 0,3-5, HEAD=0,3-5 or HEAD=all."
        )
    if not units:
        raise UsageError(f"--targets {text}: {item} ends before it starts.")
    return units


def read_target_names(values: Sequence[str]) -> dict[str | None, tuple[str, ...]]:
    """Read the names of all targets of a head from ``[HEAD=]FILE``, which has one name in each line.

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


def stored_heads(heads: Sequence[ScoredHead], names: Mapping[str | None, Sequence[str]]) -> tuple[HeadLayout, ...]:
    """Say how each scored head is stored, with the names of its targets.

    Parameters
    ----------
    names : mapping of head name to names
        Names of all targets of the head, chosen or not; None is the only head.

    Raises
    ------
    UsageError
        If a head does not exist, or there are more or fewer names than targets.
    """
    named = by_head("--target-names", list(dict.fromkeys(head.source_name for head in heads)), names)
    return tuple(_stored_head(head, named.get(head.source_name)) for head in heads)


def _stored_head(head: ScoredHead, names: Sequence[str] | None) -> HeadLayout:
    size = head.n_targets
    if names is not None and len(names) != size:
        raise UsageError(f"--target-names: head {head.source_name!r} has {size} targets. Received: {len(names)} names")
    all_names = tuple(map(str, range(size))) if names is None else tuple(names)
    units = range(size) if head.units is None else head.units
    return HeadLayout(head.name, head.shape, tuple(all_names[i] for i in units), head.reduce)
