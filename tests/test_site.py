"""The pages of the site: all of them are in its menu, links lead to pages, and nothing comes from elsewhere."""

import base64
import importlib.util
import re
from pathlib import Path

import fastism_cli
from tests.helpers.site_check import loaded_from_elsewhere

ROOT = Path(fastism_cli.__file__).parent.parent


def hook():
    """packaging/site_pages.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "packaging" / "site_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_menu_once():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    listed = re.findall(r"([\w/-]+\.md)$", menu, flags=re.MULTILINE)
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(listed) == sorted(pages | set(hook().PAGES.values()))


def test_what_comes_in_by_the_hook_is_there():
    assert [path for path in (*hook().PAGES, *hook().PICTURES) if not (ROOT / path).exists()] == []


def test_links_are_those_of_the_site():
    text = "[a](../heads.md#scales) [b](../../CONTRIBUTING.md) ![c](../../examples/ctcf.png)"
    expected = "[a](../heads.md#scales) [b](../contributing.md) ![c](../pictures/ctcf.png)"
    assert hook().relinked(text, "how-to/motifs.md") == expected
    assert hook().relinked("[a program](../../examples/show.py)", "how-to/motifs.md") == "a program"
    assert hook().relinked("[a](docs/heads.md) [b](https://x.org/a.md) [c](#here)", "changelog.md") == (
        "[a](heads.md) [b](https://x.org/a.md) [c](#here)"
    )


def test_a_notebook_becomes_a_page():
    picture = base64.b64encode(b"picture").decode()
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {
            "cell_type": "code",
            "source": ["1 + 1"],
            "outputs": [{"data": {"text/plain": ["2\n"]}}, {"text": ["said\n"]}, {"data": {"image/png": picture}}],
        },
    ]
    text, pictures = hook().notebook_page({"cells": cells})
    assert text.split("\n\n") == [
        "# Title\ntext",
        "```python\n1 + 1\n```",
        "![Output of the cell above](pictures/tutorial-1.png)",
        "```text\n2\nsaid\n```\n",
    ]
    assert pictures == {"pictures/tutorial-1.png": b"picture"}


def test_a_resource_from_elsewhere_is_seen(tmp_path):
    script = '<script src="//cdn.org/a.js"></script>'
    (tmp_path / "a.html").write_text(f'<a href="https://x.org">x</a><img src="a.png">{script}')
    (tmp_path / "a.css").write_text("@font-face { src: url(https://fonts.org/a.woff2) } p { background: url(a.png) }")
    assert loaded_from_elsewhere(tmp_path) == ["a.html: //cdn.org/a.js", "a.css: https://fonts.org/a.woff2"]
