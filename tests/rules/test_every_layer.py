"""Every class of ``keras.layers`` between two convolutions, against plain Keras in float64; and the page about them."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.helpers.layers_page import PAGE, page
from tests.helpers.truth import errors_of, inputs_of
from tests.models.every_layer import BETWEEN, LEFT_OUT, WITHOUT_FLOAT64, class_names, errors_with
from tests.models.zoo.blocks import conv, dna
from tests.models.zoo.registry import randomise

# Convolutions have no use for the mask that Masking leaves, and Keras says so.
pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask attached")
MEASURED = re.compile(r"\d\.\de[-+]\d\d|exact")


def test_every_class_is_tried_or_left_out_for_a_reason():
    assert set(class_names()) == set(BETWEEN) | set(LEFT_OUT)
    assert not set(BETWEEN) & set(LEFT_OUT)


@pytest.mark.one_in(48)
@pytest.mark.parametrize("name", BETWEEN)
def test_engine_equals_plain_keras(name):
    errors = errors_with(name)
    assert errors.fast <= (2e-6 if name in WITHOUT_FLOAT64 else errors.allowed), errors
    assert errors.largest > 1e-3


MASK = np.arange(24) % 3 > 0


def masked_pooling(x):
    weights = layers.Softmax(axis=1)(layers.Dense(1)(x), mask=MASK[None, :, None])
    return ops.sum(x * weights, axis=1)


def pooling_over_a_maximum(x):
    """The largest logit is 3 at least, so that what is added to the sum is so much larger."""
    logits = layers.Dense(1)(x)
    powers = ops.exp(logits - ops.max(logits, axis=1, keepdims=True, initial=3.0))
    return ops.sum(x * (powers / (ops.sum(powers, axis=1, keepdims=True) + 0.1)), axis=1)


def swapped(x):
    return layers.Permute((2, 1))(x)


# Layers that are no longer what their class says: what is before the flattening of the model.
SET_OTHERWISE = {
    "mean_of_some_positions": lambda x: layers.GlobalAveragePooling1D()(x, mask=MASK[None]),
    "softmax_of_some_channels": lambda x: layers.Softmax()(x, mask=np.array([True, False, True, True])),
    "softmax_pooling_of_some_positions": masked_pooling,
    "softmax_pooling_with_an_initial_maximum": pooling_over_a_maximum,
    "padded_channels": lambda x: layers.ZeroPadding1D((2, 1), data_format="channels_first")(x),
    "padded_positions": lambda x: layers.ZeroPadding1D((2, 1), data_format="channels_first")(swapped(x)),
    "sparsemax_of_all": lambda x: layers.Activation("sparsemax")(layers.Flatten()(x)),
    "sparsemax_of_positions": lambda x: layers.Activation("sparsemax")(swapped(x)),
}


@pytest.mark.parametrize("name", SET_OTHERWISE)
def test_a_layer_that_is_set_otherwise(name):
    """inp -> C -> C -> the layer -> F -> D"""
    inp = dna(24)
    x = SET_OTHERWISE[name](conv(conv(inp, 4, 3, activation="relu"), 4, 3))
    x = x if len(x.shape) == 2 else layers.Flatten()(x)
    model = randomise(keras.Model(inp, layers.Dense(1)(x)), seed=1)
    errors = errors_of(model, inputs_of(model, np.random.default_rng(0)))
    assert errors.fast <= errors.allowed, errors


def test_the_page_is_up_to_date():
    """All but the figures, which differ from machine to machine; ``make docs`` writes the page."""
    assert MEASURED.sub("#", PAGE.read_text()) == MEASURED.sub("#", page(dict.fromkeys(BETWEEN, "exact")))
