"""Numbers of a ``.npy`` file, mapped from the disk: every fault of the file is told in one line."""

from __future__ import annotations

import os
import stat

import numpy as np

from fastism_cli.errors import UsageError

HOW_TO_SAVE = "Write an array of numbers with numpy.save."
NUMBERS = "biuf"  # kinds of types: truth values, integers, floats


def array_in(path: str, what: str) -> np.ndarray:
    """The array of a file, which is read where it is used.

    Parameters
    ----------
    what : str
        The option with the file, as a message begins.

    Raises
    ------
    UsageError
        If it cannot be read, or holds something else than one array of numbers.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UsageError(f"{what} is no regular file. {HOW_TO_SAVE}")
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UsageError(f"{what} cannot be read: {error.strerror or error}") from error
    except UsageError:
        raise
    except Exception as error:  # a damaged header can make NumPy raise anything
        raise UsageError(f"{what} is no array, or an empty one. {HOW_TO_SAVE}") from error
    if not isinstance(found, np.ndarray):  # an archive of several
        found.close()
        raise UsageError(f"{what} is an archive of arrays (.npz). {HOW_TO_SAVE}")
    if found.dtype.kind not in NUMBERS:
        raise UsageError(f"{what} holds values of type {found.dtype}, which are no numbers. {HOW_TO_SAVE}")
    more = os.path.getsize(path) - found.offset - found.nbytes if isinstance(found, np.memmap) else 0
    if found.size and more:
        raise UsageError(f"{what} has {more:,} bytes behind its array of shape {found.shape}. {HOW_TO_SAVE}")
    return found
