"""Whether an output can be written: what every command asks before it begins."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any

from fastism_cli.errors import OutputError
from fastism_cli.genome.stdin_copy import STDIN
from fastism_cli.results.places import check_output
from fastism_cli.results.schema import PARTIAL_SUFFIX


def check_new_file(output: str, inputs: Sequence[Any], *, overwrite: bool, resume: bool = False) -> None:
    """Whether the output can be written, and is none of the inputs."""
    for path in inputs:
        is_path = isinstance(path, (str, os.PathLike)) and path != STDIN
        if is_path and os.path.exists(output) and os.path.exists(path) and os.path.samefile(output, path):
            raise OutputError(f"{output} is an input of this run. Choose another --output.")
    check_output(output, overwrite=overwrite, resume=resume)


def check_space(output: str, wanted: int) -> None:
    """Refuse what cannot fit on the disk.

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
    """Refuse a region whose scores do not fit into the memory, as heads that are kept whole may.

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
    """What an earlier run has left of this output: it is continued or replaced, and needs no space again."""
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
