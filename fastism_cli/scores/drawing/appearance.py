"""Colours, letters and libraries of all pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

import numpy as np

from fastism_cli.optional import require
from fastism_cli.scores.tracks import Array

# Told apart with any kind of colour vision, also where bars are too narrow for letters: after Okabe and Ito.
COLOURS = {"A": "#009e73", "C": "#0072b2", "G": "#e6a800", "T": "#c43d00", "U": "#c43d00"}
OTHER_LETTER = "#6a7380"
INK = "#39424e"
NOT_COMPUTED = "#c9ced6"
SHADE = "#f0c75e"
ITEM = "#5a6f8f"  # of tracks
HEAT = "RdBu_r"

LIBRARIES = ("matplotlib", "matplotlib.figure")
FONT = "DejaVu Sans"  # comes with matplotlib
MOST_LETTERS = 1000  # of a line: no paper is wider
HINTED = 1.05  # how much wider text of few pixels may be drawn than its outlines are

STYLE: Any = {
    "font.family": FONT,
    "text.parse_math": False,  # a name may hold dollar signs
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
    "svg.hashsalt": "fastism",  # the same picture is the same file
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def require_libraries(wanted_by: str) -> None:
    """Refuse at once, before anything is read, if the extra ``plot`` is not installed."""
    for name in LIBRARIES:
        require(name, wanted_by=wanted_by, extra="plot")


def use_no_display() -> None:
    """Draw without a display, also if the environment asks for one."""
    import matplotlib

    matplotlib.use("Agg")


@contextmanager
def style() -> Iterator[None]:
    """The context to draw and to save in. A letter that the font lacks is an empty box, without a warning for each."""
    import matplotlib

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


# --- text ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=10_000)
def text_inches(text: str, points: float) -> float:
    """How wide a line of text is."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    if not text:
        return 0.0
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(family=FONT, size=points), False)
    return HINTED * float(width) / 72


def line_inches(points: float) -> float:
    """How tall a line of text is, with the space to the next."""
    return 1.35 * points / 72


def shortened(text: str, points: float, inches: float) -> str:
    """As much of a text as fits, with dots in its middle where some is left out."""
    if len(text) <= MOST_LETTERS and text_inches(text, points) <= inches:
        return text
    kept, most = 1, min(len(text) - 1, MOST_LETTERS)
    while kept < most:
        middle = (kept + most + 1) // 2
        fits = text_inches(_without_middle(text, middle), points) <= inches
        kept, most = (middle, most) if fits else (kept, middle - 1)
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    tail = kept // 3
    return f"{text[: kept - tail]}\u2026{text[len(text) - tail :] if tail else ''}"


def in_lines(parts: list[str], points: float, inches: float, *, between: str = "   ") -> list[str]:
    """Parts of a title on as few lines as they need; a part that is wider than a line is shortened."""
    lines: list[str] = []
    for part in (shortened(part, points, inches) for part in parts):
        longer = f"{lines[-1]}{between}{part}" if lines else part
        if lines and text_inches(longer, points) <= inches:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


# --- letters as shapes -----------------------------------------------------------------------------------------------


@cache
def _shape(letter: str) -> tuple[Array, Array]:
    """Outline of a letter that fills the unit square: vertices (n, 2) and codes."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    path = TextPath((0, 0), letter, size=10, prop=FontProperties(family=FONT, weight="bold"))
    vertices = np.asarray(path.vertices)
    low, high = vertices[path.codes != 79].min(0), vertices[path.codes != 79].max(0)  # 79 closes an outline
    return (vertices - low) / (high - low), np.asarray(path.codes)


def letter_paths(letters: str, x: Array, heights: Array, *, width: float) -> list[Any]:
    """An outline for each letter, from 0 to its height, centred on ``x``; below 0 they stand on their heads.

    Parameters
    ----------
    letters : str
        n of them.
    x, heights : float (n,)
    width : float
        Negative where the axis runs from right to left.
    """
    from matplotlib.path import Path

    found = []
    for letter, middle, height in zip(letters, x, heights, strict=True):
        vertices, codes = _shape(letter)
        found.append(Path((vertices - [0.5, 0]) * [width, height] + [middle, 0], codes))
    return found
