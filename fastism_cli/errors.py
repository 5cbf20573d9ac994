"""Every error that a user can cause or meet, and the words of messages. The CLI makes one line and an exit code."""

from __future__ import annotations

import logging
import re
from collections.abc import MutableMapping
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
