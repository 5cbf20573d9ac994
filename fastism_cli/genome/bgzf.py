"""What tells gzip from bgzip, which can be read from the middle: the first bytes of a file."""

from __future__ import annotations

from collections.abc import Iterator

GZIP_MAGIC = b"\x1f\x8b"
_HAS_EXTRA = 4


def has_bgzf_header(head: bytes) -> bool:
    """Whether the gzip header has the extra field ``BC`` that bgzip writes."""
    if len(head) < 12 or not head[3] & _HAS_EXTRA:
        return False
    extra = head[12 : 12 + int.from_bytes(head[10:12], "little")]
    return any(identifier == b"BC" for identifier in _subfields(extra))


def _subfields(extra: bytes) -> Iterator[bytes]:
    while len(extra) >= 4:
        yield extra[:2]
        extra = extra[4 + int.from_bytes(extra[2:4], "little") :]
