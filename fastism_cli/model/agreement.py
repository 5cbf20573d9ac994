"""Compare two forms of a model or of a layer on random inputs: they agree if they differ only by rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastism_cli.model import backend

# Two forms that compute the same add up the same numbers in another order. A sum of n terms of similar size then
# differs by about sqrt(n) roundings of its largest partial sum, which is about as large as the largest output. 64
# roundings are a sum of 4,096 terms, such as a dense layer or a convolution has; in float32 they are 7.6e-6. Errors in
# the meaning of a layer (another epsilon, another activation, weights that are swapped) are larger by far.
ROUNDINGS = 64
# Types of 16 bits keep sums in float32 and round only the results: fewer of their coarse roundings add up.
MAX_TOLERANCE = 0.1


def tolerance(values: np.ndarray) -> float:
    """The difference that rounding can explain, in the units of ``values``: relative to the largest of them."""
    name = values.dtype.name
    epsilon = 2.0**-7 if name == "bfloat16" else float(np.finfo(values.dtype).eps) if values.dtype.kind == "f" else 0.0
    # float64 is taken for float32: a layer may hold constants of float32
    relative = min(ROUNDINGS * max(epsilon, float(np.finfo("float32").eps)), MAX_TOLERANCE)
    return relative * float(np.abs(values.astype("float64")).max(initial=1e-30))


def agree(wanted: Sequence[Any], found: Sequence[Any], *, nan_is_nan: bool = False) -> bool:
    """Whether two lists of arrays have the same shapes and, up to rounding, the same values.

    Arrays of the backend or of NumPy. A NaN agrees with nothing; with ``nan_is_nan`` it agrees with another, as long as
    half of the values are numbers.
    """
    pairs = [(_as_numpy(x), _as_numpy(y)) for x, y in zip(wanted, found, strict=True)]
    return all(x.shape == y.shape and _close(x.astype("float64"), y.astype("float64"), x, nan_is_nan) for x, y in pairs)


def _close(wanted: np.ndarray, found: np.ndarray, given: np.ndarray, nan_is_nan: bool) -> bool:
    if not nan_is_nan:
        return np.allclose(wanted, found, rtol=0, atol=tolerance(given))
    numbers = np.isfinite(wanted)
    same = np.array_equal(wanted[~numbers], found[~numbers], equal_nan=True) and numbers.mean() >= 0.5
    return same and np.allclose(wanted[numbers], found[numbers], rtol=0, atol=tolerance(given[numbers]))


def _as_numpy(x: Any) -> np.ndarray:
    return x if isinstance(x, np.ndarray) else backend.to_numpy(x)


def random_inputs(
    tensors: Sequence[tuple[Sequence[int], str]], *, one_hot: bool = False, n: int = 2
) -> list[np.ndarray]:
    """Random arrays for inputs of these shapes (without batch axis) and types, ``n`` rows each.

    Normal numbers for floats, 0 and 1 for all others. With ``one_hot``, as a model that reads sequences expects it:
    one-hot rows along the last axis, or 0 and 1 where there is one axis.
    """
    rng = np.random.default_rng(0)
    return [_random(rng, (n, *shape), dtype, one_hot) for shape, dtype in tensors]


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, one_hot: bool) -> np.ndarray:
    if one_hot and len(shape) > 2:
        return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])].astype(_numpy_type(dtype))
    if one_hot or "float" not in dtype:
        return rng.integers(0, 2, shape).astype(_numpy_type(dtype))
    return rng.normal(size=shape).astype(_numpy_type(dtype))


def _numpy_type(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else dtype  # NumPy has no bfloat16; the backend casts
