"""Values that options can have, and their defaults, for the command line, the library and the checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from fastism_cli.errors import UsageError
from fastism_cli.options.problems import brief

CENTERS = ("auto", "midpoint", "summit")
EDGES = ("pad", "skip", "error")
SCORED_N_POLICIES = ("skip", "score")  # of the engine; "error" is handled when regions are read
N_POLICIES = (*SCORED_N_POLICIES, "error")
MISSING_CONTIG = ("error", "skip")
ENGINES = ("auto", "fast", "naive")
PRECISIONS = ("float32", "tf32", "bfloat16", "float64")
DELTA_DTYPES = ("float32", "float16")
COMPRESSIONS = ("gzip", "lzf", "none")
REDUCTIONS = ("none", "sum", "mean", "max", "center:W", "logsumexp", "profile", "l2", "jsd")
SCALES = ("logit", "log2")
CHECKPOINT_SECONDS = 30.0
SAMPLES = 20  # shuffles of a block
MOST_SAMPLES = 100_000

OVERLAPS = ("mean", "max", "first")  # one number for a base that several regions cover
LINE_FOR = ("substitution", "base", "site")
MOST_DELTA = 1e30
EXPORT_COMPRESSIONS = ("none", "gzip")

PICTURE_FORMATS = ("png", "svg", "pdf")
PICTURE_STRANDS = ("+", "-", "region")
PICTURE_BASES = 120  # shown of a longer region: letters stay readable on a page
REPORT_REGIONS = 100  # that are drawn
REPORT_TARGETS = 12  # that are shown of a file with more
REPORT_MEGABYTES = 5.0

# The largest numbers that options take: no contig is longer, and no call of a model holds more.
MOST_BASES = 2**32 - 1
MOST_IN_A_CALL = 2**31 - 1
MOST_TARGETS = 10**6  # of one head
MOST_SECONDS = 1e9
MOST_MEGABYTES = 1e6
MOST_TOLERANCE = 1e30
MOST_LENGTH = 10**7  # of a model's input: ten times that of the largest published one
MOST_SEQUENCES = 1_000  # that verify compares


def whole_number(text: str, *, least: int = 0, most: int) -> int | None:
    """``"12" -> 12``; None if it is not written in digits alone, or not in the range.

    Python refuses to read thousands of digits, and takes digits of other scripts and underscores: none of these is a
    number here.
    """
    if not (text.isascii() and text.isdigit() and len(text.lstrip("0")) <= len(str(most))):
        return None
    return number if least <= (number := int(text.lstrip("0") or "0")) <= most else None


def signed_number(text: str, *, most: int) -> int | None:
    """``"-12" -> -12``, ``"+3" -> 3``; None if it is not written so, or its magnitude is more than ``most``."""
    number = whole_number(text[1:] if text[:1] in ("-", "+") else text, most=most)
    return -number if number is not None and text.startswith("-") else number


Function = Callable[[Any], Any]  # a reduction of the user's: from predictions (n, *shape) to (n, targets)
Kind = str | Function
Reduce = Kind | Sequence[Kind] | Mapping[str | None, Kind | Sequence[Kind]]


def reductions_of(head: str | None, given: Iterable[Kind]) -> tuple[Kind, ...]:
    """``["sum,jsd", "max", f] -> ("sum", "jsd", "max", f)``, each once.

    Raises
    ------
    UsageError
        If a reduction is not known.
    """
    kinds = [kind for one in given for kind in (one.split(",") if isinstance(one, str) else [one])]
    for kind in kinds:
        check_reduction(head, kind)
    return tuple(dict.fromkeys(kinds))


def check_reduction(head: str | None, kind: Kind) -> None:
    """Raise :class:`UsageError` if there is no such reduction, or ``center:W`` has no number of positions."""
    if callable(kind):
        return
    name, colon, width = str(kind).partition(":")
    is_center = name == "center" and whole_number(width, least=1, most=MOST_BASES) is not None
    if not (is_center if colon or name == "center" else kind in REDUCTIONS):
        what = kind if head is None else f"{head}={kind}"
        raise UsageError(f"--reduce {brief(what)}: not known. Choose one of: {', '.join(REDUCTIONS)}.")


def kinds_of(given: Kind | Sequence[Kind]) -> list[Kind]:
    """One reduction, or several, as a list."""
    return list(given) if isinstance(given, (list, tuple)) else [cast(Kind, given)]


def name_of_function(function: Function) -> str:
    """What a function of the user's is called in results and messages; ``lambda`` for one without a name."""
    inner = getattr(function, "func", function)  # of functools.partial
    name = getattr(inner, "__name__", None) or getattr(inner, "name", None) or type(inner).__name__
    return str(name).replace("<lambda>", "lambda")


def reduction_text(kind: Kind) -> str:
    """A reduction as results and messages call it: ``sum``, or ``function NAME``."""
    return kind if isinstance(kind, str) else f"function {name_of_function(kind)}"


VARIABLE = "FASTISM_CACHE"  # a folder, or "off"


def cache_folder() -> Path | None:
    """``$FASTISM_CACHE``, or ``fastism`` in the user's cache folder; None if it is off or the user has no home."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return None if named.lower() in ("", "off", "0", "no") else Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "fastism" if os.path.isabs(base) else None
