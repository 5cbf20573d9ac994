"""What a run tells of how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told how a run goes on."""

    def start(self, rows: int, done: int = 0) -> None: ...
    def advance(self, rows: int, substitutions: int) -> None: ...


class Silent:
    """Progress that nobody watches."""

    def start(self, rows: int, done: int = 0) -> None:
        pass

    def advance(self, rows: int, substitutions: int) -> None:
        pass
