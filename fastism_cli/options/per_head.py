"""Options that may be for one head of the model: ``[HEAD=]VALUE``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from fastism_cli.errors import UsageError

T = TypeVar("T")


def split_named(values: Sequence[str]) -> list[tuple[str | None, str]]:
    """``["a=0,1", "2"] -> [("a", "0,1"), (None, "2")]``"""
    return [(value.partition("=")[0], value.partition("=")[2]) if "=" in value else (None, value) for value in values]


def by_head(option: str, known: Iterable[str], given: Mapping[str | None, T]) -> dict[str, T]:
    """``given`` with the None of a model of one head replaced by its name."""
    names = list(known)
    if None in given and len(names) > 1:
        raise UsageError(
            f"{option}: the model has several heads. Name one: {', '.join(f'{name}=...' for name in names)}."
        )
    for name in given:
        if name is not None and name not in names:
            raise UsageError(f"{option}: the model has no head {name!r}. Its heads: {', '.join(names)}.")
    return {names[0] if name is None else name: values for name, values in given.items()}
