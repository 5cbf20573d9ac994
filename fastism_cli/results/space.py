"""Whether an output fits on its disk, and a region in memory."""

from __future__ import annotations

import os
import shutil

from fastism_cli.errors import OutputError
from fastism_cli.results.schema import PARTIAL_SUFFIX


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
