"""Stream the scores of a finished result file: rows by status, targets by name, columns as bases of the genome.

Export, pictures and reports read the file through here, so that strand, window and N have one meaning::

    with open_scores("peaks.ism.h5") as scores:
        for block in scores.blocks(scores.rows_with(Status.OK)):
            on_genome = block.on_genome()
            on_genome.importance()  # (n, K, W): column j of row i is base on_genome.start[i] + j of the + strand
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from fastism_cli.errors import UsageError, cell, log_of
from fastism_cli.genome.alphabet import DNA, RNA
from fastism_cli.genome.placement import span_text, window_offset
from fastism_cli.options.run_options import Window, substituted_window
from fastism_cli.results.block_reader import stored_blocks
from fastism_cli.results.hdf5_files import RegionColumns
from fastism_cli.results.intact import ROWS_AT_ONCE, readable
from fastism_cli.results.ism_file import Dataset, IsmFile, read_result
from fastism_cli.results.outputs import Recorded, inputs_of_result
from fastism_cli.results.schema import MODEL_STRAND, STRAND, Status, unscored_text
from fastism_cli.results.score_blocks import LETTERS, GenomeSubstitutions, ScoreBlock, genome_substitutions
from fastism_cli.scores.importance import BlockPlaces, PairMap, pair_map
from fastism_cli.scores.labelled import LabelledScores, Loaded
from fastism_cli.scores.region import RegionScores
from fastism_cli.scores.tracks import Array, Track

logger = log_of(__name__)

REGION_LABELS = ("name", "chrom", "start", "end", "strand", MODEL_STRAND)


class Scores(LabelledScores):
    """An open result file. Made by :func:`open_scores`; leaving its context closes it.

    Attributes
    ----------
    path : str
    file : IsmFile
        For attributes, statuses and everything else that is not a score.
    """

    def __init__(self, file: IsmFile) -> None:
        self.path = file.path
        self.file = file

    def __enter__(self) -> Scores:
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()

    # -- rows, targets and columns --

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and letters of the model's input."""
        return self.n_rows, self.length

    @property
    def seq(self) -> Dataset:
        """uint8 (N, L): codes of the file's alphabet, which is that of ``delta`` too."""
        return self.file.seq

    @cached_property
    def delta(self) -> Mapping[str, Dataset]:
        """By head, float32 or float16 (N, T, L, letters), of blocks (N, T, P, A): datasets to be sliced."""
        return {head: self.file.delta(head) for head in self.heads}

    @cached_property
    def reference(self) -> Mapping[str, Dataset]:
        """By head, float32 (N, T): datasets to be sliced."""
        return {head: self.file.reference(head) for head in self.heads}

    @property
    def n_rows(self) -> int:
        """Records of the BED (of its shard)."""
        return int(self.file.seq.shape[0])

    @property
    def length(self) -> int:
        """Bases of the model's input."""
        return int(self.file.seq.shape[1])

    @property
    def window(self) -> int:
        """How many bases of each input were substituted."""
        return self.substituted.width

    @cached_property
    def substituted(self) -> Window:
        """Which bases of each input were substituted."""
        config = json.loads(self.file.attrs.get("config") or "{}")
        return substituted_window(config.get("window") or None, self.length, tile=bool(config.get("tile")))

    @cached_property
    def tracks(self) -> tuple[Track, ...]:
        """Every target of every head, in the order of the file."""
        return tuple(track for head in self.file.heads for track in head.tracks)

    @cached_property
    def places(self) -> BlockPlaces | None:
        blocks = self.file.blocks
        if blocks is None:
            return None
        return BlockPlaces(blocks.starts, np.full(blocks.count, blocks.width))

    @property
    def contents(self) -> int:
        return len(self.letters) if self.file.blocks is None else self.file.blocks.contents

    @property
    def source(self) -> str:
        """Where the scores come from, in messages."""
        return self.path

    def tracks_of(self, head: str) -> tuple[Track, ...]:
        """The targets of one head."""
        return tuple(track for track in self.tracks if track.head == head)

    @property
    def regions(self) -> RegionColumns:
        """Columns of ``/regions``, each (N,), read while the file is open; chrom, name and both strands hold str."""
        return self.file.columns

    @property
    def protected(self) -> list[str | Recorded]:
        """What no output may replace: this file, those that it reads from, and the inputs that it names."""
        return inputs_of_result(self.path, self.file.attrs, self.file.sources)

    def reverse(self, rows: Array) -> Array:
        """Which of some ascending rows the model saw as their reverse complement, bool (n,)."""
        return np.asarray(self.regions.at(MODEL_STRAND, rows) == "-", dtype=bool)

    def window_start(self, rows: Array) -> Array:
        """First base of the windows of some ascending rows on the + strand, int64 (n,); not clipped to the contig."""
        return self.regions.at("input_start", rows) + self._window_offset(rows)

    def _window_offset(self, rows: Array) -> Array:
        """First substituted base of some ascending rows, from the first of their input on the + strand, int (n,)."""
        if self.substituted.first is None:
            return np.full(len(rows), window_offset(self.length, self.window))
        minus = self.regions.at(STRAND, rows) == "-"
        places = [window_offset(self.length, *self.substituted, minus=flag) for flag in (False, True)]
        return np.where(minus, places[1], places[0])

    def rows_with(self, *statuses: Status) -> Array:
        """Rows of one of these statuses, int64, ascending."""
        return np.concatenate([np.empty(0, np.int64), *self.pieces_with(*statuses)])

    def pieces_with(self, *statuses: Status) -> Iterator[Array]:
        """The same, some at a time: memory for them all would grow with the file."""
        wanted = [int(status) for status in statuses]
        for start in range(0, self.n_rows, ROWS_AT_ONCE):
            status = self.regions.slice("status", start, min(start + ROWS_AT_ONCE, self.n_rows))
            yield start + np.flatnonzero(np.isin(status, wanted))

    def rows_named(self, name: str) -> Array:
        """Rows with this name in the BED, int64, ascending."""
        return np.flatnonzero(self.regions["name"] == name)

    def rows_over(self, chrom: str, start: int, end: int) -> Array:
        """Rows whose window shares a base with ``[start, end)`` of a contig, int64, ascending."""
        columns = self.regions
        return np.flatnonzero((columns["chrom"] == chrom) & (columns["start"] < end) & (columns["end"] > start))

    # -- scores --

    def blocks(
        self, rows: Array | Iterator[Array] | None = None, tracks: Sequence[Track] | None = None
    ) -> Iterator[ScoreBlock]:
        """Scores of some rows and tracks, a few chunks of the file at a time.

        Parameters
        ----------
        rows : int (n,), or an iterator of several, optional
            Ascending, without repeats. Default: those with the status OK.
        tracks : sequence of Track, optional
            They may be of several heads, in any order. Default: all.
        """
        if rows is None:
            rows = self.pieces_with(Status.OK)
        wanted = rows if isinstance(rows, Iterator) else iter([np.asarray(rows, dtype=np.int64)])
        for found, seq, delta in stored_blocks(self.file, self.tracks if tracks is None else tracks, wanted):
            input_start = self.regions.at("input_start", found)
            codes, values = self._recoded(seq), delta[..., self._order]
            first = self._window_offset(found)
            place = (found, self.reverse(found), input_start, first, self.window)
            yield ScoreBlock(*place, codes, values, self.places)

    def loaded(self, rows: Array, tracks: Sequence[Track]) -> Iterator[Loaded]:
        """Those of some ascending rows that have scores, as the model saw them."""
        for block in self.blocks(self._scored(rows), tracks):
            yield Loaded(block.rows, block.seq, block.delta)

    def _scored(self, rows: Array) -> Array:
        return rows[self.regions.at("status", rows) == Status.OK]

    def substitutions(self, rows: Array, tracks: Sequence[Track]) -> Iterator[GenomeSubstitutions]:
        """Those of some ascending rows, on the + strand, some rows at a time."""
        number = {name: i for i, name in enumerate(self.file.genome_sizes)}
        sizes = np.array(list(self.file.genome_sizes.values()), np.int64)
        for block in self.blocks(self._scored(rows), tracks):
            chrom = np.array([number[name] for name in self.regions.at("chrom", block.rows)], np.int64)
            yield genome_substitutions(block.on_genome(), chrom, sizes, self.predictions(block.rows, tracks))

    def lines(self, rows: Array, tracks: Sequence[Track]) -> Iterator[dict[str, Array]]:
        """Columns of ``fastism top`` for all substitutions, or blocks, of some ascending rows."""
        self.require_bases()
        for found in chain(self.substitutions(rows, tracks), [GenomeSubstitutions.nothing()]):
            yield self.columns(found, tracks)

    def columns(self, found: GenomeSubstitutions, tracks: Sequence[Track]) -> dict[str, Array]:
        """The columns of a table of substitutions: chrom, pos, ref, alt, target, delta, reference, region.

        Of blocks: chrom, start and end as in BED, content, and the last four.
        """
        rows, at = np.unique(found.row, return_inverse=True)
        letters = np.array(LETTERS, dtype=object)
        if self.places is None:
            change = {"pos": found.pos, "ref": letters[found.ref], "alt": letters[found.alt]}
        else:
            change = {"start": found.start, "end": found.end, "content": found.content}
        return {
            "chrom": np.array(list(self.file.genome_sizes), dtype=object)[found.chrom],
            **change,
            "target": np.array([cell(track.label) for track in tracks], dtype=object)[found.target],
            "delta": found.delta,
            "reference": found.reference,
            "region": np.array(self.region_labels(rows), dtype=object)[at],
        }

    def region_labels(self, rows: Array) -> list[str]:
        """The names of some ascending rows in the BED; the place of a row without one."""
        columns = [self.regions.at(name, rows).tolist() for name in ("name", "chrom", "start", "end")]
        return [cell(name) or span_text(*place) for name, *place in zip(*columns, strict=True)]

    def labels(self) -> dict[str, tuple[str, Array]]:
        """The columns of the regions."""
        return {name: ("row", self.regions[name]) for name in REGION_LABELS}

    def region(self, row: int, track: Track) -> RegionScores:
        """One row for one track: see :meth:`load_regions`.

        Raises
        ------
        UsageError
            If the row has no scores.
        """
        status = Status(int(self.regions["status"][row]))
        if status != Status.OK:
            raise UsageError(f"row {row} of {self.path} has no scores: it is one of those {status.phrase}.")
        return next(self.load_regions([row], [track]))[1][0]

    def pairs_of(self, row: int, track: Track) -> PairMap | None:
        """The strongest interactions of one row by the bases of its contig; None in a file without pairs."""
        pairs = self.file.pairs_layout
        if pairs is None:
            return None
        dataset = self.file.pairs(track.head)
        at = tuple(map(int, np.unravel_index(track.unit, dataset.shape[1:-4])))
        with readable(self.path, f"the interactions of {track.head}"):
            interaction = np.asarray(dataset[(slice(row, row + 1), *at)][0], np.float32)
        columns = np.arange(pairs.first, pairs.first + pairs.count)
        if self.reverse(np.array([row]))[0]:
            columns = self.length - 1 - columns
        return pair_map(interaction, int(self.regions["input_start"][row]) + columns)

    def load_regions(self, rows: Sequence[int], tracks: Sequence[Track]) -> Iterator[tuple[int, list[RegionScores]]]:
        """Scored rows, ascending, each for all tracks: what was substituted of its contig, on the + strand."""
        for block in self.blocks(np.array(rows, np.int64), tracks):
            predictions, on_genome = self.predictions(block.rows, tracks), block.on_genome()
            for i, row in enumerate(on_genome.rows.tolist()):
                columns = {name: values[row] for name, values in self.regions.items()}
                yield row, [on_genome.region(i, k, columns, self.letters, x) for k, x in enumerate(predictions[i])]

    def predictions(self, rows: Array, tracks: Sequence[Track]) -> Array:
        """Predictions on the reference of some ascending rows, float32 (n, K)."""
        columns = [self._flat(self.file.reference(track.head), track, rows) for track in tracks]
        return np.stack(columns, axis=1) if columns else np.empty((len(rows), 0), np.float32)

    def _flat(self, dataset: Any, track: Track, rows: Array) -> Array:
        at = np.unravel_index(track.unit, dataset.shape[1:])
        first, stop = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        with readable(self.path, f"the predictions of {track.head}"):
            return np.asarray(dataset[(slice(first, stop), *map(int, at))][rows - first])

    def warn_if_unscored(self) -> None:
        """Log a warning if no row has scores: what is made of them is empty."""
        statuses: Counter[Status] = Counter()
        for start in range(0, self.n_rows, ROWS_AT_ONCE):
            column = self.regions.slice("status", start, min(start + ROWS_AT_ONCE, self.n_rows))
            statuses.update(map(Status, column.tolist()))
        if not statuses[Status.OK]:
            logger.warning("no region of %s has scores: %s", self.path, unscored_text(statuses) or "it has no region")

    # -- letters --

    @cached_property
    def letters(self) -> str:
        """Letters in the order of the last axis of a block's delta: ``ACGT`` for DNA in any order."""
        letters = self.file.alphabet.letters
        return next((known.letters for known in (DNA, RNA) if set(known.letters) == set(letters)), letters)

    def require_letters(self, wanted_by: str, instead: str) -> None:
        """Refuse a result of blocks, where scores of single letters are needed.

        Parameters
        ----------
        wanted_by, instead : str
            What needs them, and what shows blocks.

        Raises
        ------
        UsageError
        """
        if self.file.blocks is not None:
            raise UsageError(
                f"{wanted_by} shows single letters, and {self.path} holds scores of blocks ({self.file.blocks.text}). "
                f"Use {instead}."
            )

    def require_bases(self) -> None:
        """Refuse a file whose letters are not bases.

        Raises
        ------
        UsageError
        """
        if self.letters not in (DNA.letters, RNA.letters):
            raise UsageError(f"{self.path} was run with the alphabet {self.letters}; only ACGT lies on a genome.")

    @cached_property
    def _order(self) -> Any:
        """Index of the last axis of the file that gives ``letters``."""
        stored = self.file.alphabet.letters
        if stored == self.letters or self.file.blocks:
            return slice(None)
        return [stored.index(letter) for letter in self.letters]

    def _recoded(self, seq: Array) -> Array:
        """Codes of the file as codes in ``letters``."""
        stored = self.file.alphabet.letters
        if stored == self.letters:
            return seq
        return np.array([*(self.letters.index(letter) for letter in stored), len(stored)], np.uint8)[seq]


def open_scores(path: str | os.PathLike[str]) -> Scores:
    """Open a finished result file.

    Raises
    ------
    UsageError
        If it is no result file, one of another version, or an unfinished one.
    """
    return Scores(read_result(path))
