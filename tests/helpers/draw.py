"""Which of the dear tests ``make test`` runs: a share that a seed draws. ``make test-all`` runs every one."""

from __future__ import annotations

from collections.abc import Set
from zlib import crc32

from tests.slow.mutants import BREAKS

# Those that `make mutants` names run whatever is drawn: each catches a rule that is broken on purpose.
ALWAYS = frozenset(test for change in BREAKS for test in change.tests)


def is_drawn(test: str, one_in: int, seed: str, always: Set[str] = ALWAYS) -> bool:
    """Whether a test, by its node id, runs. Each runs with exactly one of ``one_in`` seeds in a row; "all" runs all."""
    return seed == "all" or test in always or crc32(test.encode()) % one_in == int(seed) % one_in
