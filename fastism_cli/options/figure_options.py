"""How a picture looks: sizes, limits and words that a user may choose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from fastism_cli.errors import UsageError
from fastism_cli.options.problems import brief

INCHES = {"in": 1.0, "mm": 1 / 25.4, "cm": 1 / 2.54, "": 1.0}
LEAST_INCHES, MOST_INCHES = 0.5, 200.0
LEAST_POINTS, MOST_POINTS = 5.0, 72.0  # of a letter: journals refuse less than 5 points
LEAST_DPI, MOST_DPI = 30, 2400
FEWEST_IN_A_ROW = 10  # bases
NO_TITLE = "none"
_SIZE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{0,6})?)\s*(in|mm|cm|)", re.ASCII)
_NUMBER = r"[-+]?[0-9]{0,20}\.?[0-9]{1,20}(?:[eE][-+]?[0-9]{1,3})?"
_LIMITS = re.compile(rf"({_NUMBER}):({_NUMBER})", re.ASCII)


@dataclass(frozen=True)
class FigureOptions:
    """How a picture looks, whatever is drawn.

    Attributes
    ----------
    width, height : float or None
        Inches. Default: as the bases and the parts need.
    dpi : int
        Pixels of an inch of a PNG.
    font_size : float
        Points of the letters; none is smaller than 5.
    title : str or None
        In the place of name, place and prediction; ``none`` leaves it out.
    ylim : (float, float) or None
        Ends of the axis of importance. Default: what is drawn.
    own_y : bool
        Each part has its own axis of importance and its own colours, instead of one for all.
    wrap : int or None
        Bases of a row; what is longer goes into several. None draws one row.
    heat_map : bool or None
        Default: where one target of one result is drawn.
    labels : sequence of str
        What each result is called, where there are several. Default: the names of the files.

    Raises
    ------
    UsageError
        If a size is not one.
    """

    width: float | None = None
    height: float | None = None
    dpi: int = 150
    font_size: float = 8.0
    title: str | None = None
    ylim: tuple[float, float] | None = None
    own_y: bool = False
    wrap: int | None = None
    heat_map: bool | None = None
    labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, inches in (("width", self.width), ("height", self.height)):
            if inches is not None and not LEAST_INCHES <= inches <= MOST_INCHES:
                raise UsageError(f"{name} must be {LEAST_INCHES} to {MOST_INCHES:g} inches. Received: {inches}")
        if not LEAST_POINTS <= self.font_size <= MOST_POINTS:
            raise UsageError(
                f"font_size must be {LEAST_POINTS:g} to {MOST_POINTS:g} points. Received: {self.font_size}"
            )
        if self.wrap is not None and self.wrap < FEWEST_IN_A_ROW:
            raise UsageError(f"wrap must be at least {FEWEST_IN_A_ROW} bases. Received: {self.wrap}")
        if self.ylim is not None and not self.ylim[0] < self.ylim[1]:
            raise UsageError(f"ylim must be two numbers, the lower one first. Received: {self.ylim}")

    @property
    def small(self) -> float:
        """Points of numbers and names."""
        return max(LEAST_POINTS, 0.85 * self.font_size)


def parse_size(text: str) -> float:
    """``"89mm" -> 3.5039``: inches of a length in in, mm or cm; a number alone is inches.

    Raises
    ------
    UsageError
        If it is none, or not of 0.5 to 200 inches.
    """
    match = _SIZE.fullmatch(text.strip())
    inches = float(match[1]) * INCHES[match[2]] if match else 0.0
    if not LEAST_INCHES <= inches <= MOST_INCHES:
        raise UsageError(
            f"{brief(text)!r} is no length of {LEAST_INCHES} to {MOST_INCHES:g} inches, such as 89mm, 18.3cm or 7.2in."
        )
    return inches


def parse_limits(text: str) -> tuple[float, float]:
    """``"-1:2.5" -> (-1.0, 2.5)``.

    Raises
    ------
    UsageError
        If it is not LOW:HIGH, or the lower one is not below the other.
    """
    match = _LIMITS.fullmatch(text.strip())
    low, high = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
    if not (low < high and isfinite(high - low)):
        raise UsageError(f"{brief(text)!r} is not LOW:HIGH, two numbers such as -0.5:2.")
    return low, high
