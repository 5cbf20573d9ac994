"""Text files: plain, or compressed if their name says so."""

from __future__ import annotations

import gzip
from typing import IO, cast

FLOAT = "%.9g"  # every float32 comes back as it was


def open_text(path: str) -> IO[str]:
    """Open for writing; a name that ends in .gz is compressed."""
    if path.endswith((".gz", ".bgz")):
        return cast(IO[str], gzip.open(path, "wt", compresslevel=1, encoding="utf-8"))
    return open(path, "w", encoding="utf-8")
