"""A hook of MkDocs: pages and pictures of the site that lie outside of ``docs/``, and links to them.

Links on a page are those of the repository, so that they work there. On the site, a link to a file that is a page or a
picture of it leads there; one to any other file, such as a program, becomes plain text.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = "examples/tutorial.ipynb"
# Files of the repository, and what they are called on the site.
PAGES = {
    NOTEBOOK: "tutorial.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "benchmarks/README.md": "speed.md",
    "examples/README.md": "example.md",
    "examples/figures/README.md": "figures.md",
}
PICTURES = {
    path: f"pictures/{posixpath.basename(path)}"
    for path in (
        "benchmarks/length.svg",
        "benchmarks/shape.svg",
        "examples/ctcf.png",
        "examples/report.png",
        *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "examples" / "figures").glob("*.png"))),
    )
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^()\s#]+)(#[^()\s]*)?\)")
ROLE = re.compile(r":(?:attr|class|func|meth|mod):(?=<code>)")  # of Sphinx, in docstrings


def on_files(files: Any, config: Any) -> Any:
    """Add what lies outside of ``docs/``."""
    from mkdocs.structure.files import File

    for path, name in PICTURES.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_bytes()))
    for path, name in PAGES.items():
        if name == "index.md":  # the README: docs/index.md stands for it
            continue
        text = (ROOT / path).read_text(encoding="utf-8")
        if path == NOTEBOOK:
            text, pictures = notebook_page(json.loads(text))
            for picture, content in pictures.items():
                files.append(File.generated(config, picture, content=content))
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    return relinked(markdown, page.file.src_uri)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    return ROLE.sub("", html)


def relinked(markdown: str, page: str) -> str:
    """Turn the links of a page, which are those of the repository, into those of the site.

    Parameters
    ----------
    page : str
        Its name on the site.
    """
    origin = next((path for path, name in PAGES.items() if name == page and page != "index.md"), f"docs/{page}")

    def replaced(link: re.Match[str]) -> str:
        mark, text, target, anchor = link[1], link[2], link[3], link[4] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        if "://" in target or not (ROOT / path).exists():
            return link[0]
        known = PAGES.get(path) or PICTURES.get(path) or (path[len("docs/") :] if path.startswith("docs/") else "")
        if not known:
            return text
        return f"{mark}[{text}]({posixpath.relpath(known, posixpath.dirname(page) or '.')}{anchor})"

    return LINK.sub(replaced, markdown)


def notebook_page(notebook: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """A notebook with its outputs as Markdown, and its pictures by name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        said = ""
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"pictures/tutorial-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![Output of the cell above]({name})")
            else:
                said += "".join(output.get("text", data.get("text/plain", [])))
        if said.strip():
            parts.append(f"```text\n{said.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures
