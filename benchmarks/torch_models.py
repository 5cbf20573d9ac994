"""The benchmark's architectures in PyTorch, with the weights of the Keras models: what yuzu and tangermeme take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import nn

BLOCKS = {
    "basset": ((19, 3), (11, 4), (7, 4)),
    "factorized_basset": ((3, 1), (3, 1), (3, 1), (7, 1), (7, 3), (7, 1), (3, 1), (3, 4), (7, 4)),
}
DILATED = 9  # residual layers of BPNet
EPSILON = 1e-3

Weights = Iterator[torch.Tensor]
Layer = TypeVar("Layer", bound=nn.Module)


def torch_model(name: str, weights: Sequence[np.ndarray]) -> nn.Module:
    """(n, 4, L) -> (n, T), the targets of all heads; ``weights`` as ``get_weights`` of the Keras model gives them."""
    if name not in (*BLOCKS, "bpnet"):
        raise NotImplementedError(f"{name} is not written in PyTorch")
    left = iter([torch.tensor(np.asarray(w, "float32")) for w in weights])
    return BPNet(left).eval() if name == "bpnet" else nn.Sequential(*stack(name, left, nn.Flatten())).eval()


def yuzu_model(name: str, weights: Sequence[np.ndarray]) -> nn.Module:
    """The same with yuzu's own layers around the dense part; it runs layers one after the other."""
    from yuzu.models import Flatten, Unsqueeze

    if name not in BLOCKS:
        raise NotImplementedError(f"{name} has residual adds, yuzu runs layers one after the other")
    left = iter([torch.tensor(np.asarray(w, "float32")) for w in weights])
    return nn.Sequential(*stack(name, left, Flatten()), Unsqueeze(1)).eval()


def stack(name: str, left: Weights, flatten: nn.Module) -> list[nn.Module]:
    """Layers of a sequential architecture, which take their weights from those that are left."""
    layers: list[nn.Module] = []
    for kernel_size, pool_size in BLOCKS[name]:
        conv = convolution(left, kernel_size)
        layers += [conv, normalisation(left), nn.ReLU()]
        layers += [nn.MaxPool1d(pool_size)] if pool_size > 1 else []
    layers.append(flatten)
    for channels in (conv.out_channels, 1):
        layers += [linear(left, channels), normalisation(left), nn.ReLU()]
    return [*layers, linear(left), nn.Sigmoid()]


class BPNet(nn.Module):
    """inp -> 64x25 -> nine dilated 64x3 with residual adds -> the sum of the profile, and the count"""

    def __init__(self, left: Weights) -> None:
        super().__init__()
        self.first = convolution(left, 25)
        self.dilated = nn.ModuleList([convolution(left, 3, dilation=2**i) for i in range(DILATED)])
        self.relus = nn.ModuleList([nn.ReLU() for _ in range(DILATED + 1)])
        self.profile, self.counts = convolution(left, 25), linear(left)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relus[0](self.first(x))
        for conv, relu in zip(self.dilated, self.relus[1:], strict=True):
            x = x + relu(conv(x))
        return torch.cat([self.profile(x).sum(dim=2), self.counts(x.mean(dim=2))], dim=1)


def convolution(left: Weights, kernel_size: int, dilation: int = 1) -> nn.Conv1d:
    """Conv1D with padding "same"."""
    kernel = next(left)
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv1d(kernel.shape[1], kernel.shape[2], kernel_size, padding=padding, dilation=dilation)
    return filled(conv, kernel.permute(2, 1, 0), next(left))


def filled(layer: Layer, weight: torch.Tensor, bias: torch.Tensor) -> Layer:
    layer.weight.data, layer.bias.data = weight.contiguous(), bias
    return layer


def linear(left: Weights, channels: int = 1) -> nn.Linear:
    """Dense; behind a Flatten of so many channels, which PyTorch has before the positions, and Keras after them."""
    kernel = next(left)
    rows = kernel.reshape(-1, channels, kernel.shape[1]).transpose(0, 1).reshape(kernel.shape)
    return filled(nn.Linear(*kernel.shape), rows.T, next(left))


def normalisation(left: Weights) -> nn.BatchNorm1d:
    gamma, beta, mean, variance = (next(left) for _ in range(4))
    layer = filled(nn.BatchNorm1d(len(gamma), eps=EPSILON), gamma, beta)
    layer.running_mean, layer.running_var = mean, variance
    return layer
