"""Sizes and limits of pictures, as they are typed."""

import pytest

from fastism_cli.errors import UsageError
from fastism_cli.options.choices import FigureOptions, parse_limits, parse_size


@pytest.mark.parametrize(
    ("text", "inches"),
    [("89mm", 89 / 25.4), ("18.3cm", 18.3 / 2.54), ("7in", 7), (" 7.25 ", 7.25), ("100 mm", 100 / 25.4), ("3.in", 3)],
)
def test_a_size_is_in_inches(text, inches):
    assert parse_size(text) == pytest.approx(inches)


@pytest.mark.parametrize("text", ["", "mm", "-3in", "3pt", "1e3in", "0.4in", "201in", "\u0663in", "nan", "9" * 50])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match=r"no length of 0\.5 to 200 inches, such as 89mm, 18\.3cm or 7\.2in"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "limits"), [("-1:2.5", (-1, 2.5)), ("0:1e3", (0, 1000)), ("-.5:+.5", (-0.5, 0.5)), ("1e-5:2", (1e-5, 2))]
)
def test_limits_are_two_numbers(text, limits):
    assert parse_limits(text) == limits


@pytest.mark.parametrize("text", ["", ":", "1", "1:", ":1", "2:1", "1:1", "nan:1", "0:inf", "-1e999:1", "a:b", "0:1:2"])
def test_what_are_no_limits_is_refused(text):
    with pytest.raises(UsageError, match=r"is not LOW:HIGH, two numbers such as -0\.5:2"):
        parse_limits(text)


@pytest.mark.parametrize(
    "wrong",
    [{"width": 0.1}, {"height": 1e9}, {"font_size": 4.9}, {"wrap": 9}, {"ylim": (1, 0)}, {"font_size": float("nan")}],
)
def test_the_library_refuses_what_the_command_does(wrong):
    (name,) = wrong
    with pytest.raises(UsageError, match=f"^{name} must be .* Received: "):
        FigureOptions(**wrong)


def test_no_letter_is_smaller_than_five_points():
    assert FigureOptions(font_size=5).small == 5 and FigureOptions(font_size=10).small == 8.5
