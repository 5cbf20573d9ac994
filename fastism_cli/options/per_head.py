"""Options that may be for one head of the model: ``[HEAD=]VALUE``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from fastism_cli.errors import UsageError
from fastism_cli.options.choices import MOST_TARGETS, whole_number

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
