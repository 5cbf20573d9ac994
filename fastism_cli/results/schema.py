"""Names, types and chunks of the file format ``fastism-ism``, version 1.1: writer, reader and tests import them here.

    attributes       what the file is and how it was made: see ATTRIBUTES
    /regions/<col>   one value for each row: see REGION_COLUMNS; strand is that of the record, and model_strand the
                     one that the model saw, which is the orientation of /seq and /delta
    /genome/         chrom_names, chrom_sizes: every contig of the FASTA, in its order; /regions/chrom has the same
                     names, also where the BED has them with or without "chr" (MT is chrM)
    /outputs/<head>  names (T,) of the targets; attributes name and reduce
    /seq             uint8 (N, L): index into the alphabet; its size is an N
    /ref/<head>      float32 (N, T): the prediction on the reference
    /delta/<head>    float32 or float16 (N, T, L, 4): substituted - reference; 0 at the reference base, NaN where not
                     computed; of blocks (N, T, P, A): replaced - reference, for the P blocks of the attribute
                     "blocks" and A contents, NaN for a block that is not in the window as a whole
    /delta_sd/<head> like /delta: standard deviation over the models of a mean; only if it was asked for
    /pairs/<head>    float32 or float16 (N, T, P, D, 4, 4), only in files of pairs: entry [i, d - 1, x, y] is letter x
                     at position i and y at i + d: delta(both) - delta(one) - delta(other); 0 where one of them is that
                     of the reference, NaN where i + d is not in the window. The attribute "pairs" says where position
                     0 is

Everything has a checksum, whatever the compression: see :mod:`fastism_cli.results.intact`. Of an index of shards, /seq,
/ref and /delta are virtual: see :mod:`fastism_cli.results.ism_file`. The files are of version
1.10 of HDF5's own format.

N counts rows, L bases, T targets. A positional head that was not reduced has its axes in place of T.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from math import prod
from typing import NamedTuple

FORMAT = "fastism-ism"
FORMAT_VERSION = 1.1
# Of files that a reader of 1.1 would misread: a window beside the middle, a scale, a mean, pairs, blocks.
WIDER_VERSION = 1.2
READABLE_VERSIONS = (
    1,
    FORMAT_VERSION,
    WIDER_VERSION,
)  # version 1 has no model_strand: its strand is the one that the model saw

PARTIAL_SUFFIX = ".partial"

REGIONS = "regions"
GENOME = "genome"
OUTPUTS = "outputs"
SEQ = "seq"
REF = "ref"
DELTA = "delta"
DELTA_SD = "delta_sd"
PAIRS = "pairs"

CHROM_NAMES = "chrom_names"
CHROM_SIZES = "chrom_sizes"
TARGET_NAMES = "names"
STRAND, MODEL_STRAND = "strand", "model_strand"

TEXT = "text"  # variable-length UTF-8: every HDF5 reader has it, and no name is ever cut

REGION_COLUMNS: dict[str, str] = {
    "chrom": TEXT,
    "start": "int64",
    "end": "int64",
    "input_start": "int64",
    STRAND: "S1",
    MODEL_STRAND: "S1",
    "name": TEXT,
    "bed_row": "int64",
    "status": "uint8",
    "n_padded": "int32",
}

SEQ_DTYPE = "uint8"
REF_DTYPE = "float32"
CHROM_SIZE_DTYPE = "int64"

LIBVER = ("v110", "v110")  # the first format of HDF5 whose own tables all have checksums
GZIP_LEVEL = 1  # higher levels make deltas, whose last bits are noise, hardly smaller, but take much longer


class Attribute(NamedTuple):
    """One attribute of a result.

    Attributes
    ----------
    meaning : str
    by_writer : bool
        Whether the writer fills it in; a value from the caller takes precedence.
    is_shown : bool
        Whether ``fastism info`` lists it as a part of how the file was made.
    kind : type
        str, int, bool or float.
    is_in_first : bool
        Whether every file of version 0.1 has it; False for each that is added later.
    """

    meaning: str
    by_writer: bool = False
    is_shown: bool = False
    kind: type = str
    is_in_first: bool = True


# Every attribute of a result that ``fastism run`` writes, in the order in which ``fastism info`` shows them.
ATTRIBUTES: dict[str, Attribute] = {
    "command": Attribute("the command line; empty for a call from Python", is_shown=True),
    "created": Attribute("when the file was begun, in UTC", by_writer=True, is_shown=True),
    "fastism_version": Attribute("version of fastism", is_shown=True),
    "keras_version": Attribute("version of Keras", is_shown=True),
    "h5py_version": Attribute("version of h5py", by_writer=True, is_shown=True),
    "backend": Attribute("backend of Keras: tensorflow or jax", is_shown=True),
    "backend_version": Attribute("version of the backend", is_shown=True),
    "device": Attribute("kind of device that computed the scores", is_shown=True),
    "engine": Attribute("engine that was used: fast or naive", is_shown=True),
    "precision": Attribute("what the model was computed in", is_shown=True),
    "scale": Attribute("what the scores are differences of, as --scale", is_shown=True, is_in_first=False),
    "averaged": Attribute(
        "what every score is the mean of, as JSON: the path and SHA-256 of each model, rc, rc_pairs, shifts, average "
        "and spread; only in files of means",
        is_in_first=False,
    ),
    "model_path": Attribute(
        "path of the model as given, the first of several; empty for a model given as an object", is_shown=True
    ),
    "model_sha256": Attribute("SHA-256 of the model's files", is_shown=True),
    "fasta_path": Attribute("path of the FASTA as given", is_shown=True),
    "bed_path": Attribute("path of the BED as given; empty if the records of the FASTA were scored", is_shown=True),
    "bed_sha256": Attribute("SHA-256 of the BED", is_shown=True),
    "folder": Attribute("folder in which the run was started: relative paths are relative to it"),
    "config_sha256": Attribute("SHA-256 of options and inputs: equal for files of the same run", is_shown=True),
    "format": Attribute("fastism-ism", by_writer=True),
    "format_version": Attribute("version of the format", by_writer=True, kind=float),
    "complete": Attribute("whether every row is final", by_writer=True, kind=bool),
    "alphabet": Attribute("letters, in the order of the last axis of delta", by_writer=True),
    "score": Attribute("what the scores are: delta", by_writer=True),
    "n_clipped": Attribute("deltas that were too large for float16", by_writer=True, kind=int),
    "tensorflow_version": Attribute("version of TensorFlow; empty if it is not installed"),
    "config": Attribute("the options that decide what the file holds, as JSON"),
    "fasta_sha256": Attribute("SHA-256 of the FASTA"),
    "files_sha256": Attribute("SHA-256 of the files of --input, --target-names, --custom-objects and --rules"),
    "n_total": Attribute("rows of the whole run", kind=int),
    "row_start": Attribute("first row that this file holds", kind=int),
    "row_stop": Attribute("row after the last one that this file holds", kind=int),
    "shard_index": Attribute("number of the shard, from 0", kind=int),
    "num_shards": Attribute("how many shards the run has", kind=int),
    "input_length": Attribute("length of the model's input", kind=int),
    "stranded": Attribute("whether the model saw the reverse complement of - records", kind=bool),
    "run_at_inference": Attribute(
        "layers that the model file calls with training=True, run with False; joined by commas", is_in_first=False
    ),
    "blocks": Attribute(
        "what was replaced, as JSON: first, step, width and count of the blocks, from the first base of the input, "
        "contents of each, and replace_with; only in files of blocks",
        is_in_first=False,
    ),
    "pairs": Attribute(
        "which pairs of positions have interactions, as JSON: first and count of the positions, from the first base of "
        "the input, and within, the largest distance; only in files of pairs",
        is_in_first=False,
    ),
    "verify": Attribute("comparison with plain Keras on the first region, as JSON; empty without --check"),
}

KINDS = {str: "text", float: "number", int: "whole number", bool: "truth value"}
CHECKSUMS = "checksums"  # attribute of the file: of all other attributes, as JSON
TEXT_SUMS = "crc32"  # attribute of a dataset of text: for each of its chunks
SHARD_SUMS = "shard_crc32"  # attribute of a dataset of an index: for each shard with rows
NUMBER_SUM = "chunks_crc32"  # attribute of a dataset of numbers: of all its chunks
STORAGE_SUM = "storage_crc32"  # attribute of a dataset: of the shape of its chunks, and of its filters

CHUNK_BYTES = 1 << 20
COLUMN_CHUNK_ROWS = 1 << 14


class Status(IntEnum):
    """What became of a row."""

    PENDING = 0
    OK = 1
    EDGE = 2
    MISSING_CONTIG = 3
    TOO_MANY_N = 4
    FAILED = 5

    @property
    def label(self) -> str:
        """In a table or a list: ``missing contig``."""
        return STATUS_WORDS[self].label

    @property
    def phrase(self) -> str:
        """After a number or a noun: 3 regions ``on a missing contig``."""
        return STATUS_WORDS[self].phrase


class StatusWords(NamedTuple):
    """A status in messages: see the properties of :class:`Status`."""

    label: str
    phrase: str


STATUS_WORDS = {
    Status.PENDING: StatusWords("pending", "not reached by the run"),
    Status.OK: StatusWords("ok", "with scores"),
    Status.EDGE: StatusWords("edge", "past the end of their contig, or longer than the input"),
    Status.MISSING_CONTIG: StatusWords("missing contig", "on a missing contig"),
    Status.TOO_MANY_N: StatusWords("too many N", "with too many N"),
    Status.FAILED: StatusWords("failed", "that failed (the model gave NaN or infinity)"),
}


def unscored_text(statuses: Mapping[Status, int]) -> str:
    """``2 on a missing contig, 1 with too many N``, of how many rows have each status; empty if all have scores."""
    return ", ".join(f"{n:,} {Status(s).phrase}" for s, n in sorted(statuses.items()) if n and s != Status.OK)


def chunk_shape(shape: Sequence[int], itemsize: int, *, whole_axes: int) -> tuple[int, ...]:
    """Chunk of about 1 MiB: several rows where a row is small, a part of one row where it is large.

    Axes are filled from the last to the first, so that a chunk is one stretch of the array::

        (N 1000, T 1,    L 1000, 4) float32  ->  (65, 1, 1000, 4)
        (N 1000, T 5313, L 1000, 4) float32  ->  (1, 65, 1000, 4)

    Parameters
    ----------
    shape : sequence of int
        Rows first.
    itemsize : int
        Bytes of one value.
    whole_axes : int
        How many of the last axes are never cut: 2 for (L, 4).
    """
    split = len(shape) - whole_axes
    chunk = [max(size, 1) for size in shape]
    for axis in reversed(range(split)):
        values = CHUNK_BYTES // (itemsize * prod(chunk[axis + 1 :]))
        chunk[axis] = min(chunk[axis], max(values, 1))
    return tuple(chunk)


def delta_chunk(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Chunk of ``/delta/<head>`` and ``/delta_sd/<head>``, shape (N, T, L, 4)."""
    return chunk_shape(shape, itemsize, whole_axes=2)


def pairs_chunk(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Chunk of ``/pairs/<head>``, shape (N, T, P, D, 4, 4)."""
    return chunk_shape(shape, itemsize, whole_axes=3)


def row_chunk(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Chunk of a dataset that is small for each row: ``/seq`` (N, L), ``/ref/<head>`` (N, T), a column (N,)."""
    rows, *rest = chunk_shape(shape, itemsize, whole_axes=0)
    return (min(rows, COLUMN_CHUNK_ROWS), *rest)


def head_key(name: str) -> str:
    """Name of a head as a name in HDF5, where a slash would begin a group."""
    return name.replace("/", "_")
