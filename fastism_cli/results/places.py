"""Whether a file can be made at a place, found out before anything is loaded."""

from __future__ import annotations

import os

from fastism_cli.errors import OutputError
from fastism_cli.results import schema
from fastism_cli.results.crash_safe_file import in_use, is_in_use
from fastism_cli.results.journal import SUFFIX, read_checkpoint


def check_output(path: str | os.PathLike[str], *, overwrite: bool, resume: bool = False) -> None:
    """Find out whether a result can be written, before anything is loaded.

    Raises
    ------
    OutputError
        If the file exists and may not be replaced, its folder is missing or cannot be written, another process is
        writing it, or an interrupted run has left rows that would be lost.
    """
    name = os.fspath(path)
    check_place(name, "--output")
    if os.path.lexists(name) and not (overwrite or resume):
        raise OutputError(f"{name} exists. Replace it with --overwrite, or choose another --output.")
    check_partial(name + schema.PARTIAL_SUFFIX, overwrite=overwrite, resume=resume)


def require_name(name: str, option: str) -> None:
    """Refuse the empty name that an empty variable of a shell gives."""
    if not name:
        raise OutputError(f"{option} is empty. Name a file to write.")


def check_place(name: str, option: str) -> None:
    """Refuse a name under which no file can be made.

    Raises
    ------
    OutputError
    """
    require_name(name, option)
    folder = os.path.dirname(name) or "."
    if os.path.exists(name) and not os.path.isfile(name):
        raise OutputError(f"{name} is a folder or a device. Name a file to write.")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise OutputError(f"{name}: {folder} is no folder. Choose another {option}.")
    if not os.path.isdir(folder):
        raise OutputError(f"{name}: folder {folder} does not exist. Make it first: mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{name}: folder {folder} cannot be written. Choose another {option}.")


def check_partial(partial: str, *, overwrite: bool, resume: bool) -> None:
    """Whether the unfinished file of an earlier run may be continued or replaced."""
    if is_in_use(partial):
        raise in_use(partial)
    if overwrite or not os.path.exists(partial):
        return
    checkpoint = read_checkpoint(partial + SUFFIX)
    if checkpoint and checkpoint.rows and not resume:
        raise OutputError(
            f"{partial} holds {checkpoint.rows:,} finished rows of an interrupted run. "
            "Continue it with --resume, or start anew with --overwrite."
        )
