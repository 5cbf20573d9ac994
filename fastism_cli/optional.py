"""Import libraries that only some commands need, or say which extra installs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fastism_cli.errors import UsageError


def require(module: str, *, wanted_by: str, extra: str) -> Any:
    """Import a library.

    Raises
    ------
    UsageError
        If it is not installed, with the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{wanted_by} needs {module}, which cannot be imported ({error}). "
            f"Install it: pip install 'fastism-cli[{extra}]'"
        ) from error
