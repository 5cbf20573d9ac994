"""Forward passes: predict with plain Keras, and reduce the heads as the engines do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from fastism_cli.engine.prepare import Prepared
from fastism_cli.model import backend
from fastism_cli.model.heads import Head
from fastism_cli.model.keras_graph import call_model
from fastism_cli.model.precision import dtype_of
from fastism_cli.model.reductions import Select


class ForwardPasses:
    """Predictions of a prepared model by plain Keras."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared

    def tensors(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        """Copy the inputs to the device, in the order of ``prepared.input_names``.

        Letter codes (n, L) of the sequence become one-hot there, (n, L, letters); an N is a row of zeros.
        """
        return [self._tensor(i, x) for i, x in enumerate(arrays)]

    def _tensor(self, index: int, x: np.ndarray) -> Any:
        dtype = self.prepared.input_dtypes[index]
        floats = dtype_of(self.prepared.precision)
        if index == self.prepared.sequence_index and x.ndim == 2:
            return ops.one_hot(x.astype("int32"), self.prepared.alphabet.size, dtype=floats)
        return ops.convert_to_tensor(x.astype(dtype if "int" in dtype or "bool" in dtype else floats))

    def predict(self, inputs: Sequence[Any], model: Any = None) -> list[Any]:
        """Predict the chosen targets of each head, not reduced, for input tensors (n, ...).

        ``model`` can be the same model in another precision.
        """
        prepared = self.prepared
        outputs = call_model(prepared.model if model is None else model, prepared.views.expand(inputs))
        return [_targets_of(head, outputs[head.source]) for head in prepared.heads]

    def reduced(self, predictions: Sequence[Any], reference: Sequence[Any]) -> list[Any]:
        """Reduce the heads, from what :meth:`predict` gives for sequences and for their references."""
        reductions = (head.reduction for head in self.prepared.heads)
        return [r(y, x) if r else y for r, y, x in zip(reductions, predictions, reference, strict=True)]

    def heads(self, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Predict every head, reduced, (n, *shape); each sequence is its own reference."""
        with backend.matrix_precision(self.prepared.precision):
            predictions = self.predict(self.tensors(arrays))
            return self._by_name([backend.to_numpy(y) for y in self.reduced(predictions, predictions)])

    def compare(self, arrays: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Predict every head, reduced, (n, *shape), and subtract that of the references."""
        with backend.matrix_precision(self.prepared.precision):
            new, old = (self.predict(self.tensors(x)) for x in (arrays, reference))
            pairs = zip(self.reduced(new, old), self.reduced(old, old), strict=True)
            return self._by_name([backend.to_numpy(y) - backend.to_numpy(x) for y, x in pairs])

    def _by_name(self, values: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        heads = self.prepared.heads
        return {head.name: np.reshape(x, (-1, *head.shape)) for head, x in zip(heads, values, strict=True)}


def _targets_of(head: Head, output: Any) -> Any:
    is_complete = head.units is None or head.is_reduced_flat
    return output if is_complete else Select(head.units or ())(output)
