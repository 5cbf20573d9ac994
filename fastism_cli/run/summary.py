"""What a run reports: its progress, how long each step took, the last lines of the log, the file of ``--summary``."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from fastism_cli.errors import counted
from fastism_cli.results.schema import Status, unscored_text
from fastism_cli.results.staging import write_whole

T = TypeVar("T")
MAX_SUMMARY = 1 << 24  # characters: more is no summary


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes
    ----------
    output : str
        The result file.
    regions : int
        Rows of the result.
    substitutions : int
        How many this run scored.
    seconds : float
        Time of scoring, without loading and checking.
    statuses : mapping of Status to int
        How many rows have each status.
    resumed : int
        Rows that an earlier, interrupted run had done.
    n_clipped : int
        Deltas of the result that were too large for float16.
    n_longer : int
        Records of which only the middle is scored.
    steps : mapping of str to float
        Seconds of each step; read, engine and write overlap.
    rate : float
        Substitutions a second, without the time in which the engine was compiled; see :func:`steady_rate`.
    facts : mapping
        What else ``--summary`` says, such as engine and device.
    what : str
        What was scored, in the log: substitutions, or blocks.
    """

    output: str
    regions: int
    substitutions: int
    seconds: float
    statuses: Mapping[Status, int]
    resumed: int = 0
    n_clipped: int = 0
    n_longer: int = 0
    steps: Mapping[str, float] = field(default_factory=dict)
    rate: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    what: str = "substitutions"

    @property
    def failed(self) -> int:
        return self.statuses.get(Status.FAILED, 0)

    @property
    def unscored(self) -> str:
        """``2 on a missing contig, 1 with too many N``; empty if every region was scored."""
        return unscored_text(self.statuses)

    @property
    def failed_line(self) -> str:
        """The error about failed regions."""
        return (
            f"{counted(self.failed, 'region')} failed: the model gave NaN or infinity there (status 5 in {self.output})"
        )

    @property
    def clipped_line(self) -> str:
        """The warning about deltas that are too large for float16; empty if there are none."""
        if not self.n_clipped:
            return ""
        return (
            f"{self.n_clipped:,} deltas were too large for float16 and are stored as 65504 or -65504. "
            "Score again with --dtype float32 to keep their values."
        )

    @property
    def engine_share(self) -> float:
        """The share of the time of scoring in which the engine was busy, from 0 to 1."""
        return self.steps.get("engine", 0.0) / max(self.seconds, 1e-9)

    @property
    def line(self) -> str:
        """``3 regions, 4,500 substitutions -> FILE (9,000 substitutions/s)``"""
        resumed = f" ({self.resumed:,} of them done before)" if self.resumed else ""
        return (
            f"{counted(self.regions, 'region')}{resumed}, {self.substitutions:,} {self.what} -> {self.output} "
            f"({self.rate:,.0f} {self.what}/s)"
        )

    def as_json(self) -> str:
        """The text of the file of ``--summary``."""
        scored = self.regions - self.resumed
        return json.dumps(
            {
                "output": self.output,
                "regions": self.regions,
                "resumed_regions": self.resumed,
                "substitutions": self.substitutions,
                "statuses": {Status(s).name.lower(): n for s, n in sorted(self.statuses.items())},
                "longer_than_input": self.n_longer,
                "clipped": self.n_clipped,
                "seconds": round(self.seconds, 3),
                "start_up_seconds": round(sum(self.steps.get(name, 0.0) for name in START_UP), 3),
                "seconds_by_step": {name: round(seconds, 3) for name, seconds in self.steps.items()},
                "engine_busy": round(self.engine_share, 4),
                "substitutions_per_second": round(self.rate, 1),
                "regions_per_second": round(scored / max(self.seconds, 1e-9), 3),
                "peak_memory_bytes": peak_memory(),
                "output_bytes": os.path.getsize(self.output),
                **self.facts,
            },
            indent=2,
        )


