"""Options that may be for one head of the model: ``[HEAD=]VALUE``."""

from __future__ import annotations

from collections.abc import Sequence


def split_named(values: Sequence[str]) -> list[tuple[str | None, str]]:
    """``["a=0,1", "2"] -> [("a", "0,1"), (None, "2")]``"""
    return [(value.partition("=")[0], value.partition("=")[2]) if "=" in value else (None, value) for value in values]
