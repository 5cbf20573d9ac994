"""Whether two result files hold the same scores, however their rows came to the engine."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

# Of the largest number, in units of its last place. A processor multiplies the last rows of a matrix in another order
# than the rows before: a sequence that is the last of its call in one file, and not in the other, is rounded otherwise.
ROUNDING = 32


def assert_same_results(found: Path, expected: Path) -> int:
    """All arrays of two results are equal, scores to their rounding; returns how many arrays there are."""
    names: list[str] = []
    with h5py.File(found) as a, h5py.File(expected) as b:
        b.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in names:
            assert_same_array(a[name][:], b[name][:], name)
    return len(names)


def assert_same_array(found: np.ndarray, expected: np.ndarray, name: str) -> None:
    """Equal; numbers that are not whole, to their rounding."""
    assert found.dtype == expected.dtype, name
    if not np.issubdtype(expected.dtype, np.floating):
        np.testing.assert_array_equal(found, expected, err_msg=name)
        return
    largest = np.nanmax(np.abs(expected), initial=0.0)
    allowed = ROUNDING * np.finfo(expected.dtype).eps * largest
    np.testing.assert_allclose(found, expected, rtol=0, atol=allowed, err_msg=name)
