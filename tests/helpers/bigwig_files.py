"""bigWigs of any kind, written by the description of the format: packed or not, of either order of bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

CONTIGS_AT = 64


class Block(NamedTuple):
    """Numbers on one contig: of kind 1 each with its start and end, of kind 2 with its start, of kind 3 in steps."""

    contig: int
    kind: int
    starts: Sequence[int]
    ends: Sequence[int]
    values: Sequence[float]


def bigwig_bytes(
    sizes: dict[str, int], blocks: Sequence[Block], *, order: str = "<", packed: bool = True, fan_out: int = 2
) -> bytes:
    """The bytes of a file with a tree of contigs, blocks in their order, and a tree of ``fan_out`` branches."""
    contigs = _contigs(sizes, order)
    at = CONTIGS_AT + len(contigs)
    data, leaves = b"", []
    for block in blocks:
        body = _block(block, order)
        body = zlib.compress(body) if packed else body
        leaves.append((block.contig, block.starts[0], block.contig, block.ends[-1], at + len(data), len(body)))
        data += body
    tree_at = at + len(data)
    tree = struct.pack(order + "IIQIIIIQII", 0x2468ACE0, fan_out, len(leaves), 0, 0, 0, 0, tree_at, 1, 0)
    tree += _nodes(leaves, tree_at + len(tree), order, fan_out)
    most = max((len(_block(block, order)) for block in blocks), default=1) if packed else 0
    head = struct.pack(order + "IHHQQQHHQQIQ", 0x888FFC26, 4, 0, CONTIGS_AT, at, tree_at, 0, 0, 0, 0, most, 0)
    return head + contigs + data + tree


def _contigs(sizes: dict[str, int], order: str) -> bytes:
    key = max(map(len, sizes))
    head = struct.pack(order + "IIIIQQ", 0x78CA8C91, len(sizes), key, 8, len(sizes), 0)
    items = (
        name.encode().ljust(key, b"\0") + struct.pack(order + "II", number, size)
        for number, (name, size) in enumerate(sizes.items())
    )
    return head + struct.pack(order + "BBH", 1, 0, len(sizes)) + b"".join(items)


def _block(block: Block, order: str) -> bytes:
    step = block.starts[1] - block.starts[0] if len(block.starts) > 1 else 0
    span = block.ends[0] - block.starts[0]
    head = struct.pack(
        order + "IIIIIBBH",
        *(block.contig, block.starts[0], block.ends[-1], step, span, block.kind, 0, len(block.values)),
    )
    columns = {1: (block.starts, block.ends), 2: (block.starts,), 3: ()}[block.kind]
    rows = zip(*columns, block.values, strict=True)
    return head + b"".join(struct.pack(order + len(columns) * "I" + "f", *row) for row in rows)


def _nodes(leaves: Sequence[tuple[int, ...]], at: int, order: str, fan_out: int) -> bytes:
    """A leaf if all go into one; else a node over ``fan_out`` parts, which follow it."""
    if len(leaves) <= fan_out:
        return struct.pack(order + "BBH", 1, 0, len(leaves)) + b"".join(
            struct.pack(order + "IIIIQQ", *leaf) for leaf in leaves
        )
    size = -(-len(leaves) // fan_out)
    parts = [leaves[i : i + size] for i in range(0, len(leaves), size)]
    head, below = struct.pack(order + "BBH", 0, 0, len(parts)), b""
    below_at = at + 4 + 24 * len(parts)
    for part in parts:
        head += struct.pack(order + "IIIIQ", *part[0][:2], *part[-1][2:4], below_at + len(below))
        below += _nodes(part, below_at + len(below), order, fan_out)
    return head + below
