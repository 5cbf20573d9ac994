"""Rows in the numbers that the compiled engine takes, so that the last block of a run compiles nothing new."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastism_cli.engine.fastism import FastISM


def sequences_per_call(scorer: FastISM, columns: range) -> int:
    """How many sequences one call of the engine holds when it scores ``columns``."""
    engine, _ = scorer._engine(np.arange(columns.start, columns.stop), 2**31, scorer._batch())
    return engine.batch[0]


def fill_up(arrays: Mapping[str, Any], multiple: int) -> dict[str, np.ndarray]:
    """Arrays (n, ...) with the last row repeated until ``n`` is a multiple."""
    n = len(next(iter(arrays.values())))
    take = np.minimum(np.arange(-(-n // multiple) * multiple), n - 1)
    return {name: np.asarray(x)[take] for name, x in arrays.items()}


def other_shapes(scorer: FastISM) -> dict[str, tuple[int, ...]]:
    """Inputs that are not the sequence, without the batch axis."""
    shapes = zip(scorer.input_names, scorer.input_shapes, strict=True)
    return {name: shape for i, (name, shape) in enumerate(shapes) if i != scorer.sequence_index}
