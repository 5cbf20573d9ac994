"""One of K contiguous ranges of rows: ``--shard I/K``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fastism_cli.errors import UsageError
from fastism_cli.options.problems import brief


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
