"""``--input NAME=zeros|ones|FILE.npy``: the values of the model's inputs that are not the sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastism_cli.engine.score_arrays import check_all_given
from fastism_cli.errors import UsageError

CONSTANTS = {"zeros": 0.0, "ones": 1.0}


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


def read_inputs(values: Sequence[str]) -> dict[str, np.ndarray | float]:
    """Parse ``--input`` and open its files.

    Returns
    -------
    dict of input name to array or float
        Arrays are mapped from the file, not read into memory; zeros and ones are a number.

    Raises
    ------
    UsageError
        If a value is not NAME=..., or a file is not an array of numbers.
    """
    found: dict[str, np.ndarray | float] = {}
    for value in values:
        name, equals, source = value.partition("=")
        if not (name and equals and source):
            raise UsageError(f"--input must be NAME=zeros, NAME=ones or NAME=FILE.npy. Received: {value}")
        if name in found:
            raise UsageError(f"--input gives {name!r} twice.")
        found[name] = CONSTANTS[source] if source in CONSTANTS else _array(source)
    return found


def _array(path: str) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UsageError(f"--input: {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise UsageError(f"--input: {path} is not an array of numbers (.npy). Write it with numpy.save.") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise UsageError(f"--input: {path} is not an array of numbers (.npy). Write it with numpy.save.")
    return array


def fit_inputs(
    given: Mapping[str, np.ndarray | float], wanted: Mapping[str, tuple[int, ...]], n_regions: int
) -> OtherInputs:
    """Check that every input of the model has values of the right shape.

    Parameters
    ----------
    given : mapping of input name to array or float
        As :func:`read_inputs` gives them.
    wanted : mapping of input name to shape
        The inputs that are not the sequence, without the batch axis.
    n_regions : int
        Records of the BED.

    Raises
    ------
    UsageError
        If an input has no values or values of another shape, or the model has no such input.
    """
    unknown = [name for name in given if name not in wanted]
    if unknown:
        others = ", ".join(f"{name!r} {shape}" for name, shape in wanted.items()) or "none"
        raise UsageError(
            f"--input {unknown[0]}: the model has no such input beside the sequence. Those it has: {others}."
        )
    check_all_given(given, wanted)
    constant, by_row = {}, {}
    for name, shape in wanted.items():
        value = given[name]
        if not isinstance(value, np.ndarray):
            constant[name] = np.full(shape, value, "float32")
        elif value.shape == shape:
            constant[name] = np.asarray(value)
        elif value.shape == (n_regions, *shape):
            by_row[name] = value
        else:
            raise UsageError(
                f"--input {name}: the array must have shape {shape} (the same for every region) or "
                f"{(n_regions, *shape)} (a row for each of the {n_regions} regions). Received: {value.shape}"
            )
    return OtherInputs(constant, by_row)
