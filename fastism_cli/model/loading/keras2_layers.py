"""Layers of Keras 2 that Keras 3 lacks, written for Keras 3 with the same configuration and weights."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class ThresholdedReLU(keras.layers.Layer):
    """``x`` where it is larger than ``theta``, else 0."""

    def __init__(self, theta: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.theta = float(theta)

    def call(self, x: Any) -> Any:
        return ops.where(x > ops.cast(self.theta, x.dtype), x, ops.zeros_like(x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "theta": self.theta}


class LocallyConnected1D(keras.layers.Layer):
    """A convolution with another kernel at every position: weights (n_out, kernel_size * C_in, filters).

    Only the default, implementation 1 with 'valid' padding; Keras 2 lays the weights of the others out differently.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        activation: Any = None,
        use_bias: bool = True,
        implementation: int = 1,
        **kwargs: Any,
    ) -> None:
        unused = ("kernel", "bias", "activity")
        super().__init__(**{key: value for key, value in kwargs.items() if not key.startswith(unused)})
        if implementation != 1 or padding != "valid" or data_format not in (None, "channels_last"):
            raise ValueError("LocallyConnected1D: only implementation 1, valid, channels_last")
        self.filters = filters
        self.kernel_size, self.strides = _first(kernel_size), _first(strides)
        self.activation, self.use_bias = keras.activations.get(activation), use_bias

    def build(self, input_shape: Any) -> None:
        n_out = (input_shape[1] - self.kernel_size) // self.strides + 1
        shape = (n_out, self.kernel_size * input_shape[2], self.filters)
        self.kernel = self.add_weight(shape=shape, name="kernel")
        if self.use_bias:
            self.bias = self.add_weight(shape=(n_out, self.filters), name="bias")

    def call(self, x: Any) -> Any:
        stop = (self.kernel.shape[0] - 1) * self.strides + 1
        rows = [x[:, i : i + stop : self.strides] for i in range(self.kernel_size)]
        y = ops.einsum("blk,lkf->blf", ops.concatenate(rows, axis=-1), self.kernel)
        return self.activation(y + self.bias if self.use_bias else y)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        return (input_shape[0], (input_shape[1] - self.kernel_size) // self.strides + 1, self.filters)

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("filters", "kernel_size", "strides", "use_bias")}
        return {**super().get_config(), **own, "activation": keras.activations.serialize(self.activation)}


def _first(size: Any) -> int:
    return int(size[0] if isinstance(size, (list, tuple)) else size)


LEGACY_LAYERS: dict[str, type] = {cls.__name__: cls for cls in (ThresholdedReLU, LocallyConnected1D)}