LOOKS_LIKE = {
    Status.MISSING_CONTIG: "It looks like the BED of another genome, or one whose contigs have other names",
    Status.EDGE: "It looks like the BED of another genome or build, or of contigs that are shorter than the input",
    Status.TOO_MANY_N: "It looks like a masked FASTA, or like another build than that of the BED",
}
RECORDS_CURE = {  # where there is no BED
    Status.EDGE: "--edge pad scores records that are shorter than the input; --bed names regions of longer ones.",
    Status.TOO_MANY_N: "It looks like a masked FASTA.",
}


def nothing_scored_line(statuses: Mapping[Status, int], bed: str | None, fasta: str) -> str:
    """What is wrong if no region has scores, and which mistake it looks like; empty otherwise, and without regions.

    Regions that failed have a line of their own.
    """
    counts = {Status(status): n for status, n in statuses.items() if n}
    if not counts or counts.keys() - (LOOKS_LIKE if bed else RECORDS_CURE).keys():
        return ""
    most = max(counts, key=lambda status: counts[status])
    cure = f"{LOOKS_LIKE[most]}: compare it with {fasta}." if bed else RECORDS_CURE[most]
    what = f"{sum(counts.values()):,} {'regions' if bed else 'records'} of {bed or fasta}"
    return f"none of the {what} has scores: {unscored_text(counts)}. {cure}"


def steady_rate(substitutions: int, seconds: float, first_calls: tuple[float, int]) -> float:
    """Substitutions a second, without the first call of each program, which compiles it, if there are others.

    Parameters
    ----------
    first_calls : (seconds, substitutions)
        What the first calls took, and how many substitutions they scored at most.
    """
    rest, time_left = substitutions - first_calls[1], seconds - first_calls[0]
    if rest <= 0 or time_left <= 0:
        return substitutions / max(seconds, 1e-9)
    return rest / time_left


class Progress(Protocol):
    """Is called as a run goes on, from the thread that writes."""

    def start(self, rows: int, done: int = 0) -> None:
        """Before scoring: the rows of the file, and how many of them an earlier run has done."""

    def advance(self, rows: int, substitutions: int) -> None:
        """After each block: the rows and substitutions that are new."""


class Silent:
    """Progress that nobody watches."""

    def start(self, rows: int, done: int = 0) -> None:
        pass

    def advance(self, rows: int, substitutions: int) -> None:
        pass


class Steps:
    """Seconds spent in each named step. A step belongs to one thread; steps of different threads overlap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Add the time of the body to a step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def each(self, name: str, items: Generator[T, None, None]) -> Generator[T, None, None]:
        """Yield the items, and add the time that making them takes to a step."""
        try:
            while True:
                with self.time(name):
                    item = next(items, None)
                if item is None:
                    return
                yield item
        finally:
            items.close()


START_UP = {"import": "import", "load": "load and plan", "check": "compile and check"}


def start_up_line(steps: Steps) -> str:
    """``start-up 14.1 s: import 4.0, load and plan 0.3, compile and check 9.8``"""
    spent = {words: steps.seconds[name] for name, words in START_UP.items() if name in steps.seconds}
    parts = ", ".join(f"{words} {seconds:.1f}" for words, seconds in spent.items())
    return f"start-up {sum(spent.values()):.1f} s: {parts}"


def peak_memory() -> int | None:
    """Largest resident memory of this process so far, in bytes; None if the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def write_summary(path: str, summary: RunSummary, *, overwrite: bool) -> None:
    """Write the file of ``--summary``. It gets its name when it is complete; ``-`` is stdout.

    Raises
    ------
    OutputError, ResourceError
        If it cannot be written.
    """
    write_whole(path, summary.as_json() + "\n", "--summary", overwrite=overwrite)


def is_summary_of(path: str, output: str) -> bool:
    """Whether a file is the summary of a run with this output, in whatever folder both were then."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.loads(file.read(MAX_SUMMARY))
    except (OSError, ValueError, RecursionError):
        return False
    known = isinstance(found, dict) and {"output", "seconds_by_step", "substitutions_per_second"} <= found.keys()
    return known and os.path.basename(str(found["output"])) == os.path.basename(output)
