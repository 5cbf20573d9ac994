"""The report's page: joins its HTML, style and scripts to one file."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from string import Template
from typing import Any

from fastism_cli.scores.region import SITE

SCRIPTS = (
    "data.js",
    "summary.js",
    "table.js",
    "brush.js",
    "paint.js",
    "view.js",
    "compare.js",
    "save.js",
    "links.js",
    "main.js",
)
EMPTY_BYTES = 75_000  # of a page without regions, generously: a test compares


def render(title: str, data: dict[str, Any]) -> str:
    """The whole page as text.

    Parameters
    ----------
    title : str
        Of the browser's tab.
    data : dict
        For ``JSON``: numbers, text, lists, dicts; no NaN.
    """
    return Template(_part("report.html")).substitute(
        title=html.escape(title),
        style=_part("report.css"),
        script="\n".join(_part(name) for name in SCRIPTS),
        site=SITE,
        data=_embedded(data),
    )


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element, also if the name of a region tries to."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
