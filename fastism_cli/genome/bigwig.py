"""Numbers of a bigWig: a tree of contigs, a tree of stretches, and blocks of numbers, most packed by zlib.

Kent et al. 2010 describe the format. It is read here, and not by a library: a damaged file makes pyBigWig crash or run
for ever, and pybigtools 0.3.0 abort, panic or return other numbers (one in five of 683 damaged files). Every size and
every place is compared with the file before it is used, and the block that is read with the tree that led to it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from functools import cached_property
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastism_cli.errors import UsageError
from fastism_cli.genome.placement import overlap

Values = npt.NDArray[np.float32]
BIGWIG = (b"\x26\xfc\x8f\x88", b"\x88\x8f\xfc\x26")  # the first bytes, of either order of bytes
CONTIGS, STRETCHES = 0x78CA8C91, 0x2468ACE0  # the first number of each tree
HEADER, CONTIGS_HEADER, STRETCHES_HEADER = "4sHHQQQHHQQIQ", "IIIIQQ", "IIQIIIIQII"
NODE, STRETCH, BELOW = "BBH", "IIIIQQ", "IIIIQ"
BLOCK = "IIIIIBBH"
MOST_BYTES = 1 << 26  # of one block
MOST_LETTERS = 1 << 12  # of the name of a contig
BEDGRAPH, VARIABLE_STEP, FIXED_STEP = 1, 2, 3  # kinds of blocks


class _Damaged(Exception):
    """Something in a file is not where it should be."""


class _Tree(NamedTuple):
    """Where its first node is, and how many bytes an item has: of a leaf, and above."""

    root: int
    leaf: int
    above: int


class _Stretch(NamedTuple):
    """What lies between two places, each the number of a contig and a base."""

    begin: tuple[int, int]
    end: tuple[int, int]
    at: int
    size: int


class BigWig:
    """An open bigWig; leaving its context closes it.

    Parameters
    ----------
    path : str

    Raises
    ------
    UsageError
        If it is none, or is damaged: from every method too.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._file = open(path, "rb", buffering=0)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
        self._size = os.fstat(self._file.fileno()).st_size
        magic = os.pread(self._file.fileno(), 4, 0)
        if magic not in BIGWIG:
            self._file.close()
            raise UsageError(f"{path} cannot be read as a bigWig. Make or copy it again.")
        self._order = "<" if magic == BIGWIG[0] else ">"

    def __enter__(self) -> BigWig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def sizes(self) -> dict[str, int]:
        """Length of every contig."""
        return {name: size for name, (_, size) in self._contigs.items()}

    def values(self, chrom: str, start: int, end: int) -> Values:
        """Numbers of bases ``[start, end)``, float32 (end - start,); NaN where it has none."""
        found = np.full(end - start, np.nan, np.float32)
        number, size = self._contigs.get(chrom, (0, 0))
        if not overlap(start, end, size):
            return found
        try:
            read = 0
            for stretch in self._stretches((number, max(start, 0)), (number, min(end, size))):
                if stretch.at < read:
                    raise _Damaged
                read = stretch.at + stretch.size
                _fill(found, start, *self._block(stretch, number))
        except (_Damaged, struct.error, zlib.error) as error:
            raise UsageError(f"{self.path} is damaged on {chrom}. Make or copy it again.") from error
        return found

    # -- bytes --

    def _bytes(self, at: int, size: int) -> bytes:
        if at + size > self._size:
            raise _Damaged
        return os.pread(self._file.fileno(), size, at)

    def _numbers(self, form: str, at: int) -> tuple[Any, ...]:
        form = self._order + form
        return struct.unpack(form, self._bytes(at, struct.calcsize(form)))

    @cached_property
    def _header(self) -> tuple[int, int, int]:
        """Where the two trees are, and how many bytes a block has at most, unpacked; 0 if none is packed."""
        _, _, _, contigs, _, stretches, *_, most, _ = self._numbers(HEADER, 0)
        if most > MOST_BYTES:
            raise _Damaged
        return contigs, stretches, most

    # -- trees --

    @cached_property
    def _contigs(self) -> dict[str, tuple[int, int]]:
        """Number and length of each contig by name."""
        try:
            at, _, _ = self._header
            magic, _, key, value, count, _ = self._numbers(CONTIGS_HEADER, at)
            if magic != CONTIGS or value != 8 or not 0 < key <= MOST_LETTERS:
                raise _Damaged
            items = list(self._leaves(_Tree(at + struct.calcsize("<" + CONTIGS_HEADER), key + 8, key + 8)))
            found = {item[:key].rstrip(b"\0").decode(): self._pair(item[key:]) for item in items}
            numbers = sorted(number for number, _ in found.values())
            if not 0 < len(found) == count == len(items) or numbers != list(range(count)):
                raise _Damaged
        except (_Damaged, struct.error, UnicodeDecodeError) as error:
            raise UsageError(f"{self.path} cannot be read as a bigWig. Make or copy it again.") from error
        return found

    def _pair(self, item: bytes) -> tuple[int, int]:
        number, size = struct.unpack(self._order + "II", item)
        return number, size

    def _stretches(self, begin: tuple[int, int], end: tuple[int, int]) -> Iterator[_Stretch]:
        """Those that share a base with ``[begin, end)``, ascending."""
        _, at, _ = self._header
        if self._numbers("I", at)[0] != STRETCHES:
            raise _Damaged
        sizes = (struct.calcsize("<" + form) for form in (STRETCHES_HEADER, STRETCH, BELOW))
        header, leaf, above = sizes
        for item in self._leaves(_Tree(at + header, leaf, above), (begin, end)):
            stretch = self._stretch(item)
            if stretch.begin < end and stretch.end > begin:
                yield stretch

    def _stretch(self, item: bytes) -> _Stretch:
        form = STRETCH if len(item) == struct.calcsize("<" + STRETCH) else BELOW
        first, start, last, end, at, *size = struct.unpack(self._order + form, item)
        if (first, start) > (last, end):
            raise _Damaged
        return _Stretch((first, start), (last, end), at, *size or [0])

    def _leaves(self, tree: _Tree, asked: tuple[tuple[int, int], tuple[int, int]] | None = None) -> Iterator[bytes]:
        """Items of all leaves in their order; of a tree of stretches, of those nodes that hold what is asked for."""
        waiting, seen = [tree.root], set()
        while waiting:
            at = waiting.pop()
            if at in seen:
                raise _Damaged
            seen.add(at)
            is_leaf, _, count = self._numbers(NODE, at)
            size = tree.leaf if is_leaf else tree.above
            body = self._bytes(at + struct.calcsize("<" + NODE), count * size)
            items = [body[i : i + size] for i in range(0, len(body), size)]
            if is_leaf > 1 or (asked and not self._ascend(items)):
                raise _Damaged
            if is_leaf:
                yield from items
            else:
                waiting += [self._below(item) for item in reversed(items) if asked is None or self._holds(item, asked)]

    def _ascend(self, items: list[bytes]) -> bool:
        begins = [self._stretch(item).begin for item in items]
        return begins == sorted(begins)

    def _holds(self, item: bytes, asked: tuple[tuple[int, int], tuple[int, int]]) -> bool:
        stretch = self._stretch(item)
        return stretch.begin < asked[1] and stretch.end > asked[0]

    def _below(self, item: bytes) -> int:
        return int(struct.unpack(self._order + "Q", item[-8:])[0])

    # -- blocks --

    def _block(self, stretch: _Stretch, number: int) -> tuple[Any, Any, Any]:
        """First base, end and value of each item of a block, (n,) each."""
        body = self._unpacked(stretch)
        size = struct.calcsize("<" + BLOCK)
        if len(body) < size:
            raise _Damaged
        chrom, start, end, step, span, kind, _, count = struct.unpack(self._order + BLOCK, body[:size])
        if chrom != number or not stretch.begin <= (chrom, start) <= (chrom, end) <= stretch.end:
            raise _Damaged
        starts, ends, values = self._items(body[size:], kind, count, (start, step, span))
        if (starts >= ends).any() or (starts[1:] < ends[:-1]).any() or (count and not start <= starts[0]):
            raise _Damaged
        if count and ends[-1] > end:
            raise _Damaged
        return starts, ends, values

    def _unpacked(self, stretch: _Stretch) -> bytes:
        _, _, most = self._header
        packed = self._bytes(stretch.at, stretch.size)
        if not most:
            return packed
        unpacker = zlib.decompressobj()
        body = unpacker.decompress(packed, most + 1)
        if not unpacker.eof or len(body) > most:
            raise _Damaged
        return body

    def _items(self, body: bytes, kind: int, count: int, steps: tuple[int, int, int]) -> tuple[Any, Any, Any]:
        columns = {BEDGRAPH: ["u4", "u4", "f4"], VARIABLE_STEP: ["u4", "f4"], FIXED_STEP: ["f4"]}.get(kind)
        if columns is None or len(body) != 4 * len(columns) * count:
            raise _Damaged
        form = [(str(i), self._order + column) for i, column in enumerate(columns)]
        *places, values = (np.frombuffer(body, form)[name] for name, _ in form)
        start, step, span = steps
        starts = places[0].astype(np.int64) if places else start + step * np.arange(count, dtype=np.int64)
        ends = places[1].astype(np.int64) if kind == BEDGRAPH else starts + span
        return starts, ends, values


def _fill(found: Values, first: int, starts: Any, ends: Any, values: Any) -> None:
    """Write the values of items on ``[starts, ends)`` into an array that begins at base ``first``."""
    here = np.clip(starts - first, 0, len(found))
    sizes = np.clip(ends - first, 0, len(found)) - here
    inside = np.repeat(here - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes) + np.arange(sizes.sum())
    found[inside] = np.repeat(values, sizes)
