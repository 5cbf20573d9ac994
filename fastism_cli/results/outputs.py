"""Outputs of a command: check that they can be written, and give them their names only when they are complete."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastism_cli.errors import OutputError, ResourceError
from fastism_cli.genome.input_files import STDIN
from fastism_cli.results.crash_safe_file import in_use, is_in_use
from fastism_cli.results.journal import SUFFIX, read_checkpoint
from fastism_cli.results.schema import PARTIAL_SUFFIX


def check_new_file(
    output: str,
    inputs: Sequence[Any],
    *,
    overwrite: bool,
    resume: bool = False,
    role: str = "an input of this run",
) -> None:
    """Check that the output can be written, and is none of the inputs.

    Parameters
    ----------
    inputs : sequence of str, path-like or other objects
        Only paths are compared.
    role : str
        What the message calls an input.

    Raises
    ------
    OutputError
    """
    for path in inputs:
        is_path = isinstance(path, (str, os.PathLike)) and path != STDIN
        if is_path and os.path.exists(output) and os.path.exists(path) and os.path.samefile(output, path):
            raise OutputError(f"{output} is {role}. Choose another --output.")
    check_output(output, overwrite=overwrite, resume=resume)


def check_output(path: str | os.PathLike[str], *, overwrite: bool, resume: bool = False) -> None:
    """Check that a result can be written, before anything is loaded.

    Raises
    ------
    OutputError
        If the file exists and may not be replaced, its folder is missing or cannot be written, another process
        writes it, or an interrupted run has left rows that would be lost.
    """
    name = os.fspath(path)
    check_place(name, "--output")
    if os.path.lexists(name) and not (overwrite or resume):
        raise OutputError(f"{name} exists. Replace it with --overwrite, or choose another --output.")
    check_partial(name + PARTIAL_SUFFIX, overwrite=overwrite, resume=resume)


def require_name(name: str, option: str) -> None:
    """Refuse an empty name, which an unset variable of a shell gives."""
    if not name:
        raise OutputError(f"{option} is empty. Name a file to write.")


def check_place(name: str, option: str) -> None:
    """Refuse a name under which no file can be created.

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
    """Check that the unfinished file of an earlier run can be continued or replaced."""
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


def check_space(output: str, wanted: int) -> None:
    """Refuse an output that does not fit on the disk.

    Raises
    ------
    OutputError
        Says both numbers.
    """
    free = shutil.disk_usage(os.path.dirname(output) or ".").free
    if wanted > free:
        raise OutputError(
            f"{output} will take up to {size_text(wanted)}, but only {size_text(free)} are free on its disk. "
            "Choose fewer --targets, a smaller --window, --dtype float16, or another --output."
        )


def check_memory(wanted: int, available: int | None) -> None:
    """Refuse a region whose scores do not fit into memory, which can happen if positional heads are kept whole.

    Raises
    ------
    OutputError
        Says both numbers.
    """
    if available is not None and wanted > available:
        raise OutputError(
            f"The scores of one region take {size_text(wanted)} in memory; this machine has {size_text(available)}. "
            "Reduce heads with positions (--reduce), or choose fewer --targets."
        )


def memory_of_machine() -> int | None:
    """Bytes of physical memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def unfinished_bytes(output: str) -> int:
    """Bytes of the unfinished file of an earlier run, which is continued or replaced: the output can have its space."""
    try:
        return os.path.getsize(output + PARTIAL_SUFFIX)
    except OSError:
        return 0


def size_text(size: float) -> str:
    """``1234567 -> 1.23 MB``"""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{size:.0f} bytes"
        size /= 1000
    raise AssertionError


class Staging:
    """A folder beside the output, in which files have their final names."""

    def __init__(self, folder: str, target: str) -> None:
        self.folder = folder
        self.target = target

    def path(self, name: str) -> str:
        """Where to write the file that will be called ``name``."""
        return os.path.join(self.folder, os.path.basename(name))

    def move(self) -> list[str]:
        """Give every file its name; returns the names, sorted."""
        names = sorted(os.listdir(self.folder))
        for name in names:
            os.replace(os.path.join(self.folder, name), os.path.join(self.target, name))
        return [os.path.join(self.target, name) for name in names]


@contextmanager
def staged(output: str) -> Iterator[Staging]:
    """A staging folder beside ``output``, removed at the end, also after an error.

    Raises
    ------
    OutputError
        If it cannot be made.
    ResourceError
        If a file in it cannot be written: the disk is full or fails.
    """
    target = os.path.dirname(output)
    try:
        folder = tempfile.TemporaryDirectory(prefix=".fastism-", dir=target or ".")
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}. Choose another --output.") from error
    with folder:
        try:
            yield Staging(folder.name, target)
        except OSError as error:
            raise ResourceError(
                f"{output} cannot be written: {error.strerror or error}. "
                "What was unfinished was removed. Free space or choose another --output."
            ) from error
