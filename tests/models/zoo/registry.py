"""The table of toy models, what is known of each, and how their weights are drawn."""

import functools
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras
import numpy as np

Builder = Callable[[], keras.Model]


class Facts(NamedTuple):
    """What a test has to know of a model before it builds it."""

    family: str  # the module that holds the builder
    extra_inputs: tuple[str, ...] = ()  # names of the inputs that are not the sequence
    sequence_input: str | None = None  # its name, only where two inputs have a sequence's shape
    blind_heads: tuple[int, ...] = ()  # outputs (flat order) that do not depend on the sequence


MODELS: dict[str, Builder] = {}
FACTS: dict[str, Facts] = {}


def toy(builder: Builder | None = None, **facts):
    """Enter a builder in ``MODELS`` under its own name, with ``facts`` (the fields of ``Facts``)."""

    def register(build: Builder) -> Builder:
        return _register(build.__name__, build, build, facts)

    return register if builder is None else register(builder)


def toys(variants: Mapping[str, object], **facts):
    """Enter a builder once a variant, as ``name-variant``; the builder receives the variant's value.

    No other id has a dash.
    """

    def register(build: Callable[[object], keras.Model]) -> Callable[[object], keras.Model]:
        for variant, value in variants.items():
            _register(f"{build.__name__}-{variant}", functools.partial(build, value), build, facts)
        return build

    return register


def _register(model_id: str, build: Builder, documented: Callable, facts: Mapping) -> Builder:
    if model_id in MODELS:
        raise ValueError(f"Two toy models have one id. Received: {model_id!r}")

    @functools.wraps(documented)
    def seeded() -> keras.Model:
        return randomise(build(), seed=zlib.crc32(model_id.encode()))

    MODELS[model_id] = seeded
    FACTS[model_id] = Facts(documented.__module__.rpartition(".")[2], **facts)
    return seeded


def randomise(model: keras.Model, seed: int) -> keras.Model:
    """Set every weight by a seeded generator, and return the model.

    Values are drawn in float32 whatever the model's precision: a float64 twin then holds
    exactly the same numbers. For a twin set both ``keras.config.set_floatx`` (inputs)
    and ``keras.config.set_dtype_policy`` (layers) before building.
    """
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(_draw(rng, weight.name, tuple(weight.shape)).astype("float32"))
    return model


def _draw(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values for one weight, by its name; kernels are the default."""
    if name == "moving_variance":
        return rng.uniform(0.5, 2.0, shape)
    if name in ("gamma", "scale"):  # a negative scale turns a maximum into a minimum
        return rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
    if name == "alpha":
        return rng.uniform(0.1, 0.6, shape)
    if name in ("bias", "beta", "moving_mean"):
        return rng.normal(0.0, 0.3, shape)
    fan_in = max(1, int(np.prod(_summed(name, shape))))
    return rng.normal(0.0, 1.2 / np.sqrt(fan_in), shape)


def _summed(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes of a kernel that one output sums over; a depthwise kernel is (taps, channels, multiplier)."""
    return shape[:-2] if name == "depthwise_kernel" else shape[:-1]
