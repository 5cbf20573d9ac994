"""Names of regions and targets, which can hold anything, as they are written into tables and names of files."""

from __future__ import annotations

import re

MAX_NAME = 80  # bytes that a name gives to that of a file
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def cell(text: str) -> str:
    """A name as one cell of a table: tabs, line ends and other control characters become blanks.

    Examples
    --------
    >>> cell("CTCF\\tK562\\r")
    'CTCF K562'
    """
    return CONTROL.sub(" ", text).strip() if CONTROL.search(text) else text


def part_of_name(text: str, other: str) -> str:
    """A name as a part of a file name: letters, digits and ``._+-``, all else ``other``; at most 80 bytes, never empty.

    Examples
    --------
    >>> part_of_name("K562/CTCF (rep 1)", "_"), part_of_name("../../up", "-")
    ('K562_CTCF_rep_1_', '..-..-up')
    """
    return re.sub(r"[^\w.+-]+", other, text).encode()[:MAX_NAME].decode(errors="ignore") or other
