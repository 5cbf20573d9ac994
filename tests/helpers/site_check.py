"""``python -m tests.helpers.site_check FOLDER``: a site that was built takes nothing from elsewhere.

Scripts, styles, pictures and fonts must be files of the folder. Links that a reader clicks on may lead anywhere.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}
ELSEWHERE = re.compile(r"(?:https?:)?//")
IN_STYLE = re.compile(r"(?:url\(|@import )\s*[\"']?((?:https?:)?//[^\"')]+)")


class Resources(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        value = dict(attrs).get(LOADED.get(tag, ""))
        if value:
            self.found.append(value)


def loaded_from_elsewhere(folder: Path) -> list[str]:
    """``FILE: ADDRESS`` of every resource of a site that is no file of it."""
    wrong = []
    for path in sorted(folder.rglob("*.html")):
        page = Resources()
        page.feed(path.read_text(encoding="utf-8"))
        wrong += [f"{path.relative_to(folder)}: {value}" for value in page.found if ELSEWHERE.match(value)]
    for path in sorted(folder.rglob("*.css")):
        found = IN_STYLE.findall(path.read_text(encoding="utf-8"))
        wrong += [f"{path.relative_to(folder)}: {value}" for value in found]
    return wrong


def main(folder: Path) -> int:
    pages = list(folder.rglob("*.html"))
    wrong = loaded_from_elsewhere(folder)
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"{len(pages)} pages; resources from elsewhere: {len(wrong)}")
    return 1 if wrong or len(pages) < 20 else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
