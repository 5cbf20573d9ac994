"""Whether scores fit into memory, and sizes as text."""

from __future__ import annotations

import os

from fastism_cli.errors import OutputError

FEWER = "Reduce heads with positions (--reduce), or choose fewer --targets."


ONE_REGION = "The scores of one region take"


def check_memory(wanted: int, available: int | None, *, what: str = ONE_REGION, hint: str = FEWER) -> None:
    """Refuse scores that do not fit into memory: positional heads that are kept whole, or too many pairs.

    Raises
    ------
    OutputError
        Says both numbers.
    """
    if available is not None and wanted > available:
        raise OutputError(f"{what} {size_text(wanted)} in memory; this machine has {size_text(available)}. {hint}")


def memory_of_machine() -> int | None:
    """Bytes of physical memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def size_text(size: float) -> str:
    """``1234567 -> 1.23 MB``"""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{size:.0f} bytes"
        size /= 1000
    raise AssertionError
