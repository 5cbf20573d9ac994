"""The options of a run, as the command line and the library give them. They are checked before Keras loads."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

from fastism_cli.errors import UsageError
from fastism_cli.headed import split_named
from fastism_cli.io.schema import COMPRESSIONS, DELTA_DTYPES
from fastism_cli.reader import N_POLICIES
from fastism_cli.regions import CENTERS, EDGES

ENGINES = ("auto", "fast", "naive")
PRECISIONS = ("float32", "tf32", "bfloat16", "float64")
MISSING_CONTIG = ("error", "skip")
REDUCTIONS = ("none", "sum", "mean")

_CHOICES: dict[str, Sequence[str]] = {
    "center": CENTERS,
    "edge": EDGES,
    "n_policy": N_POLICIES,
    "missing_contig": MISSING_CONTIG,
    "dtype": DELTA_DTYPES,
    "compression": COMPRESSIONS,
    "engine": ENGINES,
    "precision": PRECISIONS,
}
# What changes neither the numbers nor the rows of the file.
_NOT_OF_THE_RESULT = frozenset({"overwrite", "check", "command", "batch_size", "compression"})


@dataclass(frozen=True)
class RunOptions:
    """What a user can choose; every field is an option of ``fastism run`` with the same meaning.

    Raises
    ------
    UsageError
        If a value is not one of those that the option knows.
    """

    center: str = "auto"
    window: int | None = None
    stranded: bool = False
    edge: str = "pad"
    n_policy: str = "skip"
    max_n: float = 1.0
    missing_contig: str = "error"
    limit: int | None = None
    inputs: Sequence[str] = ()
    targets: Sequence[str] = ()
    target_names: Sequence[str] = ()
    reduce: Sequence[str] = ()
    sequence_input: str | int | None = None
    length: int | None = None
    alphabet: str = "ACGT"
    weights: str | None = None
    custom_objects: Sequence[str] = ()
    allow_lambda: bool = False
    engine: str = "auto"
    precision: str = "float32"
    batch_size: str | int = "auto"
    check: bool = True
    dtype: str = "float32"
    compression: str = "gzip"
    overwrite: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"{flag(name)} must be one of {', '.join(choices)}. Received: {getattr(self, name)!r}")
        for name in ("window", "limit", "length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{flag(name)} must be at least 1. Received: {value}")
        if isnan(self.max_n) or not 0 <= self.max_n <= 1:
            raise UsageError(f"--max-n is a share from 0 to 1. Received: {self.max_n}")

    def config(self) -> str:
        """The options that decide what the file holds, as JSON with sorted keys."""
        chosen = {name: value for name, value in asdict(self).items() if name not in _NOT_OF_THE_RESULT}
        return json.dumps(chosen, sort_keys=True, default=list)

    def scorer_options(self) -> dict[str, Any]:
        """Keyword arguments of :class:`fastism_cli.FastISM` that need no look at the model."""
        names = ("length", "alphabet", "batch_size", "precision", "engine")
        return {name: getattr(self, name) for name in names} | {
            "sequence_input": self.sequence_input,
            "n_policy": "score" if self.n_policy == "score" else "skip",
        }


def flag(name: str) -> str:
    """The option of the command line that a field is."""
    return f"--{name.replace('_', '-')}"


def parse_reduce(values: Sequence[str]) -> dict[str | None, str]:
    """``--reduce`` by head; None stands for all positional heads that are not named.

    Raises
    ------
    UsageError
        If a reduction is not known.
    """
    chosen = dict(split_named(values))
    for kind in chosen.values():
        if kind not in REDUCTIONS:
            raise UsageError(f"--reduce {kind}: not known. Choose one of: {', '.join(REDUCTIONS)}.")
    return chosen


def default_output(bed: str) -> str:
    """``folder/peaks.bed.gz -> peaks.ism.h5``, in the current folder."""
    name = "stdin" if bed == "-" else os.path.basename(bed)
    for suffix in (".gz", ".bgz"):
        name = name.removesuffix(suffix)
    return f"{os.path.splitext(name)[0]}.ism.h5"
