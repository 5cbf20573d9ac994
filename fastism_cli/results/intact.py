"""Whether a result file is as it was written: its structure, and checksums of what HDF5 has none for.

HDF5 keeps checksums of its own tables (in files of version 1.10 of its format) and of the chunks of numbers (gzip has
one, fletcher32 is added where it is not used). Text lies outside of both. So

* every dataset of numbers has the attribute ``chunks_crc32``: a sum of the checksums of its chunks, so that numbers
  that somebody writes anew with h5py are noticed; one of very many chunks has none;
* every dataset of text has the attribute ``crc32``: a number for each of its chunks, 0 for one that was never written;
* every dataset has the attribute ``storage_crc32``: of its chunks and filters. Where a program such as h5repack chose
  others, the sums above are those of chunks that are gone, and are not compared;
* the file has the attribute ``checksums``: the CRC-32 of every other attribute, as JSON.

Files without these, such as those of version 0.1, are read too.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import h5py
import numpy as np

from fastism_cli.errors import FastISMError, ResourceError, UsageError
from fastism_cli.genome.alphabet import Alphabet
from fastism_cli.genome.input_files import printable
from fastism_cli.genome.placement import window_offset
from fastism_cli.options.choices import DELTA_DTYPES
from fastism_cli.options.run_options import Window, parse_window
from fastism_cli.results import schema
from fastism_cli.results.layout import MeanOf, PairsLayout, ReplacedBlocks
from fastism_cli.scores.tracks import Array

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

SUM_BYTES = 4  # of a checksum at the end of a chunk
MOST_CHUNKS = 1 << 14  # of a dataset that is compared as a whole, some 16 GB: to list more can take minutes
ROWS_AT_ONCE = 1 << 10  # in a pass over all rows; to read text takes several times its memory

# Raised by h5py for what is not as it should be; zlib's, for a chunk that is decompressed here.
_RAISED = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError, zlib.error)


def damaged(path: str, why: str) -> UsageError:
    return UsageError(f"{path} is damaged: {printable(why)}. Copy it again, or run again.")


@contextmanager
def readable(path: str, what: str) -> Iterator[None]:
    """Report a damaged result: the context in which ``what`` is read from it.

    Raises
    ------
    UsageError
        If it is damaged.
    ResourceError
        If the system does not give it: too many open files, a disk that fails.
    """
    try:
        yield
    except FastISMError:
        raise
    except _RAISED as error:
        number = getattr(error, "errno", None)
        if number:
            raise unreadable(path, error) from error
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"{path}: {printable(f'{what} cannot be read ({said})')}. The file is damaged: copy it again, or run again."
        ) from error


def unreadable(path: str, error: Exception) -> ResourceError:
    """The error for a file that the system does not give."""
    number = getattr(error, "errno", None) or errno.EIO
    if number in (errno.EMFILE, errno.ENFILE):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if resource else 0
        return ResourceError(
            f"{path} cannot be opened: {limit:,} open files are allowed, and all are in use. Raise it: "
            f"ulimit -n {max(2 * limit, 1024)}"
        )
    return ResourceError(f"{path} cannot be read: {os.strerror(number)}")


def plain(value: Any) -> Any:
    """An attribute as a Python value."""
    return value.item() if isinstance(value, np.generic) else value


# --- checksums -------------------------------------------------------------------------------------------------------


def seal(file: h5py.File) -> None:
    """Write the checksums of all attributes; after the last of them has changed."""
    sums = {name: _sum_of(value) for name, value in _attributes(file).items()}
    file.attrs[schema.CHECKSUMS] = json.dumps(sums)


def _attributes(file: h5py.File) -> dict[str, Any]:
    """All attributes but the checksums; those of a head as ``outputs/<head>@<name>``."""
    found = {name: value for name, value in file.attrs.items() if name != schema.CHECKSUMS}
    for key, group in file[schema.OUTPUTS].items():
        found |= {f"{schema.OUTPUTS}/{key}@{name}": value for name, value in group.attrs.items()}
    return found


def _sum_of(value: Any) -> int:
    return zlib.crc32(repr(plain(value)).encode("utf-8", "surrogateescape"))


def is_text(dataset: h5py.Dataset) -> bool:
    """Whether it holds text of any length, which lies outside of its chunks; the strand, of one byte, does not."""
    known = h5py.check_string_dtype(dataset.dtype)
    return known is not None and known.length is None


def add_text_sums(dataset: h5py.Dataset) -> None:
    """Give a new dataset of text the place for its checksums."""
    dataset.attrs[schema.TEXT_SUMS] = np.zeros(-(-len(dataset) // _step(dataset)), "uint32")


def note_text(dataset: h5py.Dataset, start: int, rows: Sequence[str] | Array) -> None:
    """Keep the checksums of whole chunks of text, which begin at row ``start``."""
    sums, step = dataset.attrs[schema.TEXT_SUMS], _step(dataset)
    for first in range(0, len(rows), step):
        sums[(start + first) // step] = text_sum(rows[first : first + step])
    dataset.attrs.modify(schema.TEXT_SUMS, sums)


def text_sum(values: Iterable[Any], before: int = 0) -> int:
    """CRC-32 of texts, str or bytes; ``before`` is that of those before them."""
    return zlib.crc32(b"".join(_raw(value) + b"\0" for value in values), before)


def check_text(path: str, dataset: h5py.Dataset, chunk: int = 0) -> None:
    """Compare a chunk of text with its checksum.

    Raises
    ------
    UsageError
        If they differ.
    """
    sums, step = dataset.attrs.get(schema.TEXT_SUMS), _step(dataset)
    if sums is None or not len(dataset) or _is_stored_anew(dataset):
        return
    if np.shape(sums) != (-(-len(dataset) // step),):
        raise damaged(path, f"the checksums of {dataset.name} are not as written")
    if not sums[chunk]:
        return
    found = 0
    for first in range(chunk * step, min((chunk + 1) * step, len(dataset)), ROWS_AT_ONCE):
        found = text_sum(dataset[first : min(first + ROWS_AT_ONCE, (chunk + 1) * step)].tolist(), found)
    if found != sums[chunk]:
        raise damaged(path, f"the text in {dataset.name} is not as written")


def sum_of_chunks(dataset: h5py.Dataset) -> int:
    """CRC-32 of the checksums of all chunks of a dataset of numbers, which changes when one of them is written anew.

    Four bytes of each chunk are read, from the file that is open: its name may be that of another one by now. Both
    fletcher32 and gzip end with a checksum of the chunk's content.
    """
    descriptor = dataset.file.id.get_vfd_handle()
    return _sum_by(lambda at, size: os.pread(descriptor, size, at), dataset)


def _sum_by(read: Callable[[int, int], bytes], dataset: h5py.Dataset) -> int:
    """The same, of a file that ``read(position, size)`` reads."""
    found = 0
    if dataset.chunks is None:  # as another program may have left it
        for row in dataset:
            found = zlib.crc32(row.tobytes(), found)
        return found
    has_sums = bool(dataset.fletcher32) or dataset.compression == "gzip"
    chunks: list[h5py.h5d.StoreInfo] = []
    dataset.id.chunk_iter(chunks.append)
    for chunk in sorted(chunks, key=lambda chunk: chunk.chunk_offset):
        n = SUM_BYTES if has_sums and not chunk.filter_mask else chunk.size
        found = zlib.crc32(read(chunk.byte_offset + chunk.size - n, n), found)
    return found


def note_datasets(file: h5py.File, read: Callable[[int, int], bytes]) -> None:
    """Keep how each dataset is stored, and a sum of the chunks of those of numbers, when all of them are in the file.

    HDF5's own checksums tell nothing of a file in which somebody writes with h5py: it makes new ones.

    Parameters
    ----------
    read : callable
        From a position and a size to bytes of the file.
    """
    file.flush()

    def note(name: str, found: Any) -> None:
        if not isinstance(found, h5py.Dataset) or found.is_virtual or not found.ndim:
            return
        found.attrs[schema.STORAGE_SUM] = np.uint32(_sum_of_storage(found))
        if not is_text(found) and not _has_too_many_chunks(found):
            found.attrs[schema.NUMBER_SUM] = np.uint32(_sum_by(read, found))

    file.visititems(note)


def _has_too_many_chunks(dataset: h5py.Dataset) -> bool:
    """Whether its chunks are not compared as a whole; told without a look at them."""
    sizes = zip(dataset.shape, dataset.chunks or dataset.shape, strict=True)
    return prod(-(-n // max(chunk, 1)) for n, chunk in sizes) > MOST_CHUNKS


def _sum_of_storage(dataset: h5py.Dataset) -> int:
    """CRC-32 of the shape of its chunks and of their filters, as far as the other sums depend on them."""
    made = dataset.id.get_create_plist()
    filters = [made.get_filter(i) for i in range(0 if is_text(dataset) else made.get_nfilters())]
    return zlib.crc32(repr((dataset.chunks, [(code, values) for code, _, values, _ in filters])).encode())


def _is_stored_anew(dataset: h5py.Dataset) -> bool:
    """Whether another program wrote all of it, in other chunks or with other filters."""
    known = dataset.attrs.get(schema.STORAGE_SUM)
    return known is not None and known != _sum_of_storage(dataset)


def check_numbers(path: str, dataset: h5py.Dataset) -> None:
    """Compare the chunks of a dataset of numbers with those that were there when the file was finished.

    Raises
    ------
    UsageError
        If they differ.
    """
    known = dataset.attrs.get(schema.NUMBER_SUM)
    if known is None or dataset.is_virtual or _has_too_many_chunks(dataset) or _is_stored_anew(dataset):
        return
    if sum_of_chunks(dataset) != known:
        raise damaged(path, f"the numbers in {dataset.name} are not as written")


def text_chunks(dataset: h5py.Dataset, start: int, stop: int) -> range:
    """The chunks of a dataset of text that hold rows ``[start, stop)``."""
    step = _step(dataset)
    return range(start // step, -(-stop // step))


def _step(dataset: h5py.Dataset) -> int:
    return int(dataset.chunks[0]) if dataset.chunks else max(len(dataset), 1)


def _raw(value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


# --- structure -------------------------------------------------------------------------------------------------------


def check_result(path: str, file: h5py.File) -> None:
    """Check that all groups, datasets and attributes are there, of the types and shapes of the format.

    Raises
    ------
    UsageError
        Names the first that is not as it should be.
    """
    with readable(path, "its structure"):
        _check_mean(path, file)
        _check_heads(path, file)
        _check_attributes(path, file)
        _check_datasets(path, file)


def _check_heads(path: str, file: h5py.File) -> None:
    spread = (schema.DELTA_SD,) if _has_spread(file) else ()
    for name in (schema.REGIONS, schema.GENOME, schema.OUTPUTS, schema.REF, schema.DELTA, *spread):
        _group(path, file, name)
    heads = set(file[schema.OUTPUTS])
    if not heads:
        raise damaged(path, f"/{schema.OUTPUTS} names no head")
    for name in (schema.REF, schema.DELTA, *spread):
        if set(file[name]) != heads:
            raise damaged(path, f"/{name} and /{schema.OUTPUTS} have other heads")
    for key in heads:
        _group(path, file, f"{schema.OUTPUTS}/{key}")


def _check_mean(path: str, file: h5py.File) -> None:
    text = file.attrs.get("averaged")
    try:
        _ = MeanOf.of_json(text) if text else None
    except (TypeError, ValueError, KeyError, AttributeError) as error:  # UsageError is a ValueError
        raise damaged(path, "its attribute averaged is not what fastism writes") from error


def _has_spread(file: h5py.File) -> bool:
    """Whether there are deviations over models, or the file says so."""
    said = file.attrs.get("averaged")
    return schema.DELTA_SD in file or (bool(said) and MeanOf.of_json(said).spread)


def _check_attributes(path: str, file: h5py.File) -> None:
    found = {name: plain(value) for name, value in _attributes(file).items()}
    heads = [f"{schema.OUTPUTS}/{key}@{name}" for key in file[schema.OUTPUTS] for name in ("name", "reduce")]
    sums = file.attrs.get(schema.CHECKSUMS)
    needed = [
        *heads,
        *(name for name, known in schema.ATTRIBUTES.items() if known.by_writer or (sums is None and known.is_in_first)),
    ]
    for name in needed:
        if name not in found:
            raise damaged(path, f"its attribute {name} is missing")
    for name, kind in [*((name, known.kind) for name, known in schema.ATTRIBUTES.items()), *((h, str) for h in heads)]:
        if name in found and not _is_kind(found[name], kind):
            raise damaged(path, f"its attribute {name} is no {schema.KINDS[kind]}")
    if sums is not None:
        _compare(path, found, sums)
    _check_values(path, found)


def _is_kind(value: Any, kind: type) -> bool:
    return type(value) is kind or (kind is float and type(value) is int)


def _compare(path: str, found: Mapping[str, Any], sums: Any) -> None:
    try:
        known = dict(json.loads(sums))
    except (ValueError, TypeError) as error:
        raise damaged(path, f"its attribute {schema.CHECKSUMS} is not as written") from error
    for name, value in known.items():
        if name not in found or _sum_of(found[name]) != value:
            raise damaged(path, f"its attribute {name} is not as written")
    unknown = [name for name in schema.ATTRIBUTES if name in found and name not in known]
    if unknown:
        raise damaged(path, f"its attribute {unknown[0]} was added later")


def _check_values(path: str, found: Mapping[str, Any]) -> None:
    for name, known in schema.ATTRIBUTES.items():
        if known.kind is int and found.get(name, 0) < 0:
            raise damaged(path, f"its attribute {name} is {found[name]}")
    for name in ("config", "verify"):
        if found.get(name) and not _is_json_object(found[name]):
            raise damaged(path, f"its attribute {name} is no JSON")
    _check_files(path, json.loads(found.get("config") or "{}"))
    Alphabet(found["alphabet"])


def _check_files(path: str, config: Mapping[str, Any]) -> None:
    """The options that name files: no output may replace these."""
    for name in ("inputs", "target_names", "custom_objects", "rules"):
        values = config.get(name) or []
        if not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
            raise damaged(path, f"in its attribute config, {name} is no list of texts")
    for name in ("weights", "replace_with"):
        if not isinstance(config.get(name) or "", str):
            raise damaged(path, f"in its attribute config, {name} is no text")


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _check_datasets(path: str, file: h5py.File) -> None:
    n, length = _dataset(path, file, schema.SEQ, schema.SEQ_DTYPE, ndim=2).shape
    letters = len(file.attrs["alphabet"])
    for column, dtype in schema.REGION_COLUMNS.items():
        if column == schema.MODEL_STRAND and file.attrs["format_version"] == 1:
            continue  # which has the strand that the model saw alone
        _dataset(path, file, f"{schema.REGIONS}/{column}", dtype, shape=(n,))
    names = _dataset(path, file, f"{schema.GENOME}/{schema.CHROM_NAMES}", schema.TEXT, ndim=1)
    _dataset(path, file, f"{schema.GENOME}/{schema.CHROM_SIZES}", schema.CHROM_SIZE_DTYPE, shape=names.shape)
    inner = (length, letters)
    if file.attrs.get("blocks"):
        try:
            blocks = ReplacedBlocks.of_json(file.attrs["blocks"])
        except (TypeError, ValueError) as error:
            raise damaged(path, "its attribute blocks is not what fastism writes") from error
        if blocks.end > length:
            raise damaged(path, f"its blocks end at {blocks.end} of {length} bases")
        inner = (blocks.count, blocks.contents)
    deltas = set()
    for key in file[schema.OUTPUTS]:
        ref = _dataset(path, file, f"{schema.REF}/{key}", schema.REF_DTYPE)
        if ref.ndim < 2 or ref.shape[0] != n:
            raise damaged(path, f"{ref.name} has the shape {ref.shape}")
        shape = (n, *ref.shape[1:], *inner)
        for group in (schema.DELTA, *((schema.DELTA_SD,) if _has_spread(file) else ())):
            deltas.add(str(_dataset(path, file, f"{group}/{key}", *DELTA_DTYPES, shape=shape).dtype))
        _dataset(path, file, f"{schema.OUTPUTS}/{key}/{schema.TARGET_NAMES}", schema.TEXT, shape=ref.shape[-1:])
    if file.attrs.get("pairs"):
        _check_pairs(path, file, deltas)
    if len(deltas) > 1:
        raise damaged(path, f"its deltas are of several types: {', '.join(sorted(deltas))}")
    _check_window(path, file, length)


def _check_pairs(path: str, file: h5py.File, dtypes: set[str]) -> None:
    try:
        pairs = PairsLayout.of_json(file.attrs["pairs"])
    except (TypeError, ValueError) as error:
        raise damaged(path, "its attribute pairs is not what fastism writes") from error
    length = file[schema.SEQ].shape[1]
    if pairs.first + pairs.count > length:
        raise damaged(path, f"its pairs end at {pairs.first + pairs.count} of {length} bases")
    if set(_group(path, file, schema.PAIRS)) != set(file[schema.OUTPUTS]):
        raise damaged(path, f"/{schema.PAIRS} and /{schema.OUTPUTS} have other heads")
    letters = len(file.attrs["alphabet"])
    for key in file[schema.OUTPUTS]:
        shape = (*file[f"{schema.REF}/{key}"].shape, pairs.count, pairs.within, letters, letters)
        dtypes.add(str(_dataset(path, file, f"{schema.PAIRS}/{key}", *DELTA_DTYPES, shape=shape).dtype))


def _check_window(path: str, file: h5py.File, length: int) -> None:
    window = json.loads(file.attrs.get("config") or "{}").get("window")
    if window is not None and not _fits(window, length):
        raise damaged(path, f"its window is {window!r} of {length} bases")


def _fits(window: Any, length: int) -> bool:
    """Whether an input of this length holds a window that a run can have had, on the + strand at least."""
    try:
        width, first = parse_window(window) or Window(0)
    except UsageError:
        return False
    is_known = type(window) is int or (isinstance(window, str) and first is not None)
    return is_known and 1 <= width <= length and 0 <= window_offset(length, width, first) <= length - width


def _group(path: str, file: h5py.File, name: str) -> h5py.Group:
    found = file.get(name)
    if not isinstance(found, h5py.Group):
        raise damaged(
            path, f"the group /{name} is missing or cannot be read" if found is None else f"/{name} is no group"
        )
    return found


def _dataset(
    path: str,
    file: h5py.File,
    name: str,
    *dtypes: str,
    shape: tuple[int, ...] | None = None,
    ndim: int | None = None,
) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise damaged(
            path, f"the dataset /{name} is missing or cannot be read" if found is None else f"/{name} is no dataset"
        )
    if not any(_is_of(found, dtype) for dtype in dtypes):
        raise damaged(path, f"/{name} is of type {found.dtype}, which would be {' or '.join(dtypes)}")
    if found.shape is None or (shape is not None and found.shape != shape) or (ndim and found.ndim != ndim):
        raise damaged(path, f"/{name} has the shape {found.shape}" + (f", which would be {shape}" if shape else ""))
    return found


def _is_of(dataset: h5py.Dataset, dtype: str) -> bool:
    if dtype == schema.TEXT:
        return is_text(dataset)
    return bool(dataset.dtype == np.dtype(dtype))
