"""The sequential architectures in PyTorch, with the weights of the Keras models: what yuzu can be given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn
from yuzu.models import Flatten, Unsqueeze

BLOCKS = {
    "basset": ((19, 3), (11, 4), (7, 4)),
    "factorized_basset": ((3, 1), (3, 1), (3, 1), (7, 1), (7, 3), (7, 1), (3, 1), (3, 4), (7, 4)),
}
EPSILON = 1e-3


def torch_model(name: str, length: int, weights: Sequence[np.ndarray]) -> nn.Sequential:
    """Layers in the order in which yuzu runs them; ``weights`` as ``get_weights`` of the Keras model gives them."""
    if name not in BLOCKS:
        raise NotImplementedError(f"{name} has residual adds, yuzu runs layers one after the other")
    left = iter([torch.tensor(np.asarray(w, "float32")) for w in weights])
    layers: list[nn.Module] = []
    for kernel_size, pool_size in BLOCKS[name]:
        kernel = next(left)
        conv = nn.Conv1d(kernel.shape[1], kernel.shape[2], kernel_size, padding=kernel_size // 2)
        layers += [filled(conv, kernel.permute(2, 1, 0), next(left)), normalisation(left), nn.ReLU()]
        layers += [nn.MaxPool1d(pool_size)] if pool_size > 1 else []
    layers.append(Flatten())
    for _ in range(2):
        layers += [linear(left), normalisation(left), nn.ReLU()]
    return nn.Sequential(*layers, linear(left), nn.Sigmoid(), Unsqueeze(1))


def filled(layer: nn.Module, weight: torch.Tensor, bias: torch.Tensor) -> nn.Module:
    layer.weight.data, layer.bias.data = weight.contiguous(), bias
    return layer


def linear(left: Iterator[torch.Tensor], make: Callable[..., nn.Module] = nn.Linear) -> nn.Module:
    kernel = next(left)
    return filled(make(*kernel.shape), kernel.T, next(left))


def normalisation(left: Iterator[torch.Tensor]) -> nn.Module:
    gamma, beta, mean, variance = (next(left) for _ in range(4))
    layer = filled(nn.BatchNorm1d(len(gamma), eps=EPSILON), gamma, beta)
    layer.running_mean, layer.running_var = mean, variance
    return layer
