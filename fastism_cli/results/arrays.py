"""The type of an array of a result: shapes and dtypes are in the docstrings."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
