"""Adaptive pooling: where its bins are all of one width, it is a pooling of that size and stride."""

from __future__ import annotations

from dataclasses import replace

import keras

from fastism_cli.model.graph import Node, Shape
from fastism_cli.rules.conv_2d_3d import first_spatial

# As far as this version of Keras has them.
POOLINGS: dict[type, type] = {
    getattr(keras.layers, f"Adaptive{kind}Pooling{axes}D"): getattr(keras.layers, f"{kind}Pooling{axes}D")
    for kind in ("Average", "Max")
    for axes in (1, 2, 3)
    if hasattr(keras.layers, f"Adaptive{kind}Pooling{axes}D")
}


def as_pooling(node: Node, shape: Shape) -> Node:
    """The node as one of a plain pooling, where each length of the output divides that of the input (``shape``)."""
    if type(node.layer) not in POOLINGS:
        return node
    adaptive = node.layer
    lengths = shape[first_spatial(adaptive) :]
    sizes = [n // wanted for n, wanted in zip(lengths, adaptive.output_size, strict=False)]
    if any(size * n_out != n for size, n_out, n in zip(sizes, adaptive.output_size, lengths, strict=False)):
        return node
    pool = POOLINGS[type(adaptive)](
        tuple(sizes), data_format=adaptive.data_format, name=adaptive.name, dtype=adaptive.dtype_policy
    )
    return replace(node, layer=pool, call=lambda arrays: [pool(arrays[0])])
