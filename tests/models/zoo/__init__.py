"""Toy models on which the engine is compared with plain Keras.

``MODELS[id]()`` builds one, with the same weights each time; ``FACTS[id]`` says what a test has to know of it.
Every builder draws its graph in its docstring: C convolution, D dense, MXP and AVP pooling, GAP and GMP global
pooling, BN batch normalisation; ``f(x)`` is a branch off ``x``, square brackets are a nested model or a repeated block.
"""

from . import (  # noqa: F401  (importing a family fills the table)
    activations,
    chains,
    convolutions,
    examples,
    flattens,
    graphs,
    heads,
    merges,
    multi_inputs,
    nested,
    norms,
    opaque,
    pools,
    skips,
    symbolic,
    windows,
)
from .registry import FACTS, MODELS, Facts, randomise

# One variant of each builder, for tests too slow for all of them.
ONE_EACH = tuple({model_id.partition("-")[0]: model_id for model_id in reversed(MODELS)}.values())[::-1]

__all__ = ["FACTS", "MODELS", "ONE_EACH", "Facts", "randomise"]
