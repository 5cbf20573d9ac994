"""One importance, or other number, for each base along the genome, from regions in any order; bigWig and bedGraph."""

from __future__ import annotations

import errno
import os
import struct
import tempfile
import warnings
import zlib
from bisect import insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import pairwise
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np

from fastism_cli.errors import ResourceError
from fastism_cli.export.exported_regions import ExportedRegions, ExportJob
from fastism_cli.export.formats import FLOAT, open_text, scratch_folder
from fastism_cli.optional import require
from fastism_cli.results.score_blocks import GenomeBlock
from fastism_cli.scores.tracks import Array, Track

# --- scores along the genome, for regions in any order ---------------------------------------------------------------

MAX_VALUES = 1 << 18  # of all regions in a stretch: where thousands overlap, stretches are shorter


class Segment(NamedTuple):
    """Bases ``[start, stop)`` of a contig and the regions that cover all of them, ascending."""

    chrom: str
    start: int
    stop: int
    covering: tuple[int, ...]


class Stretch(NamedTuple):
    """A segment with the values of its regions, (regions, K, bases, ...)."""

    segment: Segment
    values: Array


def along_genome(
    regions: ExportedRegions,
    tracks: tuple[Track, ...],
    values_of: Callable[[GenomeBlock], Array],
    folder: str | None,
    *,
    by_name: bool = False,
) -> Iterator[Stretch]:
    """Values of all regions from the first contig to the last, in memory that does not grow with their number.

    Parameters
    ----------
    values_of : callable
        From a block to its values, float32 (n, K, W, ...).
    folder : str or None
        Where a nameless temporary file may be made, of the size of all values; None is the usual place.
    by_name : bool
        Contigs in the order of the bytes of their names, as ``LC_ALL=C sort`` has them, in place of the FASTA's.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        inner: tuple[int, ...] = ()
        for block in regions.blocks(tracks):
            values = np.ascontiguousarray(values_of(block), np.float32)
            _write(file, values, folder)
            inner = values.shape[1:]
        yield from _stretches(regions, _Reader(file.fileno(), inner), by_name)


def delta_and_letters(block: GenomeBlock) -> Array:
    """Values for :func:`along_genome`, (n, K + 1, W, 4): deltas, and last the code of the reference letter."""
    codes = np.broadcast_to(block.seq[:, None, :, None], (len(block.seq), 1, block.seq.shape[1], 4))
    return np.concatenate([block.delta, codes.astype(np.float32)], axis=1)


def _write(file: IO[bytes], values: Array, folder: str | None) -> None:
    try:
        file.write(values.data.cast("B"))
        file.flush()
    except OSError as error:
        with suppress(OSError):
            file.close()  # it tries to write once more
        place = folder or tempfile.gettempdir()
        raise ResourceError(
            f"a temporary file in {place} cannot be written: {error.strerror or error}. Free space there."
        ) from error


def _stretches(regions: ExportedRegions, reader: _Reader, by_name: bool) -> Iterator[Stretch]:
    places, contigs = regions.whole(), regions.scores.file.genome_sizes
    if by_name:
        contigs = dict(sorted(contigs.items(), key=lambda item: item[0].encode()))
    starts = places.start
    for segment in segments(places.chrom, starts, starts + regions.window, contigs):
        reader.keep(segment.covering)
        pieces = [reader.row(i)[:, segment.start - starts[i] : segment.stop - starts[i]] for i in segment.covering]
        yield Stretch(segment, np.stack(pieces))


class _Reader:
    """Rows of the temporary file; those of the current stretch stay in memory."""

    def __init__(self, descriptor: int, inner: tuple[int, ...]) -> None:
        self._descriptor, self._inner = descriptor, inner
        self._size = 4 * int(np.prod(inner, dtype=np.int64))
        self._rows: dict[int, Array] = {}

    def keep(self, rows: tuple[int, ...]) -> None:
        """Forget all others."""
        for row in self._rows.keys() - set(rows):
            del self._rows[row]

    def row(self, i: int) -> Array:
        if i not in self._rows:
            raw = os.pread(self._descriptor, self._size, i * self._size)
            self._rows[i] = np.frombuffer(raw, np.float32).reshape(self._inner)
        return self._rows[i]


# --- which regions cover a base --------------------------------------------------------------------------------------


def segments(chrom: Array, starts: Array, stops: Array, contigs: Mapping[str, int]) -> Iterator[Segment]:
    """Stretches that a region covers, contigs in the order of ``contigs``, ascending.

    Positions count from 0, ends are excluded::

        region 0     . . a a a a . .
        region 1     . . . . b b b .      ->  [2, 4) (0,)   [4, 6) (0, 1)   [6, 7) (1,)

    Parameters
    ----------
    chrom, starts, stops : (n,)
        Regions in any order; they may overlap, be equal, or pass the ends of their contig, which are cut off.
    """
    for name, size in contigs.items():
        here = np.flatnonzero(chrom == name)
        if len(here):
            first, last = np.clip(starts[here], 0, size), np.clip(stops[here], 0, size)
            yield from _of_contig(name, here, first, last)


def _of_contig(name: str, regions: Array, starts: Array, stops: Array) -> Iterator[Segment]:
    by_start, by_stop = np.argsort(starts, kind="stable"), np.argsort(stops, kind="stable")
    begun = ended = 0
    covering: list[int] = []
    for start, stop in pairwise(np.unique(np.concatenate([starts, stops])).tolist()):
        while begun < len(by_start) and starts[by_start[begun]] <= start:
            insort(covering, int(regions[by_start[begun]]))
            begun += 1
        while ended < len(by_stop) and stops[by_stop[ended]] <= start:
            covering.remove(int(regions[by_stop[ended]]))
            ended += 1
        if covering:
            yield from _cut(name, start, stop, covering)


def _cut(name: str, start: int, stop: int, covering: Sequence[int]) -> Iterator[Segment]:
    step = max(MAX_VALUES // len(covering), 1)
    for first in range(start, stop, step):
        yield Segment(name, first, min(first + step, stop), tuple(covering))


# --- bigWig and bedGraph ---------------------------------------------------------------------------------------------

MAX_BASES = 1 << 16  # of a stretch: adjacent stretches are joined up to here


def write_bigwig(job: ExportJob) -> None:
    """bigWig, for genome browsers: one file for each target, all contigs of the FASTA in its header."""
    library = require("pyBigWig", wanted_by="--format bigwig", extra="export")
    contigs = [(name, size) for name, size in job.regions.scores.file.genome_sizes.items() if size]
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(_opened(library, paths[0], contigs)) for paths in job.paths]
            for found in importance_along_genome(job):
                for file, values in zip(files, found.values, strict=True):
                    for offset, known in known_stretches(values):
                        file.addEntries(found.chrom, found.start + offset, values=known, span=1, step=1)
    except RuntimeError as error:  # all that pyBigWig raises
        raise OSError(errno.EIO, f"pyBigWig: {error}") from error
    for paths in job.paths:
        check_bigwig(paths[0])


def _opened(library: Any, path: str, contigs: list[tuple[str, int]]) -> Any:
    file = library.open(path, "w")
    file.addHeader(contigs)
    return file


BIGWIG, RTREE = 0x888FFC26, 0x2468ACE0  # first bytes of a bigWig, which are its last ones too, and of an index in it
HEADER_BYTES, ZOOM_BYTES, RTREE_BYTES = 64, 24, 48


def check_bigwig(path: str) -> None:
    """Read all of a bigWig again, as pyBigWig does not tell of bytes that could not be written.

    Its blocks are compressed with a checksum each. Kent et al. 2010 describe the format.

    Raises
    ------
    OSError
        If something is missing.
    """
    with open(path, "rb") as file:
        try:
            head = file.read(HEADER_BYTES)
            magic, _, n_zooms = struct.unpack_from("<IHH", head)
            indexes = [struct.unpack_from("<Q", head, 24)[0]]
            indexes += [struct.unpack("<IIQQ", file.read(ZOOM_BYTES))[3] for _ in range(n_zooms)]
            file.seek(-4, os.SEEK_END)
            is_whole = [magic, *struct.unpack("<I", file.read(4))] == [BIGWIG, BIGWIG]
            is_whole = is_whole and all(_check_blocks(file, index) for index in indexes if index)
        except (struct.error, zlib.error, OSError):
            is_whole = False
    if not is_whole:
        raise OSError(errno.EIO, "a part of it is missing, as on a full disk")


def _check_blocks(file: BinaryIO, index: int) -> bool:
    """Unpack all blocks that an index of a bigWig names."""
    file.seek(index)
    if struct.unpack_from("<I", file.read(RTREE_BYTES))[0] != RTREE:
        return False
    nodes = [index + RTREE_BYTES]
    while nodes:
        file.seek(nodes.pop())
        is_leaf, _, n = struct.unpack("<BBH", file.read(4))
        item = struct.Struct("<16xQQ" if is_leaf else "<16xQ")
        for found in item.iter_unpack(file.read(n * item.size)):
            if is_leaf:
                file.seek(found[0])
                zlib.decompress(file.read(found[1]))
            else:
                nodes.append(found[0])
    return True


def write_bedgraph(job: ExportJob) -> None:
    """bedGraph: one file for each target, in the order of bytes of contig and start, as bedGraphToBigWig wants.

    Neighbouring bases with the same value share a line.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(open_text(paths[0])) for paths in job.paths]
        for found in importance_along_genome(job, by_name=True):
            for file, values in zip(files, found.values, strict=True):
                for offset, known in known_stretches(values):
                    file.write(_lines(found.chrom, found.start + offset, known))


