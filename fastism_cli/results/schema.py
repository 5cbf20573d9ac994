"""Names, types and chunks of the file format ``fastism-ism``, version 1: writer, reader and tests import them here.

    attributes       format, format_version, complete, and what the run was: see ATTRIBUTES
    /regions/<col>   one value for each row: see REGION_COLUMNS
    /genome/         chrom_names, chrom_sizes: every contig of the FASTA, in its order
    /outputs/<head>  names (T,) of the targets; attributes name and reduce
    /seq             uint8 (N, L): index into the alphabet; its size is an N
    /ref/<head>      float32 (N, T): the prediction on the reference
    /delta/<head>    float32 or float16 (N, T, L, 4): substituted - reference; 0 at the reference base, NaN where not
                     computed

N counts rows, L bases, T targets. A positional head that was not reduced has its axes in place of T.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from math import prod

FORMAT = "fastism-ism"
FORMAT_VERSION = 1

PARTIAL_SUFFIX = ".partial"

REGIONS = "regions"
GENOME = "genome"
OUTPUTS = "outputs"
SEQ = "seq"
REF = "ref"
DELTA = "delta"

CHROM_NAMES = "chrom_names"
CHROM_SIZES = "chrom_sizes"
TARGET_NAMES = "names"

TEXT = "text"  # variable-length UTF-8: every HDF5 reader has it, and no name is ever cut

REGION_COLUMNS: dict[str, str] = {
    "chrom": TEXT,
    "start": "int64",
    "end": "int64",
    "input_start": "int64",
    "strand": "S1",
    "name": TEXT,
    "bed_row": "int64",
    "status": "uint8",
    "n_padded": "int32",
}

SEQ_DTYPE = "uint8"
REF_DTYPE = "float32"
CHROM_SIZE_DTYPE = "int64"

GZIP_LEVEL = 1  # higher levels make deltas, whose last bits are noise, hardly smaller, but take much longer

ATTRIBUTES = (
    "format",
    "format_version",
    "complete",
    "fastism_version",
    "keras_version",
    "tensorflow_version",
    "h5py_version",
    "backend",
    "device",
    "command",
    "created",
    "config",
    "config_sha256",
    "model_path",
    "model_sha256",
    "fasta_path",
    "bed_path",
    "bed_sha256",
    "n_total",
    "row_start",
    "row_stop",
    "shard_index",
    "num_shards",
    "input_length",
    "alphabet",
    "score",
    "stranded",
    "engine",
    "precision",
    "fasta_sha256",
    "files_sha256",
    "n_clipped",
    "verify",
)

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
    """Chunk of ``/delta/<head>``, shape (N, T, L, 4)."""
    return chunk_shape(shape, itemsize, whole_axes=2)


def row_chunk(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Chunk of a dataset that is small for each row: ``/seq`` (N, L), ``/ref/<head>`` (N, T), a column (N,)."""
    rows, *rest = chunk_shape(shape, itemsize, whole_axes=0)
    return (min(rows, COLUMN_CHUNK_ROWS), *rest)


def head_key(name: str) -> str:
    """Name of a head as a name in HDF5, where a slash would begin a group."""
    return name.replace("/", "_")
