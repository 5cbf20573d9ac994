"""``--input``, ``--targets`` and ``--target-names``: read before the model is loaded, and fitted to it afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, Protocol

import numpy as np

from fastism_cli.engine.inputs_and_scores import OtherInput, check_all_given
from fastism_cli.errors import UsageError, brief
from fastism_cli.genome.input_files import array_in
from fastism_cli.options.choices import MOST_TARGETS, Units, by_head, parse_range, split_named
from fastism_cli.results.layout import HeadLayout

CONSTANTS = {"zeros": 0.0, "ones": 1.0}
NUMBERS_AT_ONCE = 1 << 20  # that are looked at
LARGEST = np.finfo("float32").max


# --- the inputs that are not the sequence ----------------------------------------------------------------------------


@dataclass(frozen=True)
class OtherInputs:
    """Values of every input but the sequence.

    Attributes
    ----------
    constant : dict of name to array (*shape)
        Inputs that are the same for every region.
    by_row : dict of name to array (n_regions, *shape)
        Inputs with one row for each record of the BED.
    """

    constant: Mapping[str, np.ndarray]
    by_row: Mapping[str, np.ndarray]

    def rows(self, numbers: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Arrays (n, *shape) of every input for these records, counted from 0."""
        same = {name: np.broadcast_to(x, (len(numbers), *x.shape)) for name, x in self.constant.items()}
        return same | {name: np.asarray(x[numbers]) for name, x in self.by_row.items()}


class FileArray(NamedTuple):
    """An array that is mapped from a file; ``what`` names option, input and file for messages."""

    what: str
    values: np.ndarray


def read_inputs(values: Sequence[str]) -> dict[str, FileArray | float]:
    """Parse ``--input`` and open its files.

    Returns
    -------
    dict of input name to array or float
        Arrays are mapped from the file, not kept in memory; zeros and ones are a number.

    Raises
    ------
    UsageError
        If a value is not NAME=..., a file is not an array of numbers, or one of them is not finite in float32.
    """
    found: dict[str, FileArray | float] = {}
    for value in values:
        name, equals, source = value.partition("=")
        if not (name and equals and source):
            raise UsageError(f"--input must be NAME=zeros, NAME=ones or NAME=FILE.npy. Received: {value}")
        if name in found:
            raise UsageError(f"--input gives {name!r} twice.")
        found[name] = CONSTANTS[source] if source in CONSTANTS else _array(f"--input {name}: {source}", source)
    return found


def _array(what: str, path: str) -> FileArray:
    array = FileArray(what, array_in(path, what))
    _refuse(array, lambda x: ~(np.abs(x) <= LARGEST), f"Values must be finite, and at most {LARGEST:.3g}.")
    return array


