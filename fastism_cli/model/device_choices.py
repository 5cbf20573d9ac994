"""What pays on a processor and what on a GPU: the one place where the engine's code asks for the kind of device.

A processor is limited by its caches: a general gather is slow inside a compiled stage, a product is best left to the
library. A GPU is limited by what goes through its memory: every array that is not written is time saved. The figures
for a GPU are from XLA's compilation for an H100 (``make gpu-model``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastism_cli.model import backend


@dataclass(frozen=True)
class DeviceChoices:
    """Choices for one kind of device.

    Attributes
    ----------
    working_set : float
        Bytes that the largest stage of one call can fill, where the device does not say what is free.
    max_working_set : float
        The same, where a call pays only with more substitutions than fit ``working_set``.
    late_working_set : float
        Bytes that the largest of the late steps can fill (see :mod:`fastism_cli.engine.stage`), but for its weights:
        with more of these, up to ``max_working_set``.
    max_substitutions : int
        Of one call.
    naive_batches : tuple of int
        Sequences in a forward pass, to choose from.
    multiple : int
        Positions of a call are a multiple of it: rows that are not are filled up around every product in 16 bits.
    row_major : bool
        Arrays between stages lie in memory in the order of their axes. XLA for a GPU puts rows last otherwise, and
        transposes them around every product.
    inlines_narrow_products : bool
        The product of a layer with few channels is computed inside its stage and never written.
    reorders_inside : bool
        Positions are brought into a stage's order inside of it.
    fewest_filters : int
        A convolution by Keras takes as long with fewer.
    sums_in_tf32 : bool
        Sums of rows and taps, to multiply less, pay in TF32: not where such products cost less than the sums.
    """

    working_set: float
    max_working_set: float
    late_working_set: float
    max_substitutions: int
    naive_batches: tuple[int, ...]
    multiple: int = 1
    row_major: bool = False
    inlines_narrow_products: bool = False
    reorders_inside: bool = False
    fewest_filters: int = 1
    sums_in_tf32: bool = True

    def late_substitutions(self, elements: int, least: int) -> int:
        """Substitutions of a piece of the late part, whose largest step has ``elements`` for each.

        At least ``least`` as long as they fit ``max_working_set``.
        """
        fit, most = (int(size / (4 * elements)) for size in (self.late_working_set, self.max_working_set))
        return max(fit, min(least, most), 1)


# Bytes on a processor: what lies in its caches, and is not given back to the system between calls, is quick. On two
# cores of an AMD EPYC with 32 MB of cache, calls of 400, 128, 64, 32 and 16 MB took, interleaved, medians: Basset 0.52,
# 0.36, 0.46, 0.40, 0.55 s; Factorized Basset 1.04, 0.74, 0.75, 0.96, 0.96; BPNet 2.40, 2.05, 1.79, 1.45, 1.73; the
# demo's model 0.21, 0.22, 0.15, 0.11, 0.13 (an older processor took the same time with all above 30 MB). For small
# models, 20,000 substitutions were up to twice as fast as 4,000, and 40,000 took 0.87 of the time of 20,000. What
# follows the attention of CREsted's Enformer, reduced, took 13 to 14 ms of processor time each in pieces of 2 to 16 MB,
# 14 to 15 of 64 MB. A convolution of 75 taps and 64 channels took 39 ms with 1 filter, 67 with 2, 57 with 4, 64 with 8,
# 63 with 16 and 120 with 32; others are alike.
CHOICES = {
    "cpu": DeviceChoices(
        working_set=48e6,
        max_working_set=400e6,
        late_working_set=16e6,
        max_substitutions=40_000,
        naive_batches=(32, 128, 512),
        fewest_filters=16,
    ),
    "gpu": DeviceChoices(
        working_set=2e9,
        max_working_set=2e9,
        late_working_set=2e9,
        max_substitutions=60_000,
        naive_batches=(512, 2048, 8192),
        multiple=8,
        row_major=True,
        inlines_narrow_products=True,
        reorders_inside=True,
        sums_in_tf32=False,
    ),
}


def stage(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` by itself, see :func:`fastism_cli.model.backend.stage`, with arrays as this device wants."""
    if not device_choices().row_major:
        return backend.stage(function)

    def with_rows_in_order(*args: Any) -> Any:
        return backend.row_major(backend.stage(function)(*backend.row_major(args)))

    return with_rows_in_order


def device_choices() -> DeviceChoices:
    """The choices for the device of the arrays."""
    return CHOICES[backend.device_kind()]
