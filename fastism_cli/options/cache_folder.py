"""Where files are kept for later runs: compiled programs, and indexes of FASTA files whose own folder is read-only."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "FASTISM_CACHE"  # a folder, or "off"


def cache_folder() -> Path | None:
    """``$FASTISM_CACHE``, or ``fastism`` in the user's cache folder; None if it is off or the user has no home."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return None if named.lower() in ("", "off", "0", "no") else Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "fastism" if os.path.isabs(base) else None
