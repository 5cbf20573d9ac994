"""The texts of a figure as the renderer draws them: their sizes, and which of them lie over another."""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

TOUCHING = 0.25  # pixels that boxes may share


class Drawn(NamedTuple):
    text: str
    points: float
    box: Any


def texts_of(figure: Any) -> list[Drawn]:
    """Every text that is drawn."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [Drawn(text.get_text(), text.get_fontsize(), text.get_window_extent(renderer)) for text in found]


def faults_of(figure: Any) -> list[str]:
    """Texts of less than 5 points, over another text, or beyond the paper."""
    texts, paper = texts_of(figure), figure.bbox
    small = [f"{text.text}: {text.points} points" for text in texts if text.points < 5]
    beyond = [f"{text.text}: beyond the paper" for text in texts if not _is_inside(text.box, paper)]
    over = [f"{a.text} over {b.text}" for a, b in combinations(texts, 2) if _shares(a.box, b.box)]
    return small + beyond + over


def _is_inside(box: Any, paper: Any) -> bool:
    return box.x0 >= paper.x0 and box.x1 <= paper.x1 and box.y0 >= paper.y0 and box.y1 <= paper.y1


def _shares(a: Any, b: Any) -> bool:
    wide, tall = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return wide > TOUCHING and tall > TOUCHING
