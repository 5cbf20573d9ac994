"""Engines that compute without XLA, and on TensorFlow without graphs: quick to set up, and the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fastism_cli.model import backend


@contextmanager
def uncompiled(*, graphs: bool = False) -> Iterator[None]:
    """Compute operation by operation.

    With ``graphs``, TensorFlow still traces the outer functions, and hides the number of sequences from Keras. On JAX,
    where single operations are compiled too, the outer functions stay compiled.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "stage", lambda function: function)
        if backend.BACKEND == "tensorflow" and not graphs:
            patch.setattr(backend, "compiled", lambda function, variables=(): function)
            patch.setattr(backend, "of_any_batch", lambda function, inputs: function)
        yield
