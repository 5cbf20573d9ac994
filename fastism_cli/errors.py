"""Every error that a user can cause or meet. The CLI turns the root into one line and an exit code."""

from __future__ import annotations


class FastISMError(Exception):
    """Root of all errors that are explained to the user instead of shown as a traceback."""

    exit_code = 1


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
