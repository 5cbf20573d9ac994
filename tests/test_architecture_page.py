"""docs/architecture.md says what the code is: its packages, its files and the names in them."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import fastism_cli
from tests.test_house import MAY_IMPORT

PACKAGE = Path(fastism_cli.__file__).parent
ROOT = PACKAGE.parent
PAGES = ("docs/architecture.md", "docs/how-it-works.md", "CONTRIBUTING.md")
EXAMPLES = ("bed.py::BedSource", "frames.py::cover")  # of how names are written
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\.py")  # export/NAME.py: a file that is to be made


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def spans(text: str) -> list[str]:
    """What stands between single backticks, outside of blocks of code."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose)


def rows(text: str, header: str) -> list[list[str]]:
    """The cells of the table that begins with this line."""
    lines = text.split(f"\n{header}\n", 1)[1].splitlines()
    body = lines[1 : next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def file_of(name: str) -> Path | None:
    """The file or folder of this name: at the root of the repository, or in the package."""
    return next((folder / name for folder in (ROOT, PACKAGE) if (folder / name).exists()), None)


@cache
def names_in(path: Path) -> frozenset[str]:
    """What a file defines: functions, classes, ``Class.method`` and ``Class.field``, variables."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        found |= names_of(node)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for inner in node.body for name in names_of(inner)}
    return frozenset(found)


def names_of(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def wrong_spans(text: str) -> list[str]:
    """Spans that name a file, or a name in a file, that is not there."""
    wrong = []
    for span in spans(text):
        name, _, inside = span.partition("::")
        is_file = re.fullmatch(r"[\w./-]+\.py|[a-z_]+(/[a-z_]+)*/", name)
        if not is_file or span in EXAMPLES or PLACEHOLDER.search(name):
            continue
        path = file_of(name)
        if path is None or (inside and inside not in names_in(path)):
            wrong.append(span)
    return wrong


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_name_exists(page):
    assert not wrong_spans(text_of(page))


def test_wrong_names_are_seen():
    text = "`genome/bed.py::BedSource.regions` `genome/bed.py::nothing` `genome/nothing.py` `nothing/` `not a file`"
    assert wrong_spans(text) == ["genome/bed.py::nothing", "genome/nothing.py", "nothing/"]


def purpose_of(package: str) -> str:
    """The first line of the package's docstring, as Markdown."""
    docstring = ast.get_docstring(ast.parse((PACKAGE / package / "__init__.py").read_text(encoding="utf-8"))) or ""
    return docstring.splitlines()[0].replace("``", "`")


def test_the_table_of_packages():
    found = rows(text_of("docs/architecture.md"), "| package | purpose | may import |")
    expected = [
        [f"`{package}/`", purpose_of(package), " ".join(f"`{name}`" for name in allowed.split())]
        for package, allowed in MAY_IMPORT.items()
    ]
    assert found == expected, "\n".join(f"| {' | '.join(row)} |" for row in expected)


def test_every_place_is_named_in_one_step():
    places = rows(text_of("docs/architecture.md"), "| what | where |")
    assert len(places) >= 30
    for what, where in places:
        assert re.search(r"`[\w/]+\.py::\w+", where), what


def test_the_glossary_has_one_line_for_each_word():
    words = [word for word, _ in rows(text_of("docs/architecture.md"), "| word | means |")]
    assert words == sorted(set(words))


def test_links_lead_somewhere():
    folders = ("docs", "examples", "packaging")
    pages = [*ROOT.glob("*.md"), *(page for name in folders for page in (ROOT / name).rglob("*.md"))]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if link.startswith(("http://", "https://")):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            assert target.exists(), f"{page.name}: {link}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in anchors, f"{page.name}: {link}"