def _lines(chrom: str, start: int, values: Array) -> str:
    edges = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [len(values)]])
    places = (start + edges).tolist()
    line = f"{chrom}\t%d\t%d\t{FLOAT}\n"
    return "".join(line % row for row in zip(places[:-1], places[1:], values[edges[:-1]].tolist(), strict=True))


# --- one value for each base -----------------------------------------------------------------------------------------


class Importance(NamedTuple):
    """Consecutive bases from ``start`` on, float32 (K, bases); NaN where a target has no importance."""

    chrom: str
    start: int
    values: Array


def importance_along_genome(job: ExportJob, *, by_name: bool = False) -> Iterator[Importance]:
    """Importance of every base with scores, along the genome; overlapping regions combined by ``job.overlap``."""
    folder = scratch_folder(job.paths[0][0])
    pending: list[Importance] = []
    stretches = along_genome(job.regions, job.tracks, lambda block: block.importance(), folder, by_name=by_name)
    for segment, values in stretches:
        found = Importance(segment.chrom, segment.start, merged(values, job.overlap))
        if pending and not _continues(pending, found):
            yield _joined(pending)
            pending = []
        pending.append(found)
    if pending:
        yield _joined(pending)


def merged(values: Array, overlap: str) -> Array:
    """One value a base from those of several regions (regions, K, bases), in their order; NaN counts as none.

    Parameters
    ----------
    overlap : "mean", "max" or "first"
        ``max`` is the largest value, not the largest magnitude; ``first`` that of the first region with a value.
    """
    if len(values) == 1:
        return np.asarray(values[0])
    if overlap == "first":
        chosen = np.isfinite(values).argmax(axis=0)[None]
        return np.asarray(np.take_along_axis(values, chosen, axis=0)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a base where all are NaN stays NaN
        if overlap == "max":
            return np.asarray(np.nanmax(values, axis=0))
        return np.asarray(np.nanmean(values, axis=0, dtype=np.float64).astype(np.float32))


def _continues(pending: list[Importance], found: Importance) -> bool:
    last = pending[-1]
    bases = found.start - pending[0].start
    return last.chrom == found.chrom and last.start + last.values.shape[1] == found.start and bases < MAX_BASES


def _joined(stretches: list[Importance]) -> Importance:
    return stretches[0]._replace(values=np.concatenate([found.values for found in stretches], axis=1))


def known_stretches(values: Array) -> Iterator[tuple[int, Array]]:
    """Offset and values of each stretch without NaN, from float32 (bases,)."""
    known = np.isfinite(values)
    edges = np.flatnonzero(np.diff(known.astype(np.int8), prepend=0, append=0))
    for start, stop in edges.reshape(-1, 2):
        yield int(start), values[start:stop]
