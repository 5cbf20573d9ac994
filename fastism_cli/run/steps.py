"""Where the time of a run goes, step by step."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Steps:
    """Seconds spent in each named step; a step belongs to one thread, steps of several threads overlap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Count the body towards a step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def each(self, name: str, items: Generator[T, None, None]) -> Generator[T, None, None]:
        """The items, with the time that it takes to make them counted towards a step."""
        try:
            while True:
                with self.time(name):
                    item = next(items, None)
                if item is None:
                    return
                yield item
        finally:
            items.close()

    def share(self, name: str, whole: str) -> float:
        """Of the seconds of ``whole``, how many were spent in ``name``: from 0 to 1."""
        return self.seconds.get(name, 0.0) / max(self.seconds.get(whole, 0.0), 1e-9)
