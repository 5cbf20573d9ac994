"""Every error that a user can cause or meet, and the words of messages: one, or several problems in one.

The CLI makes one line and an exit code of each.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

# An option in a message, and not the end of a path or a word, with its value if that is a word. --array is sbatch's.
OPTION = re.compile(
    r"(?<![\w./=-])--(?!array\b)([a-z][a-z0-9]*(?:-[a-z0-9]+)*)(?!\w)"
    r"(?: (auto|error|float16|float32|log2|logit|midpoint|outputs|pad|score|scores|skip|summit)(?![\w=-]|:\S))?"
)
ARGUMENTS = {"input": "inputs", "vcf": "vcf_path"}  # options whose argument has another name
SWITCHES = frozenset(
    {
        "allow-lambda",
        "check",
        "fold-change",
        "overwrite",
        "pairs",
        "rc",
        "resume",
        "spread",
        "stranded",
        "tile",
        "virtual",
    }
)


class Message:
    """A line of the log, written with the options of the command line; ``str`` names the arguments of the library."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return with_arguments(self.text)


class _Log(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return Message(str(msg)), kwargs


def log_of(name: str) -> logging.LoggerAdapter[logging.Logger]:
    """The log of a module, each line of which is a :class:`Message`."""
    return _Log(logging.getLogger(name), {})


class FastISMError(Exception):
    """Root of all errors that are explained to the user instead of shown as a traceback.

    A message is written with the options of the command line, as in ``--max-n is a share from 0 to 1``. The command
    prints it so (:attr:`message`); ``str`` names the arguments of the library in their place: ``max_n is ...``.
    """

    exit_code = 1

    @property
    def message(self) -> str:
        """With the options of the command line: what the command prints, and what another error repeats."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return with_arguments(self.message)


def with_arguments(message: str) -> str:
    """``"--edge pad or --tile" -> 'edge="pad" or tile=True'``: options as the library calls them."""
    return OPTION.sub(_as_argument, message)


def _as_argument(found: re.Match[str]) -> str:
    option, value = found.groups()
    name = ARGUMENTS.get(option, option.replace("-", "_"))
    if value:
        return f'{name}="{value}"'
    is_named = found.string.startswith(": ", found.end())  # and what it was is told
    return f"{name}=True" if option in SWITCHES and not is_named else name


class UsageError(FastISMError, ValueError):
    """The call or its inputs are wrong. Raised before any work is done."""

    exit_code = 2


class RegionError(UsageError):
    """A BED record is not BED, or does not fit the genome."""


class SequenceError(UsageError):
    """A FASTA file or a sequence array cannot be used."""


class GenomeError(FastISMError, ValueError):
    """Regions or variants belong to another genome than the FASTA: nothing can be scored rightly."""


class ModelError(UsageError):
    """A model cannot be loaded, or has no input that holds a sequence."""


class RuleError(UsageError):
    """A rule for a layer cannot be registered."""


class OutputError(UsageError):
    """The output exists, or cannot be written."""


class VerifyError(FastISMError, ArithmeticError):
    """The fast engine and plain Keras disagree by more than the tolerance."""


class ResourceError(FastISMError, RuntimeError):
    """The machine has too little of something: disk full, out of memory."""


# --- several problems in one message ---------------------------------------------------------------------------------

MAX_SHOWN = 20
MAX_LETTERS = 80  # of a value that a message repeats
MAX_LONG_LETTERS = 200  # of one that is a path or a list


def brief(value: object, most: int = MAX_LETTERS) -> str:
    """A value as it stands in a message: on one line, and not longer than one."""
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(value)[: most + 1])
    return text if len(text) <= most else f"{text[:most]}..."


class Listing:
    """Problems of one kind: all are counted, the first 20 are kept for the message."""

    def __init__(self, problems: Iterable[str] = ()) -> None:
        self.count = 0
        self._shown: list[str] = []
        for problem in problems:
            self.add(problem)

    def add(self, problem: str) -> None:
        """Count ``"line 7: what is wrong"``."""
        self.count += 1
        if self.count <= MAX_SHOWN:
            self._shown.append(problem)

    @property
    def first(self) -> str:
        return self._shown[0]

    def under(self, heading: str) -> str:
        """A message: the heading, a line for each of the first, and how many more there are."""
        more = [f"... and {self.count - MAX_SHOWN} more"] if self.count > MAX_SHOWN else []
        return "\n  ".join([heading, *self._shown, *more])


def refuse_regions(problems: Iterable[str], error: type[FastISMError], *, bed: str, fault: str, hint: str) -> None:
    """Raise ``error`` if there are problems with records of a BED.

    Parameters
    ----------
    problems : iterable of str
        ``"line 7: what is wrong"``.
    fault : str
        What is wrong with all of them, after "3 regions of peaks.bed".
    hint : str
        What to do.
    """
    found = Listing(problems)
    if found.count == 1:
        raise error(f"{bed} {found.first}. {hint}")
    if found.count:
        raise error(found.under(f"{found.count} regions of {bed} {fault}. {hint}"))


class Problems:
    """Runs checks that do not depend on each other and raises what all of them found in one error."""

    def __init__(self) -> None:
        self._found: list[FastISMError] = []

    def check(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """``function``'s result, or None if it found a problem."""
        try:
            return function(*args, **kwargs)
        except FastISMError as error:
            self._found.append(error)
            return None

    def raise_if_any(self) -> None:
        """Raise the one problem as it is, or all of them as a :class:`UsageError`."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            lines = [error.message.replace("\n", "\n  ") for error in self._found]
            raise UsageError("\n  ".join([f"{len(lines)} problems:", *lines]))


# --- names as they are written into tables and names of files --------------------------------------------------------

MAX_NAME = 80  # bytes that a name gives to that of a file
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def cell(text: str) -> str:
    """A name as one cell of a table: tabs, line ends and other control characters become blanks.

    Examples
    --------
    >>> cell("CTCF\\tK562\\r")
    'CTCF K562'
    """
    return CONTROL.sub(" ", text).strip() if CONTROL.search(text) else text


def part_of_name(text: str, other: str) -> str:
    """A name as a part of a file name: letters, digits and ``._+-``, all else ``other``; at most 80 bytes, never empty.

    Examples
    --------
    >>> part_of_name("K562/CTCF (rep 1)", "_"), part_of_name("../../up", "-")
    ('K562_CTCF_rep_1_', '..-..-up')
    """
    return re.sub(r"[^\w.+-]+", other, text).encode()[:MAX_NAME].decode(errors="ignore") or other


# --- numbers and sizes as text ----------------------------------------------------------------------------------------


def counted(n: int, noun: str) -> str:
    """``1 -> "1 region"``, ``2000 -> "2,000 regions"``"""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def size_text(size: float) -> str:
    """``1234567 -> 1.23 MB``"""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{size:.0f} bytes"
        size /= 1000
    raise AssertionError
