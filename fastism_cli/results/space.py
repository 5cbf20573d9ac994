"""Whether an output fits on its disk."""

from __future__ import annotations

import os
import shutil

from fastism_cli.errors import OutputError
from fastism_cli.results.schema import PARTIAL_SUFFIX
from fastism_cli.scores.memory import size_text


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


def unfinished_bytes(output: str) -> int:
    """Bytes of the unfinished file of an earlier run, which is continued or replaced: the output can have its space."""
    try:
        return os.path.getsize(output + PARTIAL_SUFFIX)
    except OSError:
        return 0
