"""Every class of ``keras.layers`` between two convolutions, against plain Keras in float64; and the page about them."""

import re

import pytest

from tests.helpers.layers_page import PAGE, page
from tests.models.every_layer import BETWEEN, LEFT_OUT, WITHOUT_FLOAT64, class_names, errors_with

# Convolutions have no use for the mask that Masking leaves, and Keras says so.
pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask attached")
MEASURED = re.compile(r"\d\.\de[-+]\d\d|exact")


def test_every_class_is_tried_or_left_out_for_a_reason():
    assert set(class_names()) == set(BETWEEN) | set(LEFT_OUT)
    assert not set(BETWEEN) & set(LEFT_OUT)


@pytest.mark.one_in(24)
@pytest.mark.parametrize("name", BETWEEN)
def test_engine_equals_plain_keras(name):
    errors = errors_with(name)
    assert errors.fast <= (2e-6 if name in WITHOUT_FLOAT64 else errors.allowed), errors
    assert errors.largest > 1e-3


def test_the_page_is_up_to_date():
    """All but the figures, which differ from machine to machine; ``make docs`` writes the page."""
    assert MEASURED.sub("#", PAGE.read_text()) == MEASURED.sub("#", page(dict.fromkeys(BETWEEN, "exact")))
