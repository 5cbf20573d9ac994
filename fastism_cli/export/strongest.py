"""The substitutions of a table: each once where regions overlap, only the strong ones, only the strongest.

A line of a region that overlaps no other is read and forgotten, and so are lines that are weaker than those which are
kept: memory does not grow with the number of regions. Those that overlap are put in order in a temporary file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fastism_cli.export.along_genome import Stretch, along_genome, delta_and_letters
from fastism_cli.export.exported_regions import Choice, ExportedRegions
from fastism_cli.options.choices import LINE_FOR
from fastism_cli.results.genome_substitutions import GenomeSubstitutions
from fastism_cli.results.scores import Scores
from fastism_cli.scores.region import SITE
from fastism_cli.scores.tracks import Array, Track

KEPT_AT_ONCE = 1 << 17  # lines, before the weaker ones are dropped


def chosen_substitutions(
    regions: ExportedRegions, tracks: tuple[Track, ...], choice: Choice, folder: str | None
) -> Iterator[GenomeSubstitutions]:
    """The lines of a table, some at a time.

    Parameters
    ----------
    folder : str or None
        Where a nameless temporary file may be made, of the size of the deltas of the regions that overlap.
    """
    strong = (_strong(found, choice.min_delta) for found in _each_once(regions, tracks, choice, folder))
    if choice.n is None:
        yield from strong
        return
    kept = _Strongest(choice.n * _lines_of(regions)[choice.by])
    for found in strong:
        kept.add(found)
    yield _apart(kept.found(), choice, regions.scores)


def _lines_of(regions: ExportedRegions) -> dict[str, int]:
    """How many changes one line can stand for: itself, those of its base, those of all that are nearer than a site.

    Blocks that overlap are one site; they have lines of every region.
    """
    blocks = regions.scores.file.blocks
    if blocks is None:
        letters = len(regions.scores.letters)  # an N has them all
        return dict(zip(LINE_FOR, (1, letters, letters * (2 * SITE - 1)), strict=True))
    # those that hold the first base of a block, and those that hold its last one and begin behind the first
    starts = -(-blocks.width // blocks.step) + -(-(blocks.width - 1) // blocks.step)
    near = starts * blocks.contents * _deepest(regions)
    return dict(zip(LINE_FOR, (1, near, near), strict=True))


def _deepest(regions: ExportedRegions) -> int:
    """How many windows hold one base, at most."""
    places = regions.whole()
    order, number = _along(places.chrom, places.start)
    if not len(order):
        return 1
    starts = places.start[order] - places.start.min()
    starts += number[order] * (starts.max() + regions.window)  # contigs one behind the other
    before = np.searchsorted(starts, starts - regions.window, side="right")
    return int((np.arange(len(starts)) - before).max()) + 1


def _strong(found: GenomeSubstitutions, least: float) -> GenomeSubstitutions:
    return found.taken(np.abs(found.delta) >= least) if least else found


# --- where regions overlap -------------------------------------------------------------------------------------------


def _each_once(
    regions: ExportedRegions, tracks: tuple[Track, ...], choice: Choice, folder: str | None
) -> Iterator[GenomeSubstitutions]:
    """Every substitution of the genome once, along the genome if all are wanted; of blocks all lines of all regions."""
    places = regions.whole()
    if regions.scores.places is not None:  # a block has a line for each region that holds it
        yield from regions.scores.substitutions(places.rows, tracks)
        return
    overlapping = _overlapping(places.chrom, places.start, regions.window)
    if choice.n is None:
        overlapping[:] = True
    yield from regions.scores.substitutions(places.rows[~overlapping], tracks)
    if overlapping.any():
        yield from _merged(replace(regions, rows=places.rows[overlapping]), tracks, choice.overlap, folder)


def _overlapping(chrom: Array, start: Array, window: int) -> Array:
    """Which windows share a base with another, bool (n,)."""
    order, number = _along(chrom, start)
    near = (np.diff(number[order]) == 0) & (np.diff(start[order]) < window)
    found = np.zeros(len(start), bool)
    found[order[1:]] |= near
    found[order[:-1]] |= near
    return found


def _along(chrom: Array, start: Array) -> tuple[Array, Array]:
    """The order of windows by contig and start, and a number for the contig of each, int64 (n,)."""
    number = np.unique(chrom, return_inverse=True)[1] if len(chrom) else np.empty(0, np.int64)
    return np.lexsort((start, number)), number


def _merged(
    regions: ExportedRegions, tracks: tuple[Track, ...], overlap: str, folder: str | None
) -> Iterator[GenomeSubstitutions]:
    rows = regions.whole().rows
    reference = regions.scores.predictions(rows, tracks)
    number = {name: i for i, name in enumerate(regions.scores.file.genome_sizes)}
    for stretch in along_genome(regions, tracks, delta_and_letters, folder):
        covering = np.array(stretch.segment.covering)
        yield _of_stretch(stretch, number[stretch.segment.chrom], rows[covering], reference[covering], overlap)


def _of_stretch(stretch: Stretch, chrom: int, rows: Array, reference: Array, overlap: str) -> GenomeSubstitutions:
    """The substitutions of bases that the same regions cover.

    Parameters
    ----------
    rows : int64 (R,)
    reference : float32 (R, K)
    """
    delta, codes = stretch.values[:, :-1], stretch.values[0, -1, :, 0].astype(np.int64)
    known = np.isfinite(delta)
    sizes = np.where(known, np.abs(delta), -1)
    chosen = sizes.argmax(axis=0) if overlap == "max" else known.argmax(axis=0)
    target, base, alt = np.nonzero(known.any(axis=0) & (np.arange(4) != codes[:, None]))
    region = chosen[target, base, alt]
    if overlap == "mean":
        counts = known.sum(axis=0)[target, base, alt]
        of_delta = np.where(known, delta, 0).sum(axis=0, dtype=np.float64)[target, base, alt]
        of_reference = (known * reference[:, :, None, None].astype(np.float64)).sum(axis=0)[target, base, alt]
        values, predictions = ((total / counts).astype(np.float32) for total in (of_delta, of_reference))
    else:
        values, predictions = delta[region, target, base, alt], reference[region, target]
    return GenomeSubstitutions(
        chrom=np.full(len(base), chrom),
        pos=stretch.segment.start + base + 1,
        end=stretch.segment.start + base + 1,
        ref=codes[base],
        alt=alt,
        target=target,
        delta=values,
        reference=predictions,
        row=rows[region],
    )


# --- the strongest ---------------------------------------------------------------------------------------------------


def _from_strongest(found: GenomeSubstitutions) -> Array:
    """Their order: by target, then from the largest magnitude on; equal ones along the genome."""
    return np.lexsort((found.alt, found.pos, found.chrom, -np.abs(found.delta), found.target))


def _rank(target: Array) -> Array:
    """How many of the same target stand before each, int64 (m,); targets are ascending."""
    starts = np.flatnonzero(np.diff(target, prepend=-1))
    sizes = np.diff(np.append(starts, len(target)))
    return np.arange(len(target)) - np.repeat(starts, sizes)


class _Strongest:
    """The ``n`` strongest of each target among all that were added."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._pieces = [GenomeSubstitutions.nothing()]
        self._waiting = 0

    def add(self, found: GenomeSubstitutions) -> None:
        self._pieces.append(found)
        self._waiting += len(found)
        if self._waiting > KEPT_AT_ONCE:
            self._pieces, self._waiting = [self.found()], 0

    def found(self) -> GenomeSubstitutions:
        whole = GenomeSubstitutions.joined(self._pieces)
        whole = whole.taken(_from_strongest(whole))
        return whole.taken(_rank(whole.target) < self._n)


def _apart(found: GenomeSubstitutions, choice: Choice, scores: Scores) -> GenomeSubstitutions:
    """The strongest ``n`` of each target, one for each substitution, base or site."""
    site = SITE if scores.places is None else int(scores.places.widths.max(initial=1))
    least = {"substitution": 0, "base": 1, "site": site}[choice.by]
    taken: dict[tuple[int, int], set[int]] = {}
    counts: dict[int, int] = {}
    kept = []
    columns = (x.tolist() for x in (found.target, found.chrom, found.pos))
    for i, (target, chrom, pos) in enumerate(zip(*columns, strict=True)):
        others = taken.setdefault((target, chrom), set())
        if counts.get(target, 0) < (choice.n or 0) and others.isdisjoint(range(pos - least + 1, pos + least)):
            others.add(pos)
            counts[target] = counts.get(target, 0) + 1
            kept.append(i)
    return found.taken(np.array(kept, np.int64))