def _refuse(array: FileArray, is_wrong: Callable[[np.ndarray], np.ndarray], why: str) -> None:
    """Raise :class:`UsageError` for the first value that is wrong; a file is read in blocks of its rows."""
    values = np.atleast_1d(array.values)
    step = max(NUMBERS_AT_ONCE // max(prod(values.shape[1:]), 1), 1)
    for start in range(0, len(values), step):
        block = values[start : start + step]
        found = is_wrong(block)
        if found.any():
            row, *rest = np.argwhere(found)[0].tolist()
            place = f"row {start + row} (from 0): {block[(row, *rest)]!s} at {[start + row, *rest]}"
            raise UsageError(f"{array.what}, {place}. {why}")


def fit_inputs(
    given: Mapping[str, FileArray | np.ndarray | float],
    wanted: Mapping[str, OtherInput],
    n_regions: int,
    *,
    sequence: str = "",
) -> OtherInputs:
    """Check that every input of the model has values of the right shape.

    Parameters
    ----------
    given : mapping of input name to array or float
        As :func:`read_inputs` gives them.
    wanted : mapping of input name to OtherInput
        The inputs that are not the sequence.
    n_regions : int
        Records of the BED.
    sequence : str
        Name and shape of the input that holds the sequence, for messages.

    Raises
    ------
    UsageError
        If an input has no values, or values of another shape or type, or the model has no such input.
    """
    unknown = [name for name in given if name not in wanted]
    if unknown:
        others = ", ".join(f"{name!r} {port.shape}" for name, port in wanted.items()) or "none"
        raise UsageError(
            f"--input {unknown[0]}: the model has no such input beside the sequence. Those it has: {others}."
        )
    check_all_given(given, {name: port.shape for name, port in wanted.items()}, sequence=sequence)
    constant, by_row = {}, {}
    for name, port in wanted.items():
        array = _as_array(name, given[name], port.shape)
        if array.values.shape == port.shape:
            constant[name] = np.asarray(array.values)
        elif array.values.shape == (n_regions, *port.shape):
            by_row[name] = array.values
        else:
            raise UsageError(
                f"{array.what}: the array must have shape {port.shape} (the same for every region) or "
                f"{(n_regions, *port.shape)} (a row for each of the {n_regions} regions). "
                f"Received: {array.values.shape}"
            )
        _check_type(array, port)
    return OtherInputs(constant, by_row)


def _as_array(name: str, value: FileArray | np.ndarray | float, shape: tuple[int, ...]) -> FileArray:
    if isinstance(value, FileArray):
        return value
    values = value if isinstance(value, np.ndarray) else np.full(shape, value, "float32")
    return FileArray(f"--input {name}", values)


def _check_type(array: FileArray, port: OtherInput) -> None:
    """Raise :class:`UsageError` for what would become another number on its way into the model."""
    if port.dtype == "bool":
        least, most, kind = 0, 1, "truth values, 0 or 1"
    elif port.integers is not None:
        least, most, kind = 0, port.integers - 1, f"integers from 0 to {port.integers - 1}, which its Embedding knows"
    elif "int" in port.dtype:
        limits = np.iinfo(port.dtype)
        least, most, kind = limits.min, limits.max, f"integers ({port.dtype})"
    else:
        return
    ends = np.float64(least), np.float64(most)  # which a float16 does not hold
    _refuse(array, lambda x: (x != np.floor(x)) | (x < ends[0]) | (x > ends[1]), f"The input takes {kind}.")


# --- the heads and their targets -------------------------------------------------------------------------------------


class ScoredHead(Protocol):
    """The properties of a :class:`fastism_cli.model.heads.Head` that are used here; that class needs Keras."""

    @property
    def name(self) -> str: ...
    @property
    def source_name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def n_targets(self) -> int: ...
    @property
    def reduce(self) -> str: ...
    @property
    def units(self) -> Units | None: ...


def parse_targets(values: Sequence[str]) -> dict[str | None, Units | None]:
    """Parse ``--targets``.

    ``["0,3-5"]`` becomes ``{None: (0, 3, 4, 5)}``, and ``["a=all", "b=1"]`` becomes ``{"a": None, "b": (1,)}``.

    Raises
    ------
    UsageError
        If a value is not a list of numbers and ranges (both ends included), or a target comes twice.
    """
    chosen: dict[str | None, Units | None] = {}
    for head, text in split_named(values):
        if head in chosen:
            raise UsageError(
                f"--targets names {'all heads' if head is None else repr(head)} twice. Join them by commas."
            )
        chosen[head] = None if text == "all" else _units(text)
    if None in chosen and len(chosen) > 1:
        raise UsageError("--targets: give either one list for the only head, or HEAD=LIST for each head to keep.")
    return chosen


def _units(text: str) -> Units:
    units = tuple(unit for item in text.split(",") for unit in _range(item.strip(), text))
    repeated = sorted(unit for unit, count in Counter(units).items() if count > 1)
    if repeated:
        raise UsageError(f"--targets {brief(text)}: {', '.join(map(str, repeated[:5]))} comes twice.")
    return units


def _range(item: str, text: str) -> range:
    units = parse_range(item)
    if units is None:
        raise UsageError(
            f"--targets {brief(text)}: {brief(item)!r} is neither a number nor a range. "
            f"Write 0,3-5, HEAD=0,3-5 or HEAD=all; numbers are below {MOST_TARGETS:,}."
        )
    if not units:
        raise UsageError(f"--targets {brief(text)}: {item} ends before it starts.")
    return units


def read_target_names(values: Sequence[str]) -> dict[str | None, tuple[str, ...]]:
    """Read the names of all targets of a head from ``[HEAD=]FILE``, which has one name in each line.

    Raises
    ------
    UsageError
        If a file cannot be read, is empty, or is not text, or a head is given two.
    """
    found: dict[str | None, tuple[str, ...]] = {}
    for head, path in split_named(values):
        if head in found:
            raise UsageError(f"--target-names is given twice for {'the only head' if head is None else repr(head)}.")
        found[head] = _lines(path)
    return found


def _lines(path: str) -> tuple[str, ...]:
    try:
        with open(path, encoding="utf-8-sig") as file:  # Windows may put a mark before the first name
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text (UTF-8)"
        raise UsageError(f"--target-names: {path} cannot be read: {reason}") from error
    if "\0" in text:  # HDF5 keeps no such text
        raise UsageError(f"--target-names: {path} is not text: it holds NUL characters")
    if not text:
        raise UsageError(f"--target-names: {path} is empty. Write the names of all targets of a head, one a line")
    return tuple(text.splitlines())


def stored_heads(heads: Sequence[ScoredHead], names: Mapping[str | None, Sequence[str]]) -> tuple[HeadLayout, ...]:
    """Say how each scored head is stored, with the names of its targets.

    Parameters
    ----------
    names : mapping of head name to names
        Names of all targets of the head, chosen or not; None is the only head.

    Raises
    ------
    UsageError
        If a head does not exist, or there are more or fewer names than targets.
    """
    named = by_head("--target-names", list(dict.fromkeys(head.source_name for head in heads)), names)
    return tuple(_stored_head(head, named.get(head.source_name)) for head in heads)


def _stored_head(head: ScoredHead, names: Sequence[str] | None) -> HeadLayout:
    size = head.n_targets
    if names is not None and len(names) != size:
        raise UsageError(f"--target-names: head {head.source_name!r} has {size} targets. Received: {len(names)} names")
    all_names = tuple(map(str, range(size))) if names is None else tuple(names)
    units = range(size) if head.units is None else head.units
    return HeadLayout(head.name, head.shape, tuple(all_names[i] for i in units), head.reduce)
