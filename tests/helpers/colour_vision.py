"""How far apart colours look to people with any kind of colour vision."""

from __future__ import annotations

from itertools import combinations

import numpy as np

# Machado, Oliveira and Fernandes 2009, full strength, on linear light
BLINDNESS = {
    "none": np.eye(3),
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
LEAST_DIFFERENCE = 20  # of CIELAB; 2 is just seen
Colour = tuple[float, float, float]  # red, green and blue, 0 to 1


def lab(colour: Colour, kind: str) -> np.ndarray:
    """A colour in CIELAB, as it is seen."""
    rgb = np.array(colour)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(BLINDNESS[kind]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    f = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 0.008856))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def least_difference(colours: list[Colour], kind: str) -> float:
    """Between the two that look most alike."""
    return min(float(np.linalg.norm(lab(one, kind) - lab(other, kind))) for one, other in combinations(colours, 2))
